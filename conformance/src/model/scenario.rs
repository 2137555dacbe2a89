//! Holds engines against the model on generated scenarios: every run's whole outcome, and what is in the maps after it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use softbpf::asm::{Insn, R0, R1, R2, R3, R4, R10};
use softbpf::codec::Code;
use softbpf::context::{Bytes, Context, Packet};
use softbpf::engine::Engine;
use softbpf::insn::{Imm64, Size};
use softbpf::map_spec::{MapSpec, MapType, map_flags};
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::world::{Gid, Pid, Task, Tgid, Uid};
use softbpf::{Config, Machine, Object, Outcome};

use super::helpers::{FOR_EACH_MAP_ELEM, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM};
use super::maps::Kind;
use super::setup::deep;
use super::{Contents, FirstDifference, MapSetup, Model, Observed, Setup, World};
use crate::MakeEngine;
use crate::generator::scenario::{Input, PROGRAMS, Scenario, layout};
use crate::reusable::Reusable;

/// An error of whatever kind.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// The task that programs run in.
const TGID: u32 = 1001;
const PID: u32 = 1002;
const UID: u32 = 1003;
const GID: u32 = 1004;
const NAME: &str = "generated";

/// What can be seen after a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the run came to.
    pub observed: Observed,
    /// What is in the maps.
    pub maps: Vec<Contents>,
}

/// Where machines put things, by map definitions and length of the packet: found out once for all scenarios alike.
#[derive(Debug, Default)]
pub struct Setups(BTreeMap<(u32, Option<usize>), Setup>);

impl Setups {
    /// What a scenario starts with.
    ///
    /// # Errors
    /// There is no machine for it.
    pub fn of(&mut self, scenario: &Scenario) -> Result<&Setup, AnyError> {
        let packet = match &scenario.input {
            Input::Bytes(_) => None,
            Input::Packet(bytes) => Some(bytes.len()),
        };
        let key = (scenario.layout, packet);
        let setup = match self.0.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(setup(scenario)?),
        };
        match (&scenario.input, &mut setup.context, &mut setup.packet) {
            (Input::Bytes(bytes), Some(region), _) | (Input::Packet(bytes), _, Some(region)) => {
                region.bytes.clone_from(bytes);
            }
            (Input::Bytes(_) | Input::Packet(_), _, _) => {}
        }
        if let Some(array) = setup.maps.get_mut(layout::SLOTS_MAP as usize) {
            array.programs.clone_from(&scenario.slots);
        }
        setup.fuel = scenario.fuel;
        setup.world.cpu = scenario.cpu as usize;
        Ok(setup)
    }
}

/// Asks a machine with the same maps.
fn setup(scenario: &Scenario) -> Result<Setup, AnyError> {
    let program_type = scenario.program_type();
    let program = |name: &str, code| Program::new(ProgramInfo::new(name, program_type), code);
    let hashes = [(PROGRAMS[1], layout::HASH), (PROGRAMS[2], layout::LRU)];
    let mut programs = vec![program(MAIN, deep())?];
    for (name, map) in hashes {
        programs.push(program(name, update_and_look_up(map))?);
    }
    programs.push(program(WALK, walk_and_see())?);
    let specs = layout::maps(scenario.layout);
    let mut vm = Machine::load(&Object::from_programs(programs, specs.clone()))?;
    let mut places = BTreeMap::new();
    for (name, map) in hashes {
        // The second element replaces the first and lies behind it.
        let mut address = || -> Result<u64, AnyError> { Ok(run(&mut vm, name, &scenario.input)?.ret?) };
        let first = address()?;
        places.insert(map, (first, address()? - first));
    }
    let walks = softbpf::helpers::is_implemented(FOR_EACH_MAP_ELEM);
    let walk_key = if walks { Some(run(&mut vm, WALK, &scenario.input)?.ret?) } else { None };
    let no_setup = |error: Box<dyn std::error::Error>| AnyError::from(error.to_string());
    let mut setup = match &scenario.input {
        Input::Bytes(bytes) => Setup::of_machine(&mut vm, program_type, Bytes(bytes)),
        Input::Packet(bytes) => Setup::of_machine(&mut vm, program_type, Packet::new(bytes)),
    }
    .map_err(no_setup)?;
    let main = vm.find_program(MAIN)?;
    let second = vm.imm64(vm.find_program(PROGRAMS[1])?, 0, Imm64::Code(-1)).ok_or("code has no address")?;
    setup.walk_key = walk_key;
    setup.code_stride = second - setup.code;
    setup.names = PROGRAMS.map(str::to_owned).to_vec();
    let pid_tgid = u64::from(TGID) << 32 | u64::from(PID);
    let uid_gid = u64::from(GID) << 32 | u64::from(UID);
    setup.world = World { pid_tgid, uid_gid, name: NAME.into(), ..World::default() };
    for (fd, spec) in (0..).zip(&specs) {
        let handle = vm.imm64(main, 0, Imm64::MapFd(fd)).ok_or("a map has no address")?;
        let cpus = vm.cpus() as usize;
        let array = vm.map(&spec.name)?.map().array_layout();
        let place = array.map(|array| {
            (array.start.into(), u64::from(if array.cpu_stride > 0 { array.cpu_stride } else { array.stride }))
        });
        let (start, stride) = place.or(places.get(&fd).copied()).unwrap_or_default();
        setup.maps.push(MapSetup { start, stride, handle, ..map_setup(spec, cpus) });
    }
    Ok(setup)
}

