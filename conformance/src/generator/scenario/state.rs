//! What is known of registers and spilled words at a place in a program: enough to make accesses that hit.

use std::collections::BTreeMap;

use softbpf::insn::{AluOp, Insn, Operand, Reg, Size, Width};

/// Bytes around a pointer that may be accessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// How many before it; below zero when it points in front of them.
    pub(super) below: i32,
    /// How many from it on.
    pub(super) above: i32,
    pub(super) writable: bool,
    /// It points to the context's first byte.
    pub(super) context: bool,
}

impl Room {
    pub(super) fn new(above: i32) -> Room {
        Room { below: 0, above, writable: true, context: false }
    }

    pub(super) fn bytes(self) -> i32 {
        self.below + self.above
    }

    /// After `pointer += by`.
    pub(super) fn moved(self, by: i32) -> Room {
        let context = self.context && by == 0;
        Room { below: self.below.saturating_add(by), above: self.above.saturating_sub(by), context, ..self }
    }

    /// After `pointer += something from 0 to by`.
    pub(super) fn moved_up_to(self, by: i32) -> Room {
        Room { above: self.above - by, context: false, ..self }
    }

    /// Whether there is all this around the pointer too.
    pub(super) fn has(self, need: Room) -> bool {
        let (writable, context) = (self.writable || !need.writable, self.context || !need.context);
        self.below >= need.below && self.above >= need.above && writable && context
    }

    fn joined(self, other: Room) -> Room {
        Room {
            below: self.below.min(other.below),
            above: self.above.min(other.above),
            writable: self.writable && other.writable,
            context: self.context && other.context,
        }
    }
}

/// What a register or a word of the stack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Anything.
    Number,
    /// From 0 to this.
    Small(i32),
    Pointer(Room),
}

impl Value {
    pub(super) fn room(self) -> Option<Room> {
        if let Value::Pointer(room) = self { Some(room) } else { None }
    }

    fn joined(self, other: Value) -> Value {
        match (self, other) {
            (Value::Small(a), Value::Small(b)) => Value::Small(a.max(b)),
            (Value::Pointer(a), Value::Pointer(b)) => Value::Pointer(a.joined(b)),
            (Value::Number, _) | (Value::Small(_), Value::Number | Value::Pointer(_)) | (Value::Pointer(_), _) => {
                Value::Number
            }
        }
    }
}

/// What is known at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    registers: [Value; 10],
    /// Words of the stack by offset.
    words: BTreeMap<i16, Value>,
    /// Registers that keep their value, as a set of bits.
    pinned: u16,
    pinned_words: Vec<i16>,
}

impl State {
    pub(super) fn new() -> State {
        State { registers: [Value::Number; 10], words: BTreeMap::new(), pinned: 0, pinned_words: Vec::new() }
    }

    pub(super) fn get(&self, reg: Reg) -> Value {
        let stack = Room { below: 512, above: 0, writable: true, context: false };
        self.registers.get(index(reg)).copied().unwrap_or(Value::Pointer(stack))
    }

    pub(super) fn set(&mut self, reg: Reg, value: Value) {
        if let Some(place) = self.registers.get_mut(index(reg)) {
            *place = value;
        }
    }

    pub(super) fn word(&self, off: i16) -> Value {
        self.words.get(&off).copied().unwrap_or(Value::Number)
    }

    pub(super) fn set_word(&mut self, off: i16, value: Value) {
        self.words.insert(off, value);
    }

    /// Spilled pointers that have this room.
    pub(super) fn spilled(&self, need: Room) -> Vec<i16> {
        let has = |value: &Value| value.room().is_some_and(|room| room.has(need));
        self.words.iter().filter(|(_, value)| has(value)).map(|(&off, _)| off).collect()
    }

    /// Registers of these that point to this room.
    pub(super) fn pointers(&self, among: &[Reg], need: Room) -> Vec<Reg> {
        let has = |reg: &Reg| self.get(*reg).room().is_some_and(|room| room.has(need));
        among.iter().copied().filter(has).collect()
    }

    pub(super) fn is_pinned(&self, reg: Reg) -> bool {
        reg == Reg::R10 || self.pinned >> index(reg) & 1 == 1
    }

    pub(super) fn pin(&mut self, reg: Reg) {
        self.pinned |= 1 << index(reg);
    }

    pub(super) fn is_pinned_word(&self, off: i16) -> bool {
        self.pinned_words.contains(&off)
    }

    pub(super) fn pin_word(&mut self, off: i16) {
        self.pinned_words.push(off);
    }

