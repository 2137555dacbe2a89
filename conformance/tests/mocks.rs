//! What is checked of a call before a mock sees it: what the verifier would have checked.

use softbpf::helpers::{MAX_RECORDS, Stop};
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::outcome::ArgumentProblem;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::text::parse::parse;
use softbpf::{Object, Outcome, TrapKind};
use softbpf_conformance::programs::program_with;
use softbpf_conformance::{TestResult, try_on_every_engine};

/// Runs a program whose calls of `helper` are mocked to return 0.
fn mocked(helper: &str, text: &str, maps: Vec<MapSpec>, check: impl Fn(Outcome)) -> TestResult {
    try_on_every_engine(&program_with(text, maps), |vm| {
        vm.mock(helper, |_| 0)?;
        check(vm.run("main", [0; 8])?);
        Ok(())
    })
}

fn assert_bad_argument(outcome: Outcome, expected: usize) {
    let kind = outcome.ret.expect_err("an argument is wrong").kind;
    assert!(matches!(kind, TrapKind::BadArgument { index, .. } if index == expected), "{kind}");
}

#[test]
fn memory_may_be_null_only_with_size_0() -> TestResult {
    let call = |size| format!("r1 = 0\n r2 = {size}\n r3 = 0\n r4 = 0\n r5 = 0\n call csum_diff\n exit");
    mocked("csum_diff", &call(0), Vec::new(), |outcome| assert_eq!(outcome.ret, Ok(0)))?;
    mocked("csum_diff", &call(8), Vec::new(), |outcome| assert_bad_argument(outcome, 0))
}

#[test]
fn a_map_argument_must_be_a_map() -> TestResult {
    let text = "r1 = 5\n r2 = r10\n r2 += -8\n call map_lookup_elem\n exit";
    mocked("map_lookup_elem", text, Vec::new(), |outcome| {
        let kind = outcome.ret.expect_err("5 is no map").kind;
        let problem = ArgumentProblem::NotAMap { value: 5 };
        assert_eq!(kind, TrapKind::BadArgument { helper: "map_lookup_elem".into(), index: 0, problem });
    })
}

#[test]
fn a_key_must_be_readable_to_its_last_byte() -> TestResult {
    let maps = || vec![MapSpec::new("m", MapType::Hash, 8, 8, 4)];
    let call = |off| format!("r1 = m ll\n r2 = r10\n r2 += {off}\n call map_lookup_elem\n exit");
    mocked("map_lookup_elem", &call(-8), maps(), |outcome| assert_eq!(outcome.ret, Ok(0)))?;
    mocked("map_lookup_elem", &call(-7), maps(), |outcome| assert_bad_argument(outcome, 1))
}

#[test]
fn a_value_that_a_map_does_not_have_has_no_address() -> TestResult {
    let maps = vec![MapSpec::new("m", MapType::Hash, 8, 8, 4)];
    try_on_every_engine(&program_with("(18) r1 = map[m][0]+0\n r0 = 0\n exit", maps), |vm| {
        let kind = vm.run("main", [0; 8])?.ret.expect_err("a hash map has no first value").kind;
        assert_eq!(kind, TrapKind::NoMapValue { fd: 0, offset: 0 });
        Ok(())
    })
}

#[test]
fn a_machine_knows_what_is_mocked() -> TestResult {
    try_on_every_engine(&program_with("exit", Vec::new()), |vm| {
        assert!(!vm.has_mocks());
        vm.mock("ktime_get_ns", |_| 0)?;
        assert!(vm.is_mocked(5) && !vm.is_mocked(6) && vm.has_mocks());
        vm.unmock("ktime_get_ns")?;
        assert!(!vm.is_mocked(5) && !vm.has_mocks());
        Ok(())
    })
}

#[test]
fn a_machine_tells_maps_by_their_handles() -> TestResult {
    let maps = ["one", "two"].map(|name| MapSpec::new(name, MapType::Array, 4, 8, 4));
    try_on_every_engine(&program_with("r0 = two ll\n exit", maps.to_vec()), |vm| {
        let handle = vm.run("main", ())?.ret.map_err(|trap| trap.to_string())?;
        assert_eq!(vm.map_of_handle(handle), Some(1));
        assert_eq!(vm.map_of_handle(handle + 1), None);
        assert_eq!(vm.map_info(1).map(|map| &**map.name()), Some("two"));
        assert!(vm.map_info(2).is_none());
        Ok(())
    })
}

