//! Makes an input small and simple while it still shows its finding. The same input gives the same result.

use std::time::{Duration, Instant};

use super::execute::Executor;
use super::expect::Expectation;
use super::finding::Key;
use super::input::{Data, Input};
use super::target::{Ask, Target};
use crate::minimise::bytes::{self, Bytes};

/// Most inputs that are tried.
const MAX_RUNS: u64 = 20_000;

/// Most instructions of all of them together.
const MAX_INSTRUCTIONS: u64 = 100_000_000;

/// How long at most. The other limits end it long before, and the same way each time, unless helpers move masses of bytes.
const MAX_TIME: Duration = Duration::from_secs(10);

/// What is still running after so many instructions most likely goes on for ever: a loop without an end need not be run for
/// its whole budget each time.
const SHORT_FUEL: u64 = 10_000;

struct Minimiser<'m> {
    executor: &'m mut Executor,
    /// Its base's elements and the parts of its world that are pinned stay.
    target: &'m Target,
    expected: Option<&'m Expectation>,
    key: &'m Key,
    best: Input,
    runs: u64,
    instructions: u64,
    deadline: Instant,
    /// Lengths stay as they are.
    fixed: bool,
}

/// The smallest input with this finding that is found; `fixed` keeps the length of a context.
pub(super) fn minimise(
    executor: &mut Executor,
    target: &Target,
    expected: Option<&Expectation>,
    key: &Key,
    input: &Input,
    fixed: bool,
) -> Input {
    if matches!(key, Key::Endless { .. }) {
        executor.set_fuel(target.fuel.min(SHORT_FUEL));
        let best = minimised(executor, target, expected, key, input, fixed);
        executor.set_fuel(target.fuel);
        if executor.run(&best).is_ok_and(|outcome| Key::of(&outcome, expected).as_ref() == Some(key)) {
            return best;
        }
    }
    minimised(executor, target, expected, key, input, fixed)
}

fn minimised(
    executor: &mut Executor,
    target: &Target,
    expected: Option<&Expectation>,
    key: &Key,
    input: &Input,
    fixed: bool,
) -> Input {
    let (best, deadline) = (input.clone(), Instant::now() + MAX_TIME);
    let mut minimiser = Minimiser { executor, target, expected, key, best, runs: 0, instructions: 0, deadline, fixed };
    loop {
        let before = minimiser.best.clone();
        minimiser.elements();
        minimiser.memory();
        minimiser.world();
        minimiser.data();
        if minimiser.best == before || minimiser.is_done() {
            return minimiser.best;
        }
    }
}

impl Minimiser<'_> {
    fn is_done(&self) -> bool {
        self.runs >= MAX_RUNS || self.instructions >= MAX_INSTRUCTIONS || Instant::now() >= self.deadline
    }

    /// Takes the change if the finding is still there.
    fn try_to(&mut self, change: impl FnOnce(&mut Input)) -> bool {
        let mut input = self.best.clone();
        change(&mut input);
        if input == self.best || self.is_done() {
            return false;
        }
        self.runs += 1;
        let Ok(outcome) = self.executor.run(&input) else { return false };
        self.instructions = self.instructions.saturating_add(outcome.instructions);
        let same = Key::of(&outcome, self.expected).as_ref() == Some(self.key);
        if same {
            self.best = input;
        }
        same
    }

    fn elements(&mut self) {
        for index in (self.target.base.elements.len()..self.best.elements.len()).rev() {
            if !self.try_to(|input| drop(input.elements.remove(index))) {
                self.zero(|input| Some(&mut input.elements.get_mut(index)?.value));
            }
        }
    }

    fn memory(&mut self) {
        for index in (self.target.base.memory.len()..self.best.memory.len()).rev() {
            if !self.try_to(|input| drop(input.memory.remove(index))) {
                self.shorten(|input| Some(&mut input.memory.get_mut(index)?.bytes));
                self.zero(|input| Some(&mut input.memory.get_mut(index)?.bytes));
                self.shorten_with_lengths(|input| Some(&mut input.memory.get_mut(index)?.bytes));
            }
        }
    }

    fn world(&mut self) {
        let base = &self.target.base.world;
        self.try_to(|input| input.world.clone_from(base));
        for ask in Ask::ALL {
            self.try_to(|input| ask.copy(base, &mut input.world));
        }
    }

    fn data(&mut self) {
        let base = &self.target.base.data;
        match (&self.best.data, base) {
            (Data::Registers(registers), _) => {
                for index in 0..registers.values().len() {
                    self.register(index);
                }
            }
            (Data::Packet { .. }, Data::Packet { ifindex, queue, mark, .. }) => {
                let (to_ifindex, to_queue, to_mark) = (*ifindex, *queue, *mark);
                self.try_to(|input| {
                    if let Data::Packet { ifindex, queue, mark, .. } = &mut input.data {
                        (*ifindex, *queue, *mark) = (to_ifindex, to_queue, to_mark);
                    }
                });
                self.bytes();
            }
            (Data::Packet { .. } | Data::Bytes(_), _) => self.bytes(),
        }
    }

    fn register(&mut self, index: usize) {
        // Never back to what has been tried: a register only gets smaller.
        for value in [0, 1] {
            self.try_to(|input| {
                if let Data::Registers(registers) = &mut input.data {
                    let place = &mut registers.values_mut()[index];
                    *place = value.min(*place);
                }
            });
        }
    }

    fn bytes(&mut self) {
        if !self.fixed {
            self.shorten(|input| input.data.bytes_mut());
        }
        self.zero(|input| input.data.bytes_mut());
        if !self.fixed {
            self.shorten_with_lengths(|input| input.data.bytes_mut());
        }
    }

    /// Makes the bytes that `of` finds fewer.
    fn shorten(&mut self, of: impl Fn(&mut Input) -> Option<&mut Vec<u8>>) {
        let mut part = Part { minimiser: self, of };
        bytes::cut_end(&mut part);
        bytes::leave_out(&mut part);
    }

    /// Makes them fewer together with lengths that are among them: when most of the others are 0.
    fn shorten_with_lengths(&mut self, of: impl Fn(&mut Input) -> Option<&mut Vec<u8>>) {
        bytes::shorten_with_lengths(&mut Part { minimiser: self, of });
    }

    /// Makes them simpler.
    fn zero(&mut self, of: impl Fn(&mut Input) -> Option<&mut Vec<u8>>) {
        let mut part = Part { minimiser: self, of };
        bytes::zero(&mut part);
        bytes::clear_bits(&mut part);
    }
}

/// Bytes of the best input.
struct Part<'p, 'm, F> {
    minimiser: &'p mut Minimiser<'m>,
    of: F,
}

impl<F: Fn(&mut Input) -> Option<&mut Vec<u8>>> Bytes for Part<'_, '_, F> {
    fn best(&mut self) -> Vec<u8> {
        (self.of)(&mut self.minimiser.best).cloned().unwrap_or_default()
    }

    fn attempt(&mut self, bytes: Vec<u8>) -> bool {
        let of = &self.of;
        self.minimiser.try_to(|input| {
            if let Some(place) = of(input) {
                *place = bytes;
            }
        })
    }
}
