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

/// What is farther away than this is not known: of values larger than 8 MiB, accesses beyond are checked as the program runs.
const FAR: i64 = (1 << 23) - 1;

/// A region and offsets in it, in one word: values stay in registers that way, which is what makes the analysis fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    /// The bits of both offsets, and what stands there for any.
    const ALL_OFFSETS: u64 = (1 << 48) - 1;
    const ANYWHERE: u64 = 1 << 23;

    /// `None` for a map from number 8192 on, of which nothing is known.
    pub(super) fn new(region: Region, offsets: Offsets) -> Option<Place> {
        let (kind, map) = match region {
            Region::Stack => (0, 0),
            Region::Context => (1, 0),
            Region::Packet => (2, 0),
            Region::Data(map) => (3, map),
            Region::Element(map) => (4, map),
        };
        let map = u64::from(u16::try_from(map).ok().filter(|map| map >> 13 == 0)?);
        Some(Place(map << 51 | kind << Place::KIND).with(offsets))
    }

    /// At this offset from the top of the stack frame.
    pub(crate) fn in_frame(offset: i32) -> Place {
        Place(0).with(Offsets::exactly(offset))
    }

    /// Where the kind of the region is in the word: 0 to 4.
    pub(super) const KIND: u32 = 48;

    pub(super) fn of(word: u64) -> Place {
        Place(word)
    }

    pub(super) fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(super) fn kind(self) -> u64 {
        self.0 >> Place::KIND & 7
    }

    /// Whether its offset can be any.
    #[inline(always)]
    pub(super) fn is_anywhere(self) -> bool {
        self.0 & Place::ALL_OFFSETS == Place::ANYWHERE
    }

    /// Whether that is the stack frame.
    #[inline(always)]
    pub(crate) fn is_on_stack(self) -> bool {
        self.0 >> 48 == 0
    }

    /// Which object.
    #[inline(always)]
    pub(crate) fn region(self) -> Region {
        let map = (self.0 >> 51) as u32;
        match self.kind() {
            0 => Region::Stack,
            1 => Region::Context,
            2 => Region::Packet,
            3 => Region::Data(map),
            _ => Region::Element(map),
        }
    }

    /// 24 bits each. No end is farther than [`FAR`]; the smallest number of 24 bits, in the first, stands for any offset.
    #[inline(always)]
    pub(crate) fn offsets(self) -> Offsets {
        let (min, max) = ((self.0 << 40) as i64 >> 40, (self.0 << 16) as i64 >> 40);
        if min < -FAR { Offsets::ANY } else { Offsets { min: min as i32, max: max as i32 } }
    }

    /// So many bytes farther.
    pub(super) fn plus(self, distance: i64) -> Place {
        self.with(self.offsets().plus(distance))
    }

    /// At other offsets in the same region.
    fn with(self, offsets: Offsets) -> Place {
        const BITS: u64 = (1 << 24) - 1;
        let Offsets { min, max } = offsets;
        if i64::from(min) < -FAR || i64::from(max) > FAR {
            return self.anywhere();
        }
        Place(self.0 & !Place::ALL_OFFSETS | (max as u64 & BITS) << 24 | min as u64 & BITS)
    }

    /// In the same region, wherever.
    #[inline(always)]
    pub(super) fn anywhere(self) -> Place {
        Place(self.0 & !Place::ALL_OFFSETS | Place::ANYWHERE)
    }

    fn same_region(self, other: Place) -> bool {
        self.0 >> 48 == other.0 >> 48
    }
}

/// What one lookup gave: the index of the map, and which lookup it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found(u64);

impl Found {
    pub(super) fn new(map: u32, id: u32) -> Found {
        Found(u64::from(map) << 32 | u64::from(id))
    }

