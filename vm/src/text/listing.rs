//! A whole object as `llvm-objdump -d` lists it, line for line.
//!
//! Takes names, bytes and symbols, and knows no file format. Follows llvm-objdump 19: which of several symbols
//! at one place is shown, what a target is called, how zeros are skipped. One difference: bytes whose reserved
//! fields are not zero are [`UNKNOWN`] here, while LLVM often ignores those fields.

use std::fmt;

use super::llvm::{Spelling, UNKNOWN, text};
use crate::codec::{DecodeErrorKind, SLOT_BYTES, decode_one};
use crate::insn::Insn;

/// Longer runs of zeros than this many bytes are shown as `...`.
const SHOWN_ZEROS: usize = 7;

/// What to list. [`fmt::Display`] writes the listing.
///
/// ```
/// use softbpf::text::listing::{Listing, ListingSection, ListingSymbol, SymbolKind};
///
/// let bytes = [0xb7, 0, 0, 0, 7, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
/// let symbols = vec![ListingSymbol { name: "seven", offset: 0, kind: SymbolKind::Function }];
/// let listing = Listing::new("seven.o", vec![ListingSection { name: "socket", bytes: &bytes, symbols }]);
/// assert_eq!(
///     listing.to_string(),
///     "\nseven.o:\tfile format elf64-bpf\n\
///      \nDisassembly of section socket:\n\
///      \n0000000000000000 <seven>:\n       \
///      0:\tb7 00 00 00 07 00 00 00\tr0 = 0x7\n       \
///      1:\t95 00 00 00 00 00 00 00\texit\n"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<'a> {
    /// The file's name, as given on the command line.
    pub file: &'a str,
    /// The sections to list, in the order of the file: those with code (`SHF_EXECINSTR`) and bytes.
    pub sections: Vec<ListingSection<'a>>,
    /// Show the bytes of each instruction; off for `--no-show-raw-insn`.
    pub raw_bytes: bool,
    /// Whose spelling of instructions; [`Spelling::Objdump`] for `llvm-objdump -d`.
    pub spelling: Spelling,
}

/// A section with code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingSection<'a> {
    /// The section's name.
    pub name: &'a str,
    /// Its contents.
    pub bytes: &'a [u8],
    /// The symbols defined in it, in any order.
    pub symbols: Vec<ListingSymbol<'a>>,
}

/// A symbol of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListingSymbol<'a> {
    /// The symbol's name.
    pub name: &'a str,
    /// Bytes from the start of the section.
    pub offset: u64,
    /// What it names.
    pub kind: SymbolKind,
}

/// What a symbol names: the `STT_*` of its entry in the symbol table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SymbolKind {
    /// `STT_NOTYPE`: a label.
    Label,
    /// `STT_OBJECT`: data; what it covers is listed as bytes.
    Data,
    /// `STT_FUNC`.
    Function,
    /// `STT_SECTION`: not shown.
    Section,
    /// `STT_FILE`: not shown.
    File,
    /// Any other.
    Other,
}

impl<'a> Listing<'a> {
    /// The listing that `llvm-objdump -d` makes.
    pub fn new(file: &'a str, sections: Vec<ListingSection<'a>>) -> Listing<'a> {
        Listing { file, sections, raw_bytes: true, spelling: Spelling::Objdump }
    }
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}:\tfile format elf64-bpf", self.file)?;
        self.sections.iter().filter(|section| !section.bytes.is_empty()).try_for_each(|section| {
            let symbols = shown_symbols(section);
            SectionListing { listing: self, bytes: section.bytes, symbols: &symbols }.fmt(f, section.name)
        })
    }
}

/// The symbols that take part, sorted as llvm-objdump does, with one at the start.
fn shown_symbols<'a>(section: &ListingSection<'a>) -> Vec<ListingSymbol<'a>> {
    let hidden = |kind| matches!(kind, SymbolKind::Section | SymbolKind::File);
    let mut symbols: Vec<_> =
        section.symbols.iter().copied().filter(|symbol| !symbol.name.is_empty() && !hidden(symbol.kind)).collect();
    if symbols.iter().all(|symbol| symbol.offset != 0) {
        symbols.push(ListingSymbol { name: section.name, offset: 0, kind: SymbolKind::Function });
    }
    symbols.sort_by_key(|symbol| (symbol.offset, symbol.name, symbol.kind));
    symbols
}

