//! Program lines to bytecode: assembly as LLVM writes it, and three words of our own.
//!
//! - `repeat 1000: r0 += 1`: the line so many times.
//! - `slot 0x07 dst=1 src=2 off=3 imm=4`: eight bytes by field, valid or not; fields not named are 0.
//! - `bytes b7 00 00 00 05 00 00 00`: bytes as they are; the last ones may be fewer than eight.

use softbpf::codec::SLOT_BYTES;
use softbpf::helpers::table;
use softbpf::insn::Imm64;
use softbpf::text::parse::{Reference, parse_with};

use super::error::{At, VectorErrorKind};
use super::limits::{Budget, LINE_COST, MAX_LINES, too_many};
use super::value::Value;
use crate::case::PROGRAM_ARRAY;

/// Bytes that stand in the program where the assembler was given something else.
struct Patch {
    label: String,
    bytes: Vec<u8>,
}

struct Source<'b> {
    budget: &'b mut Budget,
    text: String,
    /// Line of the file of each line of `text`.
    lines: Vec<usize>,
    patches: Vec<Patch>,
    /// Bytes that no line has come behind yet: at the end of the program, they need no instructions in their place.
    pending: Vec<u8>,
}

/// The bytecode of a program: its lines, with their numbers, all values put in.
pub(super) fn assemble(lines: &[(usize, String)], budget: &mut Budget) -> Result<Vec<u8>, At> {
    let mut source =
        Source { budget, text: String::new(), lines: Vec::new(), patches: Vec::new(), pending: Vec::new() };
    for (number, line) in lines {
        source.line(*number, line)?;
    }
    source.bytecode()
}

impl Source<'_> {
    fn line(&mut self, number: usize, line: &str) -> Result<(), At> {
        let indent = line.len() - line.trim_start().len();
        let (word, rest) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        let value = |text: &str| Value { line: number, column: indent + 1, text: text.trim().to_owned() };
        match word {
            "repeat" => {
                let Some((times, line)) = rest.split_once(':') else {
                    return Err(At::expected(number, indent + 1, "`repeat N: instruction`", line));
                };
                self.repeat(number, value(times).size()?, line)
            }
            "slot" => self.bytes(number, slot(&value(rest))?),
            "bytes" => {
                let bytes = value(rest).bytes(self.budget)?;
                self.bytes(number, bytes)
            }
            _ => self.repeat(number, 1, line),
        }
    }

    /// The line so many times. Counted before any is there.
    fn push(&mut self, number: usize, times: usize, line: &str) -> Result<(), At> {
        if self.lines.len().saturating_add(times) > MAX_LINES {
            return Err(too_many(number, 1, MAX_LINES, "instructions"));
        }
        self.budget.take(number, 1, times.saturating_mul(LINE_COST.max(line.len() + 1)))?;
        for _ in 0..times {
            self.text.push_str(line);
            self.text.push('\n');
            self.lines.push(number);
        }
        Ok(())
    }

    fn repeat(&mut self, number: usize, times: usize, line: &str) -> Result<(), At> {
        self.flush(number)?;
        self.push(number, times, line)
    }

    fn bytes(&mut self, number: usize, bytes: Vec<u8>) -> Result<(), At> {
        self.flush(number)?;
        self.pending = bytes;
        Ok(())
    }

    /// Puts as many instructions in place of the pending bytes, under a label that says later where that is.
    fn flush(&mut self, number: usize) -> Result<(), At> {
        let bytes = std::mem::take(&mut self.pending);
        if !bytes.len().is_multiple_of(SLOT_BYTES) {
            return Err(At::new(number, 1, VectorErrorKind::CutInside));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let label = format!(".bytes.{}", self.patches.len());
        self.push(number, 1, &format!("{label}:"))?;
        self.push(number, bytes.len() / SLOT_BYTES, "exit")?;
        self.patches.push(Patch { label, bytes });
        Ok(())
    }

    fn bytecode(self) -> Result<Vec<u8>, At> {
        let helper = |name: &str| table::by_name(name).map(|row| row.number);
        let mut assembly = parse_with(&self.text, &helper).map_err(|error| {
            let line = self.lines.get(error.line - 1).or(self.lines.last()).copied().unwrap_or(1);
            At::new(line, error.column, error.kind)
        })?;
        let first_line = self.lines.first().copied().unwrap_or(1);
        let program_array = |reference: &Reference| (reference.name == PROGRAM_ARRAY).then_some(Imm64::MapFd(0));
        assembly
            .bind(program_array)
            .map_err(|unknown| At::new(first_line, 1, VectorErrorKind::UnknownSymbol(unknown.name)))?;
        let mut bytes = assembly.code.encode().map_err(|error| At::new(first_line, 1, error))?;
        for patch in &self.patches {
            let start = assembly.labels.get(&patch.label).copied().unwrap_or(0) * SLOT_BYTES;
            if let Some(place) = bytes.get_mut(start..start + patch.bytes.len()) {
                place.copy_from_slice(&patch.bytes);
            }
        }
        bytes.extend(self.pending);
        Ok(bytes)
    }
}

/// The fields of a slot, in the order of [`FIELDS`].
const FIELDS: [&str; 4] = ["dst", "src", "off", "imm"];

/// `0x07 dst=1 src=2 off=3 imm=4`.
fn slot(fields: &Value) -> Result<Vec<u8>, At> {
    let mut words = fields.text.split_whitespace();
    let at = |text: &str| Value { text: text.to_owned(), ..fields.clone() };
    let expected = || fields.expected("an opcode, then any of dst=, src=, off= and imm=");
    // Signed or a bit pattern: so many bits of either.
    let field = |text: &str, bits: u32, signed: bool, range: &'static str| {
        let value = at(text);
        let number = value.number()?;
        let negative = (number as i64).wrapping_neg() as u64;
        let fits = number < 1 << bits || signed && number > 1 << 63 && negative <= 1 << (bits - 1);
        if fits { Ok(number) } else { Err(value.expected(range)) }
    };
    let opcode = field(words.next().ok_or_else(expected)?, 8, false, "an opcode of 8 bits")? as u8;
    let mut bytes = vec![opcode, 0, 0, 0, 0, 0, 0, 0];
    let mut given = [false; FIELDS.len()];
    for word in words {
        let (name, number) = word.split_once('=').ok_or_else(expected)?;
        let index = FIELDS.iter().position(|&field| field == name).ok_or_else(expected)?;
        if std::mem::replace(&mut given[index], true) {
            return Err(At::new(fields.line, fields.column, VectorErrorKind::Duplicate(name.to_owned())));
        }
        match name {
            "dst" => bytes[1] |= field(number, 4, false, "a dst from 0 to 15")? as u8,
            "src" => bytes[1] |= (field(number, 4, false, "a src from 0 to 15")? as u8) << 4,
            "off" => {
                let off = field(number, 16, true, "an off of 16 bits")? as u16;
                bytes[2..4].copy_from_slice(&off.to_le_bytes());
            }
            _ => {
                let imm = field(number, 32, true, "an imm of 32 bits")? as u32;
                bytes[4..8].copy_from_slice(&imm.to_le_bytes());
            }
        }
    }
    Ok(bytes)
}
