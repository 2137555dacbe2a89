//! Functions, and calls of them.

use arbitrary::{Result, Unstructured};
use softbpf::insn::{Callee, Condition, Imm64, Insn, Reg, Size, Width};

use super::link::{Label, Piece};
use super::maker::{MAX_COST, Maker, Plan};
use super::state::{Room, Value};

/// Frames under that of the entry program.
pub(super) const MAX_HEIGHT: usize = 7;

/// Frames under that of a function which is not one of a chain.
const FUNCTION_HEIGHT: usize = 4;

/// What a function wants in an argument register.
#[derive(Debug, Clone, Copy)]
enum Argument {
    Pointer(Room),
    Small(i32),
    Number,
    /// How much deeper the function may call itself.
    Depth,
}

impl Argument {
    fn is_context(&self) -> bool {
        matches!(self, Argument::Pointer(Room { context: true, .. }))
    }
}

/// What a function returns.
#[derive(Debug, Clone, Copy)]
enum Return {
    Number,
    /// This argument, from 0, a pointer.
    Argument(usize),
}

/// Who calls a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    /// Calls itself.
    Recursive,
    /// A round of `bpf_loop`.
    Round,
    /// An element of `bpf_for_each_map_elem`.
    Element {
        key: i32,
        value: i32,
    },
}

/// A function that can be called.
#[derive(Debug, Clone)]
pub(super) struct Function {
    label: Label,
    arguments: Vec<Argument>,
    returns: Return,
    pub(super) role: Role,
    /// Frames that a call needs, without those of deeper calls of itself.
    frames: usize,
    /// Instructions that a call executes, about.
    pub(super) cost: u64,
}

/// Makes a function; `chain` says how many stand below it in a chain of calls.
pub(super) fn make(
    u: &mut Unstructured<'_>,
    plan: Plan<'_>,
    labels: &mut usize,
    functions: &[Function],
    role: Role,
    chain: Option<usize>,
) -> Result<(Function, Vec<Piece>)> {
    // What a chain hands down is made anew in each of its functions, and the context cannot be.
    let context = plan.knobs.tail_calls && chain.is_none();
    let chained = chain.is_some_and(|below| below > 0);
    let arguments = arguments(u, context, role)?;
    let mut maker = Maker::new(u, plan, labels, functions);
    if !chained {
        maker.most_height = FUNCTION_HEIGHT;
    }
    let label = maker.label();
    maker.place(label);
    for (reg, argument) in Reg::ALL[1..].iter().zip(&arguments) {
        maker.state.set(
            *reg,
            match *argument {
                Argument::Pointer(room) => Value::Pointer(room),
                Argument::Small(max) => Value::Small(max),
                Argument::Number | Argument::Depth => Value::Number,
            },
        );
    }
    let returns = maker.keep_returned(&arguments)?;
    maker.returns_pointer = matches!(returns.0, Return::Argument(_));
    if role == Role::Recursive {
        maker.push(Insn::mov(Reg::R6, Reg::R1));
        maker.state.pin(Reg::R6);
    }
    if let Some(index) = arguments.iter().position(Argument::is_context)
        && (role == Role::Recursive || maker.u.arbitrary()?)
    {
        let off = maker.free_word()?;
        maker.push(Insn::store(Size::DW, Reg::R10, off, Reg::ALL[index + 1]));
        maker.state.pin_word(off);
    }
    if role == Role::Plain {
        maker.modest()?;
    }
    let statements = maker.u.int_in_range(1..=if chained { 2 } else { 6 })?;
    maker.statements(statements)?;
    if chained && let Some(callee) = functions.last() {
        maker.call_function(&callee.clone())?;
    }
    let function = Function { label, arguments, returns: returns.0, role, frames: 1, cost: 0 };
    if role == Role::Recursive {
        maker.recurse(&function)?;
    }
    let exit = maker.exit;
    maker.place(exit);
    maker.state.forget();
    maker.finish(&function, returns.1)?;
    let function = Function { frames: 1 + maker.height, cost: maker.cost, ..function };
    Ok((function, maker.pieces))
}

