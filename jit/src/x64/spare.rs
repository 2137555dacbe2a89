//! Mappings that nobody needs now but somebody soon will: to ask the host for memory takes longer than short programs do.
//!
//! Nobody waits here: who finds another thread at work, or a lock that a fork has left behind, does without.

use std::sync::Mutex;

use memmap2::MmapMut;

/// Mappings that are kept at most; further ones go back to the host.
const MOST: usize = 16;

/// Mappings of one size.
#[derive(Debug)]
pub(super) struct Spares(Mutex<Vec<MmapMut>>);

impl Spares {
    pub(super) const fn new() -> Spares {
        Spares(Mutex::new(Vec::new()))
    }

    /// One of them.
    pub(super) fn take(&self) -> Option<MmapMut> {
        self.0.try_lock().ok()?.pop()
    }

    /// Keeps one, as it is.
    pub(super) fn give(&self, mapping: MmapMut) {
        if let Ok(mut spares) = self.0.try_lock()
            && spares.len() < MOST
        {
            spares.push(mapping);
        }
    }
}
