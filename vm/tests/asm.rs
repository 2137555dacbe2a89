//! The Rust assembler: its labels, and that its constructors make the instruction they say.

use softbpf::asm::{
    AluOp, AssembleError, Assembler, AtomicOp, Condition, FarTarget, Insn, R0, R1, R2, R10, Size, SwapWidth, Width,
};

/// Constructors against their text.
#[track_caller]
fn check(insn: Insn, text: &str) {
    assert_eq!(insn.to_string(), text);
}

#[test]
fn constructors_make_what_they_say() {
    check(Insn::mov(R1, 5), "r1 = 0x5");
    check(Insn::mov32(R1, R2), "w1 = w2");
    check(Insn::modulo(R1, R2), "r1 %= r2");
    check(Insn::smod32(R1, 3), "w1 s%= 0x3");
    check(Insn::arsh(R1, 63), "r1 s>>= 0x3f");
    check(Insn::neg32(R1), "w1 = -w1");
    check(Insn::mov_sx(Size::W, R1, R2), "r1 = (s32)r2");
    check(Insn::bswap(SwapWidth::B32, R1), "r1 = bswap32 r1");
    check(Insn::load(Size::DW, R0, R1, 8), "r0 = *(u64 *)(r1 + 0x8)");
    check(Insn::load_sx(Size::B, R0, R1, 8), "r0 = *(s8 *)(r1 + 0x8)");
    check(Insn::store(Size::W, R10, -4, 7), "*(u32 *)(r10 - 0x4) = 0x7");
    check(Insn::store(Size::DW, R10, -8, R1), "*(u64 *)(r10 - 0x8) = r1");
    check(Insn::atomic_add(Width::W64, R1, 0, R2), "lock *(u64 *)(r1 + 0x0) += r2");
    check(Insn::atomic_fetch_xor(Width::W32, R1, 0, R2), "w2 = atomic_fetch_xor((u32 *)(r1 + 0x0), w2)");
    check(Insn::load_acquire(Size::W, R0, R1, 0), "w0 = load_acquire((u32 *)(r1 + 0x0))");
    check(Insn::store_release(Size::W, R1, 0, R2), "store_release((u32 *)(r1 + 0x0), w2)");
    check(Insn::load_imm64(R1, 1 << 40), "r1 = 0x10000000000 ll");
    check(Insn::jsgt(R1, -1, 3), "if r1 s> -0x1 goto +0x3");
    check(Insn::jset32(R1, R2, -3), "if w1 & w2 goto -0x3");
    check(Insn::call(14), "call 0xe");
    check(Insn::exit(), "exit");
}

#[test]
fn every_row_has_constructors_for_its_operation() {
    assert_eq!(Insn::sdiv(R1, 2), Insn::Alu { op: AluOp::Sdiv, width: Width::W64, dst: R1, src: 2.into() });
    let jump = Insn::JumpIf { condition: Condition::Sle, width: Width::W32, dst: R1, src: R2.into(), off: 1 };
    assert_eq!(Insn::jsle32(R1, R2, 1), jump);
    let atomic = Insn::Atomic { op: AtomicOp::Cmpxchg, width: Width::W64, base: R1, off: 4, src: R2 };
    assert_eq!(Insn::atomic_cmpxchg(Width::W64, R1, 4, R2), atomic);
}

#[test]
fn labels_are_counted_in_slots_both_ways() {
    let code = Assembler::new()
        .load_function(R1, "f")
        .label("again")
        .push(Insn::load_imm64(R2, 1))
        .jump_if(Condition::Eq, R1, R2, "out")
        .jump_if32(Condition::Ne, R1, 7, "again")
        .may_goto("out")
        .call("f")
        .jump("again")
        .jump_long("out")
        .label("out")
        .push(Insn::exit())
        .label("f")
        .push(Insn::exit())
        .finish()
        .unwrap();
    let expected = [
        Insn::load_function(R1, 10),
        Insn::load_imm64(R2, 1),
        Insn::jeq(R1, R2, 5),
        Insn::jne32(R1, 7, -4),
        Insn::may_goto(3),
        Insn::call_local(3),
        Insn::jump(-7),
        Insn::jump_long(0),
        Insn::exit(),
        Insn::exit(),
    ];
    assert_eq!(code.insns(), expected);
    assert_eq!(softbpf::check::check(&code), Ok(()));
}

#[test]
fn a_label_that_is_not_there_is_an_error() {
    let error = Assembler::new().push(Insn::load_imm64(R1, 1)).jump("nowhere").finish().unwrap_err();
    assert_eq!(error, AssembleError::UnknownLabel { slot: 2, label: "nowhere".into() });
}

#[test]
fn a_label_that_is_there_twice_is_an_error() {
    let error = Assembler::new().label("a").push(Insn::exit()).label("a").label("a").finish().unwrap_err();
    assert_eq!(error, AssembleError::DuplicateLabel { label: "a".into(), first: 0, second: 1 });
}

#[test]
fn a_label_out_of_reach_is_an_error() {
    let far = |jump: fn(&mut Assembler)| {
        let mut asm = Assembler::new();
        jump(&mut asm);
        for _ in 0..32_768 {
            asm.push(Insn::mov(R0, 0));
        }
        asm.label("out").finish()
    };
    let error = far(|asm| _ = asm.jump("out")).unwrap_err();
    let target = FarTarget { offset: 32_768, bits: 16 };
    assert_eq!(error, AssembleError::Far { slot: 0, label: "out".into(), far: target });
    assert_eq!(error.to_string(), "slot 0: label \"out\" is +32768 slots away, out of the reach of 16 bits");
    assert!(far(|asm| _ = asm.may_goto("out")).is_err());
    assert!(far(|asm| _ = asm.jump_if(Condition::Eq, R0, 0, "out")).is_err());
    assert!(far(|asm| _ = asm.jump_long("out")).is_ok());
    assert!(far(|asm| _ = asm.call("out")).is_ok());
}

#[test]
fn the_farthest_label_in_reach_is_reached() {
    let mut asm = Assembler::new();
    asm.jump("out");
    for _ in 0..32_767 {
        asm.push(Insn::mov(R0, 0));
    }
    assert_eq!(asm.label("out").finish().unwrap().insns()[0], Insn::jump(i16::MAX));
}
