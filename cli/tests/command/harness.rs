//! The command without a process says what the process says; and the fuzz target for command lines.
//!
//! `UPDATE_DICTIONARIES=1 cargo test -p softbpf-cli --test command` writes its dictionary anew.

use std::fs;
use std::path::{Path, PathBuf};

use softbpf_cli::harness::{TARGET, main_with};
use softbpf_conformance::targets::dictionary;

use super::with_input;

fn fuzz(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(folder)
}

#[test]
fn it_says_what_the_process_says() {
    let text = b"r0 = *(u8 *)(r10 + 0)\nexit\n";
    for args in [&["run", "-"][..], &["run", "-", "--json"], &["disasm", "-"], &["show", "-"], &["asm", "-"], &["ru"]] {
        let (process, answer) = (with_input(args, text), main_with(args, text).expect("it is harmless"));
        assert_eq!(process.status.code(), Some(answer.status.into()), "{args:?}");
        assert_eq!((process.stdout, process.stderr), (answer.out, answer.err), "{args:?}");
    }
}

#[test]
fn what_touches_files_or_takes_long_is_not_done() {
    let harmful = [
        &["run", "other.bpf.o"][..],
        &["run", "-", "--ctx-file", "/etc/hostname"],
        &["run", "-", "--packet-file", "/etc/hostname"],
        &["run", "-", "--perf", "map"],
        &["asm", "-", "-o", "out.bin"],
        &["asm", "in.s"],
        &["show", "/dev/zero"],
        &["disasm", "/dev/zero"],
        &["bench", "-", "--seconds", "86400"],
        &["conform", "--plugin", "/bin/sh"],
    ];
    for args in harmful {
        assert_eq!(main_with(args, b""), None, "{args:?}");
    }
    let endless = main_with(&["run", "-", "--repeat", "18446744073709551615"], b"again: goto again\nexit\n");
    assert_eq!(endless.map(|answer| answer.status), Some(1));
}

#[test]
fn seeds_and_what_fuzzing_found_end_in_an_answer() {
    let seeds = (TARGET.seeds)();
    assert!(seeds.len() > 50, "{} seeds", seeds.len());
    seeds.iter().for_each(|seed| (TARGET.run)(seed));
    for entry in fs::read_dir(fuzz("regressions/command")).into_iter().flatten().filter_map(Result::ok) {
        (TARGET.run)(&fs::read(entry.path()).expect("it can be read"));
    }
}

#[test]
fn the_dictionary_is_current() {
    let (path, text) = (fuzz("dictionaries/command.dict"), dictionary::file(&(TARGET.words)()));
    if std::env::var_os("UPDATE_DICTIONARIES").is_some() {
        fs::write(&path, &text).expect("it can be written");
    }
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{} is not current", path.display());
}
