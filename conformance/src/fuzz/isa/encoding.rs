//! Programs of three instructions, the middle one of which is none, or none that may stand there: they must be refused.

use softbpf::check::check_with;
use softbpf::codec::{Code, SLOT_BYTES, encode_one};

use super::key::About;
use crate::case::{check_reason, decode_reason};
use crate::coverage::every_row;
use crate::plugin::MASK;
use crate::rng::Rng;

/// Bytes that must be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) bytes: Vec<u8>,
    /// What vectors call the reason.
    pub(super) reason: String,
    /// Where it is.
    pub(super) slot: usize,
}

/// `r0 = 0`.
const ZERO: [u8; SLOT_BYTES] = [0xb7, 0, 0, 0, 0, 0, 0, 0];
/// `exit`.
const EXIT: [u8; SLOT_BYTES] = [0x95, 0, 0, 0, 0, 0, 0, 0];

impl Bad {
    /// The bytes with this number; `None` when nothing is wrong with them.
    pub(super) fn from_seed(seed: u64) -> Option<Bad> {
        let mut rng = Rng::new(seed);
        let row = rng.pick(&every_row());
        let mut middle = encode_one(&row).ok()?.to_vec();
        damage(&mut middle, &mut rng);
        let mut bytes = [&ZERO[..], &middle, &EXIT].concat();
        if rng.one_in(32) {
            // The end is cut off, or all of it.
            bytes.truncate(rng.pick(&[0, 1, 2]) * SLOT_BYTES + rng.pick(&[0, 0, 4]));
        }
        let (reason, slot) = why_refused(&bytes)?;
        Some(Bad { bytes, reason, slot })
    }

    /// What a finding with these bytes is about.
    pub(super) fn about(&self) -> About {
        let class = self.bytes.get(self.slot * SLOT_BYTES).copied().unwrap_or(0) & 7;
        About::Encoding { reason: self.reason.clone(), class }
    }
}

/// Changes one field of an instruction's bytes.
fn damage(bytes: &mut [u8], rng: &mut Rng) {
    let number = rng.pick(&[1, -1, 2, 0x40, 0x7fff_ffff, rng.clone().next_u64() as i32]);
    match rng.below(6) {
        0 => bytes[0] = rng.next_u64() as u8,
        1 => bytes[1] = bytes[1] & 0xf0 | rng.pick(&[1, 10, 11, 15]),
        2 => bytes[1] = bytes[1] & 0x0f | rng.pick(&[1, 2, 7, 10, 11, 15]) << 4,
        3 => bytes[2..4].copy_from_slice(&(number as i16).to_le_bytes()),
        4 => bytes[4..8].copy_from_slice(&number.to_le_bytes()),
        _ => {
            // The second slot of a wide load; for others, the operation with what is reserved for it.
            let at = rng.below(bytes.len());
            bytes[at] = rng.next_u64() as u8;
        }
    }
}

/// Why bytes are refused by the rules of RFC 9669, and at which slot; `None` when they are not.
pub(super) fn why_refused(bytes: &[u8]) -> Option<(String, usize)> {
    match Code::decode(bytes) {
        Err(error) => Some((decode_reason(&error.kind), error.slot)),
        Ok(code) => {
            let error = check_with(&code, MASK).err()?;
            Some((check_reason(&error.kind).to_owned(), error.slot))
        }
    }
}
