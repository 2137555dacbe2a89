//! Sections of code, cut into functions and decoded.
//!
//! A function is a `STT_FUNC` symbol. Those of `.text` are subprograms, the others are entry programs (static ones
//! too); an object that has nothing but `.text` has its programs there. A section without such symbols, as very old
//! compilers made them, is one program. Nothing here looks at what the instructions refer to.
//!
//! libbpf's `bpf_object__add_programs` and `find_prog_by_sec_insn`.

use std::ops::Range;
use std::sync::Arc;

use object::elf;

use super::elf::{Elf, Section, Symbol};
use super::error::ObjectError;
use crate::btf::ext::CoreRelocation;
use crate::codec::{Code, DecodeError, SLOT_BYTES};
use crate::program::LineRecord;

/// Code that one or more overlapping functions cover, decoded once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Slot of the section that it starts at.
    pub(super) start: u32,
    pub(super) code: Code,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocalFunction {
    pub(super) name: Arc<str>,
    /// Index in [`Functions::sections`].
    pub(super) section: usize,
    /// Slots of the section.
    pub(super) slots: Range<u32>,
    /// Index in [`CodeSection::runs`].
    pub(super) run: usize,
    /// Instructions of the run.
    pub(super) insns: Range<usize>,
    pub(super) is_entry: bool,
}

/// A section of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CodeSection {
    pub(super) name: Arc<str>,
    /// Index in the ELF file.
    pub(super) index: usize,
    pub(super) runs: Vec<Run>,
    /// Indices in [`Functions::all`].
    pub(super) functions: Range<usize>,
    /// Sorted by slot, one a slot.
    pub(super) lines: Vec<LineRecord>,
    /// Sorted by slot, one a slot.
    pub(super) relocations: Vec<(u32, CoreRelocation)>,
}

/// The functions of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Functions {
    pub(super) sections: Vec<CodeSection>,
    /// By section, and in it by start.
    pub(super) all: Vec<LocalFunction>,
}

impl Functions {
    pub(super) fn collect(elf: &Elf<'_>) -> Result<Functions, ObjectError> {
        let mut by_section = vec![Vec::new(); elf.sections.len()];
        for symbol in &elf.symbols {
            if let Some(list) = symbol.section.and_then(|section| by_section.get_mut(section)) {
                list.push(symbol);
            }
        }
        let mut functions = Functions::default();
        let has_programs = elf.sections.iter().any(|section| section.is_code() && section.name != ".text");
        for (index, (section, symbols)) in elf.sections.iter().zip(&by_section).enumerate() {
            if section.is_code() {
                let is_entry = section.name != ".text" || !has_programs;
                functions.add_section(index, section, symbols, is_entry)?;
            }
        }
        Ok(functions)
    }

