//! `softbpf fuzz OBJECT PROGRAM`: a campaign on a user's own program, with its files and its progress.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value as Json};
use softbpf::Machine;
use softbpf::interp::Interpreter;
use softbpf::map_spec::MapSpec;
use softbpf::program::ProgramInfo;
use softbpf::world::World;
use softbpf_conformance::fuzz::guided::target::context_size;
use softbpf_conformance::fuzz::guided::{
    Ask, Campaign, Data, Element, Event, Expectation, Far, Finding, Input as FuzzInput, Key, Options, Stats, Target,
};

use super::saved::Saved;
use super::test::{Subject, rust_test};
use super::{files, render};
use crate::args::{EngineChoice, FuzzProgramArgs, SetupArgs, WorldArgs, jobs};
use crate::error::CliError;
use crate::input::{self, Input};
use crate::output::{Output, Status};
use crate::progress;
use crate::run::{self, context, globals};

/// Instructions of one run, unless the command line says otherwise: as many as the kernel's verifier looks at
/// (`BPF_COMPLEXITY_LIMIT_INSNS`).
const FUEL: u64 = 1_000_000;

/// How long, unless the command line says otherwise.
const SECONDS: f64 = 60.0;

/// A finding, and the files that it was written to.
pub(super) struct Filed {
    pub(super) finding: Finding,
    pub(super) file: PathBuf,
    pub(super) test: PathBuf,
}

/// What the command works on.
struct Fuzzed<'a> {
    args: &'a FuzzProgramArgs,
    input: Input,
    program: ProgramInfo,
    created: Vec<MapSpec>,
    target: Target,
    /// As it is before a run, for what traps want to know.
    vm: Machine,
}

pub(crate) fn command(args: &FuzzProgramArgs, output: &mut Output) -> Result<Status, CliError> {
    if args.engine == EngineChoice::Jit {
        return Err(CliError::FuzzOnJit);
    }
    let fuzzed = Fuzzed::new(args)?;
    let options = fuzzed.options()?;
    let campaign = Campaign::new(fuzzed.target.clone(), options)?;
    let bar = progress::bar(None, "{spinner} {elapsed:>4} {wide_msg}");
    let (mut filed, mut failed) = (Vec::new(), None);
    let summary = campaign.run(|event| {
        let done = match event {
            Event::Tick(stats) => {
                bar.set_message(message(&stats));
                bar.tick();
                Ok(())
            }
            Event::Kept(input) => fuzzed.keep(input),
            Event::Found(finding) => bar.suspend(|| {
                filed.push(fuzzed.file(finding)?);
                filed.last().map_or(Ok(()), |filed| fuzzed.show(filed, output))
            }),
        };
        match done {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed.get_or_insert(error);
                ControlFlow::Break(())
            }
        }
    });
    bar.finish_and_clear();
    let summary = summary?;
    if let Some(error) = failed {
        return Err(error);
    }
    if args.json {
        crate::json::fuzz(&render::document(&summary, &filed, &fuzzed.program, args), &mut output.out)?;
    } else {
        render::summary(&summary, &fuzzed.program, args.show_coverage, &mut output.out)?;
    }
    Ok(if filed.is_empty() { Status::Done } else { Status::Failed })
}

