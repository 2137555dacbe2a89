//! Lookup, update, delete and next key: every error number, on both sides.

use std::error::Error;

use softbpf::errno::Errno;
use softbpf::map_spec::MapSpec;
use softbpf::map_spec::MapType::*;
use softbpf::maps::update_flags::{ANY, EXIST, LOCK, NOEXIST};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object};

use super::Fixture;

/// Flags that no update takes: `NOEXIST` and `EXIST` at once, `LOCK` without a spin lock, unknown ones.
const BAD_FLAGS: [u64; 8] = [NOEXIST | EXIST, LOCK, LOCK | NOEXIST, LOCK | EXIST, 7, 8, 1 << 32, u64::MAX];

#[test]
fn hash_maps_answer_as_the_kernel_does() {
    for (map_type, flags) in [(Hash, 0), (Hash, 1), (PercpuHash, 0), (PercpuHash, 1)] {
        let mut fix = Fixture::with_flags(map_type, 4, 8, 2, flags);
        assert_eq!(fix.lookup(1), None);
        assert_eq!(fix.update(1, 10, EXIST), Err(Errno::ENOENT));
        assert_eq!(fix.update(1, 10, NOEXIST), Ok(()));
        assert_eq!(fix.update(1, 11, NOEXIST), Err(Errno::EEXIST));
        assert_eq!(fix.value(1), Some(10));
        assert_eq!(fix.update(1, 12, EXIST), Ok(()));
        assert_eq!(fix.update(2, 20, ANY), Ok(()));
        for full in [ANY, NOEXIST] {
            assert_eq!(fix.update(3, 30, full), Err(Errno::E2BIG));
        }
        assert_eq!(fix.update(3, 30, EXIST), Err(Errno::ENOENT));
        assert_eq!(fix.update(2, 21, ANY), Ok(()), "a full map can replace an element");
        for flags in BAD_FLAGS {
            assert_eq!(fix.update(1, 13, flags), Err(Errno::EINVAL), "flags {flags:#x}");
            assert_eq!(fix.update(3, 13, flags), Err(Errno::EINVAL), "flags {flags:#x}");
        }
        assert_eq!((fix.value(1), fix.value(2), fix.map.len()), (Some(12), Some(21), 2));
        assert_eq!(fix.delete(1), Ok(()));
        assert_eq!(fix.delete(1), Err(Errno::ENOENT));
        assert_eq!(fix.update(3, 30, ANY), Ok(()));
        assert_eq!((fix.lookup(1), fix.value(3)), (None, Some(30)));
    }
}

#[test]
fn lru_maps_answer_as_the_kernel_does() {
    for map_type in [LruHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 2);
        assert_eq!(fix.update(1, 10, EXIST), Err(Errno::ENOENT));
        assert_eq!(fix.update(1, 10, NOEXIST), Ok(()));
        assert_eq!(fix.update(1, 11, NOEXIST), Err(Errno::EEXIST));
        for flags in BAD_FLAGS {
            assert_eq!(fix.update(1, 13, flags), Err(Errno::EINVAL), "flags {flags:#x}");
        }
        for key in 2..9 {
            assert_eq!(fix.update(key, 1, ANY), Ok(()));
        }
        assert_eq!((fix.map.len(), fix.walk()), (2, vec![7, 8]));
        assert_eq!(fix.update(9, 1, EXIST), Err(Errno::ENOENT));
        assert_eq!(fix.map.len(), 2, "a refused update evicts nothing");
        assert_eq!(fix.delete(1), Err(Errno::ENOENT));
        assert_eq!(fix.delete(8), Ok(()));
    }
}