    fn add_section(
        &mut self,
        index: usize,
        section: &Section<'_>,
        symbols: &[&Symbol<'_>],
        is_entry: bool,
    ) -> Result<(), ObjectError> {
        let name: Arc<str> = section.name.into();
        let spans = spans(&name, section, symbols)?;
        let runs = decode_runs(&name, section, &spans)?;
        let first = self.all.len();
        for span in spans {
            let run = runs.partition_point(|run| run.start <= span.slots.start).saturating_sub(1);
            let insns = runs.get(run).and_then(|run| insns_of(run, &span.slots));
            let insns = insns.ok_or_else(|| span.error(&name))?;
            let section = self.sections.len();
            self.all.push(LocalFunction { name: span.name, section, slots: span.slots, run, insns, is_entry });
        }
        let functions = first..self.all.len();
        self.sections.push(CodeSection { name, index, runs, functions, lines: Vec::new(), relocations: Vec::new() });
        Ok(())
    }

    /// The code section with this index in the ELF file.
    pub(super) fn section_of(&self, index: usize) -> Option<usize> {
        self.sections.binary_search_by_key(&index, |section| section.index).ok()
    }

    /// The function that a slot of a code section belongs to, the one that starts closest before it.
    pub(super) fn find(&self, section: usize, slot: u32) -> Option<usize> {
        let range = self.sections.get(section)?.functions.clone();
        let functions = self.all.get(range.clone())?;
        let after = functions.partition_point(|function| function.slots.start <= slot);
        let start = functions.get(after.checked_sub(1)?)?.slots.start;
        // Of aliases, the first.
        let first = functions.partition_point(|function| function.slots.start < start);
        functions.get(first).filter(|function| function.slots.contains(&slot)).map(|_| range.start + first)
    }

    /// The run of a section that a slot is in.
    pub(super) fn run_at(&self, section: usize, slot: u32) -> Option<(usize, &Run)> {
        let runs = &self.sections.get(section)?.runs;
        let index = runs.partition_point(|run| run.start <= slot).checked_sub(1)?;
        runs.get(index).filter(|run| (slot - run.start) < run.code.slot_count() as u32).map(|run| (index, run))
    }

    /// The instructions of a function.
    pub(super) fn run_of(&self, function: &LocalFunction) -> Option<&Run> {
        self.sections.get(function.section)?.runs.get(function.run)
    }
}

/// The instructions of a range of slots, if it begins and ends between instructions.
fn insns_of(run: &Run, slots: &Range<u32>) -> Option<Range<usize>> {
    let edge = |slot: u32| {
        let slot = slot.checked_sub(run.start)? as usize;
        if slot == run.code.slot_count() { Some(run.code.insns().len()) } else { run.code.index_at(slot) }
    };
    Some(edge(slots.start)?..edge(slots.end)?)
}

/// A function before its code is decoded.
struct Span {
    name: Arc<str>,
    slots: Range<u32>,
}

impl Span {
    fn error(&self, section: &Arc<str>) -> ObjectError {
        let offset = u64::from(self.slots.start) * SLOT_BYTES as u64;
        let size = (self.slots.len() * SLOT_BYTES) as u64;
        ObjectError::BadFunction { section: section.clone(), function: self.name.clone(), offset, size }
    }
}

/// The functions of a section, by start.
fn spans(section_name: &Arc<str>, section: &Section<'_>, symbols: &[&Symbol<'_>]) -> Result<Vec<Span>, ObjectError> {
    let mut functions: Vec<&Symbol<'_>> =
        symbols.iter().copied().filter(|symbol| symbol.kind == elf::STT_FUNC).collect();
    functions.sort_by_key(|symbol| symbol.value);
    if functions.is_empty() {
        return whole_section(section_name, section, symbols).map(|span| vec![span]);
    }
    let mut spans = Vec::with_capacity(functions.len());
    for symbol in &functions {
        let size = match symbol.size {
            // Hand-written assembly without `.size`: up to the next function.
            0 => {
                let next = functions.partition_point(|other| other.value <= symbol.value);
                let end = functions.get(next).map_or(section.size, |next| next.value);
                end.saturating_sub(symbol.value)
            }
            size => size,
        };
        spans.push(span(section_name, section, symbol.name.into(), symbol.value, size)?);
    }
    Ok(spans)
}

/// A section without function symbols: one program, named by a global symbol at its start or by the section.
fn whole_section(name: &Arc<str>, section: &Section<'_>, symbols: &[&Symbol<'_>]) -> Result<Span, ObjectError> {
    let named = symbols.iter().find(|symbol| symbol.is_global() && symbol.value == 0 && !symbol.name.is_empty());
    let function = named.map_or_else(|| name.clone(), |symbol| symbol.name.into());
    span(name, section, function, 0, section.size)
}

fn span(
    section_name: &Arc<str>,
    section: &Section<'_>,
    name: Arc<str>,
    offset: u64,
    size: u64,
) -> Result<Span, ObjectError> {
    let whole = SLOT_BYTES as u64;
    let slot = |offset: u64| u32::try_from(offset / whole).ok();
    let end = offset.checked_add(size).filter(|end| *end <= section.size);
    match (slot(offset), end.and_then(slot)) {
        (Some(start), Some(end)) if size > 0 && offset.is_multiple_of(whole) && size.is_multiple_of(whole) => {
            Ok(Span { name, slots: start..end })
        }
        _ => Err(ObjectError::BadFunction { section: section_name.clone(), function: name, offset, size }),
    }
}

/// Decodes what the functions cover; overlapping functions share a run, so that no byte is decoded twice.
fn decode_runs(name: &Arc<str>, section: &Section<'_>, spans: &[Span]) -> Result<Vec<Run>, ObjectError> {
    let data = section.data()?;
    let mut ranges: Vec<(&Span, Range<u32>)> = Vec::new();
    for span in spans {
        match ranges.last_mut() {
            Some((_, last)) if span.slots.start < last.end => last.end = last.end.max(span.slots.end),
            _ => ranges.push((span, span.slots.clone())),
        }
    }
    let decode = |(span, slots): (&Span, Range<u32>)| {
        let bytes = data.get(slots.start as usize * SLOT_BYTES..slots.end as usize * SLOT_BYTES);
        let bytes = bytes.ok_or_else(|| span.error(name))?;
        let code = Code::decode(bytes).map_err(|source: DecodeError| ObjectError::Decode {
            section: name.clone(),
            function: span.name.clone(),
            source,
        })?;
        Ok(Run { start: slots.start, code })
    };
    ranges.into_iter().map(decode).collect()
}
