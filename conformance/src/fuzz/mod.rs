//! Fuzzing on stable Rust: campaigns that a command or a test runs for as long as it likes, and that report each finding
//! once, minimised.
//!
//! [`guided`] varies the input of one program and looks for what it does wrong. [`isa`] generates programs and looks for
//! implementations that disagree.

pub mod guided;
pub mod isa;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a run comes to, or what it says when it panics: that is a bug of what runs, and a finding like others. A machine that
/// was cut off can be loaded again.
fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        text.unwrap_or("without a word").to_owned()
    })
}
