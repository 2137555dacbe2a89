//! What is known at one place of a program.

use softbpf::insn::{Condition, Operand, Reg, Width};

use super::value::{Offsets, Packed, Region, Value};

/// Spilled values that are followed at the same time; further ones are forgotten.
const MAX_SPILLED: usize = 16;

/// What is known of registers, spilled values and the packet.
#[derive(Debug, PartialEq)]
pub(super) struct State {
    registers: [Packed; 11],
    /// Values of 8 bytes on the stack, by their offset from the frame's top.
    spilled: Vec<(i32, Packed)>,
    /// Bytes that the packet has at least.
    pub(super) packet: i32,
}

impl Clone for State {
    fn clone(&self) -> State {
        State { registers: self.registers, spilled: self.spilled.clone(), packet: self.packet }
    }

    /// A state is often copied over one that is not needed any more, with its list.
    fn clone_from(&mut self, other: &State) {
        let State { registers, spilled, packet } = other;
        self.registers = *registers;
        self.spilled.clone_from(spilled);
        self.packet = *packet;
    }
}

impl State {
    /// Where a function begins.
    pub(super) fn unknown() -> State {
        let mut registers = [Packed::UNKNOWN; 11];
        registers[10] = Value::start_of(Region::Stack).into();
        State { registers, spilled: Vec::new(), packet: 0 }
    }

    #[inline(always)]
    pub(super) fn packed(&self, reg: Reg) -> Packed {
        self.registers[usize::from(reg.number())]
    }

    #[inline(always)]
    pub(super) fn get(&self, reg: Reg) -> Value {
        self.packed(reg).unpack()
    }

    #[inline(always)]
    pub(super) fn set(&mut self, reg: Reg, value: impl Into<Packed>) {
        self.registers[usize::from(reg.number())] = value.into();
    }

    #[inline(always)]
    pub(super) fn operand(&self, operand: Operand) -> Packed {
        match operand {
            Operand::Reg(reg) => self.packed(reg),
            Operand::Imm(imm) => Packed::immediate(imm),
        }
    }

    /// The spilled value at an offset.
    pub(super) fn spilled(&self, offset: i32) -> Packed {
        let find = self.spilled.iter().find(|&&(at, _)| at == offset);
        find.map_or(Packed::UNKNOWN, |&(_, value)| value)
    }

    pub(super) fn spill(&mut self, offset: i32, value: Packed) {
        self.overwrite(offset, offset + 7);
        if value != Packed::UNKNOWN && self.spilled.len() < MAX_SPILLED {
            self.spilled.push((offset, value));
        }
    }

    /// The bytes of the frame from `first` to `last` have been written.
    pub(super) fn overwrite(&mut self, first: i32, last: i32) {
        self.spilled.retain(|&(at, _)| at > last || at + 7 < first);
    }

    /// Anything on the stack may have been written: what was spilled is likely still there, and no more.
    pub(super) fn doubt_spilled(&mut self) {
        for (_, value) in &mut self.spilled {
            *value = value.unpack().hint().into();
        }
    }

    /// Nothing is known of spilled values.
    pub(super) fn forget_spilled(&mut self) {
        self.spilled = Vec::new();
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
        self.registers[..6].fill(Packed::UNKNOWN);
    }

    /// What is true of both.
    pub(super) fn join(&mut self, other: &State) {
        for (value, other) in self.registers.iter_mut().zip(&other.registers) {
            *value = joined(*value, *other);
        }
        for (at, value) in &mut self.spilled {
            *value = joined(*value, other.spilled(*at));
        }
        self.packet = self.packet.min(other.packet);
    }

    /// Whether all that `self` claims is true of `other` as well.
    pub(super) fn covers(&self, other: &State) -> bool {
        self.packet <= other.packet
            && self.registers.iter().zip(&other.registers).all(|(value, other)| covers(*value, *other))
            && self.spilled.iter().all(|(at, value)| covers(*value, other.spilled(*at)))
    }

