//! Programs that run forward from the first instruction to the last, which the kernel's verifier accepts.
//!
//! All registers are set first; then come random arithmetic, accesses to four stack slots and short forward jumps;
//! in the end registers and slots are folded into the low 32 bits of `r0`, all that a test run in the kernel returns.

use softbpf::asm::{AluOp, AtomicOp, ByteOrder, Condition, Insn, Operand, R0, R1, R10, Reg, Size, SwapWidth, Width};
use softbpf::codec::Code;

use crate::rng::Rng;

/// Which instructions a kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// LLVM's `-mcpu=v3`, and fetching atomics: Linux 5.12.
    V3,
    /// Signed division, sign extension, unconditional byte swaps: Linux 6.6.
    V4,
    /// Load-acquire and store-release: Linux 6.15.
    Ordered,
}

/// Values where arithmetic goes wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    31,
    0x7f,
    0x80,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_8000_0000,
    u64::MAX,
];

/// Bytes of stack in use, from `r10` down.
const STACK: i16 = 32;

/// Conditional jumps at most: the verifier may follow both ways of each.
const MAX_JUMPS: usize = 6;

/// The program of this seed, with about `len` random instructions.
pub fn program(seed: u64, len: usize, level: Level) -> Code {
    let rng = &mut Rng::new(seed);
    let mut insns: Vec<Insn> = Reg::ALL[..10].iter().map(|&reg| Insn::load_imm64(reg, value(rng))).collect();
    for slot in (-STACK..0).step_by(8) {
        insns.push(Insn::store(Size::DW, R10, slot, register(rng)));
    }
    let mut jumps = 0;
    for left in (0..len).rev() {
        let insn = if left > 3 && jumps < MAX_JUMPS && rng.one_in(12) {
            jumps += 1;
            jump(rng)
        } else {
            straight(rng, level)
        };
        insns.push(insn);
    }
    fold(&mut insns);
    insns.into()
}

/// Mixes all that the program has worked out into the low half of `r0`, and returns it.
fn fold(insns: &mut Vec<Insn>) {
    for &reg in &Reg::ALL[1..10] {
        insns.extend([Insn::mul(R0, 31), Insn::xor(R0, reg)]);
    }
    for slot in (-STACK..0).step_by(8) {
        insns.extend([Insn::load(Size::DW, R1, R10, slot), Insn::mul(R0, 31), Insn::xor(R0, R1)]);
    }
    insns.extend([Insn::mov(R1, R0), Insn::rsh(R1, 32), Insn::xor(R0, R1), Insn::exit()]);
}

fn value(rng: &mut Rng) -> u64 {
    match rng.below(3) {
        0 => rng.next_u64(),
        1 => rng.next_u64() >> rng.below(64),
        _ => rng.pick(&EDGES),
    }
}

fn register(rng: &mut Rng) -> Reg {
    Reg::ALL[rng.below(10)]
}

fn width(rng: &mut Rng) -> Width {
    rng.pick(&[Width::W32, Width::W64])
}

fn operand(rng: &mut Rng) -> Operand {
    if rng.one_in(3) { Operand::Imm(value(rng) as i32) } else { Operand::Reg(register(rng)) }
}

/// A jump over one to three instructions.
fn jump(rng: &mut Rng) -> Insn {
    let (condition, off) = (rng.pick(Condition::ALL), 1 + rng.below(3) as i16);
    Insn::JumpIf { condition, width: width(rng), dst: register(rng), src: operand(rng), off }
}

/// An instruction that goes on to the next one.
fn straight(rng: &mut Rng, level: Level) -> Insn {
    let (dst, src) = (register(rng), register(rng));
    match rng.below(if level == Level::V3 { 16 } else { 22 }) {
        0..=8 => alu(rng, level),
        9 => Insn::Neg { width: width(rng), dst },
        10 => Insn::End { order: rng.pick(&[ByteOrder::Le, ByteOrder::Be]), width: rng.pick(&SwapWidth::ALL), dst },
        11 => {
            let (size, off) = place(rng);
            Insn::load(size, dst, R10, off)
        }
        12 | 13 => {
            let (size, off) = place(rng);
            Insn::store(size, R10, off, operand(rng))
        }
        14 | 15 => {
            let width = width(rng);
            let align = if width == Width::W32 { 4 } else { 8 };
            Insn::Atomic { op: rng.pick(AtomicOp::ALL), width, base: R10, off: offset(rng, align), src }
        }
        16 => Insn::End { order: ByteOrder::Bswap, width: rng.pick(&SwapWidth::ALL), dst },
        17 => Insn::mov_sx(rng.pick(&[Size::B, Size::H, Size::W]), dst, src),
        18 => Insn::mov_sx32(rng.pick(&[Size::B, Size::H]), dst, src),
        19 => {
            let size = rng.pick(&[Size::B, Size::H, Size::W]);
            Insn::load_sx(size, dst, R10, offset(rng, size.bytes() as i16))
        }
        20 if level == Level::Ordered => {
            let (size, off) = place(rng);
            Insn::load_acquire(size, dst, R10, off)
        }
        21 if level == Level::Ordered => {
            let (size, off) = place(rng);
            Insn::store_release(size, R10, off, src)
        }
        _ => alu(rng, level),
    }
}

/// Arithmetic that the verifier takes: no division by an immediate 0, no shift by more than the width.
fn alu(rng: &mut Rng, level: Level) -> Insn {
    let (width, dst) = (width(rng), register(rng));
    let op = loop {
        let op = rng.pick(AluOp::ALL);
        if level > Level::V3 || ![AluOp::Sdiv, AluOp::Smod].contains(&op) {
            break op;
        }
    };
    let src = match (op, operand(rng)) {
        (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(imm)) => {
            Operand::Imm(imm & if width == Width::W32 { 31 } else { 63 })
        }
        (AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod, Operand::Imm(0)) => Operand::Imm(-1),
        (_, src) => src,
    };
    Insn::Alu { op, width, dst, src }
}

/// Size and offset of an aligned access to the stack slots.
fn place(rng: &mut Rng) -> (Size, i16) {
    let size = rng.pick(Size::ALL);
    (size, offset(rng, size.bytes() as i16))
}

fn offset(rng: &mut Rng, align: i16) -> i16 {
    rng.below((STACK / align) as usize) as i16 * align - STACK
}
