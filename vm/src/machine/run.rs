//! Running programs: a context is placed, the engine runs, and what the run held is let go of.

use std::sync::Arc;

use super::{Machine, RunError};
use crate::context::Context;
use crate::engine::{Engine, Entry, Finish, ProgramId, Step, StepHook};
use crate::maps::Map;
use crate::outcome::{Outcome, Trap, TrapKind};

/// What [`Machine::repeat`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// `r0` of the last run, or the trap that ended it.
    pub ret: Result<u64, Box<Trap>>,
    /// How often the program ran; a run that trapped counts.
    pub runs: u64,
    /// Instructions executed in all runs together.
    pub instructions: u64,
}

impl From<Finish> for Repeated {
    /// One run.
    fn from(Finish { ret, instructions }: Finish) -> Repeated {
        Repeated { ret, runs: 1, instructions }
    }
}

/// A machine whose engine is at work: the engine comes back when this is dropped, and a panic leaves the machine poisoned.
struct Running<'m> {
    machine: &'m mut Machine,
    engine: Option<Box<dyn Engine>>,
    /// The engine has begun a run and not ended it.
    under_way: bool,
}

impl Running<'_> {
    /// Has the engine work on the machine.
    fn engage<T>(&mut self, work: impl FnOnce(&mut dyn Engine, &mut Machine) -> T) -> Result<T, RunError> {
        // It is taken by `drop` only.
        let Some(engine) = self.engine.as_deref_mut() else { return Err(RunError::Poisoned) };
        self.under_way = true;
        let done = work(engine, self.machine);
        self.under_way = false;
        Ok(done)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.machine.engine = self.engine.take();
        if self.under_way {
            self.machine.poisoned = true;
            self.machine.memory.cut_off();
        }
    }
}

impl Machine {
    /// Runs a program on a context.
    ///
    /// # Errors
    /// There is no such program, or it does not take such a context. A trap is no error but part of the outcome.
    pub fn run(&mut self, program: &str, context: impl Context) -> Result<Outcome, RunError> {
        let program = self.find_program(program)?;
        self.run_with(program, &context, None)
    }

