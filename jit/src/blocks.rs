//! Basic blocks: where control may arrive, and how many instructions run from there to the block's end.
//!
//! Fuel is charged for a whole block where it begins. A block ends at a jump, at an exit and at every call, so that what
//! runs elsewhere in between finds exact fuel.

use softbpf::codec::Code;
use softbpf::insn::{Callee, Imm64, Insn};

/// What is known of one instruction's place.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    /// Instructions from here to the end of the block, this one included.
    pub(crate) left: u32,
    /// A block begins here.
    pub(crate) leader: bool,
    /// A jump comes back to here.
    pub(crate) loop_head: bool,
    /// A call comes here.
    pub(crate) callable: bool,
}

/// Index of the instruction that a jump or call of the instruction at `slot` goes to. The check has made sure that it
/// exists.
pub(crate) fn target(code: &Code, slot: usize, off: i32) -> usize {
    let slot = (slot as i64 + 1 + i64::from(off)).max(0) as usize;
    code.index_at(slot).unwrap_or(0)
}

/// Whether control may go elsewhere than to the next instruction, or comes back to it from elsewhere.
fn ends_block(insn: &Insn) -> bool {
    match insn {
        Insn::Jump { .. } | Insn::JumpIf { .. } | Insn::MayGoto { .. } | Insn::Call(_) | Insn::Exit => true,
        Insn::Alu { .. }
        | Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::LoadImm64 { .. }
        | Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::LoadPacket { .. } => false,
    }
}

/// The places of all instructions.
pub(crate) fn places(code: &Code) -> Vec<Place> {
    let mut places = vec![Place::default(); code.insns().len()];
    mark(&mut places, 0).leader = true;
    for (index, (slot, insn)) in code.iter().enumerate() {
        if let Some(off) = insn.jump_offset() {
            let to = target(code, slot, off);
            let place = mark(&mut places, to);
            place.leader = true;
            place.loop_head |= to <= index;
        }
        if let Insn::Call(Callee::Local(off)) | Insn::LoadImm64 { value: Imm64::Code(off), .. } = *insn {
            let place = mark(&mut places, target(code, slot, off));
            place.leader = true;
            place.callable = true;
        }
        if ends_block(insn)
            && let Some(next) = places.get_mut(index + 1)
        {
            next.leader = true;
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
    places
}

fn mark(places: &mut [Place], index: usize) -> &mut Place {
    &mut places[index]
}
