//! The dialect of ubpf's assembler: what is printed is read back, and what is wrong is said with line and column.

mod text_insns;

use softbpf::asm::{Assembler, Condition, Insn, R0, R1, R10, Size};
use softbpf::codec::Code;
use softbpf::text::parse::parse_ubpf;
use softbpf::text::ubpf;
use text_insns::every_insn;

#[test]
fn every_instruction_survives() {
    for insn in every_insn() {
        let text = ubpf::text(&insn).to_string();
        let assembly = parse_ubpf(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(assembly.code.insns(), [insn], "{text:?}");
    }
}

#[test]
fn texts_are_distinct() {
    let mut texts: Vec<_> = every_insn().iter().map(|insn| ubpf::text(insn).to_string()).collect();
    let count = texts.len();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), count);
}

#[test]
fn labels_and_the_label_exit() {
    let assembly = parse_ubpf(
        "   ldxdw %r0, [%r1]   # comment
            jeq %r0, 0x5, out
            jeq %r0, 0x6, exit
            lddw %r1, 0x1122334455667788
            call local f
            exit
        out: mov %r0, -1
            exit
        f:
            stxb [%r10-1], %r1
            ja32 out",
    )
    .unwrap();
    let expected = Assembler::new()
        .push(Insn::load(Size::DW, R0, R1, 0))
        .jump_if(Condition::Eq, R0, 5, "out")
        .jump_if(Condition::Eq, R0, 6, "exit")
        .push(Insn::load_imm64(R1, 0x1122_3344_5566_7788))
        .call("f")
        .label("exit")
        .push(Insn::exit())
        .label("out")
        .push(Insn::mov(R0, -1))
        .push(Insn::exit())
        .label("f")
        .push(Insn::store(Size::B, R10, -1, R1))
        .jump_long("out")
        .finish()
        .unwrap();
    assert_eq!(assembly.code, expected);
}

#[test]
fn bit_patterns() {
    let read = |text: &str| parse_ubpf(text).unwrap().code;
    assert_eq!(read("mov %r0, 0xffffffff"), Code::from(vec![Insn::mov(R0, -1)]));
    assert_eq!(read("ldxb %r0, [%r1 + 0xffff]"), Code::from(vec![Insn::load(Size::B, R0, R1, -1)]));
    assert_eq!(read("swap32 %r0"), read("bswap32 %r0"));
    assert_eq!(read("mov64 %r0, 1"), read("mov %r0, 1"));
}

#[test]
fn errors_have_a_place() {
    let error = |text: &str| parse_ubpf(text).unwrap_err().to_string();
    assert_eq!(error("exit\n mov %r11, 0"), "line 2, column 6: expected a register: %r0 to %r10, found %r11, 0");
    assert_eq!(error("frobnicate"), "line 1, column 1: expected an instruction, found frobnicate");
    assert_eq!(error("mov %r0, 0x100000000"), "line 1, column 10: expected a number from -2147483648 to 4294967295");
    assert_eq!(error("ldxb %r0, [%r1-32769]"), "line 1, column 15: expected a number from -32768 to 65535");
    assert_eq!(error("ja nowhere"), "line 1, column 4: there is no label \"nowhere\"");
    assert_eq!(error("lock frob [%r1], %r0"), "line 1, column 6: expected an atomic operation, found frob [%r1], %r0");
    assert_eq!(error("exit exit"), "line 1, column 6: expected the end of the line, found exit");
    assert_eq!(error("movsx3232 %r0, %r1"), "line 1, column 1: no such instruction: sign extension from W to W32");
    assert_eq!(error("ja +32768"), "line 1, column 4: this label is +32768 slots away, out of the reach of 16 bits");
}
