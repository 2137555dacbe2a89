//! The interpreter: modelled on the kernel's `___bpf_prog_run`, with eleven registers and a hot loop over
//! pre-decoded slots.
//!
//! Four files: `flat` turns a program into slots, `pairs` says which are fused, `exec` is the hot loop, and here is the driver, which does
//! what the loop cannot: calls helpers, switches programs, and executes by the typed form what the loop hands
//! back (addresses that missed the fast path, legacy packet loads, `callx`).

#[macro_use]
mod pairs;

mod exec;
mod flat;

use std::sync::Arc;

use exec::{Leave, MAY_GOTO_LOOPS, Registers, State};
use flat::Slot;

use crate::engine::{Engine, Entry, Finish, ProgramId, Step, StepHook};
use crate::errno::Errno;
use crate::helpers::Stop;
use crate::insn::{AtomicOp, Callee, Imm64, Insn, Operand, PacketOffset, Reg, Size, Width};
use crate::machine::Machine;
use crate::memory::Fault;
use crate::outcome::{Trap, TrapKind};
use crate::program::Program;
use crate::semantics;

/// The interpreter.
#[derive(Debug, Default)]
pub struct Interpreter {
    /// Flat forms of the machine's programs, made when first run.
    flat: Vec<Option<Arc<Flat>>>,
}

/// A program in the hot loop's form.
#[derive(Debug, Default)]
struct Flat {
    /// One operation a slot, for the careful instance.
    single: Vec<Slot>,
    /// The same with pairs fused.
    fused: Vec<Slot>,
}

impl Interpreter {
    /// An interpreter that has run nothing yet.
    pub fn new() -> Interpreter {
        Interpreter::default()
    }

    /// The flat form of a program; `None` for one that cannot be run.
    fn flat(&mut self, machine: &Machine, id: ProgramId) -> Option<Arc<Flat>> {
        let program = machine.program(id)?;
        if self.flat.len() <= id.index() {
            self.flat.resize(id.index() + 1, None);
        }
        let flat = self.flat.get_mut(id.index())?.get_or_insert_with(|| {
            let single = flat::flatten(program.code(), |slot, value| machine.imm64(id, slot, value));
            Arc::new(Flat { fused: flat::fuse(single.clone()), single })
        });
        Some(Arc::clone(flat))
    }
}

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "interpreter"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, hook: Option<StepHook<'_>>) -> Finish {
        let program = entry.program.0;
        let Some(flat) = self.flat(machine, entry.program) else {
            let kind = machine.bad_program(entry.program);
            let trap = machine.trap(kind, entry.program, 0, [0; 11], std::iter::empty());
            return Finish { ret: Err(trap), instructions: 0 };
        };
        let mut regs: Registers = [0; 16];
        regs[1..3].copy_from_slice(&entry.args);
        regs[10] = machine.memory.view().push_frame(0).unwrap_or(0);
        let state = State {
            program,
            pc: 0,
            base: 0,
            frames: Default::default(),
            depth: 0,
            deepest: 0,
            loops: MAY_GOTO_LOOPS,
            budget: i64::try_from(entry.budget).unwrap_or(i64::MAX / 2),
        };
        let mut run = Run { interpreter: self, machine, flat, regs, state, hook, tail_calls: 0 };
        let ret = run.run();
        let instructions = u64::try_from(run.state.used()).unwrap_or(0);
        let (depth, deepest) = (run.state.depth, run.state.deepest);
        machine.leave_frames(depth, deepest);
        Finish { ret, instructions }
    }
}

/// One run in progress.
struct Run<'r, 'h> {
    interpreter: &'r mut Interpreter,
    machine: &'r mut Machine,
    flat: Arc<Flat>,
    regs: Registers,
    state: State,
    hook: Option<StepHook<'h>>,
    tail_calls: u32,
}

/// What executing one instruction by its typed form came to.
enum Next {
    /// Go on behind it.
    Continue,
    /// The function returns this `r0`.
    Return(u64),
}

