//! The instructions that most code consists of, in their shortest form.
//!
//! `dynasm!` does not know which register a variable names, and writes a prefix or a displacement where some register would
//! need one. Here they are left out where they are not needed. Numbers are those of the manuals' opcode maps.

use softbpf::insn::Width;

use super::asm::{Assembler, Bytes};
use super::registers::{ARENA, CELLS, Host, SCRATCH};

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
    // Of [`super::opcode::UNARY`].
    pub(in super::super) const TEST: u8 = 0;
    pub(in super::super) const NOT: u8 = 2;
    pub(in super::super) const NEG: u8 = 3;
    // Of [`super::opcode::INDIRECT`].
    pub(in super::super) const CALL: u8 = 2;
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
    pub(in super::super) const LEA: u16 = 0x8d;
    pub(in super::super) const MULTIPLY: u16 = 0xaf0f;
    /// With an immediate of one byte, and of four.
    pub(in super::super) const MULTIPLY_IMMEDIATE: [u8; 2] = [0x6b, 0x69];
    // `op rm`, and which one is what stands in the other register's place.
    pub(in super::super) const UNARY: u8 = 0xf7;
    pub(in super::super) const INDIRECT: u16 = 0xff;
    // `op rm, imm`.
    /// With an immediate of one byte, and of four.
    pub(in super::super) const GROUP_IMMEDIATE: [u8; 2] = [0x83, 0x81];
    pub(in super::super) const SHIFT: u8 = 0xc1;
    /// And the register.
    pub(in super::super) const LOAD_LOW: u8 = 0xb8;
    pub(in super::super) const STORE_BYTE_IMMEDIATE: u16 = 0xc6;
    pub(in super::super) const STORE_IMMEDIATE: u16 = 0xc7;
}

/// The prefix that the width and the registers in the places `reg`, `index` and `base` ask for, or one that says nothing.
#[inline(always)]
fn prefix(width: Width, reg: Host, index: Host, base: Host) -> u64 {
    // Registers from 8 on have one bit here.
    let high = |host: Host, bit: u32| u64::from(host >> 3) << bit;
    NO_PREFIX | u64::from(width == Width::W64) << 3 | high(reg, 2) | high(index, 1) | high(base, 0)
}

/// The prefix that says nothing.
const NO_PREFIX: u64 = 0x40;

/// An instruction of up to seven bytes with its prefix in front, if the width or one of the registers needs it: those in the
/// places `reg`, `index` and `base`.
#[inline(always)]
fn prefixed(width: Width, reg: Host, index: Host, base: Host, behind: Bytes) -> Bytes {
    let prefix = prefix(width, reg, index, base);
    let without = usize::from(prefix == NO_PREFIX);
    Bytes { word: (behind.word << 8 | prefix) >> (8 * without), len: behind.len + 1 - without }
}

/// The byte that names two registers.
#[inline(always)]
fn registers(reg: u8, rm: Host) -> u64 {
    0xc0 | u64::from(reg & 7) << 3 | u64::from(rm & 7)
}

/// An operation with an immediate behind it: of one byte with the first opcode, where that is enough, or of four with the
/// second.
#[inline(always)]
fn with_immediate(asm: &mut Assembler, width: Width, [short, long]: [u8; 2], reg: u8, rm: Host, imm: i32) {
    let (opcode, len) = if i8::try_from(imm).is_ok() { (short, 3) } else { (long, 6) };
    let word = u64::from(opcode) | registers(reg, rm) << 8 | u64::from(imm as u32) << 16;
    asm.put(prefixed(width, reg, 0, rm, Bytes { word, len }));
}

/// `op rm, reg`.
#[inline(always)]
pub(super) fn two(asm: &mut Assembler, width: Width, opcode: u8, rm: Host, reg: Host) {
    let behind = Bytes { word: u64::from(opcode) | registers(reg, rm) << 8, len: 2 };
    asm.put(prefixed(width, reg, 0, rm, behind));
}

