//! Lookups in hash maps and per-CPU maps, with keys at a known place: what an engine may do itself. The maps change in every
//! way that there is between two lookups.

use std::error::Error;

use softbpf::context::Bytes;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::memory::Permission;
use softbpf::object::MAIN;
use softbpf::{Machine, Object};
use softbpf_conformance::programs::program_with;
use softbpf_conformance::{TestResult, try_on_every_engine};

const HASHES: [MapType; 4] = [MapType::Hash, MapType::PercpuHash, MapType::LruHash, MapType::LruPercpuHash];

/// What lookups give that find nothing, in the programs here.
const NOTHING: u64 = 0xdead;

/// A lookup of the key that the context holds, in the map `m`: the first eight bytes of the value.
fn look_up_context(key_size: u32) -> String {
    let mut text = String::new();
    for byte in 0..key_size {
        let to = 256 - byte;
        text += &format!("r2 = *(u8 *)(r1 + {byte})\n *(u8 *)(r10 - {to}) = r2\n");
    }
    text + &format!(
        "r1 = m ll\n r2 = r10\n r2 += -256\n call map_lookup_elem\n if r0 == 0 goto none
         r0 = *(u64 *)(r0 + 0)\n exit\n none: r0 = {NOTHING}\n exit"
    )
}

fn map(map_type: MapType, key_size: u32, max_entries: u32) -> Vec<MapSpec> {
    vec![MapSpec::new("m", map_type, key_size, 8, max_entries)]
}

fn insert(vm: &mut Machine, key: &[u8], value: u64) -> TestResult {
    let mut handle = vm.map("m")?;
    let copies = handle.map().copies() as usize;
    Ok(handle.insert_bytes(key, &value.to_le_bytes().repeat(copies), 0)?)
}

fn ret(vm: &mut Machine, context: &[u8]) -> Result<u64, Box<dyn Error>> {
    Ok(vm.run(MAIN, Bytes(context))?.ret?)
}

/// A key of so many bytes that says which one it is in all of them.
fn key(number: u32, size: u32) -> Vec<u8> {
    (0..size).map(|byte| (number >> (byte % 2 * 8)) as u8 ^ (byte / 2) as u8).collect()
}

/// Keys and sizes: programs look the context up, whichever size the map's keys have.
fn on_maps(sizes: &[u32], test: impl Fn(&mut Machine, MapType, u32) -> TestResult) -> TestResult {
    for map_type in HASHES {
        for &size in sizes {
            let object = program_with(&look_up_context(size), map(map_type, size, 2000));
            for kept in [0, 3] {
                try_on_every_engine(&object, |vm| {
                    vm.keep_calls(kept);
                    test(vm, map_type, size)
                })?;
            }
        }
    }
    Ok(())
}

#[test]
fn keys_of_every_size_are_found_and_no_others() -> TestResult {
    on_maps(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 15, 16, 20, 24, 63, 64, 65, 100], |vm, map_type, size| {
        let keys = if size == 1 { 0..100 } else { 0..300 };
        let what = format!("{map_type}, keys of {size} bytes");
        assert_eq!(ret(vm, &key(0, size))?, NOTHING, "{what}");
        for number in keys.clone() {
            insert(vm, &key(number, size), u64::from(number) << 32 | 1)?;
        }
        for number in keys.clone().step_by(7) {
            assert_eq!(ret(vm, &key(number, size))?, u64::from(number) << 32 | 1, "{what}, {number}");
        }
        for byte in 0..size as usize {
            let mut other = key(1, size);
            other[byte] ^= 0x80;
            let known = keys.clone().find(|&number| key(number, size) == other);
            let expected = known.map_or(NOTHING, |number| u64::from(number) << 32 | 1);
            assert_eq!(ret(vm, &other)?, expected, "{what}, byte {byte} is another");
        }
        for number in keys.clone().step_by(2) {
            assert!(vm.map("m")?.remove_bytes(&key(number, size))?);
        }
        for number in keys.clone().step_by(5) {
            let expected = if number % 2 == 0 { NOTHING } else { u64::from(number) << 32 | 1 };
            assert_eq!(ret(vm, &key(number, size))?, expected, "{what}, {number} after removal of the even ones");
        }
        let asked = 1 + keys.clone().step_by(7).count() + size as usize + keys.step_by(5).count();
        assert_eq!(vm.calls("map_lookup_elem")?.len(), asked as u64);
        Ok(())
    })
}

