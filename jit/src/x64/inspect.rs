//! A look inside: what a program was compiled to, and why.

use softbpf::engine::ProgramId;
use softbpf::machine::Machine;

use super::code::Compiled;
use crate::inspect::{Compilation, CompiledInsn, Note};
use crate::proof::Plan;

impl Compiled {
    /// A description for people and tools.
    pub(super) fn describe(&self) -> Compilation {
        let insns = self
            .starts
            .windows(2)
            .enumerate()
            .map(|(index, range)| CompiledInsn { code: range[0] as usize..range[1] as usize, note: self.note(index) });
        Compilation {
            address: self.memory.address(0) as u64,
            code: self.memory.bytes().to_vec(),
            insns: insns.collect(),
        }
    }

    fn note(&self, index: usize) -> Option<Note> {
        match *self.plans.get(index)? {
            Plan::Unknown => None,
            Plan::Likely(region) => Some(Note::Likely(region)),
            Plan::Proved(region, offsets) => {
                Some(Note::Proved { region, first: offsets.min.into(), last: offsets.max.into() })
            }
        }
    }
}

/// Compiles a program of a machine to look at it.
pub(crate) fn inspect(machine: &mut Machine, id: ProgramId, config: crate::Config) -> Option<Compilation> {
    let mut jit = super::jit(config).ok()?;
    jit.inspect(machine, id)
}
