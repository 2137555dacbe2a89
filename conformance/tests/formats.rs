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
        (
            "== a\nagain:\n    exit\nr0: 1",
            "t.vec:2:1: unknown directive \"again\"; if it is a label: labels are indented, as instructions are",
        ),
        (
            "== a\n    exit\nr0: 1\nfuel: 100000001",
            "t.vec:4:7: expected at most the 100000000 instructions that every run has, found \"100000001\"",
        ),
    ] {
        assert_eq!(vectors::parse("t.vec", text).unwrap_err().to_string(), expected, "{text:?}");
    }
}

#[test]
fn tables_have_no_loose_ends() {
    let bar = "expected a bar with blanks around it at the end of the row, found";
    let head = "== {a}\n    r0 = {a}\n    exit\n";
    for (text, expected) in [
        ("| a | r0 |\n| 1 | 1", format!("5:7: {bar} \"1\"")),
        ("| a | r0\n| 1 | 1 |", format!("4:7: {bar} \"r0\"")),
        ("| a | r0 |\n| 1 | 1|", format!("5:7: {bar} \"1|\"")),
        ("|\n|\nr0: 1", format!("4:2: {bar} \"\"")),
        ("| a | r0 |\n| 1 | 1 |\n\n| 2 | 2 |", two_tables(7)),
        ("| a | r0 |\n| 1 | 1 |\nfuel: 9\n| 2 | 2 |", two_tables(7)),
        ("| a: 1 | a: 2 |\n| - | - |", "5:1: the row gives no case".into()),
        ("each a:\nr0: 1", "4:1: the each line gives no case".into()),
        ("each : 1\nr0: 1", "4:1: unknown directive \"each\"".into()),
        ("| a | b | r0 |\n| 1 | 2 | 1 |", "4:7: nothing uses {b}".into()),
        ("| a: 1 | b: 2 |\n| 1 | 2 |", "4:10: nothing uses {b}".into()),
        ("each a: 1\neach b: 1\nr0: 1", "5:1: nothing uses {b}".into()),
        ("| a | a | r0 |\n| 1 | 2 | 1 |", "4:7: a is given twice".into()),
        ("| r0 | a | r0 |\n| 1 | 2 | 1 |", "4:12: r0 is given twice".into()),
        ("| a: 1 | a: 1 |\n| 1 | 1 |", "4:10: a: 1 is given twice".into()),
        ("| a: 1 | a |\n| 1 | 1 |", "4:10: a is given twice".into()),
        ("| a: 1 | r0 |\n| 1 | 1 |", "4:10: r0 is given twice".into()),
        ("| a | r0 |\n| 1 | 1 |\neach a: 1", "6:1: a is given twice".into()),
        ("each a: 1\neach a: 2\nr0: 1", "5:1: a is given twice".into()),
        ("each a a: 1 2\nr0: 1", "4:1: a is given twice".into()),
        ("each a: 1 1\nr0: 1", "4:1: 1 is given twice".into()),
    ] {
        let error = vectors::parse("t.vec", &format!("{head}{text}\n")).unwrap_err().to_string();
        assert_eq!(error, format!("t.vec:{expected}"), "{text:?}");
    }
    // Comments may stand between rows, and a column that only the title names is used.
    assert_eq!(cases("== {a}\n    exit\n| a | r0 |\n# of it\n| 1 | 1 |\n| 2 | 2 |\n").len(), 2);
    assert!(vectors::parse("t.vec", "== x\n    r0 = {a}\neach a b: 1\nr0: {b}").is_err());
}

fn two_tables(line: usize) -> String {
    format!("{line}:1: two tables in one case; a table has no blank line or other line between its rows")
}

