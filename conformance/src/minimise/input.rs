//! Shortens the input, and zeroes what is left of it.

use super::Try;

/// One round.
pub(super) fn pass(search: &mut dyn Try) {
    if search.options().shorten_input {
        shorten(search);
    }
    zero(search);
}

/// Cuts off as much of the end as can be spared: by halves, then ever less.
fn shorten(search: &mut dyn Try) {
    let mut step = search.best().input.len();
    while step > 0 {
        let mut candidate = search.best().clone();
        let left = candidate.input.len().saturating_sub(step);
        candidate.input.truncate(left);
        if !search.attempt(candidate) {
            step /= 2;
        }
    }
}

/// Zeroes ranges of bytes, large ones first.
fn zero(search: &mut dyn Try) {
    let mut size = search.best().input.len();
    while size > 0 {
        for start in (0..search.best().input.len()).step_by(size) {
            let mut candidate = search.best().clone();
            let end = (start + size).min(candidate.input.len());
            candidate.input[start..end].fill(0);
            search.attempt(candidate);
        }
        size /= 2;
    }
}
