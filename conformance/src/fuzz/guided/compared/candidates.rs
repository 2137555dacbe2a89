//! Inputs that are made of one on purpose: with one value in place of another, with another length, with memory where a
//! pointer leads. They know the input, not the run that suggests them.

use std::ops::Range;

use softbpf::memory::FAR_START;

use super::{MAX_READS, Read};
use crate::fuzz::guided::input::{Data, Far, Input};
use crate::fuzz::guided::mutate::Mutator;
use crate::fuzz::guided::target::Ask;

/// Places of one value in an input that are looked at.
const MAX_PLACES: usize = 64;

/// Inputs that come of one.
const MAX_CANDIDATES: usize = 1024;

/// Pointers further apart have nothing to do with each other.
const NEAR: u64 = 2048;

/// Addresses of the task, and of the kernel.
const USER: Range<u64> = FAR_START..0x7fff_ffff_f000;
const KERNEL: Range<u64> = 0xffff_8000_0000_0000..u64::MAX;

/// Where memory is placed that may be anywhere, and how far one stretch is from the next.
const FREE_USER: u64 = 0x7f00_0000_0000;
const FREE_KERNEL: u64 = 0xffff_8880_1000_0000;
const FREE_STRIDE: u64 = 0x1_0000;

/// Below this there is nothing to point to.
const LEAST_POINTER: u64 = 0x1_0000;

/// Collects inputs that come of one.
pub(super) struct Candidates<'i> {
    input: &'i Input,
    mutator: &'i Mutator,
    /// What is placed in those that come next.
    memory: Option<Far>,
    found: Vec<Input>,
}

