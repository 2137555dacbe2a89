//! The model says what RFC 9669 says, and every engine says the same: what straight-line programs do not reach (calls,
//! frames, budgets, packets, helpers), and spot checks of the model itself, with the expected value in each.

use softbpf::context::{Bytes, Context, Packet};
use softbpf::insn::{AluOp, ByteOrder, Condition, Size, SwapWidth, Width};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object, text};
use softbpf_conformance::model::{self, BadAccess, Model, Observed, Setup, Stop, StopKind};
use softbpf_conformance::on_every_engine;
use softbpf_conformance::reusable::Reusable;

/// Input of programs that want some.
const INPUT: [u8; 16] = *b"\x01\x02\x03\x04\x05\x06\x07\x88abcdefgh";

fn object(text: &str, program_type: ProgramType) -> Object {
    Object::from_text(text, program_type).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// What the model does with a program, which is what every engine does.
fn agreed(text: &str, program_type: ProgramType, context: impl Context + Copy, fuel: Option<u64>) -> Observed {
    let code = text::parse::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).code;
    let mut setup = Setup::of(program_type, context).unwrap_or_else(|error| panic!("{error}"));
    setup.fuel = fuel.unwrap_or(setup.fuel);
    let expected = model::run(&code, &setup);
    on_every_engine(&object(text, program_type), |mut vm: Machine| {
        vm.fuel = setup.fuel;
        let outcome = vm.run("main", context).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Observed::from(&outcome), expected, "{} and model: {text}", vm.engine_name());
    });
    expected
}

fn on_input(text: &str) -> Observed {
    agreed(text, ProgramType::Unspec, Bytes(&INPUT), None)
}

/// What stopped it, and at which slot.
fn stopped(observed: Observed) -> (StopKind, usize) {
    match observed.ret {
        Err(Stop { kind, slot, .. }) => (kind, slot),
        Ok(r0) => panic!("returned {r0:#x}"),
    }
}

#[test]
fn arithmetic_is_the_standards() {
    use model::arithmetic::alu;
    let min64 = i64::MIN as u64;
    let rows = [
        (AluOp::Add, Width::W32, 0xffff_ffff_ffff_ffff, 1, 0),
        (AluOp::Mul, Width::W64, u64::MAX, u64::MAX, 1),
        (AluOp::Div, Width::W64, 7, 0, 0),
        (AluOp::Div, Width::W32, 0xffff_ffff_0000_0007, 0x1_0000_0000, 0),
        (AluOp::Sdiv, Width::W64, (-7_i64) as u64, 2, (-3_i64) as u64),
        (AluOp::Sdiv, Width::W64, min64, u64::MAX, min64),
        (AluOp::Sdiv, Width::W32, 0x8000_0000, 0xffff_ffff, 0x8000_0000),
        (AluOp::Mod, Width::W64, 7, 0, 7),
        (AluOp::Mod, Width::W32, 0xffff_ffff_0000_0007, 0, 7),
        // "-13 % 3 == -1", section 4.1.
        (AluOp::Smod, Width::W64, (-13_i64) as u64, 3, (-1_i64) as u64),
        (AluOp::Smod, Width::W64, 13, (-3_i64) as u64, 1),
        (AluOp::Smod, Width::W64, min64, u64::MAX, 0),
        (AluOp::Lsh, Width::W64, 1, 65, 2),
        (AluOp::Lsh, Width::W32, 1, 63, 0x8000_0000),
        (AluOp::Rsh, Width::W32, 0xffff_ffff_8000_0000, 31, 1),
        (AluOp::Arsh, Width::W32, 0x8000_0000, 31, 0xffff_ffff),
        (AluOp::Arsh, Width::W64, min64, 63, u64::MAX),
        (AluOp::Xor, Width::W32, u64::MAX, 0xff, 0xffff_ff00),
    ];
    for (op, width, dst, src, expected) in rows {
        assert_eq!(alu(op, width, dst, src), expected, "{op:?} {width:?} {dst:#x} {src:#x}");
    }
    assert_eq!(model::arithmetic::neg(Width::W32, 1), 0xffff_ffff);
    assert_eq!(model::arithmetic::movsx(Width::W32, Size::B, 0x80), 0xffff_ff80);
    assert_eq!(model::arithmetic::movsx(Width::W64, Size::W, 0x8000_0000), 0xffff_ffff_8000_0000);
    let order = |order, width| model::arithmetic::byte_order(order, width, 0x1122_3344_5566_7788);
    assert_eq!(order(ByteOrder::Le, SwapWidth::B32), 0x5566_7788);
    assert_eq!(order(ByteOrder::Be, SwapWidth::B16), 0x8877);
    assert_eq!(order(ByteOrder::Bswap, SwapWidth::B64), 0x8877_6655_4433_2211);
    let holds = |condition, width| model::arithmetic::holds(condition, width, 0x1_8000_0000, 0x8000_0000);
    assert!(holds(Condition::Eq, Width::W32) && holds(Condition::Ne, Width::W64));
    assert!(holds(Condition::Sge, Width::W32) && holds(Condition::Set, Width::W32));
}

