//! The format of the public bpf_conformance suite: one test a file, in sections that start with `-- name`.
//!
//! Read as that suite's runner reads it: `raw` comes before `asm`, comments start with `#`, the last line of a section
//! of one value counts, and sections that say nothing about the test are passed over (`c`, `no register offset`). Here
//! only: `raw` may hold single bytes as two hex digits, and an empty `error` stands for any error.

use softbpf::check::{OutOfRangeShifts, Rules};
use softbpf::codec::EncodeError;
use softbpf::text::parse::{ParseErrorKind, parse_ubpf};

use crate::case::{Case, End, Expect, Input};

/// How the names of such files end.
pub const EXTENSION: &str = "data";

/// A file that cannot be read, or holds nothing to run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {kind}")]
pub struct DataError {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Character of the line, from 1.
    pub column: usize,
    /// What is wrong there.
    pub kind: DataErrorKind,
}

/// Why a file is no test.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum DataErrorKind {
    #[error("unknown section {0:?}")]
    UnknownSection(String),
    #[error("there are no instructions, only source in C or nothing at all")]
    NoInstructions,
    #[error("neither a result nor an error is expected")]
    NoExpectation,
    #[error("expected {expected}, found {found:?}")]
    Expected { expected: &'static str, found: String },
    #[error("{0}")]
    Assembly(#[from] ParseErrorKind),
    #[error("{0}")]
    Encode(#[from] EncodeError),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Ignored,
    Assembly,
    Raw,
    Memory,
    Result,
    Error,
}

/// What the file says, section by section.
#[derive(Default)]
struct Sections {
    /// As many lines as the file has, so that errors have the right one.
    assembly: String,
    has_assembly: bool,
    raw: Vec<u8>,
    memory: Vec<u8>,
    result: Option<u64>,
    error: bool,
}

/// Reads a file; `file` is its name, for errors and reports.
///
/// # Errors
/// The first line that is not understood, or what the file lacks.
pub fn parse(file: &str, text: &str) -> Result<Case, DataError> {
    let at = |line, column, kind| DataError { file: file.to_owned(), line, column, kind };
    let mut sections = Sections::default();
    let mut section = Section::Ignored;
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let error = |kind| at(index + 1, 1, kind);
        match heading(line) {
            Some(name) => {
                section = Section::named(name).map_err(error)?;
                sections.error |= section == Section::Error;
            }
            None if line.trim().is_empty() => {}
            None => sections.line(section, line).map_err(error)?,
        }
        sections.assembly.push('\n');
    }
    let bytes = sections.bytecode().map_err(|(line, column, kind)| at(line, column, kind))?;
    let end = match (sections.result, sections.error) {
        (Some(result), _) => End::Returns(result),
        (None, true) => End::Fails,
        (None, false) => return Err(at(1, 1, DataErrorKind::NoExpectation)),
    };
    let name = file.rsplit('/').next().unwrap_or(file);
    Ok(Case {
        file: file.to_owned(),
        line: 1,
        title: name.strip_suffix(".data").unwrap_or(name).to_owned(),
        programs: vec![("main".to_owned(), bytes)],
        input: Input::Memory(sections.memory),
        rules: Rules { out_of_range_shifts: OutOfRangeShifts::Mask },
        mock_helper_5: true,
        fuel: None,
        expect: Expect { end, after: None, instructions: None },
    })
}

/// The name of a section that starts here.
fn heading(line: &str) -> Option<&str> {
    line.split_once("--").map(|(_, name)| name.trim())
}

impl Section {
    fn named(name: &str) -> Result<Section, DataErrorKind> {
        Ok(match name {
            "asm" => Section::Assembly,
            "raw" => Section::Raw,
            "mem" => Section::Memory,
            "result" => Section::Result,
            "error" => Section::Error,
            "c" | "no register offset" => Section::Ignored,
            _ => return Err(DataErrorKind::UnknownSection(name.to_owned())),
        })
    }
}

impl Sections {
    fn line(&mut self, section: Section, line: &str) -> Result<(), DataErrorKind> {
        match section {
            Section::Ignored => {}
            Section::Assembly => {
                self.assembly.push_str(line);
                self.has_assembly = true;
            }
            Section::Raw => {
                for word in line.split_whitespace() {
                    self.raw.extend(raw_word(word)?);
                }
            }
            Section::Memory => {
                for word in line.split_whitespace() {
                    let digits = word.strip_prefix("0x").unwrap_or(word);
                    self.memory.push(byte(digits).ok_or_else(|| expected("bytes in hex", word))?);
                }
            }
            Section::Result => self.result = Some(number(line.trim())?),
            Section::Error => self.error = true,
        }
        Ok(())
    }

    fn bytecode(&mut self) -> Result<Vec<u8>, (usize, usize, DataErrorKind)> {
        if !self.raw.is_empty() {
            return Ok(std::mem::take(&mut self.raw));
        }
        if !self.has_assembly {
            return Err((1, 1, DataErrorKind::NoInstructions));
        }
        let assembly =
            parse_ubpf(&self.assembly).map_err(|error| (error.line, error.column, DataErrorKind::from(error.kind)))?;
        assembly.code.encode().map_err(|error| (1, 1, DataErrorKind::from(error)))
    }
}

fn expected(expected: &'static str, found: &str) -> DataErrorKind {
    DataErrorKind::Expected { expected, found: found.to_owned() }
}

fn number(text: &str) -> Result<u64, DataErrorKind> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.map_err(|_| expected("a number of 64 bits", text))
}

/// One or two hex digits, no sign.
fn byte(digits: &str) -> Option<u8> {
    if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// An instruction slot as a 64-bit number, or one byte as two hex digits.
fn raw_word(word: &str) -> Result<Vec<u8>, DataErrorKind> {
    if word.len() == 2 {
        return byte(word).map(|byte| vec![byte]).ok_or_else(|| expected("a byte in hex", word));
    }
    number(word).map(|slot| slot.to_le_bytes().to_vec())
}