fn arguments(u: &mut Unstructured<'_>, context: bool, role: Role) -> Result<Vec<Argument>> {
    let pointer = |u: &mut Unstructured<'_>| -> Result<Argument> {
        let room = Room { writable: u.ratio(3, 4)?, ..Room::new(u.int_in_range(1..=24)?) };
        Ok(Argument::Pointer(room))
    };
    let read_only = |above| Argument::Pointer(Room { writable: false, ..Room::new(above) });
    let mut arguments = match role {
        Role::Plain => Vec::new(),
        Role::Recursive => vec![Argument::Depth],
        Role::Round => return Ok(vec![Argument::Small(16), pointer(u)?]),
        Role::Element { key, value } => {
            return Ok(vec![Argument::Number, read_only(key), Argument::Pointer(Room::new(value)), pointer(u)?]);
        }
    };
    let count = u.int_in_range(arguments.len()..=4)?;
    while arguments.len() < count {
        arguments.push(match u.int_in_range(0..=4)? {
            0 => Argument::Number,
            1 => Argument::Small(u.int_in_range(0..=15)?),
            2 if context => Argument::Pointer(Room { writable: false, context: true, ..Room::new(1) }),
            _ => pointer(u)?,
        });
    }
    Ok(arguments)
}

impl Maker<'_, '_> {
    /// Now and then a function that leaves alone some of what it would have to preserve, or all memory: for engines that
    /// save no more than they must.
    fn modest(&mut self) -> Result<()> {
        if self.chance(1, 3)? {
            for reg in Reg::ALL[6..10].iter().copied() {
                if self.chance(3, 4)? {
                    self.state.pin(reg);
                }
            }
        }
        if self.chance(1, 6)? {
            self.leave_memory_alone();
        }
        Ok(())
    }

    /// Decides what is returned, and keeps it: the word it is in.
    fn keep_returned(&mut self, arguments: &[Argument]) -> Result<(Return, i16)> {
        let is_pointer = |argument: &Argument| matches!(argument, Argument::Pointer(_));
        let Some(index) = arguments.iter().position(is_pointer) else { return Ok((Return::Number, 0)) };
        if self.u.arbitrary()? {
            return Ok((Return::Number, 0));
        }
        let off = self.free_word()?;
        self.push(Insn::store(Size::DW, Reg::R10, off, Reg::ALL[index + 1]));
        self.state.pin_word(off);
        Ok((Return::Argument(index), off))
    }

    fn recurse(&mut self, function: &Function) -> Result<()> {
        let exit = self.exit;
        self.push_to(Insn::jeq(Reg::R6, 0, 0), exit);
        for (index, argument) in function.arguments.iter().enumerate().skip(1) {
            self.argument(index, *argument)?;
        }
        self.push(Insn::mov(Reg::R1, Reg::R6));
        self.push(Insn::sub(Reg::R1, 1));
        self.push_to(Insn::Call(Callee::Local(0)), function.label);
        self.state.after_call(Value::Number);
        let after = self.u.int_in_range(0..=2)?;
        self.statements(after)
    }

    /// The end of a function.
    fn finish(&mut self, function: &Function, word: i16) -> Result<()> {
        if self.chance(1, 3)? {
            let reg = *self.u.choose(&[Reg::R0, Reg::R2, Reg::R3, Reg::R5, Reg::R6, Reg::R7, Reg::R8, Reg::R9])?;
            self.reveal(reg)?;
        }
        match (function.role, function.returns) {
            (Role::Round | Role::Element { .. }, _) => {
                // Mostly goes on.
                let stop = self.chance(1, 8)?;
                self.push(Insn::mov(Reg::R0, i32::from(stop)));
            }
            (Role::Plain | Role::Recursive, Return::Argument(_)) => {
                self.push(Insn::load(Size::DW, Reg::R0, Reg::R10, word));
            }
            (Role::Plain | Role::Recursive, Return::Number) if self.hostile(20)? => {
                // A frame that is gone when the caller looks.
                self.push(Insn::mov(Reg::R0, Reg::R10));
                self.push(Insn::add(Reg::R0, -8));
            }
            (Role::Plain | Role::Recursive, Return::Number) => {
                for _ in 0..self.u.int_in_range(0..=3)? {
                    let src = self.any_register()?;
                    self.push(Insn::xor(Reg::R0, src));
                }
            }
        }
        self.push(Insn::Exit);
        Ok(())
    }

