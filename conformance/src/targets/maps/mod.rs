//! Operations on maps, in any order, against simple collections that say what each must answer.
//!
//! An input is a definition and a list of operations, of the program side and of the user side. `elements` models arrays
//! and hashes of all kinds, `programs` program arrays, `ring` ring buffers, `samples` perf event arrays and `chains` call
//! chains; `records` has what these three share.

mod chains;
mod elements;
mod programs;
mod records;
mod ring;
mod samples;

use std::cell::RefCell;

use arbitrary::{Arbitrary, Unstructured};
use softbpf::errno::Errno;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::maps::{Map, create_flags};
use softbpf::memory::Memory;

/// CPUs of the machine that the map belongs to.
const CPUS: u32 = 3;

/// Most operations on a map.
const OPERATIONS: usize = 256;

/// What is done to a map. Keys and values are made of single bytes, so that they meet.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Operation {
    Lookup {
        key: u8,
        cpu: u8,
    },
    Update {
        key: u8,
        cpu: u8,
        value: u8,
        flags: u8,
    },
    Delete {
        key: u8,
    },
    /// A byte of a value is written through the address that a lookup gives.
    Write {
        key: u8,
        cpu: u8,
        offset: u8,
        value: u8,
    },
    UserLookup {
        key: u8,
    },
    UserUpdate {
        key: u8,
        value: u8,
        flags: u8,
    },
    UserDelete {
        key: u8,
    },
    NextKey {
        key: Option<u8>,
    },
    EndRun,
    Clear,
    Reset,
    /// What only ring buffers, perf event arrays or call chains know.
    Record(records::Operation),
}

/// What is asked of a model beside the map itself.
trait Model {
    /// Does the same to the map and to the model.
    ///
    /// # Panics
    /// Their answers differ.
    fn apply(&mut self, operation: Operation, map: &mut Map, memory: &mut Memory);

    /// Compares all that the map holds.
    ///
    /// # Panics
    /// It is not what the model holds.
    fn check(&self, map: &Map, memory: &Memory);
}

/// Maps that are made in one memory, one behind the other, before another is asked of the host.
const MAPS: u32 = 1000;

thread_local! {
    /// Guest memory, and how many maps are in it.
    static MEMORY: RefCell<(Option<Memory>, u32)> = const { RefCell::new((None, 0)) };
}

/// Makes the map and does what the bytes say.
///
/// # Panics
/// The map does not do what the model does.
pub fn run(bytes: &[u8]) {
    let mut u = Unstructured::new(bytes);
    let Ok(spec) = definition(&mut u) else { return };
    MEMORY.with_borrow_mut(|(memory, maps)| {
        if *maps == MAPS || memory.is_none() {
            (*memory, *maps) = (Memory::new().ok(), 0);
        }
        *maps += 1;
        if let Some(memory) = memory {
            play(&spec, model(&spec), &mut u, memory);
        }
    });
}

/// Makes the map, and does to it and to a model what the rest of the bytes says.
fn play(spec: &MapSpec, mut model: Box<dyn Model>, u: &mut Unstructured<'_>, memory: &mut Memory) {
    let mut map = Map::create(spec, memory, CPUS).unwrap_or_else(|error| panic!("{error}: {spec:?}"));
    for _ in 0..OPERATIONS {
        if u.is_empty() {
            break;
        }
        let Ok(operation) = operation(spec, u) else { break };
        model.apply(operation, &mut map, memory);
    }
    model.check(&map, memory);
}

/// For maps that have operations of their own, one of these every other time.
fn operation(spec: &MapSpec, u: &mut Unstructured<'_>) -> arbitrary::Result<Operation> {
    let own = [MapType::Ringbuf, MapType::PerfEventArray, MapType::StackTrace].contains(&spec.map_type);
    if own && u.arbitrary()? { records::Operation::arbitrary(u).map(Operation::Record) } else { u.arbitrary() }
}

