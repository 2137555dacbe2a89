//! [`Campaign`]: threads that run inputs for as long as wanted, and what comes of it.
//!
//! Every thread has a machine and a copy of the corpus of its own, and takes over what others have added when their number
//! shows that there is something. With one thread and a number of executions, the same seed gives the same findings.

mod worker;

use std::collections::BTreeSet;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use softbpf::engine::ProgramId;

use self::worker::Worker;
use super::corpus::{Corpus, Entry};
use super::coverage::{Covered, Graph, Line, Taken};
use super::execute::{Executor, Failure};
use super::expect::Expectation;
use super::finding::{Finding, Key};
use super::input::Input;
use super::mutate::Mutator;
use super::seeds;
use super::target::{Target, TargetError};

/// How often whoever watches is told how far it is.
const TICK: Duration = Duration::from_millis(100);

/// Most unexpected results that are findings of their own.
const MAX_UNEXPECTED: usize = 8;

/// Most findings of any kind.
const MAX_FINDINGS: usize = 256;

/// How to fuzz.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of the random numbers.
    pub seed: u64,
    /// Most inputs to run; those that a minimiser tries do not count.
    pub runs: Option<u64>,
    /// How long at most.
    pub time: Option<Duration>,
    /// Threads.
    pub jobs: NonZero<usize>,
    /// Most bytes of a packet.
    pub max_len: usize,
    /// Which results are right; without it, all are.
    pub expected: Option<Expectation>,
    /// Go on behind the first finding, unless softbpf itself has panicked.
    pub keep_going: bool,
    /// Inputs to begin with, before our own.
    pub seeds: Vec<Input>,
}

impl Default for Options {
    /// Seed 0, one thread, no end but the first finding.
    fn default() -> Options {
        Options {
            seed: 0,
            runs: None,
            time: None,
            jobs: NonZero::<usize>::MIN,
            max_len: 2048,
            expected: None,
            keep_going: false,
            seeds: Vec::new(),
        }
    }
}

/// How far a campaign is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stats {
    /// Inputs that were run.
    pub executions: u64,
    /// How long it has taken.
    pub elapsed: Duration,
    /// Edges that were taken.
    pub covered: Covered,
    /// Inputs that were kept.
    pub corpus: usize,
    /// Findings.
    pub findings: usize,
}