/// Engine-independent: every operation on every pair of edges is the engine's.
#[test]
fn every_operation_agrees_on_every_pair_of_edges() {
    let edges = [0, 1, 2, 31, 32, 63, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000, 1 << 63, u64::MAX >> 1];
    let edges: Vec<u64> = edges.iter().flat_map(|&edge: &u64| [edge, edge.wrapping_neg()]).collect();
    let setup = Setup::of(ProgramType::Unspec, ()).unwrap_or_else(|error| panic!("{error}"));
    let mut machines = Reusable::on(softbpf_conformance::engines());
    for &op in AluOp::ALL {
        for width in [Width::W32, Width::W64] {
            use softbpf::asm::{Insn, R0, R1, R2, R3};
            let mut insns = vec![Insn::mov(R3, 0)];
            for (&dst, &src) in edges.iter().flat_map(|dst| edges.iter().map(move |src| (dst, src))) {
                // The results are summed up, so that one that differs makes another sum.
                insns.extend([Insn::load_imm64(R1, dst), Insn::load_imm64(R2, src)]);
                insns.push(Insn::Alu { op, width, dst: R1, src: R2.into() });
                insns.extend([Insn::mul(R3, 31), Insn::add(R3, R1)]);
            }
            insns.extend([Insn::mov(R0, R3), Insn::exit()]);
            let code = insns.into();
            let expected = model::run(&code, &setup);
            for machine in &mut machines {
                let difference = model::compare(&code, &setup, machine, &expected);
                assert!(matches!(difference, Ok(None)), "{op:?} {width:?}: {difference:?}");
            }
        }
    }
}

#[test]
fn calls_keep_r6_to_r9_and_have_frames_of_their_own() {
    let text = "r6 = 6\n r7 = 7\n r8 = 8\n r9 = 9\n *(u64 *)(r10 - 8) = 100\n r1 = r10\n r1 += -8\n call pc+6\n \
                r0 += r6\n r0 += r7\n r0 += r8\n r0 += r9\n r2 = *(u64 *)(r10 - 8)\n exit\n \
                r6 = 0\n r7 = 0\n r8 = 0\n r9 = 0\n *(u64 *)(r10 - 8) = 1\n r0 = *(u64 *)(r1 + 0)\n exit";
    assert_eq!(on_input(text).ret, Ok(130));
}

#[test]
fn a_frame_is_gone_when_its_function_returned() {
    let text = "call pc+2\n r0 = *(u64 *)(r0 - 8)\n exit\n *(u64 *)(r10 - 8) = 1\n r0 = r10\n exit";
    let (kind, slot) = stopped(on_input(text));
    assert!(matches!(kind, StopKind::Access(BadAccess { write: false, size: 8, .. })), "{kind:?}");
    assert_eq!(slot, 1);
}

#[test]
fn eight_frames_are_enough_and_a_ninth_too_many() {
    let deep = |calls: u32| {
        format!("r1 = {calls}\n call pc+1\n exit\n r0 = r1\n if r1 == 1 goto +2\n r1 -= 1\n call pc-4\n exit")
    };
    assert_eq!(on_input(&deep(7)).ret, Ok(1));
    assert_eq!(stopped(on_input(&deep(8))), (StopKind::TooDeep, 6));
}

