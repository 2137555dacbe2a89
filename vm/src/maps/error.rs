//! Why a map cannot be made, and why user space cannot have what it asked of one.

use std::sync::Arc;

use crate::errno::Errno;
use crate::map_spec::MapType;
use crate::memory::MemoryError;

/// A map that cannot be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("map {map} ({map_type}): {kind}")]
pub struct MapError {
    /// Name of the map.
    pub map: Arc<str>,
    /// Its type.
    pub map_type: MapType,
    /// The rule that its definition breaks.
    pub kind: MapErrorKind,
}

/// The rule that a map definition breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum MapErrorKind {
    /// No kernel has this type.
    #[error("unknown map type {number}")]
    UnknownType { number: u32 },
    /// A type of the kernel that has no row in the table of kinds.
    #[error("map type {map_type} is not implemented yet")]
    NotImplemented { map_type: MapType },
    /// `max_entries` is 0.
    #[error("max_entries is 0")]
    NoEntries,
    /// The type takes keys of one size only.
    #[error("the key size is {got} bytes, must be {required}")]
    KeySize { required: u32, got: u32 },
    /// A key of 0 bytes.
    #[error("the key size is 0")]
    EmptyKey,
    /// The type takes values of one size only.
    #[error("the value size is {got} bytes, must be {required}")]
    ValueSize { required: u32, got: u32 },
    /// A value of 0 bytes.
    #[error("the value size is 0")]
    EmptyValue,
    /// A value, or key and value together, is larger than the kernel can allocate in one piece.
    #[error("an element of {bytes} bytes is too large, at most {limit} are possible")]
    ElementTooLarge { bytes: u64, limit: u64 },
    /// More elements than the type can have.
    #[error("max_entries is {got}, at most {limit} are possible")]
    TooManyEntries { got: u64, limit: u64 },
    /// A stack trace value that is not a whole number of frames, 1 to `max_depth`.
    #[error("the value size is {got} bytes, must be 1 to {max_depth} frames of {frame} bytes")]
    StackSize { got: u32, frame: u32, max_depth: u32 },
    /// A ring that is not a power of two and a whole number of pages.
    #[error("max_entries is {got} bytes, must be a power of two and a multiple of {page}")]
    RingSize { got: u32, page: u32 },
    /// Flags that the type does not know.
    #[error("map_flags {refused:#x} are not allowed")]
    Flags { refused: u32 },
    /// Read-only and write-only at once.
    #[error("map_flags {flags:#x} make the map read-only and write-only at once")]
    ConflictingFlags { flags: u32 },
    /// LRU maps take all their elements at once.
    #[error("BPF_F_NO_PREALLOC is not possible with LRU maps")]
    LruNeedsPreallocation,
    /// Only Bloom filters and arenas take `map_extra`.
    #[error("map_extra is {got:#x}, must be 0")]
    MapExtra { got: u64 },
    /// The first contents do not fit.
    #[error("{bytes} bytes of initial contents for a value of {value_size}")]
    InitialValue { bytes: usize, value_size: u32 },
    /// Guest memory is full.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl MapErrorKind {
    /// What `BPF_MAP_CREATE` returns for it.
    pub fn errno(&self) -> Errno {
        match self {
            MapErrorKind::UnknownType { .. }
            | MapErrorKind::NotImplemented { .. }
            | MapErrorKind::NoEntries
            | MapErrorKind::KeySize { .. }
            | MapErrorKind::EmptyKey
            | MapErrorKind::ValueSize { .. }
            | MapErrorKind::EmptyValue
            | MapErrorKind::StackSize { .. }
            | MapErrorKind::RingSize { .. }
            | MapErrorKind::Flags { .. }
            | MapErrorKind::ConflictingFlags { .. }
            | MapErrorKind::MapExtra { .. }
            | MapErrorKind::InitialValue { .. } => Errno::EINVAL,
            MapErrorKind::ElementTooLarge { .. } | MapErrorKind::TooManyEntries { .. } => Errno::E2BIG,
            MapErrorKind::LruNeedsPreallocation => Errno::ENOTSUPP,
            MapErrorKind::Memory(_) => Errno::ENOMEM,
        }
    }
}

/// What user space wanted of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapOperation {
    /// `BPF_MAP_LOOKUP_ELEM`.
    Lookup,
    /// `BPF_MAP_UPDATE_ELEM`.
    Update,
    /// `BPF_MAP_DELETE_ELEM`.
    Delete,
    /// `BPF_MAP_GET_NEXT_KEY`.
    NextKey,
}

impl std::fmt::Display for MapOperation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MapOperation::Lookup => "lookup",
            MapOperation::Update => "update",
            MapOperation::Delete => "delete",
            MapOperation::NextKey => "next key",
        })
    }
}

/// An access from the user side that failed. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum MapAccessError {
    /// The key has the wrong size.
    #[error("keys of map {map} have {expected} bytes, not {got}")]
    KeySize { map: Arc<str>, expected: u32, got: usize },
    /// The value has the wrong size.
    #[error("values of map {map} have {expected} bytes, not {got}")]
    ValueSize { map: Arc<str>, expected: u64, got: usize },
    /// Values for all CPUs, but not as many as there are CPUs.
    #[error("values of map {map} have {expected} copies, one for each CPU, not {got}")]
    Copies { map: Arc<str>, expected: u32, got: usize },
    /// The map's values have one copy, not one for each CPU.
    #[error("map {map} ({map_type}) is not a per-CPU map")]
    NotPerCpu { map: Arc<str>, map_type: MapType },
    /// The map is of another type.
    #[error("map {map} is a {map_type}, not a {wanted}")]
    WrongType { map: Arc<str>, map_type: MapType, wanted: MapType },
    /// The system call would fail.
    #[error("{operation} in map {map}: {errno}")]
    Refused { map: Arc<str>, operation: MapOperation, errno: Errno },
}

impl MapAccessError {
    /// The error number of the system call: a wrong size or type is `EINVAL`.
    pub fn errno(&self) -> Errno {
        match self {
            MapAccessError::Refused { errno, .. } => *errno,
            MapAccessError::KeySize { .. }
            | MapAccessError::ValueSize { .. }
            | MapAccessError::Copies { .. }
            | MapAccessError::NotPerCpu { .. }
            | MapAccessError::WrongType { .. } => Errno::EINVAL,
        }
    }
}
