//! Where the keys of a hash map are: a table with open addressing, and the hash that it goes by.
//!
//! The table lies in guest memory, where no program gets at it, so that machine code can search it with guest
//! addresses alone: nothing that code remembers goes stale when the table grows or the machine is gone, and whatever the
//! table holds, a search does not leave the arena. [`HashLayout`] says how it is searched.
//!
//! An entry is a 64-bit word: the key's hash above, below it the address of the key's *record* (never 0); an empty
//! entry is 0. A key's entry is the first one with its hash and its key from its home on: the low bits of its hash.
//! No more than half of the entries are in use, seven eighths where guest memory has no room for a larger table. One that
//! is taken out leaves no mark: those behind it move up.
//!
//! What a record is, the caller knows: keys are compared by it.
//!
//! Hashes begin with a secret, as the kernel's do (`htab->hashrnd`): whoever chooses the keys cannot choose them to collide,
//! so that no program makes lookups pass all keys. Nobody sees it: neither addresses nor any order depend on hashes.

use std::hash::{BuildHasher, RandomState};

use crate::memory::{Memory, MemoryError};

/// Bytes of an entry.
const ENTRY: u32 = 8;
/// Entries of the smallest table.
const FEWEST: u32 = 16;
/// A table reserves no more than this part of what is left of guest memory before it has grown into it.
const SHARE: u64 = 128;
/// Bytes of a header.
const HEADER: u32 = 8;

/// The bit that every hash has, so that no key has the hash of an empty entry.
pub const HASH_BIT: u32 = 31;
/// What hashes multiply by: the golden ratio, as an odd number of 64 bits.
pub const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where a hash map keeps what lookups need, for code that searches it itself: for as long as the map lives.
///
/// The eight bytes at `header` are the address of the first entry and the number of entries less one, four bytes each;
/// 0 and 0 for an empty map, and at address 0 there is an empty entry. A record begins with the address of the value, in a
/// per-CPU map the value of CPU 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashLayout {
    /// Guest address of the header.
    pub header: u32,
    /// Where the key is in a record, in bytes.
    pub key: u32,
    /// Bytes of the key.
    pub key_size: u32,
    /// Bytes from one CPU's copy of a value to the next one's; 0 for maps without copies.
    pub cpu_stride: u32,
    /// What the map's hashes begin with.
    pub seed: u64,
    /// The map takes note of lookups, to evict what was not looked up for long: engines leave them to it.
    pub lru: bool,
}

/// The hash of a key in the map with this seed, with which it begins: the key's [`pieces`] one after another are put to what
/// there is by exclusive or, multiplied by [`HASH_FACTOR`], and both halves of the product put together; so is what comes of
/// them, once more.
///
/// Every bit of a key acts on the low bits through the upper halves of the products, so that keys which differ in a few bits
/// anywhere have different homes.
#[inline]
fn hash_of(seed: u64, key: &[u8]) -> u32 {
    let state = if let Ok(bytes) = key.try_into() {
        fold(seed ^ u64::from(u32::from_le_bytes(bytes)))
    } else if let Ok(bytes) = key.try_into() {
        fold(seed ^ u64::from_le_bytes(bytes))
    } else {
        hash_pieces(seed, key)
    };
    fold(state) as u32 | 1 << HASH_BIT
}

fn hash_pieces(seed: u64, key: &[u8]) -> u64 {
    let word = |(start, len): (u32, u32)| {
        let mut word = [0; 8];
        let (start, len) = (start as usize, len as usize);
        word[..len].copy_from_slice(&key[start..start + len]);
        u64::from_le_bytes(word)
    };
    pieces(key.len() as u32).fold(seed, |state, piece| fold(state ^ word(piece)))
}

fn fold(word: u64) -> u64 {
    let product = u128::from(word) * u128::from(HASH_FACTOR);
    product as u64 ^ (product >> 64) as u64
}

/// What a key of so many bytes is read in: where each piece begins, and its length, which is 8, 4, 2 or 1. The last piece
/// may overlap the one before.
pub fn pieces(key_size: u32) -> impl Iterator<Item = (u32, u32)> {
    let len = if key_size >= 8 { 8 } else { 1 << key_size.max(1).ilog2() };
    let whole = key_size / len * len;
    let last = (whole < key_size).then(|| (key_size - len, len));
    (0..whole).step_by(len as usize).map(move |start| (start, len)).chain(last)
}