/// What the hash of a map makes of eight bytes, and of what came before.
fn fold(word: u64) -> u64 {
    let product = u128::from(word) * u128::from(softbpf::maps::HASH_FACTOR);
    product as u64 ^ (product >> 64) as u64
}

#[test]
fn keys_with_the_same_hash_are_told_apart() -> TestResult {
    on_maps(&[16], |vm, map_type, _| {
        // The second half takes back what the first has done.
        let seed = vm.map("m")?.map().hash_layout().ok_or("no layout")?.seed;
        let colliding = |number: u64| [number.to_le_bytes(), (fold(seed ^ number) ^ 5).to_le_bytes()].concat();
        for number in 1..60 {
            insert(vm, &colliding(number), number)?;
        }
        for number in 1..60 {
            assert_eq!(ret(vm, &colliding(number))?, number, "{map_type}");
        }
        assert_eq!(ret(vm, &colliding(60))?, NOTHING, "{map_type}");
        for number in (1..60).filter(|number| number % 3 != 0) {
            assert!(vm.map("m")?.remove_bytes(&colliding(number))?);
        }
        for number in 1..60 {
            let expected = if number % 3 == 0 { number } else { NOTHING };
            assert_eq!(ret(vm, &colliding(number))?, expected, "{map_type}");
        }
        Ok(())
    })
}

/// Puts `r6` and twice `r6` under `r6`, in a map with keys of 4 bytes.
const INSERT: &str = "
    *(u32 *)(r10 - 4) = r6
    *(u64 *)(r10 - 16) = r6
    r1 = m ll
    r2 = r10
    r2 += -4
    r3 = r10
    r3 += -16
    r4 = 0
    call map_update_elem";

/// Adds what there is under `r8` to `r7`.
const ADD: &str = "
    *(u32 *)(r10 - 20) = r8
    r1 = m ll
    r2 = r10
    r2 += -20
    call map_lookup_elem";

