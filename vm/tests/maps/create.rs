//! Which definitions make a map, and why others do not.

use std::time::{Duration, Instant};

use softbpf::errno::Errno;
use softbpf::map_spec::MapSpec;
use softbpf::map_spec::MapType::{self, *};
use softbpf::maps::{Map, MapErrorKind};
use softbpf::memory::{Memory, ObjectKind};

/// A definition that works, for each type.
const GOOD: [(MapType, u32, u32, u32); 10] = [
    (Hash, 4, 8, 10),
    (Array, 4, 8, 10),
    (ProgArray, 4, 4, 10),
    (PerfEventArray, 4, 4, 10),
    (PercpuHash, 4, 8, 10),
    (PercpuArray, 4, 8, 10),
    (StackTrace, 4, 64, 10),
    (LruHash, 4, 8, 10),
    (LruPercpuHash, 4, 8, 10),
    (Ringbuf, 0, 0, 4096),
];

fn create(spec: &MapSpec) -> Result<Map, MapErrorKind> {
    let mut memory = Memory::new().expect("memory");
    Map::create(spec, &mut memory, 2).map_err(|error| error.kind)
}

fn errno(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32, flags: u32) -> Option<Errno> {
    let mut spec = MapSpec::new("m", map_type, key_size, value_size, max_entries);
    spec.map_flags = flags;
    create(&spec).err().map(|kind| kind.errno())
}

#[test]
fn good_definitions_make_maps() {
    for (map_type, key_size, value_size, max_entries) in GOOD {
        let map = create(&MapSpec::new("m", map_type, key_size, value_size, max_entries)).expect("map");
        assert_eq!(
            (map.map_type(), map.key_size(), map.value_size(), map.max_entries()),
            (map_type, key_size, value_size, max_entries)
        );
    }
}

#[test]
fn sizes_are_checked_as_the_kernel_does() {
    let (einval, e2big) = (Some(Errno::EINVAL), Some(Errno::E2BIG));
    let cases = [
        // No entries, no key, a key of 8 bytes, no value, a value of 12 bytes.
        (Hash, [einval, einval, None, einval, None]),
        (Array, [einval, einval, einval, einval, None]),
        (ProgArray, [einval, einval, einval, einval, einval]),
        (PerfEventArray, [None, einval, einval, einval, einval]),
        (PercpuHash, [einval, einval, None, einval, None]),
        (PercpuArray, [einval, einval, einval, einval, None]),
        (StackTrace, [einval, einval, einval, einval, einval]),
        (LruHash, [einval, einval, None, einval, None]),
        (LruPercpuHash, [einval, einval, None, einval, None]),
        (Ringbuf, [einval, None, einval, None, einval]),
    ];
    for ((map_type, expected), (_, key, value, entries)) in cases.into_iter().zip(GOOD) {
        let got = [
            errno(map_type, key, value, 0, 0),
            errno(map_type, 0, value, entries, 0),
            errno(map_type, 8, value, entries, 0),
            errno(map_type, key, 0, entries, 0),
            errno(map_type, key, 12, entries, 0),
        ];
        assert_eq!(got, expected, "{map_type}");
    }
    let cases = [
        (Hash, 513, 8, 1, None),
        (Hash, 4, 4_193_704, 1, None),
        (Hash, 4, 4_194_254, 1, e2big),
        (Hash, 4, u32::MAX, 1, e2big),
        (Hash, u32::MAX, 8, 1, e2big),
        (Hash, u32::MAX, u32::MAX, u32::MAX, e2big),
        (Hash, 4, 8, 1 << 27, None),
        (Hash, 4, 8, (1 << 27) + 1, e2big),
        (Hash, 4, 8, u32::MAX, e2big),
        (LruHash, 4, 8, u32::MAX, e2big),
        (PercpuHash, 4, 32_768, 1, None),
        (PercpuHash, 4, 32_769, 1, e2big),
        (LruPercpuHash, 4, 32_769, 1, e2big),
        (PercpuArray, 4, 32_768, 1, None),
        (PercpuArray, 4, 32_769, 1, e2big),
        (PercpuArray, 4, 8, u32::MAX, Some(Errno::ENOMEM)),
        (Array, 4, 1 << 31, 1, e2big),
        (Array, 4, u32::MAX, u32::MAX, e2big),
        (Array, 4, i32::MAX as u32, 2, Some(Errno::ENOMEM)),
        (Array, 4, 8, u32::MAX, Some(Errno::ENOMEM)),
        (StackTrace, 4, 1016, 4, None),
        (StackTrace, 4, 1024, 4, einval),
        (StackTrace, 4, u32::MAX, 4, einval),
        (StackTrace, 4, 8, (1 << 31) + 1, e2big),
        (ProgArray, 4, 4, u32::MAX, None),
        (PerfEventArray, 4, 4, u32::MAX, None),
        (Ringbuf, 0, 0, u32::MAX, einval),
        (Ringbuf, 0, 0, 1 << 31, Some(Errno::ENOMEM)),
    ];
    for (map_type, key, value, entries, expected) in cases {
        assert_eq!(errno(map_type, key, value, entries, 0), expected, "{map_type} {key} {value} {entries}");
    }
    assert_eq!(errno(StackTrace, 4, 32 * 127, 4, 1 << 5), None);
    assert_eq!(errno(StackTrace, 4, 40, 4, 1 << 5), einval);
    assert_eq!(errno(StackTrace, 4, 32 * 128, 4, 1 << 5), einval);
}

