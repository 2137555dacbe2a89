//! Operations that only maps know which programs send records, samples or call chains to, and what these maps refuse.

use arbitrary::Arbitrary;
use softbpf::maps::Map;
use softbpf::memory::Memory;

use super::{Operation as MapOperation, flags, refuses};

/// What is done to one of these.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Operation {
    Reserve {
        len: u8,
        flags: u8,
    },
    Submit {
        which: u8,
    },
    Discard {
        which: u8,
    },
    /// A byte of a reserved record is written.
    Write {
        which: u8,
        offset: u8,
        value: u8,
    },
    Output {
        len: u8,
        value: u8,
        flags: u8,
    },
    Drain,
    Query,
    Sample {
        cpu: u8,
        slot: u8,
        len: u8,
    },
    Open {
        slot: u8,
    },
    Close {
        slot: u8,
    },
    Chain {
        first: u8,
        len: u8,
        flags: u8,
    },
}

/// Sizes of records: small, and such that a ring of one page is soon full.
pub(super) fn size(len: u8) -> usize {
    if len < 128 { usize::from(len % 24) } else { usize::from(len) * 16 }
}

/// What a map without elements that anybody can read answers.
pub(super) fn no_elements(operation: MapOperation, map: &mut Map, memory: &mut Memory, key: &[u8]) {
    match operation {
        MapOperation::Lookup { cpu, .. } | MapOperation::Write { cpu, .. } => {
            assert_eq!(map.lookup(memory, cpu.into(), key), None);
        }
        MapOperation::Update { cpu, value, flags: f, .. } => {
            let value = vec![value; map.value_size() as usize];
            refuses(map.update(memory, cpu.into(), key, &value, flags(f)));
        }
        MapOperation::Delete { .. } => refuses(map.delete(memory, key)),
        MapOperation::UserLookup { .. } => refuses(map.user_lookup(memory, key).map(drop)),
        MapOperation::UserUpdate { value, flags: f, .. } => {
            let value = vec![value; map.value_size() as usize];
            refuses(map.user_update(memory, key, &value, flags(f)));
        }
        MapOperation::UserDelete { .. } => refuses(map.user_delete(memory, key)),
        MapOperation::NextKey { .. } => refuses(map.next_key(memory, None).map(drop)),
        MapOperation::EndRun | MapOperation::Clear | MapOperation::Reset | MapOperation::Record(_) => {}
    }
}
