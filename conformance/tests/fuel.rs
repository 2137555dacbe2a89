//! Metering: one unit an executed instruction, the same at the exit, at a helper, at a trap and at the limit.

use std::error::Error;

use softbpf::context::{Packet, PtRegs};
use softbpf::machine::{DEFAULT_FUEL, FREE_HELPER_BYTES, MAX_HELPER_BYTES};
use softbpf::object::MAIN;
use softbpf::{Machine, Object, Outcome, TrapKind};
use softbpf_conformance::programs::{outcome, program};
use softbpf_conformance::{TestResult, fixture, on_every_engine, try_on_every_engine};

/// Instructions that programs in text execute.
#[track_caller]
fn assert_counts(cases: &[(&str, u64)]) {
    for (text, expected) in cases {
        assert_eq!(outcome(&program(text), ()).instructions, *expected, "{text}");
    }
}

/// What a program comes to with this much fuel.
fn run(vm: &mut Machine, fuel: u64) -> Result<Outcome, Box<dyn Error>> {
    vm.fuel = fuel;
    Ok(vm.run(MAIN, ())?)
}

/// Programs of several shapes that end, on no context.
const ENDING: [&str; 8] = [
    "exit",
    "r0 = 0x123456789 ll\n exit",
    "r0 = 10\n again: r0 -= 1\n if r0 != 0 goto again\n exit",
    "call ktime_get_ns\n call ktime_get_ns\n exit",
    "r6 = 5\n again: call sub\n r6 -= 1\n if r6 != 0 goto again\n exit\n sub: r0 = 1\n exit",
    "r0 = 1\n if r0 == 1 goto +1\n r0 = 2\n gotol +0\n may_goto +0\n exit",
    "r1 = 14\n callx r1\n exit",
    "*(u64 *)(r10 - 8) = 1\n r1 = 1\n lock *(u64 *)(r10 - 8) += r1\n r0 = *(u64 *)(r10 - 9)\n exit",
];

#[test]
fn every_executed_instruction_counts_once() {
    assert_counts(&[
        ("exit", 1),
        ("r0 = 0x123456789 ll\n exit", 2),
        ("goto +1\n r0 = 1\n exit", 2),
        ("r0 = 0\n if r0 == 1 goto +1\n r0 = 1\n exit", 4),
        ("r0 = 0\n if r0 == 0 goto +1\n r0 = 1\n exit", 3),
        ("r0 = 100\n again: r0 -= 1\n if r0 != 0 goto again\n exit", 202),
        ("may_goto +0\n gotol +0\n exit", 3),
    ]);
}

#[test]
fn calls_count_as_one_and_callees_as_they_are() {
    assert_counts(&[
        ("call ktime_get_ns\n exit", 2),
        ("r1 = 5\n callx r1\n exit", 3),
        ("call sub\n exit\n sub: exit", 3),
        ("call sub\n call sub\n exit\n sub: call subsub\n exit\n subsub: r0 = 0\n exit", 11),
    ]);
}

#[test]
fn an_instruction_that_traps_counts() {
    assert_counts(&[
        ("r0 = *(u8 *)(r1 + 0)\n exit", 1),
        ("r0 = 0\n *(u8 *)(r1 + 0) = 1\n exit", 2),
        ("r0 = 0\n lock *(u64 *)(r1 + 0) += r0\n exit", 2),
        ("r0 = 0\n call 195896080\n exit", 2),
        ("call kfunc 1, 0\n exit", 1),
        ("r1 = -1\n callx r1\n exit", 2),
        ("call sub\n exit\n sub: r0 = 0\n r0 = *(u8 *)(r1 + 0)\n exit", 3),
        ("self: call self\n exit", 8),
    ]);
}

#[test]
fn an_instruction_without_fuel_does_not_count() {
    on_every_engine(&program("r0 = 1\n r0 = 2\n r0 = *(u8 *)(r1 + 0)\n exit"), |mut vm| {
        for fuel in 0..3 {
            let outcome = run(&mut vm, fuel).unwrap_or_else(|error| panic!("{error}"));
            let trap = outcome.trap().map(|trap| (trap.kind.clone(), trap.slot, trap.registers[0]));
            assert_eq!(trap, Some((TrapKind::OutOfFuel { budget: fuel }, fuel as usize, fuel)));
            assert_eq!(outcome.instructions, fuel);
        }
    });
}

