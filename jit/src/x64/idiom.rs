//! Instructions in a row that the machine has one instruction for: additions and scaled indices (`lea`), the halves that
//! compilers cut off with two shifts, products with a constant, rotations.
//!
//! Nothing can stop a program between them, so nobody sees what registers hold there. A register that only carries a value
//! from one to the next is not written at all where the same block writes it again before anyone could look.
//!
//! It knows guest instructions only; [`Idiom::emit`] writes the machine's.

use dynasmrt::DynasmApi;
use softbpf::insn::{AluOp, Imm64, Insn, Operand, Reg, Width};

use super::Options;
use super::asm::{Assembler, x64};
use super::encode::{self, Address, group};
use super::registers::host;
use crate::fault::Fault;

/// Instructions that an idiom has at most.
const LONGEST: usize = 5;

/// Instructions behind a rotation that are looked through for one that writes its temporary register.
const FAR: usize = 24;

/// What several instructions come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Idiom {
    /// `dst = base + constant`.
    AddConstant { width: Width, dst: Reg, base: Reg, constant: i32 },
    /// `dst = base + (index << shift)`; without a base, `dst = index << shift`.
    Add { width: Width, dst: Reg, base: Option<Reg>, index: Reg, shift: u8 },
    /// `dst = src * constant`.
    Multiply { width: Width, dst: Reg, src: Reg, constant: i32 },
    /// `dst = (src as u32) >> shift`.
    LowHalf { dst: Reg, src: Reg, shift: u8 },
    /// `dst = (src as i32) as i64`.
    SignedHalf { dst: Reg, src: Reg },
    /// `half = whole as u32; whole <<= 32`.
    TakeLowHalf { half: Reg, whole: Reg },
    /// `dst = src` rotated to the left; before that `rest = src << left`, or `rest = src >> right` when `left` is 0.
    Rotate { width: Width, dst: Reg, src: Reg, amount: u8, rest: Option<(Reg, bool)> },
}

/// One arithmetic instruction, as far as idioms consist of it.
#[derive(Debug, Clone, Copy)]
struct Alu {
    op: AluOp,
    width: Width,
    dst: Reg,
    src: Operand,
}

fn alu(insn: &Insn) -> Option<Alu> {
    if let Insn::Alu { op, width, dst, src } = *insn { Some(Alu { op, width, dst, src }) } else { None }
}

/// Whether an idiom may begin with an operation: most are done with here.
#[inline(always)]
pub(super) fn may_begin(op: AluOp, src: Operand) -> bool {
    matches!((op, src), (AluOp::Mov, Operand::Reg(_)) | (AluOp::Lsh, _))
}

/// The longest idiom that these instructions of one block begin with, and how many of them it has.
pub(super) fn find(insns: &[Insn], options: Options) -> Option<(Idiom, usize)> {
    let [first, second, rest @ ..] = insns else { return None };
    let (first, second) = (alu(first)?, alu(second)?);
    // The second goes on with what the first has made.
    if second.width != first.width || second.dst != first.dst && second.src != Operand::Reg(first.dst) {
        return None;
    }
    match (first.op, second.op) {
        (_, AluOp::Add | AluOp::Sub | AluOp::Mul) => return sum(&[first, second]),
        (AluOp::Lsh, AluOp::Rsh | AluOp::Arsh | AluOp::Mov) | (AluOp::Mov, AluOp::Lsh) => {}
        // A rotation, if it goes on like one.
        (AluOp::Mov, AluOp::Rsh) if let Some(Insn::Alu { op: AluOp::Lsh | AluOp::Mov, .. }) = rest.first() => {}
        (_, _) => return None,
    }
    let mut row = [first; LONGEST];
    row[1] = second;
    let mut len = 2;
    for insn in rest.iter().take(LONGEST - len) {
        let Some(next) = alu(insn).filter(|next| next.width == first.width) else { break };
        row[len] = next;
        len += 1;
    }
    let dead = |reg, behind: usize| options.planted.is(Fault::IdiomForgetsRest) || is_dead(reg, &insns[behind..]);
    rotation(&row[..len], dead).or_else(|| halves(&row[..len])).or_else(|| sum(&row[..len]))
}

fn amount(operand: Operand, width: Width) -> Option<u8> {
    match operand {
        Operand::Imm(imm) => u8::try_from(imm).ok().filter(|imm| (1..width.bits()).contains(imm)),
        Operand::Reg(_) => None,
    }
}

