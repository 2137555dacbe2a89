//! The driver of one run: calls the hot loop, and does what makes it return.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::Interpreter;
use super::exec::Core;
use super::flat::Touches;
use super::state::{Leave, MAY_GOTO_LOOPS, Registers, State};
use crate::engine::{Caller, Entry, Finish, ProgramId, Step, StepHook};
use crate::errno::Errno;
use crate::helpers::Stop;
use crate::insn::{Callee, Imm64, Insn, PacketOffset, Reg, Size};
use crate::machine::{Machine, Repeated};
use crate::memory::STACK_TOP;
use crate::outcome::{Trap, TrapKind};
use crate::program::Program;

/// One run in progress.
pub(super) struct Run<'r, 'h> {
    interpreter: &'r mut Interpreter,
    pub(super) regs: Registers,
    pub(super) state: State,
    pub(super) hook: Option<StepHook<'h>>,
    pub(super) tail_calls: u32,
    /// The run is handed over when its budget ends, with this one.
    #[cfg(test)]
    pub(super) handed_over_with: Option<u64>,
}

/// What executing one instruction by its typed form came to.
enum Next {
    /// Go on behind it.
    Continue,
    /// The function returns this `r0`.
    Return(u64),
}

/// Registers and state before the first instruction of a run.
#[inline(always)]
fn begin(regs: &mut Registers, state: &mut State, entry: &Entry) {
    regs[..11].fill(0);
    [regs[1], regs[2]] = entry.args;
    regs[10] = STACK_TOP.into();
    state.begin(entry.program.0);
}

impl<'r, 'h> Run<'r, 'h> {
    /// A run that stands at `state`, all registers 0.
    #[inline(always)]
    pub(super) fn new(interpreter: &'r mut Interpreter, state: State, hook: Option<StepHook<'h>>) -> Run<'r, 'h> {
        Run {
            interpreter,
            regs: [0; 16],
            state,
            hook,
            tail_calls: 0,
            #[cfg(test)]
            handed_over_with: None,
        }
    }

    /// Runs a program from its first instruction to its end.
    #[inline(always)]
    pub(super) fn whole(&mut self, machine: &mut Machine, entry: &Entry, touches: Touches) -> Finish {
        begin(&mut self.regs, &mut self.state, entry);
        self.tail_calls = 0;
        if touches != Touches::Nothing {
            machine.memory.view().push_frame(0);
        }
        // All of a short run, without the driver.
        let leave = self.exec(machine);
        let ret = if leave == Leave::Done { Ok(self.regs[0]) } else { self.go_on(machine, leave) };
        match touches {
            Touches::Nothing => {}
            Touches::Reads => machine.memory.view().pop_frame(0),
            Touches::Writes => {
                machine.close_frames(self.state.depth);
                machine.zero_frames(self.state.deepest);
            }
        }
        Finish { ret, instructions: self.state.used }
    }

    /// Runs a program that writes nothing: again and again for as long as the driver is not needed, but not more than `most`
    /// times.
    #[inline(always)]
    pub(super) fn several(&mut self, machine: &mut Machine, entry: &Entry, touches: Touches, most: u64) -> Repeated {
        let (mut runs, mut instructions) = (0, 0_u64);
        let code = self.interpreter.flat(entry.program.0).map_or(&[][..], |flat| &flat.slots);
        let mut core = Core::new(code, machine.memory.view(), &mut self.state);
        if touches != Touches::Nothing {
            core.view.push_frame(0);
        }
        let leave = loop {
            begin(&mut self.regs, core.state, entry);
            let leave = core.exec(&mut self.regs, entry.budget);
            runs += 1;
            if leave != Leave::Done || runs == most {
                break leave;
            }
            instructions = instructions.saturating_add(core.state.used);
        };
        let ret = if leave == Leave::Done { Ok(self.regs[0]) } else { self.go_on(machine, leave) };
        if touches != Touches::Nothing {
            machine.memory.view().pop_frame(0);
        }
        Repeated { ret, runs, instructions: instructions.saturating_add(self.state.used) }
    }

    /// Runs until the function at the floor returns; its `r0`.
    pub(super) fn run(&mut self, machine: &mut Machine) -> Result<u64, Box<Trap>> {
        let leave = self.exec(machine);
        self.go_on(machine, leave)
    }

    /// Goes on with a run whose loop was left.
    pub(super) fn go_on(&mut self, machine: &mut Machine, mut leave: Leave) -> Result<u64, Box<Trap>> {
        loop {
            match leave {
                Leave::Done => return Ok(self.regs[0]),
                Leave::Return => {}
                Leave::Pause if self.state.used < self.state.budget => {}
                Leave::Pause => {
                    #[cfg(test)]
                    if let Some(budget) = self.handed_over_with.take() {
                        return self.hand_over(machine, budget);
                    }
                    let kind = TrapKind::OutOfFuel { budget: self.state.budget };
                    return Err(self.trap(machine, kind, self.state.pc));
                }
                Leave::NoSlot => {
                    return Err(self.trap_here(machine, machine.bad_program(ProgramId(self.state.program))));
                }
                Leave::TooDeep => return Err(self.trap_here(machine, TrapKind::TooDeep)),
                Leave::Helper(number) => self.call_helper(machine, number)?,
                Leave::Slow => {
                    if let Next::Return(r0) = self.slow(machine)?
                        && !self.return_early(machine, r0)
                    {
                        return Ok(r0);
                    }
                }
            }
            leave = self.exec(machine);
        }
    }