#[test]
fn the_limit_is_exact() -> TestResult {
    for text in ENDING {
        try_on_every_engine(&program(text), |vm| {
            vm.world.clock.step = 0;
            let whole = run(vm, DEFAULT_FUEL)?;
            for spare in [0, 1, 2, 1000, u64::MAX - whole.instructions] {
                assert_eq!(run(vm, whole.instructions + spare)?, whole, "{spare} to spare:\n{text}");
            }
            for fuel in 0..whole.instructions {
                let cut = run(vm, fuel)?;
                assert_eq!(cut.trap().map(|trap| &trap.kind), Some(&TrapKind::OutOfFuel { budget: fuel }), "{text}");
                assert_eq!(cut.instructions, fuel, "{text}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn one_less_than_the_limit_stops_before_the_last_instruction() -> TestResult {
    try_on_every_engine(&program("r0 = 7\n call ktime_get_ns\n r0 = 8\n exit"), |vm| {
        let cut = run(vm, 3)?;
        assert_eq!(cut.trap().map(|trap| (trap.slot, trap.registers[0])), Some((3, 8)));
        let at_helper = run(vm, 1)?;
        assert_eq!(at_helper.trap().map(|trap| (trap.slot, trap.registers[0])), Some((1, 7)));
        // The helper was reached once only.
        assert_eq!(vm.calls("ktime_get_ns")?.len(), 1);
        Ok(())
    })
}

#[test]
fn an_endless_loop_ends_at_exactly_its_budget() -> TestResult {
    let loops = ["goto -1", "r0 += 1\n goto -2", "r0 = 1 ll\n r0 += 1\n gotol -4", "call pc+1\n goto -2\n exit"];
    for text in loops {
        try_on_every_engine(&program(text), |vm| {
            for fuel in [0, 1, 2, 3, 4, 5, 999, 1000, 1001, 123_456] {
                let outcome = run(vm, fuel)?;
                assert_eq!(outcome.instructions, fuel, "{text}");
                assert_eq!(outcome.trap().map(|trap| &trap.kind), Some(&TrapKind::OutOfFuel { budget: fuel }));
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn fuel_is_a_budget_for_each_run() -> TestResult {
    try_on_every_engine(&program(ENDING[2]), |vm| {
        let whole = run(vm, DEFAULT_FUEL)?;
        for _ in 0..10 {
            assert_eq!(run(vm, whole.instructions)?, whole);
        }
        Ok(())
    })
}

/// Runs a program with and without a hook: the outcomes must be equal, and the hook must see every instruction once.
fn assert_traced(object: &Object, run: impl Fn(&mut Machine, Option<&mut Vec<usize>>) -> Outcome) {
    on_every_engine(object, |mut vm| {
        let plain = run(&mut vm, None);
        on_every_engine(object, |mut traced| {
            let mut slots = Vec::new();
            let outcome = run(&mut traced, Some(&mut slots));
            assert_eq!(outcome, plain);
            assert_eq!(slots.len() as u64, outcome.instructions);
        });
    });
}

#[test]
fn a_hook_sees_each_instruction_and_changes_nothing() {
    let trapping = ["r0 = 1\n r0 = *(u8 *)(r1 + 0)\n exit", "self: call self\n exit", "r0 += 1\n goto -2"];
    for text in ENDING.iter().chain(&trapping) {
        assert_traced(&program(text), |vm, slots| {
            vm.fuel = 1000;
            let outcome = match slots {
                None => vm.run(MAIN, ()),
                Some(slots) => vm.trace(MAIN, (), |step| slots.push(step.slot)),
            };
            outcome.unwrap_or_else(|error| panic!("{error}"))
        });
    }
}

#[test]
fn a_hook_sees_the_instructions_of_real_programs() {
    assert_traced(&fixture("tailcall.bpf.o"), |vm, slots| {
        let outcome = match slots {
            None => vm.run("spin", PtRegs::new()),
            Some(slots) => vm.trace("spin", PtRegs::new(), |step| slots.push(step.slot)),
        };
        outcome.unwrap_or_else(|error| panic!("{error}"))
    });
    assert_traced(&fixture("subprogs.bpf.o"), |vm, slots| {
        let packet = Packet::new([1; 100]);
        let outcome = match slots {
            None => vm.run("classify", packet),
            Some(slots) => vm.trace("classify", packet, |step| slots.push(step.slot)),
        };
        outcome.unwrap_or_else(|error| panic!("{error}"))
    });
}

#[test]
fn a_hook_sees_slots_registers_and_depth_before_each_instruction() -> TestResult {
    let text = "r0 = 5 ll\n call sub\n exit\n sub: r0 += 1\n exit";
    try_on_every_engine(&program(text), |vm| {
        let mut steps = Vec::new();
        vm.trace(MAIN, (), |step| steps.push((step.slot, step.registers[0], step.depth)))?;
        assert_eq!(steps, [(0, 0, 0), (2, 5, 0), (4, 5, 1), (5, 6, 1), (3, 6, 0)]);
        Ok(())
    })
}

#[test]
fn helpers_may_move_so_many_bytes_for_a_run() -> TestResult {
    // The first bytes of an argument are free: 64 of these calls come to the limit, the next one is beyond it.
    let bytes = (MAX_HELPER_BYTES / 64 + FREE_HELPER_BYTES) as usize;
    let text = format!(
        "r6 = *(u64 *)(r1 + 0)\n r7 = *(u64 *)(r1 + 8)
         again: r1 = r6\n r2 = {bytes}\n r3 = 0\n r4 = 0\n r5 = 0\n call csum_diff\n r7 -= 1\n if r7 != 0 goto again
         r0 = 0\n exit"
    );
    try_on_every_engine(&program(&text), |vm| {
        vm.mock("csum_diff", |_| 0)?;
        let large = vm.place("large", &vec![0; bytes])?;
        let context = [large.to_le_bytes(), 100_u64.to_le_bytes()].concat();
        let outcome = vm.run(MAIN, context)?;
        assert_eq!(outcome.ret.map_err(|trap| trap.kind), Err(TrapKind::HelperBytes));
        assert_eq!(outcome.instructions, 2 + 64 * 8 + 6);
        Ok(())
    })
}
