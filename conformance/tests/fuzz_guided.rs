//! Fuzzing of one program: planted bugs are found soon, and what is right is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use softbpf::context::PtRegs;
use softbpf::machine::DEFAULT_CPUS;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::memory::FaultKind;
use softbpf::object::MAIN;
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object, Outcome, TrapKind};
use softbpf_conformance::fixture;
use softbpf_conformance::fuzz::guided::{
    Ask, Campaign, Data, Element, Event, Executor, Finding, Input, Key, Options, Summary, Target,
};

/// Within so many executions each planted bug is found.
const RUNS: u64 = 10_000;

const VERDICTS: &str = "ret in {1,2}";

fn target(object: Object, program: &str, data: Data) -> Target {
    Target {
        object,
        program: Arc::from(program),
        cpus: DEFAULT_CPUS,
        strict: false,
        fuel: 20_000,
        mocks: Vec::new(),
        base: Input::new(data),
        pinned: BTreeSet::new(),
    }
}

fn parser(program: &str) -> Target {
    target(fixture("xdp_parse_bug.bpf.o"), program, Data::packet([]))
}

/// A program of assembly text on a context of so many bytes.
fn text(text: &str, maps: Vec<MapSpec>, context: usize) -> Target {
    let object = Object::assemble(text, ProgramType::Tracepoint, maps).unwrap_or_else(|error| panic!("{error}"));
    target(object, MAIN, Data::Bytes(vec![0; context]))
}

fn options(seed: u64) -> Options {
    let expected = VERDICTS.parse().unwrap_or_else(|error| panic!("{error}"));
    Options { runs: Some(RUNS), seed, expected: Some(expected), ..Options::default() }
}

fn fuzz(target: Target, options: Options) -> Summary {
    let campaign = Campaign::new(target, options).unwrap_or_else(|error| panic!("{error}"));
    campaign.run(|_| ControlFlow::Continue(())).unwrap_or_else(|error| panic!("{error}"))
}

/// The only finding.
fn finding(target: &Target, options: Options) -> Finding {
    let mut findings = fuzz(target.clone(), options).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    let finding = findings.remove(0);
    // It is what its input does, on a machine of its own.
    let mut vm = Machine::load(&target.object).unwrap_or_else(|error| panic!("{error}"));
    vm.fuel = target.fuel;
    assert_eq!(finding.input.prepare(&mut vm), Ok(()));
    assert_eq!(vm.run(&target.program, &finding.input.data).ok(), finding.outcome.clone().ok());
    finding
}

fn len(finding: &Finding) -> usize {
    finding.input.data.bytes().map_or(0, Vec::len)
}

#[test]
fn a_missing_bounds_check_is_found() {
    for seed in 0..3 {
        let found = finding(&parser("parse_missing_check"), options(seed));
        let trap = found.outcome.as_ref().ok().and_then(Outcome::trap).unwrap_or_else(|| panic!("no trap: {found:?}"));
        assert_eq!(trap.kind.fault().map(|fault| fault.kind), Some(FaultKind::OutOfBounds), "{trap}");
        assert!(trap.line.as_ref().is_some_and(|line| line.text.contains("u8 kind = at[0]")), "{trap:?}");
        // Ethernet, IPv4 and TCP without options.
        assert_eq!(len(&found), 14 + 20 + 20);
        let set = found.input.data.bytes().into_iter().flatten().filter(|&&byte| byte != 0).count();
        assert!(set <= 8, "{:x?}", found.input.data);
    }
}

#[test]
fn a_loop_without_an_end_is_found() {
    let found = finding(&parser("parse_endless"), options(1));
    assert!(matches!(&found.key, Key::Endless { program, .. } if &**program == "parse_endless"), "{:?}", found.key);
    assert!(len(&found) < 70, "{:x?}", found.input.data);
}

#[test]
fn an_odd_verdict_is_found() {
    let found = finding(&parser("parse_odd_verdict"), options(1));
    assert_eq!(
        (&found.key, found.outcome.as_ref().map(|outcome| &outcome.ret)),
        (&Key::Unexpected { value: 6 }, Ok(&Ok(6)))
    );
    assert!(len(&found) <= 14 + 2 * 4 + 40 + 8, "{:x?}", found.input.data);
    // Without an expectation, any result is right.
    assert_eq!(fuzz(parser("parse_odd_verdict"), Options { expected: None, ..options(1) }).findings, []);
}

