//! Tail calls: two kprobes joined by a program array, one that jumps to itself, and what a call leaves behind.

use std::error::Error;

use softbpf::context::PtRegs;
use softbpf::helpers::Stop;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::maps::PerfSample;
use softbpf::memory::FaultKind;
use softbpf::object::MAIN;
use softbpf::outcome::Event;
use softbpf::{Machine, Object, Outcome, TrapKind};
use softbpf_conformance::programs::program_with;
use softbpf_conformance::{TestResult, fixture, try_on_every_engine};

/// Tail calls that a run may make, after which they fall through.
const LIMIT: u64 = 33;

const CPU: u32 = 2;

fn on_fixture(test: impl FnMut(&mut Machine) -> TestResult) -> TestResult {
    try_on_every_engine(&fixture("tailcall.bpf.o"), test)
}

fn open(vm: &mut Machine) -> Result<Outcome, Box<dyn Error>> {
    vm.world.cpu = CPU;
    Ok(vm.run("open_enter", PtRegs::new().parm(1, 0x7ffd_1111_2222_3333).parm(3, 0o2101))?)
}

/// `struct message` as bytes.
fn message(visited: u32) -> Vec<u8> {
    [&0x7ffd_1111_2222_3333_u64.to_le_bytes()[..], &0o2101_u32.to_le_bytes(), &visited.to_le_bytes()].concat()
}

fn counters(vm: &mut Machine) -> Result<Vec<u64>, Box<dyn Error>> {
    Ok(vm.map("counters")?.entries::<u32, u64>()?.into_iter().map(|(_, count)| count).collect())
}

/// An object of programs in text, all of which see the program array `progs`.
fn programs(named: &[(&str, &str)]) -> Result<Object, Box<dyn Error>> {
    let progs = vec![MapSpec::new("progs", MapType::ProgArray, 4, 4, 4)];
    let mut programs = Vec::new();
    for (name, text) in named {
        let mut object = program_with(text, progs.clone());
        if let Some(info) = object.program_mut(MAIN) {
            info.name = (*name).into();
        }
        programs.push(object.program(name)?);
    }
    Ok(Object::from_programs(programs, progs))
}

/// Runs `first`, with `second` in slot 1 of the program array.
fn joined(first: &str, second: &str, mut test: impl FnMut(Outcome)) -> TestResult {
    try_on_every_engine(&programs(&[("first", first), ("second", second)])?, |vm| {
        vm.set_tail_call("progs", 1, "second")?;
        test(vm.run("first", [1, 2, 3, 4, 5, 6, 7, 8])?);
        Ok(())
    })
}

/// Tail-calls slot 1 with the context still in r1.
const CALL_SLOT_1: &str = "r2 = progs ll
    r3 = 1
    call tail_call";

#[test]
fn the_object_fills_its_own_program_arrays() -> TestResult {
    on_fixture(|vm| {
        assert_eq!(open(vm)?.ret, Ok(2));
        assert_eq!(vm.calls("perf_event_output")?.len(), 1);
        Ok(())
    })
}

#[test]
fn a_per_cpu_value_carries_the_message() -> TestResult {
    on_fixture(|vm| {
        open(vm)?;
        let copies: Vec<[u32; 4]> = vm.map("scratch")?.get_percpu(&0_u32)?.ok_or("no value")?;
        let bytes: Vec<Vec<u8>> = copies.iter().map(|copy| copy.map(u32::to_le_bytes).concat()).collect();
        assert_eq!(bytes, [vec![0; 16], vec![0; 16], message(1 | 2), vec![0; 16]]);
        Ok(())
    })
}

#[test]
fn the_sample_is_in_the_outcome() -> TestResult {
    on_fixture(|vm| {
        let events = open(vm)?.events;
        assert_eq!(events, [Event { map: "events".into(), cpu: Some(CPU), data: message(3) }]);
        Ok(())
    })
}

#[test]
fn the_sample_waits_for_user_space() -> TestResult {
    on_fixture(|vm| {
        open(vm)?;
        open(vm)?;
        let sample = PerfSample { cpu: CPU, data: message(3) };
        assert_eq!(vm.map("events")?.drain_samples()?, [sample.clone(), sample]);
        assert_eq!(vm.map("events")?.drain_samples()?, []);
        Ok(())
    })
}

