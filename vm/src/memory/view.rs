//! Guest memory as an engine's hot loop holds it: three slices, nothing else.
//!
//! An access that misses here is not yet a fault: [`super::Memory`] may know of a far object, keep account of
//! uninitialised bytes, or see that all is well with an unaligned one.

use super::{FRAME_STRIDE, MAX_FRAMES, STACK_FRAME, STACK_TOP};

/// Words of bitmap that cover one stack frame.
const FRAME_WORDS: usize = STACK_FRAME as usize / 64;

/// 64 bits of a bitmap, for 64 bytes of the arena.
pub type Word = [u8; 8];

/// The arena and its two bitmaps, with the accesses that engines make.
#[derive(Debug)]
pub struct View<'m> {
    pub(super) arena: &'m mut [u8],
    pub(super) readable: &'m mut [Word],
    pub(super) writable: &'m mut [Word],
    /// Uninitialised bytes are tracked.
    pub(super) tracking: bool,
}

/// Whether all of the `N <= 8` bytes at `addr` have their bit set, as far as one word tells: false outside the arena,
/// and false where the bytes lie in two words (which aligned accesses never do).
#[inline(always)]
fn covers<const N: usize>(bits: &[Word], addr: u64) -> bool {
    const { assert!(N >= 1 && N <= 8) };
    let Some(word) = bits.get((addr >> 6) as usize) else { return false };
    let mask = (1_u64 << N) - 1;
    u64::from_le_bytes(*word) >> (addr & 63) & mask == mask
}

impl View<'_> {
    /// The arena, and the bitmaps of what may be read and written: for engines that make their own accesses, by the
    /// rules of [`View::load`] and [`View::store`].
    pub fn parts(&mut self) -> (&mut [u8], &mut [Word], &mut [Word]) {
        (self.arena, self.readable, self.writable)
    }

    /// Whether the arena covers all addresses below 2^32, so that no access below can leave it.
    pub fn is_full_size(&self) -> bool {
        self.arena.len() as u64 >= super::FAR_START
    }

    /// Whether stores must be accounted for, by [`super::Memory::write`].
    #[inline(always)]
    pub fn tracking(&self) -> bool {
        self.tracking
    }

    /// Loads `N` bytes.
    #[inline(always)]
    pub fn load<const N: usize>(&self, addr: u64) -> Option<[u8; N]> {
        if !covers::<N>(self.readable, addr) {
            return None;
        }
        // Below 2^32, as the bitmap has said; cutting it leaves one bounds check.
        let start = addr as u32 as usize;
        self.arena.get(start..start + N)?.first_chunk().copied()
    }

    /// Stores `N` bytes.
    #[inline(always)]
    pub fn store<const N: usize>(&mut self, addr: u64, value: [u8; N]) -> Option<()> {
        if !covers::<N>(self.writable, addr) {
            return None;
        }
        let start = addr as u32 as usize;
        *self.arena.get_mut(start..start + N)?.first_chunk_mut()? = value;
        Some(())
    }

    /// The place of `N` bytes that may be both read and written.
    #[inline(always)]
    pub fn place<const N: usize>(&mut self, addr: u64) -> Option<&mut [u8; N]> {
        if !covers::<N>(self.readable, addr) || !covers::<N>(self.writable, addr) {
            return None;
        }
        let start = addr as u32 as usize;
        self.arena.get_mut(start..start + N)?.first_chunk_mut()
    }

    /// Opens a stack frame and returns its top, the value of `r10`; `None` beyond [`MAX_FRAMES`].
    #[inline(always)]
    pub fn push_frame(&mut self, frame: u32) -> Option<u64> {
        if frame >= MAX_FRAMES {
            return None;
        }
        let readable = if self.tracking { 0x00 } else { 0xff };
        self.set_frame(frame, readable, 0xff);
        Some(u64::from(STACK_TOP - frame * FRAME_STRIDE))
    }

    /// Closes a stack frame when its function returns.
    #[inline(always)]
    pub fn pop_frame(&mut self, frame: u32) {
        self.set_frame(frame, 0x00, 0x00);
    }

    #[inline(always)]
    fn set_frame(&mut self, frame: u32, readable: u8, writable: u8) {
        let first = (super::frame_base(frame) / 64) as usize;
        if let Some(bits) = self.readable.get_mut(first..first + FRAME_WORDS) {
            bits.fill([readable; 8]);
        }
        if let Some(bits) = self.writable.get_mut(first..first + FRAME_WORDS) {
            bits.fill([writable; 8]);
        }
    }
}
