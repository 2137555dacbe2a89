//! Generated programs by number, one half samples, one half scenarios, and what the model, or an engine, makes of them.

use softbpf::codec::Code;
use softbpf::context::Bytes;
use softbpf::engine::Engine;
use softbpf::interp::Interpreter;
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Config, Machine, Object, Outcome};
use softbpf_conformance::generator::scenario::{Scenario, ScenarioKnobs};
use softbpf_conformance::generator::{INPUT, Knobs, Sample};
use softbpf_conformance::model::scenario::{Setups, machine, on_model, runs};
use softbpf_conformance::model::{self, Contents, Observed, Setup};

/// What can be seen of all runs of a program on an engine.
pub(crate) type Got = Vec<(Outcome, Vec<Contents>)>;

/// The same in the model's words.
pub(crate) type Seen = Vec<(Observed, Vec<Contents>)>;

/// A generated program with its input.
pub(crate) enum Case {
    Scenario(Box<Scenario>),
    Sample { code: Code, input: Vec<u8> },
}

/// What the model needs to know of machines.
pub(crate) struct Oracle {
    setup: Setup,
    setups: Setups,
}

impl Oracle {
    pub(crate) fn new() -> Oracle {
        let setup = Setup::of(ProgramType::Unspec, Bytes(&[0; INPUT])).unwrap_or_else(|error| panic!("{error}"));
        Oracle { setup, setups: Setups::default() }
    }

    /// What is to be seen of a case.
    pub(crate) fn expected(&mut self, case: &Case) -> Seen {
        match case {
            Case::Scenario(scenario) => {
                let setup = self.setups.of(scenario).unwrap_or_else(|error| panic!("{error}"));
                on_model(scenario, setup).into_iter().map(|seen| (seen.observed, seen.maps)).collect()
            }
            Case::Sample { code, input } => {
                vec![(model::run(code, &self.setup.clone().with_context(input)), Vec::new())]
            }
        }
    }
}

impl Case {
    /// The case with this number.
    pub(crate) fn numbered(number: u64) -> Case {
        let seed = number / 2;
        if number.is_multiple_of(2) {
            return Case::Scenario(Box::new(Scenario::from_seed(seed, &ScenarioKnobs::mixed(seed))));
        }
        let sample = Sample::from_seed(seed, &Knobs::ALL);
        Case::Sample { code: sample.code(), input: sample.input }
    }

    /// Its programs.
    pub(crate) fn codes(&self) -> Vec<&Code> {
        match self {
            Case::Scenario(scenario) => scenario.programs.iter().collect(),
            Case::Sample { code, .. } => vec![code],
        }
    }

    /// The case with other programs.
    pub(crate) fn altered(&self, alter: impl Fn(&Code) -> Code) -> Case {
        match self {
            Case::Scenario(scenario) => {
                let programs = scenario.programs.iter().map(alter).collect();
                Case::Scenario(Box::new(Scenario { programs, ..(**scenario).clone() }))
            }
            Case::Sample { code, input } => Case::Sample { code: alter(code), input: input.clone() },
        }
    }

    /// All runs on an engine; `None` when the programs are none that can be run.
    pub(crate) fn run(&self, engine: Box<dyn Engine>) -> Option<Got> {
        match self {
            Case::Scenario(scenario) => runs(scenario, &mut machine(scenario, || engine).ok()?).ok(),
            Case::Sample { code, input } => {
                let program = Program::new(ProgramInfo::new(MAIN, ProgramType::Unspec), code.clone()).ok()?;
                let object = Object::from_programs(vec![program], Vec::new());
                let mut vm = Machine::with_config(&object, Config { engine, ..Config::default() }).ok()?;
                Some(vec![(vm.run(MAIN, Bytes(input)).ok()?, Vec::new())])
            }
        }
    }

    /// All runs on the interpreter as it is.
    pub(crate) fn on_interpreter(&self) -> Got {
        self.run(Box::new(Interpreter::new())).unwrap_or_else(|| panic!("a generated program cannot be run"))
    }
}

/// What was got, in the model's words.
pub(crate) fn seen(got: &Got) -> Seen {
    got.iter().map(|(outcome, maps)| (Observed::from(outcome), maps.clone())).collect()
}