/// `mov dst, src`; with 32 bits the upper half is cleared, also where both are the same.
#[inline(always)]
pub(super) fn mov(asm: &mut Assembler, width: Width, dst: Host, src: Host) {
    two(asm, width, opcode::MOV, dst, src);
}

/// `op dst, src` of an arithmetic group.
#[inline(always)]
pub(super) fn arithmetic(asm: &mut Assembler, width: Width, group: u8, dst: Host, src: Host) {
    two(asm, width, group << 3 | 1, dst, src);
}

/// `op dst, imm` of an arithmetic group.
#[inline(always)]
pub(super) fn immediate(asm: &mut Assembler, width: Width, group: u8, dst: Host, imm: i32) {
    with_immediate(asm, width, opcode::GROUP_IMMEDIATE, group, dst, imm);
}

/// `test dst, imm`.
#[inline(always)]
pub(super) fn test_immediate(asm: &mut Assembler, width: Width, dst: Host, imm: i32) {
    let word = u64::from(opcode::UNARY) | registers(group::TEST, dst) << 8 | u64::from(imm as u32) << 16;
    asm.put(prefixed(width, 0, 0, dst, Bytes { word, len: 6 }));
}

/// A shift or rotation by a constant.
#[inline(always)]
pub(super) fn shift(asm: &mut Assembler, width: Width, group: u8, dst: Host, amount: u8) {
    let word = u64::from(opcode::SHIFT) | registers(group, dst) << 8 | u64::from(amount) << 16;
    asm.put(prefixed(width, 0, 0, dst, Bytes { word, len: 3 }));
}

/// `not dst`.
pub(super) fn not(asm: &mut Assembler, width: Width, dst: Host) {
    two(asm, width, opcode::UNARY, dst, group::NOT);
}

/// `neg dst`.
pub(super) fn neg(asm: &mut Assembler, width: Width, dst: Host) {
    two(asm, width, opcode::UNARY, dst, group::NEG);
}

/// `mov dst, imm` with an immediate that fills 32 bits and clears the upper half.
#[inline(always)]
pub(super) fn load_low(asm: &mut Assembler, dst: Host, imm: u32) {
    let word = u64::from(opcode::LOAD_LOW | dst & 7) | u64::from(imm) << 8;
    asm.put(prefixed(Width::W32, 0, 0, dst, Bytes { word, len: 5 }));
}

/// `mov dst, imm` with an immediate that is sign-extended.
pub(super) fn load_signed(asm: &mut Assembler, dst: Host, imm: i32) {
    let word = u64::from(opcode::STORE_IMMEDIATE) | registers(0, dst) << 8 | u64::from(imm as u32) << 16;
    asm.put(prefixed(Width::W64, 0, 0, dst, Bytes { word, len: 6 }));
}

/// `imul dst, src`.
#[inline(always)]
pub(super) fn multiply(asm: &mut Assembler, width: Width, dst: Host, src: Host) {
    let behind = Bytes { word: u64::from(opcode::MULTIPLY) | registers(dst, src) << 16, len: 3 };
    asm.put(prefixed(width, dst, 0, src, behind));
}

/// `imul dst, src, imm`.
#[inline(always)]
pub(super) fn multiply_immediate(asm: &mut Assembler, width: Width, dst: Host, src: Host, imm: i32) {
    with_immediate(asm, width, opcode::MULTIPLY_IMMEDIATE, dst, src, imm);
}

/// `movsxd dst, src`: the lower half, sign-extended.
pub(super) fn sign_extend(asm: &mut Assembler, dst: Host, src: Host) {
    two(asm, Width::W64, opcode::MOVSXD, src, dst);
}