#[test]
fn arrays_answer_as_the_kernel_does() {
    for map_type in [Array, PercpuArray] {
        let mut fix = Fixture::new(map_type, 4, 8, 4);
        assert_eq!(fix.value(3), Some(0));
        assert_eq!(fix.lookup(4), None);
        assert_eq!(fix.lookup(u32::MAX), None);
        assert_eq!(fix.update(0, 5, ANY), Ok(()));
        assert_eq!(fix.update(0, 6, EXIST), Ok(()));
        assert_eq!(fix.update(0, 7, NOEXIST), Err(Errno::EEXIST));
        assert_eq!(fix.update(0, 7, NOEXIST | EXIST), Err(Errno::EINVAL));
        assert_eq!(fix.update(0, 7, LOCK), Err(Errno::EINVAL));
        assert_eq!(fix.update(0, 7, 8), Err(Errno::EINVAL));
        // The index is looked at before the lock is asked for.
        for flags in [ANY, NOEXIST, EXIST, LOCK] {
            assert_eq!(fix.update(4, 7, flags), Err(Errno::E2BIG), "flags {flags:#x}");
        }
        assert_eq!(fix.update(4, 7, NOEXIST | EXIST), Err(Errno::EINVAL));
        assert_eq!(fix.delete(0), Err(Errno::EINVAL));
        assert_eq!(fix.delete(9), Err(Errno::EINVAL));
        assert_eq!((fix.value(0), fix.map.len()), (Some(6), 4));
    }
}

#[test]
fn user_space_sees_the_errors_of_the_system_call() {
    for map_type in [Hash, PercpuHash, LruHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 2);
        assert_eq!(fix.user_lookup(1), Err(Errno::ENOENT));
        assert_eq!(fix.user_update(1, 1, EXIST), Err(Errno::ENOENT));
        assert_eq!(fix.user_update(1, 1, NOEXIST), Ok(()));
        assert_eq!(fix.user_update(1, 1, NOEXIST), Err(Errno::EEXIST));
        for flags in BAD_FLAGS {
            assert_eq!(fix.user_update(1, 1, flags), Err(Errno::EINVAL), "{map_type} flags {flags:#x}");
        }
        assert_eq!(fix.user_delete(2), Err(Errno::ENOENT));
        assert_eq!(fix.user_delete(1), Ok(()));
    }
    for map_type in [Array, PercpuArray] {
        let mut fix = Fixture::new(map_type, 4, 8, 2);
        assert_eq!(fix.user_lookup(2), Err(Errno::ENOENT));
        assert_eq!(fix.user_update(1, 1, NOEXIST), Err(Errno::EEXIST));
        assert_eq!(fix.user_update(2, 1, ANY), Err(Errno::E2BIG));
        assert_eq!(fix.user_update(2, 1, LOCK), Err(Errno::EINVAL));
        assert_eq!(fix.user_update(1, 1, EXIST), Ok(()));
        assert_eq!(fix.user_delete(1), Err(Errno::EINVAL));
    }
}

#[test]
fn program_arrays_are_for_user_space_only() {
    let mut fix = Fixture::new(ProgArray, 4, 4, 2);
    let program = 7_u32.to_le_bytes();
    let key = |index: u32| index.to_le_bytes();
    let mut set = |index, flags| fix.map.user_update(&mut fix.memory, &key(index), &program, flags);
    assert_eq!(set(0, EXIST), Err(Errno::EINVAL));
    assert_eq!(set(0, NOEXIST), Err(Errno::EINVAL));
    assert_eq!(set(2, ANY), Err(Errno::E2BIG));
    assert_eq!(set(1, ANY), Ok(()));
    let at = |fix: &mut Fixture, index| fix.map.prog_array().expect("prog_array").program_at(index);
    assert_eq!([0, 1, 2].map(|index| at(&mut fix, index)), [None, Some(7), None]);
    assert_eq!(fix.user_lookup(0), Err(Errno::ENOENT));
    assert_eq!(fix.user_lookup(1), Ok(program.to_vec()));
    assert_eq!(fix.lookup(1), None);
    assert_eq!(fix.map.update(&mut fix.memory, 0, &key(0), &program, ANY), Err(Errno::EINVAL));
    assert_eq!(fix.delete(1), Err(Errno::EINVAL));
    assert_eq!(fix.walk(), [0, 1]);
    assert_eq!((fix.map.keys(&fix.memory).collect(), fix.map.len()), (vec![key(1).to_vec()], 1));
    assert_eq!(fix.user_delete(2), Err(Errno::E2BIG));
    assert_eq!(fix.user_delete(0), Err(Errno::ENOENT));
    assert_eq!(fix.user_delete(1), Ok(()));
    assert_eq!(at(&mut fix, 1), None);
    let array = fix.map.prog_array().expect("prog_array");
    assert_eq!(array.set_initial_program(0, 3), Ok(()));
    assert_eq!(array.set_program(0, Some(4)), Ok(()));
    assert_eq!(array.set_program(1, Some(5)), Ok(()));
    assert_eq!(array.set_program(2, None), Err(Errno::E2BIG));
    fix.map.reset(&mut fix.memory);
    assert_eq!([0, 1].map(|index| at(&mut fix, index)), [Some(3), None]);
}

