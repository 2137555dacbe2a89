//! What is known at one place of a program.

use softbpf::insn::{Condition, Operand, Reg, Width};

use super::value::{Range, Region, Value};

/// Spilled values that are followed at the same time; further ones are forgotten.
const MAX_SPILLED: usize = 16;

/// What is known of registers, spilled values and the packet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct State {
    registers: [Value; 11],
    /// Values of 8 bytes on the stack, by their offset from the frame's top.
    spilled: Vec<(i64, Value)>,
    /// Bytes that the packet has at least.
    pub(super) packet: i64,
}

impl State {
    /// Where a function begins.
    pub(super) fn unknown() -> State {
        let mut registers = [Value::UNKNOWN; 11];
        registers[10] = Value::Pointer(Region::Stack, Range::exactly(0));
        State { registers, spilled: Vec::new(), packet: 0 }
    }

    pub(super) fn get(&self, reg: Reg) -> Value {
        self.registers[usize::from(reg.number())]
    }

    pub(super) fn set(&mut self, reg: Reg, value: Value) {
        self.registers[usize::from(reg.number())] = value;
    }

    pub(super) fn operand(&self, operand: Operand) -> Value {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => Value::number(imm as i64 as u64),
        }
    }

    /// The spilled value at an offset.
    pub(super) fn spilled(&self, offset: i64) -> Value {
        let find = self.spilled.iter().find(|&&(at, _)| at == offset);
        find.map_or(Value::UNKNOWN, |&(_, value)| value)
    }

    pub(super) fn spill(&mut self, offset: i64, value: Value) {
        self.overwrite(Range { min: offset, max: offset + 7 });
        if value != Value::UNKNOWN && self.spilled.len() < MAX_SPILLED {
            self.spilled.push((offset, value));
        }
    }

    /// The bytes of the frame in this range have been written.
    pub(super) fn overwrite(&mut self, bytes: Range<i64>) {
        self.spilled.retain(|&(at, _)| at > bytes.max || at + 7 < bytes.min);
    }

    /// Anything on the stack may have been written: what was spilled is likely still there, and no more.
    pub(super) fn doubt_spilled(&mut self) {
        for (_, value) in &mut self.spilled {
            *value = value.hint();
        }
    }

    /// Registers in the set may hold anything: what they likely hold stays.
    pub(super) fn doubt(&mut self, registers: u16) {
        for reg in Reg::ALL {
            if registers & 1 << reg.number() != 0 {
                self.set(reg, self.get(reg).hint());
            }
        }
    }

    /// A call: `r0` to `r5` are lost.
    pub(super) fn clobber(&mut self) {
        self.registers[..6].fill(Value::UNKNOWN);
    }

    /// What is true of both.
    pub(super) fn join(&mut self, other: &State) {
        for (value, other) in self.registers.iter_mut().zip(&other.registers) {
            *value = value.join(*other);
        }
        for (at, value) in &mut self.spilled {
            *value = value.join(other.spilled(*at));
        }
        self.packet = self.packet.min(other.packet);
    }

    /// Whether all that `self` claims is true of `other` as well.
    pub(super) fn covers(&self, other: &State) -> bool {
        self.packet <= other.packet
            && self.registers.iter().zip(&other.registers).all(|(value, other)| value.covers(*other))
            && self.spilled.iter().all(|(at, value)| value.covers(other.spilled(*at)))
    }

    /// The values that one lookup gave, wherever they are, become this one.
    pub(super) fn replace_maybe_null(&mut self, id: u32, new: Value) {
        let places = self.registers.iter_mut().chain(self.spilled.iter_mut().map(|(_, value)| value));
        for value in places {
            if let Value::MaybeNull { id: other, .. } = *value
                && other == id
            {
                *value = new;
            }
        }
    }

    /// Adds what is known where a condition holds.
    pub(super) fn assume(&mut self, condition: Condition, width: Width, dst: Reg, src: Operand) {
        let (a, b) = (self.get(dst), self.operand(src));
        match (a, b) {
            (Value::MaybeNull { map, id }, _) if b.constant() == Some(0) => match condition {
                Condition::Eq => self.replace_maybe_null(id, Value::number(0)),
                Condition::Ne => {
                    self.replace_maybe_null(id, Value::Pointer(Region::Element(map), Range::exactly(0)));
                }
                Condition::Gt
                | Condition::Ge
                | Condition::Set
                | Condition::Sgt
                | Condition::Sge
                | Condition::Lt
                | Condition::Le
                | Condition::Slt
                | Condition::Sle => {}
            },
            (Value::Pointer(Region::Packet, offset), Value::PacketEnd) => self.assume_packet(condition, width, offset),
            (Value::PacketEnd, Value::Pointer(Region::Packet, offset)) => {
                self.assume_packet(mirrored(condition), width, offset);
            }
            (Value::Number(range), _) => {
                let narrowed = narrow(condition, width, range, b.range());
                self.set(dst, Value::Number(narrowed));
                if let (Operand::Reg(src), Value::Number(other)) = (src, b) {
                    self.set(src, Value::Number(narrow(mirrored(condition), width, other, range)));
                }
            }
            _ => {}
        }
    }

    /// `data + offset` compared with the packet's end.
    fn assume_packet(&mut self, condition: Condition, width: Width, offset: Range<i64>) {
        /// Larger offsets could leave the 32 bits that addresses have.
        const LARGEST: i64 = 1 << 20;
        if offset.min < 0 || offset.max > LARGEST && width == Width::W32 {
            return;
        }
        let at_least = match condition {
            Condition::Le => offset.min,
            Condition::Lt => offset.min + 1,
            Condition::Eq
            | Condition::Ne
            | Condition::Gt
            | Condition::Ge
            | Condition::Set
            | Condition::Sgt
            | Condition::Sge
            | Condition::Slt
            | Condition::Sle => return,
        };
        self.packet = self.packet.max(at_least);
    }
}

