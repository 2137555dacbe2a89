//! What lies where in the arena: names for addresses, asked for only when something went wrong.
//!
//! Permissions are the bitmaps' business; an object here may have been freed.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What a piece of guest memory is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// The program's context (`r1` on entry).
    Context,
    /// Packet bytes, from `data` to `data_end`, with the room that adjusting helpers may open.
    Packet,
    /// A 512-byte stack frame; the entry program's is 0.
    Stack {
        /// Depth of the call.
        frame: u32,
    },
    /// Values of a map.
    MapValue {
        /// Name of the map.
        map: Arc<str>,
        /// Index of the first element (array maps: the key; others: the element's slot).
        first: u32,
        /// Copies of each value side by side: 1, or the number of CPUs.
        copies: u32,
    },
    /// A section of global data: the only value of its map.
    Data {
        /// Name of the section.
        section: Arc<str>,
    },
    /// A ring buffer record between reserve and submit.
    Record {
        /// Name of the ring buffer.
        map: Arc<str>,
    },
    /// An object that a test placed.
    Placed {
        /// The test's name for it.
        name: Arc<str>,
    },
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectKind::Context => write!(f, "context"),
            ObjectKind::Packet => write!(f, "packet"),
            ObjectKind::Stack { frame: 0 } => write!(f, "stack"),
            ObjectKind::Stack { frame } => write!(f, "stack of call {frame}"),
            ObjectKind::MapValue { map, .. } => write!(f, "value of map {map}"),
            ObjectKind::Data { section } => write!(f, "{section}"),
            ObjectKind::Record { map } => write!(f, "record of ring buffer {map}"),
            ObjectKind::Placed { name } => write!(f, "{name}"),
        }
    }
}

/// One object, or a row of equal ones with gaps between them.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) kind: ObjectKind,
    /// Bytes of one object.
    pub(super) size: u32,
    /// From one to the next; at least `size`.
    pub(super) stride: u32,
    pub(super) count: u32,
}

impl Row {
    /// Address after the last object.
    fn end(&self, start: u32) -> u64 {
        u64::from(start) + u64::from(self.stride) * u64::from(self.count.saturating_sub(1)) + u64::from(self.size)
    }
}

/// The object closest to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// What it is.
    pub kind: ObjectKind,
    /// Which of a row of objects: element index of a map's values, else 0.
    pub index: u32,
    /// Guest address of its first byte.
    pub start: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes from the accessed range to the object: negative when the access starts before it, positive when
    /// it ends behind it, 0 when it lies inside (and failed for another reason).
    pub distance: i64,
}

/// All objects of the arena by address.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// Those that stay.
    rows: BTreeMap<u32, Row>,
    /// Where those lie that go when the next run starts, and these, by address: a few at a time, and each run makes them anew.
    run_zone: Range<u32>,
    of_run: Vec<(u32, Row)>,
}

impl Objects {
    pub(super) fn new(run_zone: Range<u32>) -> Objects {
        Objects { run_zone, ..Objects::default() }
    }

    pub(super) fn insert(&mut self, start: u32, row: Row) {
        if !self.run_zone.contains(&start) {
            self.rows.insert(start, row);
            return;
        }
        if self.of_run.last().is_none_or(|(last, _)| *last < start) {
            self.of_run.push((start, row));
            return;
        }
        match self.of_run.binary_search_by_key(&start, |(start, _)| *start) {
            Ok(at) => self.of_run[at].1 = row,
            Err(at) => self.of_run.insert(at, (start, row)),
        }
    }

    pub(super) fn remove(&mut self, start: u32) {
        self.rows.remove(&start);
        self.of_run.retain(|(other, _)| *other != start);
    }

    /// Forgets what lies in the run zone.
    pub(super) fn forget_run(&mut self) {
        self.of_run.clear();
    }

