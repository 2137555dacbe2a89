//! Running what nobody has vetted: a few maps of every kind to play with, little fuel, any outcome.

use softbpf::context::Bytes;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Config, Machine, Object, Outcome, codec::Code};

/// Instructions that a hostile program gets.
pub const FUEL: u64 = 10_000;

/// Bytes of context that a hostile program gets.
pub const CONTEXT: usize = 64;

/// Maps that hostile programs name by index: one of each kind, all small.
pub fn maps() -> Vec<MapSpec> {
    vec![
        MapSpec::new("array", MapType::Array, 4, 16, 4),
        MapSpec::new("hash", MapType::Hash, 8, 16, 4),
        MapSpec::new("percpu_array", MapType::PercpuArray, 4, 8, 2),
        MapSpec::new("lru", MapType::LruHash, 4, 12, 3),
        MapSpec::new("progs", MapType::ProgArray, 4, 4, 2),
        MapSpec::new("perf", MapType::PerfEventArray, 4, 4, 4),
        MapSpec::new("ring", MapType::Ringbuf, 0, 0, 4096),
        MapSpec::new("stacks", MapType::StackTrace, 4, 80, 16),
    ]
}

/// The bytes as a program over [`maps`]; `None` when they are not one.
pub fn object(bytes: &[u8]) -> Option<Object> {
    let code = Code::decode(bytes).ok()?;
    let program = Program::new(ProgramInfo::new("main", ProgramType::Unspec), code).ok()?;
    Some(Object::from_programs(vec![program], maps()))
}

/// Runs every program of an object once on every engine: the outcomes by engine, then by program.
///
/// Programs that cannot be run (bad context, unlinked) are left out; an object whose maps cannot be made has none.
pub fn run_all(object: &Object) -> Vec<Vec<Outcome>> {
    crate::engines()
        .into_iter()
        .filter_map(|engine| {
            let mut vm = Machine::with_config(object, Config { engine: engine(), ..Config::default() }).ok()?;
            vm.fuel = FUEL;
            let names: Vec<String> = vm.programs().map(|info| info.name.to_string()).collect();
            // A program that has been put into the array tail-calls itself.
            if let Some(first) = names.first() {
                let _ = vm.set_tail_call("progs", 0, first);
            }
            let context = [0x5a; CONTEXT];
            Some(names.iter().filter_map(|name| vm.run(name, Bytes(&context)).ok()).collect())
        })
        .collect()
}
