//! Faults planted in the JIT that no generated program finds, found by programs that are about them; the others are in
//! `mutants.rs`.

use std::error::Error;

use softbpf::context::Bytes;
use softbpf::engine::Engine;
use softbpf::interp::Interpreter;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::object::MAIN;
use softbpf::{Config, Machine, Object, Outcome};
use softbpf_conformance::TestResult;
use softbpf_conformance::programs::{program, program_with};
use softbpf_jit::{Fault, engine_with_fault};

fn faulty(fault: Fault) -> Box<dyn Engine> {
    engine_with_fault(softbpf_jit::Config::default(), fault).unwrap_or_else(|error| panic!("{error}"))
}

fn machine(object: &Object, engine: Box<dyn Engine>) -> Machine {
    Machine::with_config(object, Config { engine, ..Config::default() }).unwrap_or_else(|error| panic!("{error}"))
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
fn a_budget_of_may_goto_that_a_function_has_used_up_for_its_caller_is_found() -> TestResult {
    assert_found(Fault::CallForgetsLoops, |engine| {
        let text = "
            call use_up
            r0 = 1
            may_goto out
            r0 = 2
            out: exit
            use_up: may_goto done
            goto use_up
            done: exit";
        let mut vm = machine(&program(text), engine);
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

/// Looks the key of 16 bytes up that the context holds.
const LOOK_UP: &str = "
    r2 = *(u64 *)(r1 + 0)
    *(u64 *)(r10 - 16) = r2
    r2 = *(u64 *)(r1 + 8)
    *(u64 *)(r10 - 8) = r2
    r1 = m ll
    r2 = r10
    r2 += -16
    call map_lookup_elem
    if r0 == 0 goto out
    r0 = *(u64 *)(r0 + 0)
    out: exit";

/// Runs of a program that looks each of the keys up that are made for a hash map with this seed; the last one is missing
/// from it. Which keys those are is left out of the outcomes.
fn lookups(keys: impl Fn(u64) -> Vec<[u64; 2]>, engine: Box<dyn Engine>) -> Result<Vec<Outcome>, Box<dyn Error>> {
    let mut vm = machine(&program_with(LOOK_UP, vec![MapSpec::new("m", MapType::Hash, 16, 8, 100)]), engine);
    vm.keep_calls(0);
    let keys = keys(vm.map("m")?.map().hash_layout().ok_or("no layout")?.seed);
    let (_, present) = keys.split_last().ok_or("no keys")?;
    for (number, key) in (1_u64..).zip(present) {
        vm.map("m")?.insert(key, &number)?;
    }
    let run = |key: &[u64; 2]| {
        let bytes: Vec<u8> = key.iter().flat_map(|word| word.to_le_bytes()).collect();
        vm.run(MAIN, Bytes(&bytes)).map(|outcome| Outcome { context: Vec::new(), ..outcome })
    };
    Ok(keys.iter().map(run).collect::<Result<_, _>>()?)
}

#[test]
fn a_search_that_sees_one_entry_only_is_found() -> TestResult {
    let keys = |_| (0..100).map(|number| [number, 7]).collect();
    assert_found(Fault::SearchGivesUp, |engine| lookups(keys, engine))
}

#[test]
fn a_search_that_takes_the_hash_for_the_key_is_found() -> TestResult {
    let fold = |word: u64| {
        let product = u128::from(word) * u128::from(softbpf::maps::HASH_FACTOR);
        product as u64 ^ (product >> 64) as u64
    };
    // The second half takes back what the first has done.
    let keys = |seed| (1..9).map(|number| [number, fold(seed ^ number) ^ 5]).collect();
    assert_found(Fault::SearchTrustsHash, |engine| lookups(keys, engine))
}

#[test]
fn a_lookup_of_the_wrong_cpu_is_found() -> TestResult {
    let text = "*(u32 *)(r10 - 4) = 0\n r1 = m ll\n r2 = r10\n r2 += -4\n call map_lookup_elem
                if r0 == 0 goto out\n r0 = *(u64 *)(r0 + 0)\n out: exit";
    assert_found(Fault::LookupOfFirstCpu, |engine| {
        let mut vm = machine(&program_with(text, vec![MapSpec::new("m", MapType::PercpuArray, 4, 8, 1)]), engine);
        vm.keep_calls(0);
        vm.map("m")?.insert_percpu(&0_u32, &[1_u64, 2, 3, 4])?;
        vm.world.cpu = 2;
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
