//! What could stand in an instruction's place: its result, an immediate instead of a register, smaller numbers, 32 bits
//! instead of 64, a shorter jump.

use softbpf::insn::{AluOp, Imm64, Insn, Operand, Reg, Size, Width};

use super::flow::{Node, code, nodes};
use super::{Seen, Try};

/// One round over all instructions, the last first.
pub(super) fn pass(search: &mut dyn Try) {
    for program in 0..search.best().programs.len() {
        let Some(count) = search.best().programs.get(program).map(|code| code.insns().len()) else { continue };
        for index in (0..count).rev() {
            while improve(search, program, index) {}
        }
    }
}

/// Puts the first replacement in place that still shows it; whether there was one.
fn improve(search: &mut dyn Try, program: usize, index: usize) -> bool {
    let Some(now) = search.best().programs.get(program).map(nodes) else { return false };
    let Some(&node) = now.get(index) else { return false };
    let seen = match search.options().values {
        Some(values) if program == 0 => values(search.best(), search.options().rules).get(index).copied().flatten(),
        Some(_) | None => None,
    };
    let stored = stored(&now, index).map(|insn| Node { insn, to: None });
    stored.into_iter().chain(replacements(node, index, seen)).any(|replacement| {
        let mut nodes = now.clone();
        nodes[index] = replacement;
        search.attempt_program(program, code(&nodes))
    })
}

/// Everything that is simpler, the simplest first. Each is smaller by [`weight`], so that this comes to an end.
fn replacements(node: Node, index: usize, seen: Option<Seen>) -> Vec<Node> {
    let plain = |insn| Node { insn, to: None };
    let mut all: Vec<Node> = Vec::new();
    if let Some(result) = node.insn.written().and_then(|dst| Some((dst, seen?.after(dst)?))) {
        all.push(plain(constant(result.0, result.1)));
    }
    match node.insn {
        Insn::Alu { op, width, dst, src } => {
            let with = |src| Insn::Alu { op, width, dst, src };
            all.extend(operands(src, seen).into_iter().map(|src| plain(with(src))));
            // A move serves where the operation is but a way to carry a value on.
            all.push(plain(Insn::mov(dst, src)));
            all.push(plain(Insn::Alu { op, width: Width::W32, dst, src }));
        }
        Insn::LoadImm64 { dst, value: Imm64::Value(value) } => {
            all.extend(numbers(value as i64).into_iter().map(|number| plain(constant(dst, number as u64))));
        }
        Insn::Load { size, signed, dst, base, off } => {
            all.push(plain(Insn::load(Size::DW, dst, base, off)));
            all.push(plain(Insn::load(size, dst, base, off)));
            all.extend(offsets(off).map(|off| plain(Insn::Load { size, signed, dst, base, off })));
        }
        Insn::LoadAcquire { size, dst, base, off } => {
            all.push(plain(Insn::load(size, dst, base, off)));
            all.extend(offsets(off).map(|off| plain(Insn::LoadAcquire { size, dst, base, off })));
        }
        Insn::Store { size, base, off, src } => {
            all.push(plain(Insn::store(Size::DW, base, off, src)));
            all.extend(operands(src, seen).into_iter().map(|src| plain(Insn::Store { size, base, off, src })));
            all.extend(offsets(off).map(|off| plain(Insn::Store { size, base, off, src })));
        }
        Insn::StoreRelease { size, base, off, src } => {
            all.push(plain(Insn::store(size, base, off, src)));
            all.extend(offsets(off).map(|off| plain(Insn::StoreRelease { size, base, off, src })));
        }
        Insn::Atomic { op, width, base, off, src } => {
            let size = width.size();
            all.push(plain(Insn::store(size, base, off, src)));
            all.extend(offsets(off).map(|off| plain(Insn::Atomic { op, width, base, off, src })));
        }
        Insn::JumpIf { condition, width, dst, src, off } => {
            let with = |src| Node { insn: Insn::JumpIf { condition, width, dst, src, off }, ..node };
            all.push(Node { insn: Insn::Jump { off: 0, long: false }, ..node });
            all.extend(operands(src, seen).into_iter().map(with));
            all.extend(nearer(node, index));
        }
        Insn::Jump { long, .. } => {
            if long {
                all.push(Node { insn: Insn::Jump { off: 0, long: false }, ..node });
            }
            all.extend(nearer(node, index));
        }
        Insn::MayGoto { .. } => all.extend(nearer(node, index)),
        Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::LoadImm64 { .. }
        | Insn::LoadPacket { .. }
        | Insn::Call(_)
        | Insn::Exit => {}
    }
    all.retain(|simpler| weight(simpler, index) < weight(&node, index));
    all
}

