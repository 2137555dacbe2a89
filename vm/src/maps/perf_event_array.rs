//! Perf event arrays: samples that programs send to user space. `bpf_perf_event_output` in
//! `kernel/trace/bpf_trace.c`, `perf_event_array_map_ops` in `kernel/bpf/arraymap.c`.
//!
//! As after libbpf's `perf_buffer__new`, slot `i` holds an event on CPU `i`, for every CPU that has a slot; a test
//! may close slots. Each CPU has a buffer, and what does not fit is lost and counted. A sample's data is what the
//! program sent, without the padding to 8 bytes that a perf ring adds.

use std::collections::{BTreeSet, VecDeque};

use super::definition::{Definition, MAX_HOST_BYTES, index_of, next_index, update_flags};
use super::error::MapErrorKind;
use super::{Actor, MapKind};
use crate::errno::Errno;
use crate::memory::Memory;

/// Bytes of each CPU's buffer, unless [`PerfEventArray::set_buffer_bytes`] says otherwise.
pub const DEFAULT_PERF_BUFFER_BYTES: u64 = 8 << 20;

/// Bytes that a sample takes on the host beside its data.
const SAMPLE_BYTES: u64 = 48;

/// Flags of `bpf_perf_event_output`. `include/uapi/linux/bpf.h`.
pub mod output_flags {
    /// The slot (`BPF_F_INDEX_MASK`).
    pub const INDEX_MASK: u64 = 0xffff_ffff;
    /// As the slot: that of the CPU the program runs on (`BPF_F_CURRENT_CPU`).
    pub const CURRENT_CPU: u64 = INDEX_MASK;
}

/// What a program sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PerfSample {
    /// CPU that the program ran on.
    pub cpu: u32,
    /// The bytes.
    pub data: Vec<u8>,
}

/// The slots and buffers of a perf event array.
#[derive(Debug)]
pub struct PerfEventArray {
    max_entries: u32,
    cpus: u32,
    closed: BTreeSet<u32>,
    /// In the order in which they were sent.
    samples: VecDeque<PerfSample>,
    /// Bytes that they take on the host.
    host_bytes: u64,
    /// Bytes taken in the buffer of each CPU that has sent something.
    taken: Vec<u64>,
    lost: Vec<u64>,
    buffer_bytes: u64,
}

impl PerfEventArray {
    /// Sends `data` to user space, from a program that runs on `cpu`; `flags` is the slot. `bpf_perf_event_output`.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags; `E2BIG` when there is no such slot; `ENOENT` when it is closed; `EOPNOTSUPP` when
    /// it is that of another CPU; `ENOSPC` when the buffer is full, or all together are (`MAX_HOST_BYTES`), and the
    /// sample is counted as lost.
    pub fn output(&mut self, cpu: u32, flags: u64, data: &[u8]) -> Result<(), Errno> {
        if flags & !output_flags::INDEX_MASK != 0 {
            return Err(Errno::EINVAL);
        }
        let index = if flags == output_flags::CURRENT_CPU { cpu } else { flags as u32 };
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if !self.is_open(index) {
            return Err(Errno::ENOENT);
        }
        if index != cpu {
            return Err(Errno::EOPNOTSUPP);
        }
        // `is_open` bounds the index by the number of CPUs.
        let slot = index as usize;
        if slot >= self.taken.len() {
            self.taken.resize(slot + 1, 0);
            self.lost.resize(slot + 1, 0);
        }
        let size = record_size(data);
        let host_bytes = self.host_bytes.saturating_add(SAMPLE_BYTES + data.len() as u64);
        // `__perf_output_begin`: the ring is never filled to the last byte.
        if self.taken[slot].saturating_add(size) >= self.buffer_bytes || host_bytes > MAX_HOST_BYTES {
            self.lost[slot] += 1;
            return Err(Errno::ENOSPC);
        }
        self.taken[slot] += size;
        self.host_bytes = host_bytes;
        self.samples.push_back(PerfSample { cpu, data: data.to_vec() });
        Ok(())
    }

    /// Takes all samples, in the order in which they were sent.
    pub fn drain(&mut self) -> Vec<PerfSample> {
        self.taken.fill(0);
        self.host_bytes = 0;
        std::mem::take(&mut self.samples).into()
    }

    /// The samples that wait, in the order in which they were sent.
    pub fn samples(&self) -> impl ExactSizeIterator<Item = &PerfSample> {
        self.samples.iter()
    }

    /// Samples that found the buffer of `cpu` full.
    pub fn lost_on(&self, cpu: u32) -> u64 {
        self.lost.get(cpu as usize).copied().unwrap_or(0)
    }

    /// Samples that found a buffer full.
    pub fn lost(&self) -> u64 {
        self.lost.iter().sum()
    }

