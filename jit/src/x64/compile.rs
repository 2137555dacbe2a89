//! From a program to machine code: one pass over the instructions, most of them one to one.
//!
//! What is rare lies behind the program: a stub for each place where code may have to leave, and code that calls each
//! function.

use std::sync::Arc;

use dynasmrt::{DynamicLabel, DynasmApi, DynasmLabelApi};
use softbpf::codec::Code;
use softbpf::engine::ProgramId;
use softbpf::helpers::MAX_RECORDS;
use softbpf::insn::{Callee, Condition, Insn, Operand, Reg, Width};
use softbpf::machine::Machine;
use softbpf::map_spec::MapType;
use softbpf::maps::ArrayLayout;
use softbpf::memory::{FRAME_STRIDE, MAX_FRAMES, STACK_TOP};
use softbpf::program::Program;

use super::Options;
use super::alu;
use super::asm::{Assembler, x64};
use crate::blocks::{self, Place};
use crate::fault::Fault;
use crate::proof::{self, MAP_LOOKUP_ELEM, Plan, Region};

use super::cells::{self, CellMemory};
use super::code::{CodeError, CodeMemory, Compiled, Function, HelperSite, Site};
use super::memory::Miss;
use super::registers::{Host, host};

use softbpf::interp::MAY_GOTO_LOOPS;

/// Heads of loops are aligned to this: the placement of a tight loop can more than double its time.
const LOOP_ALIGN: usize = 32;

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
    /// Check an access.
    Miss(Miss),
    /// Have the instruction with this index executed by Rust, and go on at this offset.
    Slow { index: u32, end: u32 },
    /// A lookup has found nothing.
    NoElement(DynamicLabel),
    /// Call the helper for a lookup, and go on at this offset.
    Lookup { index: u32, map: u32, end: u32 },
}

pub(super) struct Compiler<'c> {
    pub(super) asm: Assembler,
    pub(super) options: Options,
    pub(super) tables: Tables<'c>,
    pub(super) places: Vec<Place>,
    pub(super) machine: &'c Machine,
    /// How accesses are made.
    pub(super) plans: Vec<Plan>,
    /// Some access is compared with the limits of context or packet.
    pub(super) likely_objects: bool,
    id: ProgramId,
    code: &'c Code,
    /// By index: the label of a leader.
    labels: Vec<Option<DynamicLabel>>,
    /// By index: the label of the code that calls a function.
    calls: Vec<(u32, DynamicLabel)>,
    sites: Vec<Site>,
    stubs: Vec<(DynamicLabel, Stub)>,
    epilogue: Option<u32>,
}

/// Compiles a program of a machine.
pub(super) fn compile(
    machine: &Machine,
    id: ProgramId,
    program: &Arc<Program>,
    options: Options,
    tables: Tables<'_>,
) -> Result<Compiled, CodeError> {
    let code = program.code();
    let places = blocks::places(code);
    let mut proofs = proof::prove(machine, id, program.program_type(), code, &places, options.planted);
    if !options.proofs {
        proofs.doubt();
    }
    let proof::Proofs { plans, assumptions } = proofs;
    let mut asm = Assembler::new_with_capacity(
        0,
        code.insns().len() * 12 + 256,
        0,
        0,
        code.insns().len() / 4,
        0,
        code.insns().len() / 4,
    );
    let labels = places.iter().map(|place| place.leader.then(|| asm.new_dynamic_label())).collect();
    let calls = (0..)
        .zip(&places)
        .filter(|(_, place)| place.callable)
        .map(|(index, _)| (index, asm.new_dynamic_label()))
        .collect();
    let mut compiler = Compiler {
        asm,
        options,
        tables,
        places,
        machine,
        plans,
        likely_objects: false,
        id,
        code,
        labels,
        calls,
        sites: Vec::new(),
        stubs: Vec::new(),
        epilogue: None,
    };
    let mut starts = Vec::with_capacity(code.insns().len() + 1);
    for (index, (slot, insn)) in code.iter().enumerate() {
        starts.push(compiler.offset());
        compiler.instruction(index as u32, slot, insn);
    }
    starts.push(compiler.offset());
    let epilogue = compiler.epilogue();
    let functions = compiler.functions();
    let needs_frame = code.insns().iter().zip(&compiler.plans).any(|(insn, plan)| may_touch_stack(insn, *plan));
    compiler.stubs();
    let Compiler { mut asm, mut sites, plans, likely_objects, .. } = compiler;
    sites.sort_by_key(|site| site.offset);
    let memory = CodeMemory::new(&asm.take()?)?;
    Ok(Compiled {
        memory,
        program: Arc::clone(program),
        sites,
        functions,
        epilogue,
        starts,
        plans,
        needs_frame,
        assumptions,
        likely_objects,
    })
}

