//! Values in guest memory: exact bounds, what a deleted element's pointer means, copies for each CPU.

use softbpf::errno::Errno;
use softbpf::map_spec::MapType::*;
use softbpf::map_spec::{DataSection, MapSpec};
use softbpf::maps::update_flags::ANY;
use softbpf::maps::{MAX_DIRECT_VALUE, Map, MapErrorKind};
use softbpf::memory::{FaultKind, Memory, ObjectKind};

use super::{CPUS, Fixture};

#[test]
fn a_value_ends_at_its_last_byte() {
    for map_type in [Hash, Array, PercpuHash, PercpuArray, LruHash, LruPercpuHash] {
        for size in [1, 3, 7, 8, 9, 12, 16, 65] {
            let mut fix = Fixture::new(map_type, 4, size, 4);
            for key in 0_u32..3 {
                fix.map.update(&mut fix.memory, 0, &key.to_le_bytes(), &vec![1; size as usize], ANY).expect("update");
            }
            for key in 0..3 {
                let start = u64::from(fix.lookup(key).expect("element"));
                let end = start + u64::from(size);
                assert!(fix.memory.read(start, size.into()).is_ok());
                assert!(fix.memory.check_write(start, size.into()).is_ok());
                for (addr, len) in [(start - 1, 1), (end, 1), (end - 1, 2), (start, u64::from(size) + 1)] {
                    let fault = fix.memory.read(addr, len).expect_err("outside");
                    assert_eq!(fault.kind, FaultKind::OutOfBounds, "{map_type} of {size}: {len} bytes at {addr}");
                    assert!(fix.memory.check_write(addr, len).is_err());
                }
            }
        }
    }
}

#[test]
fn a_fault_beside_a_value_names_map_and_element() {
    let mut fix = Fixture::new(PercpuArray, 4, 8, 4);
    let addr = u64::from(fix.lookup_on(1, 2).expect("element"));
    let nearest = fix.memory.nearest(addr + 6, 4).expect("an object");
    assert_eq!(nearest.kind, ObjectKind::MapValue { map: "m".into(), first: 0, copies: CPUS });
    assert_eq!((nearest.index, nearest.start, nearest.size, nearest.distance), (2, addr, 8, 2));
}

#[test]
fn a_deleted_element_can_be_read_until_the_run_ends() {
    for flags in [0, 1] {
        let mut fix = Fixture::with_flags(Hash, 4, 8, 8, flags);
        fix.insert(1, 11);
        let old = fix.lookup(1).expect("element");
        fix.delete(1).expect("delete");
        assert_eq!((fix.lookup(1), fix.read(old)), (None, Some(11)));
        fix.end_run();
        assert_eq!(fix.read(old), None);
        fix.end_run();
        fix.insert(2, 22);
        assert_eq!((fix.lookup(2), fix.read(old)), (Some(old), Some(22)), "the memory is used again");
        fix.end_run();
        assert_eq!(fix.read(old), Some(22));
    }
}

/// What a program reads through the pointer to element 1 (value 11) after some calls; seen on Linux 6.18.
#[test]
fn memory_is_used_again_as_in_the_kernel() {
    type Calls = fn(&mut Fixture);
    let delete_insert: Calls = |fix| {
        fix.delete(1).expect("delete");
        fix.insert(9, 99);
    };
    let delete_update: Calls = |fix| {
        fix.delete(1).expect("delete");
        fix.insert(2, 77);
    };
    let update: Calls = |fix| fix.insert(1, 55);
    let update_insert: Calls = |fix| {
        fix.insert(1, 55);
        fix.insert(9, 99);
    };
    let update_update: Calls = |fix| {
        fix.insert(1, 55);
        fix.insert(2, 77);
    };
    let delete_two: Calls = |fix| {
        fix.delete(1).expect("delete");
        fix.delete(2).expect("delete");
        fix.insert(9, 99);
    };
    let calls = [delete_insert, delete_update, update, update_insert, update_update, delete_two];
    let cases = [
        (Hash, 0, [99, 11, 11, 11, 77, 11]),
        (Hash, 1, [99, 77, 11, 99, 77, 11]),
        (PercpuHash, 0, [99, 11, 55, 55, 55, 11]),
        (PercpuHash, 1, [99, 11, 55, 55, 55, 11]),
    ];
    for (map_type, flags, expected) in cases {
        for (calls, expected) in calls.iter().zip(expected) {
            let mut fix = Fixture::with_flags(map_type, 4, 8, 8, flags);
            for key in 1..4 {
                fix.insert(key, u64::from(key) * 11);
            }
            let old = fix.lookup(1).expect("element");
            calls(&mut fix);
            assert_eq!(fix.read(old), Some(expected), "{map_type}, flags {flags}");
        }
    }
}

