//! Which pages of the arena were ever opened or written: what has to be cleared for it to be as new.
//!
//! Stack frames are left out: they are few, and opened all the time.

/// Bytes of a page.
pub(super) const PAGE: u32 = 4096;
/// Pages of the largest arena.
const PAGES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Numbers of the pages, each once.
    pages: Vec<u32>,
    /// A bit for every page of the arena, once there are any.
    known: Vec<u64>,
    /// The page that was added last, plus one: mostly the next one too.
    last: u32,
}

impl Footprint {
    /// Adds the pages of `len` bytes at `addr`.
    #[inline]
    pub(super) fn add(&mut self, addr: u32, len: u32) {
        let first = addr / PAGE;
        let end = (u64::from(addr) + u64::from(len)).div_ceil(PAGE.into()) as u32;
        if end != first + 1 || end != self.last {
            self.add_pages(first, end);
        }
    }

    #[cold]
    fn add_pages(&mut self, first: u32, end: u32) {
        if self.known.is_empty() {
            self.known = vec![0; PAGES / 64];
        }
        for page in first..end {
            if let Some(word) = self.known.get_mut(page as usize / 64)
                && *word & bit(page) == 0
            {
                *word |= bit(page);
                self.pages.push(page);
            }
            self.last = page + 1;
        }
    }

    /// How many pages there are.
    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }

    /// Forgets all pages; their addresses.
    pub(super) fn take(&mut self) -> Vec<u32> {
        self.take_from(0)
    }

    /// Forgets the pages at and behind `addr`, the start of a page; their addresses.
    pub(super) fn take_from(&mut self, addr: u32) -> Vec<u32> {
        self.last = 0;
        let known = &mut self.known;
        let taken = self.pages.extract_if(.., |page| *page * PAGE >= addr).map(|page| {
            known[page as usize / 64] &= !bit(page);
            page * PAGE
        });
        taken.collect()
    }
}

fn bit(page: u32) -> u64 {
    1 << (page % 64)
}
