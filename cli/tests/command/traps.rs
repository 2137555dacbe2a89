//! Programs that trap, each with its report.

use expect_test::{Expect, expect};

use crate::{check, check_file, fixtures, softbpf, transcript};

/// The report: what comes on standard error.
fn check_report(args: &[&str], expected: Expect) {
    let output = softbpf(&[&["run", "faults.bpf.o"], args].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", transcript(&output));
    expected.assert_eq(&String::from_utf8(output.stderr).unwrap());
}

#[test]
fn past_map_value() {
    check(
        &["run", "faults.bpf.o", "past_map_value"],
        expect![[r#"
        program       past_map_value (kprobe)
        trapped       at slot 10 of past_map_value
        instructions  10

        map table (array): 2 elements
        key: 00 00 00 00  value: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
          0: [0, 0]
        key: 01 00 00 00  value: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
          1: [0, 0]
        --- standard error
        error: invalid read of 1 byte at 0x40000010: out of bounds
          --> ./faults.bpf.c:25:9
           |
        25 | return *(volatile u8 *)(value + 16);
           |        ^
          = at slot 10 of past_map_value: w0 = *(u8 *)(r1 + 0x10)
          = the address is 1 byte past the end of value of map table[0] (16 bytes at 0x40000000)
          = help: values of this map have 16 bytes: is an index or offset checked?

           r0 0xffffffff           r1 0x40000000           r2 0x0                  r3 0x0
           r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
           r8 0x0                  r9 0x0                 r10 0x100000

        --- status 1
    "#]],
    );
}

#[test]
fn null_map_value() {
    check_report(
        &["null_map_value"],
        expect![[r#"
        error: invalid read of 8 bytes at 0x0: null pointer
          --> ./faults.bpf.c:35:9
           |
        35 | return *(volatile u64 *)value;
           |        ^
          = at slot 7 of null_map_value: r0 = *(u64 *)(r0 + 0x0)
          = help: check pointers before use: bpf_map_lookup_elem returns null for a key that is not in the map

           r0 0x0                  r1 0x0                  r2 0x0                  r3 0x0
           r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
           r8 0x0                  r9 0x0                 r10 0x100000

    "#]],
    );
}

#[test]
fn past_packet_end() {
    check_report(
        &["past_packet_end", "--packet", "0011223344556677 8899aabbccdd"],
        expect![[r#"
        error: invalid read of 1 byte at 0x1001ce: out of bounds
          --> ./faults.bpf.c:47:9
           |
        47 | return *(volatile u8 *)(data + 14) ? XDP_PASS : XDP_ABORTED;
           |        ^
          = at slot 5 of past_packet_end: w1 = *(u8 *)(r2 + 0x0)
          = the address is 1 byte past the end of the packet (14 bytes at 0x1001c0)
          = help: compare the end of what is read with data_end before reading it

           r0 0x1                  r1 0x1001ce             r2 0x1001ce             r3 0x0
           r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
           r8 0x0                  r9 0x0                 r10 0x100000

    "#]],
    );
}

#[test]
fn out_of_stack() {
    check_report(
        &["out_of_stack"],
        expect![[r#"
            error: invalid write of 8 bytes at 0xffdf8: out of bounds
              --> ./faults.bpf.c:54:2
               |
            54 | asm volatile("*(u64 *)(r10 - 520) = %0" : : "r"(ctx) : "memory");
               | ^
              = at slot 0 of out_of_stack: *(u64 *)(r10 - 0x208) = r1
              = the access starts 8 bytes before the stack (512 bytes at 0xffe00)
              = help: a frame has 512 bytes, from r10 - 512 on

               r0 0x0                  r1 0x100040             r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

        "#]],
    );
}

#[test]
fn uninitialised_stack() {
    check_report(
        &["uninitialised_stack", "--strict"],
        expect![[r#"
            error: invalid read of 8 bytes at 0xfffc0: not all of it was ever written
              --> ./faults.bpf.c:64:2
               |
            64 | asm volatile("%0 = *(u64 *)(r10 - 64)" : "=r"(junk));
               | ^
              = at slot 0 of uninitialised_stack: r0 = *(u64 *)(r10 - 0x40)
              = the access lies in the stack (512 bytes at 0xffe00), at offset 448
              = help: the stack starts out with whatever was there before: write it first, or run without --strict

               r0 0x0                  r1 0x100040             r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

        "#]],
    );
}

#[test]
fn endless_loop() {
    check_report(
        &["endless_loop", "--fuel", "1000"],
        expect![[r#"
            error: the program did not end within 1000 instructions
              --> ./faults.bpf.c:89:2
               |
            89 | for (;;) {
               | ^
              = at slot 2 of endless_loop: goto -0x2
              = help: a loop without an end? --fuel N allows more instructions

               r0 0x0                  r1 0x1f4                r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

        "#]],
    );
}

#[test]
fn deep_recursion() {
    check_report(
        &["deep_recursion"],
        expect![[r#"
            error: calls more than 8 deep
               --> ./faults.bpf.c:103:9
                |
            103 | return dive(depth - 1) + here;
                |        ^
              = at slot 7 of dive (program deep_recursion): call pc-0x5
              = called at slot 7 of dive, ./faults.bpf.c:103
              = called at slot 7 of dive, ./faults.bpf.c:103
              = called at slot 7 of dive, ./faults.bpf.c:103
              = called at slot 7 of dive, ./faults.bpf.c:103
              = called at slot 7 of dive, ./faults.bpf.c:103
              = called at slot 7 of dive, ./faults.bpf.c:103
              = called at slot 1 of deep_recursion, ./faults.bpf.c:109
              = help: a function that calls itself without an end? The kernel allows 8 frames

               r0 0x0                  r1 0xd                  r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0xfe400

        "#]],
    );
}

#[test]
fn write_rodata() {
    check_report(
        &["write_rodata"],
        expect![[r#"
        error: invalid write of 4 bytes at 0x40000080: the memory is read-only
           --> ./faults.bpf.c:116:28
            |
        116 | *(volatile u32 *)&setting = 6;
            |                           ^
          = at slot 3 of write_rodata: *(u32 *)(r1 + 0x0) = w2
          = the access lies in .rodata, variable setting (4 bytes at 0x40000080), at offset 0
          = help: programs cannot change .rodata; --set NAME=VALUE sets a variable before the run

           r0 0x0                  r1 0x40000080           r2 0x6                  r3 0x0
           r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
           r8 0x0                  r9 0x0                 r10 0x100000

    "#]],
    );
}

#[test]
fn unknown_helper() {
    check_report(
        &["unknown_helper"],
        expect![[r#"
            error: there is no helper with number 195896080 (0xbad2310)
               --> ./faults.bpf.c:126:9
                |
            126 | return helper(ctx);
                |        ^
              = at slot 0 of unknown_helper: call 0xbad2310
              = help: no kernel has this helper; --mock 195896080=VALUE makes it return a constant

               r0 0x0                  r1 0x100040             r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

        "#]],
    );
    check(
        &["run", "faults.bpf.o", "unknown_helper", "--mock", "195896080=9", "--entries", "0"],
        expect![[r#"
        program       unknown_helper (kprobe)
        returned      9 (0x9)
        instructions  2

        map table (array): 2 elements
        ... and 2 more (--entries)
    "#]],
    );
}

/// Programs whose bugs only the kernel's verifier minds.
#[test]
fn what_a_machine_can_run() {
    for program in ["uninitialised_stack", "frames_too_big", "no_return_value"] {
        let output = softbpf(&["run", "faults.bpf.o", program]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{program}: {}", transcript(&output));
    }
}

#[test]
fn helpers_without_implementation() {
    check_file(
        "redirect.s",
        b"call bpf_redirect\nexit\n",
        &["run", "FILE"],
        expect![[r#"
        program       main (unspec)
        trapped       at slot 0 of main
        instructions  1
        --- standard error
        error: helper bpf_redirect (number 23) is not implemented and not mocked
          = at slot 0 of main: call 0x17 # bpf_redirect
          = help: --mock redirect=VALUE makes it return a constant

           r0 0x0                  r1 0x0                  r2 0x0                  r3 0x0
           r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
           r8 0x0                  r9 0x0                 r10 0x100000

        --- status 1
    "#]],
    );
}

#[test]
fn arguments_of_helpers() {
    let program = b"r1 = 0\nr2 = r10\ncall bpf_map_lookup_elem\nexit\n";
    check_file(
        "no-map.s",
        program,
        &["run", "FILE"],
        expect![[r#"
        program       main (unspec)
        trapped       at slot 2 of main
        instructions  3
        --- standard error
        error: argument 1 of bpf_map_lookup_elem is wrong: 0x0 is not a map
          = at slot 2 of main: call 0x1 # bpf_map_lookup_elem
          = help: the instruction that loads the map has not been relocated?

           r0 0x0                  r1 0x0                  r2 0x100000             r3 0x0
           r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
           r8 0x0                  r9 0x0                 r10 0x100000

        --- status 1
    "#]],
    );
    let program = b"r1 = m ll\nr2 = r10\nr2 += -2\ncall bpf_map_lookup_elem\nexit\n";
    check_file(
        "key.s",
        program,
        &["run", "FILE", "--create", "m=hash:4:8:1"],
        expect![[r#"
        program       main (unspec)
        trapped       at slot 4 of main
        instructions  4

        map m (hash): 0 elements
        --- standard error
        error: argument 2 of bpf_map_lookup_elem is wrong: invalid read of 4 bytes at 0xffffe: out of bounds
          = at slot 4 of main: call 0x1 # bpf_map_lookup_elem
          = the access ends 2 bytes past the end of the stack (512 bytes at 0xffe00)
          = help: nothing of the frame lies at or above r10

           r0 0x0                  r1 0xffffc90000000000   r2 0xffffe              r3 0x0
           r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
           r8 0x0                  r9 0x0                 r10 0x100000

        --- status 1
    "#]],
    );
}

#[test]
fn contexts() {
    let program = b"r0 = *(u64 *)(r1 + 168)\nexit\n";
    check_file(
        "regs.s",
        program,
        &["run", "FILE", "--type", "kprobe"],
        expect![[r#"
            program       main (kprobe)
            trapped       at slot 0 of main
            instructions  1
            --- standard error
            error: invalid read of 8 bytes at 0x1000e8: out of bounds
              = at slot 0 of main: r0 = *(u64 *)(r1 + 0xa8)
              = the address is 1 byte past the end of the context (168 bytes at 0x100040)
              = help: the context of this run has 168 bytes

               r0 0x0                  r1 0x100040             r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

            --- status 1
        "#]],
    );
    check_file(
        "none.s",
        program,
        &["run", "FILE", "--type", "tracepoint"],
        expect![[r#"
            program       main (tracepoint)
            trapped       at slot 0 of main
            instructions  1
            --- standard error
            error: invalid read of 8 bytes at 0xa8: null pointer
              = at slot 0 of main: r0 = *(u64 *)(r1 + 0xa8)
              = help: check pointers before use; the program got no context either: --ctx-hex or --ctx-file gives it one

               r0 0x0                  r1 0x0                  r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

            --- status 1
        "#]],
    );
    let program = b"*(u64 *)(r1 + 0) = 1\nexit\n";
    check_file(
        "write.s",
        program,
        &["run", "FILE", "--type", "kprobe"],
        expect![[r#"
            program       main (kprobe)
            trapped       at slot 0 of main
            instructions  1
            --- standard error
            error: invalid write of 8 bytes at 0x100040: the memory is read-only
              = at slot 0 of main: *(u64 *)(r1 + 0x0) = 0x1
              = the access lies in the context (168 bytes at 0x100040), at offset 0
              = help: programs of this type may not change this part of the context

               r0 0x0                  r1 0x100040             r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

            --- status 1
        "#]],
    );
}

#[test]
fn addresses_without_an_object() {
    check_file(
        "far.s",
        b"r1 = 0xffff888000000000 ll\nr0 = *(u8 *)(r1 + 0)\nexit\n",
        &["run", "FILE"],
        expect![[r#"
        program       main (unspec)
        trapped       at slot 2 of main
        instructions  2
        --- standard error
        error: invalid read of 1 byte at 0xffff888000000000: no guest memory has such an address
          = at slot 2 of main: w0 = *(u8 *)(r1 + 0x0)
          = help: kernel and user memory is read by bpf_probe_read_kernel and its like; --mem ADDR=HEX places some

           r0 0x0                  r1 0xffff888000000000   r2 0x0                  r3 0x0
           r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
           r8 0x0                  r9 0x0                 r10 0x100000

        --- status 1
    "#]],
    );
    check_file(
        "wild.s",
        b"r1 = 0x7fffffff\nr0 = *(u8 *)(r1 + 0)\nexit\n",
        &["run", "FILE"],
        expect![[r#"
            program       main (unspec)
            trapped       at slot 1 of main
            instructions  2
            --- standard error
            error: invalid read of 1 byte at 0x7fffffff: out of bounds
              = at slot 1 of main: w0 = *(u8 *)(r1 + 0x0)
              = help: the address is no pointer: a number, or a pointer from an earlier run?

               r0 0x0                  r1 0x7fffffff           r2 0x0                  r3 0x0
               r4 0x0                  r5 0x0                  r6 0x0                  r7 0x0
               r8 0x0                  r9 0x0                 r10 0x100000

            --- status 1
        "#]],
    );
}

/// The list in the fixture's source and the tests here name the same programs.
#[test]
fn every_fault_has_a_test() {
    let source = std::fs::read_to_string(fixtures().join("faults.bpf.c")).unwrap();
    let here = include_str!("traps.rs");
    for line in source.lines().filter(|line| line.contains("int ") && line.contains("(struct ")) {
        let name = line.split("int ").nth(1).and_then(|rest| rest.split('(').next()).unwrap();
        assert!(here.contains(&format!("\"{name}\"")), "{name}");
    }
}