#[test]
fn callx_calls_functions_and_nothing_else() {
    // The operand of a load of code counts from the slot behind its first.
    let call = |what: &str| on_input(&format!("{what}\n callx r2\n exit\n r0 = 77\n exit"));
    assert_eq!(call("ld_pseudo r2, 0x4, 0x3").ret, Ok(77));
    let (kind, slot) = stopped(call("r2 = -1"));
    assert_eq!((kind, slot), (StopKind::BadCallTarget(u64::MAX), 1));
    assert_eq!(stopped(call("r2 = 0x7fffffff")), (StopKind::NoHelper(0x7fff_ffff), 1));
}

#[test]
fn fuel_ends_at_the_same_instruction() {
    let text = "r6 = 3\n r1 = 0x100000000 ll\n call pc+4\n r6 -= 1\n if r6 != 0 goto -3\n r0 = r6\n exit\n \
                r7 = r1\n r0 = *(u8 *)(r10 - 1)\n exit";
    let whole = on_input(text);
    assert_eq!(whole.ret, Ok(0));
    for fuel in 0..=whole.instructions + 1 {
        let observed = agreed(text, ProgramType::Unspec, Bytes(&INPUT), Some(fuel));
        assert_eq!(observed.instructions, fuel.min(whole.instructions));
        assert_eq!(observed.ret.is_ok(), fuel >= whole.instructions, "{fuel}");
    }
}

#[test]
fn may_goto_falls_through_while_there_are_loops() {
    let text = "r0 = 0\n may_goto +2\n r0 += 1\n if r0 != 1000 goto -3\n exit";
    assert_eq!(on_input(text).ret, Ok(1000));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "millions of instructions; run with --release")]
fn may_goto_jumps_when_the_loops_are_used_up() {
    let text = "r0 = 0\n may_goto +2\n r0 += 1\n goto -3\n exit";
    assert_eq!(on_input(text).ret, Ok(8 << 20));
    // A callee has loops of its own.
    let text = "r0 = 0\n r6 = 2\n call pc+3\n r6 -= 1\n if r6 != 0 goto -3\n exit\n \
                may_goto +2\n r0 += 1\n goto -3\n exit";
    assert_eq!(on_input(text).ret, Ok(16 << 20));
}

#[test]
fn memory_is_little_endian_and_bounded_to_the_byte() {
    assert_eq!(on_input("r0 = *(u32 *)(r1 + 1)\n exit").ret, Ok(0x0504_0302));
    assert_eq!(on_input("r0 = *(s8 *)(r1 + 7)\n exit").ret, Ok(0xffff_ffff_ffff_ff88));
    let past = stopped(on_input("r0 = *(u16 *)(r1 + 15)\n exit"));
    assert!(matches!(past, (StopKind::Access(BadAccess { write: false, size: 2, .. }), 0)), "{past:?}");
    let before = stopped(on_input("*(u8 *)(r1 - 1) = 1\n r0 = 0\n exit"));
    assert!(matches!(before, (StopKind::Access(BadAccess { write: true, size: 1, .. }), 0)), "{before:?}");
    let wraps = stopped(on_input("r2 = -4\n r0 = *(u64 *)(r2 + 0)\n exit"));
    let at = 0xffff_ffff_ffff_fffc;
    assert_eq!(wraps, (StopKind::Access(BadAccess { write: false, addr: at, size: 8 }), 1));
    let atomic = stopped(on_input("r2 = 1\n lock *(u64 *)(r1 + 9) += r2\n r0 = 0\n exit"));
    assert!(matches!(atomic, (StopKind::Access(BadAccess { write: true, size: 8, .. }), 1)), "{atomic:?}");
    assert_eq!(on_input("*(u16 *)(r1 + 3) = -2\n r0 = 0\n exit").context[2..6], [3, 0xfe, 0xff, 6]);
}

