//! A machine: guest memory, live maps, the world, helpers with their mocks, and an engine that runs programs on them.
//!
//! Made from an [`Object`]; nothing flows back. It does not know which engine it has, nor how an engine works.

mod error;
mod guest;
mod reset;
mod run;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::{LoadError, NoSuchMap, RunError, TailCallError};
pub use run::Repeated;

use crate::context::Placed;
use crate::engine::{Engine, ProgramId};
use crate::helpers::{Calls, HelperRef, Helpers, IntoReturn, UnknownHelper, call::Call};
use crate::interp::Interpreter;
use crate::map_spec::{InitialSlot, MapType};
use crate::maps::{Map, MapAccessError, MapHandle};
use crate::memory::{Memory, MemoryError, ObjectKind, Permission};
use crate::object::Object;
use crate::outcome::Event;
use crate::program::{Program, ProgramError, ProgramInfo};
use crate::world::World;

/// Tail calls that a run may make: the kernel's `MAX_TAIL_CALL_CNT`.
pub const MAX_TAIL_CALLS: u32 = 33;

/// Instructions that a run may execute unless [`Machine::fuel`] says otherwise.
pub const DEFAULT_FUEL: u64 = 100_000_000;

/// CPUs that a machine has unless [`Config::cpus`] says otherwise.
pub const DEFAULT_CPUS: u32 = 4;

/// Most bytes that helpers read and write for one run: helpers that move large values cost more than the instruction
/// that calls them, and no run may go on for ever. The first [`FREE_HELPER_BYTES`] of each argument do not count.
pub const MAX_HELPER_BYTES: u64 = 1 << 32;

/// Bytes of each memory argument of a helper that the instruction pays for: keys and small values cost no more.
pub const FREE_HELPER_BYTES: u64 = 64;

/// Most bytes of `bpf_trace_printk` lines that one run keeps; further lines are dropped.
pub(crate) const MAX_PRINTK_BYTES: usize = 1 << 20;

/// Most CPUs of a machine: as many as per-CPU maps can serve in the arena.
pub const MAX_CPUS: u32 = 1024;

/// Most bytes of samples and records that one [`crate::Outcome`] keeps; further ones are in the buffers of their maps only.
pub const MAX_EVENT_BYTES: usize = 64 << 20;

/// How to make a machine.
#[derive(Debug)]
pub struct Config {
    /// Number of possible CPUs, at least 1: how many copies per-CPU maps have.
    pub cpus: u32,
    /// Make reads of stack and record bytes that were never written a trap.
    pub track_uninitialised: bool,
    /// What runs the programs.
    pub engine: Box<dyn Engine>,
}

impl Default for Config {
    fn default() -> Self {
        Config { cpus: DEFAULT_CPUS, track_uninitialised: false, engine: Box::new(Interpreter::new()) }
    }
}

/// A program of the object, as far as it can be run.
#[derive(Debug, Clone)]
struct Loaded {
    info: ProgramInfo,
    program: Result<Arc<Program>, ProgramError>,
}

fn load_programs(object: &Object) -> Vec<Loaded> {
    let load = |(index, info): (usize, &ProgramInfo)| {
        let program = object
            .program_at(index)
            .unwrap_or_else(|| Err(ProgramError::NotFound { name: info.name.to_string() }))
            .map(Arc::new);
        Loaded { info: info.clone(), program }
    };
    object.programs().enumerate().map(load).collect()
}

/// A number that this process has not used yet; never 0.
fn next_load_id() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Names of programs in order, each once: the first program of that name.
fn names(programs: &[Loaded]) -> Vec<(Arc<str>, ProgramId)> {
    let programs = programs.iter().enumerate();
    let mut names: Vec<_> =
        programs.map(|(index, loaded)| (loaded.info.name.clone(), ProgramId(index as u32))).collect();
    names.sort();
    names.dedup_by(|(name, _), (first, _)| name == first);
    names
}

