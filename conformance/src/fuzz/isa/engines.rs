//! Engines against each other and the model: whole outcomes, final memory, and what is in the maps.
//!
//! A program is loaded and compiled once, and runs on many inputs on a machine that is reset in between.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use softbpf::codec::Code;
use softbpf::context::Bytes;
use softbpf::insn::{Callee, Imm64, Insn};
use softbpf::object::MAIN;
use softbpf::program::{Program as Checked, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object};

use super::avoid::{Rows, avoid, has};
use super::drive::{Shared, Worker, drive};
use super::finding::expect;
use super::kernel::KernelSide;
use super::key::{About, Key, Kind, about, culprit};
use super::sides::{Differs, Says, Sides, guarded};
use super::{CampaignError, Event, Finding, Limits, PATIENCE, Program, Report};
use crate::MakeEngine;
use crate::case::Expect;
use crate::generator::scenario::{Scenario, ScenarioKnobs};
use crate::generator::{INPUT, Knobs, Sample};
use crate::hostile;
use crate::minimise::scenario::minimise_scenario;
use crate::minimise::{Minimised, Options as Minimising, Reproducer, minimise};
use crate::model::scenario::{Setups, compare, on_machine};
use crate::model::{self, Setup};
use crate::reusable::Reusable;
use crate::streams::stream;
use crate::subject::Answer;

/// Kinds of programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generator {
    /// Every operation on values at the edges: [`Sample`].
    Samples,
    /// Calls, loops, maps, helpers, tail calls, packets: [`Scenario`].
    Scenarios,
    /// Hostile streams of instructions: [`crate::streams`]. The model is not asked about these.
    Streams,
}

impl Generator {
    /// All of them.
    pub const ALL: [Generator; 3] = [Generator::Samples, Generator::Scenarios, Generator::Streams];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Generator::Samples => "samples",
            Generator::Scenarios => "scenarios",
            Generator::Streams => "streams",
        }
    }
}

/// What a campaign on engines does.
#[derive(Debug, Clone)]
pub struct Options {
    /// Engines with their names; the first is what the others are compared with.
    pub engines: Vec<(String, MakeEngine)>,
    /// The model is asked too.
    pub model: bool,
    /// The kernel that runs here is asked too, about samples: all of them are such as its verifier takes.
    pub kernel: bool,
    /// Rows of the instruction set to do without.
    pub without: BTreeSet<Insn>,
    /// Kinds of programs, in turns.
    pub generators: Vec<Generator>,
    /// What samples are made of.
    pub knobs: Knobs,
    /// What scenarios are made of.
    pub scenario: ScenarioKnobs,
    /// On how many inputs a sample runs.
    pub inputs: u64,
    /// How often engines run to minimise a finding.
    pub minimising: usize,
    /// For how long.
    pub patience: Duration,
}

impl Options {
    /// Everything, on these engines.
    pub fn new(engines: Vec<(String, MakeEngine)>) -> Options {
        Options {
            engines,
            model: true,
            kernel: false,
            without: BTreeSet::new(),
            generators: Generator::ALL.to_vec(),
            knobs: Knobs { calls: true, from_input: true, ..Knobs::ALL },
            scenario: ScenarioKnobs::ALL,
            inputs: 32,
            minimising: 20_000,
            patience: PATIENCE,
        }
    }
}

/// Runs a campaign.
///
/// # Errors
/// There is nothing to compare, or no machine.
pub fn campaign(
    options: &Options,
    limits: Limits,
    watch: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Report, CampaignError> {
    let alone = options.engines.len() + usize::from(options.model) + usize::from(options.kernel) < 2;
    if alone || options.generators.is_empty() {
        let name = options.engines.first().map_or("the model", |(name, _)| name);
        return Err(CampaignError::Alone(name.to_owned()));
    }
    let worker = || {
        let setup = Setup::of(ProgramType::Unspec, Bytes(&[0; INPUT]));
        Ok(Engines {
            options,
            machines: Reusable::on(options.engines.iter().map(|&(_, make)| make).collect()),
            setup: setup.map_err(|error| CampaignError::Setup(error.to_string()))?,
            setups: Setups::default(),
            kernel: options.kernel.then(KernelSide::open).transpose()?,
            rows: options.without.clone(),
            seen: 0,
        })
    };
    drive(limits, worker, watch)
}

/// One thread's work.
struct Engines<'o> {
    options: &'o Options,
    machines: Vec<Reusable>,
    setup: Setup,
    setups: Setups,
    kernel: Option<KernelSide>,
    /// Rows that findings are about.
    rows: Rows,
    /// Findings that the rows above take into account.
    seen: usize,
}

