//! Another implementation, behind the plugin protocol, against the model.
//!
//! The plugin says `r0` and no more, so that programs end by folding all that they computed into it, and minimising takes
//! the fold away again. A program is several bodies one after the other, since calling the plugin takes far longer than
//! what it executes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use softbpf::asm::{R0, R1, R9};
use softbpf::codec::Code;
use softbpf::insn::Insn;

use super::avoid::{Rows, avoid, has};
use super::drive::{Shared, Worker, drive};
use super::encoding::Bad;
use super::finding::expect;
use super::key::{About, Key, Kind, about, culprit};
use super::portable::{Expected, Portable, functions_are_apart};
use super::probe::{Feature, Lacks, lacks, longest};
use super::sides::guarded;
use super::{CampaignError, Event, Finding, Limits, PATIENCE, Program, Report, fold};
use crate::coverage::row_of;
use crate::generator::{Knobs, Part, Sample, link};
use crate::minimise::{Options as Minimising, Reproducer, minimise};
use crate::oracle::ModelSubject;
use crate::plugin::{Asked, MASK, Plugin, PluginError, case};
use crate::subject::{Answer, Subject as _};

/// What a campaign against a plugin does.
#[derive(Debug, Clone)]
pub struct Options {
    /// What programs are made of; they are portable whatever this says.
    pub knobs: Knobs,
    /// Rows of the instruction set to do without.
    pub without: BTreeSet<Insn>,
    /// Bodies of a program.
    pub bodies: usize,
    /// No programs that must be refused or stopped.
    pub only_valid: bool,
    /// Ask for everything, whatever the plugin lacks.
    pub everything: bool,
    /// How often the plugin is called to minimise a finding.
    pub minimising: usize,
    /// For how long; longer where the plugin does not end in time, which takes a while to see.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            knobs: Knobs::PORTABLE,
            without: BTreeSet::new(),
            bodies: 4,
            only_valid: false,
            everything: false,
            minimising: 3_000,
            patience: PATIENCE,
        }
    }
}

/// What is known of a plugin before the campaign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What it lacks.
    pub lacks: Lacks,
    /// About how many slots it takes at least, up to the most that are tried.
    pub longest: usize,
}

/// Finds out what the plugin knows.
///
/// # Errors
/// It cannot be run, or is none.
pub fn probe(plugin: &Plugin, options: &Options) -> Result<Known, CampaignError> {
    let ask = |code: &Code| plugin.ask_case(&case(code.encode().unwrap_or_default(), Vec::new()));
    let Asked { answer, .. } = ask(&Code::from(vec![Insn::mov(R0, 42), Insn::exit()]))?;
    if !matches!(answer, Answer::Returned { r0: 42, .. }) {
        return Err(CampaignError::NoPlugin(answer.to_string()));
    }
    let mut runs = |code: &Code| Ok::<_, PluginError>(matches!(ask(code)?.answer, Answer::Returned { .. }));
    let longest = longest(&mut runs)?;
    let lacks = if options.everything { Lacks::default() } else { lacks(&mut runs)? };
    Ok(Known { lacks, longest })
}

