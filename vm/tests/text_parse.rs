//! What the parser takes and what it refuses. That it ends on anything: `text_hostile.rs`.

use expect_test::{Expect, expect};
use softbpf::asm::{Insn, R1, R2, R3, R6, R10, Size, Width};
use softbpf::insn::{Callee, Imm64};
use softbpf::text::parse::{ParseErrorKind, Reference, parse, parse_with};

const READLINKAT: &str = include_str!("text_parse/readlinkat.txt");

fn helpers(name: &str) -> Option<i32> {
    (name == "bpf_ktime_get_ns").then_some(5)
}

/// One instruction in many spellings.
#[track_caller]
fn same(insn: Insn, texts: &[&str]) {
    for text in texts {
        match parse_with(text, &helpers) {
            Ok(assembly) => assert_eq!(assembly.code.insns(), [insn], "{text:?}"),
            Err(error) => panic!("{text:?}: {error}"),
        }
    }
}

/// The instructions of a text, labels resolved.
#[track_caller]
fn check(text: &str, expected: Expect) {
    let assembly = parse_with(text, &helpers).unwrap_or_else(|error| panic!("{error}"));
    let lines: Vec<_> = assembly.code.iter().map(|(slot, insn)| format!("{slot}: {insn}")).collect();
    expected.assert_eq(&lines.join("\n"));
}

/// The errors of texts, one a line.
#[track_caller]
fn errors(texts: &[&str], expected: Expect) {
    let errors: Vec<_> = texts
        .iter()
        .map(|text| match parse_with(text, &helpers) {
            Ok(assembly) => panic!("{text:?} is {:?}", assembly.code),
            Err(error) => format!("{text:?}: {error}"),
        })
        .collect();
    expected.assert_eq(&errors.join("\n"));
}

#[test]
fn numbers_are_decimal_or_hex_and_bit_patterns() {
    same(Insn::mov(R1, 255), &["r1 = 255", "r1 = 0xff", "r1 = 0Xff", "r1 = +255", "r1=0x000000000000000000000000ff"]);
    same(Insn::mov(R1, -1), &["r1 = -1", "r1 = - 1", "r1 = -0x1", "r1 = 0xffffffff", "r1 = 4294967295"]);
    same(Insn::mov(R1, i32::MIN), &["r1 = -2147483648", "r1 = 0x80000000", "r1 = -0x80000000"]);
    same(Insn::jeq(R1, -1, 2), &["if r1 == 0xffffffff goto +2", "if r1 == -1 goto pc+2", "if r1==-1 goto 2"]);
    same(Insn::load_imm64(R1, u64::MAX), &["r1 = -1 ll", "r1 = 0xffffffffffffffff ll", "r1 = 18446744073709551615 ll"]);
    same(Insn::load_imm64(R1, 1 << 63), &["r1 = -0x8000000000000000 ll", "r1 = 9223372036854775808 ll"]);
}

#[test]
fn both_dialects_are_read() {
    same(
        Insn::load(Size::W, R1, R2, -4),
        &[
            "r1 = *(u32 *)(r2 - 4)",
            "w1 = *(u32*)(r2-4)",
            "r1 = *(u32 *)(r2 -4)",
            "r1 = *(u32 *)(r2 + -4)",
            "(61) r1 = *(u32 *)(r2 -4)",
        ],
    );
    same(Insn::store(Size::DW, R10, -8, R1), &["*(u64 *)(r10 - 8) = r1", "12: (7b) *(u64 *)(r10 -8) = r1"]);
    same(
        Insn::atomic_cmpxchg(Width::W32, R1, 4, R2),
        &["w0 = cmpxchg32_32(r1 + 4, w0, w2)", "r0 = atomic_cmpxchg((u32 *)(r1 +4), r0, r2)"],
    );
    same(
        Insn::atomic_xchg(Width::W64, R1, 4, R2),
        &["r2 = xchg_64(r1 + 4, r2)", "r2 = atomic64_xchg((u64 *)(r1 +4), r2)"],
    );
    same(
        Insn::atomic_fetch_add(Width::W64, R1, 4, R2),
        &["r2 = atomic_fetch_add((u64 *)(r1 + 4), r2)", "(db) r2 = atomic64_fetch_add((u64 *)(r1 +4), r2)"],
    );
    same(Insn::load_imm64(R1, 5), &["r1 = 5 ll", "(18) r1 = 0x5", "0: (18) r1 = 0x5"]);
    same(Insn::mov(R1, 5), &["r1 = 5", "(b7) r1 = 5"]);
    same(Insn::load_packet_at(Size::B, R6, 0), &["r0 = *(u8 *)skb[r6]", "r0 = *(u8 *)skb[r6 + 0]"]);
}