fn map_setup(spec: &MapSpec, cpus: usize) -> MapSetup {
    let kind = if spec.map_type == MapType::ProgArray {
        Kind::Programs
    } else if [MapType::Array, MapType::PercpuArray].contains(&spec.map_type) {
        Kind::Array
    } else {
        let lru = spec.map_type == MapType::LruHash;
        Kind::Hash { lru, spare: !lru && spec.map_flags & layout::NO_PREALLOC == 0 }
    };
    MapSetup {
        handle: 0,
        kind,
        key_size: spec.key_size as usize,
        value_size: spec.value_size as usize,
        max_entries: spec.max_entries as usize,
        copies: if spec.map_type == MapType::PercpuArray { cpus } else { 1 },
        read_only: spec.map_flags & map_flags::RDONLY_PROG != 0,
        start: 0,
        stride: 0,
        initial: spec.initial_value.as_deref().unwrap_or_default().to_vec(),
        programs: BTreeMap::new(),
    }
}

/// A program that writes the element whose key is all zeros, and returns the address of its value.
fn update_and_look_up(map: i32) -> Code {
    let call = |number| Insn::call(number);
    Code::from(vec![
        Insn::load_map_fd(R1, map),
        Insn::mov(R2, R10),
        Insn::add(R2, -256),
        Insn::mov(R3, R2),
        Insn::mov(R4, 0),
        call(MAP_UPDATE_ELEM),
        Insn::load_map_fd(R1, map),
        Insn::mov(R2, R10),
        Insn::add(R2, -256),
        call(MAP_LOOKUP_ELEM),
        Insn::exit(),
    ])
}

/// Name of the program that walks over an array.
const WALK: &str = "walk";

/// A program that walks over the first element of an array, and returns the address of its key.
fn walk_and_see() -> Code {
    Code::from(vec![
        Insn::load_map_fd(R1, layout::ARRAY),
        // From slot 3 to slot 11.
        Insn::load_function(R2, 8),
        Insn::mov(R3, 0),
        Insn::mov(R4, 0),
        Insn::call(FOR_EACH_MAP_ELEM),
        Insn::load_map_value(R1, layout::OUT, 0),
        Insn::load(Size::DW, R0, R1, 0),
        Insn::exit(),
        Insn::load_map_value(R1, layout::OUT, 0),
        Insn::store(Size::DW, R1, 0, R2),
        Insn::mov(R0, 1),
        Insn::exit(),
    ])
}

fn run(vm: &mut Machine, program: &str, input: &Input) -> Result<Outcome, AnyError> {
    Ok(match input {
        Input::Bytes(bytes) => vm.run(program, Bytes(bytes))?,
        Input::Packet(bytes) => vm.run(program, Packet::new(bytes))?,
    })
}

/// All runs of a scenario on the model.
pub fn on_model(scenario: &Scenario, setup: &Setup) -> Vec<Seen> {
    on_model_with(scenario, setup, |_, _| ())
}

/// The same, with a fault planted: see [`Model::run_with`].
pub fn on_model_with(
    scenario: &Scenario,
    setup: &Setup,
    mut after: impl FnMut(&mut Model<'_>, &super::Executed),
) -> Vec<Seen> {
    let mut model = Model::of_programs(&scenario.programs, setup);
    let mut seen = Vec::new();
    for index in 0..scenario.runs {
        if index > 0 {
            model.start();
        }
        let observed = model.run_with(&mut after);
        seen.push(Seen { observed, maps: model.contents() });
    }
    seen
}

/// A machine for a scenario.
///
/// # Errors
/// The object does not load.
pub fn machine(scenario: &Scenario, engine: impl FnOnce() -> Box<dyn Engine>) -> Result<Machine, AnyError> {
    let config = Config { engine: engine(), ..Config::default() };
    let mut vm = Machine::with_config(&scenario.object()?, config)?;
    prepare(&mut vm, scenario);
    Ok(vm)
}

/// Sets what a scenario sets of a machine.
fn prepare(vm: &mut Machine, scenario: &Scenario) {
    vm.fuel = scenario.fuel;
    vm.world.cpu = scenario.cpu;
    // Engines do without calls that are only counted.
    vm.keep_calls(if scenario.cpu.is_multiple_of(2) { 0 } else { 3 });
    vm.world.task = Task { uid: Uid(UID), gid: Gid(GID), ..Task::new(NAME, Tgid(TGID), Pid(PID)) };
}

/// What can be seen of a run on an engine.
pub type Got = (Outcome, Vec<Contents>);

/// All runs of a scenario on a machine.
///
/// # Errors
/// The scenario does not load or run.
pub fn on_machine(scenario: &Scenario, machine: &mut Reusable) -> Result<Vec<Got>, AnyError> {
    runs(scenario, machine.load(&scenario.object()?)?)
}

/// All runs of a scenario on the machine that was made for it, which is as new.
///
/// # Errors
/// The scenario does not run.
pub fn runs(scenario: &Scenario, vm: &mut Machine) -> Result<Vec<Got>, AnyError> {
    prepare(vm, scenario);
    (0..scenario.runs).map(|_| Ok((run(vm, MAIN, &scenario.input)?, contents(vm)?))).collect()
}

fn contents(vm: &mut Machine) -> Result<Vec<Contents>, AnyError> {
    let names: Vec<_> = vm.map_names().cloned().collect();
    let contents = |name: &Arc<str>| {
        let map = vm.map(name)?;
        let elements = map.map().map_type() != MapType::ProgArray;
        Ok(if elements { map.entries_bytes()? } else { Vec::new() })
    };
    names.iter().map(contents).collect()
}

/// An engine that did something else than the model, or than the first engine.
#[derive(Debug)]
pub struct Difference {
    /// The programs, maps and input.
    scenario: String,
    /// What differs, a line a thing.
    what: Vec<String>,
    /// Number of the run and the first instruction that made the difference, if any did.
    first: Option<(usize, FirstDifference)>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.scenario, self.what.join("\n"))?;
        match &self.first {
            Some((run, first)) => write!(f, "run {run}: {first}"),
            None => writeln!(f, "the registers never differ"),
        }
    }
}

