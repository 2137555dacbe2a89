//! A bit for each byte of the arena: the truth about who may touch what.
//!
//! Committed on first touch, like the arena. It knows neither objects nor why a bit is set.

use std::ops::RangeInclusive;

use super::mapping::Mapping;

/// Bits kept behind the last byte, always clear, so that a whole-word test needs no second bounds check.
const PADDING_BYTES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Bitmap {
    bits: Mapping,
    /// Bytes of the arena.
    covered: u64,
}

/// Sets the bits of a mask to those of `fill`; what stays as it is is not written, so that no memory is needed for it.
#[inline(always)]
fn blend(word: &mut [u8; 8], mask: u64, fill: u64) {
    if mask != 0 {
        *word = (u64::from_le_bytes(*word) & !mask | fill & mask).to_le_bytes();
    }
}

impl Bitmap {
    pub(super) fn new(bytes_covered: usize) -> std::io::Result<Bitmap> {
        let bits = Mapping::new(bytes_covered.div_ceil(8) + PADDING_BYTES)?;
        Ok(Bitmap { bits, covered: bytes_covered as u64 })
    }

    /// All bits, for a view.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.bits
    }

    /// Whether all of the `len` bytes at `addr` have their bit set; the caller has bounded both to the arena.
    pub(super) fn covers_range(&self, addr: u32, len: u32) -> bool {
        self.first_clear(addr, len).is_none()
    }

    /// The first of the `len` bytes at `addr` whose bit is clear, as an offset from `addr`.
    pub(super) fn first_clear(&self, addr: u32, len: u32) -> Option<u32> {
        let mut done = 0;
        while done < len {
            let (bit, left) = (u64::from(addr) + u64::from(done), len - done);
            let word = self.word(bit >> 3) >> (bit & 7);
            // A word read at a byte boundary holds at least 57 bits from `bit` on.
            let ones = word.trailing_ones();
            if ones >= left.min(57) {
                done += left.min(57);
            } else {
                return Some(done + ones);
            }
        }
        None
    }

    /// Whether the bit of any of the `len` bytes at `addr` is set.
    pub(super) fn any_set(&self, addr: u32, len: u32) -> bool {
        (0..len).step_by(57).any(|done| {
            let (bit, left) = (u64::from(addr) + u64::from(done), len - done);
            let word = self.word(bit >> 3) >> (bit & 7);
            word.trailing_zeros() < left.min(57)
        })
    }

    /// The last of the `len` bytes at `addr` whose bit is clear, as an offset from `addr`.
    pub(super) fn last_clear(&self, addr: u32, len: u32) -> Option<u32> {
        let mut left = len;
        while left > 0 {
            let bit = u64::from(addr) + u64::from(left) - 1;
            // No object lies in the first words. The bit goes to the top of the word, with at least 57 from it down.
            let word = self.word((bit >> 3).saturating_sub(7)) << (7 - (bit & 7));
            let ones = word.leading_ones();
            if ones < left.min(57) {
                return Some(left - ones - 1);
            }
            left -= left.min(57);
        }
        None
    }

    fn word(&self, byte: u64) -> u64 {
        let bytes = self.bits.get(byte as usize..).and_then(|bits| bits.first_chunk());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Sets or clears the bits of `len` bytes at `addr`; what is outside the arena is left out.
    #[inline]
    pub(super) fn set(&mut self, addr: u32, len: u32, value: bool) {
        let fill = if value { u64::MAX } else { 0 };
        let (words, head, tail) = self.span(addr, len);
        match self.bits.as_chunks_mut().0.get_mut(words) {
            Some([word]) => blend(word, head & tail, fill),
            Some([first, middle @ .., last]) => {
                blend(first, head, fill);
                middle.fill(fill.to_le_bytes());
                blend(last, tail, fill);
            }
            Some([]) | None => {}
        }
    }

    /// Sets or clears the bits of each of `count` objects of `size` bytes, `stride` bytes apart, and clears those between
    /// them; `addr` and `stride` are multiples of 8.
    pub(super) fn set_row(&mut self, addr: u32, size: u32, stride: u32, count: u32, value: bool) {
        let fill = if value { 0xff } else { 0x00 };
        let (whole, rest) = ((size / 8) as usize, fill & !(0xff_u8 << (size % 8)));
        let (first, length) = ((addr / 8) as usize, stride as usize / 8);
        let Some(row) = self.bits.get_mut(first..first + length * count as usize) else { return };
        let Some((object, _)) = row.split_at_mut_checked(length) else { return };
        object.fill(0);
        object[..whole].fill(fill);
        object[whole] = rest;
        // The others are like the first.
        let mut done = length;
        while done < row.len() {
            let more = done.min(row.len() - done);
            row.copy_within(..more, done);
            done += more;
        }
    }

    /// Clears the bits of `len` bytes at `addr`, both multiples of 8.
    pub(super) fn clear(&mut self, addr: u32, len: u32) {
        if let Some(bits) = self.bits.get_mut(addr as usize / 8..(addr as usize + len as usize) / 8) {
            bits.fill(0);
        }
    }

    /// Copies the bits of `len` bytes at `addr` from another bitmap of the same arena.
    pub(super) fn copy_from(&mut self, other: &Bitmap, addr: u32, len: u32) {
        let (words, head, tail) = self.span(addr, len);
        let (to, from) = (self.bits.as_chunks_mut().0.get_mut(words.clone()), other.bits.as_chunks().0.get(words));
        match (to, from) {
            (Some([to]), Some([from])) => blend(to, head & tail, u64::from_le_bytes(*from)),
            (Some([first, to @ .., last]), Some([first_from, from @ .., last_from])) => {
                blend(first, head, u64::from_le_bytes(*first_from));
                to.copy_from_slice(from);
                blend(last, tail, u64::from_le_bytes(*last_from));
            }
            (_, _) => {}
        }
    }

    /// The words that hold the bits of `len` bytes at `addr`, as far as they are in the arena: which bits of the first, and of
    /// the last.
    #[inline(always)]
    fn span(&self, addr: u32, len: u32) -> (RangeInclusive<usize>, u64, u64) {
        let (start, end) = self.clamp(addr, len);
        // Behind the word of the last byte there is another one.
        let words = (start / 64) as usize..=(end / 64) as usize;
        (words, u64::MAX << (start % 64), !(u64::MAX << (end % 64)))
    }

    /// First and end of `len` bytes at `addr`, as far as they are in the arena.
    fn clamp(&self, addr: u32, len: u32) -> (u64, u64) {
        let end = (u64::from(addr) + u64::from(len)).min(self.covered);
        (u64::from(addr).min(end), end)
    }
}