#[test]
fn calls_by_number_name_and_offset() {
    same(Insn::call(14), &["call 14", "call 0xe", "call bpf_get_current_pid_tgid#14", "(85) call unknown#14"]);
    same(Insn::call(14), &["call 14 # comment", "call 14#comment"]);
    same(Insn::call(5), &["call bpf_ktime_get_ns", "call bpf_ktime_get_ns # 7", "call bpf_ktime_get_ns//7"]);
    same(Insn::call_local(2), &["call pc+2", "call pc + 0x2", "(85) call pc+2#bpf_prog_4b0d0be56f11e563_digest"]);
    same(Insn::call(-3), &["call -3", "(85) call array_map_lookup#-3"]);
    same(Insn::call_kfunc(7, 1), &["call kfunc 7, 1", "call kfunc#7,1"]);
    same(Insn::Call(Callee::Reg(R3)), &["callx r3"]);
    check(
        "call f\nf: exit",
        expect![[r#"
        0: call pc+0x0
        1: exit"#]],
    );
}

#[test]
fn labels_and_targets() {
    check(
        "start: r1 = 0
         again:
         LBB0_1: .L2: r1 += 1      // three names
         if r1 < 10 goto again
         if w1 == 7 goto exit
         may_goto start
         goto +1 <somewhere+0x8>
         gotol pc-2
         exit: exit",
        expect![[r#"
            0: r1 = 0x0
            1: r1 += 0x1
            2: if r1 < 0xa goto -0x2
            3: if w1 == 0x7 goto +0x3
            4: may_goto -0x5
            5: goto +0x1
            6: gotol -0x2
            7: exit"#]],
    );
    let assembly = parse("a: b: exit\nend:").unwrap();
    assert_eq!(assembly.labels.into_iter().collect::<Vec<_>>(), [("a".into(), 0), ("b".into(), 0), ("end".into(), 1)]);
}

#[test]
fn comments_and_headings_are_skipped() {
    check(
        "
        ; a line of C: r0 = 0; exit
        # r0 = 0
        // r0 = 0
        r0 = /* not 5 */ 1   ; R0=1 of the verifier
        r0 /* over
              lines */ += 2 # more
        exit ; return;\r
x.o:\tfile format elf64-bpf

Disassembly of section .text:

0000000000000000 <main>:
       0:\tr0 = 0x3
static int f(struct xdp_md * ctx):
; return 4;
   1: (b7) r0 = 4
       b7 00 00 00 04 00 00 00
   2: (95) exit
",
        expect![[r#"
            0: r0 = 0x1
            1: r0 += 0x2
            2: exit
            3: r0 = 0x3
            4: r0 = 0x4
            5: exit"#]],
    );
}

#[test]
fn bytes_of_a_listing_say_what_its_text_does_not() {
    same(Insn::call_local(5), &["0:\t85 10 00 00 05 00 00 00\tcall 0x5", "85 10 00 00 05 00 00 00 call pc+5"]);
    same(Insn::atomic_fetch_or(Width::W32, R1, 8, R2), &["4:\tc3 21 08 00 41 00 00 00\t<unknown>"]);
    same(
        Insn::load_map_value(R1, 1, 2),
        &["2:\t18 21 00 00 01 00 00 00 00 00 00 00 02 00 00 00\tld_pseudo\tr1, 0x2, 0x1"],
    );
    errors(
        &[
            "0:\tb7 00 00 00 01 00 00 00\tr0 = 0x2",
            "0:\tb7 00 00 00 01 00 00 00",
            "b7 00 00 00 01 00 00 00",
            "0:\tff 00 00 00 00 00 00 00\t<unknown>",
            "0:\t<unknown>",
            "0:\t18 01 00 00 01 00 00 00\tr1 = 0x1 ll",
            "(b7) r1 = r2",
            "(18) w1 = 5",
            "(b7)",
            "(95) exit\n 95 00 00 00 00 00 00 00\n 95 00 00 00 00 00 00 00",
        ],
        expect![[r#"
            "0:\tb7 00 00 00 01 00 00 00\tr0 = 0x2": line 1, column 28: the bytes before this instruction are those of `r0 = 0x1`
            "0:\tb7 00 00 00 01 00 00 00": line 1, column 27: expected an instruction, found the end of the line
            "b7 00 00 00 01 00 00 00": line 1, column 24: expected an instruction, found the end of the line
            "0:\tff 00 00 00 00 00 00 00\t<unknown>": line 1, column 28: the bytes before this text are not an instruction: unknown opcode 0xff
            "0:\t<unknown>": line 1, column 4: expected an instruction, found <unknown>
            "0:\t18 01 00 00 01 00 00 00\tr1 = 0x1 ll": line 1, column 28: the bytes before this text are not an instruction: the program ends inside a 64-bit immediate load, after its first slot
            "(b7) r1 = r2": line 1, column 6: the opcode before this instruction is 0xb7, but its own is 0xbf
            "(18) w1 = 5": line 1, column 6: expected a 64-bit register: r0 to r10, found w1 = 5
            "(b7)": line 1, column 5: expected an instruction, found the end of the line
            "(95) exit\n 95 00 00 00 00 00 00 00\n 95 00 00 00 00 00 00 00": line 3, column 25: expected an instruction, found the end of the line"#]],
    );
}

#[test]
fn names_that_the_text_does_not_define_are_left_to_the_caller() {
    let text =
        "r1 = events ll\nr2 = .rodata + 8 ll\nr3 = f ll\n(18) r1 = map[totals]\nr1 = map[totals][0]+4\nexit\nf: exit";
    let mut assembly = parse(text).unwrap();
    let reference = |slot, name: &str, value| Reference { slot, name: name.into(), value };
    assert_eq!(
        assembly.references,
        [
            reference(0, "events", Imm64::Value(0)),
            reference(2, ".rodata", Imm64::Value(8)),
            reference(6, "totals", Imm64::MapFd(0)),
            reference(8, "totals", Imm64::MapValue { fd: 0, offset: 4 }),
        ]
    );
    assert_eq!(assembly.code.insns()[2], Insn::load_function(R3, 6));
    let error = assembly.clone().bind(|reference| (reference.name == "events").then_some(Imm64::MapFd(9)));
    assert_eq!(error.unwrap_err().to_string(), "slot 2: there is no map or data named \".rodata\"");
    let bound = assembly.bind(|reference| match reference.value {
        Imm64::Value(offset) => Some(Imm64::MapValue { fd: 1, offset: offset as u32 }),
        Imm64::MapValue { offset, .. } => Some(Imm64::MapValue { fd: 2, offset }),
        Imm64::MapFd(_)
        | Imm64::Variable { .. }
        | Imm64::Code(_)
        | Imm64::MapIndex(_)
        | Imm64::MapIndexValue { .. } => Some(Imm64::MapFd(2)),
    });
    assert_eq!(bound, Ok(()));
    assert_eq!(assembly.code.insns()[1], Insn::load_map_value(R2, 1, 8));
    assert_eq!(assembly.code.insns()[4], Insn::load_map_value(R1, 2, 4));
}

#[test]
fn a_listing_from_a_write_up_is_read() {
    let assembly = parse(READLINKAT).unwrap();
    assert_eq!(assembly.code.slot_count(), 47);
    assert_eq!(assembly.code.insns().len(), 42);
    let labels: Vec<_> = assembly.labels.iter().map(|(label, slot)| (label.as_str(), *slot)).collect();
    assert_eq!(labels, [("LBB0_3", 16), ("LBB0_6", 40), ("LBB0_8", 45), ("xm_trace_kp__sys_readlinkat", 0)]);
    assert_eq!(softbpf::check::check(&assembly.code), Ok(()));
    // With labels instead of offsets it is the same.
    let offset = |line: &str| line.split_once(" goto ").map(|(condition, _)| condition.to_owned());
    let labelled: Vec<_> = READLINKAT
        .lines()
        .map(|line| match (offset(line), line.split_once('<')) {
            (Some(condition), Some((_, label))) => format!("{condition} goto {}", label.trim_end_matches('>')),
            _ => line.to_owned(),
        })
        .collect();
    assert!(labelled.iter().any(|line| line.ends_with("goto LBB0_8")));
    assert_eq!(parse(&labelled.join("\n")).unwrap().code, assembly.code);
}

#[test]
fn what_is_no_instruction_is_refused_with_what_was_expected() {
    errors(
        &[
            "nop",
            "r1",
            "r1 = ",
            "r1 5",
            "r1 = r2 + 3",
            "r1 += w2",
            "r11 = 1",
            "r1 = r11",
            "r01 = 1",
            "w1 = *(u64 *)(r2 + 0)",
            "w1 = *(s8 *)(r2 + 0)",
            "r1 = *(s64 *)(r2 + 0)",
            "r1 = *(u32 *)(w2 + 0)",
            "r1 = *(u32 *)(r2)",
            "r1 = *(u32 *)(r2 + 32768)",
            "r1 = *(u32)(r2 + 0)",
            "*(s8 *)(r2 + 0) = 1",
            "*(u8 *)(r2 + 0) = *(u8 *)(r1 + 0)",
            "r1 = be16 r2",
            "w1 = be16 w1",
            "r1 = be17 r1",
            "r1 = -r2",
            "w1 = (s32)w2",
            "r1 = *(u8 *)skb[0]",
            "r0 = *(u64 *)skb[0]",
            "lock *(u8 *)(r1 + 0) += r2",
            "lock *(u64 *)(r1 + 0) -= r2",
            "r1 = atomic_fetch_add((u64 *)(r2 + 0), r3)",
            "r1 = atomic64_fetch_add((u32 *)(r2 + 0), r1)",
            "r1 = cmpxchg_64(r2 + 0, r1, r3)",
            "r1 = fetch_add_64(r2 + 0, r1)",
            "if r1 = 5 goto +1",
            "if r1 == 5 jump +1",
            "goto",
            "call",
            "call 1 2",
            "ld_pseudo r1, 1, 5, 6",
            "ld_pseudo r1, 7, 5",
            "r1 = map[what:5]",
            "r1 = map[id:5][0]",
            "r1 = events",
            "r1 = 5ll",
            "exit exit",
            "größe = 1",
        ],
        expect![[r#"
            "nop": line 1, column 1: expected an instruction, found nop
            "r1": line 1, column 3: expected `=`, or `+=` and the like, found the end of the line
            "r1 = ": line 1, column 6: expected a register, a number, memory, or a name and `ll`, found the end of the line
            "r1 5": line 1, column 4: expected `=`, or `+=` and the like, found 5
            "r1 = r2 + 3": line 1, column 9: expected the end of the line, found + 3
            "r1 += w2": line 1, column 7: expected a 64-bit register: r0 to r10, found w2
            "r11 = 1": line 1, column 1: expected an instruction, found r11 = 1
            "r1 = r11": line 1, column 6: expected a register, a number, memory, or a name and `ll`, found r11
            "r01 = 1": line 1, column 1: expected an instruction, found r01 = 1
            "w1 = *(u64 *)(r2 + 0)": line 1, column 1: expected a 64-bit register: r0 to r10, found w1 = *(u64 *)(r2 + 0)
            "w1 = *(s8 *)(r2 + 0)": line 1, column 1: expected a 64-bit register: r0 to r10, found w1 = *(s8 *)(r2 + 0)
            "r1 = *(s64 *)(r2 + 0)": line 1, column 1: no such instruction: sign extension from DW to W64
            "r1 = *(u32 *)(w2 + 0)": line 1, column 15: expected a 64-bit register: r0 to r10, found w2 + 0)
            "r1 = *(u32 *)(r2)": line 1, column 17: expected `+` or `-`, found )
            "r1 = *(u32 *)(r2 + 32768)": line 1, column 18: expected a number from -32768 to 32767
            "r1 = *(u32)(r2 + 0)": line 1, column 11: expected *, found )(r2 + 0)
            "*(s8 *)(r2 + 0) = 1": line 1, column 2: expected an unsigned type, found (s8 *)(r2 + 0) = 1
            "*(u8 *)(r2 + 0) = *(u8 *)(r1 + 0)": line 1, column 19: expected a register: r0 to r10, or w0 to w10, found *(u8 *)(r1 + 0)
            "r1 = be16 r2": line 1, column 11: expected r1: the instruction takes no other register here
            "w1 = be16 w1": line 1, column 1: expected a 64-bit register: r0 to r10, found w1 = be16 w1
            "r1 = be17 r1": line 1, column 6: expected a register, a number, memory, or a name and `ll`, found be17 r1
            "r1 = -r2": line 1, column 7: expected r1: the instruction takes no other register here
            "w1 = (s32)w2": line 1, column 1: no such instruction: sign extension from W to W32
            "r1 = *(u8 *)skb[0]": line 1, column 1: expected r0: the instruction takes no other register here
            "r0 = *(u64 *)skb[0]": line 1, column 1: no such instruction: legacy packet load of 64 bits
            "lock *(u8 *)(r1 + 0) += r2": line 1, column 7: expected (u32 *) or (u64 *), found (u8 *)(r1 + 0) += r2
            "lock *(u64 *)(r1 + 0) -= r2": line 1, column 23: expected +=, |=, &= or ^=, found -= r2
            "r1 = atomic_fetch_add((u64 *)(r2 + 0), r3)": line 1, column 40: expected r1: the instruction takes no other register here
            "r1 = atomic64_fetch_add((u32 *)(r2 + 0), r1)": line 1, column 25: expected (u64 *), found (u32 *)(r2 + 0), r1)
            "r1 = cmpxchg_64(r2 + 0, r1, r3)": line 1, column 1: expected r0: the instruction takes no other register here
            "r1 = fetch_add_64(r2 + 0, r1)": line 1, column 6: expected a register, a number, memory, or a name and `ll`, found fetch_add_64(r2 + 0, r1)
            "if r1 = 5 goto +1": line 1, column 7: expected a comparison, found = 5 goto +1
            "if r1 == 5 jump +1": line 1, column 12: expected goto, found jump +1
            "goto": line 1, column 5: expected a label, or an offset in slots, found the end of the line
            "call": line 1, column 5: expected a function, the number of a helper, or pc+offset, found the end of the line
            "call 1 2": line 1, column 8: expected the end of the line, found 2
            "ld_pseudo r1, 1, 5, 6": line 1, column 15: expected a source with two operands: 0, 2, 3 or 6, found 1
            "ld_pseudo r1, 7, 5": line 1, column 15: expected a number from 0 to 6
            "r1 = map[what:5]": line 1, column 10: expected id:, idx: or the name of a map, found what:5]
            "r1 = map[id:5][0]": line 1, column 18: expected +, found the end of the line
            "r1 = events": line 1, column 6: expected a register, a number, memory, or a name and `ll`, found events
            "r1 = 5ll": line 1, column 7: expected the end of a number, found ll
            "exit exit": line 1, column 6: expected the end of the line, found exit
            "größe = 1": line 1, column 1: expected an instruction, found größe = 1"#]],
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    errors(
        &[
            "r1 = 4294967296",
            "r1 = -2147483649",
            "r1 = 0x1ffffffff",
            "r1 = 18446744073709551616 ll",
            "r1 = 99999999999999999999999999999999999999999999 ll",
            "goto +32768",
            "goto -32769",
            "gotol 2147483648",
            "r1 = addr_space_cast(r2, 65536, 0)",
            "r1 = 010",
            "r1 = 0x",
        ],
        expect![[r#"
            "r1 = 4294967296": line 1, column 6: expected a number from -2147483648 to 4294967295
            "r1 = -2147483649": line 1, column 6: expected a number from -2147483648 to 4294967295
            "r1 = 0x1ffffffff": line 1, column 6: expected a number from -2147483648 to 4294967295
            "r1 = 18446744073709551616 ll": line 1, column 6: expected a number from -9223372036854775808 to 18446744073709551615
            "r1 = 99999999999999999999999999999999999999999999 ll": line 1, column 6: expected a number from -9223372036854775808 to 18446744073709551615
            "goto +32768": line 1, column 6: expected a number from -32768 to 32767
            "goto -32769": line 1, column 6: expected a number from -32768 to 32767
            "gotol 2147483648": line 1, column 7: expected a number from -2147483648 to 2147483647
            "r1 = addr_space_cast(r2, 65536, 0)": line 1, column 26: expected a number from 0 to 65535
            "r1 = 010": line 1, column 6: numbers with a leading 0 are octal to some assemblers and decimal to others
            "r1 = 0x": line 1, column 6: expected a number, found 0x"#]],
    );
}

#[test]
fn places_are_lines_and_characters() {
    let error = parse("r0 = 0 /* ü\n ü */ ; ü\n  /* ü */ r1 = )").unwrap_err();
    assert_eq!((error.line, error.column), (3, 16));
    let error = parse("r0 = 0\nr1").unwrap_err();
    assert_eq!((error.line, error.column), (2, 3));
}

#[test]
fn names_that_are_not_there_or_twice_or_far() {
    errors(
        &[
            "goto nowhere",
            "call bpf_unheard_of",
            "a: exit\nexit\na: exit",
            "exit /* no end",
            "r0 = 0; exit",
            "r0 = 0 ; ; out: exit",
        ],
        expect![[r#"
            "goto nowhere": line 1, column 6: there is no label "nowhere"
            "call bpf_unheard_of": line 1, column 6: there is no label and no helper "bpf_unheard_of"
            "a: exit\nexit\na: exit": line 3, column 1: label "a" already stands at slot 0
            "exit /* no end": line 1, column 6: this comment has no end
            "r0 = 0; exit": line 1, column 8: an instruction behind `;`, which starts a comment here: give it a line of its own
            "r0 = 0 ; ; out: exit": line 1, column 11: an instruction behind `;`, which starts a comment here: give it a line of its own"#]],
    );
    let far = format!("goto out\n{}out: exit", "r0 = 0\n".repeat(40_000));
    let error = parse(&far).unwrap_err();
    assert_eq!(error.to_string(), "line 1, column 6: this label is +40000 slots away, out of the reach of 16 bits");
    assert!(matches!(error.kind, ParseErrorKind::FarTarget(far) if far.bits == 16));
    assert_eq!(parse(&far.replace("goto", "gotol")).unwrap().code.insns()[0], Insn::jump_long(40_000));
    assert!(parse(&far.replace("goto", "call")).is_ok());
}
