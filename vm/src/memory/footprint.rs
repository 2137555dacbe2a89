//! Which pages of the arena were ever opened or written: what has to be cleared for it to be as new.
//!
//! Stack frames are left out: they are few, and opened all the time.

/// Bytes of a page.
pub(super) const PAGE: u32 = 4096;
/// Pages whose bits lie together.
const CHUNK: u32 = 4096;

#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Numbers of the pages, each once.
    pages: Vec<u32>,
    /// A bit for every page, in chunks that are there once one of their pages is.
    known: Vec<Option<Box<Chunk>>>,
    /// The page that was added last, plus one: mostly the next one too.
    last: u32,
}

type Chunk = [u64; CHUNK as usize / 64];

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
        for page in first..end {
            let word = self.word(page);
            if *word & bit(page) == 0 {
                *word |= bit(page);
                self.pages.push(page);
            }
            self.last = page + 1;
        }
    }

    /// The word that has the page's bit.
    fn word(&mut self, page: u32) -> &mut u64 {
        let chunk = (page / CHUNK) as usize;
        if self.known.len() <= chunk {
            self.known.resize(chunk + 1, None);
        }
        let chunk = self.known[chunk].get_or_insert_with(|| Box::new([0; _]));
        &mut chunk[(page % CHUNK / 64) as usize]
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
        let taken: Vec<u32> = self.pages.extract_if(.., |page| *page * PAGE >= addr).collect();
        for &page in &taken {
            *self.word(page) &= !bit(page);
        }
        taken.into_iter().map(|page| page * PAGE).collect()
    }
}

fn bit(page: u32) -> u64 {
    1 << (page % 64)
}