impl Worker for Engines<'_> {
    fn program(&mut self, seed: u64, shared: &Shared) -> Result<(), CampaignError> {
        let new = shared.known_after(self.seen);
        self.seen += new.len();
        self.rows.extend(new.iter().filter_map(|key| culprit(&key.about)));
        let generators = &self.options.generators;
        match generators[(seed % generators.len() as u64) as usize] {
            Generator::Samples => self.sample(seed, shared)?,
            Generator::Scenarios => self.scenario(seed, shared),
            Generator::Streams => self.stream(seed, shared)?,
        }
        Ok(())
    }
}

impl Engines<'_> {
    /// What minimising may do that begins now.
    fn minimising(&self) -> Minimising {
        let deadline = Instant::now().checked_add(self.options.patience);
        Minimising { calls: self.options.minimising, deadline, ..Minimising::default() }
    }

    fn sample(&mut self, seed: u64, shared: &Shared) -> Result<(), CampaignError> {
        let knobs = self.options.knobs.mixed(seed);
        let knobs = self.kernel.as_ref().map_or(knobs, |kernel| kernel.knobs(knobs));
        let sample = Sample::from_seed(seed, &knobs);
        let code = avoid(&sample.code(), &self.rows);
        let others = (1..self.options.inputs.max(1)).map(|index| Sample::input_from_seed(seed, index));
        let inputs: Vec<Vec<u8>> = std::iter::once(sample.input).chain(others).collect();
        let ran = self.run(&code, &inputs)?;
        shared.count(Generator::Samples.name(), ran.returned, ran.executions);
        shared.count_instructions(ran.instructions);
        if let Some(loaded) = ran.on_kernel {
            shared.accept("kernel", loaded);
        }
        let Some((input, Differs { kind, .. })) = ran.differs else { return Ok(()) };
        let from = Reproducer::new(code, &inputs[input]);
        let shorten_input = self.kernel.is_none();
        let options = Minimising { shorten_input, ..self.minimising() };
        let found = minimise(from, &options, |candidate| {
            // What the kernel's system calls have against a candidate is not what is looked for.
            !has(candidate.code(), &self.rows) && is(kind, self.run_one(candidate).ok().flatten())
        });
        if let Some(differs) = self.run_one(&found.found)? {
            let Minimised { found, done, .. } = found;
            report(seed, &found.code().clone(), bytes(found), done, differs, shared);
        }
        Ok(())
    }

    fn run_one(&mut self, reproducer: &Reproducer) -> Result<Option<Differs>, CampaignError> {
        let ran = self.run(reproducer.code(), std::slice::from_ref(&reproducer.input))?;
        Ok(ran.differs.map(|(_, differs)| differs))
    }

    /// Runs a program on some inputs, up to the first on which there is a difference.
    fn run(&mut self, code: &Code, inputs: &[Vec<u8>]) -> Result<Ran, CampaignError> {
        let mut ran = Ran::default();
        let Ok(program) = Checked::new(ProgramInfo::new(MAIN, ProgramType::Unspec), code.clone()) else {
            return Ok(ran);
        };
        let object = Object::from_programs(vec![program], Vec::new());
        let machines: Result<Vec<&mut Machine>, _> =
            self.machines.iter_mut().map(|machine| machine.load(&object)).collect();
        let Ok(mut machines) = machines else { return Ok(ran) };
        let loaded = self.kernel.as_ref().map(|kernel| kernel.load(code)).transpose()?;
        ran.on_kernel = loaded.as_ref().map(Option::is_some);
        for (index, input) in inputs.iter().enumerate() {
            let mut came = Vec::with_capacity(machines.len());
            for machine in &mut machines {
                machine.reset();
                match guarded(|| machine.run(MAIN, Bytes(input)).ok()) {
                    Ok(Some(outcome)) => came.push(Ok(outcome)),
                    Ok(None) => return Ok(ran),
                    Err(panic) => came.push(Err(panic)),
                }
            }
            let setup = self.options.model.then(|| self.setup.clone().with_context(input));
            let sides = Sides { engines: came, model: setup.map(|setup| guarded(|| model::run(code, &setup))) };
            ran.executions += 1;
            ran.instructions += sides.first().map_or(0, |outcome| outcome.instructions);
            ran.returned |= sides.all_returned();
            let on_kernel = match (&self.kernel, &loaded, sides.first()) {
                (Some(kernel), Some(Some(loaded)), Some(outcome)) => kernel.differs(loaded, input, outcome)?,
                (..) => None,
            };
            let kernel = on_kernel.map(|what| ("kernel".to_owned(), what));
            ran.differs = sides.differs(code, &self.options.engines, kernel).map(|differs| (index, differs));
            if ran.differs.is_some() {
                break;
            }
        }
        Ok(ran)
    }

    fn stream(&mut self, seed: u64, shared: &Shared) -> Result<(), CampaignError> {
        let bytes = stream(seed, 64);
        let code = Code::decode(&bytes).ok();
        if let Some(code) = &code
            && code.encode().as_ref() != Ok(&bytes)
        {
            let about = About::Encoding { reason: "decoded and encoded again".to_owned(), class: bytes[0] & 7 };
            let key = Key { about, kind: Kind::OtherResult };
            let says = vec![("encoded again".to_owned(), format!("{:02x?}", code.encode()))];
            shared.found(finding(key, seed, Program::Hostile(bytes), false, says, None));
            return Ok(());
        }
        let code = code.map(|code| avoid(&code, &self.rows));
        let ran = code.as_ref().and_then(|code| self.run_stream(code));
        shared.count(Generator::Streams.name(), ran.is_some(), ran.is_some().into());
        if let (Some(Some(Differs { kind, .. })), Some(code)) = (ran, code) {
            let options = Minimising { values: None, ..self.minimising() };
            let Minimised { found, done, .. } = minimise(Reproducer::new(code, &[]), &options, |candidate| {
                !has(candidate.code(), &self.rows) && is(kind, self.run_stream(candidate.code()).flatten())
            });
            let code = found.code();
            let Some(differs) = self.run_stream(code).flatten() else { return Ok(()) };
            // What ends for want of fuel would take all that vectors get.
            let ends = differs.expected.as_ref().is_some_and(|answer| !is_out_of_fuel(answer));
            if let Some((program, differs)) = if ends { self.without_maps(code, kind)? } else { None } {
                report(seed, code, program, done, differs, shared);
            } else {
                let program = Program::Hostile(code.encode().unwrap_or_default());
                report(seed, code, program, done, differs, shared);
            }
        }
        Ok(())
    }

    /// A program that shows the same by itself, so that whoever reads a vector or bytecode can see it.
    fn without_maps(&mut self, code: &Code, kind: Kind) -> Result<Option<(Program, Differs)>, CampaignError> {
        let calls = |insn| matches!(insn, Insn::Call(Callee::Helper(_) | Callee::Kfunc { .. } | Callee::Reg(_)));
        let plain = |value| matches!(value, Imm64::Value(_) | Imm64::Code(_));
        let names = |insn| matches!(insn, Insn::LoadImm64 { value, .. } if !plain(value));
        let needs = |&insn: &Insn| calls(insn) || names(insn);
        if code.insns().iter().any(needs) {
            return Ok(None);
        }
        let alone = Reproducer::new(code.clone(), &hostile::INPUT);
        let differs = self.run_one(&alone)?.filter(|differs| differs.kind == kind);
        Ok(differs.map(|differs| (bytes(alone), differs)))
    }

    /// Runs a hostile program: the outer is `None` when it is not one, the inner when there is no difference.
    fn run_stream(&mut self, code: &Code) -> Option<Option<Differs>> {
        let object = hostile::object_of(code.clone())?;
        let mut came = Vec::new();
        for machine in &mut self.machines {
            let vm = machine.load(&object).ok()?;
            match guarded(|| hostile::run(vm, &hostile::INPUT)) {
                Ok(outcome) => came.push(Ok(outcome?)),
                Err(panic) => came.push(Err(panic)),
            }
        }
        let sides = Sides { engines: came, model: None };
        Some(sides.differs(code, &self.options.engines, None))
    }

    fn scenario(&mut self, seed: u64, shared: &Shared) {
        let mut scenario = Scenario::from_seed(seed, &ScenarioKnobs::mixed(seed).within(self.options.scenario));
        for code in &mut scenario.programs {
            *code = avoid(code, &self.rows);
        }
        let ran = self.run_scenario(&scenario);
        shared.count(Generator::Scenarios.name(), ran.returned, ran.executions);
        shared.count_instructions(ran.instructions);
        if let Some((_, Differs { kind, .. })) = ran.differs {
            let options = self.minimising();
            let minimised = minimise_scenario(scenario, &options, |scenario| {
                !scenario.programs.iter().any(|code| has(code, &self.rows))
                    && is(kind, self.run_scenario(scenario).differs.map(|(_, differs)| differs))
            });
            let Some((_, Differs { says, .. })) = self.run_scenario(&minimised.found).differs else { return };
            let key = Key { about: about(&minimised.found.programs), kind };
            let program = Program::Scenario(Box::new(minimised.found));
            shared.found(finding(key, seed, program, minimised.done, says, None));
        }
    }

    fn run_scenario(&mut self, scenario: &Scenario) -> Ran {
        guarded(|| self.try_scenario(scenario)).unwrap_or_else(|panic| {
            // Which of the engines it was shows when the test is run that is written of it.
            let says = vec![("an engine".to_owned(), panic)];
            Ran { differs: Some((0, Differs { kind: Kind::Crashed, says, expected: None })), ..Ran::default() }
        })
    }

    fn try_scenario(&mut self, scenario: &Scenario) -> Ran {
        let mut ran = Ran::default();
        let runs = scenario.runs as u64;
        if self.options.model {
            let Ok(setup) = self.setups.of(scenario) else { return ran };
            let Ok((seen, difference)) = compare(scenario, setup, &mut self.machines) else { return ran };
            ran.executions = runs;
            ran.instructions = seen.iter().map(|seen| seen.observed.instructions).sum();
            ran.returned = seen.iter().all(|seen| seen.observed.ret.is_ok());
            ran.differs = difference.map(|difference| other(vec![("difference".to_owned(), difference.to_string())]));
            return ran;
        }
        let mut got = Vec::new();
        for machine in &mut self.machines {
            match on_machine(scenario, machine) {
                Ok(runs) => got.push(runs),
                Err(_) => return ran,
            }
        }
        ran.executions = runs;
        ran.instructions = got.first().map_or(0, |runs| runs.iter().map(|(outcome, _)| outcome.instructions).sum());
        ran.returned = got.iter().flatten().all(|(outcome, _)| outcome.ret.is_ok());
        if got.windows(2).any(|pair| pair[0] != pair[1]) {
            let says =
                self.options.engines.iter().zip(&got).map(|((name, _), got)| (name.clone(), format!("{got:x?}")));
            ran.differs = Some(other(says.collect()));
        }
        ran
    }
}

