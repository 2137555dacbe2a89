//! Accesses of guest memory: the checks in front of them, and the accesses.
//!
//! What is proved is not checked. Where it is known which object a pointer comes from, it is compared with that object's
//! limits; elsewhere with a window, a range of addresses that Rust has found open. What misses is checked by the
//! bitmaps; what they refuse is Rust's.

use dynasmrt::DynasmApi;
use softbpf::insn::{AtomicOp, Operand, Reg, Size, Width};
use softbpf::memory::{Permission, STACK_FRAME};

use super::asm::{Bytes, Cc, Forward, x64};
use super::cells::{self, CONTEXT, PACKET, WindowNumber, limit_displacement, window_displacement};
use super::compile::{Compiler, Stub};
use super::encode::{self, Address, Operation, group, opcode};
use super::glue::{Need, check_index};
use super::registers::{ARENA, Host, RAX, SCRATCH, host};
use crate::fault::Fault;
use crate::proof::{Place, Plan, Region};

/// Where in the arena an access goes: so far from what a register holds, or from the start.
#[derive(Debug, Clone, Copy)]
struct Target {
    index: Option<Host>,
    displacement: i32,
}

impl Target {
    fn behind(index: Host, displacement: i32) -> Target {
        Target { index: Some(index), displacement }
    }
}

/// What the machine can do to memory, but not say what was there before.
#[derive(Debug, Clone, Copy)]
enum Bits {
    Or,
    And,
    Xor,
}

