//! What is known of a register or of a spilled value.
//!
//! A value makes claims (a number is no larger than this, a pointer at an offset of a region) and may hint: a pointer
//! with any offset claims nothing, since every number is some distance away from every region, but says which object to
//! compare with first. Claims must be true; hints only make checks cheap.

pub(super) use crate::inspect::Region;

/// Smallest and largest offset, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offsets {
    pub(crate) min: i32,
    pub(crate) max: i32,
}

impl Offsets {
    /// Nothing is known: no claim.
    pub(crate) const ANY: Offsets = Offsets { min: i32::MIN, max: i32::MAX };

    pub(crate) const fn exactly(offset: i32) -> Offsets {
        Offsets { min: offset, max: offset }
    }

    /// The offset, if there is but one.
    pub(crate) fn single(self) -> Option<i32> {
        (self.min == self.max).then_some(self.min)
    }

    /// So many bytes farther.
    pub(crate) fn plus(self, distance: i64) -> Offsets {
        self.widened(distance, distance)
    }

    /// From `min` to `max` bytes farther.
    fn widened(self, min: i64, max: i64) -> Offsets {
        /// What is farther away is not worth knowing.
        const FAR: i64 = 1 << 30;
        if self == Offsets::ANY || min < -FAR || max > FAR {
            return Offsets::ANY;
        }
        let (min, max) = (i64::from(self.min) + min, i64::from(self.max) + max);
        if min < -FAR || max > FAR { Offsets::ANY } else { Offsets { min: min as i32, max: max as i32 } }
    }

    fn join(self, other: Offsets) -> Offsets {
        Offsets { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    fn covers(self, other: Offsets) -> bool {
        self.min <= other.min && other.max <= self.max
    }
}

/// What is known of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    /// This number.
    Constant(u64),
    /// A number no larger than this.
    UpTo(u64),
    /// So far from the start of a region ([`Region::Stack`]: from its end).
    Pointer(Region, Offsets),
    /// What a lookup in the map with this index gave: a pointer to a value, or 0. Equal ids are equal values.
    MaybeNull { map: u32, id: u32 },
    /// The end of the packet.
    PacketEnd,
}

// A state has dozens, and there is one for each jump.
const _: () = assert!(size_of::<Value>() == 16);

impl Value {
    pub(crate) const UNKNOWN: Value = Value::UpTo(u64::MAX);
    /// A number of 32 bits.
    pub(crate) const LOW: Value = Value::UpTo(u32::MAX as u64);

    /// The number, if there is but one.
    pub(crate) fn constant(self) -> Option<u64> {
        if let Value::Constant(value) = self { Some(value) } else { None }
    }

    /// The largest number that it can be.
    pub(crate) fn largest(self) -> u64 {
        match self {
            Value::Constant(value) | Value::UpTo(value) => value,
            Value::MaybeNull { .. } | Value::PacketEnd => u32::MAX.into(),
            Value::Pointer(..) => u64::MAX,
        }
    }

    /// The hint without the claim.
    pub(crate) fn hint(self) -> Value {
        match self {
            Value::Pointer(region, _) => Value::Pointer(region, Offsets::ANY),
            Value::MaybeNull { map, .. } => Value::Pointer(Region::Element(map), Offsets::ANY),
            Value::Constant(_) | Value::UpTo(_) | Value::PacketEnd => Value::UNKNOWN,
        }
    }

    /// What is true of both.
    pub(crate) fn join(self, other: Value) -> Value {
        match (self, other) {
            (a, b) if a == b => a,
            (Value::Constant(a) | Value::UpTo(a), Value::Constant(b) | Value::UpTo(b)) => Value::UpTo(a.max(b)),
            (Value::Pointer(region, a), Value::Pointer(other, b)) if region == other => {
                Value::Pointer(region, a.join(b))
            }
            // One of them may be a null pointer, or one that another test has left.
            (pointer @ (Value::Pointer(..) | Value::MaybeNull { .. }), _)
            | (_, pointer @ (Value::Pointer(..) | Value::MaybeNull { .. })) => pointer.hint(),
            (Value::PacketEnd, _) | (_, Value::PacketEnd) => Value::UNKNOWN,
        }
    }

    /// Whether all that `self` claims is true of `other` as well.
    pub(crate) fn covers(self, other: Value) -> bool {
        match (self, other) {
            (Value::UpTo(u64::MAX) | Value::Pointer(_, Offsets::ANY), _) => true,
            (Value::UpTo(max), other) => other.largest() <= max,
            (Value::Pointer(region, a), Value::Pointer(other, b)) => region == other && a.covers(b),
            (a, b) => a == b,
        }
    }

