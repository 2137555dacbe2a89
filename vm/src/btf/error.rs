//! What can be wrong with BTF, with the values that say where.
//!
//! Sentences are for the command line; the messages here name the facts.

use super::{Name, TypeId};

/// Which list of `.BTF.ext`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtSectionKind {
    /// `func_info`.
    Functions,
    /// `line_info`.
    Lines,
    /// `core_relo`.
    Relocations,
}

/// BTF that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BtfError {
    #[error("{length} bytes are too few for a BTF header")]
    ShortHeader { length: usize },
    #[error("the BTF magic number is {magic:#06x}, not 0xeb9f")]
    BadMagic { magic: u16 },
    #[error("big-endian BTF is not supported")]
    BigEndian,
    #[error("BTF version {version} is not supported")]
    BadVersion { version: u8 },
    #[error("the BTF header says that it has {length} bytes")]
    BadHeaderLength { length: u32 },
    #[error("bytes {offset} to {offset} + {length} lie outside of the {available} bytes after the BTF header")]
    OutOfRange { offset: u32, length: u32, available: usize },
    #[error("the BTF string section does not start and end with a zero byte")]
    BadStrings,
    #[error("BTF type {id} ends after the type section")]
    CutType { id: TypeId },
    #[error("BTF type {id} has the unknown kind {kind}")]
    UnknownKind { id: TypeId, kind: u32 },
    #[error("BTF type {id} refers to type {target}, which does not exist")]
    BadReference { id: TypeId, target: TypeId },
    #[error("BTF type {id} has a name at offset {}, outside of the string section", .name.0)]
    BadName { id: TypeId, name: Name },
    #[error("BTF type {id} has the unknown linkage {linkage}")]
    BadLinkage { id: TypeId, linkage: u32 },
    #[error("BTF type {id} does not exist")]
    NoType { id: TypeId },
    #[error("BTF type {id} has no size")]
    NoSize { id: TypeId },
    #[error("BTF type {id} has more than 4 GiB")]
    TooLarge { id: TypeId },
    #[error("BTF type {id} is behind more than {} modifiers or arrays", super::MAX_RESOLVE_DEPTH)]
    TooDeep { id: TypeId },
    #[error("a record of {kind:?} in .BTF.ext has {size} bytes")]
    BadRecordSize { kind: ExtSectionKind, size: u32 },
    #[error("a section of {kind:?} in .BTF.ext has {count} records of {size} bytes, more than there are")]
    CutRecords { kind: ExtSectionKind, count: u32, size: u32 },
    #[error("unknown kind {kind} of CO-RE relocation")]
    UnknownRelocation { kind: u32 },
}
