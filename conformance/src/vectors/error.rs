//! What can be wrong with a file of vectors, and where.

use softbpf::codec::EncodeError;
use softbpf::text::parse::ParseErrorKind;

/// A file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {kind}")]
pub struct VectorError {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1. In a program line: with the values of the row put in.
    pub column: usize,
    /// What is wrong there.
    pub kind: VectorErrorKind,
}

/// Why a file of vectors cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum VectorErrorKind {
    #[error("there is no case yet: one starts with `== title`")]
    NoCase,
    #[error("unknown directive {0:?}")]
    UnknownDirective(String),
    #[error("{0} is given twice")]
    Duplicate(String),
    #[error("the case has no program")]
    NoProgram,
    #[error("the case does not say what must come of it: r0, trap or reject")]
    NoExpectation,
    #[error("the case says more than one of r0, trap and reject")]
    ManyExpectations,
    #[error("expected {expected}, found {found:?}")]
    Expected { expected: &'static str, found: String },
    #[error("nothing is called {{{0}}} here")]
    UnknownPlaceholder(String),
    #[error("the row has {found} cells, the heading {expected}")]
    CellCount { expected: usize, found: usize },
    #[error("a table needs a row")]
    NoRows,
    #[error("two tables in one case; a table has no blank line or other line between its rows")]
    TwoTables,
    #[error("there is no map or data named {0:?}")]
    UnknownSymbol(String),
    #[error("bytes that are not whole slots must be the last")]
    CutInside,
    #[error("more than {most} {what}")]
    TooMany { most: usize, what: &'static str },
    #[error("unknown directive {0:?}; if it is a label: labels are indented, as instructions are")]
    NotIndented(String),
    #[error("{0} gives no case")]
    Empty(String),
    #[error("nothing uses {{{0}}}")]
    Unused(String),
    #[error("a case that is rejected has no {0}")]
    BesideReject(String),
    #[error("{0}")]
    Assembly(#[from] ParseErrorKind),
    #[error("{0}")]
    Encode(#[from] EncodeError),
}

/// An error on a line of the file; the file's name is added once it is known.
#[derive(Debug)]
pub(super) struct At {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) kind: VectorErrorKind,
}

impl At {
    pub(super) fn new(line: usize, column: usize, kind: impl Into<VectorErrorKind>) -> At {
        At { line, column, kind: kind.into() }
    }

    pub(super) fn expected(line: usize, column: usize, expected: &'static str, found: &str) -> At {
        At::new(line, column, VectorErrorKind::Expected { expected, found: found.to_owned() })
    }

    pub(super) fn in_file(self, file: &str) -> VectorError {
        VectorError { file: file.to_owned(), line: self.line, column: self.column, kind: self.kind }
    }
}
