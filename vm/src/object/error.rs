//! What can be wrong with an object, with the values that say where.
//!
//! Sentences with advice are for the command line; the messages here name the facts.

use std::path::PathBuf;
use std::sync::Arc;

use crate::btf::{BtfError, TypeId};
use crate::codec::DecodeError;
use crate::program::ProgramError;

/// The most bytes a name may have: the kernel's `KSYM_NAME_LEN`.
pub const MAX_NAME: usize = 512;

/// The most bytes a section of global data may have: the kernel's limit for a value of an array.
pub const MAX_DATA: u64 = i32::MAX as u64;

/// Bytes that are not an object we can load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ObjectError {
    #[error("not an ELF file")]
    NotElf,
    #[error("the ELF file is for {}, not for BPF", machine_name(*machine))]
    NotBpf { machine: u16 },
    #[error("big-endian BPF objects are not supported")]
    BigEndian,
    #[error("a 32-bit ELF file; BPF objects have 64 bits")]
    Not64Bit,
    #[error("an ELF file of type {kind}; BPF objects are relocatable files, type 1")]
    NotRelocatable { kind: u16 },
    #[error("the ELF file is cut off or damaged: {0}")]
    Elf(#[from] object::read::Error),
    #[error("the ELF file has no symbol table: is it stripped?")]
    NoSymbols,
    #[error("the ELF file is cut off: section {section} ends after the file")]
    CutSection { section: String },
    #[error("the sections overlap: together they have more bytes than the file")]
    OverlappingSections,
    #[error("the name at offset {offset} of the string table is not UTF-8 or longer than {MAX_NAME} bytes")]
    BadName { offset: u32 },
    #[error("section {section}: function {function}: offset {offset}, {size} bytes: not instructions of the section")]
    BadFunction { section: Arc<str>, function: Arc<str>, offset: u64, size: u64 },
    #[error("section {section}: function {function}: {source}")]
    Decode { section: Arc<str>, function: Arc<str>, source: DecodeError },
    #[error("section {section}: relocation {symbol} at offset {offset:#x}: {reason}")]
    Relocation { section: Arc<str>, offset: u64, symbol: String, reason: RelocationError },
    #[error("section {section}: the call at slot {slot} leads to slot {target}, where no function is")]
    BadCall { section: Arc<str>, slot: usize, target: i64 },
    #[error("map {map}: {reason}")]
    Map { map: String, reason: MapError },
    #[error("section {section} needs BTF, which the object does not have")]
    NoBtf { section: &'static str },
    #[error("{section}: {source}")]
    Btf { section: &'static str, source: BtfError },
    #[error("section {section} has {size} bytes, more than the {MAX_DATA} allowed")]
    DataTooLarge { section: String, size: u64 },
    #[error("extern {name}: {source}")]
    Extern { name: Arc<str>, source: BtfError },
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("program {name}: {source}")]
    Bytecode { name: Arc<str>, source: DecodeError },
}

/// Why a relocation cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RelocationError {
    #[error("type {0} is not supported")]
    Type(u32),
    #[error("there is no symbol {0}")]
    NoSymbol(usize),
    #[error("it is not at an instruction")]
    NotAtInstruction,
    #[error("another relocation is at the same place")]
    Duplicate,
    #[error("the instruction is neither a call of a function nor a 64-bit immediate load")]
    BadInstruction,
    #[error("the symbol is in no section")]
    NoSection,
    #[error("section {0} holds neither functions, maps nor data")]
    BadSection(String),
    #[error("no map is at offset {offset} of section {section}")]
    NoMap { section: String, offset: i64 },
    #[error("no function is at offset {offset} of section {section}")]
    NoFunction { section: String, offset: i64 },
    #[error("it is in no initial value of a map of programs or maps")]
    NotASlot,
    #[error("it is not an entry program")]
    NotAProgram,
    #[error("offset {0:#x} is out of range")]
    BadOffset(u64),
}

/// Why a definition of a map is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum MapError {
    #[error("the variable is of kind {0}, not var")]
    NotAVariable(&'static str),
    #[error("the definition is of kind {0}, not struct")]
    NotAStruct(&'static str),
    #[error("the definition lies outside of its section")]
    OutsideSection,
    #[error("its offset is that of another map")]
    SameOffset,
    #[error("no symbol has its name")]
    NoSymbol,
    #[error("unknown field {0}")]
    UnknownField(String),
    #[error("field {field} is of kind {kind}")]
    BadField { field: &'static str, kind: &'static str },
    #[error("field {field} says {second}, and before {first}")]
    Conflict { field: &'static str, first: u32, second: u32 },
    #[error("its definition has {0} fields")]
    TooManyFields(usize),
    #[error("pinning {0} is unknown")]
    BadPinning(u32),
    #[error("it has no type")]
    NoType,
    #[error("only a map of maps or programs has initial values")]
    NoSlots,
    #[error("the initial values are not the last field")]
    SlotsNotLast,
    #[error("the template of its maps has a template of its own, or is pinned")]
    NestedTooDeep,
    #[error("its definition has {size} bytes, less than 16 or not a multiple of 4")]
    BadSize { size: u64 },
    #[error("its definition has unknown fields that are not zero, at byte {offset}")]
    UnknownTail { offset: usize },
    #[error("the {size} bytes of data do not fit into it")]
    DataTooLarge { size: u64 },
    #[error("type {id}: {source}")]
    Btf { id: TypeId, source: BtfError },
}

/// A file that could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: FileErrorKind,
}

/// Why a file could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum FileErrorKind {
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is not an object we can load.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// The machines that people confuse with BPF: the one that they compiled on.
fn machine_name(machine: u16) -> String {
    let name = match object::elf::Machine(machine) {
        object::elf::EM_X86_64 => "x86-64",
        object::elf::EM_386 => "x86",
        object::elf::EM_AARCH64 => "AArch64",
        object::elf::EM_ARM => "Arm",
        object::elf::EM_RISCV => "RISC-V",
        object::elf::EM_S390 => "S/390",
        object::elf::EM_PPC64 => "PowerPC 64",
        object::elf::EM_SBF => "Solana SBF",
        other => return format!("machine {}", other.0),
    };
    name.to_owned()
}