#[test]
fn what_contradicts_is_refused() {
    for (text, expected) in [
        ("    exit\nprogram: main\n    exit\nr0: 1", "3:10: program main is given twice"),
        ("program: f\n    exit\nprogram: f\n    exit\nr0: 1", "4:10: program f is given twice"),
        ("    exit\nreject: empty at 0\nafter: 00", "4:8: a case that is rejected has no after"),
        ("    exit\nreject: empty at 0\ninstructions: 1", "4:15: a case that is rejected has no instructions"),
        ("    slot 256\nr0: 1", "2:5: expected an opcode of 8 bits, found \"256\""),
        ("    slot 7 dst=16\nr0: 1", "2:5: expected a dst from 0 to 15, found \"16\""),
        ("    slot 7 src=-1\nr0: 1", "2:5: expected a src from 0 to 15, found \"-1\""),
        ("    slot 7 off=65536\nr0: 1", "2:5: expected an off of 16 bits, found \"65536\""),
        ("    slot 7 off=-32769\nr0: 1", "2:5: expected an off of 16 bits, found \"-32769\""),
        ("    slot 7 imm=0x100000000\nr0: 1", "2:5: expected an imm of 32 bits, found \"0x100000000\""),
        ("    slot 7 imm=-0x80000001\nr0: 1", "2:5: expected an imm of 32 bits, found \"-0x80000001\""),
        ("    slot 7 imm=1 imm=1\nr0: 1", "2:5: imm is given twice"),
    ] {
        let error = vectors::parse("t.vec", &format!("== a\n{text}\n")).unwrap_err().to_string();
        assert_eq!(error, format!("t.vec:{expected}"), "{text:?}");
    }
    let ends = "    slot 0xff dst=15 src=15 off=-32768 imm=-0x80000000\n    slot 0 off=0xffff imm=0xffffffff\n";
    let bytes = cases(&format!("== a\n{ends}r0: 1\n"))[0].bytes().to_vec();
    assert_eq!(bytes, [0xff, 0xff, 0, 0x80, 0, 0, 0, 0x80, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn small_files_cannot_ask_for_much() {
    let values = |count: usize| (0..count).map(|value| value.to_string()).collect::<Vec<_>>().join(" ");
    let thousand = format!("each a: {}\n", values(1000));
    let title: String = ('a'..='p').map(|name| format!("{{{name}}}")).collect();
    let eaches: String = ('a'..='i').map(|name| format!("each {name}: {}\n", values(10))).collect();
    let cell = "x".repeat(60_000);
    let bytes = "    bytes b7*8000000\n".repeat(1000);
    let columns = |count: usize| format!("|{}\n", " r0 |".repeat(count));
    for (what, text, expected) in [
        (
            "arrangements",
            format!("== {title}\n exit\neach a b c d e f g h i j: {}\nr0: 1\n", values(12)),
            "1:1: more than 100000 cases",
        ),
        ("product", format!("== {title}\n exit\n{eaches}r0: 1\n"), "1:1: more than 100000 cases"),
        ("blocks", "== a\n exit\nr0: 1\n".repeat(100_001), "300001:1: more than 100000 cases"),
        ("rows of cases", format!("== {{a}}\n exit\nr0: 1\n{thousand}\n").repeat(101), "501:1: more than 100000 cases"),
        (
            "filled line",
            format!("== x\n    {}\n| a | r0 |\n| {cell} | 1 |\n", "{a}".repeat(20_000)),
            "2:9: more than 65536 bytes in a line with its values",
        ),
        (
            "long line",
            format!("== x\n    {}\nr0: 1\n", "{a}".repeat(200_000)),
            "2:65537: more than 65536 bytes in a line",
        ),
        (
            "memory",
            format!("== {{a}}\n exit\nmemory: 00*9000000\n{thousand}r0: 1\n"),
            "3:9: more than 25165824 bytes in all cases",
        ),
        ("bytes", format!("== a\n{bytes}r0: 1\n"), "3:1: more than 25165824 bytes in all cases"),
        (
            "bytes of cases",
            format!("== {{a}}\n    bytes b7*8000000\n{thousand}r0: 1\n"),
            "2:5: more than 25165824 bytes in all cases",
        ),
        (
            "repeats",
            format!("== {{a}}\n    repeat 1000000: exit\n{thousand}r0: 1\n"),
            "2:1: more than 25165824 bytes in all cases",
        ),
        (
            "repeated nothing",
            format!("== {{a}}\n    repeat 1000000:\n    exit\n{thousand}r0: 1\n"),
            "2:1: more than 25165824 bytes in all cases",
        ),
        (
            "repeated text",
            format!("== a\n    repeat 1000000: # {cell}\nr0: 1\n"),
            "2:1: more than 25165824 bytes in all cases",
        ),
        (
            "titles",
            format!("== {{a}} {cell}\n    exit\n{thousand}{}r0: 1\n", "each b: 0 1\n").replace("exit", "r0 = {b}"),
            "1:1: more than 25165824 bytes in all cases",
        ),
        ("eaches", format!("== a\n exit\n{}", "each a: 1\n".repeat(100_000)), "19:1: more than 16 each lines"),
        (
            "programs",
            format!("== a\n{}", (0..100_000).map(|name| format!("program: {name}\n")).collect::<String>()),
            "66:1: more than 64 programs",
        ),
        ("columns", format!("== a\n exit\n{}", columns(10_000)), "3:323: more than 64 columns in a table"),
        (
            "rows",
            format!("== a\n exit\n| r0 |\n{}", "| 1 |\n".repeat(1_000_000)),
            "10004:1: more than 10000 rows in a table",
        ),
    ] {
        let error = vectors::parse("t.vec", &text).unwrap_err().to_string();
        assert_eq!(error, format!("t.vec:{expected}"), "{what}");
    }
}

#[test]
fn titles_of_our_own_are_unique_in_their_files() {
    let suite = Suite::own();
    assert_eq!(unreadable(&suite), [""; 0]);
    let mut seen = std::collections::HashMap::new();
    let again = suite.cases.iter().filter_map(|case| {
        let first = seen.insert((&case.file, &case.title), case.line)?;
        Some(format!("{}:{first} and {}: {}", case.file, case.line, case.title))
    });
    assert_eq!(again.collect::<Vec<_>>(), [""; 0]);
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

#[cfg(unix)]
#[test]
fn the_plugin_does_not_read_without_end() {
    let mut plugin = std::process::Command::new(env!("CARGO_BIN_EXE_bpf-conformance-plugin"));
    let output = plugin.stdin(std::fs::File::open("/dev/zero").unwrap()).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "the program cannot be read: more than 67108864 bytes\n");
}
