//! The model's maps, tail calls and loops say what the kernel's documentation says, and every engine says the same: spot
//! checks with the expected value in each.

use std::collections::BTreeMap;

use softbpf::codec::Code;
use softbpf::text;
use softbpf_conformance::engines;
use softbpf_conformance::generator::scenario::{CONTEXT, FUEL, Input, Scenario, layout};
use softbpf_conformance::model::scenario::{Seen, Setups, compare, on_model};
use softbpf_conformance::reusable::Reusable;

const EPERM: u64 = -1_i64 as u64;
const ENOENT: u64 = -2_i64 as u64;
const EEXIST: u64 = -17_i64 as u64;

/// Programs in text, the first of which runs once on CPU 2, with the maps of number 0; itself in the first slot of the
/// array of programs, the second one in the second.
fn scenario(programs: &[&str]) -> Scenario {
    let code =
        |text: &&str| -> Code { text::parse::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).code };
    Scenario {
        programs: programs.iter().map(code).collect(),
        layout: 0,
        slots: BTreeMap::from_iter((0..).zip(0..programs.len())),
        input: Input::Bytes(vec![0; CONTEXT]),
        cpu: 2,
        fuel: FUEL,
        runs: 1,
    }
}

/// What all engines and the model see.
#[track_caller]
fn agreed(programs: &[&str]) -> Seen {
    let scenario = scenario(programs);
    let mut setups = Setups::default();
    let setup = setups.of(&scenario).unwrap_or_else(|error| panic!("{error}"));
    match compare(&scenario, setup, &mut Reusable::on(engines())) {
        Ok((seen, None)) => seen.into_iter().next().unwrap_or_else(|| panic!("nothing ran")),
        Ok((_, Some(difference))) => panic!("{difference}"),
        Err(error) => panic!("{error}"),
    }
}

/// The first word of the value in which programs leave what they found out.
fn left(seen: &Seen) -> u64 {
    let value = &seen.maps[layout::OUT as usize][0].1;
    u64::from_le_bytes(value.first_chunk().copied().unwrap_or_default())
}

/// Adds 1 to that word.
const COUNT: &str = "ld_pseudo r1, 0x2, 0x0, 0x0\n r2 = *(u64 *)(r1 + 0)\n r2 += 1\n *(u64 *)(r1 + 0) = r2\n";

/// Calls helper `number` on the map, with the key `key` and the value behind it on the stack.
fn on_key(map: i32, number: i32, key: u64, flags: u64) -> String {
    format!(
        "*(u64 *)(r10 - 64) = {key}\n *(u64 *)(r10 - 56) = 0\n ld_pseudo r1, 0x1, {map:#x}\n r2 = r10\n r2 += -64\n \
         r3 = r10\n r3 += -64\n r4 = {flags}\n call {number}\n"
    )
}

#[test]
fn the_thirty_fourth_tail_call_fails() {
    let text = format!("r6 = r1\n {COUNT} r1 = r6\n ld_pseudo r2, 0x1, 0x7\n r3 = 0\n call 12\n exit");
    let seen = agreed(&[&text]);
    assert_eq!((seen.observed.ret.clone(), left(&seen)), (Ok(EPERM), 34));
}

#[test]
fn a_tail_call_of_an_empty_slot_goes_on_and_others_do_not() {
    let call = |index: &str| format!("ld_pseudo r2, 0x1, 0x7\n r3 = {index} ll\n call 12\n r0 += 10\n exit");
    let second = "r0 = r2\n r0 |= r9\n r2 = *(u64 *)(r10 - 8)\n r0 |= r2\n exit";
    let first = |index: &str| format!("r9 = 7\n *(u64 *)(r10 - 8) = 5\n {}", call(index));
    let run = |index: &str| agreed(&[&first(index), second]).observed.ret.map_err(|stop| stop.kind);
    assert_eq!(run("5"), Ok(ENOENT.wrapping_add(10)));
    // The second program finds empty registers and an empty frame.
    assert_eq!(run("1"), Ok(0));
    // The index has 32 bits.
    assert_eq!(run("0x700000001"), Ok(0));
}

#[test]
fn a_function_that_was_replaced_returns_to_its_caller() {
    let first = "r6 = 30\n call f\n r0 += r6\n exit\n f: ld_pseudo r2, 0x1, 0x7\n r3 = 1\n call 12\n r0 = 1\n exit";
    assert_eq!(agreed(&[first, "r6 = 99\n r0 = 12\n exit"]).observed.ret, Ok(42));
}

#[test]
fn updates_look_at_their_flags() {
    let update = |key, flags| on_key(layout::HASH, 2, key, flags);
    let text = |second: String| format!("{}{second} exit", update(1, 0));
    assert_eq!(agreed(&[&text(update(1, 1))]).observed.ret, Ok(EEXIST));
    assert_eq!(agreed(&[&text(update(2, 2))]).observed.ret, Ok(ENOENT));
    let both = agreed(&[&text(update(1, 2))]);
    assert_eq!((both.observed.ret, both.maps[layout::HASH as usize].len()), (Ok(0), 1));
}

#[test]
fn a_full_map_that_forgets_evicts_what_was_used_the_longest_ago() {
    let entries = layout::maps(0)[layout::LRU as usize].max_entries.into();
    let update = |key| on_key(layout::LRU, 2, key, 0);
    let fill: String = (0..entries).map(update).collect();
    let look = on_key(layout::LRU, 1, 0, 0);
    let first_key =
        |seen: &Seen| -> Vec<u8> { seen.maps[layout::LRU as usize].iter().map(|(key, _)| key[0]).collect() };
    let without = agreed(&[&format!("{fill}{} exit", update(100))]);
    assert!(!first_key(&without).contains(&0) && first_key(&without).contains(&100));
    if entries > 1 {
        let with = agreed(&[&format!("{fill}{look}{} exit", update(100))]);
        assert!(first_key(&with).contains(&0) && !first_key(&with).contains(&1));
    }
}

#[test]
fn a_program_sees_the_copy_of_its_cpu() {
    let seen = agreed(&[&format!("{} *(u8 *)(r0 + 0) = 9\n exit", on_key(layout::PERCPU, 1, 0, 0))]);
    let value = &seen.maps[layout::PERCPU as usize][0].1;
    let copy = value.len() / 4;
    let firsts: Vec<u8> = value.chunks(copy).map(|copy| copy[0]).collect();
    assert_eq!(firsts, [0, 0, 9, 0]);
}

/// The model alone: not all engines know the helper.
#[test]
fn a_loop_calls_until_it_is_stopped() {
    let run = |rounds: u64, stop: u64| {
        let text = format!(
            "r1 = {rounds}\n ld_pseudo r2, 0x4, 0x7\n r3 = 1\n r4 = 0\n r6 = 5\n call 181\n r0 += r6\n exit\n \
             r0 = 0\n if r1 != {stop} goto +1\n r0 = 1\n r6 = 7\n exit"
        );
        let scenario = scenario(&[&text]);
        let mut setups = Setups::default();
        let setup = setups.of(&scenario).unwrap_or_else(|error| panic!("{error}"));
        on_model(&scenario, setup)[0].observed.ret.clone().map_err(|stop| stop.kind)
    };
    assert_eq!(run(0, 0), Ok(5));
    assert_eq!(run(10, 100), Ok(15));
    assert_eq!(run(10, 3), Ok(9));
}
