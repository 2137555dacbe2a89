//! Text to instructions: LLVM's assembly, and listings by `llvm-objdump` and `bpftool` as they are pasted.
//!
//! Both dialects are read without being told which, line by line; one line may differ from the next.
//!
//! ```
//! let assembly = softbpf::text::parse::parse(
//!     "       r1 = *(u32 *)(r1 + 4)      ; as clang writes it
//!             if r1 > 1500 goto drop
//!             r0 = 2
//!             exit
//!      drop:
//!        4: (b7) r0 = 1                  // as bpftool lists it
//!        5:\t95 00 00 00 00 00 00 00\texit  # as llvm-objdump lists it",
//! )?;
//! assert_eq!(assembly.code.slot_count(), 6);
//! assert_eq!(assembly.labels["drop"], 4);
//! # Ok::<(), softbpf::text::parse::ParseError>(())
//! ```
//!
//! What is read:
//!
//! - One instruction a line, spelled as [`super::llvm`] or [`super::xlated`] spell it, numbers in decimal or hex.
//!   Immediates of 32 bits are bit patterns: `0xffffffff` is -1, as for LLVM.
//! - Labels: `out:`, the `0000000000000080 <LBB0_3>:` of llvm-objdump, the `int f(void *):` of bpftool.
//! - Targets: `goto out`, `goto +36`, `goto pc+36`; what stands in `<...>` after one says nothing new.
//!   `call f` calls the label of that name, or else the helper of that name.
//! - `r1 = name ll`: the address of the function at a label, or else a [`Reference`] for the caller to resolve.
//! - Comments: `#`, `//` and `;` to the end of the line, and `/* */`. LLVM takes `;` to end a statement. So that
//!   nothing is dropped unseen, an instruction behind one is an error.
//! - Columns of listings: slot numbers are skipped. An opcode in parentheses must be the instruction's, and
//!   tells `(18) r1 = 5` from `(b7) r1 = 5`. Raw bytes must be the instruction's, and tell what the text of
//!   llvm-objdump leaves out: `85 10 00 00 05 00 00 00` `call 0x5` is a call of a local function.
//!
//! Every input ends in instructions or an error, in time proportional to its length. This file knows no operand
//! syntax; that stands in `statement.rs` and `assign.rs`.

mod assign;
mod cursor;
mod error;
mod line;
mod names;
mod statement;
mod ubpf;

use std::collections::BTreeMap;

pub use error::{ParseError, ParseErrorKind};

use crate::codec::Code;
use crate::insn::{Imm64, Insn};
use cursor::{Cursor, Fault};
use line::{Line, Prefix};
use names::Names;
use statement::Statement;

/// What a text says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assembly {
    /// The instructions. Loads of references have [`Reference::value`] for now.
    pub code: Code,
    /// Slots that labels stand at. A label at the end of the text has the number of slots.
    pub labels: BTreeMap<String, usize>,
    /// Loads of addresses that the text only names, in order.
    pub references: Vec<Reference>,
}

/// A 64-bit immediate load of something that the text only names: a map or data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Slot of the load.
    pub slot: usize,
    /// What is loaded.
    pub name: String,
    /// What the load says with 0 for the name: `Value(8)` for `name + 8 ll`, `MapFd(0)` for `map[name]`,
    /// `MapValue { fd: 0, offset: 8 }` for `map[name][0]+8`.
    pub value: Imm64,
}

/// A name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot}: there is no map or data named {name:?}")]
pub struct UnknownSymbol {
    /// Slot of the load.
    pub slot: usize,
    /// The name.
    pub name: String,
}

impl Assembly {
    /// Puts in what the references stand for; `resolve` returns `None` for what it does not know.
    ///
    /// ```
    /// use softbpf::asm::{Imm64, Insn, R1};
    ///
    /// let mut assembly = softbpf::text::parse::parse("r1 = events ll")?;
    /// assembly.bind(|reference| (reference.name == "events").then_some(Imm64::MapFd(3)))?;
    /// assert_eq!(assembly.code.insns(), [Insn::load_map_fd(R1, 3)]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The first reference that `resolve` does not know; those before it are resolved.
    pub fn bind(&mut self, mut resolve: impl FnMut(&Reference) -> Option<Imm64>) -> Result<(), UnknownSymbol> {
        for reference in std::mem::take(&mut self.references) {
            let Some(resolved) = resolve(&reference) else {
                return Err(UnknownSymbol { slot: reference.slot, name: reference.name });
            };
            let index = self.code.index_at(reference.slot);
            if let Some(Insn::LoadImm64 { value, .. }) = index.and_then(|index| self.code.insns_mut().get_mut(index)) {
                *value = resolved;
            }
        }
        Ok(())
    }
}

