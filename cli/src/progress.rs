//! The line that says how far a long command is.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that comes to an end at `len`, or one that only moves; `template` is as [`indicatif`] has them. It is drawn on a
/// terminal only: elsewhere it says nothing.
pub(crate) fn bar(len: Option<u64>, template: &str) -> ProgressBar {
    let bar = len.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}
