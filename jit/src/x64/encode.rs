//! The instructions that most code consists of, in their shortest form.
//!
//! `dynasm!` does not know which register a variable names, and writes a prefix or a displacement where some register would
//! need one. Here they are left out where they are not needed. Numbers are those of the manuals' opcode maps.

use softbpf::insn::Width;

use super::asm::{Assembler, Bytes};
use super::registers::Host;

/// Groups of operations on a register and an immediate, or a constant amount: what stands in the register's place.
pub(super) mod group {
    pub(in super::super) const ADD: u8 = 0;
    pub(in super::super) const OR: u8 = 1;
    pub(in super::super) const AND: u8 = 4;
    pub(in super::super) const SUB: u8 = 5;
    pub(in super::super) const XOR: u8 = 6;
    pub(in super::super) const CMP: u8 = 7;
    pub(in super::super) const ROL: u8 = 0;
    pub(in super::super) const SHL: u8 = 4;
    pub(in super::super) const SHR: u8 = 5;
    pub(in super::super) const SAR: u8 = 7;
}

/// Operations on two registers, or on one and memory: those of two bytes have the first one lowest.
pub(super) mod opcode {
    // `op rm, reg`.
    pub(in super::super) const TEST: u8 = 0x85;
    pub(in super::super) const MOV: u8 = 0x89;
    pub(in super::super) const STORE_BYTE: u16 = 0x88;
    pub(in super::super) const ADD: u16 = 0x01;
    pub(in super::super) const OR: u16 = 0x09;
    pub(in super::super) const AND: u16 = 0x21;
    pub(in super::super) const XOR: u16 = 0x31;
    pub(in super::super) const XADD: u16 = 0xc10f;
    pub(in super::super) const CMPXCHG: u16 = 0xb10f;
    /// In memory it is always locked.
    pub(in super::super) const XCHG: u16 = 0x87;
    // `op reg, rm`.
    pub(in super::super) const MOVSXD: u8 = 0x63;
    pub(in super::super) const LOAD: u16 = 0x8b;
    pub(in super::super) const LOAD_BYTE: u16 = 0xb60f;
    pub(in super::super) const LOAD_HALF: u16 = 0xb70f;
    pub(in super::super) const LOAD_SIGNED_BYTE: u16 = 0xbe0f;
    pub(in super::super) const LOAD_SIGNED_HALF: u16 = 0xbf0f;
    pub(in super::super) const SUB_FROM: u16 = 0x2b;
    pub(in super::super) const CMP_WITH: u16 = 0x3b;
    // `op rm, imm`.
    pub(in super::super) const STORE_BYTE_IMMEDIATE: u16 = 0xc6;
    pub(in super::super) const STORE_IMMEDIATE: u16 = 0xc7;
}

/// An instruction behind its prefix, with the prefix, if the width or one of the registers needs it: those in the places `reg`,
/// `index` and `base`.
#[inline(always)]
fn prefixed(width: Width, reg: Host, index: Host, base: Host, behind: Bytes) -> Bytes {
    const NONE: u8 = 0x40;
    let wide = u8::from(width == Width::W64);
    let rex = NONE | wide << 3 | reg >> 3 << 2 | index >> 3 << 1 | base >> 3;
    let without = usize::from(rex == NONE);
    let word = (behind.word << 8 | u64::from(rex)) >> (8 * without);
    Bytes { word, len: behind.len + 1 - without }
}

/// The byte that names two registers.
fn registers(reg: u8, rm: Host) -> u64 {
    u64::from(0xc0 | (reg & 7) << 3 | rm & 7)
}

/// An operation on one register with nothing behind it.
#[inline(always)]
fn one(asm: &mut Assembler, width: Width, opcode: u8, group: u8, rm: Host) {
    let behind = Bytes { word: u64::from(opcode) | registers(group, rm) << 8, len: 2 };
    asm.put(prefixed(width, 0, 0, rm, behind));
}