    /// Runs until the driver is needed.
    #[inline(always)]
    pub(super) fn exec(&mut self, machine: &mut Machine) -> Leave {
        let mut end = self.state.budget;
        if self.hook.is_some() && self.state.used < end {
            self.call_hook(machine);
            end = self.state.used + 1;
        }
        let code = self.interpreter.flat(self.state.program).map_or(&[][..], |flat| &flat.slots);
        Core::new(code, machine.memory.view(), &mut self.state).exec(&mut self.regs, end)
    }

    #[cold]
    fn call_hook(&mut self, machine: &Machine) {
        let (program, index) = (ProgramId(self.state.program), self.state.pc);
        let Some(code) = machine.program(program).map(|program| program.code()) else { return };
        if let (Some(hook), Some(insn), Some(slot)) = (&mut self.hook, code.insns().get(index), code.slot_of(index)) {
            hook(&Step { program, slot, insn, registers: &self.regs[..11], depth: self.state.depth });
        }
    }

    /// Goes on in another program.
    fn switch(&mut self, machine: &Machine, program: ProgramId) -> Result<(), Box<Trap>> {
        if !self.interpreter.prepare(machine, program) {
            return Err(self.trap_here(machine, machine.bad_program(program)));
        }
        self.state.program = program.0;
        Ok(())
    }

