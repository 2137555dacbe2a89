//! The interpreter: modelled on the kernel's `___bpf_prog_run`, with eleven registers and a hot loop over
//! pre-decoded slots.
//!
//! `flat` turns a program into slots, `ops` says what each operation does, `pairs` and `fuse` which are executed together,
//! `exec` is the hot loop with `special` for calls and what else is not arithmetic or memory, and `run` is the driver, which
//! does what the loop cannot: calls helpers and is called back by them, switches programs, and executes by the typed form
//! what the loop hands back (`access`: addresses that missed the fast path, legacy packet loads; `callx`). `handover` takes
//! over what other engines began. `state` is where a run stands, as all of them see it.

mod access;
mod exec;
mod flat;
mod fuse;
mod handover;
mod ops;
mod pairs;
mod run;
mod special;
mod state;
#[cfg(test)]
mod tests;

pub use access::{access, load_packet};
use flat::{Slot, Touches};
pub use handover::{CallerFrame, Resumed, Suspended};
use run::Run;
pub use state::MAY_GOTO_LOOPS;
use state::{Frames, State};

use crate::engine::{Engine, Entry, Finish, ProgramId, StepHook};
use crate::machine::{Machine, Repeated};

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
#[derive(Debug)]
struct Flat {
    slots: Vec<Slot>,
    /// It was made for memory that keeps account of uninitialised bytes.
    tracking: bool,
    touches: Touches,
}

impl Interpreter {
    /// An interpreter that has run nothing yet.
    pub fn new() -> Interpreter {
        Interpreter::default()
    }

    /// Forgets the programs of another machine, or of another object in this one.
    #[inline]
    fn check_machine(&mut self, machine: &Machine) {
        if self.load_id != machine.load_id() {
            self.flat.clear();
            self.load_id = machine.load_id();
        }
    }

    /// Makes the flat form of a program, if there is none yet; false for one that cannot be run.
    #[inline]
    fn prepare(&mut self, machine: &Machine, id: ProgramId) -> bool {
        let tracking = machine.memory.tracking();
        match self.flat(id.0) {
            Some(flat) if flat.tracking == tracking => true,
            _ => self.flatten(machine, id, tracking),
        }
    }

    #[cold]
    fn flatten(&mut self, machine: &Machine, id: ProgramId, tracking: bool) -> bool {
        let Some(program) = machine.program(id) else { return false };
        if self.flat.len() <= id.index() {
            self.flat.resize_with(id.index() + 1, || None);
        }
        let slots = flat::flatten(program.code(), tracking, |slot, value| machine.imm64(id, slot, value));
        self.flat[id.index()] = Some(Flat { slots: fuse::fuse(slots), tracking, touches: Touches::of(program.code()) });
        true
    }

    /// The flat form of a program that has been prepared.
    #[inline]
    fn flat(&self, program: u32) -> Option<&Flat> {
        self.flat.get(program as usize)?.as_ref()
    }

    /// Does something with a run of a program that has been prepared.
    #[inline(always)]
    fn work<'h, T>(
        &mut self,
        entry: &Entry,
        hook: Option<StepHook<'h>>,
        work: impl FnOnce(&mut Run<'_, 'h>, Touches) -> T,
    ) -> T {
        let touches = self.flat(entry.program.0).map_or(Touches::Writes, |flat| flat.touches);
        let frames = self.frames.take().unwrap_or_default();
        let mut run = Run::new(self, State::new(entry.program.0, entry.budget, frames), hook);
        let done = work(&mut run, touches);
        let frames = run.state.frames;
        self.frames = Some(frames);
        done
    }
}

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "interpreter"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, hook: Option<StepHook<'_>>) -> Finish {
        self.check_machine(machine);
        if !self.prepare(machine, entry.program) {
            return cannot_run(machine, entry.program);
        }
        self.work(&entry, hook, |run, touches| run.whole(machine, &entry, touches))
    }

    fn repeat(&mut self, machine: &mut Machine, entry: Entry, times: u64) -> Repeated {
        self.check_machine(machine);
        if !self.prepare(machine, entry.program) {
            return cannot_run(machine, entry.program).into();
        }
        self.work(&entry, None, |run, touches| {
            machine.run_times(entry.program, times, |machine, left| match touches {
                Touches::Nothing | Touches::Reads => run.several(machine, &entry, touches, left),
                Touches::Writes => run.whole(machine, &entry, touches).into(),
            })
        })
    }
}

#[cold]
fn cannot_run(machine: &Machine, program: ProgramId) -> Finish {
    let trap = machine.trap(machine.bad_program(program), program, 0, [0; 11], std::iter::empty());
    Finish { ret: Err(trap), instructions: 0 }
}