struct SectionListing<'a> {
    listing: &'a Listing<'a>,
    bytes: &'a [u8],
    symbols: &'a [ListingSymbol<'a>],
}

impl SectionListing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
        writeln!(f, "\nDisassembly of section {name}:")?;
        let mut groups = self.symbols.chunk_by(|a, b| a.offset == b.offset).peekable();
        while let Some(here) = groups.next() {
            let offset = |group: &[ListingSymbol<'_>]| usize::try_from(group[0].offset).unwrap_or(usize::MAX);
            let start = offset(here);
            let end = groups.peek().map_or(usize::MAX, |next| offset(next)).min(self.bytes.len());
            if start >= end {
                continue;
            }
            // The last symbol that is not data names the place; only data alone makes it data.
            let code = here.iter().rfind(|symbol| symbol.kind != SymbolKind::Data);
            let shown = code.unwrap_or(&here[here.len() - 1]);
            writeln!(f, "\n{start:016x} <{}>:", shown.name)?;
            match code {
                Some(_) => self.fmt_code(f, start, end)?,
                None => self.fmt_data(f, start, end)?,
            }
        }
        Ok(())
    }

    fn fmt_code(&self, f: &mut fmt::Formatter<'_>, start: usize, end: usize) -> fmt::Result {
        let mut at = start;
        while at < end {
            let zeros = self.bytes[at..end].iter().take_while(|&&byte| byte == 0).count();
            if zeros > SHOWN_ZEROS {
                writeln!(f, "\t\t...")?;
                // What follows starts at a multiple of four.
                at += zeros & !3;
                continue;
            }
            at += self.fmt_insn(f, at)?;
        }
        Ok(())
    }

    /// Writes the line of the instruction at `at`; how many bytes it took.
    fn fmt_insn(&self, f: &mut fmt::Formatter<'_>, at: usize) -> Result<usize, fmt::Error> {
        let rest = &self.bytes[at..];
        let decoded = decode_one(rest);
        let length = match decoded {
            Ok(insn) => insn.slots() * SLOT_BYTES,
            Err(DecodeErrorKind::CutSlot { .. } | DecodeErrorKind::CutWideLoad) => 1,
            Err(_) => SLOT_BYTES,
        };
        write!(f, "{:8}:", at / SLOT_BYTES)?;
        if self.listing.raw_bytes {
            for (index, byte) in rest[..length].iter().enumerate() {
                write!(f, "{}{byte:02x}", if index == 0 { '\t' } else { ' ' })?;
            }
        }
        match decoded {
            Ok(insn) => {
                write!(f, "\t{}", text(&insn, self.listing.spelling))?;
                self.fmt_target(f, at, &insn)?;
            }
            Err(_) => write!(f, "\t{UNKNOWN}")?,
        }
        writeln!(f)?;
        Ok(length)
    }

    /// ` <symbol+0x8>`: the nearest symbol before the target, or far behind it, as addresses wrap around.
    fn fmt_target(&self, f: &mut fmt::Formatter<'_>, at: usize, insn: &Insn) -> fmt::Result {
        let Some(off) = insn.jump_offset() else { return Ok(()) };
        let slots = i64::from(off).wrapping_add(1);
        let target = (at as u64).wrapping_add_signed(slots * SLOT_BYTES as i64);
        let behind = self.symbols.partition_point(|symbol| symbol.offset <= target);
        let Some(symbol) = self.symbols[..behind].last() else { return Ok(()) };
        match target - symbol.offset {
            0 => write!(f, " <{}>", symbol.name),
            distance => write!(f, " <{}+{distance:#x}>", symbol.name),
        }
    }

    fn fmt_data(&self, f: &mut fmt::Formatter<'_>, start: usize, end: usize) -> fmt::Result {
        for (index, row) in self.bytes[start..end].chunks(8).enumerate() {
            write!(f, "{:8x}:", start + index * 8)?;
            row.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
            let printable = |&byte: &u8| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '.' };
            let ascii: String = row.iter().map(printable).collect();
            writeln!(f, "{:width$}         {ascii}", "", width = 3 * (8 - row.len()))?;
        }
        Ok(())
    }
}
