//! Functions to a program: the entry, and behind it every function that it reaches, in libbpf's order.
//!
//! A function is appended when the first reference to it is met, and its own references are followed before the next
//! one of its caller. What instructions refer to is already known ([`super::relocations`]); the only thing that can go
//! wrong here is a program that grows too long. libbpf's `bpf_object__reloc_code` and `bpf_object__relocate_data`.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::functions::{Functions, LocalFunction};
use crate::btf::Strings;
use crate::btf::ext::CoreRelocation;
use crate::check::{CheckError, CheckErrorKind, MAX_SLOTS};
use crate::codec::Code;
use crate::insn::{Callee, Imm64, Insn};
use crate::program::{Function, LineRecord, LineTable, Program, ProgramError, ProgramInfo};

/// What an instruction refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fixup {
    /// A call or the address of a function: index in [`Functions::all`], and slots after its start.
    Function { function: usize, offset: u32 },
    /// A map: index in the object's maps.
    Map(i32),
    /// A byte of global data.
    Data { map: i32, offset: u32 },
    /// An extern: index in the object's externs.
    Extern(i32),
    /// The address of a weak extern: nobody provides it.
    Absent,
}

/// The code of an object with what it refers to: all that linking needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Image {
    pub(super) functions: Functions,
    /// By section of code, sorted by slot.
    pub(super) fixups: Vec<Vec<(u32, Fixup)>>,
    pub(super) strings: Strings,
}

impl Image {
    /// Links and checks one entry program.
    pub(super) fn link(&self, info: &ProgramInfo, entry: usize) -> Result<Program, ProgramError> {
        let linker = self.place_all(info, entry)?;
        let program = Program::new(info.clone(), Code::from(linker.insns))?;
        let lines = LineTable::from_records(self.strings.clone(), linker.lines);
        Ok(program.with_functions(linker.functions).with_lines(lines).with_core_relocations(linker.relocations))
    }

    /// Links one entry program, without a check.
    pub(super) fn link_code(&self, info: &ProgramInfo, entry: usize) -> Result<Code, ProgramError> {
        Ok(Code::from(self.place_all(info, entry)?.insns))
    }

    fn place_all(&self, info: &ProgramInfo, entry: usize) -> Result<Linker<'_>, ProgramError> {
        let mut linker = Linker::new(self);
        match linker.run(entry) {
            Ok(()) => Ok(linker),
            Err(kind) => {
                let source = CheckError { slot: linker.slots, kind };
                Err(ProgramError::Check { name: info.name.clone(), source })
            }
        }
    }

    fn fixups_of(&self, function: &LocalFunction) -> &[(u32, Fixup)] {
        let fixups = self.fixups.get(function.section).map_or(&[][..], Vec::as_slice);
        within(fixups, &function.slots, |(slot, _)| *slot)
    }
}

/// The part of a list sorted by slot that lies in a range of slots.
fn within<'a, T>(sorted: &'a [T], slots: &Range<u32>, slot: impl Fn(&T) -> u32) -> &'a [T] {
    let start = sorted.partition_point(|item| slot(item) < slots.start);
    let end = sorted.partition_point(|item| slot(item) < slots.end);
    sorted.get(start..end).unwrap_or(&[])
}

/// Where a function was put.
#[derive(Clone, Copy)]
struct Placed {
    slot: usize,
    insn: usize,
}

/// A function whose references are being followed.
struct Frame<'a> {
    function: &'a LocalFunction,
    placed: Placed,
    fixups: std::slice::Iter<'a, (u32, Fixup)>,
}

struct Linker<'a> {
    image: &'a Image,
    insns: Vec<Insn>,
    slots: usize,
    functions: Vec<Function>,
    lines: Vec<LineRecord>,
    relocations: Vec<(usize, CoreRelocation)>,
    placed: HashMap<usize, Placed>,
    /// The call stack of libbpf's recursion.
    stack: Vec<Frame<'a>>,
}

