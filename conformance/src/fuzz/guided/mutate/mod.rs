//! [`Mutator`]: makes another input of one, or of two.
//!
//! It knows what of an input is worth changing for one target, not what a change does: that is seen when it is run.

mod bytes;

use std::sync::Arc;

use softbpf::context::{PtRegs, REGISTERS};
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::program::ProgramError;
use softbpf::program_type::ProgramType;
use softbpf::world::Comm;
use softbpf::{Gid, Pid, Tgid, Uid};

use self::bytes::Lengths;
use super::dictionary;
use super::input::{Data, Element, Far, Input};
use super::target::{Ask, Target};
use crate::rng::Rng;

/// Most elements of one input.
const MAX_ELEMENTS: usize = 16;

/// Most bytes of a stretch of memory.
pub(super) const MAX_MEMORY: usize = 4096;

/// Most keys that are remembered.
const MAX_KEYS: usize = 256;

/// Lengths around which headers end: Ethernet, IPv4, IPv6, UDP, TCP, VLAN tags, and the largest frames.
const HEADER_ENDS: [usize; 12] = [0, 14, 18, 22, 34, 42, 54, 58, 62, 74, 1500, 1514];

/// Numbers at which programs change their mind.
const INTERESTING: [u64; 22] =
    [0, 1, 2, 3, 4, 7, 8, 15, 16, 32, 63, 64, 100, 127, 128, 255, 256, 512, 1000, 1024, 4096, 0x7fff];

/// Addresses that kernels give: of the direct map, of text, and of user space.
const ADDRESSES: [u64; 3] = [0xffff_8880_0000_0000, 0xffff_ffff_8100_0000, 0x5555_5555_4000];

/// The registers that programs read most.
const LIKELY: [&str; 10] = ["di", "si", "dx", "cx", "r8", "r9", "ax", "ip", "sp", "bp"];

/// Makes inputs of inputs, for one target.
#[derive(Debug, Clone)]
pub struct Mutator {
    constants: Vec<u64>,
    maps: Vec<MapSpec>,
    asks: Vec<Ask>,
    cpus: u32,
    lengths: Lengths,
    /// Elements and memory in front that are not changed.
    pinned: usize,
    pinned_memory: usize,
    /// Keys that the program has looked for, with the index of the map in [`Mutator::maps`].
    keys: Vec<(usize, Vec<u8>)>,
}

impl Mutator {
    /// What varies inputs of this target; packets get at most `max_len` bytes.
    ///
    /// # Errors
    /// The program is not there or not sound.
    pub fn new(target: &Target, max_len: usize) -> Result<Mutator, ProgramError> {
        let codes = target.codes()?;
        let is_unspec = target.linked()?.program_type() == ProgramType::Unspec;
        let lengths = match &target.base.data {
            Data::Packet { .. } => Lengths { max: max_len, likely: &HEADER_ENDS },
            // A structure has its size; what has no type is told how much there is.
            Data::Bytes(_) if is_unspec => Lengths { max: max_len, likely: &[0, 1, 8, 64] },
            Data::Bytes(_) | Data::Registers(_) => Lengths { max: 0, likely: &[] },
        };
        Ok(Mutator {
            constants: dictionary::constants(&codes),
            maps: target.maps(&codes),
            asks: target.asks(&codes),
            cpus: target.cpus,
            lengths,
            pinned: target.base.elements.len(),
            pinned_memory: target.base.memory.len(),
            keys: Vec::new(),
        })
    }

    /// Whether packets and contexts may have another length.
    pub(super) fn max_len(&self) -> Option<usize> {
        (!self.lengths.likely.is_empty()).then_some(self.lengths.max)
    }

    /// The parts of the world that are varied.
    pub(super) fn asks(&self) -> &[Ask] {
        &self.asks
    }

    /// Takes note of a key that the program looked for; the element that it did not find, if the map is varied.
    pub(super) fn learn(&mut self, map: &str, key: &[u8]) -> Option<Element> {
        let index = self.maps.iter().position(|spec| spec.name == map)?;
        let spec = &self.maps[index];
        let known = self.keys.iter().any(|(of, known)| *of == index && known == key);
        if !known && self.keys.len() < MAX_KEYS {
            self.keys.push((index, key.to_vec()));
        }
        let value = vec![0; spec.value_size as usize];
        Some(Element { map: spec.name.as_str().into(), key: key.to_vec(), value })
    }

