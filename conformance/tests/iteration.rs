//! `bpf_loop` and `bpf_for_each_map_elem`: how often they call, with what, and what they return.

use std::panic::{AssertUnwindSafe, catch_unwind};

use softbpf::asm::{Imm64, Insn};
use softbpf::context::Packet;
use softbpf::helpers::Call;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::memory::FaultKind;
use softbpf::object::MAIN;
use softbpf::outcome::ArgumentProblem;
use softbpf::{Machine, TrapKind};
use softbpf_conformance::programs::{program_with, ret};
use softbpf_conformance::{TestResult, fixture, try_on_every_engine};

const E2BIG: i64 = -7;
const EINVAL: i64 = -22;

/// `bpf_loop(loops, f, r10 - 8, flags)`, with 0 in that word; adds it to the result times 1000.
fn looping(loops: &str, flags: u64, function: &str) -> Result<u64, TrapKind> {
    ret(&format!(
        "*(u64 *)(r10 - 8) = 0\n r1 = {loops} ll\n r2 = f ll\n r3 = r10\n r3 += -8\n r4 = {flags}\n call bpf_loop
         if r0 s< 0 goto out\n r0 *= 1000\n r1 = *(u64 *)(r10 - 8)\n r0 += r1\n out: exit\n f: {function}"
    ))
}

/// Adds the index to the word that the context points to.
const ADD: &str = "r3 = *(u64 *)(r2 + 0)\n r3 += r1\n *(u64 *)(r2 + 0) = r3\n";

#[test]
fn a_loop_calls_with_each_index() {
    let add = format!("{ADD} r0 = 0\n exit");
    assert_eq!(looping("0", 0, &add), Ok(0));
    assert_eq!(looping("1", 0, &add), Ok(1000));
    assert_eq!(looping("10", 0, &add), Ok(10_045));
}

#[test]
fn a_loop_ends_when_its_function_says_so() {
    for (result, expected) in [(0, 10_045), (1, 4_006), (2, 4_006), (-1, 4_006)] {
        let function = format!("{ADD} r0 = 0\n if r1 != 3 goto +1\n r0 = {result}\n exit");
        assert_eq!(looping("10", 0, &function), Ok(expected));
    }
}

#[test]
fn a_loop_takes_no_flags_and_so_many_rounds() {
    let end = "r0 = 1\n exit";
    assert_eq!(looping("1", 1, end), Ok(EINVAL as u64));
    assert_eq!(looping("0x800001", 1, end), Ok(EINVAL as u64));
    assert_eq!(looping("0x800001", 0, end), Ok(E2BIG as u64));
    assert_eq!(looping("0xffffffff", 0, end), Ok(E2BIG as u64));
    assert_eq!(looping("0x800000", 0, end), Ok(1000));
    // The number is 32 bits wide.
    assert_eq!(looping("0x100000001", 0, end), Ok(1000));
}

#[test]
fn a_loop_needs_a_function_even_when_it_calls_none() {
    for loops in [0, 1] {
        let text = format!("r1 = {loops}\n r2 = 7\n r3 = 0\n r4 = 0\n call bpf_loop\n exit");
        assert_eq!(ret(&text), Err(TrapKind::BadCallTarget { target: 7 }));
    }
}

#[test]
fn loops_nest() {
    let inner = "r6 = r2\n r1 = 5\n r2 = g ll\n r3 = r6\n r4 = 0\n call bpf_loop\n r0 = 0\n exit\n \
                 g: r3 = *(u64 *)(r2 + 0)\n r3 += 1\n *(u64 *)(r2 + 0) = r3\n r0 = 0\n exit";
    assert_eq!(looping("4", 0, inner), Ok(4_020));
}

#[test]
fn a_trap_ends_the_loop() {
    let function = format!("{ADD} if r1 != 2 goto +1\n r0 = *(u8 *)(r0 + 0)\n r0 = 0\n exit");
    let trap = looping("4", 0, &function).expect_err("null pointer");
    assert_eq!(trap.fault().map(|fault| fault.kind), Some(FaultKind::Null));
}

/// Maps that can be walked.
const KINDS: [MapType; 6] = [
    MapType::Array,
    MapType::PercpuArray,
    MapType::Hash,
    MapType::PercpuHash,
    MapType::LruHash,
    MapType::LruPercpuHash,
];

const CPU: u32 = 1;