#[test]
fn program_arrays_of_a_machine_take_its_programs_only() -> Result<(), Box<dyn Error>> {
    let spec = MapSpec::new("progs", ProgArray, 4, 4, 2);
    let mut vm = Machine::load(&Object::assemble("r0 = 0\nexit", ProgramType::Kprobe, vec![spec])?)?;
    let mut progs = vm.map("progs")?;
    for unknown in [1_u32, 77, u32::MAX] {
        assert_eq!(progs.insert(&0_u32, &unknown).map_err(|error| error.errno()), Err(Errno::EBADF));
    }
    let array = progs.map_mut().prog_array().ok_or("a prog_array")?;
    assert_eq!([array.set_program(1, Some(1)), array.set_initial_program(1, 1)], [Err(Errno::EBADF); 2]);
    assert_eq!((array.set_program(2, Some(1)), array.set_program(1, None)), (Err(Errno::E2BIG), Ok(())));
    assert!(progs.is_empty());
    progs.insert(&0_u32, &0_u32)?;
    assert_eq!(progs.get(&0_u32)?, Some(0_u32));
    Ok(())
}

#[test]
fn types_without_elements_refuse_element_operations() {
    let cases = [
        (Ringbuf, 0, 0, 4096, Errno::ENOTSUPP, Errno::ENOTSUPP, Errno::ENOTSUPP),
        (PerfEventArray, 4, 4, 2, Errno::ENOTSUPP, Errno::EINVAL, Errno::EINVAL),
        (StackTrace, 4, 64, 3, Errno::ENOENT, Errno::EINVAL, Errno::ENOENT),
    ];
    for (map_type, key_size, value_size, entries, read, write, remove) in cases {
        let mut fix = Fixture::new(map_type, key_size, value_size, entries);
        let (key, value) = (vec![0; key_size as usize], vec![0; value_size as usize]);
        assert_eq!(fix.map.lookup(&mut fix.memory, 0, &key), None);
        assert_eq!(fix.map.user_lookup(&fix.memory, &key), Err(read), "{map_type}");
        assert_eq!(fix.map.update(&mut fix.memory, 0, &key, &value, ANY), Err(write), "{map_type}");
        assert_eq!(fix.map.delete(&mut fix.memory, &key), Err(remove), "{map_type}");
    }
}

