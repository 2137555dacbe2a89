//! What can be proved of a program's accesses of memory before it runs.
//!
//! One pass over the blocks, in an order where each comes behind those that lead to it, with what is known at each place:
//! constant offsets into the stack, the context, global data, values of maps behind a test for null, packets behind a test
//! of their length. Where a loop begins, what the loop writes is doubted; the jumps back must then keep what was claimed, or
//! a second pass doubts everything there. No loop is walked twice.
//!
//! Some claims hold only under assumptions about the run ([`Assumptions`]): they are looked at before it begins.
//!
//! It knows no machine code. Sources of the idea: the kernel's verifier, which must prove all of this; here what is not
//! proved is checked as the program runs.

mod order;
mod plan;
mod state;
mod transfer;
mod value;

use std::collections::BTreeMap;

use softbpf::codec::Code;
use softbpf::context::ContextKind;
use softbpf::engine::ProgramId;
use softbpf::insn::{Insn, Reg, Size};
use softbpf::machine::Machine;
use softbpf::maps::Map;
use softbpf::memory::{Permission, STACK_FRAME};
use softbpf::program_type::ProgramType;

use order::{Order, Turn};
pub(crate) use plan::{Lookup, Plan, Plans};
use state::{State, negated};
pub(crate) use transfer::MAP_LOOKUP_ELEM;
pub(crate) use value::Place;
use value::{Offsets, Value};

use crate::blocks::Block;
use crate::fault::{Fault, Planted};
pub(crate) use crate::inspect::Region;

/// Bytes of a context that claims are made about.
pub(crate) const CONTEXT_BYTES: usize = 512;

/// States that are kept whole; of further ones less is known, so that no program takes more memory than it is worth.
const MAX_STATES: usize = 1 << 14;

/// What must be true of a run for the proofs to hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Assumptions {
    /// `r1` is the context's address on entry, and these bytes at its start may be read or written: a bit a byte, in so many
    /// words.
    pub(crate) context: bool,
    pub(crate) words: usize,
    pub(crate) readable: [u64; CONTEXT_BYTES / 64],
    pub(crate) writable: [u64; CONTEXT_BYTES / 64],
    /// The context's fields at these offsets hold the packet's start and end, and cannot be written.
    pub(crate) packet: Option<PacketFields>,
    /// All of the packet may be read, or written.
    pub(crate) packet_read: bool,
    pub(crate) packet_write: bool,
    /// These helpers are not mocked.
    pub(crate) helpers: Vec<i32>,
}

impl Assumptions {
    pub(super) fn not_mocked(&mut self, helper: i32) {
        if !self.helpers.contains(&helper) {
            self.helpers.push(helper);
        }
    }
}

/// Offsets of the packet pointers in a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PacketFields {
    pub(crate) data: i32,
    pub(crate) data_end: i32,
}

impl PacketFields {
    /// Of `struct xdp_md` and `struct __sk_buff`.
    fn of(program_type: ProgramType) -> Option<PacketFields> {
        match ContextKind::of(program_type) {
            ContextKind::Xdp => Some(PacketFields { data: 0, data_end: 4 }),
            ContextKind::SkBuff => Some(PacketFields { data: 76, data_end: 80 }),
            ContextKind::PtRegs | ContextKind::Bytes => None,
        }
    }
}

/// The plans of all instructions, by index, and what they rely on.
#[derive(Debug)]
pub(crate) struct Proofs {
    pub(crate) plans: Plans,
    pub(crate) assumptions: Assumptions,
    pub(crate) tested: Tested,
}

/// By index of an access that is proved to be in the packet: the bytes that a test has shown that to have. Kept for who wants to
/// see it; most do not.
#[derive(Debug, Default)]
pub(crate) struct Tested(Option<BTreeMap<usize, u32>>);

impl Tested {
    pub(crate) fn get(&self, index: usize) -> Option<u32> {
        self.0.as_ref()?.get(&index).copied()
    }
}

impl Proofs {
    /// Has everything checked: what was proved becomes likely.
    pub(crate) fn doubt(&mut self) {
        self.plans.doubt();
        self.assumptions = Assumptions::default();
    }
}