    /// Changes an input in one to sixteen ways; `other` gives parts of itself.
    pub fn mutate(&self, input: &mut Input, other: &Input, rng: &mut Rng) {
        for _ in 0..1 << rng.below(5) {
            self.step(input, other, rng);
        }
    }

    fn step(&self, input: &mut Input, other: &Input, rng: &mut Rng) {
        let maps = if self.maps.is_empty() { 0 } else { 4 };
        let world = if self.asks.is_empty() { 0 } else { 2 };
        let memory = if input.memory.len() > self.pinned_memory { 4 } else { 0 };
        match rng.below(8 + maps + world + memory) {
            0..8 => self.data(&mut input.data, &other.data, rng),
            choice if choice < 8 + maps => self.elements(&mut input.elements, &other.elements, rng),
            choice if choice < 8 + maps + world => self.world(input, other, rng),
            _ => self.memory(&mut input.memory, rng),
        }
    }

    fn data(&self, data: &mut Data, other: &Data, rng: &mut Rng) {
        match data {
            Data::Packet { ifindex, queue, mark, .. } if rng.one_in(32) => {
                let field = rng.pick(&[0, 1, 2]);
                let value = self.number(rng) as u32;
                match field {
                    0 => *ifindex = value,
                    1 => *queue = value,
                    _ => *mark = value,
                }
            }
            Data::Packet { bytes, .. } | Data::Bytes(bytes) => {
                let other = other.bytes().map_or(&[][..], Vec::as_slice);
                bytes::mutate(bytes, other, &self.lengths, |rng| self.number(rng), rng);
            }
            Data::Registers(registers) => self.registers(registers, rng),
        }
    }

    fn registers(&self, registers: &mut PtRegs, rng: &mut Rng) {
        let name = if rng.one_in(8) { rng.pick(&REGISTERS) } else { rng.pick(&LIKELY) };
        let Ok(old) = registers.get(name) else { return };
        let value = match rng.below(6) {
            0 => old.wrapping_add(rng.below(64) as u64).wrapping_sub(32),
            1 => old ^ 1 << rng.below(64),
            2 => rng.pick(&ADDRESSES) + (rng.next_u64() & 0xff_fff8),
            // What two parameters have in common matters too.
            3 => rng.pick(registers.values()),
            _ => self.number(rng),
        };
        // The name is one of theirs.
        let _ = registers.set(name, value);
    }

    fn elements(&self, elements: &mut Vec<Element>, other: &[Element], rng: &mut Rng) {
        let free = elements.len() - self.pinned.min(elements.len());
        let other = other.get(self.pinned..).unwrap_or(&[]);
        match rng.below(8) {
            0 if free > 0 => {
                elements.swap_remove(self.pinned + rng.below(free));
            }
            1 if !other.is_empty() => self.put(elements, other[rng.below(other.len())].clone()),
            2..6 if free > 0 => {
                let index = self.pinned + rng.below(free);
                self.element(&mut elements[index], rng);
            }
            _ => self.put(elements, self.new_element(rng)),
        }
    }

    /// Adds an element, in place of one with its key.
    pub(super) fn put(&self, elements: &mut Vec<Element>, element: Element) {
        let known = elements.iter().position(|known| known.map == element.map && known.key == element.key);
        match known {
            Some(index) => elements[index] = element,
            None if elements.len() < self.pinned + MAX_ELEMENTS => elements.push(element),
            None => {}
        }
    }

    /// Elements in front of the others that are not changed.
    pub(super) fn pinned(&self) -> usize {
        self.pinned
    }

    /// Memory in front of other memory that is not changed.
    pub(super) fn pinned_memory(&self) -> usize {
        self.pinned_memory
    }

