//! An object: what a `.o` file, raw bytecode or assembled code says, before anything exists.
//!
//! [`Object::parse`] is pure and total: the same bytes give the same value, no bytes make it panic, loop, or take
//! more memory than a small multiple of their number. It never makes a map and never looks at a clock, a file
//! ([`Object::from_file`] reads one first) or an address. What is wrong with the file as a whole is an
//! [`ObjectError`]; what is wrong with one program's instructions is a [`ProgramError`] of [`Object::program`], which
//! links and checks, so that one bad program does not hide the others.
//!
//! In linked programs, descriptors of maps are indices of [`Object::maps`], and references to kernel symbols are
//! indices of [`Object::externs`] (see [`Extern`]).
//!
//! Not supported yet: big-endian objects; CO-RE relocations are kept ([`Program::core_relocations`]) but not applied,
//! so programs see the offsets of the headers that they were compiled with; `struct_ops` maps are only recorded.
//!
//! Where to look next: `elf.rs` (sections and symbols), `functions.rs` (code), `maps.rs`, `legacy_maps.rs`,
//! `data.rs` and `externs.rs` (what becomes a map), `relocations.rs` (what an instruction refers to), `link.rs`
//! (functions to a program).
//!
//! Source: libbpf's `bpf_object_open` and `bpf_object__relocate`.

mod assembly;
mod data;
mod elf;
mod error;
mod externs;
mod functions;
mod legacy_maps;
mod link;
mod map_definitions;
mod maps;
mod read;
mod relocations;
mod types;

use std::path::Path;
use std::sync::Arc;

pub use assembly::{AssemblyError, MAIN};
pub use error::{FileError, FileErrorKind, MAX_DATA, MAX_NAME, MapError, ObjectError, RelocationError};

use crate::btf::{Btf, TypeId};
use crate::codec::Code;
use crate::insn::Insn;
use crate::map_spec::MapSpec;
use crate::program::{Extern, Program, ProgramError, ProgramInfo};
use crate::program_type::ProgramType;
use link::Image;

/// A map of kernel callbacks, `struct_ops`: recorded, not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StructOps {
    /// Its variable.
    pub name: String,
    /// Its section: `.struct_ops` or `.struct_ops.link`.
    pub section: Arc<str>,
    /// Its type in the object's BTF.
    pub type_id: TypeId,
}

/// Facts of the ELF file that say nothing about its programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElfFacts {
    /// `e_flags`: LLVM puts the BPF CPU version there from version 21 on; 0 before.
    pub flags: u32,
    /// Sections, the null section included.
    pub sections: usize,
    /// Symbols, the null symbol included.
    pub symbols: usize,
}

/// A function as the file has it: calls and references are not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectFunction<'a> {
    /// Its section.
    pub section: &'a str,
    /// Its symbol.
    pub name: &'a str,
    /// Slot of the section that it starts at.
    pub start: usize,
    /// Its instructions.
    pub insns: &'a [Insn],
    /// A program starts here; else it is a subprogram.
    pub is_entry: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    info: ProgramInfo,
    body: Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    /// Checked before it came here.
    Linked(Program),
    /// An entry of the image.
    Function(usize),
}

/// A parsed object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    name: Arc<str>,
    programs: Vec<Entry>,
    image: Image,
    maps: Vec<MapSpec>,
    externs: Arc<[Extern]>,
    license: Option<Arc<str>>,
    version: Option<u32>,
    btf: Option<Arc<Btf>>,
    struct_ops: Vec<StructOps>,
    elf: Option<ElfFacts>,
}

impl Object {
    /// Parses the contents of an ELF file.
    ///
    /// # Errors
    /// [`ObjectError`].
    pub fn parse(bytes: &[u8]) -> Result<Object, ObjectError> {
        read::parse(bytes)
    }

