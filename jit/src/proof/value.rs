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

/// Bits of an offset.
const OFFSET_BITS: u32 = 23;

/// What is farther away than this is not known: of values larger than 4 MiB, accesses beyond are checked as the program runs.
const FAR: i64 = (1 << (OFFSET_BITS - 1)) - 1;

/// A region and offsets in it, in 61 bits: values stay in registers that way, which is what makes the analysis fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    /// The bits of both offsets, and what stands there for any.
    const ALL_OFFSETS: u64 = (1 << Place::KIND) - 1;
    const ANYWHERE: u64 = 1 << (OFFSET_BITS - 1);
    /// Where the kind of the region is: 0 to 4.
    pub(super) const KIND: u32 = 2 * OFFSET_BITS;
    /// Where the number of the map is, and its bits.
    const MAP: u32 = Place::KIND + 3;
    const MAP_BITS: u32 = 12;

    /// `None` for a map from number 4096 on, of which nothing is known.
    pub(super) fn new(region: Region, offsets: Offsets) -> Option<Place> {
        let (kind, map) = match region {
            Region::Stack => (0, 0),
            Region::Context => (1, 0),
            Region::Packet => (2, 0),
            Region::Data(map) => (3, map),
            Region::Element(map) => (4, map),
        };
        let map = Some(u64::from(map)).filter(|map| map >> Place::MAP_BITS == 0)?;
        Some(Place(map << Place::MAP | kind << Place::KIND).with(offsets))
    }

    /// At this offset from the top of the stack frame.
    pub(crate) fn in_frame(offset: i32) -> Place {
        Place(0).with(Offsets::exactly(offset))
    }

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
        self.0 >> Place::KIND == 0
    }

    /// Which object.
    #[inline(always)]
    pub(crate) fn region(self) -> Region {
        let map = (self.0 >> Place::MAP) as u32;
        match self.kind() {
            0 => Region::Stack,
            1 => Region::Context,
            2 => Region::Packet,
            3 => Region::Data(map),
            _ => Region::Element(map),
        }
    }

    /// No end is farther than [`FAR`]; the smallest number, in the first, stands for any offset.
    #[inline(always)]
    pub(crate) fn offsets(self) -> Offsets {
        if self.is_anywhere() { Offsets::ANY } else { self.ends() }
    }

    /// Its offsets, if it has any.
    #[inline(always)]
    fn ends(self) -> Offsets {
        const CUT: u32 = u64::BITS - OFFSET_BITS;
        let end = |bits: u64| ((bits << CUT) as i64 >> CUT) as i32;
        Offsets { min: end(self.0), max: end(self.0 >> OFFSET_BITS) }
    }

    /// So many bytes farther.
    pub(super) fn plus(self, distance: i64) -> Place {
        self.with(self.offsets().plus(distance))
    }

    /// Offsets of an access behind a base that is not anywhere.
    #[inline(always)]
    pub(super) fn offsets_behind(self, off: i16) -> Offsets {
        let Offsets { min, max } = self.ends();
        Offsets { min: min + i32::from(off), max: max + i32::from(off) }
    }

    /// At other offsets in the same region.
    #[inline(always)]
    pub(super) fn with(self, offsets: Offsets) -> Place {
        const BITS: u64 = (1 << OFFSET_BITS) - 1;
        let Offsets { min, max } = offsets;
        if i64::from(min) < -FAR || i64::from(max) > FAR {
            return self.anywhere();
        }
        Place(self.0 & !Place::ALL_OFFSETS | (max as u64 & BITS) << OFFSET_BITS | min as u64 & BITS)
    }

    /// In the same region, wherever.
    #[inline(always)]
    pub(super) fn anywhere(self) -> Place {
        Place(self.0 & !Place::ALL_OFFSETS | Place::ANYWHERE)
    }

    fn same_region(self, other: Place) -> bool {
        self.0 >> Place::KIND == other.0 >> Place::KIND
    }
}

/// What one lookup gave: the index of the map, and which lookup it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found(u64);