impl Run<'_, '_> {
    fn run(&mut self) -> Result<u64, Box<Trap>> {
        let mut careful = self.hook.is_some();
        loop {
            careful |= self.machine.memory.view().tracking();
            // Instructions that cannot be told apart by distance any more are counted one by one.
            careful |= self.state.used().saturating_add(self.flat.single.len() as i64) > self.state.budget;
            match self.exec(careful) {
                Leave::Done => return Ok(self.regs[0]),
                Leave::Return => self.switch(ProgramId(self.state.program))?,
                Leave::Careful => careful = true,
                Leave::OutOfFuel => {
                    let kind = TrapKind::OutOfFuel { budget: self.state.budget.unsigned_abs() };
                    return Err(self.trap(kind, self.state.pc));
                }
                Leave::NoSlot => return Err(self.trap_here(self.machine.bad_program(ProgramId(self.state.program)))),
                Leave::TooDeep => return Err(self.trap_here(TrapKind::TooDeep)),
                Leave::Helper(number) => self.call_helper(number)?,
                Leave::Slow => {
                    if let Next::Return(r0) = self.slow()?
                        && !self.return_early(r0)?
                    {
                        return Ok(r0);
                    }
                }
            }
        }
    }

    fn exec(&mut self, careful: bool) -> Leave {
        if !careful {
            return exec::exec::<false>(
                &self.flat.fused,
                &mut self.regs,
                &mut self.state,
                self.machine.memory.view(),
                &mut None,
            );
        }
        let program = ProgramId(self.state.program);
        let mut on_step;
        let mut hook: Option<exec::Hook<'_>> = None;
        let code = self.machine.program(program).map(Arc::clone);
        if let (Some(callback), Some(code)) = (&mut self.hook, code) {
            on_step = move |index: usize, regs: &Registers, depth: u32| {
                if let (Some(insn), Some(slot)) = (code.code().insns().get(index), code.code().slot_of(index)) {
                    callback(&Step { program, slot, insn, registers: &regs[..11], depth });
                }
            };
            hook = Some(&mut on_step);
        }
        exec::exec::<true>(&self.flat.single, &mut self.regs, &mut self.state, self.machine.memory.view(), &mut hook)
    }

    /// Goes on in another program.
    fn switch(&mut self, program: ProgramId) -> Result<(), Box<Trap>> {
        match self.interpreter.flat(self.machine, program) {
            Some(flat) => {
                self.flat = flat;
                Ok(())
            }
            None => Err(self.trap_here(self.machine.bad_program(program))),
        }
    }

    fn program(&self) -> Option<&Arc<Program>> {
        self.machine.program(ProgramId(self.state.program))
    }

    /// The trap of the instruction that was executed last.
    fn trap_here(&self, kind: TrapKind) -> Box<Trap> {
        self.trap(kind, self.state.pc.saturating_sub(1))
    }

    fn trap(&self, kind: TrapKind, index: usize) -> Box<Trap> {
        let frames = &self.state.frames[..self.state.depth as usize];
        let callers = frames.iter().map(|frame| (ProgramId(frame.program), frame.ret as usize - 1));
        let mut registers = [0; 11];
        registers.copy_from_slice(&self.regs[..11]);
        self.machine.trap(kind, ProgramId(self.state.program), index, registers, callers)
    }

    fn call_helper(&mut self, number: i32) -> Result<(), Box<Trap>> {
        let mut args = [0; 5];
        args.copy_from_slice(&self.regs[1..6]);
        match self.machine.call_helper(number, args) {
            Ok(value) => self.regs[0] = value,
            Err(Stop::Errno(errno)) => self.regs[0] = errno.ret(),
            Err(Stop::Trap(kind)) => return Err(self.trap_here(*kind)),
            Err(Stop::TailCall(program)) => return self.tail_call(program),
        }
        self.clobber();
        Ok(())
    }

    /// RFC 9669 section 4.3: r1 to r5 are lost in a call. Every engine loses them to the same value.
    fn clobber(&mut self) {
        self.regs[1..6].fill(0);
    }