/// Proves what can be proved of a program.
pub(crate) fn prove(
    machine: &Machine,
    id: ProgramId,
    program_type: ProgramType,
    code: &Code,
    blocks: &[Block],
    explain: bool,
    planted: Planted,
) -> Proofs {
    let order = Order::of(code, blocks);
    let loops = Loops::of(code, blocks);
    let pass = |trusting| {
        let mut pass = Pass {
            machine,
            id,
            code,
            blocks,
            packet_fields: PacketFields::of(program_type),
            order: &order,
            loops: &loops,
            planted,
            trusting,
            waiting: std::iter::repeat_with(|| None).take(blocks.len()).collect(),
            spare: Vec::new(),
            heads: Vec::new(),
            brought: 0,
            turn: 0,
            sound: true,
            proofs: Proofs {
                plans: Plans::unknown(code.insns().len()),
                assumptions: Assumptions::default(),
                tested: Tested(explain.then(BTreeMap::new)),
            },
        };
        pass.run();
        (pass.sound, pass.proofs)
    };
    match pass(true) {
        (true, proofs) => proofs,
        // A loop does not keep what was taken for granted at its head.
        (false, _) => pass(false).1,
    }
}

/// Which registers each loop likely writes: those between its head and the last jump back.
#[derive(Debug)]
struct Loops {
    /// Loop heads by index, with a bit for each register written from there to the last jump back.
    written: Vec<(u32, u16)>,
}

impl Loops {
    fn of(code: &Code, blocks: &[Block]) -> Loops {
        let back = |block: &Block| {
            let (head, end) = (blocks[block.target as usize].start, block.end - 1);
            (block.jumps && head <= end).then_some((head, end))
        };
        let mut ends: Vec<_> = blocks.iter().filter_map(back).collect();
        // By head, the last jump back first.
        ends.sort_unstable_by_key(|&(head, end)| (head, std::cmp::Reverse(end)));
        ends.dedup_by_key(|&mut (head, _)| head);
        let mut next_write = [u32::MAX; 11];
        let mut written = Vec::with_capacity(ends.len());
        let mut index = code.insns().len();
        for &(head, end) in ends.iter().rev() {
            while index > head as usize {
                index -= 1;
                note_writes(&code.insns()[index], index as u32, &mut next_write);
            }
            let set = (0..11).filter(|&reg| next_write[reg] <= end).fold(0, |set, reg| set | 1 << reg);
            written.push((head, set));
        }
        written.reverse();
        Loops { written }
    }

    fn written(&self, head: u32) -> u16 {
        let at = self.written.binary_search_by_key(&head, |&(head, _)| head);
        at.map_or(u16::MAX, |at| self.written[at].1)
    }
}

fn note_writes(insn: &Insn, index: u32, next_write: &mut [u32; 11]) {
    if let Insn::Call(_) | Insn::LoadPacket { .. } = insn {
        next_write[..6].fill(index);
    } else if let Some(reg) = insn.written() {
        next_write[usize::from(reg.number())] = index;
    }
}

struct Pass<'p> {
    machine: &'p Machine,
    id: ProgramId,
    code: &'p Code,
    blocks: &'p [Block],
    packet_fields: Option<PacketFields>,
    loops: &'p Loops,
    order: &'p Order,
    planted: Planted,
    /// Take for granted that loops keep what they likely do not write.
    trusting: bool,
    /// By block: what is brought there by those that had their turn.
    waiting: Vec<Option<Box<State>>>,
    /// States that are not needed any more, for further ones.
    #[expect(clippy::vec_box, reason = "they go to `waiting` and come from there without being copied")]
    spare: Vec<Box<State>>,
    /// What was claimed at the heads of loops, by turn.
    heads: Vec<(u32, State)>,
    /// How many blocks something was brought to.
    brought: usize,
    /// Turn of the block that is looked at.
    turn: u32,
    /// No jump back has broken a claim.
    sound: bool,
    proofs: Proofs,
}

