//! What a run did: [`Outcome`], and the [`Trap`] that ended it early.
//!
//! Plain values, comparable with `==`, that know no engine: two engines agree when their outcomes are equal.
//! Sentences about them are written by whoever prints them.

use std::fmt;
use std::sync::Arc;

use crate::insn::Insn;
use crate::memory::{Access, Fault, FaultKind, Nearest};

/// The result of one run of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// `r0` when the program returned, or the trap that stopped it.
    pub ret: Result<u64, Box<Trap>>,
    /// Instructions executed; an instruction that trapped counts, a 64-bit immediate load is one.
    pub instructions: u64,
    /// Samples and records that the program sent to perf event arrays and ring buffers, in order.
    pub events: Vec<Event>,
    /// Lines of `bpf_trace_printk`, in order.
    pub printk: Vec<String>,
    /// The context's bytes at the end.
    pub context: Vec<u8>,
    /// The packet's bytes at the end, if the context has one.
    pub packet: Option<Vec<u8>>,
}

impl Outcome {
    /// The trap, if one stopped the program.
    pub fn trap(&self) -> Option<&Trap> {
        self.ret.as_ref().err().map(|trap| &**trap)
    }
}

/// Something that a program sent to user space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Name of the perf event array or ring buffer.
    pub map: Arc<str>,
    /// Which CPU's buffer; `None` for a ring buffer, which has one for all.
    pub cpu: Option<u32>,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// Why a program was stopped, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{program}: slot {slot}: {kind}")]
pub struct Trap {
    /// What happened.
    pub kind: TrapKind,
    /// The program that ran (after a tail call, not the one that was started).
    pub program: Arc<str>,
    /// The function of the program.
    pub function: Option<Arc<str>>,
    /// Slot of the instruction, as listings number them.
    pub slot: usize,
    /// The instruction.
    pub insn: Option<Insn>,
    /// Where it was written, if the object says.
    pub line: Option<SourceLine>,
    /// `r0` to `r10` before the instruction; all 0 for a trap that belongs to the run as a whole
    /// ([`TrapKind::UnreleasedRecord`]).
    pub registers: [u64; 11],
    /// The calls that led there: program and slot of each call, the entry program's first.
    pub callers: Vec<(Arc<str>, usize)>,
    /// The object nearest to the address of a refused access.
    pub nearest: Option<Nearest>,
}

/// A line of source, out of BTF line info.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLine {
    /// File, as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
    /// The line itself; empty when unknown.
    pub text: String,
}

/// What stopped a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrapKind {
    /// A load, store or atomic operation that guest memory refused.
    #[error("{0}")]
    Memory(Fault),
    /// The instruction budget is used up; the instruction was not executed.
    #[error("the budget of {budget} instructions is used up")]
    OutOfFuel {
        /// The budget.
        budget: u64,
    },
    /// Helpers have moved more bytes for the program than a run may.
    #[error("helpers have read and written more than {} bytes", crate::machine::MAX_HELPER_BYTES)]
    HelperBytes,
    /// A ninth call frame.
    #[error("calls more than {} deep", crate::memory::MAX_FRAMES)]
    TooDeep,
    /// A helper that has neither an implementation nor a mock.
    #[error("helper {} is neither implemented nor mocked", helper_name(.number, .name))]
    NoHelper {
        /// Its number.
        number: i32,
        /// Its name, if the kernel knows one.
        name: Option<&'static str>,
    },
    /// A kernel function that nobody provides.
    #[error("kernel function {name} is not provided")]
    NoKfunc {
        /// Its name, or its BTF id as a number.
        name: Arc<str>,
    },
    /// An external variable that nobody provides.
    #[error("external variable {name} is not provided")]
    NoExtern {
        /// Its name, or its BTF id as a number.
        name: Arc<str>,
    },
    /// An instruction that names a map the machine does not have.
    #[error("there is no map with descriptor {fd}")]
    NoMap {
        /// The descriptor.
        fd: i32,
    },
    /// An instruction that takes the address of a map's value where there is none.
    #[error("the map with descriptor {fd} has no value whose byte {offset} has an address")]
    NoMapValue {
        /// The descriptor.
        fd: i32,
        /// Bytes from the start of the value.
        offset: u32,
    },
    /// A tail call to a program that cannot be run.
    #[error("tail call to program {index} ({name}), which cannot be run")]
    BadProgram {
        /// Index of the program in its machine.
        index: u32,
        /// Its name; empty when there is none.
        name: Arc<str>,
    },
    /// A helper's argument that is not what the helper takes.
    #[error("argument {} of {helper}: {problem}", .index + 1)]
    BadArgument {
        /// Name of the helper.
        helper: Arc<str>,
        /// Which argument, from 0.
        index: usize,
        /// What is wrong with it.
        problem: ArgumentProblem,
    },
    /// A `callx` to something that is neither a function nor a helper.
    #[error("calls {target:#x}, which is not a function")]
    BadCallTarget {
        /// The register's value.
        target: u64,
    },
    /// A legacy packet load without the context of a packet in `r6`.
    #[error("legacy packet load, but r6 = {r6:#x} is not the context of a packet")]
    NoPacket {
        /// Value of `r6`.
        r6: u64,
    },
    /// A ring buffer record that was reserved and neither submitted nor discarded when the program ended.
    #[error("a record of ring buffer {map} was neither submitted nor discarded")]
    UnreleasedRecord {
        /// Name of the ring buffer.
        map: Arc<str>,
    },
    /// A mock that called the program, which called the mock.
    #[error("the mock of {helper} was called while it was running")]
    MockReentered {
        /// Name of the helper.
        helper: Arc<str>,
    },
    /// A mock that gave a reason of its own.
    #[error("the mock of {helper} stopped the program: {reason}")]
    Stopped {
        /// Name of the helper.
        helper: Arc<str>,
        /// What the mock said.
        reason: String,
    },
}

