//! Guest memory as an engine's hot loop holds it: three slices, nothing else.
//!
//! An access that misses here is not yet a fault: [`super::Memory`] may know of a far object, or keep account of
//! uninitialised bytes.

use super::{FRAME_STRIDE, MAX_FRAMES, STACK_FRAME, STACK_TOP};

/// Bytes of bitmap that cover one stack frame.
const FRAME_BITS: usize = STACK_FRAME as usize / 8;

/// 64 bits of a bitmap, for 64 bytes of the arena.
pub type Word = [u8; 8];

/// The arena and its two bitmaps, with the accesses that engines make.
#[derive(Debug)]
pub struct View<'m> {
    pub(super) arena: &'m mut [u8],
    pub(super) readable: &'m mut [u8],
    pub(super) writable: &'m mut [u8],
    /// Uninitialised bytes are tracked.
    pub(super) tracking: bool,
}

/// Whether all of the `N <= 8` bytes at `addr` have their bit set; false outside the arena.
#[inline(always)]
fn covers<const N: usize>(bits: &[u8], addr: u64) -> bool {
    const { assert!(N >= 1 && N <= 8) };
    // Fifteen bits from a byte boundary on hold eight from any.
    let byte = (addr >> 3) as usize;
    let Some(two) = bits.get(byte..byte + 2).and_then(<[u8]>::first_chunk) else { return false };
    let mask = (1_u32 << N) - 1;
    u32::from(u16::from_le_bytes(*two)) >> (addr & 7) & mask == mask
}

impl View<'_> {
    /// The arena, and the bitmaps of what may be read and written: for engines that make their own accesses, by the
    /// rules of [`View::load`] and [`View::store`]. They write nothing but open bytes and the bits of stack frames: the rest is
    /// not cleared for the next machine.
    pub fn parts(&mut self) -> (&mut [u8], &mut [Word], &mut [Word]) {
        (self.arena, self.readable.as_chunks_mut().0, self.writable.as_chunks_mut().0)
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
        let first = (super::frame_base(frame) / 8) as usize;
        if let Some(bits) = self.readable.get_mut(first..first + FRAME_BITS) {
            bits.fill(readable);
        }
        if let Some(bits) = self.writable.get_mut(first..first + FRAME_BITS) {
            bits.fill(writable);
        }
    }
}
