//! A program that may run: checked, linked, with what is known of its source.
//!
//! A [`Program`] exists only checked: its constructors call [`crate::check::check_with`] and make sure that
//! every instruction has an encoding. It does not know how it will be executed, nor the maps behind the indices in its
//! instructions ([`crate::object::Object::maps`]).
//!
//! Sources: libbpf's `struct bpf_program`; the kernel's `bpf_prog_calc_tag` and `license_is_gpl_compatible`.

use std::ops::Range;
use std::sync::Arc;

use crate::btf::ext::CoreRelocation;
use crate::btf::{Name, Strings, TypeId};
use crate::check::{self, CheckError, Rules};
use crate::codec::{self, Code, EncodeErrorKind};
use crate::insn::{Imm64, Insn};
use crate::program_type::{AttachType, ProgramType, SectionInfo};

/// Names a program and says what kind it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramInfo {
    /// Name of the function.
    pub name: Arc<str>,
    /// Name of its section, as in the file: `kprobe/sys_open`.
    pub section: Arc<str>,
    /// What kind of program, as the section's name says unless someone set it.
    pub program_type: ProgramType,
    /// Where it expects to be attached, as the section's name says.
    pub attach_type: Option<AttachType>,
    /// May call helpers that sleep.
    pub sleepable: bool,
    /// False when the section's name starts with `?`: libbpf does not load it unless told to.
    pub autoload: bool,
}

impl ProgramInfo {
    /// A program in a section; the section's name says the rest.
    pub fn in_section(name: impl Into<Arc<str>>, section: impl Into<Arc<str>>) -> ProgramInfo {
        let section = section.into();
        let SectionInfo { program_type, attach_type, sleepable, autoload, .. } = SectionInfo::of(&section);
        ProgramInfo { name: name.into(), program_type, attach_type, sleepable, autoload, section }
    }

    /// A program that no section holds: assembled, or raw bytecode.
    pub fn new(name: impl Into<Arc<str>>, program_type: ProgramType) -> ProgramInfo {
        ProgramInfo { program_type, ..ProgramInfo::in_section(name, "") }
    }

    /// What it attaches to, out of the section's name: `sys_open` of `kprobe/sys_open`.
    pub fn attach_target(&self) -> Option<&str> {
        SectionInfo::of(&self.section).attach_target
    }
}

/// A function of a program: the entry, or a subprogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its symbol.
    pub name: Arc<str>,
    /// Its slots.
    pub slots: Range<usize>,
}

/// Where an instruction comes from. `struct bpf_line_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineInfo<'a> {
    /// First slot that this is said of.
    pub slot: usize,
    /// File, as the compiler was given it.
    pub file: &'a str,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
    /// The source line itself; empty when the compiler could not read it.
    pub text: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineRecord {
    pub(crate) slot: u32,
    pub(crate) file: Name,
    pub(crate) text: Name,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

/// The lines that instructions come from, by slot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LineTable {
    strings: Strings,
    /// Sorted by slot.
    records: Vec<LineRecord>,
}

impl LineTable {
    /// Collects lines, for assemblers and tests; the order does not matter.
    pub fn new<'a>(lines: impl IntoIterator<Item = LineInfo<'a>>) -> LineTable {
        let mut records = Vec::new();
        let strings = Strings::build(|push| {
            records.extend(lines.into_iter().map(|line| LineRecord {
                slot: u32::try_from(line.slot).unwrap_or(u32::MAX),
                file: push(line.file),
                text: push(line.text),
                line: line.line,
                column: line.column,
            }));
        });
        LineTable::from_records(strings, records)
    }

    pub(crate) fn from_records(strings: Strings, mut records: Vec<LineRecord>) -> LineTable {
        records.sort_by_key(|record| record.slot);
        LineTable { strings, records }
    }

    /// The line that the instruction at `slot` comes from: the last one said at or before it.
    pub fn at(&self, slot: usize) -> Option<LineInfo<'_>> {
        let after = self.records.partition_point(|record| record.slot as usize <= slot);
        self.records.get(after.checked_sub(1)?).map(|record| self.line(record))
    }

    /// All lines, in order of their slots.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = LineInfo<'_>> {
        self.records.iter().map(|record| self.line(record))
    }

    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn line(&self, record: &LineRecord) -> LineInfo<'_> {
        LineInfo {
            slot: record.slot as usize,
            file: self.strings.get(record.file),
            line: record.line,
            column: record.column,
            text: self.strings.get(record.text),
        }
    }
}

