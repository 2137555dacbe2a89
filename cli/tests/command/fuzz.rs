//! `softbpf fuzz`: what it says, what it writes, and that this can be replayed. Times are masked.

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect, expect_file};
use serde_json::Value;

use super::bench::keys;
use super::{check, check_file, scratch, softbpf, transcript};

/// The tests that `softbpf fuzz` has written compile, and show what was found.
mod emitted {
    include!("fuzz/packet.rs");
    include!("fuzz/state.rs");
    include!("fuzz/memory.rs");
}

/// Inputs within which the planted bugs are found.
const RUNS: [&str; 4] = ["--runs", "20000", "--jobs", "1"];

/// Looks an element up that must be there, for one user only, and trips over its value.
const STATE: &[u8] = b"call get_current_uid_gid\nw0 = w0\nif r0 != 4242 goto out\nr2 = 7\n*(u32 *)(r10 - 4) = r2\nr2 = r10\nr2 += -4\n\
    ld_pseudo r1, 0x1, 0x0, 0x0\ncall map_lookup_elem\nif r0 == 0 goto out\nr1 = *(u64 *)(r0 + 0)\nif r1 != 0x1234 goto out\n\
    r0 = *(u8 *)(r1 + 0)\nout: r0 = 0\nexit\n";

/// Reads a word behind a parameter, and trips over it.
const MEMORY: &[u8] =
    b"r3 = *(u64 *)(r1 + 112)\nr1 = r10\nr1 += -8\nr2 = 8\ncall probe_read_kernel\nr1 = *(u64 *)(r10 - 8)\n\
    if r1 != 0xbeef goto out\nr0 = *(u8 *)(r1 + 0)\nout: r0 = 0\nexit\n";

/// An empty folder.
fn empty(test: &str) -> PathBuf {
    let folder = scratch(test);
    std::fs::remove_dir_all(&folder).expect("it can be removed");
    scratch(test)
}

/// Runs the command in the crate's folder, where its tests run too.
fn fuzz(args: &[&str], folder: &Path) -> String {
    let mut command = softbpf(&[&["fuzz"], args, &RUNS].concat());
    transcript(&command.arg("--out").arg(folder).current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("it starts"))
}

/// Text without what differs from run to run: times, and the folder.
fn lasting(text: &str, folder: &Path) -> String {
    let line = |line: &str| match line.strip_prefix("inputs    ").and_then(|rest| rest.split_once(" in ")) {
        Some((inputs, _)) => format!("inputs    {inputs} in # s, # a second\n"),
        None => format!("{line}\n"),
    };
    text.replace(folder.to_str().expect("text"), "OUT").lines().map(line).collect()
}

fn check_fuzz(args: &[&str], test: &str, expected: Expect) -> PathBuf {
    let folder = empty(test);
    expected.assert_eq(&lasting(&fuzz(args, &folder), &folder));
    folder
}

fn replay(object: &str, file: &Path, more: &[&str]) -> String {
    let file = file.to_str().expect("text");
    transcript(&softbpf(&[&["run", object, "--input", file], more].concat()).output().expect("it starts"))
}

