//! Arrays and hashes, shared and for each CPU, as a list of keys and values.

use softbpf::errno::Errno;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::maps::{Map, create_flags};
use softbpf::memory::Memory;

use super::{CPUS, Model, Operation, flags, key};

/// An element: its key and the copies of its value.
type Element = (Vec<u8>, Vec<Vec<u8>>);

/// What there is, in the order of `next_key`.
#[derive(Debug)]
pub(super) struct Elements {
    spec: MapSpec,
    elements: Vec<Element>,
    /// Keys, the one to evict first.
    recency: Vec<Vec<u8>>,
}

impl Elements {
    pub(super) fn new(spec: &MapSpec) -> Elements {
        let mut elements = Elements { spec: spec.clone(), elements: Vec::new(), recency: Vec::new() };
        elements.reset();
        elements
    }

    fn reset(&mut self) {
        self.recency.clear();
        let zeros = vec![vec![0; self.spec.value_size as usize]; self.copies()];
        let indices = if self.is_array() { self.spec.max_entries } else { 0 };
        self.elements = (0..indices).map(|index| (index.to_le_bytes().to_vec(), zeros.clone())).collect();
    }

    fn is_array(&self) -> bool {
        [MapType::Array, MapType::PercpuArray].contains(&self.spec.map_type)
    }

    fn is_lru(&self) -> bool {
        [MapType::LruHash, MapType::LruPercpuHash].contains(&self.spec.map_type)
    }

    fn is_percpu(&self) -> bool {
        [MapType::PercpuArray, MapType::PercpuHash, MapType::LruPercpuHash].contains(&self.spec.map_type)
    }

    fn copies(&self) -> usize {
        if self.is_percpu() { CPUS as usize } else { 1 }
    }

    /// The copy that a program on this CPU has.
    fn copy(&self, cpu: u8) -> usize {
        usize::from(cpu).min(self.copies() - 1)
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        self.elements.iter().position(|(other, _)| other == key)
    }

    fn touch(&mut self, key: &[u8]) {
        self.recency.retain(|other| other != key);
        self.recency.push(key.to_vec());
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), Errno> {
        if self.is_array() {
            return Err(Errno::EINVAL);
        }
        let at = self.find(key).ok_or(Errno::ENOENT)?;
        self.elements.remove(at);
        self.recency.retain(|other| other != key);
        Ok(())
    }

    /// Writes one copy of a value, or all.
    fn update(&mut self, key: &[u8], value: u8, flags: u64, copy: Option<usize>) -> Result<(), Errno> {
        if !matches!(flags, 0..=2 | 4..=6) {
            return Err(Errno::EINVAL);
        }
        let (found, locks) = (self.find(key), flags & 4 != 0);
        if self.is_array() {
            found.ok_or(Errno::E2BIG)?;
        } else if locks {
            return Err(Errno::EINVAL);
        }
        match found {
            Some(_) if flags & 1 != 0 => return Err(Errno::EEXIST),
            None if flags & 2 != 0 => return Err(Errno::ENOENT),
            Some(_) | None => {}
        }
        if locks {
            return Err(Errno::EINVAL);
        }
        let at = match found {
            Some(at) => at,
            None => self.insert(key)?,
        };
        let bytes = vec![value; self.spec.value_size as usize];
        for (index, place) in self.elements[at].1.iter_mut().enumerate() {
            if copy.is_none_or(|copy| copy == index) {
                place.clone_from(&bytes);
            }
        }
        self.touch(key);
        Ok(())
    }

    fn insert(&mut self, key: &[u8]) -> Result<usize, Errno> {
        if self.elements.len() == self.spec.max_entries as usize {
            let oldest = self.recency.first().filter(|_| self.is_lru()).ok_or(Errno::E2BIG)?.clone();
            self.remove(&oldest)?;
        }
        self.elements.push((key.to_vec(), vec![vec![0; self.spec.value_size as usize]; self.copies()]));
        Ok(self.elements.len() - 1)
    }

