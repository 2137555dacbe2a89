//! Fuzzing on stable Rust: campaigns that a command or a test runs for as long as it likes, and that report each finding
//! once, minimised.
//!
//! [`guided`] varies the input of one program and looks for what it does wrong. [`isa`] generates programs and looks for
//! implementations that disagree.

pub mod guided;
pub mod isa;