#[test]
fn packet_loads_are_big_endian_and_end_the_program_outside() {
    let bytes: Vec<u8> = (0..64).collect();
    let packet = Packet::new(&bytes);
    let load = |what: &str| {
        let text = format!("r6 = r1\n r7 = 3\n r0 = 1\n {what}\n r0 += r1\n exit");
        agreed(&text, ProgramType::SocketFilter, &packet, None)
    };
    assert_eq!(load("r0 = *(u32 *)skb[2]").ret, Ok(0x0203_0405));
    assert_eq!(load("r0 = *(u16 *)skb[r7 + 0x1]").ret, Ok(0x0405));
    assert_eq!(load("r0 = *(u8 *)skb[63]").ret, Ok(63));
    assert_eq!((load("r0 = *(u16 *)skb[63]").ret, load("r0 = *(u16 *)skb[63]").instructions), (Ok(0), 4));
    // SKF_NET_OFF and SKF_LL_OFF.
    assert_eq!(load("r0 = *(u8 *)skb[-0x100000]").ret, Ok(14));
    assert_eq!(load("r0 = *(u8 *)skb[-0x1ffffb]").ret, Ok(5));
    assert_eq!(load("r0 = *(u8 *)skb[-0x200001]").ret, Ok(0));
    let (kind, slot) = stopped(load("r6 = 5\n r0 = *(u8 *)skb[0]"));
    assert_eq!((kind, slot), (StopKind::NoPacket(5), 4));
}

#[test]
fn a_packet_load_outside_ends_a_local_function_only() {
    let text = "r6 = r1\n call load\n r0 += 5\n exit\nload:\n r0 = *(u8 *)skb[1000]\n r0 = 9\n exit";
    let observed = agreed(text, ProgramType::SocketFilter, &Packet::new([7; 64]), None);
    assert_eq!((observed.ret, observed.instructions), (Ok(5), 5));
}

#[test]
fn what_may_not_be_written_is_not() {
    let packet = Packet::new([7; 64]);
    let context = agreed("*(u32 *)(r1 + 0) = 1\n r0 = 0\n exit", ProgramType::Xdp, &packet, None);
    assert!(matches!(stopped(context), (StopKind::Access(BadAccess { write: true, size: 4, .. }), 0)));
    let write = "r2 = *(u32 *)(r1 + 0)\n *(u8 *)(r2 + 3) = 1\n r0 = *(u32 *)(r2 + 2)\n exit";
    let observed = agreed(write, ProgramType::Xdp, &packet, None);
    assert_eq!(observed.ret, Ok(0x0707_0107));
    assert_eq!(observed.packet.map(|packet| packet[3]), Some(1));
}

#[test]
fn helpers_are_asked_and_lose_r1_to_r5() {
    let text =
        "r1 = 1\n r2 = 2\n r3 = 3\n r4 = 4\n r5 = 5\n r6 = 6\n call 5000\n r0 += r1\n r0 += r5\n r0 += r6\n exit";
    let sum = |args: [u64; 5]| args.iter().fold(0, |sum, arg| sum * 10 + arg);
    let code = text::parse::parse(text).unwrap_or_else(|error| panic!("{error}")).code;
    let setup = Setup::of(ProgramType::Unspec, Bytes(&INPUT)).unwrap_or_else(|error| panic!("{error}"));
    let mut model = Model::new(&code, &setup).with_helpers(|number, args, _| (number == 5000).then(|| sum(args)));
    let expected = model.run_with(|_, _| ());
    assert_eq!(expected.ret, Ok(12_351));
    on_every_engine(&object(text, ProgramType::Unspec), |mut vm| {
        let mocked = vm.mock(5000, move |call| sum([0, 1, 2, 3, 4].map(|index| call.arg(index))));
        assert_eq!(mocked, Ok(()));
        let outcome = vm.run("main", Bytes(&INPUT)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Observed::from(&outcome), expected);
    });
    assert_eq!(stopped(on_input(text)), (StopKind::NoHelper(5000), 6));
}

#[test]
fn what_nobody_provides_stops_the_program() {
    assert_eq!(stopped(on_input("ld_pseudo r1, 0x1, 0x7\n r0 = 0\n exit")), (StopKind::Missing, 0));
    assert_eq!(stopped(on_input("call kfunc 0x5\n exit")), (StopKind::Missing, 0));
}
