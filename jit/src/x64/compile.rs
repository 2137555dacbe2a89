//! From a program to machine code: one pass over the instructions, most of them one to one.
//!
//! What is rare lies behind the program: a stub for each place where code may have to leave; and the routines of `lookup`,
//! which many places share.

use std::sync::Arc;

use dynasmrt::DynasmApi;
use softbpf::codec::Code;
use softbpf::engine::ProgramId;
use softbpf::insn::{AluOp, Callee, Condition, Insn, Operand, Reg, Width};
use softbpf::machine::Machine;
use softbpf::memory::{FRAME_STRIDE, MAX_FRAMES, STACK_TOP};
use softbpf::program::Program;

use super::Options;
use super::alu;
use super::asm::{Assembler, Cc, Forward, x64};
use crate::blocks::{self, Block};
use crate::effects::{self, Effects};
use crate::fault::Fault;
use crate::proof::{self, Plan, Plans, Tested};

use super::cells::{self, CellMemory, WindowNumber, counted_numbers};
use super::code::{CodeError, Compiled, HelperSite, Site};
use super::encode::{self, Operation, group, opcode};
use super::idiom;
use super::lookup::SearchCall;
use super::registers::{FUEL, SCRATCH, host};

use softbpf::interp::MAY_GOTO_LOOPS;

/// Heads of loops are aligned to this: the placement of a tight loop can more than double its time.
const LOOP_ALIGN: usize = 64;

/// What the compiler hands out numbers of, for all programs of an engine.
pub(super) struct Tables<'t> {
    pub(super) cells: &'t mut CellMemory,
    pub(super) helpers: &'t mut Vec<HelperSite>,
    /// Guest addresses at which code expects the context and the packet.
    pub(super) objects: [Option<u32>; 2],
}

/// A place behind the program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stub {
    /// Leave before the instruction with this index.
    Leave(u32),
    /// Check the access of the instruction with this index, which is at one offset and ends at another.
    Miss { index: u32, window: Option<WindowNumber>, access: u32, end: u32 },
    /// Have the instruction with this index executed by Rust, and go on at this offset.
    Slow { index: u32, end: u32 },
    /// A lookup has found nothing; the element would be used at this offset.
    NoElement { index: u32, done: u32 },
    /// Call the helper with this place among those whose calls code counts, of a lookup in this map, and go on at this offset.
    Helper { index: u32, place: u32, map: Option<u32>, end: u32 },
    /// Close the frame of the function that has returned, and go on at this offset.
    CloseFrame { index: u32, end: u32 },
}

impl Stub {
    /// Index of the instruction that it belongs to.
    fn index(self) -> u32 {
        match self {
            Stub::Leave(index)
            | Stub::Slow { index, .. }
            | Stub::NoElement { index, .. }
            | Stub::Helper { index, .. }
            | Stub::CloseFrame { index, .. }
            | Stub::Miss { index, .. } => index,
        }
    }
}

pub(super) struct Compiler<'c> {
    pub(super) asm: Assembler,
    pub(super) options: Options,
    pub(super) tables: Tables<'c>,
    blocks: Vec<Block>,
    /// The block under way, and its number.
    block: Block,
    number: u32,
    pub(super) machine: &'c Machine,
    /// How accesses are made.
    pub(super) plans: Plans,
    /// By block, where functions are called: what is done from there on.
    effects: Vec<Effects>,
    /// Some access is compared with the limits of context or packet.
    pub(super) likely_objects: bool,
    /// Some helper's answer is taken from the cells.
    pub(super) answers: bool,
    /// Calls of some helper are counted in the cells.
    pub(super) counts: bool,
    id: ProgramId,
    code: &'c Code,
    /// What is compiled: the code's instructions, but for a planted fault.
    pub(super) insns: &'c [Insn],
    /// By index: where an instruction's code begins.
    starts: Vec<u32>,
    /// Instructions that have been compiled.
    done: usize,
    /// Jumps forward, with the number of the block that they go to.
    jumps: Vec<(Forward, u32)>,
    sites: Vec<Site>,
    stubs: Vec<(Forward, Stub)>,
    /// Calls of routines that search maps.
    pub(super) searches: Vec<SearchCall>,
    epilogue: Option<u32>,
    /// Some instruction may write to stack frames, or have others do so.
    pub(super) writes_stack: bool,
}

