//! Accesses of guest memory: the checks in front of them, and the accesses.
//!
//! What is proved is not checked. Where it is known which object a pointer comes from, it is compared with that object's
//! limits; elsewhere with a window, a range of addresses that Rust has found open. What misses is checked by the
//! bitmaps; what they refuse is Rust's.

use dynasmrt::{DynasmApi, DynasmLabelApi};
use softbpf::insn::{AtomicOp, Operand, Reg, Size, Width};
use softbpf::memory::{Permission, STACK_FRAME};

use super::asm::{self, Cc, Forward, x64};
use super::cells::{self, CONTEXT, PACKET, limit_displacement, window_displacement};
use super::compile::{Compiler, Stub};
use super::encode;
use super::glue::{Need, check_index};
use super::registers::{Host, RAX, SCRATCH, host};
use crate::fault::Fault;
use crate::proof::{Offsets, Plan, Region};

/// A check outside the line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Miss {
    index: u32,
    base: Reg,
    off: i16,
    size: Size,
    need: Need,
    window: Option<u32>,
    /// Where the access is, and where it ends.
    access: u32,
    end: u32,
}

/// Where an access goes: `[arena + index + displacement]`.
#[derive(Debug, Clone, Copy)]
struct Address {
    index: Option<Host>,
    displacement: i32,
}

/// What the machine can do to memory, but not say what was there before.
#[derive(Debug, Clone, Copy)]
enum Bits {
    Or,
    And,
    Xor,
}

/// One instruction with a memory operand, in the shortest form there is.
macro_rules! memory_operand {
    ($asm:expr, $address:expr, [$($before:tt)*] [$($after:tt)*]) => {{
        let Address { index, displacement } = $address;
        match (index, i8::try_from(displacement)) {
            (None, _) => x64!($asm; $($before)* [DWORD r10 + displacement] $($after)*),
            (Some(index), Ok(0)) => x64!($asm; $($before)* [r10 + Rq(index)] $($after)*),
            (Some(index), Ok(displacement)) => x64!($asm; $($before)* [BYTE r10 + Rq(index) * 1 + displacement] $($after)*),
            (Some(index), Err(_)) => x64!($asm; $($before)* [DWORD r10 + Rq(index) * 1 + displacement] $($after)*),
        }
    }};
}

