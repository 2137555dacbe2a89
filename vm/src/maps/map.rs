//! [`Map`]: one map, from the program side and from the user side.

use std::sync::Arc;

use super::definition::{Definition, create_flags, update_flags};
use super::error::MapError;
use super::{Actor, HashLayout, Kind, PerfEventArray, ProgArray, RawEntry, RingBuf, StackTrace};
use crate::errno::Errno;
use crate::map_spec::{MapSpec, MapType};
use crate::memory::{Memory, Permission};

/// One map of a machine. Its values are in the machine's [`Memory`], which every call gets.
///
/// ```
/// use softbpf::map_spec::{MapSpec, MapType};
/// use softbpf::maps::{Map, update_flags};
/// use softbpf::memory::Memory;
///
/// let mut memory = Memory::new()?;
/// let mut map = Map::create(&MapSpec::new("counts", MapType::Hash, 4, 8, 16), &mut memory, 1)?;
/// map.update(&mut memory, 0, b"key1", &[1, 0, 0, 0, 0, 0, 0, 0], update_flags::ANY)?;
/// let address = map.lookup(&mut memory, 0, b"key1").expect("the key is there");
/// assert_eq!(memory.read(address.into(), 8).map(|value| value[0]), Ok(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Map {
    def: Definition,
    kind: Kind,
}

/// Where the values of an array lie in guest memory: for code that computes their addresses itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayLayout {
    /// Guest address of the value with index 0, for CPU 0.
    pub start: u32,
    /// Bytes from one index to the next.
    pub stride: u32,
    /// Bytes from one CPU's copy to the next one's; 0 for plain arrays.
    pub cpu_stride: u32,
    /// Indices are below this.
    pub max_entries: u32,
    /// Whether all values are open to programs; else [`Map::lookup`] opens them one by one.
    pub all_open: bool,
}

impl Map {
    /// Makes a map, as libbpf and `BPF_MAP_CREATE` do, for a machine with `cpus` CPUs (0 counts as 1).
    ///
    /// Like libbpf, a ring buffer's size is rounded up to a power of two of pages, and a perf event array of size 0
    /// gets a slot for each CPU. Slots that the object fills in are the caller's to fill
    /// ([`ProgArray::set_initial_program`]). Memory is taken as it is used, whatever `max_entries` is.
    ///
    /// # Errors
    /// A [`MapError`] that names the map and the rule: the checks of the type's `map_alloc_check`, unknown types,
    /// types without implementation, guest memory that is full.
    pub fn create(spec: &MapSpec, memory: &mut Memory, cpus: u32) -> Result<Map, MapError> {
        let def = Definition::new(spec, cpus);
        match Kind::create(&def, memory) {
            Ok(kind) => Ok(Map { def, kind }),
            Err(kind) => Err(MapError { map: def.name, map_type: def.map_type, kind }),
        }
    }

    // What it is.

    /// Name, as the object has it.
    pub fn name(&self) -> &Arc<str> {
        &self.def.name
    }

    /// Type.
    pub fn map_type(&self) -> MapType {
        self.def.map_type
    }

    /// Bytes of a key.
    pub fn key_size(&self) -> u32 {
        self.def.key_size
    }

    /// Bytes of a value, of one CPU's copy in a per-CPU map.
    pub fn value_size(&self) -> u32 {
        self.def.value_size
    }

    /// Bytes of a value on the user side: in a per-CPU map the copies of all CPUs, each rounded up to 8 bytes.
    pub fn user_value_size(&self) -> u64 {
        self.def.user_value_size()
    }

    /// Elements at most; bytes of a ring buffer.
    pub fn max_entries(&self) -> u32 {
        self.def.max_entries
    }

    /// Flags it was made with ([`super::create_flags`]).
    pub fn flags(&self) -> u32 {
        self.def.flags
    }

    /// Copies of each value: the number of CPUs for a per-CPU map, else 1.
    pub fn copies(&self) -> u32 {
        self.def.copies
    }