#[derive(Debug)]
pub(super) struct Index {
    /// What hashes begin with.
    seed: u64,
    /// Where code finds the table.
    header: u32,
    /// The first entry, and how many there are: none, or a power of two.
    start: u32,
    entries: u32,
    used: u32,
    /// What was reserved when the map was made: the first entry, and how many there is room for.
    first_room: (u32, u32),
    /// What is reserved now.
    room: (u32, u32),
}

/// An entry that has been found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    at: u32,
    /// The key's record.
    pub(super) record: u32,
}

impl Index {
    /// An empty index for so many keys at most.
    pub(super) fn new(limit: u32, memory: &mut Memory) -> Result<Index, MemoryError> {
        let most = (2 * u64::from(limit)).next_power_of_two();
        let fitting = 1 << (memory.left() / SHARE / u64::from(ENTRY)).max(1).ilog2();
        let entries = most.clamp(FEWEST.into(), fitting.max(FEWEST.into())) as u32;
        let header = memory.reserve_table(HEADER.into())?;
        let room = (memory.reserve_table(u64::from(entries) * u64::from(ENTRY))?, entries);
        Ok(Index {
            seed: RandomState::new().hash_one(0),
            header,
            start: 0,
            entries: 0,
            used: 0,
            first_room: room,
            room,
        })
    }

    /// What hashes begin with.
    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    #[inline]
    pub(super) fn hash_of(&self, key: &[u8]) -> u32 {
        hash_of(self.seed, key)
    }

    /// Where code finds the table.
    pub(super) fn header(&self) -> u32 {
        self.header
    }

    /// Keys that have an entry.
    pub(super) fn len(&self) -> usize {
        self.used as usize
    }

    /// The first entry with this hash whose record is right.
    #[inline]
    pub(super) fn find(&self, memory: &Memory, hash: u32, mut is_right: impl FnMut(u32) -> bool) -> Option<Found> {
        let table = memory.get(self.start, self.entries * ENTRY);
        let mut at = self.home(hash);
        for _ in 0..self.entries {
            let entry = *table.as_chunks().0.get(at as usize)?;
            let entry = u64::from_le_bytes(entry);
            if entry == 0 {
                return None;
            }
            if hash_in(entry) == hash && is_right(entry as u32) {
                return Some(Found { at, record: entry as u32 });
            }
            at = self.behind(at);
        }
        None
    }

    /// Makes room for one more key.
    pub(super) fn reserve(&mut self, memory: &mut Memory) -> Result<(), MemoryError> {
        if self.used < self.entries / 2 {
            return Ok(());
        }
        self.grow(memory).or_else(|full| if self.used < self.entries / 8 * 7 { Ok(()) } else { Err(full) })
    }

    /// Adds a key that is not there; there is room for it.
    pub(super) fn insert(&mut self, memory: &mut Memory, hash: u32, record: u32) {
        let mut at = self.home(hash);
        for _ in 0..self.entries {
            if self.get(memory, at) == 0 {
                self.set(memory, at, entry(hash, record));
                self.used += 1;
                return;
            }
            at = self.behind(at);
        }
    }

    /// Gives a key another record.
    pub(super) fn replace(&mut self, memory: &mut Memory, found: Found, hash: u32, record: u32) {
        self.set(memory, found.at, entry(hash, record));
    }

    /// Takes a key out.
    pub(super) fn remove(&mut self, memory: &mut Memory, found: Found) {
        let mut hole = found.at;
        let mut at = hole;
        loop {
            at = self.behind(at);
            let entry = self.get(memory, at);
            if entry == 0 || at == found.at {
                break;
            }
            // It stays if its home is behind the hole.
            let distance = |from: u32| at.wrapping_sub(from) & (self.entries - 1);
            if distance(self.home(hash_in(entry))) >= distance(hole) {
                self.set(memory, hole, entry);
                hole = at;
            }
        }
        self.set(memory, hole, 0);
        self.used = self.used.saturating_sub(1);
    }

    /// Takes all keys out; the table stays as large as it is.
    pub(super) fn clear(&mut self, memory: &mut Memory) {
        memory.zero(self.start, self.entries * ENTRY);
        self.used = 0;
    }

    /// Takes all keys out, and begins small again.
    pub(super) fn reset(&mut self, memory: &mut Memory) {
        if self.entries > 0 {
            (self.start, self.entries, self.used) = (0, 0, 0);
            self.tell(memory);
        }
    }

    /// After [`Index::reset`]: forgets guest memory that was taken since the index was made.
    pub(super) fn forget_growth(&mut self) {
        self.room = self.first_room;
    }

