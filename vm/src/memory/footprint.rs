//! Which pages of the arena were opened or written: what has to be cleared for it to be as new.
//!
//! Stack frames are left out: they are few, and opened all the time. Pages that have been cleared are known all the same: the
//! host still holds memory for them.

/// Bytes of a page.
pub(super) const PAGE: u32 = 4096;
/// Pages below 2^32.
const PAGES: u32 = 1 << 20;
/// Pages whose bits lie together.
const CHUNK: u32 = 4096;

#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Numbers of the pages, each once.
    pages: Vec<u32>,
    /// Bits for every page, in chunks that are there once one of their pages is.
    chunks: Vec<Option<Box<Chunk>>>,
    /// The page that was added last, plus one: mostly the next one too.
    last: u32,
    /// Pages that were ever added.
    in_use: usize,
}

type Chunk = [Word; CHUNK as usize / 64];

/// Bits of 64 pages.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    listed: u64,
    in_use: u64,
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
        for page in first..end.min(PAGES) {
            let (word, bit) = (self.word(page), bit(page));
            let (listed, in_use) = (word.listed & bit != 0, word.in_use & bit != 0);
            word.listed |= bit;
            word.in_use |= bit;
            if !listed {
                self.pages.push(page);
            }
            self.in_use += usize::from(!in_use);
            self.last = page + 1;
        }
    }

    /// The word that has the page's bits.
    fn word(&mut self, page: u32) -> &mut Word {
        let chunk = (page / CHUNK) as usize;
        if self.chunks.len() <= chunk {
            self.chunks.resize(chunk + 1, None);
        }
        let chunk = self.chunks[chunk].get_or_insert_with(|| Box::new([Word::default(); _]));
        &mut chunk[(page % CHUNK / 64) as usize]
    }

    /// How many pages the host may hold memory for: all that were ever added.
    pub(super) fn in_use(&self) -> usize {
        self.in_use
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
            self.word(page).listed &= !bit(page);
        }
        taken.into_iter().map(|page| page * PAGE).collect()
    }
}

fn bit(page: u32) -> u64 {
    1 << (page % 64)
}
