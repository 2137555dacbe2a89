//! Running what nobody has vetted: a few maps of every kind to play with, little fuel, any outcome.

use std::cell::RefCell;

use softbpf::context::Bytes;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::maps::MapHandle;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object, Outcome, codec::Code};

use crate::model::Contents;
use crate::reusable::Reusable;

/// Instructions that a hostile program gets.
pub const FUEL: u64 = 10_000;

/// Bytes of context that a hostile program gets.
pub const CONTEXT: usize = 64;

/// The context that a hostile program gets.
pub const INPUT: [u8; CONTEXT] = [0x5a; CONTEXT];

/// Elements of a map that are looked at in the end, if they have no more bytes together than there may be on one CPU.
const ELEMENTS: usize = 64;
const ELEMENT_BYTES: usize = 1 << 20;

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
        MapSpec::new("percpu_hash", MapType::PercpuHash, 4, 8, 2),
        MapSpec::new("lru_percpu", MapType::LruPercpuHash, 4, 8, 2),
        MapSpec::new("value", MapType::Array, 4, 64, 1),
    ]
}

/// The bytes as a program over [`maps`]; `None` when they are not one.
pub fn object(bytes: &[u8]) -> Option<Object> {
    object_of(Code::decode(bytes).ok()?)
}

/// Instructions as a program over [`maps`]; `None` when they are not one.
pub fn object_of(code: Code) -> Option<Object> {
    let program = Program::new(ProgramInfo::new("main", ProgramType::Unspec), code).ok()?;
    Some(Object::from_programs(vec![program], maps()))
}

/// What an engine made of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What its programs came to, in their order.
    pub outcomes: Vec<Outcome>,
    /// The first elements of each map that has any to read, afterwards.
    pub maps: Vec<Contents>,
}

thread_local! {
    static MACHINES: RefCell<Vec<Reusable>> = RefCell::new(Reusable::on(crate::engines()));
}

/// Runs every program of an object once on every engine: what each engine made of it.
///
/// Programs that cannot be run (bad context, unlinked) are left out; an object whose maps cannot be made has none.
pub fn run_all(object: &Object) -> Vec<Seen> {
    MACHINES.with_borrow_mut(|machines| run_on(object, machines))
}

/// The same on these machines.
pub fn run_on(object: &Object, machines: &mut [Reusable]) -> Vec<Seen> {
    machines.iter_mut().filter_map(|machine| run_every(object, machine)).collect()
}

/// Runs the first program of an object, which has been loaded, once; `None` when it cannot be run (bad context, unlinked).
pub fn run(vm: &mut Machine, context: &[u8]) -> Option<Outcome> {
    vm.fuel = FUEL;
    let first = prepare(vm)?;
    vm.run(&first, Bytes(context)).ok()
}

/// Puts the first program into the array of programs, so that it tail-calls itself; its name.
fn prepare(vm: &mut Machine) -> Option<String> {
    let first = vm.programs().next()?.name.to_string();
    let _ = vm.set_tail_call("progs", 0, &first);
    Some(first)
}

fn run_every(object: &Object, machine: &mut Reusable) -> Option<Seen> {
    let vm = machine.load(object).ok()?;
    vm.fuel = FUEL;
    let names: Vec<String> = vm.programs().map(|info| info.name.to_string()).collect();
    prepare(vm);
    let outcomes = names.iter().filter_map(|name| vm.run(name, Bytes(&INPUT)).ok()).collect();
    Some(Seen { outcomes, maps: contents(vm) })
}

fn contents(vm: &mut Machine) -> Vec<Contents> {
    let names: Vec<_> = vm.map_names().cloned().collect();
    let mut contents = Vec::new();
    for name in &names {
        let elements = |map: MapHandle<'_>| {
            let most = ELEMENT_BYTES / (map.map().value_size() as usize).max(1);
            Some(map.iter().ok()?.take(ELEMENTS.min(most)).collect())
        };
        contents.push(vm.map(name).ok().and_then(elements).unwrap_or_default());
    }
    contents
}

/// Runs every program of an object on every engine.
///
/// # Panics
/// Engines disagree.
#[track_caller]
pub fn assert_agreement(object: &Object) {
    for pair in run_all(object).windows(2) {
        assert_eq!(pair[0], pair[1], "engines disagree");
    }
}
