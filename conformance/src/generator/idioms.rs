//! Rows of arithmetic that compilers write, and that an engine may take for one instruction: what cuts out a half, computes
//! the address of an element, rotates. Now and then something in them is not as it should be, and then they are none.

use arbitrary::{Result, Unstructured};
use softbpf::insn::{AluOp, Insn, Operand, Reg, Width};

use super::values;

/// One row over some of these registers, which may be the same.
pub(super) fn idiom(u: &mut Unstructured<'_>, registers: [Reg; 3]) -> Result<Vec<Insn>> {
    let [dst, src, other] = registers;
    let width = if u.ratio(1, 4)? { Width::W32 } else { Width::W64 };
    let bits = i32::from(width.bits());
    let row = Row { width };
    let mut insns = match u.int_in_range(0..=7)? {
        0 => vec![row.mov(dst, src), row.on(AluOp::Add, dst, values::imm(u)?)],
        1 => vec![row.mov(dst, src), row.on(AluOp::Sub, dst, values::imm(u)?)],
        2 => vec![row.mov(dst, src), row.on(AluOp::Mul, dst, values::imm(u)?)],
        3 => vec![row.mov(dst, src), row.on(AluOp::Add, dst, other)],
        4 => {
            let shift = u.int_in_range(0..=4)?;
            vec![row.mov(dst, src), row.on(AluOp::Lsh, dst, shift), row.on(AluOp::Add, dst, other)]
        }
        5 => {
            let down = if u.arbitrary()? { AluOp::Rsh } else { AluOp::Arsh };
            let shift = if u.ratio(1, 3)? { u.int_in_range(28..=bits - 1)? } else { bits / 2 };
            vec![row.mov(dst, src), row.on(AluOp::Lsh, dst, bits / 2), row.on(down, dst, shift)]
        }
        6 => vec![row.on(AluOp::Lsh, src, bits / 2), row.mov(dst, src), row.on(AluOp::Rsh, dst, bits / 2)],
        _ => rotation(u, &row, bits, registers)?,
    };
    if u.ratio(1, 8)? {
        let at = u.choose_index(insns.len())?;
        insns.remove(at);
    }
    Ok(insns)
}

/// A value and its copy, shifted in opposite directions and joined.
fn rotation(u: &mut Unstructured<'_>, row: &Row, bits: i32, [dst, src, temporary]: [Reg; 3]) -> Result<Vec<Insn>> {
    let amount = u.int_in_range(1..=bits - 1)?;
    let back = if u.ratio(1, 16)? { amount } else { bits - amount };
    let (first, second) = if u.arbitrary()? { (AluOp::Lsh, AluOp::Rsh) } else { (AluOp::Rsh, AluOp::Lsh) };
    let mut insns = vec![row.mov(temporary, src), row.on(first, temporary, amount)];
    let to = if u.arbitrary()? { dst } else { src };
    if to == dst {
        insns.push(row.mov(dst, src));
    }
    insns.extend([row.on(second, to, back), row.on(AluOp::Or, to, temporary)]);
    if u.arbitrary()? {
        // Nobody sees what the copy has become.
        insns.push(row.mov(temporary, to));
    }
    Ok(insns)
}

struct Row {
    width: Width,
}

impl Row {
    fn on(&self, op: AluOp, dst: Reg, src: impl Into<Operand>) -> Insn {
        Insn::Alu { op, width: self.width, dst, src: src.into() }
    }

    fn mov(&self, dst: Reg, src: Reg) -> Insn {
        self.on(AluOp::Mov, dst, src)
    }
}
