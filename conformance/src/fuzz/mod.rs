//! Fuzzing on stable Rust: campaigns that a command or a test runs for as long as it likes.
//!
//! [`guided`] varies the input of one program and looks for what it does wrong.

pub mod guided;
