//! The maps of a scenario: always the same eight, in sizes that go by a number, so that what depends on their addresses
//! can be kept from one scenario to the next.

use softbpf::map_spec::{MapSpec, MapType, map_flags};

use crate::rng::Rng;

/// Numbers are below this.
pub const COUNT: u32 = 24;

/// Where programs write their registers when they end: an array of one value of [`OUT_BYTES`].
pub const OUT: i32 = 0;
/// An array of one value, with initial contents.
pub const DATA: i32 = 1;
/// The same, which programs may only read.
pub const RODATA: i32 = 2;
/// An array.
pub const ARRAY: i32 = 3;
/// An array with a value for each CPU.
pub const PERCPU: i32 = 4;
/// A hash.
pub const HASH: i32 = 5;
/// A hash that forgets.
pub const LRU: i32 = 6;
/// An array of programs with [`SLOTS`] slots.
pub const SLOTS_MAP: i32 = 7;

/// Bytes of the value of [`OUT`].
pub const OUT_BYTES: u32 = 192;

/// Bytes of it that programs write when they end. The others they write before, so that nothing is lost.
pub const SHOWN: u32 = 136;

/// Slots of the array of programs.
pub const SLOTS: u32 = 6;

/// `BPF_F_NO_PREALLOC`.
pub const NO_PREALLOC: u32 = 1;

/// The maps with this number.
pub fn maps(number: u32) -> Vec<MapSpec> {
    let mut rng = Rng::new(number.into());
    let mut value = || rng.pick(&[1, 2, 3, 4, 5, 8, 12, 16, 20, 24, 33, 64]);
    let values = [(); 6].map(|()| value());
    let mut key = || rng.pick(&[1, 2, 3, 4, 5, 8, 12, 16]);
    let keys = [(); 2].map(|()| key());
    let mut entries = || 1 + rng.below(4) as u32;
    let entries = [(); 4].map(|()| entries());
    let flags = if rng.one_in(2) { NO_PREALLOC } else { 0 };
    let bytes = |size: u32, rng: &mut Rng| -> Vec<u8> { (0..size).map(|_| rng.next_u64() as u8).collect() };
    let mut data = MapSpec::new("data", MapType::Array, 4, values[0] * 2, 1);
    data.initial_value = Some(bytes(data.value_size, &mut rng).into());
    let mut rodata = MapSpec::new("rodata", MapType::Array, 4, values[1] * 2, 1);
    rodata.initial_value = Some(bytes(rodata.value_size, &mut rng).into());
    rodata.map_flags = map_flags::RDONLY_PROG;
    let mut hash = MapSpec::new("hash", MapType::Hash, keys[0], values[2], entries[0]);
    hash.map_flags = flags;
    vec![
        MapSpec::new("out", MapType::Array, 4, OUT_BYTES, 1),
        data,
        rodata,
        MapSpec::new("array", MapType::Array, 4, values[3], entries[1]),
        MapSpec::new("percpu", MapType::PercpuArray, 4, values[4], entries[2]),
        hash,
        MapSpec::new("lru", MapType::LruHash, keys[1], values[5], entries[3]),
        MapSpec::new("programs", MapType::ProgArray, 4, 4, SLOTS),
    ]
}
