//! Subprograms three deep, shared by two programs, and the global data that lives from one run to the next.

use std::error::Error;

use softbpf::Machine;
use softbpf::context::Packet;
use softbpf_conformance::{TestResult, fixture, try_on_every_engine, variable};

const OBJECT: &str = "subprogs.bpf.o";

const BUFFER: u32 = 48;
const SALT: u32 = 0x1234;
const ROUNDS: u32 = 3;
const WEIGHTS: [u8; 8] = [1, 3, 5, 7, 11, 13, 17, 19];

fn on_fixture(test: impl FnMut(&mut Machine) -> TestResult) -> TestResult {
    try_on_every_engine(&fixture(OBJECT), test)
}

/// `mix` of the source.
fn mix(hash: u32, byte: u32) -> u32 {
    (hash ^ byte).wrapping_mul(16_777_619)
}

/// The buffer that `digest` fills in one round.
fn buffer(seed: u32, round: u32) -> Vec<u8> {
    (0..BUFFER).map(|i| seed.wrapping_add(i * (round + 1)) as u8).collect()
}

/// `digest` of the source.
fn digest(seed: u32, rounds: u32) -> u32 {
    let hash = |bytes: Vec<u8>| {
        let weighed = bytes.iter().zip(WEIGHTS.iter().cycle()).map(|(byte, weight)| u32::from(byte ^ weight));
        weighed.fold(2_166_136_261, mix)
    };
    (0..rounds.min(8)).fold(0, |digest, round| digest ^ hash(buffer(seed, round)))
}

fn classify(vm: &mut Machine, len: usize) -> Result<(u64, Vec<String>), Box<dyn Error>> {
    let outcome = vm.run("classify", Packet::new(vec![0; len]))?;
    Ok((outcome.ret.map_err(|trap| trap.to_string())?, outcome.printk))
}

fn filter(vm: &mut Machine) -> Result<u32, Box<dyn Error>> {
    let ret = vm.run("filter", Packet::new([0; 60]))?.ret;
    Ok(ret.map_err(|trap| trap.to_string())? as u32)
}

/// The bytes of a variable.
fn get(vm: &mut Machine, section: &str, name: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let value = vm.map(section)?.get_bytes(&[0; 4])?.ok_or("no value")?;
    Ok(value[variable(&fixture(OBJECT), section, name)].to_vec())
}

/// Writes a variable, as user space does.
fn set(vm: &mut Machine, section: &str, name: &str, bytes: &[u8]) -> TestResult {
    let mut map = vm.map(section)?;
    let mut value = map.get_bytes(&[0; 4])?.ok_or("no value")?;
    value[variable(&fixture(OBJECT), section, name)].copy_from_slice(bytes);
    Ok(map.insert_bytes(&[0; 4], &value, 0)?)
}

#[test]
fn the_source_comments_are_right() -> TestResult {
    on_fixture(|vm| {
        assert_eq!(classify(vm, 100)?, (0, vec!["digest 3d721975 of 100 bytes".to_owned()]));
        assert_eq!(classify(vm, 50)?, (2, vec!["digest 2457d575 of 50 bytes".to_owned()]));
        assert_eq!(filter(vm)?, 0x8789_1703);
        Ok(())
    })
}

#[test]
fn digests_are_those_of_the_same_function_in_rust() -> TestResult {
    on_fixture(|vm| {
        for len in [0, 1, 14, 63, 64, 65, 1500, 9000] {
            let expected = digest(len as u32 + SALT, ROUNDS);
            let action = if expected & 0x10000 == 0 { 0 } else { 2 };
            assert_eq!(classify(vm, len)?, (action, vec![format!("digest {expected:x} of {len} bytes")]));
        }
        Ok(())
    })
}

#[test]
fn a_setting_in_rodata_bounds_the_loop() -> TestResult {
    for rounds in [0, 1, 2, 7, 8, 9, u32::MAX] {
        on_fixture(|vm| {
            set(vm, ".rodata", "rounds", &rounds.to_le_bytes())?;
            assert_eq!(filter(vm)?, mix(digest(7, rounds), SALT), "{rounds} rounds");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn initialised_data_can_be_changed_between_runs() -> TestResult {
    on_fixture(|vm| {
        assert_eq!(get(vm, ".data", "salt")?, SALT.to_le_bytes());
        for salt in [0, 1, u32::MAX] {
            set(vm, ".data", "salt", &salt.to_le_bytes())?;
            assert_eq!(filter(vm)?, mix(digest(7, ROUNDS), salt));
        }
        Ok(())
    })
}

#[test]
fn both_programs_count_in_the_same_variable() -> TestResult {
    on_fixture(|vm| {
        for run in 0..5_u64 {
            assert_eq!(get(vm, ".bss", "entries")?, (2 * run).to_le_bytes());
            classify(vm, 100)?;
            filter(vm)?;
        }
        Ok(())
    })
}

#[test]
fn the_last_buffer_outlives_the_run() -> TestResult {
    on_fixture(|vm| {
        assert_eq!(get(vm, ".bss", "last_buffer")?, [0; BUFFER as usize]);
        for len in [100, 50] {
            classify(vm, len)?;
            assert_eq!(get(vm, ".bss", "last_buffer")?, buffer(len as u32 + SALT, ROUNDS - 1), "{len} bytes");
        }
        Ok(())
    })
}

#[test]
fn machines_of_one_object_share_no_data() -> TestResult {
    let object = fixture(OBJECT);
    try_on_every_engine(&object, |one| {
        try_on_every_engine(&object, |other| {
            set(one, ".data", "salt", &1_u32.to_le_bytes())?;
            assert_eq!(filter(one)?, mix(digest(7, ROUNDS), 1));
            assert_eq!(filter(other)?, 0x8789_1703);
            Ok(())
        })
    })
}

#[test]
fn equal_runs_execute_equally_many_instructions() -> TestResult {
    on_fixture(|vm| {
        let first = vm.run("filter", Packet::new([0; 60]))?;
        assert_eq!(vm.run("filter", Packet::new([0; 60]))?, first);
        Ok(())
    })
}