impl Found {
    /// `None` for a map from number 4096 on, of which nothing is known.
    pub(super) fn new(map: u32, id: u32) -> Option<Found> {
        (map >> Place::MAP_BITS == 0).then_some(Found(u64::from(map) << 32 | u64::from(id)))
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

/// A value in a word, as states hold it: what kind it is in the lowest bits, and above them what is known. A number for which
/// there is no room is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed(u64);

impl Packed {
    pub(super) const UNKNOWN: Packed = Packed(u64::MAX << KIND_BITS | UP_TO);
    /// A number of 32 bits.
    pub(super) const LOW: Packed = Packed((u32::MAX as u64) << KIND_BITS | UP_TO);

    /// Whether it is a number of which at most the size is known.
    #[inline(always)]
    pub(super) fn is_up_to(self) -> bool {
        self.0 & KINDS == UP_TO
    }

    /// Whether it is one number.
    #[inline(always)]
    pub(super) fn is_constant(self) -> bool {
        self.0 & KINDS == CONSTANT
    }

    /// A number no larger than that of so many bits, which are no more than 32.
    #[inline(always)]
    pub(super) fn of_bits(bits: u32) -> Packed {
        Packed(((1 << bits) - 1) << KIND_BITS | UP_TO)
    }

    /// An immediate.
    #[inline(always)]
    pub(super) fn immediate(imm: i32) -> Packed {
        Packed((i64::from(imm) << KIND_BITS) as u64 | CONSTANT)
    }

    /// Shifted to the right by a constant, if at most its size is known.
    #[inline(always)]
    pub(super) fn shifted_right(self, amount: Packed) -> Option<Packed> {
        let largest = if self == Packed::UNKNOWN { u64::MAX } else { self.0 >> KIND_BITS };
        let amount = amount.0.checked_sub(CONSTANT).filter(|amount| amount & KINDS == 0)? >> KIND_BITS;
        // By less than that there would be no room for the number.
        let known = self.is_up_to() && (u64::from(KIND_BITS)..64).contains(&amount);
        known.then(|| Packed(largest >> amount << KIND_BITS | UP_TO))
    }

    /// What is true of both, if at most their sizes are known.
    #[inline(always)]
    pub(super) fn larger(self, other: Packed) -> Option<Packed> {
        (self.is_up_to() && other.is_up_to()).then_some(Packed(self.0.max(other.0)))
    }

    /// Where it points, if it is a pointer.
    #[inline(always)]
    pub(super) fn place(self) -> Option<Place> {
        (self.0 & KINDS == POINTER).then_some(Place(self.0 >> KIND_BITS))
    }

    #[inline(always)]
    pub(super) fn unpack(self) -> Value {
        let rest = self.0 >> KIND_BITS;
        match self.0 & KINDS {
            UP_TO if self == Packed::UNKNOWN => Value::UNKNOWN,
            UP_TO => Value::UpTo(rest),
            CONSTANT => Value::Constant((self.0 as i64 >> KIND_BITS) as u64),
            POINTER => Value::Pointer(Place(rest)),
            MAYBE_NULL => Value::MaybeNull(Found(rest)),
            _ => Value::PacketEnd,
        }
    }
}

const KIND_BITS: u32 = 3;
const KINDS: u64 = (1 << KIND_BITS) - 1;
const UP_TO: u64 = 0;
const CONSTANT: u64 = 1;
const POINTER: u64 = 2;
const MAYBE_NULL: u64 = 3;
const PACKET_END: u64 = 4;

impl From<Value> for Packed {
    #[inline(always)]
    fn from(value: Value) -> Packed {
        match value {
            Value::Constant(number) if (number << KIND_BITS) as i64 >> KIND_BITS == number as i64 => {
                Packed(number << KIND_BITS | CONSTANT)
            }
            Value::UpTo(largest) if largest < u64::MAX >> KIND_BITS => Packed(largest << KIND_BITS | UP_TO),
            Value::Constant(_) | Value::UpTo(_) => Packed::UNKNOWN,
            Value::Pointer(place) => Packed(place.0 << KIND_BITS | POINTER),
            Value::MaybeNull(found) => Packed(found.0 << KIND_BITS | MAYBE_NULL),
            Value::PacketEnd => Packed(PACKET_END),
        }
    }
}

// Values are handed on in two registers.
const _: () = assert!(size_of::<Value>() == 16);
const _: () = assert!(Place::MAP + Place::MAP_BITS + KIND_BITS == u64::BITS);

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
        for region in [Region::Stack, Region::Context, Region::Packet, Region::Data(4095), Region::Element(7)] {
            for (min, max) in [(0, 0), (-512, -1), (-4_194_303, 4_194_303), (3, 1 << 20)] {
                let offsets = Offsets { min, max };
                let place = Place::new(region, offsets).unwrap();
                assert_eq!((place.region(), place.offsets()), (region, offsets));
                assert_eq!(place.is_on_stack(), region == Region::Stack);
            }
            for (min, max) in [(-4_194_304, 0), (0, 4_194_304), (i32::MIN, i32::MAX), (1 << 24, 1 << 24)] {
                let place = Place::new(region, Offsets { min, max }).unwrap();
                assert_eq!((place.region(), place.offsets()), (region, Offsets::ANY));
            }
        }
        assert_eq!(Place::new(Region::Data(4096), Offsets::ANY), None);
    }

