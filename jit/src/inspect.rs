//! What a program was compiled to: for disassemblers and profilers.

use std::ops::Range;

use softbpf::machine::{Machine, RunError};

use crate::Config;

/// A compiled program, as bytes and places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compilation {
    /// Host address of the first byte.
    pub address: u64,
    /// Machine code: that of the instructions in order, then stubs that all share, and routines that search maps.
    pub code: Vec<u8>,
    /// One entry for each instruction, in order.
    pub insns: Vec<CompiledInsn>,
    /// Routines that search hash maps.
    pub searches: Vec<CompiledSearch>,
    /// What the proofs rely on.
    pub assumptions: Assumptions,
}

/// What must be so in a run for the code to be used; other runs take code in which nothing is proved.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assumptions {
    /// Offsets of the context's bytes that can be read; `r1` points to the context.
    pub context_readable: Vec<Range<u32>>,
    /// Those that can be written.
    pub context_writable: Vec<Range<u32>>,
    /// Offsets of the context's fields that hold the packet's start and its end, and cannot be written.
    pub packet_pointers: Option<(u32, u32)>,
    /// All of the packet can be read.
    pub packet_readable: bool,
    /// All of the packet can be written.
    pub packet_writable: bool,
    /// Numbers of helpers that are not mocked.
    pub not_mocked: Vec<i32>,
}

/// A routine that lookups in a hash map call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompiledSearch {
    /// Index of the map.
    pub map: usize,
    /// Where the routine begins in [`Compilation::code`].
    pub entry: usize,
}

/// The code of one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompiledInsn {
    /// Its bytes in [`Compilation::code`].
    pub code: Range<usize>,
    /// How its access of memory is made safe; `None` for other instructions, and for accesses that the bitmaps decide
    /// about every time because there is no room for a window.
    pub note: Option<Note>,
}

/// An object, or a kind of object, that pointers are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Region {
    /// The current function's stack frame; offsets are from its top, so that those inside are negative.
    Stack,
    /// The context.
    Context,
    /// The packet, from `data`.
    Packet,
    /// The only value of the array with this index, at an address that instructions hold.
    Data(u32),
    /// A value of the map with this index.
    Element(u32),
}

/// How an access of memory is made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It is compared with a window: addresses that were found open before.
    Window,
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
        /// Bytes that a test in front of it has shown the packet to have, where that is the object.
        tested: Option<u32>,
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

/// Compiles a program of a machine as its first run does, with an engine of its own, and drops the code: its size in bytes. For
/// who measures compilers. `None` as in [`inspect`].
///
/// # Errors
/// There is no such program.
pub fn code_size(machine: &mut Machine, program: &str, config: Config) -> Result<Option<usize>, RunError> {
    let id = machine.find_program(program)?;
    Ok(crate::backend_code_size(machine, id, config))
}

/// What compiled code finds at this displacement from `r12`: the name of a cell, of a window, or of a routine that all
/// code shares. `None` for other displacements, and where there is no JIT.
pub fn cell_name(displacement: i64) -> Option<String> {
    crate::backend_cell_name(i32::try_from(displacement).ok()?)
}