    /// A table twice as large: in place, while there is room.
    #[cold]
    fn grow(&mut self, memory: &mut Memory) -> Result<(), MemoryError> {
        let entries = (2 * self.entries).max(FEWEST);
        if entries > self.room.1 {
            self.room = (memory.reserve_table(u64::from(entries) * u64::from(ENTRY))?, entries);
        }
        let old = memory.get(self.start, self.entries * ENTRY).to_vec();
        (self.start, self.entries, self.used) = (self.room.0, entries, 0);
        memory.claim_table(self.start, entries * ENTRY);
        self.tell(memory);
        for &entry in old.as_chunks().0 {
            let entry = u64::from_le_bytes(entry);
            if entry != 0 {
                self.insert(memory, hash_in(entry), entry as u32);
            }
        }
        Ok(())
    }

    /// Writes the header.
    fn tell(&self, memory: &mut Memory) {
        let mask = self.entries.saturating_sub(1);
        memory.put(self.header, &(u64::from(mask) << 32 | u64::from(self.start)).to_le_bytes());
    }

    fn home(&self, hash: u32) -> u32 {
        hash & self.entries.wrapping_sub(1)
    }

    fn behind(&self, at: u32) -> u32 {
        (at + 1) & (self.entries - 1)
    }

    fn get(&self, memory: &Memory, at: u32) -> u64 {
        let entry = memory.get(self.start + at * ENTRY, ENTRY);
        entry.try_into().map_or(0, u64::from_le_bytes)
    }

    fn set(&self, memory: &mut Memory, at: u32, entry: u64) {
        memory.overwrite(self.start + at * ENTRY, &entry.to_le_bytes());
    }
}

fn entry(hash: u32, record: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(record)
}

