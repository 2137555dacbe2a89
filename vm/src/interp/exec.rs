//! The hot loop: a function an operation, each of which ends by calling the next one's.
//!
//! It knows slots, registers and guest memory. Whatever needs more (helpers, other programs, addresses that
//! missed) it hands to the driver by returning.
//!
//! That call is the last thing that a function does, so that compiled with optimisation it is a jump: every operation has a
//! dispatch of its own, which a `match` in a loop does not get, nothing that they share leaves its machine register, and
//! where the linker puts them matters little. The language does not promise the jump. So a function sees a window of
//! [`WINDOW`] slots only, and a taken jump opens the next window until [`STRETCH`] instructions have been executed; then all
//! return to [`Core::exec`], which goes on. Where calls are calls, as without optimisation, so many is all that the stack holds.
//!
//! The ends of windows and stretches also make the count of instructions exact: it is a distance, looked at by taken jumps
//! alone.

use std::slice::Iter;

use super::flat::Slot;
use super::ops::{Flow, Operation};
use super::state::{Leave, Registers, State};
use crate::memory::View;

/// Most instructions in a row without a taken jump.
const WINDOW: usize = 64;
/// Instructions after which no taken jump opens a window.
const STRETCH: u64 = 256;
/// Slots without an instruction behind a program, so that a whole window begins at every slot of it.
pub(super) const PADDING: usize = WINDOW;

/// What the functions share and seldom need.
pub(super) struct Core<'c> {
    code: &'c [Slot],
    pub(super) view: View<'c>,
    pub(super) state: &'c mut State,
    /// Bytes of slots executed after which no taken jump opens a window.
    limit: usize,
}

/// The slots up to the end of the window, from the next one on.
pub(super) type Next<'c> = Iter<'c, Slot>;

/// A function that executes a slot, or more, and all that follows.
///
/// `origin` is an address as far before the next slot's as the slots that have been executed are long: so jumps need no
/// division to count.
pub(super) type Execute =
    for<'c> fn(regs: &mut Registers, core: &mut Core<'c>, slot: &'c Slot, next: Next<'c>, origin: usize) -> Leave;

#[inline(always)]
fn address(next: &Next<'_>) -> usize {
    next.as_slice().as_ptr().addr()
}

/// Executes the next slot and all that follows.
#[inline(always)]
pub(super) fn dispatch<'c>(regs: &mut Registers, core: &mut Core<'c>, mut next: Next<'c>, origin: usize) -> Leave {
    match next.next() {
        Some(slot) => (slot.execute)(regs, core, slot, next, origin),
        None => leave(core, next, origin, Leave::Pause),
    }
}

/// Back to [`Core::exec`].
#[cold]
#[inline(never)]
pub(super) fn leave<'c>(core: &mut Core<'c>, next: Next<'c>, origin: usize, leave: Leave) -> Leave {
    core.state.pc = core.index(&next);
    count(core, &next, origin);
    leave
}

/// Back to [`Core::exec`] for good: nobody asks where.
#[inline(always)]
pub(super) fn done(core: &mut Core<'_>, next: &Next<'_>, origin: usize) -> Leave {
    count(core, next, origin);
    Leave::Done
}

#[inline(always)]
fn count(core: &mut Core<'_>, next: &Next<'_>, origin: usize) {
    let executed = address(next).wrapping_sub(origin) / size_of::<Slot>();
    core.state.used += executed as u64;
}

impl<'c> Core<'c> {
    #[inline(always)]
    pub(super) fn new(code: &'c [Slot], view: View<'c>, state: &'c mut State) -> Core<'c> {
        Core { code, view, state, limit: 0 }
    }

    /// Runs until the driver is needed, or `end` instructions have been executed.
    #[inline(always)]
    pub(super) fn exec(&mut self, regs: &mut Registers, end: u64) -> Leave {
        loop {
            let Some(next) = self.open(end) else { return Leave::NoSlot };
            if next.as_slice().is_empty() {
                return Leave::Pause;
            }
            let origin = address(&next);
            let leave = dispatch(regs, self, next, origin);
            if leave != Leave::Pause {
                return leave;
            }
        }
    }

    /// The window at `pc`, no longer than what is left until `end`.
    #[inline(always)]
    fn open(&mut self, end: u64) -> Option<Next<'c>> {
        let left = end.saturating_sub(self.state.used);
        if left < WINDOW as u64 + STRETCH {
            return self.open_last(left);
        }
        self.limit = STRETCH as usize * size_of::<Slot>();
        let start = self.state.pc;
        Some(self.code.get(start..start + WINDOW)?.iter())
    }

