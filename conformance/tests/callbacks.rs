//! Functions that helpers call back: what they get, what they leave, and how a run ends inside one.
//!
//! The helper is a mock here, so that nothing but the call itself is looked at.

use std::panic::{AssertUnwindSafe, catch_unwind};

use softbpf::helpers::{Call, Stop};
use softbpf::machine::RunError;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::memory::{FRAME_STRIDE, STACK_TOP};
use softbpf::object::MAIN;
use softbpf::{Machine, Object, Outcome, TrapKind};
use softbpf_conformance::programs::{program, program_with};
use softbpf_conformance::{TestResult, on_every_engine, try_on_every_engine};

/// A helper that nothing implements: its mock calls `r1` back with `r2`, 2, 3, 4 and 5, and gives what that gives.
const HELPER: &str = "find_vma";

fn call_once(call: &mut Call<'_>) -> Result<u64, Stop> {
    call.call_back(call.arg(0), [call.arg(1), 2, 3, 4, 5])
}

/// What the program comes to on all engines; they must agree.
#[track_caller]
fn outcome(object: &Object) -> Outcome {
    let mut outcomes = Vec::new();
    on_every_engine(object, |mut vm| {
        vm.mock(HELPER, call_once).unwrap_or_else(|error| panic!("{error}"));
        outcomes.push(vm.run(MAIN, ()).unwrap_or_else(|error| panic!("{error}")));
    });
    assert!(outcomes.windows(2).all(|pair| pair[0] == pair[1]), "engines disagree: {outcomes:#?}");
    outcomes.swap_remove(0)
}

#[track_caller]
fn ret(text: &str) -> Result<u64, TrapKind> {
    outcome(&program(text)).ret.map_err(|trap| trap.kind)
}

#[test]
fn a_function_gets_its_arguments_and_gives_its_result() {
    let text = "r1 = sum ll\n r2 = 1\n call find_vma\n exit\n \
                sum: r0 = r1\n r0 += r2\n r0 += r3\n r0 += r4\n r0 += r5\n exit";
    assert_eq!(ret(text), Ok(15));
}

#[test]
fn a_function_starts_with_empty_registers() {
    let text = "r0 = 9\n r6 = 9\n r7 = 9\n r8 = 9\n r9 = 9\n r1 = f ll\n call find_vma\n exit\n \
                f: r0 |= r6\n r0 |= r7\n r0 |= r8\n r0 |= r9\n exit";
    assert_eq!(ret(text), Ok(0));
}

#[test]
fn a_function_has_a_frame_of_its_own() {
    let text = "*(u64 *)(r10 - 8) = 5\n r6 = r10\n r1 = f ll\n r2 = r10\n call find_vma\n
                if r6 != r10 goto bad\n r1 = *(u64 *)(r10 - 8)\n r0 += r1\n exit\n bad: r0 = 0\n exit
                f: *(u64 *)(r10 - 8) = 7\n r0 = *(u64 *)(r1 - 8)\n r0 += 30\n exit";
    assert_eq!(ret(text), Ok(40));
}

#[test]
fn the_caller_keeps_its_registers_and_loses_its_arguments() {
    let text = "r6 = 1\n r7 = 2\n r8 = 3\n r9 = 4\n r1 = f ll\n call find_vma\n r0 = r1\n r0 |= r2\n r0 |= r3
                r0 |= r4\n r0 |= r5\n r0 += r6\n r0 += r7\n r0 += r8\n r0 += r9\n exit
                f: r6 = 50\n r7 = 50\n r8 = 50\n r9 = 50\n r0 = 50\n exit";
    assert_eq!(ret(text), Ok(10));
}

#[test]
fn a_function_may_call_functions() {
    let text = "r1 = f ll\n r2 = 7\n call find_vma\n exit\n f: r6 = r1\n call g\n r0 += r6\n exit\n g: r0 = 100\n exit";
    assert_eq!(ret(text), Ok(107));
}

#[test]
fn instructions_of_a_function_count() {
    let object = program("r1 = f ll\n call find_vma\n exit\n f: r0 = 0\n exit");
    assert_eq!(outcome(&object).instructions, 3 + 2);
}

#[test]
fn frames_are_closed_afterwards() {
    let text = "r1 = f ll\n call find_vma\n r0 = *(u64 *)(r0 - 8)\n exit\n f: r0 = r10\n *(u64 *)(r10 - 8) = 1\n exit";
    assert!(matches!(ret(text), Err(TrapKind::Memory(_))));
}

