//! Many runs on one context: what lasts from one to the next, and what ends them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use softbpf::context::{Bytes, Packet, PtRegs};
use softbpf::machine::RunError;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::memory::STACK_TOP;
use softbpf::object::MAIN;
use softbpf::{Object, TrapKind};
use softbpf_conformance::programs::{program, program_with};
use softbpf_conformance::{TestResult, fixture, try_on_every_engine};

/// Counts in the context; the count.
const COUNT: &str = "r0 = *(u64 *)(r1 + 0)\n r0 += 1\n *(u64 *)(r1 + 0) = r0\n exit";

#[test]
fn the_context_keeps_what_a_run_changes() -> TestResult {
    try_on_every_engine(&program(COUNT), |vm| {
        let repeated = vm.repeat(MAIN, 40_u64.to_le_bytes(), 1000)?;
        assert_eq!((repeated.ret, repeated.runs, repeated.instructions), (Ok(1040), 1000, 4000));
        // The next call has a context of its own.
        assert_eq!(vm.repeat(MAIN, [0; 8], 2)?.ret, Ok(2));
        assert_eq!(vm.run(MAIN, [0; 8])?.ret, Ok(1));
        Ok(())
    })
}

#[test]
fn no_times_are_once() -> TestResult {
    try_on_every_engine(&program(COUNT), |vm| {
        assert_eq!(vm.repeat(MAIN, [0; 8], 0)?.runs, 1);
        Ok(())
    })
}

#[test]
fn the_first_trap_ends_it() -> TestResult {
    let text = format!("r6 = r1\n {}\n", COUNT.replace("exit", "if r0 != 5 goto +1\n r0 = *(u64 *)(r6 + 8)\n exit"));
    try_on_every_engine(&program(&text), |vm| {
        let repeated = vm.repeat(MAIN, [0; 8], 1000)?;
        let trap = repeated.ret.expect_err("past the context");
        assert_eq!((trap.slot, repeated.runs, repeated.instructions), (5, 5, 5 * 6));
        Ok(())
    })
}

#[test]
fn every_run_has_all_the_fuel() -> TestResult {
    try_on_every_engine(&program(COUNT), |vm| {
        vm.fuel = 4;
        assert_eq!(vm.repeat(MAIN, [0; 8], 10)?.ret, Ok(10));
        vm.fuel = 3;
        let repeated = vm.repeat(MAIN, [0; 8], 10)?;
        assert_eq!(repeated.ret.expect_err("no fuel").kind, TrapKind::OutOfFuel { budget: 3 });
        assert_eq!((repeated.runs, repeated.instructions), (1, 3));
        Ok(())
    })
}

#[test]
fn it_does_what_single_runs_do() -> TestResult {
    let object = fixture("subprogs.bpf.o");
    let mut values = Vec::new();
    for repeat in [false, true] {
        try_on_every_engine(&object, |vm| {
            let (ret, instructions) = if repeat {
                let repeated = vm.repeat("filter", Packet::new([0; 60]), 10)?;
                (repeated.ret, repeated.instructions)
            } else {
                let mut outcomes = Vec::new();
                for _ in 0..10 {
                    outcomes.push(vm.run("filter", Packet::new([0; 60]))?);
                }
                let total = outcomes.iter().map(|outcome| outcome.instructions).sum();
                (outcomes.swap_remove(9).ret, total)
            };
            values.push((ret, instructions, vm.map(".bss")?.entries_bytes()?));
            Ok(())
        })?;
    }
    assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
    Ok(())
}

#[test]
fn the_run_that_lacks_fuel_ends_it_whichever_it_is() -> TestResult {
    // Each run is 200 instructions longer than the one before.
    let text = "r0 = *(u64 *)(r1 + 0)\n r0 += 100\n *(u64 *)(r1 + 0) = r0\n r2 = r0
        again: r2 -= 1\n if r2 != 0 goto again\n exit";
    try_on_every_engine(&program(text), |vm| {
        vm.fuel = 1000;
        let repeated = vm.repeat(MAIN, [0; 8], 4)?;
        assert_eq!((repeated.ret, repeated.runs, repeated.instructions), (Ok(400), 4, 205 + 405 + 605 + 805));
        let repeated = vm.repeat(MAIN, [0; 8], 100)?;
        assert_eq!(repeated.ret.expect_err("no fuel").kind, TrapKind::OutOfFuel { budget: 1000 });
        assert_eq!((repeated.runs, repeated.instructions), (5, 205 + 405 + 605 + 805 + 1000));
        vm.fuel = u64::MAX;
        let repeated = vm.repeat(MAIN, [0; 8], 9)?;
        assert_eq!((repeated.ret, repeated.runs, repeated.instructions), (Ok(900), 9, 9 * 5 + 200 * 45));
        Ok(())
    })
}

