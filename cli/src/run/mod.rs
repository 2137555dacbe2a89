//! `softbpf run`: an object, a machine made of it, a run, and what is said about it.

pub(crate) mod context;
mod fields;
pub(crate) mod globals;
mod maps;
mod trace;
mod world;

use softbpf::engine::Engine;
use softbpf::helpers::HelperRef;
use softbpf::interp::Interpreter;
use softbpf::program::ProgramInfo;
use softbpf::program_type::ProgramType;
use softbpf::{Config, Machine, Outcome};
use softbpf_conformance::fuzz::guided::Data;
use softbpf_jit::Perf;

pub(crate) use maps::{Element, MapDump, Pretty, Value};
pub(crate) use trace::Recorded;

use crate::args::{self, EngineChoice, PerfChoice, ProgramArgs, RunArgs, SetupArgs};
use crate::error::CliError;
use crate::fuzz::Saved;
use crate::input::{self, Format, Input};
use crate::json;
use crate::output::{Output, Status};
use crate::render;

/// What one command line did.
pub(crate) struct Report {
    /// The program that was started.
    pub(crate) program: ProgramInfo,
    pub(crate) engine: &'static str,
    /// Runs that were made; fewer than wanted when one trapped.
    pub(crate) runs: u64,
    /// Instructions of all runs.
    pub(crate) instructions: u64,
    /// Of the last run.
    pub(crate) outcome: Outcome,
    /// The packet as it was given.
    pub(crate) packet: Option<Vec<u8>>,
    pub(crate) maps: Vec<MapDump>,
    /// Steps, for JSON.
    pub(crate) trace: Option<Recorded>,
}

pub(crate) fn command(args: &RunArgs, output: &mut Output) -> Result<Status, CliError> {
    if args.repeat == 0 {
        return Err(CliError::NoRuns);
    }
    let (input, program) = load(&args.program, &args.setup)?;
    let saved = args.input.as_deref().map(Saved::read).transpose()?;
    let context = match &saved {
        Some(saved) => saved.input.data.clone(),
        None => context::build(&args.context, &program, input.object.btf().map(|btf| &**btf))?,
    };
    let strict = args.strict || saved.as_ref().is_some_and(|saved| saved.strict);
    let mut vm = machine_with(&input, &args.setup, saved.as_ref(), engine(args)?, strict)?;
    if args.engine == EngineChoice::Jit || args.perf.is_some() {
        require_room(&mut vm)?;
    }
    let report = run(&mut vm, &input, program, &context, args, output)?;
    if args.json {
        json::run(&report, &mut output.out)?;
    } else {
        render::run(&report, &vm, &input.object, output)?;
    }
    Ok(if report.outcome.ret.is_ok() { Status::Done } else { Status::Trapped })
}

/// The object, and the program of it that is meant.
pub(crate) fn load(args: &ProgramArgs, setup: &SetupArgs) -> Result<(Input, ProgramInfo), CliError> {
    let program_type = args.program_type.as_deref().map(args::program_type).transpose()?;
    let created: Vec<_> = setup.created.iter().map(|created| created.0.clone()).collect();
    let mut input = input::object(&args.object, program_type.unwrap_or_default(), created)?;
    if input.format != Format::Assembly && !setup.created.is_empty() {
        return Err(CliError::MapsOfTheirOwn { file: input.file });
    }
    let program = info(&mut input, args.program.as_deref(), program_type)?;
    Ok((input, program))
}

/// The program that is meant, as the type that is wanted.
fn info(input: &mut Input, name: Option<&str>, wanted: Option<ProgramType>) -> Result<ProgramInfo, CliError> {
    let name = input::choose(&input.object, name)?;
    let unknown = || CliError::NoSuchProgram { name: name.clone(), known: Vec::new() };
    let info = input.object.program_mut(&name).ok_or_else(unknown)?;
    info.program_type = wanted.unwrap_or(info.program_type);
    Ok(info.clone())
}

/// The machine before the run.
pub(crate) fn machine(
    input: &Input,
    args: &SetupArgs,
    engine: Box<dyn Engine>,
    strict: bool,
) -> Result<Machine, CliError> {
    machine_with(input, args, None, engine, strict)
}