/// What came of a program.
#[derive(Debug, Default)]
struct Ran {
    executions: u64,
    /// Of the first engine.
    instructions: u64,
    /// At least one run came to its end.
    returned: bool,
    /// Whether the kernel takes it, if it was asked.
    on_kernel: Option<bool>,
    /// The input on which there is a difference, and what is said of it.
    differs: Option<(usize, Differs)>,
}

fn is_out_of_fuel(answer: &Answer) -> bool {
    matches!(answer, Answer::Trapped { name, .. } if name == "out of fuel")
}

/// A difference of this kind: another one is another finding.
fn is(kind: Kind, differs: Option<Differs>) -> bool {
    differs.is_some_and(|differs| differs.kind == kind)
}

/// Another result of a scenario; the test that is written of it asks the model again.
fn other(says: Says) -> (usize, Differs) {
    (0, Differs { kind: Kind::OtherResult, says, expected: None })
}

fn bytes(Reproducer { programs, input }: Reproducer) -> Program {
    let bytecode = programs.first().and_then(|code| code.encode().ok()).unwrap_or_default();
    Program::Bytes { bytecode, memory: input }
}

fn report(seed: u64, code: &Code, program: Program, minimised: bool, differs: Differs, shared: &Shared) {
    let Differs { kind, says, expected } = differs;
    let key = Key { about: about([code]), kind };
    let expected = match &program {
        Program::Bytes { memory, .. } => expected.and_then(|answer| expect(answer, memory)),
        Program::Hostile(_) | Program::Scenario(_) => None,
    };
    shared.found(finding(key, seed, program, minimised, says, expected));
}

fn finding(key: Key, seed: u64, program: Program, minimised: bool, says: Says, expected: Option<Expect>) -> Finding {
    Finding { key, seed, program, expected, minimised, says, count: 1, after: Duration::ZERO }
}