    fn program<'m>(&self, machine: &'m Machine) -> Option<&'m Arc<Program>> {
        machine.program(ProgramId(self.state.program))
    }

    /// The trap of the instruction that was executed last.
    fn trap_here(&self, machine: &Machine, kind: TrapKind) -> Box<Trap> {
        self.trap(machine, kind, self.state.pc.saturating_sub(1))
    }

    fn trap(&self, machine: &Machine, kind: TrapKind, index: usize) -> Box<Trap> {
        let frames = &self.state.frames[..self.state.depth as usize];
        let callers = frames.iter().map(|frame| (ProgramId(frame.program), frame.ret as usize - 1));
        let mut registers = [0; 11];
        registers.copy_from_slice(&self.regs[..11]);
        machine.trap(kind, ProgramId(self.state.program), index, registers, callers)
    }

    fn call_helper(&mut self, machine: &mut Machine, number: i32) -> Result<(), Box<Trap>> {
        let mut args = [0; 5];
        args.copy_from_slice(&self.regs[1..6]);
        match machine.call_helper(self, number, &args) {
            Ok(value) => self.regs[0] = value,
            Err(Stop::Errno(errno)) => self.regs[0] = errno.ret(),
            Err(Stop::Trap(kind)) => return Err(self.trap_here(machine, *kind)),
            Err(Stop::Ended(trap)) => return Err(trap),
            Err(Stop::TailCall(program)) => return self.tail_call(machine, program),
        }
        self.clobber();
        Ok(())
    }

    /// RFC 9669 section 4.3: r1 to r5 are lost in a call. Every engine loses them to the same value.
    fn clobber(&mut self) {
        self.regs[1..6].fill(0);
    }

    /// Replaces the current function by a program; behind the limit, goes on behind the call.
    fn tail_call(&mut self, machine: &mut Machine, program: ProgramId) -> Result<(), Box<Trap>> {
        if self.tail_calls >= crate::machine::MAX_TAIL_CALLS {
            self.regs[0] = Errno::EPERM.ret();
            self.clobber();
            return Ok(());
        }
        self.switch(machine, program)?;
        self.tail_calls += 1;
        self.state.pc = 0;
        self.state.loops = MAY_GOTO_LOOPS;
        let context = self.regs[1];
        let frame_pointer = self.regs[10];
        self.regs = [0; 16];
        self.regs[1] = context;
        self.regs[10] = frame_pointer;
        machine.fresh_frame(self.state.depth);
        Ok(())
    }

    /// Executes the instruction before `pc` by its typed form.
    fn slow(&mut self, machine: &mut Machine) -> Result<Next, Box<Trap>> {
        let index = self.state.pc.saturating_sub(1);
        let Some(insn) = self.program(machine).and_then(|program| program.code().insns().get(index)).copied() else {
            return Ok(Next::Return(0));
        };
        match insn {
            Insn::Load { .. }
            | Insn::LoadAcquire { .. }
            | Insn::Store { .. }
            | Insn::StoreRelease { .. }
            | Insn::Atomic { .. } => {
                if let Some(registers) = self.regs.first_chunk_mut()
                    && let Err(fault) = super::access(machine, &insn, registers)
                {
                    return Err(self.trap_here(machine, TrapKind::Memory(fault)));
                }
            }
            Insn::LoadPacket { size, offset } => return self.load_packet(machine, size, offset),
            Insn::Call(Callee::Reg(reg)) => self.call_register(machine, self.get(reg))?,
            Insn::Call(Callee::Kfunc { btf_id, .. }) => {
                let name = self.extern_name(machine, btf_id);
                return Err(self.trap_here(machine, TrapKind::NoKfunc { name }));
            }
            Insn::LoadImm64 { value, .. } => return Err(self.trap_here(machine, self.unresolved(machine, value))),
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

    fn unresolved(&self, machine: &Machine, value: Imm64) -> TrapKind {
        match value {
            Imm64::Variable { btf_id, .. } => TrapKind::NoExtern { name: self.extern_name(machine, btf_id) },
            Imm64::MapFd(fd) | Imm64::MapIndex(fd) => TrapKind::NoMap { fd },
            Imm64::MapValue { fd, offset } | Imm64::MapIndexValue { index: fd, offset } => {
                TrapKind::NoMapValue { fd, offset }
            }
            Imm64::Value(target) => TrapKind::BadCallTarget { target },
            Imm64::Code(off) => TrapKind::BadCallTarget { target: off as u64 },
        }
    }

    fn extern_name(&self, machine: &Machine, index: i32) -> Arc<str> {
        let externs = self.program(machine).map_or(&[][..], |program| program.externs());
        usize::try_from(index)
            .ok()
            .and_then(|index| externs.get(index))
            .map_or_else(|| index.to_string().into(), |e| e.name.clone())
    }

    fn get(&self, reg: Reg) -> u64 {
        self.regs[usize::from(reg.number())]
    }

    /// Returns `r0` from the current function, as if the instruction before `pc` were an `exit`; false when that
    /// is the function at the floor.
    fn return_early(&mut self, machine: &mut Machine, r0: u64) -> bool {
        self.regs[0] = r0;
        let Some((program, ret)) = self.state.ret(&mut self.regs, &mut machine.memory.view()) else { return false };
        (self.state.program, self.state.pc) = (program, ret as usize);
        true
    }

    fn load_packet(&mut self, machine: &Machine, size: Size, offset: PacketOffset) -> Result<Next, Box<Trap>> {
        let mut registers = [0; 11];
        registers.copy_from_slice(&self.regs[..11]);
        let value = super::load_packet(machine, size, offset, &registers);
        let value = value.map_err(|kind| self.trap_here(machine, kind))?;
        self.clobber();
        Ok(match value {
            Some(value) => {
                self.regs[0] = value;
                Next::Continue
            }
            None => Next::Return(0),
        })
    }

    /// `callx`: a function's address, or a helper's number.
    fn call_register(&mut self, machine: &mut Machine, target: u64) -> Result<(), Box<Trap>> {
        if let Some(index) = machine.code_at(ProgramId(self.state.program), target) {
            let Some(top) = machine.memory.view().push_frame(self.state.depth + 1) else {
                return Err(self.trap_here(machine, TrapKind::TooDeep));
            };
            self.state.call(&mut self.regs, self.state.pc, top);
            self.state.pc = index;
            return Ok(());
        }
        match i32::try_from(target) {
            Ok(number) => self.call_helper(machine, number),
            Err(_) => Err(self.trap_here(machine, TrapKind::BadCallTarget { target })),
        }
    }

    /// Closes the frames above `depth`.
    pub(super) fn unwind(&mut self, machine: &mut Machine, depth: u32) {
        while self.state.depth > depth {
            machine.memory.view().pop_frame(self.state.depth);
            self.state.depth -= 1;
        }
    }
}

/// A helper calls back: the same run goes on one frame deeper, until that function returns.
impl Caller for Run<'_, '_> {
    fn call_back(&mut self, machine: &mut Machine, function: u64, args: [u64; 5]) -> Result<u64, Stop> {
        let State { program, pc, depth, floor, loops, .. } = self.state;
        let Some(index) = machine.code_at(ProgramId(program), function) else {
            return Err(Stop::trap(TrapKind::BadCallTarget { target: function }));
        };
        let Some(top) = machine.memory.view().push_frame(depth + 1) else {
            return Err(Stop::trap(TrapKind::TooDeep));
        };
        let regs = self.regs;
        self.state.call(&mut self.regs, pc, top);
        self.state.floor = self.state.depth;
        self.state.pc = index;
        self.regs = [0; 16];
        self.regs[1..6].copy_from_slice(&args);
        self.regs[10] = top;

        // A mock may catch what another one's panic ends, and go on.
        let result = catch_unwind(AssertUnwindSafe(|| self.run(machine)));

        self.unwind(machine, depth);
        self.state.pc = pc;
        self.regs = regs;
        (self.state.floor, self.state.loops) = (floor, loops);
        self.state.program = program;
        result.unwrap_or_else(|panic| resume_unwind(panic)).map_err(Stop::Ended)
    }
}
