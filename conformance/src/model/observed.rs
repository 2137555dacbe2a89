//! What can be seen of a run, in the model's words, so that the model and an engine can be compared with `==`.

use std::fmt;

use softbpf::memory::Access;
use softbpf::outcome::ArgumentProblem;
use softbpf::{Outcome, TrapKind};

use super::memory::BadAccess;

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// `r0`, or what stopped the program.
    pub ret: Result<u64, Stop>,
    /// Instructions executed, one that stopped the program included.
    pub instructions: u64,
    /// The context's bytes at the end.
    pub context: Vec<u8>,
    /// The packet's bytes at the end, if there is one.
    pub packet: Option<Vec<u8>>,
}

/// What stopped a program, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// What happened.
    pub kind: StopKind,
    /// Name of the program that ran.
    pub program: String,
    /// Slot of the instruction.
    pub slot: usize,
    /// Program and slot of each call that led there, the first one first.
    pub callers: Vec<(String, usize)>,
    /// `r0` to `r10` before it.
    pub registers: [u64; 11],
}

/// What stopped a program. Coarser than [`TrapKind`]: the model knows no names and no reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopKind {
    /// An access that memory refused.
    Access(BadAccess),
    /// The instruction budget is used up; the instruction was not executed.
    OutOfFuel,
    /// One call frame too many.
    TooDeep,
    /// A helper that nobody provides.
    NoHelper(i32),
    /// A `callx` to something that is neither a function nor a helper.
    BadCallTarget(u64),
    /// A legacy packet load without the context of a packet in `r6`, which has this value.
    NoPacket(u64),
    /// A map, kernel function or external variable that is not there.
    Missing,
    /// A helper's argument that is not what the helper takes.
    Argument {
        /// Which one, from 0.
        argument: usize,
        /// What is wrong with it.
        problem: Problem,
    },
    /// What only helpers do.
    Helper(String),
}

/// What is wrong with a helper's argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// An access that memory refused.
    Access(BadAccess),
    /// Not a map, but this.
    NotAMap(u64),
    /// A map of a type that the helper does not work on.
    WrongMapType,
    /// Not the context, but this.
    NotContext(u64),
    /// A size of 0 where there must be one.
    ZeroSize,
    /// What helpers do that the model does not know.
    Other(String),
}

fn bad_access(fault: &softbpf::memory::Fault) -> BadAccess {
    BadAccess { write: fault.access == Access::Write, addr: fault.addr, size: fault.size }
}

impl From<&ArgumentProblem> for Problem {
    fn from(problem: &ArgumentProblem) -> Problem {
        match problem {
            ArgumentProblem::Memory(fault) => Problem::Access(bad_access(fault)),
            ArgumentProblem::NotAMap { value } => Problem::NotAMap(*value),
            ArgumentProblem::WrongMapType { .. } => Problem::WrongMapType,
            ArgumentProblem::NotContext { value } => Problem::NotContext(*value),
            ArgumentProblem::ZeroSize => Problem::ZeroSize,
            ArgumentProblem::UnterminatedString { .. }
            | ArgumentProblem::NotARecord { .. }
            | ArgumentProblem::TooLong { .. }
            | ArgumentProblem::NotMemory => Problem::Other(problem.to_string()),
        }
    }
}

impl From<&Outcome> for Observed {
    fn from(outcome: &Outcome) -> Observed {
        let stop = |trap: &softbpf::Trap| Stop {
            kind: StopKind::from(&trap.kind),
            program: trap.program.to_string(),
            slot: trap.slot,
            callers: trap.callers.iter().map(|(program, slot)| (program.to_string(), *slot)).collect(),
            registers: trap.registers,
        };
        Observed {
            ret: outcome.ret.as_ref().map(|&r0| r0).map_err(|trap| stop(trap)),
            instructions: outcome.instructions,
            context: outcome.context.clone(),
            packet: outcome.packet.clone(),
        }
    }
}

impl From<&TrapKind> for StopKind {
    fn from(kind: &TrapKind) -> StopKind {
        match kind {
            TrapKind::Memory(fault) => StopKind::Access(bad_access(fault)),
            TrapKind::BadArgument { index, problem, .. } => {
                StopKind::Argument { argument: *index, problem: problem.into() }
            }
            TrapKind::OutOfFuel { .. } => StopKind::OutOfFuel,
            TrapKind::TooDeep => StopKind::TooDeep,
            TrapKind::NoHelper { number, .. } => StopKind::NoHelper(*number),
            TrapKind::BadCallTarget { target } => StopKind::BadCallTarget(*target),
            TrapKind::NoPacket { r6 } => StopKind::NoPacket(*r6),
            TrapKind::NoKfunc { .. }
            | TrapKind::NoExtern { .. }
            | TrapKind::NoMap { .. }
            | TrapKind::NoMapValue { .. } => StopKind::Missing,
            TrapKind::HelperBytes
            | TrapKind::BadProgram { .. }
            | TrapKind::UnreleasedRecord { .. }
            | TrapKind::MockReentered { .. }
            | TrapKind::Stopped { .. } => StopKind::Helper(kind.to_string()),
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ret {
            Ok(r0) => write!(f, "returned {r0:#x}")?,
            Err(stop) => write!(f, "stopped in {} at slot {}: {:x?}", stop.program, stop.slot, stop.kind)?,
        }
        write!(f, " after {} instructions", self.instructions)
    }
}
