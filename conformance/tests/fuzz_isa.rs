//! Campaigns: engines that agree are left alone, faults are found and made small, in engines and behind the plugin
//! protocol, and what is found can be replayed.

#![cfg(unix)]

use std::num::NonZero;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use softbpf::Machine;
use softbpf::engine::{Engine, Entry, Finish, StepHook};
use softbpf::insn::{AluOp, Callee, Insn, Width};
use softbpf::interp::Interpreter;
use softbpf_conformance::fuzz::isa::against::{self, Options};
use softbpf_conformance::fuzz::isa::engines::{self, Generator};
use softbpf_conformance::fuzz::isa::{CampaignError, Feature, Finding, Kind, Limits, Program, Report};
use softbpf_conformance::generator::Knobs;
use softbpf_conformance::hostile;
use softbpf_conformance::plugin::Plugin;
use softbpf_conformance::reusable::Reusable;
use softbpf_conformance::subject::{EngineSubject, Subject as _};
use softbpf_conformance::verdict::{Verdict, judge};
use softbpf_conformance::{ENGINES, MakeEngine, engine_named, vectors};
use softbpf_jit::{Config, Fault, engine_with_fault};

const PLUGIN: &str = env!("CARGO_BIN_EXE_bpf-conformance-plugin");

fn limits(first_seed: u64, programs: u64) -> Limits {
    let jobs = NonZero::new(2).expect("it is not 0");
    Limits { first_seed, programs: Some(programs), time: None, jobs, findings: 20 }
}

fn own_engines() -> Vec<(String, MakeEngine)> {
    ENGINES.iter().filter_map(|&name| Some((name.to_owned(), engine_named(name).ok()?))).collect()
}

fn texts(report: &Report) -> Vec<String> {
    report.findings.iter().map(|finding| finding.key.to_string()).collect()
}

#[test]
fn engines_and_model_agree() {
    let options = engines::Options { inputs: 4, ..engines::Options::new(own_engines()) };
    let report = engines::campaign(&options, limits(0, 600), |_| ControlFlow::Continue(())).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.progress.programs, 600);
    assert!(report.progress.executions > 1_000, "{:?}", report.progress);
    // A generator of what is refused, or traps at once, would prove little. Streams are hostile.
    for (generator, least) in [(Generator::Samples, 70), (Generator::Scenarios, 50), (Generator::Streams, 20)] {
        let (made, accepted) = report.accepted[generator.name()];
        assert!(made == 200 && accepted * 100 >= made * least, "{}: {accepted} of {made}", generator.name());
    }
}

/// An interpreter that returns one more than it should when it has executed a 32-bit signed shift.
#[derive(Debug)]
struct Wrong(Interpreter);

impl Engine for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, _: Option<StepHook<'_>>) -> Finish {
        let mut wrong = 0;
        let finish = self.0.run(
            machine,
            entry,
            Some(&mut |step| {
                let is_such = matches!(step.insn, Insn::Alu { op: AluOp::Arsh, width: Width::W32, .. });
                wrong |= u64::from(is_such);
            }),
        );
        Finish { ret: finish.ret.map(|r0| r0.wrapping_add(wrong)), ..finish }
    }
}

#[test]
fn a_wrong_engine_is_found_by_each_generator() {
    let make: MakeEngine = || Box::new(Wrong(Interpreter::new()));
    for generator in Generator::ALL {
        let interpreter = ("interpreter".to_owned(), engine_named("interpreter").unwrap());
        let mut options = engines::Options::new(vec![interpreter, ("wrong".to_owned(), make)]);
        options.generators = vec![generator];
        options.model = generator != Generator::Scenarios;
        (options.inputs, options.patience) = (2, Duration::from_secs(300));
        let report = engines::campaign(&options, limits(0, 400), |_| ControlFlow::Continue(())).unwrap();
        let name = generator.name();
        // By an immediate and by a register, and no more: what is known is not found again.
        assert!((1..=2).contains(&report.findings.len()), "{name}: {:?}", texts(&report));
        for finding in &report.findings {
            let text = finding.key.to_string();
            assert!(text.starts_with("arsh32") && text.ends_with("another result"), "{name}: {text}");
            assert!(finding.instructions() <= 5 && finding.minimised, "{name}: {:#?}", finding.listing());
            replay(finding);
        }
    }
}

/// An interpreter that returns one more than it should when a helper was called.
#[derive(Debug)]
struct WrongCalls(Interpreter);

impl Engine for WrongCalls {
    fn name(&self) -> &'static str {
        "wrong calls"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, _: Option<StepHook<'_>>) -> Finish {
        let mut wrong = 0;
        let finish = self.0.run(
            machine,
            entry,
            Some(&mut |step| wrong |= u64::from(matches!(step.insn, Insn::Call(Callee::Helper(_))))),
        );
        Finish { ret: finish.ret.map(|r0| r0.wrapping_add(wrong)), ..finish }
    }
}