#[test]
fn calls_behind_the_log_are_counted() -> TestResult {
    let calls = MAX_RECORDS as u64 + 10;
    let text = format!("r6 = {calls}\n again: call ktime_get_ns\n r6 -= 1\n if r6 != 0 goto again\n exit");
    try_on_every_engine(&program_with(&text, Vec::new()), |vm| {
        assert!(!vm.log_full(5));
        vm.run("main", ())?;
        assert!(vm.log_full(5) && !vm.log_full(6));
        vm.count_call(5);
        vm.call_counts()[5] += 1;
        let log = vm.calls("ktime_get_ns")?;
        assert_eq!((log.len(), log.records().len()), (calls + 2, MAX_RECORDS));
        vm.forget_calls();
        assert!(!vm.log_full(5) && vm.calls("ktime_get_ns")?.is_empty());
        Ok(())
    })
}

/// Helpers that engines may do without, because they only tell what is in the world.
const TOLD: &str = "
    call get_smp_processor_id
    r6 = r0
    call get_numa_node_id
    r6 <<= 16
    r6 |= r0
    call get_prandom_u32
    call get_smp_processor_id
    r6 <<= 16
    r6 |= r0
    call get_current_pid_tgid
    r0 &= 0xffff
    r6 <<= 16
    r6 |= r0
    r0 = r6
    exit";

#[test]
fn what_a_mock_changes_in_the_world_is_told_from_then_on() -> TestResult {
    for kept in [0, 1, MAX_RECORDS as u32] {
        try_on_every_engine(&program_with(TOLD, Vec::new()), |vm| {
            vm.keep_calls(kept);
            vm.mock("get_prandom_u32", |call| {
                call.world().cpu = 1;
                call.world().task.pid = softbpf::Pid(7);
            })?;
            vm.world.numa_node = 5;
            assert_eq!(vm.run("main", ())?.ret, Ok(5 << 32 | 1 << 16 | 7));
            vm.world.numa_node = 6;
            assert_eq!(vm.run("main", ())?.ret, Ok(1 << 48 | 6 << 32 | 1 << 16 | 7));
            let calls = vm.calls("get_smp_processor_id")?;
            assert_eq!((calls.len(), calls.records().len()), (4, 4.min(kept as usize)));
            // One that is mocked itself is asked.
            vm.mock("get_smp_processor_id", |_| 9)?;
            assert_eq!(vm.run("main", ())?.ret, Ok(9 << 48 | 6 << 32 | 9 << 16 | 7));
            vm.unmock("get_smp_processor_id")?;
            assert_eq!(vm.run("main", ())?.ret, Ok(1 << 48 | 6 << 32 | 1 << 16 | 7));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn runs_that_are_repeated_are_told_of_the_world_too() -> TestResult {
    try_on_every_engine(&program_with(TOLD, Vec::new()), |vm| {
        vm.keep_calls(0);
        let mut cpu = 0;
        vm.mock("get_prandom_u32", move |call| {
            cpu ^= 1;
            call.world().cpu = cpu;
        })?;
        // Every run changes it: what the last one of them finds, and what it leaves.
        for (times, before) in [(1, 0), (2, 0), (3, 1)] {
            let ret = vm.repeat("main", (), times)?.ret?;
            assert_eq!((ret >> 48, (ret >> 16) & 1), (before, before ^ 1), "{times}");
        }
        Ok(())
    })
}

#[test]
fn what_a_mock_changes_is_told_behind_its_tail_call() -> TestResult {
    let object = programs_with_told()?;
    try_on_every_engine(&object, |vm| {
        vm.keep_calls(0);
        let second = vm.find_program("second")?;
        assert_eq!(vm.run("second", [0; 8])?.ret, Ok(0));
        vm.mock("ktime_get_ns", move |call| -> Result<u64, Stop> {
            call.world().numa_node = 3;
            Err(Stop::TailCall(second))
        })?;
        assert_eq!(vm.run("main", [0; 8])?.ret, Ok(3));
        Ok(())
    })
}

/// A program that tells what the world says before it calls a helper, and one that tells it.
fn programs_with_told() -> Result<Object, Box<dyn std::error::Error>> {
    let told = "call 42\n call 5\n exit";
    let program = |name: &str, text: &str| -> Result<Program, Box<dyn std::error::Error>> {
        Ok(Program::new(ProgramInfo::new(name, ProgramType::Unspec), parse(text)?.code)?)
    };
    let programs = vec![program("main", told)?, program("second", "call 42\n exit")?];
    Ok(Object::from_programs(programs, Vec::new()))
}
