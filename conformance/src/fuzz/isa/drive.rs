//! Runs a campaign on several threads, until its time or its programs are up; collects what is found, each once.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::finding::Finding;
use super::key::Key;
use super::{CampaignError, Limits};

/// How far a campaign has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// Time since the start.
    pub elapsed: Duration,
    /// Programs that were made.
    pub programs: u64,
    /// Comparisons: one input of one program, on all sides.
    pub executions: u64,
    /// Instructions that one side executed in these.
    pub instructions: u64,
    /// Different findings.
    pub findings: usize,
}

impl Progress {
    /// Executions by time.
    pub fn executions_per_second(&self) -> f64 {
        self.executions as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Something that whoever watches may want to know at once.
#[derive(Debug)]
pub enum Event<'e> {
    /// Some time has passed.
    Tick(&'e Progress),
    /// Something was found, for the first time.
    Found(&'e Finding),
}

/// What came of a campaign.
#[derive(Debug)]
pub struct Report {
    /// How far it came.
    pub progress: Progress,
    /// By kind of program: how many were made, and how many of these were compared and ran to their end.
    pub accepted: BTreeMap<&'static str, (u64, u64)>,
    /// What was found, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// Why it ended before its time, if it did.
    pub failed: Option<CampaignError>,
}

/// What a thread has to say.
#[derive(Debug)]
pub(super) enum News {
    Found(Box<Finding>),
    Ended,
}

/// What threads share.
#[derive(Debug)]
pub(super) struct Shared {
    start: Instant,
    limits: Limits,
    next: AtomicU64,
    programs: AtomicU64,
    executions: AtomicU64,
    instructions: AtomicU64,
    stop: AtomicBool,
    accepted: Mutex<BTreeMap<&'static str, (u64, u64)>>,
    findings: Mutex<Vec<Finding>>,
    failed: Mutex<Option<CampaignError>>,
    news: Sender<News>,
}

impl Shared {
    pub(super) fn new(limits: Limits, news: Sender<News>) -> Shared {
        Shared {
            start: Instant::now(),
            limits,
            next: AtomicU64::new(0),
            programs: AtomicU64::new(0),
            executions: AtomicU64::new(0),
            instructions: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            accepted: Mutex::default(),
            findings: Mutex::default(),
            failed: Mutex::default(),
            news,
        }
    }

    /// The next seed, unless it is time to stop.
    fn seed(&self) -> Option<u64> {
        let late = self.limits.time.is_some_and(|time| self.start.elapsed() >= time);
        let full = || lock(&self.findings).len() >= self.limits.findings;
        if late || self.stop.load(Ordering::Relaxed) || full() {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        if self.limits.programs.is_some_and(|programs| index >= programs) {
            return None;
        }
        Some(self.limits.first_seed.wrapping_add(index))
    }

    /// Counts a program of a kind that was made, and whether it was compared and came to its end, on so many inputs.
    pub(super) fn count(&self, kind: &'static str, accepted: bool, executions: u64) {
        self.programs.fetch_add(1, Ordering::Relaxed);
        self.executions.fetch_add(executions, Ordering::Relaxed);
        self.accept(kind, accepted);
    }

    /// Counts whether a program of a kind was accepted.
    pub(super) fn accept(&self, kind: &'static str, accepted: bool) {
        let mut all = lock(&self.accepted);
        let (made, taken) = all.entry(kind).or_default();
        *made += 1;
        *taken += u64::from(accepted);
    }

    /// Counts instructions that one side has executed.
    pub(super) fn count_instructions(&self, instructions: u64) {
        self.instructions.fetch_add(instructions, Ordering::Relaxed);
    }

    /// Counts once more what has been found already; whether it had.
    pub(super) fn again(&self, key: &Key) -> bool {
        count_again(&mut lock(&self.findings), key)
    }

    /// Keeps a finding, unless another thread was faster.
    pub(super) fn found(&self, finding: Finding) {
        let mut findings = lock(&self.findings);
        if !count_again(&mut findings, &finding.key) {
            let finding = Finding { after: self.start.elapsed(), ..finding };
            self.tell(News::Found(Box::new(finding.clone())));
            findings.push(finding);
        }
    }

    /// Nobody listens any more once whoever watches has panicked.
    fn tell(&self, news: News) {
        let _ = self.news.send(news);
    }

    /// Ends the campaign; the first reason is the one that is reported.
    fn fail(&self, error: CampaignError) {
        self.stop();
        lock(&self.failed).get_or_insert(error);
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// What has been found behind the first so many findings.
    pub(super) fn known_after(&self, seen: usize) -> Vec<Key> {
        lock(&self.findings).iter().skip(seen).map(|finding| finding.key.clone()).collect()
    }

    /// How many findings there are.
    pub(super) fn found_so_far(&self) -> usize {
        lock(&self.findings).len()
    }

    fn progress(&self) -> Progress {
        Progress {
            elapsed: self.start.elapsed(),
            programs: self.programs.load(Ordering::Relaxed),
            executions: self.executions.load(Ordering::Relaxed),
            instructions: self.instructions.load(Ordering::Relaxed),
            findings: self.found_so_far(),
        }
    }
}

/// A thread that panicked has left nothing half done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_again(findings: &mut [Finding], key: &Key) -> bool {
    let known = findings.iter_mut().find(|finding| finding.key == *key);
    known.map(|finding| finding.count += 1).is_some()
}

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(100);

/// A thread that works: one that ends, or panics, ends the campaign, and says so behind all that it has found.
struct Working<'s>(&'s Shared);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.stop();
        self.0.tell(News::Ended);
    }
}

/// Ends the campaign when whoever watches it panics.
struct Watching<'s>(&'s Shared);

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Calls a worker of each thread with seed after seed, until `watch` has enough of it. `watch` is called on this thread:
/// ten times a second, and with each finding as soon as there is one.
///
/// # Errors
/// A worker cannot be made. What a worker meets later is in the report, beside what was found before.
pub(super) fn drive<W: Worker + Send>(
    limits: Limits,
    worker: impl Fn() -> Result<W, CampaignError>,
    mut watch: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Report, CampaignError> {
    let workers = (0..NonZero::get(limits.jobs)).map(|_| worker()).collect::<Result<Vec<W>, CampaignError>>()?;
    let (sender, receiver) = mpsc::channel();
    let shared = Shared::new(limits, sender);
    std::thread::scope(|scope| {
        let _watching = Watching(&shared);
        let mut working = 0;
        for mut worker in workers {
            let shared = &shared;
            let work = move || {
                let _working = Working(shared);
                while let Some(seed) = shared.seed() {
                    if let Err(error) = worker.program(seed, shared) {
                        shared.fail(error);
                    }
                }
            };
            match std::thread::Builder::new().spawn_scoped(scope, work) {
                Ok(_) => working += 1,
                Err(error) => shared.fail(CampaignError::Thread(error)),
            }
        }
        let mut next = Instant::now() + TICK;
        while working > 0 {
            let flow = match receiver.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(News::Found(finding)) => watch(Event::Found(&finding)),
                Ok(News::Ended) => {
                    working -= 1;
                    ControlFlow::Continue(())
                }
                Err(RecvTimeoutError::Timeout) => {
                    next = Instant::now() + TICK;
                    watch(Event::Tick(&shared.progress()))
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if flow.is_break() {
                shared.stop();
            }
        }
    });
    let progress = shared.progress();
    let Shared { accepted, findings, failed, .. } = shared;
    Ok(Report { progress, accepted: inner(accepted), findings: inner(findings), failed: inner(failed) })
}

fn inner<T>(mutex: Mutex<T>) -> T {
    mutex.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What a thread does.
pub(super) trait Worker {
    /// Makes the program with this number, and compares.
    ///
    /// # Errors
    /// What ends the campaign.
    fn program(&mut self, seed: u64, shared: &Shared) -> Result<(), CampaignError>;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::{About, Kind, Program};
    use super::*;

    /// Finds something at once, and then does this.
    struct Finds(fn() -> Result<(), CampaignError>);

    impl Worker for Finds {
        fn program(&mut self, seed: u64, shared: &Shared) -> Result<(), CampaignError> {
            if seed != 0 {
                // The other thread goes on for as long as nobody stops it.
                std::thread::sleep(Duration::from_millis(1));
                return Ok(());
            }
            let key = Key { about: About::Rows(BTreeSet::new()), kind: Kind::OtherResult };
            let program = Program::Bytes { bytecode: Vec::new(), memory: Vec::new() };
            let (says, after) = (Vec::new(), Duration::ZERO);
            shared.found(Finding { key, seed, program, expected: None, minimised: true, says, count: 1, after });
            self.0()
        }
    }

    fn limits() -> Limits {
        let (jobs, time) = (NonZero::new(2).unwrap_or(NonZero::<usize>::MIN), Some(Duration::from_secs(60)));
        Limits { jobs, time, ..Limits::default() }
    }

    fn found(event: &Event<'_>) -> usize {
        usize::from(matches!(event, Event::Found(_)))
    }

    #[test]
    fn what_was_found_before_an_error_is_reported_with_it() {
        let mut told = 0;
        let worker = || Ok(Finds(|| Err(CampaignError::Setup("no more".to_owned()))));
        let report = drive(limits(), worker, |event| {
            told += found(&event);
            ControlFlow::Continue(())
        });
        let report = report.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((told, report.findings.len()), (1, 1));
        assert!(matches!(report.failed, Some(CampaignError::Setup(_))));
        assert!(report.progress.elapsed < Duration::from_secs(30), "the other thread went on");
    }

    #[test]
    fn a_panic_ends_the_campaign_and_loses_nothing() {
        let (mut told, start) = (0, Instant::now());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drive(
                limits(),
                || Ok(Finds(|| panic!("on purpose"))),
                |event| {
                    told += found(&event);
                    ControlFlow::Continue(())
                },
            )
        }));
        assert!(panicked.is_err() && told == 1);
        assert!(start.elapsed() < Duration::from_secs(30), "the other thread went on");
    }

    #[test]
    fn who_watches_may_end_it() {
        let report = drive(limits(), || Ok(Finds(|| Ok(()))), |_| ControlFlow::Break(()));
        let report = report.unwrap_or_else(|error| panic!("{error}"));
        assert!(report.failed.is_none() && report.progress.elapsed < Duration::from_secs(30));
    }
}
