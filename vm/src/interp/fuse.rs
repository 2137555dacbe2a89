//! Fusing: which slots are executed together with those behind them.
//!
//! Every slot stays in place, and only the first of a pair gets a function that executes both: a jump to the second still
//! finds it, and where a window ends between them, the second is executed by itself. So nothing needs to be known of jumps.
//! What can be fused is the table of [`super::pairs`].

use super::exec::Execute;
use super::flat::{R, Slot};
use super::pairs::{Link, pair, triple};

/// What things cost in relation to each other: finding what executes a slot, and then the operation itself, with operands
/// from the registers or with one from the operation before.
const DISPATCH: u32 = 4;
const APART: u32 = 3;
const LINKED: u32 = 1;

impl Link {
    /// How `second` depends on `first`.
    pub(super) fn of(first: &Slot, second: &Slot) -> Link {
        let (has_result, uses) = (first.op.uses().result, second.op.uses());
        let takes = |used: bool, register: R| has_result && used && register == first.dst;
        match (takes(uses.dst, second.dst), takes(uses.src, second.src)) {
            (true, false) => Link::ToDst,
            (false, true) => Link::ToSrc,
            (true, true) | (false, false) => Link::Apart,
        }
    }

    fn cost(self) -> u32 {
        match self {
            Link::Apart => APART,
            Link::ToDst | Link::ToSrc => LINKED,
        }
    }
}

/// The same program with operations fused: each slot with whatever makes the way from it to the end of the program
/// cheapest, as if there were no jumps.
pub(super) fn fuse(mut slots: Vec<Slot>) -> Vec<Slot> {
    // Of the ways from the next three slots.
    let mut costs = [0; 3];
    for index in (0..slots.len()).rev() {
        let (cost, execute) = cheapest(&slots[index..], costs);
        slots[index].execute = execute;
        costs = [cost, costs[0], costs[1]];
    }
    slots
}

/// The first slot's way to the end: its cost, and what executes the slot; `costs` are those of the slots behind it.
fn cheapest(slots: &[Slot], costs: [u32; 3]) -> (u32, Execute) {
    let mut best = ((DISPATCH + APART).saturating_add(costs[0]), slots[0].op.execute());
    let mut offer = |cost: u32, after: u32, execute: Option<Execute>| {
        if let Some(execute) = execute
            && cost.saturating_add(after) < best.0
        {
            best = (cost.saturating_add(after), execute);
        }
    };
    if let [first, second, ..] = slots {
        let link = Link::of(first, second);
        offer(DISPATCH + APART + link.cost(), costs[1], pair(first.op, link, second.op));
        if link != Link::Apart {
            offer(DISPATCH + APART + APART, costs[1], pair(first.op, Link::Apart, second.op));
        }
        if let Some(third) = slots.get(2) {
            let then = Link::of(second, third);
            let cost = DISPATCH + APART + link.cost() + then.cost();
            offer(cost, costs[2], triple(first.op, link, second.op, then, third.op));
        }
    }
    best
}
