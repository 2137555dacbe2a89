//! Random programs with calls, loops, helpers and pointers: valid by construction, and they always end.
//!
//! A scenario is an object (up to three programs with subprograms, eight maps), an input (bytes or a packet) and how
//! often it runs. While a program is made, `state` keeps what is known of every register and spilled word, as a
//! verifier does, so that most accesses hit, many of them at the very edge of their object; a few leave it on purpose.
//! Loops count, calls go to functions that exist already, and the instruction budget ends the rest.
//!
//! Every program writes its registers and part of its stack into the map [`layout::OUT`] before it returns.
//!
//! Here are the knobs and what is handed out; `maker` holds what the rest share, `memory` makes pointers and accesses,
//! `flow` branches and loops, `calls` functions, `helpers` and `packet` what their names say, `link` sets the jumps.

mod calls;
mod flow;
mod helpers;
pub mod layout;
mod link;
mod maker;
mod memory;
mod packet;
mod program;
mod state;

use std::collections::BTreeMap;
use std::fmt;

use arbitrary::{Result, Unstructured};
use softbpf::Object;
use softbpf::codec::Code;
use softbpf::map_spec::{InitialSlot, MapSpec};
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramError, ProgramInfo};
use softbpf::program_type::ProgramType;

use super::values;
use crate::rng::Rng;

pub(crate) use link::aim;

/// Bytes that are enough for the longest scenario.
const SEED_BYTES: usize = 8192;

/// Bytes of a context that is no packet's.
pub const CONTEXT: usize = 64;

/// Names of the programs, in order.
pub const PROGRAMS: [&str; 3] = [MAIN, "second", "third"];

/// Instructions that a run may execute: enough for almost all.
pub const FUEL: u64 = 20_000;

/// Which helpers that call back there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Callbacks {
    /// None.
    None,
    /// `bpf_loop`.
    Loop,
    /// `bpf_for_each_map_elem` too, on arrays.
    All,
}

/// What scenarios are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScenarioKnobs {
    /// Statements of the first program at most; a statement is a few instructions.
    pub statements: usize,
    /// Loops that count to 12 at most, two deep at most, and `may_goto`.
    pub loops: bool,
    /// Subprograms, called directly and by address.
    pub calls: bool,
    /// Pointers that are moved about: spilled, laundered through arithmetic, joined with others.
    pub pointers: bool,
    /// Maps and the helpers on them, and helpers without arguments.
    pub helpers: bool,
    /// Several programs, and tail calls between them.
    pub tail_calls: bool,
    /// Atomic operations on memory.
    pub atomics: bool,
    /// Inputs that are packets.
    pub packets: bool,
    /// Now and then what stops a program: an access that leaves its object, a helper that there is not, an argument
    /// that is none, a call too deep, a budget too small.
    pub hostile: bool,
    /// Helpers that call back.
    pub callbacks: Callbacks,
}

impl ScenarioKnobs {
    /// Everything that every engine knows.
    pub const ALL: ScenarioKnobs = ScenarioKnobs {
        statements: 24,
        loops: true,
        calls: true,
        pointers: true,
        helpers: true,
        tail_calls: true,
        atomics: true,
        packets: true,
        hostile: true,
        callbacks: Callbacks::All,
    };

    /// Knobs for a seed: mostly everything, and now and then less, so that what is rare gets its turn.
    pub fn mixed(seed: u64) -> ScenarioKnobs {
        let all = ScenarioKnobs::ALL;
        match seed % 8 {
            0 => ScenarioKnobs { tail_calls: false, hostile: false, ..all },
            1 => ScenarioKnobs { calls: false, tail_calls: false, packets: false, hostile: false, ..all },
            2 => ScenarioKnobs { helpers: false, tail_calls: false, ..all },
            3 => ScenarioKnobs { loops: false, statements: 12, ..all },
            4 => ScenarioKnobs { hostile: false, ..all },
            5 => ScenarioKnobs { statements: 48, tail_calls: false, hostile: false, ..all },
            _ => all,
        }
    }
}

impl ScenarioKnobs {
    /// These, without what others leave out.
    #[must_use]
    pub fn within(self, others: ScenarioKnobs) -> ScenarioKnobs {
        ScenarioKnobs {
            statements: self.statements.min(others.statements),
            loops: self.loops && others.loops,
            calls: self.calls && others.calls,
            pointers: self.pointers && others.pointers,
            helpers: self.helpers && others.helpers,
            tail_calls: self.tail_calls && others.tail_calls,
            atomics: self.atomics && others.atomics,
            packets: self.packets && others.packets,
            hostile: self.hostile && others.hostile,
            callbacks: self.callbacks.min(others.callbacks),
        }
    }
}

impl Default for ScenarioKnobs {
    fn default() -> Self {
        ScenarioKnobs::ALL
    }
}

/// What the programs get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A context of [`CONTEXT`] bytes that may be read and written.
    Bytes(Vec<u8>),
    /// A packet, behind a `struct xdp_md`.
    Packet(Vec<u8>),
}