impl Compiler<'_> {
    #[inline(always)]
    pub(super) fn load(&mut self, index: u32, size: Size, signed: bool, dst: Reg, (base, off): (Reg, i16)) {
        self.checked(index, Need::Read, size, base, off, |compiler, target| {
            let operation = if signed { load_signed(size) } else { load_plain(size) };
            compiler.access(operation, host(dst), target);
        });
    }

    #[inline(always)]
    pub(super) fn store(&mut self, index: u32, size: Size, (base, off): (Reg, i16), src: Operand) {
        self.checked(index, Need::Write, size, base, off, |compiler, target| match src {
            Operand::Reg(src) => compiler.access(store_register(size), host(src), target),
            Operand::Imm(imm) => compiler.store_imm(size, imm, target),
        });
    }

    // The machine's loads acquire, and its stores release.

    #[inline(never)]
    pub(super) fn load_acquire(&mut self, index: u32, size: Size, dst: Reg, at: (Reg, i16)) {
        self.load(index, size, false, dst, at);
    }

    #[inline(never)]
    pub(super) fn store_release(&mut self, index: u32, size: Size, at: (Reg, i16), src: Reg) {
        self.store(index, size, at, src.into());
    }

    /// The access behind its check, if it needs one.
    #[inline(always)]
    fn checked(
        &mut self,
        index: u32,
        need: Need,
        size: Size,
        base: Reg,
        off: i16,
        access: impl FnOnce(&mut Self, Target),
    ) {
        let mut missed = None;
        let target = if let Some(place) = self.proof(index, size, base, off) {
            self.writes_stack |= need != Need::Read && place.is_on_stack();
            self.proved(place, base, off)
        } else {
            self.writes_stack |= need != Need::Read;
            missed = Some(self.check(index, need, size, base, off));
            Target::behind(host(base), off.into())
        };
        let here = self.offset();
        access(self, target);
        if let Some((missed, window)) = missed {
            let end = self.offset();
            self.stub_of(missed, Stub::Miss { index, window, access: here, end });
        }
    }

    /// Where an access is for sure.
    #[inline(always)]
    fn proof(&mut self, index: u32, size: Size, base: Reg, off: i16) -> Option<Place> {
        if let Plan::Proved(place) = self.plans.get(index as usize) {
            return Some(place);
        }
        // At a constant offset from `r10` it is in the frame for all to see, whatever has been proved.
        let place = Place::in_frame(off.into());
        let sure = base == Reg::R10 && in_frame(off, size);
        sure.then(|| {
            self.plans.set(index as usize, Plan::Proved(place));
            place
        })
    }

    /// The address of an access that needs no check. Unless it is a constant, it is computed in 32 bits, so that it is in
    /// the arena whatever the proof is worth.
    #[inline(always)]
    fn proved(&mut self, place: Place, base: Reg, off: i16) -> Target {
        if place.is_on_stack() {
            if let Some(offset) = place.offsets().single() {
                return Target::behind(host(Reg::R10), offset);
            }
        } else if let Some(displacement) = self.constant(place) {
            return Target { index: None, displacement };
        }
        encode::load_address(&mut self.asm, Width::W32, host(base), off.into());
        Target::behind(SCRATCH, 0)
    }

    /// Guest address of a place in an array's only value, if it is known and can be a displacement.
    #[inline(always)]
    fn constant(&self, place: Place) -> Option<i32> {
        let Region::Data(map) = place.region() else { return None };
        Some(self.data(map)? + place.offsets().single()?)
    }

    /// Guest address of an array's only value, if it can be a displacement.
    #[inline(never)]
    fn data(&self, map: u32) -> Option<i32> {
        let start = self.machine.map_info(map as usize)?.direct_value(0).ok()?;
        let end = u64::from(start) + u64::from(self.machine.map_info(map as usize)?.value_size());
        // An offset less the start must be a displacement, too.
        i32::try_from(end + (1 << 16)).ok()?;
        i32::try_from(start).ok()
    }

    /// Jumps unless the access is in the object that it likely is in, or in its window; the jump, and the window's number.
    #[inline(never)]
    fn check(&mut self, index: u32, need: Need, size: Size, base: Reg, off: i16) -> (Forward, Option<WindowNumber>) {
        let plan = self.plans.get(index as usize);
        let likely = if let Plan::Likely(place) = plan { Some(place.region()) } else { None };
        let missed = match likely {
            Some(Region::Stack) => {
                let frame = STACK_FRAME as i32;
                let more = i32::from(self.options.planted.is(Fault::LikelyStackOneMore));
                encode::load_address(&mut self.asm, Width::W64, host(base), i32::from(off) + frame);
                encode::arithmetic(&mut self.asm, Width::W64, group::SUB, SCRATCH, host(Reg::R10));
                let last = frame - size.bytes() as i32 + more;
                encode::immediate(&mut self.asm, Width::W64, group::CMP, SCRATCH, last);
                Some(Cc::Above)
            }
            Some(Region::Data(map)) => self.limit(map, need, size).map(|(start, limit)| {
                encode::load_address(&mut self.asm, Width::W64, host(base), i32::from(off) - start);
                encode::immediate(&mut self.asm, Width::W64, group::CMP, SCRATCH, limit);
                Cc::Above
            }),
            Some(Region::Context) => self.check_object(CONTEXT, need, size, base, off),
            Some(Region::Packet) => self.check_object(PACKET, need, size, base, off),
            Some(Region::Element(_)) | None => None,
        };
        match missed {
            Some(cc) => (self.asm.jump_forward(Some(cc)), None),
            None => self.check_window(base),
        }
    }

    /// Start of an array's only value, and the largest offset in it that an access of this kind can have.
    fn limit(&self, map: u32, need: Need, size: Size) -> Option<(i32, i32)> {
        let info = self.machine.map_info(map as usize)?;
        let allowed = match info.permission() {
            Permission::ReadWrite => true,
            Permission::Read => need == Need::Read,
            Permission::Write => need == Need::Write,
        };
        let limit = i32::try_from(info.value_size().checked_sub(size.bytes())?).ok()?;
        Some((self.data(map)?, limit)).filter(|_| allowed)
    }

    /// Compares with the context or the packet, if there is one where the code is made; how to jump when it is not there.
    fn check_object(&mut self, object: usize, need: Need, size: Size, base: Reg, off: i16) -> Option<Cc> {
        // Context and packet lie low: an offset less the start is a displacement.
        let here = self.tables.objects[object].filter(|&start| need != Need::Both && start < 1 << 30);
        let start = i32::try_from(here?).ok()?;
        let limit = limit_displacement(object, need == Need::Write, size);
        self.likely_objects = true;
        encode::load_address(&mut self.asm, Width::W64, host(base), i32::from(off) - start);
        encode::cell(&mut self.asm, Operation::new(Width::W64, opcode::CMP_WITH), SCRATCH, limit.into());
        Some(Cc::AboveOrEqual)
    }

    fn check_window(&mut self, base: Reg) -> (Forward, Option<WindowNumber>) {
        let window = self.tables.cells.new_window();
        // Where there is no room for windows, the bitmaps decide every time.
        let cc = window.map(|window| {
            let displacement = window_displacement(window);
            let asm = &mut self.asm;
            encode::mov(asm, Width::W64, SCRATCH, host(base));
            encode::cell(asm, Operation::new(Width::W64, opcode::SUB_FROM), SCRATCH, displacement);
            encode::cell(asm, Operation::new(Width::W64, opcode::CMP_WITH), SCRATCH, displacement + 8);
            Cc::AboveOrEqual
        });
        (self.asm.jump_forward(cc), window)
    }

    /// Behind the program: the bitmaps decide about the access.
    pub(super) fn miss(&mut self, index: u32, window: Option<WindowNumber>, access: u32, end: u32) {
        // Only accesses miss.
        let Some(operand) = self.insns[index as usize].memory() else { return };
        let size = match operand.size {
            Size::DW if self.options.planted.is(Fault::BitmapHalf) => Size::W,
            size @ (Size::B | Size::H | Size::W | Size::DW) => size,
        };
        let need = match (operand.reads, operand.writes) {
            (true, true) => Need::Both,
            (_, false) => Need::Read,
            (false, true) => Need::Write,
        };
        encode::load_address(&mut self.asm, Width::W64, host(operand.base), operand.off.into());
        self.asm.call_cell(cells::CHECK + 8 * check_index(need, size));
        let site = self.site(index, window);
        self.resume_at(site, end);
        self.asm.jump_back(None, access);
    }

    /// An operation on a register and what is there.
    #[inline(always)]
    fn access(&mut self, operation: Operation, reg: u8, Target { index, displacement }: Target) {
        match index {
            Some(index) => encode::arena(&mut self.asm, operation, reg, index, displacement),
            None => encode::memory(&mut self.asm, operation, reg, Address::at(ARENA, displacement)),
        }
    }

    #[inline(never)]
    fn store_imm(&mut self, size: Size, imm: i32, target: Target) {
        let (operation, len) = match size {
            Size::B => (Operation::new(Width::W32, opcode::STORE_BYTE_IMMEDIATE), 1),
            Size::H => (Operation { half: true, ..Operation::new(Width::W32, opcode::STORE_IMMEDIATE) }, 2),
            Size::W => (Operation::new(Width::W32, opcode::STORE_IMMEDIATE), 4),
            Size::DW if self.options.planted.is(Fault::StoreImmZeroExtended) => {
                self.store_imm(Size::W, imm, target);
                return self.store_imm(Size::W, 0, Target { displacement: target.displacement + 4, ..target });
            }
            Size::DW => (Operation::new(Width::W64, opcode::STORE_IMMEDIATE), 4),
        };
        self.access(operation, 0, target);
        self.asm.put(Bytes { word: u64::from(imm as u32), len });
    }

    /// A locked operation. Those that are not aligned are Rust's: the machine would do them, and stop all others for it.
    #[inline(never)]
    pub(super) fn atomic(&mut self, index: u32, op: AtomicOp, width: Width, (base, off): (Reg, i16), src: Reg) {
        let size = width.size();
        self.checked(index, Need::Both, size, base, off, |compiler, target| {
            match target.index {
                Some(SCRATCH) => {}
                Some(index) => encode::load_address(&mut compiler.asm, Width::W32, index, target.displacement),
                None => encode::load_low(&mut compiler.asm, SCRATCH, target.displacement as u32),
            }
            x64!(compiler.asm; test r11b, BYTE size.bytes() as i8 - 1);
            let misaligned = compiler.asm.jump_forward(Some(Cc::NotEqual));
            compiler.locked(op, width, src);
            let end = compiler.offset();
            compiler.stub_of(misaligned, Stub::Slow { index, end });
        });
    }

    /// The operation at the address in `r11`.
    fn locked(&mut self, op: AtomicOp, width: Width, src: Reg) {
        let operand = host(src);
        match op {
            AtomicOp::Add => self.lock(opcode::ADD, width, operand),
            AtomicOp::Or => self.lock(opcode::OR, width, operand),
            AtomicOp::And => self.lock(opcode::AND, width, operand),
            AtomicOp::Xor => self.lock(opcode::XOR, width, operand),
            AtomicOp::FetchAdd => {
                self.lock(opcode::XADD, width, operand);
                if width == Width::W32 && self.options.planted.is(Fault::Fetch32SignExtends) {
                    encode::sign_extend(&mut self.asm, operand, operand);
                }
            }
            AtomicOp::FetchOr => self.fetch(Bits::Or, width, operand),
            AtomicOp::FetchAnd => self.fetch(Bits::And, width, operand),
            AtomicOp::FetchXor => self.fetch(Bits::Xor, width, operand),
            AtomicOp::Xchg => self.at_scratch(opcode::XCHG, width, operand),
            AtomicOp::Cmpxchg => {
                self.lock(opcode::CMPXCHG, width, operand);
                if width == Width::W32 && !self.options.planted.is(Fault::Cmpxchg32KeepsHigh) {
                    // On success the machine leaves all of rax alone.
                    x64!(self.asm; mov eax, eax);
                }
            }
        }
    }

    /// One locked instruction at the address in `r11`.
    fn lock(&mut self, opcode: u16, width: Width, operand: Host) {
        const LOCK: u64 = 0xf0;
        self.asm.put(Bytes { word: LOCK, len: 1 });
        self.at_scratch(opcode, width, operand);
    }

    /// One instruction at the address in `r11`.
    fn at_scratch(&mut self, opcode: u16, width: Width, operand: Host) {
        encode::arena(&mut self.asm, Operation::new(width, opcode), operand, SCRATCH, 0);
    }

    /// A fetching operation that the machine does not have: tried until nobody came in between.
    fn fetch(&mut self, op: Bits, width: Width, operand: Host) {
        let planted = self.options.planted;
        let asm = &mut self.asm;
        x64!(asm
            ; mov [DWORD r12 + cells::SCRATCH], Rq(operand)
            ; mov [DWORD r12 + cells::FUEL], r9
        );
        if operand != RAX {
            x64!(asm; mov [DWORD r12 + cells::SCRATCH + 8], rax);
        }
        match width {
            Width::W64 => x64!(asm; mov rax, [r10 + r11]),
            Width::W32 => x64!(asm; mov eax, [r10 + r11]),
        }
        let again = asm.offset();
        x64!(asm; mov r9, rax);
        match op {
            Bits::Or => x64!(asm; or r9, [DWORD r12 + cells::SCRATCH]),
            Bits::And => x64!(asm; and r9, [DWORD r12 + cells::SCRATCH]),
            Bits::Xor => x64!(asm; xor r9, [DWORD r12 + cells::SCRATCH]),
        }
        match width {
            Width::W64 => x64!(asm; lock cmpxchg [r10 + r11], r9),
            Width::W32 => x64!(asm; lock cmpxchg [r10 + r11], r9d),
        }
        asm.jump_back(Some(Cc::NotEqual), again);
        encode::mov(asm, width, operand, RAX);
        if operand != RAX && !planted.is(Fault::FetchLosesR0) {
            x64!(asm; mov rax, [DWORD r12 + cells::SCRATCH + 8]);
        }
        x64!(asm; mov r9, [DWORD r12 + cells::FUEL]);
    }
}