    /// Whether each CPU has its own copy of a value.
    pub fn is_percpu(&self) -> bool {
        self.def.is_percpu()
    }

    /// What programs may do with its values.
    pub fn permission(&self) -> Permission {
        self.def.permission()
    }

    // The program side.

    /// Guest address of the value of `key`, of the copy for `cpu` in a per-CPU map; `None` (the helper's NULL) when
    /// there is none. `bpf_map_lookup_elem`. An LRU map takes note.
    #[inline]
    pub fn lookup(&mut self, memory: &mut Memory, cpu: u32, key: &[u8]) -> Option<u32> {
        if key.len() != self.def.key_size as usize {
            return None;
        }
        self.kind.lookup(memory, cpu, key)
    }

    /// Writes the value of `key`, in a per-CPU map the copy of `cpu`. `bpf_map_update_elem`.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags ([`super::update_flags`]; `BPF_F_LOCK`, as no value has a spin lock) and wrong
    /// sizes; `EEXIST` with `BPF_NOEXIST` and `ENOENT` with `BPF_EXIST`; `E2BIG` when a hash map is full or an
    /// array has no such index; `ENOMEM` when guest memory is full or [`super::MAX_HOST_BYTES`] are in use;
    /// `EACCES`, which the verifier would give, when programs may not write the map; `EINVAL` or `ENOTSUPP` for
    /// types that have no such operation.
    pub fn update(&mut self, memory: &mut Memory, cpu: u32, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        if self.def.has(create_flags::RDONLY_PROG) {
            return Err(Errno::EACCES);
        }
        if key.len() != self.def.key_size as usize || value.len() != self.def.value_size as usize {
            return Err(Errno::EINVAL);
        }
        self.kind.update(memory, Actor::Program { cpu }, key, value, flags)
    }

    /// Removes `key`. What points to its value may go on reading it until [`Map::end_run`].
    /// `bpf_map_delete_elem`.
    ///
    /// # Errors
    /// `ENOENT` when there is none; `EACCES` when programs may not write the map; `EINVAL` or `ENOTSUPP` for types
    /// that have no such operation, such as arrays.
    pub fn delete(&mut self, memory: &mut Memory, key: &[u8]) -> Result<(), Errno> {
        if self.def.has(create_flags::RDONLY_PROG) {
            return Err(Errno::EACCES);
        }
        if key.len() != self.def.key_size as usize {
            return Err(Errno::EINVAL);
        }
        self.kind.delete(memory, Actor::Program { cpu: 0 }, key)
    }

    /// Begins a walk over the elements, in the order of [`Map::next_key`]; walks nest.
    pub(crate) fn begin_walk(&mut self) {
        self.kind.begin_walk();
    }

    /// The next element of the innermost walk, which has visited so many: its key goes to the guest address `key`, the
    /// address of its value comes back. `None` when all have been visited, and for types without elements.
    pub(crate) fn walk(&mut self, memory: &mut Memory, cpu: u32, visited: u32, key: u32) -> Option<u32> {
        self.kind.walk(memory, cpu, visited, key)
    }

    /// Ends the innermost walk.
    pub(crate) fn end_walk(&mut self) {
        self.kind.end_walk();
    }

    /// Guest address of byte `offset` of the only value of an array, what `BPF_PSEUDO_MAP_VALUE` loads.
    ///
    /// # Errors
    /// `ENOTSUPP` for other maps and for a value of more than [`super::MAX_DIRECT_VALUE`], which only a lookup opens;
    /// `EINVAL` for an offset outside the value. `array_map_direct_value_addr`.
    pub fn direct_value(&self, offset: u32) -> Result<u32, Errno> {
        let direct = |layout: &ArrayLayout| layout.max_entries == 1 && layout.all_open;
        let layout = self.array_layout().filter(direct).ok_or(Errno::ENOTSUPP)?;
        if offset >= self.def.value_size {
            return Err(Errno::EINVAL);
        }
        Ok(layout.start + offset)
    }