/// An operation on one register with an immediate behind it: of one byte with the first opcode, where that is enough, or of four with the
/// second.
#[inline(always)]
fn with_immediate(
    asm: &mut Assembler,
    width: Width,
    [short, long]: [u8; 2],
    (reg, rm): (u8, Host),
    imm: i32,
    high: Host,
) {
    let (opcode, len) = if i8::try_from(imm).is_ok() { (short, 3) } else { (long, 6) };
    // What is behind a short one is not kept.
    let word = u64::from(opcode) | registers(reg, rm) << 8 | u64::from(imm as u32) << 16;
    asm.put(prefixed(width, high, 0, rm, Bytes { word, len }));
}

/// `op rm, reg`.
#[inline(always)]
pub(super) fn two(asm: &mut Assembler, width: Width, opcode: u8, rm: Host, reg: Host) {
    let behind = Bytes { word: u64::from(opcode) | registers(reg, rm) << 8, len: 2 };
    asm.put(prefixed(width, reg, 0, rm, behind));
}

/// `mov dst, src`; with 32 bits the upper half is cleared, also where both are the same.
pub(super) fn mov(asm: &mut Assembler, width: Width, dst: Host, src: Host) {
    two(asm, width, opcode::MOV, dst, src);
}

/// `op dst, src` of an arithmetic group.
pub(super) fn arithmetic(asm: &mut Assembler, width: Width, group: u8, dst: Host, src: Host) {
    two(asm, width, group << 3 | 1, dst, src);
}

/// `op dst, imm` of an arithmetic group.
pub(super) fn immediate(asm: &mut Assembler, width: Width, group: u8, dst: Host, imm: i32) {
    with_immediate(asm, width, [0x83, 0x81], (group, dst), imm, 0);
}

/// `test dst, imm`.
pub(super) fn test_immediate(asm: &mut Assembler, width: Width, dst: Host, imm: i32) {
    let word = 0xf7 | registers(0, dst) << 8 | u64::from(imm as u32) << 16;
    asm.put(prefixed(width, 0, 0, dst, Bytes { word, len: 6 }));
}

/// A shift or rotation by a constant.
pub(super) fn shift(asm: &mut Assembler, width: Width, group: u8, dst: Host, amount: u8) {
    let word = 0xc1 | registers(group, dst) << 8 | u64::from(amount) << 16;
    asm.put(prefixed(width, 0, 0, dst, Bytes { word, len: 3 }));
}

/// `not dst`.
pub(super) fn not(asm: &mut Assembler, width: Width, dst: Host) {
    one(asm, width, 0xf7, 2, dst);
}

/// `neg dst`.
pub(super) fn neg(asm: &mut Assembler, width: Width, dst: Host) {
    one(asm, width, 0xf7, 3, dst);
}

/// `mov dst, imm` with an immediate that fills 32 bits and clears the upper half.
pub(super) fn load_low(asm: &mut Assembler, dst: Host, imm: u32) {
    let word = u64::from(0xb8 | dst & 7) | u64::from(imm) << 8;
    asm.put(prefixed(Width::W32, 0, 0, dst, Bytes { word, len: 5 }));
}

/// `mov dst, imm` with an immediate that is sign-extended.
pub(super) fn load_signed(asm: &mut Assembler, dst: Host, imm: i32) {
    let word = 0xc7 | registers(0, dst) << 8 | u64::from(imm as u32) << 16;
    asm.put(prefixed(Width::W64, 0, 0, dst, Bytes { word, len: 6 }));
}

/// `imul dst, src`.
pub(super) fn multiply(asm: &mut Assembler, width: Width, dst: Host, src: Host) {
    let behind = Bytes { word: 0xaf0f | registers(dst, src) << 16, len: 3 };
    asm.put(prefixed(width, dst, 0, src, behind));
}

/// `imul dst, src, imm`.
pub(super) fn multiply_immediate(asm: &mut Assembler, width: Width, dst: Host, src: Host, imm: i32) {
    with_immediate(asm, width, [0x6b, 0x69], (dst, src), imm, dst);
}

