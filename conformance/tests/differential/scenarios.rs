//! Every engine does what the model does on programs with memory, calls, loops and helpers, and enough of those get
//! somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use softbpf::codec::Code;
use softbpf::insn::{Callee, Imm64, Insn, PacketOffset};
use softbpf_conformance::generator::scenario::{Callbacks, PROGRAMS, Scenario, ScenarioKnobs};
use softbpf_conformance::model::helpers::{LOOP, TAIL_CALL};
use softbpf_conformance::model::scenario::{Seen, Setups, compare, on_model, on_model_with};
use softbpf_conformance::model::{Problem, Setup, StopKind};
use softbpf_conformance::reusable::Reusable;

use super::faults::Fault;
use super::scenario_faults::FAULTS;

/// Scenarios of a run of the tests, unless `SOFTBPF_PROGRAMS` says otherwise.
const SCENARIOS: u64 = 10_000;

/// Scenarios within which every planted fault must be found.
const FAULT_SCENARIOS: u64 = 4_000;

/// Scenarios that are looked at in detail for the statistics: one in so many.
const LOOKED_AT: u64 = 16;

/// What became of scenarios.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Statistics {
    scenarios: u64,
    programs: u64,
    /// Runs that came to an end.
    runs: u64,
    returned: u64,
    instructions: u64,
    stopped: BTreeMap<&'static str, u64>,
    /// Scenarios of which one was looked at, and how many of these have executed such a thing.
    looked_at: u64,
    executed: BTreeMap<&'static str, u64>,
}

impl Statistics {
    fn add(&mut self, scenario: &Scenario, seen: &[Seen]) {
        self.scenarios += 1;
        self.programs += scenario.programs.len() as u64;
        for seen in seen {
            self.runs += 1;
            self.instructions += seen.observed.instructions;
            match &seen.observed.ret {
                Ok(_) => self.returned += 1,
                Err(stop) => *self.stopped.entry(name(&stop.kind)).or_default() += 1,
            }
        }
    }

    /// Runs the scenario again to see what its runs execute.
    fn look_at(&mut self, scenario: &Scenario, setups: &mut Setups) {
        let setup = setups.of(scenario).unwrap_or_else(|error| panic!("{error}"));
        let mut executed = [false; 6];
        on_model_with(scenario, setup, |model, done| {
            let back = scenario.programs.get(model.program()).is_some_and(|code| jumped_back(code, done, model.next()));
            executed[0] |= back;
            if let Insn::Call(callee) = done.insn {
                match callee {
                    Callee::Local(_) => executed[1] = true,
                    Callee::Reg(_) => executed[2] = true,
                    Callee::Helper(_) => executed[3] = true,
                    Callee::Kfunc { .. } => {}
                }
            }
            executed[4] |= model.tail_calls > 0;
        });
        executed[5] = executed[..4].contains(&true);
        self.looked_at += 1;
        let names = ["loop", "local call", "callx", "helper", "tail call", "any"];
        for (name, executed) in names.into_iter().zip(executed) {
            *self.executed.entry(name).or_default() += u64::from(executed);
        }
    }

    fn join(&mut self, other: Statistics) {
        self.scenarios += other.scenarios;
        self.programs += other.programs;
        self.runs += other.runs;
        self.returned += other.returned;
        self.instructions += other.instructions;
        self.looked_at += other.looked_at;
        for (name, count) in other.stopped {
            *self.stopped.entry(name).or_default() += count;
        }
        for (name, count) in other.executed {
            *self.executed.entry(name).or_default() += count;
        }
    }

    fn executed(&self, name: &str) -> f64 {
        share(self.executed.get(name).copied().unwrap_or(0), self.looked_at)
    }
}

fn share(part: u64, of: u64) -> f64 {
    100.0 * part as f64 / of.max(1) as f64
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statistics { scenarios, programs, runs, returned, instructions, .. } = self;
        write!(
            f,
            "{scenarios} scenarios of {programs} programs, {runs} runs, {} instructions a run; ",
            instructions / runs.max(&1)
        )?;
        write!(f, "{:.1} % return", share(*returned, *runs))?;
        for (name, count) in &self.stopped {
            write!(f, ", {name} {:.2} %", share(*count, *runs))?;
        }
        write!(f, "; executed:")?;
        for name in self.executed.keys() {
            write!(f, " {name} {:.1} %", self.executed(name))?;
        }
        Ok(())
    }
}