    /// Where the values of an array or a per-CPU array lie; `None` for other maps.
    pub fn array_layout(&self) -> Option<ArrayLayout> {
        if let Kind::Array(array) | Kind::PercpuArray(array) = &self.kind { Some(array.layout()) } else { None }
    }

    /// Where a hash map keeps what lookups need; `None` for other maps.
    pub fn hash_layout(&self) -> Option<HashLayout> {
        if let Kind::Hash(map) | Kind::PercpuHash(map) | Kind::LruHash(map) | Kind::LruPercpuHash(map) = &self.kind {
            Some(map.layout())
        } else {
            None
        }
    }

    /// To be called when a run has ended, and before one begins when the user side was used in between: closes the
    /// memory of elements that were deleted or replaced, and discards ring buffer records that are still reserved.
    /// Costs nothing where there are none.
    #[inline]
    pub fn end_run(&mut self, memory: &mut Memory) {
        self.kind.end_run(memory);
    }

    /// Whether a run may leave something that [`Map::end_run`] has to see to.
    pub(crate) fn holds_memory_of_runs(&self) -> bool {
        match self.kind {
            Kind::Hash(_) | Kind::PercpuHash(_) | Kind::LruHash(_) | Kind::LruPercpuHash(_) | Kind::Ringbuf(_) => true,
            Kind::Array(_)
            | Kind::PercpuArray(_)
            | Kind::ProgArray(_)
            | Kind::PerfEventArray(_)
            | Kind::StackTrace(_) => false,
        }
    }

    /// Back to the state after [`Map::create`], at a cost in proportion to what was touched since (for small
    /// arrays, to their size). Guest address space that a hash map has grown into stays its own.
    pub fn reset(&mut self, memory: &mut Memory) {
        self.kind.reset(memory);
    }

    /// As [`Map::reset`], where guest memory is being taken back that was handed out after the map was made.
    pub(crate) fn reset_with_memory(&mut self, memory: &mut Memory) {
        self.kind.reset(memory);
        self.kind.forget_growth();
    }

    // The user side.

    /// The value of `key`; of a per-CPU map the copies of all CPUs, each rounded up to 8 bytes.
    /// `BPF_MAP_LOOKUP_ELEM`.
    ///
    /// # Errors
    /// `ENOENT` when there is none; `EPERM` for a map made with `BPF_F_WRONLY`; `EINVAL` for a key of the wrong size;
    /// `ENOTSUPP` for types whose values cannot be read.
    pub fn user_lookup(&self, memory: &Memory, key: &[u8]) -> Result<Vec<u8>, Errno> {
        if self.def.has(create_flags::WRONLY) {
            return Err(Errno::EPERM);
        }
        self.check_user_key(key)?;
        self.kind.read(memory, key)
    }

