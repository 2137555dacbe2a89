//! Our own format of vectors: many cases a file, written by hand. `README.md` of this crate describes it.
//!
//! `block.rs` cuts a file into blocks, one a title; `expand.rs` multiplies a block into cases by its tables;
//! `names.rs` holds its names against each other; `assemble.rs` turns program lines into bytecode; `value.rs` reads what stands behind `r0:`, `memory:` and the like.

mod assemble;
mod block;
mod error;
mod expand;
pub mod limits;
mod names;
mod value;

pub use error::{VectorError, VectorErrorKind};
pub(crate) use value::hex;

use crate::case::Case;

/// How the names of files of vectors end.
pub const EXTENSION: &str = "vec";

/// Reads a file; `file` is its name, for errors and reports.
///
/// # Errors
/// The first line that is not understood.
pub fn parse(file: &str, text: &str) -> Result<Vec<Case>, VectorError> {
    let cases = || {
        let blocks = block::blocks(text)?;
        let mut count = 0;
        for block in &blocks {
            count += expand::count(block, limits::MAX_CASES - count)?;
        }
        let mut cases = Vec::with_capacity(count);
        let mut budget = limits::Budget::default();
        for block in &blocks {
            expand::expand(file, block, &mut budget, &mut cases)?;
        }
        Ok(cases)
    };
    cases().map_err(|at: error::At| at.in_file(file))
}
