//! Hash maps: plain, per-CPU, LRU and LRU per-CPU. `kernel/bpf/hashtab.c`.
//!
//! Keys and values lie in guest memory, and so does the index of keys; all grow with what is in use, up to
//! [`super::MAX_HOST_BYTES`] for all but the values and to the end of guest memory: `ENOMEM`. The order of
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

use super::chain::Chain;
use super::definition::{Definition, check_update_flags, create_flags, host_limit, update_flags};
use super::error::MapErrorKind;
use super::index::{Found, HashLayout, Index};
use super::slots::{KEY_IN_RECORD, Slots};
use super::walk::Walks;
use super::{Actor, MapKind};
use crate::errno::Errno;
use crate::map_spec::MapType;
use crate::memory::Memory;

/// Key and value together are smaller than this: `KMALLOC_MAX_SIZE - sizeof(struct htab_elem)`.
const MAX_ELEMENT: u64 = (4 << 20) - 48;
/// Bytes that a slot takes beside its key and its value: index, record, order, recency, list of free slots.
const SLOT_BYTES: u64 = 32;
/// `U32_MAX / sizeof(struct bucket)`, rounded down to a power of two as the number of buckets is.
const MAX_ENTRIES: u32 = 1 << 27;

#[derive(Debug)]
pub(super) struct HashMap {
    /// Records by key.
    index: Index,
    /// Records and values.
    slots: Slots,
    /// Slots in use, in order of first insertion.
    order: Chain,
    /// Slots in use, the one to evict first: of LRU maps only.
    recency: Option<Chain>,
    walks: Walks,
    free: FreeSlots,
    /// Slots at most: what `MAX_HOST_BYTES` and the rows have room for.
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
            index: Index::new(max_entries, memory)?,
            // One more than elements, so that a full map can replace one.
            slots: Slots::new(def, max_entries + 1, memory)?,
            order: Chain::default(),
            recency: lru.then(Chain::default),
            walks: Walks::default(),
            free: FreeSlots::new(preallocated && !lru),
            slot_limit: host_limit(u64::from(def.key_size) + SLOT_BYTES).min(max_entries + 1),
            max_entries,
            value_size: def.value_size,
            copies: def.copies,
            percpu: def.is_percpu(),
        })
    }

    /// `__htab_map_lookup_elem`, `htab_percpu_map_lookup_elem`, `htab_lru_map_lookup_elem`.
    #[inline]
    fn lookup(&mut self, memory: &mut Memory, cpu: u32, key: &[u8]) -> Option<u32> {
        let Element { value, slot, .. } = self.find(memory, key, self.index.hash_of(key))?;
        self.touch(slot);
        Some(value.wrapping_add(self.copy_offset(cpu)))
    }

    /// `htab_map_update_elem`, `htab_lru_map_update_elem`, `__htab_percpu_map_update_elem`.
    fn update(&mut self, memory: &mut Memory, actor: Actor, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        check_update_flags(flags)?;
        let hash = self.index.hash_of(key);
        match self.find(memory, key, hash) {
            Some(_) if flags == update_flags::NOEXIST => Err(Errno::EEXIST),
            Some(Element { slot, .. }) if self.percpu => {
                self.write_copies(memory, actor, slot, value);
                self.touch(slot);
                Ok(())
            }
            Some(old) => self.replace(memory, actor, old, (key, hash), value),
            None if flags == update_flags::EXIST => Err(Errno::ENOENT),
            None => self.insert(memory, actor, key, hash, value),
        }
    }

    /// `htab_map_delete_elem`, `htab_lru_map_delete_elem`.
    fn delete(&mut self, memory: &mut Memory, _actor: Actor, key: &[u8]) -> Result<(), Errno> {
        let Element { found, slot, .. } = self.find(memory, key, self.index.hash_of(key)).ok_or(Errno::ENOENT)?;
        self.unlink(memory, found, slot);
        Ok(())
    }

    /// `__htab_map_lookup_elem`, `bpf_percpu_hash_copy`; an LRU map takes no note of it.
    fn read(&self, memory: &Memory, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let slot = self.slot_of(memory, key).ok_or(Errno::ENOENT)?;
        if !self.percpu {
            return Ok(memory.get(self.slots.address(slot, 0), self.value_size).to_vec());
        }
        let size = self.value_size.next_multiple_of(8);
        let copies = (0..self.copies).map(|cpu| memory.get(self.slots.address(slot, cpu), size));
        Ok(copies.collect::<Vec<_>>().concat())
    }

    /// `htab_map_get_next_key`.
    fn next_key(&self, memory: &Memory, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let next = match key.and_then(|key| self.slot_of(memory, key)) {
            Some(slot) => self.order.after(slot),
            None => self.order.first(),
        };
        next.map(|slot| self.key(memory, slot).to_vec()).ok_or(Errno::ENOENT)
    }

    fn keys(&self, memory: &Memory) -> impl Iterator<Item = Vec<u8>> {
        self.order.iter().map(|slot| self.key(memory, slot).to_vec())
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn begin_walk(&mut self) {
        self.walks.begin(&self.order);
    }

    /// `bpf_for_each_hash_elem`; an LRU map takes no note of it.
    fn walk(&mut self, memory: &mut Memory, cpu: u32, _visited: u32, key: u32) -> Option<u32> {
        let slot = self.walks.next(&self.order)?;
        memory.copy(self.slots.record(slot) + KEY_IN_RECORD, key, self.slots.key_size());
        Some(self.slots.address(slot, cpu))
    }

    fn end_walk(&mut self) {
        self.walks.end();
    }

    fn clear(&mut self, memory: &mut Memory) {
        for slot in self.order.iter() {
            self.free.give(slot);
        }
        self.index.clear(memory);
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
        self.index.reset(memory);
        self.forget_elements();
        // A run that was cut off has not ended its walks.
        self.walks = Walks::default();
    }

    fn forget_growth(&mut self) {
        self.slots.keep_first_row();
        self.index.forget_growth();
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
    /// Where lookups find what they look for.
    pub(super) fn layout(&self) -> HashLayout {
        HashLayout {
            header: self.index.header(),
            key: KEY_IN_RECORD,
            key_size: self.slots.key_size(),
            cpu_stride: if self.percpu { self.slots.copy_stride() } else { 0 },
            seed: self.index.seed(),
            lru: self.recency.is_some(),
        }
    }

    #[inline]
    fn find(&self, memory: &Memory, key: &[u8], hash: u32) -> Option<Element> {
        let found = self.index.find(memory, hash, |record| {
            let other = self.slots.key(memory, record);
            // The compiler makes moves of these.
            match (<[u8; 8]>::try_from(key), <[u8; 4]>::try_from(key)) {
                (Ok(key), _) => other == key,
                (_, Ok(key)) => other == key,
                (Err(_), Err(_)) => other == key,
            }
        })?;
        let (value, slot) = Slots::in_record(memory, found.record);
        // Who opens the tables to programs by hand gets what they make of them, but no more.
        (slot < self.free.used).then_some(Element { found, value, slot })
    }

    fn slot_of(&self, memory: &Memory, key: &[u8]) -> Option<u32> {
        self.find(memory, key, self.index.hash_of(key)).map(|element| element.slot)
    }

    fn key<'m>(&self, memory: &'m Memory, slot: u32) -> &'m [u8] {
        self.slots.key(memory, self.slots.record(slot))
    }

    /// From the value of CPU 0 to that of another one.
    #[inline]
    fn copy_offset(&self, cpu: u32) -> u32 {
        if self.percpu { cpu.min(self.copies - 1) * self.slots.copy_stride() } else { 0 }
    }

    /// Adds an element; a full LRU map evicts one for it.
    fn insert(&mut self, memory: &mut Memory, actor: Actor, key: &[u8], hash: u32, value: &[u8]) -> Result<(), Errno> {
        if self.index.len() >= self.max_entries as usize {
            let victim = self.recency.as_ref().and_then(Chain::first).ok_or(Errno::E2BIG)?;
            let record = self.slots.record(victim);
            let hash = self.index.hash_of(self.slots.key(memory, record));
            if let Some(found) = self.index.find(memory, hash, |other| other == record) {
                self.unlink(memory, found, victim);
            }
        }
        self.index.reserve(memory).map_err(|_| Errno::ENOMEM)?;
        let free = self.free.take();
        let slot = self.open(memory, free)?;
        let record = self.slots.record(slot);
        Slots::set_key(memory, record, key);
        self.index.insert(memory, hash, record);
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

    /// Puts a new element in the place of one that was found, whose memory keeps its value.
    fn replace(
        &mut self,
        memory: &mut Memory,
        actor: Actor,
        Element { found, slot: old, .. }: Element,
        (key, hash): (&[u8], u32),
        value: &[u8],
    ) -> Result<(), Errno> {
        let free = self.free.take_for_replacement();
        let slot = self.open(memory, free)?;
        let record = self.slots.record(slot);
        Slots::set_key(memory, record, key);
        self.index.replace(memory, found, hash, record);
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
                self.slots.claim_record(memory, self.free.used - 1);
                self.free.used - 1
            }
        };
        self.slots.open(memory, slot);
        Ok(slot)
    }

    /// Takes out the element that was found, which is in this slot.
    fn unlink(&mut self, memory: &mut Memory, found: Found, slot: u32) {
        self.index.remove(memory, found);
        self.walks.leaving(&self.order, slot);
        self.order.remove(slot);
        if let Some(recency) = &mut self.recency {
            recency.remove(slot);
        }
        self.free.give(slot);
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
                    memory.overwrite(self.slots.address(slot, cpu), copy);
                }
            }
            Actor::User => memory.overwrite(self.slots.address(slot, 0), value),
            Actor::Program { cpu } => memory.overwrite(self.slots.address(slot, cpu), value),
        }
    }

    /// The copies of other CPUs start as zeros: `pcpu_init_value`.
    fn zero_copies(&self, memory: &mut Memory, slot: u32) {
        for cpu in 0..self.copies {
            memory.zero(self.slots.address(slot, cpu), self.value_size.next_multiple_of(8));
        }
    }

    fn forget_elements(&mut self) {
        self.order.clear();
        self.walks.clear();
        if let Some(recency) = &mut self.recency {
            recency.clear();
        }
    }
}

