//! Runs a campaign on several threads, until its time or its programs are up; collects what is found, each once.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
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

/// What came of a campaign.
#[derive(Debug, Clone)]
pub struct Report {
    /// How far it came.
    pub progress: Progress,
    /// By kind of program: how many were made, and how many of these were compared and ran to their end.
    pub accepted: BTreeMap<&'static str, (u64, u64)>,
    /// What was found, in the order in which it was found.
    pub findings: Vec<Finding>,
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
}

impl Shared {
    fn new(limits: Limits) -> Shared {
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
        let mut findings = lock(&self.findings);
        let known = findings.iter_mut().find(|finding| finding.key == *key);
        known.map(|finding| finding.count += 1).is_some()
    }

    /// Keeps a finding, unless another thread was faster.
    pub(super) fn found(&self, finding: Finding) {
        if !self.again(&finding.key) {
            lock(&self.findings).push(Finding { after: self.start.elapsed(), ..finding });
        }
    }

    /// What has been found so far.
    pub(super) fn known(&self) -> Vec<Key> {
        lock(&self.findings).iter().map(|finding| finding.key.clone()).collect()
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

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(100);

/// Calls a worker of each thread with seed after seed. `progress` is called ten times a second.
///
/// # Errors
/// The first that a worker has.
pub(super) fn drive<W: Worker>(
    limits: Limits,
    worker: impl Fn() -> Result<W, CampaignError> + Sync,
    mut progress: impl FnMut(&Progress),
) -> Result<Report, CampaignError> {
    let shared = Shared::new(limits);
    let work = || -> Result<(), CampaignError> {
        let mut worker = worker()?;
        while let Some(seed) = shared.seed() {
            worker.program(seed, &shared)?;
        }
        Ok(())
    };
    let done = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..NonZero::get(limits.jobs))
            .map(|_| {
                scope.spawn(|| {
                    let done = work();
                    if done.is_err() {
                        shared.stop.store(true, Ordering::Relaxed);
                    }
                    done
                })
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(TICK.min(Duration::from_millis(20)));
            progress(&shared.progress());
        }
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    });
    done?;
    let progress = shared.progress();
    let Shared { accepted, findings, .. } = shared;
    let inner = |poisoned: PoisonError<_>| poisoned.into_inner();
    let findings = findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Report { progress, accepted: accepted.into_inner().unwrap_or_else(inner), findings })
}

/// What a thread does.
pub(super) trait Worker {
    /// Makes the program with this number, and compares.
    ///
    /// # Errors
    /// What ends the campaign.
    fn program(&mut self, seed: u64, shared: &Shared) -> Result<(), CampaignError>;
}
