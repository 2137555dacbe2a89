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
            past_map_value: 11 instructions, 206 bytes of machine code, 18.7 an instruction
            accesses: 1 proved, 0 compared with an object, 1 with a window
            assumed of a run, which else takes code without proofs:
                map_lookup_elem is not mocked

            past_map_value:
            ; int past_map_value(struct pt_regs *ctx)
               0: w1 = 0x0
                         0: sub    r9, 6
                         4: jl     stub_0
                         a: xor    edi, edi
            ; u32 key = 0;
               1: *(u32 *)(r10 - 0x4) = r1                     ; proved: stack -4, in the frame
                         c: mov    [r10+rbp-4], edi
               2: r2 = r10
                        11: lea    rsi, [rbp-4]
               3: r2 += -0x4
            ; u8 *value = bpf_map_lookup_elem(&table, &key);
               4: ld_pseudo r1, 0x1, 0x0
                        15: mov    rdi, 0xffffc90000000000
               6: call 0x1
                        1f: cmp    qword ptr [r12+kept1], 0
                        2b: jne    stub_6
                        31: inc    qword ptr [r12+counted1]
                        39: mov    eax, [r10+rbp-4]
                        41: cmp    eax, 2
                        46: jae    stub_6_2
                        4c: imul   eax, 0x18
                        52: add    eax, 0x40000000
                        57: xor    edi, edi
                        59: xor    esi, esi
                        5b: xor    edx, edx
                        5d: xor    ecx, ecx
                        5f: xor    r8d, r8d
               7: r1 = r0
                        62: sub    r9, 3
                        66: jl     stub_7
                        6c: mov    rdi, rax
               8: w0 = -0x1
                        6f: mov    eax, -1
            ; if (!value)
               9: if r1 == 0x0 goto +0x1
                        74: test   rdi, rdi
                        77: je     slot_11
            ; return *(volatile u8 *)(value + 16);
              10: r0 = *(u8 *)(r1 + 0x10)                      ; checked: window
                        7d: sub    r9, 1
                        81: mov    r11, rdi
                        84: sub    r11, [r12+window0.start]
                        8c: cmp    r11, [r12+window0.len]
                        94: jae    stub_10
                        9a: movzx  eax, byte ptr [r10+rdi+0x10]
            ; }
              11: exit
                        a0: sub    r9, 1
                        a4: ret

            behind the instructions:
                stub_0:
                      a5: call   qword ptr [r12+leave]
                stub_6_2:
                      aa: xor    eax, eax
                      ac: jmp    slot_6+0x38
                stub_6:
                      ae: mov    r11d, 0
                      b4: call   qword ptr [r12+helper]
                      b9: jmp    slot_7
                stub_7:
                      bb: call   qword ptr [r12+leave]
                stub_10:
                      c0: lea    r11, [rdi+0x10]
                      c4: call   qword ptr [r12+check.read1]
                      cc: jmp    slot_10+0x1d
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
    // A call and the function's code, the head of the loop, stubs, and bytes with what they mean.
    has("2: (85) call pc+1");
    has(" jbe    stub_2");
    has(" call   slot_4");
    has(" jne    slot_4");
    has(" jl     stub_4");
    has("stub_4:");
    has(": c3                                  ret");
}

#[test]
fn a_search_has_the_name_of_its_map() {
    if !there_is_a_jit() {
        return;
    }
    let listing = transcript(&softbpf(&["disasm", "--jited", "--baseline", "readlinkat.bpf.o"]).output().unwrap());
    let has = |line: &str| assert!(listing.lines().any(|found| found.trim().ends_with(line)), "{line}: {listing}");
    has(" call   search_records");
    has("search_records:");
}

#[test]
fn without_proofs_everything_is_checked() {
    let program = "*(u64 *)(r10 - 8) = r1\nr2 = *(u32 *)(r1 + 4)\nr0 = 0\nexit\n";
    check_text(
        "proofs.s",
        program,
        &["--no-proofs"],
        expect![[r#"
            main: 4 instructions, 57 bytes of machine code, 14.2 an instruction
            accesses: 1 proved, 1 compared with an object, 0 with a window

            main:
               0: *(u64 *)(r10 - 0x8) = r1                     ; proved: stack -8, in the frame
                         0: sub    r9, 4
                         4: jl     stub_0
                         a: mov    [r10+rbp-8], rdi
               1: r2 = *(u32 *)(r1 + 0x4)                      ; checked: context
                         f: lea    r11, [rdi+4]
                        13: cmp    r11, [r12+context.read4]
                        18: jae    stub_1
                        1e: mov    esi, [r10+rdi+4]
               2: r0 = 0x0
                        23: xor    eax, eax
               3: exit
                        25: ret

            behind the instructions:
                stub_0:
                      26: call   qword ptr [r12+leave]
                stub_1:
                      2b: lea    r11, [rdi+4]
                      2f: call   qword ptr [r12+check.read4]
                      37: jmp    slot_1+0xf
        "#]],
    );
    check_text(
        "proofs-2.s",
        program,
        &[],
        expect![[r#"
            main: 4 instructions, 31 bytes of machine code, 7.8 an instruction
            accesses: 2 proved, 0 compared with an object, 0 with a window
            assumed of a run, which else takes code without proofs:
                context +4 to +7 can be read

            main:
               0: *(u64 *)(r10 - 0x8) = r1                     ; proved: stack -8, in the frame
                         0: sub    r9, 4
                         4: jl     stub_0
                         a: mov    [r10+rbp-8], rdi
               1: r2 = *(u32 *)(r1 + 0x4)                      ; proved: context +4, as assumed
                         f: lea    r11d, [rdi+4]
                        13: mov    esi, [r10+r11]
               2: r0 = 0x0
                        17: xor    eax, eax
               3: exit
                        19: ret

            behind the instructions:
                stub_0:
                      1a: call   qword ptr [r12+leave]
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
                "code_bytes": 26,
                "assumptions": {
                  "context_readable": [
                    [
                      4,
                      7
                    ]
                  ],
                  "context_writable": [],
                  "packet_pointers": null,
                  "packet_readable": false,
                  "packet_writable": false,
                  "not_mocked": []
                },
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
                      "last": 4,
                      "why": "as assumed"
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
                        "bytes": "0f8c0b000000",
                        "text": "jl     stub_0"
                      },
                      {
                        "offset": 10,
                        "label": null,
                        "bytes": "448d5f04",
                        "text": "lea    r11d, [rdi+4]"
                      },
                      {
                        "offset": 14,
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
                        "offset": 18,
                        "label": null,
                        "bytes": "31c0",
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
                        "offset": 20,
                        "label": null,
                        "bytes": "c3",
                        "text": "ret"
                      }
                    ]
                  }
                ],
                "behind": [
                  {
                    "offset": 21,
                    "label": "stub_0",
                    "bytes": "41ff542468",
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