fn load_plain(size: Size) -> Operation {
    match size {
        Size::B => Operation::new(Width::W32, opcode::LOAD_BYTE),
        Size::H => Operation::new(Width::W32, opcode::LOAD_HALF),
        Size::W => Operation::new(Width::W32, opcode::LOAD),
        Size::DW => Operation::new(Width::W64, opcode::LOAD),
    }
}

fn load_signed(size: Size) -> Operation {
    let opcode = match size {
        Size::B => opcode::LOAD_SIGNED_BYTE,
        Size::H => opcode::LOAD_SIGNED_HALF,
        Size::W => opcode::MOVSXD.into(),
        Size::DW => opcode::LOAD,
    };
    Operation::new(Width::W64, opcode)
}

fn store_register(size: Size) -> Operation {
    match size {
        Size::B => Operation::new(Width::W32, opcode::STORE_BYTE),
        Size::H => Operation { half: true, ..Operation::new(Width::W32, opcode::MOV.into()) },
        Size::W => Operation::new(Width::W32, opcode::MOV.into()),
        Size::DW => Operation::new(Width::W64, opcode::MOV.into()),
    }
}

/// Whether an access at this offset from `r10` is in the frame.
fn in_frame(off: i16, size: Size) -> bool {
    let frame = STACK_FRAME as i32;
    (-frame..=-(size.bytes() as i32)).contains(&i32::from(off))
}