/// An element that has been found.
#[derive(Debug, Clone, Copy)]
struct Element {
    found: Found,
    /// Guest address of the value, of CPU 0's where there are copies.
    value: u32,
    slot: u32,
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
    fn keys_take_no_more_memory_than_a_map_may_have() {
        let (map, _) = map(MapType::Hash, 2 << 20);
        assert_eq!(map.slot_limit, 511);
        assert!(u64::from(map.slot_limit) * (2 << 20) < super::super::MAX_HOST_BYTES);
    }

    #[test]
    fn an_element_beyond_what_a_map_may_have_is_refused() {
        for map_type in [MapType::Hash, MapType::PercpuHash, MapType::LruHash, MapType::LruPercpuHash] {
            let (mut map, mut memory) = map(map_type, 4);
            map.slot_limit = 3;
            let mut insert = |key: u32| map.update(&mut memory, CPU, &key.to_le_bytes(), &[1; 8], 0);
            for key in 0..3 {
                assert_eq!(insert(key), Ok(()));
            }
            assert_eq!(insert(3), Err(Errno::ENOMEM), "{map_type}");
            assert_eq!((map.len(), map.free.used), (3, 3));
            assert_eq!(map.delete(&mut memory, CPU, &0_u32.to_le_bytes()), Ok(()));
            assert_eq!(map.update(&mut memory, CPU, &[3, 0, 0, 0], &[1; 8], 0), Ok(()), "{map_type}");
        }
    }
}
