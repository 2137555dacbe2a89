//! `softbpf bench`: how long a user's own program takes, interpreted and compiled, and whether that has changed.
//!
//! [`measure`] takes samples, [`statistics`] compares them, [`saved`] keeps them, [`render`] shows them.

mod measure;
mod render;
mod saved;
mod statistics;

use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value as Json, json};
use softbpf::engine::Engine;
use softbpf::interp::Interpreter;
use softbpf::program::ProgramInfo;
use softbpf_conformance::fuzz::guided::Data;
use softbpf_conformance::{engine_named, has_room_for};

use crate::args::{BenchArgs, ContextArgs, EngineChoice, InputArgs};
use crate::error::CliError;
use crate::input;
use crate::output::{Output, Status};
use crate::progress;
use crate::run::context;
use crate::run::{load, machine};
use measure::{Compiles, Contestant, Runs, Stopped, interleaved};
use saved::{COMPILE, Saved};
use statistics::{Change, median, spread};

/// What one command line measured.
struct Report {
    program: ProgramInfo,
    tag: String,
    /// Of the program, in slots.
    slots: usize,
    rounds: usize,
    rows: Vec<Row>,
    compile: Option<Compile>,
    /// Why there is no JIT.
    no_jit: Option<String>,
    /// There is one, of this program or of another version of it.
    baseline: Option<Same>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Same {
    Program,
    Name,
    Nothing,
}

/// A program on an input, by an engine.
struct Row {
    input: String,
    engine: &'static str,
    r0: u64,
    instructions: f64,
    ns: Vec<f64>,
    change: Compared,
}

struct Compile {
    bytes: usize,
    ns: Vec<f64>,
    change: Compared,
}

/// What the baseline says of a row: there is none, it has no such row, there are too few samples, or a change.
enum Compared {
    NoBaseline,
    Missing,
    TooFew,
    Change(Change),
}

impl Compared {
    fn new(baseline: Option<&Saved>, input: &str, engine: &str, ns: &[f64]) -> Compared {
        let Some(baseline) = baseline else { return Compared::NoBaseline };
        let Some(before) = baseline.find(input, engine) else { return Compared::Missing };
        Change::between(before, ns).map_or(Compared::TooFew, Compared::Change)
    }
}

pub(crate) fn command(args: &BenchArgs, output: &mut Output) -> Result<Status, CliError> {
    let baseline = args.baseline.as_deref().map(Saved::read).transpose()?;
    let (input, program) = load(&args.program, &args.setup)?;
    let btf = input.object.btf().map(|btf| &**btf);
    let inputs = inputs(&args.inputs)?;
    let inputs = inputs.into_iter().map(|(name, args)| Ok((name, context::build(&args, &program, btf)?)));
    let inputs: Vec<(String, Data)> = inputs.collect::<Result<_, CliError>>()?;
    let make = |engine: Box<dyn Engine>| machine(&input, &args.setup, engine, false);
    let bar = progress::bar(Some((args.seconds * 1e3) as u64), "measuring {wide_bar} {percent}% {eta}");
    let report = measure(&program, &inputs, &make, args, baseline.as_ref(), &bar);
    bar.finish_and_clear();
    let report = match report {
        Ok(report) => report,
        Err(Stopped::Error(error)) => return Err(error),
        Err(Stopped::Trapped(trap, vm)) => {
            let no_context =
                inputs.iter().all(|(_, context)| matches!(context, Data::Bytes(bytes) if bytes.is_empty()));
            crate::render::trap(&trap, no_context, &vm, &input.object, &mut output.err)?;
            return Ok(Status::Trapped);
        }
    };
    if let Some(path) = &args.save {
        report.saved().write(path)?;
    }
    if args.json {
        crate::json::bench(&report.json(), &mut output.out)?;
    } else {
        render::report(&report, &mut output.out)?;
    }
    Ok(Status::Done)
}

/// Each input by itself, with a name.
fn inputs(args: &InputArgs) -> Result<Vec<(String, ContextArgs)>, CliError> {
    let with = |name: String| {
        let fields = args.fields.clone();
        (name, ContextArgs { fields, ctx_hex: None, ctx_file: None, packet: None, packet_file: None })
    };
    let mut inputs = Vec::new();
    for (number, hex) in (1..).zip(&args.packet) {
        let (name, context) = with(format!("packet {number}"));
        inputs.push((name, ContextArgs { packet: Some(hex.clone()), ..context }));
    }
    for path in &args.packet_file {
        let (name, context) = with(input::name(path));
        inputs.push((name, ContextArgs { packet_file: Some(path.clone()), ..context }));
    }
    for (number, hex) in (1..).zip(&args.ctx_hex) {
        let (name, context) = with(format!("context {number}"));
        inputs.push((name, ContextArgs { ctx_hex: Some(hex.clone()), ..context }));
    }
    for path in &args.ctx_file {
        let (name, context) = with(input::name(path));
        inputs.push((name, ContextArgs { ctx_file: Some(path.clone()), ..context }));
    }
    if inputs.is_empty() {
        inputs.push(with("default".to_owned()));
    }
    for index in 1..inputs.len() {
        let (before, rest) = inputs.split_at(index);
        if before.iter().any(|(name, _)| *name == rest[0].0) {
            return Err(CliError::SameInput { name: rest[0].0.clone() });
        }
    }
    Ok(inputs)
}

fn measure(
    program: &ProgramInfo,
    inputs: &[(String, Data)],
    make: &measure::MakeMachine<'_>,
    args: &BenchArgs,
    baseline: Option<&Saved>,
    bar: &ProgressBar,
) -> Result<Report, Stopped> {
    let vm = make(Box::new(Interpreter::new()))?;
    let id = vm.find_program(&program.name)?;
    // What cannot be loaded is refused by the first run.
    let loaded = vm.program(id).cloned();
    // Where there is one, and room for another machine beside that.
    let jit = |vm| -> Result<_, CliError> {
        let compiles = Compiles::new(vm, &program.name)?;
        if has_room_for(1) { Ok(compiles) } else { Err(CliError::SmallMemory) }
    };
    let (mut compiles, no_jit) = match args.engine {
        Some(EngineChoice::Interpreter) => (None, Some("not asked for".to_owned())),
        Some(EngineChoice::Jit) => (Some(jit(vm)?), None),
        Some(EngineChoice::Auto) | None => match jit(vm) {
            Ok(compiles) => (Some(compiles), None),
            Err(error) => (None, Some(error.to_string())),
        },
    };
    let engines: &[&str] = match (args.engine, &compiles) {
        (None, Some(_)) => &["interpreter", "jit"],
        (_, Some(_)) => &["jit"],
        (_, None) => &["interpreter"],
    };
    let mut runs = Vec::new();
    for (name, context) in inputs {
        for &engine in engines {
            let engine = (engine, engine_named(engine).map_err(CliError::from)?);
            let program = &*program.name;
            runs.push((
                name,
                engine.0,
                Runs { machine: make, engine: engine.1, program, context, r0: 0, instructions: 0.0 },
            ));
        }
    }
    let mut contestants: Vec<&mut dyn Contestant> =
        runs.iter_mut().map(|(_, _, runs)| runs as &mut dyn Contestant).collect();
    contestants.extend(compiles.as_mut().map(|compiles| compiles as &mut dyn Contestant));
    let budget = Duration::from_secs_f64(args.seconds);
    let mut samples = interleaved(&mut contestants, budget, |passed| bar.set_position(passed.as_millis() as u64))?;
    let compile = compiles.map(|compiles| {
        let ns = samples.pop().unwrap_or_default();
        let change = Compared::new(baseline, "", COMPILE, &ns);
        Compile { bytes: compiles.bytes, ns, change }
    });
    let row = |((name, engine, runs), ns): ((&String, &'static str, Runs<'_>), Vec<f64>)| {
        let change = Compared::new(baseline, name, engine, &ns);
        Row { input: name.clone(), engine, r0: runs.r0, instructions: runs.instructions, ns, change }
    };
    let tag = loaded.as_ref().map(|program| program.tag().to_string()).unwrap_or_default();
    Ok(Report {
        program: program.clone(),
        slots: loaded.map_or(0, |program| program.code().slot_count()),
        rounds: samples.first().map_or(0, Vec::len),
        rows: runs.into_iter().zip(samples).map(row).collect(),
        compile,
        no_jit,
        baseline: baseline.map(|saved| match () {
            () if saved.tag == tag => Same::Program,
            () if saved.program == *program.name => Same::Name,
            () => Same::Nothing,
        }),
        tag,
    })
}

impl Report {
    fn saved(&self) -> Saved {
        let row =
            |row: &Row| saved::Samples { input: row.input.clone(), engine: row.engine.to_owned(), ns: row.ns.clone() };
        let compile = |compile: &Compile| saved::Samples {
            input: String::new(),
            engine: COMPILE.to_owned(),
            ns: compile.ns.clone(),
        };
        Saved {
            program: self.program.name.to_string(),
            tag: self.tag.clone(),
            samples: self.rows.iter().map(row).chain(self.compile.as_ref().map(compile)).collect(),
        }
    }

