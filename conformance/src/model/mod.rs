//! A reference evaluator, written from RFC 9669 alone: small, slow, obviously right.
//!
//! It is the third opinion in every comparison. It takes decoded instructions from `softbpf` and nothing that executes
//! them: not `semantics`, not the interpreter, not its memory, not its helpers. Where the RFC is silent (budgets,
//! depth of calls, instructions that Linux added since) the words are the kernel's.
//!
//! [`arithmetic`] says what operations compute, [`memory`] what may be accessed, [`maps`], [`helpers`] and [`world`] what
//! helpers do, [`setup`] where things are, and here is how a run goes. [`mod@compare`] holds an engine against all that.

pub mod arithmetic;
pub mod compare;
mod execute;
pub mod helpers;
pub mod maps;
pub mod memory;
pub mod observed;
pub mod scenario;
pub mod setup;
pub mod world;

use std::fmt;

use softbpf::codec::Code;
use softbpf::insn::Insn;
use softbpf::object::MAIN;

pub use compare::{Difference, FirstDifference, compare, run};
pub use maps::{Contents, Map, MapSetup};
pub use memory::{BadAccess, Memory, Region};
pub use observed::{Observed, Problem, Stop, StopKind};
pub use setup::Setup;
pub use world::World;

/// How often `may_goto` falls through in one frame: the kernel's `BPF_MAX_LOOPS`.
const MAY_GOTO_LOOPS: u64 = 8 * 1024 * 1024;

/// Gives what a helper returns, or `None` when there is no such helper.
pub type Helper<'h> = Box<dyn FnMut(i32, [u64; 5], &mut Memory) -> Option<u64> + 'h>;

/// What a caller gets back when its callee returns. Sections 2.3 and 4.3.2.
#[derive(Debug, Clone, Copy)]
struct Caller {
    /// The caller's program.
    program: usize,
    /// Index of the call.
    call: usize,
    /// `r6` to `r9`.
    preserved: [u64; 4],
    /// What is left of its loops.
    loops: u64,
    /// The callee is a round of this.
    again: Option<Loop>,
}

/// A helper that calls back, under way.
#[derive(Debug, Clone, Copy)]
struct Loop {
    rounds: u64,
    round: u64,
    callback: usize,
    over: Over,
    ctx: u64,
}

/// What a round gets.
#[derive(Debug, Clone, Copy)]
enum Over {
    /// Its number: `bpf_loop`.
    Numbers,
    /// An element of an array, with the address of its key: `bpf_for_each_map_elem`.
    Elements { map: usize, key: u64 },
}

/// A program between two instructions.
pub struct Model<'c> {
    /// `r0` to `r10`.
    pub registers: [u64; 11],
    /// Guest memory: one region a frame first, then the context, the packet, and the rest.
    pub memory: Memory,
    /// Instructions executed.
    pub instructions: u64,
    /// Tail calls made.
    pub tail_calls: u32,
    /// How often `may_goto` still falls through in this frame.
    pub loops: u64,
    /// The maps.
    pub maps: Vec<Map>,
    /// What helpers know.
    pub world: World,
    programs: &'c [Code],
    setup: &'c Setup,
    helper: Option<Helper<'c>>,
    /// Index of the program that runs.
    program: usize,
    /// Index of the next instruction.
    next: usize,
    callers: Vec<Caller>,
    /// Where this run's walks keep their keys: walks around them, and map.
    walk_keys: Vec<(usize, usize)>,
}

/// An instruction that has just been executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Executed {
    /// Its slot.
    pub slot: usize,
    /// The instruction.
    pub insn: Insn,
    /// `r0` to `r10` before it.
    pub before: [u64; 11],
}

/// What an instruction comes to.
enum Flow {
    /// The next one follows.
    Next,
    /// The one at this distance from the next slot follows.
    Jump(i32),
    /// The one with this index follows.
    Goto(usize),
    /// The program returns this.
    Return(u64),
}