/// Runs `bpf_for_each_map_elem(m, f, context + 8, 0)` on a map of type `map_type` where the keys 0 to 4 have values of
/// ten times as much on this CPU; the first word of the context is what it returns, what `f` leaves are the others.
fn each(map_type: MapType, function: &str, mut test: impl FnMut(&mut Machine, Vec<u64>) -> TestResult) -> TestResult {
    let maps = vec![MapSpec::new("m", map_type, 4, 8, 5), MapSpec::new("other", MapType::Hash, 4, 8, 100)];
    let text = format!(
        "r6 = r1\n r1 = m ll\n r2 = f ll\n r3 = r6\n r3 += 8\n r4 = 0\n call for_each_map_elem\n *(u64 *)(r6 + 0) = r0
         r0 = 0\n exit\n f: {function}"
    );
    try_on_every_engine(&program_with(&text, maps), |vm| {
        vm.world.cpu = CPU;
        for key in 0..5_u32 {
            let values = [7, u64::from(key) * 10, 7, 7];
            let mut map = vm.map("m")?;
            if map.map().is_percpu() { map.insert(&key, &values)? } else { map.insert(&key, &values[1])? }
        }
        let outcome = vm.run(MAIN, [0; 128])?;
        outcome.ret.map_err(|trap| trap.to_string())?;
        let words = outcome.context.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        test(vm, words)
    })
}

/// Appends `key << 8 | value` to the list that `r4` points to: its length, then its words.
const NOTE: &str =
    "r6 = *(u32 *)(r2 + 0)\n r7 = *(u64 *)(r3 + 0)\n r6 <<= 8\n r6 |= r7\n r7 = *(u64 *)(r4 + 0)\n r8 = r7
    r8 += 1\n *(u64 *)(r4 + 0) = r8\n r8 <<= 3\n r8 += r4\n *(u64 *)(r8 + 0) = r6\n";

/// What [`NOTE`] leaves behind the result, when these keys were visited.
fn noted(keys: &[u64]) -> Vec<u64> {
    let mut words = vec![keys.len() as u64, keys.len() as u64];
    words.extend(keys.iter().map(|key| (key << 8) + key * 10));
    words.resize(16, 0);
    words
}

