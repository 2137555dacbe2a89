//! Changes of bytes: flips, arithmetic, numbers that matter, blocks copied, deleted and inserted, other lengths.

use crate::rng::Rng;

/// Which lengths bytes may get.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// The most.
    pub(super) max: usize,
    /// Lengths that matter; none where the length is fixed.
    pub(super) likely: &'static [usize],
}

/// Changes the bytes in one way; `other` gives blocks, `number` numbers.
pub(super) fn mutate(
    bytes: &mut Vec<u8>,
    other: &[u8],
    lengths: &Lengths,
    number: impl Fn(&mut Rng) -> u64,
    rng: &mut Rng,
) {
    let is_fixed = lengths.likely.is_empty();
    if !is_fixed && (bytes.is_empty() || rng.one_in(4)) {
        resize(bytes, other, lengths, rng);
        return;
    }
    if bytes.is_empty() {
        return;
    }
    let at = rng.below(bytes.len());
    match rng.below(10) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.next_u64() as u8,
        2 => bytes[at] = rng.pick(&[0, 1, 0x7f, 0x80, 0xff]),
        3 | 4 => add(bytes, rng),
        5..8 => {
            let value = number(rng);
            write(bytes, value, rng);
        }
        8 => {
            let to = rng.below(bytes.len());
            let len = (1 + rng.below(16)).min(bytes.len() - at.max(to));
            bytes.copy_within(at..at + len, to);
        }
        _ => splice(bytes, other, rng),
    }
}

/// One of the sizes that numbers have, as far as there are so many bytes.
fn size(bytes: &[u8], rng: &mut Rng) -> usize {
    let sizes: &[usize] = match bytes.len() {
        0 | 1 => &[1],
        2 | 3 => &[1, 2],
        4..8 => &[1, 2, 4],
        8.. => &[1, 2, 4, 8],
    };
    rng.pick(sizes)
}

/// Adds a small number to a number in the bytes, in either byte order.
fn add(bytes: &mut [u8], rng: &mut Rng) {
    let size = size(bytes, rng);
    let start = rng.below(bytes.len() - size + 1);
    let place = &mut bytes[start..start + size];
    let big = rng.one_in(2);
    if big {
        place.reverse();
    }
    let mut value = [0; 8];
    value[..size].copy_from_slice(place);
    let delta = (1 + rng.below(35) as u64).wrapping_mul(rng.pick(&[1, u64::MAX]));
    let sum = u64::from_le_bytes(value).wrapping_add(delta).to_le_bytes();
    place.copy_from_slice(&sum[..size]);
    if big {
        place.reverse();
    }
}

/// Writes the low bytes of a number, in either byte order.
fn write(bytes: &mut [u8], value: u64, rng: &mut Rng) {
    let size = size(bytes, rng);
    let start = rng.below(bytes.len() - size + 1);
    let place = &mut bytes[start..start + size];
    place.copy_from_slice(&value.to_le_bytes()[..size]);
    if rng.one_in(2) {
        place.reverse();
    }
}

/// Overwrites the bytes from one place on with those of another input.
fn splice(bytes: &mut [u8], other: &[u8], rng: &mut Rng) {
    if other.is_empty() {
        return;
    }
    let at = rng.below(bytes.len());
    // From the same place, as headers stand where they stand; or from another.
    let from = if rng.one_in(2) { at.min(other.len() - 1) } else { rng.below(other.len()) };
    let rest = (bytes.len() - at).min(other.len() - from);
    let len = if rng.one_in(2) { rest } else { 1 + rng.below(rest) };
    bytes[at..at + len].copy_from_slice(&other[from..from + len]);
}

fn resize(bytes: &mut Vec<u8>, other: &[u8], lengths: &Lengths, rng: &mut Rng) {
    match rng.below(6) {
        // Around where headers end, and around where it ended.
        0 => {
            let near = rng.pick(lengths.likely) + rng.below(5);
            bytes.resize(near.saturating_sub(2).min(lengths.max), 0);
        }
        1 => {
            let near = bytes.len() + rng.below(17);
            bytes.resize(near.saturating_sub(8).min(lengths.max), 0);
        }
        2 => bytes.truncate(rng.below(bytes.len() + 1)),
        3 if !bytes.is_empty() => {
            let start = rng.below(bytes.len());
            let len = (1 + rng.below(16)).min(bytes.len() - start);
            bytes.drain(start..start + len);
        }
        4 if !other.is_empty() => {
            // A head of this one, a tail of the other.
            let (keep, from) = (rng.below(bytes.len() + 1), rng.below(other.len()));
            bytes.truncate(keep);
            bytes.extend_from_slice(&other[from..]);
            bytes.truncate(lengths.max);
        }
        _ => {
            let at = rng.below(bytes.len() + 1);
            let len = (1 + rng.below(16)).min(lengths.max.saturating_sub(bytes.len()));
            let fill = if rng.one_in(2) { 0 } else { rng.next_u64() as u8 };
            // A copy of what stands there, as options repeat; or one byte again and again.
            let block: Vec<u8> = match bytes.get(at..at + len) {
                Some(block) if rng.one_in(2) => block.to_vec(),
                Some(_) | None => vec![fill; len],
            };
            bytes.splice(at..at, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_kept() {
        let mut rng = Rng::new(1);
        let (mut fixed, mut free) = (vec![7; 12], vec![7; 12]);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..20_000 {
            mutate(&mut fixed, b"other", &Lengths { max: 0, likely: &[] }, Rng::next_u64, &mut rng);
            assert_eq!(fixed.len(), 12);
            mutate(&mut free, &[9; 100], &Lengths { max: 40, likely: &[0, 14, 34] }, Rng::next_u64, &mut rng);
            assert!(free.len() <= 40);
            seen.insert(free.len());
        }
        assert_eq!(seen.len(), 41);
    }
}
