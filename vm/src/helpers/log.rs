//! The log of helper calls: how many of each, and the first few with their arguments and results.
//!
//! It is written on every call, so that what is counted stands in one array, and what is kept ends early.

use std::collections::BTreeMap;

use super::NUMBERS;

/// Calls of one helper whose arguments are kept, unless [`crate::Machine::keep_calls`] says how many; further ones are only
/// counted.
pub const MAX_RECORDS: usize = 4096;

/// One call of a helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRecord {
    /// `r1` to `r5`.
    pub args: [u64; 5],
    /// `r0` afterwards; `None` when the call trapped or was a tail call that was taken.
    pub ret: Option<u64>,
}

/// The calls of one helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls<'l> {
    count: u64,
    records: &'l [CallRecord],
}

impl<'l> Calls<'l> {
    /// How often it was called.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// It was never called.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first calls, in order: [`MAX_RECORDS`] at most, or as many as [`crate::Machine::keep_calls`] says.
    pub fn records(&self) -> &'l [CallRecord] {
        self.records
    }
}

/// How often each helper of the kernel was called, by number.
pub type Counts = [u64; NUMBERS];

/// The calls of all helpers.
pub(super) struct Log {
    counts: Box<Counts>,
    /// By number; empty until there is a call.
    records: Vec<Vec<CallRecord>>,
    unknown: BTreeMap<i32, (u64, Vec<CallRecord>)>,
    /// Calls of one helper that are kept.
    limit: u32,
}

impl Default for Log {
    fn default() -> Log {
        Log { counts: Box::new([0; NUMBERS]), records: Vec::new(), unknown: BTreeMap::new(), limit: MAX_RECORDS as u32 }
    }
}

/// Where the calls of a helper with this number stand; `None` for one that the kernel does not know.
fn place(number: i32) -> Option<usize> {
    usize::try_from(number).ok().filter(|&index| index < NUMBERS)
}

impl Log {
    pub(super) fn calls(&self, number: i32) -> Calls<'_> {
        match place(number) {
            Some(index) => {
                Calls { count: self.counts[index], records: self.records.get(index).map_or(&[], |kept| kept) }
            }
            None => match self.unknown.get(&number) {
                Some((count, records)) => Calls { count: *count, records },
                None => Calls { count: 0, records: &[] },
            },
        }
    }

    /// Forgets everything.
    pub(super) fn forget(&mut self) {
        // Most helpers are never called: sixteen at a time are passed over.
        for (index, counts) in self.counts.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            if counts.iter().fold(0, |any, count| any | count) != 0 {
                counts.fill(0);
                self.records.iter_mut().skip(16 * index).take(16).for_each(Vec::clear);
            }
        }
        self.unknown.clear();
    }

    /// Counts, for engines that do so themselves.
    pub(super) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Whether the next call of this helper is only counted.
    pub(super) fn is_full(&self, number: i32) -> bool {
        place(number).is_some_and(|index| self.counts[index] >= self.limit.into())
    }

    /// Calls of one helper that are kept.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Forgets everything, and keeps so many calls of a helper from now on.
    pub(super) fn set_limit(&mut self, limit: u32) {
        self.forget();
        self.limit = limit;
    }

    /// Counts a call that is not kept.
    pub(super) fn count(&mut self, number: i32) {
        if let Some(index) = place(number) {
            self.counts[index] += 1;
        }
    }

    /// Counts a call; where it is kept, if it is.
    #[inline]
    pub(super) fn begin(&mut self, number: i32, args: &[u64; 5]) -> Option<usize> {
        let (count, records) = match place(number) {
            Some(index) => {
                self.counts[index] += 1;
                if self.records.is_empty() {
                    self.records.resize(NUMBERS, Vec::new());
                }
                (self.counts[index], &mut self.records[index])
            }
            None => {
                let (count, records) = self.unknown.entry(number).or_default();
                *count += 1;
                (*count, records)
            }
        };
        if count > self.limit.into() {
            return None;
        }
        records.push(CallRecord { args: *args, ret: None });
        Some(records.len() - 1)
    }

    /// Notes what a call that is kept gave.
    #[inline]
    pub(super) fn end(&mut self, number: i32, record: Option<usize>, ret: Option<u64>) {
        let Some(record) = record else { return };
        let records = match place(number) {
            Some(index) => self.records.get_mut(index),
            None => self.unknown.get_mut(&number).map(|(_, records)| records),
        };
        if let Some(record) = records.and_then(|records| records.get_mut(record)) {
            record.ret = ret;
        }
    }
}
