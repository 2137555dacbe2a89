//! What lies where in the arena: names for addresses, asked for only when something went wrong.
//!
//! Permissions are the bitmaps' business; an object here may have been freed.

use std::collections::BTreeMap;
use std::fmt;
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
    rows: BTreeMap<u32, Row>,
}

impl Objects {
    pub(super) fn insert(&mut self, start: u32, row: Row) {
        self.rows.insert(start, row);
    }

    pub(super) fn remove(&mut self, start: u32) -> Option<Row> {
        self.rows.remove(&start)
    }

    /// Forgets what starts at `start` or behind it.
    pub(super) fn forget_from(&mut self, start: u64) {
        if let Ok(start) = u32::try_from(start) {
            self.rows.split_off(&start);
        }
    }

    /// Start of the first row in a range.
    pub(super) fn first_in(&self, start: u32, len: u32) -> Option<u32> {
        self.rows.range(start..start.saturating_add(len)).next().map(|(&start, _)| start)
    }

    /// The object that the byte at `addr` belongs to: what it is, its first address and its end.
    pub(super) fn at(&self, addr: u32) -> Option<(&ObjectKind, u32, u32)> {
        let (&first, row) = self.rows.range(..=addr).next_back()?;
        let index = ((addr - first) / row.stride.max(1)).min(row.count.saturating_sub(1));
        let start = first + index * row.stride;
        let end = start + row.size;
        (addr < end).then_some((&row.kind, start, end))
    }

    /// The object nearest to the `size` bytes at `addr`, by bytes missed.
    pub(super) fn nearest(&self, addr: u64, size: u64) -> Option<Nearest> {
        let key = u32::try_from(addr).unwrap_or(u32::MAX);
        let below = self.rows.range(..=key).next_back();
        let above = key.checked_add(1).and_then(|next| self.rows.range(next..).next());
        below
            .into_iter()
            .chain(above)
            .flat_map(|(&start, row)| candidates(start, row, addr))
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
