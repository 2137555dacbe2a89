//! What a case is run on, and what it answers: engines, plugins, oracles.

use softbpf::check::Rules;
use softbpf::codec::Code;
use softbpf::insn::Insn;
use softbpf::machine::RunError;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::outcome::Trap;
use softbpf::program::{Program, ProgramError, ProgramInfo};
use softbpf::{Config, Machine, Object, Outcome};

use crate::MakeEngine;
use crate::case::{Case, PROGRAM_ARRAY, check_reason, decode_reason, trap_name};

/// The helper that the plugins of the public suite provide: it gives back its first argument.
pub const MOCKED_HELPER: i32 = 5;

/// What became of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It ran to its end.
    Returned {
        /// `r0`.
        r0: u64,
        /// What else is known of the end.
        state: State,
    },
    /// It ran into a trap.
    Trapped {
        /// What vectors call it.
        name: String,
        /// Slot of the instruction.
        slot: usize,
        /// In more words.
        message: String,
        /// What else is known of the end.
        state: State,
    },
    /// It never started.
    Rejected {
        /// What vectors call the reason.
        reason: String,
        /// Slot of the instruction.
        slot: usize,
        /// In more words.
        message: String,
    },
    /// There was an error, and it is not known whether before or while it ran.
    Failed {
        /// What was said about it.
        message: String,
    },
    /// The subject broke down over it, by a signal or by never ending: no case expects that.
    Crashed {
        /// How.
        message: String,
    },
    /// The subject cannot be asked.
    Skipped {
        /// Why not.
        why: String,
    },
}

/// The end of a run, as far as the subject can see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    /// Bytes of the memory or packet.
    pub memory: Option<Vec<u8>>,
    /// Instructions executed.
    pub instructions: Option<u64>,
}

/// One executed instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which program, by index.
    pub program: usize,
    /// Its slot.
    pub slot: usize,
    /// The instruction.
    pub insn: Insn,
    /// Registers before it.
    pub registers: [u64; 11],
}

/// Something that runs cases.
pub trait Subject {
    /// Its name, for reports.
    fn name(&self) -> String;

    /// Runs a case.
    fn run(&mut self, case: &Case) -> Answer;

    /// The instructions that the case executes, at most `limit` of them; empty when it cannot say.
    fn trace(&mut self, case: &Case, limit: usize) -> Vec<Step> {
        let _ = (case, limit);
        Vec::new()
    }
}

/// An engine of softbpf.
#[derive(Debug)]
pub struct EngineSubject {
    make: MakeEngine,
    name: Option<&'static str>,
}

impl EngineSubject {
    /// Runs cases on engines made by `make`, a new one for each.
    pub fn new(make: MakeEngine) -> EngineSubject {
        EngineSubject { make, name: None }
    }

    /// The same under another name than the engine's own, which its configurations share.
    #[must_use]
    pub fn with_name(self, name: &'static str) -> EngineSubject {
        EngineSubject { name: Some(name), ..self }
    }

    fn machine(&self, case: &Case) -> Result<Machine, Answer> {
        let skipped = |error: &dyn std::fmt::Display| Answer::Skipped { why: error.to_string() };
        let object = object(case)?;
        let config = Config { engine: (self.make)(), ..Config::default() };
        let mut vm = Machine::with_config(&object, config).map_err(|error| skipped(&error))?;
        if case.needs_program_array() {
            for (slot, (name, _)) in (0..).zip(&case.programs) {
                vm.set_tail_call(PROGRAM_ARRAY, slot, name).map_err(|error| skipped(&error))?;
            }
        }
        if case.mock_helper_5 {
            vm.mock(MOCKED_HELPER, |call| call.arg(0)).map_err(|error| skipped(&error))?;
        }
        if let Some(fuel) = case.fuel {
            vm.fuel = fuel;
        }
        Ok(vm)
    }
}

impl Subject for EngineSubject {
    fn name(&self) -> String {
        self.name.unwrap_or_else(|| (self.make)().name()).to_owned()
    }

    fn run(&mut self, case: &Case) -> Answer {
        match self.machine(case) {
            Ok(mut vm) => answer(run(&mut vm, case, None)),
            Err(answer) => answer,
        }
    }

    fn trace(&mut self, case: &Case, limit: usize) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Ok(mut vm) = self.machine(case) {
            let _ = run(&mut vm, case, Some((&mut steps, limit)));
        }
        steps
    }
}

fn run(vm: &mut Machine, case: &Case, steps: Option<(&mut Vec<Step>, usize)>) -> Result<Outcome, RunError> {
    let main = case.programs.first().map_or("main", |(name, _)| name);
    let context = case.input.context();
    let Some((steps, limit)) = steps else { return vm.run(main, context) };
    vm.fuel = vm.fuel.min(limit as u64);
    vm.trace(main, context, |step| {
        if steps.len() < limit {
            let mut registers = [0; 11];
            registers.iter_mut().zip(step.registers).for_each(|(to, from)| *to = *from);
            steps.push(Step { program: step.program.index(), slot: step.slot, insn: *step.insn, registers });
        }
    })
}

/// What vectors call what became of a run.
pub(crate) fn answer(outcome: Result<Outcome, RunError>) -> Answer {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => return Answer::Skipped { why: error.to_string() },
    };
    let state =
        State { memory: Some(outcome.packet.unwrap_or(outcome.context)), instructions: Some(outcome.instructions) };
    match outcome.ret {
        Ok(r0) => Answer::Returned { r0, state },
        Err(trap) => {
            let Trap { kind, slot, .. } = &*trap;
            Answer::Trapped { name: trap_name(kind).into(), slot: *slot, message: kind.to_string(), state }
        }
    }
}

/// The case's programs and their map, checked.
///
/// # Errors
/// [`Answer::Rejected`].
pub fn object(case: &Case) -> Result<Object, Answer> {
    let program_type = case.input.program_type();
    let programs: Result<Vec<Program>, Answer> = case
        .programs
        .iter()
        .map(|(name, bytes)| decode(case, ProgramInfo::new(name.as_str(), program_type), bytes))
        .collect();
    let mut maps = Vec::new();
    if case.needs_program_array() {
        let slots = u32::try_from(case.programs.len()).unwrap_or(u32::MAX);
        maps.push(MapSpec::new(PROGRAM_ARRAY, MapType::ProgArray, 4, 4, slots + 1));
    }
    Ok(Object::from_programs(programs?, maps))
}

fn decode(case: &Case, info: ProgramInfo, bytes: &[u8]) -> Result<Program, Answer> {
    let code = Code::decode(bytes).map_err(|error| Answer::Rejected {
        reason: decode_reason(&error.kind),
        slot: error.slot,
        message: error.kind.to_string(),
    })?;
    check(info, code, case.rules)
}

/// The program, if it may run by these rules.
///
/// # Errors
/// [`Answer::Rejected`].
pub(crate) fn check(info: ProgramInfo, code: Code, rules: Rules) -> Result<Program, Answer> {
    Program::with_rules(info, code, rules).map_err(|error| match error {
        ProgramError::Check { source, .. } => Answer::Rejected {
            reason: check_reason(&source.kind).into(),
            slot: source.slot,
            message: source.kind.to_string(),
        },
        ProgramError::Encode { .. } | ProgramError::NotFound { .. } => Answer::Failed { message: error.to_string() },
    })
}
