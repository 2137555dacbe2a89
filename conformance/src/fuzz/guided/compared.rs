//! What a run compares, and which keys it looks for: inputs that would make the other side win.
//!
//! A value that a jump compares is often a piece of the input as it is: where the input has that value, the value that
//! it is compared with is put in its place (Aschermann and others, "Redqueen", 2019). Two pointers are compared to see
//! whether a packet is long enough: then it gets the length that is asked for. Where a helper reads memory that is not
//! there, it is placed there, and a pointer that leads nowhere is made one that leads to some.

mod candidates;

use std::collections::HashMap;
use std::sync::Arc;

use softbpf::Object;
use softbpf::engine::Step;
use softbpf::helpers::table::{self, ArgKind};
use softbpf::insn::{Callee, Condition, Insn, Operand, Reg, Size, Width};

use self::candidates::Candidates;
use super::input::Input;
use super::mutate::{MAX_MEMORY, Mutator};
use super::target::map_index;

/// Comparisons of one instruction that are looked at.
const PER_SLOT: usize = 4;

/// Comparisons that are looked at in all.
const MAX_PAIRS: usize = 256;

/// Bytes of stores that are remembered.
const MAX_STORED: usize = 4096;

/// Keys that are looked at.
const MAX_KEYS: usize = 32;

/// Reads of memory that are looked at, and stretches of memory that an input gets.
const MAX_READS: usize = 8;

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
        let seen = self.per_slot.entry((step.program.index(), step.slot)).or_default();
        let pair = Pair { condition, values, constant };
        if *seen < PER_SLOT && self.pairs.len() < MAX_PAIRS && !self.pairs.contains(&pair) {
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
        let mut candidates = Candidates::new(input, mutator);
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
        candidates.into_inputs()
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