/// Two shifts of the same value in opposite directions, by all its bits together, and the halves joined.
fn rotation(row: &[Alu], dead: impl Fn(Reg, usize) -> bool) -> Option<(Idiom, usize)> {
    let [copy, shift, rest @ ..] = row else { return None };
    let (AluOp::Mov, Operand::Reg(src)) = (copy.op, copy.src) else { return None };
    let (width, temporary) = (copy.width, copy.dst);
    let bits = width.bits();
    let one = amount(shift.src, width)?;
    let left = shift.op == AluOp::Lsh;
    let opposite = |alu: &Alu, dst: Reg| {
        let op = if left { AluOp::Rsh } else { AluOp::Lsh };
        alu.op == op && alu.dst == dst && amount(alu.src, width) == Some(bits - one)
    };
    let joins = |alu: &Alu, dst: Reg| alu.op == AluOp::Or && alu.dst == dst && alu.src == Operand::Reg(temporary);
    let copies =
        |alu: &Alu, dst: Reg, from: Reg| alu.op == AluOp::Mov && alu.dst == dst && alu.src == Operand::Reg(from);
    if shift.dst != temporary || temporary == src || !left && shift.op != AluOp::Rsh {
        return None;
    }
    let amount = if left { one } else { bits - one };
    let idiom = |dst: Reg, behind: usize| {
        let rest = (!dead(temporary, behind)).then_some((temporary, left));
        (Idiom::Rotate { width, dst, src, amount, rest }, behind)
    };
    match rest {
        [other, join, ..] if opposite(other, src) && joins(join, src) => Some(idiom(src, 4)),
        [second, other, join, ..] if copies(second, second.dst, src) => {
            let dst = second.dst;
            (dst != temporary && dst != src && opposite(other, dst) && joins(join, dst)).then(|| idiom(dst, 5))
        }
        _ => None,
    }
}

/// Shifts by 32 to the left and back to the right.
fn halves(row: &[Alu]) -> Option<(Idiom, usize)> {
    const HALF: Operand = Operand::Imm(32);
    let is = |alu: &Alu, op: AluOp, dst: Reg| alu.op == op && alu.dst == dst;
    if row[0].width != Width::W64 {
        return None;
    }
    let (copy, row) = match row {
        [copy, rest @ ..] if copy.op == AluOp::Mov => (Some(copy), rest),
        all => (None, all),
    };
    let [up, down, rest @ ..] = row else { return None };
    if up.op != AluOp::Lsh || up.src != HALF {
        return None;
    }
    let dst = up.dst;
    let (src, before) = match copy {
        None => (dst, 0),
        Some(&Alu { dst: copied, src: Operand::Reg(src), .. }) if copied == dst => (src, 1),
        Some(_) => return None,
    };
    if is(down, AluOp::Rsh, dst) {
        let shift = amount(down.src, Width::W64)?.checked_sub(32)?;
        return Some((Idiom::LowHalf { dst, src, shift }, before + 2));
    }
    if is(down, AluOp::Arsh, dst) && down.src == HALF {
        return Some((Idiom::SignedHalf { dst, src }, before + 2));
    }
    let [back, ..] = rest else { return None };
    let takes = down.op == AluOp::Mov && down.src == Operand::Reg(dst) && down.dst != dst;
    (copy.is_none() && takes && is(back, AluOp::Rsh, down.dst) && back.src == HALF)
        .then_some((Idiom::TakeLowHalf { half: down.dst, whole: dst }, 3))
}

/// A copy that something is added to, or that is shifted, or multiplied; a small shift that something is added to.
fn sum(row: &[Alu]) -> Option<(Idiom, usize)> {
    let [first, second, rest @ ..] = row else { return None };
    let &Alu { width, dst, .. } = first;
    let small =
        |alu: &Alu| amount(alu.src, width).filter(|&shift| alu.op == AluOp::Lsh && alu.dst == dst && shift <= 3);
    // What is added must not be what is added to: that has changed by then.
    let adds = |alu: &Alu| match alu.src {
        Operand::Reg(reg) if alu.op == AluOp::Add && alu.dst == dst && reg != dst => Some(reg),
        Operand::Reg(_) | Operand::Imm(_) => None,
    };
    if let Some(shift) = small(first) {
        return adds(second).map(|base| (Idiom::Add { width, dst, base: Some(base), index: dst, shift }, 2));
    }
    let (AluOp::Mov, Operand::Reg(src)) = (first.op, first.src) else { return None };
    if second.dst != dst || src == dst {
        return None;
    }
    if let Some(shift) = small(second) {
        let (base, len) = match rest.first().and_then(adds) {
            Some(base) => (Some(base), 3),
            None => (None, 2),
        };
        return Some((Idiom::Add { width, dst, base, index: src, shift }, len));
    }
    let idiom = match (second.op, second.src) {
        (AluOp::Add, Operand::Imm(constant)) => Idiom::AddConstant { width, dst, base: src, constant },
        (AluOp::Sub, Operand::Imm(constant)) => {
            Idiom::AddConstant { width, dst, base: src, constant: constant.checked_neg()? }
        }
        (AluOp::Add, Operand::Reg(reg)) => {
            Idiom::Add { width, dst, base: Some(if reg == dst { src } else { reg }), index: src, shift: 0 }
        }
        (AluOp::Mul, Operand::Imm(constant)) => Idiom::Multiply { width, dst, src, constant },
        _ => return None,
    };
    Some((idiom, 2))
}