/// Why code is as it is: of use to who describes it.
#[derive(Debug)]
pub(super) struct Reasons {
    /// How accesses are made.
    pub(super) plans: Plans,
    pub(super) tested: Tested,
}

/// Compiles a program of a machine.
pub(super) fn compile(
    machine: &Machine,
    id: ProgramId,
    program: &Arc<Program>,
    options: Options,
    tables: Tables<'_>,
) -> Result<(Compiled, Reasons), CodeError> {
    let code = program.code();
    let blocks = blocks::blocks(code);
    let mut proofs = proof::prove(machine, id, program.program_type(), code, &blocks, options.explain, options.planted);
    if !options.proofs {
        proofs.doubt();
    }
    let proof::Proofs { plans, assumptions, tested } = proofs;
    let insns = options.planted.taken_for(code.insns());
    let effects = effects::effects(code, &insns, &plans, &blocks, options.planted);
    let len = insns.len();
    // Most blocks end in a jump, and have a place or two where code may have to leave.
    let (jumps, places) = (blocks.len(), blocks.len() + 16);
    let mut compiler = Compiler {
        asm: Assembler::with_capacity(len * 12 + 256)?,
        options,
        tables,
        block: blocks[0],
        number: 0,
        blocks,
        machine,
        plans,
        effects,
        likely_objects: false,
        answers: false,
        counts: false,
        id,
        code,
        insns: &insns,
        starts: vec![0; len + 1],
        done: 0,
        jumps: Vec::with_capacity(jumps),
        sites: Vec::with_capacity(places),
        stubs: Vec::with_capacity(places),
        searches: Vec::new(),
        epilogue: None,
        writes_stack: false,
    };
    for number in 0..compiler.blocks.len() {
        compiler.block(number);
    }
    let epilogue = compiler.epilogue();
    compiler.stubs();
    let searches = compiler.searches();
    let Compiler {
        mut asm, blocks, sites, plans, likely_objects, answers, counts, starts, jumps, writes_stack, ..
    } = compiler;
    for (jump, number) in jumps {
        asm.aim(jump, starts[blocks[number as usize].start as usize]);
    }
    let memory = asm.finish()?;
    debug_assert!(sites.is_sorted_by_key(|site| site.offset));
    let functions = blocks.iter().filter(|block| block.callable).map(|block| block.start).collect();
    let compiled = Compiled {
        memory,
        program: Arc::clone(program),
        sites,
        functions,
        searches,
        epilogue,
        starts,
        writes_stack,
        assumptions,
        likely_objects,
        answers,
        counts,
    };
    Ok((compiled, Reasons { plans, tested }))
}