/// A software machine that runs BPF programs.
///
/// ```
/// use softbpf::{Machine, Object, context::Bytes, program_type::ProgramType};
///
/// let object = Object::from_text("r0 = *(u32 *)(r1 + 0)\n r0 += 1\n exit", ProgramType::SocketFilter)?;
/// let mut vm = Machine::load(&object)?;
/// let outcome = vm.run("main", Bytes(&41_u32.to_le_bytes()))?;
/// assert_eq!(outcome.ret, Ok(42));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Machine {
    /// Guest memory.
    pub memory: Memory,
    /// What helpers ask of the outside: time, randomness, the current task and CPU.
    pub world: World,
    /// Most instructions of one run.
    pub fuel: u64,
    maps: Vec<Map>,
    /// Which of them runs may leave something in.
    holding_maps: Vec<usize>,
    programs: Vec<Loaded>,
    /// The first program of each name, by name: most objects have few, and each run asks.
    program_names: Vec<(Arc<str>, ProgramId)>,
    helpers: Helpers,
    cpus: u32,
    placed: Placed,
    events: Vec<Event>,
    printk: Vec<String>,
    printk_bytes: usize,
    event_bytes: usize,
    /// Bytes that helpers have read and written in this run.
    helper_bytes: Cell<u64>,
    /// Walks over maps in progress.
    walks: u32,
    /// Where this run's walks keep their keys, by how many are around them and by map.
    walk_keys: Vec<((u32, usize), u32)>,
    /// `None` while a program runs.
    engine: Option<Box<dyn Engine>>,
    /// A run was cut off by a panic.
    poisoned: bool,
    load_id: u64,
}

impl Machine {
    /// A machine with the object's maps and programs, the default world and the interpreter.
    ///
    /// # Errors
    /// A map of the object cannot be made.
    pub fn load(object: &Object) -> Result<Machine, LoadError> {
        Machine::with_config(object, Config::default())
    }

    /// As [`Machine::load`], with another number of CPUs or another engine.
    ///
    /// # Errors
    /// A map of the object cannot be made, or the configuration makes no sense.
    pub fn with_config(object: &Object, config: Config) -> Result<Machine, LoadError> {
        if config.cpus == 0 || config.cpus > MAX_CPUS {
            return Err(LoadError::Cpus);
        }
        let mut memory = Memory::new()?;
        if config.track_uninitialised {
            memory.track_uninitialised()?;
        }
        let mut machine = Machine {
            memory,
            world: World::default(),
            fuel: DEFAULT_FUEL,
            maps: Vec::new(),
            holding_maps: Vec::new(),
            program_names: Vec::new(),
            programs: Vec::new(),
            helpers: Helpers::default(),
            cpus: config.cpus,
            placed: Placed::default(),
            events: Vec::new(),
            printk: Vec::new(),
            printk_bytes: 0,
            event_bytes: 0,
            helper_bytes: Cell::new(0),
            walks: 0,
            walk_keys: Vec::new(),
            engine: Some(config.engine),
            poisoned: false,
            load_id: 0,
        };
        machine.fill(object)?;
        Ok(machine)
    }

    /// Loads an object into an empty machine.
    fn fill(&mut self, object: &Object) -> Result<(), LoadError> {
        self.maps.reserve_exact(object.maps().len());
        for spec in object.maps() {
            self.maps.push(Map::create(spec, &mut self.memory, self.cpus)?);
        }
        self.holding_maps = run::holding_maps(&self.maps);
        self.programs = load_programs(object);
        self.program_names = names(&self.programs);
        self.fill_program_arrays(object)?;
        self.memory.mark();
        self.load_id = next_load_id();
        Ok(())
    }

    // Programs.

    /// All programs, in the object's order.
    pub fn programs(&self) -> impl ExactSizeIterator<Item = &ProgramInfo> {
        self.programs.iter().map(|loaded| &loaded.info)
    }

    /// A program that can be run.
    pub fn program(&self, id: ProgramId) -> Option<&Arc<Program>> {
        self.programs.get(id.index())?.program.as_ref().ok()
    }

