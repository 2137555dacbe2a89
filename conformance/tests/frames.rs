//! Stack frames and registers over calls of functions that use little of either, wherever the run ends.

use std::error::Error;

use softbpf::context::Bytes;
use softbpf::interp::Interpreter;
use softbpf::object::MAIN;
use softbpf::{Config, Machine, Object, Outcome, TrapKind};
use softbpf_conformance::programs::program;
use softbpf_conformance::{TestResult, on_every_engine_with, try_on_every_engine};

/// What each budget up to `most` comes to on the interpreter, and that it comes to the same on every engine.
fn outcomes(object: &Object, most: u64) -> Result<Vec<Outcome>, Box<dyn Error>> {
    let run = |vm: &mut Machine, fuel| {
        vm.fuel = fuel;
        vm.run(MAIN, Bytes(&[1; 64])).unwrap_or_else(|error| panic!("{error}"))
    };
    let config = Config { engine: Box::new(Interpreter::new()), ..Config::default() };
    let mut vm = Machine::with_config(object, config)?;
    let expected: Vec<Outcome> = (0..=most).map(|fuel| run(&mut vm, fuel)).collect();
    on_every_engine_with(object, Config::default, |mut vm| {
        for (fuel, expected) in (0..).zip(&expected) {
            assert_eq!(run(&mut vm, fuel), *expected, "{fuel} instructions");
        }
    });
    Ok(expected)
}

fn fault(outcome: &Outcome) -> Option<u64> {
    match outcome.ret.as_ref().map_err(|trap| &trap.kind) {
        Err(TrapKind::Memory(fault)) => Some(fault.addr),
        Ok(_) | Err(_) => None,
    }
}

/// Long enough that code asks for fuel in the middle of it.
fn long(text: &str) -> String {
    text.repeat(300)
}

#[test]
fn a_budget_may_end_anywhere_in_functions_that_write_few_registers() -> TestResult {
    let text = format!(
        "
        r6 = 1
        r7 = 2
        r8 = 3
        r9 = 4
        call two
        r6 += r7
        r6 += r8
        r6 += r9
        r0 += r6
        exit
        two: r7 = 20
        call one
        r0 += r7
        exit
        one: r9 = 30
        r8 = 5
        call none
        r0 += r9
        may_goto +0
        exit
        none: r0 = r6
        {}
        r0 += r8
        exit",
        long("r0 += r7\n")
    );
    let all = outcomes(&program(&text), 340)?;
    // The innermost function finds 20 in r7 and 5 in r8.
    assert_eq!(all.last().map(|outcome| &outcome.ret), Some(&Ok(1 + 300 * 20 + 5 + 30 + 20 + 10)));
    let deep = all.iter().filter_map(|outcome| outcome.ret.as_ref().err()).map(|trap| trap.callers.len()).max();
    assert_eq!(deep, Some(3));
    Ok(())
}

#[test]
fn a_frame_that_nobody_has_looked_at_is_there_when_the_interpreter_takes_over() -> TestResult {
    // Stores at constant offsets are not checked; what comes where the budget is short is.
    let text = format!(
        "
        *(u64 *)(r10 - 8) = 5
        call f
        exit
        f: *(u64 *)(r10 - 16) = 6
        {}
        r1 = *(u64 *)(r10 - 16)
        r2 = *(u64 *)(r10 + 1016)
        r0 = r1
        r0 += r2
        exit",
        long("r0 += 1\n")
    );
    let all = outcomes(&program(&text), 320)?;
    assert_eq!(all.last().map(|outcome| &outcome.ret), Some(&Ok(11)));
    Ok(())
}