/// What needs maps or helpers to show is not saved as if it did not.
#[test]
fn a_finding_among_streams_is_saved_with_what_it_needs() {
    let make: MakeEngine = || Box::new(WrongCalls(Interpreter::new()));
    let interpreter = ("interpreter".to_owned(), engine_named("interpreter").unwrap());
    let mut options = engines::Options::new(vec![interpreter, ("wrong".to_owned(), make)]);
    (options.generators, options.minimising) = (vec![Generator::Streams], 2_000);
    let few = Limits { findings: 3, ..limits(0, 1_000) };
    let report = engines::campaign(&options, few, |_| ControlFlow::Continue(())).unwrap();
    assert!(!report.findings.is_empty());
    for finding in &report.findings {
        let Program::Hostile(bytes) = &finding.program else { panic!("{:#?}", finding.listing()) };
        assert_eq!((finding.vector(), finding.bytecode()), (None, Some(&bytes[..])));
        let test = finding.rust_test(&finding.name());
        assert!(test.contains("hostile::assert_agreement") && test.contains(&format!("{bytes:?}")), "{test}");
        // It still shows in the surroundings that the test has; here all engines agree.
        let object = hostile::object(bytes).expect("it is one");
        hostile::assert_agreement(&object);
        let engines = vec![engine_named("interpreter").unwrap(), make];
        let seen = hostile::run_on(&object, &mut Reusable::on(engines));
        assert_ne!(seen[0], seen[1], "{:#?}", finding.listing());
    }
}

/// An interpreter that panics when it has executed a 32-bit signed shift.
#[derive(Debug)]
struct Panics(Interpreter);

impl Engine for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, _: Option<StepHook<'_>>) -> Finish {
        let mut panics = false;
        let finish = self.0.run(
            machine,
            entry,
            Some(&mut |step| panics |= matches!(step.insn, Insn::Alu { op: AluOp::Arsh, width: Width::W32, .. })),
        );
        assert!(!panics, "on purpose");
        finish
    }
}

#[test]
fn a_panic_of_an_engine_is_a_crash() {
    let make: MakeEngine = || Box::new(Panics(Interpreter::new()));
    for generator in Generator::ALL {
        // Where there is no model, the other engine says what is right.
        let interpreter = ("interpreter".to_owned(), engine_named("interpreter").unwrap());
        let mut options = engines::Options::new(vec![("panics".to_owned(), make), interpreter]);
        (options.generators, options.model, options.inputs) = (vec![generator], false, 2);
        let report = engines::campaign(&options, limits(0, 400), |_| ControlFlow::Continue(())).unwrap();
        let name = generator.name();
        assert!((1..=2).contains(&report.findings.len()), "{name}: {:?}", texts(&report));
        for finding in &report.findings {
            let text = finding.key.to_string();
            assert!(text.starts_with("arsh32") && text.ends_with("crash"), "{name}: {text}");
            assert!(finding.says.iter().any(|(_, what)| what == "panicked: on purpose"), "{name}: {:?}", finding.says);
            assert!(generator != Generator::Samples || finding.expected.is_some(), "{name}");
            replay(finding);
        }
    }
}

/// Faults planted in the JIT, with what makes such an engine.
macro_rules! faulty_jits {
    ($($fault:ident)*) => {
        [$((stringify!($fault), (|| {
            engine_with_fault(Config::default(), Fault::$fault).unwrap_or_else(|error| panic!("{error}"))
        }) as MakeEngine)),*]
    };
}

const FAULTY_JITS: [(&str, MakeEngine); 14] = faulty_jits![
    Mov32Moves64 Neg32Negates64 Add32Adds64 MovSx32Extends64 Le32CutsNothing Swap64Swaps32 SignedDivisionIsUnsigned
    ArshIsLogical AndImmZeroExtended Jump32Compares64 SgtIsUnsigned SetIsEq LoadSignLost Store64Stores32
];

/// What generated programs find is left of them when nothing more can go.
#[test]
fn faults_of_the_jit_are_found_and_made_small() {
    if softbpf_jit::engine().is_err() {
        return;
    }
    let mut large = Vec::new();
    for (name, make) in FAULTY_JITS {
        let interpreter = ("interpreter".to_owned(), engine_named("interpreter").unwrap());
        let mut options = engines::Options::new(vec![interpreter, (name.to_owned(), make)]);
        (options.model, options.inputs, options.generators) = (false, 4, vec![Generator::Samples]);
        let one = Limits { findings: 1, jobs: NonZero::<usize>::MIN, ..limits(0, 1_000) };
        let report = engines::campaign(&options, one, |_| ControlFlow::Continue(())).unwrap();
        let Some(finding) = report.findings.first() else { panic!("{name} is not found") };
        if finding.instructions() > 5 || !finding.minimised {
            large.push((name, finding.listing()));
        }
        replay(finding);
    }
    assert!(large.is_empty(), "{large:#?}");
}

