//! Hash maps: plain, per-CPU, LRU and LRU per-CPU. `kernel/bpf/hashtab.c`.
//!
//! Keys lie in one flat host vector, values in guest memory; both grow with what is in use, up to
//! [`super::MAX_HOST_BYTES`] and to the end of guest memory: `ENOMEM`. The order of
//! `next_key` is that in which keys were first inserted, where the kernel's is that of its buckets.
//!
//! A slot that an element leaves stays readable until the run ends, and is the first to be used again, as on Linux
//! 6.18, both with preallocation (`pcpu_freelist`) and without (`bpf_mem_alloc`). Replacing an element takes a new
//! slot, with preallocation the spare one (`extra_elems`); per-CPU maps write in place.
//!
//! The LRU maps evict exactly the element that was looked up (by a program) or written the longest ago, one at a
//! time and only for a new key. The kernel approximates that: its lists are per CPU and it evicts in
//! batches, so that elements go earlier there (`kernel/bpf/bpf_lru_list.c`). `BPF_F_NO_COMMON_LRU` has no effect but
//! that `max_entries` is rounded up to a multiple of the CPUs.

use std::hash::Hasher;

use hashbrown::HashTable;
use rustc_hash::FxHasher;

use super::chain::Chain;
use super::definition::{Definition, check_update_flags, create_flags, host_limit, update_flags};
use super::error::MapErrorKind;
use super::slots::Slots;
use super::walk::Walks;
use super::{Actor, MapKind};
use crate::errno::Errno;
use crate::map_spec::MapType;
use crate::memory::Memory;

/// Key and value together are smaller than this: `KMALLOC_MAX_SIZE - sizeof(struct htab_elem)`.
const MAX_ELEMENT: u64 = (4 << 20) - 48;
/// Bytes outside guest memory that a slot takes beside its key: hash table, order, recency, list of free slots.
const SLOT_BYTES: u64 = 32;
/// `U32_MAX / sizeof(struct bucket)`, rounded down to a power of two as the number of buckets is.
const MAX_ENTRIES: u32 = 1 << 27;

#[derive(Debug)]
pub(super) struct HashMap {
    /// Slots by key.
    table: HashTable<u32>,
    keys: Keys,
    slots: Slots,
    /// Slots in use, in order of first insertion.
    order: Chain,
    /// Slots in use, the one to evict first: of LRU maps only.
    recency: Option<Chain>,
    walks: Walks,
    free: FreeSlots,
    /// Slots at most: what `MAX_HOST_BYTES` has room for.
    slot_limit: u32,
    max_entries: u32,
    value_size: u32,
    copies: u32,
    percpu: bool,
}

impl MapKind for HashMap {
    /// `htab_map_alloc_check`, `htab_map_alloc`.
    fn create(def: &Definition, memory: &mut Memory) -> Result<HashMap, MapErrorKind> {
        let lru = matches!(def.map_type, MapType::LruHash | MapType::LruPercpuHash);
        let preallocated = !def.has(create_flags::NO_PREALLOC);
        let max_entries = check(def, lru, preallocated)?;
        Ok(HashMap {
            table: HashTable::new(),
            keys: Keys { bytes: Vec::new(), size: def.key_size as usize },
            // One more than elements, so that a full map can replace one.
            slots: Slots::new(def, max_entries + 1, memory)?,
            order: Chain::default(),
            recency: lru.then(Chain::default),
            walks: Walks::default(),
            free: FreeSlots::new(preallocated && !lru),
            slot_limit: host_limit(u64::from(def.key_size) + SLOT_BYTES),
            max_entries,
            value_size: def.value_size,
            copies: def.copies,
            percpu: def.is_percpu(),
        })
    }

    /// `__htab_map_lookup_elem`, `htab_percpu_map_lookup_elem`, `htab_lru_map_lookup_elem`.
    #[inline]
    fn lookup(&mut self, _memory: &mut Memory, cpu: u32, key: &[u8]) -> Option<u32> {
        let slot = self.find(key)?;
        if let Some(recency) = &mut self.recency {
            recency.move_to_end(slot);
        }
        Some(self.slots.address(slot, cpu))
    }

