//! What makes the statements of one function: where it stands, and what all kinds of statement need.

use std::iter::repeat_n;

use arbitrary::{Result, Unstructured};
use softbpf::insn::{Condition, Imm64, Insn, Operand, Reg, Size, Width};

use super::calls::{Function, MAX_HEIGHT};
use super::link::{Label, Piece};
use super::state::{Room, State, Value};
use super::{Callbacks, Input, ScenarioKnobs, layout};
use crate::generator::body::Body;
use crate::generator::{Knobs, values};
use softbpf::map_spec::MapSpec;

/// Words of the stack that pointers are spilled to: from `r10 - 8` down.
pub(super) const WORDS: i16 = 16;

/// Where the rest of the stack ends, which pointers point to.
pub(super) const BUFFERS: i16 = -8 * WORDS;

/// Instructions that a run of a program should not exceed by much.
pub(super) const MAX_COST: u64 = 4_000;

/// Arithmetic is the other generator's.
const PLAIN: Knobs =
    Knobs { length: 1, memory: false, atomics: false, jumps: false, out_of_bounds: false, ..Knobs::ALL };

/// What is the same for all functions of a program.
#[derive(Clone, Copy)]
pub(super) struct Plan<'p> {
    pub(super) knobs: &'p ScenarioKnobs,
    pub(super) maps: &'p [MapSpec],
    pub(super) input: &'p Input,
    /// The map that is used the most, so that it sees a history.
    pub(super) favourite: i32,
}

/// Kinds of statement.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Plain,
    Access,
    NewPointer,
    MovePointer,
    Spill,
    Index,
    Select,
    Branch,
    Loop,
    Walk,
    Leave,
    Call,
    Simple,
    Lookup,
    Update,
    History,
    TailCall,
    Packet,
    Callback,
}

/// Makes one function.
pub(super) struct Maker<'m, 'a> {
    pub(super) u: &'m mut Unstructured<'a>,
    pub(super) plan: Plan<'m>,
    pub(super) state: State,
    pub(super) pieces: Vec<Piece>,
    pub(super) labels: &'m mut usize,
    /// Functions that there are already.
    pub(super) functions: &'m [Function],
    /// Where the function returns.
    pub(super) exit: Label,
    /// Ends of the loops around this place.
    pub(super) breaks: Vec<Label>,
    /// How often this place is reached, about.
    pub(super) trips: u64,
    /// Instructions executed, about.
    pub(super) cost: u64,
    /// Frames that its callees need.
    pub(super) height: usize,
    /// And may need.
    pub(super) most_height: usize,
    /// The caller counts on what the function returns, so that nothing else may return in its place.
    pub(super) returns_pointer: bool,
    nesting: usize,
    kinds: Vec<Kind>,
    body: Body<'static>,
}

impl<'m, 'a> Maker<'m, 'a> {
    pub(super) fn new(
        u: &'m mut Unstructured<'a>,
        plan: Plan<'m>,
        labels: &'m mut usize,
        functions: &'m [Function],
    ) -> Maker<'m, 'a> {
        *labels += 1;
        let packet = matches!(plan.input, Input::Packet(_));
        let ScenarioKnobs { loops, calls, pointers, helpers, tail_calls, callbacks, .. } = *plan.knobs;
        let kinds = [
            (true, Kind::Plain, 6),
            (true, Kind::Access, 12),
            (true, Kind::NewPointer, 3),
            (pointers, Kind::MovePointer, 6),
            (pointers, Kind::Spill, 5),
            (pointers, Kind::Index, 3),
            (pointers, Kind::Select, 3),
            (true, Kind::Branch, 4),
            (loops, Kind::Loop, 4),
            (loops && pointers, Kind::Walk, 1),
            (true, Kind::Leave, 1),
            (calls && !functions.is_empty(), Kind::Call, 7),
            (helpers, Kind::Simple, 1),
            (helpers, Kind::Lookup, 5),
            (helpers, Kind::Update, 3),
            (helpers, Kind::History, 2),
            (tail_calls, Kind::TailCall, 2),
            (packet, Kind::Packet, 5),
            (callbacks > Callbacks::None, Kind::Callback, 3),
        ];
        let kinds = kinds.into_iter().filter(|(on, ..)| *on).flat_map(|(_, kind, weight)| repeat_n(kind, weight));
        Maker {
            u,
            plan,
            state: State::new(),
            pieces: Vec::new(),
            exit: *labels - 1,
            labels,
            functions,
            breaks: Vec::new(),
            trips: 1,
            cost: 0,
            height: 0,
            most_height: MAX_HEIGHT,
            returns_pointer: false,
            nesting: 0,
            kinds: kinds.collect(),
            body: Body::new(&PLAIN),
        }
    }

