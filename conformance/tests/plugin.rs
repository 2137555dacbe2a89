//! The plugin protocol, from both sides: the binary, and what drives it.

use std::num::NonZero;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use softbpf_conformance::case::{Case, End, Input};
use softbpf_conformance::plugin::{Plugin, serve};
use softbpf_conformance::report::{Report, junit, run};
use softbpf_conformance::subject::{Answer, Subject};
use softbpf_conformance::suite::{OWN, Suite};
use softbpf_conformance::vectors;
use softbpf_conformance::verdict::{Verdict, compare, judge};

const PLUGIN: &str = env!("CARGO_BIN_EXE_bpf-conformance-plugin");

/// `r0 = r1; r0 = *(u64 *)(r1 + 0)` only with memory, by its bytes.
const LOAD: &str = "79 10 00 00 00 00 00 00 95 00 00 00 00 00 00 00";

fn ask(args: &[&str], input: &str) -> Result<u64, String> {
    serve(args.iter().map(|&arg| arg.to_owned()), input.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn the_protocol() {
    assert_eq!(ask(&["01 02 03 04 05 06 07 08"], LOAD), Ok(0x0807_0605_0403_0201));
    assert_eq!(ask(&["0102030405060708", "--program", LOAD], ""), Ok(0x0807_0605_0403_0201));
    assert_eq!(ask(&["--engine=interpreter"], "b7 00 00 00 2a 00 00 00 95 00 00 00 00 00 00 00"), Ok(42));
    // mov r0, r2: the length.
    assert_eq!(ask(&["00 00 00"], "bf 20 00 00 00 00 00 00 95 00 00 00 00 00 00 00"), Ok(3));
    // Shifts by immediates are masked; helper 5 gives back its argument.
    assert_eq!(ask(&[], "b7 00 00 00 01 00 00 00 67 00 00 00 41 00 00 00 95 00 00 00 00 00 00 00"), Ok(2));
    assert_eq!(ask(&[], "b7 01 00 00 09 00 00 00 85 00 00 00 05 00 00 00 95 00 00 00 00 00 00 00"), Ok(9));
}

#[test]
fn errors_are_said() {
    let error = |args: &[&str], input| ask(args, input).unwrap_err();
    assert_eq!(error(&[], LOAD), "trap: null at 0 (invalid read of 8 bytes at 0x0: null pointer), 1 instructions");
    assert_eq!(error(&[], "ff 00 00 00 00 00 00 00"), "rejected: unknown opcode at 0 (unknown opcode 0xff)");
    assert_eq!(error(&[], "xyz"), "the program is not in hex: \"xyz\"");
    assert_eq!(error(&["q"], LOAD), "the memory is not in hex: \"q\"");
    assert_eq!(error(&["--frob"], LOAD), "unknown option --frob");
    assert_eq!(error(&["00", "01"], LOAD), "one argument too many: \"01\"");
    assert_eq!(error(&["--engine"], LOAD), "--engine needs a value");
    let names = "interpreter, jit, jit-unproved, jit-baseline and auto";
    assert_eq!(error(&["--engine", "warp"], LOAD), format!("there is no engine \"warp\"; there are {names}"));
    assert!(error(&["--elf"], "00").contains("ELF"), "{}", error(&["--elf"], "00"));
}

#[test]
fn an_elf_file() {
    let ask_elf = |name: &str, memory: &str| {
        let bytes = std::fs::read(softbpf_conformance::fixture_path(name)).expect("the fixture is there");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x} ")).collect();
        ask(&[memory, "--elf"], &hex)
    };
    // The first of its programs.
    assert_eq!(ask_elf("cpuv4.bpf.o", ""), Ok(0xbf8c_9d32));
    // This one has maps, which the file brings with it.
    assert_eq!(ask_elf("xdp_count.bpf.o", "10 00 00 00 00 00 00 00"), Ok(2));
}

#[test]
fn the_binary() {
    let output = Command::new(PLUGIN)
        .args(["01 02 03 04 05 06 07 08", "--program", LOAD])
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"807060504030201\n"[..]));
    let output = Command::new(PLUGIN).args(["--program", LOAD]).stdin(Stdio::null()).output().expect("it starts");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    assert!(output.stderr.starts_with(b"trap: null at 0"));
}