    /// As [`Machine::run`], calling `hook` before every instruction.
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn trace(
        &mut self,
        program: &str,
        context: impl Context,
        mut hook: impl FnMut(&Step<'_>),
    ) -> Result<Outcome, RunError> {
        let program = self.find_program(program)?;
        self.run_with(program, &context, Some(&mut hook))
    }

    /// Runs a program many times on one context, as `BPF_PROG_TEST_RUN` does with `repeat` (0 counts as 1), and stops at
    /// the first trap.
    ///
    /// The context is placed once: like the maps, context and packet keep what a run changes in them for the next one.
    /// Every run has the whole of [`Machine::fuel`]. Events and lines of `bpf_trace_printk` are not kept; what waits in
    /// maps is.
    ///
    /// ```
    /// use softbpf::{Machine, Object, program_type::ProgramType};
    ///
    /// let text = "r0 = *(u32 *)(r1 + 0)\n r0 += 1\n *(u32 *)(r1 + 0) = r0\n exit";
    /// let mut vm = Machine::load(&Object::from_text(text, ProgramType::Unspec)?)?;
    /// let repeated = vm.repeat("main", [0; 4], 1000)?;
    /// assert_eq!((repeated.ret, repeated.runs, repeated.instructions), (Ok(1000), 1000, 4000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Machine::run`].
    pub fn repeat(&mut self, program: &str, context: impl Context, times: u64) -> Result<Repeated, RunError> {
        let program = self.find_program(program)?;
        self.repeat_with(program, &context, times)
    }

    fn repeat_with(&mut self, program: ProgramId, context: &dyn Context, times: u64) -> Result<Repeated, RunError> {
        let (mut running, entry) = self.start(program, context)?;
        let repeated = running.engage(|engine, machine| engine.repeat(machine, entry, times))?;
        running.machine.forget_run();
        Ok(repeated)
    }

    /// [`Engine::repeat`], for an engine that runs the program with `run`: what the machine owes each run is done here.
    ///
    /// `run` is given how many runs are left. It may do several at a time where a run leaves nothing with the machine that
    /// would have to go before the next one: where it calls no helper.
    #[inline(always)]
    pub fn run_times(
        &mut self,
        program: ProgramId,
        times: u64,
        mut run: impl FnMut(&mut Machine, u64) -> Repeated,
    ) -> Repeated {
        let (mut runs, mut instructions) = (0, 0_u64);
        loop {
            self.forget_run();
            let some = run(self, times.saturating_sub(runs).max(1));
            runs += some.runs;
            instructions = instructions.saturating_add(some.instructions);
            let ret = self.finish(program, some.ret);
            if ret.is_err() || runs >= times {
                return Repeated { ret, runs, instructions };
            }
        }
    }

    fn run_with(
        &mut self,
        program: ProgramId,
        context: &dyn Context,
        hook: Option<StepHook<'_>>,
    ) -> Result<Outcome, RunError> {
        let (mut running, entry) = self.start(program, context)?;
        running.machine.forget_run();
        let finish = running.engage(|engine, machine| engine.run(machine, entry, hook))?;
        drop(running);
        Ok(Outcome {
            ret: self.finish(program, finish.ret),
            instructions: finish.instructions,
            events: std::mem::take(&mut self.events),
            printk: std::mem::take(&mut self.printk),
            context: self.memory.get(self.placed.context.0, self.placed.context.1).to_vec(),
            packet: self.packet().map(<[u8]>::to_vec),
        })
    }

    /// Places the context; the machine with its engine taken out, and where it starts.
    fn start(&mut self, program: ProgramId, context: &dyn Context) -> Result<(Running<'_>, Entry), RunError> {
        let program_type = self.loaded(program)?.program_type();
        if self.world.cpu >= self.cpus {
            return Err(RunError::NoSuchCpu { cpu: self.world.cpu, cpus: self.cpus });
        }
        if self.poisoned {
            return Err(RunError::Poisoned);
        }
        let Some(engine) = self.engine.take() else { return Err(RunError::Poisoned) };
        // User space may have deleted elements since the last run.
        self.end_run();
        self.memory.start_run();
        self.walk_keys.clear();
        match context.place(&mut self.memory, program_type) {
            Ok(placed) => {
                self.placed = placed;
                let entry = Entry { program, args: placed.args, budget: self.fuel };
                Ok((Running { machine: self, engine: Some(engine), under_way: false }, entry))
            }
            Err(error) => {
                self.engine = Some(engine);
                Err(error.into())
            }
        }
    }

    /// Starts to count anew what a run may have only so much of, and drops what the last one sent out.
    #[inline(always)]
    pub(super) fn forget_run(&mut self) {
        if !self.events.is_empty() || !self.printk.is_empty() {
            self.forget_output();
        }
        self.printk_bytes = 0;
        self.event_bytes = 0;
        self.helper_bytes.set(0);
    }

    #[cold]
    fn forget_output(&mut self) {
        self.events.clear();
        self.printk.clear();
    }

    /// What a run came to, once what it held is let go of.
    #[inline(always)]
    fn finish(&mut self, program: ProgramId, ret: Result<u64, Box<Trap>>) -> Result<u64, Box<Trap>> {
        if self.holding_maps.is_empty() { ret } else { self.let_go(program, ret) }
    }

    #[inline(never)]
    fn let_go(&mut self, program: ProgramId, ret: Result<u64, Box<Trap>>) -> Result<u64, Box<Trap>> {
        match (ret, self.end_run()) {
            (Ok(_), Some(map)) => Err(self.trap_at_end(program, TrapKind::UnreleasedRecord { map })),
            (ret, _) => ret,
        }
    }

    /// Lets go of what a run held; the ring buffer whose record it did not release, if any.
    fn end_run(&mut self) -> Option<Arc<str>> {
        let mut unreleased = None;
        for &index in &self.holding_maps {
            let Some(map) = self.maps.get_mut(index) else { continue };
            if unreleased.is_none() && map.has_reserved_records() {
                unreleased = Some(map.name().clone());
            }
            map.end_run(&mut self.memory);
        }
        unreleased
    }
}

/// Indices of the maps in which a run may leave something to be let go of.
pub(super) fn holding_maps(maps: &[Map]) -> Vec<usize> {
    (0..maps.len()).filter(|&index| maps[index].holds_memory_of_runs()).collect()
}