#[test]
fn what_is_no_function_cannot_be_called() {
    for target in ["0", "5", "r10"] {
        let outcome = outcome(&program(&format!("r1 = {target}\n call find_vma\n exit")));
        let trap = outcome.ret.expect_err("no function");
        assert!(matches!(trap.kind, TrapKind::BadCallTarget { .. }), "{trap}");
        assert_eq!((trap.slot, trap.callers.len()), (1, 0));
    }
}

/// Calls itself through a helper of its own at each depth, `r1` deep.
const NESTED: &str = "again: r6 = r1\n if r1 == 0 goto out\n r2 = r1\n r2 -= 1\n r1 = again ll\n r7 = r6\n r7 += 1000
    callx r7\n r0 += r6\n exit\n out: r0 = 0\n exit";

#[test]
fn calls_back_nest_as_deep_as_frames_go() {
    let nested = |depth| {
        let object = program(&format!("r1 = {depth}\n call again\n exit\n {NESTED}"));
        let mut outcomes = Vec::new();
        on_every_engine(&object, |mut vm| {
            (1000..1010).for_each(|number| assert_eq!(vm.mock(number, call_once), Ok(())));
            outcomes.push(vm.run(MAIN, ()).unwrap_or_else(|error| panic!("{error}")));
        });
        outcomes
    };
    nested(6).iter().for_each(|outcome| assert_eq!(outcome.ret, Ok(6 + 5 + 4 + 3 + 2 + 1)));
    for outcome in nested(7) {
        let trap = outcome.ret.expect_err("too deep");
        assert_eq!(trap.kind, TrapKind::TooDeep);
        // The call that is refused stands in the eighth frame.
        let slots: Vec<usize> = trap.callers.iter().map(|(_, slot)| *slot).collect();
        assert_eq!((slots, trap.slot), (vec![1, 11, 11, 11, 11, 11, 11], 11));
    }
}

#[test]
fn a_trap_inside_says_where_and_who_called() {
    let object = program(
        "r1 = f ll\n r2 = 0\n call find_vma\n exit\n f: r0 = 3\n call g\n exit\n g: r0 = *(u8 *)(r1 + 0)\n exit",
    );
    let outcome = outcome(&object);
    let trap = outcome.ret.expect_err("null pointer");
    let slots: Vec<usize> = trap.callers.iter().map(|(_, slot)| *slot).collect();
    assert_eq!((trap.slot, slots), (8, vec![3, 6]));
    assert_eq!(trap.registers[..4], [3, 0, 2, 3]);
    assert_eq!(outcome.instructions, 3 + 2 + 1);
}

#[test]
fn may_goto_counts_for_each_frame() {
    // The caller's own count is not touched by the callee's.
    let text = "r7 = 0\n may_goto +1\n r7 = 1\n r1 = f ll\n call find_vma\n may_goto +1\n r7 += 2\n r0 += r7\n exit
                f: r0 = 0\n again: r0 += 1\n may_goto out\n goto again\n out: exit";
    let expected = (8 << 20) + 1 + 3;
    assert_eq!(ret(text), Ok(expected));
}

/// A program of every kind of step around and inside a function that is called back twice.
const STEPS: &str = "r6 = 2\n again: r1 = f ll\n r2 = r6\n call find_vma\n r7 += r0\n r6 -= 1\n if r6 != 0 goto again
    r0 = r7\n exit\n f: r6 = r1\n r0 = 0\n *(u64 *)(r10 - 8) = r1\n loop: r0 += r6\n r6 -= 1\n if r6 != 0 goto loop
    call g\n exit\n g: r0 += 1\n may_goto +0\n exit";

#[test]
fn fuel_ends_a_run_at_any_instruction() -> TestResult {
    try_on_every_engine(&program(STEPS), |vm| {
        vm.mock(HELPER, call_once)?;
        let mut seen = Vec::new();
        let whole = vm.trace(MAIN, (), |step| {
            seen.push((step.slot, step.registers.to_vec(), step.depth));
        })?;
        assert_eq!((whole.ret.clone(), whole.instructions), (Ok(6), seen.len() as u64));
        for fuel in 0..=whole.instructions {
            vm.fuel = fuel;
            let outcome = vm.run(MAIN, ())?;
            assert_eq!(outcome.instructions, fuel);
            let Err(trap) = outcome.ret else { continue };
            assert_eq!(trap.kind, TrapKind::OutOfFuel { budget: fuel });
            let expected = &seen[fuel as usize];
            assert_eq!((trap.slot, trap.registers.to_vec(), trap.callers.len() as u32), *expected);
        }
        assert_eq!(vm.run(MAIN, ())?, whole);
        Ok(())
    })
}

