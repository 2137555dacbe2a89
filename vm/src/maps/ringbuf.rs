//! Ring buffers: records that programs write in place and user space takes in order. `kernel/bpf/ringbuf.c`.
//!
//! Positions, 8-byte headers and rounding are the kernel's, so that a ring is full when the kernel's would be.
//! Headers are not in guest memory: they are the closed bytes in front of each record. Between reserve and submit
//! a record is an object of exactly its size. The kernel maps the data pages twice, so that a record may run over
//! the end of the ring; here the address space behind the ring serves for that.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::definition::{Definition, PAGE, host_limit};
use super::error::MapErrorKind;
use super::{Actor, MapKind};
use crate::errno::Errno;
use crate::memory::{Memory, MemoryError, ObjectKind};

/// Bytes of a record's header: `BPF_RINGBUF_HDR_SZ`.
const HEADER: u64 = 8;
/// Largest record: `RINGBUF_MAX_RECORD_SZ`.
const MAX_RECORD: u64 = (u32::MAX / 4) as u64;
/// Bytes that a record takes outside guest memory: [`Record`], and a position while it is reserved.
const RECORD_BYTES: u64 = 40;
/// Flags of `bpf_ringbuf_output`: `BPF_RB_NO_WAKEUP` and `BPF_RB_FORCE_WAKEUP`, without effect here.
const WAKEUP_FLAGS: u64 = 3;

/// What `bpf_ringbuf_query` can ask. `BPF_RB_*` in `include/uapi/linux/bpf.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum RingBufQuery {
    /// Bytes that were reserved and not yet taken, headers included.
    AvailData = 0,
    /// Bytes of the ring.
    RingSize = 1,
    /// Where user space takes next; grows forever.
    ConsPos = 2,
    /// Where the next record goes; grows forever.
    ProdPos = 3,
}

impl RingBufQuery {
    /// The question with this number; the kernel answers 0 to unknown ones.
    pub fn from_flags(flags: u64) -> Option<RingBufQuery> {
        use RingBufQuery::{AvailData, ConsPos, ProdPos, RingSize};
        [AvailData, RingSize, ConsPos, ProdPos].into_iter().find(|query| *query as u64 == flags)
    }
}

/// An address that is not that of a record between reserve and submit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{addr:#x} is not a reserved record of ring buffer {map}")]
pub struct UnknownRecord {
    /// Name of the ring buffer.
    pub map: Arc<str>,
    /// The guest address.
    pub addr: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reserved,
    Submitted,
    Discarded,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    /// Position of the header.
    position: u64,
    /// Bytes of data.
    len: u32,
    state: State,
}

impl Record {
    /// Position behind the record.
    fn end(&self) -> u64 {
        self.position + footprint(self.len.into())
    }
}

/// Bytes that a record of `len` bytes takes, header and padding included.
fn footprint(len: u64) -> u64 {
    (len + HEADER).next_multiple_of(8)
}

/// A ring buffer.
#[derive(Debug)]
pub struct RingBuf {
    name: Arc<str>,
    /// Guest address of the ring.
    start: u32,
    /// Bytes: a power of two.
    size: u32,
    consumer: u64,
    producer: u64,
    /// From the consumer's position to the producer's, without gaps.
    records: VecDeque<Record>,
    /// Positions of the records in state `Reserved`.
    reserved: BTreeSet<u64>,
    /// Records at most, what `MAX_HOST_BYTES` has room for: rings of less than 200 MiB are full before.
    record_limit: u32,
    /// Bytes from `start` that records have used since the last reset.
    touched: u32,
}

impl RingBuf {
    /// Reserves a record of `size` bytes and returns its guest address; its bytes are open for reading and writing
    /// and count as never written. `None` when `flags` is not 0, the record can never fit, or the ring is full.
    /// `bpf_ringbuf_reserve`.
    pub fn reserve(&mut self, memory: &mut Memory, size: u64, flags: u64) -> Option<u32> {
        if flags != 0 {
            return None;
        }
        let position = self.producer;
        let (addr, len) = self.append(size, State::Reserved)?;
        self.reserved.insert(position);
        memory.name(addr, ObjectKind::Record { map: self.name.clone() }, len);
        memory.grant_uninitialised(addr, len);
        Some(addr)
    }