    fn memory(&self, memory: &mut [Far], rng: &mut Rng) {
        let Some(memory) = memory.get_mut(self.pinned_memory..).filter(|memory| !memory.is_empty()) else { return };
        let far = &mut memory[rng.below(memory.len())];
        let lengths = Lengths { max: MAX_MEMORY, likely: &[1, 8, 16, 64] };
        bytes::mutate(&mut far.bytes, &[], &lengths, |rng| self.number(rng), rng);
    }

    fn element(&self, element: &mut Element, rng: &mut Rng) {
        let fixed = Lengths { max: 0, likely: &[] };
        let number = |rng: &mut Rng| self.number(rng);
        if rng.one_in(8) {
            let map = self.maps.iter().position(|spec| spec.name.as_str() == &*element.map);
            element.key = map.map_or_else(Vec::new, |map| self.key(map, rng));
        } else {
            bytes::mutate(&mut element.value, &[], &fixed, number, rng);
        }
    }

    fn new_element(&self, rng: &mut Rng) -> Element {
        let index = rng.below(self.maps.len());
        let spec = &self.maps[index];
        let map: Arc<str> = spec.name.as_str().into();
        let value = match &spec.initial_value {
            Some(initial) if rng.one_in(2) => initial.to_vec(),
            Some(_) | None => vec![0; spec.value_size as usize],
        };
        let mut element = Element { map, key: self.key(index, rng), value };
        element.value.resize(spec.value_size as usize, 0);
        if !rng.one_in(4) {
            self.element(&mut element, rng);
        }
        element
    }

    /// A key for a map: an index, one that the program has looked for, or any.
    fn key(&self, map: usize, rng: &mut Rng) -> Vec<u8> {
        let spec = &self.maps[map];
        if [MapType::Array, MapType::PercpuArray].contains(&spec.map_type) {
            return (rng.below(spec.max_entries as usize) as u32).to_le_bytes().to_vec();
        }
        let learnt: Vec<_> = self.keys.iter().filter(|(of, _)| *of == map).collect();
        if !learnt.is_empty() && !rng.one_in(4) {
            return learnt[rng.below(learnt.len())].1.clone();
        }
        let mut key = vec![0; spec.key_size as usize];
        let value = self.number(rng).to_le_bytes();
        key.iter_mut().zip(value).for_each(|(place, byte)| *place = byte);
        key
    }

    fn world(&self, input: &mut Input, other: &Input, rng: &mut Rng) {
        let ask = rng.pick(&self.asks);
        let (number, second) = (self.number(rng), self.number(rng));
        let (world, other) = (&mut input.world, &other.world);
        match ask {
            Ask::Time if rng.one_in(2) => world.clock.monotonic = world.clock.monotonic.wrapping_add(number),
            Ask::Time => world.clock.monotonic = number,
            Ask::Random => world.random.state = number,
            Ask::Pids if rng.one_in(2) => (world.task.tgid, world.task.pid) = (Tgid(number as u32), Pid(number as u32)),
            Ask::Pids => (world.task.tgid, world.task.pid) = (Tgid(number as u32), Pid(second as u32)),
            Ask::Uids => (world.task.uid, world.task.gid) = (Uid(number as u32), Gid(second as u32)),
            Ask::Comm if rng.one_in(4) => world.task.comm = other.task.comm,
            Ask::Comm => {
                let mut name = world.task.comm.bytes().to_vec();
                let fixed = Lengths { max: 0, likely: &[] };
                bytes::mutate(&mut name, &[], &fixed, |rng| self.number(rng), rng);
                world.task.comm = Comm::new(name);
            }
            Ask::Cpu => world.cpu = rng.below(self.cpus as usize) as u32,
            Ask::Cgroup => world.cgroup_id = number,
        }
    }

    /// A number that is likely to matter.
    fn number(&self, rng: &mut Rng) -> u64 {
        match rng.below(8) {
            0..4 if !self.constants.is_empty() => {
                let constant = rng.pick(&self.constants);
                if rng.one_in(4) { constant.wrapping_add(rng.pick(&[1, u64::MAX])) } else { constant }
            }
            4 => rng.next_u64() >> rng.below(64),
            5 => rng.pick(&INTERESTING).wrapping_neg(),
            _ => rng.pick(&INTERESTING),
        }
    }
}