/// A jump to an earlier instruction has just been taken.
fn jumped_back(code: &Code, done: &softbpf_conformance::model::Executed, next: Option<(usize, &Insn)>) -> bool {
    let jumps = done.insn.jump_offset().is_some_and(|off| off < 0) && code.index_at(done.slot).is_some();
    jumps && next.is_some_and(|(slot, _)| slot < done.slot)
}

fn name(kind: &StopKind) -> &'static str {
    match kind {
        StopKind::Access(access) if access.write => "bad write",
        StopKind::Access(_) => "bad read",
        StopKind::OutOfFuel => "out of fuel",
        StopKind::TooDeep => "too deep",
        StopKind::NoHelper(_) => "no helper",
        StopKind::BadCallTarget(_) => "bad call target",
        StopKind::NoPacket(_) => "no packet",
        StopKind::Missing => "no map",
        StopKind::Argument { problem: Problem::Access(_), .. } => "bad memory argument",
        StopKind::Argument { problem: Problem::NotContext(_), .. } => "argument is no context",
        StopKind::Argument { .. } => "argument is no such map",
        StopKind::Helper(_) => "other",
    }
}

/// The scenarios with these numbers, every so many; stops at the first difference.
fn sweep(first: u64, end: u64, step: usize) -> Statistics {
    let mut machines = Reusable::on(super::engines_asked_for());
    let (mut setups, mut statistics) = (Setups::default(), Statistics::default());
    for seed in (first..end).step_by(step) {
        let scenario = Scenario::from_seed(seed, &ScenarioKnobs::mixed(seed));
        let setup = setups.of(&scenario).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{scenario}"));
        match compare(&scenario, setup, &mut machines) {
            Ok((seen, None)) => statistics.add(&scenario, &seen),
            Ok((_, Some(difference))) => panic!("seed {seed}\n{difference}"),
            Err(error) => panic!("seed {seed}: {error}\n{scenario}"),
        }
        if seed % LOOKED_AT == seed / LOOKED_AT % LOOKED_AT {
            statistics.look_at(&scenario, &mut setups);
        }
    }
    statistics
}