    /// Hands the reserved record at `addr` to user space; the program may not touch it any more.
    /// `bpf_ringbuf_submit`, whose flags only choose when user space wakes up.
    ///
    /// # Errors
    /// No record is reserved there.
    pub fn submit(&mut self, memory: &mut Memory, addr: u64) -> Result<(), UnknownRecord> {
        self.commit(memory, addr, State::Submitted)
    }

    /// Gives the reserved record at `addr` up: user space will skip it. `bpf_ringbuf_discard`.
    ///
    /// # Errors
    /// No record is reserved there.
    pub fn discard(&mut self, memory: &mut Memory, addr: u64) -> Result<(), UnknownRecord> {
        self.commit(memory, addr, State::Discarded)
    }

    /// Sends `data` as a record. `bpf_ringbuf_output`.
    ///
    /// # Errors
    /// `EINVAL` for unknown flags, `EAGAIN` when the ring is full.
    pub fn output(&mut self, memory: &mut Memory, data: &[u8], flags: u64) -> Result<(), Errno> {
        if flags & !WAKEUP_FLAGS != 0 {
            return Err(Errno::EINVAL);
        }
        let (addr, _) = self.append(data.len() as u64, State::Submitted).ok_or(Errno::EAGAIN)?;
        memory.put(addr, data);
        Ok(())
    }

    /// Answers `bpf_ringbuf_query`.
    pub fn query(&self, query: RingBufQuery) -> u64 {
        match query {
            RingBufQuery::AvailData => self.producer - self.consumer,
            RingBufQuery::RingSize => self.size.into(),
            RingBufQuery::ConsPos => self.consumer,
            RingBufQuery::ProdPos => self.producer,
        }
    }

    /// Takes the records up to the first that is still reserved, as libbpf's `ring_buffer__consume` does; discarded
    /// ones are skipped.
    pub fn drain(&mut self, memory: &Memory) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while let Some(record) = self.records.front().copied()
            && record.state != State::Reserved
        {
            if record.state == State::Submitted {
                taken.push(memory.get(self.address(record.position), record.len).to_vec());
            }
            self.consumer = record.end();
            self.records.pop_front();
        }
        taken
    }

    /// The bytes of the reserved record at `addr`; empty when there is none.
    pub(crate) fn record_bytes<'m>(&self, memory: &'m Memory, addr: u32) -> &'m [u8] {
        self.reserved_at(addr.into()).map_or(&[], |len| memory.get(addr, len))
    }

    /// Bytes of the reserved record whose data is at `addr`; `None` when no record is reserved there.
    pub fn reserved_at(&self, addr: u64) -> Option<u32> {
        self.find_reserved(addr).map(|index| self.records[index].len)
    }

    /// Guest addresses of the records that are reserved, oldest first. The verifier refuses a program that
    /// can end with one.
    pub fn reserved(&self) -> Vec<u32> {
        self.reserved.iter().map(|&position| self.address(position)).collect()
    }

    /// Whether a record is reserved.
    pub(super) fn has_reserved(&self) -> bool {
        !self.reserved.is_empty()
    }

    /// `__bpf_ringbuf_reserve`: address and length of the data.
    fn append(&mut self, size: u64, state: State) -> Option<(u32, u32)> {
        if size > MAX_RECORD {
            return None;
        }
        let (len, end) = (u32::try_from(size).ok()?, self.producer.checked_add(footprint(size))?);
        // The producer never gets a whole ring ahead.
        if end - self.consumer >= self.size.into() || self.records.len() >= self.record_limit as usize {
            return None;
        }
        let addr = self.address(self.producer);
        self.records.push_back(Record { position: self.producer, len, state });
        self.producer = end;
        self.touched = self.touched.max(addr - self.start + len);
        Some((addr, len))
    }

    /// `bpf_ringbuf_commit`.
    fn commit(&mut self, memory: &mut Memory, addr: u64, state: State) -> Result<(), UnknownRecord> {
        let index = self.find_reserved(addr).ok_or(UnknownRecord { map: self.name.clone(), addr })?;
        let record = &mut self.records[index];
        record.state = state;
        let (position, len) = (record.position, record.len);
        self.reserved.remove(&position);
        self.close(memory, position, len);
        Ok(())
    }

    /// Which of the records is reserved with its data at `addr`.
    fn find_reserved(&self, addr: u64) -> Option<usize> {
        let offset = addr.checked_sub(u64::from(self.start) + HEADER).filter(|&offset| offset < self.size.into())?;
        // At most one ring lies between consumer and producer, so that an offset stands for one position.
        let mask = u64::from(self.size) - 1;
        let position = self.consumer + (offset.wrapping_sub(self.consumer) & mask);
        let index = self.records.binary_search_by_key(&position, |record| record.position).ok()?;
        (self.records.get(index)?.state == State::Reserved).then_some(index)
    }

    fn close(&self, memory: &mut Memory, position: u64, len: u32) {
        let addr = self.address(position);
        memory.unname(addr);
        memory.close(addr, len);
    }

    /// Guest address of the data of the record at `position`.
    fn address(&self, position: u64) -> u32 {
        self.start + (position as u32 & (self.size - 1)) + HEADER as u32
    }
}