/// The machine before a run on what a file says, over which the options go.
fn machine_with(
    input: &Input,
    args: &SetupArgs,
    saved: Option<&Saved>,
    engine: Box<dyn Engine>,
    strict: bool,
) -> Result<Machine, CliError> {
    let mut config = Config { track_uninitialised: strict, engine, ..Config::default() };
    config.cpus = args.world.cpus.or(saved.map(|saved| saved.cpus)).unwrap_or(config.cpus);
    let mut vm = Machine::with_config(&input.object, config)?;
    vm.fuel = args.fuel.or(saved.map(|saved| saved.fuel)).unwrap_or(vm.fuel);
    if let Some(saved) = saved {
        saved.prepare(&mut vm)?;
    }
    world::set(&args.world, &mut vm)?;
    for far in &args.memory {
        let refused = |_| CliError::Memory { addr: far.addr, size: far.bytes.len() as u64 };
        vm.place_at(far.addr, &format!("memory of --mem {:#x}", far.addr), &far.bytes).map_err(refused)?;
    }
    mock(mocks(args)?, &mut vm)?;
    globals::set(&args.settings, input, &mut vm)?;
    maps::fill(&args.maps, &input.object, &mut vm)?;
    Ok(vm)
}

/// Refuses a machine that the JIT leaves to the interpreter because it is small.
fn require_room(vm: &mut Machine) -> Result<(), CliError> {
    if vm.memory.view().is_full_size() { Ok(()) } else { Err(CliError::SmallMemory) }
}

/// The helpers that return constants, by number.
pub(crate) fn mocks(args: &SetupArgs) -> Result<Vec<(i32, u64)>, CliError> {
    let number = |helper: &str| match crate::literal::number(helper).map(i32::try_from) {
        Ok(Ok(number)) => Ok(number),
        _ => HelperRef::from(helper).number(),
    };
    args.mocks.iter().map(|mock| Ok((number(&mock.helper)?, mock.value))).collect()
}

/// Makes helpers return constants.
pub(crate) fn mock(mocks: impl IntoIterator<Item = (i32, u64)>, vm: &mut Machine) -> Result<(), CliError> {
    mocks.into_iter().try_for_each(|(number, value)| Ok(vm.mock(number, move |_| value)?))
}

/// The engine that is wanted. What perf is to be told of is machine code: there, `auto` stands for the JIT.
fn engine(args: &RunArgs) -> Result<Box<dyn Engine>, CliError> {
    let interpreter = || -> Box<dyn Engine> { Box::new(Interpreter::new()) };
    let perf = match args.perf {
        None => None,
        Some(PerfChoice::Map) if args.perf_dir.is_some() => return Err(CliError::FolderOfMap),
        Some(PerfChoice::Map) => Some(Perf::Map),
        Some(PerfChoice::Jitdump) => {
            Some(Perf::JitDump { directory: args.perf_dir.clone().unwrap_or_else(|| ".".into()) })
        }
    };
    match (args.engine, perf) {
        (EngineChoice::Interpreter, None) => Ok(interpreter()),
        (EngineChoice::Interpreter, Some(_)) => Err(CliError::PerfOfInterpreter),
        (EngineChoice::Jit, None) => Ok(softbpf_jit::engine()?),
        (EngineChoice::Auto, None) => Ok(softbpf_jit::engine().unwrap_or_else(|_| interpreter())),
        (EngineChoice::Jit | EngineChoice::Auto, Some(perf)) => {
            Ok(softbpf_jit::engine_with(softbpf_jit::Config { perf, ..Default::default() })?)
        }
    }
}

fn run(
    vm: &mut Machine,
    input: &Input,
    program: ProgramInfo,
    context: &Data,
    args: &RunArgs,
    output: &mut Output,
) -> Result<Report, CliError> {
    let (mut runs, mut instructions) = (0, 0);
    let mut tracer = args.trace.then(|| trace::Tracer::new(vm, args.json));
    let outcome = loop {
        let outcome = match &mut tracer {
            Some(tracer) => tracer.run(vm, &program.name, context, input.object.maps(), &mut output.err)?,
            None => vm.run(&program.name, context)?,
        };
        runs += 1;
        instructions += outcome.instructions;
        if outcome.ret.is_err() || runs >= args.repeat {
            break outcome;
        }
    };
    Ok(Report {
        program,
        engine: vm.engine_name(),
        runs,
        instructions,
        outcome,
        packet: if let Data::Packet { bytes, .. } = context { Some(bytes.clone()) } else { None },
        maps: maps::dump(&input.object, vm, args.entries)?,
        trace: tracer.and_then(trace::Tracer::into_recorded),
    })
}
