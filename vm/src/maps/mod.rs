//! The maps of one machine: [`Map`], whose values lie in guest memory.
//!
//! A map is used from two sides. The program side is what helpers call while a program runs: keys and values are
//! bytes, values are handed out as guest addresses, a refusal is an [`Errno`]. The user side is what `bpf(2)` offers
//! to a process, and what tests do through a [`MapHandle`]. Each kind of map is one file here and one row below;
//! dispatch is an enum made from the rows.
//!
//! Nothing here knows engines, helpers or programs (a `prog_array` holds numbers), and nothing depends on the host:
//! the same calls give the same addresses, the same order and the same errors everywhere.
//!
//! Where Linux leaves a choice, this is Linux 6.18 as observed; each kind's file says what it does otherwise.

mod array;
mod chain;
mod definition;
mod error;
mod handle;
mod hash;
mod index;
mod jhash;
mod map;
mod perf_event_array;
mod prog_array;
mod ringbuf;
mod slots;
mod stack_trace;
mod walk;

pub use array::MAX_DIRECT_VALUE;
use definition::Definition;
pub use definition::{MAX_HOST_BYTES, MAX_PERCPU_VALUE, create_flags, update_flags};
pub use error::{MapAccessError, MapError, MapErrorKind, MapOperation};
pub use handle::{MapHandle, RawEntry};
pub use index::{HASH_BIT, HASH_FACTOR, HashLayout, pieces};
pub use map::{ArrayLayout, Map};
pub use perf_event_array::{DEFAULT_PERF_BUFFER_BYTES, PerfEventArray, PerfSample, output_flags};
pub use prog_array::ProgArray;
pub use ringbuf::{RingBuf, RingBufQuery, UnknownRecord};
pub use stack_trace::{MAX_STACK_DEPTH, StackTrace, stack_flags};

use crate::errno::Errno;
use crate::map_spec::MapType;
use crate::memory::Memory;

/// The kinds of maps that machines have.
///
/// To add a map type: write `maps/<kind>.rs` with a struct that implements [`MapKind`] (its `create` holds the
/// checks of the kernel's `map_alloc_check` and `map_alloc`), declare the module above, and add a row. A kind
/// that is more than keys and values (ring buffer, program array) also gets an accessor on [`Map`].
///
/// Columns: name in [`MapType`], type that implements it, whether a value has one copy or one for each CPU, and
/// the flags that `BPF_MAP_CREATE` accepts for it.
macro_rules! for_each_map_kind {
    ($reader:ident) => {
        $reader! {
            Hash           hash::HashMap                    Shared [ACCESS NO_PREALLOC NUMA_NODE ZERO_SEED]
            Array          array::ArrayMap                  Shared [ACCESS NUMA_NODE MMAPABLE INNER_MAP]
            ProgArray      prog_array::ProgArray            Shared [USER_ACCESS NUMA_NODE]
            PerfEventArray perf_event_array::PerfEventArray Shared [USER_ACCESS NUMA_NODE PRESERVE_ELEMS]
            PercpuHash     hash::HashMap                    PerCpu [ACCESS NO_PREALLOC ZERO_SEED]
            PercpuArray    array::ArrayMap                  PerCpu [ACCESS]
            StackTrace     stack_trace::StackTrace          Shared [USER_ACCESS NUMA_NODE STACK_BUILD_ID]
            LruHash        hash::HashMap                    Shared [ACCESS NO_PREALLOC NO_COMMON_LRU NUMA_NODE ZERO_SEED]
            LruPercpuHash  hash::HashMap                    PerCpu [ACCESS NO_PREALLOC NO_COMMON_LRU ZERO_SEED]
            Ringbuf        ringbuf::RingBuf                 Shared [NUMA_NODE]
        }
    };
}

/// How many copies a value has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    Shared,
    PerCpu,
}

/// Who acts on a map: this decides how many copies of a value a per-CPU map takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Actor {
    /// A program that runs on this CPU.
    Program { cpu: u32 },
    /// User space, which sees the copies of all CPUs.
    User,
}

/// What every kind of map can do. Keys and values have the right length when they arrive here.
trait MapKind: Sized {
    /// Makes an empty map, as the kernel's `map_alloc_check` and `map_alloc` do.
    fn create(def: &Definition, memory: &mut Memory) -> Result<Self, MapErrorKind>;

    /// Address of the value for a program on `cpu`; `bpf_map_lookup_elem`.
    fn lookup(&mut self, memory: &mut Memory, cpu: u32, key: &[u8]) -> Option<u32>;

    /// `bpf_map_update_elem` and `BPF_MAP_UPDATE_ELEM`.
    fn update(&mut self, memory: &mut Memory, actor: Actor, key: &[u8], value: &[u8], flags: u64) -> Result<(), Errno>;

    /// `bpf_map_delete_elem` and `BPF_MAP_DELETE_ELEM`.
    fn delete(&mut self, memory: &mut Memory, actor: Actor, key: &[u8]) -> Result<(), Errno>;