    /// Replaces the current function by a program; behind the limit, goes on behind the call.
    fn tail_call(&mut self, program: ProgramId) -> Result<(), Box<Trap>> {
        if self.tail_calls >= crate::machine::MAX_TAIL_CALLS {
            self.regs[0] = Errno::EPERM.ret();
            self.clobber();
            return Ok(());
        }
        self.switch(program)?;
        self.tail_calls += 1;
        self.state.base += self.state.pc as i64;
        self.state.pc = 0;
        self.state.loops = MAY_GOTO_LOOPS;
        self.state.program = program.0;
        let context = self.regs[1];
        let frame_pointer = self.regs[10];
        self.regs = [0; 16];
        self.regs[1] = context;
        self.regs[10] = frame_pointer;
        self.machine.fresh_frame(self.state.depth);
        Ok(())
    }

    /// Executes the instruction before `pc` by its typed form.
    fn slow(&mut self) -> Result<Next, Box<Trap>> {
        let index = self.state.pc.saturating_sub(1);
        let Some(insn) = self.program().and_then(|program| program.code().insns().get(index)).copied() else {
            return Ok(Next::Return(0));
        };
        let memory = |run: &Self, fault: Fault| run.trap_here(TrapKind::Memory(fault));
        match insn {
            Insn::Load { size, signed, dst, base, off } => {
                let value = self.load(size, self.address(base, off)).map_err(|fault| memory(self, fault))?;
                self.set(dst, if signed { semantics::sign_extend(size, value) } else { value });
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                let value = self.load(size, self.address(base, off)).map_err(|fault| memory(self, fault))?;
                self.set(dst, value);
            }
            Insn::Store { size, base, off, src } => {
                let value = match src {
                    Operand::Reg(reg) => self.get(reg),
                    Operand::Imm(imm) => imm as i64 as u64,
                };
                self.store(size, self.address(base, off), value).map_err(|fault| memory(self, fault))?;
            }
            Insn::StoreRelease { size, base, off, src } => {
                self.store(size, self.address(base, off), self.get(src)).map_err(|fault| memory(self, fault))?;
            }
            Insn::Atomic { op, width, base, off, src } => {
                self.atomic(op, width, self.address(base, off), src).map_err(|fault| memory(self, fault))?;
            }
            Insn::LoadPacket { size, offset } => return self.load_packet(size, offset),
            Insn::Call(Callee::Reg(reg)) => self.call_register(self.get(reg))?,
            Insn::Call(Callee::Kfunc { btf_id, .. }) => {
                let name = self.extern_name(btf_id);
                return Err(self.trap_here(TrapKind::NoKfunc { name }));
            }
            Insn::LoadImm64 { value, .. } => return Err(self.trap_here(self.unresolved(value))),
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::MovSx { .. }
            | Insn::End { .. }
            | Insn::AddrSpaceCast { .. }
            | Insn::Jump { .. }
            | Insn::JumpIf { .. }
            | Insn::MayGoto { .. }
            | Insn::Call(Callee::Helper(_) | Callee::Local(_))
            | Insn::Exit => {}
        }
        Ok(Next::Continue)
    }

    fn unresolved(&self, value: Imm64) -> TrapKind {
        match value {
            Imm64::Variable { btf_id, .. } => TrapKind::NoExtern { name: self.extern_name(btf_id) },
            Imm64::MapFd(fd) | Imm64::MapIndex(fd) => TrapKind::NoMap { fd },
            Imm64::MapValue { fd, offset } | Imm64::MapIndexValue { index: fd, offset } => {
                TrapKind::NoMapValue { fd, offset }
            }
            Imm64::Value(target) => TrapKind::BadCallTarget { target },
            Imm64::Code(off) => TrapKind::BadCallTarget { target: off as u64 },
        }
    }