    pub(super) fn map(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Where it points if it is not 0, as a hint.
    pub(super) fn place(self) -> Option<Place> {
        Place::new(Region::Element(self.map()), Offsets::ANY)
    }

    /// Equal ids are equal values.
    pub(super) fn id(self) -> u32 {
        self.0 as u32
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
    Pointer(Place),
    /// What a lookup gave: a pointer to a value, or 0.
    MaybeNull(Found),
    /// The end of the packet.
    PacketEnd,
}

// A state has dozens, and there is one for each jump.
const _: () = assert!(size_of::<Value>() == 16);

impl Value {
    pub(crate) const UNKNOWN: Value = Value::UpTo(u64::MAX);
    /// A number of 32 bits.
    pub(crate) const LOW: Value = Value::UpTo(u32::MAX as u64);

    /// A pointer.
    pub(crate) fn pointer(region: Region, offsets: Offsets) -> Value {
        Place::new(region, offsets).map_or(Value::UNKNOWN, Value::Pointer)
    }

    /// A pointer to the start of a region.
    pub(crate) fn start_of(region: Region) -> Value {
        Value::pointer(region, Offsets::exactly(0))
    }

    /// The number, if there is but one.
    pub(crate) fn constant(self) -> Option<u64> {
        if let Value::Constant(value) = self { Some(value) } else { None }
    }

    /// The largest number that it can be.
    pub(crate) fn largest(self) -> u64 {
        match self {
            Value::Constant(value) | Value::UpTo(value) => value,
            Value::MaybeNull(_) | Value::PacketEnd => u32::MAX.into(),
            Value::Pointer(_) => u64::MAX,
        }
    }

    /// The hint without the claim.
    pub(crate) fn hint(self) -> Value {
        match self {
            Value::Pointer(place) => Value::Pointer(place.anywhere()),
            Value::MaybeNull(found) => found.place().map_or(Value::UNKNOWN, Value::Pointer),
            Value::Constant(_) | Value::UpTo(_) | Value::PacketEnd => Value::UNKNOWN,
        }
    }

    /// What is true of both.
    pub(crate) fn join(self, other: Value) -> Value {
        match (self, other) {
            (a, b) if a == b => a,
            (Value::Constant(a) | Value::UpTo(a), Value::Constant(b) | Value::UpTo(b)) => Value::UpTo(a.max(b)),
            (Value::Pointer(a), Value::Pointer(b)) if a.same_region(b) => {
                Value::Pointer(a.with(a.offsets().join(b.offsets())))
            }
            // One of them may be a null pointer, or one that another test has left.
            (pointer @ (Value::Pointer(_) | Value::MaybeNull(_)), _)
            | (_, pointer @ (Value::Pointer(_) | Value::MaybeNull(_))) => pointer.hint(),
            (Value::PacketEnd, _) | (_, Value::PacketEnd) => Value::UNKNOWN,
        }
    }

    /// Whether all that `self` claims is true of `other` as well.
    pub(crate) fn covers(self, other: Value) -> bool {
        match (self, other) {
            (Value::UpTo(u64::MAX), _) => true,
            (Value::Pointer(place), _) if place.offsets() == Offsets::ANY => true,
            (Value::UpTo(max), other) => other.largest() <= max,
            (Value::Pointer(a), Value::Pointer(b)) => a.same_region(b) && a.offsets().covers(b.offsets()),
            (a, b) => a == b,
        }
    }

    /// Plus a number.
    pub(crate) fn plus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Constant(a), Value::Constant(b)) => Value::Constant(a.wrapping_add(b)),
            (Value::Constant(a) | Value::UpTo(a), Value::Constant(b) | Value::UpTo(b)) => {
                Value::UpTo(a.saturating_add(b))
            }
            (Value::Pointer(place), Value::Constant(distance)) | (Value::Constant(distance), Value::Pointer(place)) => {
                // A negative number is a large one.
                Value::Pointer(place.plus(distance as i64))
            }
            (Value::Pointer(place), Value::UpTo(max)) | (Value::UpTo(max), Value::Pointer(place)) => {
                let max = i64::try_from(max).unwrap_or(i64::MAX);
                Value::Pointer(place.with(place.offsets().widened(0, max)))
            }
            (pointer @ (Value::Pointer(_) | Value::MaybeNull(_)), _)
            | (_, pointer @ (Value::Pointer(_) | Value::MaybeNull(_))) => pointer.hint(),
            (Value::PacketEnd, _) | (_, Value::PacketEnd) => Value::UNKNOWN,
        }
    }

    /// Minus a number.
    pub(crate) fn minus(self, other: Value) -> Value {
        match (self, other) {
            (Value::Constant(a), Value::Constant(b)) => Value::Constant(a.wrapping_sub(b)),
            (Value::Pointer(place), Value::Constant(distance)) => {
                Value::Pointer(place.plus((distance as i64).checked_neg().unwrap_or(i64::MAX)))
            }
            (Value::Pointer(place), Value::UpTo(max)) => {
                let max = i64::try_from(max).unwrap_or(i64::MAX);
                Value::Pointer(place.with(place.offsets().widened(-max, 0)))
            }
            (Value::Pointer(_) | Value::MaybeNull(_), Value::MaybeNull(_) | Value::PacketEnd)
            | (Value::Pointer(_), Value::Pointer(_))
            | (Value::Constant(_) | Value::UpTo(_) | Value::PacketEnd, _) => Value::UNKNOWN,
            (maybe @ Value::MaybeNull(_), Value::Constant(_) | Value::UpTo(_) | Value::Pointer(_)) => maybe.hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values, and numbers that they are true of when a region starts at 1000.
    fn samples() -> Vec<(Value, Vec<u64>)> {
        let at = |min: i32, max: i32| Value::pointer(Region::Context, Offsets { min, max });
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
            Value::Pointer(place) => {
                let Offsets { min, max } = place.offsets();
                let claimed = i64::from(min)..=i64::from(max);
                place.offsets() == Offsets::ANY || claimed.contains(&(number.wrapping_sub(1000) as i64))
            }
            Value::MaybeNull(_) | Value::PacketEnd => false,
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
    fn a_place_is_what_it_was_made_of_or_anywhere() {
        for region in [Region::Stack, Region::Context, Region::Packet, Region::Data(8191), Region::Element(7)] {
            for (min, max) in [(0, 0), (-512, -1), (-8_388_607, 8_388_607), (3, 1 << 20)] {
                let offsets = Offsets { min, max };
                let place = Place::new(region, offsets).unwrap();
                assert_eq!((place.region(), place.offsets()), (region, offsets));
                assert_eq!(place.is_on_stack(), region == Region::Stack);
            }
            for (min, max) in [(-8_388_608, 0), (0, 8_388_608), (i32::MIN, i32::MAX), (1 << 24, 1 << 24)] {
                let place = Place::new(region, Offsets { min, max }).unwrap();
                assert_eq!((place.region(), place.offsets()), (region, Offsets::ANY));
            }
        }
        assert_eq!(Place::new(Region::Data(8192), Offsets::ANY), None);
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
