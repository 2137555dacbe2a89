//! Memory of the host's.

use std::ops::{Deref, DerefMut};

use memmap2::{MmapMut, MmapOptions};

/// Zeroed memory that costs nothing until it is touched. By default it has no bytes.
#[derive(Debug, Default)]
pub(super) struct Mapping(Option<MmapMut>);

impl Mapping {
    pub(super) fn new(len: usize) -> std::io::Result<Mapping> {
        Ok(Mapping(Some(MmapOptions::new().len(len).no_reserve_swap().map_anon()?)))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    #[inline(always)]
    fn deref(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl DerefMut for Mapping {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.0.as_deref_mut().unwrap_or_default()
    }
}