#[test]
fn an_empty_slot_falls_through() -> TestResult {
    on_fixture(|vm| {
        vm.map("programs")?.remove(&1_u32)?;
        let outcome = open(vm)?;
        assert_eq!((outcome.ret, outcome.events), (Ok(1), Vec::new()));
        assert_eq!(counters(vm)?, [0, 0, 1]);
        Ok(())
    })
}

#[test]
fn a_slot_can_be_filled_with_another_program() -> TestResult {
    on_fixture(|vm| {
        vm.set_tail_call("programs", 1, "spin")?;
        assert_eq!(open(vm)?.ret, Ok(3));
        // The first tail call was open_enter's.
        assert_eq!(counters(vm)?, [LIMIT, 1, 0]);
        Ok(())
    })
}

#[test]
fn a_program_that_calls_itself_runs_34_times() -> TestResult {
    on_fixture(|vm| {
        for run in 1..=3 {
            assert_eq!(vm.run("spin", PtRegs::new())?.ret, Ok(3));
            assert_eq!(counters(vm)?, [(LIMIT + 1) * run, run, 0]);
        }
        Ok(())
    })
}

#[test]
fn instructions_of_all_programs_count() -> TestResult {
    on_fixture(|vm| {
        // 18 up to and with the call, 25 of open_report.
        assert_eq!(open(vm)?.instructions, 18 + 25);
        assert_eq!(vm.run("spin", PtRegs::new())?.instructions, (LIMIT + 1) * 15 + 12);
        vm.map("programs")?.remove(&1_u32)?;
        assert_eq!(open(vm)?.instructions, 18 + 12);
        Ok(())
    })
}

#[test]
fn a_trap_names_the_program_that_ran() -> TestResult {
    joined(&format!("{CALL_SLOT_1}\n exit"), "r0 = *(u64 *)(r1 + 0)\n r0 = *(u8 *)(r1 + 8)\n exit", |outcome| {
        let trap = outcome.trap().unwrap_or_else(|| panic!("{outcome:?}"));
        assert_eq!((&*trap.program, trap.slot, &*trap.callers), ("second", 1, &[][..]));
        assert_eq!(trap.kind.fault().map(|fault| fault.kind), Some(FaultKind::OutOfBounds));
        assert_eq!(outcome.instructions, 3 + 2);
    })
}

#[test]
fn the_callee_gets_the_context_and_an_empty_frame() -> TestResult {
    let leave = format!("*(u64 *)(r10 - 8) = -1\n {CALL_SLOT_1}\n exit");
    joined(&leave, "r0 = *(u8 *)(r1 + 7)\n r1 = *(u64 *)(r10 - 8)\n r0 += r1\n exit", |outcome| {
        assert_eq!(outcome.ret, Ok(8));
    })
}

#[test]
fn a_subprogram_that_tail_calls_returns_to_its_caller() -> TestResult {
    let first = format!(
        "r6 = 40
         r7 = r10
         call sub
         if r7 != r10 goto +1
         r0 += r6
         exit
         sub: r6 = 1
         {CALL_SLOT_1}
         r0 = 99
         exit"
    );
    joined(&first, "r6 = 7\n r0 = 2\n exit", |outcome| {
        assert_eq!(outcome.ret, Ok(42));
        assert_eq!(outcome.instructions, 3 + 4 + 3 + 3);
    })
}

#[test]
fn a_subprogram_whose_mock_tail_calls_returns_to_its_caller() -> TestResult {
    // Nothing in the subprogram says that another program may take its place, and write to r6 to r9.
    let first = "
        r6 = 40
        r9 = 2
        call sub
        r0 += r6
        r0 += r9
        exit
        sub: r7 = 1
        call ktime_get_ns
        r0 = 99
        exit";
    let second = "r6 = 7\n r9 = 7\n r0 = *(u64 *)(r10 - 8)\n *(u64 *)(r10 - 8) = 1\n exit";
    try_on_every_engine(&programs(&[("first", first), ("second", second)])?, |vm| {
        let second = vm.find_program("second")?;
        vm.mock("ktime_get_ns", move |_| -> Result<u64, Stop> { Err(Stop::TailCall(second)) })?;
        for _ in 0..2 {
            let outcome = vm.run("first", [0; 8])?;
            assert_eq!((outcome.ret, outcome.instructions), (Ok(42), 3 + 2 + 5 + 3));
        }
        Ok(())
    })
}

