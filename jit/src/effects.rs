//! What code does, with all that it calls, to what its callers have: so that a call saves no more than it must.
//!
//! Asked for block by block, and said too much of where it would take long to find out.

use softbpf::codec::Code;
use softbpf::insn::{Callee, Insn, Reg};

use crate::blocks::Block;
use crate::fault::{Fault, Planted};
use crate::proof::{Plan, Plans};

/// Number of `bpf_tail_call`.
const TAIL_CALL: i32 = 12;

/// How often blocks are asked anew: for each jump back or call of what comes before that effects take on their way.
const SWEEPS: usize = 16;

/// A set of effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Effects(u8);

impl Effects {
    pub(crate) const NONE: Effects = Effects(0);
    pub(crate) const ALL: Effects = Effects(0x3f);
    /// Stack frames may be written.
    const STACK: Effects = Effects(1 << 4);
    /// The budget of `may_goto` is used, or set anew.
    const LOOPS: Effects = Effects(1 << 5);

    /// Registers that functions preserve, in order.
    pub(crate) const PRESERVED: [Reg; 4] = [Reg::R6, Reg::R7, Reg::R8, Reg::R9];

    /// Whether stack frames may be written.
    pub(crate) fn stack(self) -> bool {
        self.0 & Effects::STACK.0 != 0
    }

    /// Whether the budget of `may_goto` is used.
    pub(crate) fn loops(self) -> bool {
        self.0 & Effects::LOOPS.0 != 0
    }

    /// Whether one of the registers that functions preserve is written.
    pub(crate) fn writes(self, reg: Reg) -> bool {
        self.0 & Effects::write(reg).0 != 0
    }

    fn write(reg: Reg) -> Effects {
        let at = Effects::PRESERVED.iter().position(|&preserved| preserved == reg);
        Effects(at.map_or(0, |at| 1 << at))
    }

    fn and(self, other: Effects) -> Effects {
        Effects(self.0 | other.0)
    }

    /// What one instruction does, but for what it calls in the program.
    fn of(insn: &Insn, plan: Plan) -> Effects {
        match *insn {
            Insn::Store { .. } | Insn::StoreRelease { .. } => stored(plan),
            Insn::Atomic { .. } => stored(plan).and(insn.written().map_or(Effects::NONE, Effects::write)),
            Insn::MayGoto { .. } => Effects::LOOPS,
            Insn::Call(Callee::Reg(_) | Callee::Helper(TAIL_CALL)) => Effects::ALL,
            Insn::Call(Callee::Helper(_)) => Effects::STACK,
            Insn::Call(Callee::Local(_) | Callee::Kfunc { .. }) => Effects::NONE,
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::MovSx { .. }
            | Insn::End { .. }
            | Insn::AddrSpaceCast { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Load { .. }
            | Insn::LoadAcquire { .. }
            | Insn::LoadPacket { .. }
            | Insn::Jump { .. }
            | Insn::JumpIf { .. }
            | Insn::Exit => insn.written().map_or(Effects::NONE, Effects::write),
        }
    }
}

/// What a store does whose access is made by this plan.
fn stored(plan: Plan) -> Effects {
    match plan {
        Plan::Proved(place) if !place.is_on_stack() => Effects::NONE,
        Plan::Proved(_) | Plan::Unknown | Plan::Likely(_) | Plan::Answer(_) | Plan::Lookup(_) => Effects::STACK,
    }
}

/// By block: what is done from there until its function returns. Empty where nothing can be called.
pub(crate) fn effects(code: &Code, insns: &[Insn], plans: &Plans, blocks: &[Block], planted: Planted) -> Vec<Effects> {
    if !blocks.iter().any(|block| block.callable) {
        return Vec::new();
    }
    let own = |block: &Block| {
        let each = (block.start as usize..block.end as usize).map(|at| Effects::of(&insns[at], plans.get(at)));
        let mut own = each.fold(Effects::NONE, Effects::and);
        if planted.is(Fault::CallForgetsR7) {
            own.0 &= !Effects::write(Reg::R7).0;
        }
        if planted.is(Fault::CallForgetsLoops) {
            own.0 &= !Effects::LOOPS.0;
        }
        own
    };
    let mut effects: Vec<Effects> = blocks.iter().map(own).collect();
    for _ in 0..SWEEPS {
        let mut settled = true;
        // Most of what comes behind a block stands behind it.
        for number in (0..blocks.len()).rev() {
            let Block { target, end, jumps, .. } = blocks[number];
            let last = &code.insns()[end as usize - 1];
            let calls = matches!(last, Insn::Call(Callee::Local(_)));
            let goes = if calls || jumps { effects[target as usize] } else { Effects::NONE };
            let ends = matches!(last, Insn::Exit | Insn::Jump { .. });
            let behind = effects.get(number + 1).filter(|_| !ends).copied().unwrap_or_default();
            let all = effects[number].and(goes).and(behind);
            settled &= all == effects[number];
            effects[number] = all;
        }
        if settled {
            return effects;
        }
    }
    vec![Effects::ALL; blocks.len()]
}