/// The condition that holds of `(b, a)` when the one given holds of `(a, b)`.
fn mirrored(condition: Condition) -> Condition {
    match condition {
        Condition::Gt => Condition::Lt,
        Condition::Ge => Condition::Le,
        Condition::Lt => Condition::Gt,
        Condition::Le => Condition::Ge,
        Condition::Sgt => Condition::Slt,
        Condition::Sge => Condition::Sle,
        Condition::Slt => Condition::Sgt,
        Condition::Sle => Condition::Sge,
        Condition::Eq | Condition::Ne | Condition::Set => condition,
    }
}

/// The condition that holds when the one given does not; none for a test of bits.
pub(super) fn negated(condition: Condition) -> Option<Condition> {
    Some(match condition {
        Condition::Eq => Condition::Ne,
        Condition::Ne => Condition::Eq,
        Condition::Gt => Condition::Le,
        Condition::Ge => Condition::Lt,
        Condition::Lt => Condition::Ge,
        Condition::Le => Condition::Gt,
        Condition::Sgt => Condition::Sle,
        Condition::Sge => Condition::Slt,
        Condition::Slt => Condition::Sge,
        Condition::Sle => Condition::Sgt,
        Condition::Set => return None,
    })
}

/// What is left of a range of numbers that compare like this with one of another range.
fn narrow(condition: Condition, width: Width, range: Range<u64>, other: Range<u64>) -> Range<u64> {
    if width == Width::W32 && range.max.max(other.max) > u64::from(u32::MAX) {
        return range;
    }
    let positive = match width {
        Width::W32 => i32::MAX as u64,
        Width::W64 => i64::MAX as u64,
    };
    let signed = range.max.max(other.max) <= positive;
    let (mut min, mut max) = (range.min, range.max);
    match condition {
        Condition::Eq => (min, max) = (min.max(other.min), max.min(other.max)),
        Condition::Lt => max = max.min(other.max.saturating_sub(1)),
        Condition::Le => max = max.min(other.max),
        Condition::Gt => min = min.max(other.min.saturating_add(1)),
        Condition::Ge => min = min.max(other.min),
        Condition::Slt if signed => max = max.min(other.max.saturating_sub(1)),
        Condition::Sle if signed => max = max.min(other.max),
        Condition::Sgt if signed => min = min.max(other.min.saturating_add(1)),
        Condition::Sge if signed => min = min.max(other.min),
        Condition::Ne | Condition::Set | Condition::Slt | Condition::Sle | Condition::Sgt | Condition::Sge => {}
    }
    // A condition that cannot hold: what comes behind it is not reached.
    if min > max { range } else { Range { min, max } }
}
