//! The operations of the hot loop that are not an [`super::ops::Operation`]: those that look at more than their operands.

use super::exec::{Core, Next, dispatch, done, goto, leave};
use super::flat::Slot;
use super::state::{Leave, Registers};
use crate::insn::AtomicOp;
use crate::semantics;

macro_rules! atomics {
    (
        alu $alu:tt condition $condition:tt
        atomic [$($atomic:ident $imm:literal $symbol:literal)*]
        size $size:tt
    ) => { pastey::paste! {
        $(atomic!([<atomic_ $atomic:snake _32>] $atomic u32); atomic!([<atomic_ $atomic:snake _64>] $atomic u64);)*
    } };
}
macro_rules! atomic {
    ($name:ident $op:ident $unsigned:ident) => {
        pub(super) fn $name<'c>(
            regs: &mut Registers,
            core: &mut Core<'c>,
            slot: &'c Slot,
            next: Next<'c>,
            origin: usize,
        ) -> Leave {
            let addr = regs[slot.dst as usize].wrapping_add(slot.off as i64 as u64);
            let Some(place) = core.view.place(addr) else { return leave(core, next, origin, Leave::Slow) };
            let old = $unsigned::from_le_bytes(*place) as u64;
            let src = regs[slot.src as usize] as $unsigned as u64;
            let new = semantics::atomic(AtomicOp::$op, old, src, regs[0] as $unsigned as u64);
            *place = (new as $unsigned).to_le_bytes();
            match AtomicOp::$op {
                AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
                AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
                    regs[slot.src as usize] = old;
                }
                AtomicOp::Cmpxchg => regs[0] = old,
            }
            dispatch(regs, core, next, origin)
        }
    };
}
for_each_row!(atomics);

pub(super) fn may_goto<'c>(
    regs: &mut Registers,
    core: &mut Core<'c>,
    slot: &'c Slot,
    next: Next<'c>,
    origin: usize,
) -> Leave {
    if core.state.loops == 0 {
        return goto(regs, core, slot.off as u32, next, origin);
    }
    core.state.loops -= 1;
    dispatch(regs, core, next, origin)
}

pub(super) fn call_helper<'c>(
    _: &mut Registers,
    core: &mut Core<'c>,
    slot: &'c Slot,
    next: Next<'c>,
    origin: usize,
) -> Leave {
    leave(core, next, origin, Leave::Helper(slot.imm as i32))
}

pub(super) fn slow<'c>(_: &mut Registers, core: &mut Core<'c>, _: &'c Slot, next: Next<'c>, origin: usize) -> Leave {
    leave(core, next, origin, Leave::Slow)
}

pub(super) fn no_slot<'c>(_: &mut Registers, core: &mut Core<'c>, _: &'c Slot, next: Next<'c>, origin: usize) -> Leave {
    leave(core, next, origin, Leave::NoSlot)
}

pub(super) fn call_local<'c>(
    regs: &mut Registers,
    core: &mut Core<'c>,
    slot: &'c Slot,
    next: Next<'c>,
    origin: usize,
) -> Leave {
    let Some(top) = core.view.push_frame(core.state.depth + 1) else {
        return leave(core, next, origin, Leave::TooDeep);
    };
    let ret = core.index(&next);
    core.state.call(regs, ret, top);
    goto(regs, core, slot.off as u32, next, origin)
}

pub(super) fn exit<'c>(regs: &mut Registers, core: &mut Core<'c>, _: &'c Slot, next: Next<'c>, origin: usize) -> Leave {
    match core.state.ret(regs, &mut core.view) {
        None => done(core, &next, origin),
        Some((program, ret)) if program == core.state.program => goto(regs, core, ret, next, origin),
        Some((program, ret)) => exit_to(core, next, origin, program, ret),
    }
}

#[cold]
#[inline(never)]
fn exit_to<'c>(core: &mut Core<'c>, next: Next<'c>, origin: usize, program: u32, ret: u32) -> Leave {
    let left = leave(core, next, origin, Leave::Return);
    (core.state.program, core.state.pc) = (program, ret as usize);
    left
}
