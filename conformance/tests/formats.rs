//! The formats of cases: what they say, what is wrong with them, and where.

use softbpf_conformance::case::{Case, End, Input};
use softbpf_conformance::engines;
use softbpf_conformance::subject::{EngineSubject, Subject};
use softbpf_conformance::suite::{MAX_FILE, Suite};
use softbpf_conformance::verdict::{Verdict, judge};
use softbpf_conformance::{data, vectors};

fn cases(text: &str) -> Vec<Case> {
    vectors::parse("t.vec", text).unwrap_or_else(|error| panic!("{error}"))
}

fn assert_pass(cases: &[Case]) {
    for engine in engines() {
        let mut subject = EngineSubject::new(engine);
        for case in cases {
            assert_eq!(judge(case, &subject.run(case)), Verdict::Passed, "{}:{}", case.line, case.title);
        }
    }
}

#[test]
fn the_examples_of_the_readme_pass() {
    let readme = include_str!("../README.md");
    let mut text = String::new();
    let mut inside = false;
    for line in readme.lines() {
        inside = line.starts_with("    ==") || inside && (line.starts_with("    ") || line.is_empty());
        if inside {
            text.push_str(line.strip_prefix("    ").unwrap_or_default());
            text.push('\n');
        }
    }
    let cases = cases(&text);
    assert_eq!(cases.len(), 1 + 4 + 2 + 90);
    assert_pass(&cases);
}

#[test]
fn tables_and_eaches_multiply() {
    let cases = cases(
        "== {a} and {b}\n    r0 = {a}\n    r0 += {b}\n    exit\neach b: 1 2\n| a | r0 | instructions |\n| 5 | {b}6 | - |\n",
    );
    let titles: Vec<&str> = cases.iter().map(|case| case.title.as_str()).collect();
    assert_eq!(titles, ["5 and 1", "5 and 2"]);
    assert_eq!(cases[1].expect.end, End::Returns(26));
    assert_eq!((cases[0].line, cases[0].expect.instructions), (7, None));
}

#[test]
fn what_a_row_does_not_name_in_the_title_stands_behind_it() {
    let text = "== sum\n    r0 = {a}\n    r0 {op} 2\n    exit\n| a | op: += | op: |= |\n| 1 | 3 | 3 |\n| 2 | - | 2 |\n";
    let titles: Vec<String> = cases(text).into_iter().map(|case| case.title).collect();
    assert_eq!(titles, ["sum [a = 1, op = +=]", "sum [a = 1, op = |=]", "sum [a = 2, op = |=]"]);
    assert_pass(&cases(text));
}

#[test]
fn fields_bytes_and_repeats() {
    let cases = cases(
        "== all of it\n    goto out\n    repeat 3: r0 = 9\n    slot 0xb7 dst=0 imm=-1\n  out:\n    bytes b7 00 00 00 07 00 00 00\n    \
         r1 = 5 ll\n    exit\nr0: 7\ninstructions: 4\n\n== cut\n    r0 = 0\n    bytes 95 00\nreject: cut slot at 1\n",
    );
    assert_eq!(cases[0].bytes().len(), 9 * 8);
    assert_pass(&cases);
}

#[test]
fn mistakes_have_file_line_and_column() {
    for (text, expected) in [
        ("r0: 1", "t.vec:1:1: there is no case yet: one starts with `== title`"),
        ("== a\nfoo: 1", "t.vec:2:1: unknown directive \"foo\""),
        ("== a\nfoo", "t.vec:2:1: expected `key: value`, a table row, or an indented program line, found \"foo\""),
        ("== a\nr0: 1", "t.vec:1:1: the case has no program"),
        ("== a\n    exit", "t.vec:1:1: the case does not say what must come of it: r0, trap or reject"),
        ("== a\n    exit\nr0: 1\ntrap: null at 0", "t.vec:1:1: the case says more than one of r0, trap and reject"),
        ("== a\n    exit\nr0: 1\nr0: 2", "t.vec:4:1: r0 is given twice"),
        ("== a\n    exit\nr0:  x", "t.vec:3:6: expected a number of 64 bits, found \"x\""),
        (
            "== a\n    exit\nr0: 0x10000000000000000",
            "t.vec:3:5: expected a number of 64 bits, found \"0x10000000000000000\"",
        ),
        (
            "== a\n    exit\ntrap: hunger at 0",
            "t.vec:3:7: expected the name of a trap, `at`, and a slot, found \"hunger at 0\"",
        ),
        ("== a\n    exit\nreject: null at 0", "t.vec:3:9: expected a reason, `at`, and a slot, found \"null at 0\""),
        ("== a\n    exit\nmemory: 0\nr0: 1", "t.vec:3:9: expected bytes: pairs of hex digits, or 00*16, found \"0\""),
        ("== a\n    exit\nmemory: 00*99999999999\nr0: 1", "t.vec:3:9: expected fewer bytes, found \"00*99999999999\""),
        ("== a\n\n    r0 = {x}\nr0: 1", "t.vec:3:11: nothing is called {x} here"),
        ("== a\n    r0 = {x\nr0: 1", "t.vec:2:11: expected the end of a placeholder, found \"x\""),
        ("== a\n    r0 = 0\n\n    frob\nr0: 1", "t.vec:4:5: expected an instruction, found frob"),
        ("== a\n    exit\n| r0 | x |\n| 1 |", "t.vec:4:1: the row has 1 cells, the heading 2"),
        ("== a\n    exit\n| r0 |", "t.vec:3:1: a table needs a row"),
        ("== a\n    exit\n| r0 |\n| oops |", "t.vec:4:3: expected a number of 64 bits, found \"oops\""),
        ("== a\n    r1 = counts ll\n    exit\nr0: 1", "t.vec:2:1: there is no map or data named \"counts\""),
        ("== a\n    bytes 95\n    exit\nr0: 1", "t.vec:3:1: bytes that are not whole slots must be the last"),
        ("== a\n    repeat 9999999: exit\nr0: 1", "t.vec:2:1: more than 1100000 instructions"),
        ("== a\n    repeat 5 exit\nr0: 1", "t.vec:2:5: expected `repeat N: instruction`, found \"    repeat 5 exit\""),
        ("== a\n    slot\nr0: 1", "t.vec:2:5: expected an opcode, then any of dst=, src=, off= and imm=, found \"\""),
        (
            "== a\n    slot 1 foo=2\nr0: 1",
            "t.vec:2:5: expected an opcode, then any of dst=, src=, off= and imm=, found \"1 foo=2\"",
        ),
        ("== a\n    exit\nrules: none\nr0: 1", "t.vec:3:8: expected `mask shifts`, found \"none\""),
    ] {
        assert_eq!(vectors::parse("t.vec", text).unwrap_err().to_string(), expected, "{text:?}");
    }
}

