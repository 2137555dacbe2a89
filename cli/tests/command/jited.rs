//! `softbpf disasm --jited`. The machine code is that for every x86-64, so that listings are the same everywhere.

use expect_test::{Expect, expect};

use crate::{check, check_file, softbpf, transcript, with_input};

/// Whether there is a JIT; where there is none, the command must say so.
pub(crate) fn there_is_a_jit() -> bool {
    let Err(error) = softbpf_jit::engine() else { return true };
    let said = transcript(&softbpf(&["disasm", "--jited", "xdp_count.bpf.o"]).output().unwrap());
    assert_eq!(said, format!("--- standard error\nerror: {error}\n--- status 2\n"));
    eprintln!("SKIPPED: {error}");
    false
}

fn check_jited(args: &[&str], expected: Expect) {
    if there_is_a_jit() {
        check(&[&["disasm", "--jited", "--baseline"], args].concat(), expected);
    }
}

fn check_text(name: &str, text: &str, more: &[&str], expected: Expect) {
    if there_is_a_jit() {
        check_file(name, text.as_bytes(), &[&["disasm", "--jited", "--baseline", "FILE"], more].concat(), expected);
    }
}

#[test]
fn code_stands_under_instructions() {
    check_jited(
        &["faults.bpf.o", "past_map_value"],
        expect![[r#"
            past_map_value: 11 instructions, 271 bytes of machine code, 24.6 an instruction
            accesses: 1 proved, 0 compared with an object, 1 with a window

            past_map_value:
            ; int past_map_value(struct pt_regs *ctx)
               0: w1 = 0x0
                         0: sub    r9, 6
                         4: js     stub_0
                         a: xor    edi, edi
            ; u32 key = 0;
               1: *(u32 *)(r10 - 0x4) = r1                     ; proved: stack -4
                         d: mov    [r10+rbp-4], edi
               2: r2 = r10
                        12: mov    rsi, rbp
               3: r2 += -0x4
                        15: add    rsi, -4
            ; u8 *value = bpf_map_lookup_elem(&table, &key);
               4: ld_pseudo r1, 0x1, 0x0
                        19: mov    rdi, 0xffffc90000000000
               6: call 0x1
                        23: mov    r11, [r12+counts]
                        2b: cmp    qword ptr [r11+8], 0x1000
                        36: jb     stub_6
                        3c: inc    qword ptr [r11+8]
                        43: mov    eax, [r10+rbp-4]
                        4b: cmp    eax, 2
                        50: jae    stub_6_2
                        56: imul   eax, 0x18
                        5c: add    eax, 0x40000000
                        61: xor    edi, edi
                        64: xor    esi, esi
                        67: xor    edx, edx
                        6a: xor    ecx, ecx
                        6d: xor    r8d, r8d
               7: r1 = r0
                        70: sub    r9, 3
                        74: js     stub_7
                        7a: mov    rdi, rax
               8: w0 = -0x1
                        7d: mov    eax, -1
            ; if (!value)
               9: if r1 == 0x0 goto +0x1
                        83: test   rdi, rdi
                        86: je     slot_11
            ; return *(volatile u8 *)(value + 16);
              10: r0 = *(u8 *)(r1 + 0x10)                      ; checked: window
                        8c: sub    r9, 1
                        90: js     stub_10
                        96: mov    r11, rdi
                        99: sub    r11, [r12+window0.start]
                        a1: cmp    r11, [r12+window0.len]
                        a9: jae    stub_10_2
                        af: movzx  eax, byte ptr [r10+rdi+0x10]
            ; }
              11: exit
                        b5: sub    r9, 1
                        b9: js     stub_11
                        bf: ret

            behind the instructions:
                stub_0:
                      c0: call   qword ptr [r12+leave]
                stub_6_2:
                      c8: xor    eax, eax
                      ca: jmp    slot_6+0x3e
                stub_6:
                      cf: mov    r11d, 0
                      d5: call   qword ptr [r12+helper]
                      dd: jmp    slot_7
                stub_7:
                      e2: call   qword ptr [r12+leave]
                stub_10:
                      ea: call   qword ptr [r12+leave]
                stub_10_2:
                      f2: lea    r11, [rdi+0x10]
                      fa: call   qword ptr [r12+check.read1]
                     102: jmp    slot_10+0x23
                stub_11:
                     107: call   qword ptr [r12+leave]
        "#]],
    );
}

#[test]
fn places_and_bytes_are_shown() {
    if !there_is_a_jit() {
        return;
    }
    let program = b"r0 = 0\nr1 = 3\ncall pc+1\nexit\nr0 += 1\nr1 += -1\nif r1 != 0 goto -3\nexit\n";
    let output = with_input(&["disasm", "--jited", "--baseline", "--raw", "--style", "xlated", "-"], program);
    let listing = transcript(&output);
    let has = |line: &str| assert!(listing.lines().any(|found| found.trim().ends_with(line)), "{line}: {listing}");
    // The function's entry and its code, the head of the loop, a stub, and bytes with what they mean.
    has("2: (85) call pc+1");
    has(" call   enter_4");
    has("enter_4:");
    has(" call   slot_4");
    has(" jne    slot_4");
    has(" js     stub_4");
    has("stub_4:");
    has(": c3                                  ret");
}

#[test]
fn without_proofs_everything_is_checked() {
    let program = "*(u64 *)(r10 - 8) = r1\nr2 = *(u32 *)(r1 + 4)\nr0 = 0\nexit\n";
    check_text(
        "proofs.s",
        program,
        &["--no-proofs"],
        expect![[r#"
            main: 4 instructions, 69 bytes of machine code, 17.2 an instruction
            accesses: 1 proved, 1 compared with an object, 0 with a window

            main:
               0: *(u64 *)(r10 - 0x8) = r1                     ; proved: stack -8
                         0: sub    r9, 4
                         4: js     stub_0
                         a: mov    [r10+rbp-8], rdi
               1: r2 = *(u32 *)(r1 + 0x4)                      ; checked: context
                         f: lea    r11, [rdi+4]
                        14: cmp    r11, [r12+context.read2]
                        19: jae    stub_1
                        1f: mov    esi, [r10+rdi+4]
               2: r0 = 0x0
                        24: xor    eax, eax
               3: exit
                        27: ret

            behind the instructions:
                stub_0:
                      28: call   qword ptr [r12+leave]
                stub_1:
                      30: lea    r11, [rdi+4]
                      38: call   qword ptr [r12+check.read4]
                      40: jmp    slot_1+0x10
        "#]],
    );
    check_text(
        "proofs-2.s",
        program,
        &[],
        expect![[r#"
        main: 4 instructions, 36 bytes of machine code, 9.0 an instruction
        accesses: 2 proved, 0 compared with an object, 0 with a window

        main:
           0: *(u64 *)(r10 - 0x8) = r1                     ; proved: stack -8
                     0: sub    r9, 4
                     4: js     stub_0
                     a: mov    [r10+rbp-8], rdi
           1: r2 = *(u32 *)(r1 + 0x4)                      ; proved: context +4
                     f: lea    r11d, [rdi+4]
                    14: mov    esi, [r10+r11]
           2: r0 = 0x0
                    18: xor    eax, eax
           3: exit
                    1b: ret

        behind the instructions:
            stub_0:
                  1c: call   qword ptr [r12+leave]
    "#]],
    );
}

#[test]
fn json() {
    check_text(
        "json.s",
        "r2 = *(u32 *)(r1 + 4)\nr0 = 0\nexit\n",
        &["--json"],
        expect![[r#"
            [
              {
                "program": "main",
                "section": "",
                "code_bytes": 31,
                "accesses": {
                  "proved": 1,
                  "object": 0,
                  "window": 0
                },
                "instructions": [
                  {
                    "slot": 0,
                    "function": "main",
                    "line": null,
                    "text": "r2 = *(u32 *)(r1 + 0x4)",
                    "access": {
                      "check": "proved",
                      "object": "context",
                      "first": 4,
                      "last": 4
                    },
                    "code": [
                      {
                        "offset": 0,
                        "label": null,
                        "bytes": "4983e903",
                        "text": "sub    r9, 3"
                      },
                      {
                        "offset": 4,
                        "label": null,
                        "bytes": "0f880d000000",
                        "text": "js     stub_0"
                      },
                      {
                        "offset": 10,
                        "label": null,
                        "bytes": "448d5c2704",
                        "text": "lea    r11d, [rdi+4]"
                      },
                      {
                        "offset": 15,
                        "label": null,
                        "bytes": "438b341a",
                        "text": "mov    esi, [r10+r11]"
                      }
                    ]
                  },
                  {
                    "slot": 1,
                    "function": null,
                    "line": null,
                    "text": "r0 = 0x0",
                    "access": null,
                    "code": [
                      {
                        "offset": 19,
                        "label": null,
                        "bytes": "4031c0",
                        "text": "xor    eax, eax"
                      }
                    ]
                  },
                  {
                    "slot": 2,
                    "function": null,
                    "line": null,
                    "text": "exit",
                    "access": null,
                    "code": [
                      {
                        "offset": 22,
                        "label": null,
                        "bytes": "c3",
                        "text": "ret"
                      }
                    ]
                  }
                ],
                "behind": [
                  {
                    "offset": 23,
                    "label": "stub_0",
                    "bytes": "41ff942460000000",
                    "text": "call   qword ptr [r12+leave]"
                  }
                ]
              }
            ]
        "#]],
    );
}

#[test]
fn options_belong_together() {
    check(
        &["disasm", "xdp_count.bpf.o", "--baseline"],
        expect![[r#"
        --- standard error
        error: the following required arguments were not provided:
          --jited

        Usage: softbpf disasm --jited --baseline <OBJECT> [PROGRAM]

        For more information, try '--help'.
        --- status 2
    "#]],
    );
}

#[test]
fn programs_that_cannot_be_linked_are_said_so() {
    check_jited(
        &["everyop.bpf.o"],
        expect![[r#"
        --- standard error
        error: program everyop: slot 595: jumps to slot 33363, outside the program
        --- status 2
    "#]],
    );
}