    /// `htab_map_update_elem`, `htab_lru_map_update_elem`, `__htab_percpu_map_update_elem`.
    fn update(&mut self, memory: &mut Memory, actor: Actor, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_update_flags(flags)?;
        let hash = hash_of(key);
        match self.table.find(hash, |&slot| self.keys.get(slot) == key).copied() {
            Some(_) if flags == update_flags::NOEXIST => Err(Errno::EEXIST),
            Some(slot) if self.percpu => {
                self.write_copies(memory, actor, slot, value);
                self.touch(slot);
                Ok(())
            }
            Some(slot) => self.replace(memory, actor, slot, hash, value),
            None if flags == update_flags::EXIST => Err(Errno::ENOENT),
            None => self.insert(memory, actor, key, hash, value),
        }
    }

    /// `htab_map_delete_elem`, `htab_lru_map_delete_elem`.
    fn delete(&mut self, _actor: Actor, key: &[u8]) -> Result<(), Errno> {
        let slot = self.find(key).ok_or(Errno::ENOENT)?;
        self.unlink(slot);
        self.free.give(slot);
        Ok(())
    }

    /// `__htab_map_lookup_elem`, `bpf_percpu_hash_copy`; an LRU map takes no note of it.
    fn read(&self, memory: &Memory, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let slot = self.find(key).ok_or(Errno::ENOENT)?;
        if !self.percpu {
            return Ok(memory.get(self.slots.address(slot, 0), self.value_size).to_vec());
        }
        let size = self.value_size.next_multiple_of(8);
        let copies = (0..self.copies).map(|cpu| memory.get(self.slots.address(slot, cpu), size));
        Ok(copies.collect::<Vec<_>>().concat())
    }

    /// `htab_map_get_next_key`.
    fn next_key(&self, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let next = match key.and_then(|key| self.find(key)) {
            Some(slot) => self.order.after(slot),
            None => self.order.first(),
        };
        next.map(|slot| self.keys.get(slot).to_vec()).ok_or(Errno::ENOENT)
    }

    fn keys(&self) -> impl Iterator<Item = Vec<u8>> {
        self.order.iter().map(|slot| self.keys.get(slot).to_vec())
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn begin_walk(&mut self) {
        self.walks.begin(&self.order);
    }

    /// `bpf_for_each_hash_elem`; an LRU map takes no note of it.
    fn walk(&mut self, memory: &mut Memory, cpu: u32, _visited: u32, key: u32) -> Option<u32> {
        let slot = self.walks.next(&self.order)?;
        memory.put(key, self.keys.get(slot));
        Some(self.slots.address(slot, cpu))
    }

    fn end_walk(&mut self) {
        self.walks.end();
    }

    fn clear(&mut self, _memory: &mut Memory) {
        for slot in self.order.iter() {
            self.free.give(slot);
        }
        self.forget_elements();
    }

    #[inline]
    fn end_run(&mut self, memory: &mut Memory) {
        if self.free.open().next().is_none() {
            return;
        }
        for slot in self.free.open() {
            self.slots.close(memory, slot);
        }
        self.free.settle();
    }

    fn reset(&mut self, memory: &mut Memory) {
        self.slots.close_all(memory, self.free.used);
        self.free = FreeSlots::new(self.free.keeps_spare);
        self.keys.bytes.clear();
        self.forget_elements();
        // A run that was cut off has not ended its walks.
        self.walks = Walks::default();
    }

    fn forget_growth(&mut self) {
        self.slots.keep_first_row();
    }
}

/// The rules of `htab_map_alloc_check` and `htab_map_alloc`; returns the number of elements.
fn check(def: &Definition, lru: bool, preallocated: bool) -> Result<u32, MapErrorKind> {
    if lru && !preallocated {
        return Err(MapErrorKind::LruNeedsPreallocation);
    }
    if def.max_entries == 0 {
        return Err(MapErrorKind::NoEntries);
    }
    if def.key_size == 0 {
        return Err(MapErrorKind::EmptyKey);
    }
    if def.value_size == 0 {
        return Err(MapErrorKind::EmptyValue);
    }
    let bytes = u64::from(def.key_size) + u64::from(def.value_size);
    if bytes >= MAX_ELEMENT {
        return Err(MapErrorKind::ElementTooLarge { bytes, limit: MAX_ELEMENT - 1 });
    }
    def.check_percpu_value()?;
    let mut max_entries = u64::from(def.max_entries);
    if lru && def.has(create_flags::NO_COMMON_LRU) {
        max_entries = max_entries.next_multiple_of(def.cpus.into());
    }
    let limit = u64::from(MAX_ENTRIES);
    u32::try_from(max_entries)
        .ok()
        .filter(|&entries| entries <= MAX_ENTRIES)
        .ok_or(MapErrorKind::TooManyEntries { got: max_entries, limit })
}

impl HashMap {
    #[inline]
    fn find(&self, key: &[u8]) -> Option<u32> {
        self.table.find(hash_of(key), |&slot| self.keys.get(slot) == key).copied()
    }