    /// Reads and parses a file. The object gets the file's name up to the first dot, as in libbpf.
    ///
    /// # Errors
    /// The file cannot be read, or [`Object::parse`] refuses its contents; both with the path.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Object, FileError> {
        let path = path.as_ref();
        let load = || -> Result<Object, FileErrorKind> { Ok(Object::parse(&std::fs::read(path)?)?) };
        let object = load().map_err(|source| FileError { path: path.to_owned(), source })?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        Ok(object.with_name(name.split('.').next().unwrap_or_default()))
    }

    /// An object of programs that are checked already, and the maps that their instructions name by index.
    pub fn from_programs(programs: Vec<Program>, maps: Vec<MapSpec>) -> Object {
        let entry = |program: Program| Entry { info: program.info().clone(), body: Body::Linked(program) };
        Object {
            name: "".into(),
            externs: programs.first().map_or_else(|| [].into(), |program| program.externs().into()),
            license: programs.first().and_then(|program| program.license().map(Arc::from)),
            programs: programs.into_iter().map(entry).collect(),
            image: Image::default(),
            maps,
            version: None,
            btf: None,
            struct_ops: Vec::new(),
            elf: None,
        }
    }

    /// An object of one program out of raw bytecode: 8-byte slots, little-endian, no maps.
    ///
    /// # Errors
    /// [`ObjectError::Bytecode`] for bytes that are not instructions, [`ObjectError::Program`] for code that no engine
    /// may run.
    pub fn from_bytecode(name: &str, program_type: ProgramType, bytes: &[u8]) -> Result<Object, ObjectError> {
        let code = Code::decode(bytes).map_err(|source| ObjectError::Bytecode { name: name.into(), source })?;
        let program = Program::new(ProgramInfo::new(name, program_type), code)?;
        Ok(Object::from_programs(vec![program], Vec::new()))
    }

    /// The same object under a name, of which the kernel sees the first characters in the names of data sections.
    #[must_use]
    pub fn with_name(self, name: &str) -> Object {
        Object { name: name.into(), ..self }
    }

    /// Name of the object; empty unless someone gave it one.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The programs, by section and offset.
    pub fn programs(&self) -> impl ExactSizeIterator<Item = &ProgramInfo> {
        self.programs.iter().map(|entry| &entry.info)
    }

    /// What is known of the first program with this name, to be changed: a program in a section that no table knows
    /// needs a type before it runs.
    pub fn program_mut(&mut self, name: &str) -> Option<&mut ProgramInfo> {
        self.programs.iter_mut().map(|entry| &mut entry.info).find(|info| &*info.name == name)
    }

    /// Links and checks the first program with this name.
    ///
    /// # Errors
    /// [`ProgramError::NotFound`], and whatever [`Program::new`] refuses.
    pub fn program(&self, name: &str) -> Result<Program, ProgramError> {
        let index = self.programs.iter().position(|entry| &*entry.info.name == name);
        self.program_at(index.unwrap_or(usize::MAX))
            .unwrap_or_else(|| Err(ProgramError::NotFound { name: name.into() }))
    }

    /// Links and checks the program with this index in [`Object::programs`]; `None` past the last.
    pub fn program_at(&self, index: usize) -> Option<Result<Program, ProgramError>> {
        let Entry { info, body } = self.programs.get(index)?;
        Some(match body {
            Body::Linked(program) => Ok(program.clone().with_info(info.clone())),
            Body::Function(entry) => self
                .image
                .link(info, *entry)
                .map(|program| program.with_externs(Arc::clone(&self.externs)).with_license(self.license.clone())),
        })
    }

    /// The linked instructions of the program with this index, as a kernel would be handed them, unchecked: for tools
    /// that look at programs which nothing may run.
    ///
    /// # Errors
    /// [`ProgramError::Check`] when the program grows longer than any kernel allows.
    pub fn code_at(&self, index: usize) -> Option<Result<Code, ProgramError>> {
        let Entry { info, body } = self.programs.get(index)?;
        Some(match body {
            Body::Linked(program) => Ok(program.code().clone()),
            Body::Function(entry) => self.image.link_code(info, *entry),
        })
    }

    /// The functions as the file has them, by section and offset, before linking: what `llvm-objdump -d` shows.
    pub fn functions(&self) -> impl Iterator<Item = ObjectFunction<'_>> {
        self.image.functions.all.iter().filter_map(|function| {
            let section = self.image.functions.sections.get(function.section)?;
            let insns = section.runs.get(function.run)?.code.insns().get(function.insns.clone())?;
            Some(ObjectFunction {
                section: &section.name,
                name: &function.name,
                start: function.slots.start as usize,
                insns,
                is_entry: function.is_entry,
            })
        })
    }

    /// The maps: those that the source defines, then sections of global data.
    pub fn maps(&self) -> &[MapSpec] {
        &self.maps
    }

    /// Symbols that the object expects from the kernel.
    pub fn externs(&self) -> &[Extern] {
        &self.externs
    }

    /// Contents of the section `license`.
    pub fn license(&self) -> Option<&str> {
        self.license.as_deref()
    }

    /// Contents of the section `version`: the `LINUX_VERSION_CODE` that old kernels asked kprobes for.
    pub fn version(&self) -> Option<u32> {
        self.version
    }

    /// The types, if the object was compiled with `-g`.
    pub fn btf(&self) -> Option<&Arc<Btf>> {
        self.btf.as_ref()
    }

    /// Maps of kernel callbacks.
    pub fn struct_ops(&self) -> &[StructOps] {
        &self.struct_ops
    }

    /// Facts of the ELF file; `None` for objects that were none.
    pub fn elf(&self) -> Option<ElfFacts> {
        self.elf
    }
}