#[test]
fn replacing_an_element_keeps_the_old_value_for_old_pointers() {
    for flags in [0, 1] {
        let mut fix = Fixture::with_flags(Hash, 4, 8, 1, flags);
        fix.insert(1, 11);
        for value in 12..50 {
            let old = fix.lookup(1).expect("element");
            fix.insert(1, value);
            assert_eq!((fix.read(old), fix.value(1)), (Some(value - 1), Some(value)));
            fix.end_run();
            assert_eq!((fix.read(old), fix.value(1)), (None, Some(value)));
        }
    }
}

#[test]
fn stores_through_a_pointer_change_the_value() {
    for map_type in [Hash, Array, PercpuHash, PercpuArray, LruHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 4);
        fix.insert(1, 0);
        let address = fix.lookup(1).expect("element");
        fix.memory.write(address.into(), &5_u64.to_le_bytes()).expect("store");
        assert_eq!(fix.value(1), Some(5));
        assert_eq!(fix.user_lookup(1).expect("value")[..8], 5_u64.to_le_bytes());
    }
}

#[test]
fn each_cpu_has_its_copy() {
    for map_type in [PercpuHash, PercpuArray, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 4);
        fix.user_update(1, 7, ANY).expect("update");
        fix.update_on(1, 1, 9, ANY).expect("update");
        let addresses = [0, 1].map(|cpu| fix.lookup_on(cpu, 1).expect("element"));
        assert_ne!(addresses[0], addresses[1]);
        assert_eq!(addresses.map(|address| fix.read(address)), [Some(7), Some(9)]);
        let both = [7_u64.to_le_bytes(), 9_u64.to_le_bytes()].concat();
        assert_eq!(fix.user_lookup(1), Ok(both));
    }
}

#[test]
fn a_program_that_inserts_zeroes_the_other_copies() {
    for map_type in [PercpuHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 1);
        fix.user_update(1, u64::MAX, ANY).expect("update");
        fix.delete(1).expect("delete");
        fix.update_on(1, 2, 5, ANY).expect("update");
        assert_eq!(fix.user_lookup(2), Ok([0_u64.to_le_bytes(), 5_u64.to_le_bytes()].concat()));
    }
}

#[test]
fn copies_are_padded_to_eight_bytes_for_user_space() {
    for map_type in [PercpuHash, PercpuArray, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 12, 4);
        let Fixture { map, memory } = &mut fix;
        assert_eq!(map.user_value_size(), 32);
        let value: Vec<u8> = (1..=32).collect();
        map.user_update(memory, &[1, 0, 0, 0], &value, ANY).expect("update");
        // The kernel keeps the padding, too.
        assert_eq!(map.user_lookup(memory, &[1, 0, 0, 0]), Ok(value));
        map.update(memory, 1, &[2, 0, 0, 0], &[7; 12], ANY).expect("update");
        let expected = [[0; 16], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0]].concat();
        assert_eq!(map.user_lookup(memory, &[2, 0, 0, 0]), Ok(expected));
    }
}

