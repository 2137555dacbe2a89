//! What every engine of softbpf must do.
//!
//! Here are the list of engines, the fixtures (BPF objects with their C source, in `objects/`), the generators of
//! programs, and the conformance suite: its vectors (in `vectors/`), the readers of their formats, and the runner. The
//! tests in `tests/` use them, and never name an engine.

#![deny(unsafe_code)]

pub mod case;
pub mod coverage;
pub mod data;
pub mod fuzz;
pub mod generator;
pub mod hostile;
pub mod kernel;
pub mod minimise;
pub mod model;
pub mod oracle;
pub mod plugin;
pub mod programs;
pub mod report;
pub mod reusable;
pub mod rng;
pub mod streams;
pub mod subject;
pub mod suite;
pub mod targets;
pub mod vectors;
pub mod verdict;

use std::error::Error;
use std::ops::Range;
use std::path::PathBuf;

use softbpf::btf::Kind;
use softbpf::engine::Engine;
use softbpf::interp::Interpreter;
use softbpf::memory::Memory;
use softbpf::{Config, Machine, Object};

/// Makes an engine.
pub type MakeEngine = fn() -> Box<dyn Engine>;

/// The engines that work on this machine, the JIT in each of its configurations. A test runs on all of them.
pub fn engines() -> Vec<MakeEngine> {
    ENGINES.into_iter().filter_map(|name| engine_named(name).ok()).collect()
}

/// Names of the engines.
pub const ENGINES: [&str; 4] = ["interpreter", "jit", "jit-unproved", "jit-baseline"];

/// An engine that there is not, or not here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownEngine {
    /// No engine has this name.
    #[error("there is no engine {0:?}; there are {names} and auto", names = ENGINES.join(", "))]
    Name(String),
    /// The JIT does not work on this machine.
    #[error(transparent)]
    Jit(#[from] softbpf_jit::Unavailable),
    /// The JIT runs no program where guest memory is small.
    #[error("this host grants a program less than the 4 GiB of addresses that the JIT needs (see ulimit -v)")]
    SmallMemory,
}

/// The engine with this name: `interpreter`, `jit`, `jit-unproved` (which checks every access but those of the stack at
/// constant offsets) or `jit-baseline` (which uses no instruction that not every x86-64 has); or for `auto`, the JIT where
/// it works, and else the interpreter.
///
/// # Errors
/// There is none, or it does not work on this machine.
pub fn engine_named(name: &str) -> Result<MakeEngine, UnknownEngine> {
    fn jit(config: softbpf_jit::Config) -> Box<dyn Engine> {
        softbpf_jit::engine_with(config).unwrap_or_else(|_| Box::new(Interpreter::new()))
    }
    let make: MakeEngine = match name {
        "interpreter" => return Ok(|| Box::new(Interpreter::new())),
        "auto" => return Ok(|| jit(softbpf_jit::Config::default())),
        "jit" => || jit(softbpf_jit::Config::default()),
        "jit-unproved" => || jit(softbpf_jit::Config { proofs: false, ..softbpf_jit::Config::default() }),
        "jit-baseline" => || jit(softbpf_jit::Config { extensions: false, ..softbpf_jit::Config::default() }),
        _ => return Err(UnknownEngine::Name(name.to_owned())),
    };
    softbpf_jit::engine()?;
    if has_room_for(1) { Ok(make) } else { Err(UnknownEngine::SmallMemory) }
}

/// Whether the host grants so many machines at a time all the addresses that guest memory has: the JIT leaves programs to the
/// interpreter in a machine that has fewer.
pub fn has_room_for(machines: usize) -> bool {
    let full = || Memory::new().ok().and_then(|mut memory| memory.view().is_full_size().then_some(memory));
    let memories: Vec<Memory> = (0..machines).map_while(|_| full()).collect();
    memories.len() == machines
}

/// What a test comes to whose steps may fail.
pub type TestResult = Result<(), Box<dyn Error>>;

/// Path of a fixture by file name.
pub fn fixture_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("objects").join(name)
}

/// A fixture, parsed.
///
/// # Panics
/// The fixture is missing or does not parse: the tree is broken.
pub fn fixture(name: &str) -> Object {
    match Object::from_file(fixture_path(name)) {
        Ok(object) => object,
        Err(error) => panic!("fixture {name}: {error}"),
    }
}

/// The paths of all fixtures, by file name.
///
/// # Panics
/// There are none: the tree is broken.
pub fn fixture_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixture_path("")).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
    paths.sort();
    assert!(paths.len() > 10, "the fixtures are missing");
    paths
}

/// All fixtures, with their paths.
///
/// # Panics
/// As [`fixture_files`], and where one does not parse.
pub fn fixtures() -> Vec<(PathBuf, Object)> {
    let parse = |path: PathBuf| match Object::from_file(&path) {
        Ok(object) => (path, object),
        Err(error) => panic!("{error}"),
    };
    fixture_files().into_iter().map(parse).collect()
}

/// Where a global variable lies in the value of its section's map.
///
/// # Panics
/// The object's BTF has no such variable.
pub fn variable(object: &Object, section: &str, name: &str) -> Range<usize> {
    let find = || {
        let btf = object.btf()?;
        let section = btf.find(section, |kind| matches!(kind, Kind::DataSec { .. }))?;
        let Ok(Kind::DataSec { vars, .. }) = btf.kind(section) else { return None };
        let var = vars.iter().find(|var| btf.name(var.type_id) == name)?;
        let start = var.offset as usize;
        Some(start..start + var.size as usize)
    };
    find().unwrap_or_else(|| panic!("there is no variable {name} in {section}"))
}

/// Runs `test` once on every engine, with a machine of its own made from `object`.
///
/// # Panics
/// The object does not load.
pub fn on_every_engine(object: &Object, test: impl FnMut(Machine)) {
    on_every_engine_with(object, Config::default, test);
}

/// As [`on_every_engine`], with machines of this configuration; the engine that it names does not count.
///
/// # Panics
/// The object does not load.
pub fn on_every_engine_with(object: &Object, config: impl Fn() -> Config, mut test: impl FnMut(Machine)) {
    for engine in engines() {
        match Machine::with_config(object, Config { engine: engine(), ..config() }) {
            Ok(machine) => test(machine),
            Err(error) => panic!("{error}"),
        }
    }
}

/// As [`on_every_engine`], with a test that may fail, and stops at the first engine where it does.
///
/// # Errors
/// What the test gives.
///
/// # Panics
/// The object does not load.
pub fn try_on_every_engine(object: &Object, mut test: impl FnMut(&mut Machine) -> TestResult) -> TestResult {
    let mut result = Ok(());
    on_every_engine(object, |mut vm| {
        if result.is_ok() {
            result = test(&mut vm);
        }
    });
    result
}
