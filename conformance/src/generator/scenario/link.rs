//! Instructions with labels, and what they become.

use softbpf::codec::Code;
use softbpf::insn::{Callee, Imm64, Insn};

/// A place in a program.
pub(super) type Label = usize;

/// A part of a program.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece {
    Insn(Insn),
    /// A jump, a local call or a load of an address of code, to this label.
    To(Insn, Label),
    Label(Label),
}

/// The program, every label resolved. Labels that no piece places lead to the end, where there is an `exit`.
pub(super) fn link(pieces: &[Piece], labels: usize) -> Code {
    let mut places = vec![None; labels];
    let mut slot = 0;
    for piece in pieces {
        match *piece {
            Piece::Insn(insn) | Piece::To(insn, _) => slot += insn.slots(),
            Piece::Label(label) => places[label] = Some(slot),
        }
    }
    let mut insns = Vec::with_capacity(pieces.len() + 1);
    let (end, mut slot) = (slot, 0_usize);
    for piece in pieces {
        let insn = match *piece {
            Piece::Insn(insn) => insn,
            Piece::To(insn, label) => aim(insn, places[label].unwrap_or(end) as i64 - slot as i64 - 1),
            Piece::Label(_) => continue,
        };
        slot += insn.slots();
        insns.push(insn);
    }
    insns.push(Insn::Exit);
    insns.into()
}

/// A jump, a local call or a load of an address of code, to what is so many slots from the next instruction; any other
/// instruction as it is. A distance that has no room is cut off.
pub(crate) fn aim(insn: Insn, distance: i64) -> Insn {
    let (near, far) = (distance as i16, distance as i32);
    if let Insn::JumpIf { condition, width, dst, src, .. } = insn {
        Insn::JumpIf { condition, width, dst, src, off: near }
    } else if let Insn::Jump { long, .. } = insn {
        Insn::Jump { off: far, long }
    } else if let Insn::MayGoto { .. } = insn {
        Insn::MayGoto { off: near }
    } else if let Insn::Call(Callee::Local(_)) = insn {
        Insn::Call(Callee::Local(far))
    } else if let Insn::LoadImm64 { dst, value: Imm64::Code(_) } = insn {
        Insn::LoadImm64 { dst, value: Imm64::Code(far) }
    } else {
        insn
    }
}