impl MapKind for RingBuf {
    /// `ringbuf_map_alloc`.
    fn create(def: &Definition, memory: &mut Memory) -> Result<RingBuf, MapErrorKind> {
        for (size, is_key) in [(def.key_size, true), (def.value_size, false)] {
            if size != 0 && is_key {
                return Err(MapErrorKind::KeySize { required: 0, got: size });
            } else if size != 0 {
                return Err(MapErrorKind::ValueSize { required: 0, got: size });
            }
        }
        let size = def.max_entries;
        if !size.is_power_of_two() || !size.is_multiple_of(PAGE) {
            return Err(MapErrorKind::RingSize { got: size, page: PAGE });
        }
        // A record starts before the ring's end, and is shorter than the ring.
        let full = MemoryError::ArenaFull { bytes: 2 * u64::from(size), left: memory.left() };
        let twice = size.checked_mul(2).ok_or(full)?;
        let start = memory.reserve_elements(ObjectKind::Record { map: def.name.clone() }, twice, 1)?.start;
        // Only records have names.
        memory.unname(start);
        Ok(RingBuf {
            name: def.name.clone(),
            start,
            size,
            consumer: 0,
            producer: 0,
            records: VecDeque::new(),
            reserved: BTreeSet::new(),
            record_limit: host_limit(RECORD_BYTES),
            touched: 0,
        })
    }

    /// `ringbuf_map_lookup_elem`.
    fn lookup(&mut self, _memory: &mut Memory, _cpu: u32, _key: &[u8]) -> Option<u32> {
        None
    }

    /// `ringbuf_map_update_elem`.
    fn update(&mut self, _: &mut Memory, _: Actor, _: &[u8], _: &[u8], _: u64) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    /// `ringbuf_map_delete_elem`.
    fn delete(&mut self, _memory: &mut Memory, _actor: Actor, _key: &[u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn read(&self, _memory: &Memory, _key: &[u8]) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOTSUPP)
    }

    /// `ringbuf_map_get_next_key`.
    fn next_key(&self, _memory: &Memory, _key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        Err(Errno::ENOTSUPP)
    }

    fn keys(&self, _memory: &Memory) -> impl Iterator<Item = Vec<u8>> {
        std::iter::empty()
    }

    /// Records that wait for user space.
    fn len(&self) -> usize {
        self.records.iter().filter(|record| record.state == State::Submitted).count()
    }

    fn clear(&mut self, memory: &mut Memory) {
        self.drain(memory);
    }

    /// Discards what the run left reserved.
    fn end_run(&mut self, memory: &mut Memory) {
        if !self.has_reserved() {
            return;
        }
        for addr in self.reserved() {
            // The address is that of a reserved record.
            let _ = self.discard(memory, addr.into());
        }
    }

    fn reset(&mut self, memory: &mut Memory) {
        self.end_run(memory);
        memory.zero(self.start, self.touched);
        self.records.clear();
        (self.consumer, self.producer, self.touched) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map_spec::{MapSpec, MapType};

    #[test]
    fn records_take_no_more_host_memory_than_a_map_may_have() {
        let mut memory = Memory::new().expect("memory");
        let def = Definition::new(&MapSpec::new("m", MapType::Ringbuf, 0, 0, 4096), 1);
        let mut ring = RingBuf::create(&def, &mut memory).expect("map");
        assert!(ring.record_limit > 200 << 20 >> 3);
        ring.record_limit = 2;
        assert_eq!(ring.output(&mut memory, b"", 0), Ok(()));
        assert!(ring.reserve(&mut memory, 0, 0).is_some());
        assert_eq!(ring.output(&mut memory, b"", 0), Err(Errno::EAGAIN));
        assert_eq!(ring.reserve(&mut memory, 0, 0), None);
        ring.drain(&memory);
        assert_eq!(ring.output(&mut memory, b"", 0), Ok(()));
    }
}
