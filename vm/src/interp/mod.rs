//! The interpreter: modelled on the kernel's `___bpf_prog_run`, with eleven registers and a hot loop over
//! pre-decoded slots.
//!
//! `flat` turns a program into slots, `pairs` says which are fused, `exec` is the hot loop, and `run` is the driver, which
//! does what the loop cannot: calls helpers and is called back by them, switches programs, and executes by the typed form
//! what the loop hands back (`access`: addresses that missed the fast path, legacy packet loads; `callx`). `handover` takes
//! over what other engines began.

#[macro_use]
mod pairs;

mod access;
mod exec;
mod flat;
mod handover;
mod run;
#[cfg(test)]
mod tests;

pub use access::{access, load_packet};
pub use exec::MAY_GOTO_LOOPS;
use exec::{Frames, Registers, State};
use flat::Slot;
pub use handover::{CallerFrame, Resumed, Suspended};
use run::Run;

use crate::engine::{Engine, Entry, Finish, ProgramId, StepHook};
use crate::machine::Machine;

/// The interpreter.
#[derive(Debug, Default)]
pub struct Interpreter {
    /// Flat forms of the machine's programs, made when first run.
    flat: Vec<Option<Flat>>,
    /// [`Machine::load_id`] of the machine that they are of.
    load_id: u64,
    /// Room for the callers of the next run.
    frames: Option<Box<Frames>>,
}

/// A program in the hot loop's form.
#[derive(Debug, Default)]
struct Flat {
    /// One operation a slot, for the careful instance.
    single: Vec<Slot>,
    /// The same with pairs fused.
    fused: Vec<Slot>,
}

impl Interpreter {
    /// An interpreter that has run nothing yet.
    pub fn new() -> Interpreter {
        Interpreter::default()
    }

    /// Forgets the programs of another machine, or of another object in this one.
    fn check_machine(&mut self, machine: &Machine) {
        if self.load_id != machine.load_id() {
            self.flat.clear();
            self.load_id = machine.load_id();
        }
    }

    /// Makes the flat form of a program, if there is none yet; false for one that cannot be run.
    fn prepare(&mut self, machine: &Machine, id: ProgramId) -> bool {
        if let Some(Some(_)) = self.flat.get(id.index()) {
            return true;
        }
        let Some(program) = machine.program(id) else { return false };
        if self.flat.len() <= id.index() {
            self.flat.resize_with(id.index() + 1, || None);
        }
        let single = flat::flatten(program.code(), |slot, value| machine.imm64(id, slot, value));
        self.flat[id.index()] = Some(Flat { fused: flat::fuse(single.clone()), single });
        true
    }

    /// The flat form of a program that has been prepared.
    fn flat(&self, program: u32) -> &Flat {
        const NOTHING: &Flat = &Flat { single: Vec::new(), fused: Vec::new() };
        self.flat.get(program as usize).and_then(Option::as_ref).unwrap_or(NOTHING)
    }

    /// A run of a program that has been prepared, before its first instruction.
    fn start<'r, 'h>(
        &'r mut self,
        machine: &mut Machine,
        entry: &Entry,
        budget: i64,
        hook: Option<StepHook<'h>>,
    ) -> Run<'r, 'h> {
        let mut regs: Registers = [0; 16];
        regs[1..3].copy_from_slice(&entry.args);
        regs[10] = machine.memory.view().push_frame(0).unwrap_or(0);
        let state = State::new(entry.program.0, budget, self.frames.take().unwrap_or_default());
        Run::new(self, regs, state, hook)
    }
}

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "interpreter"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, hook: Option<StepHook<'_>>) -> Finish {
        self.check_machine(machine);
        if !self.prepare(machine, entry.program) {
            let kind = machine.bad_program(entry.program);
            let trap = machine.trap(kind, entry.program, 0, [0; 11], std::iter::empty());
            return Finish { ret: Err(trap), instructions: 0 };
        }
        let mut run = self.start(machine, &entry, budget(entry.budget), hook);
        let ret = run.run(machine);
        let instructions = u64::try_from(run.state.used()).unwrap_or(0);
        machine.leave_frames(run.state.depth, run.state.deepest);
        let frames = run.state.frames;
        self.frames = Some(frames);
        Finish { ret, instructions }
    }
}

/// A number of instructions as the hot loop counts them.
fn budget(instructions: u64) -> i64 {
    i64::try_from(instructions).unwrap_or(i64::MAX / 2)
}