    fn json(&self) -> Json {
        let change = |compared: &Compared| match compared {
            Compared::Change(change) => json!({
                "ratio": change.ratio,
                "low": change.low,
                "high": change.high,
                "significant": change.verdict().is_ne(),
                "verdict": render::verdict(compared),
            }),
            Compared::NoBaseline | Compared::Missing | Compared::TooFew => Json::Null,
        };
        let row = |row: &Row| {
            let ns = median(&row.ns);
            json!({
                "input": row.input,
                "engine": row.engine,
                "return": row.r0,
                "instructions": row.instructions,
                "ns": ns,
                "ns_per_instruction": ns / row.instructions,
                "spread": spread(&row.ns),
                "change": change(&row.change),
            })
        };
        let compile = |compile: &Compile| {
            let (ns, slots) = (median(&compile.ns), self.slots as f64);
            json!({
                "ns": ns,
                "ns_per_instruction": ns / slots,
                "spread": spread(&compile.ns),
                "bytes": compile.bytes,
                "bytes_per_instruction": compile.bytes as f64 / slots,
                "change": change(&compile.change),
            })
        };
        json!({
            "program": &*self.program.name,
            "type": self.program.program_type.name(),
            "tag": self.tag,
            "instructions": self.slots,
            "rounds": self.rounds,
            "compile": self.compile.as_ref().map(compile),
            "no_jit": self.no_jit,
            "same_program_as_baseline": self.baseline.map(|same| same == Same::Program),
            "runs": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}