#[test]
fn each_type_takes_the_flags_that_the_kernel_takes() {
    let accepted: [&[u32]; 10] = [
        &[0, 2, 3, 4, 6, 7, 8],
        &[2, 3, 4, 7, 8, 10, 12],
        &[2, 3, 4],
        &[2, 3, 4, 11],
        &[0, 3, 4, 6, 7, 8],
        &[3, 4, 7, 8],
        &[2, 3, 4, 5],
        &[1, 2, 3, 4, 6, 7, 8],
        &[1, 3, 4, 6, 7, 8],
        &[2],
    ];
    for ((map_type, key, value, entries), accepted) in GOOD.into_iter().zip(accepted) {
        for bit in 0..32 {
            let lru = matches!(map_type, LruHash | LruPercpuHash);
            let expected = match bit {
                _ if accepted.contains(&bit) => None,
                0 if lru => Some(Errno::ENOTSUPP),
                _ => Some(Errno::EINVAL),
            };
            assert_eq!(errno(map_type, key, value, entries, 1 << bit), expected, "{map_type}, flag bit {bit}");
        }
        for both in [1 << 3 | 1 << 4, 1 << 7 | 1 << 8] {
            assert_eq!(errno(map_type, key, value, entries, both), Some(Errno::EINVAL), "{map_type} {both:#x}");
        }
    }
}

#[test]
fn errors_name_the_map_and_the_rule() {
    let message = |spec: MapSpec| {
        let mut memory = Memory::new().expect("memory");
        Map::create(&spec, &mut memory, 2).expect_err("no map").to_string()
    };
    let cases = [
        (MapSpec::new("a", Array, 8, 8, 1), "map a (array): the key size is 8 bytes, must be 4"),
        (
            MapSpec::new("r", Ringbuf, 0, 0, u32::MAX),
            "map r (ringbuf): max_entries is 4294967295 bytes, must be a power of two and a multiple of 4096",
        ),
        (
            MapSpec::new("h", Hash, 4, 8, 1 << 28),
            "map h (hash): max_entries is 268435456, at most 134217728 are possible",
        ),
        (
            MapSpec { map_flags: 1 << 10, ..MapSpec::new("h", Hash, 4, 8, 1) },
            "map h (hash): map_flags 0x400 are not allowed",
        ),
        (MapSpec { map_extra: 5, ..MapSpec::new("h", Hash, 4, 8, 1) }, "map h (hash): map_extra is 0x5, must be 0"),
        (MapSpec::new("t", LpmTrie, 8, 8, 1), "map t (lpm_trie): map type lpm_trie is not implemented yet"),
        (MapSpec::new("x", Unknown(99), 4, 4, 1), "map x (type 99): unknown map type 99"),
        (
            MapSpec { initial_value: Some([0; 9].into()), ..MapSpec::new(".data", Array, 4, 8, 1) },
            "map .data (array): 9 bytes of initial contents for a value of 8",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(message(spec), expected);
    }
}

#[test]
fn every_type_of_the_kernel_is_a_map_or_an_error() {
    for map_type in MapType::ALL.iter().copied().chain([Unknown(0), Unknown(u32::MAX)]) {
        let implemented = GOOD.iter().any(|(good, ..)| *good == map_type);
        let spec = MapSpec::new("m", map_type, 4, 8, 1);
        let refused =
            matches!(create(&spec).err(), Some(MapErrorKind::NotImplemented { .. } | MapErrorKind::UnknownType { .. }));
        assert_eq!(refused, !implemented, "{map_type}");
    }
}

#[test]
fn sizes_that_libbpf_adjusts_are_adjusted() {
    let ring = create(&MapSpec::new("r", Ringbuf, 0, 0, 5000)).expect("map");
    assert_eq!(ring.max_entries(), 8192);
    let perf = create(&MapSpec::new("p", PerfEventArray, 4, 4, 0)).expect("map");
    assert_eq!(perf.max_entries(), 2);
    let mut memory = Memory::new().expect("memory");
    let spec = MapSpec { map_flags: 1 << 1, ..MapSpec::new("l", LruHash, 4, 8, 3) };
    let mut lru = Map::create(&spec, &mut memory, 2).expect("map");
    for key in 0_u32..9 {
        lru.update(&mut memory, 0, &key.to_le_bytes(), &[0; 8], 0).expect("update");
    }
    assert_eq!(lru.len(), 4);
}

#[test]
fn a_million_entries_cost_nothing_before_they_are_used() {
    let mut memory = Memory::new().expect("memory");
    let specs = [Hash, LruHash, PercpuHash].map(|map_type| MapSpec::new("m", map_type, 16, 64, 1_000_000));
    let start = Instant::now();
    for spec in &specs {
        Map::create(spec, &mut memory, 2).expect("map");
    }
    // Microseconds; the limit is for machines under load.
    assert!(start.elapsed() < Duration::from_millis(50), "{:?}", start.elapsed());
}

#[test]
fn a_map_larger_than_guest_memory_works_until_memory_is_full() {
    let mut memory = Memory::new().expect("memory");
    let spec = MapSpec { map_flags: 1, ..MapSpec::new("m", Hash, 4, 1 << 20, 1 << 27) };
    let mut map = Map::create(&spec, &mut memory, 1).expect("map");
    let value = vec![7; 1 << 20];
    for key in 0_u32..40 {
        map.update(&mut memory, 0, &key.to_le_bytes(), &value, 0).expect("update");
    }
    assert_eq!(map.user_lookup(&memory, &39_u32.to_le_bytes()), Ok(value));

    let left = u32::try_from(memory.left()).expect("32 bits") - 100;
    memory.reserve_elements(ObjectKind::Context, left, 1).expect("address space");
    let mut full = None;
    for key in 40_u32..80 {
        full = full.or(map.update(&mut memory, 0, &key.to_le_bytes(), &[1; 1 << 20], 0).err());
    }
    assert_eq!(full, Some(Errno::ENOMEM));
    assert!(map.lookup(&mut memory, 0, &39_u32.to_le_bytes()).is_some());
}