#[test]
fn scenarios_do_what_the_model_says() {
    let (first, count) = (super::count("SOFTBPF_SEED", 0), super::count("SOFTBPF_PROGRAMS", SCENARIOS));
    // The machine's own idea of how much it can do at once, unless a test run shares it with others.
    let most = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let threads = super::count("SOFTBPF_THREADS", most).max(1);
    let (start, done) = (Instant::now(), AtomicU64::new(0));
    let mut statistics = Statistics::default();
    std::thread::scope(|scope| {
        let sweeps: Vec<_> = (0..threads)
            .map(|thread| {
                let done = &done;
                scope.spawn(move || {
                    let statistics = sweep(first + thread, first + count, threads as usize);
                    done.fetch_add(statistics.scenarios, Ordering::Relaxed);
                    statistics
                })
            })
            .collect();
        for sweep in sweeps {
            match sweep.join() {
                Ok(swept) => statistics.join(swept),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let rate = statistics.scenarios as f64 / seconds;
    // The harness keeps what tests print to itself; who reads its output shall see this.
    let _ = writeln!(std::io::stderr(), "{statistics}; {rate:.0} scenarios a second on {threads} threads");
    assert_eq!(done.into_inner(), count);
    if count < 1_000 {
        // Too few for shares to mean anything.
        return;
    }
    // Programs that all trap, or that do nothing, would prove little.
    assert!(statistics.returned * 10 > statistics.runs * 6, "too few programs return: {statistics}");
    assert!(statistics.instructions > statistics.runs * 60, "programs are too short: {statistics}");
    for (what, least) in [("any", 60.0), ("loop", 30.0), ("local call", 30.0), ("helper", 30.0), ("tail call", 3.0)] {
        assert!(statistics.executed(what) > least, "too few programs have executed a {what}: {statistics}");
    }
}

#[test]
fn every_fault_planted_in_calls_and_helpers_is_found() {
    let mut setups = Setups::default();
    let samples: Vec<_> = (0..FAULT_SCENARIOS)
        .map(|seed| {
            let scenario = Scenario::from_seed(seed, &ScenarioKnobs::mixed(seed));
            let setup = setups.of(&scenario).unwrap_or_else(|error| panic!("{error}")).clone();
            let expected = on_model(&scenario, &setup);
            (scenario, setup, expected)
        })
        .collect();
    let differs = |fault: &Fault, (scenario, setup, expected): &(Scenario, Setup, Vec<Seen>)| {
        let mut setup = setup.clone();
        (fault.setup)(&mut setup);
        let mut seen = on_model_with(scenario, &setup, fault.after);
        // What was planted in a setup is not what is to be found.
        for (seen, expected) in seen.iter_mut().zip(expected) {
            seen.observed.context.truncate(expected.observed.context.len());
            if let (Some(packet), Some(expected)) = (&mut seen.observed.packet, &expected.observed.packet) {
                packet.truncate(expected.len());
            }
        }
        seen != *expected
    };
    let found: Vec<_> =
        FAULTS.iter().map(|fault| (fault.name, samples.iter().position(|sample| differs(fault, sample)))).collect();
    let _ = writeln!(std::io::stderr(), "faults and the scenarios that found them: {found:?}");
    let missed: Vec<_> = found.iter().filter(|(_, scenario)| scenario.is_none()).collect();
    assert!(missed.is_empty(), "not found in {FAULT_SCENARIOS} scenarios: {missed:?}");
    assert!(found.len() >= 40);
}

/// What only scenarios have.
fn further_row(insn: &Insn) -> Option<String> {
    match *insn {
        Insn::AddrSpaceCast { .. } => Some("cast".to_owned()),
        Insn::MayGoto { .. } => Some("may_goto".to_owned()),
        Insn::LoadPacket { size, offset } => Some(format!("{size:?} {}", matches!(offset, PacketOffset::Abs(_)))),
        Insn::Call(callee) => Some(match callee {
            Callee::Helper(number @ ..200) => format!("helper {number}"),
            Callee::Helper(_) => "helper".to_owned(),
            Callee::Local(_) => "local".to_owned(),
            Callee::Reg(_) => "callx".to_owned(),
            Callee::Kfunc { .. } => "kfunc".to_owned(),
        }),
        Insn::LoadImm64 { value, .. } => Some(match value {
            Imm64::Value(_) => "value".to_owned(),
            Imm64::MapFd(fd) => format!("map {fd}"),
            Imm64::MapValue { .. } => "map value".to_owned(),
            Imm64::Variable { .. } => "variable".to_owned(),
            Imm64::Code(_) => "code".to_owned(),
            Imm64::MapIndex(_) | Imm64::MapIndexValue { .. } => "map index".to_owned(),
        }),
        Insn::Alu { .. }
        | Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::Jump { .. }
        | Insn::JumpIf { .. }
        | Insn::Exit => None,
    }
}

#[test]
fn scenarios_cover_every_operation() {
    let mut covered = BTreeSet::new();
    let mut further = BTreeSet::new();
    for seed in 0..2_000 {
        for code in Scenario::from_seed(seed, &ScenarioKnobs::ALL).programs {
            covered.extend(code.insns().iter().map(super::row));
            further.extend(code.insns().iter().filter_map(further_row));
        }
    }
    // What the other generator makes, and one row for all that follows.
    assert_eq!(covered.len(), super::ROWS + 1, "{covered:?}");
    // A cast, may_goto, packet loads; twelve helpers and three numbers that none has, other calls; eight maps and one that
    // there is not, and the other 64-bit immediates.
    assert_eq!(further.len(), 1 + 1 + 6 + 12 + 3 + 3 + 9 + 4, "{further:?}");
}

/// As for the other generator; of what only scenarios have, what can be executed without a trap.
#[test]
fn scenarios_execute_every_operation() {
    let (mut setups, mut executed, mut further) = (Setups::default(), BTreeSet::new(), BTreeSet::new());
    for seed in 0..3_000 {
        let scenario = Scenario::from_seed(seed, &ScenarioKnobs::mixed(seed));
        let setup = setups.of(&scenario).unwrap_or_else(|error| panic!("{error}"));
        on_model_with(&scenario, setup, |_, done| {
            executed.insert(super::row(&done.insn));
            further.extend(further_row(&done.insn));
        });
    }
    assert_eq!(executed.len(), super::ROWS + 1, "{executed:?}");
    // As above, without what always stops a program: three numbers of no helper, a map that there is not.
    assert_eq!(further.len(), 1 + 1 + 6 + 12 + 2 + 8 + 3, "{further:?}");
}

/// Whether an instruction is one of those asked for.
type IsSuch = fn(&Insn) -> bool;

/// Whether any of the first scenarios with these knobs has such an instruction.
fn has(knobs: ScenarioKnobs, is_such: IsSuch) -> bool {
    let scenarios = (0..300).map(|seed| Scenario::from_seed(seed, &knobs));
    scenarios.flat_map(|scenario| scenario.programs).any(|code| code.insns().iter().any(is_such))
}

#[test]
fn a_knob_that_is_off_leaves_its_instructions_out() {
    let all = ScenarioKnobs { callbacks: Callbacks::Loop, ..ScenarioKnobs::ALL };
    let rows: [(ScenarioKnobs, IsSuch); 8] = [
        (ScenarioKnobs { loops: false, ..all }, |insn| insn.jump_offset().is_some_and(|off| off < 0)),
        (ScenarioKnobs { loops: false, ..all }, |insn| matches!(insn, Insn::MayGoto { .. })),
        (ScenarioKnobs { calls: false, ..all }, |insn| matches!(insn, Insn::Call(Callee::Local(_)))),
        (ScenarioKnobs { helpers: false, ..all }, |insn| matches!(insn, Insn::Call(Callee::Helper(1..=3)))),
        (ScenarioKnobs { tail_calls: false, ..all }, |insn| *insn == Insn::Call(Callee::Helper(TAIL_CALL))),
        (ScenarioKnobs { atomics: false, ..all }, |insn| matches!(insn, Insn::Atomic { .. })),
        (ScenarioKnobs { packets: false, ..all }, |insn| matches!(insn, Insn::LoadPacket { .. })),
        (ScenarioKnobs { callbacks: Callbacks::None, ..all }, |insn| *insn == Insn::Call(Callee::Helper(LOOP))),
    ];
    for (index, (knobs, is_such)) in rows.into_iter().enumerate() {
        assert!(has(all, is_such) && !has(knobs, is_such), "row {index}");
    }
}

/// A pointer that was written over and a key that is none are enough to stop a program now and then.
#[test]
fn programs_that_are_not_hostile_return() {
    let knobs = ScenarioKnobs { hostile: false, ..ScenarioKnobs::ALL };
    let (mut setups, mut statistics) = (Setups::default(), Statistics::default());
    for seed in 0..1_000 {
        let scenario = Scenario::from_seed(seed, &knobs);
        let setup = setups.of(&scenario).unwrap_or_else(|error| panic!("{error}"));
        statistics.add(&scenario, &on_model(&scenario, setup));
    }
    let _ = writeln!(std::io::stderr(), "not hostile: {statistics}");
    assert!(statistics.returned * 20 > statistics.runs * 19, "{statistics}");
}

#[test]
fn the_same_seed_gives_the_same_scenario() {
    for seed in 0..100 {
        let knobs = ScenarioKnobs::mixed(seed);
        let scenario = Scenario::from_seed(seed, &knobs);
        assert_eq!(scenario, Scenario::from_seed(seed, &knobs));
        assert!(scenario.programs.len() <= PROGRAMS.len() && !scenario.programs.is_empty());
    }
    // Bytes that run out are zeros, not an error.
    let few = Scenario::arbitrary(&mut arbitrary::Unstructured::new(&[1, 2, 3]), &ScenarioKnobs::ALL);
    assert!(few.is_ok_and(|scenario| scenario.object().is_ok()));
}
