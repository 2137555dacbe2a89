//! Arrays and per-CPU arrays: all values in one row of guest memory. `kernel/bpf/arraymap.c`.
//!
//! Small arrays, and those of one element (global data is such a map) up to [`MAX_DIRECT_VALUE`], are open to
//! programs from the start. Of larger ones an element opens when it is first looked up or written, so that an array
//! costs what is touched. Programs do not look global data up, so that larger sections are refused.

use std::sync::Arc;

use super::definition::{Definition, check_update_flags, index_of, next_index, update_flags};
use super::error::MapErrorKind;
use super::map::ArrayLayout;
use super::{Actor, MapKind};
use crate::errno::Errno;
use crate::memory::{Elements, Memory, MemoryError, Permission};

/// Arrays of no more copies of values than this are open from the start ...
const OPEN_VALUES: u32 = 4096;
/// ... if they are no larger than this.
const OPEN_BYTES: u64 = 4 << 20;
/// Largest section of global data, and largest value with an address that instructions may hold, in bytes: such
/// values are open from the start, at the cost of a quarter of their size. The kernel would allow `INT_MAX`, if it had
/// the memory; sections of real objects have kilobytes.
pub const MAX_DIRECT_VALUE: u32 = 64 << 20;
/// Largest value: `INT_MAX`.
const MAX_VALUE: u32 = i32::MAX as u32;

#[derive(Debug)]
pub(super) struct ArrayMap {
    values: Elements,
    value_size: u32,
    max_entries: u32,
    copies: u32,
    percpu: bool,
    permission: Permission,
    /// Elements that were opened one by one; `None` where all are open.
    opened: Option<Vec<u32>>,
    initial_value: Option<Arc<[u8]>>,
}

impl MapKind for ArrayMap {
    /// `array_map_alloc_check`, `array_map_alloc`.
    fn create(def: &Definition, memory: &mut Memory) -> Result<ArrayMap, MapErrorKind> {
        let total = check(def, memory)?;
        let values = memory.reserve_elements(def.object_kind(0), def.value_size, total)?;
        let bytes = u64::from(values.stride) * u64::from(total);
        let direct = def.max_entries == 1 && def.value_size <= MAX_DIRECT_VALUE;
        let all_open = direct || total <= OPEN_VALUES && bytes <= OPEN_BYTES;
        let array = ArrayMap {
            values,
            value_size: def.value_size,
            max_entries: def.max_entries,
            copies: def.copies,
            percpu: def.is_percpu(),
            permission: def.permission(),
            opened: (!all_open).then(Vec::new),
            initial_value: def.initial_value.clone(),
        };
        if all_open {
            memory.grant_elements(values, def.value_size, total, array.permission);
        }
        array.write_initial_value(memory);
        Ok(array)
    }

    /// `array_map_lookup_elem`, `percpu_array_map_lookup_elem`.
    #[inline]
    fn lookup(&mut self, memory: &mut Memory, cpu: u32, key: &[u8]) -> Option<u32> {
        let index = index_of(key);
        if index >= self.max_entries {
            return None;
        }
        self.open(memory, index);
        Some(self.address(index, cpu))
    }

    /// `array_map_update_elem`, `bpf_percpu_array_update`.
    fn update(&mut self, memory: &mut Memory, actor: Actor, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        let index = index_of(key);
        check_update_flags(flags & !update_flags::LOCK)?;
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if flags & update_flags::NOEXIST != 0 {
            return Err(Errno::EEXIST);
        }
        check_update_flags(flags)?;
        self.open(memory, index);
        match actor {
            Actor::User if self.percpu => {
                for (cpu, copy) in (0..self.copies).zip(value.chunks_exact(self.copy_size() as usize)) {
                    memory.overwrite(self.address(index, cpu), copy);
                }
            }
            Actor::User => memory.overwrite(self.address(index, 0), value),
            Actor::Program { cpu } => memory.overwrite(self.address(index, cpu), value),
        }
        Ok(())
    }