#[test]
fn keys_are_walked_in_order_of_insertion() {
    for map_type in [Hash, PercpuHash, LruHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 8);
        assert_eq!(fix.map.next_key(&fix.memory, None), Err(Errno::ENOENT));
        for key in [5, 3, 9, 1] {
            fix.insert(key, 0);
        }
        fix.insert(3, 1);
        fix.lookup(5);
        assert_eq!(fix.walk(), [5, 3, 9, 1], "neither update nor lookup changes the order");
        fix.delete(9).expect("delete");
        fix.insert(7, 0);
        assert_eq!(fix.walk(), [5, 3, 1, 7]);
        let missing = 77_u32.to_le_bytes();
        assert_eq!(fix.map.next_key(&fix.memory, Some(&missing)), Ok(5_u32.to_le_bytes().to_vec()));
    }
    for map_type in [Array, PercpuArray, ProgArray, PerfEventArray] {
        let value_size = if matches!(map_type, Array | PercpuArray) { 8 } else { 4 };
        let fix = Fixture::new(map_type, 4, value_size, 3);
        assert_eq!(fix.walk(), [0, 1, 2], "{map_type}");
        assert_eq!(fix.map.next_key(&fix.memory, Some(&77_u32.to_le_bytes())), Ok(vec![0; 4]));
    }
}

#[test]
fn keys_and_values_of_the_wrong_size_are_refused() {
    for map_type in [Hash, Array, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 2);
        let Fixture { map, memory } = &mut fix;
        for key in [&b""[..], b"abc", b"abcde"] {
            assert_eq!(map.lookup(memory, 0, key), None);
            assert_eq!(map.update(memory, 0, key, &[0; 8], ANY), Err(Errno::EINVAL));
            assert_eq!(map.delete(memory, key), Err(Errno::EINVAL));
            assert_eq!(map.user_lookup(memory, key), Err(Errno::EINVAL));
            assert_eq!(map.next_key(memory, Some(key)), Err(Errno::EINVAL));
        }
        for size in [0, 7, 9, 24] {
            assert_eq!(map.update(memory, 0, &[0; 4], &vec![0; size], ANY), Err(Errno::EINVAL));
            assert_eq!(map.user_update(memory, &[0; 4], &vec![0; size], ANY), Err(Errno::EINVAL));
        }
    }
}

#[test]
fn access_flags_bind_their_side() {
    const RDONLY: u32 = 1 << 3;
    const WRONLY: u32 = 1 << 4;
    const RDONLY_PROG: u32 = 1 << 7;
    const WRONLY_PROG: u32 = 1 << 8;
    for map_type in [Hash, Array] {
        let mut fix = Fixture::with_flags(map_type, 4, 8, 2, RDONLY);
        assert_eq!(fix.update(0, 1, ANY), Ok(()));
        assert_eq!(fix.user_update(0, 2, ANY), Err(Errno::EPERM));
        assert_eq!(fix.user_delete(0), Err(Errno::EPERM));
        assert_eq!(fix.user_lookup(0), Ok(vec![1, 0, 0, 0, 0, 0, 0, 0]));

        let mut fix = Fixture::with_flags(map_type, 4, 8, 2, WRONLY);
        assert_eq!(fix.user_update(0, 2, ANY), Ok(()));
        assert_eq!(fix.user_lookup(0), Err(Errno::EPERM));
        assert_eq!(fix.map.next_key(&fix.memory, None), Err(Errno::EPERM));
        assert_eq!(fix.value(0), Some(2));

        let mut fix = Fixture::with_flags(map_type, 4, 8, 2, RDONLY_PROG);
        assert_eq!(fix.user_update(0, 2, ANY), Ok(()));
        assert_eq!(fix.update(0, 1, ANY), Err(Errno::EACCES));
        assert_eq!(fix.delete(0), Err(Errno::EACCES));
        let address = fix.lookup(0).expect("element");
        assert_eq!(fix.read(address), Some(2));
        assert!(fix.memory.check_write(address.into(), 8).is_err());

        let mut fix = Fixture::with_flags(map_type, 4, 8, 2, WRONLY_PROG);
        assert_eq!(fix.update(0, 1, ANY), Ok(()));
        let address = fix.lookup(0).expect("element");
        assert_eq!(fix.read(address), None);
        assert!(fix.memory.check_write(address.into(), 8).is_ok());
    }
}