/// A variable or function that the object expects from outside: `extern ... __ksym` or `__kconfig`.
///
/// Where a kernel loader would put numbers of the kernel's BTF, the instructions carry the index of the extern:
/// `Imm64::Variable { btf_id: index, btf_fd: 0 }` and `Callee::Kfunc { btf_id: index, module: 0 }`. Executing one that
/// nobody provides is a trap that names it; the load of a weak variable that nobody provides is 0 from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extern {
    /// Its symbol.
    pub name: Arc<str>,
    /// The program is prepared for its absence.
    pub weak: bool,
    /// Its `VAR` or `FUNC` in the object's BTF.
    pub type_id: Option<TypeId>,
    /// What it is.
    pub kind: ExternKind,
}

/// What an [`Extern`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExternKind {
    /// A value of the kernel's configuration, in the map `.kconfig`; zero until someone fills it in.
    Kconfig {
        /// Bytes from the start of the map's value.
        offset: u32,
        /// Bytes.
        size: u32,
    },
    /// A variable or any other symbol of the kernel whose address is taken.
    Ksym,
    /// A function of the kernel that is called.
    Kfunc,
}

/// First 8 bytes of a hash over a program's instructions: how `bpftool prog show` names a version of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub [u8; 8]);

impl Tag {
    /// The tag that kernels up to 6.17 give these instructions: SHA-1, with map references zeroed.
    /// `bpf_prog_calc_tag`.
    pub fn sha1(code: &Code) -> Tag {
        Tag::of::<sha1::Sha1>(code)
    }

    /// The tag that kernels from 6.18 on give these instructions: SHA-256, with map references zeroed.
    pub fn sha256(code: &Code) -> Tag {
        Tag::of::<sha2::Sha256>(code)
    }

    fn of<D: sha1::Digest>(code: &Code) -> Tag {
        let mut digest = D::new();
        for insn in code.insns() {
            // What has no encoding has no place in a kernel; programs are checked for it.
            if let Ok(bytes) = codec::encode_one(&without_map(*insn)) {
                digest.update(&*bytes);
            }
        }
        let mut tag = [0; 8];
        tag.iter_mut().zip(&digest.finalize()).for_each(|(tag, byte)| *tag = *byte);
        Tag(tag)
    }
}

impl std::fmt::Display for Tag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why there is no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// The object has no program of that name.
    #[error("there is no program {name}")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// It breaks a rule that every engine relies on.
    #[error("program {name}: {source}")]
    Check {
        /// Name of the program.
        name: Arc<str>,
        /// Which rule, and where.
        source: CheckError,
    },
    /// An instruction has no encoding.
    #[error("program {name}: slot {slot}: {kind}")]
    Encode {
        /// Name of the program.
        name: Arc<str>,
        /// Slot of the instruction.
        slot: usize,
        /// Which part of it has none.
        kind: EncodeErrorKind,
    },
}

/// A checked program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    info: ProgramInfo,
    code: Code,
    functions: Vec<Function>,
    lines: LineTable,
    relocations: Vec<(usize, CoreRelocation)>,
    externs: Arc<[Extern]>,
    license: Option<Arc<str>>,
}

impl Program {
    /// Checks the code by the kernel's rules.
    ///
    /// # Errors
    /// [`ProgramError::Check`], [`ProgramError::Encode`].
    pub fn new(info: ProgramInfo, code: Code) -> Result<Program, ProgramError> {
        Program::with_rules(info, code, Rules::default())
    }

