//! Random calls, against a model and against panics.

use std::collections::HashMap;

use softbpf::errno::Errno;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::maps::Map;
use softbpf::maps::update_flags::{ANY, EXIST, NOEXIST};
use softbpf::memory::Memory;

use super::Fixture;

/// A linear congruential generator; the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.next(items.len() as u64) as usize]
    }
}

/// What an update of a map of 64 entries returns.
fn expected_update(model: &HashMap<u32, u64>, key: u32, flags: u64) -> Result<(), Errno> {
    match (model.contains_key(&key), flags) {
        (true, NOEXIST) => Err(Errno::EEXIST),
        (false, EXIST) => Err(Errno::ENOENT),
        (false, _) if model.len() == 64 => Err(Errno::E2BIG),
        _ => Ok(()),
    }
}

#[test]
fn a_hash_map_matches_a_model() {
    for (map_type, flags) in [(MapType::Hash, 0), (MapType::Hash, 1), (MapType::PercpuHash, 0)] {
        let mut fix = Fixture::with_flags(map_type, 4, 8, 64, flags);
        let mut model = HashMap::new();
        let mut random = Random(7);
        for step in 0..50_000 {
            let (key, value) = (random.next(100) as u32, random.next(1 << 31));
            match random.next(8) {
                0..3 => {
                    let flags = random.pick(&[ANY, ANY, NOEXIST, EXIST]);
                    let expected = expected_update(&model, key, flags);
                    let user = random.next(2) == 0;
                    let done = if user { fix.user_update(key, value, flags) } else { fix.update(key, value, flags) };
                    assert_eq!(done, expected, "step {step}");
                    if done.is_ok() {
                        model.insert(key, value);
                    }
                }
                3..5 => {
                    let expected = model.remove(&key).map(|_| ()).ok_or(Errno::ENOENT);
                    assert_eq!(fix.delete(key), expected, "step {step}");
                }
                5 => fix.end_run(),
                _ => assert_eq!(fix.value(key), model.get(&key).copied(), "step {step}"),
            }
        }
        let walked: HashMap<u32, u64> =
            fix.walk().into_iter().map(|key| (key, fix.value(key).expect("element"))).collect();
        assert_eq!((walked, fix.map.len()), (model.clone(), model.len()));
    }
}

#[test]
fn a_hash_map_grows_over_many_elements() {
    let mut fix = Fixture::with_flags(MapType::Hash, 4, 8, 100_000, 1);
    for key in 0..100_000 {
        fix.insert(key, u64::from(key) * 3);
    }
    assert_eq!(fix.update(100_000, 0, ANY), Err(Errno::E2BIG));
    assert!((0..100_000).all(|key| fix.value(key) == Some(u64::from(key) * 3)));
    assert_eq!(fix.walk().len(), 100_000);
}

/// Whatever the definition and the calls, there is an answer.
#[test]
fn hostile_definitions_and_calls_are_answered() {
    let sizes = [0, 1, 3, 4, 7, 8, 9, 512, 4096, 32_768, 65_536, 1 << 22, 1 << 28, 1 << 31, u32::MAX - 7, u32::MAX];
    let mut random = Random(42);
    let mut made = 0;
    for _ in 0..3000 {
        let mut memory = Memory::new().expect("memory");
        let map_type = random.pick(MapType::ALL);
        let key_size = if random.next(2) == 0 { 4 } else { random.pick(&sizes) };
        let mut spec = MapSpec::new("m", map_type, key_size, random.pick(&sizes[..10]), random.pick(&sizes));
        if random.next(4) == 0 {
            spec.map_flags = random.next(1 << 13) as u32;
        }
        let cpus = random.pick(&[0, 1, 2, 1000, u32::MAX]);
        let Ok(mut map) = Map::create(&spec, &mut memory, cpus) else { continue };
        made += 1;
        call_at_random(&mut random, &mut map, &mut memory);
    }
    assert!(made > 100, "{made}");
}

fn call_at_random(random: &mut Random, map: &mut Map, memory: &mut Memory) {
    // Values for a billion CPUs are left to those who have the memory.
    let user_size = usize::try_from(map.user_value_size()).unwrap_or(0).min(1 << 20);
    for _ in 0..20 {
        let key_len = if random.next(8) == 0 { random.next(9) as usize } else { map.key_size().min(1 << 16) as usize };
        let key = vec![random.pick(&[0, 1, 255]); key_len];
        let value = vec![random.next(256) as u8; map.value_size().min(1 << 16) as usize];
        let (cpu, flags) = (random.pick(&[0, 1, u32::MAX]), random.next(5));
        if map.copies() > 1000 {
            break;
        }
        match random.next(9) {
            0 => drop(map.lookup(memory, cpu, &key)),
            1 => drop(map.update(memory, cpu, &key, &value, flags)),
            2 => drop(map.delete(memory, &key)),
            3 => drop(map.user_lookup(memory, &key)),
            4 => drop(map.user_update(memory, &key, &vec![1; user_size], flags)),
            5 => drop(map.user_delete(memory, &key)),
            6 => drop(map.next_key(memory, Some(&key))),
            7 => map.end_run(memory),
            _ => map.reset(memory),
        }
    }
}
