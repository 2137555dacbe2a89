//! [`MapHandle`]: a map as a test uses it, with typed keys and values.

use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};

use super::error::{MapAccessError, MapOperation};
use super::perf_event_array::PerfSample;
use super::{Map, update_flags};
use crate::errno::Errno;
use crate::map_spec::MapType;
use crate::memory::Memory;

/// Key and value of an element as bytes.
pub type RawEntry = (Vec<u8>, Vec<u8>);

/// The user side of a map: what `bpf(2)` offers, with typed keys and values.
///
/// Keys and values are plain data: their bytes in memory are the bytes in the map, so that their sizes must be those
/// of the map. A value of a per-CPU map is an array of copies here; the `percpu` methods take one a CPU.
///
/// ```
/// use softbpf::map_spec::{MapSpec, MapType};
/// use softbpf::maps::{Map, MapHandle};
/// use softbpf::memory::Memory;
///
/// let mut memory = Memory::new()?;
/// let mut map = Map::create(&MapSpec::new("counts", MapType::Hash, 4, 8, 16), &mut memory, 1)?;
/// let mut counts = MapHandle::new(&mut map, &mut memory);
/// counts.insert(&7_u32, &1_u64)?;
/// assert_eq!(counts.get::<u32, u64>(&7)?, Some(1));
/// assert!(counts.insert(&7_u64, &1_u64).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct MapHandle<'a> {
    map: &'a mut Map,
    memory: &'a mut Memory,
}

