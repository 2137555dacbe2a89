//! A map definition as it was accepted: what all kinds need to know of it, and the checks that all share.

use std::sync::Arc;

use super::error::MapErrorKind;
use crate::errno::Errno;
use crate::map_spec::{DataSection, MapSpec, MapType};
use crate::memory::{ObjectKind, Permission};

/// Flags of `BPF_MAP_CREATE`. `include/uapi/linux/bpf.h`, `BPF_F_*`.
#[allow(missing_docs)]
pub mod create_flags {
    /// Elements of a hash map are allocated when they are inserted.
    pub const NO_PREALLOC: u32 = 1 << 0;
    /// An LRU list for each CPU instead of one.
    pub const NO_COMMON_LRU: u32 = 1 << 1;
    /// Memory from a NUMA node: no effect here.
    pub const NUMA_NODE: u32 = 1 << 2;
    /// User space may only read.
    pub const RDONLY: u32 = 1 << 3;
    /// User space may only write.
    pub const WRONLY: u32 = 1 << 4;
    /// Stack traces are stored as build id and offset.
    pub const STACK_BUILD_ID: u32 = 1 << 5;
    /// The hash is not seeded: no effect here, no hash is.
    pub const ZERO_SEED: u32 = 1 << 6;
    /// Programs may only read.
    pub const RDONLY_PROG: u32 = 1 << 7;
    /// Programs may only write.
    pub const WRONLY_PROG: u32 = 1 << 8;
    /// All that say who may read and write (`BPF_F_ACCESS_MASK`).
    pub const ACCESS: u32 = USER_ACCESS | RDONLY_PROG | WRONLY_PROG;
    /// Those of them that are for user space.
    pub const USER_ACCESS: u32 = RDONLY | WRONLY;
    /// The values can be mapped into a process: no effect here.
    pub const MMAPABLE: u32 = 1 << 10;
    /// Perf events stay when the descriptor that set them is closed: no effect here.
    pub const PRESERVE_ELEMS: u32 = 1 << 11;
    /// As an inner map, it may differ from the template in `max_entries`.
    pub const INNER_MAP: u32 = 1 << 12;
}

/// Flags of updates, and of lookups `LOCK` only. `include/uapi/linux/bpf.h`.
pub mod update_flags {
    /// Create the element or replace it.
    pub const ANY: u64 = 0;
    /// Create the element only.
    pub const NOEXIST: u64 = 1;
    /// Replace the element only.
    pub const EXIST: u64 = 2;
    /// Copy under the value's spin lock (`BPF_F_LOCK`).
    pub const LOCK: u64 = 4;
}

/// Largest value of a per-CPU map, in bytes, rounded up to 8: the kernel's `PCPU_MIN_UNIT_SIZE`.
pub const MAX_PERCPU_VALUE: u32 = 32 << 10;

/// Most bytes that one map takes beside its values, for all that grows with its elements: keys (which lie in guest memory) and
/// bookkeeping of a hash map, call chains, what is known of ring buffer records, perf samples. An element that would go beyond is
/// refused as the kernel refuses one that it has no memory for.
pub const MAX_HOST_BYTES: u64 = 1 << 30;

/// How many elements of `bytes` bytes beside their values a map may have.
pub(super) fn host_limit(bytes: u64) -> u32 {
    u32::try_from(MAX_HOST_BYTES / bytes.max(1)).unwrap_or(u32::MAX)
}

/// What a map was made from.
#[derive(Debug, Clone)]
pub(super) struct Definition {
    pub(super) name: Arc<str>,
    pub(super) map_type: MapType,
    /// Bytes of a key.
    pub(super) key_size: u32,
    /// Bytes of one copy of a value.
    pub(super) value_size: u32,
    pub(super) max_entries: u32,
    /// `create_flags`.
    pub(super) flags: u32,
    map_extra: u64,
    /// CPUs of the machine, at least 1.
    pub(super) cpus: u32,
    /// Copies of a value: 1 or `cpus`.
    pub(super) copies: u32,
    pub(super) data: Option<DataSection>,
    pub(super) initial_value: Option<Arc<[u8]>>,
}

impl Definition {
    pub(super) fn new(spec: &MapSpec, cpus: u32) -> Definition {
        let cpus = cpus.max(1);
        Definition {
            name: spec.name.as_str().into(),
            map_type: spec.map_type,
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: loader_max_entries(spec.map_type, spec.max_entries, cpus),
            flags: spec.map_flags,
            map_extra: spec.map_extra,
            cpus,
            copies: if super::is_percpu(spec.map_type) { cpus } else { 1 },
            data: spec.data,
            initial_value: spec.initial_value.clone(),
        }
    }

    /// Whether values have a copy for each CPU.
    pub(super) fn is_percpu(&self) -> bool {
        super::is_percpu(self.map_type)
    }

    /// Whether the map has this one of the `create_flags`.
    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Flags and `map_extra`: `bpf_map_alloc` functions of each type, `bpf_map_flags_access_ok`, `map_create`.
    pub(super) fn check_flags(&self, allowed: u32) -> Result<(), MapErrorKind> {
        use create_flags::{RDONLY, RDONLY_PROG, WRONLY, WRONLY_PROG};
        let refused = self.flags & !allowed;
        if refused != 0 {
            return Err(MapErrorKind::Flags { refused });
        }
        for both in [RDONLY | WRONLY, RDONLY_PROG | WRONLY_PROG] {
            if self.flags & both == both {
                return Err(MapErrorKind::ConflictingFlags { flags: both });
            }
        }
        if self.map_extra != 0 {
            return Err(MapErrorKind::MapExtra { got: self.map_extra });
        }
        Ok(())
    }

