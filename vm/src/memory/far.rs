//! Objects above 2^32: the kernel's and the task's memory, as a test lays it out.
//!
//! Programs reach them through the probe-read helpers and through loads of typed kernel pointers, never on the
//! fast path.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::objects::{Nearest, ObjectKind, distance};

/// First address that is not in the arena.
pub const FAR_START: u64 = 1 << 32;

#[derive(Debug)]
struct FarObject {
    name: Arc<str>,
    bytes: Vec<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Far {
    objects: BTreeMap<u64, FarObject>,
}

impl Far {
    /// Places bytes; false where they would leave the far range or lie over another object.
    pub(super) fn place(&mut self, addr: u64, name: &str, bytes: &[u8]) -> bool {
        let Some(end) = addr.checked_add(bytes.len() as u64) else { return false };
        let overlaps = self
            .objects
            .range(..end)
            .next_back()
            .is_some_and(|(&start, object)| start + object.bytes.len() as u64 > addr);
        if addr < FAR_START || bytes.is_empty() || overlaps {
            return false;
        }
        self.objects.insert(addr, FarObject { name: name.into(), bytes: bytes.to_vec() });
        true
    }

    pub(super) fn remove(&mut self, addr: u64) -> bool {
        self.objects.remove(&addr).is_some()
    }

    fn find(&self, addr: u64) -> Option<(u64, &FarObject)> {
        self.objects.range(..=addr).next_back().map(|(&start, object)| (start, object))
    }

    pub(super) fn read(&self, addr: u64, len: u64) -> Option<&[u8]> {
        let (start, object) = self.find(addr)?;
        let offset = usize::try_from(addr - start).ok()?;
        object.bytes.get(offset..offset.checked_add(usize::try_from(len).ok()?)?)
    }

    pub(super) fn write(&mut self, addr: u64, bytes: &[u8]) -> bool {
        let Some((&start, object)) = self.objects.range_mut(..=addr).next_back() else { return false };
        let place = usize::try_from(addr - start)
            .ok()
            .and_then(|offset| object.bytes.get_mut(offset..offset.checked_add(bytes.len())?));
        match place {
            Some(place) => {
                place.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// As many bytes at `addr` as one object holds, `max` at most.
    pub(super) fn read_up_to(&self, addr: u64, max: u64) -> &[u8] {
        let Some((start, object)) = self.find(addr) else { return &[] };
        let left = (start + object.bytes.len() as u64).saturating_sub(addr);
        self.read(addr, left.min(max)).unwrap_or(&[])
    }

    /// The object nearest to the `size` bytes at `addr`.
    pub(super) fn nearest(&self, addr: u64, size: u64) -> Option<Nearest> {
        let below = self.objects.range(..=addr).next_back();
        let above = self.objects.range(addr..).next();
        let describe = |(&start, object): (&u64, &FarObject)| {
            let len = object.bytes.len() as u64;
            let kind = ObjectKind::Placed { name: object.name.clone() };
            Nearest { kind, index: 0, start, size: len, distance: distance(start, len, addr, size) }
        };
        below.into_iter().chain(above).map(describe).min_by_key(|nearest| nearest.distance.unsigned_abs())
    }
}
