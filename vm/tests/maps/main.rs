//! What maps do, from the program side and from the user side. Error numbers are those that Linux 6.18 gave.

mod create;
mod elements;
mod handle;
mod lru;
mod memory;
mod random;
mod records;
mod stack_trace;

use softbpf::errno::Errno;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::maps::{Map, update_flags};
use softbpf::memory::Memory;

/// A map with its memory, on a machine with two CPUs.
struct Fixture {
    memory: Memory,
    map: Map,
}

const CPUS: u32 = 2;

impl Fixture {
    fn new(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Fixture {
        Fixture::with_flags(map_type, key_size, value_size, max_entries, 0)
    }

    fn with_flags(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32, flags: u32) -> Fixture {
        let mut spec = MapSpec::new("m", map_type, key_size, value_size, max_entries);
        spec.map_flags = flags;
        Fixture::from_spec(&spec)
    }

    fn from_spec(spec: &MapSpec) -> Fixture {
        let mut memory = Memory::new().expect("memory");
        let map = Map::create(spec, &mut memory, CPUS).expect("map");
        Fixture { memory, map }
    }

    /// A program on CPU 0 looks up a key.
    fn lookup(&mut self, key: u32) -> Option<u32> {
        self.lookup_on(0, key)
    }

    fn lookup_on(&mut self, cpu: u32, key: u32) -> Option<u32> {
        self.map.lookup(&mut self.memory, cpu, &key.to_le_bytes())
    }

    /// A program on CPU 0 writes a 64-bit value.
    fn update(&mut self, key: u32, value: u64, flags: u64) -> Result<(), Errno> {
        self.update_on(0, key, value, flags)
    }

    fn update_on(&mut self, cpu: u32, key: u32, value: u64, flags: u64) -> Result<(), Errno> {
        self.map.update(&mut self.memory, cpu, &key.to_le_bytes(), &value.to_le_bytes(), flags)
    }

    fn insert(&mut self, key: u32, value: u64) {
        self.update(key, value, update_flags::ANY).expect("update");
    }

    fn delete(&mut self, key: u32) -> Result<(), Errno> {
        self.map.delete(&mut self.memory, &key.to_le_bytes())
    }

    fn end_run(&mut self) {
        self.map.end_run(&mut self.memory);
    }

    /// What a program reads at an address; `None` for a fault.
    fn read(&self, address: u32) -> Option<u64> {
        let bytes = self.memory.read(address.into(), 8).ok()?;
        bytes.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// The value that a program on CPU 0 finds.
    fn value(&mut self, key: u32) -> Option<u64> {
        let address = self.lookup(key)?;
        self.read(address)
    }

    /// User space writes a value, the same on each CPU.
    fn user_update(&mut self, key: u32, value: u64, flags: u64) -> Result<(), Errno> {
        let value = value.to_le_bytes().repeat(self.map.copies() as usize);
        self.map.user_update(&mut self.memory, &key.to_le_bytes(), &value, flags)
    }

    fn user_lookup(&self, key: u32) -> Result<Vec<u8>, Errno> {
        self.map.user_lookup(&self.memory, &key.to_le_bytes())
    }

    fn user_delete(&mut self, key: u32) -> Result<(), Errno> {
        self.map.user_delete(&mut self.memory, &key.to_le_bytes())
    }

    /// All keys as `BPF_MAP_GET_NEXT_KEY` gives them.
    fn walk(&self) -> Vec<u32> {
        let mut keys = Vec::new();
        let mut key = None;
        while let Ok(next) = self.map.next_key(&self.memory, key.as_deref()) {
            keys.push(u32::from_le_bytes(next.as_slice().try_into().expect("4 bytes")));
            key = Some(next);
        }
        keys
    }
}