    /// Adds an element; a full LRU map evicts one for it.
    fn insert(&mut self, memory: &mut Memory, actor: Actor, key: &[u8], hash: u64, value: &[u8]) -> Result<(), Errno> {
        if self.table.len() >= self.max_entries as usize {
            let victim = self.recency.as_ref().and_then(Chain::first).ok_or(Errno::E2BIG)?;
            self.unlink(victim);
            self.free.give(victim);
        }
        let free = self.free.take();
        let slot = self.open(memory, free)?;
        self.keys.set(slot, key);
        self.table.insert_unique(hash, slot, |&slot| hash_of(self.keys.get(slot)));
        self.order.push(slot);
        if let Some(recency) = &mut self.recency {
            recency.push(slot);
        }
        if let Actor::Program { .. } = actor
            && self.percpu
        {
            self.zero_copies(memory, slot);
        }
        self.write_copies(memory, actor, slot, value);
        Ok(())
    }

    /// Puts a new element in the place of the one in `old`, whose memory keeps its value.
    fn replace(&mut self, memory: &mut Memory, actor: Actor, old: u32, hash: u64, value: &[u8]) -> Result<(), Errno> {
        let free = self.free.take_for_replacement();
        let slot = self.open(memory, free)?;
        self.keys.copy(old, slot);
        if let Some(entry) = self.table.find_mut(hash, |&slot| slot == old) {
            *entry = slot;
        }
        self.order.replace(old, slot);
        self.walks.replaced(old, slot);
        if let Some(recency) = &mut self.recency {
            recency.remove(old);
            recency.push(slot);
        }
        self.free.give_replaced(old);
        self.write_copies(memory, actor, slot, value);
        Ok(())
    }

    /// Opens a slot to the program: a free one, or one that was never in use.
    fn open(&mut self, memory: &mut Memory, free: Option<Free>) -> Result<u32, Errno> {
        let slot = match free {
            Some(Free { slot, open: true }) => return Ok(slot),
            Some(Free { slot, open: false }) => slot,
            None if self.free.used >= self.slot_limit => return Err(Errno::ENOMEM),
            None => {
                self.slots.reserve(memory, self.free.used).map_err(|_| Errno::ENOMEM)?;
                self.free.used += 1;
                self.free.used - 1
            }
        };
        self.slots.open(memory, slot);
        Ok(slot)
    }

    fn unlink(&mut self, slot: u32) {
        let hash = hash_of(self.keys.get(slot));
        if let Ok(entry) = self.table.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
        self.walks.leaving(&self.order, slot);
        self.order.remove(slot);
        if let Some(recency) = &mut self.recency {
            recency.remove(slot);
        }
    }

    fn touch(&mut self, slot: u32) {
        if let Some(recency) = &mut self.recency {
            recency.move_to_end(slot);
        }
    }

    /// A program writes the copy of its CPU, user space all copies (`pcpu_copy_value`).
    fn write_copies(&self, memory: &mut Memory, actor: Actor, slot: u32, value: &[u8]) {
        match actor {
            Actor::User if self.percpu => {
                let size = self.value_size.next_multiple_of(8) as usize;
                for (cpu, copy) in (0..self.copies).zip(value.chunks_exact(size)) {
                    memory.put(self.slots.address(slot, cpu), copy);
                }
            }
            Actor::User => memory.put(self.slots.address(slot, 0), value),
            Actor::Program { cpu } => memory.put(self.slots.address(slot, cpu), value),
        }
    }

    /// The copies of other CPUs start as zeros: `pcpu_init_value`.
    fn zero_copies(&self, memory: &mut Memory, slot: u32) {
        for cpu in 0..self.copies {
            memory.zero(self.slots.address(slot, cpu), self.value_size.next_multiple_of(8));
        }
    }

    fn forget_elements(&mut self) {
        self.table.clear();
        self.order.clear();
        self.walks.clear();
        if let Some(recency) = &mut self.recency {
            recency.clear();
        }
    }
}

/// The keys of all slots.
#[derive(Debug)]
struct Keys {
    bytes: Vec<u8>,
    size: usize,
}

impl Keys {
    #[inline]
    fn get(&self, slot: u32) -> &[u8] {
        let start = slot as usize * self.size;
        self.bytes.get(start..start + self.size).unwrap_or(&[])
    }

    fn set(&mut self, slot: u32, key: &[u8]) {
        let start = slot as usize * self.size;
        self.grow(start + self.size);
        self.bytes[start..start + self.size].copy_from_slice(key);
    }

