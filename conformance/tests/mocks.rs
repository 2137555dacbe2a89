//! What is checked of a call before a mock sees it: what the verifier would have checked.

use softbpf::helpers::MAX_RECORDS;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::outcome::ArgumentProblem;
use softbpf::{Outcome, TrapKind};
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
        let before = vm.mock_generation();
        vm.mock("ktime_get_ns", |_| 0)?;
        let mocked = vm.mock_generation();
        assert!(vm.is_mocked(5) && !vm.is_mocked(6) && mocked != before);
        vm.run("main", ())?;
        assert_eq!(vm.mock_generation(), mocked);
        vm.unmock("ktime_get_ns")?;
        assert!(!vm.is_mocked(5) && vm.mock_generation() != mocked);
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