    /// The values that one lookup gave, wherever they are, become this one.
    pub(super) fn replace_maybe_null(&mut self, id: u32, new: Value) {
        let places = self.registers.iter_mut().chain(self.spilled.iter_mut().map(|(_, value)| value));
        for value in places {
            if let Value::MaybeNull(found) = value.unpack()
                && found.id() == id
            {
                *value = new.into();
            }
        }
    }

    /// Adds what is known where a condition holds.
    pub(super) fn assume(&mut self, condition: Condition, width: Width, dst: Reg, src: Operand) {
        // Of most numbers nothing new is known, compared with a constant.
        if self.packed(dst).is_up_to() && matches!(src, Operand::Imm(_)) && !lowers(condition) {
            return;
        }
        let (a, b) = (self.get(dst), self.operand(src).unpack());
        match (a, b) {
            (Value::MaybeNull(found), _) if b.constant() == Some(0) => match condition {
                Condition::Eq => self.replace_maybe_null(found.id(), Value::Constant(0)),
                Condition::Ne => self.replace_maybe_null(found.id(), Value::start_of(Region::Element(found.map()))),
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
            (Value::Pointer(place), Value::PacketEnd) if place.region() == Region::Packet => {
                self.assume_packet(condition, width, place.offsets());
            }
            (Value::PacketEnd, Value::Pointer(place)) if place.region() == Region::Packet => {
                self.assume_packet(mirrored(condition), width, place.offsets());
            }
            (Value::UpTo(largest), _) => {
                self.set(dst, narrow(condition, width, largest, b));
                if let (Operand::Reg(src), Value::UpTo(other)) = (src, b) {
                    self.set(src, narrow(mirrored(condition), width, other, a));
                }
            }
            (Value::Constant(_), Value::UpTo(other)) => {
                if let Operand::Reg(src) = src {
                    self.set(src, narrow(mirrored(condition), width, other, a));
                }
            }
            _ => {}
        }
    }

    /// `data + offset` compared with the packet's end.
    fn assume_packet(&mut self, condition: Condition, width: Width, offset: Offsets) {
        /// Larger offsets could leave the 32 bits that addresses have.
        const LARGEST: i32 = 1 << 20;
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

#[inline(always)]
fn joined(value: Packed, other: Packed) -> Packed {
    if value == other {
        return value;
    }
    value.larger(other).unwrap_or_else(|| join_slowly(value, other))
}

#[inline(never)]
fn join_slowly(value: Packed, other: Packed) -> Packed {
    value.unpack().join(other.unpack()).into()
}

fn covers(value: Packed, other: Packed) -> bool {
    value == other || value.unpack().covers(other.unpack())
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

/// Whether a number may be smaller than was known when it compares like this with another one.
fn lowers(condition: Condition) -> bool {
    matches!(condition, Condition::Eq | Condition::Lt | Condition::Le | Condition::Slt | Condition::Sle)
}

/// What is known of a number up to `largest` that compares like this with another one.
fn narrow(condition: Condition, width: Width, largest: u64, other: Value) -> Value {
    let limit = other.largest();
    let (low, positive) = match width {
        Width::W32 => (largest.max(limit) <= u32::MAX.into(), i32::MAX as u64),
        Width::W64 => (true, i64::MAX as u64),
    };
    let signed = largest.max(limit) <= positive;
    let largest = match condition {
        _ if !low => largest,
        Condition::Eq => match other {
            Value::Constant(_) => return other,
            Value::UpTo(_) | Value::Pointer(_) | Value::MaybeNull(_) | Value::PacketEnd => largest.min(limit),
        },
        Condition::Lt => largest.min(limit.saturating_sub(1)),
        Condition::Le => largest.min(limit),
        Condition::Slt if signed => largest.min(limit.saturating_sub(1)),
        Condition::Sle if signed => largest.min(limit),
        Condition::Ne
        | Condition::Set
        | Condition::Gt
        | Condition::Ge
        | Condition::Sgt
        | Condition::Sge
        | Condition::Slt
        | Condition::Sle => largest,
    };
    Value::UpTo(largest)
}