impl TrapKind {
    /// The refused access, if that is what happened.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            TrapKind::Memory(fault) | TrapKind::BadArgument { problem: ArgumentProblem::Memory(fault), .. } => {
                Some(*fault)
            }
            TrapKind::BadArgument { .. }
            | TrapKind::OutOfFuel { .. }
            | TrapKind::HelperBytes
            | TrapKind::TooDeep
            | TrapKind::NoHelper { .. }
            | TrapKind::NoKfunc { .. }
            | TrapKind::NoExtern { .. }
            | TrapKind::NoMap { .. }
            | TrapKind::NoMapValue { .. }
            | TrapKind::BadProgram { .. }
            | TrapKind::BadCallTarget { .. }
            | TrapKind::NoPacket { .. }
            | TrapKind::UnreleasedRecord { .. }
            | TrapKind::MockReentered { .. }
            | TrapKind::Stopped { .. } => None,
        }
    }
}

fn helper_name(number: &i32, name: &Option<&'static str>) -> String {
    match name {
        Some(name) => format!("bpf_{name} (number {number})"),
        None => format!("number {number:#x}"),
    }
}

/// What is wrong with a helper's argument.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArgumentProblem {
    /// Memory that the program may not touch in that way.
    #[error("{0}")]
    Memory(Fault),
    /// Not a map.
    #[error("{value:#x} is not a map")]
    NotAMap {
        /// The argument.
        value: u64,
    },
    /// A map of a type that the helper does not work on.
    #[error("map {map} is of type {map_type}")]
    WrongMapType {
        /// Name of the map.
        map: Arc<str>,
        /// Its type, as bpftool prints it.
        map_type: &'static str,
    },
    /// A size of 0 where the helper needs one.
    #[error("size 0 is not allowed")]
    ZeroSize,
    /// A string without an end.
    #[error("a string at {addr:#x} with no end in reach")]
    UnterminatedString {
        /// Its address.
        addr: u64,
    },
    /// Not a record between reserve and submit.
    #[error("{value:#x} is not a reserved ring buffer record")]
    NotARecord {
        /// The argument.
        value: u64,
    },
    /// More bytes than the argument has.
    #[error("{given} bytes do not fit into {size}")]
    TooLong {
        /// Bytes to be written.
        given: u64,
        /// Bytes there are.
        size: u64,
    },
    /// The helper has no such argument, or not one of memory.
    #[error("the helper's prototype has no memory there")]
    NotMemory,
    /// Not this program's context.
    #[error("{value:#x} is not the context")]
    NotContext {
        /// The argument.
        value: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.access {
            Access::Read => "read",
            Access::Write => "write",
        };
        let why = match self.kind {
            FaultKind::Null => "null pointer",
            FaultKind::OutOfBounds => "out of bounds",
            FaultKind::ReadOnly => "the object is read-only",
            FaultKind::Uninitialised => "the bytes were never written",
            FaultKind::NotMapped => "nothing is mapped there",
        };
        write!(f, "invalid {verb} of {} bytes at {:#x}: {why}", self.size, self.addr)
    }
}

impl fmt::Display for SourceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.column > 0 { write!(f, ":{}", self.column) } else { Ok(()) }
    }
}
