//! Basic blocks: where control may arrive, and how many instructions run from there to the block's end.
//!
//! Fuel is charged for a whole block where it begins. A block ends at a jump, at an exit and at every call, so that what
//! runs elsewhere in between finds exact fuel. Whether there is enough is asked at checkpoints only: at the heads of loops and
//! of functions, behind calls, and wherever more than [`SLACK`] instructions could be executed since the last one.

use softbpf::codec::Code;
use softbpf::insn::{Callee, Imm64, Insn};

/// Fuel that there is behind every checkpoint: most instructions from there, behind its own block, to the end of the block in
/// front of the next one. Code gives up where there is less, and the interpreter executes what is left.
pub(crate) const SLACK: u32 = 256;

/// What is known of one instruction's place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// Instructions from here to the end of the block, this one included.
    pub(crate) left: u32,
    /// Of a jump, a call of a function and an address of one: index of the instruction that it goes to.
    pub(crate) target: u32,
    /// Of a leader: number of its block.
    pub(crate) block: u32,
    /// Of a leader: most instructions executed since the last checkpoint.
    unasked: u32,
    /// A block begins here.
    pub(crate) leader: bool,
    /// A jump comes back to here.
    pub(crate) loop_head: bool,
    /// A call comes here.
    pub(crate) callable: bool,
    /// Of a leader: fuel is looked at.
    pub(crate) checkpoint: bool,
}

/// Index of the instruction that a jump or call of the instruction at `slot` goes to. The check has made sure that it
/// exists.
fn target(code: &Code, slot: usize, off: i32) -> usize {
    let slot = (slot as i64 + 1 + i64::from(off)).max(0) as usize;
    code.index_at(slot).unwrap_or(0)
}

/// Whether control may go elsewhere than to the next instruction, or comes back to it from elsewhere.
fn ends_block(insn: &Insn) -> bool {
    insn.jump_offset().is_some() || matches!(insn, Insn::Call(_) | Insn::Exit)
}

/// The places of all instructions.
pub(crate) fn places(code: &Code) -> Vec<Place> {
    let mut places = vec![Place::default(); code.insns().len()];
    if let Some(first) = places.first_mut() {
        first.leader = true;
        first.checkpoint = true;
    }
    for (index, (slot, insn)) in code.iter().enumerate() {
        if let Some(off) = insn.jump_offset() {
            let to = target(code, slot, off);
            places[index].target = to as u32;
            let place = &mut places[to];
            place.leader = true;
            place.loop_head |= to <= index;
            place.checkpoint |= to <= index;
        }
        if let Insn::Call(Callee::Local(off)) | Insn::LoadImm64 { value: Imm64::Code(off), .. } = *insn {
            let to = target(code, slot, off);
            places[index].target = to as u32;
            let place = &mut places[to];
            place.leader = true;
            place.callable = true;
            place.checkpoint = true;
        }
        if ends_block(insn)
            && let Some(next) = places.get_mut(index + 1)
        {
            next.leader = true;
            next.checkpoint |= matches!(insn, Insn::Call(_));
        }
    }
    let mut left = 0;
    for (place, insn) in places.iter_mut().zip(code.insns()).rev() {
        left = if ends_block(insn) { 1 } else { left + 1 };
        place.left = left;
        if place.leader {
            left = 0;
        }
    }
    set_checkpoints(code, &mut places);
    places
}

/// Numbers the blocks, and makes further checkpoints where more than [`SLACK`] instructions could go by without one.
fn set_checkpoints(code: &Code, places: &mut [Place]) {
    let (mut index, mut block) = (0, 0);
    while let Some(&Place { left, unasked, mut checkpoint, .. }) = places.get(index) {
        checkpoint |= unasked + left > SLACK;
        places[index].checkpoint = checkpoint;
        places[index].block = block;
        let unasked = if checkpoint { 0 } else { unasked + left };
        let last = index + left.max(1) as usize - 1;
        if code.insns()[last].jump_offset().is_some() {
            let target = &mut places[places[last].target as usize];
            target.unasked = target.unasked.max(unasked);
        }
        index = last + 1;
        block += 1;
        if let Some(next) = places.get_mut(index) {
            next.unasked = next.unasked.max(unasked);
        }
    }
}