    /// The program with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn find_program(&self, name: &str) -> Result<ProgramId, RunError> {
        match self.program_names.binary_search_by(|(known, _)| (**known).cmp(name)) {
            Ok(at) => Ok(self.program_names[at].1),
            Err(_) => Err(RunError::NoSuchProgram {
                name: name.to_owned(),
                known: self.programs().map(|info| info.name.to_string()).collect(),
            }),
        }
    }

    fn loaded(&self, id: ProgramId) -> Result<&Arc<Program>, RunError> {
        match self.programs.get(id.index()).map(|loaded| &loaded.program) {
            Some(Ok(program)) => Ok(program),
            Some(Err(error)) => Err(error.clone().into()),
            None => Err(RunError::NoSuchProgram { name: id.index().to_string(), known: Vec::new() }),
        }
    }

    /// The CPU that the program runs on: the world's, which a mock may have set to one that there is not.
    pub(crate) fn cpu(&self) -> u32 {
        self.world.cpu.min(self.cpus - 1)
    }

    /// Takes note of an argument's bytes that a helper is about to touch; false when the run has had its share.
    #[inline]
    pub(crate) fn charge(&self, bytes: u64) -> bool {
        let Some(bytes @ 1..) = bytes.checked_sub(FREE_HELPER_BYTES) else { return true };
        self.helper_bytes.set(self.helper_bytes.get().saturating_add(bytes));
        self.helper_bytes.get() <= MAX_HELPER_BYTES
    }

    /// Number of possible CPUs.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// A number that no other loading of an object has in this process, never 0: what an engine compares before it uses
    /// what it remembers of programs, maps and addresses. [`Machine::reload`] and [`Machine::keep_calls`] change it,
    /// [`Machine::reset`] does not.
    pub fn load_id(&self) -> u64 {
        self.load_id
    }

    /// The engine's name.
    pub fn engine_name(&self) -> &'static str {
        self.engine.as_ref().map_or("running", |engine| engine.name())
    }

    /// Puts programs into the slots of program arrays that the object's source fills.
    fn fill_program_arrays(&mut self, object: &Object) -> Result<(), LoadError> {
        let programs = u32::try_from(self.programs.len()).unwrap_or(u32::MAX);
        self.maps.iter_mut().filter_map(Map::prog_array).for_each(|array| array.set_program_count(programs));
        for (index, spec) in object.maps().iter().enumerate() {
            for (&slot, initial) in &spec.initial_slots {
                let InitialSlot::Program(program) = initial else { continue };
                let missing = || LoadError::NoSuchProgram { map: spec.name.clone(), program: program.clone() };
                let found = self.find_program(program).map_err(|_| missing())?;
                if let Some(array) = self.maps[index].prog_array() {
                    array.set_initial_program(slot, found.0).map_err(|errno| LoadError::NoSuchSlot {
                        map: spec.name.clone(),
                        slot,
                        errno,
                    })?;
                }
            }
        }
        Ok(())
    }

    // Maps.

    /// The user-space side of a map.
    ///
    /// # Errors
    /// There is no map with this name.
    pub fn map(&mut self, name: &str) -> Result<MapHandle<'_>, NoSuchMap> {
        match self.maps.iter().position(|map| &**map.name() == name) {
            Some(index) => Ok(self.handle(index)),
            None => Err(NoSuchMap {
                name: name.to_owned(),
                known: self.maps.iter().map(|map| map.name().to_string()).collect(),
            }),
        }
    }

    /// Names of all maps, in the object's order.
    pub fn map_names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.maps.iter().map(Map::name)
    }

    /// Sets a slot of a program array to a program of this machine.
    ///
    /// # Errors
    /// There is no such map or program, the program cannot be run, the map is no program array, or it has no such slot.
    pub fn set_tail_call(&mut self, map: &str, slot: u32, program: &str) -> Result<(), TailCallError> {
        let program = self.find_program(program)?;
        self.loaded(program)?;
        let mut handle = self.map(map)?;
        let map_type = handle.map().map_type();
        if map_type != MapType::ProgArray {
            let map = handle.map().name().clone();
            return Err(MapAccessError::WrongType { map, map_type, wanted: MapType::ProgArray }.into());
        }
        Ok(handle.insert(&slot, &program.0)?)
    }

    pub(crate) fn handle(&mut self, index: usize) -> MapHandle<'_> {
        MapHandle::new(&mut self.maps[index], &mut self.memory)
    }

    pub(crate) fn map_and_memory(&mut self, index: usize) -> (&mut Map, &mut Memory) {
        (&mut self.maps[index], &mut self.memory)
    }

    /// The ring buffer that has reserved the record at this address.
    pub(crate) fn record_owner(&self, addr: u32) -> Option<usize> {
        self.maps.iter().position(|map| map.reserved_record(addr.into()).is_some())
    }

    pub(crate) fn map_at(&self, index: usize) -> &Map {
        &self.maps[index]
    }

    // Helpers.

    /// Replaces a helper by a closure, which sees the call's arguments and gives the result; it may keep state.
    ///
    /// ```
    /// # use softbpf::{Machine, Object, program_type::ProgramType};
    /// let object = Object::from_text("call ktime_get_ns\n exit", ProgramType::Kprobe)?;
    /// let mut vm = Machine::load(&object)?;
    /// let mut now = 0;
    /// vm.mock("ktime_get_ns", move |_| {
    ///     now += 1000;
    ///     now
    /// })?;
    /// assert_eq!(vm.run("main", ())?.ret, Ok(1000));
    /// assert_eq!(vm.run("main", ())?.ret, Ok(2000));
    /// assert_eq!(vm.calls("ktime_get_ns")?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// No helper has this name. A number is always accepted.
    pub fn mock<'n, F, R>(&mut self, helper: impl Into<HelperRef<'n>>, mut mock: F) -> Result<(), UnknownHelper>
    where
        F: FnMut(&mut Call<'_>) -> R + Send + 'static,
        R: IntoReturn,
    {
        let number = helper.into().number()?;
        self.helpers.set_mock(number, Box::new(move |call| mock(call).into_return()));
        Ok(())
    }

    /// Takes a mock away; the helper is itself again.
    ///
    /// # Errors
    /// No helper has this name.
    pub fn unmock<'n>(&mut self, helper: impl Into<HelperRef<'n>>) -> Result<(), UnknownHelper> {
        self.helpers.remove_mock(helper.into().number()?);
        Ok(())
    }

    /// The calls of a helper, mocked or not, since the machine was made or [`Machine::forget_calls`].
    ///
    /// # Errors
    /// No helper has this name.
    pub fn calls<'n>(&self, helper: impl Into<HelperRef<'n>>) -> Result<Calls<'_>, UnknownHelper> {
        Ok(self.helpers.calls(helper.into().number()?))
    }

    /// Starts to count the calls of all helpers anew.
    pub fn forget_calls(&mut self) {
        self.helpers.forget_calls();
    }

    /// Keeps so many calls of each helper with their arguments, instead of [`crate::helpers::MAX_RECORDS`], and starts to count
    /// them anew. Those behind are counted only, which is faster; 0 suits benchmarks and fuzzers.
    ///
    /// ```
    /// # use softbpf::{Machine, Object, program_type::ProgramType};
    /// let mut vm = Machine::load(&Object::from_text("call ktime_get_ns\n exit", ProgramType::Kprobe)?)?;
    /// vm.keep_calls(1);
    /// vm.run("main", ())?;
    /// vm.run("main", ())?;
    /// let calls = vm.calls("ktime_get_ns")?;
    /// assert_eq!((calls.len(), calls.records().len()), (2, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_calls(&mut self, most: u32) {
        if most != self.helpers.kept_calls() {
            // Engines rely on the number.
            self.load_id = next_load_id();
        }
        self.helpers.keep_calls(most);
    }

    // Guest memory.

    /// Places an object that programs may read and write, for as long as the machine lives; its guest address.
    ///
    /// # Errors
    /// The arena is full.
    pub fn place(&mut self, name: &str, bytes: &[u8]) -> Result<u64, MemoryError> {
        let full = MemoryError::ArenaFull { bytes: bytes.len() as u64, left: self.memory.left() };
        let size = u32::try_from(bytes.len()).map_err(|_| full)?;
        let addr = self.memory.allocate(ObjectKind::Placed { name: name.into() }, size, Permission::ReadWrite)?;
        self.memory.put(addr, bytes);
        Ok(addr.into())
    }

    /// Places kernel or user memory at an address above 2^32, for the probe-read helpers.
    ///
    /// # Errors
    /// The address is below 2^32, or another object lies there.
    pub fn place_at(&mut self, addr: u64, name: &str, bytes: &[u8]) -> Result<(), MemoryError> {
        self.memory.place_far(addr, name, bytes)
    }

    /// Guest address of the context: `r1` on entry.
    pub fn context_address(&self) -> u64 {
        self.placed.args[0]
    }

    pub(crate) fn push_event(&mut self, event: Event) {
        self.event_bytes = self.event_bytes.saturating_add(event.data.len());
        if self.event_bytes <= MAX_EVENT_BYTES {
            self.events.push(event);
        }
    }

    pub(crate) fn push_printk(&mut self, line: String) {
        self.printk_bytes = self.printk_bytes.saturating_add(line.len() + 1);
        if self.printk_bytes <= MAX_PRINTK_BYTES {
            self.printk.push(line);
        }
    }

    pub(crate) fn helpers_mut(&mut self) -> &mut Helpers {
        &mut self.helpers
    }
}