    /// Writes the value of `key`, which has [`Map::user_value_size`] bytes. `BPF_MAP_UPDATE_ELEM`.
    ///
    /// # Errors
    /// As [`Map::update`], but it is `BPF_F_RDONLY` that forbids it, with `EPERM`.
    pub fn user_update(&mut self, memory: &mut Memory, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno> {
        if self.def.has(create_flags::RDONLY) {
            return Err(Errno::EPERM);
        }
        self.check_user_key(key)?;
        // No value has a spin lock: `map_update_elem` in `kernel/bpf/syscall.c`.
        if flags & update_flags::LOCK != 0 || value.len() as u64 != self.user_value_size() {
            return Err(Errno::EINVAL);
        }
        self.kind.update(memory, Actor::User, key, value, flags)
    }

    /// Removes `key`. `BPF_MAP_DELETE_ELEM`.
    ///
    /// # Errors
    /// As [`Map::delete`], but it is `BPF_F_RDONLY` that forbids it, with `EPERM`.
    pub fn user_delete(&mut self, memory: &mut Memory, key: &[u8]) -> Result<(), Errno> {
        if self.def.has(create_flags::RDONLY) {
            return Err(Errno::EPERM);
        }
        self.check_user_key(key)?;
        self.kind.delete(memory, Actor::User, key)
    }

    /// The key behind `key`; the first one for `None` and for a key that is not there. Hash maps go by the order of
    /// first insertion, others by number. `BPF_MAP_GET_NEXT_KEY`.
    ///
    /// # Errors
    /// `ENOENT` behind the last; `EPERM` for a map made with `BPF_F_WRONLY`; `EINVAL` for a key of the wrong size;
    /// `ENOTSUPP` for types without keys.
    pub fn next_key(&self, memory: &Memory, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        if self.def.has(create_flags::WRONLY) {
            return Err(Errno::EPERM);
        }
        if let Some(key) = key {
            self.check_user_key(key)?;
        }
        self.kind.next_key(memory, key)
    }

    /// The keys of all elements, one by one, in the order of [`Map::next_key`]. None for types without readable
    /// elements; only slots with a program for a `prog_array`.
    ///
    /// A loop that changes a hash map collects them first; an array, whose keys never change, may have too many for
    /// that, and goes by its indices.
    pub fn keys<'k>(&'k self, memory: &'k Memory) -> impl Iterator<Item = Vec<u8>> + 'k {
        self.kind.keys(memory)
    }

    /// Keys and values of all elements, one by one, in the order of [`Map::next_key`].
    pub fn iter<'k>(&'k self, memory: &'k Memory) -> impl Iterator<Item = RawEntry> + 'k {
        self.keys(memory).filter_map(|key| self.kind.read(memory, &key).ok().map(|value| (key, value)))
    }

    /// Number of elements (arrays always have all; program arrays those that are set); of ring buffers and perf event
    /// arrays, what waits to be taken.
    pub fn len(&self) -> usize {
        self.kind.len()
    }

    /// Whether [`Map::len`] is 0.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all elements, or what waits to be taken; the values of arrays become zero.
    pub fn clear(&mut self, memory: &mut Memory) {
        self.kind.clear(memory);
    }

    fn check_user_key(&self, key: &[u8]) -> Result<(), Errno> {
        if key.len() == self.def.key_size as usize { Ok(()) } else { Err(Errno::EINVAL) }
    }

    // Kinds that are more than keys and values.

    /// The slots, if it is a `prog_array`.
    #[inline]
    pub fn prog_array(&mut self) -> Option<&mut ProgArray> {
        if let Kind::ProgArray(array) = &mut self.kind { Some(array) } else { None }
    }

    /// The buffers, if it is a `perf_event_array`.
    #[inline]
    pub fn perf_event_array(&mut self) -> Option<&mut PerfEventArray> {
        if let Kind::PerfEventArray(array) = &mut self.kind { Some(array) } else { None }
    }

    /// The ring, if it is a `ringbuf`.
    #[inline]
    pub fn ringbuf(&mut self) -> Option<&mut RingBuf> {
        if let Kind::Ringbuf(ring) = &mut self.kind { Some(ring) } else { None }
    }

    /// The call chains, if it is a `stack_trace`.
    #[inline]
    pub fn stack_trace(&mut self) -> Option<&mut StackTrace> {
        if let Kind::StackTrace(traces) = &mut self.kind { Some(traces) } else { None }
    }

    /// Guest addresses of ring buffer records that are still reserved, oldest first; empty for other maps. A program
    /// that ends with one is what the verifier refuses ("Unreleased reference").
    pub fn reserved_records(&self) -> Vec<u32> {
        if let Kind::Ringbuf(ring) = &self.kind { ring.reserved() } else { Vec::new() }
    }

    /// Whether [`Map::reserved_records`] has any.
    #[inline]
    pub fn has_reserved_records(&self) -> bool {
        if let Kind::Ringbuf(ring) = &self.kind { ring.has_reserved() } else { false }
    }

    /// Bytes of the record that a program has reserved at `addr` ([`RingBuf::reserved_at`]).
    #[inline]
    pub fn reserved_record(&self, addr: u64) -> Option<u32> {
        if let Kind::Ringbuf(ring) = &self.kind { ring.reserved_at(addr) } else { None }
    }
}
