//! Perf event arrays as a list of samples.

use std::collections::BTreeSet;

use softbpf::errno::Errno;
use softbpf::map_spec::MapSpec;
use softbpf::maps::{Map, PerfSample};
use softbpf::memory::Memory;

use super::records::{Operation, no_elements, size};
use super::{CPUS, Model, Operation as MapOperation, flags, key};

/// A perf event array: slots that are open, and samples in the order in which they came.
#[derive(Debug)]
pub(super) struct Samples {
    spec: MapSpec,
    closed: BTreeSet<u32>,
    samples: Vec<PerfSample>,
}

impl Samples {
    pub(super) fn new(spec: &MapSpec) -> Samples {
        Samples { spec: spec.clone(), closed: BTreeSet::new(), samples: Vec::new() }
    }

    fn is_open(&self, slot: u32) -> bool {
        slot < self.spec.max_entries.min(CPUS) && !self.closed.contains(&slot)
    }

    fn open(&mut self, slot: u32) -> Result<(), Errno> {
        if slot >= self.spec.max_entries {
            return Err(Errno::E2BIG);
        }
        if slot >= CPUS {
            return Err(Errno::EBADF);
        }
        self.closed.remove(&slot);
        Ok(())
    }

    fn close(&mut self, slot: u32) -> Result<(), Errno> {
        if slot >= self.spec.max_entries {
            return Err(Errno::E2BIG);
        }
        if !self.is_open(slot) {
            return Err(Errno::ENOENT);
        }
        self.closed.insert(slot);
        Ok(())
    }

    fn output(&mut self, cpu: u32, slot: u32, data: &[u8]) -> Result<(), Errno> {
        if slot >= self.spec.max_entries {
            return Err(Errno::E2BIG);
        }
        if !self.is_open(slot) {
            return Err(Errno::ENOENT);
        }
        if slot != cpu {
            return Err(Errno::EOPNOTSUPP);
        }
        self.samples.push(PerfSample { cpu, data: data.to_vec() });
        Ok(())
    }
}

impl Model for Samples {
    fn apply(&mut self, operation: MapOperation, map: &mut Map, memory: &mut Memory) {
        let slot = |slot: u8| u32::from(slot % 8);
        match operation {
            MapOperation::Record(record) => {
                let Some(array) = map.perf_event_array() else { return };
                match record {
                    Operation::Sample { cpu, slot: s, len } => {
                        let (cpu, data) = (u32::from(cpu) % CPUS, vec![len; size(len)]);
                        let flags = if s == u8::MAX { u32::MAX.into() } else { u64::from(slot(s)) };
                        let wanted = if s == u8::MAX { cpu } else { slot(s) };
                        assert_eq!(array.output(cpu, flags, &data), self.output(cpu, wanted, &data));
                    }
                    Operation::Open { slot: s } => assert_eq!(array.open(slot(s)), self.open(slot(s))),
                    Operation::Close { slot: s } => assert_eq!(array.close(slot(s)), self.close(slot(s))),
                    Operation::Drain => assert_eq!(array.drain(), std::mem::take(&mut self.samples)),
                    Operation::Reserve { .. }
                    | Operation::Submit { .. }
                    | Operation::Discard { .. }
                    | Operation::Write { .. }
                    | Operation::Output { .. }
                    | Operation::Query
                    | Operation::Chain { .. } => {}
                }
            }
            MapOperation::UserUpdate { key: k, value, flags: f } => {
                let done = map.user_update(memory, &key(&self.spec, k), &[value; 4], flags(f));
                let expected = if flags(f) == 0 { self.open(slot(k)) } else { Err(Errno::EINVAL) };
                assert_eq!(done, expected);
            }
            MapOperation::UserDelete { key: k } => {
                assert_eq!(map.user_delete(memory, &key(&self.spec, k)), self.close(slot(k)));
            }
            MapOperation::NextKey { .. } => assert_eq!(map.next_key(memory, None), Ok(vec![0; 4])),
            MapOperation::EndRun => map.end_run(memory),
            MapOperation::Clear => {
                map.clear(memory);
                self.samples.clear();
            }
            MapOperation::Reset => {
                map.reset(memory);
                *self = Samples::new(&self.spec);
            }
            MapOperation::Lookup { .. }
            | MapOperation::Update { .. }
            | MapOperation::Delete { .. }
            | MapOperation::Write { .. }
            | MapOperation::UserLookup { .. } => no_elements(operation, map, memory, &[0; 4]),
        }
        assert_eq!(map.len(), self.samples.len());
    }

    fn check(&self, map: &Map, memory: &Memory) {
        assert_eq!(map.iter(memory).count(), 0);
    }
}
