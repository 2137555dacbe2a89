//! One thread of a campaign: picks an input, changes it, runs it, and looks at where it went.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::Instant;

use softbpf::Outcome;

use super::{News, Options, Shared};
use crate::fuzz::guided::compared::Watch;
use crate::fuzz::guided::corpus::{Corpus, Entry};
use crate::fuzz::guided::coverage::Taken;
use crate::fuzz::guided::execute::{Executor, Failure};
use crate::fuzz::guided::finding::{Finding, Key};
use crate::fuzz::guided::input::Input;
use crate::fuzz::guided::minimise::minimise;
use crate::fuzz::guided::mutate::Mutator;
use crate::fuzz::guided::target::Target;
use crate::rng::Rng;

/// Executions after which the clock is looked at.
const EXECUTIONS_A_LOOK: u32 = 8;

/// Instructions after which it is.
const INSTRUCTIONS_A_LOOK: u64 = 200_000;

/// Random variants between two close looks at inputs that are only new as a whole.
const VARIANTS_A_LOOK: u32 = 256;

/// Inputs that wait for such a look, at most; and ways that are remembered.
const MAX_WAITING: usize = 1024;
const MAX_WAYS: usize = 1 << 16;

/// A thread's part of a campaign.
pub(super) struct Worker<'c> {
    executor: Executor,
    target: &'c Target,
    options: &'c Options,
    shared: &'c Shared,
    mutator: Mutator,
    sender: Sender<News>,
    rng: Rng,
    /// What this thread knows of the corpus.
    corpus: Corpus,
    /// Entries of its own that are to be looked at closely.
    fresh: VecDeque<Arc<Entry>>,
    /// Inputs that took no new edge, but took those that they took together for the first time. Two conditions that must
    /// hold at once are met one after the other by way of these.
    waiting: VecDeque<Input>,
    /// The ways that have been taken, as hashes of their edges.
    ways: HashSet<u64>,
    variants: u32,
    /// Nothing was wrong with the last input.
    went_well: bool,
    deadline: Option<Instant>,
    executions: u32,
    instructions: u64,
}

