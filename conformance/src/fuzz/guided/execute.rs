//! [`Executor`]: runs inputs, each from the same state, and sees which way they go.

use std::sync::Arc;

use softbpf::engine::{ProgramId, Step};
use softbpf::interp::Interpreter;
use softbpf::machine::RunError;
use softbpf::{Config, Machine, Outcome};

use super::coverage::{Graph, Taken, Trail};
use super::input::Input;
use super::target::{Target, TargetError};

/// A machine for one target.
#[derive(Debug)]
pub struct Executor {
    vm: Machine,
    target: Arc<Target>,
    graph: Arc<Graph>,
    trail: Trail,
}

impl Executor {
    /// A machine that has run nothing yet.
    ///
    /// # Errors
    /// The object's maps cannot be made, the program is not there or not sound, or memory cannot be placed.
    pub fn new(target: &Arc<Target>) -> Result<Executor, TargetError> {
        target.linked()?;
        // Only the interpreter lets its steps be seen.
        let engine = Box::new(Interpreter::new());
        let config = Config { cpus: target.cpus, track_uninitialised: target.strict, engine };
        let mut vm = Machine::with_config(&target.object, config)?;
        vm.fuel = target.fuel;
        for &(helper, value) in &target.mocks {
            // A number is always taken.
            let _ = vm.mock(helper, move |_| value);
        }
        let graph = Arc::new(Graph::new(&vm));
        Ok(Executor { vm, target: target.clone(), trail: Trail::new(&graph), graph })
    }

    /// The control flow of the machine's programs.
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The program in its machine.
    pub fn program(&self) -> ProgramId {
        self.vm.find_program(&self.target.program).unwrap_or(ProgramId::new(usize::MAX))
    }

    /// Most instructions of a run from now on.
    pub(super) fn set_fuel(&mut self, fuel: u64) {
        self.vm.fuel = fuel;
    }

    /// Puts an input into the machine, to see that its maps take it.
    ///
    /// # Errors
    /// Memory cannot be placed, or an element is not taken by its map.
    pub fn prepare(&mut self, input: &Input) -> Result<(), TargetError> {
        self.vm.reset();
        Ok(input.prepare(&mut self.vm)?)
    }

    /// Runs the program on an input. Elements that their maps do not take, and memory that cannot be
    /// placed, are left out.
    ///
    /// # Errors
    /// It cannot be run on such an input: another kind of context, a CPU that there is not.
    pub fn run(&mut self, input: &Input) -> Result<Outcome, RunError> {
        self.run_with(input, |_| {})
    }

    /// As [`Executor::run`], calling `hook` before every instruction.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn run_with(&mut self, input: &Input, mut hook: impl FnMut(&Step<'_>)) -> Result<Outcome, RunError> {
        self.vm.reset();
        // What is refused is not there; `prepare` says so of what the user gives.
        let _ = input.prepare(&mut self.vm);
        self.trail.clear();
        let (graph, trail) = (&*self.graph, &mut self.trail);
        self.vm.trace(&self.target.program, &input.data, |step| {
            trail.step(graph, step);
            hook(step);
        })
    }

    /// The edges that the last run took.
    pub fn taken(&self) -> impl Iterator<Item = Taken> {
        self.trail.taken()
    }
}