#[test]
fn our_plugin_passes_our_vectors_through_the_protocol() {
    let mut plugin = Plugin::new(PLUGIN, vec!["--engine".to_owned(), "interpreter".to_owned()]);
    let mut skipped = 0;
    for (file, text) in OWN.iter().filter(|(file, _)| ["call.vec", "linux.vec", "packet.vec"].contains(file)) {
        for case in vectors::parse(file, text).unwrap() {
            match judge(&case, &plugin.run(&case)) {
                Verdict::Passed => {}
                Verdict::Failed(difference) => panic!("{}: {difference:?}", case.title),
                Verdict::Skipped { .. } => skipped += 1,
            }
        }
    }
    // The packets, and calls of helpers.
    assert!((100..200).contains(&skipped), "{skipped}");
}

#[test]
fn a_plugin_that_is_not_there_or_babbles() {
    let cases = vectors::parse("t.vec", "== five\n    r0 = 5\n    exit\nr0: 5\n").unwrap();
    let nowhere = Plugin::new("/nowhere/plugin", Vec::new()).run(&cases[0]);
    assert_eq!(nowhere.to_string(), "crashed: cannot run /nowhere/plugin: No such file or directory (os error 2)");
    let report = run(&cases, &mut Plugin::new("/bin/echo", vec!["five".to_owned()]), None, || ());
    let (_, difference) = report.failures().next().expect("it fails");
    assert_eq!(difference.got, "error: not a number in hex: \"five\"");
    let xml = junit(&[report]);
    assert!(
        xml.contains("failures=\"1\"") && xml.contains("got error: not a number in hex: &quot;five&quot;"),
        "{xml}"
    );
}

/// A shell as the plugin. Its cases have no memory, whose bytes would come before these arguments.
fn shell(script: &str, timeout: Duration) -> Plugin {
    Plugin::new("/bin/sh", vec!["-c".to_owned(), script.to_owned()]).with_timeout(timeout)
}

/// One case that must fail to load, one that must be stopped, one that may fail in any way, and one that returns 5.
fn endings() -> Vec<Case> {
    let own = "== no\n    slot 0x95 imm=7\nreject: reserved imm at 0\n\n== stop\n    r0 = *(u8 *)(r1 + 0)\n    \
               exit\ntrap: null at 0\n\n== five\n    r0 = 5\n    exit\nr0: 5\n";
    let mut cases = vectors::parse("t.vec", own).unwrap();
    let mut any = cases[0].clone();
    any.expect.end = End::Fails;
    cases.insert(2, any);
    cases
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_crash_passes_no_case() {
    for (script, timeout, said) in [
        ("kill -SEGV $$", SECOND * 10, "crashed: signal 11"),
        ("echo broken >&2; kill -ABRT $$", SECOND * 10, "crashed: signal 6: broken"),
        ("sleep 60", SECOND / 4, "crashed: no answer within 0.25 s"),
        ("exec sleep 60", SECOND, "crashed: no answer within 1 s"),
    ] {
        let mut plugin = shell(script, timeout);
        for case in endings() {
            let answer = plugin.run(&case);
            assert_eq!(answer.to_string(), said, "{script}");
            assert!(judge(&case, &answer).difference().is_some(), "{script}: {}", case.title);
            // Nor does it agree with anybody, not even with another crash.
            assert!(compare(&answer, &answer).difference().is_some());
            let failed = Answer::Failed { message: String::new() };
            assert!(compare(&failed, &answer).difference().is_some());
        }
    }
}

#[test]
fn a_failure_passes_where_one_is_expected() {
    let mut plugin = shell("exit 3", SECOND * 10);
    for case in endings() {
        let answer = plugin.run(&case);
        assert_eq!(answer.to_string(), "error: exit status 3");
        assert_eq!(judge(&case, &answer) == Verdict::Passed, case.title != "five");
    }
}

#[test]
fn what_a_plugin_leaves_behind_holds_nobody_up() {
    let case = endings().pop().expect("there is one");
    let start = Instant::now();
    assert_eq!(shell("sleep 60 & echo 5", SECOND * 30).run(&case).to_string(), "r0 = 0x5");
    assert_eq!(shell("sleep 60 & sleep 60", SECOND / 4).run(&case).to_string(), "crashed: no answer within 0.25 s");
    assert!(start.elapsed() < SECOND * 20, "{:?}", start.elapsed());
}

fn run_all<'s>(plugin: &Plugin, cases: &'s [Case], jobs: usize) -> Result<Report<'s>, String> {
    let jobs = NonZero::new(jobs).expect("it is not 0");
    plugin.run_all(cases, jobs, None, || ()).map_err(|error| error.to_string())
}