#[test]
fn global_data_has_its_first_contents_and_its_name() {
    let spec = MapSpec {
        map_flags: 1 << 7 | 1 << 10,
        data: Some(DataSection::Rodata),
        initial_value: Some(b"hello, world".as_slice().into()),
        ..MapSpec::new(".rodata", Array, 4, 13, 1)
    };
    let mut fix = Fixture::from_spec(&spec);
    let address = fix.map.direct_value(0).expect("address");
    assert_eq!(fix.map.direct_value(12), Ok(address + 12));
    assert_eq!(fix.map.direct_value(13), Err(Errno::EINVAL));
    assert_eq!(fix.memory.read(address.into(), 13), Ok(b"hello, world\0".as_slice()));
    assert!(fix.memory.read(address.into(), 14).is_err());
    let fault = fix.memory.write(address.into(), b"x").expect_err("read-only");
    assert_eq!(fault.kind, FaultKind::ReadOnly);
    let nearest = fix.memory.nearest(address.into(), 1).expect("an object");
    assert_eq!(nearest.kind, ObjectKind::Data { section: ".rodata".into() });
    fix.map.user_update(&mut fix.memory, &[0; 4], b"HELLO, WORLD!", ANY).expect("update");
    assert_eq!(fix.memory.read(address.into(), 13), Ok(b"HELLO, WORLD!".as_slice()));
    fix.map.reset(&mut fix.memory);
    assert_eq!(fix.memory.read(address.into(), 13), Ok(b"hello, world\0".as_slice()));
}

#[test]
fn only_arrays_of_one_element_have_a_direct_value() {
    for (map_type, entries) in [(Array, 2), (Hash, 1)] {
        assert_eq!(Fixture::new(map_type, 4, 8, entries).map.direct_value(0), Err(Errno::ENOTSUPP));
    }
}

#[test]
fn global_data_is_open_up_to_a_limit() {
    let bss = |size| MapSpec { data: Some(DataSection::Bss), ..MapSpec::new(".bss", Array, 4, size, 1) };
    let fix = Fixture::from_spec(&bss(MAX_DIRECT_VALUE));
    let address = fix.map.direct_value(MAX_DIRECT_VALUE - 8).expect("address");
    assert_eq!(fix.read(address), Some(0));
    for size in [MAX_DIRECT_VALUE + 1, i32::MAX as u32, u32::MAX] {
        let mut memory = Memory::new().expect("memory");
        let error = Map::create(&bss(size), &mut memory, CPUS).expect_err("too large");
        let (bytes, limit) = (size.into(), MAX_DIRECT_VALUE.into());
        assert_eq!(error.kind, MapErrorKind::ElementTooLarge { bytes, limit });
    }
}

#[test]
fn a_large_value_opens_when_it_is_looked_up() {
    let mut fix = Fixture::new(Array, 4, MAX_DIRECT_VALUE + 8, 1);
    let layout = fix.map.array_layout().expect("an array");
    assert_eq!((layout.all_open, fix.read(layout.start)), (false, None));
    assert_eq!(fix.map.direct_value(0), Err(Errno::ENOTSUPP));
    assert_eq!(fix.lookup(0), Some(layout.start));
    assert_eq!(fix.read(layout.start + MAX_DIRECT_VALUE), Some(0));
    fix.map.reset(&mut fix.memory);
    assert_eq!(fix.read(layout.start), None);
    let largest = Fixture::new(Array, 4, i32::MAX as u32, 1);
    assert_eq!(largest.map.array_layout().map(|layout| layout.all_open), Some(false));
}

#[test]
fn a_large_array_opens_what_is_looked_up() {
    for map_type in [Array, PercpuArray] {
        let mut fix = Fixture::new(map_type, 4, 8, 1_000_000);
        let layout = fix.map.array_layout().expect("an array");
        assert!(!layout.all_open);
        let address = layout.start + 999_999 * layout.stride;
        assert_eq!(fix.read(address), None);
        assert_eq!(fix.lookup(999_999), Some(address));
        assert_eq!(fix.read(address), Some(0));
        assert_eq!(fix.read(address - layout.stride), None);
        fix.user_update(5, 55, ANY).expect("update");
        assert_eq!(fix.value(5), Some(55));
        fix.map.reset(&mut fix.memory);
        assert_eq!(fix.read(address), None);
        assert_eq!(fix.value(5), Some(0));
    }
}