    /// Sets the size of each CPU's buffer in bytes. A sample takes its data, 4 bytes for their length and 8 for the
    /// header, rounded up to 8.
    pub fn set_buffer_bytes(&mut self, bytes: u64) {
        self.buffer_bytes = bytes;
    }

    /// Whether the slot holds an event.
    pub fn is_open(&self, index: u32) -> bool {
        index < self.max_entries.min(self.cpus) && !self.closed.contains(&index)
    }

    /// Takes the event out of a slot: output to it fails with `ENOENT`.
    ///
    /// # Errors
    /// `E2BIG` when there is no such slot, `ENOENT` when it holds no event. `fd_array_map_delete_elem`.
    pub fn close(&mut self, index: u32) -> Result<(), Errno> {
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if !self.is_open(index) {
            return Err(Errno::ENOENT);
        }
        self.closed.insert(index);
        Ok(())
    }

    /// Puts the event back.
    ///
    /// # Errors
    /// `E2BIG` when there is no such slot; `EBADF` when there is no such CPU.
    pub fn open(&mut self, index: u32) -> Result<(), Errno> {
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if index >= self.cpus {
            return Err(Errno::EBADF);
        }
        self.closed.remove(&index);
        Ok(())
    }
}

/// Bytes of a `PERF_SAMPLE_RAW` record: header, length, data. `perf_prepare_sample`.
fn record_size(data: &[u8]) -> u64 {
    8 + (4 + data.len() as u64).next_multiple_of(8)
}

impl MapKind for PerfEventArray {
    /// `fd_array_map_alloc_check`.
    fn create(def: &Definition, _memory: &mut Memory) -> Result<PerfEventArray, MapErrorKind> {
        def.check_descriptors()?;
        Ok(PerfEventArray {
            max_entries: def.max_entries,
            cpus: def.cpus,
            closed: BTreeSet::new(),
            samples: VecDeque::new(),
            host_bytes: 0,
            taken: Vec::new(),
            lost: Vec::new(),
            buffer_bytes: DEFAULT_PERF_BUFFER_BYTES,
        })
    }

    /// Programs cannot look at slots: `check_map_func_compatibility`.
    fn lookup(&mut self, _memory: &mut Memory, _cpu: u32, _key: &[u8]) -> Option<u32> {
        None
    }

    /// Opens a slot, whatever the value; only user space may. `bpf_fd_array_map_update_elem`.
    fn update(
        &mut self,
        _memory: &mut Memory,
        actor: Actor,
        key: &[u8],
        _value: &[u8],
        flags: u64,
    ) -> Result<(), Errno> {
        if flags != update_flags::ANY || actor != Actor::User {
            return Err(Errno::EINVAL);
        }
        self.open(index_of(key))
    }

    /// Closes a slot; only user space may. `fd_array_map_delete_elem`.
    fn delete(&mut self, _memory: &mut Memory, actor: Actor, key: &[u8]) -> Result<(), Errno> {
        if actor != Actor::User {
            return Err(Errno::EINVAL);
        }
        self.close(index_of(key))
    }

    /// `bpf_fd_array_map_lookup_elem`: an event cannot be read back.
    fn read(&self, _memory: &Memory, _key: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn next_key(&self, _memory: &Memory, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        next_index(key, self.max_entries)
    }

    /// None that could be read.
    fn keys(&self, _memory: &Memory) -> impl Iterator<Item = Vec<u8>> {
        std::iter::empty()
    }

    /// Samples that wait.
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn clear(&mut self, _memory: &mut Memory) {
        self.drain();
    }

    fn end_run(&mut self, _memory: &mut Memory) {}

    fn reset(&mut self, _memory: &mut Memory) {
        self.drain();
        self.closed.clear();
        self.lost.fill(0);
        self.buffer_bytes = DEFAULT_PERF_BUFFER_BYTES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_spec::{MapSpec, MapType};

    #[test]
    fn samples_take_no_more_host_memory_than_a_map_may_have() {
        let mut memory = Memory::new().expect("memory");
        let def = Definition::new(&MapSpec::new("m", MapType::PerfEventArray, 4, 4, 2), 2);
        let mut array = PerfEventArray::create(&def, &mut memory).expect("map");
        array.set_buffer_bytes(u64::MAX);
        array.host_bytes = MAX_HOST_BYTES - 2 * (SAMPLE_BYTES + 16);
        assert_eq!([0, 1, 0].map(|cpu| array.output(cpu, cpu.into(), &[0; 16])), [Ok(()), Ok(()), Err(Errno::ENOSPC)]);
        assert_eq!((array.lost_on(0), array.drain().len()), (1, 2));
        assert_eq!(array.output(0, 0, &[0; 16]), Ok(()));
    }
}