/// What stands for no index register.
const NO_INDEX: Host = 4;
/// Low bits of base registers: of those that mean no base where there is no displacement, and of those that need the byte for
/// an index.
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
        let second = if both { shift << 6 | (index & 7) << 3 | low } else { 0 };
        (Bytes { word: u64::from(first) | u64::from(second) << 8, len: 1 + usize::from(both) }, size)
    }
}

/// An operation on a register and an operand in memory: its width, its opcode of one or two bytes, the first one lowest, and
/// whether it is one of 16 bits.
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

/// `op reg, [address]`, or the other way round; what is immediate is put behind it.
pub(super) fn memory(asm: &mut Assembler, operation: Operation, reg: u8, address: Address) {
    let Operation { width, opcode, half } = operation;
    let opcode_len = 1 + usize::from(opcode > 0xff);
    let (operand, displacement_len) = address.bytes(reg);
    let instruction =
        Bytes { word: u64::from(opcode) | operand.word << (8 * opcode_len), len: opcode_len + operand.len };
    if half {
        asm.put(Bytes { word: 0x66, len: 1 });
    }
    let Bytes { word, len } = prefixed(width, reg, address.index, address.base, instruction);
    if displacement_len < 4 {
        // It is no longer than a byte.
        let displacement = u64::from(address.displacement as u8) << (8 * len);
        asm.put(Bytes { word: word | displacement, len: len + displacement_len });
    } else {
        asm.put(Bytes { word, len });
        asm.put(Bytes { word: u64::from(address.displacement as u32), len: displacement_len });
    }
}

/// `op reg, [r10 + index + displacement]`, or the other way round, as [`memory`] does it, but that it knows what most
/// accesses have in common.
#[inline(always)]
pub(super) fn arena(asm: &mut Assembler, operation: Operation, reg: u8, index: Host, displacement: i32) {
    let Operation { width, opcode, half } = operation;
    if half {
        asm.put(Bytes { word: 0x66, len: 1 });
    }
    let opcode_len = 1 + usize::from(opcode > 0xff);
    let named = u64::from(reg & 7) << 3 | u64::from(STACK) | u64::from((index & 7) << 3 | ARENA & 7) << 8;
    let word = prefix(width, reg, index, ARENA) | u64::from(opcode) << 8 | named << (8 + 8 * opcode_len);
    put_displaced(asm, Bytes { word, len: opcode_len + 3 }, 1 + opcode_len, displacement);
}

/// `op reg, [r12 + displacement]`, or the other way round, as [`memory`] does it.
#[inline(always)]
pub(super) fn cell(asm: &mut Assembler, operation: Operation, reg: u8, displacement: i32) {
    let Operation { width, opcode, .. } = operation;
    let named = u64::from(reg & 7) << 3 | u64::from(STACK) | u64::from(NO_INDEX << 3 | CELLS & 7) << 8;
    let word = prefix(width, reg, 0, CELLS) | u64::from(opcode) << 8 | named << 16;
    debug_assert!(opcode <= 0xff && !operation.half);
    put_displaced(asm, Bytes { word, len: 4 }, 2, displacement);
}

/// Puts an instruction that names its operand in memory in the byte with this number, without a displacement so far; its base
/// is none that needs one.
#[inline(always)]
fn put_displaced(asm: &mut Assembler, instruction: Bytes, at: usize, displacement: i32) {
    let Bytes { word, len } = instruction;
    if displacement == 0 {
        asm.put(instruction);
    } else if i8::try_from(displacement).is_ok() {
        let word = word | 0x40 << (8 * at) | u64::from(displacement as u8) << (8 * len);
        asm.put(Bytes { word, len: len + 1 });
    } else {
        asm.put(Bytes { word: word | 0x80 << (8 * at), len });
        asm.put(Bytes { word: u64::from(displacement as u32), len: 4 });
    }
}