impl Compiler<'_> {
    pub(super) fn load(&mut self, index: u32, size: Size, signed: bool, dst: Reg, (base, off): (Reg, i16)) {
        self.checked(index, Need::Read, size, base, off, |compiler, address| {
            if signed { compiler.load_signed(size, dst, address) } else { compiler.load_plain(size, dst, address) }
        });
    }

    pub(super) fn store(&mut self, index: u32, size: Size, (base, off): (Reg, i16), src: Operand) {
        self.checked(index, Need::Write, size, base, off, |compiler, address| match src {
            Operand::Reg(src) => compiler.store_register(size, src, address),
            Operand::Imm(imm) => compiler.store_imm(size, imm, address),
        });
    }

    /// The access behind its check, if it needs one.
    fn checked(
        &mut self,
        index: u32,
        need: Need,
        size: Size,
        base: Reg,
        off: i16,
        access: impl FnOnce(&mut Self, Address),
    ) {
        let plan = self.plan(index, base, off, size);
        self.plans[index as usize] = plan;
        if let Plan::Proved(region, offset) = plan {
            let address = self.proved(region, offset, base, off);
            return access(self, address);
        }
        let (missed, window) = self.check(plan, need, size, base, off);
        let here = self.offset();
        access(self, Address { index: Some(host(base)), displacement: off.into() });
        let end = self.offset();
        let miss = Miss { index, base, off, size, need, window, access: here, end };
        self.stub_of(missed, Stub::Miss(miss));
    }

    /// How the access is made. At a constant offset from `r10` it is in the frame for all to see.
    fn plan(&self, index: u32, base: Reg, off: i16, size: Size) -> Plan {
        if base == Reg::R10 && in_frame(off, size) {
            return Plan::Proved(Region::Stack, Offsets::exactly(off.into()));
        }
        self.plans[index as usize]
    }

    /// The address of an access that needs no check. Unless it is a constant, it is computed in 32 bits, so that it is in
    /// the arena whatever the proof is worth.
    fn proved(&mut self, region: Region, offset: Offsets, base: Reg, off: i16) -> Address {
        match (region, offset.single()) {
            (Region::Stack, Some(offset)) => Address { index: Some(host(Reg::R10)), displacement: offset },
            (Region::Data(map), Some(offset)) if let Some(start) = self.data(map) => {
                Address { index: None, displacement: start + offset }
            }
            (Region::Stack | Region::Context | Region::Packet | Region::Data(_) | Region::Element(_), _) => {
                self.load_address(Width::W32, host(base), off.into());
                Address { index: Some(SCRATCH), displacement: 0 }
            }
        }
    }

    /// `r11 = base + displacement`, in so many bits.
    fn load_address(&mut self, width: Width, base: Host, displacement: i32) {
        match displacement {
            0 => encode::mov(&mut self.asm, width, SCRATCH, base),
            displacement => encode::lea(&mut self.asm, width, SCRATCH, Some(base), None, displacement),
        }
    }

    /// Guest address of an array's only value, if it can be a displacement.
    fn data(&self, map: u32) -> Option<i32> {
        let start = self.machine.map_info(map as usize)?.direct_value(0).ok()?;
        let end = u64::from(start) + u64::from(self.machine.map_info(map as usize)?.value_size());
        // An offset less the start must be a displacement, too.
        i32::try_from(end + (1 << 16)).ok()?;
        i32::try_from(start).ok()
    }

    /// Jumps unless the access is in the object that it likely is in, or in its window; the jump, and the window's number.
    fn check(&mut self, plan: Plan, need: Need, size: Size, base: Reg, off: i16) -> (Forward, Option<u32>) {
        let missed = match plan {
            Plan::Likely(Region::Stack) => {
                let frame = STACK_FRAME as i32;
                let more = i32::from(self.options.planted.is(Fault::LikelyStackOneMore));
                self.load_address(Width::W64, host(base), i32::from(off) + frame);
                x64!(self.asm
                    ; sub r11, rbp
                    ; cmp r11, DWORD frame - size.bytes() as i32 + more
                );
                Some(Cc::Above)
            }
            Plan::Likely(Region::Data(map)) => self.limit(map, need, size).map(|(start, limit)| {
                self.load_address(Width::W64, host(base), i32::from(off) - start);
                x64!(self.asm; cmp r11, DWORD limit);
                Cc::Above
            }),
            Plan::Likely(Region::Context) => self.check_object(CONTEXT, need, size, base, off),
            Plan::Likely(Region::Packet) => self.check_object(PACKET, need, size, base, off),
            Plan::Likely(Region::Element(_))
            | Plan::Unknown
            | Plan::Proved(..)
            | Plan::Lookup { .. }
            | Plan::Answer(_) => None,
        };
        match missed {
            Some(cc) => (asm::jump_forward(&mut self.asm, Some(cc)), None),
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
        self.load_address(Width::W64, host(base), i32::from(off) - start);
        x64!(self.asm; cmp r11, [BYTE r12 + limit]);
        Some(Cc::AboveOrEqual)
    }

    fn check_window(&mut self, base: Reg) -> (Forward, Option<u32>) {
        let window = self.tables.cells.new_window();
        // Where there is no room for windows, the bitmaps decide every time.
        let cc = window.map(|window| {
            let displacement = window_displacement(window);
            x64!(self.asm
                ; mov r11, Rq(host(base))
                ; sub r11, [DWORD r12 + displacement]
                ; cmp r11, [DWORD r12 + displacement + 8]
            );
            Cc::AboveOrEqual
        });
        (asm::jump_forward(&mut self.asm, cc), window)
    }

    /// Behind the program: the bitmaps decide about the access.
    pub(super) fn miss(&mut self, miss: Miss) {
        let size = match miss.size {
            Size::DW if self.options.planted.is(Fault::BitmapHalf) => Size::W,
            size @ (Size::B | Size::H | Size::W | Size::DW) => size,
        };
        let routine = cells::CHECK + 8 * check_index(miss.need, size);
        self.load_address(Width::W64, host(miss.base), miss.off.into());
        x64!(self.asm; call QWORD [DWORD r12 + routine]);
        let site = self.site(miss.index, miss.window);
        self.resume_at(site, miss.end);
        asm::jump_back(&mut self.asm, None, miss.access);
    }

    fn load_plain(&mut self, size: Size, dst: Reg, address: Address) {
        let dst = host(dst);
        match size {
            Size::B => memory_operand!(self.asm, address, [movzx Rd(dst), BYTE] []),
            Size::H => memory_operand!(self.asm, address, [movzx Rd(dst), WORD] []),
            Size::W => memory_operand!(self.asm, address, [mov Rd(dst),] []),
            Size::DW => memory_operand!(self.asm, address, [mov Rq(dst),] []),
        }
    }

    fn load_signed(&mut self, size: Size, dst: Reg, address: Address) {
        let dst = host(dst);
        match size {
            Size::B => memory_operand!(self.asm, address, [movsx Rq(dst), BYTE] []),
            Size::H => memory_operand!(self.asm, address, [movsx Rq(dst), WORD] []),
            Size::W => memory_operand!(self.asm, address, [movsxd Rq(dst), DWORD] []),
            Size::DW => memory_operand!(self.asm, address, [mov Rq(dst),] []),
        }
    }

    fn store_register(&mut self, size: Size, src: Reg, address: Address) {
        let src = host(src);
        match size {
            Size::B => memory_operand!(self.asm, address, [mov] [, Rb(src)]),
            Size::H => memory_operand!(self.asm, address, [mov] [, Rw(src)]),
            Size::W => memory_operand!(self.asm, address, [mov] [, Rd(src)]),
            Size::DW => memory_operand!(self.asm, address, [mov] [, Rq(src)]),
        }
    }

    fn store_imm(&mut self, size: Size, imm: i32, address: Address) {
        match size {
            Size::B => memory_operand!(self.asm, address, [mov BYTE] [, BYTE imm as i8]),
            Size::H => memory_operand!(self.asm, address, [mov WORD] [, WORD imm as i16]),
            Size::W => memory_operand!(self.asm, address, [mov DWORD] [, DWORD imm]),
            Size::DW if self.options.planted.is(Fault::StoreImmZeroExtended) => {
                let upper = Address { displacement: address.displacement + 4, ..address };
                memory_operand!(self.asm, address, [mov DWORD] [, DWORD imm]);
                memory_operand!(self.asm, upper, [mov DWORD] [, DWORD 0]);
            }
            Size::DW => memory_operand!(self.asm, address, [mov QWORD] [, DWORD imm]),
        }
    }

    /// A locked operation. Those that are not aligned are Rust's: the machine would do them, and stop all others for it.
    pub(super) fn atomic(&mut self, index: u32, op: AtomicOp, width: Width, (base, off): (Reg, i16), src: Reg) {
        let size = width.size();
        self.checked(index, Need::Both, size, base, off, |compiler, address| {
            match address.index {
                Some(SCRATCH) => {}
                Some(index) => compiler.load_address(Width::W32, index, address.displacement),
                None => x64!(compiler.asm; mov r11d, DWORD address.displacement),
            }
            x64!(compiler.asm; test r11b, BYTE size.bytes() as i8 - 1);
            let misaligned = asm::jump_forward(&mut compiler.asm, Some(Cc::NotEqual));
            compiler.locked(op, width, src);
            let end = compiler.offset();
            compiler.stub_of(misaligned, Stub::Slow { index, end });
        });
    }

    /// The operation at the address in `r11`.
    fn locked(&mut self, op: AtomicOp, width: Width, src: Reg) {
        let address = Address { index: Some(SCRATCH), displacement: 0 };
        let operand = host(src);
        macro_rules! locked {
            ($op:ident) => {
                match width {
                    Width::W64 => memory_operand!(self.asm, address, [lock $op] [, Rq(operand)]),
                    Width::W32 => memory_operand!(self.asm, address, [lock $op] [, Rd(operand)]),
                }
            };
        }
        match op {
            AtomicOp::Add => locked!(add),
            AtomicOp::Or => locked!(or),
            AtomicOp::And => locked!(and),
            AtomicOp::Xor => locked!(xor),
            AtomicOp::FetchAdd => {
                locked!(xadd);
                if width == Width::W32 && self.options.planted.is(Fault::Fetch32SignExtends) {
                    x64!(self.asm; movsxd Rq(operand), Rd(operand));
                }
            }
            AtomicOp::FetchOr => self.fetch(Bits::Or, width, operand),
            AtomicOp::FetchAnd => self.fetch(Bits::And, width, operand),
            AtomicOp::FetchXor => self.fetch(Bits::Xor, width, operand),
            // Always locked.
            AtomicOp::Xchg => match width {
                Width::W64 => memory_operand!(self.asm, address, [xchg] [, Rq(operand)]),
                Width::W32 => memory_operand!(self.asm, address, [xchg] [, Rd(operand)]),
            },
            AtomicOp::Cmpxchg => {
                locked!(cmpxchg);
                if width == Width::W32 && !self.options.planted.is(Fault::Cmpxchg32KeepsHigh) {
                    // On success the machine leaves all of rax alone.
                    x64!(self.asm; mov eax, eax);
                }
            }
        }
    }

    /// A fetching operation that the machine does not have: tried until nobody came in between.
    fn fetch(&mut self, op: Bits, width: Width, operand: Host) {
        let again = self.asm.new_dynamic_label();
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
        x64!(asm
            ; =>again
            ; mov r9, rax
        );
        match op {
            Bits::Or => x64!(asm; or r9, [DWORD r12 + cells::SCRATCH]),
            Bits::And => x64!(asm; and r9, [DWORD r12 + cells::SCRATCH]),
            Bits::Xor => x64!(asm; xor r9, [DWORD r12 + cells::SCRATCH]),
        }
        match width {
            Width::W64 => x64!(asm; lock cmpxchg [r10 + r11], r9; jne =>again; mov Rq(operand), rax),
            Width::W32 => x64!(asm; lock cmpxchg [r10 + r11], r9d; jne =>again; mov Rd(operand), eax),
        }
        if operand != RAX && !planted.is(Fault::FetchLosesR0) {
            x64!(asm; mov rax, [DWORD r12 + cells::SCRATCH + 8]);
        }
        x64!(asm; mov r9, [DWORD r12 + cells::FUEL]);
    }
}

/// Whether an access at this offset from `r10` is in the frame.
fn in_frame(off: i16, size: Size) -> bool {
    let frame = STACK_FRAME as i32;
    (-frame..=-(size.bytes() as i32)).contains(&i32::from(off))
}
