//! Text to bytecode.

use expect_test::expect;

use crate::{check_file, fixtures, scratch, softbpf, stdout, transcript, with_input};

#[test]
fn hexadecimal_digits() {
    let text = b"r1 = 0x1122334455667788 ll\nif r1 > 5 goto out\ncall bpf_ktime_get_ns\nout: exit\n";
    check_file(
        "digits.s",
        text,
        &["asm", "FILE"],
        expect![[r#"
        18 01 00 00 88 77 66 55
        00 00 00 00 44 33 22 11
        25 01 01 00 05 00 00 00
        85 00 00 00 05 00 00 00
        95 00 00 00 00 00 00 00
    "#]],
    );
}

#[test]
fn errors_point_at_the_place() {
    check_file(
        "register.s",
        b"r0 = 1\n\tr1 = r99\nexit\n",
        &["asm", "FILE"],
        expect![[r#"
        --- standard error
        error: expected a register, a number, memory, or a name and `ll`, found r99
         --> register.s:2:7
          |
        2 | r1 = r99
          |      ^
        --- status 2
    "#]],
    );
    check_file(
        "label.s",
        b"goto nowhere\nexit\n",
        &["asm", "FILE"],
        expect![[r#"
        --- standard error
        error: there is no label "nowhere"
         --> label.s:1:6
          |
        1 | goto nowhere
          |      ^
        --- status 2
    "#]],
    );
    check_file(
        "map.s",
        b"r1 = my_map ll\nexit\n",
        &["asm", "FILE"],
        expect![[r#"
        --- standard error
        error: map.s: slot 0: there is no map or data named "my_map"
        --- status 2
    "#]],
    );
    check_file(
        "latin1.s",
        b"r0 = 1 # caf\xe9\n",
        &["asm", "FILE"],
        expect![[r#"
        --- standard error
        error: latin1.s: not text: byte 12 is no UTF-8
        --- status 2
    "#]],
    );
    expect![[r#"
        --- standard error
        error: expected the end of the line, found exit
         --> <stdin>:1:6
          |
        1 | exit exit
          |      ^
        --- status 2
    "#]]
    .assert_eq(&transcript(&with_input(&["asm", "-"], b"exit exit")));
}

#[test]
fn a_file() {
    let folder = scratch("asm-file");
    std::fs::write(folder.join("in.s"), "r0 = 7\nexit\n").unwrap();
    let output = softbpf(&["asm", "in.s", "-o", "out.bin"]).current_dir(&folder).output().unwrap();
    assert_eq!(transcript(&output), "");
    let bytecode = std::fs::read(folder.join("out.bin")).unwrap();
    assert_eq!(bytecode, [0xb7, 0, 0, 0, 7, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]);
    let ran = softbpf(&["run", "out.bin"]).current_dir(&folder).output().unwrap();
    assert!(transcript(&ran).contains("returned      7 (0x7)"));
    let output = softbpf(&["asm", "in.s", "-o", "no/such/folder"]).current_dir(&folder).output().unwrap();
    expect![[r#"
        --- standard error
        error: cannot write no/such/folder: No such file or directory (os error 2)
        --- status 2
    "#]]
    .assert_eq(&transcript(&output));
}

/// What `disasm` prints, `asm` reads: the bytes of the section come back.
#[test]
fn listings_come_back() {
    let listing = stdout(&["disasm", "tracex4_kern.o", "bpf_prog2", "--raw"]);
    let assembled = with_input(&["asm", "-"], listing.as_bytes());
    let digits = String::from_utf8(assembled.stdout).unwrap().replace(char::is_whitespace, "");
    let golden = std::fs::read_to_string(fixtures().join("tracex4_kern.objdump")).unwrap();
    let bytes = golden.split("<bpf_prog2>:").nth(1).unwrap().lines().filter_map(|line| line.split('\t').nth(1));
    assert_eq!(digits, bytes.collect::<String>().replace(' ', ""));
}