#[test]
fn every_run_has_all_loops_of_may_goto() -> TestResult {
    try_on_every_engine(&program("again: may_goto +1\n goto again\n exit"), |vm| {
        let once = vm.run(MAIN, ())?.instructions;
        assert_eq!(vm.repeat(MAIN, (), 2)?.instructions, 2 * once);
        Ok(())
    })
}

#[test]
fn a_program_that_does_nothing_is_counted_all_the_same() -> TestResult {
    try_on_every_engine(&program("r0 = r1\n r0 += r2\n r2 = 7\n exit"), |vm| {
        let repeated = vm.repeat(MAIN, Bytes(&[]), 1_000_000)?;
        assert_eq!((repeated.ret, repeated.runs, repeated.instructions), (Ok(0), 1_000_000, 4_000_000));
        vm.fuel = 4;
        assert_eq!(vm.repeat(MAIN, Bytes(&[]), 1000)?.instructions, 4000);
        vm.fuel = 3;
        assert_eq!(vm.repeat(MAIN, Bytes(&[]), 1000)?.runs, 1);
        vm.fuel = 0;
        let repeated = vm.repeat(MAIN, Bytes(&[]), 1000)?;
        assert_eq!((repeated.ret.is_err(), repeated.runs, repeated.instructions), (true, 1, 0));
        Ok(())
    })
}

fn records(end: &str) -> Object {
    let text = format!(
        "r1 = ring ll\n r2 = 8\n r3 = 0\n call ringbuf_reserve\n if r0 == 0 goto +3\n r1 = r0\n r2 = 0\n {end}
                        r0 = 0\n exit"
    );
    program_with(&text, vec![MapSpec::new("ring", MapType::Ringbuf, 0, 0, 4096)])
}

#[test]
fn a_record_that_is_not_released_ends_it() -> TestResult {
    try_on_every_engine(&records("r2 = 1"), |vm| {
        let repeated = vm.repeat(MAIN, (), 10)?;
        let kind = repeated.ret.expect_err("a record is left").kind;
        assert_eq!((kind, repeated.runs), (TrapKind::UnreleasedRecord { map: "ring".into() }, 1));
        Ok(())
    })?;
    try_on_every_engine(&records("call ringbuf_submit"), |vm| {
        assert_eq!(vm.repeat(MAIN, (), 10)?.ret, Ok(0));
        assert_eq!(vm.map("ring")?.drain_records()?.len(), 10);
        assert!(vm.run(MAIN, ())?.events.len() == 1);
        Ok(())
    })
}

#[test]
fn what_a_run_deletes_is_closed_for_the_next() -> TestResult {
    // Leaves the address of a deleted value in the context, and reads there first of all.
    let text = "r6 = r1\n r1 = *(u64 *)(r6 + 0)\n if r1 == 0 goto +1\n r0 = *(u64 *)(r1 + 0)
        *(u32 *)(r10 - 4) = 1\n *(u64 *)(r10 - 16) = 1\n r1 = m ll\n r2 = r10\n r2 += -4\n r3 = r10\n r3 += -16\n r4 = 0
        call map_update_elem\n r1 = m ll\n r2 = r10\n r2 += -4\n call map_lookup_elem\n *(u64 *)(r6 + 0) = r0
        r1 = m ll\n r2 = r10\n r2 += -4\n call map_delete_elem\n r0 = 0\n exit";
    let object = program_with(text, vec![MapSpec::new("m", MapType::Hash, 4, 8, 4)]);
    try_on_every_engine(&object, |vm| {
        let repeated = vm.repeat(MAIN, [0; 8], 10)?;
        let trap = repeated.ret.expect_err("the element is gone");
        assert_eq!((trap.slot, repeated.runs), (3, 2));
        Ok(())
    })
}

