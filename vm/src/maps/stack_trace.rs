//! Stack traces: call chains by a number made of their hash. `kernel/bpf/stackmap.c`.
//!
//! The numbers are the kernel's, which does not seed this hash: equal chains get equal numbers there and here.

use std::collections::BTreeMap;

use super::definition::{Definition, create_flags, host_limit, index_of};
use super::error::MapErrorKind;
use super::jhash::jhash2;
use super::{Actor, MapKind};
use crate::errno::Errno;
use crate::memory::Memory;

/// Frames of a chain at most: the default of `kernel.perf_event_max_stack`.
pub const MAX_STACK_DEPTH: u32 = 127;

/// Flags of `bpf_get_stackid`. `include/uapi/linux/bpf.h`.
#[allow(missing_docs)]
pub mod stack_flags {
    /// How many of the innermost frames to leave out.
    pub const SKIP_FIELD_MASK: u64 = 0xff;
    /// The task's own stack instead of the kernel's; which of them is the caller's choice here.
    pub const USER_STACK: u64 = 1 << 8;
    /// Chains of equal hash are taken for equal.
    pub const FAST_STACK_CMP: u64 = 1 << 9;
    /// A new chain replaces one with the same number.
    pub const REUSE_STACKID: u64 = 1 << 10;
}

/// `sizeof(struct bpf_stack_build_id)`.
const BUILD_ID_FRAME: u32 = 32;
/// `BPF_STACK_BUILD_ID_IP`: the frame has no build id, only an address.
const BUILD_ID_IP: u32 = 2;
/// Numbers at most: `n_buckets` in `stack_map_alloc`.
const MAX_ENTRIES: u32 = 1 << 31;

/// Bytes that a stored chain takes beside its addresses.
const TRACE_BYTES: u64 = 64;

#[derive(Debug)]
struct Trace {
    hash: u32,
    ips: Vec<u64>,
}

/// The stored call chains.
#[derive(Debug)]
pub struct StackTrace {
    traces: BTreeMap<u32, Trace>,
    /// Chains at most: `max_entries`, or what `MAX_HOST_BYTES` has room for.
    limit: u32,
    /// Numbers are below this power of two: `n_buckets`.
    buckets: u32,
    /// Bytes of a frame in a value.
    frame: u32,
    value_size: u32,
}

impl StackTrace {
    /// Stores a call chain, innermost frame first, and returns its number. `bpf_get_stackid`, whose `flags` may
    /// leave out the innermost frames; as there, frames beyond the size of a value are cut off.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags; `EFAULT` when no frame is left; `EEXIST` when another chain has the number;
    /// `ENOMEM` when the map is full.
    pub fn stack_id(&mut self, ips: &[u64], flags: u64) -> Result<u32, Errno> {
        use stack_flags::{FAST_STACK_CMP, REUSE_STACKID, SKIP_FIELD_MASK, USER_STACK};
        if flags & !(SKIP_FIELD_MASK | USER_STACK | FAST_STACK_CMP | REUSE_STACKID) != 0 {
            return Err(Errno::EINVAL);
        }
        let skip = (flags & SKIP_FIELD_MASK) as usize;
        let depth = (self.depth() as usize + skip).min(MAX_STACK_DEPTH as usize).min(ips.len());
        let ips = ips.get(skip..depth).filter(|ips| !ips.is_empty()).ok_or(Errno::EFAULT)?;
        let hash = hash_of(ips);
        let id = hash & (self.buckets - 1);
        if let Some(trace) = self.traces.get(&id) {
            if trace.hash == hash && (flags & FAST_STACK_CMP != 0 || trace.ips == ips) {
                return Ok(id);
            }
            if flags & REUSE_STACKID == 0 {
                return Err(Errno::EEXIST);
            }
        }
        // The kernel takes a new element before it gives the old one back.
        if self.traces.len() >= self.limit as usize {
            return Err(Errno::ENOMEM);
        }
        self.traces.insert(id, Trace { hash, ips: ips.to_vec() });
        Ok(id)
    }

    /// The call chain with this number, innermost frame first.
    pub fn stack(&self, id: u32) -> Option<&[u64]> {
        self.traces.get(&id).map(|trace| trace.ips.as_slice())
    }

    /// Frames that a value holds.
    fn depth(&self) -> u32 {
        self.value_size / self.frame
    }
}

