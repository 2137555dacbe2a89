//! Shortens the input, and zeroes what is left of it.

use super::Try;
use super::bytes::{Bytes, cut_end, zero};

/// One round.
pub(super) fn pass(search: &mut dyn Try) {
    if search.options().shorten_input {
        cut_end(&mut Input(search));
    }
    zero(&mut Input(search));
}

struct Input<'s>(&'s mut dyn Try);

impl Bytes for Input<'_> {
    fn best(&mut self) -> Vec<u8> {
        self.0.best().input.clone()
    }

    fn attempt(&mut self, bytes: Vec<u8>) -> bool {
        let mut candidate = self.0.best().clone();
        candidate.input = bytes;
        self.0.attempt(candidate)
    }
}
