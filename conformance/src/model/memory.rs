//! The model's memory: a list of regions, searched from the front.

use super::arithmetic::{from_bytes, to_bytes};

/// Bytes at an address, each of which may or may not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Address of the first byte.
    pub start: u64,
    /// The bytes, all of which may be read while the region is open.
    pub bytes: Vec<u8>,
    /// Which of them may be written.
    pub writable: Vec<bool>,
    /// Whether the region may be accessed at all: frames of functions that are not running may not.
    pub open: bool,
}

impl Region {
    /// Bytes that may be read and written.
    pub fn new(start: u64, bytes: &[u8]) -> Region {
        Region { start, bytes: bytes.to_vec(), writable: vec![true; bytes.len()], open: true }
    }

    /// Where in the region the `size` bytes at `addr` start, if all of them are in it.
    fn find(&self, addr: u64, size: u32) -> Option<usize> {
        let at = usize::try_from(addr.checked_sub(self.start)?).ok()?;
        let inside = at.checked_add(size as usize)? <= self.bytes.len();
        (self.open && inside).then_some(at)
    }
}

/// An access that no region allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAccess {
    /// Whether it was (or would also have been) a write.
    pub write: bool,
    /// Address of the first byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
}

/// All regions. RFC 9669 says nothing of how memory is laid out, so nothing is assumed.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The regions; they do not overlap.
    pub regions: Vec<Region>,
}

impl Memory {
    /// The `size` bytes at `addr` as a little-endian number.
    ///
    /// # Errors
    /// They do not all lie in one region.
    pub fn load(&self, addr: u64, size: u32) -> Result<u64, BadAccess> {
        let load = |region: &Region| {
            let at = region.find(addr, size)?;
            Some(from_bytes(region.bytes.get(at..at + size as usize)?))
        };
        self.regions.iter().find_map(load).ok_or(BadAccess { write: false, addr, size: size.into() })
    }

    /// Writes the low `size` bytes of `value` at `addr`, little-endian.
    ///
    /// # Errors
    /// They do not all lie in one region, or one of them may not be written.
    pub fn store(&mut self, addr: u64, size: u32, value: u64) -> Result<(), BadAccess> {
        let store = |region: &mut Region| {
            let at = region.find(addr, size)?;
            let place = at..at + size as usize;
            if region.writable.get(place.clone())?.contains(&false) {
                return None;
            }
            region.bytes.get_mut(place)?.copy_from_slice(&to_bytes(size, value));
            Some(())
        };
        self.regions.iter_mut().find_map(store).ok_or(BadAccess { write: true, addr, size: size.into() })
    }

    /// The `size` bytes at `addr`.
    ///
    /// # Errors
    /// They do not all lie in one region.
    pub fn bytes(&self, addr: u64, size: usize) -> Result<Vec<u8>, BadAccess> {
        let bytes = |region: &Region| {
            let at = region.find(addr, u32::try_from(size).ok()?)?;
            Some(region.bytes.get(at..at + size)?.to_vec())
        };
        self.regions.iter().find_map(bytes).ok_or(BadAccess { write: false, addr, size: size as u64 })
    }

    /// Writes the `size` bytes at `addr`.
    ///
    /// # Errors
    /// They do not all lie in one region, or one of them may not be written.
    pub fn store_bytes(&mut self, addr: u64, bytes: &[u8], size: u64) -> Result<(), BadAccess> {
        let store = |region: &mut Region| {
            let at = region.find(addr, u32::try_from(size).ok()?)?;
            let place = at..at + bytes.len();
            if region.writable.get(place.clone())?.contains(&false) {
                return None;
            }
            region.bytes.get_mut(place)?.copy_from_slice(bytes);
            Some(())
        };
        self.regions.iter_mut().find_map(store).ok_or(BadAccess { write: true, addr, size })
    }

    /// Overwrites the first bytes of the region that starts at `start`, whoever may write it.
    pub fn fill(&mut self, start: u64, bytes: &[u8]) {
        if let Some(region) = self.regions.iter_mut().find(|region| region.start == start) {
            region.bytes.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        }
    }

    /// Opens or closes the region that starts at `start`.
    pub fn open(&mut self, start: u64, open: bool) {
        if let Some(region) = self.regions.iter_mut().find(|region| region.start == start) {
            region.open = open;
        }
    }

    /// The region that starts at an address.
    pub fn region(&self, start: u64) -> Option<&Region> {
        self.regions.iter().find(|region| region.start == start)
    }
}
