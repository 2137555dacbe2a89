//! The instructions that most code consists of, in their shortest form.
//!
//! `dynasm!` does not know which register a variable names, and writes a prefix or a displacement where some register would
//! need one. Here they are left out where they are not needed. Numbers are those of the manuals' opcode maps.

use softbpf::insn::Width;

use super::asm::Assembler;
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

/// Operations on two registers: `op rm, reg`.
pub(super) mod opcode {
    pub(in super::super) const TEST: u8 = 0x85;
    pub(in super::super) const MOV: u8 = 0x89;
}

/// An instruction under way.
struct Bytes {
    bytes: [u8; 16],
    len: usize,
}

impl Bytes {
    /// The prefix, if the width or one of the registers needs it: those in the places `reg`, `index` and `base`.
    fn new(width: Width, reg: Host, index: Host, base: Host) -> Bytes {
        let wide = u8::from(width == Width::W64);
        let rex = 0x40 | wide << 3 | reg >> 3 << 2 | index >> 3 << 1 | base >> 3;
        let mut bytes = Bytes { bytes: [0; 16], len: 0 };
        if rex != 0x40 {
            bytes = bytes.byte(rex);
        }
        bytes
    }

    fn byte(mut self, byte: u8) -> Bytes {
        self.bytes[self.len] = byte;
        self.len += 1;
        self
    }

    fn word(mut self, word: i32) -> Bytes {
        self.bytes[self.len..self.len + 4].copy_from_slice(&word.to_le_bytes());
        self.len += 4;
        self
    }

    /// The byte that names two registers.
    fn registers(self, reg: u8, rm: Host) -> Bytes {
        self.byte(0xc0 | (reg & 7) << 3 | rm & 7)
    }

    fn write(self, asm: &mut Assembler) {
        asm.extend(&self.bytes[..self.len]);
    }
}

/// `op rm, reg`.
pub(super) fn two(asm: &mut Assembler, width: Width, opcode: u8, rm: Host, reg: Host) {
    Bytes::new(width, reg, 0, rm).byte(opcode).registers(reg, rm).write(asm);
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
    let bytes = Bytes::new(width, 0, 0, dst);
    match i8::try_from(imm) {
        Ok(imm) => bytes.byte(0x83).registers(group, dst).byte(imm as u8),
        Err(_) => bytes.byte(0x81).registers(group, dst).word(imm),
    }
    .write(asm);
}

/// `test dst, imm`.
pub(super) fn test_immediate(asm: &mut Assembler, width: Width, dst: Host, imm: i32) {
    Bytes::new(width, 0, 0, dst).byte(0xf7).registers(0, dst).word(imm).write(asm);
}

/// A shift or rotation by a constant.
pub(super) fn shift(asm: &mut Assembler, width: Width, group: u8, dst: Host, amount: u8) {
    Bytes::new(width, 0, 0, dst).byte(0xc1).registers(group, dst).byte(amount).write(asm);
}

/// `not dst`.
pub(super) fn not(asm: &mut Assembler, width: Width, dst: Host) {
    Bytes::new(width, 0, 0, dst).byte(0xf7).registers(2, dst).write(asm);
}

/// `mov dst, imm` with an immediate that fills 32 bits and clears the upper half.
pub(super) fn load_low(asm: &mut Assembler, dst: Host, imm: u32) {
    Bytes::new(Width::W32, 0, 0, dst).byte(0xb8 | dst & 7).word(imm as i32).write(asm);
}

/// `imul dst, src, imm`.
pub(super) fn multiply(asm: &mut Assembler, width: Width, dst: Host, src: Host, imm: i32) {
    let bytes = Bytes::new(width, dst, 0, src);
    match i8::try_from(imm) {
        Ok(imm) => bytes.byte(0x6b).registers(dst, src).byte(imm as u8),
        Err(_) => bytes.byte(0x69).registers(dst, src).word(imm),
    }
    .write(asm);
}

/// `movsxd dst, src`: the lower half, sign-extended.
pub(super) fn sign_extend(asm: &mut Assembler, dst: Host, src: Host) {
    Bytes::new(Width::W64, dst, 0, src).byte(0x63).registers(dst, src).write(asm);
}

/// A register times a power of two, for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scaled {
    pub(super) reg: Host,
    /// Up to 3.
    pub(super) shift: u8,
}

/// `lea dst, [base + index + displacement]`.
pub(super) fn lea(
    asm: &mut Assembler,
    width: Width,
    dst: Host,
    base: Option<Host>,
    index: Option<Scaled>,
    displacement: i32,
) {
    /// Where no index register stands.
    const NO_INDEX: u8 = 4;
    /// Low bits of base registers: of those that mean no base where there is no displacement, and of those that need the byte
    /// for an index.
    const NO_BASE: u8 = 5;
    const STACK: u8 = 4;
    let bytes = Bytes::new(width, dst, index.map_or(0, |index| index.reg), base.unwrap_or(0)).byte(0x8d);
    let low = base.map_or(NO_BASE, |base| base & 7);
    let (mode, size) = match (base, displacement) {
        (None, _) => (0, 4),
        (Some(_), 0) if low != NO_BASE => (0, 0),
        (Some(_), displacement) if i8::try_from(displacement).is_ok() => (0x40, 1),
        (Some(_), _) => (0x80, 4),
    };
    let reg = (dst & 7) << 3;
    let bytes = match index {
        None if base.is_some() && low != STACK => bytes.byte(mode | reg | low),
        None => bytes.byte(mode | reg | 4).byte(NO_INDEX << 3 | low),
        Some(Scaled { reg: index, shift }) => bytes.byte(mode | reg | 4).byte(shift << 6 | (index & 7) << 3 | low),
    };
    match size {
        0 => bytes,
        1 => bytes.byte(displacement as u8),
        _ => bytes.word(displacement),
    }
    .write(asm);
}
