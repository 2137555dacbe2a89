//! Faults planted in the JIT are found by generated programs: so that what these find no fault in has been looked at.
//!
//! A fault counts as found where a run, or what it leaves in maps, is not what the interpreter makes of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;

use softbpf::context::Bytes;
use softbpf::engine::Engine;
use softbpf::interp::Interpreter;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Config, Machine, Object, Outcome};
use softbpf_conformance::TestResult;
use softbpf_conformance::generator::scenario::{Scenario, ScenarioKnobs};
use softbpf_conformance::generator::{Knobs, Sample};
use softbpf_conformance::model::Contents;
use softbpf_conformance::model::scenario::{self, runs};
use softbpf_conformance::programs::{program, program_with};
use softbpf_jit::{Fault, engine_with_fault};

/// Programs within which every planted fault must be found: one half scenarios, one half samples.
const PROGRAMS: u64 = 20_000;

/// Faults that no generated program finds, but others below: a `may_goto` that comes to its end takes more instructions
/// than those get, scenarios run twice on the same input, memory closes only between runs, nothing is mocked, and nobody
/// counts calls.
const OTHERS: [Fault; 5] = [
    Fault::MayGotoOneTooFew,
    Fault::WindowsStay,
    Fault::FleetingWindowsStay,
    Fault::AnswersStay,
    Fault::InlineCallNotCounted,
];

/// What can be seen of all runs of a program.
type Seen = Vec<(Outcome, Vec<Contents>)>;

fn faulty(fault: Fault) -> Box<dyn Engine> {
    engine_with_fault(softbpf_jit::Config::default(), fault).unwrap_or_else(|error| panic!("{error}"))
}

fn machine(object: &Object, engine: Box<dyn Engine>) -> Machine {
    Machine::with_config(object, Config { engine, ..Config::default() }).unwrap_or_else(|error| panic!("{error}"))
}

/// A program, to be run on any engine.
enum Case {
    Scenario(Box<Scenario>),
    Object(Box<Object>, Vec<u8>),
}

impl Case {
    fn numbered(number: u64) -> Case {
        let seed = number / 2;
        if number.is_multiple_of(2) {
            return Case::Scenario(Box::new(Scenario::from_seed(seed, &ScenarioKnobs::mixed(seed))));
        }
        let sample = Sample::from_seed(seed, &Knobs::ALL);
        let program = Program::new(ProgramInfo::new(MAIN, ProgramType::Unspec), sample.code());
        let program = program.unwrap_or_else(|error| panic!("{error}"));
        Case::Object(Box::new(Object::from_programs(vec![program], Vec::new())), sample.input)
    }

    fn run(&self, engine: Box<dyn Engine>) -> Seen {
        match self {
            Case::Scenario(scenario) => scenario::machine(scenario, || engine)
                .and_then(|mut vm| runs(scenario, &mut vm))
                .unwrap_or_else(|error| panic!("{error}")),
            Case::Object(object, input) => {
                let outcome = machine(object, engine).run(MAIN, Bytes(input)).unwrap_or_else(|error| panic!("{error}"));
                vec![(outcome, Vec::new())]
            }
        }
    }
}

/// Which of the faults there is something to see of. There is no difference without one.
fn seen(case: &Case, faults: &[Fault]) -> Vec<Fault> {
    let expected = case.run(Box::new(Interpreter::new()));
    faults.iter().copied().filter(|&fault| case.run(faulty(fault)) != expected).collect()
}

#[test]
fn every_fault_planted_in_the_jit_is_found() {
    if softbpf_jit::engine().is_err() {
        return;
    }
    let mut missed = Fault::ALL.to_vec();
    let mut found = BTreeMap::new();
    missed.retain(|fault| !OTHERS.contains(fault));
    for number in 0..PROGRAMS {
        if missed.is_empty() {
            break;
        }
        for fault in seen(&Case::numbered(number), &missed) {
            found.insert(fault, number + 1);
        }
        missed.retain(|fault| !found.contains_key(fault));
    }
    let mut stderr = std::io::stderr();
    for fault in Fault::ALL {
        let at = found.get(fault).map_or("-".to_owned(), |number| format!("after {number}"));
        // The harness keeps what tests print to itself; who reads its output shall see this.
        let _ = writeln!(stderr, "{:<28} {at}", format!("{fault:?}"));
    }
    assert!(missed.is_empty(), "not found in {PROGRAMS} programs: {missed:?}");
    assert!(found.len() >= 50);
}

