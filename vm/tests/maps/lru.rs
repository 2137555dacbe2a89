//! LRU maps: which element goes when there is no room.

use std::collections::VecDeque;

use softbpf::map_spec::MapType::{LruHash, LruPercpuHash};

use super::Fixture;

#[test]
fn the_element_used_the_longest_ago_is_evicted() {
    for map_type in [LruHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 3);
        for key in [1, 2, 3] {
            fix.insert(key, key.into());
        }
        assert_eq!(fix.value(1), Some(1));
        fix.insert(4, 4);
        assert_eq!(fix.walk(), [1, 3, 4], "2 was used before 3, and 1 was looked up");
        fix.insert(3, 33);
        fix.insert(5, 5);
        assert_eq!(fix.walk(), [3, 4, 5], "an update is a use");
        fix.user_lookup(4).expect("value");
        fix.insert(6, 6);
        assert_eq!(fix.walk(), [3, 5, 6], "a look from user space is none");
        assert_eq!(fix.value(3), Some(33));
    }
}

#[test]
fn updating_an_element_of_a_full_map_evicts_nothing() {
    for map_type in [LruHash, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 8, 2);
        fix.insert(1, 1);
        fix.insert(2, 2);
        for value in 3..20 {
            fix.insert(1, value);
            assert_eq!((fix.value(1), fix.value(2)), (Some(value), Some(2)));
        }
    }
}

#[test]
fn the_evicted_element_gives_its_memory_to_the_new_one() {
    let mut fix = Fixture::new(LruHash, 4, 8, 2);
    fix.insert(1, 1);
    fix.insert(2, 2);
    let old = fix.lookup(1).expect("element");
    fix.insert(3, 3);
    fix.insert(4, 4);
    assert_eq!(fix.read(old), Some(4));
    fix.end_run();
    assert_eq!(fix.read(old), Some(4));
}

#[test]
fn order_of_use_matches_a_model() {
    let mut fix = Fixture::new(LruHash, 4, 8, 8);
    let mut model: VecDeque<u32> = VecDeque::new();
    let mut state = 1_u32;
    for _ in 0..20_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (key, write) = (state >> 16 & 15, state >> 30 == 0);
        let known = model.iter().position(|&other| other == key);
        if write {
            fix.insert(key, key.into());
        } else {
            assert_eq!(fix.lookup(key).is_some(), known.is_some());
        }
        if let Some(position) = known {
            model.remove(position);
        }
        if write && known.is_none() && model.len() == 8 {
            model.pop_front();
        }
        if write || known.is_some() {
            model.push_back(key);
        }
        if state >> 20 & 31 == 0 {
            fix.end_run();
        }
    }
    let mut left = fix.walk();
    left.sort_unstable();
    model.make_contiguous().sort_unstable();
    assert_eq!(model, left);
}
