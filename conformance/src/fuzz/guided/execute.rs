//! [`Executor`]: runs inputs, each from the same state, and sees which way they go.

use std::sync::Arc;

use softbpf::engine::{ProgramId, Step};
use softbpf::interp::Interpreter;
use softbpf::machine::{LoadError, RunError};
use softbpf::{Config, Machine, Outcome};

use super::coverage::{Graph, Taken, Trail};
use super::input::Input;
use super::target::{Target, TargetError};
use crate::fuzz::caught;

/// Why a run has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The program cannot be run on such an input: another kind of context, a CPU that there is not.
    #[error(transparent)]
    Refused(#[from] RunError),
    /// softbpf itself panicked, and said this.
    #[error("softbpf panicked: {0}")]
    Panicked(Arc<str>),
}

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
        let vm = machine(target)?;
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
    /// There is no outcome. After a panic the next run has a machine of its own.
    pub fn run(&mut self, input: &Input) -> Result<Outcome, Failure> {
        self.run_with(input, |_| {})
    }

    /// As [`Executor::run`], calling `hook` before every instruction.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn run_with(&mut self, input: &Input, mut hook: impl FnMut(&Step<'_>)) -> Result<Outcome, Failure> {
        self.trail.clear();
        let (vm, graph, trail) = (&mut self.vm, &*self.graph, &mut self.trail);
        let ran = caught(|| {
            vm.reset();
            // What is refused is not there; `prepare` says so of what the user gives.
            let _ = input.prepare(vm);
            vm.trace(&self.target.program, &input.data, |step| {
                trail.step(graph, step);
                hook(step);
            })
        });
        match ran {
            Ok(ran) => Ok(ran?),
            Err(text) => {
                // It could be made before.
                if let Ok(vm) = machine(&self.target) {
                    let fuel = self.vm.fuel;
                    self.vm = vm;
                    self.vm.fuel = fuel;
                }
                Err(Failure::Panicked(text.into()))
            }
        }
    }

    /// The edges that the last run took.
    pub fn taken(&self) -> impl Iterator<Item = Taken> {
        self.trail.taken()
    }
}

/// A machine as every run begins with.
fn machine(target: &Target) -> Result<Machine, LoadError> {
    // Only the interpreter lets its steps be seen.
    let engine = Box::new(Interpreter::new());
    let config = Config { cpus: target.cpus, track_uninitialised: target.strict, engine };
    let mut vm = Machine::with_config(&target.object, config)?;
    vm.fuel = target.fuel;
    for &(helper, value) in &target.mocks {
        // A number is always taken.
        let _ = vm.mock(helper, move |_| value);
    }
    Ok(vm)
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use softbpf::Object;
    use softbpf::object::MAIN;
    use softbpf::program_type::ProgramType;

    use super::*;
    use crate::fuzz::guided::input::Data;

    /// Calls a helper when the first byte is a 7.
    const TEXT: &str = "r0 = *(u8 *)(r1 + 0)\nif r0 != 7 goto out\ncall 7\nout: r0 = 0\nexit\n";

    impl Executor {
        /// Makes the machine panic when a program calls get_prandom_u32.
        pub(in crate::fuzz::guided) fn plant_panic(&mut self) {
            self.vm.mock(7, |_| -> u64 { panic!("planted") }).expect("a number is taken");
        }
    }

    /// A program that calls get_prandom_u32 when the first byte of its context is a 7, and an input with that byte.
    pub(in crate::fuzz::guided) fn target(byte: u8) -> Target {
        Target {
            object: Object::assemble(TEXT, ProgramType::Tracepoint, Vec::new()).expect("it is right"),
            program: MAIN.into(),
            cpus: 1,
            strict: false,
            fuel: 1000,
            mocks: Vec::new(),
            base: Input::new(Data::Bytes(vec![byte; 8])),
            pinned: BTreeSet::new(),
        }
    }

    #[test]
    fn after_a_panic_there_is_a_new_machine() {
        let target = Arc::new(target(7));
        let mut executor = Executor::new(&target).expect("a machine");
        executor.plant_panic();
        executor.set_fuel(100);
        let panicked = executor.run(&target.base);
        assert!(matches!(&panicked, Err(Failure::Panicked(text)) if &**text == "planted"), "{panicked:?}");
        assert!(executor.taken().count() > 0);
        // Nothing is planted there.
        assert_eq!(executor.run(&target.base).map(|outcome| outcome.ret).ok(), Some(Ok(0)));
        assert_eq!(executor.vm.fuel, 100);
    }
}