impl Compiler<'_> {
    /// The code of a block.
    fn block(&mut self, number: usize) {
        let block = self.blocks[number];
        (self.block, self.number) = (block, number as u32);
        let insns = self.insns;
        let mut index = self.done;
        // It is behind the start only where a planted fault has made one of instructions of two blocks.
        if index == block.start as usize {
            if block.loop_head {
                self.align(LOOP_ALIGN);
                self.starts[index] = self.offset();
            }
            self.leader();
        }
        while index < block.end as usize {
            index += self.instruction(insns, index);
            self.starts[index] = self.offset();
        }
        self.done = index;
    }

    /// The code of an instruction, or of those from there on that the machine has one for; how many.
    #[inline(always)]
    fn instruction(&mut self, insns: &[Insn], at: usize) -> usize {
        let index = at as u32;
        match insns[at] {
            // The two kinds of operands are told apart here, so that no more of the instruction is read than there is.
            Insn::Alu { op, width, dst, src: Operand::Reg(src) } => return self.alu(at, op, width, dst, src.into()),
            Insn::Alu { op, width, dst, src: Operand::Imm(imm) } => return self.alu(at, op, width, dst, imm.into()),
            Insn::Neg { width, dst } => alu::neg(&mut self.asm, width, dst),
            Insn::MovSx { width, from, dst, src } => alu::movsx(&mut self.asm, width, from, dst, src),
            Insn::End { order, width, dst } => alu::byte_order(&mut self.asm, order, width, dst),
            // Both kinds of arena pointer are 32-bit guest addresses.
            Insn::AddrSpaceCast { dst, src, .. } => x64!(self.asm; mov Rd(host(dst)), Rd(host(src))),
            Insn::LoadImm64 { dst, value } => {
                let slot = self.code.slot_of(index as usize).unwrap_or(0);
                match self.machine.imm64(self.id, slot, value) {
                    Some(value) => alu::load_imm(&mut self.asm, host(dst), value as i64),
                    None => self.leave(index),
                }
            }
            Insn::Load { size, signed, dst, base, off } => self.load(index, size, signed, dst, (base, off)),
            Insn::LoadAcquire { size, dst, base, off } => self.load_acquire(index, size, dst, (base, off)),
            Insn::Store { size, base, off, src: Operand::Reg(src) } => {
                self.store(index, size, (base, off), src.into());
            }
            Insn::Store { size, base, off, src: Operand::Imm(imm) } => {
                self.store(index, size, (base, off), imm.into());
            }
            Insn::StoreRelease { size, base, off, src } => self.store_release(index, size, (base, off), src),
            Insn::Atomic { op, width, base, off, src } => self.atomic(index, op, width, (base, off), src),
            Insn::LoadPacket { .. } => self.slow(index),
            Insn::Jump { .. } => self.jump(None, self.block.target),
            Insn::JumpIf { condition, width, dst, src, .. } => {
                self.compare(condition, width, dst, src);
                self.jump(Some(jump_condition(condition)), self.block.target);
            }
            Insn::MayGoto { .. } => {
                let last = i32::from(self.options.planted.is(Fault::MayGotoOneTooFew));
                x64!(self.asm; cmp QWORD [DWORD r12 + cells::LOOPS], DWORD last);
                self.jump(Some(Cc::Equal), self.block.target);
                x64!(self.asm; dec QWORD [DWORD r12 + cells::LOOPS]);
            }
            Insn::Call(callee) => self.call(index, callee),
            Insn::Exit => {
                self.epilogue = Some(self.offset());
                x64!(self.asm; ret);
            }
        }
        1
    }

    #[inline(always)]
    fn alu(&mut self, at: usize, op: AluOp, width: Width, dst: Reg, src: Operand) -> usize {
        if idiom::may_begin(op, src)
            && let Some(len) = self.idiom(at)
        {
            return len;
        }
        alu::emit(&mut self.asm, self.options, op, width, dst, src);
        1
    }

    /// Makes one of instructions that the machine has one for; how many those are.
    #[inline(never)]
    fn idiom(&mut self, index: usize) -> Option<usize> {
        let over_leader = self.options.planted.is(Fault::IdiomOverLeader);
        let end = if over_leader { self.insns.len() } else { self.block.end as usize };
        let (idiom, len) = idiom::find(&self.insns[index..end], self.options)?;
        idiom.emit(&mut self.asm, self.options);
        // Nothing is left of the others, and nothing jumps to them.
        let behind = self.offset();
        self.starts[index + 1..index + len].fill(behind);
        Some(len)
    }

    pub(super) fn offset(&self) -> u32 {
        self.asm.offset()
    }

    /// The beginning of a block: fuel for all of it.
    fn leader(&mut self) {
        let Block { start, checkpoint, .. } = self.block;
        let charge = match self.block.len() {
            len if len > 1 && self.options.planted.is(Fault::FuelOneTooMany) => len + 1,
            len if len > 1 && self.options.planted.is(Fault::FuelOneTooFew) => len - 1,
            len => len,
        };
        encode::immediate(&mut self.asm, Width::W64, group::SUB, FUEL, charge as i32);
        if checkpoint {
            // Unlike a test of the sign alone, the machine makes one operation of this and the subtraction.
            self.jump_to_stub(Cc::Less, Stub::Leave(start));
        }
    }

    /// Fills up with instructions that do nothing, as few as there can be.
    fn align(&mut self, to: usize) {
        const NOPS: [&[u8]; 9] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0f, 0x1f, 0x00],
            &[0x0f, 0x1f, 0x40, 0x00],
            &[0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
            &[0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00],
            &[0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
            &[0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        ];
        let mut left = (self.offset() as usize).next_multiple_of(to) - self.offset() as usize;
        while left > 0 {
            let nop = NOPS[left.min(NOPS.len()) - 1];
            self.asm.extend(nop);
            left -= nop.len();
        }
    }

    /// A jump to code behind the program.
    #[inline(always)]
    pub(super) fn jump_to_stub(&mut self, cc: Cc, stub: Stub) {
        let jump = self.asm.jump_forward(Some(cc));
        self.stub_of(jump, stub);
    }

    /// Where a jump goes that is there already.
    #[inline(always)]
    pub(super) fn stub_of(&mut self, jump: Forward, stub: Stub) {
        self.stubs.push((jump, stub));
    }

    /// Notes that the code so far ends in a call of a routine for the instruction with this index.
    #[inline(always)]
    pub(super) fn site(&mut self, index: u32, window: Option<WindowNumber>) -> usize {
        let offset = self.offset();
        let mut charged = self.block.end - index;
        charged -= u32::from(charged > 1 && self.options.planted.is(Fault::RefundOneTooFew));
        self.sites.push(Site { offset, index, charged, resume: offset, window, saved: Effects::NONE });
        self.sites.len() - 1
    }

    /// Leaves for good, before the instruction.
    pub(super) fn leave(&mut self, index: u32) {
        self.asm.call_cell(cells::LEAVE);
        self.site(index, None);
    }

    /// Has the instruction executed by Rust.
    fn slow(&mut self, index: u32) {
        self.asm.call_cell(cells::SLOW);
        let site = self.site(index, None);
        if self.options.planted.is(Fault::PacketLoadRefundsNothing) {
            self.sites[site].charged = 1;
        }
    }

    /// Goes to the block with this number.
    fn jump(&mut self, cc: Option<Cc>, number: u32) {
        if number > self.number {
            self.jumps.push((self.asm.jump_forward(cc), number));
        } else {
            let start = self.starts[self.blocks[number as usize].start as usize];
            self.asm.jump_back(cc, start);
        }
    }

    /// Sets the flags for [`jump_condition`].
    fn compare(&mut self, condition: Condition, width: Width, dst: Reg, src: Operand) {
        let planted = self.options.planted;
        let asm = &mut self.asm;
        let dst = host(dst);
        match (condition, src) {
            (Condition::Set, Operand::Reg(src)) => encode::two(asm, width, opcode::TEST, dst, host(src)),
            (Condition::Set, Operand::Imm(imm)) => encode::test_immediate(asm, width, dst, imm),
            (Condition::Gt | Condition::Ge | Condition::Lt | Condition::Le, Operand::Imm(imm))
                if width == Width::W64 && planted.is(Fault::JumpImmZeroExtended) =>
            {
                x64!(asm; mov r11d, DWORD imm; cmp Rq(dst), r11);
            }
            (_, Operand::Imm(0)) => encode::two(asm, width, opcode::TEST, dst, dst),
            (_, Operand::Imm(imm)) => encode::immediate(asm, width, group::CMP, dst, imm),
            (_, Operand::Reg(src)) => encode::arithmetic(asm, width, group::CMP, dst, host(src)),
        }
    }

    #[inline(never)]
    fn call(&mut self, index: u32, callee: Callee) {
        match callee {
            Callee::Helper(helper) => match self.plans.get(index as usize) {
                Plan::Lookup(lookup) => self.lookup(index, lookup),
                Plan::Answer(place) => self.answer(index, place as usize),
                Plan::Unknown | Plan::Likely(_) | Plan::Proved(_) => self.helper(index, helper, None),
            },
            Callee::Local(_) => {
                let target = self.block.target;
                self.function(index, self.effects[target as usize], |compiler| {
                    let call = compiler.asm.call_forward();
                    // To the same place as a jump.
                    compiler.jumps.push((call, target));
                });
            }
            Callee::Reg(_) => {
                self.writes_stack = true;
                self.asm.call_cell(cells::CALL_REGISTER);
                self.site(index, None);
                self.function(index, Effects::ALL, |compiler| x64!(compiler.asm; call r11));
            }
            // Traps.
            Callee::Kfunc { .. } => self.leave(index),
        }
    }

    /// Offset of a return: that of some exit, or one of its own, for a packet load may return where there is no exit.
    fn epilogue(&mut self) -> u32 {
        self.epilogue.unwrap_or_else(|| {
            let offset = self.offset();
            x64!(self.asm; ret);
            offset
        })
    }

    /// Calls a helper; a lookup says in which map.
    pub(super) fn helper(&mut self, index: u32, helper: i32, map: Option<u32>) {
        self.writes_stack = true;
        let number = self.tables.helpers.len() as u32;
        self.tables.helpers.push(HelperSite { program: self.id, index, helper, map, counted: None });
        encode::load_low(&mut self.asm, SCRATCH, number);
        self.asm.call_cell(cells::HELPER);
        self.site(index, None);
        if self.options.planted.is(Fault::HelperLeavesR1) {
            x64!(self.asm; mov edi, 1);
        }
        if self.options.planted.is(Fault::HelperLosesR6) {
            x64!(self.asm; xor ebx, ebx);
        }
    }

    /// A helper that tells what is in the world: it stands in a cell.
    fn answer(&mut self, index: u32, place: usize) {
        let noted = self.count_call(place);
        x64!(self.asm; mov rax, [DWORD r12 + cells::ANSWERS + 8 * place as i32]);
        self.answers = true;
        self.lose_arguments();
        let end = self.offset();
        if let Some(noted) = noted {
            self.stub_of(noted, Stub::Helper { index, place: place as u32, map: None, end });
        }
    }

    /// Counts a call of the helper with this place among those whose calls code counts; a jump for calls that are kept with
    /// their arguments, if any are.
    pub(super) fn count_call(&mut self, place: usize) -> Option<Forward> {
        let place = 8 * place as i32;
        let asm = &mut self.asm;
        let noted = (self.machine.kept_calls() > 0).then(|| {
            x64!(asm; cmp QWORD [DWORD r12 + cells::KEPT + place], BYTE 0);
            asm.jump_forward(Some(Cc::NotEqual))
        });
        if !self.options.planted.is(Fault::InlineCallNotCounted) {
            x64!(self.asm; inc QWORD [DWORD r12 + cells::COUNTED_CALLS + place]);
        }
        self.counts = true;
        noted
    }

    /// Calls a function that does so much: saves what it does not preserve, and goes one frame deeper for it. The frame is
    /// opened when somebody looks, and closed here if that was so. [`super::run`] knows what lies on the host's stack.
    fn function(&mut self, index: u32, effects: Effects, call: impl FnOnce(&mut Self)) {
        /// Top of the frame below which there is no further one.
        const LAST: i32 = (STACK_TOP - (MAX_FRAMES - 1) * FRAME_STRIDE) as i32;
        let planted = self.options.planted;
        // The interpreter executes the call and finds it too deep.
        x64!(self.asm; cmp ebp, DWORD LAST);
        self.jump_to_stub(Cc::BelowOrEqual, Stub::Leave(index));
        let asm = &mut self.asm;
        let saved = || Effects::PRESERVED.into_iter().filter(|&reg| effects.writes(reg));
        for reg in saved() {
            x64!(asm; push Rq(host(reg)));
        }
        if effects.loops() {
            x64!(asm
                ; push QWORD [DWORD r12 + cells::LOOPS]
                ; mov QWORD [DWORD r12 + cells::LOOPS], DWORD MAY_GOTO_LOOPS as i32
            );
        }
        if has_padding(effects) {
            x64!(asm; push rax);
        }
        x64!(asm; sub ebp, DWORD FRAME_STRIDE as i32);
        if effects.stack() && !planted.is(Fault::FrameNotZeroed) {
            compare_frame_pointer(asm, cells::LOWEST);
            let lower = asm.jump_forward(Some(Cc::AboveOrEqual));
            x64!(asm; mov [DWORD r12 + cells::LOWEST], rbp);
            asm.aim_here(lower);
        }
        if planted.is(Fault::FrameNotOpened) {
            x64!(asm; mov [DWORD r12 + cells::OPENED], rbp);
        }
        call(self);
        let site = self.site(index, None);
        self.sites[site].saved = effects;
        let asm = &mut self.asm;
        compare_frame_pointer(asm, cells::OPENED);
        let opened = (!planted.is(Fault::FrameStaysOpen)).then(|| asm.jump_forward(Some(Cc::AboveOrEqual)));
        let end = asm.offset();
        x64!(asm; add ebp, DWORD FRAME_STRIDE as i32);
        if has_padding(effects) {
            x64!(asm; pop r11);
        }
        if effects.loops() {
            x64!(asm; pop QWORD [DWORD r12 + cells::LOOPS]);
        }
        for reg in saved().collect::<Vec<_>>().into_iter().rev() {
            if reg == Reg::R6 && planted.is(Fault::CallLosesR6) {
                x64!(asm; add rsp, BYTE 8);
            } else {
                x64!(asm; pop Rq(host(reg)));
            }
        }
        if let Some(opened) = opened {
            self.stub_of(opened, Stub::CloseFrame { index, end });
        }
    }

    fn stubs(&mut self) {
        // They are in the order of the instructions that they belong to.
        let mut number = 0;
        for (jump, stub) in std::mem::take(&mut self.stubs) {
            let index = stub.index();
            while self.blocks.get(number).is_some_and(|block| block.end <= index) {
                number += 1;
            }
            self.block = self.blocks[number];
            self.asm.aim_here(jump);
            match stub {
                Stub::Leave(index) => self.leave(index),
                Stub::Miss { index, window, access, end } => self.miss(index, window, access, end),
                Stub::Slow { index, end } => {
                    self.slow(index);
                    self.resume_at(self.sites.len() - 1, end);
                }
                Stub::NoElement { done, .. } => {
                    x64!(self.asm; xor eax, eax);
                    self.asm.jump_back(None, done);
                }
                Stub::Helper { index, place, map, end } => {
                    self.helper(index, counted_numbers()[place as usize], map);
                    if let Some(site) = self.tables.helpers.last_mut() {
                        site.counted = Some(place as usize);
                    }
                    self.asm.jump_back(None, end);
                }
                Stub::CloseFrame { end, .. } => {
                    self.asm.call_cell(cells::CLOSE_FRAME);
                    self.asm.jump_back(None, end);
                }
            }
        }
    }

    /// Where the site with this number goes on.
    pub(super) fn resume_at(&mut self, site: usize, offset: u32) {
        self.sites[site].resume = offset;
    }
}