    /// Plus a number.
    pub(crate) fn plus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Constant(a), Value::Constant(b)) => Value::Constant(a.wrapping_add(b)),
            (Value::Pointer(region, offsets), Value::Constant(distance))
            | (Value::Constant(distance), Value::Pointer(region, offsets)) => {
                // A negative number is a large one.
                Value::Pointer(region, offsets.plus(distance as i64))
            }
            (Value::Pointer(region, offsets), Value::UpTo(max))
            | (Value::UpTo(max), Value::Pointer(region, offsets)) => {
                Value::Pointer(region, offsets.widened(0, i64::try_from(max).unwrap_or(i64::MAX)))
            }
            (Value::Constant(a) | Value::UpTo(a), Value::Constant(b) | Value::UpTo(b)) => {
                Value::UpTo(a.saturating_add(b))
            }
            (pointer @ (Value::Pointer(..) | Value::MaybeNull { .. }), _)
            | (_, pointer @ (Value::Pointer(..) | Value::MaybeNull { .. })) => pointer.hint(),
            (Value::PacketEnd, _) | (_, Value::PacketEnd) => Value::UNKNOWN,
        }
    }

    /// Minus a number.
    pub(crate) fn minus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Constant(a), Value::Constant(b)) => Value::Constant(a.wrapping_sub(b)),
            (Value::Pointer(region, offsets), Value::Constant(distance)) => {
                Value::Pointer(region, offsets.plus((distance as i64).checked_neg().unwrap_or(i64::MAX)))
            }
            (Value::Pointer(region, offsets), Value::UpTo(max)) => {
                Value::Pointer(region, offsets.widened(-i64::try_from(max).unwrap_or(i64::MAX), 0))
            }
            (Value::Pointer(..) | Value::MaybeNull { .. }, Value::MaybeNull { .. } | Value::PacketEnd)
            | (Value::Pointer(..), Value::Pointer(..))
            | (Value::Constant(_) | Value::UpTo(_) | Value::PacketEnd, _) => Value::UNKNOWN,
            (maybe @ Value::MaybeNull { .. }, Value::Constant(_) | Value::UpTo(_) | Value::Pointer(..)) => maybe.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values, and numbers that they are true of when a region starts at 1000.
    fn samples() -> Vec<(Value, Vec<u64>)> {
        let at = |min: i32, max: i32| Value::Pointer(Region::Context, Offsets { min, max });
        vec![
            (Value::Constant(0), vec![0]),
            (Value::Constant(u64::MAX), vec![u64::MAX]),
            (Value::Constant(1 << 63), vec![1 << 63]),
            (Value::UpTo(5), vec![0, 5]),
            (Value::LOW, vec![0, 7, u32::MAX.into()]),
            (Value::UNKNOWN, vec![0, 1 << 63, u64::MAX]),
            (at(0, 0), vec![1000]),
            (at(-8, 16), vec![992, 1016]),
            (at(i32::MIN, i32::MAX), vec![0, u64::MAX]),
        ]
    }

    fn is_true_of(value: Value, number: u64) -> bool {
        match value {
            Value::Constant(only) => number == only,
            Value::UpTo(max) => number <= max,
            Value::Pointer(_, Offsets::ANY) => true,
            Value::Pointer(_, Offsets { min, max }) => {
                (i64::from(min)..=i64::from(max)).contains(&(number.wrapping_sub(1000) as i64))
            }
            Value::MaybeNull { .. } | Value::PacketEnd => false,
        }
    }

    fn check(operation: impl Fn(Value, Value) -> Value, compute: impl Fn(u64, u64) -> u64) {
        for (a, numbers) in samples() {
            for (b, others) in samples() {
                for (x, y) in numbers.iter().flat_map(|&x| others.iter().map(move |&y| (x, y))) {
                    let result = operation(a, b);
                    assert!(is_true_of(result, compute(x, y)), "{a:?} {b:?}: {result:?} of {x:#x} {y:#x}");
                }
            }
        }
    }

    #[test]
    fn sums_and_differences_are_true_of_all_numbers() {
        check(Value::plus, u64::wrapping_add);
        check(Value::minus, u64::wrapping_sub);
    }

    #[test]
    fn a_join_covers_both() {
        for (a, _) in samples() {
            for (b, _) in samples() {
                let join = a.join(b);
                assert!(join.covers(a) && join.covers(b), "{a:?} {b:?}: {join:?}");
            }
        }
    }
}
