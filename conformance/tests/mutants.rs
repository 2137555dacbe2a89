//! Faults planted in the interpreter and in the JIT are found by generated programs, each within a budget of programs and
//! of seconds: so that what these find no fault in has been looked at.
//!
//! A fault of the interpreter is found by what finds one in fuzzing: the comparison with the model, and one of the JIT by
//! that with the interpreter. `.ci/mutants` raises the budget and shows the table; here is a slice.

#[path = "mutants/cases.rs"]
mod cases;
#[path = "mutants/interpreter.rs"]
mod interpreter;

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, Instant};

use cases::{Case, Oracle, seen};
use softbpf_jit::{Fault, engine_with_fault};

/// Programs within which every planted fault must be found, unless `SOFTBPF_MUTANT_PROGRAMS` says otherwise.
const PROGRAMS: u64 = 20_000;

/// Seconds of looking for one fault, unless `SOFTBPF_MUTANT_SECONDS` says otherwise: generating, running, comparing.
const SECONDS: u64 = 60;

/// Faults of the JIT that no generated program finds, but the tests in `jit_faults.rs`: a `may_goto` that comes to its end
/// takes more instructions than those get, scenarios run twice on the same input, memory closes only between runs, nothing
/// is mocked, nobody counts calls, no two keys have the same hash by chance, and in maps with few keys hardly two the same home.
const OTHERS: [Fault; 8] = [
    Fault::MayGotoOneTooFew,
    Fault::CallForgetsLoops,
    Fault::WindowsStay,
    Fault::FleetingWindowsStay,
    Fault::AnswersStay,
    Fault::InlineCallNotCounted,
    Fault::SearchTrustsHash,
    Fault::SearchGivesUp,
];

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// A fault that is looked for.
struct Wanted<F> {
    name: String,
    fault: F,
    /// Time spent on it.
    spent: Duration,
    /// After how many programs it was found.
    found: Option<u64>,
}

/// Looks for each fault until it is found or its budget is used up. `search` prepares a program, and says of a fault
/// whether it shows.
fn look_for<F>(faults: impl Iterator<Item = (String, F)>, mut search: impl FnMut(u64) -> Box<dyn Fn(&F) -> bool>) {
    let (programs, seconds) = (number("SOFTBPF_MUTANT_PROGRAMS", PROGRAMS), number("SOFTBPF_MUTANT_SECONDS", SECONDS));
    let limit = Duration::from_secs(seconds);
    let wanted = |(name, fault)| Wanted { name, fault, spent: Duration::ZERO, found: None };
    let mut wanted: Vec<Wanted<F>> = faults.map(wanted).collect();
    for program in 0..programs {
        let mut open: Vec<_> = wanted.iter_mut().filter(|fault| fault.found.is_none() && fault.spent < limit).collect();
        if open.is_empty() {
            break;
        }
        // Who looks for one fault alone pays for all of this.
        let start = Instant::now();
        let shows = search(program);
        let preparing = start.elapsed();
        for fault in &mut open {
            let start = Instant::now();
            if shows(&fault.fault) {
                fault.found = Some(program + 1);
            }
            fault.spent += preparing + start.elapsed();
        }
    }
    let mut table = String::new();
    for Wanted { name, spent, found, .. } in &wanted {
        let at = found.map_or_else(|| "not found".to_owned(), |program| program.to_string());
        let _ = writeln!(table, "{name:<48} {at:>9} {:>8.2}", spent.as_secs_f64());
    }
    // The harness keeps what tests print to itself; who reads its output shall see this.
    let _ = write!(std::io::stderr(), "{:<48} {:>9} {:>8}\n{table}", "fault", "programs", "seconds");
    let missed: Vec<&String> = wanted.iter().filter(|fault| fault.found.is_none()).map(|fault| &fault.name).collect();
    assert!(missed.is_empty(), "not found in {programs} programs, or {seconds} s: {missed:?}");
    assert!(wanted.len() >= 40);
}

#[test]
fn every_fault_planted_in_the_interpreter_is_found() {
    let mut oracle = Oracle::new();
    let faults = interpreter::FAULTS.iter().map(|fault| (fault.name.to_owned(), *fault));
    look_for(faults, |number| {
        let case = Case::numbered(number);
        let expected = oracle.expected(&case);
        Box::new(move |fault: &interpreter::Fault| {
            let concerned = case.codes().iter().any(|code| fault.concerns(code));
            // A program that would be refused is nobody's.
            let got = || case.altered(|code| fault.altered(code)).run(fault.engine());
            concerned && got().is_some_and(|got| seen(&got) != expected)
        })
    });
}

#[test]
fn every_fault_planted_in_the_jit_is_found() {
    if softbpf_jit::engine().is_err() {
        return;
    }
    let faults = Fault::ALL.iter().filter(|fault| !OTHERS.contains(fault)).map(|fault| (format!("{fault:?}"), *fault));
    look_for(faults, |number| {
        let case = Case::numbered(number);
        let expected = case.on_interpreter();
        Box::new(move |fault: &Fault| {
            let engine = engine_with_fault(softbpf_jit::Config::default(), *fault);
            case.run(engine.unwrap_or_else(|error| panic!("{error}"))).as_ref() != Some(&expected)
        })
    });
}

/// There is no difference without a fault: an altered program that has nothing altered, and the JIT as it is.
#[test]
fn where_there_is_no_fault_none_is_found() {
    let mut oracle = Oracle::new();
    for number in 0..400 {
        let case = Case::numbered(number);
        let (expected, got) = (oracle.expected(&case), case.altered(Clone::clone).on_interpreter());
        assert_eq!(seen(&got), expected, "program {number}");
        if let Ok(engine) = softbpf_jit::engine() {
            assert_eq!(case.run(engine), Some(got), "program {number}");
        }
    }
}