    /// `array_map_delete_elem`: an array has all its elements, always.
    fn delete(&mut self, _memory: &mut Memory, _actor: Actor, _key: &[u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// `array_map_lookup_elem`, `bpf_percpu_array_copy`.
    fn read(&self, memory: &Memory, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let index = index_of(key);
        if index >= self.max_entries {
            return Err(Errno::ENOENT);
        }
        let size = if self.percpu { self.copy_size() } else { self.value_size };
        let copies = (0..self.copies).map(|cpu| memory.get(self.address(index, cpu), size));
        Ok(copies.collect::<Vec<_>>().concat())
    }

    fn next_key(&self, _memory: &Memory, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        next_index(key, self.max_entries)
    }

    fn keys(&self, _memory: &Memory) -> impl Iterator<Item = Vec<u8>> {
        (0..self.max_entries).map(|index| index.to_le_bytes().to_vec())
    }

    fn len(&self) -> usize {
        self.max_entries as usize
    }

    /// `bpf_for_each_array_elem`.
    fn walk(&mut self, memory: &mut Memory, cpu: u32, visited: u32, key: u32) -> Option<u32> {
        let value = self.lookup(memory, cpu, &visited.to_le_bytes())?;
        memory.put(key, &visited.to_le_bytes());
        Some(value)
    }

    fn clear(&mut self, memory: &mut Memory) {
        match &self.opened {
            Some(opened) => opened.iter().for_each(|&index| self.zero(memory, index)),
            // What is between the values is zero, as no one can write there.
            None => memory.zero(self.values.start, self.values.stride * self.max_entries * self.copies),
        }
    }

    fn end_run(&mut self, _memory: &mut Memory) {}

    fn reset(&mut self, memory: &mut Memory) {
        self.clear(memory);
        for index in self.opened.iter_mut().flat_map(std::mem::take) {
            for cpu in 0..self.copies {
                memory.withdraw(element(self.values, self.copies, index, cpu), self.value_size);
            }
        }
        self.write_initial_value(memory);
    }
}

/// The rules of `array_map_alloc_check`; returns the number of copies of all values together.
fn check(def: &Definition, memory: &Memory) -> Result<u32, MapErrorKind> {
    def.check_indexed()?;
    let limit = if def.data.is_some() { MAX_DIRECT_VALUE } else { MAX_VALUE };
    if def.value_size > limit {
        return Err(MapErrorKind::ElementTooLarge { bytes: def.value_size.into(), limit: limit.into() });
    }
    def.check_percpu_value()?;
    if let Some(bytes) = &def.initial_value
        && bytes.len() > def.value_size as usize
    {
        return Err(MapErrorKind::InitialValue { bytes: bytes.len(), value_size: def.value_size });
    }
    let total = u64::from(def.max_entries) * u64::from(def.copies);
    let full = MemoryError::ArenaFull { bytes: total.saturating_mul(def.value_size.into()), left: memory.left() };
    u32::try_from(total).map_err(|_| full.into())
}

fn element(values: Elements, copies: u32, index: u32, cpu: u32) -> u32 {
    values.address(index * copies + cpu.min(copies - 1))
}

impl ArrayMap {
    /// Where the values lie.
    pub(super) fn layout(&self) -> ArrayLayout {
        ArrayLayout {
            start: self.values.start,
            stride: self.values.stride * self.copies,
            cpu_stride: if self.copies == 1 { 0 } else { self.values.stride },
            max_entries: self.max_entries,
            all_open: self.opened.is_none(),
        }
    }

    /// `index < self.max_entries`.
    #[inline]
    fn address(&self, index: u32, cpu: u32) -> u32 {
        element(self.values, self.copies, index, cpu)
    }

    /// Bytes of one copy as system calls have it.
    fn copy_size(&self) -> u32 {
        self.value_size.next_multiple_of(8)
    }

    #[inline]
    fn open(&mut self, memory: &mut Memory, index: u32) {
        if self.opened.is_some() && !memory.is_granted(self.address(index, 0)) {
            self.grant(memory, index);
            if let Some(opened) = &mut self.opened {
                opened.push(index);
            }
        }
    }

    fn grant(&self, memory: &mut Memory, index: u32) {
        for cpu in 0..self.copies {
            memory.open(self.address(index, cpu), self.value_size, self.permission);
        }
    }

    fn zero(&self, memory: &mut Memory, index: u32) {
        for cpu in 0..self.copies {
            memory.zero(self.address(index, cpu), self.copy_size());
        }
    }

    fn write_initial_value(&self, memory: &mut Memory) {
        if let Some(bytes) = &self.initial_value {
            memory.put(self.address(0, 0), bytes);
        }
    }
}