#[test]
fn the_layout_of_an_array_is_that_of_its_lookups() {
    for map_type in [Array, PercpuArray] {
        let mut fix = Fixture::new(map_type, 4, 20, 5);
        let layout = fix.map.array_layout().expect("an array");
        assert!(layout.all_open);
        for (index, cpu) in [(0, 0), (3, 0), (4, 1)] {
            let expected = layout.start + index * layout.stride + cpu * layout.cpu_stride;
            assert_eq!(fix.lookup_on(cpu, index), Some(expected));
        }
    }
}

#[test]
fn reset_returns_to_the_empty_map_with_the_same_addresses() {
    for map_type in [Hash, Array, PercpuHash, PercpuArray, LruHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 8);
        let round = |fix: &mut Fixture| {
            let fill = |key: u32| {
                fix.insert(key, u64::from(key) + 100);
                fix.lookup(key)
            };
            (0..5).map(fill).collect::<Vec<_>>()
        };
        let first = round(&mut fix);
        let _ = fix.delete(2);
        fix.insert(3, 1);
        fix.map.reset(&mut fix.memory);
        if matches!(map_type, Array | PercpuArray) {
            assert_eq!(fix.value(3), Some(0));
        } else {
            assert_eq!((fix.map.len(), fix.lookup(3)), (0, None));
            assert!(first.iter().flatten().all(|&address| fix.read(address).is_none()));
        }
        assert_eq!(round(&mut fix), first, "{map_type}");
    }
}

#[test]
fn clear_removes_elements_and_zeroes_arrays() {
    for map_type in [Hash, Array, PercpuHash, PercpuArray, LruHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 4);
        for key in 0..4 {
            fix.insert(key, 5);
        }
        fix.map.clear(&mut fix.memory);
        let array = matches!(map_type, Array | PercpuArray);
        assert_eq!(fix.value(1), array.then_some(0));
        assert_eq!(fix.map.len(), if array { 4 } else { 0 });
        for key in 0..4 {
            fix.insert(key, 6);
        }
        assert_eq!(fix.value(3), Some(6));
    }
}

#[test]
fn iteration_survives_changes_to_the_map() {
    let mut fix = Fixture::new(Hash, 4, 8, 100);
    for key in 0..50 {
        fix.insert(key, key.into());
    }
    let mut seen = 0;
    for key in fix.map.keys(&fix.memory).collect::<Vec<_>>() {
        seen += 1;
        fix.map.delete(&mut fix.memory, &key).expect("delete");
        fix.insert(1000 + seen, 0);
    }
    assert_eq!((seen, fix.map.len()), (50, 50));
}

#[test]
fn an_insertion_that_is_refused_takes_no_guest_memory() {
    const LEFT: u64 = 46 << 20;
    let mut fix = Fixture::new(Hash, 256 << 10, 512 << 10, 4000);
    // All but so much is somebody else's.
    while fix.memory.left() > LEFT {
        let size = (fix.memory.left() - LEFT).min(1 << 30) as u32;
        fix.memory.reserve_elements(ObjectKind::Placed { name: "others".into() }, size, 1).expect("room");
    }
    let value = vec![1; 512 << 10];
    let mut insert = |memory: &mut Memory, number: u32| {
        let mut key = vec![0; 256 << 10];
        key[..4].copy_from_slice(&number.to_le_bytes());
        fix.map.update(memory, 0, &key, &value, ANY)
    };
    let (mut left, mut number) = (fix.memory.left(), 0);
    while insert(&mut fix.memory, number).is_ok() {
        (left, number) = (fix.memory.left(), number + 1);
    }
    for _ in 0..10 {
        assert_eq!(insert(&mut fix.memory, number), Err(Errno::ENOMEM));
    }
    assert!(number > 0);
    assert_eq!(fix.memory.left(), left);
}