/// Runs `caller`, whose helper calls its function `f` back, with `callee` in slot 0 of the program array `progs`.
fn with_tail_call(caller: &str, callee: &str, mut test: impl FnMut(&mut Machine) -> TestResult) -> TestResult {
    let progs = vec![MapSpec::new("progs", MapType::ProgArray, 4, 4, 1)];
    let mut programs = Vec::new();
    for (name, text) in [("caller", caller), ("callee", callee)] {
        let mut object = program_with(text, progs.clone());
        if let Some(info) = object.program_mut(MAIN) {
            info.name = name.into();
        }
        programs.push(object.program(name)?);
    }
    try_on_every_engine(&Object::from_programs(programs, progs), |vm| {
        vm.set_tail_call("progs", 0, "callee")?;
        vm.mock(HELPER, call_once)?;
        test(vm)
    })
}

/// Calls `f` back with the context, which then tail-calls.
const TAIL_CALLER: &str = "r6 = 5\n r2 = r1\n r1 = f ll\n call find_vma\n r0 += r6\n exit
    f: r6 = 70\n r2 = progs ll\n r3 = 0\n call tail_call\n r0 = 1000\n exit";

#[test]
fn a_tail_call_in_a_function_returns_to_the_helper() -> TestResult {
    with_tail_call(TAIL_CALLER, "r0 = *(u8 *)(r1 + 1)\n r6 = 0\n exit", |vm| {
        let outcome = vm.run("caller", [1, 2, 3, 4])?;
        assert_eq!((outcome.ret, outcome.instructions), (Ok(2 + 5), 4 + 4 + 3 + 2));
        Ok(())
    })
}

#[test]
fn a_trap_behind_a_tail_call_names_the_program() -> TestResult {
    with_tail_call(TAIL_CALLER, "call sub\n exit\n sub: r0 = *(u8 *)(r1 + 4)\n exit", |vm| {
        let trap = vm.run("caller", [1, 2, 3, 4])?.ret.expect_err("past the context");
        let callers = [("caller".into(), 4), ("callee".into(), 0)];
        assert_eq!((&*trap.program, trap.slot, &trap.callers[..]), ("callee", 2, &callers[..]));
        Ok(())
    })
}

#[test]
fn functions_of_another_program_cannot_be_called() -> TestResult {
    // The callee finds the caller's function in the context.
    let caller =
        "r6 = r1\n r2 = f ll\n *(u64 *)(r6 + 0) = r2\n r1 = r6\n r2 = progs ll\n r3 = 0\n call tail_call\n exit
                  f: r0 = 0\n exit";
    with_tail_call(caller, "r1 = *(u64 *)(r1 + 0)\n call find_vma\n exit", |vm| {
        let trap = vm.run("caller", [0; 8])?.ret.expect_err("no function of this program");
        assert!(matches!(trap.kind, TrapKind::BadCallTarget { .. }), "{trap}");
        Ok(())
    })
}

#[test]
fn a_mock_that_is_called_while_it_runs_is_a_trap() -> TestResult {
    let text = "r1 = f ll\n call find_vma\n exit\n f: call find_vma\n exit";
    try_on_every_engine(&program(text), |vm| {
        vm.mock(HELPER, call_once)?;
        // The second call happens inside the first, and finds its mock at work.
        let nested = vm.run(MAIN, ())?.ret;
        let kind = nested.expect_err("reentered").kind;
        assert_eq!(kind, TrapKind::MockReentered { helper: HELPER.into() });
        Ok(())
    })
}

