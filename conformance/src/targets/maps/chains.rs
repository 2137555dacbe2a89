//! Call chains of stack trace maps, by number.

use std::collections::BTreeMap;

use softbpf::errno::Errno;
use softbpf::map_spec::MapSpec;
use softbpf::maps::Map;
use softbpf::memory::Memory;

use super::records::{Operation, no_elements};
use super::{Model, Operation as MapOperation, key};

/// Call chains by number. Which number a chain gets is a hash's business; that it is the chain's alone is ours.
#[derive(Debug)]
pub(super) struct Chains {
    spec: MapSpec,
    chains: BTreeMap<u32, Vec<u64>>,
}

impl Chains {
    pub(super) fn new(spec: &MapSpec) -> Chains {
        Chains { spec: spec.clone(), chains: BTreeMap::new() }
    }

    fn store(&mut self, chain: &[u64], flags: u64, map: &mut Map) {
        const SKIP: u64 = 0xff;
        const REUSE: u64 = 1 << 10;
        let Some(traces) = map.stack_trace() else { return };
        let (skip, depth) = ((flags & SKIP) as usize, self.spec.value_size as usize / 8);
        let kept = chain.get(skip..).unwrap_or_default();
        let kept = &kept[..kept.len().min(depth)];
        match traces.stack_id(chain, flags) {
            Ok(id) => {
                assert!(id < self.spec.max_entries.next_power_of_two() && !kept.is_empty());
                assert_eq!(traces.stack(id), Some(kept));
                let before = self.chains.insert(id, kept.to_vec());
                assert!(
                    before.is_none_or(|before| before == kept || flags & REUSE != 0),
                    "two chains with number {id}"
                );
            }
            Err(Errno::EFAULT) => assert!(kept.is_empty()),
            Err(Errno::EEXIST) => assert!(flags & REUSE == 0 && !self.chains.is_empty()),
            Err(Errno::ENOMEM) => assert_eq!(self.chains.len(), self.spec.max_entries as usize),
            Err(other) => panic!("{other}"),
        }
    }
}

impl Model for Chains {
    fn apply(&mut self, operation: MapOperation, map: &mut Map, memory: &mut Memory) {
        let id = |k: u8| u32::from(k % 8);
        match operation {
            MapOperation::Record(Operation::Chain { first, len, flags }) => {
                let chain: Vec<u64> = (0..u64::from(len % 8)).map(|frame| u64::from(first % 16) + frame).collect();
                let skip = u64::from(flags % 4);
                let reuse = if flags >= 128 { 1 << 10 } else { 0 };
                self.store(&chain, skip | reuse, map);
            }
            MapOperation::Record(_) => {}
            MapOperation::UserLookup { key: k } => {
                let value = |chain: &Vec<u64>| {
                    let mut bytes: Vec<u8> = chain.iter().flat_map(|frame| frame.to_le_bytes()).collect();
                    bytes.resize(self.spec.value_size as usize, 0);
                    bytes
                };
                let expected = self.chains.get(&id(k)).map(value).ok_or(Errno::ENOENT);
                assert_eq!(map.user_lookup(memory, &key(&self.spec, k)), expected);
            }
            MapOperation::UserDelete { key: k } | MapOperation::Delete { key: k } => {
                let done = map.user_delete(memory, &key(&self.spec, k));
                assert_eq!(done.is_ok(), self.chains.remove(&id(k)).is_some());
            }
            MapOperation::NextKey { key: k } => {
                let start = k.map(id).filter(|id| self.chains.contains_key(id)).map_or(0, |id| id + 1);
                let next = self.chains.range(start..).next().map(|(id, _)| id.to_le_bytes().to_vec());
                assert_eq!(map.next_key(memory, k.map(|k| key(&self.spec, k)).as_deref()), next.ok_or(Errno::ENOENT));
            }
            MapOperation::EndRun => map.end_run(memory),
            MapOperation::Clear => {
                map.clear(memory);
                self.chains.clear();
            }
            MapOperation::Reset => {
                map.reset(memory);
                self.chains.clear();
            }
            MapOperation::Lookup { .. }
            | MapOperation::Update { .. }
            | MapOperation::Write { .. }
            | MapOperation::UserUpdate { .. } => no_elements(operation, map, memory, &[0; 4]),
        }
        assert_eq!(map.len(), self.chains.len());
    }

    fn check(&self, map: &Map, memory: &Memory) {
        assert_eq!(map.iter(memory).count(), self.chains.len());
    }
}
