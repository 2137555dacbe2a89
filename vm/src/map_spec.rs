//! What an object says about a map before it exists: [`MapSpec`], and the table of map types.
//!
//! A spec is a value: nothing here makes a map, rounds a size up for an allocator or knows whether a type is
//! supported; that is the machine's business. Definitions are read in [`crate::object`].
//!
//! Sources: `enum bpf_map_type` in `include/uapi/linux/bpf.h`; `map_type_name`, `struct btf_map_def` and
//! `internal_map_name` in libbpf.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::btf::TypeId;

/// Columns: name, kernel number, name as bpftool prints it.
macro_rules! for_each_map_type {
    ($reader:ident) => {
        $reader! {
            Hash                1  "hash"
            Array               2  "array"
            ProgArray           3  "prog_array"
            PerfEventArray      4  "perf_event_array"
            PercpuHash          5  "percpu_hash"
            PercpuArray         6  "percpu_array"
            StackTrace          7  "stack_trace"
            CgroupArray         8  "cgroup_array"
            LruHash             9  "lru_hash"
            LruPercpuHash       10 "lru_percpu_hash"
            LpmTrie             11 "lpm_trie"
            ArrayOfMaps         12 "array_of_maps"
            HashOfMaps          13 "hash_of_maps"
            Devmap              14 "devmap"
            Sockmap             15 "sockmap"
            Cpumap              16 "cpumap"
            Xskmap              17 "xskmap"
            Sockhash            18 "sockhash"
            CgroupStorage       19 "cgroup_storage"
            ReuseportSockarray  20 "reuseport_sockarray"
            PercpuCgroupStorage 21 "percpu_cgroup_storage"
            Queue               22 "queue"
            Stack               23 "stack"
            SkStorage           24 "sk_storage"
            DevmapHash          25 "devmap_hash"
            StructOps           26 "struct_ops"
            Ringbuf             27 "ringbuf"
            InodeStorage        28 "inode_storage"
            TaskStorage         29 "task_storage"
            BloomFilter         30 "bloom_filter"
            UserRingbuf         31 "user_ringbuf"
            CgrpStorage         32 "cgrp_storage"
            Arena               33 "arena"
            InsnArray           34 "insn_array"
            Rhash               35 "rhash"
        }
    };
}

macro_rules! map_types {
    ($($name:ident $number:literal $spelling:literal)*) => {
        /// What kind of map it is. `enum bpf_map_type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum MapType {
            $($name,)*
            /// A number that no row has: an object that names it loads, a machine cannot make the map.
            Unknown(u32),
        }

        impl MapType {
            /// All known types, by number.
            pub const ALL: &'static [MapType] = &[$(MapType::$name),*];

            /// The type of this kernel number.
            pub fn from_number(number: u32) -> MapType {
                match number {
                    $($number => MapType::$name,)*
                    unknown => MapType::Unknown(unknown),
                }
            }

            /// The kernel's number, `BPF_MAP_TYPE_*`.
            pub fn number(self) -> u32 {
                match self {
                    $(MapType::$name => $number,)*
                    MapType::Unknown(number) => number,
                }
            }

            /// The name that bpftool prints, `percpu_array`; `unknown` for a number without a name.
            pub fn name(self) -> &'static str {
                match self {
                    $(MapType::$name => $spelling,)*
                    MapType::Unknown(_) => "unknown",
                }
            }
        }
    };
}
for_each_map_type!(map_types);

impl MapType {
    /// The type of this name, as [`MapType::name`] writes it.
    pub fn from_name(name: &str) -> Option<MapType> {
        MapType::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

impl std::fmt::Display for MapType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let MapType::Unknown(number) = self {
            return write!(f, "type {number}");
        }
        f.pad(self.name())
    }
}

/// Flags of a map, [`MapSpec::map_flags`], that an object's data sections get. `include/uapi/linux/bpf.h`.
pub mod map_flags {
    /// `BPF_F_RDONLY_PROG`: programs may only read the values.
    pub const RDONLY_PROG: u32 = 1 << 7;
    /// `BPF_F_MMAPABLE`: the values can be mapped into a process.
    pub const MMAPABLE: u32 = 1 << 10;
}

/// Whether libbpf would pin the map in the bpf file system. `enum libbpf_pin_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pinning {
    /// Not pinned.
    #[default]
    None,
    /// Pinned under its name, and shared with whoever pinned it before.
    ByName,
}

/// A section of global variables that the object keeps in a map. `enum libbpf_map_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataSection {
    /// `.rodata` and `.rodata.*`: constants.
    Rodata,
    /// `.data` and `.data.*`: initialised variables.
    Data,
    /// `.bss` and `.bss.*`: variables that start as zero.
    Bss,
    /// `.kconfig`: `extern` variables with the configuration of the kernel; all zero until someone fills them in.
    Kconfig,
}