impl Stats {
    /// Inputs a second.
    pub fn executions_per_second(&self) -> f64 {
        self.executions as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Something that whoever watches may want to know at once.
#[derive(Debug)]
pub enum Event<'e> {
    /// Some time has passed.
    Tick(Stats),
    /// An input went where none had gone.
    Kept(&'e Input),
    /// Something went wrong.
    Found(&'e Finding),
}

/// What a campaign came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// How far it came.
    pub stats: Stats,
    /// What was found, in order.
    pub findings: Vec<Finding>,
    /// Lines of the program's source that no input came to.
    pub lines_never_run: Vec<Line>,
}

/// What a thread has to say.
enum News {
    Kept(Arc<Entry>),
    Found(Box<Finding>),
}

/// What threads have in common.
struct Shared {
    stop: AtomicBool,
    executions: AtomicU64,
    /// Entries in the corpus.
    entries: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    corpus: Corpus,
    /// By edge: how often any run has taken it, as classes; also those that went wrong.
    seen: Vec<u8>,
    known: BTreeSet<Key>,
    unexpected: usize,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that has panicked ends the campaign anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Ends the campaign when whoever watches it is through, or panics.
struct Watching<'s>(&'s Shared);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl State {
    fn see(&mut self, taken: &[Taken]) {
        for &(edge, class) in taken {
            if let Some(seen) = self.seen.get_mut(edge as usize) {
                *seen |= class;
            }
        }
    }

    /// Whether a finding is a new one, and there is room for it.
    fn is_new(&mut self, key: &Key) -> bool {
        let is_unexpected = matches!(key, Key::Unexpected { .. });
        if self.known.len() >= MAX_FINDINGS || is_unexpected && self.unexpected >= MAX_UNEXPECTED {
            return false;
        }
        let new = self.known.insert(key.clone());
        self.unexpected += usize::from(new && is_unexpected);
        new
    }
}

/// Fuzzing of one target.
#[derive(Debug)]
pub struct Campaign {
    target: Arc<Target>,
    options: Options,
    graph: Arc<Graph>,
    mutator: Mutator,
    program: ProgramId,
    first: Executor,
}

impl Campaign {
    /// Prepares a campaign, and runs its base input once to see that it can be.
    ///
    /// # Errors
    /// The program cannot be run on the base input; it may trap.
    pub fn new(target: Target, options: Options) -> Result<Campaign, TargetError> {
        let target = Arc::new(target);
        let mut first = Executor::new(&target)?;
        first.prepare(&target.base)?;
        for input in std::iter::once(&target.base).chain(&options.seeds) {
            // A panic is a finding like others, as soon as the campaign runs the input.
            if let Err(Failure::Refused(error)) = first.run(input) {
                return Err(error.into());
            }
        }
        let mutator = Mutator::new(&target, options.max_len)?;
        Ok(Campaign { graph: first.graph().clone(), program: first.program(), mutator, first, target, options })
    }

    /// Fuzzes until the time or the number of executions is used up, something is found (unless it is to go on), or
    /// `watch`, which is called on this thread, says so.
    ///
    /// # Errors
    /// A thread's machine cannot be made.
    pub fn run(self, mut watch: impl FnMut(Event<'_>) -> ControlFlow<()>) -> Result<Summary, TargetError> {
        let jobs = self.options.jobs.get();
        let mut executors = vec![self.first];
        for _ in 1..jobs {
            executors.push(Executor::new(&self.target)?);
        }
        let begin = Instant::now();
        let edges = self.graph.edges();
        let state = State { corpus: Corpus::new(edges), seen: vec![0; edges], known: BTreeSet::new(), unexpected: 0 };
        let shared = Shared {
            stop: AtomicBool::new(false),
            executions: AtomicU64::new(0),
            entries: AtomicUsize::new(0),
            state: Mutex::new(state),
        };
        let all = [self.options.seeds.clone(), seeds::seeds(&self.target.base, self.target.linked()?.program_type())]
            .concat();
        let mut findings = Vec::new();
        let stats = |shared: &Shared, findings: usize| {
            let state = shared.state();
            let executions = shared.executions.load(Ordering::Relaxed);
            Stats {
                executions: self.options.runs.map_or(executions, |runs| runs.min(executions)),
                elapsed: begin.elapsed(),
                covered: self.graph.covered(self.program, &state.seen),
                corpus: state.corpus.entries().len(),
                findings,
            }
        };
        std::thread::scope(|scope| {
            let _watching = Watching(&shared);
            let (sender, receiver) = mpsc::channel();
            for (index, executor) in executors.into_iter().enumerate() {
                let worker = Worker::new(
                    index,
                    executor,
                    &self.target,
                    &self.options,
                    &shared,
                    self.mutator.clone(),
                    sender.clone(),
                );
                let seeds: Vec<Input> = all.iter().skip(index).step_by(jobs).cloned().collect();
                let deadline = self.options.time.map(|time| begin + time);
                scope.spawn(move || worker.work(seeds, deadline));
            }
            drop(sender);
            let mut next = begin + TICK;
            loop {
                let flow = match receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
                    Ok(News::Kept(entry)) => watch(Event::Kept(&entry.input)),
                    Ok(News::Found(finding)) => {
                        let flow = watch(Event::Found(&finding));
                        findings.push(*finding);
                        flow
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        next = Instant::now() + TICK;
                        watch(Event::Tick(stats(&shared, findings.len())))
                    }
                    Err(RecvTimeoutError::Disconnected) => break,
                };
                if flow.is_break() {
                    shared.stop();
                }
            }
        });
        let stats = stats(&shared, findings.len());
        let lines_never_run = self.graph.lines_never_run(&self.target.object, self.program, &shared.state().seen);
        Ok(Summary { stats, findings, lines_never_run })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::guided::execute;
    use crate::fuzz::guided::input::Data;

    #[test]
    fn a_panic_is_a_finding_that_ends_the_campaign() {
        let options = Options { runs: Some(10_000), keep_going: true, ..Options::default() };
        let mut campaign = Campaign::new(execute::tests::target(0), options).expect("it runs");
        campaign.first.plant_panic();
        let summary = campaign.run(|_| ControlFlow::Continue(())).expect("it runs");
        let [found] = &summary.findings[..] else { panic!("{summary:?}") };
        assert_eq!((&found.key, &found.outcome), (&Key::Panic { message: "planted".into() }, &Err("planted".into())));
        assert!(matches!(&found.input.data, Data::Bytes(bytes) if bytes[0] == 7), "{found:?}");
        assert!(summary.stats.executions < 10_000, "{summary:?}");
    }
}
