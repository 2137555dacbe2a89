//! [`Finding`]: an input that makes the program go wrong; and when two of them are one ([`Key`]).

use std::sync::Arc;

use softbpf::memory::{Access, Fault, FaultKind};
use softbpf::outcome::{ArgumentProblem, Trap};
use softbpf::{Outcome, TrapKind};

use super::expect::Expectation;
use super::input::Input;

/// Something that goes wrong, with an input that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What goes wrong, and where.
    pub key: Key,
    /// The smallest input that shows it; after a panic, the input that was found first.
    pub input: Input,
    /// The input that was found first.
    pub found: Input,
    /// What a run on [`Finding::input`] comes to, or what softbpf says when it panics.
    pub outcome: Result<Outcome, Arc<str>>,
    /// How many inputs had been run before it was found, on all threads.
    pub executions: u64,
}

/// What goes wrong: findings with the same key are one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The program was stopped.
    Trap {
        /// The program that ran: after a tail call, not the one that was started.
        program: Arc<str>,
        /// The kind of trap, by a short name: `read-out-of-bounds`.
        kind: &'static str,
        /// Slot of the instruction.
        slot: usize,
    },
    /// It was still running when the budget was used up. In which loop does not show; in which function does.
    Endless {
        /// The program that ran.
        program: Arc<str>,
        /// The function of it.
        function: Option<Arc<str>>,
    },
    /// It returned what it should not.
    Unexpected {
        /// `r0`.
        value: u64,
    },
    /// softbpf itself panicked: a bug of ours, not of the program.
    Panic {
        /// What it said.
        message: Arc<str>,
    },
}

impl Key {
    /// What is wrong with an outcome, if anything is.
    pub fn of(outcome: &Outcome, expected: Option<&Expectation>) -> Option<Key> {
        match &outcome.ret {
            Ok(value) => match expected {
                Some(expected) if !expected.holds(*value) => Some(Key::Unexpected { value: *value }),
                Some(_) | None => None,
            },
            Err(trap) => Some(Key::of_trap(trap)),
        }
    }

    fn of_trap(trap: &Trap) -> Key {
        let program = trap.program.clone();
        if matches!(trap.kind, TrapKind::OutOfFuel { .. } | TrapKind::HelperBytes) {
            return Key::Endless { program, function: trap.function.clone() };
        }
        Key::Trap { program, kind: kind_name(&trap.kind), slot: trap.slot }
    }
}

/// A short name of the kind of trap, for names of files and tests.
pub fn kind_name(kind: &TrapKind) -> &'static str {
    match kind {
        TrapKind::Memory(fault) => fault_name(fault),
        TrapKind::BadArgument { problem: ArgumentProblem::Memory(fault), .. } => fault_name(fault),
        TrapKind::BadArgument { .. } => "bad-argument",
        TrapKind::OutOfFuel { .. } => "endless",
        TrapKind::HelperBytes => "helper-bytes",
        TrapKind::TooDeep => "too-deep",
        TrapKind::NoHelper { .. } => "no-helper",
        TrapKind::NoKfunc { .. } => "no-kfunc",
        TrapKind::NoExtern { .. } => "no-extern",
        TrapKind::NoMap { .. } => "no-map",
        TrapKind::NoMapValue { .. } => "no-map-value",
        TrapKind::BadProgram { .. } => "bad-program",
        TrapKind::BadCallTarget { .. } => "bad-call-target",
        TrapKind::NoPacket { .. } => "no-packet",
        TrapKind::UnreleasedRecord { .. } => "unreleased-record",
        TrapKind::MockReentered { .. } => "mock-reentered",
        TrapKind::Stopped { .. } => "stopped",
    }
}

fn fault_name(fault: &Fault) -> &'static str {
    match (fault.kind, fault.access) {
        (FaultKind::Null, Access::Read) => "read-null",
        (FaultKind::Null, Access::Write) => "write-null",
        (FaultKind::OutOfBounds, Access::Read) => "read-out-of-bounds",
        (FaultKind::OutOfBounds, Access::Write) => "write-out-of-bounds",
        (FaultKind::ReadOnly, _) => "write-read-only",
        (FaultKind::Uninitialised, _) => "read-uninitialised",
        (FaultKind::NotMapped, Access::Read) => "read-not-mapped",
        (FaultKind::NotMapped, Access::Write) => "write-not-mapped",
    }
}
