//! What a run compares, and which keys it looks for: inputs that would make the other side win.
//!
//! A value that a jump compares is often a piece of the input as it is: where the input has that value, the value that
//! it is compared with is put in its place (Aschermann and others, "Redqueen", 2019). Two pointers are compared to see
//! whether a packet is long enough: then it gets the length that is asked for. Where a helper reads memory that is not
//! there, it is placed there, and a pointer that leads nowhere is made one that leads to some.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use softbpf::Object;
use softbpf::engine::Step;
use softbpf::helpers::table::{self, ArgKind};
use softbpf::insn::{Callee, Condition, Insn, Operand, Reg, Size, Width};
use softbpf::memory::FAR_START;

use super::input::{Data, Far, Input};
use super::mutate::{MAX_MEMORY, Mutator};
use super::target::{Ask, map_index};

/// Comparisons of one instruction that are looked at.
const PER_SLOT: usize = 4;

/// Comparisons that are looked at in all.
const MAX_PAIRS: usize = 256;

/// Bytes of stores that are remembered.
const MAX_STORED: usize = 4096;

/// Keys that are looked at.
const MAX_KEYS: usize = 32;

/// Places of one value in an input that are looked at.
const MAX_PLACES: usize = 64;

/// Inputs that come of one.
const MAX_CANDIDATES: usize = 1024;

/// Pointers further apart have nothing to do with each other.
const NEAR: u64 = 2048;

/// Reads of memory that are looked at, and stretches of memory that an input gets.
const MAX_READS: usize = 8;

/// Addresses of the task, and of the kernel.
const USER: Range<u64> = FAR_START..0x7fff_ffff_f000;
const KERNEL: Range<u64> = 0xffff_8000_0000_0000..u64::MAX;

/// Where memory is placed that may be anywhere, and how far one stretch is from the next.
const FREE_USER: u64 = 0x7f00_0000_0000;
const FREE_KERNEL: u64 = 0xffff_8880_1000_0000;
const FREE_STRIDE: u64 = 0x1_0000;

/// Below this there is nothing to point to.
const LEAST_POINTER: u64 = 0x1_0000;

/// A comparison that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    condition: Condition,
    values: [u64; 2],
    /// The second one stands in the instruction.
    constant: bool,
}

/// Watches one run.
#[derive(Debug)]
pub(super) struct Watch<'o> {
    object: &'o Object,
    pairs: Vec<Pair>,
    per_slot: HashMap<(usize, usize), usize>,
    /// What was stored where, byte by byte.
    stored: HashMap<u64, u8>,
    /// The map whose handle the last instruction has loaded, and where to.
    loaded: Option<(Reg, usize)>,
    handles: HashMap<u64, usize>,
    keys: Vec<(Arc<str>, Vec<u8>)>,
    reads: Vec<Read>,
}

/// Memory of the kernel or the task that a helper was to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Read {
    addr: u64,
    size: usize,
    of_user: bool,
}