    /// Checks the code by rules of the caller's choice.
    ///
    /// # Errors
    /// As [`Program::new`].
    pub fn with_rules(info: ProgramInfo, code: Code, rules: Rules) -> Result<Program, ProgramError> {
        let name = &info.name;
        check::check_with(&code, rules).map_err(|source| ProgramError::Check { name: name.clone(), source })?;
        for (slot, insn) in code.iter() {
            codec::check_one(insn).map_err(|kind| ProgramError::Encode { name: name.clone(), slot, kind })?;
        }
        let functions = vec![Function { name: name.clone(), slots: 0..code.slot_count() }];
        Ok(Program {
            info,
            code,
            functions,
            lines: LineTable::default(),
            relocations: Vec::new(),
            externs: [].into(),
            license: None,
        })
    }

    /// The same program with the lines that it comes from.
    #[must_use]
    pub fn with_lines(self, lines: LineTable) -> Program {
        Program { lines, ..self }
    }

    /// The same program, divided into functions; in order, the entry first.
    #[must_use]
    pub fn with_functions(self, functions: Vec<Function>) -> Program {
        Program { functions, ..self }
    }

    /// The same program under a license.
    #[must_use]
    pub fn with_license(self, license: Option<Arc<str>>) -> Program {
        Program { license, ..self }
    }

    /// The same program with the externs that its instructions name by index.
    #[must_use]
    pub fn with_externs(self, externs: Arc<[Extern]>) -> Program {
        Program { externs, ..self }
    }

    pub(crate) fn with_core_relocations(self, relocations: Vec<(usize, CoreRelocation)>) -> Program {
        Program { relocations, ..self }
    }

    pub(crate) fn with_info(self, info: ProgramInfo) -> Program {
        Program { info, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Its section; empty for a program that no section holds.
    pub fn section(&self) -> &str {
        &self.info.section
    }

    /// What kind of program it is.
    pub fn program_type(&self) -> ProgramType {
        self.info.program_type
    }

    /// Name, section and kind.
    pub fn info(&self) -> &ProgramInfo {
        &self.info
    }

    /// Its instructions: the entry function, then every subprogram that it reaches.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Its functions, in order, the entry first.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The function that a slot belongs to.
    pub fn function_at(&self, slot: usize) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.slots.start <= slot);
        self.functions.get(after.checked_sub(1)?).filter(|function| function.slots.contains(&slot))
    }

    /// The lines that it comes from.
    pub fn lines(&self) -> &LineTable {
        &self.lines
    }

    /// The line that the instruction at a slot comes from.
    pub fn line_at(&self, slot: usize) -> Option<LineInfo<'_>> {
        self.lines.at(slot)
    }

    /// CO-RE relocations with their slots. They are not applied: the instructions have what the compiler saw.
    pub fn core_relocations(&self) -> &[(usize, CoreRelocation)] {
        &self.relocations
    }

    /// The externs that instructions name by index.
    pub fn externs(&self) -> &[Extern] {
        &self.externs
    }

    /// The object's license.
    pub fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    /// Whether it may call the helpers that the kernel keeps for GPL programs. `license_is_gpl_compatible`.
    pub fn is_gpl_compatible(&self) -> bool {
        const COMPATIBLE: [&str; 6] =
            ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];
        self.license().is_some_and(|license| COMPATIBLE.contains(&license))
    }

    /// The tag that kernels up to 6.17 give it, [`Tag::sha1`].
    pub fn tag(&self) -> Tag {
        Tag::sha1(&self.code)
    }

    /// The tag that kernels from 6.18 on give it, [`Tag::sha256`].
    pub fn tag_sha256(&self) -> Tag {
        Tag::sha256(&self.code)
    }
}

/// The instruction as the kernel hashes it: descriptors of maps differ from load to load.
fn without_map(insn: Insn) -> Insn {
    let Insn::LoadImm64 { dst, value } = insn else { return insn };
    let value = match value {
        Imm64::MapFd(_) => Imm64::MapFd(0),
        Imm64::MapValue { .. } => Imm64::MapValue { fd: 0, offset: 0 },
        Imm64::Value(_)
        | Imm64::Variable { .. }
        | Imm64::Code(_)
        | Imm64::MapIndex(_)
        | Imm64::MapIndexValue { .. } => value,
    };
    Insn::LoadImm64 { dst, value }
}
