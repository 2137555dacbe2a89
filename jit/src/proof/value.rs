//! What is known of a register or of a spilled value.
//!
//! A value makes claims (a number lies in a range, a pointer at an offset of a region) and may hint: a pointer with any
//! offset claims nothing, since every number is some distance away from every region, but says which object to compare
//! with first. Claims must be true; hints only make checks cheap.

/// An object, or a kind of object, that pointers are counted from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// The current function's stack frame; offsets are from its top, so that those inside are negative.
    Stack,
    /// The context.
    Context,
    /// The packet, from `data`.
    Packet,
    /// The only value of the array with this index, at an address that instructions hold.
    Data(u32),
    /// A value of the map with this index.
    Element(u32),
}

/// Smallest and largest value, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range<N> {
    pub(crate) min: N,
    pub(crate) max: N,
}

/// Offsets of which nothing is known.
pub(crate) const ANY: Range<i64> = Range { min: i64::MIN, max: i64::MAX };

/// Offsets farther than this from their region are not worth knowing; and sums of two that are nearer do not overflow.
const FAR: i64 = 1 << 32;

impl Range<i64> {
    pub(crate) fn exactly(value: i64) -> Range<i64> {
        Range { min: value, max: value }
    }

    /// Sum with a range of numbers.
    pub(crate) fn plus(self, other: Range<i64>) -> Range<i64> {
        if self == ANY || other == ANY {
            return ANY;
        }
        let sum = Range { min: self.min + other.min, max: self.max + other.max };
        if sum.min < -FAR || sum.max > FAR { ANY } else { sum }
    }

    fn negated(self) -> Range<i64> {
        if self == ANY { ANY } else { Range { min: -self.max, max: -self.min } }
    }
}

impl Range<u64> {
    pub(crate) const ALL: Range<u64> = Range { min: 0, max: u64::MAX };
    pub(crate) const LOW: Range<u64> = Range { min: 0, max: u32::MAX as u64 };

    /// As a distance.
    pub(crate) fn distance(self) -> Range<i64> {
        if self.max == self.min {
            // A negative number is a large one.
            return Range { min: self.min as i64, max: self.min as i64 }.near();
        }
        match (i64::try_from(self.min), i64::try_from(self.max)) {
            (Ok(min), Ok(max)) => Range { min, max }.near(),
            _ => ANY,
        }
    }
}

impl Range<i64> {
    fn near(self) -> Range<i64> {
        if self.min < -FAR || self.max > FAR { ANY } else { self }
    }
}

/// What is known of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number in a range, all of them included where nothing is known.
    Number(Range<u64>),
    /// So far from the start of a region ([`Region::Stack`]: from its end).
    Pointer(Region, Range<i64>),
    /// What a lookup in the map with this index gave: a pointer to a value, or 0. Equal ids are equal values.
    MaybeNull { map: u32, id: u32 },
    /// The end of the packet.
    PacketEnd,
}

impl Value {
    pub(crate) const UNKNOWN: Value = Value::Number(Range::ALL);

    pub(crate) fn number(value: u64) -> Value {
        Value::Number(Range { min: value, max: value })
    }

    /// The number, if there is but one.
    pub(crate) fn constant(self) -> Option<u64> {
        match self {
            Value::Number(Range { min, max }) if min == max => Some(min),
            Value::Number(_) | Value::Pointer(..) | Value::MaybeNull { .. } | Value::PacketEnd => None,
        }
    }

    /// The number's range; all numbers for a pointer.
    pub(crate) fn range(self) -> Range<u64> {
        match self {
            Value::Number(range) => range,
            Value::MaybeNull { .. } | Value::PacketEnd => Range::LOW,
            Value::Pointer(..) => Range::ALL,
        }
    }

    /// The hint without the claim.
    pub(crate) fn hint(self) -> Value {
        match self {
            Value::Pointer(region, _) => Value::Pointer(region, ANY),
            Value::MaybeNull { map, .. } => Value::Pointer(Region::Element(map), ANY),
            Value::Number(_) | Value::PacketEnd => Value::UNKNOWN,
        }
    }

    /// What is true of both.
    pub(crate) fn join(self, other: Value) -> Value {
        match (self, other) {
            (a, b) if a == b => a,
            (Value::Number(a), Value::Number(b)) => {
                Value::Number(Range { min: a.min.min(b.min), max: a.max.max(b.max) })
            }
            (Value::Pointer(region, a), Value::Pointer(other, b)) if region == other => {
                Value::Pointer(region, Range { min: a.min.min(b.min), max: a.max.max(b.max) })
            }
            // One of them may be a null pointer, or one that another test has left.
            (pointer @ (Value::Pointer(..) | Value::MaybeNull { .. }), _)
            | (_, pointer @ (Value::Pointer(..) | Value::MaybeNull { .. })) => pointer.hint(),
            (Value::Number(_) | Value::PacketEnd, Value::Number(_) | Value::PacketEnd) => Value::UNKNOWN,
        }
    }

    /// Whether all that `self` claims is true of `other` as well.
    pub(crate) fn covers(self, other: Value) -> bool {
        match (self, other) {
            (Value::Number(Range::ALL) | Value::Pointer(_, ANY), _) => true,
            (Value::Number(a), b) => {
                let b = b.range();
                a.min <= b.min && b.max <= a.max
            }
            (Value::Pointer(region, a), Value::Pointer(other, b)) => {
                region == other && a.min <= b.min && b.max <= a.max
            }
            (a, b) => a == b,
        }
    }

    /// Plus a number.
    pub(crate) fn plus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Pointer(region, offset), other) | (other, Value::Pointer(region, offset)) => match other {
                Value::Number(range) => Value::Pointer(region, offset.plus(range.distance())),
                Value::Pointer(..) | Value::MaybeNull { .. } | Value::PacketEnd => Value::Pointer(region, ANY),
            },
            (Value::Number(a), Value::Number(b)) => match (a.min.checked_add(b.min), a.max.checked_add(b.max)) {
                (Some(min), Some(max)) => Value::Number(Range { min, max }),
                _ if a.min == a.max && b.min == b.max => Value::number(a.min.wrapping_add(b.min)),
                _ => Value::UNKNOWN,
            },
            (maybe @ Value::MaybeNull { .. }, _) | (_, maybe @ Value::MaybeNull { .. }) => maybe.hint(),
            (Value::PacketEnd, _) | (_, Value::PacketEnd) => Value::UNKNOWN,
        }
    }

    /// Minus a number.
    pub(crate) fn minus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Pointer(region, offset), Value::Number(range)) => {
                Value::Pointer(region, offset.plus(range.distance().negated()))
            }
            (Value::Number(a), Value::Number(b)) => match (a.min.checked_sub(b.max), a.max.checked_sub(b.min)) {
                (Some(min), Some(max)) => Value::Number(Range { min, max }),
                _ if a.min == a.max && b.min == b.max => Value::number(a.min.wrapping_sub(b.min)),
                _ => Value::UNKNOWN,
            },
            _ => Value::UNKNOWN,
        }
    }
}
