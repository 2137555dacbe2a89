//! Makes a program and its input as small as they can be while they still show something.
//!
//! What "show" means is the caller's: a predicate, called a bounded number of times, and not after a deadline. Every program that it is asked
//! about passes the structural check, and the same question always gets the same answer: nothing here is random.
//!
//! Passes are repeated until none of them finds anything: `delete` leaves out ranges of instructions, `simpler`
//! knows what could stand in an instruction's place, `registers` makes do with fewer of them, `input` shortens and
//! zeroes by means of `bytes`. `flow` keeps jumps and calls leading where they led. [`scenario`] is the same for generated scenarios.

pub(crate) mod bytes;
mod delete;
pub(crate) mod flow;
mod input;
mod registers;
pub mod scenario;
mod simpler;
mod values;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Instant;

use softbpf::check::{Rules, check_with};
use softbpf::codec::Code;

pub use values::{Seen, Values, by_interpreter};

/// Programs and the input of the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reproducer {
    /// The programs; most often one.
    pub programs: Vec<Code>,
    /// Bytes of context or packet.
    pub input: Vec<u8>,
}

impl Reproducer {
    /// One program.
    pub fn new(code: Code, input: &[u8]) -> Reproducer {
        Reproducer { programs: vec![code], input: input.to_vec() }
    }

    /// The first program.
    pub fn code(&self) -> &Code {
        static NONE: std::sync::LazyLock<Code> = std::sync::LazyLock::new(Code::default);
        self.programs.first().unwrap_or(&NONE)
    }

    /// Instructions of all programs.
    pub fn len(&self) -> usize {
        self.programs.iter().map(|code| code.insns().len()).sum()
    }

    /// There are no instructions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What minimising may do.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often the predicate is called at most.
    pub calls: usize,
    /// When it is no longer called.
    pub deadline: Option<Instant>,
    /// Rules of the structural check that every program passes.
    pub rules: Rules,
    /// The input may become shorter.
    pub shorten_input: bool,
    /// What the instructions compute, so that an instruction can be replaced by its result; `None` for not at all.
    pub values: Option<Values>,
}

impl Default for Options {
    /// 4,000 calls in whatever time, the kernel's rules, inputs of any length, values as the interpreter computes them.
    fn default() -> Options {
        let values: Option<Values> = Some(by_interpreter);
        Options { calls: 4_000, deadline: None, rules: Rules::default(), shorten_input: true, values }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minimised {
    /// The smallest that was found.
    pub found: Reproducer,
    /// How often the predicate was called.
    pub calls: usize,
    /// No pass finds anything smaller; false when calls or time were used up before.
    pub done: bool,
}

/// Calls that are left.
#[derive(Debug, Clone, Copy)]
struct Budget {
    left: usize,
    deadline: Option<Instant>,
}

impl Budget {
    fn of(options: &Options) -> Budget {
        Budget { left: options.calls, deadline: options.deadline }
    }

    /// Calls or time are used up.
    fn is_spent(&self) -> bool {
        self.left == 0 || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Takes a call; whether there was one.
    fn take(&mut self) -> bool {
        let some = !self.is_spent();
        self.left -= usize::from(some);
        some
    }
}

/// Makes `from`, which shows it, smaller, as long as `shows` says that it still does.
pub fn minimise(from: Reproducer, options: &Options, shows: impl FnMut(&Reproducer) -> bool) -> Minimised {
    let mut search = Search { best: from, options, budget: Budget::of(options), asked: HashSet::new(), shows };
    let passes: [fn(&mut dyn Try); 4] = [delete::pass, simpler::pass, registers::pass, input::pass];
    let mut done = false;
    while !done && !search.budget.is_spent() {
        let before = search.best.clone();
        passes.iter().for_each(|pass| pass(&mut search));
        done = search.best == before;
    }
    let Search { best: found, budget, .. } = search;
    Minimised { calls: options.calls - budget.left, done: done && !budget.is_spent(), found }
}

/// What passes work on.
trait Try {
    /// The smallest so far.
    fn best(&self) -> &Reproducer;

    fn options(&self) -> &Options;

    /// Takes a candidate in its place if it still shows what it must; whether it does.
    fn attempt(&mut self, candidate: Reproducer) -> bool;

    /// Takes another program in place of number `index`.
    fn attempt_program(&mut self, index: usize, code: Code) -> bool {
        let mut candidate = self.best().clone();
        match candidate.programs.get_mut(index) {
            Some(program) => *program = code,
            None => return false,
        }
        self.attempt(candidate)
    }
}

/// A search under way.
struct Search<'o, F> {
    best: Reproducer,
    options: &'o Options,
    budget: Budget,
    /// Hashes of what was asked before: should two be the same, something smaller may go unseen, and no more.
    asked: HashSet<u64>,
    shows: F,
}

impl<F: FnMut(&Reproducer) -> bool> Try for Search<'_, F> {
    fn best(&self) -> &Reproducer {
        &self.best
    }

    fn options(&self) -> &Options {
        self.options
    }

    fn attempt(&mut self, candidate: Reproducer) -> bool {
        let passes = |code: &Code| check_with(code, self.options.rules).is_ok() && code.encode().is_ok();
        if self.budget.is_spent() || candidate == self.best || !candidate.programs.iter().all(passes) {
            return false;
        }
        if !self.asked.insert(hash(&candidate)) || !self.budget.take() {
            return false;
        }
        let shows = (self.shows)(&candidate);
        if shows {
            self.best = candidate;
        }
        shows
    }
}

fn hash(candidate: &Reproducer) -> u64 {
    let mut hasher = DefaultHasher::new();
    candidate.programs.iter().for_each(|code| code.insns().hash(&mut hasher));
    candidate.input.hash(&mut hasher);
    hasher.finish()
}