impl<'i> Candidates<'i> {
    pub(super) fn new(input: &'i Input, mutator: &'i Mutator) -> Candidates<'i> {
        Candidates { input, mutator, memory: None, found: Vec::new() }
    }

    pub(super) fn into_inputs(self) -> Vec<Input> {
        self.found
    }

    /// The input with a change.
    fn push(&mut self, change: impl FnOnce(&mut Input)) {
        if self.found.len() < MAX_CANDIDATES {
            let mut input = self.input.clone();
            change(&mut input);
            input.memory.extend(self.memory.clone());
            self.found.push(input);
        }
    }

    /// Puts memory where a helper looks for it; or, where none can be, has it look elsewhere.
    pub(super) fn read(&mut self, Read { addr, size, of_user }: Read) {
        let memory = &self.input.memory;
        let is_there = memory.iter().any(|far| addr.wrapping_sub(far.addr) < far.bytes.len() as u64);
        if is_there || memory.len() >= self.mutator.pinned_memory() + MAX_READS {
            return;
        }
        let (space, free) = if of_user { (USER, FREE_USER) } else { (KERNEL, FREE_KERNEL) };
        let free = free + FREE_STRIDE * memory.len() as u64;
        // A string, for helpers that read those.
        let mut bytes = vec![b'a'; size];
        if let Some(last) = bytes.last_mut() {
            *last = 0;
        }
        if space.contains(&addr) {
            self.memory = Some(Far { addr, bytes });
            self.push(|_| {});
        } else {
            self.memory = Some(Far { addr: free, bytes });
            self.replace(addr, free);
        }
        self.memory = None;
    }

    /// Pointers that are near each other say by how much a packet is too long or too short.
    pub(super) fn lengths(&mut self, left: u64, right: u64, max: usize) {
        let distance = left.abs_diff(right);
        let is_pointer = |value: u64| (LEAST_POINTER..1 << 32).contains(&value);
        let Some(len) = self.input.data.bytes().map(Vec::len) else { return };
        if !is_pointer(left) || !is_pointer(right) || distance > NEAR {
            return;
        }
        let distance = distance as usize;
        for len in [
            len + distance,
            len + distance + 1,
            len.saturating_sub(distance),
            len.saturating_sub(distance + 1),
            len.saturating_sub(1),
        ] {
            if len <= max && self.input.data.bytes().is_some_and(|bytes| bytes.len() != len) {
                self.push(|input| {
                    if let Some(bytes) = input.data.bytes_mut() {
                        bytes.resize(len, 0);
                    }
                });
            }
        }
    }

    /// Puts one value in place of another, wherever the input has it.
    pub(super) fn replace(&mut self, from: u64, to: u64) {
        if from == to {
            return;
        }
        let input = self.input;
        if let Data::Registers(registers) = &input.data {
            for (index, _) in registers.values().iter().enumerate().filter(|(_, value)| same(**value, from)) {
                self.push(|input| {
                    if let Data::Registers(registers) = &mut input.data {
                        registers.values_mut()[index] = to;
                    }
                });
            }
        }
        self.world(from, to);
        let Some((from, to)) = patterns(from, to) else { return };
        for (pattern, new) in [(from.clone(), to.clone()), (reversed(from), reversed(to))] {
            self.bytes(input.data.bytes(), &pattern, &new, |input| input.data.bytes_mut());
            for (index, element) in input.elements.iter().enumerate().skip(self.mutator.pinned()) {
                self.bytes(Some(&element.value), &pattern, &new, |input| {
                    Some(&mut input.elements.get_mut(index)?.value)
                });
                self.bytes(Some(&element.key), &pattern, &new, |input| Some(&mut input.elements.get_mut(index)?.key));
            }
            for (index, far) in input.memory.iter().enumerate().skip(self.mutator.pinned_memory()) {
                self.bytes(Some(&far.bytes), &pattern, &new, |input| Some(&mut input.memory.get_mut(index)?.bytes));
            }
            if pattern.len() == 1 {
                break;
            }
        }
    }

    fn bytes(
        &mut self,
        bytes: Option<&Vec<u8>>,
        pattern: &[u8],
        new: &[u8],
        of: impl Fn(&mut Input) -> Option<&mut Vec<u8>>,
    ) {
        let windows = bytes.map_or(&[][..], Vec::as_slice).windows(pattern.len()).enumerate();
        let places: Vec<usize> =
            windows.filter(|(_, window)| *window == pattern).map(|(at, _)| at).take(MAX_PLACES).collect();
        for at in places {
            self.push(|input| {
                if let Some(place) = of(input).and_then(|bytes| bytes.get_mut(at..at + new.len())) {
                    place.copy_from_slice(new);
                }
            });
        }
    }

    fn world(&mut self, from: u64, to: u64) {
        let world = &self.input.world;
        for ask in self.mutator.asks() {
            match ask {
                Ask::Time if same(world.clock.monotonic, from) => self.push(|input| input.world.clock.monotonic = to),
                Ask::Pids => {
                    if same(world.task.tgid.0.into(), from) || world.task.pid_tgid() == from {
                        let tgid = if from >> 32 == 0 { to } else { to >> 32 };
                        self.push(|input| input.world.task.tgid.0 = tgid as u32);
                    }
                    if same(world.task.pid.0.into(), from) {
                        self.push(|input| input.world.task.pid.0 = to as u32);
                    }
                }
                Ask::Uids => {
                    if same(world.task.uid.0.into(), from) {
                        self.push(|input| input.world.task.uid.0 = to as u32);
                    }
                    if same(world.task.gid.0.into(), from) {
                        self.push(|input| input.world.task.gid.0 = to as u32);
                    }
                }
                Ask::Cgroup if same(world.cgroup_id, from) => self.push(|input| input.world.cgroup_id = to),
                Ask::Time | Ask::Random | Ask::Comm | Ask::Cpu | Ask::Cgroup => {}
            }
        }
    }
}

/// Whether it is the value, or its low half is.
fn same(value: u64, compared: u64) -> bool {
    value == compared || u64::from(value as u32) == compared
}

/// Both as little-endian numbers of the same size, the smallest that both fit into.
fn patterns(from: u64, to: u64) -> Option<(Vec<u8>, Vec<u8>)> {
    let size = [1, 2, 4, 8].into_iter().find(|size| (from | to).leading_zeros() >= 64 - 8 * size)? as usize;
    Some((from.to_le_bytes()[..size].to_vec(), to.to_le_bytes()[..size].to_vec()))
}

fn reversed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.reverse();
    bytes
}
