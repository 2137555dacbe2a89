//! Makes do with fewer registers: what is in one of them moves to one with a lower number, everywhere.

use softbpf::codec::Code;
use softbpf::insn::{Callee, Insn, Operand, PacketOffset, Reg};

use super::Try;
use super::flow::{code, nodes, without};

/// Programs of at most so many instructions are also tried without one more instruction: where two values share a
/// register, one of them has to go.
const FEW: usize = 16;

/// One round over all pairs of registers that can be renamed.
pub(super) fn pass(search: &mut dyn Try) {
    for from in (1..10).rev() {
        for to in 0..from {
            let (Some(from), Some(to)) = (Reg::new(from), Reg::new(to)) else { continue };
            rename(search, from, to);
        }
    }
}

fn rename(search: &mut dyn Try, from: Reg, to: Reg) {
    let mut candidate = search.best().clone();
    for code in &mut candidate.programs {
        *code = code.insns().iter().map(|&insn| renamed(insn, from, to)).collect::<Code>();
    }
    if candidate == *search.best() || search.attempt(candidate.clone()) || candidate.len() > FEW {
        return;
    }
    for program in 0..candidate.programs.len() {
        let nodes = nodes(&candidate.programs[program]);
        for left_out in 0..nodes.len() {
            let mut fewer = candidate.clone();
            fewer.programs[program] = code(&without(&nodes, |index| index == left_out));
            if search.attempt(fewer) {
                return;
            }
        }
    }
}

/// The instruction with one register in place of another.
fn renamed(insn: Insn, from: Reg, to: Reg) -> Insn {
    let reg = |reg: Reg| if reg == from { to } else { reg };
    let operand = |operand| match operand {
        Operand::Reg(register) => Operand::Reg(reg(register)),
        Operand::Imm(imm) => Operand::Imm(imm),
    };
    match insn {
        Insn::Alu { op, width, dst, src } => Insn::Alu { op, width, dst: reg(dst), src: operand(src) },
        Insn::Neg { width, dst } => Insn::Neg { width, dst: reg(dst) },
        Insn::MovSx { width, from, dst, src } => Insn::MovSx { width, from, dst: reg(dst), src: reg(src) },
        Insn::End { order, width, dst } => Insn::End { order, width, dst: reg(dst) },
        Insn::AddrSpaceCast { dst, src, dst_space, src_space } => {
            Insn::AddrSpaceCast { dst: reg(dst), src: reg(src), dst_space, src_space }
        }
        Insn::LoadImm64 { dst, value } => Insn::LoadImm64 { dst: reg(dst), value },
        Insn::Load { size, signed, dst, base, off } => Insn::Load { size, signed, dst: reg(dst), base: reg(base), off },
        Insn::Store { size, base, off, src } => Insn::Store { size, base: reg(base), off, src: operand(src) },
        Insn::Atomic { op, width, base, off, src } => Insn::Atomic { op, width, base: reg(base), off, src: reg(src) },
        Insn::LoadAcquire { size, dst, base, off } => Insn::LoadAcquire { size, dst: reg(dst), base: reg(base), off },
        Insn::StoreRelease { size, base, off, src } => Insn::StoreRelease { size, base: reg(base), off, src: reg(src) },
        Insn::LoadPacket { size, offset } => Insn::LoadPacket {
            size,
            offset: match offset {
                PacketOffset::Abs(imm) => PacketOffset::Abs(imm),
                PacketOffset::Ind(register, imm) => PacketOffset::Ind(reg(register), imm),
            },
        },
        Insn::JumpIf { condition, width, dst, src, off } => {
            Insn::JumpIf { condition, width, dst: reg(dst), src: operand(src), off }
        }
        Insn::Call(Callee::Reg(register)) => Insn::Call(Callee::Reg(reg(register))),
        Insn::Jump { .. }
        | Insn::MayGoto { .. }
        | Insn::Call(Callee::Helper(_) | Callee::Local(_) | Callee::Kfunc { .. })
        | Insn::Exit => insn,
    }
}
