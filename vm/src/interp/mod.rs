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

use std::sync::Arc;

pub use access::{access, load_packet};
use exec::{Registers, State};
use flat::Slot;
pub use handover::{CallerFrame, Resumed, Suspended};
use run::Run;

use crate::engine::{Engine, Entry, Finish, ProgramId, StepHook};
use crate::machine::Machine;

/// The interpreter.
#[derive(Debug, Default)]
pub struct Interpreter {
    /// Flat forms of the machine's programs, made when first run.
    flat: Vec<Option<Arc<Flat>>>,
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

    /// The flat form of a program; `None` for one that cannot be run.
    fn flat(&mut self, machine: &Machine, id: ProgramId) -> Option<Arc<Flat>> {
        let program = machine.program(id)?;
        if self.flat.len() <= id.index() {
            self.flat.resize(id.index() + 1, None);
        }
        let flat = self.flat.get_mut(id.index())?.get_or_insert_with(|| {
            let single = flat::flatten(program.code(), |slot, value| machine.imm64(id, slot, value));
            Arc::new(Flat { fused: flat::fuse(single.clone()), single })
        });
        Some(Arc::clone(flat))
    }
}

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "interpreter"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, hook: Option<StepHook<'_>>) -> Finish {
        let program = entry.program.0;
        let Some(flat) = self.flat(machine, entry.program) else {
            let kind = machine.bad_program(entry.program);
            let trap = machine.trap(kind, entry.program, 0, [0; 11], std::iter::empty());
            return Finish { ret: Err(trap), instructions: 0 };
        };
        let mut regs: Registers = [0; 16];
        regs[1..3].copy_from_slice(&entry.args);
        regs[10] = machine.memory.view().push_frame(0).unwrap_or(0);
        let mut run = Run::new(self, flat, regs, State::new(program, budget(entry.budget)), hook);
        let ret = run.run(machine);
        let instructions = u64::try_from(run.state.used()).unwrap_or(0);
        machine.leave_frames(run.state.depth, run.state.deepest);
        Finish { ret, instructions }
    }
}

/// A number of instructions as the hot loop counts them.
fn budget(instructions: u64) -> i64 {
    i64::try_from(instructions).unwrap_or(i64::MAX / 2)
}