/// A generated object with its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scenario {
    /// The programs, named as in [`PROGRAMS`]; the first one is run.
    pub programs: Vec<Code>,
    /// Number of the map definitions: [`layout::maps`].
    pub layout: u32,
    /// What is in the array of programs: indices of [`Scenario::programs`].
    pub slots: BTreeMap<u32, usize>,
    /// What the programs get.
    pub input: Input,
    /// The CPU that they run on.
    pub cpu: u32,
    /// Most instructions of a run.
    pub fuel: u64,
    /// How often the first program runs, on the maps that the run before has left.
    pub runs: usize,
}

impl Scenario {
    /// A scenario made of these bytes.
    ///
    /// # Errors
    /// None in practice: bytes that run out become zeros.
    pub fn arbitrary(u: &mut Unstructured<'_>, knobs: &ScenarioKnobs) -> Result<Scenario> {
        let layout = u.int_in_range(0..=layout::COUNT - 1)?;
        let input = input(u, knobs)?;
        let count = if knobs.tail_calls { u.int_in_range(1..=PROGRAMS.len())? } else { 1 };
        let mut programs = Vec::new();
        for index in 0..count {
            // Programs that are only reached by a tail call are short.
            let statements = if index == 0 { knobs.statements } else { knobs.statements / 3 };
            let knobs = ScenarioKnobs { statements, tail_calls: count > 1 || knobs.tail_calls, ..*knobs };
            programs.push(program::make(u, &knobs, layout, &input)?);
        }
        let mut slots = BTreeMap::new();
        for slot in 0..layout::SLOTS {
            if u.ratio(2, 3)? {
                slots.insert(slot, u.int_in_range(0..=count - 1)?);
            }
        }
        let cpu = u.int_in_range(0..=3)?;
        let short = knobs.hostile && u.ratio(1, 100)?;
        let fuel = if short { u.int_in_range(0..=300)? } else { FUEL };
        let runs = u.int_in_range(1..=2)?;
        Ok(Scenario { programs, layout, slots, input, cpu, fuel, runs })
    }

    /// The scenario with this number.
    pub fn from_seed(seed: u64, knobs: &ScenarioKnobs) -> Scenario {
        let mut rng = Rng::new(seed);
        let mut bytes = [0; SEED_BYTES];
        bytes.as_chunks_mut().0.iter_mut().for_each(|chunk| *chunk = rng.next_u64().to_le_bytes());
        Scenario::arbitrary(&mut Unstructured::new(&bytes), knobs).unwrap_or_else(|_| Scenario {
            programs: Vec::new(),
            layout: 0,
            slots: BTreeMap::new(),
            input: Input::Bytes(Vec::new()),
            cpu: 0,
            fuel: 0,
            runs: 0,
        })
    }

    /// The type of its programs.
    pub fn program_type(&self) -> ProgramType {
        match self.input {
            Input::Bytes(_) => ProgramType::Unspec,
            Input::Packet(_) => ProgramType::Xdp,
        }
    }

    /// Its maps, with the array of programs filled.
    pub fn maps(&self) -> Vec<MapSpec> {
        let mut maps = layout::maps(self.layout);
        if let Some(array) = maps.get_mut(layout::SLOTS_MAP as usize) {
            let slot = |(&slot, &program): (&u32, &usize)| (slot, InitialSlot::Program(PROGRAMS[program].into()));
            array.initial_slots = self.slots.iter().map(slot).collect();
        }
        maps
    }

    /// The object.
    ///
    /// # Errors
    /// A program that engines do not run: there should be none.
    pub fn object(&self) -> std::result::Result<Object, ProgramError> {
        let program =
            |(code, name): (&Code, &&str)| Program::new(ProgramInfo::new(*name, self.program_type()), code.clone());
        let programs = self.programs.iter().zip(&PROGRAMS).map(program).collect::<std::result::Result<_, _>>()?;
        Ok(Object::from_programs(programs, self.maps()))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (code, name) in self.programs.iter().zip(PROGRAMS) {
            writeln!(f, "{name}:\n{}", crate::model::compare::listing(code))?;
        }
        for (index, map) in layout::maps(self.layout).iter().enumerate() {
            let MapSpec { name, map_type, key_size, value_size, max_entries, map_flags, .. } = map;
            writeln!(f, "map {index}: {name} {map_type} {key_size} {value_size} {max_entries} {map_flags:#x}")?;
        }
        writeln!(f, "slots {:?}, cpu {}, fuel {}, runs {}", self.slots, self.cpu, self.fuel, self.runs)?;
        writeln!(f, "{:02x?}", self.input)
    }
}

fn input(u: &mut Unstructured<'_>, knobs: &ScenarioKnobs) -> Result<Input> {
    let packet = knobs.packets && u.ratio(1, 3)?;
    let len = if packet { u.int_in_range(1..=64)? } else { CONTEXT };
    let mut bytes = Vec::new();
    while bytes.len() < len {
        bytes.extend(values::value(u)?.to_le_bytes());
    }
    bytes.truncate(len);
    Ok(if packet { Input::Packet(bytes) } else { Input::Bytes(bytes) })
}
