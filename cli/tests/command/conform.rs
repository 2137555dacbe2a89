//! `softbpf conform`.

use expect_test::expect;

use super::{check, check_file, scratch, softbpf, stdout, transcript};

const SUM: &str = "\
== a sum
    r0 = {a}
    r1 = 5 ll
    r0 += r1
    exit
| a | r0 | reject             |
| 1 | 6  | -                  |
| 2 | 8  | -                  |
| 3 | -  | reserved imm at 0  |
";

#[test]
fn our_own_vectors_pass() {
    let table = stdout(&["conform", "--match", "tail_call", "--oracle", "model", "--engine", "interpreter"]);
    assert!(table.contains("total"), "{table}");
    assert!(table.contains("not compared"), "{table}");
}

#[test]
fn a_failure_is_explained_instruction_by_instruction() {
    check_file(
        "sum.vec",
        SUM.as_bytes(),
        &["conform", "FILE", "--engine", "interpreter", "--oracle", "model"],
        expect![[r#"
            3 cases in 1 file

            interpreter     cases   passed   failed  skipped
            base64              3        1        2        0
            total               3        1        2        0
            compared with the model: 2 cases
            not compared 1: the model is handed checked programs only

            failed sum.vec:8: a sum [a = 2]
              expected  r0 = 0x8
              got       r0 = 0x7, 4 instructions

            failed sum.vec:9: a sum [a = 3]
              expected  rejected: reserved imm at 0
              got       r0 = 0x8, 4 instructions

            step by step: sum.vec:8 on the interpreter
                  0: r0 = 0x2                                     r0=0x2
                  1: r1 = 0x5 ll                                  r1=0x5
                  3: r0 += r1                                     r0=0x7
                  4: exit
              expected  r0 = 0x8
              got       r0 = 0x7, 4 instructions
            --- status 1
        "#]],
    );
}

#[test]
fn as_json() {
    check_file(
        "json.vec",
        SUM.as_bytes(),
        &["conform", "FILE", "--engine", "interpreter", "--json"],
        expect![[r#"
            {
              "cases": 3,
              "unreadable": [],
              "reports": [
                {
                  "subject": "interpreter",
                  "counts": {
                    "passed": 1,
                    "failed": 2,
                    "skipped": 0,
                    "oracle_skipped": 0
                  },
                  "groups": {
                    "base64": {
                      "passed": 1,
                      "failed": 2,
                      "skipped": 0,
                      "oracle_skipped": 0
                    }
                  },
                  "failures": [
                    {
                      "file": "json.vec",
                      "line": 8,
                      "title": "a sum [a = 2]",
                      "expected": "r0 = 0x8",
                      "got": "r0 = 0x7, 4 instructions"
                    },
                    {
                      "file": "json.vec",
                      "line": 9,
                      "title": "a sum [a = 3]",
                      "expected": "rejected: reserved imm at 0",
                      "got": "r0 = 0x8, 4 instructions"
                    }
                  ],
                  "skipped_because": {}
                }
              ]
            }
            --- status 1
        "#]],
    );
}

#[test]
fn the_public_format_and_mistakes_in_it() {
    check_file(
        "good.data",
        b"-- asm\nmov %r0, 1\nlsh32 %r0, 33\nexit\n-- result\n0x2\n",
        &["conform", "FILE", "--engine", "interpreter"],
        expect![[r#"
            1 case in 1 file

            interpreter     cases   passed   failed  skipped
            base32              1        1        0        0
            total               1        1        0        0
        "#]],
    );
    check_file(
        "bad.data",
        b"-- asm\nmov %r11, 1\nexit\n-- result\n0x2\n",
        &["conform", "FILE"],
        expect![[r#"
            --- standard error
            error: bad.data:2:5: expected a register: %r0 to %r10, found %r11, 1
            --- status 2
        "#]],
    );
}

#[test]
fn what_cannot_be_run() {
    check(
        &["conform", "nowhere"],
        expect![[r#"
            --- standard error
            error: nowhere: No such file or directory (os error 2)
            --- status 2
        "#]],
    );
    check(
        &["conform", "--match", "no such case"],
        expect![[r#"
            --- standard error
            error: no conformance case is left
            --- status 2
        "#]],
    );
    check(
        &["conform", "--plugin", "./nowhere"],
        expect![[r#"
            --- standard error
            error: ./nowhere: No such file or directory (os error 2)
            --- status 2
        "#]],
    );
    check(
        &["conform", "--group", "base16"],
        expect![[r#"
            --- standard error
            error: invalid value 'base16' for '--group <GROUP>': there are: base32, base64, divmul32, divmul64, atomic32, atomic64, packet, callx, linux, encoding

            For more information, try '--help'.
            --- status 2
        "#]],
    );
}

#[test]
fn a_plugin_is_driven_and_reported_as_junit() {
    let folder = scratch("plugin");
    std::fs::write(
        folder.join("five.vec"),
        "== five\n    r0 = 5\n    exit\nr0: 5\n\n== packet\n    exit\npacket: 00\nr0: 0\n",
    )
    .expect("it can be written");
    let args = ["conform", "five.vec", "--plugin", "/bin/echo", "--plugin-arg", "5", "--junit", "out.xml"];
    let output = softbpf(&args).current_dir(&folder).output().expect("it starts");
    expect![[r#"
        2 cases in 1 file

        echo            cases   passed   failed  skipped
        base32              1        0        0        1
        base64              1        1        0        0
        total               2        1        0        1
        skipped 1: the plugin protocol has no packets
    "#]]
    .assert_eq(&transcript(&output));
    expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites>
          <testsuite name="echo" tests="2" failures="0" errors="0" skipped="1">
            <testcase classname="base64" name="five" file="five.vec" line="1"/>
            <testcase classname="base32" name="packet" file="five.vec" line="6"><skipped message="the plugin protocol has no packets"/></testcase>
          </testsuite>
        </testsuites>
    "#]]
    .assert_eq(&std::fs::read_to_string(folder.join("out.xml")).expect("it was written"));
}

/// One case that must be refused, one that returns 5, one that plugins cannot be asked for.
const THREE: &str = "\
== no
    slot 0x95 imm=7
reject: reserved imm at 0

== five
    r0 = 5
    exit
r0: 5

== packet
    exit
packet: 00
r0: 0
";

/// What `softbpf conform three.vec ARGS` says.
fn three(test: &str, args: &[&str]) -> String {
    let folder = scratch(test);
    std::fs::write(folder.join("three.vec"), THREE).expect("it can be written");
    std::fs::write(folder.join("text"), "echo 5\n").expect("it can be written");
    let output = softbpf(&["conform", "three.vec"]).args(args).current_dir(&folder).output().expect("it starts");
    transcript(&output).replace(&format!("{}/", folder.display()), "")
}

#[test]
fn a_plugin_that_crashes_fails_every_case() {
    let said = three("plugin-crash", &["--plugin", "/bin/sh", "--plugin-arg=-c", "--plugin-arg=kill -SEGV $$"]);
    expect![[r#"
        3 cases in 1 file

        sh              cases   passed   failed  skipped
        base32              1        0        0        1
        base64              1        0        1        0
        encoding            1        0        1        0
        total               3        0        2        1
        skipped 1: the plugin protocol has no packets

        failed three.vec:1: no
          expected  rejected: reserved imm at 0
          got       crashed: signal 11

        failed three.vec:5: five
          expected  r0 = 0x5
          got       crashed: signal 11
        --- status 1
    "#]]
    .assert_eq(&said);
}

#[test]
fn a_plugin_that_cannot_be_run_is_an_error() {
    expect![[r#"
        --- standard error
        error: cannot run text: Permission denied (os error 13)
        --- status 2
    "#]]
    .assert_eq(&three("plugin-not-executable", &["--plugin", "text"]));
    expect![[r#"
        --- standard error
        error: cannot run /bin: is a directory
        --- status 2
    "#]]
    .assert_eq(&three("plugin-folder", &["--plugin", "/bin"]));
}

#[test]
fn a_plugin_that_hangs_is_an_error() {
    let folder = scratch("plugin-hang");
    std::fs::write(folder.join("many.vec"), "== {a}\n    r0 = {a}\n    exit\neach a: 0 1 2 3 4 5 6 7\nr0: 4\n")
        .expect("it can be written");
    let args = ["conform", "many.vec", "--timeout", "1", "--jobs", "5", "--plugin", "/bin/sh"];
    let hang = ["--plugin-arg=-c", "--plugin-arg=sleep 60"];
    let output = softbpf(&args).args(hang).current_dir(&folder).output().expect("it starts");
    expect![[r#"
        --- standard error
        error: /bin/sh gave no answer within 1 s for 5 cases in a row; giving up
        --- status 2
    "#]]
    .assert_eq(&transcript(&output));
    check(
        &["conform", "--timeout", "0", "--plugin", "/bin/sh"],
        expect![[r#"
        --- standard error
        error: invalid value '0' for '--timeout <SECONDS>': 0 is not in 1..=4294967295

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check(
        &["conform", "--jobs", "1000000", "--plugin", "/bin/sh"],
        expect![[r#"
        --- standard error
        error: invalid value '1000000' for '--jobs <N>': 1000000 is not in 1..=256

        For more information, try '--help'.
        --- status 2
    "#]],
    );
    check(
        &["conform", "--jobs", "2"],
        expect![[r#"
        --- standard error
        error: the following required arguments were not provided:
          --plugin <PROGRAM>

        Usage: softbpf conform --plugin <PROGRAM> --jobs <N> [DIR]...

        For more information, try '--help'.
        --- status 2
    "#]],
    );
}

#[test]
fn nothing_tested_is_an_error() {
    expect![[r#"
        1 case in 1 file

        echo            cases   passed   failed  skipped
        base32              1        0        0        1
        total               1        0        0        1
        skipped 1: the plugin protocol has no packets
        --- standard error
        error: all cases were skipped: nothing was tested
        --- status 2
    "#]]
    .assert_eq(&three("plugin-nothing", &["--plugin", "/bin/echo", "--match", "packet"]));
}

#[test]
fn groups_are_left_out() {
    let args = ["--plugin", "/bin/echo", "--plugin-arg=5", "--exclude-group", "encoding", "--exclude-group", "base32"];
    expect![[r#"
        1 case in 1 file

        echo            cases   passed   failed  skipped
        base64              1        1        0        0
        total               1        1        0        0
    "#]]
    .assert_eq(&three("plugin-groups", &args));
}

#[test]
fn engines_are_named_by_configuration() {
    let file = scratch("engines").join("one.vec");
    std::fs::write(&file, "== one\n    r0 = 1\n    exit\n| r0 |\n| 1  |\n").unwrap();
    let subjects = |engine| {
        let text = stdout(&["conform", file.to_str().unwrap(), "--json", "--engine", engine]);
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("\"subject\": "));
        names.map(|name| name.trim_matches([',', '"']).to_owned()).collect::<Vec<String>>()
    };
    let there = softbpf_jit::engine().is_ok();
    let jits: &[&str] = if there { &["jit", "jit-unproved", "jit-baseline"] } else { &[] };
    assert_eq!(subjects("all"), [&["interpreter"], jits].concat());
    assert_eq!(subjects("auto"), [if there { "jit" } else { "interpreter" }]);
    for name in jits {
        assert_eq!(subjects(name), [*name]);
    }
}