/// Whether these instructions, the rest of a block, write a register before they read it or the program could stop.
fn is_dead(reg: Reg, insns: &[Insn]) -> bool {
    for insn in insns.iter().take(FAR) {
        match *insn {
            Insn::Alu { op, dst, src, .. } => {
                if src == Operand::Reg(reg) || dst == reg && op != AluOp::Mov {
                    return false;
                }
                if dst == reg {
                    return true;
                }
            }
            Insn::MovSx { dst, src, .. } => {
                if src == reg || dst == reg {
                    return src != reg;
                }
            }
            Insn::LoadImm64 { dst, value: Imm64::Value(_) } => {
                if dst == reg {
                    return true;
                }
            }
            Insn::Neg { dst, .. } | Insn::End { dst, .. } => {
                if dst == reg {
                    return false;
                }
            }
            // Here the program may stop, or go elsewhere.
            Insn::AddrSpaceCast { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. }
            | Insn::LoadPacket { .. }
            | Insn::Jump { .. }
            | Insn::JumpIf { .. }
            | Insn::MayGoto { .. }
            | Insn::Call(_)
            | Insn::Exit => return false,
        }
    }
    false
}

impl Idiom {
    /// The machine's instructions.
    pub(super) fn emit(self, asm: &mut Assembler, options: Options) {
        let planted = options.planted;
        match self {
            Idiom::AddConstant { width, dst, base, constant } => {
                let constant = if planted.is(Fault::IdiomAddsUnsigned) { constant & i32::MAX } else { constant };
                encode::lea(asm, width, host(dst), Address::at(host(base), constant));
            }
            Idiom::Add { width, dst, base, index, shift } => {
                let shift = if planted.is(Fault::IdiomScalesLess) { shift.saturating_sub(1) } else { shift };
                let index = host(index);
                let address = match base {
                    Some(base) => Address::indexed(host(base), index, shift, 0),
                    // Without a base there have to be four bytes of displacement.
                    None if shift == 1 => Address::indexed(index, index, 0, 0),
                    None => Address::scaled(index, shift),
                };
                encode::lea(asm, width, host(dst), address);
            }
            Idiom::Multiply { width, dst, src, constant } => {
                encode::multiply_immediate(asm, width, host(dst), host(src), constant);
            }
            Idiom::LowHalf { dst, src, shift } => {
                if planted.is(Fault::IdiomHalfIsSigned) {
                    encode::sign_extend(asm, host(dst), host(src));
                } else if shift == 0 || dst != src {
                    encode::mov(asm, Width::W32, host(dst), host(src));
                }
                if shift > 0 {
                    encode::shift(asm, Width::W32, group::SHR, host(dst), shift);
                }
            }
            Idiom::SignedHalf { dst, src } => encode::sign_extend(asm, host(dst), host(src)),
            Idiom::TakeLowHalf { half, whole } => {
                encode::mov(asm, Width::W32, host(half), host(whole));
                encode::shift(asm, Width::W64, group::SHL, host(whole), 32);
            }
            Idiom::Rotate { width, dst, src, amount, rest } => rotate(asm, options, width, (dst, src), amount, rest),
        }
    }
}

fn rotate(
    asm: &mut Assembler,
    options: Options,
    width: Width,
    (dst, src): (Reg, Reg),
    left: u8,
    rest: Option<(Reg, bool)>,
) {
    let bits = width.bits();
    if let Some((temporary, is_left)) = rest {
        encode::mov(asm, width, host(temporary), host(src));
        let (group, amount) = if is_left { (group::SHL, left) } else { (group::SHR, bits - left) };
        encode::shift(asm, width, group, host(temporary), amount);
    }
    let left = if options.planted.is(Fault::IdiomRotatesBack) { bits - left } else { left };
    let (to, from, right) = (host(dst), host(src), (bits - left) as i8);
    match width {
        _ if dst == src => encode::shift(asm, width, group::ROL, to, left),
        Width::W64 if options.bmi2 => x64!(asm; rorx Rq(to), Rq(from), BYTE right),
        Width::W32 if options.bmi2 => x64!(asm; rorx Rd(to), Rd(from), BYTE right),
        Width::W64 | Width::W32 => {
            encode::mov(asm, width, to, from);
            encode::shift(asm, width, group::ROL, to, left);
        }
    }
}