/// Reads a text in which helpers are called by number.
///
/// # Errors
/// The first line that is not understood, or the first name that is not there.
pub fn parse(text: &str) -> Result<Assembly, ParseError> {
    parse_with(text, &|_| None)
}

/// Reads a text in which helpers may be called by the names that `helpers` knows.
///
/// ```
/// let helpers = |name: &str| (name == "bpf_ktime_get_ns").then_some(5);
/// let assembly = softbpf::text::parse::parse_with("call bpf_ktime_get_ns", &helpers)?;
/// assert_eq!(assembly.code.insns(), [softbpf::asm::Insn::call(5)]);
/// # Ok::<(), softbpf::text::parse::ParseError>(())
/// ```
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, helpers: &dyn Fn(&str) -> Option<i32>) -> Result<Assembly, ParseError> {
    let mut parser = Parser { helpers, insns: Vec::new(), slots: 0, names: Names::default(), after_opcode: false };
    parser.lines(Cursor::new(text)).map_err(|fault| fault.in_text(text))
}

/// Reads a text in the dialect of ubpf's assembler, [`super::ubpf`]. `exit` is a label, of the first exit, unless the
/// text has one of that name.
///
/// ```
/// let assembly = softbpf::text::parse::parse_ubpf(
///     "mov32 %r0, 0xf8
///      jeq %r0, %r1, exit   # to the first exit
///      lock fetch add [%r10-8], %r0
///      exit",
/// )?;
/// assert_eq!(assembly.code.insns()[1].to_string(), "if r0 == r1 goto +0x1");
/// # Ok::<(), softbpf::text::parse::ParseError>(())
/// ```
///
/// # Errors
/// As [`parse`].
pub fn parse_ubpf(text: &str) -> Result<Assembly, ParseError> {
    ubpf::read(text).map_err(|fault| fault.in_text(text))
}

struct Parser<'a> {
    helpers: &'a dyn Fn(&str) -> Option<i32>,
    insns: Vec<Insn>,
    slots: usize,
    names: Names<'a>,
    /// The last instruction came with an opcode; bpftool may show its bytes on the next line.
    after_opcode: bool,
}

impl<'a> Parser<'a> {
    fn lines(&mut self, mut cursor: Cursor<'a>) -> Result<Assembly, Fault> {
        while !cursor.is_empty() {
            self.line(&mut cursor)?;
        }
        let names = std::mem::take(&mut self.names);
        names.resolve(std::mem::take(&mut self.insns), self.helpers)
    }

    fn line(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Fault> {
        let Line { labels, prefix } = line::start(cursor)?;
        for (label, at) in labels {
            self.names.define(label, at, self.slots)?;
        }
        if cursor.at_end_of_statement() {
            // bpftool's `opcodes` line of bytes is the one column that may stand alone.
            if prefix.needs_instruction(self.after_opcode) {
                return Err(cursor.expected("an instruction"));
            }
            self.after_opcode &= prefix.is_empty();
            cursor.skip_line();
            return Ok(());
        }
        self.instruction(cursor, &prefix)?;
        self.after_opcode = prefix.opcode.is_some();
        line::end(cursor, |mut rest| {
            line::start(&mut rest).is_ok() && statement::parse(&mut rest, false).is_ok() && rest.at_end_of_statement()
        })
    }

    fn instruction(&mut self, cursor: &mut Cursor<'a>, prefix: &Prefix) -> Result<(), Fault> {
        let start = cursor.start_of_next();
        let Statement { insn, name } = match prefix.unknown(cursor)? {
            Some(insn) => insn.into(),
            None => statement::parse(cursor, prefix.is_wide_load())?,
        };
        let insn = prefix.check(insn, name.is_some()).map_err(|kind| Fault::new(start, kind))?;
        if let Some(name) = name {
            self.names.use_name(name, self.insns.len(), self.slots);
        }
        self.slots += insn.slots();
        self.insns.push(insn);
        Ok(())
    }
}
