//! Programs whose jumps lead to instructions, not over distances: what is left out in between needs no care.

use softbpf::codec::Code;
use softbpf::insn::{Callee, Imm64, Insn};

use crate::generator::aim;

/// An instruction, and the index of the one that it jumps to, calls or takes the address of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) insn: Insn,
    pub(crate) to: Option<usize>,
}

/// The program's instructions. What leads nowhere leads behind the last one.
pub(crate) fn nodes(code: &Code) -> Vec<Node> {
    let node = |(index, insn): (usize, &Insn)| {
        let to = distance(insn).map(|off| code.target(index, off).unwrap_or(code.insns().len()));
        Node { insn: *insn, to }
    };
    code.insns().iter().enumerate().map(node).collect()
}

/// Slots from the next instruction to where it leads.
fn distance(insn: &Insn) -> Option<i32> {
    if let Insn::Call(Callee::Local(off)) | Insn::LoadImm64 { value: Imm64::Code(off), .. } = *insn {
        return Some(off);
    }
    insn.jump_offset()
}

/// The program again.
pub(crate) fn code(nodes: &[Node]) -> Code {
    let mut slots = Vec::with_capacity(nodes.len() + 1);
    let mut slot = 0;
    for node in nodes {
        slots.push(slot);
        slot += node.insn.slots() as i64;
    }
    slots.push(slot);
    let aimed = |(index, node): (usize, &Node)| match node.to {
        Some(to) => aim(node.insn, slots[to.min(nodes.len())] - slots[index] - 1),
        None => node.insn,
    };
    nodes.iter().enumerate().map(aimed).collect()
}

/// The program without some of its instructions. What led to one of them leads to the next that is left.
pub(crate) fn without(nodes: &[Node], leave_out: impl Fn(usize) -> bool) -> Vec<Node> {
    let mut places = Vec::with_capacity(nodes.len() + 1);
    let mut left = 0;
    for index in 0..nodes.len() {
        places.push(left);
        left += usize::from(!leave_out(index));
    }
    places.push(left);
    let kept = nodes.iter().enumerate().filter(|&(index, _)| !leave_out(index));
    kept.map(|(_, node)| Node { to: node.to.map(|to| places[to.min(nodes.len())]), ..*node }).collect()
}