/// Nobody is left to kill it when we are killed.
#[cfg(target_os = "linux")]
#[test]
fn a_plugin_cannot_use_the_processor_for_ever() {
    let cases = endings();
    let five = cases.last().expect("there are some");
    // Standard input comes when the limit has been set.
    let mut limited = shell("cat >/dev/null; printf %x $(ulimit -t)", 3 * SECOND);
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let answer = limited.run(five);
    assert!(matches!(answer, Answer::Returned { r0, .. } if r0 == 5 * cpus), "{answer:?}");
}

#[test]
fn a_plugin_that_cannot_be_run_ends_it_all() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join("not-executable.sh");
    std::fs::write(&file, "#!/bin/sh\necho 5\n").expect("it can be written");
    let cases = endings();
    for (path, said) in [
        (Path::new("/nowhere/plugin"), "No such file or directory (os error 2)"),
        (&file, "Permission denied (os error 13)"),
        (folder, "is a directory"),
    ] {
        let error = run_all(&Plugin::new(path, Vec::new()), &cases, 2).unwrap_err();
        assert_eq!(error, format!("cannot run {}: {said}", path.display()));
    }
}

#[test]
fn a_case_with_too_much_memory_for_an_argument_is_skipped() {
    let mut cases = endings();
    cases[0].input = Input::Memory(vec![0; 1 << 20]);
    let report = run_all(&Plugin::new("/bin/false", Vec::new()), &cases, 2).unwrap();
    assert_eq!(report.results[0].skipped(), Some("its memory is too long to be an argument"));
    assert_eq!((report.counts().passed, report.counts().failed), (2, 1));
}

#[test]
fn a_plugin_that_never_answers_is_given_up() {
    let cases: Vec<Case> = endings().into_iter().cycle().take(100).collect();
    for jobs in [1, 3] {
        let error = run_all(&shell("sleep 60", SECOND / 10), &cases, jobs).unwrap_err();
        assert_eq!(error, "/bin/sh gave no answer within 0.1 s for 5 cases in a row; giving up");
    }
    // Four in a row are not yet too many.
    let report = run_all(&shell("sleep 60", SECOND / 10), &cases[..4], 3).unwrap();
    assert_eq!(report.counts().failed, 4);
}

#[test]
fn the_report_is_the_same_however_many_run_at_once() {
    let cases = vectors::parse("alu.vec", "== {a}\n    r0 = {a}\n    exit\neach a: 0 1 2 3 4 5 6 7\nr0: 4\n").unwrap();
    let plugin = Plugin::new(PLUGIN, Vec::new());
    let one = junit(&[run_all(&plugin, &cases, 1).unwrap()]);
    assert!(one.contains("tests=\"8\" failures=\"7\""), "{one}");
    for jobs in [2, 5, 100] {
        let mut done = 0;
        let report = plugin.run_all(&cases, NonZero::new(jobs).expect("it is not 0"), None, || done += 1).unwrap();
        assert_eq!(junit(&[report]), one);
        assert_eq!(done, 8);
    }
    // As if it were any subject.
    assert_eq!(junit(&[run(&cases, &mut plugin.clone(), None, || ())]), one);
}

#[test]
fn endless_output_is_dropped() {
    let case = endings().pop().expect("there is one");
    let answer = shell("yes", SECOND / 4).run(&case);
    assert_eq!(answer.to_string(), "crashed: no answer within 0.25 s");
    let answer = shell("yes | head -c 10000000", SECOND * 30).run(&case);
    assert!(answer.to_string().starts_with("error: not a number in hex") && answer.to_string().len() < 1 << 18);
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let suite = Suite::load("/nowhere".as_ref());
    assert!(suite.cases.is_empty());
    assert!(suite.unreadable[0].to_string().starts_with("/nowhere: "));
}
