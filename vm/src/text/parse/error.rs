//! What can be wrong with a text, and where.

use crate::asm::FarTarget;
use crate::codec::{DecodeErrorKind, EncodeErrorKind};

/// A text that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {kind}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ParseErrorKind {
    #[error("expected {expected}, found {}", if found.is_empty() { "the end of the line" } else { found })]
    Expected { expected: &'static str, found: String },
    #[error("expected a number from {min} to {max}")]
    NumberOutOfRange { min: i128, max: i128 },
    #[error("numbers with a leading 0 are octal to some assemblers and decimal to others")]
    LeadingZero,
    #[error("expected {expected}: the instruction takes no other register here")]
    OtherRegister { expected: String },
    #[error("no such instruction: {0}")]
    NoEncoding(#[from] EncodeErrorKind),
    #[error("the opcode before this instruction is {written:#04x}, but its own is {own:#04x}")]
    OtherOpcode { written: u8, own: u8 },
    #[error("the bytes before this instruction are those of `{bytes}`")]
    OtherBytes { bytes: crate::insn::Insn },
    #[error("the bytes before this text are not an instruction: {0}")]
    Undecodable(#[from] DecodeErrorKind),
    #[error("an instruction behind `;`, which starts a comment here: give it a line of its own")]
    AfterSemicolon,
    #[error("this comment has no end")]
    UnterminatedComment,
    #[error("there is no label {0:?}")]
    UnknownLabel(String),
    #[error("there is no label and no helper {0:?}")]
    UnknownFunction(String),
    #[error("label {label:?} already stands at slot {first}")]
    DuplicateLabel { label: String, first: usize },
    #[error("this label is {0}")]
    FarTarget(#[from] FarTarget),
}