/// `r11 = base + displacement`, in so many bits.
#[inline(always)]
pub(super) fn load_address(asm: &mut Assembler, width: Width, base: Host, displacement: i32) {
    if displacement == 0 {
        mov(asm, width, SCRATCH, base);
    } else {
        let named = u64::from(SCRATCH & 7) << 3 | u64::from(base & 7);
        let word = prefix(width, SCRATCH, 0, base) | u64::from(opcode::LEA) << 8 | named << 16;
        put_displaced(asm, Bytes { word, len: 3 }, 2, displacement);
    }
}

/// `lea dst, [address]`.
#[inline(always)]
pub(super) fn lea(asm: &mut Assembler, width: Width, dst: Host, address: Address) {
    memory(asm, Operation::new(width, opcode::LEA), dst, address);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an emitter writes, as text.
    fn hex(emit: impl FnOnce(&mut Assembler)) -> String {
        let mut asm = Assembler::with_capacity(0).unwrap();
        emit(&mut asm);
        asm.finish().unwrap().bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn load(width: Width, dst: Host, address: Address) -> String {
        hex(|asm| memory(asm, Operation::new(width, opcode::LOAD), dst, address))
    }

    // Bytes as `llvm-mc` has them.

    #[test]
    fn operations_on_registers_have_no_more_bytes_than_they_need() {
        assert_eq!(hex(|asm| mov(asm, Width::W32, 7, 6)), "89f7");
        assert_eq!(hex(|asm| mov(asm, Width::W64, 7, 6)), "4889f7");
        assert_eq!(hex(|asm| mov(asm, Width::W32, 15, 6)), "4189f7");
        assert_eq!(hex(|asm| mov(asm, Width::W64, 6, 8)), "4c89c6");
        assert_eq!(hex(|asm| arithmetic(asm, Width::W64, group::XOR, 13, 14)), "4d31f5");
        assert_eq!(hex(|asm| neg(asm, Width::W64, 5)), "48f7dd");
        assert_eq!(hex(|asm| not(asm, Width::W32, 8)), "41f7d0");
        assert_eq!(hex(|asm| multiply(asm, Width::W64, 1, 9)), "490fafc9");
        assert_eq!(hex(|asm| sign_extend(asm, 0, 13)), "4963c5");
    }

    #[test]
    fn immediates_are_as_short_as_they_can_be() {
        assert_eq!(hex(|asm| immediate(asm, Width::W64, group::ADD, 7, 127)), "4883c77f");
        assert_eq!(hex(|asm| immediate(asm, Width::W64, group::ADD, 7, 128)), "4881c780000000");
        assert_eq!(hex(|asm| immediate(asm, Width::W32, group::CMP, 9, -128)), "4183f980");
        assert_eq!(hex(|asm| test_immediate(asm, Width::W32, 3, 1)), "f7c301000000");
        assert_eq!(hex(|asm| shift(asm, Width::W64, group::SHR, 13, 32)), "49c1ed20");
        assert_eq!(hex(|asm| load_low(asm, 11, 7)), "41bb07000000");
        assert_eq!(hex(|asm| load_signed(asm, 6, -2)), "48c7c6feffffff");
        assert_eq!(hex(|asm| multiply_immediate(asm, Width::W64, 13, 1, 29)), "4c6be91d");
        assert_eq!(hex(|asm| multiply_immediate(asm, Width::W32, 1, 13, 290)), "4169cd22010000");
    }

    #[test]
    fn addresses_are_as_short_as_they_can_be() {
        assert_eq!(hex(|asm| lea(asm, Width::W64, 6, Address::at(5, -4))), "488d75fc");
        assert_eq!(hex(|asm| lea(asm, Width::W64, 6, Address::at(5, 0))), "488d7500");
        assert_eq!(hex(|asm| lea(asm, Width::W32, 11, Address::at(7, 4))), "448d5f04");
        assert_eq!(hex(|asm| lea(asm, Width::W64, 11, Address::at(13, 300))), "4d8d9d2c010000");
        assert_eq!(hex(|asm| lea(asm, Width::W64, 0, Address::scaled(7, 3))), "488d04fd00000000");
        assert_eq!(hex(|asm| lea(asm, Width::W64, 0, Address::indexed(13, 7, 2, 0))), "498d44bd00");
        assert_eq!(load(Width::W64, 6, Address::at(12, -128)), "498b742480");
        assert_eq!(load(Width::W64, 6, Address::at(12, 1000)), "498bb424e8030000");
        assert_eq!(load(Width::W32, 6, Address::at(10, 0)), "418b32");
        assert_eq!(load(Width::W32, 6, Address::indexed(10, 11, 0, 0)), "438b341a");
        assert_eq!(load(Width::W64, 3, Address::indexed(10, 5, 0, -8)), "498b5c2af8");
        assert_eq!(load(Width::W64, 3, Address::indexed(10, 15, 0, 4096)), "4b8b9c3a00100000");
    }

    #[test]
    fn what_is_stored_is_of_the_operations_size() {
        let at = Address::indexed(10, 5, 0, -512);
        let half = Operation { half: true, ..Operation::new(Width::W32, opcode::STORE_IMMEDIATE) };
        assert_eq!(hex(|asm| memory(asm, half, 0, at)), "6641c7842a00feffff");
        let byte = Operation::new(Width::W32, opcode::STORE_BYTE);
        assert_eq!(hex(|asm| memory(asm, byte, 6, Address::indexed(10, 7, 0, 1))), "4188743a01");
    }

    #[test]
    fn accesses_of_the_arena_are_those_of_any_memory() {
        let operations = [
            Operation::new(Width::W64, opcode::LOAD),
            Operation::new(Width::W32, opcode::LOAD_BYTE),
            Operation { half: true, ..Operation::new(Width::W32, opcode::MOV.into()) },
        ];
        let displacements = [0, 1, -128, 127, 128, -129, i32::MAX, i32::MIN];
        let hosts = (0..16).filter(|&host| host != NO_INDEX);
        for (operation, displacement, index) in product(operations, displacements, hosts) {
            for reg in 0..16 {
                let any = hex(|asm| memory(asm, operation, reg, Address::indexed(ARENA, index, 0, displacement)));
                assert_eq!(hex(|asm| arena(asm, operation, reg, index, displacement)), any);
            }
        }
    }

    #[test]
    fn cells_are_as_any_memory() {
        for (reg, displacement) in (0..16).flat_map(|reg| [0, 1, -128, 128, i32::MIN].map(|at| (reg, at))) {
            let load = Operation::new(Width::W64, opcode::LOAD);
            let any = hex(|asm| memory(asm, load, reg, Address::at(CELLS, displacement)));
            assert_eq!(hex(|asm| cell(asm, load, reg, displacement)), any);
        }
    }

    #[test]
    fn addresses_are_loaded_as_by_any_lea() {
        let guests = softbpf::insn::Reg::ALL.map(super::super::registers::host);
        for (width, displacement, base) in product([Width::W32, Width::W64], [1, -128, 128, i32::MIN], guests) {
            let any = hex(|asm| lea(asm, width, SCRATCH, Address::at(base, displacement)));
            assert_eq!(hex(|asm| load_address(asm, width, base, displacement)), any);
        }
        assert_eq!(hex(|asm| load_address(asm, Width::W32, 13, 0)), hex(|asm| mov(asm, Width::W32, SCRATCH, 13)));
    }

    fn product<A: Copy, B: Copy, C: Copy>(
        first: impl IntoIterator<Item = A>,
        second: impl IntoIterator<Item = B, IntoIter: Clone>,
        third: impl IntoIterator<Item = C, IntoIter: Clone>,
    ) -> impl Iterator<Item = (A, B, C)> {
        let (second, third) = (second.into_iter(), third.into_iter());
        first.into_iter().flat_map(move |a| {
            let third = third.clone();
            second.clone().flat_map(move |b| third.clone().map(move |c| (a, b, c)))
        })
    }
}