#[test]
fn what_is_right_has_no_findings() {
    let summary = fuzz(parser("parse_right"), options(1));
    assert_eq!((summary.findings, summary.stats.executions), (Vec::new(), RUNS));
    let covered = summary.stats.covered;
    assert!(covered.edges * 10 >= covered.of_edges * 9, "{covered:?}");
}

#[test]
fn a_seed_gives_the_same_campaign_again() {
    let run = |seed| {
        let mut kept = Vec::new();
        let options = Options { keep_going: true, ..options(seed) };
        let campaign = Campaign::new(parser("parse_missing_check"), options).unwrap_or_else(|error| panic!("{error}"));
        let summary = campaign.run(|event| {
            if let Event::Kept(input) = event {
                kept.push(input.clone());
            }
            ControlFlow::Continue(())
        });
        let summary = summary.unwrap_or_else(|error| panic!("{error}"));
        (kept, summary.findings, summary.stats.covered, summary.lines_never_run)
    };
    let first = run(7);
    assert!(first.1.len() > 1, "the bug shows in more than one place: {:?}", first.1);
    assert_eq!(run(7), first);
    assert_ne!(run(8).0, first.0);
}

#[test]
fn threads_share_what_they_find() {
    let jobs = NonZero::new(3).unwrap_or(NonZero::<usize>::MIN);
    for program in ["parse_missing_check", "parse_odd_verdict"] {
        let summary = fuzz(parser(program), Options { jobs, ..options(1) });
        assert!(!summary.findings.is_empty(), "{program}");
    }
    let summary = fuzz(parser("parse_right"), Options { jobs, ..options(1) });
    assert_eq!((summary.findings, summary.stats.executions), (Vec::new(), RUNS));
}