/// Where bpf(2) is permitted.
#[test]
fn the_kernel_agrees() {
    let mut options = engines::Options::new(own_engines());
    (options.kernel, options.inputs, options.generators) = (true, 4, vec![Generator::Samples]);
    match engines::campaign(&options, limits(0, 100), |_| ControlFlow::Continue(())) {
        Ok(report) => {
            assert!(report.findings.is_empty(), "{:#?}", report.findings);
            let (made, accepted) = report.accepted["kernel"];
            assert!(made == 100 && accepted >= 80, "{accepted} of {made}");
        }
        Err(CampaignError::NotPermitted(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// What is saved of a finding is read again, and every engine here passes.
fn replay(finding: &Finding) {
    assert!(finding.rust_test("of_this_name").contains("fn of_this_name()"));
    let Some(text) = finding.vector() else { return };
    let cases = vectors::parse("finding.vec", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let [case] = &cases[..] else { panic!("{text}") };
    assert_eq!(Some(case.bytes()), finding.bytecode(), "{text}");
    for (name, engine) in own_engines() {
        let verdict = judge(case, &EngineSubject::new(engine).run(case));
        assert_eq!(verdict, Verdict::Passed, "{name}: {text}");
    }
}

#[test]
fn one_alone_is_nothing_to_compare() {
    let one = vec![("interpreter".to_owned(), engine_named("interpreter").unwrap())];
    let options = engines::Options { model: false, ..engines::Options::new(one) };
    let error = engines::campaign(&options, limits(0, 1), |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.to_string(), "there is only interpreter: nothing to compare it with");
}

/// Our plugin behind a script that looks at its program, a line a slot, and changes it.
fn faulty(name: &str, filter: &str) -> Plugin {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("faulty-{name}.sh"));
    let script = format!("#!/bin/sh\nfold -w 24 | {filter} | tr -d '\\n' | {PLUGIN} \"$@\"\n");
    write_executable(&path, &script);
    Plugin::new(path, Vec::new()).with_timeout(Duration::from_secs(20))
}

fn write_executable(path: &Path, text: &str) {
    std::fs::write(path, text).expect("it can be written");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("it is ours");
}

/// With time to minimise, however slow the host is.
fn only_valid() -> Options {
    Options { only_valid: true, patience: Duration::from_secs(300), ..Options::default() }
}

fn against(plugin: &Plugin, options: &Options, limits: Limits) -> Report {
    let known = against::probe(plugin, options).unwrap_or_else(|error| panic!("{error}"));
    against::campaign(plugin, &known, options, limits, |_| ControlFlow::Continue(()))
        .unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn our_plugin_is_as_the_model_says() {
    let plugin = Plugin::new(PLUGIN, Vec::new());
    let known = against::probe(&plugin, &Options::default()).unwrap();
    assert!(known.lacks.features.is_empty() && known.longest >= 8192, "{known:?}");
    let report = against(&plugin, &Options::default(), limits(0, 300));
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let (made, accepted) = report.accepted["programs"];
    assert!(accepted * 10 >= made * 9, "{accepted} of {made} programs have a result that any plugin must have");
    let (made, accepted) = report.accepted["refusals"];
    assert!(accepted * 2 >= made, "{accepted} of {made} are to be refused");
}

#[test]
fn a_wrong_operation_is_found_and_made_small() {
    // arsh32 by a register is rsh32.
    let plugin = faulty("arsh32", "sed 's/^cc /7c /'");
    let report = against(&plugin, &only_valid(), limits(0, 60));
    assert_eq!(texts(&report), ["arsh32 reg: another result"]);
    let finding = &report.findings[0];
    assert!(finding.instructions() <= 5 && finding.minimised, "{:#?}", finding.listing());
    assert_eq!(finding.says[0].0, "expected");
    replay(finding);
    // The seed is enough to find it again.
    let again = against(&plugin, &only_valid(), limits(finding.seed, 1));
    assert_eq!((&again.findings[0].program, again.findings[0].seed), (&finding.program, finding.seed));
}

#[test]
fn what_is_left_out_is_not_found() {
    let plugin = faulty("left-out", "sed 's/^cc /7c /'");
    let arsh32 = |row: &Insn| matches!(row, Insn::Alu { op: AluOp::Arsh, width: Width::W32, .. });
    let without = softbpf_conformance::coverage::every_row().into_iter().filter(arsh32).collect();
    let report = against(&plugin, &Options { only_valid: true, without, ..Options::default() }, limits(0, 24));
    assert!(report.findings.is_empty(), "{:?}", texts(&report));
}

#[test]
fn two_faults_do_not_hide_each_other() {
    // 64-bit additions of immediates add 0; xor32 of registers is or32.
    let plugin = faulty("two", "sed -e 's/^\\(07 .. .. .. \\).*/\\100 00 00 00 /' -e 's/^ac /4c /'");
    let report = against(&plugin, &only_valid(), limits(0, 240));
    // An address may be what is added to; so that there may be no result at all.
    let mut rows: Vec<String> =
        texts(&report).iter().filter_map(|text| Some(text.split_once(':')?.0.to_owned())).collect();
    rows.sort();
    rows.dedup();
    assert_eq!(rows, ["add64 imm", "xor32 reg"]);
    for finding in &report.findings {
        assert!(finding.instructions() <= 5, "{:#?}", finding.listing());
    }
}

#[test]
fn what_a_plugin_lacks_is_left_out() {
    // All that atomics have in common is their opcode.
    let plugin = faulty("lacks", "sed 's/^[cd][3b] /ff /'");
    let known = against::probe(&plugin, &Options::default()).unwrap();
    let lacks = [Feature::AtomicAdd, Feature::Atomics, Feature::Ordered];
    assert!(lacks.iter().all(|feature| known.lacks.features.contains(feature)), "{known:?}");
    let only_valid = only_valid();
    let report = against(&plugin, &only_valid, limits(0, 24));
    assert!(report.findings.is_empty(), "{:?}", texts(&report));
    let forced = Options { everything: true, knobs: Knobs { memory: false, ..only_valid.knobs }, ..only_valid };
    let report = against(&plugin, &forced, Limits { findings: 1, ..limits(0, 24) });
    assert_eq!(report.findings[0].key.kind, Kind::Refused, "{:?}", texts(&report));
}

#[test]
fn what_must_be_refused_must_be() {
    // What is reserved in operations on registers does not matter.
    let plugin = faulty("lenient", "sed 's/^\\([0-9ab][cf] ..\\).*/\\1 00 00 00 00 00 00 /'");
    let options = Options::default();
    let known = against::probe(&plugin, &options).unwrap();
    let mut found = Vec::new();
    // Every eighth program is one that must be refused.
    for seed in (7..2_000).step_by(8) {
        let report =
            against::campaign(&plugin, &known, &options, limits(seed, 1), |_| ControlFlow::Continue(())).unwrap();
        found.extend(report.findings.iter().map(|finding| finding.key.to_string()));
        report.findings.iter().for_each(replay);
    }
    assert!(found.contains(&"reserved imm (alu64): not refused".to_owned()), "{found:?}");
    assert!(found.iter().all(|text| text.contains("alu") && text.ends_with("not refused")), "{found:?}");
}

#[test]
fn crashes_and_hangs_are_told_apart() {
    let ends = |name: &str, opcode: &str, end: &str| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("faulty-{name}.sh"));
        let script = format!(
            "#!/bin/sh\nslots=$(fold -w 24)\ncase \"$slots\" in\n*\"\n{opcode} \"*) {end};;\nesac\n\
             printf %s \"$slots\" | {PLUGIN} \"$@\"\n"
        );
        write_executable(&path, &script);
        Plugin::new(path, Vec::new()).with_timeout(Duration::from_secs(3))
    };
    let knobs = Knobs { memory: false, atomics: false, calls: false, length: 4, ..Knobs::PORTABLE };
    let options =
        Options { knobs, bodies: 1, only_valid: true, everything: true, minimising: 400, ..Options::default() };
    let one = Limits { findings: 1, ..limits(0, 300) };
    let report = against(&ends("crash", "87", "kill -SEGV $$"), &options, one);
    assert_eq!(texts(&report), ["neg64: crash"]);
    assert_eq!(report.findings[0].listing().last().map(String::as_str), Some("exit"));
    assert!(report.findings[0].instructions() <= 3, "{:#?}", report.findings[0].listing());
    let hasty = Options { patience: Duration::ZERO, ..options.clone() };
    let report = against(&ends("crash", "87", "kill -SEGV $$"), &hasty, one);
    assert_eq!((report.findings[0].key.kind, report.findings[0].minimised), (Kind::Crashed, false));
    let few = Options { minimising: 4, ..options };
    let report = against(&ends("hang", "84", "exec sleep 60"), &few, one);
    let finding = &report.findings[0];
    assert_eq!((finding.key.kind, finding.minimised), (Kind::TimedOut, false), "{:?}", texts(&report));
}

#[test]
fn what_is_no_plugin_is_an_error() {
    let error = |path: &str| against::probe(&Plugin::new(path, Vec::new()), &Options::default()).unwrap_err();
    assert!(matches!(error("/nowhere/plugin"), CampaignError::Plugin(_)));
    assert_eq!(
        error("/bin/false").to_string(),
        "this is no plugin: asked for a program that returns 42, it said error: exit status 1"
    );
}
