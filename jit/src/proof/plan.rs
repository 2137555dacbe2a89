//! How accesses are to be made: what the proofs come to.

use super::value::Place;

/// How an access is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Plan {
    /// Not an access, or one of which nothing is known.
    #[default]
    Unknown,
    /// Likely in this object: to be compared with its limits.
    Likely(Place),
    /// In bounds, at one of these offsets of an object that is open for it.
    Proved(Place),
    /// Not an access, but a call of a helper that only tells what is in the world: its place in
    /// [`softbpf::machine::Machine::steady_answers`].
    Answer(u64),
    /// Not an access, but a lookup in a map that has elements.
    Lookup(Lookup),
}

/// A lookup: the index of the map, and where its key is, from the top of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lookup(u64);

impl Lookup {
    pub(super) fn new(map: u32, key: Option<i32>) -> Lookup {
        Lookup(u64::from(map) << 32 | u64::from(key.unwrap_or(0) as u32))
    }

    /// 28 bits: no more is known of maps with larger numbers, and there is no key farther down than the frame reaches.
    fn bits(self) -> u64 {
        u64::from(self.map()) << 16 | u64::from(self.0 as u16)
    }

    fn of(bits: u64) -> Lookup {
        Lookup::new((bits >> 16) as u32 & 0xfff, Some((bits as i16).into()))
    }

    /// Index of the map.
    pub(crate) fn map(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Where the key is, if that is known: below the top.
    pub(crate) fn key(self) -> Option<i32> {
        Some(self.0 as i32).filter(|&key| key != 0)
    }
}

// Plans are handed on in two registers.
const _: () = assert!(size_of::<Plan>() == 16);

/// The plans of a program's instructions, by index, a word each. Where that is a place, it is what was proved, and without
/// offsets what is likely: nothing is proved of a place without offsets.
#[derive(Debug)]
pub(crate) struct Plans(Vec<u64>);

/// Kinds of words that are no places ([`Place::kind`]).
const UNKNOWN: u64 = 5;
const ANSWER: u64 = 6;
const LOOKUP: u64 = 7;

/// The word of something else than a place, of up to 46 bits.
const fn other(kind: u64, value: u64) -> u64 {
    kind << Place::KIND | value
}

impl Plans {
    /// Nothing is known of so many instructions.
    pub(super) fn unknown(len: usize) -> Plans {
        Plans(vec![other(UNKNOWN, 0); len])
    }

    /// That of the instruction with this index.
    #[inline(always)]
    pub(crate) fn get(&self, index: usize) -> Plan {
        let word = self.0[index];
        let place = Place::of(word);
        match place.kind() {
            UNKNOWN => Plan::Unknown,
            ANSWER => Plan::Answer(word & 0xffff),
            LOOKUP => Plan::Lookup(Lookup::of(word)),
            _ if place.is_anywhere() => Plan::Likely(place),
            _ => Plan::Proved(place),
        }
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, index: usize, plan: Plan) {
        self.0[index] = match plan {
            Plan::Unknown => other(UNKNOWN, 0),
            Plan::Likely(place) => place.anywhere().word(),
            Plan::Proved(place) => place.word(),
            Plan::Answer(place) => other(ANSWER, place),
            Plan::Lookup(lookup) => other(LOOKUP, lookup.bits()),
        };
    }

    /// Has everything checked: what was proved becomes likely.
    pub(super) fn doubt(&mut self) {
        for index in 0..self.0.len() {
            match self.get(index) {
                Plan::Proved(place) => self.set(index, Plan::Likely(place)),
                Plan::Lookup(_) | Plan::Answer(_) => self.set(index, Plan::Unknown),
                Plan::Unknown | Plan::Likely(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::value::{Offsets, Region};

    #[test]
    fn plans_are_what_was_set_and_likely_places_are_anywhere() {
        let place = |region, offsets| Place::new(region, offsets).unwrap();
        let mut plans = vec![Plan::Unknown, Plan::Answer(0), Plan::Answer(7)];
        plans.extend(
            [(0, None), (4095, Some(-512)), (7, Some(-4))].map(|(map, key)| Plan::Lookup(Lookup::new(map, key))),
        );
        for region in [Region::Stack, Region::Context, Region::Packet, Region::Data(4095), Region::Element(3)] {
            plans.push(Plan::Proved(place(region, Offsets::exactly(-8))));
            plans.push(Plan::Likely(place(region, Offsets::ANY)));
        }
        let mut packed = Plans::unknown(plans.len());
        for (index, &plan) in plans.iter().enumerate() {
            assert_eq!(packed.get(index), Plan::Unknown);
            packed.set(index, plan);
            assert_eq!(packed.get(index), plan);
        }
        packed.doubt();
        for (index, &plan) in plans.iter().enumerate() {
            assert_eq!(
                packed.get(index),
                match plan {
                    Plan::Proved(place) => Plan::Likely(place.anywhere()),
                    Plan::Likely(_) => plan,
                    Plan::Unknown | Plan::Answer(_) | Plan::Lookup(_) => Plan::Unknown,
                }
            );
        }
    }
}
