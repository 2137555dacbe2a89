//! Taking over a run that another engine began: that engine stops where it likes, and the interpreter goes on exactly.
//!
//! What is handed over is what the interpreter knows of a run; guest memory, with the stack frames that are open, is the
//! machine's already. It does not know why the other engine stopped.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::Interpreter;
use super::run::Run;
use super::state::{Frame, State};
use crate::engine::ProgramId;
use crate::machine::Machine;
use crate::outcome::Trap;

/// A run between two instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    /// The program that runs (after a tail call, not the one that was started).
    pub program: ProgramId,
    /// The next instruction: an index into [`crate::codec::Code::insns`].
    pub index: usize,
    /// `r0` to `r10`.
    pub registers: [u64; 11],
    /// The calls in progress, the outermost first: all of the run, also those below `floor`. The frames of all of them,
    /// and the current function's, are open.
    pub callers: Vec<CallerFrame>,
    /// The part of the run that is handed over ends when the function at this depth returns: 0 is the entry program,
    /// more the function that a helper has called back.
    pub floor: u32,
    /// What is left of the current function's `may_goto` budget.
    pub loops: u32,
    /// Instructions executed so far.
    pub used: u64,
    /// Most instructions of the whole run ([`crate::engine::Entry::budget`]).
    pub budget: u64,
    /// Tail calls taken so far.
    pub tail_calls: u32,
}

/// A function that waits for the one it has called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerFrame {
    /// The program it belongs to.
    pub program: ProgramId,
    /// Index of the instruction after the call.
    pub ret: usize,
    /// Its `r6` to `r9`.
    pub saved: [u64; 4],
    /// Its `r10`.
    pub frame_pointer: u64,
    /// What is left of its `may_goto` budget.
    pub loops: u32,
}

/// How a run that was handed over ended.
#[derive(Debug)]
pub struct Resumed {
    /// `r0` of the function at the floor, or the trap; or else the panic of a mock, for the engine to let it go on
    /// ([`std::panic::resume_unwind`]) where nothing is in its way.
    pub ret: std::thread::Result<Result<u64, Box<Trap>>>,
    /// Instructions executed since the run began.
    pub used: u64,
    /// Tail calls taken since the run began.
    pub tail_calls: u32,
    /// The deepest that calls went since the hand-over.
    pub deepest: u32,
}

impl Interpreter {
    /// Goes on with a run, until the function at its floor returns, a trap, the end of the budget, or the panic of a mock: the result
    /// is that of an interpreter which ran it from the start.
    ///
    /// Frames that are open stay as they are. Afterwards those above the floor are closed; the one at the floor is the
    /// business of who opened it, and the end of the run ([`Machine::close_frames`]) that of the engine that began it.
    pub fn resume(&mut self, machine: &mut Machine, suspended: Suspended) -> Resumed {
        let Suspended { program, index, floor, used, tail_calls, .. } = suspended;
        let depth = suspended.callers.len() as u32;
        self.check_machine(machine);
        if !self.prepare(machine, program) {
            let callers = suspended.callers.iter().map(|caller| (caller.program, caller.ret.saturating_sub(1)));
            let trap = machine.trap(machine.bad_program(program), program, index, suspended.registers, callers);
            return Resumed { ret: Ok(Err(trap)), used, tail_calls, deepest: depth };
        }
        for caller in &suspended.callers {
            // They ran before, so that they can be run.
            self.prepare(machine, caller.program);
        }
        let mut run = Run::new(self, State::of(&suspended), None);
        run.regs[..11].copy_from_slice(&suspended.registers);
        run.tail_calls = tail_calls;
        let ret = catch_unwind(AssertUnwindSafe(|| run.run(machine)));
        run.unwind(machine, floor);
        Resumed { ret, used: run.state.used, tail_calls: run.tail_calls, deepest: run.state.deepest }
    }
}

impl State {
    fn of(suspended: &Suspended) -> State {
        let mut state = State::new(suspended.program.0, suspended.budget, Box::default());
        for (place, caller) in state.frames.iter_mut().zip(&suspended.callers) {
            *place = Frame::from(*caller);
            state.depth += 1;
        }
        state.pc = suspended.index;
        state.used = suspended.used;
        state.deepest = state.depth;
        (state.floor, state.loops) = (suspended.floor, suspended.loops);
        state
    }
}

impl From<CallerFrame> for Frame {
    fn from(caller: CallerFrame) -> Frame {
        let CallerFrame { program, ret, saved, frame_pointer, loops } = caller;
        Frame { program: program.0, ret: ret as u32, saved, frame_pointer, loops }
    }
}