/// `jhash2` over the words of the addresses.
fn hash_of(ips: &[u64]) -> u32 {
    let words: Vec<u32> = ips.iter().flat_map(|&ip| [ip as u32, (ip >> 32) as u32]).collect();
    jhash2(&words)
}

impl MapKind for StackTrace {
    /// `stack_map_alloc`.
    fn create(def: &Definition, _memory: &mut Memory) -> Result<StackTrace, MapErrorKind> {
        def.check_indexed()?;
        let frame = if def.has(create_flags::STACK_BUILD_ID) { BUILD_ID_FRAME } else { 8 };
        if !def.value_size.is_multiple_of(frame) || def.value_size / frame > MAX_STACK_DEPTH {
            return Err(MapErrorKind::StackSize { got: def.value_size, frame, max_depth: MAX_STACK_DEPTH });
        }
        if def.max_entries > MAX_ENTRIES {
            return Err(MapErrorKind::TooManyEntries { got: def.max_entries.into(), limit: MAX_ENTRIES.into() });
        }
        Ok(StackTrace {
            traces: BTreeMap::new(),
            limit: def.max_entries.min(host_limit(u64::from(def.value_size) + TRACE_BYTES)),
            buckets: def.max_entries.next_power_of_two(),
            frame,
            value_size: def.value_size,
        })
    }

    /// Programs cannot look at traces: `check_map_func_compatibility`.
    fn lookup(&mut self, _memory: &mut Memory, _cpu: u32, _key: &[u8]) -> Option<u32> {
        None
    }

    /// `stack_map_update_elem`.
    fn update(&mut self, _: &mut Memory, _: Actor, _: &[u8], _: &[u8], _: u64) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }

    /// `stack_map_delete_elem`.
    fn delete(&mut self, _memory: &mut Memory, _actor: Actor, key: &[u8]) -> Result<(), Errno> {
        let id = index_of(key);
        if id >= self.buckets {
            return Err(Errno::E2BIG);
        }
        self.traces.remove(&id).map(|_| ()).ok_or(Errno::ENOENT)
    }

    /// The addresses, filled up with zeros: `bpf_stackmap_extract`. With `BPF_F_STACK_BUILD_ID` each is a
    /// `struct bpf_stack_build_id` that has the address only.
    fn read(&self, _memory: &Memory, key: &[u8]) -> Result<Vec<u8>, Errno> {
        let ips = self.stack(index_of(key)).ok_or(Errno::ENOENT)?;
        let mut value = Vec::with_capacity(self.value_size as usize);
        for ip in ips {
            if self.frame == BUILD_ID_FRAME {
                value.extend_from_slice(&BUILD_ID_IP.to_le_bytes());
                value.extend_from_slice(&[0; 20]);
            }
            value.extend_from_slice(&ip.to_le_bytes());
        }
        value.resize(self.value_size as usize, 0);
        Ok(value)
    }

    /// `stack_map_get_next_key`.
    fn next_key(&self, _memory: &Memory, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        let start = match key.map(index_of) {
            Some(id) if self.traces.contains_key(&id) => id + 1,
            Some(_) | None => 0,
        };
        let (id, _) = self.traces.range(start..).next().ok_or(Errno::ENOENT)?;
        Ok(id.to_le_bytes().to_vec())
    }

    fn keys(&self, _memory: &Memory) -> impl Iterator<Item = Vec<u8>> {
        self.traces.keys().map(|id| id.to_le_bytes().to_vec())
    }

    fn len(&self) -> usize {
        self.traces.len()
    }

    fn clear(&mut self, _memory: &mut Memory) {
        self.traces.clear();
    }

    fn end_run(&mut self, _memory: &mut Memory) {}

    fn reset(&mut self, memory: &mut Memory) {
        self.clear(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_spec::{MapSpec, MapType};

    #[test]
    fn chains_take_no_more_host_memory_than_a_map_may_have() {
        let mut memory = Memory::new().expect("memory");
        let def = Definition::new(&MapSpec::new("m", MapType::StackTrace, 4, 1016, MAX_ENTRIES), 1);
        let mut map = StackTrace::create(&def, &mut memory).expect("map");
        assert_eq!((map.limit, map.buckets), (994_205, MAX_ENTRIES));
        map.limit = 2;
        assert!(map.stack_id(&[1], 0).is_ok() && map.stack_id(&[2], 0).is_ok());
        assert_eq!(map.stack_id(&[3], 0), Err(Errno::ENOMEM));
    }
}