/// How a jump is taken behind [`Compiler::compare`].
fn jump_condition(condition: Condition) -> Cc {
    match condition {
        Condition::Eq => Cc::Equal,
        Condition::Ne | Condition::Set => Cc::NotEqual,
        Condition::Gt => Cc::Above,
        Condition::Ge => Cc::AboveOrEqual,
        Condition::Lt => Cc::Below,
        Condition::Le => Cc::BelowOrEqual,
        Condition::Sgt => Cc::Greater,
        Condition::Sge => Cc::GreaterOrEqual,
        Condition::Slt => Cc::Less,
        Condition::Sle => Cc::LessOrEqual,
    }
}

/// Whether a caller that saves this much must push one word more, so that the stack pointer is a multiple of 16 in the
/// function: what is saved and the return address are an even number of words.
pub(super) fn has_padding(saved: Effects) -> bool {
    let registers = Effects::PRESERVED.iter().filter(|&&reg| saved.writes(reg)).count();
    (registers + usize::from(saved.loops())).is_multiple_of(2)
}

/// Compares `r10` with a cell.
fn compare_frame_pointer(asm: &mut Assembler, cell: i32) {
    let operation = Operation::new(Width::W64, opcode::CMP_WITH);
    encode::cell(asm, operation, host(Reg::R10), cell);
}