#[test]
fn a_frame_is_gone_when_its_function_has_returned_whether_it_was_looked_at_or_not() -> TestResult {
    // The second time the function looks at its own frame through a pointer that nothing is known of, or has its callee do so.
    let looks = [
        "",
        "r1 = -r1\n r1 = -r1\n r2 = *(u64 *)(r1 + 0)\n",
        "call g\n",
        "r2 = 0\n lock *(u32 *)(r10 - 4) += r2\n",
        "*(u8 *)(r10 - 8) = 0\n r2 = 4\n r1 = r10\n r1 += -8\n r3 = r10\n call get_current_comm\n",
    ];
    for look in looks {
        let text = format!(
            "call f
            r6 = r0
            r0 = *(u64 *)(r6 + 0)
            exit
            f: r1 = r10
            r1 += -8
            r6 = r1
            {look}
            r0 = r6
            exit
            g: r1 = -r1
            r1 = -r1
            r2 = *(u64 *)(r1 + 0)
            exit"
        );
        let all = outcomes(&program(&text), 30)?;
        let top = u64::from(softbpf::memory::STACK_TOP - softbpf::memory::FRAME_STRIDE);
        assert_eq!(all.last().and_then(fault), Some(top - 8), "{look}");
    }
    Ok(())
}

#[test]
fn a_callee_sees_all_frames_above_its_own_and_none_below() -> TestResult {
    let text = "
        *(u64 *)(r10 - 8) = 1
        r1 = r10
        call a
        r0 += *(u64 *)(r10 - 8)
        exit
        a: r2 = r10
        *(u64 *)(r10 - 8) = 2
        call b
        r1 = *(u64 *)(r10 - 8)
        r0 += r1
        exit
        b: r3 = r10
        *(u64 *)(r10 - 8) = 4
        r0 = *(u64 *)(r3 - 8)
        r4 = *(u64 *)(r2 - 8)
        r0 += r4
        r4 = *(u64 *)(r1 - 8)
        r0 += r4
        *(u64 *)(r2 - 8) = 16
        *(u64 *)(r1 - 8) = 32
        r0 += r5
        exit";
    let text = text.replace("r0 += *(u64 *)(r10 - 8)\n", "r1 = *(u64 *)(r10 - 8)\n r0 += r1\n");
    let all = outcomes(&program(&text), 40)?;
    assert_eq!(all.last().map(|outcome| &outcome.ret), Some(&Ok(4 + 2 + 1 + 16 + 32)));
    // One frame below that of the function that runs.
    let below = program("call f\n exit\n f: r1 = r10\n r1 = -r1\n r1 = -r1\n r0 = *(u64 *)(r1 - 1032)\n exit");
    assert!(outcomes(&below, 10)?.last().and_then(fault).is_some());
    Ok(())
}

#[test]
fn the_ninth_frame_is_one_too_many_for_functions_that_need_none() -> TestResult {
    for (depth, too_deep) in [(7, false), (8, true)] {
        let text =
            format!("r1 = {depth}\n call f\n exit\n f: r0 = r1\n r1 -= 1\n if r1 == 0 goto out\n call f\n out: exit");
        let all = outcomes(&program(&text), 60)?;
        let last = all.last().and_then(|outcome| outcome.ret.as_ref().err());
        assert_eq!(last.map(|trap| &trap.kind), too_deep.then_some(&TrapKind::TooDeep));
        assert_eq!(last.map_or(7, |trap| trap.callers.len()), 7);
    }
    Ok(())
}

#[test]
fn no_run_finds_what_functions_of_another_have_left() -> TestResult {
    let text = "
        call f
        exit
        f: r0 = *(u64 *)(r10 - 8)
        r1 = r10
        r1 += -8
        r6 = r0
        call g
        r0 += r6
        exit
        g: r0 = *(u64 *)(r10 - 512)
        *(u64 *)(r1 + 0) = 5
        *(u64 *)(r10 - 512) = 6
        exit";
    try_on_every_engine(&program(text), |vm| {
        for _ in 0..3 {
            assert_eq!(vm.run(MAIN, ())?.ret, Ok(0));
        }
        assert_eq!(vm.repeat(MAIN, (), 5)?.ret, Ok(0));
        Ok(())
    })
}