/// What the object puts in a slot of a `prog_array` or of a map of maps before any program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InitialSlot {
    /// The program with this name.
    Program(Arc<str>),
    /// The map with this index in [`crate::object::Object::maps`].
    Map(usize),
}

/// Definition of a map, as the object has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapSpec {
    /// Name of the variable, or of the section for global data.
    pub name: String,
    /// Kind of map.
    pub map_type: MapType,
    /// Bytes of a key; 0 for types that have none.
    pub key_size: u32,
    /// Bytes of a value.
    pub value_size: u32,
    /// Elements at most; bytes of the ring for the ring buffers.
    pub max_entries: u32,
    /// `BPF_F_*` of `BPF_MAP_CREATE`.
    pub map_flags: u32,
    /// Meaning depends on the type: hash functions of a Bloom filter, the address of an arena.
    pub map_extra: u64,
    /// NUMA node of the allocations, with `BPF_F_NUMA_NODE`.
    pub numa_node: u32,
    /// Whether libbpf would pin it.
    pub pinning: Pinning,
    /// Template of the maps in a map of maps.
    pub inner: Option<Box<MapSpec>>,
    /// BTF type of the keys, in the object's BTF.
    pub key_type_id: Option<TypeId>,
    /// BTF type of the values, in the object's BTF; for global data the `DATASEC`.
    pub value_type_id: Option<TypeId>,
    /// Which section of global data the map is; `None` for a map that the source defines.
    pub data: Option<DataSection>,
    /// First contents of the only value of global data; `None` stands for zeros.
    pub initial_value: Option<Arc<[u8]>>,
    /// First contents of a `prog_array` or a map of maps, by index (by key for a hash of maps).
    pub initial_slots: BTreeMap<u32, InitialSlot>,
}

impl MapSpec {
    /// A map with nothing but a type and sizes.
    pub fn new(
        name: impl Into<String>,
        map_type: MapType,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
    ) -> MapSpec {
        MapSpec {
            name: name.into(),
            map_type,
            key_size,
            value_size,
            max_entries,
            map_flags: 0,
            map_extra: 0,
            numa_node: 0,
            pinning: Pinning::None,
            inner: None,
            key_type_id: None,
            value_type_id: None,
            data: None,
            initial_value: None,
            initial_slots: BTreeMap::new(),
        }
    }

    /// A data section: an array of one value.
    pub(crate) fn global_data(name: &str, section: DataSection, value_size: u32) -> MapSpec {
        let map_flags = match section {
            DataSection::Rodata | DataSection::Kconfig => map_flags::RDONLY_PROG,
            DataSection::Data | DataSection::Bss => 0,
        };
        let data = Some(section);
        MapSpec { map_flags, data, ..MapSpec::new(name, MapType::Array, 4, value_size, 1) }
    }

    /// The name that the kernel would show, at most 15 characters.
    ///
    /// Global data carries the first characters of the object's name, `tracex4_.rodata`; other names are cut.
    /// libbpf's `internal_map_name`.
    pub fn kernel_name(&self, object_name: &str) -> String {
        let prefix = if self.data.is_some() { internal_prefix(&self.name, object_name) } else { "" };
        let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' };
        prefix.chars().chain(self.name.chars()).take(NAME_LEN).map(allowed).collect()
    }
}

/// The kernel's `BPF_OBJ_NAME_LEN` without the terminating zero.
const NAME_LEN: usize = 15;

/// How much of the object's name stands before the name of a data section.
fn internal_prefix<'a>(section: &str, object_name: &'a str) -> &'a str {
    if section.bytes().skip(1).any(|byte| byte == b'.') {
        return "";
    }
    // A section name counts for at least seven characters, `.rodata`, even where it is `.bss`.
    let room = NAME_LEN - section.len().clamp(7, NAME_LEN);
    object_name.char_indices().nth(room).map_or(object_name, |(end, _)| &object_name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_found() {
        for kind in MapType::ALL {
            assert_eq!(MapType::from_number(kind.number()), *kind);
            assert_eq!(MapType::from_name(kind.name()), Some(*kind));
        }
        assert_eq!(MapType::from_number(0), MapType::Unknown(0));
        assert_eq!(MapType::Unknown(77).to_string(), "type 77");
    }

    #[test]
    fn kernel_names_are_libbpfs() {
        let name =
            |section: &str, object: &str| MapSpec::global_data(section, DataSection::Data, 1).kernel_name(object);
        assert_eq!(name(".rodata", "my_object_name"), "my_objec.rodata");
        assert_eq!(name(".bss", "my_object_name"), "my_objec.bss");
        assert_eq!(name(".kconfig", "my_object_name"), "my_obje.kconfig");
        assert_eq!(name(".rodata.abracadabra", "my_object_name"), ".rodata.abracad");
        assert_eq!(name(".data", "a-b"), "a_b.data");
        assert_eq!(MapSpec::new("a_rather_long_name", MapType::Hash, 1, 1, 1).kernel_name("x"), "a_rather_long_n");
    }
}
