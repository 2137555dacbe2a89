//! What a program was compiled to: for disassemblers and profilers.

use std::ops::Range;

use softbpf::machine::{Machine, RunError};

use crate::Config;
pub use crate::proof::Region;

/// A compiled program, as bytes and places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compilation {
    /// Host address of the first byte.
    pub address: u64,
    /// Machine code: that of the instructions in order, then functions' entries and stubs that all share.
    pub code: Vec<u8>,
    /// One entry for each instruction, in order.
    pub insns: Vec<CompiledInsn>,
}

/// The code of one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledInsn {
    /// Its bytes in [`Compilation::code`].
    pub code: Range<usize>,
    /// How its access of memory is made safe; `None` for other instructions, and for accesses of which nothing is known:
    /// they pass a window, or the bitmaps.
    pub note: Option<Note>,
}

/// What is known of an access of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It is likely in this object, and compared with its limits.
    Likely(Region),
    /// It is in this object, at an offset from `first` to `last`: no check.
    Proved {
        /// The object.
        region: Region,
        /// Smallest offset from the object's start (from the frame's top, for the stack).
        first: i64,
        /// Largest offset.
        last: i64,
    },
}

/// Compiles a program of a machine, and describes the code. `None` where there is no JIT, or it cannot compile the program.
///
/// # Errors
/// There is no such program.
pub fn inspect(machine: &mut Machine, program: &str, config: Config) -> Result<Option<Compilation>, RunError> {
    let id = machine.find_program(program)?;
    Ok(crate::backend_inspect(machine, id, config))
}