#[test]
fn a_missing_bounds_check_is_found_and_replayed() {
    const OBJECT: &str = "../conformance/objects/xdp_parse_bug.bpf.o";
    let folder = check_fuzz(
        &[OBJECT, "parse_missing_check"],
        "fuzz-packet",
        expect![[r#"
            error: invalid read of 1 byte at 0x1001f6: out of bounds
              --> ./xdp_parse_bug.bpf.c:92:13
               |
            92 | u8 kind = at[0], length;
               |           ^
              = at slot 129 of parse_missing_check: w4 = *(u8 *)(r3 + 0x0)
              = the address is 1 byte past the end of the packet (54 bytes at 0x1001c0)
              = help: compare the end of what is read with data_end before reading it

               r0 0x2                  r1 0x1001fa             r2 0x28                 r3 0x1001f6
               r4 0x2                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

            found     after 926 inputs; made small: a packet of 54 bytes
            replay    softbpf run ../conformance/objects/xdp_parse_bug.bpf.o parse_missing_check --input OUT/parse_missing_check-read-out-of-bounds-129.json
            as test   OUT/parse_missing_check-read-out-of-bounds-129.rs

            program   parse_missing_check (xdp)
            inputs    926 in # s, # a second
            coverage  76 of 95 edges
            kept      27 inputs
            findings  1
            --- status 1
        "#]],
    );
    let name = |extension| folder.join(format!("parse_missing_check-read-out-of-bounds-129.{extension}"));
    let test = std::fs::read_to_string(name("rs")).expect("the test");
    expect_file!["fuzz/packet.rs"].assert_eq(&test);
    let file = name("json");
    let text = replay("xdp_parse_bug.bpf.o", &file, &["parse_missing_check"]);
    assert!(text.contains("error: invalid read of 1 byte at") && text.contains("xdp_parse_bug.bpf.c:92"), "{text}");
    assert!(text.ends_with("--- status 1\n"), "{text}");
    let text = replay("xdp_parse_bug.bpf.o", &file, &["parse_right"]);
    assert!(text.contains("returned      2 (0x2), XDP_PASS"), "{text}");
}

/// A copy of an object in which the program `parse_missing_check` has another name of the same length.
fn renamed(name: &[u8; 19], file: &Path) {
    const OLD: &[u8; 19] = b"parse_missing_check";
    let mut bytes = std::fs::read("../conformance/objects/xdp_parse_bug.bpf.o").expect("the fixture");
    for at in 0..bytes.len() - OLD.len() {
        if bytes[at..].starts_with(OLD) {
            bytes[at..at + OLD.len()].copy_from_slice(name);
        }
    }
    std::fs::write(file, bytes).expect("it can be written");
}

/// Where names of files may have line breaks.
#[cfg(unix)]
#[test]
fn hostile_names_stay_names() {
    let folder = empty("fuzz-names");
    let file = folder.join("it's odd\n.o");
    renamed(b"0a\n$();missing_chec", &file);
    let text = fuzz(&[file.to_str().expect("text"), "0a\n$();missing_chec"], &folder.join("out"));
    let name = "_0a_____missing_chec-read-out-of-bounds-129";
    assert!(text.contains(&format!("{name}.rs\n")), "{text}");
    assert!(text.contains("it'\\''s odd\u{fffd}.o' '0a\u{fffd}$();missing_chec' --input "), "{text}");
    let test = std::fs::read_to_string(folder.join(format!("out/{name}.rs"))).expect("the test");
    let lines: Vec<&str> = test.lines().take(3).collect();
    assert!(lines[0].starts_with("/// Found by `softbpf fuzz` in program 0a\u{fffd}$();missing_chec of "), "{test}");
    assert!(lines[0].ends_with("it's odd\u{fffd}.o."), "{test}");
    let function = format!("fn {}() -> Result<(), Box<dyn std::error::Error>> {{", name.replace('-', "_"));
    assert_eq!(lines[1..], ["#[test]", &function]);
}

#[test]
fn findings_of_other_objects_stay() {
    let folder = empty("fuzz-others");
    let (dollar, underscore) = (folder.join("dollar.o"), folder.join("underscore.o"));
    renamed(b"parse$missing_check", &dollar);
    renamed(b"parse_missing_check", &underscore);
    let found = |file: &Path, program: &str| {
        let text = fuzz(&[file.to_str().expect("text"), program], &folder.join("out"));
        let test = text.lines().find_map(|line| line.strip_prefix("as test   ")).expect("a finding").to_owned();
        test.rsplit('/').next().expect("a name").to_owned()
    };
    let first = "parse_missing_check-read-out-of-bounds-129.rs";
    assert_eq!(found(&dollar, "parse$missing_check"), first);
    assert_eq!(found(&underscore, "parse_missing_check"), "parse_missing_check-read-out-of-bounds-129_2.rs");
    // The same again is no other.
    assert_eq!(found(&dollar, "parse$missing_check"), first);
    assert_eq!(std::fs::read_dir(folder.join("out")).expect("a folder").count(), 4);
    let second = folder.join("out/parse_missing_check-read-out-of-bounds-129_2.rs");
    let test = std::fs::read_to_string(second).expect("the test");
    assert!(test.contains("fn parse_missing_check_read_out_of_bounds_129_2()"), "{test}");
}

#[test]
fn maps_and_world_are_replayed() {
    let folder = empty("fuzz-state");
    // Under a name that is the same wherever the test is run from.
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command/fuzz/state.s");
    expect_file!["fuzz/state.s"].assert_eq(std::str::from_utf8(STATE).expect("text"));
    let options = ["--type", "tracepoint", "--create", "table=hash:4:8:16"];
    let text = fuzz(&[&["tests/command/fuzz/state.s"], &options[..]].concat(), &folder);
    assert!(text.contains("made small: a context of 64 bytes, 1 map element"), "{text}");
    let again = "main-read-null-13.json --type tracepoint --create table=hash:4:8:16\n";
    assert!(text.contains("softbpf run tests/command/fuzz/state.s main --input") && text.contains(again), "{text}");
    let test = std::fs::read_to_string(folder.join("main-read-null-13.rs")).expect("the test");
    expect_file!["fuzz/state.rs"].assert_eq(&test);
    let file = folder.join("main-read-null-13.json");
    let source = source.to_str().expect("text");
    let text = replay(source, &file, &options);
    assert!(text.contains("error: invalid read of 1 byte at 0x1234: null pointer"), "{text}");
    // What the command line says goes over what the file says.
    let text = replay(source, &file, &[&options[..], &["--uid", "1"]].concat());
    assert!(text.contains("returned      0 (0x0)"), "{text}");
    let text = replay(source, &file, &[&options[..], &["--map", "table=7:1"]].concat());
    assert!(text.contains("returned      0 (0x0)"), "{text}");
}

#[test]
fn registers_and_memory_are_replayed() {
    let folder = empty("fuzz-memory");
    expect_file!["fuzz/memory.s"].assert_eq(std::str::from_utf8(MEMORY).expect("text"));
    let options = ["--type", "kprobe", "--mock", "get_stackid=-14", "--cpus", "2", "--strict"];
    let text = fuzz(&[&["tests/command/fuzz/memory.s"], &options[..]].concat(), &folder);
    assert!(text.contains("made small: 1 register set, 1 far object"), "{text}");
    let test = std::fs::read_to_string(folder.join("main-read-null-7.rs")).expect("the test");
    expect_file!["fuzz/memory.rs"].assert_eq(&test);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/command/fuzz/memory.s");
    let text = replay(source.to_str().expect("text"), &folder.join("main-read-null-7.json"), &["--type", "kprobe"]);
    assert!(text.contains("error: invalid read of 1 byte at 0xbeef: null pointer"), "{text}");
}

#[test]
fn what_is_right_has_no_findings() {
    let folder = check_fuzz(
        &["../conformance/objects/xdp_parse_bug.bpf.o", "parse_right", "--expect", "ret in {XDP_DROP, XDP_PASS}"],
        "fuzz-right",
        expect![[r#"
            program   parse_right (xdp)
            inputs    20000 in # s, # a second
            coverage  96 of 97 edges
            kept      49 inputs
            findings  0
        "#]],
    );
    assert_eq!(std::fs::read_dir(folder).expect("a folder").count(), 0);
}

#[test]
fn loops_and_verdicts_are_found() {
    check_fuzz(
        &["../conformance/objects/xdp_parse_bug.bpf.o", "parse_odd_verdict", "--expect", "ret in {1,2}"],
        "fuzz-verdict",
        expect![[r#"
            error: parse_odd_verdict returned 6 (0x6)
              = expected: ret in {1,2}

            found     after 2048 inputs; made small: a packet of 70 bytes
            replay    softbpf run ../conformance/objects/xdp_parse_bug.bpf.o parse_odd_verdict --input OUT/parse_odd_verdict-unexpected-6.json
            as test   OUT/parse_odd_verdict-unexpected-6.rs

            program   parse_odd_verdict (xdp)
            inputs    2048 in # s, # a second
            coverage  103 of 107 edges
            kept      41 inputs
            findings  1
            --- status 1
        "#]],
    );
    let folder = empty("fuzz-loop");
    let text = fuzz(&["../conformance/objects/xdp_parse_bug.bpf.o", "parse_endless", "--fuel", "20000"], &folder);
    assert!(text.contains("error: the program did not end within 20000 instructions"), "{text}");
    assert!(folder.join("parse_endless-endless.json").exists());
}

#[test]
fn json_has_all_of_it() {
    let args = ["../conformance/objects/xdp_parse_bug.bpf.o", "parse_odd_verdict", "--expect", "ret < 3", "--json"];
    let text = fuzz(&args, &empty("fuzz-json"));
    let (document, status) = text.split_once("--- status").expect("a status");
    assert_eq!(status.trim(), "1");
    let report: Value = serde_json::from_str(document).expect("JSON");
    assert_eq!(keys(&report), "program type seed executions seconds executions_per_second coverage corpus findings");
    assert_eq!(keys(&report["coverage"]), "edges of_edges lines_never_run");
    let finding = &report["findings"][0];
    assert_eq!(keys(finding), "kind program function slot message line return executions input test");
    assert_eq!((&finding["kind"], &finding["return"]), (&"unexpected".into(), &6.into()));
    assert!(report["executions_per_second"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn a_corpus_is_gone_on_from() {
    let (corpus, out) = (empty("fuzz-corpus"), empty("fuzz-corpus-out"));
    // A seed of the user's own, as plain bytes.
    std::fs::write(corpus.join("packet.bin"), [0; 60]).expect("it can be written");
    let object = "../conformance/objects/xdp_parse_bug.bpf.o";
    let folder = corpus.to_str().expect("text");
    let covered = |runs: &str| {
        let args = ["fuzz", object, "parse_right", "--json", "--jobs", "1", "--corpus", folder, "--runs", runs];
        let output = softbpf(&args).arg("--out").arg(&out).current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let report: Value = serde_json::from_slice(&output.expect("it starts").stdout).expect("JSON");
        report["coverage"]["edges"].as_u64().expect("a number")
    };
    let long = covered("10000");
    let kept = std::fs::read_dir(&corpus).expect("a folder").count();
    assert!(kept > 10, "{kept}");
    // As many runs as there are inputs: all that they reach is reached again.
    assert_eq!(covered(&kept.to_string()), long);
}

#[test]
fn lines_that_nothing_came_to_are_listed() {
    let args = ["fuzz", "xdp_parse_bug.bpf.o", "parse_right", "--runs", "1", "--jobs", "1", "--show-coverage"];
    let output = softbpf(&args).output().expect("it starts");
    let text = transcript(&output);
    let lines = text.split_once("lines that no input came to\n").expect("lines").1;
    assert!(lines.contains("  ./xdp_parse_bug.bpf.c:92  u8 kind = at[0], length;\n"), "{text}");
}

#[test]
fn what_cannot_be_fuzzed_is_refused() {
    let refused = |args: &[&str], expected| check(&[&["fuzz", "xdp_parse_bug.bpf.o"], args].concat(), expected);
    refused(
        &["--engine", "jit"],
        expect![[r#"
        --- standard error
        error: --engine jit: fuzz follows the ways through a program, which only the interpreter shows; softbpf run --input FILE --engine jit runs its findings on the JIT
        --- status 2
    "#]],
    );
    refused(
        &[],
        expect![[r#"
        --- standard error
        error: which program? There are: parse_right, parse_missing_check, parse_endless, parse_odd_verdict
        --- status 2
    "#]],
    );
    refused(
        &["parse_right", "--expect", "ret is 1"],
        expect![[r#"
        --- standard error
        error: --expect: write ==, !=, <, <=, >, >=, in or not in behind it, not "is 1"
        --- status 2
    "#]],
    );
    refused(
        &["parse_right", "--expect", "ret == XDP_PAS"],
        expect![[r#"
        --- standard error
        error: --expect: "XDP_PAS" is not a number
        --- status 2
    "#]],
    );
    refused(
        &["parse_right", "--seconds=-1"],
        expect![[r#"
            --- standard error
            error: invalid value '-1' for '--seconds <S>': it must be from 0 to 100000000

            For more information, try '--help'.
            --- status 2
        "#]],
    );
    refused(
        &["parse_right", "--jobs", "0"],
        expect![[r#"
            --- standard error
            error: invalid value '0' for '--jobs <N>': 0 is not in 1..=256

            For more information, try '--help'.
            --- status 2
        "#]],
    );
    refused(
        &["parse_right", "--set", "nothing=1"],
        expect![[r#"
        --- standard error
        error: there is no variable nothing; there are: none
        --- status 2
    "#]],
    );
    check(
        &["fuzz", "-"],
        expect![[r#"
        --- standard error
        error: fuzz takes no object from standard input: what it finds is replayed from the object's file
        --- status 2
    "#]],
    );
    check(
        &["fuzz", "no-such-file.o"],
        expect![[r#"
        --- standard error
        error: no-such-file.o: No such file or directory (os error 2)
        --- status 2
    "#]],
    );
    check(
        &["fuzz", "tracex4_kern.o", "bpf_prog1", "--packet", "00"],
        expect![[r#"
        --- standard error
        error: kprobe programs take no packet
        --- status 2
    "#]],
    );
}

#[test]
fn files_that_are_no_inputs_are_refused() {
    let args = ["run", "OBJECTS/xdp_parse_bug.bpf.o", "parse_right", "--input", "FILE"];
    check_file(
        "no.json",
        b"{",
        &args,
        expect![[r#"
        --- standard error
        error: no.json: no input that softbpf fuzz has written: EOF while parsing an object at line 1 column 1
        --- status 2
    "#]],
    );
    check_file(
        "version.json",
        b"{}",
        &args,
        expect![[r#"
        --- standard error
        error: version.json: no input that softbpf fuzz has written: softbpf_input is not 1
        --- status 2
    "#]],
    );
    check_file(
        "hex.json",
        br#"{"softbpf_input": 1, "packet": "0"}"#,
        &args,
        expect![[r#"
        --- standard error
        error: hex.json: no input that softbpf fuzz has written: packet: an odd number of hexadecimal digits (1): two are a byte
        --- status 2
    "#]],
    );
    check_file(
        "none.json",
        br#"{"softbpf_input": 1}"#,
        &args,
        expect![[r#"
        --- standard error
        error: none.json: no input that softbpf fuzz has written: packet, registers or context is missing, or no text
        --- status 2
    "#]],
    );
    check_file(
        "kind.json",
        br#"{"softbpf_input": 1, "registers": {}}"#,
        &args,
        expect![[r#"
        --- standard error
        error: a xdp program takes a packet (struct xdp_md), not registers
        --- status 2
    "#]],
    );
    let map = br#"{"softbpf_input": 1, "packet": "", "maps": [{"map": "m", "key": "", "value": ""}]}"#;
    check_file(
        "map.json",
        map,
        &args,
        expect![[r#"
        --- standard error
        error: there is no map m; there are: 
        --- status 2
    "#]],
    );
    let both = [&args[..], &["--packet", "00"]].concat();
    check_file(
        "both.json",
        b"{}",
        &both,
        expect![[r#"
        --- standard error
        error: the argument '--input <FILE>' cannot be used with '--packet <HEX>'

        Usage: softbpf run --input <FILE> <OBJECT> <PROGRAM>

        For more information, try '--help'.
        --- status 2
    "#]],
    );

    let folder = empty("fuzz-bad-corpus");
    std::fs::write(folder.join("a.json"), r#"{"softbpf_input": 1, "registers": {}}"#).expect("it can be written");
    let args = ["fuzz", "xdp_parse_bug.bpf.o", "parse_right", "--corpus", folder.to_str().expect("text")];
    let text = transcript(&softbpf(&args).output().expect("it starts"));
    assert!(text.contains("a.json: xdp programs take a packet, not registers"), "{text}");
}