    /// The window where so many instructions are left.
    #[cold]
    fn open_last(&mut self, left: u64) -> Option<Next<'c>> {
        let length = left.min(WINDOW as u64) as usize;
        // A jump must leave enough for a whole window.
        self.limit = left.saturating_sub(WINDOW as u64) as usize * size_of::<Slot>();
        Some(self.code.get(self.state.pc..)?.get(..length)?.iter())
    }

    /// The index of the next slot.
    #[inline(always)]
    pub(super) fn index(&self, next: &Next<'_>) -> usize {
        (address(next) - self.code.as_ptr().addr()) / size_of::<Slot>()
    }
}

/// Goes on at the slot with this index.
#[inline(always)]
pub(super) fn goto<'c>(regs: &mut Registers, core: &mut Core<'c>, target: u32, next: Next<'c>, origin: usize) -> Leave {
    let start = target as usize;
    let Some(window) = core.code.get(start..start + WINDOW) else { return leave(core, next, origin, Leave::NoSlot) };
    let executed = address(&next).wrapping_sub(origin);
    let next = window.iter();
    let origin = address(&next).wrapping_sub(executed);
    if executed > core.limit {
        return leave(core, next, origin, Leave::Pause);
    }
    dispatch(regs, core, next, origin)
}

/// How an operation gets its operands when it is fused with the one before: [`super::pairs::Link`] as types.
pub(super) trait Linked {
    /// Its `dst` is the result of the one before.
    const DST: bool = false;
    /// Its `src` is.
    const SRC: bool = false;
}

pub(super) struct Apart;
pub(super) struct ToDst;
pub(super) struct ToSrc;

impl Linked for Apart {}
impl Linked for ToDst {
    const DST: bool = true;
}
impl Linked for ToSrc {
    const SRC: bool = true;
}

/// Does one operation: its result if it has one, and if it does not end what is being executed. `before` is the result of
/// the one before, and `into` where that went.
macro_rules! step {
    ($op:ident $link:ident $before:ident $into:ident: $regs:ident $core:ident $slot:ident $next:ident $origin:ident) => {{
        let dst = if $link::DST { $before } else { $regs[$slot.dst as usize] };
        let src = if $link::SRC { $before } else { $op::src($regs, $slot) };
        match $op::execute(&mut $core.view, $slot, dst, src) {
            Flow::Value(value) => {
                // The same register, but so the compiler sees that the result before need not go there.
                let into = if $link::DST { $into } else { $slot.dst };
                $regs[into as usize] = value;
                value
            }
            Flow::Next => 0,
            Flow::Jump => return goto($regs, $core, $slot.off as u32, $next, $origin),
            Flow::Slow => return leave($core, $next, $origin, Leave::Slow),
        }
    }};
}

/// Executes one slot.
pub(super) fn one<'c, A: Operation>(
    regs: &mut Registers,
    core: &mut Core<'c>,
    slot: &'c Slot,
    next: Next<'c>,
    origin: usize,
) -> Leave {
    let (before, into) = (0, slot.dst);
    step!(A Apart before into: regs core slot next origin);
    dispatch(regs, core, next, origin)
}

/// Executes two slots.
pub(super) fn two<'c, A: Operation, L: Linked, B: Operation>(
    regs: &mut Registers,
    core: &mut Core<'c>,
    first: &'c Slot,
    mut next: Next<'c>,
    origin: usize,
) -> Leave {
    let (before, into) = (0, first.dst);
    let before = step!(A Apart before into: regs core first next origin);
    let Some(second) = next.next() else { return leave(core, next, origin, Leave::Pause) };
    step!(B L before into: regs core second next origin);
    dispatch(regs, core, next, origin)
}

/// Executes three slots.
pub(super) fn three<'c, A: Operation, L: Linked, B: Operation, M: Linked, C: Operation>(
    regs: &mut Registers,
    core: &mut Core<'c>,
    first: &'c Slot,
    mut next: Next<'c>,
    origin: usize,
) -> Leave {
    let (before, into) = (0, first.dst);
    let before = step!(A Apart before into: regs core first next origin);
    let Some(second) = next.next() else { return leave(core, next, origin, Leave::Pause) };
    let before = step!(B L before into: regs core second next origin);
    let Some(third) = next.next() else { return leave(core, next, origin, Leave::Pause) };
    let into = if L::DST { into } else { second.dst };
    step!(C M before into: regs core third next origin);
    dispatch(regs, core, next, origin)
}