impl<'o> Watch<'o> {
    pub(super) fn new(object: &'o Object) -> Watch<'o> {
        Watch {
            object,
            pairs: Vec::new(),
            per_slot: HashMap::new(),
            stored: HashMap::new(),
            loaded: None,
            handles: HashMap::new(),
            keys: Vec::new(),
            reads: Vec::new(),
        }
    }

    /// Sees an instruction that is about to be executed.
    pub(super) fn step(&mut self, step: &Step<'_>) {
        let get = |reg: Reg| step.registers.get(usize::from(reg.number())).copied().unwrap_or(0);
        if let Some((reg, map)) = self.loaded.take() {
            self.handles.insert(get(reg), map);
        }
        let value = |operand: Operand| match operand {
            Operand::Reg(reg) => get(reg),
            Operand::Imm(imm) => imm as i64 as u64,
        };
        if let Insn::JumpIf { condition, width, dst, src, .. } = *step.insn {
            self.compare(step, condition, width, [get(dst), value(src)], matches!(src, Operand::Imm(_)));
        } else if let Insn::Store { size, base, off, src } = *step.insn {
            self.store(get(base).wrapping_add(off as i64 as u64), size, value(src));
        } else if let Insn::LoadImm64 { dst, .. } = *step.insn {
            self.loaded = map_index(step.insn).map(|map| (dst, map));
        } else if let Insn::Call(Callee::Helper(number)) = *step.insn {
            self.call(number, step.registers);
        }
    }

    /// The keys that were looked for, with the names of their maps.
    pub(super) fn keys(&self) -> &[(Arc<str>, Vec<u8>)] {
        &self.keys
    }

    fn compare(&mut self, step: &Step<'_>, condition: Condition, width: Width, values: [u64; 2], constant: bool) {
        let values = match width {
            Width::W32 => values.map(|value| u64::from(value as u32)),
            Width::W64 => values,
        };
        let pair = Pair { condition, values, constant };
        if self.pairs.len() >= MAX_PAIRS || self.pairs.contains(&pair) {
            return;
        }
        let seen = self.per_slot.entry((step.program.index(), step.slot)).or_default();
        if *seen < PER_SLOT {
            *seen += 1;
            self.pairs.push(pair);
        }
    }

    fn store(&mut self, addr: u64, size: Size, value: u64) {
        for (offset, byte) in value.to_le_bytes().into_iter().take(size.bytes() as usize).enumerate() {
            let addr = addr.wrapping_add(offset as u64);
            if self.stored.len() < MAX_STORED || self.stored.contains_key(&addr) {
                self.stored.insert(addr, byte);
            }
        }
    }

    fn call(&mut self, number: i32, registers: &[u64]) {
        let Some(row) = table::by_number(number) else { return };
        let place = |wanted: ArgKind| row.args.iter().position(|kind| *kind == wanted);
        let argument = |index: usize| registers.get(index + 1).copied().unwrap_or(0);
        if let (Some(addr), Some(size)) = (place(ArgKind::Address), place(ArgKind::SizeOrZero)) {
            let size = argument(size).clamp(1, MAX_MEMORY as u64) as usize;
            let read = Read { addr: argument(addr), size, of_user: row.name.contains("user") };
            if self.reads.len() < MAX_READS && !self.reads.contains(&read) {
                self.reads.push(read);
            }
        }
        let (Some(map), Some(key)) = (place(ArgKind::Map), place(ArgKind::MapKey)) else { return };
        let Some(spec) = self.handles.get(&argument(map)).and_then(|&map| self.object.maps().get(map)) else { return };
        let byte = |offset: u32| self.stored.get(&(argument(key).wrapping_add(offset.into()))).copied().unwrap_or(0);
        let key: Vec<u8> = (0..spec.key_size.min(MAX_STORED as u32)).map(byte).collect();
        let known = self.keys.iter().any(|(map, known)| **map == *spec.name && *known == key);
        if !known && self.keys.len() < MAX_KEYS {
            self.keys.push((spec.name.as_str().into(), key));
        }
    }

    /// Inputs that would make comparisons come out otherwise, as far as the mutator may change them.
    pub(super) fn candidates(&self, input: &Input, mutator: &Mutator) -> Vec<Input> {
        let mut candidates = Candidates { input, mutator, memory: None, found: Vec::new() };
        self.reads.iter().for_each(|read| candidates.read(*read));
        for pair in &self.pairs {
            let [left, right] = pair.values;
            if let Some(max) = mutator.max_len() {
                candidates.lengths(left, right, max);
            }
            for wanted in pair.wanted(right) {
                candidates.replace(left, wanted);
            }
            if !pair.constant {
                for wanted in pair.wanted(left) {
                    candidates.replace(right, wanted);
                }
            }
        }
        candidates.found
    }
}

impl Pair {
    /// Values next to the other side's that may turn the comparison.
    fn wanted(&self, other: u64) -> Vec<u64> {
        match self.condition {
            Condition::Eq | Condition::Ne => vec![other],
            Condition::Set => vec![other, !other & self.values[0], self.values[0] | other],
            Condition::Gt
            | Condition::Ge
            | Condition::Lt
            | Condition::Le
            | Condition::Sgt
            | Condition::Sge
            | Condition::Slt
            | Condition::Sle => vec![other, other.wrapping_add(1), other.wrapping_sub(1)],
        }
    }
}

struct Candidates<'i> {
    input: &'i Input,
    mutator: &'i Mutator,
    /// What is placed in those that come next.
    memory: Option<Far>,
    found: Vec<Input>,
}

impl Candidates<'_> {
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
    fn read(&mut self, Read { addr, size, of_user }: Read) {
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
    fn lengths(&mut self, left: u64, right: u64, max: usize) {
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
    fn replace(&mut self, from: u64, to: u64) {
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