impl<'a> Linker<'a> {
    fn new(image: &'a Image) -> Linker<'a> {
        Linker {
            image,
            insns: Vec::new(),
            slots: 0,
            functions: Vec::new(),
            lines: Vec::new(),
            relocations: Vec::new(),
            placed: HashMap::new(),
            stack: Vec::new(),
        }
    }

    fn run(&mut self, entry: usize) -> Result<(), CheckErrorKind> {
        self.place(entry)?;
        while let Some(frame) = self.stack.last_mut() {
            let Some(&(slot, fixup)) = frame.fixups.next() else {
                self.stack.pop();
                continue;
            };
            let (function, placed) = (frame.function, frame.placed);
            let Some(run) = self.image.functions.run_of(function) else { continue };
            let Some(index) = run.code.index_at((slot - run.start) as usize) else { continue };
            let here = placed.slot + (slot - function.slots.start) as usize;
            let insn = placed.insn + index - function.insns.start;
            self.fix(here, insn, fixup)?;
        }
        Ok(())
    }

    /// Appends a function unless it is there, and says where.
    fn place(&mut self, id: usize) -> Result<Placed, CheckErrorKind> {
        let here = Placed { slot: self.slots, insn: self.insns.len() };
        if let Some(placed) = self.placed.get(&id) {
            return Ok(*placed);
        }
        let functions = &self.image.functions;
        let Some(function) = functions.all.get(id) else { return Ok(here) };
        let Some(run) = functions.run_of(function) else { return Ok(here) };
        self.slots += function.slots.len();
        if self.slots > MAX_SLOTS {
            return Err(CheckErrorKind::TooLong { slots: self.slots });
        }
        self.insns.extend_from_slice(run.code.insns().get(function.insns.clone()).unwrap_or(&[]));
        self.functions.push(Function { name: Arc::clone(&function.name), slots: here.slot..self.slots });
        self.copy_source(function, here.slot);
        self.placed.insert(id, here);
        self.stack.push(Frame { function, placed: here, fixups: self.image.fixups_of(function).iter() });
        Ok(here)
    }

    fn copy_source(&mut self, function: &LocalFunction, to: usize) {
        let Some(section) = self.image.functions.sections.get(function.section) else { return };
        let moved = |slot: u32| to + (slot - function.slots.start) as usize;
        let lines = within(&section.lines, &function.slots, |line| line.slot);
        self.lines.extend(lines.iter().map(|line| LineRecord { slot: moved(line.slot) as u32, ..*line }));
        let relocations = within(&section.relocations, &function.slots, |(slot, _)| *slot);
        self.relocations.extend(relocations.iter().map(|(slot, relocation)| (moved(*slot), *relocation)));
    }

    /// Puts what the instruction at `here` refers to into it.
    fn fix(&mut self, here: usize, insn: usize, fixup: Fixup) -> Result<(), CheckErrorKind> {
        let (call, value) = match fixup {
            Fixup::Function { function, offset } => {
                let target = self.place(function)?.slot + offset as usize;
                // Both are below MAX_SLOTS.
                let off = (target as i64 - here as i64 - 1) as i32;
                (Callee::Local(off), Imm64::Code(off))
            }
            Fixup::Map(map) => (Callee::Helper(0), Imm64::MapFd(map)),
            Fixup::Data { map, offset } => (Callee::Helper(0), Imm64::MapValue { fd: map, offset }),
            Fixup::Extern(index) => {
                let variable = Imm64::Variable { btf_id: index, btf_fd: 0 };
                (Callee::Kfunc { btf_id: index, module: 0 }, variable)
            }
            Fixup::Absent => (Callee::Helper(0), Imm64::Value(0)),
        };
        // The relocations that led here were on one of these two.
        if let Some(Insn::Call(callee)) = self.insns.get_mut(insn) {
            *callee = call;
        } else if let Some(Insn::LoadImm64 { value: loaded, .. }) = self.insns.get_mut(insn) {
            *loaded = value;
        }
        Ok(())
    }
}
