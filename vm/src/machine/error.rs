//! Why a machine cannot be made, or cannot do what it is asked. What happens while a program runs is not here: that is
//! part of its [`crate::Outcome`].

use std::sync::Arc;

use super::MAX_CPUS;
use crate::context::ContextError;
use crate::errno::Errno;
use crate::maps::{MapAccessError, MapError};
use crate::memory::MemoryError;
use crate::program::ProgramError;

/// Why a machine cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// A map breaks the kernel's rules, or its type is not implemented.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Guest memory is not to be had.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A program array is declared with a program that the object does not have.
    #[error("map {map} names program {program}, which the object does not have")]
    NoSuchProgram {
        /// The program array.
        map: String,
        /// The program.
        program: Arc<str>,
    },
    /// A program array is declared with a slot that it does not have.
    #[error("map {map} has no slot {slot}: {errno}")]
    NoSuchSlot {
        /// The program array.
        map: String,
        /// The slot.
        slot: u32,
        /// The error of the system call.
        errno: Errno,
    },
    /// A machine without CPUs.
    #[error("a machine needs at least one CPU and at most {max}", max = MAX_CPUS)]
    Cpus,
}

/// Why a program cannot be run. What happens while it runs is part of the [`crate::Outcome`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The machine has no program of that name.
    #[error("there is no program {name}; there are: {}", .known.join(", "))]
    NoSuchProgram {
        /// The name asked for.
        name: String,
        /// The names of all programs.
        known: Vec<String>,
    },
    /// It cannot be linked, or breaks a rule that every engine relies on.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Its context cannot be laid out.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// [`crate::World::cpu`] is none of the machine's.
    #[error("there is no CPU {cpu}: the machine has {cpus}, from 0")]
    NoSuchCpu {
        /// The CPU.
        cpu: u32,
        /// How many there are.
        cpus: u32,
    },
    /// A mock panicked during an earlier run, and what that run left is not to be trusted before [`super::Machine::reset`].
    #[error("an earlier run was cut off by a panic")]
    Poisoned,
}

/// A map that the machine does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no map {name}; there are: {}", .known.join(", "))]
pub struct NoSuchMap {
    /// The name asked for.
    pub name: String,
    /// The names of all maps.
    pub known: Vec<String>,
}

/// Why a slot of a program array cannot be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TailCallError {
    /// There is no such program.
    #[error(transparent)]
    Program(#[from] RunError),
    /// There is no such map.
    #[error(transparent)]
    Map(#[from] NoSuchMap),
    /// The map is no program array, or has no such slot.
    #[error(transparent)]
    Access(#[from] MapAccessError),
}
