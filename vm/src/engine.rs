//! What an engine is: something that runs a program of a [`Machine`] and changes the machine as it does.
//!
//! Engines agree to the bit: the same machine and entry give the same [`Finish`] and leave the same machine,
//! whichever ran. An engine knows no ELF, no BTF and no test.

use std::fmt;

use crate::helpers::Stop;
use crate::insn::Insn;
use crate::machine::{Machine, Repeated};
use crate::outcome::Trap;

/// Index of a program in its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramId(pub(crate) u32);

impl ProgramId {
    /// The program with this index, in the order of the object's programs.
    pub fn new(index: usize) -> ProgramId {
        ProgramId(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The index, in the order of the object's programs.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Where and how a run starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The program.
    pub program: ProgramId,
    /// Values of `r1` and `r2`; the other registers are 0, and `r10` is the top of the stack.
    pub args: [u64; 2],
    /// Most instructions to execute.
    pub budget: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// `r0`, or the trap.
    pub ret: Result<u64, Box<Trap>>,
    /// Instructions executed.
    pub instructions: u64,
}

/// One instruction about to be executed.
#[derive(Debug)]
pub struct Step<'s> {
    /// The program it belongs to.
    pub program: ProgramId,
    /// Its slot.
    pub slot: usize,
    /// The instruction.
    pub insn: &'s Insn,
    /// `r0` to `r10` before it.
    pub registers: &'s [u64],
    /// Calls deep: 0 in the entry program.
    pub depth: u32,
}

/// Called before every instruction.
pub type StepHook<'h> = &'h mut dyn FnMut(&Step<'_>);

/// What a helper may ask of the engine that called it.
///
/// Whoever runs a program implements it, and gives itself to [`Machine::call_helper`].
pub trait Caller {
    /// Calls the function of the running program at guest code address `function` (what a 64-bit immediate load of
    /// [`crate::insn::Imm64::Code`] gives), one stack frame deeper, with `args` in `r1` to `r5`, 0 in the other registers
    /// and the new frame's top in `r10`; its `r0`.
    ///
    /// Instructions executed there count against the run's budget. A tail call there replaces the function, and its
    /// return ends the call. Afterwards the run stands as before: registers, frame, program, what is left of
    /// `may_goto`'s budget; also after an error, and after a panic of a mock, which goes through.
    ///
    /// # Errors
    /// [`Stop::Trap`] when there is no such function ([`crate::TrapKind::BadCallTarget`]) or no frame left
    /// ([`crate::TrapKind::TooDeep`]); [`Stop::Ended`] when the function trapped.
    fn call_back(&mut self, machine: &mut Machine, function: u64, args: [u64; 5]) -> Result<u64, Stop>;
}

/// Runs programs. See the module's header for what it owes.
///
/// An engine may remember what it finds out of programs and maps for as long as [`Machine::load_id`] stays the same. A
/// panic that goes through it must leave it fit for the next run: of a machine that was reset, or reloaded.
pub trait Engine: fmt::Debug + Send {
    /// Name for listings: `interpreter`, `jit`.
    fn name(&self) -> &'static str;

    /// Runs a program to its end, a trap, or the end of its budget. Without a hook, hooks cost nothing.
    fn run(&mut self, machine: &mut Machine, entry: Entry, hook: Option<StepHook<'_>>) -> Finish;

    /// Runs a program so many times (0 counts as 1), but not again after a trap: [`Machine::run_times`] with [`Engine::run`].
    ///
    /// Between two of the runs nobody touches the machine but the program and its mocks, so that an engine may do once what
    /// need not be done for each.
    fn repeat(&mut self, machine: &mut Machine, entry: Entry, times: u64) -> Repeated {
        machine.run_times(entry.program, times, |machine, _| self.run(machine, entry, None).into())
    }
}