#[test]
fn lines_and_events_do_not_pile_up() -> TestResult {
    let text = "*(u32 *)(r10 - 4) = 0x6968\n r1 = r10\n r1 += -4\n r2 = 3\n call trace_printk\n exit";
    try_on_every_engine(&program(text), |vm| {
        assert_eq!(vm.repeat(MAIN, (), 100)?.ret, Ok(2));
        assert_eq!(vm.run(MAIN, ())?.printk, ["hi"]);
        Ok(())
    })
}

#[test]
fn errors_are_those_of_a_run() -> TestResult {
    try_on_every_engine(&program("call ktime_get_ns\n exit"), |vm| {
        assert!(matches!(vm.repeat("absent", (), 1), Err(RunError::NoSuchProgram { .. })));
        vm.world.cpu = 100;
        assert!(matches!(vm.repeat(MAIN, (), 1), Err(RunError::NoSuchCpu { .. })));
        vm.world.cpu = 0;
        let mut calls = 0;
        vm.mock("ktime_get_ns", move |_| {
            calls += 1;
            assert!(calls < 3, "seen");
            calls
        })?;
        assert!(catch_unwind(AssertUnwindSafe(|| vm.repeat(MAIN, (), 10))).is_err());
        assert_eq!(vm.repeat(MAIN, (), 1), Err(RunError::Poisoned));
        Ok(())
    })
}