    /// `BPF_MAP_LOOKUP_ELEM`: the value, of a per-CPU map the values of all CPUs.
    fn read(&self, memory: &Memory, key: &[u8]) -> Result<Vec<u8>, Errno>;

    /// `BPF_MAP_GET_NEXT_KEY`.
    fn next_key(&self, memory: &Memory, key: Option<&[u8]>) -> Result<Vec<u8>, Errno>;

    /// Keys of all elements that exist, in the order of `next_key`.
    fn keys(&self, memory: &Memory) -> impl Iterator<Item = Vec<u8>>;

    /// Begins a walk over the elements; walks nest.
    fn begin_walk(&mut self) {}

    /// The next element of the innermost walk, which has visited so many: its key goes to the guest address `key`, the
    /// address of its value comes back.
    fn walk(&mut self, _memory: &mut Memory, _cpu: u32, _visited: u32, _key: u32) -> Option<u32> {
        None
    }

    /// Ends the innermost walk.
    fn end_walk(&mut self) {}

    /// Elements that exist, or records that wait.
    fn len(&self) -> usize;

    /// Removes what user space can remove; values that cannot be removed become zero.
    fn clear(&mut self, memory: &mut Memory);

    /// Closes the memory that programs can no longer reach once no run is under way.
    fn end_run(&mut self, memory: &mut Memory);

    /// Back to the state that `create` left.
    fn reset(&mut self, memory: &mut Memory);

    /// After `reset`: forgets guest memory that the map has taken since `create`, which is being taken back.
    fn forget_growth(&mut self) {}
}

macro_rules! map_kinds {
    ($($name:ident $module:ident::$kind:ident $copies:ident [$($flag:ident)*])*) => {
        #[derive(Debug)]
        enum Kind {
            $($name($module::$kind),)*
        }

        impl Kind {
            fn create(def: &Definition, memory: &mut Memory) -> Result<Kind, MapErrorKind> {
                $(if def.map_type == MapType::$name {
                    def.check_flags(0 $(| create_flags::$flag)*)?;
                    return Ok(Kind::$name(MapKind::create(def, memory)?));
                })*
                if let MapType::Unknown(number) = def.map_type {
                    return Err(MapErrorKind::UnknownType { number });
                }
                Err(MapErrorKind::NotImplemented { map_type: def.map_type })
            }
        }

        /// Whether values of this type of map have a copy for each CPU.
        fn is_percpu(map_type: MapType) -> bool {
            [$((MapType::$name, Copies::$copies)),*].contains(&(map_type, Copies::PerCpu))
        }

        impl Kind {
            #[inline]
            fn lookup(&mut self, memory: &mut Memory, cpu: u32, key: &[u8]) -> Option<u32> {
                match self { $(Kind::$name(kind) => kind.lookup(memory, cpu, key),)* }
            }

            fn update(
                &mut self,
                memory: &mut Memory,
                actor: Actor,
                key: &[u8],
                value: &[u8],
                flags: u64,
            ) -> Result<(), Errno> {
                match self { $(Kind::$name(kind) => kind.update(memory, actor, key, value, flags),)* }
            }

            fn delete(&mut self, memory: &mut Memory, actor: Actor, key: &[u8]) -> Result<(), Errno> {
                match self { $(Kind::$name(kind) => kind.delete(memory, actor, key),)* }
            }

            fn read(&self, memory: &Memory, key: &[u8]) -> Result<Vec<u8>, Errno> {
                match self { $(Kind::$name(kind) => kind.read(memory, key),)* }
            }

            fn next_key(&self, memory: &Memory, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
                match self { $(Kind::$name(kind) => kind.next_key(memory, key),)* }
            }

            fn keys<'k>(&'k self, memory: &'k Memory) -> Box<dyn Iterator<Item = Vec<u8>> + 'k> {
                match self { $(Kind::$name(kind) => Box::new(kind.keys(memory)),)* }
            }

            fn begin_walk(&mut self) {
                match self { $(Kind::$name(kind) => kind.begin_walk(),)* }
            }

            fn walk(&mut self, memory: &mut Memory, cpu: u32, visited: u32, key: u32) -> Option<u32> {
                match self { $(Kind::$name(kind) => kind.walk(memory, cpu, visited, key),)* }
            }

            fn end_walk(&mut self) {
                match self { $(Kind::$name(kind) => kind.end_walk(),)* }
            }

            fn len(&self) -> usize {
                match self { $(Kind::$name(kind) => kind.len(),)* }
            }

            fn clear(&mut self, memory: &mut Memory) {
                match self { $(Kind::$name(kind) => kind.clear(memory),)* }
            }

            fn end_run(&mut self, memory: &mut Memory) {
                match self { $(Kind::$name(kind) => kind.end_run(memory),)* }
            }

            fn reset(&mut self, memory: &mut Memory) {
                match self { $(Kind::$name(kind) => kind.reset(memory),)* }
            }

            fn forget_growth(&mut self) {
                match self { $(Kind::$name(kind) => kind.forget_growth(),)* }
            }
        }
    };
}
for_each_map_kind!(map_kinds);