/// A thread that ends, or panics, ends the campaign.
impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl<'c> Worker<'c> {
    pub(super) fn new(
        index: usize,
        executor: Executor,
        target: &'c Target,
        options: &'c Options,
        shared: &'c Shared,
        mutator: Mutator,
        sender: Sender<News>,
    ) -> Worker<'c> {
        let corpus = Corpus::new(executor.graph().edges());
        // Far apart in the sequence that all seeds have in common.
        let rng = Rng::new(Rng::new(options.seed ^ (index as u64) << 32).next_u64());
        Worker {
            executor,
            target,
            options,
            shared,
            mutator,
            sender,
            rng,
            corpus,
            fresh: VecDeque::new(),
            waiting: VecDeque::new(),
            ways: HashSet::new(),
            variants: 0,
            went_well: true,
            deadline: None,
            executions: 0,
            instructions: 0,
        }
    }

    /// Runs the seeds, then what becomes of them, until the campaign ends.
    pub(super) fn work(mut self, seeds: Vec<Input>, deadline: Option<Instant>) {
        self.deadline = deadline;
        let mut goes_on = seeds.into_iter().all(|seed| self.follow(seed));
        while goes_on {
            self.take_over();
            goes_on = match self.fresh.pop_front() {
                Some(entry) => self.look_closely(&entry.input),
                None => self.go_on(),
            };
        }
    }

    /// Takes over what other threads have added.
    fn take_over(&mut self) {
        let known = self.corpus.entries().len();
        if self.shared.entries.load(Ordering::Acquire) != known {
            let state = self.shared.state();
            for entry in state.corpus.entries().iter().skip(known) {
                self.corpus.add(entry);
            }
        }
    }

    /// Looks closely at an input that waits for it, between random variants of entries.
    fn go_on(&mut self) -> bool {
        self.variants += 1;
        if self.variants >= VARIANTS_A_LOOK {
            self.variants = 0;
            if let Some(input) = self.waiting.pop_front() {
                return self.look_closely(&input);
            }
        }
        self.vary()
    }

    /// Runs a random variant of an entry.
    fn vary(&mut self) -> bool {
        let base = &self.target.base;
        let mut input = self.corpus.pick(&mut self.rng).map_or_else(|| base.clone(), |entry| entry.input.clone());
        let other = self.corpus.pick(&mut self.rng).cloned();
        let other = other.as_ref().map_or(base, |entry| &entry.input);
        self.mutator.mutate(&mut input, other, &mut self.rng);
        self.run(&input)
    }

    /// Runs an input that is meant to go another way; it waits for a close look if it does.
    fn follow(&mut self, input: Input) -> bool {
        let kept = self.fresh.len();
        if !self.run(&input) {
            return false;
        }
        let is_of_use = self.went_well && self.fresh.len() == kept;
        let has_room = self.waiting.len() < MAX_WAITING && self.ways.len() < MAX_WAYS;
        if is_of_use && has_room && self.ways.insert(way(self.executor.taken())) {
            self.waiting.push_back(input);
        }
        true
    }

    /// Watches what a run on an input compares and looks for, and runs what that suggests.
    fn look_closely(&mut self, looked_at: &Input) -> bool {
        let target = self.target;
        let mut watch = Watch::new(&target.object);
        if !self.may_run() {
            return !self.shared.is_stopped();
        }
        match self.executor.run_with(looked_at, |step| watch.step(step)) {
            Ok(_) => {}
            Err(Failure::Refused(_)) => return !self.shared.is_stopped(),
            Err(Failure::Panicked(message)) => return self.found(Key::Panic { message }, looked_at),
        }
        let mut candidates = watch.candidates(looked_at, &self.mutator);
        for (map, key) in watch.keys() {
            if let Some(element) = self.mutator.learn(map, key)
                && !looked_at.elements.iter().any(|known| known.map == element.map && known.key == element.key)
            {
                let mut input = looked_at.clone();
                self.mutator.put(&mut input.elements, element);
                candidates.push(input);
            }
        }
        candidates.into_iter().all(|candidate| self.follow(candidate))
    }

    /// Whether there is time, and an execution left; takes the latter.
    fn may_run(&mut self) -> bool {
        if self.executions >= EXECUTIONS_A_LOOK || self.instructions >= INSTRUCTIONS_A_LOOK {
            (self.executions, self.instructions) = (0, 0);
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                self.shared.stop();
            }
        }
        self.executions += 1;
        let before = self.shared.executions.fetch_add(1, Ordering::Relaxed);
        !self.shared.is_stopped() && self.options.runs.is_none_or(|runs| before < runs)
    }

    /// Runs an input; false when the campaign ends.
    fn run(&mut self, input: &Input) -> bool {
        if !self.may_run() {
            return false;
        }
        let outcome = match self.executor.run(input) {
            Ok(outcome) => outcome,
            // Every kind of input that there is has been run before.
            Err(Failure::Refused(_)) => return true,
            Err(Failure::Panicked(message)) => return self.found(Key::Panic { message }, input),
        };
        self.instructions = self.instructions.saturating_add(outcome.instructions);
        let key = Key::of(&outcome, self.options.expected.as_ref());
        if outcome.ret.is_ok() && self.corpus.is_news(self.executor.taken()) {
            self.keep(input, &outcome);
        }
        self.went_well = key.is_none();
        match key {
            Some(key) => self.found(key, input),
            None => true,
        }
    }

    fn keep(&mut self, input: &Input, outcome: &Outcome) {
        self.take_over();
        let taken: Vec<Taken> = self.executor.taken().collect();
        let entry = Arc::new(Entry::new(input.clone(), taken.clone(), outcome.instructions));
        {
            let mut state = self.shared.state();
            if !state.corpus.is_news(taken.iter().copied()) {
                return;
            }
            state.see(&taken);
            state.corpus.add(&entry);
            self.shared.entries.store(state.corpus.entries().len(), Ordering::Release);
        }
        self.fresh.push_back(entry.clone());
        // Nobody watches any more when this fails.
        let _ = self.sender.send(News::Kept(entry));
    }

    /// Takes note of something that went wrong; false when the campaign ends.
    fn found(&mut self, key: Key, input: &Input) -> bool {
        let taken: Vec<Taken> = self.executor.taken().collect();
        let is_new = {
            let mut state = self.shared.state();
            state.see(&taken);
            state.is_new(&key)
        };
        if !is_new {
            return true;
        }
        let executions = self.shared.executions.load(Ordering::Relaxed);
        // Each panic is reported by Rust itself, and there would be as many as there are inputs that come there.
        let goes_on = self.options.keep_going && !matches!(key, Key::Panic { .. });
        if !goes_on {
            self.shared.stop();
        }
        let (small, outcome) = match &key {
            Key::Panic { message } => (input.clone(), Err(message.clone())),
            Key::Trap { .. } | Key::Endless { .. } | Key::Unexpected { .. } => self.made_small(&key, input),
        };
        let finding = Finding { key, input: small, found: input.clone(), outcome, executions };
        let _ = self.sender.send(News::Found(Box::new(finding)));
        goes_on
    }

    /// The smallest input that shows a finding, and what it comes to.
    fn made_small(&mut self, key: &Key, input: &Input) -> (Input, Result<Outcome, Arc<str>>) {
        let expected = self.options.expected.as_ref();
        let fixed = self.mutator.max_len().is_none();
        let small = minimise(&mut self.executor, self.target, expected, key, input, fixed);
        let outcome = self.executor.run(&small).map_err(|failure| match failure {
            Failure::Panicked(message) => message,
            Failure::Refused(error) => error.to_string().into(),
        });
        (small, outcome)
    }
}

/// A hash of the edges that a run took, in the order in which it first took them: it is made after every candidate.
fn way(taken: impl Iterator<Item = Taken>) -> u64 {
    let mix = |way: u64, (edge, class): Taken| {
        (way ^ u64::from(edge) << 8 ^ u64::from(class)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    taken.fold(0, |way, taken| mix(way, taken).rotate_left(23))
}