impl Pass<'_> {
    fn run(&mut self) {
        let insns = self.code.insns();
        while let Some(number) = self.order.number(self.turn) {
            let block = self.blocks[number as usize];
            let (start, end) = (block.start as usize, block.end as usize);
            if let Some(mut state) = self.arrive(number, block) {
                for (index, insn) in (start..).zip(&insns[start..end]) {
                    self.step(index, insn, &mut state);
                }
                self.leave(number, block, state);
            }
            self.turn += 1;
        }
    }

    /// What is known where a block begins; `None` where control does not come.
    fn arrive(&mut self, number: u32, block: Block) -> Option<Box<State>> {
        const FRAME_POINTER: u16 = 1 << 10;
        let waiting = self.waiting[number as usize].take();
        if block.callable {
            return Some(Box::new(State::unknown()));
        }
        let mut state = match waiting {
            waiting if number == 0 => {
                // How the program begins; jumps may come here, too.
                let mut entry = State::unknown();
                entry.set(Reg::R1, Value::start_of(Region::Context));
                if let Some(waiting) = waiting {
                    entry.join(&waiting);
                }
                Box::new(entry)
            }
            waiting => waiting?,
        };
        let Turn { turn, head } = self.order.turn(number);
        if head {
            let written = if self.trusting { self.loops.written(block.start) } else { u16::MAX };
            if !self.planted.is(Fault::ProofLoopKeepsRegisters) {
                state.doubt(written & !FRAME_POINTER);
            }
            state.doubt_spilled();
            if !self.trusting {
                state.packet = 0;
            }
            if self.heads.len() < MAX_STATES {
                self.heads.push((turn, State::clone(&state)));
            } else {
                // Nothing is claimed here that would have to be kept.
                state.doubt(!FRAME_POINTER);
                state.packet = 0;
            }
        }
        Some(state)
    }

    /// What is known at the end of a block goes wherever control does.
    fn leave(&mut self, number: u32, block: Block, mut state: Box<State>) {
        let insn = &self.code.insns()[block.end as usize - 1];
        if let Insn::Exit = insn {
            return self.spare.push(state);
        }
        if let Insn::Jump { .. } = insn {
            return self.bring(block.target, state);
        }
        if let Insn::MayGoto { .. } = insn {
            let taken = self.copy(&state);
            self.bring(block.target, taken);
        }
        if let Insn::JumpIf { condition, width, dst, src, .. } = *insn {
            let mut taken = self.copy(&state);
            taken.assume(condition, width, dst, src);
            self.bring(block.target, taken);
            if let Some(negated) = negated(condition) {
                state.assume(negated, width, dst, src);
            }
        }
        if number as usize + 1 < self.blocks.len() {
            self.bring(number + 1, state);
        }
    }

    fn copy(&mut self, state: &State) -> Box<State> {
        match self.spare.pop() {
            Some(mut copy) => {
                State::clone_from(&mut copy, state);
                copy
            }
            None => Box::new(state.clone()),
        }
    }

    /// Brings a state to the block with this number.
    fn bring(&mut self, number: u32, mut state: Box<State>) {
        let Turn { turn, .. } = self.order.turn(number);
        if turn > self.turn {
            let waiting = &mut self.waiting[number as usize];
            let Some(waiting) = waiting else {
                self.brought += 1;
                if self.brought > MAX_STATES {
                    state.forget_spilled();
                }
                *waiting = Some(state);
                return;
            };
            if !self.planted.is(Fault::ProofJoinTakesOneSide) {
                waiting.join(&state);
            }
        } else if let Ok(at) = self.heads.binary_search_by_key(&turn, |&(turn, _)| turn) {
            self.sound &= self.heads[at].1.covers(&state);
        }
        // A head that is not in the list claims nothing: it can be called, or there were too many before it.
        self.spare.push(state);
    }

    /// The map of this index, if programs may use it like that.
    fn map(&self, index: u32, write: bool) -> Option<&Map> {
        let map = self.machine.map_info(index as usize)?;
        let allowed = match map.permission() {
            Permission::Read => !write || self.planted.is(Fault::ProofMapWritable),
            Permission::ReadWrite => true,
            Permission::Write => write,
        };
        allowed.then_some(map)
    }

    /// How an access can be made, and what that relies on.
    #[inline(always)]
    fn plan(
        &mut self,
        index: usize,
        state: &State,
        (base, off): (Reg, i16),
        size: Size,
        read: bool,
        write: bool,
    ) -> Plan {
        let Some(place) = state.packed(base).place() else { return maybe(state.get(base)) };
        if place.is_anywhere() {
            return Plan::Likely(place);
        }
        let offsets = place.offsets_behind(off);
        if !self.inside(state, place.region(), offsets, size, read, write) {
            return Plan::Likely(place);
        }
        if let Some(tested) = &mut self.proofs.tested.0
            && place.region() == Region::Packet
        {
            tested.insert(index, state.packet.unsigned_abs());
        }
        Plan::Proved(place.with(offsets))
    }

    #[inline(always)]
    fn inside(&mut self, state: &State, region: Region, offset: Offsets, size: Size, read: bool, write: bool) -> bool {
        let end = offset.max.saturating_add(size.bytes() as i32);
        match region {
            Region::Stack => offset.min >= -(STACK_FRAME as i32) && end <= self.one_more(Fault::ProofStackOneMore),
            Region::Context => self.inside_context(offset.min, end, read, write),
            Region::Packet => {
                let inside = offset.min >= 0 && end <= state.packet + self.one_more(Fault::ProofPacketOneMore);
                if inside {
                    self.proofs.assumptions.packet_read |= read;
                    self.proofs.assumptions.packet_write |= write;
                }
                inside
            }
            Region::Data(map) | Region::Element(map) => {
                let readable = !read || self.map(map, false).is_some();
                let writable = !write || self.map(map, true).is_some();
                let size = self.machine.map_info(map as usize).map_or(0, |map| i64::from(map.value_size()));
                let end = i64::from(end - self.one_more(Fault::ProofValueOneMore));
                readable && writable && offset.min >= 0 && end <= size
            }
        }
    }

    /// How much more there is with this fault than there is.
    fn one_more(&self, fault: Fault) -> i32 {
        i32::from(self.planted.is(fault))
    }

    fn inside_context(&mut self, start: i32, end: i32, read: bool, write: bool) -> bool {
        if start < 0 || start >= end || end > CONTEXT_BYTES as i32 {
            return false;
        }
        let write = write && !self.planted.is(Fault::ProofContextWritable);
        let assumptions = &mut self.proofs.assumptions;
        let (first, last) = (start as usize, end as usize - 1);
        assumptions.context = true;
        assumptions.words = assumptions.words.max(last / 64 + 1);
        if read {
            add_bits(&mut assumptions.readable, first, last);
        }
        if write {
            add_bits(&mut assumptions.writable, first, last);
        }
        true
    }
}

