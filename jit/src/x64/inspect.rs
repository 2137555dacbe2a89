//! A look inside: what a program was compiled to, and why.

use softbpf::engine::ProgramId;
use softbpf::machine::Machine;

use super::code::Compiled;
use crate::inspect::{Compilation, CompiledInsn, CompiledSearch, Note};
use crate::proof::{Plan, Plans};

impl Compiled {
    /// A description for people and tools.
    pub(super) fn describe(&self, plans: &Plans) -> Compilation {
        let mut windows = vec![false; self.starts.len()];
        for site in self.sites.iter().filter(|site| site.window.is_some()) {
            windows[site.index as usize] = true;
        }
        let insns = self.starts.windows(2).enumerate().map(|(index, range)| CompiledInsn {
            code: range[0] as usize..range[1] as usize,
            note: note(plans.get(index), windows[index]),
        });
        let searches = self.searches.iter();
        Compilation {
            address: self.memory.address(0) as u64,
            code: self.memory.bytes().to_vec(),
            insns: insns.collect(),
            searches: searches
                .map(|search| CompiledSearch { map: search.map as usize, entry: search.start as usize })
                .collect(),
        }
    }
}

fn note(plan: Plan, window: bool) -> Option<Note> {
    match plan {
        Plan::Proved(place) => {
            let offsets = place.offsets();
            Some(Note::Proved { region: place.region(), first: offsets.min.into(), last: offsets.max.into() })
        }
        Plan::Likely(_) | Plan::Unknown if window => Some(Note::Window),
        Plan::Likely(place) => Some(Note::Likely(place.region())),
        Plan::Unknown | Plan::Lookup(_) | Plan::Answer(_) => None,
    }
}

/// Compiles a program of a machine, and drops the code.
pub(crate) fn code_size(machine: &mut Machine, id: ProgramId, config: crate::Config) -> Option<usize> {
    engine(config)?.code_size(machine, id)
}

fn engine(config: crate::Config) -> Option<super::Jit> {
    let config = crate::Config { perf: crate::Perf::Off, ..config };
    super::jit(config, crate::fault::Planted::default()).ok()
}

/// Compiles a program of a machine to look at it.
pub(crate) fn inspect(machine: &mut Machine, id: ProgramId, config: crate::Config) -> Option<Compilation> {
    engine(config)?.inspect(machine, id)
}
