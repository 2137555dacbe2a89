//! Ring buffers as a list of records.

use std::collections::VecDeque;

use softbpf::errno::Errno;
use softbpf::maps::{Map, RingBuf, RingBufQuery};
use softbpf::memory::Memory;

use super::records::{Operation, no_elements, size};
use super::{Model, Operation as MapOperation};

/// Bytes of the ring: a page.
pub(super) const BYTES: u32 = 4096;
/// Bytes in front of each record.
const HEADER: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reserved,
    Submitted,
    Discarded,
}

#[derive(Debug)]
struct Record {
    position: u64,
    address: u64,
    state: State,
    data: Vec<u8>,
}

/// A ring buffer.
#[derive(Debug)]
pub(super) struct Ring {
    size: u64,
    consumer: u64,
    producer: u64,
    records: VecDeque<Record>,
}

impl Ring {
    pub(super) fn new(size: u32) -> Ring {
        Ring { size: size.into(), consumer: 0, producer: 0, records: VecDeque::new() }
    }

    fn append(&mut self, data: Vec<u8>, state: State, address: u64) -> bool {
        let end = self.producer + (data.len() as u64 + HEADER).next_multiple_of(8);
        if end - self.consumer >= self.size {
            return false;
        }
        self.records.push_back(Record { position: self.producer, address, state, data });
        self.producer = end;
        true
    }

    /// One of the reserved records.
    fn reserved(&mut self, which: u8) -> Option<&mut Record> {
        let mut reserved: Vec<_> = self.records.iter_mut().filter(|record| record.state == State::Reserved).collect();
        let count = reserved.len().max(1);
        let at = usize::from(which) % count;
        (at < reserved.len()).then(|| reserved.swap_remove(at))
    }

    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut drained = Vec::new();
        while let Some(record) = self.records.pop_front_if(|record| record.state != State::Reserved) {
            self.consumer = self.records.front().map_or(self.producer, |next| next.position);
            if record.state == State::Submitted {
                drained.push(record.data);
            }
        }
        drained
    }

    fn discard_reserved(&mut self) {
        let reserved = self.records.iter_mut().filter(|record| record.state == State::Reserved);
        reserved.for_each(|record| record.state = State::Discarded);
    }

    fn apply_record(&mut self, operation: Operation, ring: &mut RingBuf, memory: &mut Memory) {
        match operation {
            Operation::Reserve { len, flags } => {
                let (len, flags) = (size(len), u64::from(flags / 240));
                let address = ring.reserve(memory, len as u64, flags);
                // What a ring's bytes were before is a program's to see.
                let bytes = address.map_or(&[][..], |address| memory.read(address.into(), len as u64).unwrap_or(&[]));
                let fits = flags == 0 && self.append(vec![0; len], State::Reserved, address.map_or(0, u64::from));
                assert_eq!(address.is_some(), fits, "reserve {len}");
                if fits && let Some(record) = self.records.back_mut() {
                    assert_eq!(bytes.len(), len);
                    record.data.copy_from_slice(bytes);
                }
            }
            Operation::Write { which, offset, value } => {
                let Some(record) = self.reserved(which) else { return };
                let offset = usize::from(offset) % (record.data.len() + 1);
                let done = memory.write(record.address + offset as u64, &[value]);
                assert_eq!(done.is_ok(), offset < record.data.len(), "{done:?}");
                if let Some(byte) = record.data.get_mut(offset) {
                    *byte = value;
                }
            }
            Operation::Submit { which } => match self.reserved(which) {
                Some(record) => {
                    assert_eq!(ring.submit(memory, record.address), Ok(()));
                    assert!(ring.submit(memory, record.address).is_err());
                    record.state = State::Submitted;
                }
                None => assert!(ring.submit(memory, which.into()).is_err()),
            },
            Operation::Discard { which } => match self.reserved(which) {
                Some(record) => {
                    assert_eq!(ring.discard(memory, record.address), Ok(()));
                    record.state = State::Discarded;
                }
                None => assert!(ring.discard(memory, which.into()).is_err()),
            },
            Operation::Output { len, value, flags } => {
                let (data, flags) = (vec![value; size(len)], u64::from(flags / 50));
                let done = ring.output(memory, &data, flags);
                let expected = match flags {
                    0..=3 if self.append(data, State::Submitted, 0) => Ok(()),
                    0..=3 => Err(Errno::EAGAIN),
                    _ => Err(Errno::EINVAL),
                };
                assert_eq!(done, expected);
            }
            Operation::Drain => assert_eq!(ring.drain(memory), self.drain()),
            Operation::Query => {
                assert_eq!(ring.query(RingBufQuery::AvailData), self.producer - self.consumer);
                assert_eq!(ring.query(RingBufQuery::ProdPos), self.producer);
                assert_eq!(ring.query(RingBufQuery::ConsPos), self.consumer);
                assert_eq!(ring.query(RingBufQuery::RingSize), self.size);
            }
            Operation::Sample { .. } | Operation::Open { .. } | Operation::Close { .. } | Operation::Chain { .. } => {}
        }
    }
}

impl Model for Ring {
    fn apply(&mut self, operation: MapOperation, map: &mut Map, memory: &mut Memory) {
        match operation {
            MapOperation::Record(record) => {
                assert!(map.perf_event_array().is_none() && map.stack_trace().is_none());
                if let Some(ring) = map.ringbuf() {
                    self.apply_record(record, ring, memory);
                }
            }
            MapOperation::EndRun => {
                map.end_run(memory);
                self.discard_reserved();
            }
            MapOperation::Clear => {
                map.clear(memory);
                self.drain();
            }
            MapOperation::Reset => {
                map.reset(memory);
                *self = Ring::new(self.size as u32);
            }
            MapOperation::Lookup { .. }
            | MapOperation::Update { .. }
            | MapOperation::Delete { .. }
            | MapOperation::Write { .. }
            | MapOperation::UserLookup { .. }
            | MapOperation::UserUpdate { .. }
            | MapOperation::UserDelete { .. }
            | MapOperation::NextKey { .. } => no_elements(operation, map, memory, &[]),
        }
        let waiting = self.records.iter().filter(|record| record.state == State::Submitted).count();
        assert_eq!(map.len(), waiting);
    }

    fn check(&self, map: &Map, memory: &Memory) {
        assert_eq!(map.iter(memory).count(), 0);
        let reserved = self.records.iter().filter(|record| record.state == State::Reserved);
        let reserved: Vec<u32> = reserved.map(|record| record.address as u32).collect();
        assert_eq!(map.reserved_records(), reserved);
    }
}
