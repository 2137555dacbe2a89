//! A bit for each byte of the arena: the truth about who may touch what.
//!
//! Committed on first touch, like the arena. It knows neither objects nor why a bit is set.

use super::mapping::Mapping;

/// Bits kept behind the last byte, always clear, so that a whole-word test needs no second bounds check.
const PADDING_BYTES: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Bitmap {
    bits: Mapping,
    /// Bytes of the arena.
    covered: u64,
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
    pub(super) fn set(&mut self, addr: u32, len: u32, value: bool) {
        let (start, end) = self.clamp(addr, len);
        let fill = if value { 0xff } else { 0x00 };
        let (first, last) = ((start >> 3) as usize, (end >> 3) as usize);
        let (head, tail) = (0xff_u8 << (start & 7), !(0xff_u8 << (end & 7)));
        if first == last {
            self.blend(first, head & tail, fill);
            return;
        }
        self.blend(first, head, fill);
        if let Some(middle) = self.bits.get_mut(first + 1..last) {
            middle.fill(fill);
        }
        self.blend(last, tail, fill);
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

    fn blend(&mut self, byte: usize, mask: u8, fill: u8) {
        if mask != 0
            && let Some(bits) = self.bits.get_mut(byte)
        {
            *bits = *bits & !mask | fill & mask;
        }
    }

    /// Copies the bits of `len` bytes at `addr` from another bitmap of the same arena.
    pub(super) fn copy_from(&mut self, other: &Bitmap, addr: u32, len: u32) {
        let (start, end) = self.clamp(addr, len);
        let (first, last) = ((start >> 3) as usize, (end >> 3) as usize);
        let (head, tail) = (0xff_u8 << (start & 7), !(0xff_u8 << (end & 7)));
        let fill = |byte: usize| other.bits.get(byte).copied().unwrap_or(0);
        if first == last {
            self.blend(first, head & tail, fill(first));
            return;
        }
        self.blend(first, head, fill(first));
        if let (Some(to), Some(from)) = (self.bits.get_mut(first + 1..last), other.bits.get(first + 1..last)) {
            to.copy_from_slice(from);
        }
        self.blend(last, tail, fill(last));
    }

    /// First and end of `len` bytes at `addr`, as far as they are in the arena.
    fn clamp(&self, addr: u32, len: u32) -> (u64, u64) {
        let end = (u64::from(addr) + u64::from(len)).min(self.covered);
        (u64::from(addr).min(end), end)
    }
}
