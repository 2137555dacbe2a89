//! A look inside: what a program was compiled to, and why.

use std::ops::Range;

use softbpf::engine::ProgramId;
use softbpf::machine::Machine;

use super::code::Compiled;
use super::compile::Reasons;
use crate::inspect::{Assumptions, Compilation, CompiledInsn, CompiledSearch, Note};
use crate::proof::{self, Plan};

impl Compiled {
    /// A description for people and tools.
    pub(super) fn describe(&self, reasons: &Reasons) -> Compilation {
        let mut windows = vec![false; self.starts.len()];
        for site in self.sites.iter().filter(|site| site.window.is_some()) {
            windows[site.index as usize] = true;
        }
        let insns = self.starts.windows(2).enumerate().map(|(index, range)| CompiledInsn {
            code: range[0] as usize..range[1] as usize,
            note: note(reasons, index, windows[index]),
        });
        let searches = self.searches.iter();
        Compilation {
            address: self.memory.address(0) as u64,
            code: self.memory.bytes().to_vec(),
            insns: insns.collect(),
            searches: searches
                .map(|search| CompiledSearch { map: search.map as usize, entry: search.start as usize })
                .collect(),
            assumptions: assumptions(&self.assumptions),
        }
    }
}

fn assumptions(assumptions: &proof::Assumptions) -> Assumptions {
    Assumptions {
        context_readable: ranges(&assumptions.readable),
        context_writable: ranges(&assumptions.writable),
        packet_pointers: assumptions.packet.map(|fields| (fields.data.unsigned_abs(), fields.data_end.unsigned_abs())),
        packet_readable: assumptions.packet_read,
        packet_writable: assumptions.packet_write,
        not_mocked: assumptions.helpers.clone(),
    }
}

/// Where the bits are.
fn ranges(words: &[u64]) -> Vec<Range<u32>> {
    let bits = (0..).zip(words).flat_map(|(word, &bits)| (0..64).map(move |bit| (64 * word + bit, bits >> bit & 1)));
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for bit in bits.filter(|&(_, set)| set == 1).map(|(bit, _)| bit) {
        match ranges.last_mut() {
            Some(last) if last.end == bit => last.end += 1,
            _ => ranges.push(bit..bit + 1),
        }
    }
    ranges
}

fn note(reasons: &Reasons, index: usize, window: bool) -> Option<Note> {
    match reasons.plans.get(index) {
        Plan::Proved(place) => {
            let offsets = place.offsets();
            Some(Note::Proved {
                region: place.region(),
                first: offsets.min.into(),
                last: offsets.max.into(),
                tested: reasons.tested.get(index),
            })
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