/// `movsxd dst, src`: the lower half, sign-extended.
pub(super) fn sign_extend(asm: &mut Assembler, dst: Host, src: Host) {
    two(asm, Width::W64, opcode::MOVSXD, src, dst);
}

/// What stands for no index register.
const NO_INDEX: Host = 4;
/// Low bits of base registers: of those that mean no base where there is no displacement, and of those that need the byte for an
/// index.
const NO_BASE: Host = 5;
const STACK: Host = 4;

/// An operand in memory: `[base + (index << shift) + displacement]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    base: Host,
    has_base: bool,
    index: Host,
    /// Up to 3.
    shift: u8,
    displacement: i32,
}

impl Address {
    /// `[base + displacement]`.
    pub(super) fn at(base: Host, displacement: i32) -> Address {
        Address { base, has_base: true, index: NO_INDEX, shift: 0, displacement }
    }

    /// `[base + (index << shift) + displacement]`; `rsp` is no index.
    pub(super) fn indexed(base: Host, index: Host, shift: u8, displacement: i32) -> Address {
        Address { base, has_base: true, index, shift, displacement }
    }

    /// `[index << shift]`.
    pub(super) fn scaled(index: Host, shift: u8) -> Address {
        Address { base: NO_BASE, has_base: false, index, shift, displacement: 0 }
    }

    /// The index register, if there is one.
    pub(super) fn index(self) -> Option<Host> {
        Some(self.index).filter(|&index| index != NO_INDEX)
    }

    pub(super) fn displacement(self) -> i32 {
        self.displacement
    }

    /// So many bytes farther.
    pub(super) fn plus(self, distance: i32) -> Address {
        Address { displacement: self.displacement + distance, ..self }
    }

    /// The bytes that name it together with a register, and how many those of the displacement are that they ask for.
    #[inline(always)]
    fn bytes(self, reg: u8) -> (Bytes, usize) {
        let Address { base, has_base, index, shift, displacement } = self;
        let low = base & 7;
        let (mode, size) = if !has_base {
            (0, 4)
        } else if displacement == 0 && low != NO_BASE {
            (0, 0)
        } else if i8::try_from(displacement).is_ok() {
            (0x40, 1)
        } else {
            (0x80, 4)
        };
        let both = index != NO_INDEX || low == STACK;
        let first = mode | (reg & 7) << 3 | if both { STACK } else { low };
        let second = shift << 6 | (index & 7) << 3 | low;
        (Bytes { word: u64::from(first) | u64::from(second) << 8, len: 1 + usize::from(both) }, size)
    }
}

/// An operation on a register and an operand in memory: its width, its opcode of one or two bytes, the first one lowest, and whether
/// it is one of 16 bits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operation {
    pub(super) width: Width,
    pub(super) opcode: u16,
    pub(super) half: bool,
}

impl Operation {
    pub(super) const fn new(width: Width, opcode: u16) -> Operation {
        Operation { width, opcode, half: false }
    }
}

/// `op reg, [address]`, or the other way round, with `behind` behind it.
#[inline(always)]
pub(super) fn memory(asm: &mut Assembler, operation: Operation, reg: u8, address: Address, behind: Bytes) {
    let Operation { width, opcode, half } = operation;
    let opcode_len = 1 + usize::from(opcode > 0xff);
    let (operand, displacement_len) = address.bytes(reg);
    let instruction =
        Bytes { word: u64::from(opcode) | operand.word << (8 * opcode_len), len: opcode_len + operand.len };
    if half {
        asm.put(Bytes { word: 0x66, len: 1 });
    }
    asm.put(prefixed(width, reg, address.index, address.base, instruction));
    asm.put(Bytes { word: u64::from(address.displacement as u32), len: displacement_len });
    if behind.len > 0 {
        asm.put(behind);
    }
}

/// Nothing behind an instruction.
pub(super) const NOTHING: Bytes = Bytes { word: 0, len: 0 };

/// `lea dst, [address]`.
#[inline(always)]
pub(super) fn lea(asm: &mut Assembler, width: Width, dst: Host, address: Address) {
    memory(asm, Operation::new(width, 0x8d), dst, address, NOTHING);
}
