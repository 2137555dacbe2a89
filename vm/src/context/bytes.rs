//! A context as plain bytes, for any program type: `r1` is their address, `r2` their number.

use super::{Context, ContextError, Placed};
use crate::memory::{Memory, MemoryError, ObjectKind, Permission};
use crate::program_type::ProgramType;

/// Bytes that the program may read and write. With none, `r1` is 0: a program that takes no context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes<'b>(pub &'b [u8]);

impl Context for Bytes<'_> {
    fn place(&self, memory: &mut Memory, _: ProgramType) -> Result<Placed, ContextError> {
        let placed = place_bytes(memory, self.0, Permission::ReadWrite)?;
        Ok(Placed { args: [placed.args[0], self.0.len() as u64], ..placed })
    }
}

impl Context for [u8] {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        Bytes(self).place(memory, program_type)
    }
}

impl<const N: usize> Context for [u8; N] {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        Bytes(self).place(memory, program_type)
    }
}

impl Context for Vec<u8> {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        Bytes(self).place(memory, program_type)
    }
}

/// No context: `r1` is 0.
impl Context for () {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        Bytes(&[]).place(memory, program_type)
    }
}

pub(super) fn place_bytes(memory: &mut Memory, bytes: &[u8], permission: Permission) -> Result<Placed, ContextError> {
    if bytes.is_empty() {
        return Ok(Placed::default());
    }
    let size = u32::try_from(bytes.len())
        .map_err(|_| MemoryError::ArenaFull { bytes: bytes.len() as u64, left: memory.left() })?;
    let addr = memory.allocate_for_run(ObjectKind::Context, size, permission)?;
    memory.put(addr, bytes);
    Ok(Placed { args: [addr.into(), 0], context: (addr, size), ..Placed::default() })
}
