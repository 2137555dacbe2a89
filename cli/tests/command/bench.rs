//! `softbpf bench`. Times differ from run to run, so numbers are masked.

use expect_test::{Expect, expect};
use serde_json::Value;

use super::jited::there_is_a_jit;
use super::{check, check_file, scratch, softbpf, stdout, transcript};

const SYN: &str = "001122334455 66778899aabb 0800 \
    45000028 00000000 40060000 0a000001 0a000002 \
    30390050 00000000 00000000 50020000 00000000";

/// Text with `#` for numbers, units of time after them left out, and one space for several.
fn masked(text: &str) -> String {
    let word = |word: &str| match word.trim_start_matches(|found: char| found.is_ascii_digit() || found == '.') {
        rest if rest.len() == word.len() => word.to_owned(),
        rest => format!("#{rest}"),
    };
    let line = |line: &str| {
        let words = line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
        ["ns", "us", "ms", "s"].iter().fold(words + "\n", |line, unit| {
            let (before, comma) = (format!("# {unit} #"), format!("# {unit}, #"));
            line.replace(&before, "# #").replace(&comma, "#, #")
        })
    };
    text.lines().map(line).collect()
}

fn check_masked(args: &[&str], expected: Expect) {
    if there_is_a_jit() {
        expected.assert_eq(&masked(&stdout(args)));
    }
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&stdout(args)).expect("JSON")
}

pub(super) fn keys(value: &Value) -> String {
    value.as_object().expect("an object").keys().map(String::as_str).collect::<Vec<_>>().join(" ")
}

#[test]
fn one_engine_can_be_asked_for() {
    if !there_is_a_jit() {
        return;
    }
    for (engine, ran) in [("interpreter", "interpreter"), ("jit", "jit"), ("auto", "jit")] {
        let report =
            json(&["bench", "xdp_count.bpf.o", "--packet", SYN, "--seconds", "0", "--engine", engine, "--json"]);
        let runs = report["runs"].as_array().expect("an array");
        assert_eq!(runs.iter().map(|run| &run["engine"]).collect::<Vec<_>>(), [ran], "{engine}");
        assert_eq!(report["compile"].is_null(), engine == "interpreter", "{engine}");
    }
}

#[test]
fn each_input_has_a_row_for_each_engine() {
    check_masked(
        &["bench", "xdp_count.bpf.o", "--packet", SYN, "--packet", "0011", "--ctx", "ifindex=7", "--seconds", "0"],
        expect![[r#"
            program xdp_count (xdp), # instructions
            compile #, # ns an instruction; # bytes, # an instruction

            input engine a run ns/insn instructions spread
            packet # interpreter # # # #%
            jit # # # #% #x
            packet # interpreter # # # #%
            jit # # # #% #x

            medians of # samples
        "#]],
    );
}

#[test]
fn a_baseline_tells_what_has_changed() {
    if !there_is_a_jit() {
        return;
    }
    let folder = scratch("bench-baseline");
    let file = folder.join("saved.json");
    let file = file.to_str().expect("text");
    let args = ["bench", "tracex4.bpf.o", "bpf_prog1", "--seconds", "0"];
    stdout(&[&args[..], &["--save", file]].concat());
    let saved: Value = serde_json::from_slice(&std::fs::read(file).expect("it is there")).expect("JSON");
    assert_eq!(keys(&saved), "softbpf_bench program tag samples");
    assert_eq!(keys(&saved["samples"][0]), "input engine ns");
    let engines: Vec<_> = saved["samples"].as_array().expect("an array").iter().map(|row| &row["engine"]).collect();
    assert_eq!(engines, ["interpreter", "jit", "compile"]);

    // As if the program had once been a thousand times as fast, compiled a thousand times slower, and of another tag.
    let mut changed = saved.clone();
    changed["tag"] = "0000000000000000".into();
    changed["samples"][0]["ns"] = vec![0.01; 20].into();
    changed["samples"][1]["input"] = "another".into();
    changed["samples"][2]["ns"] = vec![1e12; 20].into();
    std::fs::write(file, changed.to_string()).expect("it can be written");
    let text = masked(&stdout(&[&args[..], &["--baseline", file]].concat()));
    assert!(text.contains("the program is not the baseline's: it has changed"), "{text}");
    let line = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).expect("a line").to_owned();
    assert!(line("default interpreter").contains(" slower by #%, significant"), "{text}");
    assert!(line("jit").ends_with("not in the baseline"), "{text}");
    assert!(line("compile").ends_with("faster by #%, significant"), "{text}");

    let report = json(&[&args[..], &["--baseline", file, "--json"]].concat());
    assert_eq!(report["same_program_as_baseline"], false);
    assert_eq!(keys(&report["runs"][0]["change"]), "ratio low high significant verdict");
    assert_eq!(report["runs"][0]["change"]["significant"], true);
    assert_eq!(report["runs"][1]["change"], Value::Null);
}

#[test]
fn json_has_all_of_it() {
    let report = json(&["bench", "tracex4.bpf.o", "bpf_prog1", "--seconds", "0", "--json"]);
    assert_eq!(keys(&report), "program type tag instructions rounds compile no_jit same_program_as_baseline runs");
    assert_eq!(keys(&report["runs"][0]), "input engine return instructions ns ns_per_instruction spread change");
    assert_eq!((&report["runs"][0]["engine"], &report["runs"][0]["change"]), (&"interpreter".into(), &Value::Null));
    assert!(report["rounds"].as_u64() >= Some(7) && report["runs"][0]["ns"].as_f64() > Some(0.0), "{report}");
    if there_is_a_jit() {
        assert_eq!(keys(&report["compile"]), "ns ns_per_instruction spread bytes bytes_per_instruction change");
        assert_eq!(report["runs"][0]["return"], report["runs"][1]["return"]);
        assert_eq!(report["runs"][0]["instructions"], report["runs"][1]["instructions"]);
    }
}

#[test]
fn a_program_that_traps_is_not_measured() {
    let output = softbpf(&["bench", "faults.bpf.o", "past_map_value", "--seconds", "0"]).output().expect("it starts");
    let text = transcript(&output);
    assert!(text.contains("invalid read of 1 byte") && text.ends_with("--- status 1\n"), "{text}");
    assert!(output.stdout.is_empty(), "{text}");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    check(
        &["bench", "xdp_count.bpf.o", "--packet-file", "fixture.h", "--packet-file", "fixture.h"],
        expect![[r#"
            --- standard error
            error: fixture.h is an input twice
            --- status 2
        "#]],
    );
    check_file(
        "nothing.json",
        b"{}",
        &["bench", "OBJECTS/xdp_count.bpf.o", "--baseline", "FILE"],
        expect![[r#"
            --- standard error
            error: nothing.json: no baseline that softbpf bench --save has written
            --- status 2
        "#]],
    );
    let output = softbpf(&["bench", "xdp_count.bpf.o", "--seconds", "-1"]).output().expect("it starts");
    assert!(transcript(&output).ends_with("--- status 2\n"));
}