    /// A call of some function, by its offset or its address; now and then of something that is none.
    pub(super) fn call(&mut self) -> Result<()> {
        let kept = self.keeps_context();
        // The end of a chain that is too long may be called all the same.
        let callable = |function: &Function| {
            matches!(function.role, Role::Plain | Role::Recursive)
                && (kept || !function.arguments.iter().any(Argument::is_context))
                && (function.frames <= self.most_height || function.frames > MAX_HEIGHT)
                && (self.cost + function.cost * self.trips) < MAX_COST
        };
        let callable: Vec<usize> = (0..self.functions.len()).filter(|&i| callable(&self.functions[i])).collect();
        if self.hostile(30)? || callable.is_empty() {
            return self.odd_call();
        }
        let function = self.functions[*self.u.choose(&callable)?].clone();
        self.call_function(&function)
    }

    fn call_function(&mut self, function: &Function) -> Result<()> {
        let mut depth = 0;
        if function.role == Role::Recursive {
            // One frame too many, now and then.
            let most = self.most_height.saturating_sub(function.frames) + usize::from(self.hostile(8)?);
            depth = if self.u.arbitrary()? { most } else { self.u.int_in_range(0..=most)? };
            while depth > 0 && self.cost + function.cost * self.trips * (depth as u64 + 1) > MAX_COST {
                depth -= 1;
            }
        }
        for (index, argument) in function.arguments.iter().enumerate() {
            if let Argument::Depth = argument {
                self.push(Insn::mov(Reg::R1, depth as i32));
            } else {
                self.argument(index, *argument)?;
            }
        }
        let returned = match function.returns {
            Return::Argument(index) => self.state.get(Reg::ALL[index + 1]),
            Return::Number => Value::Number,
        };
        if self.chance(1, 4)? {
            let by = self.address_register(function.arguments.len())?;
            self.push_to(Insn::LoadImm64 { dst: by, value: Imm64::Code(0) }, function.label);
            if self.chance(1, 3)? {
                let off = self.free_word()?;
                self.push(Insn::store(Size::DW, Reg::R10, off, by));
                self.push(Insn::load(Size::DW, by, Reg::R10, off));
            }
            self.push(Insn::Call(Callee::Reg(by)));
        } else {
            self.push_to(Insn::Call(Callee::Local(0)), function.label);
        }
        self.cost += function.cost * self.trips * (depth as u64 + 1);
        self.height = self.height.max(function.frames + depth);
        self.state.after_call(returned);
        if self.chance(1, 3)? {
            self.use_returned()?;
        }
        Ok(())
    }

    /// Uses what a function has returned, where it is a pointer (or hostile).
    fn use_returned(&mut self) -> Result<()> {
        match self.state.get(Reg::R0) {
            Value::Pointer(room) if room.bytes() > 0 => self.access_at(Reg::R0, room),
            Value::Pointer(_) | Value::Number | Value::Small(_) if self.hostile(10)? => {
                let dst = self.target()?;
                self.push(Insn::load(Size::DW, dst, Reg::R0, 0));
                Ok(())
            }
            Value::Pointer(_) | Value::Number | Value::Small(_) => {
                let dst = self.target()?;
                self.push(Insn::mov(dst, Reg::R0));
                Ok(())
            }
        }
    }

    /// A `callx` to an instruction that no function starts with, or to nothing at all.
    fn odd_call(&mut self) -> Result<()> {
        let by = self.address_register(0)?;
        match self.u.int_in_range(0..=1)? {
            0 if self.hostile(4)? => {
                // Not a number that any helper has: what helpers do with anything at all is not to be found out here.
                let number = self.u.arbitrary::<u64>()? | 1 << 33;
                let target = *self.u.choose(&[number, 0, 0x7fff_ffff, 0xff_0001, u64::MAX, 1 << 32])?;
                self.push(Insn::load_imm64(by, target));
            }
            1 if self.hostile(4)? => {
                let exit = self.exit;
                self.push_to(Insn::LoadImm64 { dst: by, value: Imm64::Code(0) }, exit);
                self.push(Insn::add(by, 4));
            }
            _ => {
                // The end of this function is one too, which is short.
                let exit = self.exit;
                self.push_to(Insn::LoadImm64 { dst: by, value: Imm64::Code(0) }, exit);
            }
        }
        self.push(Insn::Call(Callee::Reg(by)));
        self.height = self.height.max(1);
        self.state.after_call(Value::Number);
        Ok(())
    }

    /// A register for the address of a function with so many arguments.
    fn address_register(&mut self, arguments: usize) -> Result<Reg> {
        let free = |reg: &Reg| *reg == Reg::R0 || usize::from(reg.number()) > arguments;
        let free: Vec<Reg> =
            Reg::ALL[..10].iter().copied().filter(|reg| free(reg) && !self.state.is_pinned(*reg)).collect();
        Ok(*self.u.choose(&free)?)
    }

