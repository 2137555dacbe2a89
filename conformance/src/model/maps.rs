//! The model's maps: what `bpf_map_lookup_elem`, `bpf_map_update_elem` and `bpf_map_delete_elem` do, over plain lists.
//!
//! Values lie in [`Memory`], a region each. Addresses of hash elements can be seen by programs, so that which place an
//! element takes is modelled too: the one that was freed last, else the first that was never used; an element that
//! replaces another takes the spare place of a preallocated map. A place that an element leaves stays open until the
//! run ends. `kernel/bpf/arraymap.c`, `kernel/bpf/hashtab.c`.

use std::collections::BTreeMap;

use super::memory::{Memory, Region};

/// `EPERM` to `EINVAL`: the error numbers that maps and tail calls give.
pub mod errno {
    /// One tail call too many.
    pub const EPERM: i64 = 1;
    /// No such element.
    pub const ENOENT: i64 = 2;
    /// No such index, or a full map.
    pub const E2BIG: i64 = 7;
    /// A map that programs may not write.
    pub const EACCES: i64 = 13;
    /// The element is there already.
    pub const EEXIST: i64 = 17;
    /// Unknown flags, or an operation that the type does not have.
    pub const EINVAL: i64 = 22;
}

/// What a map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Elements by index, all of them there, always.
    Array,
    /// Elements by key.
    Hash {
        /// A full map evicts the element that was looked up or written the longest ago.
        lru: bool,
        /// Replacements use a place of their own.
        spare: bool,
    },
    /// Programs by index.
    Programs,
}

/// A map and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapSetup {
    /// What programs hold as its address.
    pub handle: u64,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a key.
    pub key_size: usize,
    /// Bytes of one copy of a value.
    pub value_size: usize,
    /// Elements at most.
    pub max_entries: usize,
    /// Copies of a value: one a CPU, or 1.
    pub copies: usize,
    /// Programs may not write it.
    pub read_only: bool,
    /// Address of the first place.
    pub start: u64,
    /// Bytes from one copy, or place, to the next.
    pub stride: u64,
    /// First bytes of the first value.
    pub initial: Vec<u8>,
    /// Programs by index.
    pub programs: BTreeMap<u32, usize>,
}

impl MapSetup {
    /// Places for elements: a hash has one more, so that a full one can replace an element.
    fn places(&self) -> usize {
        match self.kind {
            Kind::Array => self.max_entries,
            Kind::Hash { .. } => self.max_entries + 1,
            Kind::Programs => 0,
        }
    }

    /// Address of one CPU's copy in a place.
    fn address(&self, place: usize, cpu: usize) -> u64 {
        self.start + self.stride * (place * self.copies + cpu.min(self.copies - 1)) as u64
    }

    /// Address of a byte of the only value of an array: `array_map_direct_value_addr`.
    pub(super) fn value_address(&self, offset: u32) -> Option<u64> {
        let has = self.kind == Kind::Array && self.max_entries == 1 && self.copies == 1;
        (has && (offset as usize) < self.value_size).then(|| self.start + u64::from(offset))
    }

    /// Memory for the values.
    pub(super) fn regions(&self) -> impl Iterator<Item = Region> {
        let region = |place, cpu| {
            let mut bytes = vec![0; self.value_size];
            if place == 0 {
                bytes.iter_mut().zip(&self.initial).for_each(|(to, from)| *to = *from);
            }
            Region {
                start: self.address(place, cpu),
                bytes,
                writable: vec![!self.read_only; self.value_size],
                open: self.kind == Kind::Array,
            }
        };
        (0..self.places()).flat_map(move |place| (0..self.copies).map(move |cpu| region(place, cpu)))
    }
}

/// A live map. Arrays are all in memory; here is what hashes know besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    /// What it is and where.
    pub setup: MapSetup,
    /// Keys and their places, in the order in which keys were first inserted.
    elements: Vec<(Vec<u8>, usize)>,
    /// Keys, the one to evict first: of LRU maps.
    recency: Vec<Vec<u8>>,
    /// Places that elements have left, the last one to be used first.
    free: Vec<usize>,
    spare: Option<usize>,
    /// Places that were ever used.
    used: usize,
}

/// Keys and values as user space sees them.
pub type Contents = Vec<(Vec<u8>, Vec<u8>)>;

impl Map {
    pub(super) fn new(setup: &MapSetup) -> Map {
        let (elements, recency, free) = (Vec::new(), Vec::new(), Vec::new());
        Map { setup: setup.clone(), elements, recency, free, spare: None, used: 0 }
    }

    /// `bpf_map_lookup_elem`: the address of the value, or 0.
    pub fn lookup(&mut self, cpu: usize, key: &[u8]) -> u64 {
        if self.setup.kind == Kind::Array {
            return index(key)
                .filter(|&index| index < self.setup.max_entries)
                .map_or(0, |i| self.setup.address(i, cpu));
        }
        let Some(place) = self.place(key) else { return 0 };
        self.touch(key);
        self.setup.address(place, cpu)
    }