    /// From now on only what is done to numbers, and calls: nothing that looks at memory.
    pub(super) fn leave_memory_alone(&mut self) {
        self.kinds.retain(|kind| match kind {
            Kind::Plain | Kind::Branch | Kind::Leave | Kind::Call => true,
            Kind::Access
            | Kind::NewPointer
            | Kind::MovePointer
            | Kind::Spill
            | Kind::Index
            | Kind::Select
            | Kind::Loop
            | Kind::Walk
            | Kind::Simple
            | Kind::Lookup
            | Kind::Update
            | Kind::History
            | Kind::TailCall
            | Kind::Packet
            | Kind::Callback => false,
        });
    }

    /// Some statements.
    pub(super) fn statements(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.statement()?;
        }
        Ok(())
    }

    /// The statements of a branch or a loop.
    pub(super) fn block(&mut self, most: usize) -> Result<()> {
        let count = self.u.int_in_range(0..=most)?;
        self.nesting += 1;
        let made = self.statements(count);
        self.nesting -= 1;
        made
    }

    fn statement(&mut self) -> Result<()> {
        let kind = *self.u.choose(&self.kinds)?;
        match kind {
            Kind::Plain => self.plain(),
            Kind::Access => self.access(),
            Kind::NewPointer => self.new_pointer(),
            Kind::MovePointer => self.move_pointer(),
            Kind::Spill => self.spill(),
            Kind::Index => self.index(),
            Kind::Select => self.select(),
            Kind::Branch | Kind::Loop if self.nesting >= 4 => self.access(),
            Kind::Branch => self.branch(),
            Kind::Loop => self.repeat(),
            Kind::Walk => self.walk(),
            Kind::Leave => self.leave(),
            Kind::Call => self.call(),
            Kind::Simple => self.simple_helper(),
            Kind::Lookup => self.lookup(),
            Kind::Update => self.update(),
            Kind::History => self.history(),
            Kind::TailCall => self.tail_call(),
            Kind::Packet => self.packet(),
            Kind::Callback => self.callback(),
        }
    }

    // Instructions.

    pub(super) fn push(&mut self, insn: Insn) {
        self.state.apply(&insn);
        self.cost += self.trips;
        self.pieces.push(Piece::Insn(insn));
    }

    /// A jump, call or load of an address of code, to a label.
    pub(super) fn push_to(&mut self, insn: Insn, label: Label) {
        self.state.apply(&insn);
        self.cost += self.trips;
        self.pieces.push(Piece::To(insn, label));
    }

    pub(super) fn label(&mut self) -> Label {
        *self.labels += 1;
        *self.labels - 1
    }

    pub(super) fn place(&mut self, label: Label) {
        self.pieces.push(Piece::Label(label));
    }

    pub(super) fn goto(&mut self, label: Label) -> Result<()> {
        let long = self.u.ratio(1, 4)?;
        self.push_to(Insn::Jump { off: 0, long }, label);
        Ok(())
    }

    // Choices.

    pub(super) fn chance(&mut self, of: u32, all: u32) -> Result<bool> {
        self.u.ratio(of, all)
    }

    /// Once in so many times, where programs may be hostile.
    pub(super) fn hostile(&mut self, all: u32) -> Result<bool> {
        Ok(self.plan.knobs.hostile && self.u.ratio(1, all)?)
    }

    /// A register to write, one without a pointer if chance will have it.
    pub(super) fn target(&mut self) -> Result<Reg> {
        let free: Vec<Reg> = Reg::ALL[..10].iter().copied().filter(|reg| !self.state.is_pinned(*reg)).collect();
        let first = *self.u.choose(&free)?;
        let second = *self.u.choose(&free)?;
        Ok(if self.state.get(first).room().is_some() { second } else { first })
    }

    /// The same, but none of these.
    pub(super) fn target_but(&mut self, but: &[Reg]) -> Result<Reg> {
        let reg = self.target()?;
        if !but.contains(&reg) {
            return Ok(reg);
        }
        let free = Reg::ALL[..10].iter().copied().find(|reg| !self.state.is_pinned(*reg) && !but.contains(reg));
        Ok(free.unwrap_or(Reg::R0))
    }

    pub(super) fn any_register(&mut self) -> Result<Reg> {
        Ok(*self.u.choose(&Reg::ALL[..10])?)
    }

    /// A word that pointers are spilled to.
    pub(super) fn free_word(&mut self) -> Result<i16> {
        let off = -8 * self.u.int_in_range(1..=WORDS)?;
        if !self.state.is_pinned_word(off) {
            return Ok(off);
        }
        let free = (1..=WORDS).map(|word| -8 * word).find(|off| !self.state.is_pinned_word(*off));
        Ok(free.unwrap_or(off))
    }

    pub(super) fn size(&mut self) -> Result<Size> {
        Ok(*self.u.choose(Size::ALL)?)
    }

    // Statements that are not about pointers.

    fn plain(&mut self) -> Result<()> {
        let is_free = |reg: &Reg| !self.state.is_pinned(*reg) && self.state.get(*reg).room().is_none();
        let mut numbers: Vec<Reg> = Reg::ALL[..10].iter().copied().filter(is_free).collect();
        if numbers.len() < 2 {
            numbers = vec![Reg::R0, Reg::R1, Reg::R2];
        }
        for insn in self.body.item_on(self.u, numbers)? {
            self.push(insn);
        }
        Ok(())
    }

    /// A conditional jump to a label, on numbers or pointers.
    pub(super) fn jump_if(&mut self, label: Label) -> Result<()> {
        let condition = *self.u.choose(Condition::ALL)?;
        let width = if self.u.arbitrary()? { Width::W32 } else { Width::W64 };
        let dst = self.any_register()?;
        let src = match self.u.int_in_range(0..=3)? {
            0 => {
                let (dst, src) = (self.target()?, self.target()?);
                let (a, b) = values::alike(self.u)?;
                self.push(Insn::load_imm64(dst, a));
                self.push(Insn::load_imm64(src, b));
                self.push_to(Insn::JumpIf { condition, width, dst, src: src.into(), off: 0 }, label);
                return Ok(());
            }
            1 => Operand::Reg(*self.u.choose(&Reg::ALL)?),
            2 => Operand::Imm(0),
            _ => Operand::Imm(values::imm(self.u)?),
        };
        self.push_to(Insn::JumpIf { condition, width, dst, src, off: 0 }, label);
        Ok(())
    }

    /// What the pointer to the context may touch.
    pub(super) fn context_room(&self) -> Room {
        let (above, writable) = match self.plan.input {
            Input::Bytes(bytes) => (bytes.len() as i32, true),
            Input::Packet(_) => (24, false),
        };
        Room { below: 0, above, writable, context: true }
    }

    /// A value that is no pointer, in a register.
    pub(super) fn number(&mut self, reg: Reg) -> Result<()> {
        let insn = values::load(self.u, reg)?;
        self.push(insn);
        Ok(())
    }

    /// Writes a register, which is not `r1`, where it is seen whatever comes.
    pub(super) fn reveal(&mut self, reg: Reg) -> Result<()> {
        let word = self.u.int_in_range(0..=6)?;
        let value = Imm64::MapValue { fd: layout::OUT, offset: layout::SHOWN + 8 * word };
        self.push(Insn::LoadImm64 { dst: Reg::R1, value });
        self.push(Insn::store(Size::DW, Reg::R1, 0, reg));
        Ok(())
    }

    /// Room in which nothing is asked for but this many bytes.
    pub(super) fn need(above: i32, writable: bool) -> Room {
        Room { writable, ..Room::new(above) }
    }

    pub(super) fn set_pointer(&mut self, reg: Reg, room: Room) {
        self.state.set(reg, Value::Pointer(room));
    }
}
