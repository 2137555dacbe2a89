//! Places for the elements of a hash map in guest memory: rows of equal elements, added when they are needed.
//!
//! A slot is one value, with all its copies side by side, and elsewhere, where no program gets at it, a *record*: the address of
//! the value and the number of the slot, four bytes each, and the key. The first row is reserved when the map is made, so that
//! addresses depend on the map definitions and not on what a program does; maps of more than a few
//! million bytes get further rows as they grow. Address space is all that a row costs until it is touched.
//!
//! Which slots are in use is not known here.

use super::definition::Definition;
use crate::memory::{Elements, Memory, MemoryError, ObjectKind, Permission};

/// Bytes of a row at most (one slot at least).
const MAX_ROW_BYTES: u64 = 16 << 20;
/// A row takes no more than this part of what is left of guest memory.
const ROW_SHARE: u64 = 128;
/// Where the key is in a record.
pub(super) const KEY_IN_RECORD: u32 = 8;

#[derive(Debug)]
pub(super) struct Slots {
    rows: Vec<Row>,
    /// Slots in each row but the last: a power of two, as its logarithm.
    row_shift: u32,
    /// Slots at most.
    limit: u32,
    copies: u32,
    value_size: u32,
    key_size: u32,
    /// Bytes of a record.
    record_size: u32,
    permission: Permission,
    /// Name of the values in guest memory.
    kind: ObjectKind,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    values: Elements,
    /// Guest address of the first record.
    records: u32,
}

impl Slots {
    /// Places for up to `limit` values; the first row is reserved.
    pub(super) fn new(def: &Definition, limit: u32, memory: &mut Memory) -> Result<Slots, MemoryError> {
        let stride = u64::from(def.value_size).next_multiple_of(8) + 8;
        let row_bytes = MAX_ROW_BYTES.min(memory.left() / ROW_SHARE);
        let record_size = KEY_IN_RECORD + def.key_size.next_multiple_of(8);
        let bytes = stride * u64::from(def.copies) + u64::from(record_size);
        let fitting = (row_bytes / bytes).clamp(1, limit.max(1).into());
        let mut slots = Slots {
            rows: Vec::new(),
            row_shift: if fitting == u64::from(limit) { 31 } else { fitting.ilog2() },
            limit,
            copies: def.copies,
            value_size: def.value_size,
            key_size: def.key_size,
            record_size,
            permission: def.permission(),
            kind: def.object_kind(0),
        };
        slots.reserve(memory, 0)?;
        Ok(slots)
    }

    /// Reserves rows until there is one that holds `slot`.
    pub(super) fn reserve(&mut self, memory: &mut Memory, slot: u32) -> Result<(), MemoryError> {
        while (slot >> self.row_shift) as usize >= self.rows.len() {
            let first = (self.rows.len() as u32) << self.row_shift;
            let count = self.limit.saturating_sub(first).clamp(1, 1 << self.row_shift);
            let values = count.saturating_mul(self.copies);
            let bytes = u64::from(count) * u64::from(self.record_size);
            let records = memory.reserve_table(bytes)?;
            let values = memory.reserve_elements(self.kind_from(first), self.value_size, values);
            // What is refused takes nothing: programs may try again and again.
            let values = values.inspect_err(|_| memory.give_table_back(records, bytes))?;
            self.rows.push(Row { values, records });
        }
        Ok(())
    }

    /// Forgets all rows but the first.
    pub(super) fn keep_first_row(&mut self) {
        self.rows.truncate(1);
    }

    fn kind_from(&self, slot: u32) -> ObjectKind {
        let mut kind = self.kind.clone();
        if let ObjectKind::MapValue { first, .. } = &mut kind {
            *first = slot;
        }
        kind
    }

    /// Bytes of a key.
    pub(super) fn key_size(&self) -> u32 {
        self.key_size
    }

    /// Bytes from one copy of a value to the next one.
    pub(super) fn copy_stride(&self) -> u32 {
        self.rows.first().map_or(0, |row| row.values.stride)
    }

    /// Guest address of the copy of `cpu` (of the only copy, where there is one) of the value in `slot`.
    #[inline]
    pub(super) fn address(&self, slot: u32, cpu: u32) -> u32 {
        let (row, within) = self.place(slot);
        row.map_or(0, |row| row.values.address(within * self.copies + cpu.min(self.copies - 1)))
    }

    /// Guest address of the slot's record.
    #[inline]
    pub(super) fn record(&self, slot: u32) -> u32 {
        let (row, within) = self.place(slot);
        row.map_or(0, |row| row.records + within * self.record_size)
    }

    #[inline]
    fn place(&self, slot: u32) -> (Option<&Row>, u32) {
        (self.rows.get((slot >> self.row_shift) as usize), slot & ((1 << self.row_shift) - 1))
    }

    /// Makes the record of a slot that has never been used.
    pub(super) fn claim_record(&self, memory: &mut Memory, slot: u32) {
        let record = self.record(slot);
        memory.claim_table(record, self.record_size);
        let head = u64::from(slot) << 32 | u64::from(self.address(slot, 0));
        memory.put(record, &head.to_le_bytes());
    }

    /// The value's address and the slot, as a record says.
    #[inline]
    pub(super) fn in_record(memory: &Memory, record: u32) -> (u32, u32) {
        let head = memory.get(record, 8).try_into().map_or(0, u64::from_le_bytes);
        (head as u32, (head >> 32) as u32)
    }

    /// The key in a record.
    #[inline]
    pub(super) fn key<'m>(&self, memory: &'m Memory, record: u32) -> &'m [u8] {
        memory.get(record.wrapping_add(KEY_IN_RECORD), self.key_size)
    }

    /// Writes a key into a record.
    #[inline]
    pub(super) fn set_key(memory: &mut Memory, record: u32, key: &[u8]) {
        memory.overwrite(record + KEY_IN_RECORD, key);
    }

    /// Opens the value to the program.
    pub(super) fn open(&self, memory: &mut Memory, slot: u32) {
        for cpu in 0..self.copies {
            memory.open(self.address(slot, cpu), self.value_size, self.permission);
        }
    }

    /// Closes the value.
    pub(super) fn close(&self, memory: &mut Memory, slot: u32) {
        for cpu in 0..self.copies {
            memory.withdraw(self.address(slot, cpu), self.value_size);
        }
    }

    /// Closes the first `count` slots.
    pub(super) fn close_all(&self, memory: &mut Memory, count: u32) {
        let mut left = count;
        for row in &self.rows {
            let slots = left.min(1 << self.row_shift);
            memory.withdraw(row.values.start, slots * self.copies * row.values.stride);
            left -= slots;
        }
    }
}