    /// Forgets everything that is not pinned: another path leads here.
    pub(super) fn forget(&mut self) {
        for (reg, value) in Reg::ALL.iter().zip(&mut self.registers) {
            if self.pinned >> index(*reg) & 1 == 0 {
                *value = Value::Number;
            }
        }
        self.words.retain(|off, _| self.pinned_words.contains(off));
    }

    /// Takes the pins of another state.
    pub(super) fn pins_of(&mut self, other: &State) {
        self.pinned = other.pinned;
        self.pinned_words.clone_from(&other.pinned_words);
    }

    /// What holds on both of two paths.
    pub(super) fn join(&mut self, other: &State) {
        for (value, other) in self.registers.iter_mut().zip(&other.registers) {
            *value = value.joined(*other);
        }
        self.words.retain(|off, _| other.words.contains_key(off));
        for (off, value) in &mut self.words {
            *value = value.joined(other.word(*off));
        }
    }

    /// What an instruction does, calls excepted.
    pub(super) fn apply(&mut self, insn: &Insn) {
        let value = if let Insn::Alu { op, width, dst, src } = *insn {
            self.alu(op, width, dst, src)
        } else if let Insn::Load { size, signed: false, base: Reg::R10, off, .. } = *insn {
            match (size, self.word(off)) {
                (Size::DW, value) => value,
                // Addresses have 32 bits.
                (Size::W, Value::Pointer(room)) => Value::Pointer(room),
                _ => Value::Number,
            }
        } else if let Insn::Store { size, base: Reg::R10, off, src } = *insn {
            return self.store(size, off, src);
        } else {
            Value::Number
        };
        if let Some(dst) = insn.written() {
            self.set(dst, value);
        }
        if let Insn::Atomic { base: Reg::R10, off, .. } | Insn::StoreRelease { base: Reg::R10, off, .. } = *insn {
            self.clear_words(off, 8);
        }
    }

    fn alu(&self, op: AluOp, width: Width, dst: Reg, src: Operand) -> Value {
        match (op, width, self.get(dst), src) {
            (AluOp::Mov, _, _, Operand::Reg(src)) => self.get(src),
            (AluOp::Mov, _, _, Operand::Imm(imm)) if imm >= 0 => Value::Small(imm),
            (AluOp::And, _, _, Operand::Imm(imm)) if imm >= 0 => Value::Small(imm),
            (AluOp::Add, Width::W64, Value::Pointer(room), Operand::Imm(imm)) => Value::Pointer(room.moved(imm)),
            (AluOp::Sub, Width::W64, Value::Pointer(room), Operand::Imm(imm)) if imm != i32::MIN => {
                Value::Pointer(room.moved(-imm))
            }
            (AluOp::Mul, _, Value::Small(max), Operand::Imm(imm)) if imm >= 0 => {
                max.checked_mul(imm).map_or(Value::Number, Value::Small)
            }
            (AluOp::Add, Width::W64, Value::Small(max), Operand::Reg(src)) => match self.get(src) {
                Value::Pointer(room) => Value::Pointer(room.moved_up_to(max)),
                Value::Number | Value::Small(_) => Value::Number,
            },
            (AluOp::Add, Width::W64, Value::Pointer(room), Operand::Reg(src)) => match self.get(src) {
                Value::Small(max) => Value::Pointer(room.moved_up_to(max)),
                Value::Number | Value::Pointer(_) => Value::Number,
            },
            _ => Value::Number,
        }
    }

    fn store(&mut self, size: Size, off: i16, src: Operand) {
        self.clear_words(off, size.bytes() as i16);
        if size == Size::DW && off % 8 == 0 {
            let value = match src {
                Operand::Reg(reg) => self.get(reg),
                Operand::Imm(_) => Value::Number,
            };
            self.words.insert(off, value);
        }
    }

    /// Some bytes of the stack are written.
    pub(super) fn clear_words(&mut self, off: i16, bytes: i16) {
        self.words.retain(|&word, _| word.saturating_add(8) <= off || word >= off.saturating_add(bytes));
    }

    /// After a call of a helper: `r1` to `r5` are zero.
    pub(super) fn after_helper(&mut self, r0: Value) {
        self.set(Reg::R0, r0);
        for reg in &Reg::ALL[1..=5] {
            self.set(*reg, Value::Small(0));
        }
    }

    /// After a call of a function: `r1` to `r5` are what it left there.
    pub(super) fn after_call(&mut self, r0: Value) {
        self.set(Reg::R0, r0);
        for reg in &Reg::ALL[1..=5] {
            self.set(*reg, Value::Number);
        }
    }
}

fn index(reg: Reg) -> usize {
    reg.number().into()
}