impl<'a> Fuzzed<'a> {
    fn new(args: &'a FuzzProgramArgs) -> Result<Fuzzed<'a>, CliError> {
        if args.program.object == Path::new("-") {
            return Err(CliError::FuzzedStandardInput);
        }
        let (input, program) = run::load(&args.program, &args.setup)?;
        let mut vm = run::machine(&input, &args.setup, Box::new(Interpreter::new()), false)?;
        let linked = input.object.program(&program.name)?;
        let mut data = context::build(&args.context, &program, input.object.btf().map(|btf| &**btf))?;
        if let Data::Bytes(bytes) = &mut data
            && bytes.is_empty()
            && args.context.ctx_hex.is_none()
            && args.context.ctx_file.is_none()
        {
            bytes.resize(context_size(&linked), 0);
        }
        let memory = args.setup.memory.iter().map(|far| Far { addr: far.addr, bytes: far.bytes.clone() }).collect();
        let base = FuzzInput { data, elements: elements(&args.setup, &input, &mut vm)?, memory, world: world(&vm) };
        let target = Target {
            object: input.object.clone(),
            program: program.name.clone(),
            cpus: vm.cpus(),
            strict: args.strict,
            fuel: args.setup.fuel.unwrap_or(FUEL),
            mocks: run::mocks(&args.setup)?,
            base,
            pinned: pinned(&args.setup.world),
        };
        let created = args.setup.created.iter().map(|created| created.0.clone()).collect();
        Ok(Fuzzed { args, input, program, created, target, vm })
    }

    fn options(&self) -> Result<Options, CliError> {
        let args = &self.args.campaign;
        let names = |name: &str| crate::render::verdict(name, self.program.program_type);
        let expected = args.expect.as_deref().map(|text| Expectation::parse(text, &names));
        let seconds = args.seconds.or(if args.runs.is_none() { Some(SECONDS) } else { None });
        Ok(Options {
            seed: self.args.setup.world.seed.unwrap_or(0),
            runs: args.runs,
            time: seconds.map(Duration::from_secs_f64),
            jobs: jobs(args.jobs),
            max_len: args.max_len as usize,
            expected: expected.transpose().map_err(CliError::Expectation)?,
            keep_going: args.keep_going,
            seeds: args.corpus.as_deref().map_or(Ok(Vec::new()), |folder| self.corpus(folder))?,
        })
    }

    // The corpus.

    /// The inputs of a folder, in order of their files' names; none of a folder that is not there yet.
    fn corpus(&self, folder: &Path) -> Result<Vec<FuzzInput>, CliError> {
        let read = |source| CliError::Read { file: folder.display().to_string(), source };
        std::fs::create_dir_all(folder).map_err(read)?;
        let files = std::fs::read_dir(folder).map_err(read)?.map(|entry| Ok(entry?.path()));
        let mut files: Vec<PathBuf> = files.collect::<Result<_, _>>().map_err(read)?;
        files.retain(|file| file.is_file());
        files.sort();
        files.iter().map(|file| self.seed(file)).collect()
    }

    fn seed(&self, file: &Path) -> Result<FuzzInput, CliError> {
        let bytes = input::read(file)?;
        if file.extension().is_none_or(|extension| extension != "json") {
            return self.raw_seed(file, bytes);
        }
        let seed = self.target.adopt(Saved::from_bytes(&bytes, &input::name(file))?.input);
        let (given, taken) = (kind(&seed.data), kind(&self.target.base.data));
        if given != taken {
            return Err(self.other_input(file, given));
        }
        Ok(seed)
    }

    fn raw_seed(&self, file: &Path, mut bytes: Vec<u8>) -> Result<FuzzInput, CliError> {
        let mut seed = self.target.base.clone();
        match &mut seed.data {
            Data::Packet { bytes: place, .. } => {
                bytes.truncate(self.args.campaign.max_len as usize);
                *place = bytes;
            }
            Data::Bytes(place) => *place = bytes,
            Data::Registers(_) => return Err(self.other_input(file, "bytes")),
        }
        Ok(seed)
    }

    fn other_input(&self, file: &Path, given: &'static str) -> CliError {
        let (program_type, taken) = (self.program.program_type, kind(&self.target.base.data));
        CliError::OtherInput { file: input::name(file), program_type, taken, given }
    }

    /// Adds an input to the folder, under a name that its contents give.
    fn keep(&self, input: &FuzzInput) -> Result<(), CliError> {
        let Some(folder) = &self.args.campaign.corpus else { return Ok(()) };
        let saved = Saved::new(input, &self.target);
        let mut hasher = DefaultHasher::new();
        saved.text(Map::new()).hash(&mut hasher);
        let path = folder.join(format!("{:016x}.json", hasher.finish()));
        if path.exists() { Ok(()) } else { write(&path, &saved.text(self.about())) }
    }

    // Findings.

    /// Where an input belongs to.
    fn about(&self) -> Map<String, Json> {
        let mut about = Map::new();
        about.insert("object".to_owned(), self.input.file.clone().into());
        about.insert("program".to_owned(), (&*self.program.name).into());
        about.insert("type".to_owned(), self.program.program_type.name().into());
        about
    }

    /// Writes a finding to its files.
    fn file(&self, finding: &Finding) -> Result<Filed, CliError> {
        let mut about = self.about();
        about.insert("finding".to_owned(), render::finding(finding));
        let saved = Saved::new(&finding.input, &self.target).text(about);
        let subject = Subject {
            input: &self.input,
            program: &self.program,
            created: &self.created,
            target: &self.target,
            expected: self.args.campaign.expect.as_deref(),
        };
        let contents = |name: &str| {
            let test = rust_test(finding, &subject, &files::function(name));
            [("json", saved.clone().into_bytes()), ("rs", test.into_bytes())]
        };
        let name = name(finding, &self.program.name);
        let (_, [file, test]) = files::write(&self.args.campaign.out, &name, contents)?;
        Ok(Filed { finding: finding.clone(), file, test })
    }

    fn show(&self, filed: &Filed, output: &mut Output) -> Result<(), CliError> {
        if !self.args.json {
            render::found(filed, &self.input, &self.program, self.args, &self.vm, output)?;
            output.flush()?;
        }
        Ok(())
    }
}

/// What the options put into maps: elements of which every input has all.
fn elements(setup: &SetupArgs, input: &Input, vm: &mut Machine) -> Result<Vec<Element>, CliError> {
    let mut places: BTreeSet<(Arc<str>, Vec<u8>)> = BTreeSet::new();
    for entry in &setup.maps {
        let size = vm.map(&entry.map)?.map().key_size() as usize;
        // It has been put there by this key.
        places.extend(entry.key.to_bytes(size).ok().map(|key| (entry.map.as_str().into(), key)));
    }
    places.extend(globals::sections(&setup.settings, input)?.into_iter().map(|name| (name, globals::KEY.to_vec())));
    let mut elements = Vec::new();
    for (map, key) in places {
        let handle = vm.map(&map)?;
        let size = handle.map().value_size() as usize;
        if let Some(mut value) = handle.get_bytes(&key)? {
            // Of a per-CPU map, all copies are the same.
            value.truncate(size);
            elements.push(Element { map, key, value });
        }
    }
    Ok(elements)
}

/// The world that the options describe; the seed is the campaign's.
fn world(vm: &Machine) -> World {
    World { random: World::default().random, ..vm.world.clone() }
}

/// What the options say of the world, which holds in every run.
fn pinned(world: &WorldArgs) -> BTreeSet<Ask> {
    let said = [
        (Ask::Time, world.time.is_some()),
        (Ask::Pids, world.pid.or(world.tgid).is_some()),
        (Ask::Uids, world.uid.or(world.gid).is_some()),
        (Ask::Comm, world.comm.is_some()),
        (Ask::Cpu, world.cpu.is_some()),
        (Ask::Cgroup, world.cgroup.is_some()),
    ];
    said.into_iter().filter(|(_, said)| *said).map(|(ask, _)| ask).collect()
}

fn kind(data: &Data) -> &'static str {
    match data {
        Data::Packet { .. } => "a packet",
        Data::Registers(_) => "registers",
        Data::Bytes(_) => "bytes",
    }
}

/// The name of a finding, which is that of its files: `parse-read-out-of-bounds-129`.
fn name(finding: &Finding, program: &str) -> String {
    match &finding.key {
        Key::Trap { program, kind, slot } => format!("{}-{kind}-{slot}", files::safe(program)),
        Key::Endless { program, function: Some(function) } if function != program => {
            format!("{}-endless-{}", files::safe(program), files::safe(function))
        }
        Key::Endless { program, .. } => format!("{}-endless", files::safe(program)),
        Key::Unexpected { value } => format!("{}-unexpected-{value}", files::safe(program)),
        Key::Panic { .. } => format!("{}-panic", files::safe(program)),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|source| CliError::Write { path: path.to_owned(), source })
}

// Progress.

fn message(stats: &Stats) -> String {
    format!(
        "{} inputs, {:.0} a second, {} of {} edges, {} kept, {} found",
        stats.executions,
        stats.executions_per_second(),
        stats.covered.edges,
        stats.covered.of_edges,
        stats.corpus,
        stats.findings
    )
}
