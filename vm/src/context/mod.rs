//! Contexts: what a program finds behind `r1`, laid out in guest memory before a run.
//!
//! To add a context: see `table.rs`, which says what programs of each type take.
//!
//! A context knows its layout and which of its bytes may be read and written; it knows no engine and no helper.

mod bytes;
mod packet;
mod pt_regs;
mod sk_buff;
mod table;
#[cfg(test)]
mod tests;

pub use bytes::Bytes;
pub(crate) use packet::ETHERNET_HEADER;
pub use packet::Packet;
pub use pt_regs::{PtRegs, REGISTERS, UnknownRegister};

use self::table::Row;
use crate::memory::{Memory, MemoryError, Permission};
use crate::program_type::ProgramType;

/// What a laid-out context looks like to the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Placed {
    /// Values of `r1` and `r2` on entry.
    pub args: [u64; 2],
    /// Address and size of the context's bytes.
    pub context: (u32, u32),
    /// Address and size of the packet's bytes, if there is one.
    pub packet: Option<(u32, u32)>,
    /// What the program may do with the packet's bytes; `None` when it sees them through helpers only.
    pub packet_permission: Option<Permission>,
}

/// Why a context cannot be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// It is not what programs of this type take.
    #[error("a {} program takes {expected}, not {given}", .program_type.name())]
    WrongKind {
        /// The program's type.
        program_type: ProgramType,
        /// What it takes.
        expected: ContextKind,
        /// What it was given.
        given: &'static str,
    },
    /// It is larger than guest memory allows.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Lays out a context in guest memory.
pub trait Context {
    /// Places the context's objects in the run zone of `memory`, as programs of this type expect them.
    ///
    /// # Errors
    /// The program takes another kind of context, or memory is full.
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError>;
}

impl<C: Context + ?Sized> Context for &C {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        (**self).place(memory, program_type)
    }
}

impl<C: Context + ?Sized> Context for Box<C> {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        (**self).place(memory, program_type)
    }
}

/// The kinds of context that have a layout of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContextKind {
    /// `struct pt_regs`.
    PtRegs,
    /// `struct xdp_md` and a packet.
    Xdp,
    /// `struct __sk_buff` and a packet.
    SkBuff,
    /// Bytes that the caller lays out.
    Bytes,
}

impl ContextKind {
    /// What programs of a type take.
    pub fn of(program_type: ProgramType) -> ContextKind {
        Row::of(program_type).layout.kind()
    }
}

impl std::fmt::Display for ContextKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ContextKind::PtRegs => "registers (struct pt_regs)",
            ContextKind::Xdp => "a packet (struct xdp_md)",
            ContextKind::SkBuff => "a packet (struct __sk_buff)",
            ContextKind::Bytes => "bytes",
        })
    }
}