    fn copy(&mut self, from: u32, to: u32) {
        let (source, start) = (from as usize * self.size, to as usize * self.size);
        self.grow(start + self.size);
        self.bytes.copy_within(source..source + self.size, start);
    }

    fn grow(&mut self, len: usize) {
        if len > self.bytes.len() {
            self.bytes.resize(len, 0);
        }
    }
}

/// A slot that holds no element.
#[derive(Debug, Clone, Copy)]
struct Free {
    slot: u32,
    /// Programs can still reach it: it was freed in this run.
    open: bool,
}

/// Slots that hold no element: the last one freed is the first one used again.
#[derive(Debug)]
struct FreeSlots {
    /// Slots that were ever in use.
    used: u32,
    stack: Vec<u32>,
    /// How many from the bottom of the stack are closed to programs; those above were freed in this run.
    settled: usize,
    /// Replacements use a slot of their own, `extra_elems`, and leave it to the next one. Else they use the stack.
    keeps_spare: bool,
    spare: Option<Free>,
}

impl FreeSlots {
    fn new(keeps_spare: bool) -> FreeSlots {
        FreeSlots { used: 0, stack: Vec::new(), settled: 0, keeps_spare, spare: None }
    }

    fn take(&mut self) -> Option<Free> {
        let slot = self.stack.pop()?;
        let open = self.stack.len() >= self.settled;
        self.settled = self.settled.min(self.stack.len());
        Some(Free { slot, open })
    }

    fn give(&mut self, slot: u32) {
        self.stack.push(slot);
    }

    /// The slot for an element that replaces another one.
    fn take_for_replacement(&mut self) -> Option<Free> {
        if self.keeps_spare { self.spare.take() } else { self.take() }
    }

    /// Takes back the slot of the replaced element.
    fn give_replaced(&mut self, slot: u32) {
        if self.keeps_spare {
            self.spare = Some(Free { slot, open: true });
        } else {
            self.give(slot);
        }
    }

    /// Slots that are free and still open to programs.
    fn open(&self) -> impl Iterator<Item = u32> {
        let spare = self.spare.filter(|spare| spare.open).map(|spare| spare.slot);
        self.stack.get(self.settled..).unwrap_or(&[]).iter().copied().chain(spare)
    }

    /// Notes that all free slots are closed.
    fn settle(&mut self) {
        self.settled = self.stack.len();
        if let Some(spare) = &mut self.spare {
            spare.open = false;
        }
    }
}

/// The same on every host and in every process.
#[inline]
fn hash_of(key: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    if let Ok(bytes) = key.try_into() {
        hasher.write_u32(u32::from_le_bytes(bytes));
    } else if let Ok(bytes) = key.try_into() {
        hasher.write_u64(u64::from_le_bytes(bytes));
    } else {
        hasher.write(key);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_spec::MapSpec;

    const CPU: Actor = Actor::Program { cpu: 0 };

    fn map(map_type: MapType, key_size: u32) -> (HashMap, Memory) {
        let mut memory = Memory::new().expect("memory");
        let def = Definition::new(&MapSpec::new("m", map_type, key_size, 8, 1000), 1);
        (HashMap::create(&def, &mut memory).expect("map"), memory)
    }

    #[test]
    fn keys_take_no_more_host_memory_than_a_map_may_have() {
        let (map, _) = map(MapType::Hash, 2 << 20);
        assert_eq!(map.slot_limit, 511);
        assert!(u64::from(map.slot_limit) * (2 << 20) < super::super::MAX_HOST_BYTES);
    }

    #[test]
    fn an_element_without_host_memory_is_refused() {
        for map_type in [MapType::Hash, MapType::PercpuHash, MapType::LruHash, MapType::LruPercpuHash] {
            let (mut map, mut memory) = map(map_type, 4);
            map.slot_limit = 3;
            let mut insert = |map: &mut HashMap, key: u32| map.update(&mut memory, CPU, &key.to_le_bytes(), &[1; 8], 0);
            for key in 0..3 {
                assert_eq!(insert(&mut map, key), Ok(()));
            }
            assert_eq!(insert(&mut map, 3), Err(Errno::ENOMEM), "{map_type}");
            assert_eq!((map.len(), map.keys.bytes.len()), (3, 12));
            assert_eq!(map.delete(CPU, &0_u32.to_le_bytes()), Ok(()));
            assert_eq!(insert(&mut map, 3), Ok(()), "{map_type}");
        }
    }
}
