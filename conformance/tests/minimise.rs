//! Programs become as small as what they show allows: whatever that is.

#[path = "differential/faults.rs"]
mod faults;

use std::time::{Duration, Instant};

use softbpf::check::check;
use softbpf::codec::Code;
use softbpf::context::Bytes;
use softbpf::insn::{AluOp, AtomicOp, Callee, Insn, Width};
use softbpf::program_type::ProgramType;
use softbpf_conformance::generator::scenario::{Scenario, ScenarioKnobs};
use softbpf_conformance::generator::{INPUT, Knobs, Sample};
use softbpf_conformance::minimise::scenario::minimise_scenario;
use softbpf_conformance::minimise::{Options, Reproducer, minimise};
use softbpf_conformance::model::{self, Model, Setup};

fn parse(text: &str) -> Code {
    softbpf::text::parse::parse(text).unwrap_or_else(|error| panic!("{error}")).code
}

fn text(code: &Code) -> Vec<String> {
    code.insns().iter().map(ToString::to_string).collect()
}

fn setup() -> Setup {
    let setup = Setup::of(ProgramType::Unspec, Bytes(&[0; INPUT])).unwrap_or_else(|error| panic!("{error}"));
    // Candidates may loop.
    Setup { fuel: 1_000, ..setup }
}

/// The program's result on the model, if it returns.
fn result(setup: &Setup, reproducer: &Reproducer) -> Option<u64> {
    model::run(reproducer.code(), &setup.clone().with_context(&reproducer.input)).ret.ok()
}

fn has(code: &Code, is_such: impl Fn(&Insn) -> bool) -> bool {
    code.insns().iter().any(is_such)
}

#[test]
fn what_must_be_there_stays_and_the_rest_goes() {
    let is_such = |insn: &Insn| matches!(insn, Insn::Alu { op: AluOp::Arsh, width: Width::W32, .. });
    let samples = (0..500).map(|seed| Sample::from_seed(seed, &Knobs::ALL));
    let mut tried = 0;
    for sample in samples.filter(|sample| has(&sample.code(), is_such)).take(20) {
        tried += 1;
        let from = Reproducer::new(sample.code(), &sample.input);
        let minimised = minimise(from, &Options::default(), |candidate| {
            assert_eq!(check(candidate.code()), Ok(()));
            has(candidate.code(), is_such)
        });
        assert!(minimised.done, "{} calls", minimised.calls);
        assert_eq!(text(minimised.found.code()), ["w0 s>>= 0x0", "exit"]);
        assert!(minimised.found.input.is_empty());
    }
    assert_eq!(tried, 20);
}

#[test]
fn a_result_is_kept_with_what_it_takes() {
    let program = "r9 = r1\n r6 = 77\n r7 = *(u64 *)(r9 + 8)\n *(u64 *)(r10 - 8) = r6\n r6 = 0\n \
                   if r7 == 5 goto +2\n r0 = 1\n goto +1\n r0 = *(u64 *)(r10 - 8)\n r0 += r7\n exit";
    let mut input = [0; 64];
    input[8] = 5;
    let setup = setup();
    let from = Reproducer::new(parse(program), &input);
    assert_eq!(result(&setup, &from), Some(82));
    // The result alone.
    let minimised = minimise(from.clone(), &Options::default(), |candidate| result(&setup, candidate) == Some(82));
    assert_eq!(
        (text(minimised.found.code()), minimised.found.input),
        (vec!["r0 = 0x52".into(), "exit".into()], vec![])
    );
    // The result, out of the input.
    let minimised = minimise(from, &Options::default(), |candidate| {
        let zeroed = Reproducer { input: vec![0; candidate.input.len()], ..candidate.clone() };
        result(&setup, candidate) == Some(82) && result(&setup, &zeroed) == Some(1)
    });
    assert_eq!(minimised.found.input, [&[0; 8][..], &[5], &[0; 7]].concat(), "{:?}", text(minimised.found.code()));
    assert!(minimised.found.len() <= 8, "{:?}", text(minimised.found.code()));
}

#[test]
fn jumps_and_calls_lead_where_they_led() {
    let program = "r6 = 3\n r7 = 0\n call pc+5\n r7 += r0\n r1 = 9\n r6 -= 1\n if r6 != 0 goto -5\n goto +3\n \
                   r8 = 4\n r0 = 5\n exit\n r0 = r7\n exit";
    let setup = setup();
    let from = Reproducer::new(parse(program), &[]);
    assert_eq!(result(&setup, &from), Some(15));
    let calls = |code: &Code| has(code, |insn| matches!(insn, Insn::Call(Callee::Local(_))));
    let jumps_back = |code: &Code| has(code, |insn| insn.jump_offset().is_some_and(|off| off < 0));
    let options = Options { values: None, ..Options::default() };
    let minimised = minimise(from.clone(), &options, |candidate| {
        assert_eq!(check(candidate.code()), Ok(()));
        result(&setup, candidate) == Some(15) && calls(candidate.code()) && jumps_back(candidate.code())
    });
    assert!(minimised.found.len() <= 10, "{:?}", text(minimised.found.code()));
    // A call and where it leads.
    let minimised = minimise(from, &options, |candidate| {
        result(&setup, candidate) == Some(5) && calls(candidate.code()) || candidate.len() == 13
    });
    assert_eq!(text(minimised.found.code()), ["call pc+0x0", "r0 = 0x5", "exit"]);
}

