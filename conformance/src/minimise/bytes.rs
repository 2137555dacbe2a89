//! Bytes made fewer and simpler. What must stay true of them is known to [`Bytes`] only.

/// Bytes, the best so far, that others may take the place of.
pub(crate) trait Bytes {
    /// The best so far.
    fn best(&mut self) -> Vec<u8>;

    /// Takes these if they are as good; whether it does. Those that are there already are not.
    fn attempt(&mut self, bytes: Vec<u8>) -> bool;
}

/// Cuts off as much of the end as can be spared: large pieces, then ever smaller ones.
pub(crate) fn cut_end(of: &mut impl Bytes) {
    let mut size = of.best().len();
    while size > 0 {
        let mut bytes = of.best();
        bytes.truncate(bytes.len().saturating_sub(size));
        if !of.attempt(bytes) {
            size /= 2;
        }
    }
}

/// Leaves out pieces anywhere, large ones first.
pub(crate) fn leave_out(of: &mut impl Bytes) {
    let mut size = of.best().len() / 2;
    while size > 0 {
        let mut start = 0;
        loop {
            let mut bytes = of.best();
            if start + size > bytes.len() {
                break;
            }
            bytes.drain(start..start + size);
            if !of.attempt(bytes) {
                start += size;
            }
        }
        size /= 2;
    }
}

/// Zeroes pieces, large ones first.
pub(crate) fn zero(of: &mut impl Bytes) {
    let len = of.best().len();
    let mut size = len;
    while size > 0 {
        for start in (0..len).step_by(size) {
            let mut bytes = of.best();
            bytes[start..len.min(start + size)].fill(0);
            of.attempt(bytes);
        }
        size /= 2;
    }
}

/// Makes what must not be 0 less, bit by bit.
pub(crate) fn clear_bits(of: &mut impl Bytes) {
    let len = of.best().len();
    for (at, bit) in (0..len).flat_map(|at| (0..8).rev().map(move |bit| (at, 1 << bit))) {
        let mut bytes = of.best();
        bytes[at] &= !bit;
        of.attempt(bytes);
    }
}

/// How often a length is lowered, by whatever, at most.
const MAX_LENGTHS: u32 = 1_000;

/// How a field says how long something is.
#[derive(Debug, Clone, Copy)]
enum Length {
    /// Bytes, in one byte.
    One,
    /// Bytes, in two, of which the first counts more.
    Big,
    /// Bytes, in two, of which the last counts more.
    Little,
    /// Words of four bytes, in the lower half of a byte, as IPv4 has its header's.
    LowerHalf,
    /// Words of four bytes, in the upper half of a byte, as TCP has its header's.
    UpperHalf,
}

impl Length {
    const ALL: [Length; 5] = [Length::One, Length::Big, Length::Little, Length::LowerHalf, Length::UpperHalf];

    /// Bytes of the field.
    fn size(self) -> usize {
        match self {
            Length::One | Length::LowerHalf | Length::UpperHalf => 1,
            Length::Big | Length::Little => 2,
        }
    }

    /// What one of its units stands for, in bytes.
    fn unit(self) -> usize {
        match self {
            Length::One | Length::Big | Length::Little => 1,
            Length::LowerHalf | Length::UpperHalf => 4,
        }
    }

    /// What the field says, in units; `None` where it does not lie in the bytes.
    fn get(self, bytes: &[u8], at: usize) -> Option<usize> {
        let field = bytes.get(at..at + self.size())?;
        let two = || Some([*field.first()?, *field.last()?]);
        Some(match self {
            Length::One => usize::from(field[0]),
            Length::Big => u16::from_be_bytes(two()?).into(),
            Length::Little => u16::from_le_bytes(two()?).into(),
            Length::LowerHalf => usize::from(field[0] & 0x0f),
            Length::UpperHalf => usize::from(field[0] >> 4),
        })
    }

    /// Makes it say less.
    fn lower(self, bytes: &mut [u8], at: usize, by: usize) {
        let Some(left) = self.get(bytes, at).and_then(|length| length.checked_sub(by)) else { return };
        match self {
            Length::One => bytes[at] = left as u8,
            Length::Big => bytes[at..at + 2].copy_from_slice(&(left as u16).to_be_bytes()),
            Length::Little => bytes[at..at + 2].copy_from_slice(&(left as u16).to_le_bytes()),
            Length::LowerHalf => bytes[at] = bytes[at] & 0xf0 | left as u8,
            Length::UpperHalf => bytes[at] = bytes[at] & 0x0f | (left as u8) << 4,
        }
    }
}