    #[test]
    fn what_is_behind_a_place_is_so_far_from_it() {
        let place = |min, max| Place::new(Region::Packet, Offsets { min, max }).unwrap();
        assert_eq!(place(-8, 4).offsets_behind(-3), Offsets { min: -11, max: 1 });
        assert_eq!(place(0, 4_194_303).offsets_behind(1), Offsets { min: 1, max: 4_194_304 });
        assert!(place(0, 0).with(place(0, 4_194_303).offsets_behind(1)).is_anywhere());
        assert!(place(0, 0).with(place(-4_194_303, 0).offsets_behind(-1)).is_anywhere());
    }

    #[test]
    fn packed_values_are_what_they_were_or_any_number() {
        for (value, numbers) in samples() {
            let unpacked = Packed::from(value).unpack();
            assert!(unpacked == value || unpacked == Value::UNKNOWN, "{value:?}: {unpacked:?}");
            assert!(numbers.iter().all(|&number| is_true_of(unpacked, number)), "{value:?}: {unpacked:?}");
        }
        let found = Found::new(4095, u32::MAX).unwrap();
        let small = [0, 1, (1 << 60) - 1, u64::MAX << 60, u64::MAX, 0xffff_c900_0000_0000];
        let mut same: Vec<_> = small.map(Value::Constant).into();
        same.extend([0, 255, (1 << 61) - 2, u64::MAX].map(Value::UpTo));
        same.extend([Value::MaybeNull(found), Value::PacketEnd]);
        for value in same {
            assert_eq!(Packed::from(value).unpack(), value);
        }
        for far in [Value::Constant(1 << 60), Value::Constant(i64::MIN as u64), Value::UpTo((1 << 61) - 1)] {
            assert_eq!(Packed::from(far).unpack(), Value::UNKNOWN);
        }
        assert_eq!(Packed::UNKNOWN.unpack(), Value::UNKNOWN);
        assert_eq!(Packed::LOW.unpack(), Value::LOW);
        assert_eq!(Packed::immediate(-7).unpack(), Value::Constant(-7_i64 as u64));
        assert_eq!(Packed::of_bits(32), Packed::LOW);
        assert_eq!(Packed::of_bits(8).unpack(), Value::UpTo(255));
    }

    #[test]
    fn numbers_are_shifted_as_far_as_their_size_is_known() {
        let shifted = |value: Value, amount| Packed::from(value).shifted_right(Packed::immediate(amount));
        assert_eq!(shifted(Value::UNKNOWN, 7).map(Packed::unpack), Some(Value::UpTo(u64::MAX >> 7)));
        assert_eq!(shifted(Value::UNKNOWN, 63).map(Packed::unpack), Some(Value::UpTo(1)));
        assert_eq!(shifted(Value::UpTo(255), 4).map(Packed::unpack), Some(Value::UpTo(15)));
        for (value, amount) in
            [(Value::UNKNOWN, 2), (Value::UNKNOWN, 64), (Value::UNKNOWN, -1), (Value::Constant(8), 3)]
        {
            assert_eq!(shifted(value, amount), None);
        }
        assert_eq!(Packed::UNKNOWN.shifted_right(Packed::of_bits(8)), None);
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
                let (packed, other) = (Packed::from(a), Packed::from(b));
                if let Some(larger) = packed.larger(other) {
                    assert_eq!(larger.unpack(), packed.unpack().join(other.unpack()));
                }
                assert!(join.covers(a) && join.covers(b), "{a:?} {b:?}: {join:?}");
            }
        }
    }
}
