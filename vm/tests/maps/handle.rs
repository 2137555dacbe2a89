//! Typed access from the user side.

use softbpf::errno::Errno;
use softbpf::map_spec::MapType::*;
use softbpf::maps::{MapAccessError, MapHandle, MapOperation, PerfSample, update_flags};

use super::Fixture;

impl Fixture {
    fn handle(&mut self) -> MapHandle<'_> {
        MapHandle::new(&mut self.map, &mut self.memory)
    }
}

#[test]
fn typed_keys_and_values_go_in_and_out() {
    let mut fix = Fixture::new(Hash, 8, 12, 4);
    let mut map = fix.handle();
    assert!(map.is_empty());
    map.insert(&7_u64, &[1_u32, 2, 3]).expect("insert");
    map.insert(&5_u64, &[4_u32, 5, 6]).expect("insert");
    assert_eq!(map.get::<u64, [u32; 3]>(&7), Ok(Some([1, 2, 3])));
    assert_eq!(map.get::<u64, [u32; 3]>(&8), Ok(None));
    assert_eq!((map.contains(&5_u64), map.contains(&6_u64)), (Ok(true), Ok(false)));
    assert_eq!(map.entries::<u64, [u32; 3]>(), Ok(vec![(7, [1, 2, 3]), (5, [4, 5, 6])]));
    assert_eq!((map.remove(&7_u64), map.remove(&7_u64), map.len()), (Ok(true), Ok(false), 1));
    map.clear().expect("clear");
    assert!(map.is_empty());
}

#[test]
fn errors_name_the_map_and_the_sizes() {
    let mut fix = Fixture::new(Hash, 8, 16, 4);
    let mut map = fix.handle();
    let message = |error: Result<_, MapAccessError>| error.map(|_: ()| ()).expect_err("error").to_string();
    assert_eq!(message(map.insert(&7_u32, &0_u128)), "keys of map m have 8 bytes, not 4");
    assert_eq!(message(map.insert(&7_u64, &0_u64)), "values of map m have 16 bytes, not 8");
    assert_eq!(message(map.get::<u64, u32>(&7).map(drop)), "values of map m have 16 bytes, not 4");
    assert_eq!(message(map.entries::<u32, u128>().map(drop)), "keys of map m have 8 bytes, not 4");
    assert_eq!(message(map.get_percpu::<u64, u64>(&7).map(drop)), "map m (hash) is not a per-CPU map");
    assert_eq!(message(map.drain_records().map(drop)), "map m is a hash, not a ringbuf");
    assert_eq!(message(map.drain_samples().map(drop)), "map m is a hash, not a perf_event_array");
    let exists = map.insert_bytes(&[0; 8], &[0; 16], update_flags::EXIST).expect_err("no such key");
    let refused = MapAccessError::Refused { map: "m".into(), operation: MapOperation::Update, errno: Errno::ENOENT };
    assert_eq!((exists.errno(), exists.to_string()), (Errno::ENOENT, "update in map m: -ENOENT".into()));
    assert_eq!(exists, refused);
    let mut array = Fixture::new(Array, 4, 8, 1);
    assert_eq!(array.handle().remove(&0_u32).map_err(|error| error.errno()), Err(Errno::EINVAL));
}

#[test]
fn per_cpu_values_are_one_for_each_cpu() {
    for map_type in [PercpuHash, PercpuArray, LruPercpuHash] {
        let mut fix = Fixture::new(map_type, 4, 4, 4);
        let mut map = fix.handle();
        map.insert_percpu(&1_u32, &[5_u32, 6]).expect("insert");
        assert_eq!(map.get_percpu::<u32, u32>(&1), Ok(Some(vec![5, 6])));
        assert_eq!(map.get::<u32, [u32; 4]>(&1), Ok(Some([5, 0, 6, 0])));
        let error = map.insert_percpu(&1_u32, &[5_u32]).expect_err("too few");
        assert_eq!(error.to_string(), "values of map m have 2 copies, one for each CPU, not 1");
        assert!(map.insert_percpu(&1_u32, &[5_u64, 6]).is_err());
    }
}

#[test]
fn bytes_go_in_and_out() {
    let mut fix = Fixture::new(Hash, 3, 5, 4);
    let mut map = fix.handle();
    map.insert_bytes(b"abc", b"12345", update_flags::NOEXIST).expect("insert");
    map.insert_bytes(b"xyz", b"67890", update_flags::ANY).expect("insert");
    assert_eq!(map.get_bytes(b"abc"), Ok(Some(b"12345".to_vec())));
    assert_eq!(map.next_key(None), Ok(Some(b"abc".to_vec())));
    assert_eq!(map.next_key(Some(b"xyz")), Ok(None));
    let entry = |key: &[u8], value: &[u8]| (key.to_vec(), value.to_vec());
    assert_eq!(map.entries_bytes(), Ok(vec![entry(b"abc", b"12345"), entry(b"xyz", b"67890")]));
    assert_eq!(map.remove_bytes(b"abc"), Ok(true));
    assert!(map.get_bytes(b"ab").is_err() && map.remove_bytes(b"abcd").is_err() && map.next_key(Some(b"")).is_err());
}

/// All elements would be 50 GB of keys and values, the slots of the program array 100 GB.
#[test]
fn huge_maps_are_read_one_by_one() -> Result<(), MapAccessError> {
    let mut fix = Fixture::new(Array, 4, 8, 1 << 27);
    fix.user_update(1, 5, 0).expect("update");
    let entry = |key: u32, value: u64| (key.to_le_bytes().to_vec(), value.to_le_bytes().to_vec());
    assert!(fix.handle().iter()?.take(3).eq([entry(0, 0), entry(1, 5), entry(2, 0)]));
    assert_eq!((fix.map.keys(&fix.memory).nth(2), fix.map.len()), (Some(vec![2, 0, 0, 0]), 1 << 27));
    let mut programs = Fixture::new(ProgArray, 4, 4, u32::MAX);
    programs.handle().insert(&0xffff_fff0_u32, &1_u32)?;
    assert_eq!(programs.handle().entries::<u32, u32>()?, [(0xffff_fff0, 1)]);
    Ok(())
}

#[test]
fn maps_that_user_space_cannot_read_say_so() {
    let mut fix = Fixture::with_flags(Hash, 4, 8, 4, 1 << 4);
    let mut map = fix.handle();
    map.insert(&1_u32, &2_u64).expect("insert");
    assert_eq!(map.get::<u32, u64>(&1).map_err(|error| error.errno()), Err(Errno::EPERM));
    assert_eq!(map.entries::<u32, u64>().map_err(|error| error.errno()), Err(Errno::EPERM));
    let mut fix = Fixture::with_flags(Hash, 4, 8, 4, 1 << 3);
    assert_eq!(fix.handle().clear().map_err(|error| error.errno()), Err(Errno::EPERM));
}

#[test]
fn records_and_samples_are_taken() {
    let mut fix = Fixture::new(Ringbuf, 0, 0, 4096);
    let Fixture { map, memory } = &mut fix;
    map.ringbuf().expect("ringbuf").output(memory, b"abc", 0).expect("output");
    assert_eq!(fix.handle().drain_records(), Ok(vec![b"abc".to_vec()]));
    let mut fix = Fixture::new(PerfEventArray, 4, 4, 2);
    fix.map.perf_event_array().expect("perf_event_array").output(1, 1, b"abc").expect("output");
    assert_eq!(fix.handle().drain_samples(), Ok(vec![PerfSample { cpu: 1, data: b"abc".to_vec() }]));
}
