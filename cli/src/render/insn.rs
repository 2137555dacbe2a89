//! One instruction on a line of its own, with the names that its numbers stand for.

use softbpf::helpers::table;
use softbpf::insn::{Callee, Imm64, Insn};
use softbpf::map_spec::MapSpec;

use super::clean;

/// As LLVM writes it, and what the number of a helper or map in it means.
pub(crate) fn insn_text(insn: &Insn, maps: &[MapSpec]) -> String {
    // LLVM puts a tab behind `ld_pseudo`.
    let text = insn.to_string().replace('\t', " ");
    match meaning(insn, maps) {
        Some(meaning) => format!("{text} # {meaning}"),
        None => text,
    }
}

fn meaning(insn: &Insn, maps: &[MapSpec]) -> Option<String> {
    let map = |index: i32| maps.get(usize::try_from(index).ok()?);
    if let Insn::Call(Callee::Helper(number)) = *insn {
        return table::by_number(number).map(|row| format!("bpf_{}", row.name));
    }
    let Insn::LoadImm64 { value, .. } = *insn else { return None };
    match value {
        Imm64::MapFd(index) | Imm64::MapIndex(index) => Some(format!("map {}", clean(&map(index)?.name))),
        Imm64::MapValue { fd: index, offset } | Imm64::MapIndexValue { index, offset } => {
            Some(format!("{}+{offset:#x}", clean(&map(index)?.name)))
        }
        Imm64::Value(_) | Imm64::Variable { .. } | Imm64::Code(_) => None,
    }
}
