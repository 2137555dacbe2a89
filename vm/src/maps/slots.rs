//! Places for the values of a hash map in guest memory: rows of equal elements, added when they are needed.
//!
//! A slot is one value, with all its copies side by side. The first row is reserved when the map is made, so that
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

#[derive(Debug)]
pub(super) struct Slots {
    rows: Vec<Elements>,
    /// Slots in each row but the last: a power of two, as its logarithm.
    row_shift: u32,
    /// Slots at most.
    limit: u32,
    copies: u32,
    value_size: u32,
    permission: Permission,
    /// Name of the values in guest memory.
    kind: ObjectKind,
}

impl Slots {
    /// Places for up to `limit` values; the first row is reserved.
    pub(super) fn new(def: &Definition, limit: u32, memory: &mut Memory) -> Result<Slots, MemoryError> {
        let stride = u64::from(def.value_size).next_multiple_of(8) + 8;
        let row_bytes = MAX_ROW_BYTES.min(memory.left() / ROW_SHARE);
        let fitting = (row_bytes / (stride * u64::from(def.copies))).clamp(1, limit.max(1).into());
        let mut slots = Slots {
            rows: Vec::new(),
            row_shift: if fitting == u64::from(limit) { 31 } else { fitting.ilog2() },
            limit,
            copies: def.copies,
            value_size: def.value_size,
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
            let row = memory.reserve_elements(self.kind_from(first), self.value_size, values)?;
            self.rows.push(row);
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

    /// Guest address of the copy of `cpu` (of the only copy, where there is one) of the value in `slot`.
    #[inline]
    pub(super) fn address(&self, slot: u32, cpu: u32) -> u32 {
        let Some(row) = self.rows.get((slot >> self.row_shift) as usize) else { return 0 };
        let within = slot & ((1 << self.row_shift) - 1);
        row.address(within * self.copies + cpu.min(self.copies - 1))
    }

    /// Opens the value to the program.
    pub(super) fn open(&self, memory: &mut Memory, slot: u32) {
        for cpu in 0..self.copies {
            memory.grant(self.address(slot, cpu), self.value_size, self.permission);
        }
    }

    /// Closes the value.
    pub(super) fn close(&self, memory: &mut Memory, slot: u32) {
        for cpu in 0..self.copies {
            memory.revoke(self.address(slot, cpu), self.value_size);
        }
    }

    /// Closes the first `count` slots.
    pub(super) fn close_all(&self, memory: &mut Memory, count: u32) {
        let mut left = count;
        for row in &self.rows {
            let slots = left.min(1 << self.row_shift);
            memory.revoke(row.start, slots * self.copies * row.stride);
            left -= slots;
        }
    }
}