#[test]
fn each_element_is_visited_with_key_and_value() -> TestResult {
    for kind in KINDS {
        each(kind, &format!("{NOTE} r0 = 0\n exit"), |_, words| {
            assert_eq!(words, noted(&[0, 1, 2, 3, 4]), "{kind}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_walk_ends_when_its_function_says_so() -> TestResult {
    for kind in KINDS {
        each(
            kind,
            &format!("r9 = *(u32 *)(r2 + 0)\n {NOTE} r0 = 0\n if r9 != 2 goto +1\n r0 = 1\n exit"),
            |_, words| {
                assert_eq!(words, noted(&[0, 1, 2]), "{kind}");
                Ok(())
            },
        )?;
    }
    Ok(())
}

#[test]
fn values_may_be_written() -> TestResult {
    each(MapType::Hash, "*(u64 *)(r3 + 0) = 3\n r0 = 0\n exit", |vm, _| {
        let values: Vec<u64> = vm.map("m")?.entries::<u32, u64>()?.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [3; 5]);
        Ok(())
    })
}

#[test]
fn elements_may_be_deleted_during_a_walk() -> TestResult {
    // The one that is visited, and the one behind it.
    let delete = |more: u32| {
        format!(
            "r9 = r2\n {NOTE} r6 = r1\n r1 = r6\n r2 = r9\n call map_delete_elem\n r1 = *(u32 *)(r9 + 0)\n r1 += {more}
             *(u32 *)(r10 - 4) = r1\n r1 = r6\n r2 = r10\n r2 += -4\n call map_delete_elem\n r0 = 0\n exit"
        )
    };
    for kind in [MapType::Hash, MapType::LruHash, MapType::PercpuHash, MapType::LruPercpuHash] {
        for (more, expected) in [(0, &[0, 1, 2, 3, 4][..]), (1, &[0, 2, 4]), (4, &[0, 1, 2, 3])] {
            each(kind, &delete(more), |vm, words| {
                assert_eq!(words, noted(expected), "{kind}");
                assert!(vm.map("m")?.is_empty());
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn elements_that_are_added_are_not_visited() -> TestResult {
    // Deletes the element and adds one with another key, which would go on for ever.
    let function = format!(
        "r9 = r2\n {NOTE} r6 = r1\n r2 = r9\n call map_delete_elem\n r1 = *(u32 *)(r9 + 0)\n r1 += 100
         *(u32 *)(r10 - 4) = r1\n *(u64 *)(r10 - 16) = 0\n r1 = r6\n r2 = r10\n r2 += -4\n r3 = r10\n r3 += -16\n r4 = 0
         call map_update_elem\n r0 = 0\n exit"
    );
    for kind in [MapType::Hash, MapType::LruHash, MapType::PercpuHash] {
        each(kind, &function, |vm, words| {
            assert_eq!(words, noted(&[0, 1, 2, 3, 4]), "{kind}");
            let keys: Vec<Vec<u8>> = vm.map("m")?.entries_bytes()?.into_iter().map(|(key, _)| key).collect();
            assert_eq!(keys, [100, 101, 102, 103, 104_u32].map(|key| key.to_le_bytes().to_vec()));
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn elements_that_are_replaced_are_visited_once() -> TestResult {
    // Writes the element anew, with the value that it has.
    let function = format!(
        "r9 = r2\n r5 = *(u64 *)(r3 + 0)\n *(u64 *)(r10 - 8) = r5\n {NOTE} r2 = r9\n r3 = r10\n r3 += -8\n r4 = 2
         call map_update_elem\n r0 = 0\n exit"
    );
    for kind in KINDS {
        each(kind, &function, |_, words| {
            assert_eq!(words, noted(&[0, 1, 2, 3, 4]), "{kind}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn walks_over_one_map_nest() -> TestResult {
    // For each element, counts all of them; the outer key stays what it is meanwhile.
    let function = "r6 = r1\n r7 = r2\n r8 = r3\n r9 = r4\n r1 = r6\n r2 = g ll\n r3 = r9\n r4 = 0\n call for_each_map_elem
        r0 = *(u32 *)(r7 + 0)\n r0 *= 10\n r1 = *(u64 *)(r8 + 0)\n if r0 != r1 goto bad\n r0 = 0\n exit\n bad: r0 = 1\n exit
        g: r1 = *(u64 *)(r4 + 0)\n r1 += 1\n *(u64 *)(r4 + 0) = r1\n r0 = 0\n exit";
    for kind in KINDS {
        each(kind, function, |_, words| {
            assert_eq!(words[..2], [5, 25], "{kind}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Why a walk with this function traps.
fn trap(kind: MapType, function: &str) -> Result<TrapKind, Box<dyn std::error::Error>> {
    let maps = vec![MapSpec::new("m", kind, 4, 8, 4)];
    let text = format!(
        "r1 = m ll\n r2 = f ll\n r3 = 0\n r4 = 0\n call for_each_map_elem\n exit\n f: {function}\n r0 = 0\n exit"
    );
    let mut seen = None;
    try_on_every_engine(&program_with(&text, maps), |vm| {
        vm.map("m")?.insert(&0_u32, &0_u64)?;
        let kind = vm.run(MAIN, ())?.ret.expect_err("a trap").kind;
        assert_eq!(*seen.get_or_insert_with(|| kind.clone()), kind);
        Ok(())
    })?;
    seen.ok_or_else(|| "no engines".into())
}

#[test]
fn a_key_may_be_read_and_no_more() -> TestResult {
    for kind in [MapType::Array, MapType::Hash] {
        let fault =
            |function| Ok::<_, Box<dyn std::error::Error>>(trap(kind, function)?.fault().map(|fault| fault.kind));
        assert_eq!(fault("*(u8 *)(r2 + 0) = 1")?, Some(FaultKind::ReadOnly));
        assert_eq!(fault("r0 = *(u8 *)(r2 + 4)")?, Some(FaultKind::OutOfBounds));
        assert_eq!(fault("r0 = *(u64 *)(r3 + 1)")?, Some(FaultKind::OutOfBounds));
    }
    Ok(())
}

#[test]
fn maps_without_elements_cannot_be_walked() -> TestResult {
    let text = "r1 = m ll\n r2 = f ll\n r3 = 0\n r4 = 1\n call for_each_map_elem\n exit\n f: r0 = 0\n exit";
    for spec in [
        MapSpec::new("m", MapType::ProgArray, 4, 4, 4),
        MapSpec::new("m", MapType::PerfEventArray, 4, 4, 4),
        MapSpec::new("m", MapType::StackTrace, 4, 8, 4),
        MapSpec::new("m", MapType::Ringbuf, 0, 0, 4096),
    ] {
        try_on_every_engine(&program_with(text, vec![spec.clone()]), |vm| {
            let kind = vm.run(MAIN, ())?.ret.expect_err("no elements").kind;
            let problem = ArgumentProblem::WrongMapType { map: "m".into(), map_type: spec.map_type.name() };
            assert_eq!(kind, TrapKind::BadArgument { helper: "for_each_map_elem".into(), index: 0, problem });
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_walk_takes_no_flags() -> TestResult {
    let text = "r1 = m ll\n r2 = f ll\n r3 = 0\n r4 = 1\n call for_each_map_elem\n exit\n f: r0 = 0\n exit";
    let maps = vec![MapSpec::new("m", MapType::Hash, 4, 8, 4)];
    try_on_every_engine(&program_with(text, maps), |vm| {
        assert_eq!(vm.run(MAIN, ())?.ret, Ok(EINVAL as u64));
        Ok(())
    })
}

#[test]
fn large_arrays_open_as_they_are_walked() -> TestResult {
    let text = "*(u64 *)(r10 - 8) = 0\n r1 = m ll\n r2 = f ll\n r3 = r10\n r3 += -8\n r4 = 0\n call for_each_map_elem
        r1 = *(u64 *)(r10 - 8)\n r0 += r1\n exit
        f: r1 = *(u64 *)(r3 + 0)\n r2 = *(u64 *)(r4 + 0)\n r2 += r1\n *(u64 *)(r4 + 0) = r2\n r0 = 0\n exit";
    let maps = vec![MapSpec::new("m", MapType::Array, 4, 8, 5000)];
    try_on_every_engine(&program_with(text, maps), |vm| {
        vm.map("m")?.insert(&4999_u32, &1_u64)?;
        assert_eq!(vm.run(MAIN, ())?.ret, Ok(5001));
        Ok(())
    })
}

#[test]
fn compiled_functions_are_called_back() -> TestResult {
    // What Linux 6.18 returns.
    let cases: [(&str, i32); 10] = [
        ("loop_all", 4950 + 100),
        ("loop_some", 8 + 28),
        ("loop_nested", 10_000 + 45),
        ("loop_refused", -7 * 100 - 22),
        ("each_element", 4 * (160_000 + 3720)),
        ("each_of_some", 10 * 10_000 + 90),
        ("each_deleted", 161_600),
        ("each_replaced", 160_000 + 3720 + 120),
        ("each_nested", 160_000 + 256),
        ("each_refused", -22),
    ];
    try_on_every_engine(&fixture("callbacks.bpf.o"), |vm| {
        for (name, expected) in cases {
            let ret = vm.run(name, Packet::new([0; 64]))?.ret.map_err(|trap| format!("{name}: {trap}"))?;
            assert_eq!(ret as u32, expected as u32, "{name}");
        }
        Ok(())
    })
}

#[test]
fn linked_callbacks_are_functions_of_the_program() -> TestResult {
    let program = fixture("callbacks.bpf.o").program("loop_nested")?;
    let names: Vec<&str> = program.functions().iter().map(|function| &*function.name).collect();
    assert_eq!(names, ["loop_nested", "add_rows", "add_index"]);
    for (slot, insn) in program.code().iter() {
        if let Insn::LoadImm64 { value: Imm64::Code(off), .. } = *insn {
            let target = (slot as i64 + 1 + i64::from(off)) as usize;
            assert!(program.functions().iter().any(|function| function.slots.start == target), "slot {slot}");
        }
    }
    Ok(())
}

#[test]
fn a_walk_that_a_panic_ends_is_over() -> TestResult {
    // Both walks tell where their keys stand: in the same place, since neither is inside the other.
    let text =
        "r6 = r1\n *(u64 *)(r10 - 8) = r6\n r1 = f ll\n r2 = r6\n call find_vma\n r1 = m ll\n r2 = g ll\n r3 = r6
                r4 = 0\n call for_each_map_elem\n r0 = *(u64 *)(r6 + 0)\n r1 = *(u64 *)(r6 + 8)\n r0 -= r1\n exit
                f: r3 = r1\n r1 = m ll\n r2 = h ll\n r4 = 0\n call for_each_map_elem\n exit
                g: *(u64 *)(r4 + 0) = r2\n r0 = 0\n exit
                h: *(u64 *)(r4 + 8) = r2\n call ktime_get_ns\n exit";
    try_on_every_engine(&program_with(text, vec![MapSpec::new("m", MapType::Array, 4, 8, 2)]), |vm| {
        vm.mock("find_vma", |call: &mut Call<'_>| {
            let (function, context) = (call.arg(0), call.arg(1));
            let called = catch_unwind(AssertUnwindSafe(|| call.call_back(function, [context, 0, 0, 0, 0])));
            u64::from(called.is_err())
        })?;
        vm.mock("ktime_get_ns", |_: &mut Call<'_>| -> u64 { panic!("caught") })?;
        let outcome = vm.run(MAIN, [0; 16])?;
        assert_ne!(outcome.context[8..], [0; 8]);
        assert_eq!(outcome.ret, Ok(0));
        Ok(())
    })
}