/// Runs a scenario on all these machines and compares each with the model, and each with the first; `None` when there is
/// no difference. What the model has seen is given back for statistics.
///
/// # Errors
/// The scenario cannot be run.
pub fn compare(
    scenario: &Scenario,
    setup: &Setup,
    machines: &mut [Reusable],
) -> Result<(Vec<Seen>, Option<Box<Difference>>), AnyError> {
    let expected = on_model(scenario, setup);
    let object = scenario.object()?;
    let mut first: Option<Vec<Got>> = None;
    for (number, machine) in machines.iter_mut().enumerate() {
        let got = runs(scenario, machine.load(&object)?)?;
        let name = format!("engine {number}");
        let mut what = Vec::new();
        for (run, ((outcome, maps), expected)) in got.iter().zip(&expected).enumerate() {
            let observed = Observed::from(outcome);
            if observed != expected.observed {
                what.push(format!(
                    "run {run} on {name}: {observed:x?}\nrun {run} on the model: {:x?}",
                    expected.observed
                ));
            }
            for (map, (got, expected)) in maps.iter().zip(&expected.maps).enumerate() {
                if got != expected {
                    what.push(format!("run {run}, map {map} on {name}: {got:x?}\non the model: {expected:x?}"));
                }
            }
        }
        if let Some(first) = &first
            && *first != got
        {
            what.push(format!("{name} and the first engine: {got:x?}\n{first:x?}"));
        }
        if !what.is_empty() {
            let scenario_text = scenario.to_string();
            let first = first_difference(scenario, setup, machine.engine());
            return Ok((expected, Some(Box::new(Difference { scenario: scenario_text, what, first }))));
        }
        first.get_or_insert(got);
    }
    Ok((expected, None))
}

/// A step of a run: program, slot, registers.
type Step = (usize, usize, [u64; 11]);

/// Steps the model beside traced runs.
fn first_difference(scenario: &Scenario, setup: &Setup, engine: MakeEngine) -> Option<(usize, FirstDifference)> {
    let mut vm = machine(scenario, engine).ok()?;
    let mut model = Model::of_programs(&scenario.programs, setup);
    for run in 0..scenario.runs {
        let steps = match &scenario.input {
            Input::Bytes(bytes) => steps(&mut vm, Bytes(bytes)),
            Input::Packet(bytes) => steps(&mut vm, Packet::new(bytes)),
        };
        model.start();
        for executed in 0.. {
            let (slot, insn) = model.next()?;
            let (before, insn) = (model.registers, *insn);
            let ended = model.step().is_some();
            let state = |model: &Model<'_>| Some((model.program(), model.next()?.0, model.registers));
            let model_after: Option<Step> = if ended { None } else { state(&model) };
            let engine_after = steps.get(executed + 1).copied();
            if model_after != engine_after {
                let place = |(_, slot, registers): Step| (slot, registers);
                let (engine_after, model_after) = (engine_after.map(place), model_after.map(place));
                return Some((run, FirstDifference { executed, slot, insn, before, engine_after, model_after }));
            }
            if ended {
                break;
            }
        }
    }
    None
}

fn steps(vm: &mut Machine, context: impl Context) -> Vec<Step> {
    let mut steps = Vec::new();
    // What went wrong shows as steps that are missing.
    let _ = vm.trace(MAIN, context, |step| {
        steps.push((step.program.index(), step.slot, step.registers.first_chunk().copied().unwrap_or_default()));
    });
    steps
}
