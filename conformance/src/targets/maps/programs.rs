//! Program arrays as a list of slots.

use std::collections::BTreeMap;

use softbpf::errno::Errno;
use softbpf::map_spec::MapSpec;
use softbpf::maps::Map;
use softbpf::memory::Memory;

use super::{Model, Operation, flags, key, refuses};

/// Programs that there are.
const PROGRAMS: u32 = 3;

/// Program by slot.
#[derive(Debug)]
pub(super) struct Programs {
    spec: MapSpec,
    slots: BTreeMap<u32, u32>,
}

impl Programs {
    pub(super) fn new(spec: &MapSpec) -> Programs {
        Programs { spec: spec.clone(), slots: BTreeMap::new() }
    }

    fn index(k: u8) -> u32 {
        u32::from(k % 8)
    }

    fn update(&mut self, index: u32, program: u32, flags: u64) -> Result<(), Errno> {
        if flags != 0 {
            return Err(Errno::EINVAL);
        }
        if index >= self.spec.max_entries {
            return Err(Errno::E2BIG);
        }
        if program >= PROGRAMS {
            return Err(Errno::EBADF);
        }
        self.slots.insert(index, program);
        Ok(())
    }

    fn remove(&mut self, index: u32) -> Result<(), Errno> {
        if index >= self.spec.max_entries {
            return Err(Errno::E2BIG);
        }
        self.slots.remove(&index).map(drop).ok_or(Errno::ENOENT)
    }
}

impl Model for Programs {
    fn apply(&mut self, operation: Operation, map: &mut Map, memory: &mut Memory) {
        if let Some(array) = map.prog_array() {
            array.set_program_count(PROGRAMS);
        }
        let spec = &self.spec;
        match operation {
            Operation::Lookup { key: k, cpu } | Operation::Write { key: k, cpu, .. } => {
                assert_eq!(map.lookup(memory, cpu.into(), &key(spec, k)), None);
            }
            Operation::Update { key: k, cpu, value, flags: f } => {
                refuses(map.update(memory, cpu.into(), &key(spec, k), &[value; 4], flags(f)));
            }
            Operation::Delete { key: k } => refuses(map.delete(memory, &key(spec, k))),
            Operation::UserLookup { key: k } => {
                let expected = self.slots.get(&Programs::index(k)).map(|program| program.to_le_bytes().to_vec());
                assert_eq!(map.user_lookup(memory, &key(spec, k)), expected.ok_or(Errno::ENOENT));
            }
            Operation::UserUpdate { key: k, value, flags: f } => {
                let (key, program) = (key(spec, k), u32::from(value % 5));
                // `BPF_F_LOCK` is refused before the map is asked.
                let done = map.user_update(memory, &key, &program.to_le_bytes(), flags(f));
                assert_eq!(done, self.update(Programs::index(k), program, flags(f)));
            }
            Operation::UserDelete { key: k } => {
                let key = key(spec, k);
                assert_eq!(map.user_delete(memory, &key), self.remove(Programs::index(k)));
            }
            Operation::NextKey { key: k } => {
                let next =
                    k.map(Programs::index).filter(|&index| index < spec.max_entries).map_or(0, |index| index + 1);
                let expected =
                    if next < spec.max_entries { Ok(next.to_le_bytes().to_vec()) } else { Err(Errno::ENOENT) };
                assert_eq!(map.next_key(memory, k.map(|k| key(spec, k)).as_deref()), expected);
            }
            Operation::EndRun => map.end_run(memory),
            Operation::Clear => {
                map.clear(memory);
                self.slots.clear();
            }
            Operation::Reset => {
                map.reset(memory);
                self.slots.clear();
            }
            Operation::Record(_) => assert!(map.ringbuf().is_none() && map.perf_event_array().is_none()),
        }
        assert_eq!(map.len(), self.slots.len());
    }

    fn check(&self, map: &Map, memory: &Memory) {
        let slots =
            self.slots.iter().map(|(slot, program)| (slot.to_le_bytes().to_vec(), program.to_le_bytes().to_vec()));
        assert_eq!(map.iter(memory).collect::<Vec<_>>(), slots.collect::<Vec<_>>());
    }
}