impl Compiler<'_> {
    fn instruction(&mut self, index: u32, slot: usize, insn: &Insn) {
        let place = self.places[index as usize];
        if place.leader {
            self.leader(index, place);
        }
        match self.options.planted.taken_for(*insn) {
            Insn::Alu { op, width, dst, src } => alu::emit(&mut self.asm, self.options, op, width, dst, src),
            Insn::Neg { width, dst } => alu::neg(&mut self.asm, width, dst),
            Insn::MovSx { width, from, dst, src } => alu::movsx(&mut self.asm, width, from, dst, src),
            Insn::End { order, width, dst } => alu::byte_order(&mut self.asm, order, width, dst),
            // Both kinds of arena pointer are 32-bit guest addresses.
            Insn::AddrSpaceCast { dst, src, .. } => x64!(self.asm; mov Rd(host(dst)), Rd(host(src))),
            Insn::LoadImm64 { dst, value } => match self.machine.imm64(self.id, slot, value) {
                Some(value) => alu::load_imm(&mut self.asm, host(dst), value as i64),
                None => self.leave(index),
            },
            Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. } => self.access(index, self.options.planted.taken_for(*insn)),
            Insn::LoadPacket { .. } => self.slow(index),
            Insn::Jump { off, .. } => {
                let target = self.target(slot, off);
                x64!(self.asm; jmp =>target);
            }
            Insn::JumpIf { condition, width, dst, src, off } => {
                let target = self.target(slot, off.into());
                self.jump_if(condition, width, dst, src, target);
            }
            Insn::MayGoto { off } => {
                let target = self.target(slot, off.into());
                let last = i32::from(self.options.planted.is(Fault::MayGotoOneTooFew));
                x64!(self.asm
                    ; cmp QWORD [DWORD r12 + cells::LOOPS], DWORD last
                    ; je =>target
                    ; dec QWORD [DWORD r12 + cells::LOOPS]
                );
            }
            Insn::Call(callee) => self.call(index, slot, callee),
            Insn::Exit => {
                self.epilogue = Some(self.offset());
                x64!(self.asm; ret);
            }
        }
    }

    pub(super) fn offset(&self) -> u32 {
        self.asm.offset().0 as u32
    }

    /// The beginning of a block: fuel for all of it.
    fn leader(&mut self, index: u32, place: Place) {
        let Some(label) = self.labels[index as usize] else { return };
        if place.loop_head {
            self.align(LOOP_ALIGN);
        }
        let stub = self.stub(Stub::Leave(index));
        x64!(self.asm; =>label);
        let charge = match place.left {
            left if left > 1 && self.options.planted.is(Fault::FuelOneTooMany) => left + 1,
            left if left > 1 && self.options.planted.is(Fault::FuelOneTooFew) => left - 1,
            left => left,
        };
        match i8::try_from(charge) {
            Ok(charge) => x64!(self.asm; sub r9, BYTE charge),
            Err(_) => x64!(self.asm; sub r9, DWORD charge as i32),
        }
        x64!(self.asm; js =>stub);
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
        let mut left = self.asm.offset().0.next_multiple_of(to) - self.asm.offset().0;
        while left > 0 {
            let nop = NOPS[left.min(NOPS.len()) - 1];
            self.asm.extend(nop);
            left -= nop.len();
        }
    }

    /// Code behind the program.
    fn stub(&mut self, stub: Stub) -> DynamicLabel {
        let label = self.asm.new_dynamic_label();
        self.stub_at(label, stub);
        label
    }

    /// Code behind the program that is known by this label.
    pub(super) fn stub_at(&mut self, label: DynamicLabel, stub: Stub) {
        self.stubs.push((label, stub));
    }

    /// Notes that the code so far ends in a call of a routine for the instruction with this index.
    pub(super) fn site(&mut self, index: u32, window: Option<u32>) -> usize {
        let offset = self.offset();
        let mut charged = self.places[index as usize].left;
        charged -= u32::from(charged > 1 && self.options.planted.is(Fault::RefundOneTooFew));
        self.sites.push(Site { offset, index, charged, resume: offset, window });
        self.sites.len() - 1
    }

    /// Leaves for good, before the instruction.
    pub(super) fn leave(&mut self, index: u32) {
        x64!(self.asm; call QWORD [DWORD r12 + cells::LEAVE]);
        self.site(index, None);
    }

    /// Has the instruction executed by Rust.
    fn slow(&mut self, index: u32) {
        x64!(self.asm; call QWORD [DWORD r12 + cells::SLOW]);
        let site = self.site(index, None);
        if self.options.planted.is(Fault::PacketLoadRefundsNothing) {
            self.sites[site].charged = 1;
        }
    }

    fn target(&self, slot: usize, off: i32) -> DynamicLabel {
        let index = blocks::target(self.code, slot, off);
        // Every target is a leader; the label of the first instruction always exists.
        match self.labels[index] {
            Some(label) => label,
            None => unreachable!("jump targets are leaders"),
        }
    }

    fn jump_if(&mut self, condition: Condition, width: Width, dst: Reg, src: Operand, target: DynamicLabel) {
        let planted = self.options.planted;
        let asm = &mut self.asm;
        let dst = host(dst);
        match (condition, src) {
            (Condition::Set, Operand::Reg(src)) => match width {
                Width::W64 => x64!(asm; test Rq(dst), Rq(host(src))),
                Width::W32 => x64!(asm; test Rd(dst), Rd(host(src))),
            },
            (Condition::Set, Operand::Imm(imm)) => match width {
                Width::W64 => x64!(asm; test Rq(dst), DWORD imm),
                Width::W32 => x64!(asm; test Rd(dst), DWORD imm),
            },
            (Condition::Gt | Condition::Ge | Condition::Lt | Condition::Le, Operand::Imm(imm))
                if width == Width::W64 && planted.is(Fault::JumpImmZeroExtended) =>
            {
                x64!(asm; mov r11d, DWORD imm; cmp Rq(dst), r11);
            }
            (_, Operand::Imm(0)) => match width {
                Width::W64 => x64!(asm; test Rq(dst), Rq(dst)),
                Width::W32 => x64!(asm; test Rd(dst), Rd(dst)),
            },
            (_, Operand::Imm(imm)) => compare_imm(asm, width, dst, imm),
            (_, Operand::Reg(src)) => match width {
                Width::W64 => x64!(asm; cmp Rq(dst), Rq(host(src))),
                Width::W32 => x64!(asm; cmp Rd(dst), Rd(host(src))),
            },
        }
        match condition {
            Condition::Eq => x64!(asm; je =>target),
            Condition::Ne | Condition::Set => x64!(asm; jne =>target),
            Condition::Gt => x64!(asm; ja =>target),
            Condition::Ge => x64!(asm; jae =>target),
            Condition::Lt => x64!(asm; jb =>target),
            Condition::Le => x64!(asm; jbe =>target),
            Condition::Sgt => x64!(asm; jg =>target),
            Condition::Sge => x64!(asm; jge =>target),
            Condition::Slt => x64!(asm; jl =>target),
            Condition::Sle => x64!(asm; jle =>target),
        }
    }

    fn call(&mut self, index: u32, slot: usize, callee: Callee) {
        match callee {
            Callee::Helper(helper) => match self.plans[index as usize] {
                Plan::Lookup { map, key } => self.lookup(index, map, key),
                Plan::Unknown | Plan::Likely(_) | Plan::Proved(..) => self.helper(index, helper, None),
            },
            Callee::Local(off) => {
                let target = blocks::target(self.code, slot, off) as u32;
                if let Ok(at) = self.calls.binary_search_by_key(&target, |&(index, _)| index) {
                    let label = self.calls[at].1;
                    x64!(self.asm; call =>label);
                    self.site(index, None);
                }
            }
            Callee::Reg(_) => {
                x64!(self.asm; call QWORD [DWORD r12 + cells::CALL_REGISTER]);
                self.site(index, None);
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
    fn helper(&mut self, index: u32, helper: i32, map: Option<u32>) {
        let number = self.tables.helpers.len() as i32;
        self.tables.helpers.push(HelperSite { program: self.id, index, helper, map });
        x64!(self.asm
            ; mov r11d, DWORD number
            ; call QWORD [DWORD r12 + cells::HELPER]
        );
        self.site(index, None);
        if self.options.planted.is(Fault::HelperLeavesR1) {
            x64!(self.asm; mov edi, 1);
        }
        if self.options.planted.is(Fault::HelperLosesR6) {
            x64!(self.asm; xor ebx, ebx);
        }
    }

    /// `bpf_map_lookup_elem` in a known map: in an array it is an addition, as in the kernel's `array_map_gen_lookup`.
    fn lookup(&mut self, index: u32, map: u32, key: Option<i32>) {
        let array = key.and_then(|key| Some((key, self.array(map)?)));
        let Some((key, layout)) = array else { return self.helper(index, MAP_LOOKUP_ELEM, Some(map)) };
        let (noted, none, done) =
            (self.asm.new_dynamic_label(), self.asm.new_dynamic_label(), self.asm.new_dynamic_label());
        let asm = &mut self.asm;
        let count = 8 * MAP_LOOKUP_ELEM;
        x64!(asm
            // Calls that are kept with their arguments are the helper's.
            ; mov r11, [DWORD r12 + cells::COUNTS]
            ; cmp QWORD [r11 + count], DWORD MAX_RECORDS as i32
            ; jb =>noted
            ; inc QWORD [r11 + count]
            ; mov eax, [DWORD r10 + rbp * 1 + key]
            ; cmp eax, DWORD layout.max_entries as i32
            ; jae =>none
        );
        if layout.stride.is_power_of_two() {
            x64!(asm; shl eax, BYTE layout.stride.trailing_zeros() as i8);
        } else {
            x64!(asm; imul eax, eax, DWORD layout.stride as i32);
        }
        x64!(asm; add eax, DWORD layout.start as i32; =>done);
        for reg in [Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
            x64!(asm; xor Rd(host(reg)), Rd(host(reg)));
        }
        let end = self.offset();
        self.stub_at(none, Stub::NoElement(done));
        self.stub_at(noted, Stub::Lookup { index, map, end });
    }

    /// Where an array's values lie, if all of them are open and each has one copy.
    fn array(&self, map: u32) -> Option<ArrayLayout> {
        let info = self.machine.map_info(map as usize)?;
        info.array_layout().filter(|layout| layout.all_open && info.map_type() == MapType::Array)
    }

    /// For each function the code that calls it: saves what callees preserve, opens a stack frame, and closes it.
    fn functions(&mut self) -> Vec<Function> {
        let calls = std::mem::take(&mut self.calls);
        calls.into_iter().filter_map(|(index, label)| self.function(index, label)).collect()
    }

    fn function(&mut self, index: u32, label: DynamicLabel) -> Option<Function> {
        /// Top of the frame below which there is no further one.
        const LAST: i32 = (STACK_TOP - (MAX_FRAMES - 1) * FRAME_STRIDE) as i32;
        let too_deep = self.asm.new_dynamic_label();
        let start = self.offset();
        let body = self.labels[index as usize]?;
        let entry = self.asm.labels().resolve_dynamic(body).ok()?.0 as u32;
        let planted = self.options.planted;
        let asm = &mut self.asm;
        x64!(asm
            ; =>label
            ; cmp ebp, DWORD LAST
            ; jbe =>too_deep
            ; push rbx
            ; push r13
            ; push r14
            ; push r15
            ; push rbp
            ; push QWORD [DWORD r12 + cells::LOOPS]
            ; mov QWORD [DWORD r12 + cells::LOOPS], DWORD MAY_GOTO_LOOPS as i32
            ; sub ebp, DWORD FRAME_STRIDE as i32
            ; pcmpeqd xmm0, xmm0
        );
        if !planted.is(Fault::FrameNotOpened) {
            set_frame_bits(asm);
        }
        let lowest = asm.new_dynamic_label();
        x64!(asm
            ; cmp rbp, [DWORD r12 + cells::LOWEST]
            ; jae =>lowest
            ; mov [DWORD r12 + cells::LOWEST], rbp
            ; =>lowest
            ; call =>body
            ; pxor xmm0, xmm0
        );
        if !planted.is(Fault::FrameStaysOpen) {
            set_frame_bits(asm);
        }
        x64!(asm
            ; pop QWORD [DWORD r12 + cells::LOOPS]
            ; pop rbp
            ; pop r15
            ; pop r14
            ; pop r13
        );
        if planted.is(Fault::CallLosesR6) {
            x64!(asm; add rsp, BYTE 8);
        } else {
            x64!(asm; pop rbx);
        }
        x64!(asm
            ; ret
            ; =>too_deep
            // The return address is the caller's site: the interpreter executes the call and finds it too deep.
            ; jmp QWORD [DWORD r12 + cells::LEAVE]
        );
        Some(Function { index, call: start, entry })
    }

    fn stubs(&mut self) {
        for (label, stub) in std::mem::take(&mut self.stubs) {
            x64!(self.asm; =>label);
            match stub {
                Stub::Leave(index) => self.leave(index),
                Stub::Miss(miss) => self.miss(miss),
                Stub::Slow { index, end } => {
                    self.slow(index);
                    self.resume_at(self.sites.len() - 1, end);
                }
                Stub::NoElement(done) => x64!(self.asm; xor eax, eax; jmp =>done),
                Stub::Lookup { index, map, end } => {
                    self.helper(index, MAP_LOOKUP_ELEM, Some(map));
                    self.jump_to(end);
                }
            }
        }
    }

    /// Goes to code that is there already.
    fn jump_to(&mut self, offset: u32) {
        const JUMP: i64 = 5;
        let distance = i64::from(offset) - i64::from(self.offset()) - JUMP;
        self.asm.push(0xe9);
        self.asm.push_i32(distance as i32);
    }

    /// Where the site with this number goes on.
    pub(super) fn resume_at(&mut self, site: usize, offset: u32) {
        self.sites[site].resume = offset;
    }
}

/// Whether an instruction may touch the stack, or have others do so.
fn may_touch_stack(insn: &Insn, plan: Plan) -> bool {
    match insn {
        Insn::Call(_) => true,
        Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. } => !matches!(plan, Plan::Proved(region, _) if region != Region::Stack),
        Insn::Alu { .. }
        | Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::LoadImm64 { .. }
        | Insn::LoadPacket { .. }
        | Insn::Jump { .. }
        | Insn::JumpIf { .. }
        | Insn::MayGoto { .. }
        | Insn::Exit => false,
    }
}

/// `cmp register, imm` in its short form where there is one, which `dynasm!` does not choose.
fn compare_imm(asm: &mut Assembler, width: Width, dst: Host, imm: i32) {
    match (i8::try_from(imm), width) {
        (Ok(imm), _) => {
            let wide = if width == Width::W64 { 0x48 } else { 0x40 };
            asm.extend([wide | dst >> 3, 0x83, 0xf8 | dst & 7, imm as u8]);
        }
        (Err(_), Width::W64) => x64!(asm; cmp Rq(dst), DWORD imm),
        (Err(_), Width::W32) => x64!(asm; cmp Rd(dst), DWORD imm),
    }
}

/// Fills the words of both bitmaps for the current frame from `xmm0`.
fn set_frame_bits(asm: &mut Assembler) {
    // A bit a byte: 512 bytes of stack are 64 bytes of bitmap, which end where `rbp / 8` does.
    for bitmap in [cells::READABLE, cells::WRITABLE] {
        x64!(asm
            ; mov r11d, ebp
            ; shr r11d, BYTE 3
            ; add r11, [DWORD r12 + bitmap]
            ; movups [BYTE r11 - 64], xmm0
            ; movups [BYTE r11 - 48], xmm0
            ; movups [BYTE r11 - 32], xmm0
            ; movups [BYTE r11 - 16], xmm0
        );
    }
}