fn counts(object: &Object, expected: u64) -> TestResult {
    for kept in [0, 5, u32::MAX] {
        let mut instructions = None;
        try_on_every_engine(object, |vm| {
            vm.keep_calls(kept);
            for run in 0..2 {
                let outcome = vm.run(MAIN, ())?;
                assert_eq!(outcome.ret, Ok(expected), "run {run}");
                assert_eq!(*instructions.get_or_insert(outcome.instructions), outcome.instructions);
                vm.reset();
                assert_eq!(vm.map("m")?.map().len(), 0);
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn a_map_that_grows_in_the_run_is_searched_where_it_is_then() -> TestResult {
    // Each time a new key, the first one, one in the middle, and one that is not there yet.
    let text = format!(
        "r7 = 0\n r6 = 1\n again: {INSERT}
        r8 = r6\n {ADD}\n if r0 == 0 goto a\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        a: r8 = 1\n {ADD}\n if r0 == 0 goto b\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        b: r8 = r6\n r8 >>= 1\n {ADD}\n if r0 == 0 goto c\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        c: r8 = r6\n r8 += 1\n {ADD}\n if r0 == 0 goto d\n r7 += 1000000
        d: r6 += 1\n if r6 != 3000 goto again\n r0 = r7\n exit"
    );
    let expected = (1..3000_u64).map(|number| number + 1 + number / 2).sum();
    for map_type in HASHES {
        counts(&program_with(&text, map(map_type, 4, 4000)), expected)?;
    }
    Ok(())
}

#[test]
fn what_is_deleted_in_the_run_is_not_found_any_more() -> TestResult {
    let text = format!(
        "r7 = 0\n r6 = 1\n fill: {INSERT}\n r6 += 1\n if r6 != 1500 goto fill
        r6 = 1\n delete: *(u32 *)(r10 - 4) = r6\n r1 = m ll\n r2 = r10\n r2 += -4\n call map_delete_elem
        r8 = r6\n {ADD}\n if r0 == 0 goto gone\n r7 += 1000000
        gone: r8 = r6\n r8 += 1\n {ADD}\n if r0 == 0 goto next\n r7 += 1
        next: r6 += 2\n if r6 != 1501 goto delete
        r6 = 1\n look: r8 = r6\n {ADD}\n if r0 == 0 goto none\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        none: r6 += 1\n if r6 != 1500 goto look\n r0 = r7\n exit"
    );
    let expected = 749 + (2..1500_u64).step_by(2).sum::<u64>();
    for map_type in HASHES {
        counts(&program_with(&text, map(map_type, 4, 2000)), expected)?;
    }
    Ok(())
}

#[test]
fn what_a_mock_inserts_is_found() -> TestResult {
    // The mock puts 1000 keys into the map, and takes the first out again, when it is called the second time.
    let text = format!(
        "r7 = 0\n r8 = 5\n {ADD}\n if r0 == 0 goto a\n r7 += 1000000
        a: r1 = m ll\n call find_vma
        r8 = 5\n {ADD}\n if r0 == 0 goto b\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        b: r1 = m ll\n call find_vma
        r8 = 5\n {ADD}\n if r0 == 0 goto c\n r7 += 2000000
        c: r8 = 999\n {ADD}\n if r0 == 0 goto d\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        d: r0 = r7\n exit"
    );
    let object = program_with(&text, map(MapType::Hash, 4, 2000));
    try_on_every_engine(&object, |vm| {
        vm.keep_calls(0);
        let mut calls = 0;
        vm.mock("find_vma", move |call| -> Result<u64, softbpf::helpers::Stop> {
            calls += 1;
            let mut map = call.map(0)?;
            if calls % 2 == 1 {
                (0..1000_u32)
                    .for_each(|key| map.insert(&key, &u64::from(key)).unwrap_or_else(|error| panic!("{error}")));
            } else {
                assert!(map.remove(&5_u32).unwrap_or_else(|error| panic!("{error}")));
            }
            Ok(0)
        })?;
        for _ in 0..2 {
            assert_eq!(ret(vm, &[])?, 5 + 999);
            vm.map("m")?.clear()?;
        }
        Ok(())
    })
}

#[test]
fn what_is_done_between_runs_is_seen() -> TestResult {
    on_maps(&[4, 8, 12], |vm, _, size| {
        for round in 0..3 {
            for number in 0..600 {
                assert_eq!(ret(vm, &key(number, size))?, NOTHING);
                insert(vm, &key(number, size), u64::from(number) + round)?;
                assert_eq!(ret(vm, &key(number, size))?, u64::from(number) + round);
                if number % 200 == 0 {
                    vm.map("m")?.clear()?;
                }
            }
            assert_eq!(ret(vm, &key(599, size))?, 599 + round);
            insert(vm, &key(599, size), 77)?;
            assert_eq!(ret(vm, &key(599, size))?, 77);
            match round {
                0 => vm.map("m")?.clear()?,
                1 => vm.reset(),
                _ => {}
            }
        }
        Ok(())
    })
}

#[test]
fn another_object_in_the_same_machine_has_maps_of_its_own() -> TestResult {
    let first = program_with(&look_up_context(8), map(MapType::Hash, 8, 2000));
    let second = program_with(&look_up_context(4), [map(MapType::Hash, 4, 10), map(MapType::Hash, 8, 5)].concat());
    try_on_every_engine(&first, |vm| {
        for _ in 0..3 {
            vm.keep_calls(0);
            insert(vm, &key(7, 8), 8)?;
            assert_eq!(ret(vm, &key(7, 8))?, 8);
            vm.reload(&second)?;
            vm.keep_calls(0);
            assert_eq!(ret(vm, &key(7, 4))?, NOTHING);
            insert(vm, &key(7, 4), 4)?;
            assert_eq!(ret(vm, &key(7, 4))?, 4);
            vm.reload(&first)?;
            assert_eq!(ret(vm, &key(7, 8))?, NOTHING);
        }
        Ok(())
    })
}

#[test]
fn a_lookup_gives_the_copy_of_the_cpu() -> TestResult {
    const NUMBERS: [u64; 4] = [10, 20, 30, 40];
    for map_type in [MapType::PercpuArray, MapType::PercpuHash, MapType::LruPercpuHash] {
        for size in [4, 8, 12, 24] {
            let spec = MapSpec::new("m", map_type, 4, size, 9);
            let text = format!(
                "r7 = 0\n r8 = 7\n {ADD}\n if r0 == 0 goto none\n r7 = *(u32 *)(r0 + {})\n none:
                 r8 = 8\n {ADD}\n if r0 == 0 goto out\n r0 = *(u32 *)(r0 + 0)\n r7 += r0\n out: r0 = r7\n exit",
                size - 4
            );
            try_on_every_engine(&program_with(&text, vec![spec]), |vm| {
                vm.keep_calls(0);
                let values: Vec<u8> = NUMBERS
                    .iter()
                    .flat_map(|number| {
                        let mut value = vec![0; size as usize - 4];
                        value.extend((*number as u32).to_le_bytes());
                        value.resize(value.len().next_multiple_of(8), 0);
                        value
                    })
                    .collect();
                vm.map("m")?.insert_bytes(&7_u32.to_le_bytes(), &values, 0)?;
                for (cpu, expected) in (0..).zip(NUMBERS) {
                    vm.world.cpu = cpu;
                    assert_eq!(ret(vm, &[])?, expected, "{map_type}, CPU {cpu}");
                }
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn a_mock_that_changes_the_cpu_changes_what_lookups_give() -> TestResult {
    let text = format!(
        "r7 = 0\n r8 = 7\n {ADD}\n if r0 == 0 goto out\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        call get_prandom_u32
        r8 = 7\n {ADD}\n if r0 == 0 goto out\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        out: r0 = r7\n exit"
    );
    for map_type in [MapType::PercpuArray, MapType::PercpuHash, MapType::LruPercpuHash] {
        try_on_every_engine(&program_with(&text, map(map_type, 4, 8)), |vm| {
            vm.keep_calls(0);
            vm.mock("get_prandom_u32", |call| call.world().cpu += 1)?;
            vm.map("m")?.insert_percpu(&7_u32, &[1_u64, 10, 100, 1000])?;
            // Behind the last one there is none.
            for (cpu, expected) in [(0, 11), (1, 110), (2, 1100), (3, 2000)] {
                vm.world.cpu = cpu;
                assert_eq!(ret(vm, &[])?, expected, "{map_type}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn elements_of_a_percpu_array_end_where_it_does() -> TestResult {
    let text = format!(
        "r7 = 0\n r8 = *(u32 *)(r1 + 0)\n {ADD}\n if r0 == 0 goto none\n r0 = *(u64 *)(r0 + 0)\n exit
        none: r0 = {NOTHING}\n exit"
    );
    try_on_every_engine(&program_with(&text, map(MapType::PercpuArray, 4, 3)), |vm| {
        vm.keep_calls(0);
        vm.world.cpu = 3;
        for (index, expected) in [(0, 0), (2, 0), (3, NOTHING), (u32::MAX, NOTHING), (1 << 31, NOTHING)] {
            assert_eq!(ret(vm, &index.to_le_bytes())?, expected, "{index}");
        }
        Ok(())
    })
}

#[test]
fn programs_that_call_each_other_see_one_map() -> TestResult {
    let maps = || [map(MapType::Hash, 4, 4000), vec![MapSpec::new("progs", MapType::ProgArray, 4, 4, 2)]].concat();
    let fill = format!("r9 = r1\n r6 = 1\n again: {INSERT}\n r6 += 1\n if r6 != 1000 goto again
        r8 = 999\n {ADD}\n if r0 == 0 goto out\n r1 = r9\n r2 = progs ll\n r3 = 0\n call tail_call\n out: r0 = 0\n exit");
    let read = format!("r7 = 0\n r8 = 500\n {ADD}\n if r0 == 0 goto out\n r7 = *(u64 *)(r0 + 0)\n out: r0 = r7\n exit");
    let mut programs = Vec::new();
    for (name, text) in [("fill", &fill), ("read", &read)] {
        let mut object = program_with(text, maps());
        if let Some(info) = object.program_mut(MAIN) {
            info.name = name.into();
        }
        programs.push(object.program(name)?);
    }
    try_on_every_engine(&Object::from_programs(programs, maps()), |vm| {
        vm.keep_calls(0);
        vm.set_tail_call("progs", 0, "read")?;
        assert_eq!(vm.run("read", ())?.ret, Ok(0));
        assert_eq!(vm.run("fill", ())?.ret, Ok(500));
        Ok(())
    })
}

#[test]
fn functions_that_are_called_back_see_and_change_the_map() -> TestResult {
    // Each round inserts a key and looks up the one before.
    let text = format!(
        "r1 = 1200\n r2 = round ll\n r3 = r10\n r3 += -64\n *(u64 *)(r10 - 64) = 0\n r4 = 0\n call loop
        r7 = *(u64 *)(r10 - 64)\n r8 = 1199\n {ADD}\n if r0 == 0 goto out\n r0 = *(u64 *)(r0 + 0)\n r7 += r0
        out: r0 = r7\n exit
        round: r6 = r1\n r9 = r2\n {INSERT}
        r7 = 0\n r8 = r6\n r8 += -1\n {ADD}\n if r0 == 0 goto none\n r7 = *(u64 *)(r0 + 0)
        none: r1 = *(u64 *)(r9 + 0)\n r1 += r7\n *(u64 *)(r9 + 0) = r1\n r0 = 0\n exit"
    );
    let expected = (0..1199_u64).sum::<u64>() + 1199;
    for map_type in HASHES {
        counts(&program_with(&text, map(map_type, 4, 2000)), expected)?;
    }
    Ok(())
}

#[test]
fn a_mock_of_the_lookup_is_asked() -> TestResult {
    let object = program_with(&look_up_context(8), map(MapType::Hash, 8, 10));
    try_on_every_engine(&object, |vm| {
        vm.keep_calls(0);
        insert(vm, &key(3, 8), 3)?;
        assert_eq!(ret(vm, &key(3, 8))?, 3);
        vm.mock("map_lookup_elem", |_| 0)?;
        assert_eq!(ret(vm, &key(3, 8))?, NOTHING);
        vm.unmock("map_lookup_elem")?;
        assert_eq!(ret(vm, &key(3, 8))?, 3);
        assert_eq!(vm.calls("map_lookup_elem")?.len(), 3);
        Ok(())
    })
}

#[test]
fn an_engine_that_asks_for_a_map_that_is_not_there_gets_none() -> TestResult {
    try_on_every_engine(&program_with(&look_up_context(4), map(MapType::Hash, 4, 8)), |vm| {
        assert_eq!(vm.lookup(1, 0), None);
        Ok(())
    })
}

#[test]
fn a_key_that_leaves_the_frame_is_a_fault() -> TestResult {
    for text in [
        "r1 = m ll\n r2 = r10\n r2 += -4\n call map_lookup_elem\n exit",
        "r1 = m ll\n r2 = r10\n r2 += -516\n call map_lookup_elem\n exit",
        "r1 = m ll\n r2 = 8\n call map_lookup_elem\n exit",
    ] {
        let mut trap = None;
        try_on_every_engine(&program_with(text, map(MapType::Hash, 8, 10)), |vm| {
            vm.keep_calls(0);
            let outcome = vm.run(MAIN, ())?;
            assert!(outcome.ret.is_err());
            assert_eq!(*trap.get_or_insert(outcome.clone()), outcome);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn repeated_runs_see_what_the_one_before_has_left() -> TestResult {
    // Each run looks for keys from 0 on, and inserts the first that is not there.
    let text =
        format!("r6 = -1\n again: r6 += 1\n r8 = r6\n {ADD}\n if r0 != 0 goto again\n {INSERT}\n r0 = r6\n exit");
    try_on_every_engine(&program_with(&text, map(MapType::Hash, 4, 2000)), |vm| {
        vm.keep_calls(0);
        for _ in 0..300 {
            vm.run(MAIN, ())?;
        }
        assert_eq!(vm.run(MAIN, ())?.ret, Ok(300));
        let repeated = vm.repeat(MAIN, (), 100)?;
        assert_eq!(repeated.ret, Ok(400));
        Ok(())
    })
}

#[test]
fn tables_that_a_test_overwrites_by_hand_do_no_harm() -> TestResult {
    const TABLES: u32 = 1 << 16;
    let text = format!(
        "r6 = 1\n again: {INSERT}\n r8 = r6\n {ADD}\n r1 = m ll\n r2 = r10\n r2 += -4\n call map_delete_elem
        {INSERT}\n r6 += 1\n if r6 != 30 goto again\n r0 = 0\n exit"
    );
    for map_type in HASHES {
        try_on_every_engine(&program_with(&text, map(map_type, 4, 40)), |vm| {
            vm.keep_calls(0);
            vm.fuel = 10_000;
            assert_eq!(ret(vm, &[])?, 0);
            // They lie at the end of guest memory.
            let start = 0_u32.wrapping_sub(TABLES);
            vm.memory.grant(start, TABLES - 1, Permission::ReadWrite);
            let mut seed = 1_u64;
            for round in 0..40 {
                let bytes: Vec<u8> = (0..TABLES - 1)
                    .map(|at| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        let byte = (seed >> 56) as u8;
                        // Now all of it, now what looks more like an entry or a record.
                        if round % 2 == 0 {
                            byte
                        } else if at % 4 < 2 {
                            byte & 7
                        } else {
                            0xff
                        }
                    })
                    .collect();
                vm.memory.write(start.into(), &bytes).map_err(|fault| format!("{fault:?}"))?;
                vm.run(MAIN, ())?;
                let mut handle = vm.map("m")?;
                handle.iter()?.count();
                handle.remove(&3_u32)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