#[test]
fn time_ends_a_campaign() {
    let begin = Instant::now();
    let spin = text("again: goto again", Vec::new(), 8);
    let time = Some(Duration::from_millis(200));
    let summary = fuzz(Target { fuel: 1_000_000, ..spin }, Options { time, keep_going: true, ..Options::default() });
    assert_eq!(summary.findings.len(), 1);
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[test]
fn a_program_that_always_traps_is_fuzzed_on() {
    let object = fixture("faults.bpf.o");
    let always = target(object, "deep_recursion", Data::Registers(PtRegs::new()));
    let summary = fuzz(always, Options { keep_going: true, runs: Some(500), ..Options::default() });
    assert_eq!((summary.findings.len(), summary.stats.corpus, summary.stats.executions), (1, 0, 500));
}

#[test]
fn uninitialised_bytes_are_a_finding_where_that_is_wanted() {
    let sloppy = |strict| {
        let object = fixture("faults.bpf.o");
        let target = target(object, "uninitialised_stack", Data::Registers(PtRegs::new()));
        let summary = fuzz(Target { strict, ..target }, Options { runs: Some(100), ..Options::default() });
        summary.findings.into_iter().map(|found| found.key).collect::<Vec<_>>()
    };
    assert_eq!(sloppy(false), []);
    assert!(matches!(&sloppy(true)[..], [Key::Trap { kind: "read-uninitialised", .. }]), "{:?}", sloppy(true));
}

#[test]
fn whoever_watches_can_end_it() {
    let campaign = Campaign::new(parser("parse_right"), Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let summary = campaign.run(|_| ControlFlow::Break(())).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(summary.findings, []);
}

#[test]
fn a_panic_of_whoever_watches_ends_it() {
    let campaign = Campaign::new(parser("parse_right"), Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let watch = std::panic::AssertUnwindSafe(|| campaign.run(|_| panic!("no more")));
    assert!(std::panic::catch_unwind(watch).is_err());
}

#[test]
fn registers_are_varied() {
    let magic = "r2 = *(u64 *)(r1 + 104)\n r3 = 0x1234567890abcdef ll\n if r2 != r3 goto out\n r0 = *(u8 *)(r2 + 0)\n out: r0 = 1\n exit";
    let object = Object::assemble(magic, ProgramType::Kprobe, Vec::new()).unwrap_or_else(|error| panic!("{error}"));
    let found = finding(&target(object, MAIN, Data::Registers(PtRegs::new())), options(1));
    // `si` is there, and nothing else.
    assert_eq!(found.input.data, Data::Registers(PtRegs::new().parm(2, 0x1234_5678_90ab_cdef)));
}

/// Looks a key up, which the context has, and divides a map value's claim by a load behind it.
const LOOKUP: &str = "r1 = *(u64 *)(r1 + 8)\n *(u64 *)(r10 - 8) = r1\n r2 = r10\n r2 += -8\n ld_pseudo r1, 0x1, 0x0, 0x0\n \
    call map_lookup_elem\n if r0 == 0 goto out\n r2 = *(u32 *)(r0 + 4)\n if r2 != 0xfeed goto out\n \
    r0 = *(u8 *)(r0 + 8)\n out: r0 = 1\n exit";

fn table() -> Vec<MapSpec> {
    vec![MapSpec::new("table", MapType::Hash, 8, 8, 16)]
}

#[test]
fn elements_are_put_where_the_program_looks() {
    let target = text(LOOKUP, table(), 16);
    let found = finding(&target, options(1));
    let [Element { map, value, .. }] = &found.input.elements[..] else { panic!("{:?}", found.input) };
    assert_eq!((&**map, &value[..]), ("table", &[0, 0, 0, 0, 0xed, 0xfe, 0, 0][..]));
}

#[test]
fn elements_that_the_user_gives_stay() {
    let mut target = text(LOOKUP, table(), 16);
    let element = Element { map: Arc::from("table"), key: vec![0; 8], value: vec![1; 8] };
    target.base.elements.push(element.clone());
    let campaign = Campaign::new(target, options(1)).unwrap_or_else(|error| panic!("{error}"));
    let mut kept = 0;
    let summary = campaign.run(|event| {
        if let Event::Kept(input) = event {
            assert_eq!(input.elements, std::slice::from_ref(&element));
            kept += 1;
        }
        ControlFlow::Continue(())
    });
    assert_eq!(summary.map(|summary| summary.findings).ok(), Some(Vec::new()));
    assert!(kept > 1);
}

#[test]
fn memory_is_placed_where_helpers_read() {
    // A pointer in a register, behind which a pointer, behind which a word.
    let chase = "r3 = *(u64 *)(r1 + 112)\n r1 = r10\n r1 += -8\n r2 = 8\n call probe_read_kernel\n if r0 != 0 goto out\n \
        r3 = *(u64 *)(r10 - 8)\n r1 = r10\n r1 += -8\n r2 = 8\n call probe_read_kernel\n if r0 != 0 goto out\n \
        r1 = *(u32 *)(r10 - 8)\n if r1 != 0xbeef goto out\n r0 = *(u8 *)(r1 + 0)\n out: r0 = 1\n exit";
    let object = Object::assemble(chase, ProgramType::Kprobe, Vec::new()).unwrap_or_else(|error| panic!("{error}"));
    let found = finding(&target(object, MAIN, Data::Registers(PtRegs::new())), options(1));
    let [first, second] = &found.input.memory[..] else { panic!("{:?}", found.input) };
    assert_eq!(first.bytes, second.addr.to_le_bytes());
    assert_eq!(second.bytes[..4], 0xbeef_u32.to_le_bytes());
}

#[test]
fn global_data_is_varied() {
    let deep = "ld_pseudo r1, 0x2, 0x0, 0x0\n r2 = *(u16 *)(r1 + 2)\n if r2 < 0x7001 goto out\n again: goto again\n out: r0 = 1\n exit";
    let found = finding(&text(deep, vec![MapSpec::new("data", MapType::Array, 4, 8, 1)], 8), options(1));
    assert!(matches!(found.key, Key::Endless { .. }), "{:?}", found.key);
}

#[test]
fn the_world_is_varied_unless_it_is_pinned() {
    let root =
        "call get_current_uid_gid\n w0 = w0\n if r0 != 4242 goto out\n r0 = *(u8 *)(r0 + 0)\n out: r0 = 1\n exit";
    let target = text(root, Vec::new(), 8);
    assert_eq!(finding(&target, options(1)).input.world.task.uid.0, 4242);
    let pinned = Target { pinned: BTreeSet::from([Ask::Uids]), ..target };
    assert_eq!(fuzz(pinned, options(1)).findings, []);
}

#[test]
fn every_fixture_can_be_fuzzed() {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let kprobes = Data::Registers(PtRegs::new());
    let cases = [
        ("tracex4_kern.o", "bpf_prog1", kprobes.clone()),
        ("readlinkat.bpf.o", "trace_readlinkat", kprobes.clone()),
        ("tailcall.bpf.o", "open_enter", kprobes.clone()),
        ("events.bpf.o", "on_openat", Data::Bytes(vec![0; 64])),
        ("xdp_count.bpf.o", "xdp_count", Data::packet([])),
        ("packet.bpf.o", "legacy_loads", Data::packet([])),
        ("callbacks.bpf.o", "each_element", Data::packet([])),
        ("faults.bpf.o", "past_map_value", kprobes.clone()),
        ("faults.bpf.o", "past_packet_end", Data::packet([])),
        ("faults.bpf.o", "endless_loop", kprobes.clone()),
        ("faults.bpf.o", "deep_recursion", kprobes),
    ];
    for (object, program, data) in cases {
        let options = Options { runs: Some(300), ..Options::default() };
        let summary = fuzz(target(fixture(object), program, data), options);
        assert!(summary.stats.covered.edges > 0, "{program}");
        found.insert(program.to_owned(), summary.findings.len());
    }
    let wrong: Vec<_> = found.iter().filter(|(_, count)| **count > 0).map(|(name, _)| &name[..]).collect();
    assert_eq!(wrong, ["deep_recursion", "endless_loop", "past_map_value", "past_packet_end"]);
}

#[test]
fn runs_start_from_the_same_state() {
    let target = Arc::new(target(fixture("xdp_count.bpf.o"), "xdp_count", Data::packet([7; 64])));
    let mut executor = Executor::new(&target).unwrap_or_else(|error| panic!("{error}"));
    let mut run = || {
        let outcome = executor.run(&target.base).unwrap_or_else(|error| panic!("{error}"));
        (outcome, executor.taken().collect::<Vec<_>>())
    };
    let first = run();
    assert!(!first.1.is_empty());
    for _ in 0..3 {
        assert_eq!(run(), first);
    }
}

#[test]
fn what_cannot_run_is_refused() {
    let kprobe = target(fixture("xdp_parse_bug.bpf.o"), "parse_right", Data::Registers(PtRegs::new()));
    assert!(Campaign::new(kprobe, Options::default()).is_err());
    assert!(Campaign::new(parser("no_such_program"), Options::default()).is_err());
    let mut odd = text(LOOKUP, table(), 16);
    odd.base.elements.push(Element { map: Arc::from("table"), key: vec![0; 3], value: vec![1; 8] });
    assert!(Campaign::new(odd, Options::default()).is_err());
}

#[test]
fn the_fuel_is_the_limit() {
    let found = finding(&parser("parse_endless"), options(2));
    let kind = found.outcome.as_ref().ok().and_then(Outcome::trap).map(|trap| trap.kind.clone());
    assert_eq!(kind, Some(TrapKind::OutOfFuel { budget: 20_000 }));
}

#[test]
fn a_length_that_a_packet_must_have_becomes_small_with_it() {
    // The first two bytes are the length of the packet; those of 9 bytes or more go wrong.
    let text = "r2 = *(u32 *)(r1 + 0)\n r3 = *(u32 *)(r1 + 4)\n r0 = 1\n r4 = r2\n r4 += 2\n if r4 > r3 goto out
        r4 = *(u16 *)(r2 + 0)\n r4 = be16 r4\n r3 -= r2\n if r4 != r3 goto out\n if r3 < 9 goto out\n r0 = 7\n out: exit";
    let object = Object::assemble(text, ProgramType::Xdp, Vec::new()).unwrap_or_else(|error| panic!("{error}"));
    let mut packet = vec![0x5a; 1000];
    packet[..2].copy_from_slice(&1000_u16.to_be_bytes());
    let seeds = vec![Input::new(Data::packet(packet))];
    let found = finding(&target(object, MAIN, Data::packet([])), Options { seeds, ..options(1) });
    assert_eq!(found.input.data.bytes(), Some(&vec![0, 9, 0, 0, 0, 0, 0, 0, 0]));
}