#[test]
fn a_run_sees_what_a_mock_changed_in_the_one_before() -> TestResult {
    // A helper that is called through a register, and one that is called at the end of the budget.
    let through_register = ("call get_smp_processor_id\n r6 = r0\n r1 = 5\n callx r1\n r0 = r6\n exit", 1000);
    let at_the_end = (
        "r6 = *(u64 *)(r1 + 0)\n *(u64 *)(r1 + 0) = 1\n if r6 != 0 goto cpu\n r6 = 300
        again: r6 -= 1\n if r6 != 0 goto again\n call ktime_get_ns\n exit\n cpu: call get_smp_processor_id\n exit",
        606,
    );
    for (text, fuel) in [through_register, at_the_end] {
        try_on_every_engine(&program(text), |vm| {
            vm.fuel = fuel;
            vm.keep_calls(0);
            vm.mock("ktime_get_ns", |call| {
                call.world().cpu += 1;
                0
            })?;
            assert_eq!(vm.repeat(MAIN, [0; 8], 2)?.ret, Ok(1));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn every_call_sees_the_world_and_the_mocks_as_they_are() -> TestResult {
    try_on_every_engine(&program("call get_smp_processor_id\n exit"), |vm| {
        vm.keep_calls(1);
        assert_eq!(vm.repeat(MAIN, (), 3)?.ret, Ok(0));
        vm.world.cpu = 2;
        assert_eq!(vm.repeat(MAIN, (), 3)?.ret, Ok(2));
        vm.mock("get_smp_processor_id", |_| 7)?;
        assert_eq!(vm.repeat(MAIN, (), 3)?.ret, Ok(7));
        vm.unmock("get_smp_processor_id")?;
        assert_eq!(vm.repeat(MAIN, (), 3)?.ret, Ok(2));
        assert_eq!(vm.calls("get_smp_processor_id")?.len(), 12);
        Ok(())
    })
}

#[test]
fn every_call_has_a_context_of_its_own_size() -> TestResult {
    try_on_every_engine(&program(COUNT), |vm| {
        for _ in 0..2 {
            assert_eq!(vm.repeat(MAIN, [0; 16], 3)?.ret, Ok(3));
            let repeated = vm.repeat(MAIN, [0; 4], 3)?;
            assert_eq!(repeated.ret.expect_err("past the context").slot, 0);
            assert_eq!((repeated.runs, repeated.instructions), (1, 1));
            assert_eq!(vm.repeat(MAIN, [0; 8], 3)?.ret, Ok(3));
        }
        Ok(())
    })
}

#[test]
fn every_run_has_an_empty_stack_and_all_tail_calls() -> TestResult {
    // Adds to the context what it finds on the stack, in itself and in a function.
    let text = "r6 = r1\n r7 = *(u64 *)(r10 - 512)\n *(u64 *)(r10 - 512) = 77\n call sub\n r0 += r7
        r1 = *(u64 *)(r6 + 0)\n r0 += r1\n *(u64 *)(r6 + 0) = r0\n exit
        sub: r0 = *(u64 *)(r10 - 8)\n *(u64 *)(r10 - 8) = 77\n exit";
    try_on_every_engine(&program(text), |vm| {
        assert_eq!(vm.repeat(MAIN, [0; 8], 10)?.ret, Ok(0));
        Ok(())
    })?;
    try_on_every_engine(&fixture("tailcall.bpf.o"), |vm| {
        let once = vm.run("spin", PtRegs::new())?;
        let repeated = vm.repeat("spin", PtRegs::new(), 50)?;
        assert_eq!((repeated.ret, repeated.instructions), (once.ret, 50 * once.instructions));
        Ok(())
    })
}

#[test]
fn the_stack_is_closed_behind_the_last_run() -> TestResult {
    let reads = "r0 = *(u64 *)(r10 - 8)\n r2 = *(u64 *)(r1 + 0)\n r0 += r2\n exit";
    let writes = "*(u64 *)(r10 - 8) = 3\n r0 = *(u64 *)(r10 - 8)\n exit";
    let traps = "r0 = *(u64 *)(r10 - 8)\n r0 = *(u64 *)(r10 + 0)\n exit";
    for (text, ret) in [(reads, Some(7)), (writes, Some(3)), (traps, None)] {
        try_on_every_engine(&program(text), |vm| {
            let repeated = vm.repeat(MAIN, 7_u64.to_le_bytes(), 5)?;
            assert_eq!((repeated.ret.ok(), repeated.runs), (ret, if ret.is_some() { 5 } else { 1 }));
            assert!(vm.memory.read(u64::from(STACK_TOP) - 8, 8).is_err());
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn after_a_panic_and_a_reset_runs_are_as_before() -> TestResult {
    let text = "r6 = r1\n r7 = *(u64 *)(r10 - 8)\n *(u64 *)(r10 - 8) = 77\n call sub\n r0 += r7\n exit
        sub: r7 = *(u64 *)(r10 - 8)\n *(u64 *)(r10 - 8) = 77\n call ktime_get_ns\n r0 += r7\n exit";
    try_on_every_engine(&program(text), |vm| {
        let mut calls = 0;
        vm.mock("ktime_get_ns", move |_| {
            calls += 1;
            assert!(calls != 3, "seen");
            calls
        })?;
        assert!(catch_unwind(AssertUnwindSafe(|| vm.repeat(MAIN, [0; 8], 10))).is_err());
        vm.reset();
        let repeated = vm.repeat(MAIN, [0; 8], 10)?;
        assert_eq!((repeated.ret, repeated.runs, repeated.instructions), (Ok(13), 10, 110));
        Ok(())
    })
}

#[test]
fn another_object_is_another_program() -> TestResult {
    try_on_every_engine(&program("r0 = 1\n exit"), |vm| {
        assert_eq!(vm.repeat(MAIN, (), 3)?.ret, Ok(1));
        vm.reload(&program("*(u64 *)(r10 - 8) = 2\n r0 = *(u64 *)(r10 - 8)\n exit"))?;
        assert_eq!(vm.repeat(MAIN, (), 3)?.ret, Ok(2));
        vm.reload(&program("r0 = *(u64 *)(r10 - 8)\n exit"))?;
        assert_eq!(vm.repeat(MAIN, (), 3)?.ret, Ok(0));
        Ok(())
    })
}

#[test]
fn programs_are_found_by_name() -> TestResult {
    try_on_every_engine(&fixture("cpuv4.bpf.o"), |vm| {
        let names: Vec<_> = vm.programs().map(|info| info.name.clone()).collect();
        for (index, name) in names.iter().enumerate() {
            assert_eq!(vm.find_program(name).map(|id| id.index()), Ok(index));
        }
        Ok(())
    })
}