    /// The checks of an array: `array_map_alloc_check`.
    pub(super) fn check_indexed(&self) -> Result<(), MapErrorKind> {
        if self.max_entries == 0 {
            return Err(MapErrorKind::NoEntries);
        }
        if self.key_size != 4 {
            return Err(MapErrorKind::KeySize { required: 4, got: self.key_size });
        }
        if self.value_size == 0 {
            return Err(MapErrorKind::EmptyValue);
        }
        Ok(())
    }

    /// The checks of a map of descriptors: `fd_array_map_alloc_check`.
    pub(super) fn check_descriptors(&self) -> Result<(), MapErrorKind> {
        self.check_indexed()?;
        if self.value_size != 4 {
            return Err(MapErrorKind::ValueSize { required: 4, got: self.value_size });
        }
        Ok(())
    }

    /// A per-CPU value must fit what the kernel's per-CPU allocator gives.
    pub(super) fn check_percpu_value(&self) -> Result<(), MapErrorKind> {
        if self.is_percpu() && self.value_size > MAX_PERCPU_VALUE {
            let (bytes, limit) = (self.value_size.into(), MAX_PERCPU_VALUE.into());
            return Err(MapErrorKind::ElementTooLarge { bytes, limit });
        }
        Ok(())
    }

    /// What a program may do with values.
    pub(super) fn permission(&self) -> Permission {
        if self.has(create_flags::RDONLY_PROG) {
            Permission::Read
        } else if self.has(create_flags::WRONLY_PROG) {
            Permission::Write
        } else {
            Permission::ReadWrite
        }
    }

    /// The name that values from element `first` on have in guest memory.
    pub(super) fn object_kind(&self, first: u32) -> ObjectKind {
        match self.data {
            Some(_) => ObjectKind::Data { section: self.name.clone() },
            None => ObjectKind::MapValue { map: self.name.clone(), first, copies: self.copies },
        }
    }

    /// Bytes of a value as system calls have it: of a per-CPU map all copies, each rounded up to 8 bytes.
    pub(super) fn user_value_size(&self) -> u64 {
        if self.is_percpu() {
            u64::from(self.value_size).next_multiple_of(8) * u64::from(self.cpus)
        } else {
            self.value_size.into()
        }
    }
}

/// The checks of update flags that hash and array maps share; no value has a spin lock.
///
/// # Errors
/// `EINVAL` for unknown combinations and `BPF_F_LOCK`. `htab_map_update_elem`, `array_map_update_elem`.
pub(super) fn check_update_flags(flags: u64) -> Result<(), Errno> {
    if flags > update_flags::EXIST { Err(Errno::EINVAL) } else { Ok(()) }
}

/// The index in the key of an array; keys have 4 bytes there.
pub(super) fn index_of(key: &[u8]) -> u32 {
    key.first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes))
}

/// `BPF_MAP_GET_NEXT_KEY` of an array: `array_map_get_next_key`.
///
/// # Errors
/// `ENOENT` after the last index.
pub(super) fn next_index(key: Option<&[u8]>, max_entries: u32) -> Result<Vec<u8>, Errno> {
    let index = key.map_or(u32::MAX, index_of);
    if index >= max_entries {
        return Ok(0_u32.to_le_bytes().to_vec());
    }
    if index == max_entries - 1 {
        return Err(Errno::ENOENT);
    }
    Ok((index + 1).to_le_bytes().to_vec())
}

/// Bytes of a page.
pub(super) const PAGE: u32 = 4096;

/// The `max_entries` that libbpf asks the kernel for.
///
/// A perf event array without a size gets one slot for each CPU (`map_set_def_max_entries`); a ring buffer's
/// size is rounded up to a power of two of pages (`adjust_ringbuf_sz`), where that fits 32 bits.
fn loader_max_entries(map_type: MapType, max_entries: u32, cpus: u32) -> u32 {
    if map_type == MapType::PerfEventArray && max_entries == 0 {
        return cpus;
    }
    if map_type == MapType::Ringbuf && max_entries != 0 {
        return max_entries.max(PAGE).checked_next_power_of_two().unwrap_or(max_entries);
    }
    max_entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_as_libbpf_does() {
        let cases = [(0, 0), (1, 4096), (4096, 4096), (4097, 8192), (12_288, 16_384), (1 << 31, 1 << 31)];
        for (given, expected) in cases {
            assert_eq!(loader_max_entries(MapType::Ringbuf, given, 4), expected);
        }
        assert_eq!(loader_max_entries(MapType::Ringbuf, u32::MAX, 4), u32::MAX);
        assert_eq!(loader_max_entries(MapType::PerfEventArray, 0, 4), 4);
        assert_eq!(loader_max_entries(MapType::PerfEventArray, 2, 4), 2);
        assert_eq!(loader_max_entries(MapType::Hash, 0, 4), 0);
    }

    #[test]
    fn elements_have_a_limit_by_their_size() {
        assert_eq!([0, 1, 48, 1 << 21, 1 << 30, u64::MAX].map(host_limit), [1 << 30, 1 << 30, 22_369_621, 512, 1, 0]);
    }

    #[test]
    fn array_indices_follow_each_other() {
        let next = |key: Option<u32>| next_index(key.map(u32::to_le_bytes).as_ref().map(|key| &key[..]), 2);
        assert_eq!(next(None), Ok(vec![0, 0, 0, 0]));
        assert_eq!(next(Some(0)), Ok(vec![1, 0, 0, 0]));
        assert_eq!(next(Some(1)), Err(Errno::ENOENT));
        assert_eq!(next(Some(77)), Ok(vec![0, 0, 0, 0]));
    }
}