/// Runs that must be different where the fault is.
fn assert_found(fault: Fault, runs: impl Fn(Box<dyn Engine>) -> Result<Vec<Outcome>, Box<dyn Error>>) -> TestResult {
    let Ok(engine) = softbpf_jit::engine() else { return Ok(()) };
    let expected = runs(Box::new(Interpreter::new()))?;
    assert_eq!(runs(engine)?, expected);
    assert_ne!(runs(faulty(fault))?, expected, "{fault:?}");
    Ok(())
}

#[test]
fn a_may_goto_that_ends_early_is_found() -> TestResult {
    assert_found(Fault::MayGotoOneTooFew, |engine| {
        let mut vm = machine(&program("r0 = 0\n again: may_goto +2\n r0 += 1\n goto again\n exit"), engine);
        vm.fuel = 1 << 30;
        Ok(vec![vm.run(MAIN, ())?])
    })
}

#[test]
fn a_window_that_outlives_its_run_is_found() -> TestResult {
    assert_found(Fault::FleetingWindowsStay, |engine| {
        // The negations hide from the analysis that it is the context.
        let text = "r1 = -r1\n r1 = -r1\n r0 = *(u8 *)(r1 + 40)\n exit";
        let mut vm = machine(&program(text), engine);
        Ok(vec![vm.run(MAIN, Bytes(&[1; 64]))?, vm.run(MAIN, Bytes(&[1; 32]))?])
    })
}

#[test]
fn a_window_on_memory_that_has_closed_is_found() -> TestResult {
    // The address of a value is kept in a map; the second run finds it there when the element is gone.
    let text = "
        *(u64 *)(r10 - 8) = 7
        r1 = kept ll
        r2 = r10
        r2 += -16
        *(u32 *)(r10 - 16) = 0
        call map_lookup_elem
        if r0 == 0 goto out
        r7 = r0
        r8 = *(u64 *)(r7 + 0)
        if r8 != 0 goto read
        r1 = elements ll
        r2 = r10
        r2 += -16
        r3 = r10
        r3 += -8
        r4 = 0
        call map_update_elem
        r1 = elements ll
        r2 = r10
        r2 += -16
        call map_lookup_elem
        if r0 == 0 goto out
        r8 = r0
        *(u64 *)(r7 + 0) = r8
        read: r0 = *(u64 *)(r8 + 0)
        out: exit";
    assert_found(Fault::WindowsStay, |engine| {
        let mut elements = MapSpec::new("elements", MapType::Hash, 4, 8, 4);
        elements.map_flags = 1; // BPF_F_NO_PREALLOC
        let maps = vec![MapSpec::new("kept", MapType::Array, 4, 8, 1), elements];
        let mut vm = machine(&program_with(text, maps), engine);
        let first = vm.run(MAIN, ())?;
        vm.map("elements")?.remove(&0_u32)?;
        Ok(vec![first, vm.run(MAIN, ())?])
    })
}

#[test]
fn an_answer_that_a_mock_has_changed_is_found() -> TestResult {
    assert_found(Fault::AnswersStay, |engine| {
        let text = "call get_numa_node_id\n call get_prandom_u32\n call get_numa_node_id\n exit";
        let mut vm = machine(&program(text), engine);
        vm.keep_calls(0);
        vm.mock("get_prandom_u32", |call| call.world().numa_node = 1)?;
        Ok(vec![vm.run(MAIN, ())?])
    })
}

#[test]
fn a_call_that_is_not_counted_is_found() -> TestResult {
    let count = |engine| -> Result<u64, Box<dyn Error>> {
        let mut vm = machine(&program("call get_numa_node_id\n exit"), engine);
        vm.keep_calls(0);
        vm.run(MAIN, ())?;
        Ok(vm.calls("get_numa_node_id")?.len())
    };
    let Ok(engine) = softbpf_jit::engine() else { return Ok(()) };
    assert_eq!(count(engine)?, 1);
    assert_eq!(count(faulty(Fault::InlineCallNotCounted))?, 0);
    Ok(())
}