    /// Argument number `index` of a call. Those before it are there and must stay, so that all come from elsewhere.
    fn argument(&mut self, index: usize, argument: Argument) -> Result<()> {
        let reg = Reg::ALL[index + 1];
        match argument {
            Argument::Pointer(room) if room.context => self.context(reg)?,
            Argument::Pointer(room) => self.pointer_to(reg, room)?,
            Argument::Small(max) => {
                let value = self.u.int_in_range(0..=max)?;
                self.push(Insn::mov(reg, value));
            }
            Argument::Number | Argument::Depth => {
                if self.u.arbitrary()? {
                    self.number(reg)?;
                } else {
                    let src = *self.u.choose(&Reg::ALL[6..=10])?;
                    self.push(Insn::mov(reg, src));
                }
            }
        }
        Ok(())
    }

    /// A pointer to the context, if one is at hand; else something.
    pub(super) fn context(&mut self, reg: Reg) -> Result<()> {
        let need = Room { writable: false, context: true, ..Room::new(1) };
        let (kept, spilled) = (self.state.pointers(&Reg::ALL[6..10], need), self.state.spilled(need));
        let wrong = self.hostile(40)?;
        let insn = match (kept.first(), spilled.first()) {
            (Some(&src), _) if !wrong => Insn::mov(reg, src),
            (_, Some(&off)) if !wrong => Insn::load(Size::DW, reg, Reg::R10, off),
            _ if self.state.get(Reg::R1).room().is_some_and(|room| room.context) => Insn::mov(reg, Reg::R1),
            _ => Insn::mov(reg, Reg::R10),
        };
        self.push(insn);
        Ok(())
    }

    /// Whether the context is at hand.
    pub(super) fn has_context(&self) -> bool {
        self.keeps_context() || self.state.get(Reg::R1).room().is_some_and(|room| room.context)
    }

    /// Whether the context is where calls leave it.
    fn keeps_context(&self) -> bool {
        let need = Room { writable: false, context: true, ..Room::new(1) };
        !self.state.pointers(&Reg::ALL[6..10], need).is_empty() || !self.state.spilled(need).is_empty()
    }

    /// A helper that calls back.
    pub(super) fn callback(&mut self) -> Result<()> {
        use crate::model::helpers::{FOR_EACH_MAP_ELEM, LOOP};
        let fits = |function: &Function| {
            matches!(function.role, Role::Round | Role::Element { .. })
                && function.frames <= self.most_height
                && (self.cost + 16 * function.cost * self.trips) < MAX_COST
        };
        let fitting: Vec<usize> = (0..self.functions.len()).filter(|&i| fits(&self.functions[i])).collect();
        if fitting.is_empty() {
            return self.access();
        }
        let function = self.functions[*self.u.choose(&fitting)?].clone();
        let room = |index: usize| match function.arguments[index] {
            Argument::Pointer(room) => room,
            Argument::Small(_) | Argument::Number | Argument::Depth => Self::need(1, false),
        };
        let helper = if function.role == Role::Round {
            let rounds = self.u.int_in_range(0..=16)?;
            self.push(Insn::mov(Reg::R1, rounds));
            self.pointer_to(Reg::R3, room(1))?;
            LOOP
        } else {
            self.push(Insn::LoadImm64 { dst: Reg::R1, value: Imm64::MapFd(super::layout::ARRAY) });
            self.pointer_to(Reg::R3, room(3))?;
            FOR_EACH_MAP_ELEM
        };
        self.push_to(Insn::LoadImm64 { dst: Reg::R2, value: Imm64::Code(0) }, function.label);
        let flags = i32::from(self.hostile(20)?);
        self.push(Insn::mov(Reg::R4, flags));
        self.push(Insn::Call(Callee::Helper(helper)));
        self.cost += 16 * function.cost * self.trips;
        self.height = self.height.max(function.frames);
        self.state.after_helper(Value::Number);
        Ok(())
    }

    /// A jump to `label` when a register is zero, in one of the ways to say so.
    pub(super) fn if_zero(&mut self, reg: Reg, label: Label) -> Result<()> {
        let condition = *self.u.choose(&[Condition::Eq, Condition::Le])?;
        let width = if self.u.ratio(1, 4)? { Width::W32 } else { Width::W64 };
        self.push_to(Insn::JumpIf { condition, width, dst: reg, src: 0.into(), off: 0 }, label);
        Ok(())
    }
}
