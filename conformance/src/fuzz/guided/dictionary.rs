//! Numbers that a program's instructions name: what it compares with is likely to be what it wants.

use std::collections::BTreeSet;

use softbpf::codec::Code;
use softbpf::insn::{Imm64, Insn, Operand};

/// The immediates of comparisons, of arithmetic, and of loads of 64 bits, each once, in order.
pub(super) fn constants(codes: &[Code]) -> Vec<u64> {
    let constants: BTreeSet<u64> = codes.iter().flat_map(Code::insns).filter_map(constant).collect();
    constants.into_iter().collect()
}

fn constant(insn: &Insn) -> Option<u64> {
    match *insn {
        Insn::JumpIf { src: Operand::Imm(imm), .. } | Insn::Alu { src: Operand::Imm(imm), .. } => {
            Some(imm as i64 as u64)
        }
        Insn::LoadImm64 { value: Imm64::Value(value), .. } => Some(value),
        Insn::JumpIf { .. }
        | Insn::Alu { .. }
        | Insn::LoadImm64 { .. }
        | Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::LoadPacket { .. }
        | Insn::Jump { .. }
        | Insn::MayGoto { .. }
        | Insn::Call(_)
        | Insn::Exit => None,
    }
}
