//! A reference evaluator, written from RFC 9669 alone: small, slow, obviously right.
//!
//! It is the third opinion in every comparison. It takes decoded instructions from `softbpf` and nothing that executes
//! them: not `semantics`, not the interpreter, not its memory, not its helpers. Where the RFC is silent (budgets,
//! depth of calls, instructions that Linux added since) the words are the kernel's.
//!
//! [`arithmetic`] says what operations compute, [`memory`] what may be accessed, [`setup`] where things are, and here
//! is what an instruction does. [`mod@compare`] holds an engine against all that.

pub mod arithmetic;
pub mod compare;
mod execute;
pub mod memory;
pub mod observed;
pub mod setup;

use std::fmt;

use softbpf::codec::Code;
use softbpf::insn::Insn;

pub use compare::{Difference, compare, run};
pub use memory::{BadAccess, Memory, Region};
pub use observed::{Observed, Stop, StopKind};
pub use setup::Setup;

/// How often `may_goto` falls through in one frame: the kernel's `BPF_MAX_LOOPS`.
const MAY_GOTO_LOOPS: u64 = 8 * 1024 * 1024;

/// Gives what a helper returns, or `None` when there is no such helper.
pub type Helper<'h> = Box<dyn FnMut(i32, [u64; 5], &mut Memory) -> Option<u64> + 'h>;

/// What a caller gets back when its callee returns. Sections 2.3 and 4.3.2.
#[derive(Debug, Clone, Copy)]
struct Caller {
    /// Index of the instruction behind the call.
    next: usize,
    /// `r6` to `r9`.
    preserved: [u64; 4],
    /// What is left of its loops.
    loops: u64,
}

/// A program between two instructions.
pub struct Model<'c> {
    /// `r0` to `r10`.
    pub registers: [u64; 11],
    /// Guest memory: one region a frame first, then the context, the packet, and the rest.
    pub memory: Memory,
    /// Instructions executed.
    pub instructions: u64,
    code: &'c Code,
    setup: &'c Setup,
    helper: Option<Helper<'c>>,
    /// Index of the next instruction.
    next: usize,
    callers: Vec<Caller>,
    loops: u64,
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
        let frame = |(depth, &top): (usize, &u64)| Region {
            open: depth == 0,
            ..Region::new(top - setup.frame_size as u64, &vec![0; setup.frame_size])
        };
        let mut regions: Vec<Region> = setup.frames.iter().enumerate().map(frame).collect();
        regions.extend(setup.context.iter().chain(&setup.packet).chain(&setup.others).cloned());
        let mut registers = [0; 11];
        registers[1..3].copy_from_slice(&setup.args);
        registers[10] = setup.frames.first().copied().unwrap_or(0);
        let memory = Memory { regions };
        let (callers, loops) = (Vec::new(), MAY_GOTO_LOOPS);
        Model { registers, memory, instructions: 0, code, setup, helper: None, next: 0, callers, loops }
    }

    /// The same with helpers.
    #[must_use]
    pub fn with_helpers(mut self, helper: impl FnMut(i32, [u64; 5], &mut Memory) -> Option<u64> + 'c) -> Model<'c> {
        self.helper = Some(Box::new(helper));
        self
    }

    /// Slot and instruction that come next; `None` outside the program, where no checked program goes.
    pub fn next(&self) -> Option<(usize, &'c Insn)> {
        Some((self.code.slot_of(self.next)?, self.code.insns().get(self.next)?))
    }

    /// Calls deep: 0 in the entry program.
    pub fn depth(&self) -> usize {
        self.callers.len()
    }

    /// Executes one instruction; how the program ended, if it did.
    pub fn step(&mut self) -> Option<Result<u64, Stop>> {
        let Some((slot, insn)) = self.next() else {
            return Some(Err(Stop { kind: StopKind::Missing, slot: self.next, registers: self.registers }));
        };
        let registers = self.registers;
        let stop = |kind| Some(Err(Stop { kind, slot, registers }));
        if self.instructions >= self.setup.fuel {
            return stop(StopKind::OutOfFuel);
        }
        self.instructions += 1;
        match self.execute(slot, insn) {
            Ok(Flow::Next) => self.next += 1,
            Ok(Flow::Jump(offset)) => match self.target(slot, offset) {
                Some(index) => self.next = index,
                None => return stop(StopKind::Missing),
            },
            Ok(Flow::Goto(index)) => self.next = index,
            Ok(Flow::Return(r0)) => return Some(Ok(r0)),
            Err(kind) => return stop(kind),
        }
        None
    }

    /// Executes to the end.
    pub fn run(self) -> Observed {
        self.run_with(|_, _| ())
    }

    /// Executes to the end. After every instruction that did not end the program, `after` is called and may change
    /// everything: what a test plants there, a comparison must find.
    pub fn run_with(mut self, mut after: impl FnMut(&mut Model<'c>, &Executed)) -> Observed {
        loop {
            let (next, before) = (self.next(), self.registers);
            match (self.step(), next) {
                (Some(ret), _) => return self.observe(ret),
                (None, Some((slot, &insn))) => after(&mut self, &Executed { slot, insn, before }),
                (None, None) => {}
            }
        }
    }

    /// Goes on at a slot; false when no instruction starts there.
    pub fn go_to(&mut self, slot: usize) -> bool {
        self.code.index_at(slot).map(|index| self.next = index).is_some()
    }

    fn observe(self, ret: Result<u64, Stop>) -> Observed {
        let bytes =
            |region: &Region| self.memory.region(region.start).map_or_else(Vec::new, |region| region.bytes.clone());
        Observed {
            ret,
            instructions: self.instructions,
            context: self.setup.context.as_ref().map(bytes).unwrap_or_default(),
            packet: self.setup.packet.as_ref().map(bytes),
        }
    }

    /// Index of the instruction at this distance from the slot behind `slot`. Section 4.3: "the offset is [...]
    /// relative to the instruction following the jump instruction".
    fn target(&self, slot: usize, offset: i32) -> Option<usize> {
        let target = i128::try_from(slot).ok()? + 1 + i128::from(offset);
        self.code.index_at(usize::try_from(target).ok()?)
    }
}

impl fmt::Debug for Model<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("next", &self.next()).field("registers", &self.registers).finish_non_exhaustive()
    }
}