    /// Forgets what starts at `start` or behind it.
    pub(super) fn forget_from(&mut self, start: u64) {
        if let Ok(start) = u32::try_from(start) {
            self.rows.split_off(&start);
        }
    }

    /// The last row that starts at `addr` or before it.
    fn up_to(&self, addr: u32) -> Option<(u32, &Row)> {
        let behind = self.of_run.partition_point(|(start, _)| *start <= addr);
        let of_run = behind.checked_sub(1).map(|at| (self.of_run[at].0, &self.of_run[at].1));
        let stays = self.rows.range(..=addr).next_back().map(|(&start, row)| (start, row));
        of_run.into_iter().chain(stays).max_by_key(|(start, _)| *start)
    }

    /// The first row that starts at `addr` or behind it.
    fn from(&self, addr: u32) -> Option<(u32, &Row)> {
        let first = self.of_run.partition_point(|(start, _)| *start < addr);
        let of_run = self.of_run.get(first).map(|(start, row)| (*start, row));
        let stays = self.rows.range(addr..).next().map(|(&start, row)| (start, row));
        of_run.into_iter().chain(stays).min_by_key(|(start, _)| *start)
    }

    /// The object that the byte at `addr` belongs to: what it is, its first address and its end.
    pub(super) fn at(&self, addr: u32) -> Option<(&ObjectKind, u32, u32)> {
        let (first, row) = self.up_to(addr)?;
        let index = ((addr - first) / row.stride.max(1)).min(row.count.saturating_sub(1));
        let start = first + index * row.stride;
        let end = start + row.size;
        (addr < end).then_some((&row.kind, start, end))
    }

    /// The object nearest to the `size` bytes at `addr`, by bytes missed.
    pub(super) fn nearest(&self, addr: u64, size: u64) -> Option<Nearest> {
        let key = u32::try_from(addr).unwrap_or(u32::MAX);
        let above = key.checked_add(1).and_then(|next| self.from(next));
        self.up_to(key)
            .into_iter()
            .chain(above)
            .flat_map(|(start, row)| candidates(start, row, addr))
            .map(|(start, index, row)| describe(start, index, row, addr, size))
            .min_by_key(|nearest| nearest.distance.unsigned_abs())
    }
}

/// The element of a row at or before `addr`, and the one after it.
fn candidates(start: u32, row: &Row, addr: u64) -> impl Iterator<Item = (u64, u32, &Row)> {
    let offset = addr.saturating_sub(u64::from(start)).min(row.end(start) - u64::from(start));
    let last = row.count.saturating_sub(1);
    let index = u32::try_from(offset / u64::from(row.stride.max(1))).unwrap_or(last).min(last);
    let next = index.saturating_add(1).min(last);
    [index, next].into_iter().map(move |i| (u64::from(start) + u64::from(i) * u64::from(row.stride), i, row))
}

/// Bytes from the `size` accessed at `addr` to an object: see [`Nearest::distance`].
pub(super) fn distance(start: u64, len: u64, addr: u64, size: u64) -> i64 {
    let (end, access_end) = (start.saturating_add(len), addr.saturating_add(size));
    if addr < start {
        -i64::try_from(start - addr).unwrap_or(i64::MAX)
    } else {
        i64::try_from(access_end.saturating_sub(end)).unwrap_or(i64::MAX)
    }
}

fn describe(start: u64, index: u32, row: &Row, addr: u64, size: u64) -> Nearest {
    let distance = distance(start, row.size.into(), addr, size);
    let index = match &row.kind {
        ObjectKind::MapValue { first, copies, .. } => first + index / (*copies).max(1),
        ObjectKind::Context
        | ObjectKind::Packet
        | ObjectKind::Stack { .. }
        | ObjectKind::Data { .. }
        | ObjectKind::Record { .. }
        | ObjectKind::Placed { .. } => index,
    };
    Nearest { kind: row.kind.clone(), index, start, size: row.size.into(), distance }
}