impl<'a> MapHandle<'a> {
    /// A map of the machine with this memory.
    pub fn new(map: &'a mut Map, memory: &'a mut Memory) -> MapHandle<'a> {
        MapHandle { map, memory }
    }

    /// The map itself: its name, type and sizes.
    pub fn map(&self) -> &Map {
        self.map
    }

    /// The map itself, for what only some types can do ([`Map::prog_array`], [`Map::stack_trace`]).
    pub fn map_mut(&mut self) -> &mut Map {
        self.map
    }

    /// The value of a key; `None` when there is none.
    ///
    /// # Errors
    /// A key or value of the wrong size; a map that user space cannot read.
    pub fn get<K: NoUninit, V: AnyBitPattern>(&self, key: &K) -> Result<Option<V>, MapAccessError> {
        self.check_value(size_of::<V>())?;
        self.get_bytes(bytemuck::bytes_of(key))?.map(|value| self.value_from(&value)).transpose()
    }

    /// Writes the value of a key, whether it is there or not (`BPF_ANY`).
    ///
    /// # Errors
    /// A key or value of the wrong size; the errors of the system call ([`Map::user_update`]).
    pub fn insert<K: NoUninit, V: NoUninit>(&mut self, key: &K, value: &V) -> Result<(), MapAccessError> {
        self.insert_bytes(bytemuck::bytes_of(key), bytemuck::bytes_of(value), update_flags::ANY)
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// A key of the wrong size; a map whose elements user space cannot remove, such as an array.
    pub fn remove<K: NoUninit>(&mut self, key: &K) -> Result<bool, MapAccessError> {
        self.remove_bytes(bytemuck::bytes_of(key))
    }

    /// Whether the key is there.
    ///
    /// # Errors
    /// As [`MapHandle::get`].
    pub fn contains<K: NoUninit>(&self, key: &K) -> Result<bool, MapAccessError> {
        Ok(self.get_bytes(bytemuck::bytes_of(key))?.is_some())
    }

    /// All keys and values, in the order of [`Map::next_key`]; of large maps [`MapHandle::iter`] takes some.
    ///
    /// # Errors
    /// Keys or values of the wrong size; a map that user space cannot read.
    pub fn entries<K: AnyBitPattern, V: AnyBitPattern>(&self) -> Result<Vec<(K, V)>, MapAccessError> {
        self.check_key(size_of::<K>())?;
        self.check_value(size_of::<V>())?;
        let entry = |(key, value): RawEntry| Ok((self.key_from(&key)?, self.value_from(&value)?));
        self.iter()?.map(entry).collect()
    }

    /// Number of elements, or of records that wait ([`Map::len`]).
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Removes all elements; the values of an array become zero.
    ///
    /// # Errors
    /// A map that user space may only read.
    pub fn clear(&mut self) -> Result<(), MapAccessError> {
        if self.map.flags() & super::create_flags::RDONLY != 0 {
            return Err(self.refused(MapOperation::Delete, Errno::EPERM));
        }
        self.map.clear(self.memory);
        Ok(())
    }

    // One value a CPU.

    /// The values of a key, one for each CPU; `None` when there is none.
    ///
    /// # Errors
    /// A map that is not per CPU; a key or value of the wrong size; a map that user space cannot read.
    pub fn get_percpu<K: NoUninit, V: AnyBitPattern>(&self, key: &K) -> Result<Option<Vec<V>>, MapAccessError> {
        let padded = self.check_percpu_value(size_of::<V>())?;
        let Some(values) = self.get_bytes(bytemuck::bytes_of(key))? else { return Ok(None) };
        let copy = |copy: &[u8]| self.value_from(copy.get(..size_of::<V>()).unwrap_or(&[]));
        values.chunks_exact(padded).map(copy).collect::<Result<_, _>>().map(Some)
    }

    /// Writes the values of a key, one for each CPU.
    ///
    /// # Errors
    /// A map that is not per CPU; as many values as there are no CPUs; the errors of [`MapHandle::insert`].
    pub fn insert_percpu<K: NoUninit, V: NoUninit>(&mut self, key: &K, values: &[V]) -> Result<(), MapAccessError> {
        let padded = self.check_percpu_value(size_of::<V>())?;
        if values.len() != self.map.copies() as usize {
            let (map, expected) = (self.name(), self.map.copies());
            return Err(MapAccessError::Copies { map, expected, got: values.len() });
        }
        let mut bytes = vec![0; padded * values.len()];
        for (place, value) in bytes.chunks_exact_mut(padded).zip(values) {
            place[..size_of::<V>()].copy_from_slice(bytemuck::bytes_of(value));
        }
        self.insert_bytes(bytemuck::bytes_of(key), &bytes, update_flags::ANY)
    }

    // Bytes.

    /// The value of a key as bytes ([`Map::user_lookup`]); `None` when there is none.
    ///
    /// # Errors
    /// A key of the wrong size; a map that user space cannot read.
    pub fn get_bytes(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapAccessError> {
        self.check_key(key.len())?;
        match self.map.user_lookup(self.memory, key) {
            Ok(value) => Ok(Some(value)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.refused(MapOperation::Lookup, errno)),
        }
    }

    /// Writes the value of a key, both as bytes, with [`update_flags`].
    ///
    /// # Errors
    /// As [`MapHandle::insert`].
    pub fn insert_bytes(&mut self, key: &[u8], value: &[u8], flags: u64) -> Result<(), MapAccessError> {
        self.check_key(key.len())?;
        self.check_value(value.len())?;
        let done = self.map.user_update(self.memory, key, value, flags);
        done.map_err(|errno| self.refused(MapOperation::Update, errno))
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// As [`MapHandle::remove`].
    pub fn remove_bytes(&mut self, key: &[u8]) -> Result<bool, MapAccessError> {
        self.check_key(key.len())?;
        match self.map.user_delete(self.memory, key) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.refused(MapOperation::Delete, errno)),
        }
    }

    /// The key behind `key`; the first for `None` and for one that is not there; `None` behind the last.
    ///
    /// # Errors
    /// A key of the wrong size; a map without keys that user space can read.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>, MapAccessError> {
        if let Some(key) = key {
            self.check_key(key.len())?;
        }
        match self.map.next_key(self.memory, key) {
            Ok(key) => Ok(Some(key)),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.refused(MapOperation::NextKey, errno)),
        }
    }

    /// Keys and values as bytes, one by one, in the order of [`Map::next_key`]; only slots with a program for a
    /// `prog_array`.
    ///
    /// # Errors
    /// A map that user space cannot read.
    pub fn iter(&self) -> Result<impl Iterator<Item = RawEntry>, MapAccessError> {
        self.check_readable()?;
        Ok(self.map.iter(self.memory))
    }

    /// All of [`MapHandle::iter`] at once.
    ///
    /// # Errors
    /// As [`MapHandle::iter`].
    pub fn entries_bytes(&self) -> Result<Vec<RawEntry>, MapAccessError> {
        Ok(self.iter()?.collect())
    }

    // Records.

    /// Takes the records of a ring buffer, up to the first that is still reserved.
    ///
    /// # Errors
    /// The map is not a ring buffer.
    pub fn drain_records(&mut self) -> Result<Vec<Vec<u8>>, MapAccessError> {
        let error = self.wrong_type(MapType::Ringbuf);
        let ring = self.map.ringbuf().ok_or(error)?;
        Ok(ring.drain(self.memory))
    }

    /// Takes the samples of a perf event array, in the order in which they were sent.
    ///
    /// # Errors
    /// The map is not a perf event array.
    pub fn drain_samples(&mut self) -> Result<Vec<PerfSample>, MapAccessError> {
        let error = self.wrong_type(MapType::PerfEventArray);
        Ok(self.map.perf_event_array().ok_or(error)?.drain())
    }

    // Errors.

    fn name(&self) -> Arc<str> {
        self.map.name().clone()
    }

    fn refused(&self, operation: MapOperation, errno: Errno) -> MapAccessError {
        MapAccessError::Refused { map: self.name(), operation, errno }
    }

    fn wrong_type(&self, wanted: MapType) -> MapAccessError {
        MapAccessError::WrongType { map: self.name(), map_type: self.map.map_type(), wanted }
    }

    fn check_readable(&self) -> Result<(), MapAccessError> {
        match self.map.next_key(self.memory, None) {
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.refused(MapOperation::NextKey, errno)),
        }
    }

    fn check_key(&self, got: usize) -> Result<(), MapAccessError> {
        let expected = self.map.key_size();
        if got == expected as usize {
            return Ok(());
        }
        Err(MapAccessError::KeySize { map: self.name(), expected, got })
    }

    fn check_value(&self, got: usize) -> Result<(), MapAccessError> {
        let expected = self.map.user_value_size();
        if got as u64 == expected {
            return Ok(());
        }
        Err(MapAccessError::ValueSize { map: self.name(), expected, got })
    }

    /// Bytes from one CPU's copy to the next one's.
    fn check_percpu_value(&self, got: usize) -> Result<usize, MapAccessError> {
        if !self.map.is_percpu() {
            return Err(MapAccessError::NotPerCpu { map: self.name(), map_type: self.map.map_type() });
        }
        let size = self.map.value_size() as usize;
        if got != size {
            return Err(MapAccessError::ValueSize { map: self.name(), expected: size as u64, got });
        }
        Ok(size.next_multiple_of(8))
    }

    fn key_from<K: AnyBitPattern>(&self, key: &[u8]) -> Result<K, MapAccessError> {
        let error = || MapAccessError::KeySize { map: self.name(), expected: self.map.key_size(), got: size_of::<K>() };
        bytemuck::try_pod_read_unaligned(key).map_err(|_| error())
    }

    fn value_from<V: AnyBitPattern>(&self, value: &[u8]) -> Result<V, MapAccessError> {
        let got = size_of::<V>();
        let error = || MapAccessError::ValueSize { map: self.name(), expected: value.len() as u64, got };
        bytemuck::try_pod_read_unaligned(value).map_err(|_| error())
    }
}