/// In the place of a load, a move of what was stored there last, as far as the text says.
fn stored(nodes: &[Node], index: usize) -> Option<Insn> {
    let Insn::Load { size: Size::DW, dst, base, off, .. } = nodes.get(index)?.insn else { return None };
    let stored = |insn| {
        let Insn::Store { size: Size::DW, base: to, off: at, src } = insn else { return None };
        ((to, at) == (base, off)).then_some(src)
    };
    nodes[..index].iter().rev().find_map(|node| stored(node.insn)).map(|src| Insn::mov(dst, src))
}

/// A value in a register, in the shortest way.
fn constant(dst: Reg, value: u64) -> Insn {
    match i32::try_from(value as i64) {
        Ok(imm) => Insn::mov(dst, imm),
        Err(_) => Insn::load_imm64(dst, value),
    }
}

/// Operands that are simpler than a register or a number.
fn operands(src: Operand, seen: Option<Seen>) -> Vec<Operand> {
    match src {
        Operand::Imm(imm) => {
            numbers(imm.into()).into_iter().filter_map(|n| i32::try_from(n).ok()).map(Operand::Imm).collect()
        }
        Operand::Reg(reg) => {
            let known = seen.and_then(|seen| i32::try_from(seen.before(reg) as i64).ok());
            [0, 1].into_iter().chain(known).map(Operand::Imm).collect()
        }
    }
}

/// Numbers that are closer to 0, or rounder.
fn numbers(number: i64) -> Vec<i64> {
    let low = number as i32;
    let top = if number == 0 { 0 } else { 1_i64 << (63 - number.leading_zeros()) };
    let lowest_bit_gone = number & number.wrapping_sub(1);
    vec![0, 1, -1, 2, 7, low.into(), i64::from(low as u32), number >> 32 << 32, top, number / 2, lowest_bit_gone]
}

/// Offsets that are closer to 0 in ways that keep accesses aligned.
fn offsets(off: i16) -> impl Iterator<Item = i16> {
    [0, -8, off / 2, off / 8 * 8].into_iter()
}

/// The jump to places closer by.
fn nearer(node: Node, index: usize) -> Vec<Node> {
    let next = index + 1;
    let Some(to) = node.to.filter(|&to| to > next) else { return Vec::new() };
    [next, next + (to - next) / 2, to - 1].map(|to| Node { to: Some(to), ..node }).to_vec()
}

/// How far from simple an instruction is. What replaces another has less of it.
fn weight(node: &Node, index: usize) -> (u32, u64) {
    let number = |number: i64| {
        let signs = u64::from(number < 0);
        u64::from(64 - number.unsigned_abs().leading_zeros()) * 64
            + u64::from(number.count_ones().min(number.count_zeros())) * 2
            + signs
    };
    let operand = |src: Operand| match src {
        Operand::Imm(imm) => number(imm.into()),
        Operand::Reg(_) => 1 << 20,
    };
    let away = node.to.map_or(0, |to| to.abs_diff(index + 1) as u64);
    match node.insn {
        Insn::Alu { op: AluOp::Mov, width: Width::W64, src: Operand::Imm(imm), .. } => (0, number(imm.into())),
        Insn::LoadImm64 { value: Imm64::Value(value), .. } => (1, number(value as i64)),
        Insn::Jump { long, .. } => (2 + u32::from(long), away),
        Insn::Alu { op: AluOp::Mov, width: Width::W64, .. } => (4, 0),
        Insn::Store { size, off, src, .. } => (5 + narrow(size), operand(src) + (number(off.into()) << 24)),
        Insn::Load { size, signed, off, .. } => (10 + narrow(size) + 5 * u32::from(signed), number(off.into())),
        Insn::Alu { width: Width::W32, src, .. } => (20, operand(src)),
        Insn::Alu { width: Width::W64, src, .. } => (21, operand(src)),
        Insn::JumpIf { src, .. } => (20, operand(src) + (away << 24)),
        Insn::LoadAcquire { off, .. } | Insn::StoreRelease { off, .. } | Insn::Atomic { off, .. } => {
            (20, number(off.into()))
        }
        Insn::MayGoto { .. } => (20, away),
        Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::LoadImm64 { .. }
        | Insn::LoadPacket { .. }
        | Insn::Call(_)
        | Insn::Exit => (20, 0),
    }
}

/// How far from 64 bits.
fn narrow(size: Size) -> u32 {
    match size {
        Size::DW => 0,
        Size::W => 1,
        Size::H => 2,
        Size::B => 3,
    }
}