impl<'c> Model<'c> {
    /// A program about to start.
    pub fn new(code: &'c Code, setup: &'c Setup) -> Model<'c> {
        Model::of_programs(std::slice::from_ref(code), setup)
    }

    /// The first of some programs about to start.
    pub fn of_programs(programs: &'c [Code], setup: &'c Setup) -> Model<'c> {
        let frame = |&top: &u64| Region::new(top - setup.frame_size as u64, &vec![0; setup.frame_size]);
        let mut regions: Vec<Region> = setup.frames.iter().map(frame).collect();
        regions.extend(setup.context.iter().chain(&setup.packet).chain(&setup.others).cloned());
        regions.extend(setup.maps.iter().flat_map(MapSetup::regions));
        let mut model = Model {
            registers: [0; 11],
            memory: Memory { regions },
            instructions: 0,
            tail_calls: 0,
            loops: 0,
            maps: setup.maps.iter().map(Map::new).collect(),
            world: setup.world.clone(),
            programs,
            setup,
            helper: None,
            program: 0,
            next: 0,
            callers: Vec::new(),
            walk_keys: Vec::new(),
        };
        model.start();
        model
    }

    /// Back to the start of the first program, with context, packet and stack as new. Maps and world stay.
    pub fn start(&mut self) {
        let setup = self.setup;
        for map in &self.maps {
            map.end_run(&mut self.memory);
        }
        for (depth, region) in self.memory.regions.iter_mut().take(setup.frames.len()).enumerate() {
            region.open = depth == 0;
            region.bytes.fill(0);
        }
        for region in setup.context.iter().chain(&setup.packet) {
            self.memory.fill(region.start, &region.bytes);
        }
        self.registers = [0; 11];
        self.registers[1..3].copy_from_slice(&setup.args);
        self.registers[10] = setup.frames.first().copied().unwrap_or(0);
        (self.instructions, self.tail_calls, self.loops) = (0, 0, MAY_GOTO_LOOPS);
        (self.program, self.next) = (0, 0);
        self.callers.clear();
        let keys = self.walk_keys.len();
        self.memory.regions.truncate(self.memory.regions.len() - keys);
        self.walk_keys.clear();
    }

    /// The same with helpers.
    #[must_use]
    pub fn with_helpers(mut self, helper: impl FnMut(i32, [u64; 5], &mut Memory) -> Option<u64> + 'c) -> Model<'c> {
        self.helper = Some(Box::new(helper));
        self
    }

    /// Slot and instruction that come next; `None` outside the program, where no checked program goes.
    pub fn next(&self) -> Option<(usize, &'c Insn)> {
        Some((self.code().slot_of(self.next)?, self.code().insns().get(self.next)?))
    }

    /// Index of the program that runs.
    pub fn program(&self) -> usize {
        self.program
    }

    fn code(&self) -> &'c Code {
        &self.programs[self.program]
    }

    /// Calls deep: 0 in the entry program.
    pub fn depth(&self) -> usize {
        self.callers.len()
    }

    /// Executes one instruction; how the program ended, if it did.
    pub fn step(&mut self) -> Option<Result<u64, Stop>> {
        let Some((slot, insn)) = self.next() else {
            return Some(Err(self.stop(StopKind::Missing, self.program, self.next, self.registers)));
        };
        let (program, registers) = (self.program, self.registers);
        if self.instructions >= self.setup.fuel {
            return Some(Err(self.stop(StopKind::OutOfFuel, program, slot, registers)));
        }
        self.instructions += 1;
        match self.execute(slot, insn) {
            Ok(Flow::Next) => self.next += 1,
            Ok(Flow::Jump(offset)) => match self.target(slot, offset) {
                Some(index) => self.next = index,
                None => return Some(Err(self.stop(StopKind::Missing, program, slot, registers))),
            },
            Ok(Flow::Goto(index)) => self.next = index,
            Ok(Flow::Return(r0)) => return Some(Ok(r0)),
            Err(kind) => return Some(Err(self.stop(kind, program, slot, registers))),
        }
        None
    }

    fn stop(&self, kind: StopKind, program: usize, slot: usize, registers: [u64; 11]) -> Stop {
        let name = |program: usize| self.setup.names.get(program).map_or_else(|| MAIN.to_owned(), String::clone);
        let slot_of = |caller: &Caller| self.programs[caller.program].slot_of(caller.call).unwrap_or(caller.call);
        let callers = self.callers.iter().map(|caller| (name(caller.program), slot_of(caller))).collect();
        Stop { kind, program: name(program), slot, callers, registers }
    }

    /// Executes to the end.
    pub fn run(mut self) -> Observed {
        self.run_with(|_, _| ())
    }

    /// Executes to the end. After every instruction that did not end the program, `after` is called and may change
    /// everything: what a test plants there, a comparison must find.
    pub fn run_with(&mut self, mut after: impl FnMut(&mut Model<'c>, &Executed)) -> Observed {
        loop {
            let (next, before) = (self.next(), self.registers);
            match (self.step(), next) {
                (Some(ret), _) => return self.observe(ret),
                (None, Some((slot, &insn))) => after(self, &Executed { slot, insn, before }),
                (None, None) => {}
            }
        }
    }

    /// Goes on at a slot; false when no instruction starts there.
    pub fn go_to(&mut self, slot: usize) -> bool {
        self.code().index_at(slot).map(|index| self.next = index).is_some()
    }

    fn observe(&self, ret: Result<u64, Stop>) -> Observed {
        let bytes =
            |region: &Region| self.memory.region(region.start).map_or_else(Vec::new, |region| region.bytes.clone());
        Observed {
            ret,
            instructions: self.instructions,
            context: self.setup.context.as_ref().map(bytes).unwrap_or_default(),
            packet: self.setup.packet.as_ref().map(bytes),
        }
    }

    /// What user space finds in the maps.
    pub fn contents(&self) -> Vec<Contents> {
        self.maps.iter().map(|map| map.contents(&self.memory)).collect()
    }

    /// Index of the instruction at this distance from the slot behind `slot`. Section 4.3: "the offset is [...]
    /// relative to the instruction following the jump instruction".
    fn target(&self, slot: usize, offset: i32) -> Option<usize> {
        let target = i128::try_from(slot).ok()? + 1 + i128::from(offset);
        self.code().index_at(usize::try_from(target).ok()?)
    }
}

impl fmt::Debug for Model<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("next", &self.next()).field("registers", &self.registers).finish_non_exhaustive()
    }
}
