//! How much a file of vectors may ask for, so that a small file cannot take all memory or time.

use super::error::{At, VectorErrorKind};

/// Most cases of a file.
pub const MAX_CASES: usize = 100_000;
/// Most bytes of a line, as it stands in the file and with its placeholders filled in.
pub const MAX_LINE: usize = 1 << 16;
/// Most bytes of all cases of a file: programs, as text and as bytecode, memory and packets, titles, names.
pub const MAX_TOTAL: usize = 24 << 20;
/// Most lines of a program once they are repeated: more than the structural check allows.
pub const MAX_LINES: usize = 1_100_000;
/// What a program line counts in [`MAX_TOTAL`] if its text is shorter: to assemble it takes time.
pub(super) const LINE_COST: usize = 16;
/// Most programs of a case.
pub const MAX_PROGRAMS: usize = 64;
/// Most `each` lines of a case.
pub const MAX_EACHES: usize = 16;
/// Most columns of a table.
pub const MAX_COLUMNS: usize = 64;
/// Most rows of a table.
pub const MAX_ROWS: usize = 10_000;
/// Most bytes of a value: more than the longest program has.
pub const MAX_BYTES: usize = 9_000_000;

/// What is left of [`MAX_TOTAL`].
pub(super) struct Budget(usize);

impl Default for Budget {
    fn default() -> Budget {
        Budget(MAX_TOTAL)
    }
}

impl Budget {
    /// To be asked before the bytes are built.
    pub(super) fn take(&mut self, line: usize, column: usize, bytes: usize) -> Result<(), At> {
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| too_many(line, column, MAX_TOTAL, "bytes in all cases"))?;
        Ok(())
    }
}

pub(super) fn too_many(line: usize, column: usize, most: usize, what: &'static str) -> At {
    At::new(line, column, VectorErrorKind::TooMany { most, what })
}
