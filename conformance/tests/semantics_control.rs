//! Corner cases of jumps, calls, loops and 64-bit immediates that implementations have got wrong. RFC 9669, sections
//! 4.3 and 5.4.

use softbpf::asm::{Assembler, Condition, Insn, R0, R1, R2, R6};
use softbpf::codec::Code;
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Object, Outcome, TrapKind};
use softbpf_conformance::programs::{assert_returns, outcome, program, ret};

/// What instructions come to.
#[track_caller]
fn run(code: Code) -> Outcome {
    let program = Program::new(ProgramInfo::new(MAIN, ProgramType::Unspec), code);
    let program = program.unwrap_or_else(|error| panic!("{error}"));
    outcome(&Object::from_programs(vec![program], Vec::new()), ())
}

/// As [`run`], of a program with labels.
#[track_caller]
fn run_asm(asm: &Assembler) -> Outcome {
    run(asm.finish().unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn a_wide_immediate_has_64_bits_and_is_one_instruction() {
    for value in [0, 1, 0xffff_ffff, 0x8000_0000, 0x1_0000_0000, 0x8000_0000_0000_0000, 0x0123_4567_89ab_cdef, u64::MAX]
    {
        let outcome = outcome(&program(&format!("r0 = {value:#x} ll\n exit")), ());
        assert_eq!((outcome.ret, outcome.instructions), (Ok(value), 2), "{value:#x}");
    }
}

#[test]
fn jumps_count_the_two_slots_of_a_wide_immediate() {
    assert_returns(&[
        ("r0 = 1\n goto +3\n r0 = 2 ll\n r0 += 10\n exit", 1),
        ("r0 = 1\n goto +2\n r0 = 2 ll\n r0 += 10\n exit", 11),
        ("r0 = 0\n goto +2\n r0 += 1\n exit\n r1 = 1 ll\n goto -5", 1),
    ]);
}

#[test]
fn a_jump_may_lead_to_the_first_and_the_last_instruction() {
    assert_returns(&[
        ("if r0 == 3 goto last\n r0 += 1\n goto -3\n last: exit", 3),
        ("gotol +1\n exit\n r0 = 5\n gotol -3", 5),
    ]);
}

#[test]
fn short_jumps_reach_as_far_as_16_bits() {
    let mut asm = Assembler::new();
    asm.push(Insn::mov(R0, 1)).jump_if(Condition::Eq, R0, 1, "far");
    (0..32_767).for_each(|_| {
        asm.push(Insn::mov(R0, 2));
    });
    asm.label("far").push(Insn::exit());
    assert_eq!(run_asm(&asm).ret, Ok(1));
}

#[test]
fn short_jumps_reach_as_far_back() {
    let mut asm = Assembler::new();
    asm.jump_long("start").label("back").push(Insn::mov(R0, 1)).push(Insn::exit());
    (0..32_765).for_each(|_| {
        asm.push(Insn::mov(R0, 2));
    });
    asm.label("start").jump("back");
    assert_eq!(run_asm(&asm).ret, Ok(1));
}

#[test]
fn long_jumps_and_calls_reach_further_than_16_bits() {
    let mut asm = Assembler::new();
    asm.push(Insn::mov(R6, 40)).call("far").push(Insn::add(R0, R6)).jump_long("end");
    (0..70_000).for_each(|_| {
        asm.push(Insn::mov(R0, 7));
    });
    asm.label("far").push(Insn::mov(R0, 2)).push(Insn::exit()).label("end").jump_long("out");
    asm.label("out").push(Insn::exit());
    assert_eq!(run_asm(&asm).ret, Ok(42));
}

#[test]
fn a_call_is_relative_to_the_next_instruction() {
    assert_returns(&[("call pc+1\n exit\n r0 = 9\n exit", 9), ("goto +2\n r0 = 8\n exit\n call pc-3\n exit", 8)]);
}

#[test]
fn a_call_passes_five_arguments_and_keeps_r6_to_r9() {
    assert_returns(&[(
        "r1 = 1
         r2 = 2
         r3 = 4
         r4 = 8
         r5 = 16
         r6 = 32
         r7 = 64
         r8 = 128
         r9 = 256
         call sum
         r0 += r6
         r0 += r7
         r0 += r8
         r0 += r9
         exit
         sum: r0 = r1
         r0 += r2
         r0 += r3
         r0 += r4
         r0 += r5
         r6 = -1
         r7 = -1
         r8 = -1
         r9 = -1
         exit",
        511,
    )]);
}

#[test]
fn a_helper_call_keeps_r6_to_r9_and_clears_r1_to_r5() {
    assert_returns(&[(
        "r1 = 1
         r2 = 1
         r3 = 1
         r4 = 1
         r5 = 1
         r6 = 32
         r7 = 64
         r8 = 128
         r9 = 256
         call get_smp_processor_id
         r0 += r1
         r0 += r2
         r0 += r3
         r0 += r4
         r0 += r5
         r0 += r6
         r0 += r7
         r0 += r8
         r0 += r9
         exit",
        480,
    )]);
}

#[test]
fn each_call_has_a_frame_of_its_own() {
    assert_returns(&[
        // The callee's slot is not the caller's...
        (
            "*(u64 *)(r10 - 8) = 1
             call sub
             r0 = *(u64 *)(r10 - 8)
             exit
             sub: *(u64 *)(r10 - 8) = 2
             r0 = 0
             exit",
            1,
        ),
        // ...but the callee may write the caller's.
        (
            "*(u64 *)(r10 - 8) = 1
             r1 = r10
             r1 += -8
             call sub
             r0 = *(u64 *)(r10 - 8)
             exit
             sub: *(u64 *)(r1 + 0) = 2
             r0 = 0
             exit",
            2,
        ),
    ]);
}

#[test]
fn a_callees_frame_is_gone_when_it_has_returned() {
    let text = "call sub\n r0 = *(u64 *)(r0 + 0)\n exit\n sub: r0 = r10\n r0 += -8\n *(u64 *)(r0 + 0) = 1\n exit";
    assert!(matches!(ret(text), Err(TrapKind::Memory(_))), "{:?}", ret(text));
}

#[test]
fn the_frame_pointer_of_the_caller_comes_back() {
    assert_returns(&[("r6 = r10\n call sub\n r0 = r10\n r0 -= r6\n exit\n sub: r0 = r10\n exit", 0)]);
}

/// A function that calls itself until r1 is 0.
fn recursion(depth: u32) -> Result<u64, TrapKind> {
    let text = "call dive\n exit\n dive: r0 = 0\n if r1 == 0 goto end\n r1 -= 1\n call dive\n r0 += 1\n end: exit";
    ret(&format!("r1 = {depth}\n {text}"))
}

#[test]
fn eight_frames_are_allowed() {
    // The entry's, and those of `dive`.
    assert_eq!(recursion(6), Ok(6));
    assert_eq!(recursion(7), Err(TrapKind::TooDeep));
}

#[test]
fn frames_are_given_back() {
    let text = "r6 = 100\n again: call sub\n r6 -= 1\n if r6 != 0 goto again\n r0 = 1\n exit\n sub: call subsub\n exit\n subsub: exit";
    assert_eq!(ret(text), Ok(1));
}

#[test]
fn every_frame_has_all_of_its_512_bytes() {
    assert_returns(&[(
        "*(u8 *)(r10 - 512) = 1
         call sub
         r1 = *(u8 *)(r10 - 512)
         r0 += r1
         exit
         sub: *(u8 *)(r10 - 512) = 2
         *(u8 *)(r10 - 1) = 4
         call subsub
         r1 = *(u8 *)(r10 - 512)
         r0 += r1
         r1 = *(u8 *)(r10 - 1)
         r0 += r1
         exit
         subsub: *(u8 *)(r10 - 1) = 255
         *(u8 *)(r10 - 512) = 255
         r0 = 8
         exit",
        15,
    )]);
}

#[test]
fn a_function_can_be_called_through_a_register() {
    let mut asm = Assembler::new();
    asm.load_function(R2, "double")
        .push(Insn::mov(R1, 21))
        .push(Insn::call_reg(R2))
        .push(Insn::exit())
        .label("double")
        .push(Insn::mov(R0, R1))
        .push(Insn::add(R0, R1))
        .push(Insn::exit());
    let outcome = run_asm(&asm);
    assert_eq!((outcome.ret, outcome.instructions), (Ok(42), 7));
}

#[test]
fn a_helper_can_be_called_through_a_register() {
    // bpf_get_current_pid_tgid; the world's default task.
    assert_returns(&[("r1 = 14\n callx r1\n w0 = w0\n exit", 1000)]);
}

#[test]
fn a_call_through_a_register_to_no_function_is_a_trap() {
    assert_eq!(ret("r1 = -1\n callx r1\n exit"), Err(TrapKind::BadCallTarget { target: u64::MAX }));
    assert!(matches!(ret("r1 = 9999\n callx r1\n exit"), Err(TrapKind::NoHelper { number: 9999, name: None })));
}

#[test]
fn a_function_pointer_into_a_wide_immediate_is_no_function() {
    let mut asm = Assembler::new();
    asm.load_function(R2, "wide").push(Insn::add(R2, 8)).push(Insn::call_reg(R2)).push(Insn::exit());
    asm.label("wide").push(Insn::load_imm64(R0, 1)).push(Insn::exit());
    let kind = run_asm(&asm).ret.map_err(|trap| trap.kind);
    assert!(matches!(kind, Err(TrapKind::BadCallTarget { .. })), "{kind:?}");
}

#[test]
fn may_goto_falls_through_until_its_budget_is_used_up() {
    // The kernel's BPF_MAX_LOOPS.
    assert_returns(&[("r0 = 0\n again: may_goto out\n r0 += 1\n goto again\n out: exit", 8 << 20)]);
}

#[test]
fn may_goto_has_a_budget_in_each_frame() {
    let text = "call sub\n may_goto bad\n exit
        sub: may_goto out\n goto sub\n out: r0 = 1\n exit
        bad: r0 = 2\n exit";
    assert_returns(&[(text, 1)]);
}

#[test]
fn an_unknown_kernel_function_is_a_trap_when_it_is_called() {
    let kinds = [ret("r0 = 0\n goto +1\n call kfunc 7, 0\n exit"), ret("call kfunc 7, 0\n exit")];
    assert_eq!(kinds, [Ok(0), Err(TrapKind::NoKfunc { name: "7".into() })]);
}

#[test]
fn a_map_that_does_not_exist_is_a_trap_when_it_is_loaded() {
    let kind = run(Code::from(vec![Insn::load_map_fd(R1, 3), Insn::exit()])).ret.map_err(|trap| trap.kind);
    assert_eq!(kind, Err(TrapKind::NoMap { fd: 3 }));
}

#[test]
fn registers_are_zero_at_the_entry_but_for_context_and_stack() {
    for register in ["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "r8", "r9"] {
        assert_eq!(ret(&format!("r0 = {register}\n exit")), Ok(0), "{register}");
    }
}