fn hash_in(entry: u64) -> u32 {
    (entry >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn index(limit: u32) -> (Index, Memory) {
        let mut memory = Memory::new().expect("memory");
        (Index::new(limit, &mut memory).expect("index"), memory)
    }

    /// Steps of a generator of numbers that are as good as random.
    fn numbers() -> impl Iterator<Item = u32> {
        std::iter::successors(Some(1_u64), |x| Some(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)))
            .map(|x| (x >> 33) as u32)
    }

    #[test]
    fn it_finds_what_a_hash_map_of_the_standard_library_finds() {
        // Hashes of few bits, so that keys collide; records are their own keys.
        for bits in [0, 1, 3, 7, 31] {
            let (mut index, mut memory) = index(2000);
            let hash = |record: u32| record.wrapping_mul(0x9e37_79b9) >> (31 - bits) | 1 << HASH_BIT;
            let mut model = HashMap::new();
            let most = if bits < 3 { 40 } else { 2000 };
            let mut numbers = numbers();
            for _ in 0..4000 {
                let (number, action) = (numbers.next().unwrap_or(0) % most + 1, numbers.next().unwrap_or(0) % 5);
                let key = number * 8;
                let found = index.find(&memory, hash(key), |record| record & !1 == key);
                assert_eq!(found.map(|found| found.record), model.get(&key).copied(), "{bits} bits, {key}");
                match (found, action) {
                    (Some(found), 0..=1) => {
                        index.remove(&mut memory, found);
                        model.remove(&key);
                    }
                    (Some(found), _) => {
                        index.replace(&mut memory, found, hash(key), found.record ^ 1);
                        model.insert(key, found.record ^ 1);
                    }
                    (None, _) => {
                        index.reserve(&mut memory).expect("there is room");
                        index.insert(&mut memory, hash(key), key);
                        model.insert(key, key);
                    }
                }
                assert_eq!(index.len(), model.len());
            }
            for key in (1..=most).map(|number| number * 8) {
                let found = index.find(&memory, hash(key), |record| record & !1 == key);
                assert_eq!(found.map(|found| found.record), model.get(&key).copied());
            }
            index.clear(&mut memory);
            assert!(index.find(&memory, hash(8), |_| true).is_none());
            index.reset(&mut memory);
            assert_eq!(memory.get(index.header(), HEADER), [0; 8]);
        }
    }

    #[test]
    fn a_table_that_outgrows_its_room_goes_elsewhere() {
        let (mut index, mut memory) = index(1000);
        index.first_room.1 = 32;
        index.forget_growth();
        for record in 1..1000 {
            index.reserve(&mut memory).expect("there is room");
            index.insert(&mut memory, record | 1 << HASH_BIT, record);
        }
        assert!((1..1000).all(|record| index.find(&memory, record | 1 << HASH_BIT, |other| other == record).is_some()));
        let header = memory.get(index.header(), HEADER).try_into().map_or(0, u64::from_le_bytes);
        assert_eq!(header, 2047 << 32 | u64::from(index.start));
        assert_ne!(index.start, index.first_room.0);
    }

    #[test]
    fn a_table_that_cannot_grow_is_filled_to_seven_eighths() {
        let (mut index, mut memory) = index(1000);
        index.first_room.1 = 32;
        index.forget_growth();
        memory.reserve_table(memory.left() - 256).expect("all that is left but for 32 entries");
        let hash = |record: u32| record.wrapping_mul(0x9e37_79b9) | 1 << HASH_BIT;
        for record in 1..=28 {
            index.reserve(&mut memory).expect("there is room");
            index.insert(&mut memory, hash(record), record);
        }
        index.reserve(&mut memory).expect_err("only four are left");
        assert!((1..=28).all(|record| index.find(&memory, hash(record), |other| other == record).is_some()));
        assert!(index.find(&memory, hash(29), |_| true).is_none());
    }

    #[test]
    fn natural_keys_do_not_collide() {
        type Pattern = fn(u64) -> u64;
        let patterns: [(&str, Pattern); 8] = [
            ("numbers", |n| n),
            ("numbers in the upper half", |n| n << 32),
            ("ports above an address", |n| n << 48 | 0x0a00_0001),
            ("addresses of networks", |n| (n << 8).swap_bytes() >> 32),
            ("pages", |n| n << 12),
            ("pages of a kernel", |n| 0xffff_8880_0000_0000 + (n << 12)),
            ("objects in a slab", |n| 0xffff_9637_e317_5000 + n * 192),
            ("processes and threads", |n| (n / 4) << 32 | n),
        ];
        const KEYS: u64 = 1 << 12;
        for (what, pattern) in patterns {
            for size in [4, 8, 12, 16, 20, 40] {
                let keys = (0..KEYS).map(|n| pattern(n).to_le_bytes().into_iter().cycle().take(size).collect());
                let (steps, keys) = steps(keys);
                assert!(steps <= keys, "{what} in {size} bytes: {steps} steps for {keys} keys");
            }
        }
    }

    #[test]
    fn keys_that_are_made_to_collide_do_not() {
        // For whoever guesses the seed the second half takes back what the first has done.
        let guess = |n: u64| [n.to_le_bytes(), (fold(n) ^ 5).to_le_bytes()].concat();
        assert!((1..100).all(|n| hash_of(0, &guess(n)) == hash_of(0, &guess(0))));
        let (steps, keys) = steps((0..1 << 12).map(guess));
        assert!(steps <= keys, "{steps} steps for {keys} keys");
    }

    /// Steps that it takes to find all these keys in an index of their own, and how many different ones there are.
    fn steps(keys: impl Iterator<Item = Vec<u8>>) -> (usize, usize) {
        let keys: HashSet<_> = keys.collect();
        let (mut index, mut memory) = index(keys.len() as u32);
        for (record, key) in (1..).zip(&keys) {
            index.reserve(&mut memory).expect("there is room");
            let hash = index.hash_of(key);
            index.insert(&mut memory, hash, record);
        }
        let steps = keys.iter().map(|key| {
            let (hash, mut steps) = (index.hash_of(key), 0);
            let mut at = index.home(hash);
            while index.get(&memory, at) >> 32 != u64::from(hash) {
                at = index.behind(at);
                steps += 1;
            }
            steps
        });
        (steps.sum(), keys.len())
    }

    #[test]
    fn pieces_cover_a_key() {
        for size in 1..=64 {
            let pieces: Vec<_> = pieces(size).collect();
            let mut covered = 0;
            for &(start, len) in &pieces {
                assert!([1, 2, 4, 8].contains(&len) && start <= covered && start + len > covered, "{size}: {pieces:?}");
                covered = start + len;
            }
            assert_eq!(covered, size);
        }
        assert_eq!(pieces(12).collect::<Vec<_>>(), [(0, 8), (4, 8)]);
        assert_eq!(pieces(7).collect::<Vec<_>>(), [(0, 4), (3, 4)]);
        assert_eq!(pieces(3).collect::<Vec<_>>(), [(0, 2), (1, 2)]);
    }

    #[test]
    fn hashes_of_short_keys_are_those_of_their_pieces() {
        for key in [&[1_u8, 2, 3, 4][..], &[1, 2, 3, 4, 5, 6, 7, 8]] {
            assert_eq!(hash_of(7, key), fold(hash_pieces(7, key)) as u32 | 1 << HASH_BIT);
        }
    }
}
