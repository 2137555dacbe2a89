//! Work of fixed size for `.ci/count`, which counts the machine instructions that it takes: `count PATH TIMES`.
//!
//! To add a path: a row in [`PATHS`], and a line in `benches/counts.txt`, which `.ci/count --update` writes.

use std::hint::black_box;
use std::io::{self, Write as _};
use std::process::ExitCode;

use softbpf::map_spec::{MapSpec, MapType};
use softbpf::object::MAIN;
use softbpf::{Config, Machine, Object};
use softbpf_benches::workload::{Workload, long, object_path, workloads};
use softbpf_conformance::programs::program_with;
use softbpf_conformance::{MakeEngine, engine_named};
use softbpf_jit::inspect::code_size;

type Path = (&'static str, fn(u64) -> Result<(), String>);

/// Columns: name, what does it so many times.
const PATHS: &[Path] = &[
    ("interpret-sha256", |times| run("sha256", "interpreter", times)),
    ("jit-sha256", |times| run("sha256", "jit", times)),
    ("interpret-hash-lookup", |times| look_up("interpreter", times)),
    ("jit-hash-lookup", |times| look_up("jit", times)),
    ("jit-local-calls", |times| run("local_calls", "jit", times)),
    ("jit-xdp-parse", |times| run("xdp_parse", "jit", times)),
    ("compile-sha256", |times| compile(&workload("sha256")?, times)),
    ("compile-long", |times| compile(&long(), times)),
    ("load-object", load),
    ("make-machine", machine),
];

fn workload(name: &str) -> Result<Workload, String> {
    workloads().into_iter().find(|workload| workload.name == name).ok_or(format!("there is no program {name}"))
}

fn engine(name: &str) -> Result<MakeEngine, String> {
    engine_named(name).map_err(|error| error.to_string())
}

fn run(program: &str, engine: &str, times: u64) -> Result<(), String> {
    let workload = workload(program)?;
    let mut machine = workload.machine(self::engine(engine)?);
    // Those that are kept with their arguments go a way of their own.
    machine.keep_calls(0);
    workload.run(&mut machine, times).map(|_| ())
}

/// 256 lookups of the one key in a hash map: of more keys, how many are passed on the way is another number each time.
fn look_up(engine: &str, times: u64) -> Result<(), String> {
    const PROGRAM: &str = "
        r6 = 256
        *(u32 *)(r10 - 4) = 0
        again: r1 = m ll
        r2 = r10
        r2 += -4
        call map_lookup_elem
        if r0 == 0 goto out
        r6 += -1
        if r6 != 0 goto again
        out: r0 = r6
        exit";
    let object = program_with(PROGRAM, vec![MapSpec::new("m", MapType::Hash, 4, 8, 256)]);
    let config = Config { engine: self::engine(engine)?(), ..Config::default() };
    let mut machine = Machine::with_config(&object, config).map_err(|error| error.to_string())?;
    machine.keep_calls(0);
    let mut map = machine.map("m").map_err(|error| error.to_string())?;
    map.insert(&0_u32, &1_u64).map_err(|error| error.to_string())?;
    for _ in 0..times {
        let outcome = machine.run(MAIN, ()).map_err(|error| error.to_string())?;
        if outcome.ret.as_ref().ok() != Some(&0) {
            return Err(format!("the lookups end in {:?}", outcome.ret));
        }
    }
    Ok(())
}

fn compile(workload: &Workload, times: u64) -> Result<(), String> {
    let mut machine = workload.machine(engine("interpreter")?);
    for _ in 0..times {
        let compiled = code_size(&mut machine, workload.name, softbpf_jit::Config::default());
        black_box(compiled.map_err(|error| error.to_string())?.ok_or("there is no JIT")?);
    }
    Ok(())
}

fn load(times: u64) -> Result<(), String> {
    let bytes = std::fs::read(object_path("maps")).map_err(|error| error.to_string())?;
    for _ in 0..times {
        black_box(Object::parse(black_box(&bytes)).map_err(|error| error.to_string())?);
    }
    Ok(())
}

fn machine(times: u64) -> Result<(), String> {
    let object = Object::from_file(object_path("maps")).map_err(|error| error.to_string())?;
    for _ in 0..times {
        black_box(Machine::load(black_box(&object)).map_err(|error| error.to_string())?);
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (name, times) = (args.next().unwrap_or_default(), args.next().and_then(|times| times.parse().ok()));
    let result = match (PATHS.iter().find(|path| path.0 == name), times) {
        (Some(path), Some(times)) => (path.1)(times),
        _ => {
            let names: Vec<_> = PATHS.iter().map(|path| path.0).collect();
            Err(format!("usage: count PATH TIMES\npaths: {}", names.join(" ")))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing else to do when that fails.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