/// The kinds that there are, with flags.
const KINDS: [(MapType, u32); 12] = [
    (MapType::Hash, 0),
    (MapType::Hash, create_flags::NO_PREALLOC),
    (MapType::PercpuHash, 0),
    (MapType::LruHash, 0),
    (MapType::LruPercpuHash, 0),
    (MapType::Array, 0),
    (MapType::Array, create_flags::RDONLY_PROG),
    (MapType::PercpuArray, 0),
    (MapType::ProgArray, 0),
    (MapType::PerfEventArray, 0),
    (MapType::Ringbuf, 0),
    (MapType::StackTrace, 0),
];

fn definition(u: &mut Unstructured<'_>) -> arbitrary::Result<MapSpec> {
    let (map_type, flags) = *u.choose(&KINDS)?;
    let (small, entries) = (u.int_in_range(1..=9)?, u.int_in_range(1..=5)?);
    let (value, is) = (u.int_in_range(1..=24)?, |kinds: &[MapType]| kinds.contains(&map_type));
    let (key, value, entries) = if is(&[MapType::Ringbuf]) {
        (0, 0, ring::BYTES)
    } else if is(&[MapType::StackTrace]) {
        (4, 8 * value.min(4), entries)
    } else if is(&[MapType::ProgArray, MapType::PerfEventArray]) {
        (4, 4, entries)
    } else if is(&[MapType::Array, MapType::PercpuArray]) {
        (4, value, entries)
    } else {
        (small, value, entries)
    };
    Ok(MapSpec { map_flags: flags, ..MapSpec::new("map", map_type, key, value, entries) })
}

fn model(spec: &MapSpec) -> Box<dyn Model> {
    if spec.map_type == MapType::ProgArray {
        Box::new(programs::Programs::new(spec))
    } else if spec.map_type == MapType::PerfEventArray {
        Box::new(samples::Samples::new(spec))
    } else if spec.map_type == MapType::Ringbuf {
        Box::new(ring::Ring::new(spec.max_entries))
    } else if spec.map_type == MapType::StackTrace {
        Box::new(chains::Chains::new(spec))
    } else {
        Box::new(elements::Elements::new(spec))
    }
}

/// A key of a hash, or an index: of the last bytes all are the same.
fn key(spec: &MapSpec, key: u8) -> Vec<u8> {
    if spec.key_size == 4 { u32::from(key % 8).to_le_bytes().to_vec() } else { vec![key % 8; spec.key_size as usize] }
}

/// Flags that exist, and some that do not.
fn flags(flags: u8) -> u64 {
    match flags {
        0..128 => 0,
        128..176 => 1,
        176..224 => 2,
        _ => u64::from(flags % 16),
    }
}

/// What a map without keys, or without elements that programs reach, must answer.
fn refuses(done: Result<(), Errno>) {
    assert!(done.is_err(), "{done:?}");
}

/// Sequences of operations on every kind of map.
pub fn seeds() -> Vec<Vec<u8>> {
    super::random_seeds(20 * KINDS.len() as u64, 1024)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::catch_unwind;

    use super::*;

    /// Every comparison can fail: the model of a larger map is not this map's.
    #[test]
    fn a_wrong_model_is_noticed() {
        let mut noticed: BTreeMap<usize, bool> = BTreeMap::new();
        for seed in seeds() {
            let Ok(spec) = definition(&mut Unstructured::new(&seed)) else { continue };
            let MapSpec { max_entries, value_size, .. } = spec;
            let wrong = MapSpec { max_entries: max_entries + 1, value_size: value_size + 8, ..spec.clone() };
            let differs = catch_unwind(|| {
                let (mut u, mut memory) = (Unstructured::new(&seed), Memory::new().expect("memory"));
                definition(&mut u).expect("a definition");
                play(&spec, model(&wrong), &mut u, &mut memory);
            });
            let kind =
                KINDS.iter().position(|kind| *kind == (spec.map_type, spec.map_flags)).expect("it is of the table");
            *noticed.entry(kind).or_default() |= differs.is_err();
        }
        assert!(noticed.len() == KINDS.len() && noticed.values().all(|&noticed| noticed), "{noticed:?}");
    }
}