/// Instructions that are enough to show a fault of those that are planted in the model; a few take more.
const ENOUGH: usize = 5;

#[test]
fn every_planted_fault_is_shown_by_few_instructions() {
    let setup = setup();
    let differs = |fault: &faults::Fault, reproducer: &Reproducer| {
        let setup = setup.clone().with_context(&reproducer.input);
        let expected = model::run(reproducer.code(), &setup);
        let mut other = setup.clone();
        (fault.setup)(&mut other);
        let mut observed = Model::new(reproducer.code(), &other).run_with(fault.after);
        observed.context.truncate(reproducer.input.len());
        observed != expected
    };
    let mut large = Vec::new();
    for fault in faults::FAULTS {
        let samples = (0..1_000).map(|seed| Sample::from_seed(seed, &Knobs::ALL.mixed(seed)));
        let mut all = samples.map(|sample| Reproducer::new(sample.code(), &sample.input));
        let from = all.find(|from| differs(fault, from)).unwrap_or_else(|| panic!("{}: not found", fault.name));
        let minimised = minimise(from, &Options::default(), |candidate| differs(fault, candidate));
        assert!(differs(fault, &minimised.found));
        if minimised.found.len() > ENOUGH || !minimised.done {
            large.push(format!("{}: {:?}", fault.name, text(minimised.found.code())));
        }
    }
    assert!(large.is_empty(), "{large:#?}");
}

#[test]
fn the_predicate_is_called_so_often_and_no_more() {
    let sample = Sample::from_seed(7, &Knobs::ALL);
    let from = Reproducer::new(sample.code(), &sample.input);
    for calls in [0, 1, 10, 100] {
        let mut called = 0;
        let options = Options { calls, ..Options::default() };
        let minimised = minimise(from.clone(), &options, |_| {
            called += 1;
            true
        });
        assert!(called <= calls && minimised.calls == called);
        assert!(calls > 1 || !minimised.done);
    }
    // What nothing smaller shows stays as it is.
    let minimised = minimise(from.clone(), &Options::default(), |_| false);
    assert_eq!((minimised.found, minimised.done), (from, true));
}

#[test]
fn nothing_is_asked_after_the_deadline() {
    let sample = Sample::from_seed(7, &Knobs::ALL);
    let from = Reproducer::new(sample.code(), &sample.input);
    let scenario = Scenario::from_seed(7, &ScenarioKnobs::ALL);
    let over = Options { deadline: Some(Instant::now()), ..Options::default() };
    let minimised = minimise(from.clone(), &over, |_| panic!("it is over"));
    assert_eq!((minimised.found, minimised.calls, minimised.done), (from.clone(), 0, false));
    let minimised = minimise_scenario(scenario.clone(), &over, |_| panic!("it is over"));
    assert_eq!((minimised.found, minimised.calls, minimised.done), (scenario.clone(), 0, false));
    // A call that has begun is waited for, and none follows.
    let mut called = 0;
    let mut slow = || {
        called += 1;
        std::thread::sleep(Duration::from_millis(60));
        false
    };
    let soon = || Options { deadline: Some(Instant::now() + Duration::from_millis(50)), ..Options::default() };
    assert!(!minimise(from, &soon(), |_| slow()).done);
    assert!(!minimise_scenario(scenario, &soon(), |_| slow()).done);
    assert!(called <= 2, "{called}");
}

#[test]
fn the_surroundings_of_scenarios_count_too() {
    for calls in [0, 1, 5, 60] {
        let scenario = Scenario::from_seed(3, &ScenarioKnobs::ALL);
        let mut called = 0;
        let minimised = minimise_scenario(scenario, &Options { calls, ..Options::default() }, |_| {
            called += 1;
            true
        });
        assert!(called <= calls && minimised.calls == called, "{called} of {calls}");
    }
}

#[test]
fn the_same_question_has_the_same_answer() {
    let atomic = |insn: &Insn| matches!(insn, Insn::Atomic { op: AtomicOp::Cmpxchg, .. });
    let sample = (0..).map(|seed| Sample::from_seed(seed, &Knobs::ALL)).find(|sample| has(&sample.code(), atomic));
    let sample = sample.expect("there is one");
    let run = || {
        let from = Reproducer::new(sample.code(), &sample.input);
        minimise(from, &Options::default(), |candidate| has(candidate.code(), atomic))
    };
    let first = run();
    assert_eq!((first.found.len(), run()), (2, first));
}

#[test]
fn scenarios_lose_programs_slots_and_runs() {
    let helper = |code: &Code| has(code, |insn| matches!(insn, Insn::Call(Callee::Helper(1))));
    let scenarios = (0..200).map(|seed| Scenario::from_seed(seed, &ScenarioKnobs::ALL));
    let mut tried = 0;
    for scenario in scenarios.filter(|scenario| scenario.programs.len() > 1 && helper(&scenario.programs[0])).take(5) {
        tried += 1;
        let minimised = minimise_scenario(scenario, &Options::default(), |candidate| {
            assert!(candidate.object().is_ok());
            helper(&candidate.programs[0])
        });
        let found = &minimised.found;
        assert_eq!((found.programs.len(), found.slots.len(), found.runs, found.cpu), (1, 0, 1, 0));
        assert_eq!(found.programs[0].insns().len(), 2, "{found}");
    }
    assert_eq!(tried, 5);
}
