//! Where output goes, and what happens when it cannot.

use std::io::Read as _;
use std::process::Stdio;

use expect_test::expect;

use crate::{check, softbpf, stdout};

#[test]
fn a_closed_pipe_is_no_error() {
    for args in
        [&["disasm", "everyop.bpf.o"][..], &["run", "faults.bpf.o", "endless_loop", "--trace", "--fuel", "9999"]]
    {
        let mut child = softbpf(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = child.stderr.take().unwrap();
        let mut start = [0; 16];
        let _ = stderr.read(&mut start).unwrap();
        drop(stderr);
        let status = child.wait().unwrap().code();
        assert_eq!(status, Some(if args[0] == "run" { 1 } else { 0 }), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_one() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("SKIPPED: there is no /dev/full here");
        return;
    };
    let output = softbpf(&["disasm", "everyop.bpf.o"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error: cannot write the output: "));
}

#[test]
fn colours_are_for_terminals() {
    let args = ["run", "faults.bpf.o", "null_map_value"];
    let plain = softbpf(&args).output().unwrap();
    assert!(!plain.stderr.contains(&0x1b) && !plain.stdout.contains(&0x1b));
    let forced = softbpf(&args).env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(forced.stderr.contains(&0x1b) && forced.stdout.contains(&0x1b));
    let refused = softbpf(&args).env("CLICOLOR_FORCE", "1").env("NO_COLOR", "1").output().unwrap();
    assert!(!refused.stdout.contains(&0x1b));
}

#[test]
fn help_says_what_the_status_means() {
    check(
        &["--help"],
        expect![[r#"
            A software eBPF machine: runs the .o that clang built for the kernel, without a kernel

            Usage: softbpf <COMMAND>

            Commands:
              run      Run a program, and show what it returned and did
              show     List the programs and maps of an object
              disasm   List instructions as llvm-objdump or bpftool do
              asm      Assemble text to bytecode
              bench    Measure a program: time of a run on interpreter and JIT, time and size of compiled code
              conform  Run conformance vectors: on the engines, or on another implementation
              fuzz     Look for inputs that make a program go wrong
              help     Print this message or the help of the given subcommand(s)

            Options:
              -h, --help     Print help
              -V, --version  Print version

            Exit status:
              0  the program returned, or there was nothing to run
              1  the program trapped: it did what a kernel would not have let it do, or ran out of instructions;
                 or a conformance case failed, or fuzzing found something
              2  the command line or the input is wrong

            OBJECT is an ELF file that clang made for BPF, assembly text (.s, .asm, .txt), raw bytecode (.bin),
            or - for standard input. Numbers are decimal, 0x hexadecimal or 0b binary.
        "#]],
    );
    for command in ["run", "show", "disasm", "asm"] {
        assert!(stdout(&[command, "--help"]).contains("Usage: softbpf "));
    }
    assert!(stdout(&["--version"]).starts_with("softbpf 0."));
}