/// How an access can be made through what is no pointer for sure.
#[inline(never)]
fn maybe(base: Value) -> Plan {
    match base {
        Value::MaybeNull(found) => found.place().map_or(Plan::Unknown, Plan::Likely),
        Value::Constant(_) | Value::UpTo(_) | Value::Pointer(_) | Value::PacketEnd => Plan::Unknown,
    }
}

/// Sets the bits from the first to the last one.
fn add_bits(words: &mut [u64; CONTEXT_BYTES / 64], first: usize, last: usize) {
    let (from, to) = (u64::MAX << (first % 64), u64::MAX >> (63 - last % 64));
    if first / 64 == last / 64 {
        words[first / 64] |= from & to;
    } else {
        words[first / 64] |= from;
        words[last / 64] |= to;
        words[first / 64 + 1..last / 64].fill(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_of_a_range_are_set_and_no_others() {
        for first in 0..CONTEXT_BYTES {
            for last in first..(first + 200).min(CONTEXT_BYTES) {
                let mut words = [0; CONTEXT_BYTES / 64];
                add_bits(&mut words, first, last);
                let is_set = |bit: &usize| words[bit / 64] >> (bit % 64) & 1 != 0;
                assert!((0..CONTEXT_BYTES).filter(is_set).eq(first..=last), "{first} to {last}");
            }
        }
    }
}
