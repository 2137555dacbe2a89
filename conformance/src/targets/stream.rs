//! Raw instruction streams: whatever they do, all engines do the same.

use crate::hostile;
use crate::streams::stream;

/// Slots of the longest seed.
const SLOTS: usize = 48;

/// Runs the bytes as a program over the maps of [`hostile::maps`].
///
/// # Panics
/// Engines disagree.
pub fn run(bytes: &[u8]) {
    if let Some(object) = hostile::object(bytes) {
        hostile::assert_agreement(&object);
    }
}

/// Random streams, and the programs of the fixtures.
pub fn seeds() -> Vec<Vec<u8>> {
    (0..200).map(|seed| stream(seed, SLOTS)).chain(super::decode::programs()).collect()
}