#[test]
fn the_public_format() {
    let text = "# comment\n-- asm\n  ldxb %r0, [%r1+1]   # comment\n  lsh %r0, 65\n  exit\n-- mem\n01 02\n03\n-- result\n0x4\n";
    let case = data::parse("dir/shift.data", text).unwrap();
    assert_eq!(case.title, "shift");
    assert_eq!(case.input, Input::Memory(vec![1, 2, 3]));
    assert_pass(&[case]);
    let raw = "-- asm\nfrobnicate\n-- raw\n0x1ffffffffffffffff\n-- result\n7\n";
    assert_eq!(
        data::parse("a.data", raw).unwrap_err().to_string(),
        "a.data:4:1: expected a number of 64 bits, found \"0x1ffffffffffffffff\""
    );
    let raw =
        "-- c\nint main;\n-- raw\n0x00000007000000b7\n0x0000000000000095\n-- result\n7\n-- no register offset\nx\n";
    assert_pass(&[data::parse("a.data", raw).unwrap()]);
    let bytes = "-- raw\n07 10 00 00 00 00 00 00\n95 00 00 00 00 00 00 00\n-- error\n";
    assert_pass(&[data::parse("a.data", bytes).unwrap()]);
}

#[test]
fn mistakes_in_the_public_format_have_a_place() {
    for (text, expected) in [
        ("-- asm\nexit\n", "a.data:1:1: neither a result nor an error is expected"),
        ("-- c\nint x;\n-- result\n1\n", "a.data:1:1: there are no instructions, only source in C or nothing at all"),
        ("-- frob\n", "a.data:1:1: unknown section \"frob\""),
        ("-- mem\n00 1ff\n", "a.data:2:1: expected bytes in hex, found \"1ff\""),
        ("-- mem\n+1\n", "a.data:2:1: expected bytes in hex, found \"+1\""),
        ("-- raw\n+1\n", "a.data:2:1: expected a byte in hex, found \"+1\""),
        ("-- mem\n00 xx\n", "a.data:2:1: expected bytes in hex, found \"xx\""),
        ("# c\n-- asm\nexit\n  mov %r0\n-- result\n1\n", "a.data:4:10: expected ,, found the end of the line"),
    ] {
        assert_eq!(data::parse("a.data", text).unwrap_err().to_string(), expected, "{text:?}");
    }
}

/// Messages about what a suite could not read.
fn unreadable(suite: &Suite) -> Vec<String> {
    suite.unreadable.iter().map(ToString::to_string).collect()
}

#[cfg(unix)]
#[test]
fn only_regular_files_of_a_limited_size_are_read() {
    use std::os::unix::fs::symlink;
    assert_eq!(unreadable(&Suite::load("/dev/zero".as_ref())), ["/dev/zero: not a regular file"]);
    let folder = std::env::temp_dir().join(format!("softbpf-formats-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let large = folder.join("large.vec");
    std::fs::File::create(&large).unwrap().set_len(MAX_FILE + 1).unwrap();
    // What cannot be read does not hide what can.
    symlink("/dev/zero", folder.join("endless.data")).unwrap();
    symlink("nowhere", folder.join("dangling.vec")).unwrap();
    std::fs::write(folder.join("good.vec"), "== a\n    r0 = 1\n    exit\nr0: 1\n").unwrap();
    let suite = Suite::load(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(suite.cases.len(), 1);
    let errors = unreadable(&suite);
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors[1].ends_with("endless.data: not a regular file"), "{errors:?}");
    assert!(errors[2].ends_with(&format!("large.vec: more than {MAX_FILE} bytes")), "{errors:?}");
}