/// Lowers fields that may be the length of something, and cuts so many bytes: off the end, behind the field, or off the end of
/// what it is the length of if that comes right behind it. It lowers [`MAX_LENGTHS`] times at most: there is a field for every
/// byte that is not 0.
pub(crate) fn shorten_with_lengths(of: &mut impl Bytes) {
    let (mut at, mut left) = (0, MAX_LENGTHS);
    while at < of.best().len() {
        for length in Length::ALL {
            let mut by = length.get(&of.best(), at).unwrap_or(0).min(of.best().len() / length.unit());
            while by > 0 && left > 0 {
                left -= 1;
                let candidates = cuts(&of.best(), at, length, by);
                if !candidates.into_iter().flatten().any(|candidate| of.attempt(candidate)) {
                    by /= 2;
                }
            }
        }
        at += 1;
    }
}

/// The bytes with a field lowered, cut in three places.
fn cuts(bytes: &[u8], at: usize, length: Length, by: usize) -> [Option<Vec<u8>>; 3] {
    let (cut, behind) = (by * length.unit(), at + length.size());
    let said = length.get(bytes, at).filter(|&said| said >= by).map(|said| said * length.unit());
    let places = [bytes.len().checked_sub(cut), said.map(|said| behind + said - cut), Some(behind)];
    std::array::from_fn(|place| {
        let start = places[place].filter(|&start| said.is_some() && start >= behind)?;
        if places[..place].contains(&Some(start)) {
            return None;
        }
        let mut left = bytes.to_vec();
        length.lower(&mut left, at, by);
        left.get(start..start + cut)?;
        left.drain(start..start + cut);
        Some(left)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Judged<F>(Vec<u8>, F);

    impl<F: Fn(&[u8]) -> bool> Bytes for Judged<F> {
        fn best(&mut self) -> Vec<u8> {
            self.0.clone()
        }

        fn attempt(&mut self, bytes: Vec<u8>) -> bool {
            let better = bytes != self.0 && self.1(&bytes);
            if better {
                self.0 = bytes;
            }
            better
        }
    }

    /// What is left of the bytes when only lengths and what they stand for may change.
    fn shortened(bytes: &[u8], good: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        assert!(good(bytes));
        let mut judged = Judged(bytes.to_vec(), good);
        shorten_with_lengths(&mut judged);
        judged.0
    }

    #[test]
    fn a_length_of_all_goes_down_with_it() {
        let big = |bytes: &[u8]| bytes.len() >= 6 && bytes[2..4] == (bytes.len() as u16).to_be_bytes();
        let from = [&[9, 9, 1, 44][..], &[7; 296]].concat();
        assert_eq!(shortened(&from, big), [9, 9, 0, 6, 7, 7]);
        let little = |bytes: &[u8]| bytes.len() >= 3 && bytes[..2] == (bytes.len() as u16 - 2).to_le_bytes();
        assert_eq!(shortened(&[&[44, 1][..], &[7; 300]].concat(), little), [1, 0, 7]);
    }

    #[test]
    fn what_comes_behind_stays() {
        // A name behind its length, of which the first byte matters, and something behind it.
        let name = |bytes: &[u8]| {
            let end = 2 + usize::from(bytes[1]);
            bytes.get(end..) == Some(&[3, 4]) && bytes[2] == 5
        };
        assert_eq!(shortened(&[&[0, 20][..], &[5; 20], &[3, 4]].concat(), name), [0, 1, 5, 3, 4]);
        // One of which the last byte matters.
        let name = |bytes: &[u8]| {
            let end = 2 + usize::from(bytes[1]);
            bytes.get(end..) == Some(&[3, 4]) && bytes[end - 1] == 6
        };
        let from = [&[0, 21][..], &[5; 20], &[6, 3, 4]].concat();
        assert_eq!(shortened(&from, name), [0, 1, 6, 3, 4]);
    }

    #[test]
    fn headers_count_in_words() {
        let lower =
            |bytes: &[u8]| bytes[0] >> 4 == 4 && bytes.len() == 4 * usize::from(bytes[0] & 15) && bytes.len() >= 20;
        assert_eq!(shortened(&[&[0x4f][..], &[0; 59]].concat(), lower), [&[0x45][..], &[0; 19]].concat());
        let upper =
            |bytes: &[u8]| bytes[12] & 15 == 2 && bytes.len() == 4 * usize::from(bytes[12] >> 4) && bytes.len() >= 20;
        let from = [&[0; 12][..], &[0xf2], &[0; 47]].concat();
        assert_eq!(shortened(&from, upper), [&[0; 12][..], &[0x52], &[0; 7]].concat());
    }

    #[test]
    fn what_is_no_length_stays() {
        let from: Vec<u8> = (0..=255).collect();
        assert_eq!(shortened(&from, |bytes| bytes.len() == 256), from);
        assert_eq!(shortened(&[], |_| true), []);
    }
}
