//! The command as a user meets it: arguments in, text and exit status out.

#![allow(clippy::print_stderr)]

mod asm;
mod bad_input;
mod bench;
mod conform;
mod disasm;
mod fuzz;
mod fuzz_isa;
mod harness;
mod jited;
mod run;
mod show;
mod streams;
mod traps;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use expect_test::Expect;

/// The folder of the fixtures, where every command runs.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/objects")
}

/// The command, in the folder of the fixtures.
fn softbpf(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softbpf"));
    command.args(args).current_dir(fixtures()).env("COLUMNS", "100").stdin(Stdio::null());
    for variable in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command
}

/// Runs the command with this standard input.
fn with_input(args: &[&str], input: &[u8]) -> Output {
    let mut command = softbpf(args);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// Standard output, then standard error and the exit status where there is something to say.
fn transcript(output: &Output) -> String {
    let mut text = String::from_utf8(output.stdout.clone()).expect("text");
    let errors = std::str::from_utf8(&output.stderr).expect("text");
    if !errors.is_empty() {
        text.push_str("--- standard error\n");
        text.push_str(errors);
    }
    let status = output.status.code().expect("it was not killed");
    if status != 0 {
        text.push_str(&format!("--- status {status}\n"));
    }
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Compares what a command line prints.
fn check(args: &[&str], expected: Expect) {
    expected.assert_eq(&transcript(&softbpf(args).output().expect("it starts")));
}

/// Compares what a command line makes of a file that the test writes; `FILE` in the arguments is its name, and `OBJECTS/` where
/// the fixtures are.
fn check_file(name: &str, contents: &[u8], args: &[&str], expected: Expect) {
    let folder = scratch(name);
    std::fs::write(folder.join(name), contents).expect("it can be written");
    let arg = |&arg: &&str| match arg.strip_prefix("OBJECTS/") {
        Some(object) => format!("{}/../conformance/objects/{object}", env!("CARGO_MANIFEST_DIR")),
        None => if arg == "FILE" { name } else { arg }.to_owned(),
    };
    let args: Vec<String> = args.iter().map(arg).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    expected.assert_eq(&transcript(&softbpf(&args).current_dir(folder).output().expect("it starts")));
}

/// A folder for one test's files.
fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test.replace('.', "-"));
    std::fs::create_dir_all(&folder).expect("it can be made");
    folder
}

/// What a command prints that must end well.
fn stdout(args: &[&str]) -> String {
    let output = softbpf(args).output().expect("it starts");
    assert!(output.status.success(), "{args:?}: {}", transcript(&output));
    String::from_utf8(output.stdout).expect("text")
}