/// Runs a campaign.
///
/// # Errors
/// The plugin cannot be run.
pub fn campaign(
    plugin: &Plugin,
    known: &Known,
    options: &Options,
    limits: Limits,
    watch: impl FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Report, CampaignError> {
    let portable = Portable::new()?;
    let mut knobs = Knobs { portable: true, ..options.knobs };
    knobs.masked_shifts &= !known.lacks.features.contains(&Feature::MaskedShifts);
    knobs.calls &= !known.lacks.features.contains(&Feature::LocalCalls);
    knobs.out_of_bounds &= !options.only_valid;
    knobs.small_frames |= known.lacks.features.contains(&Feature::WholeFrames);
    let worker = || {
        Ok(Against {
            plugin: plugin.clone(),
            portable: portable.clone(),
            options: Options { knobs, ..options.clone() },
            rows: known.lacks.rows.union(&options.without).copied().collect(),
            unchecked: Rows::new(),
            longest: known.longest,
            seen: 0,
        })
    };
    drive(limits, worker, watch)
}

/// One thread's work.
struct Against {
    plugin: Plugin,
    portable: Portable,
    options: Options,
    /// Rows to do without: what the plugin lacks, and what is known.
    rows: Rows,
    /// Rows whose bad accesses are known not to be stopped.
    unchecked: Rows,
    longest: usize,
    /// Findings that the rows above take into account.
    seen: usize,
}

/// What a plugin must answer, and how it does not.
struct Differs {
    kind: Kind,
    expected: String,
    got: String,
}

/// One in so many programs is bytes that must be refused.
const BAD: u64 = 8;

/// One in so many ends with one register or word, not with the fold.
const ONE: u64 = 16;

impl Worker for Against {
    fn program(&mut self, seed: u64, shared: &Shared) -> Result<(), CampaignError> {
        self.learn(shared);
        if !self.options.only_valid && seed % BAD == BAD - 1 {
            return self.bad(seed, shared);
        }
        let mut reproducer = self.make(seed);
        let Some(expected) = self.portable.expected(reproducer.code(), &reproducer.input) else {
            shared.count("programs", false, 0);
            return Ok(());
        };
        // What is known not to be stopped may do anything.
        if self.stopping_row(&reproducer, expected).is_some_and(|row| self.unchecked.contains(&row)) {
            shared.count("programs", true, 0);
            return Ok(());
        }
        shared.count("programs", true, 1);
        let Some(mut differs) = self.differs(&reproducer, expected)? else { return Ok(()) };
        // Other threads may have found it in the meantime.
        if self.learn(shared) {
            reproducer = Reproducer::new(avoid(reproducer.code(), &self.rows), &reproducer.input);
            let Some(expected) = self.portable.expected(reproducer.code(), &reproducer.input) else { return Ok(()) };
            match self.differs(&reproducer, expected)? {
                Some(again) => differs = again,
                None => return Ok(()),
            }
        }
        self.minimise(seed, reproducer, differs, shared)
    }
}

impl Against {
    /// Takes rows that findings are about into those to do without; whether there were new ones.
    fn learn(&mut self, shared: &Shared) -> bool {
        let new = shared.known_after(self.seen);
        self.seen += new.len();
        let learnt = !new.is_empty();
        for Key { about, kind } in new {
            match about {
                About::Rows(_) if kind == Kind::NotRefused => self.unchecked.extend(culprit(&about)),
                About::Rows(_) => self.rows.extend(culprit(&about)),
                About::Length => self.longest = (self.longest / 2).max(64),
                About::Encoding { .. } => {}
            }
        }
        learnt
    }

    /// The program with this number, without the rows to do without.
    fn make(&self, seed: u64) -> Reproducer {
        let knobs = self.options.knobs.mixed(seed);
        let reliable = !fold::everything().iter().any(|&insn| self.rows.contains(&row_of(insn)));
        let first = [Insn::mov(R9, R1)];
        let sample = Sample::from_seed(seed, &knobs);
        let input = sample.input.clone();
        if !reliable || seed.is_multiple_of(ONE) {
            let code = link(&first, &[Part { sample: &sample, end: &fold::one(seed / ONE) }]);
            return Reproducer::new(avoid(&code, &self.rows), &input);
        }
        // What may stop the program is on its own.
        let most = if knobs.out_of_bounds { 1 } else { self.options.bodies.clamp(1, fold::MOST_BODIES) };
        let others = (1..most as u64).map(|body| Sample::from_seed(seed ^ body << 48, &knobs));
        let samples: Vec<Sample> = std::iter::once(sample).chain(others).collect();
        let ends: Vec<Vec<Insn>> =
            (0..most).map(|body| [fold::everything(), vec![fold::keep(body)]].concat()).collect();
        let results = fold::results(most);
        let nothing = Sample::default();
        // As many as the plugin takes.
        let code = (1..=most).rev().find_map(|bodies| {
            let parts = samples.iter().zip(&ends).take(bodies).map(|(sample, end)| Part { sample, end });
            let results = Part { sample: &nothing, end: &results };
            let code = link(&first, &parts.chain([results]).collect::<Vec<_>>());
            (bodies == 1 || code.slot_count() <= self.longest / 2).then_some(code)
        });
        Reproducer::new(avoid(&code.unwrap_or_default(), &self.rows), &input)
    }

    fn differs(&self, reproducer: &Reproducer, expected: Expected) -> Result<Option<Differs>, CampaignError> {
        let bytecode = reproducer.code().encode().unwrap_or_default();
        let asked = self.plugin.ask_case(&case(bytecode, reproducer.input.clone()))?;
        let kind = match (&asked.answer, expected) {
            (Answer::Returned { r0, .. }, Expected::Value(value)) if *r0 == value => return Ok(None),
            (Answer::Returned { .. }, Expected::Value(_)) => Kind::OtherResult,
            (Answer::Crashed { .. }, _) if asked.late => Kind::TimedOut,
            // Whether it survives that is a matter of luck.
            (Answer::Returned { .. } | Answer::Crashed { .. }, Expected::Error { .. }) => Kind::NotRefused,
            (Answer::Crashed { .. }, Expected::Value(_)) => Kind::Crashed,
            (Answer::Failed { .. } | Answer::Trapped { .. } | Answer::Rejected { .. }, Expected::Value(_)) => {
                Kind::Refused
            }
            (Answer::Failed { .. } | Answer::Trapped { .. } | Answer::Rejected { .. }, Expected::Error { .. })
            | (Answer::Skipped { .. }, _) => return Ok(None),
        };
        let expected = match expected {
            Expected::Value(value) => format!("r0 = {value:#x}"),
            Expected::Error { slot } => format!("an error: slot {slot} accesses memory that it may not"),
        };
        Ok(Some(Differs { kind, expected, got: asked.answer.to_string() }))
    }

    /// The row of the instruction that must be stopped, if one must.
    fn stopping_row(&self, reproducer: &Reproducer, expected: Expected) -> Option<Insn> {
        let Expected::Error { slot } = expected else { return None };
        let code = reproducer.code();
        code.insns().get(code.index_at(slot)?).copied().map(row_of)
    }

    fn minimise(
        &mut self,
        seed: u64,
        from: Reproducer,
        differs: Differs,
        shared: &Shared,
    ) -> Result<(), CampaignError> {
        let kind = differs.kind;
        let expected = self.portable.expected(from.code(), &from.input);
        let stopping = expected.and_then(|expected| self.stopping_row(&from, expected));
        let slow = if kind == Kind::TimedOut { SLOW_CALLS * self.plugin.timeout() } else { Duration::ZERO };
        let deadline = Instant::now().checked_add(self.options.patience.max(slow));
        let options = Minimising { calls: self.options.minimising, deadline, rules: MASK, ..Minimising::default() };
        // Each that does not end costs the whole of the plugin's time.
        let mut waits = MOST_WAITS;
        let mut failed = None;
        let mut last = differs;
        let minimised = minimise(from, &options, |candidate| {
            if waits == 0 || failed.is_some() {
                return false;
            }
            // What is known already would come up again and again.
            if has(candidate.code(), &self.rows) || !functions_are_apart(candidate.code()) {
                return false;
            }
            let Some(expected) = self.portable.expected(candidate.code(), &candidate.input) else { return false };
            if self.stopping_row(candidate, expected) != stopping {
                return false;
            }
            let differs = match self.differs(candidate, expected) {
                Ok(differs) => differs,
                Err(error) => {
                    failed = Some(error);
                    None
                }
            };
            waits -= u32::from(differs.as_ref().is_some_and(|differs| differs.kind == Kind::TimedOut));
            match differs {
                Some(differs) if differs.kind == kind => {
                    last = differs;
                    true
                }
                Some(_) | None => false,
            }
        });
        let found = minimised.found;
        let long = found.len() > LONG && matches!(kind, Kind::Crashed | Kind::Refused);
        let about = match stopping {
            Some(row) => About::Rows([row].into()),
            None if long => About::Length,
            None => about([found.code()]),
        };
        let key = Key { about, kind };
        if !shared.again(&key) {
            let bytecode = found.code().encode().unwrap_or_default();
            let case = case(bytecode.clone(), found.input.clone());
            let answer = guarded(|| ModelSubject.run(&case)).ok();
            let program = Program::Bytes { bytecode, memory: found.input };
            let done = minimised.done && waits > 0 && failed.is_none();
            shared.found(self.finding(key, seed, program, done, last, answer));
        }
        // What was found until then stays found.
        failed.map_or(Ok(()), Err)
    }

    /// Bytes that must be refused. They are as small as they can be.
    fn bad(&mut self, seed: u64, shared: &Shared) -> Result<(), CampaignError> {
        let Some(bad) = Bad::from_seed(seed) else {
            shared.count("refusals", false, 0);
            return Ok(());
        };
        shared.count("refusals", true, 1);
        let asked = self.plugin.ask_case(&case(bad.bytes.clone(), Vec::new()))?;
        let kind = match asked.answer {
            Answer::Returned { .. } => Kind::NotRefused,
            Answer::Crashed { .. } if asked.late => Kind::TimedOut,
            Answer::Crashed { .. } => Kind::Crashed,
            Answer::Failed { .. } | Answer::Trapped { .. } | Answer::Rejected { .. } | Answer::Skipped { .. } => {
                return Ok(());
            }
        };
        let key = Key { about: bad.about(), kind };
        if !shared.again(&key) {
            let expected = format!("rejected: {} at {}", bad.reason, bad.slot);
            let differs = Differs { kind, expected, got: asked.answer.to_string() };
            let answer = Answer::Rejected { reason: bad.reason, slot: bad.slot, message: String::new() };
            let program = Program::Bytes { bytecode: bad.bytes, memory: Vec::new() };
            shared.found(self.finding(key, seed, program, true, differs, Some(answer)));
        }
        Ok(())
    }

    fn finding(
        &self,
        key: Key,
        seed: u64,
        program: Program,
        minimised: bool,
        Differs { expected, got, .. }: Differs,
        answer: Option<Answer>,
    ) -> Finding {
        let says = vec![("expected".to_owned(), expected), (self.plugin.name(), got)];
        let memory = match &program {
            Program::Bytes { memory, .. } => &memory[..],
            Program::Hostile(_) | Program::Scenario(_) => &[],
        };
        let expected = answer.and_then(|answer| expect(answer, memory));
        Finding { key, seed, program, expected, minimised, says, count: 1, after: Duration::ZERO }
    }
}

/// How often minimising waits for a plugin that does not answer.
const MOST_WAITS: u32 = 30;

/// For so many of these there is time.
const SLOW_CALLS: u32 = 5;

/// A minimised program that is longer than this, and crashes or is refused, is about its length.
const LONG: usize = 64;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn finding(key: Key) -> Finding {
        let (program, says) = (Program::Bytes { bytecode: Vec::new(), memory: Vec::new() }, Vec::new());
        let after = Duration::ZERO;
        Finding { key, seed: 0, program, expected: None, minimised: true, says, count: 1, after }
    }

    #[test]
    fn a_finding_is_learnt_from_once() {
        let (sender, _receiver) = mpsc::channel();
        let shared = Shared::new(Limits::default(), sender);
        let mut against = Against {
            plugin: Plugin::new("none", Vec::new()),
            portable: Portable::new().unwrap_or_else(|error| panic!("{error}")),
            options: Options::default(),
            rows: Rows::new(),
            unchecked: Rows::new(),
            longest: 4096,
            seen: 0,
        };
        assert!(!against.learn(&shared));
        shared.found(finding(Key { about: About::Length, kind: Kind::Crashed }));
        assert!(against.learn(&shared));
        assert_eq!((against.longest, against.rows.len()), (2048, 0));
        for insn in [Insn::mov(R0, 0), Insn::add(R0, 0)] {
            shared.found(finding(Key { about: About::Rows([insn].into()), kind: Kind::OtherResult }));
            assert!(against.learn(&shared) && !against.learn(&shared));
        }
        assert_eq!((against.longest, against.rows.len()), (2048, 2));
    }
}