#[test]
fn a_callers_stack_survives_a_tail_call_below_it() -> TestResult {
    let first = format!("*(u64 *)(r10 - 8) = 5\n call sub\n r0 = *(u64 *)(r10 - 8)\n exit\n sub: {CALL_SLOT_1}\n exit");
    joined(&first, "*(u64 *)(r10 - 8) = 6\n r0 = 0\n exit", |outcome| assert_eq!(outcome.ret, Ok(5)))
}

#[test]
fn the_limit_counts_the_whole_run() -> TestResult {
    // The second program counts in the caller's frame, whose address it gets as its context.
    let counting = "r6 = r1
        r1 = *(u64 *)(r6 + 0)
        r1 += 1
        *(u64 *)(r6 + 0) = r1
        r1 = r6
        r2 = progs ll
        r3 = 1
        call tail_call
        r0 = *(u64 *)(r6 + 0)
        exit";
    let twice = "r6 = r1
        *(u64 *)(r6 + 0) = 0
        call spin
        r1 = r6
        call spin
        exit
        spin: r2 = progs ll
        r3 = 1
        call tail_call
        r0 = 1000
        exit";
    joined(twice, counting, |outcome| {
        // Behind the limit the call in `spin` falls through, too.
        assert_eq!(outcome.context[..8], LIMIT.to_le_bytes());
        assert_eq!(outcome.ret, Ok(1000));
    })
}

#[test]
fn an_index_is_32_bits_wide_and_bounded() -> TestResult {
    for (index, taken) in [("1", true), ("0x100000001", true), ("4", false), ("0xffffffff", false)] {
        let first = format!("r2 = progs ll\n r3 = {index} ll\n call tail_call\n r0 = 1\n exit");
        joined(&first, "r0 = 2\n exit", |outcome| assert_eq!(outcome.ret, Ok(1 + u64::from(taken)), "{index}"))?;
    }
    Ok(())
}

#[test]
fn fuel_is_shared_by_all_programs() -> TestResult {
    on_fixture(|vm| {
        let whole = open(vm)?;
        vm.fuel = whole.instructions;
        assert_eq!(open(vm)?, whole);
        vm.fuel = whole.instructions - 1;
        let cut = open(vm)?;
        assert_eq!(cut.instructions, whole.instructions - 1);
        assert_eq!(cut.trap().map(|trap| (&*trap.program, trap.slot)), Some(("open_report", 27)));
        Ok(())
    })
}

#[test]
fn a_slot_never_takes_a_program_that_was_refused() -> TestResult {
    let progs = vec![MapSpec::new("progs", MapType::ProgArray, 4, 4, 4)];
    let first = program_with("r2 = progs ll\n r3 = 0\n call tail_call\n r0 = 7\n exit", progs.clone());
    try_on_every_engine(&first, |vm| {
        assert!(vm.set_tail_call("progs", 0, "absent").is_err());
        assert_eq!(vm.run("main", [0; 8])?.ret, Ok(7));
        Ok(())
    })
}

#[test]
fn a_mock_cannot_jump_to_a_program_of_another_machine() -> TestResult {
    let many: Vec<(String, &str)> = (0..8).map(|index| (format!("p{index}"), "r0 = 0\n exit")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let other = Machine::load(&programs(&many)?)?;
    let foreign = other.find_program("p7")?;
    try_on_every_engine(&program_with("call ktime_get_ns\n exit", Vec::new()), |vm| {
        vm.mock("ktime_get_ns", move |_| -> Result<u64, Stop> { Err(Stop::TailCall(foreign)) })?;
        let trap = vm.run("main", [0; 8])?.ret.expect_err("there is no eighth program");
        assert_eq!(trap.kind, TrapKind::BadProgram { index: 7, name: "".into() });
        Ok(())
    })
}
