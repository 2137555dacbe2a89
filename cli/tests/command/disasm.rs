//! Listings: the goldens of the fixtures, and the real tool where it is installed.

use std::process::Command;

use expect_test::expect;

use crate::{check, check_file, fixtures, stdout};

const OBJDUMP: &str = "llvm-objdump-19";

/// Names of the committed objects.
fn objects() -> Vec<String> {
    let entries = std::fs::read_dir(fixtures()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut objects: Vec<String> = names.filter(|name| name.ends_with(".o")).collect();
    objects.sort();
    assert!(objects.len() > 10);
    objects
}

/// Line by line, so that a failure shows the first difference.
fn assert_same_lines(ours: &str, theirs: &str, what: &str) {
    for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "{what}, line {}", number + 1);
    }
    assert_eq!(ours, theirs, "{what}");
}

#[test]
fn listings_are_the_goldens() {
    for object in objects() {
        let golden = |extension| std::fs::read_to_string(fixtures().join(&object).with_extension(extension));
        assert_same_lines(&stdout(&["disasm", "--raw", &object]), &golden("objdump").unwrap(), &object);
        if let Ok(golden) = golden("v4.objdump") {
            assert_same_lines(&stdout(&["disasm", "--raw", "--mcpu", "v4", &object]), &golden, &object);
        }
    }
}

#[test]
fn listings_are_those_of_the_tool() {
    if let Err(error) = Command::new(OBJDUMP).arg("--version").output() {
        eprintln!("SKIPPED: {OBJDUMP} does not run here: {error}");
        return;
    }
    let tool = |args: &[&str]| {
        let output = Command::new(OBJDUMP).arg("-d").args(args).current_dir(fixtures()).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for object in objects() {
        assert_same_lines(&stdout(&["disasm", &object]), &tool(&["--no-show-raw-insn", &object]), &object);
        for cpu in ["v1", "v2", "v3", "v4"] {
            let theirs = tool(&[&format!("--mcpu={cpu}"), &object]);
            assert_same_lines(&stdout(&["disasm", "--raw", "--mcpu", cpu, &object]), &theirs, &object);
        }
    }
    let theirs = tool(&["--no-show-raw-insn", "--disassemble-symbols=open_enter", "tailcall.bpf.o"]);
    assert_same_lines(&stdout(&["disasm", "tailcall.bpf.o", "open_enter"]), &theirs, "one program");
}

#[test]
fn xlated() {
    check(
        &["disasm", "tracex4.bpf.o", "bpf_prog1", "--style", "xlated"],
        expect![[r#"
        int bpf_prog1(struct pt_regs * ctx):
        ; u64 object = ctx->si;
           0: (79) r1 = *(u64 *)(r1 +104)
        ; u64 object = ctx->si;
           1: (7b) *(u64 *)(r10 -8) = r1
           2: (bf) r2 = r10
           3: (07) r2 += -8
        ; bpf_map_delete_elem(&my_map, &object);
           4: (18) r1 = map[my_map]
           6: (85) call bpf_map_delete_elem#3
        ; return 0;
           7: (b4) w0 = 0
           8: (95) exit
    "#]],
    );
    check(
        &["disasm", "tracex4_kern.o", "bpf_prog1", "--style", "xlated", "--raw"],
        expect![[r#"
        bpf_prog1:
           0: (79) r1 = *(u64 *)(r1 +104)
               79 11 68 00 00 00 00 00
           1: (7b) *(u64 *)(r10 -8) = r1
               7b 1a f8 ff 00 00 00 00
           2: (bf) r2 = r10
               bf a2 00 00 00 00 00 00
           3: (07) r2 += -8
               07 02 00 00 f8 ff ff ff
           4: (18) r1 = map[my_map]
               18 11 00 00 00 00 00 00 00 00 00 00 00 00 00 00
           6: (85) call bpf_map_delete_elem#3
               85 00 00 00 03 00 00 00
           7: (b7) r0 = 0
               b7 00 00 00 00 00 00 00
           8: (95) exit
               95 00 00 00 00 00 00 00
    "#]],
    );
    let readlinkat = stdout(&["disasm", "readlinkat.bpf.o", "--style", "xlated"]);
    assert!(readlinkat.contains("r1 = map[.rodata][0]+4\n"), "{readlinkat}");
}

#[test]
fn linked() {
    let linked = stdout(&["disasm", "subprogs.bpf.o", "--linked"]);
    assert_eq!(linked.matches("file format").count(), 1);
    assert!(linked.contains("\n\nDisassembly of section socket:\n\n0000000000000000 <filter>:\n"), "{linked}");
    assert!(linked.contains(" <digest>:\n"));
}

#[test]
fn json() {
    check(
        &["disasm", "faults.bpf.o", "unknown_helper", "--json"],
        expect![[r#"
        [
          {
            "program": "unknown_helper",
            "section": "kprobe/unknown_helper",
            "functions": [
              {
                "name": "unknown_helper",
                "slot": 0
              }
            ],
            "instructions": [
              {
                "slot": 0,
                "bytes": "850000001023ad0b",
                "text": "call 0xbad2310"
              },
              {
                "slot": 1,
                "bytes": "9500000000000000",
                "text": "exit"
              }
            ]
          }
        ]
    "#]],
    );
}

#[test]
fn text() {
    check_file(
        "disasm.s",
        b"start:\nr0 = 1\ngoto start\n",
        &["disasm", "FILE", "--raw"],
        expect![[r#"

        disasm.s:	file format elf64-bpf

        Disassembly of section .text:

        0000000000000000 <main>:
               0:	b7 00 00 00 01 00 00 00	r0 = 0x1
               1:	05 00 fe ff 00 00 00 00	goto -0x2 <main>
    "#]],
    );
}
