//! Programs without certain rows of the instruction set: those that the subject lacks, or is known to do wrong.

use std::collections::BTreeSet;

use softbpf::asm::R0;
use softbpf::codec::Code;
use softbpf::insn::{AluOp, Imm64, Insn, Operand, Reg, Width};

use super::key::row_with_helper;
use crate::coverage::row_of;
use crate::minimise::flow::{Node, code, nodes, without};

/// Rows to do without.
pub(super) type Rows = BTreeSet<Insn>;

/// Whether an instruction is of one of the rows: of its own, or, as rows of the instruction set, of all calls of helpers.
fn is_of(rows: &Rows, insn: Insn) -> bool {
    rows.contains(&row_with_helper(insn)) || rows.contains(&row_of(insn))
}

/// What stands in the place of an instruction.
const VALUE: i32 = 0x5a;

/// The program with something harmless, or nothing, in the place of each such instruction.
pub(super) fn avoid(program: &Code, rows: &Rows) -> Code {
    if !has(program, rows) {
        return program.clone();
    }
    let replaced: Vec<Option<Node>> = nodes(program)
        .into_iter()
        .map(|node| if is_of(rows, node.insn) { instead(node, rows) } else { Some(node) })
        .collect();
    let all: Vec<Node> = replaced.iter().map(|node| node.unwrap_or(Node { insn: Insn::Exit, to: None })).collect();
    code(&without(&all, |index| replaced[index].is_none()))
}

/// Whether the program has any of them.
pub(super) fn has(program: &Code, rows: &Rows) -> bool {
    !rows.is_empty() && program.insns().iter().any(|&insn| is_of(rows, insn))
}

/// What does least harm: another way to the same where there is one, else a value that says nothing.
fn instead(node: Node, rows: &Rows) -> Option<Node> {
    let known = |insn: &Insn| !rows.contains(&row_of(*insn));
    let value = |reg: Reg| [Insn::mov(reg, VALUE), Insn::load_imm64(reg, VALUE as u64), Insn::mov32(reg, VALUE)];
    let candidates: Vec<Insn> = if let Insn::LoadImm64 { dst, value: Imm64::Value(number) } = node.insn {
        vec![Insn::mov(dst, number as i32), Insn::mov32(dst, number as i32)]
    } else if let Insn::Alu { op: AluOp::Mov, width: Width::W64, dst, src } = node.insn {
        vec![Insn::mov32(dst, src), Insn::load_imm64(dst, VALUE as u64)]
    } else if let Insn::Store { size, base, off, src } = node.insn {
        let other = match src {
            Operand::Imm(_) => Operand::Reg(R0),
            Operand::Reg(_) => Operand::Imm(VALUE),
        };
        vec![Insn::Store { size, base, off, src: other }]
    } else if let Insn::Jump { off, long } = node.insn {
        vec![Insn::Jump { off, long: !long }]
    } else if let Insn::Exit = node.insn {
        vec![node.insn]
    } else {
        node.insn.written().map(value).map(Vec::from).unwrap_or_default()
    };
    let exit = matches!(node.insn, Insn::Exit);
    candidates.into_iter().find(|insn| exit || known(insn)).map(|insn| Node { insn, ..node })
}

#[cfg(test)]
mod tests {
    use softbpf::insn::Callee;

    use super::super::key::{about, culprit};
    use super::*;

    #[test]
    fn a_finding_about_one_helper_hides_no_other() {
        let calls = |helper| Code::from(vec![Insn::Call(Callee::Helper(helper)), Insn::exit()]);
        let found = about([&calls(5)]);
        let rows: Rows = culprit(&found).into_iter().collect();
        assert!(has(&calls(5), &rows) && !has(&calls(7), &rows));
        assert_ne!(found, about([&calls(7)]));
        // Who leaves out the group of calls leaves out all of them.
        let all = Rows::from([row_of(Insn::Call(Callee::Helper(5)))]);
        assert!(has(&calls(5), &all) && has(&calls(7), &all));
        assert!(!has(&avoid(&calls(7), &all), &all));
    }
}