    /// What user space reads: of a value for each CPU all copies, each filled up to 8 bytes.
    fn user_value(&self, copies: &[Vec<u8>]) -> Vec<u8> {
        if !self.is_percpu() {
            return copies.concat();
        }
        let padded = |copy: &Vec<u8>| {
            let mut copy = copy.clone();
            copy.resize(copy.len().next_multiple_of(8), 0);
            copy
        };
        copies.iter().flat_map(padded).collect()
    }

    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let next = key.and_then(|key| self.find(key)).map_or(0, |at| at + 1);
        self.elements.get(next).map(|(key, _)| key.clone()).ok_or(Errno::ENOENT)
    }

    fn read_only(&self) -> bool {
        self.spec.map_flags & create_flags::RDONLY_PROG != 0
    }

    /// A program's lookup: the address, and where the element is in the model.
    fn look_up(&mut self, key: &[u8], cpu: u8, map: &mut Map, memory: &mut Memory) -> Option<(u64, usize)> {
        let (address, found) = (map.lookup(memory, cpu.into(), key), self.find(key));
        assert_eq!(address.is_some(), found.is_some(), "lookup of {key:?}");
        if found.is_some() {
            self.touch(key);
        }
        address.map(u64::from).zip(found)
    }
}

impl Model for Elements {
    fn apply(&mut self, operation: Operation, map: &mut Map, memory: &mut Memory) {
        let size = self.spec.value_size as usize;
        match operation {
            Operation::Lookup { key: k, cpu } => {
                let (key, copy) = (key(&self.spec, k), self.copy(cpu));
                if let Some((address, at)) = self.look_up(&key, cpu, map, memory) {
                    assert_eq!(memory.read(address, size as u64), Ok(&self.elements[at].1[copy][..]));
                }
            }
            Operation::Write { key: k, cpu, offset, value } => {
                let (key, copy, offset) = (key(&self.spec, k), self.copy(cpu), usize::from(offset) % (size + 1));
                if let Some((address, at)) = self.look_up(&key, cpu, map, memory) {
                    let done = memory.write(address + offset as u64, &[value]);
                    assert_eq!(done.is_ok(), offset < size && !self.read_only(), "{done:?} at {offset} of {size}");
                    if done.is_ok() {
                        self.elements[at].1[copy][offset] = value;
                    }
                }
            }
            Operation::Update { key: k, cpu, value, flags: f } => {
                let (key, flags, copy) = (key(&self.spec, k), flags(f), self.copy(cpu));
                let done = map.update(memory, cpu.into(), &key, &vec![value; size], flags);
                let expected =
                    if self.read_only() { Err(Errno::EACCES) } else { self.update(&key, value, flags, Some(copy)) };
                assert_eq!(done, expected, "update of {key:?} with flags {flags}");
            }
            Operation::Delete { key: k } => {
                let key = key(&self.spec, k);
                let expected = if self.read_only() { Err(Errno::EACCES) } else { self.remove(&key) };
                assert_eq!(map.delete(memory, &key), expected, "delete of {key:?}");
            }
            Operation::UserLookup { key: k } => {
                let key = key(&self.spec, k);
                let expected = self.find(&key).map(|at| self.user_value(&self.elements[at].1));
                assert_eq!(map.user_lookup(memory, &key), expected.ok_or(Errno::ENOENT), "{key:?}");
            }
            Operation::UserUpdate { key: k, value, flags: f } => {
                let (key, flags) = (key(&self.spec, k), flags(f));
                let bytes = self.user_value(&vec![vec![value; size]; self.copies()]);
                let done = map.user_update(memory, &key, &bytes, flags);
                let expected = if flags & 4 != 0 { Err(Errno::EINVAL) } else { self.update(&key, value, flags, None) };
                assert_eq!(done, expected, "user update of {key:?} with flags {flags}");
            }
            Operation::UserDelete { key: k } => {
                let key = key(&self.spec, k);
                assert_eq!(map.user_delete(memory, &key), self.remove(&key), "user delete of {key:?}");
            }
            Operation::NextKey { key: k } => {
                let key = k.map(|k| key(&self.spec, k));
                assert_eq!(map.next_key(memory, key.as_deref()), self.next_key(key.as_deref()), "behind {key:?}");
            }
            Operation::EndRun => map.end_run(memory),
            Operation::Clear => {
                map.clear(memory);
                self.reset();
            }
            Operation::Reset => {
                map.reset(memory);
                self.reset();
            }
            Operation::Record(_) => {
                assert!(map.ringbuf().is_none() && map.perf_event_array().is_none() && map.stack_trace().is_none());
            }
        }
        assert_eq!(map.len(), self.elements.len());
    }

    fn check(&self, map: &Map, memory: &Memory) {
        let all = self.elements.iter().map(|(key, copies)| (key.clone(), self.user_value(copies)));
        assert_eq!(map.iter(memory).collect::<Vec<_>>(), all.collect::<Vec<_>>());
    }
}
