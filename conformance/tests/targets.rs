//! The fuzz targets on stable Rust: their seeds, and the inputs that fuzzing found, make none of them panic.
//!
//! A new input goes into `fuzz/regressions/TARGET`, under a name that says what was wrong. `UPDATE_DICTIONARIES=1 cargo test
//! -p softbpf-conformance --test targets` writes the dictionaries anew.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

use softbpf::context::Bytes;
use softbpf::helpers::{is_implemented, table};
use softbpf::interp::Interpreter;
use softbpf::object::MAIN;
use softbpf_conformance::hostile;
use softbpf_conformance::reusable::Reusable;
use softbpf_conformance::rng::Rng;
use softbpf_conformance::targets::{TARGETS, Target, dictionary, helpers};

fn fuzz(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder)
}

/// Says which input it was.
fn run(target: &Target, name: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(|| (target.run)(input)) {
        say(target.name, name, input);
        std::panic::resume_unwind(panic);
    }
}

fn say(target: &str, name: &str, input: &[u8]) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{target}: {name}: {input:02x?}");
}

#[test]
fn what_fuzzing_found_stays_mended() {
    for target in &TARGETS {
        let Ok(entries) = fs::read_dir(fuzz("regressions").join(target.name)) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let input = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            run(target, &path.display().to_string(), &input);
        }
    }
}

#[test]
fn regressions_belong_to_targets() {
    let known: Vec<&str> = TARGETS.iter().map(|target| target.name).chain(["command"]).collect();
    for entry in fs::read_dir(fuzz("regressions")).into_iter().flatten().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        assert!(known.contains(&name.as_str()), "no target {name}");
    }
}

#[test]
fn seeds_run() {
    for target in &TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() >= 10, "{}: {} seeds", target.name, seeds.len());
        for (number, seed) in seeds.iter().enumerate() {
            run(target, &format!("seed {number}"), seed);
        }
    }
}

/// Programs that are refused, or whose first call stops them, would prove little; and each helper must be seen at work.
#[test]
fn calls_of_helpers_get_somewhere() {
    const PROGRAMS: u64 = 3_000;
    let mut rng = Rng::new(0);
    let (mut accepted, mut calls, mut returned) = (0, 0, BTreeSet::new());
    let mut machine = Reusable::new(|| Box::new(Interpreter::new()));
    for _ in 0..PROGRAMS {
        let input: Vec<u8> = (0..64).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        let Some(object) = helpers::object(&input) else { continue };
        let vm = machine.load(&object).unwrap_or_else(|error| panic!("{error}"));
        vm.fuel = hostile::FUEL;
        accepted += 1;
        vm.run(MAIN, Bytes(&[0; hostile::CONTEXT])).unwrap_or_else(|error| panic!("{error}"));
        for row in table::all() {
            let log = vm.calls(row.number).unwrap_or_else(|error| panic!("{error}"));
            calls += log.len();
            if log.records().iter().any(|call| call.ret.is_some()) {
                returned.insert(row.name);
            }
        }
    }
    assert_eq!(accepted, PROGRAMS);
    assert!(calls > PROGRAMS * 2, "only {calls} calls");
    let implemented = table::all().iter().filter(|row| is_implemented(row.number)).map(|row| row.name);
    let silent: Vec<_> = implemented.filter(|name| !returned.contains(name) && *name != "tail_call").collect();
    assert!(silent.is_empty(), "{silent:?} never return");
}

#[test]
fn every_target_has_its_file_and_its_manifest_entry() {
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap_or_default();
    for target in &TARGETS {
        let file = format!("fuzz_targets/{}.rs", target.name);
        assert!(fuzz(&file).exists() && manifest.contains(&format!("path = \"{file}\"")), "{file}");
    }
}

#[test]
fn dictionaries_are_current() {
    for target in &TARGETS {
        let words = (target.words)();
        if words.is_empty() {
            continue;
        }
        let (path, text) = (fuzz("dictionaries").join(format!("{}.dict", target.name)), dictionary::file(&words));
        if std::env::var_os("UPDATE_DICTIONARIES").is_some() {
            fs::write(&path, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        let current = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(current, text, "{} is not current", path.display());
    }
}