    /// `bpf_map_update_elem`.
    ///
    /// # Errors
    /// The error number.
    pub fn update(&mut self, memory: &mut Memory, cpu: usize, key: &[u8], value: &[u8], flags: u64) -> Result<(), i64> {
        const NOEXIST: u64 = 1;
        const EXIST: u64 = 2;
        const LOCK: u64 = 4;
        if self.setup.read_only {
            return Err(errno::EACCES);
        }
        // Unknown flags come first, those of a lock that no value here has last.
        if !matches!(flags, 0..=2 | 4..=6) {
            return Err(errno::EINVAL);
        }
        let (locks, flags) = (flags >= LOCK, flags % LOCK);
        let place = match self.setup.kind {
            Kind::Array => {
                let index = index(key).filter(|&index| index < self.setup.max_entries).ok_or(errno::E2BIG)?;
                if flags == NOEXIST {
                    return Err(errno::EEXIST);
                }
                if locks {
                    return Err(errno::EINVAL);
                }
                index
            }
            Kind::Hash { .. } if locks => return Err(errno::EINVAL),
            Kind::Hash { .. } => match self.place(key) {
                Some(_) if flags == NOEXIST => return Err(errno::EEXIST),
                None if flags == EXIST => return Err(errno::ENOENT),
                Some(old) => self.replace(key, old),
                None => self.insert(key)?,
            },
            Kind::Programs => return Err(errno::EINVAL),
        };
        for other in 0..self.setup.copies {
            memory.open(self.setup.address(place, other), true);
        }
        memory.fill(self.setup.address(place, cpu), value);
        Ok(())
    }

    /// `bpf_map_delete_elem`.
    ///
    /// # Errors
    /// The error number.
    pub fn delete(&mut self, key: &[u8]) -> Result<(), i64> {
        if self.setup.read_only {
            return Err(errno::EACCES);
        }
        match self.setup.kind {
            Kind::Array | Kind::Programs => Err(errno::EINVAL),
            Kind::Hash { .. } => self.remove(key).ok_or(errno::ENOENT),
        }
    }

    /// What user space reads when no program runs: of a value for each CPU the copies, each filled up to 8 bytes.
    pub fn contents(&self, memory: &Memory) -> Contents {
        let value = |place| {
            let copy = |cpu| memory.region(self.setup.address(place, cpu)).map_or(&[][..], |region| &region.bytes);
            if self.setup.copies == 1 {
                return copy(0).to_vec();
            }
            let padded = |cpu| {
                let mut bytes = copy(cpu).to_vec();
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                bytes
            };
            (0..self.setup.copies).flat_map(padded).collect()
        };
        match self.setup.kind {
            Kind::Array => (0..self.setup.max_entries).map(|i| ((i as u32).to_le_bytes().to_vec(), value(i))).collect(),
            Kind::Hash { .. } => self.elements.iter().map(|(key, place)| (key.clone(), value(*place))).collect(),
            Kind::Programs => Vec::new(),
        }
    }

    /// Closes the places that no element has.
    pub(super) fn end_run(&self, memory: &mut Memory) {
        for &place in self.free.iter().chain(&self.spare) {
            for cpu in 0..self.setup.copies {
                memory.open(self.setup.address(place, cpu), false);
            }
        }
    }

    fn place(&self, key: &[u8]) -> Option<usize> {
        self.elements.iter().find(|(other, _)| other == key).map(|&(_, place)| place)
    }

    /// A place that was never used.
    fn unused(&mut self) -> usize {
        self.used += 1;
        self.used - 1
    }

    fn insert(&mut self, key: &[u8]) -> Result<usize, i64> {
        if self.elements.len() == self.setup.max_entries {
            let oldest = self.recency.first().cloned().ok_or(errno::E2BIG)?;
            self.remove(&oldest);
        }
        let place = self.free.pop().unwrap_or_else(|| self.unused());
        self.elements.push((key.to_vec(), place));
        self.touch(key);
        Ok(place)
    }

    /// Where the element that replaces the one in `old` goes.
    fn replace(&mut self, key: &[u8], old: usize) -> usize {
        let spare = matches!(self.setup.kind, Kind::Hash { spare: true, .. });
        let free = if spare { self.spare.take() } else { self.free.pop() };
        let place = free.unwrap_or_else(|| self.unused());
        if spare {
            self.spare = Some(old);
        } else {
            self.free.push(old);
        }
        if let Some(element) = self.elements.iter_mut().find(|(other, _)| other == key) {
            element.1 = place;
        }
        self.touch(key);
        place
    }

    fn remove(&mut self, key: &[u8]) -> Option<()> {
        let at = self.elements.iter().position(|(other, _)| other == key)?;
        let (_, place) = self.elements.remove(at);
        self.recency.retain(|other| other != key);
        self.free.push(place);
        Some(())
    }

    /// Notes that an element of an LRU map was used.
    fn touch(&mut self, key: &[u8]) {
        if let Kind::Hash { lru: true, .. } = self.setup.kind {
            self.recency.retain(|other| other != key);
            self.recency.push(key.to_vec());
        }
    }
}

fn index(key: &[u8]) -> Option<usize> {
    Some(u32::from_le_bytes(*key.first_chunk()?) as usize)
}