#[test]
fn a_mock_may_go_on_after_a_trap() -> TestResult {
    let text = "r6 = 1\n r7 = r10\n r1 = f ll\n call find_vma\n if r7 != r10 goto +1\n r0 += r6\n exit
                f: r6 = 5\n call g\n exit\n g: r0 = *(u8 *)(r0 + 0)\n exit";
    try_on_every_engine(&program(text), |vm| {
        vm.mock(HELPER, |call: &mut Call<'_>| match call.call_back(call.arg(0), [0; 5]) {
            Err(Stop::Ended(trap)) => trap.callers.len() as u64,
            other => panic!("{other:?}"),
        })?;
        let outcome = vm.run(MAIN, ())?;
        assert_eq!((outcome.ret, outcome.instructions), (Ok(3), 4 + 3 + 3));
        Ok(())
    })
}

#[test]
fn a_panic_below_a_function_reaches_the_test() -> TestResult {
    let text = "r1 = f ll\n call find_vma\n exit\n f: call ktime_get_ns\n exit";
    try_on_every_engine(&program(text), |vm| {
        vm.mock(HELPER, call_once)?;
        vm.mock("ktime_get_ns", |_: &mut Call<'_>| -> u64 { panic!("seen") })?;
        let caught = catch_unwind(AssertUnwindSafe(|| vm.run(MAIN, ())));
        assert_eq!(caught.expect_err("a panic").downcast_ref(), Some(&"seen"));
        assert_eq!(vm.run(MAIN, ()), Err(RunError::Poisoned));
        Ok(())
    })
}

#[test]
fn calls_are_logged_in_the_order_in_which_they_begin() -> TestResult {
    let text = "r1 = f ll\n call find_vma\n exit\n f: call get_smp_processor_id\n r0 = 4\n exit";
    try_on_every_engine(&program(text), |vm| {
        vm.mock(HELPER, call_once)?;
        vm.run(MAIN, ())?;
        assert_eq!(vm.calls(HELPER)?.records()[0].ret, Some(4));
        assert_eq!(vm.calls("get_smp_processor_id")?.len(), 1);
        Ok(())
    })
}

#[test]
fn a_panic_reaches_the_test_whatever_is_left_of_the_budget() -> TestResult {
    for fuel in [1, 2, 100, 255, 256, 257, 258, 300] {
        try_on_every_engine(&program("call ktime_get_ns\n exit"), |vm| {
            vm.fuel = fuel;
            vm.mock("ktime_get_ns", |_: &mut Call<'_>| -> u64 { panic!("seen") })?;
            let caught = catch_unwind(AssertUnwindSafe(|| vm.run(MAIN, ())));
            assert_eq!(caught.expect_err("a panic").downcast_ref(), Some(&"seen"), "{fuel}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_mock_may_go_on_after_a_panic() -> TestResult {
    // The panic comes two functions deep: registers, frames and the count must be as before it.
    let text = "r6 = 1\n r7 = r10\n *(u64 *)(r10 - 8) = r6\n r1 = f ll\n call find_vma\n if r7 != r10 goto +2
                r6 = *(u64 *)(r10 - 8)\n r0 += r6\n exit
                f: r6 = 5\n *(u64 *)(r10 - 8) = r6\n call g\n exit
                g: r6 = 9\n *(u64 *)(r10 - 8) = r6\n call ktime_get_ns\n exit";
    // Little fuel, so that the interpreter takes over in the program, in `f` or in `g`.
    for fuel in [40, 261, 264, 10_000] {
        try_on_every_engine(&program(text), |vm| {
            vm.fuel = fuel;
            vm.mock(HELPER, |call: &mut Call<'_>| {
                let function = call.arg(0);
                u64::from(catch_unwind(AssertUnwindSafe(|| call.call_back(function, [0; 5]))).is_err())
            })?;
            vm.mock("ktime_get_ns", |_: &mut Call<'_>| -> u64 { panic!("caught") })?;
            for _ in 0..2 {
                let outcome = vm.run(MAIN, ())?;
                assert_eq!((outcome.ret, outcome.instructions), (Ok(2), 5 + 3 + 3 + 4));
                // Both functions' frames are closed.
                for frame in 1..3 {
                    assert!(vm.memory.read(u64::from(STACK_TOP - frame * FRAME_STRIDE - 8), 8).is_err());
                }
            }
            // Nothing is left of it in a run that traps.
            vm.mock(HELPER, |call: &mut Call<'_>| -> Result<u64, Stop> { Err(call.stop("enough")) })?;
            let trap = vm.run(MAIN, ())?.ret.expect_err("stopped");
            assert_eq!((trap.slot, trap.callers.len()), (5, 0));
            Ok(())
        })?;
    }
    Ok(())
}