    fn extern_name(&self, index: i32) -> Arc<str> {
        let externs = self.program().map_or(&[][..], |program| program.externs());
        usize::try_from(index)
            .ok()
            .and_then(|index| externs.get(index))
            .map_or_else(|| index.to_string().into(), |e| e.name.clone())
    }

    fn get(&self, reg: Reg) -> u64 {
        self.regs[usize::from(reg.number())]
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.regs[usize::from(reg.number())] = value;
    }

    fn address(&self, base: Reg, off: i16) -> u64 {
        self.get(base).wrapping_add(off as i64 as u64)
    }

    fn load(&self, size: Size, addr: u64) -> Result<u64, Fault> {
        let bytes = self.machine.memory.read(addr, size.bytes().into())?;
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(value))
    }

    fn store(&mut self, size: Size, addr: u64, value: u64) -> Result<(), Fault> {
        self.machine.memory.write(addr, &value.to_le_bytes()[..size.bytes() as usize])
    }

    fn atomic(&mut self, op: AtomicOp, width: Width, addr: u64, src: Reg) -> Result<(), Fault> {
        let (size, mask) = match width {
            Width::W32 => (Size::W, u64::from(u32::MAX)),
            Width::W64 => (Size::DW, u64::MAX),
        };
        self.machine.memory.check_write(addr, size.bytes().into())?;
        let old = self.load(size, addr)?;
        let new = semantics::atomic(op, old, self.get(src) & mask, self.regs[0] & mask);
        self.store(size, addr, new)?;
        match op {
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
            AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
                self.set(src, old);
            }
            AtomicOp::Cmpxchg => self.regs[0] = old,
        }
        Ok(())
    }

    /// Returns `r0` from the current function, as if the instruction before `pc` were an `exit`; false when that
    /// ends the program.
    fn return_early(&mut self, r0: u64) -> Result<bool, Box<Trap>> {
        self.regs[0] = r0;
        let Some(frame) = self.state.ret(&mut self.regs, &mut self.machine.memory.view()) else { return Ok(false) };
        self.state.base += self.state.pc as i64 - i64::from(frame.ret);
        self.state.pc = frame.ret as usize;
        if frame.program != self.state.program {
            self.state.program = frame.program;
            self.switch(ProgramId(frame.program))?;
        }
        Ok(true)
    }

    /// RFC 9669 section 5.5: big-endian bytes of the packet whose context `r6` holds. Outside it, the function returns
    /// 0: `bpf_gen_ld_abs` ends in an `exit`, which a subprogram's caller survives.
    fn load_packet(&mut self, size: Size, offset: PacketOffset) -> Result<Next, Box<Trap>> {
        let r6 = self.get(Reg::R6);
        if r6 != self.machine.context_address() || self.machine.packet().is_none() {
            return Err(self.trap_here(TrapKind::NoPacket { r6 }));
        }
        let offset = match offset {
            PacketOffset::Abs(imm) => imm,
            PacketOffset::Ind(reg, imm) => (self.get(reg) as u32).wrapping_add(imm as u32) as i32,
        };
        self.clobber();
        Ok(match self.machine.packet_bytes(offset, size.bytes()) {
            Some(bytes) => {
                self.regs[0] = bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
                Next::Continue
            }
            None => Next::Return(0),
        })
    }

    /// `callx`: a function's address, or a helper's number.
    fn call_register(&mut self, target: u64) -> Result<(), Box<Trap>> {
        if let Some(index) = self.machine.code_at(ProgramId(self.state.program), target) {
            let mut view = self.machine.memory.view();
            let Some(top) = view.push_frame(self.state.depth + 1) else {
                return Err(self.trap_here(TrapKind::TooDeep));
            };
            self.state.call(&mut self.regs, self.state.pc, top);
            self.state.base += self.state.pc as i64 - index as i64;
            self.state.pc = index;
            return Ok(());
        }
        match i32::try_from(target) {
            Ok(number) => self.call_helper(number),
            Err(_) => Err(self.trap_here(TrapKind::BadCallTarget { target })),
        }
    }
}
