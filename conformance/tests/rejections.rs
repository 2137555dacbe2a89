//! What is no program: each rule of the encoding and of the structural check, with the slot and the reason.

use softbpf::asm::{AssembleError, Assembler, FarTarget, Insn, R0, R1, R10, Size, Width};
use softbpf::check::{CheckError, CheckErrorKind, MAX_SLOTS};
use softbpf::codec::{Code, DecodeError, DecodeErrorKind, Field};
use softbpf::object::ObjectError;
use softbpf::program::{Program, ProgramError, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Object, TrapKind};
use softbpf_conformance::programs::ret;

/// One slot by its fields: opcode, dst, src, off, imm.
type Fields = (u8, u8, u8, i16, i32);

const EXIT: Fields = (0x95, 0, 0, 0, 0);

fn bytes(slots: &[Fields]) -> Vec<u8> {
    let slot = |&(opcode, dst, src, off, imm): &Fields| {
        [&[opcode, src << 4 | dst][..], &off.to_le_bytes(), &imm.to_le_bytes()].concat()
    };
    slots.iter().flat_map(slot).collect()
}

/// Why bytes are no instructions.
#[track_caller]
fn refusal(bytes: &[u8]) -> DecodeError {
    match Object::from_bytecode("bad", ProgramType::Unspec, bytes) {
        Err(ObjectError::Bytecode { source, .. }) => source,
        other => panic!("{other:?} out of {bytes:x?}"),
    }
}

/// Checks that a slot, behind a good one, is refused for this reason.
#[track_caller]
fn assert_undecodable(cases: &[(Fields, DecodeErrorKind)]) {
    for (slot, kind) in cases {
        let expected = DecodeError { slot: 1, kind: *kind };
        assert_eq!(refusal(&bytes(&[EXIT, *slot, EXIT])), expected, "{slot:x?}");
    }
}

/// Checks which rule instructions break, and at which slot.
#[track_caller]
fn assert_unchecked(insns: Vec<Insn>, slot: usize, kind: CheckErrorKind) {
    let shown = format!("{insns:?}");
    match Program::new(ProgramInfo::new("bad", ProgramType::Unspec), Code::from(insns)) {
        Err(ProgramError::Check { source, .. }) => assert_eq!(source, CheckError { slot, kind }, "{shown}"),
        other => panic!("{other:?}: {shown}"),
    }
}

fn reserved(field: Field, value: i64) -> DecodeErrorKind {
    DecodeErrorKind::Reserved { field, value }
}

fn bad_register(field: Field, number: u8) -> DecodeErrorKind {
    DecodeErrorKind::BadRegister { field, number }
}

fn bad_selector(opcode: u8, field: Field, value: i64) -> DecodeErrorKind {
    DecodeErrorKind::BadSelector { opcode, field, value }
}

#[test]
fn a_program_is_whole_slots_and_not_empty() {
    let two = bytes(&[EXIT, EXIT]);
    for len in 1..8 {
        assert_eq!(refusal(&two[..8 + len]), DecodeError { slot: 1, kind: DecodeErrorKind::CutSlot { bytes: len } });
    }
    assert_unchecked(Vec::new(), 0, CheckErrorKind::Empty);
}

/// Whether RFC 9669, appendix B, or Linux has an instruction of this opcode.
fn exists(opcode: u8) -> bool {
    let operation = opcode >> 4;
    let register = opcode & 0x08 != 0;
    let memory = |modes: &[u8]| modes.contains(&(opcode & 0xe0));
    let wide = opcode & 0x18 == 0x18;
    match opcode & 0x07 {
        0 => opcode == 0x18 || (memory(&[0x20, 0x40]) && !wide),
        1 => memory(&[0x60]) || (memory(&[0x80]) && !wide),
        2 => memory(&[0x60]),
        3 => memory(&[0x60, 0xc0]),
        class @ (4 | 7) => match operation {
            0x8 => !register,
            0xd => class == 4 || !register,
            _ => operation < 0xe,
        },
        class => match operation {
            0x0 => !register,
            0x8 => class == 5,
            0x9 | 0xe => class == 5 && !register,
            _ => operation < 0xe,
        },
    }
}

#[test]
fn opcodes_that_do_not_exist_are_unknown() {
    let unknown: Vec<u8> = (0..=u8::MAX).filter(|&opcode| !exists(opcode)).collect();
    assert_eq!(unknown.len(), 127);
    for opcode in unknown {
        assert_undecodable(&[((opcode, 0, 0, 0, 0), DecodeErrorKind::UnknownOpcode(opcode))]);
    }
}

#[test]
fn there_are_eleven_registers() {
    for number in 11..=15 {
        let (dst, src) = (bad_register(Field::Dst, number), bad_register(Field::Src, number));
        assert_undecodable(&[
            ((0xb7, number, 0, 0, 0), dst),
            ((0xbf, number, 0, 0, 0), dst),
            ((0xbf, 0, number, 0, 0), src),
            ((0x61, number, 1, 0, 0), dst),
            ((0x61, 0, number, 0, 0), src),
            ((0x63, number, 0, 0, 0), dst),
            ((0x63, 10, number, 0, 0), src),
            ((0x62, number, 0, 0, 0), dst),
            ((0x1d, 0, number, 0, 0), src),
            ((0x15, number, 0, 0, 0), dst),
            ((0xdb, 10, number, 0, 0), src),
            ((0x50, 0, number, 0, 0), src),
            ((0x18, number, 0, 0, 0), dst),
            ((0xd4, number, 0, 0, 16), dst),
            ((0x8d, number, 0, 0, 0), dst),
        ]);
    }
}

#[test]
fn fields_that_are_not_used_must_be_zero() {
    assert_undecodable(&[
        // Arithmetic: the operand that the source bit does not choose, and the offset.
        ((0x07, 0, 1, 0, 5), reserved(Field::Src, 1)),
        ((0x0f, 0, 1, 0, 5), reserved(Field::Imm, 5)),
        ((0x07, 0, 0, 1, 5), reserved(Field::Off, 1)),
        ((0xb7, 0, 0, 8, 5), reserved(Field::Off, 8)),
        ((0x87, 0, 1, 0, 0), reserved(Field::Src, 1)),
        ((0x87, 0, 0, 0, 1), reserved(Field::Imm, 1)),
        ((0x84, 0, 0, 1, 0), reserved(Field::Off, 1)),
        ((0xd4, 0, 1, 0, 16), reserved(Field::Src, 1)),
        ((0xd7, 0, 0, 1, 16), reserved(Field::Off, 1)),
        ((0xbf, 0, 1, 8, 5), reserved(Field::Imm, 5)),
        // Jumps, calls, the end.
        ((0x15, 0, 1, 0, 5), reserved(Field::Src, 1)),
        ((0x1d, 0, 1, 0, 5), reserved(Field::Imm, 5)),
        ((0x05, 1, 0, 0, 0), reserved(Field::Dst, 1)),
        ((0x05, 0, 1, 0, 0), reserved(Field::Src, 1)),
        ((0x05, 0, 0, 0, 1), reserved(Field::Imm, 1)),
        ((0x06, 0, 0, 1, 0), reserved(Field::Off, 1)),
        ((0x85, 1, 0, 0, 1), reserved(Field::Dst, 1)),
        ((0x85, 0, 0, 1, 1), reserved(Field::Off, 1)),
        ((0x85, 0, 1, 1, 0), reserved(Field::Off, 1)),
        ((0x8d, 1, 0, 0, 1), reserved(Field::Imm, 1)),
        ((0x95, 1, 0, 0, 0), reserved(Field::Dst, 1)),
        ((0x95, 0, 1, 0, 0), reserved(Field::Src, 1)),
        ((0x95, 0, 0, 1, 0), reserved(Field::Off, 1)),
        ((0x95, 0, 0, 0, 1), reserved(Field::Imm, 1)),
        ((0xe5, 1, 0, 0, 0), reserved(Field::Dst, 1)),
        ((0xe5, 0, 0, 0, 1), reserved(Field::Imm, 1)),
        // Memory.
        ((0x61, 0, 1, 0, 1), reserved(Field::Imm, 1)),
        ((0x81, 0, 1, 0, 1), reserved(Field::Imm, 1)),
        ((0x63, 10, 1, -4, 1), reserved(Field::Imm, 1)),
        ((0x62, 10, 1, -4, 1), reserved(Field::Src, 1)),
        ((0x20, 1, 0, 0, 0), reserved(Field::Dst, 1)),
        ((0x20, 0, 1, 0, 0), reserved(Field::Src, 1)),
        ((0x20, 0, 0, 1, 0), reserved(Field::Off, 1)),
        ((0x40, 1, 1, 0, 0), reserved(Field::Dst, 1)),
        ((0x40, 0, 1, 1, 0), reserved(Field::Off, 1)),
        ((0x18, 0, 0, 1, 0), reserved(Field::Off, 1)),
    ]);
}

#[test]
fn fields_that_select_a_variant_select_one_that_exists() {
    assert_undecodable(&[
        // Signed division is off = 1.
        ((0x37, 0, 0, 2, 5), bad_selector(0x37, Field::Off, 2)),
        ((0x97, 0, 0, -1, 5), bad_selector(0x97, Field::Off, -1)),
        // Sign-extending moves: 8 and 16 bits, and 32 to 64.
        ((0xbf, 0, 1, 24, 0), bad_selector(0xbf, Field::Off, 24)),
        ((0xbf, 0, 1, 64, 0), bad_selector(0xbf, Field::Off, 64)),
        ((0xbc, 0, 1, 32, 0), bad_selector(0xbc, Field::Off, 32)),
        ((0xbc, 0, 1, 1, 0), bad_selector(0xbc, Field::Off, 1)),
        // Calls: helper, local, kernel function.
        ((0x85, 0, 3, 0, 0), bad_selector(0x85, Field::Src, 3)),
        ((0xe5, 0, 1, 0, 0), bad_selector(0xe5, Field::Src, 1)),
        // Exchanges always fetch.
        ((0xdb, 10, 1, -8, 0xe0), bad_selector(0xdb, Field::Imm, 0xe0)),
        ((0xdb, 10, 1, -8, 0xf0), bad_selector(0xdb, Field::Imm, 0xf0)),
        ((0xdb, 10, 1, -8, 0x10), bad_selector(0xdb, Field::Imm, 0x10)),
        ((0xdb, 10, 1, -8, 0x120), bad_selector(0xdb, Field::Imm, 0x120)),
    ]);
}

#[test]
fn atomics_have_32_or_64_bits() {
    for opcode in [0xcb, 0xd3] {
        for imm in [0x00, 0x01, 0xe1, 0xf1] {
            assert_undecodable(&[((opcode, 10, 1, -8, imm), DecodeErrorKind::UnknownOpcode(opcode))]);
        }
    }
}

#[test]
fn byte_order_has_16_32_or_64_bits() {
    for imm in [0, 8, 15, 24, 48, 128, -16] {
        for opcode in [0xd4, 0xdc, 0xd7] {
            assert_undecodable(&[((opcode, 0, 0, 0, imm), DecodeErrorKind::BadSwapWidth(imm))]);
        }
    }
}

#[test]
fn a_wide_immediate_has_a_second_slot_of_zeros() {
    let second = |slot: Fields| refusal(&bytes(&[(0x18, 1, 0, 0, 5), slot, EXIT]));
    let bad = |field, value| DecodeError { slot: 0, kind: DecodeErrorKind::BadWideLoad { field, value } };
    assert_eq!(second((0x95, 0, 0, 0, 0)), bad(Field::Opcode, 0x95));
    assert_eq!(second((0, 1, 0, 0, 0)), bad(Field::Dst, 1));
    assert_eq!(second((0, 0, 1, 0, 0)), bad(Field::Src, 1));
    assert_eq!(second((0, 0, 0, 1, 0)), bad(Field::Off, 1));
}

#[test]
fn a_wide_immediate_has_one_of_seven_meanings() {
    for src in 7..=15 {
        let source = refusal(&bytes(&[(0x18, 1, src, 0, 0), (0, 0, 0, 0, 0), EXIT]));
        assert_eq!(source.kind, bad_selector(0x18, Field::Src, src.into()));
    }
}

#[test]
fn a_map_reference_has_no_high_half() {
    for src in [1, 4, 5] {
        let source = refusal(&bytes(&[(0x18, 1, src, 0, 0), (0, 0, 0, 0, 9), EXIT]));
        assert_eq!(source.kind, DecodeErrorKind::BadWideLoad { field: Field::Imm, value: 9 });
    }
}

#[test]
fn a_program_does_not_end_inside_a_wide_immediate() {
    let source = refusal(&bytes(&[EXIT, (0x18, 1, 0, 0, 5)]));
    assert_eq!(source, DecodeError { slot: 1, kind: DecodeErrorKind::CutWideLoad });
}

#[test]
fn jumps_stay_in_the_program() {
    let exit = Insn::exit;
    for (off, target) in [(1, 2), (2, 3), (-2, -1), (i16::MAX, 32_768), (i16::MIN, -32_767)] {
        let kind = CheckErrorKind::JumpOutOfRange { target: target.into() };
        assert_unchecked(vec![Insn::jump(off), exit()], 0, kind);
        assert_unchecked(vec![Insn::jump_long(off.into()), exit()], 0, kind);
        assert_unchecked(vec![Insn::jeq(R0, 0, off), exit()], 0, kind);
        assert_unchecked(vec![Insn::jslt32(R0, R1, off), exit()], 0, kind);
        assert_unchecked(vec![Insn::may_goto(off), exit()], 0, kind);
    }
    for (off, target) in [(i32::MAX, 1_i64 << 31), (i32::MIN, 1 - (1_i64 << 31))] {
        assert_unchecked(vec![Insn::jump_long(off), exit()], 0, CheckErrorKind::JumpOutOfRange { target });
    }
}

#[test]
fn calls_stay_in_the_program() {
    for (off, target) in [(1, 2), (-2, -1), (i32::MAX, 1_i64 << 31), (i32::MIN, 1 - (1_i64 << 31))] {
        let kind = CheckErrorKind::CallOutOfRange { target };
        assert_unchecked(vec![Insn::call_local(off), Insn::exit()], 0, kind);
    }
}

#[test]
fn addresses_of_functions_stay_in_the_program() {
    for (off, target) in [(2, 3), (-2, -1), (i32::MAX, 1_i64 << 31), (i32::MIN, 1 - (1_i64 << 31))] {
        let kind = CheckErrorKind::CodeAddressOutOfRange { target };
        assert_unchecked(vec![Insn::load_function(R1, off), Insn::exit()], 0, kind);
    }
}

#[test]
fn nothing_leads_into_a_wide_immediate() {
    let wide = Insn::load_imm64(R0, 1);
    let target = 2;
    let rest = |first: Insn| vec![first, wide, Insn::exit()];
    assert_unchecked(rest(Insn::jump(1)), 0, CheckErrorKind::JumpIntoWideLoad { target });
    assert_unchecked(rest(Insn::jump_long(1)), 0, CheckErrorKind::JumpIntoWideLoad { target });
    assert_unchecked(rest(Insn::jne(R0, 0, 1)), 0, CheckErrorKind::JumpIntoWideLoad { target });
    assert_unchecked(rest(Insn::call_local(1)), 0, CheckErrorKind::CallIntoWideLoad { target });
    let code_address = vec![Insn::load_function(R1, 2), wide, Insn::exit()];
    assert_unchecked(code_address, 0, CheckErrorKind::CodeAddressOutOfRange { target: 3 });
}

#[test]
fn control_does_not_fall_off_the_end() {
    for last in [
        Insn::mov(R0, 0),
        Insn::jeq(R0, 0, -1),
        Insn::call(1),
        Insn::call_local(-2),
        Insn::load(Size::W, R0, R1, 0),
        Insn::may_goto(-1),
        Insn::load_packet(Size::B, 0),
    ] {
        assert_unchecked(vec![Insn::mov(R0, 0), last], 1, CheckErrorKind::FallsOffEnd);
    }
    let wide = vec![Insn::exit(), Insn::load_imm64(R0, 1)];
    assert_unchecked(wide, 1, CheckErrorKind::FallsOffEnd);
}

#[test]
fn the_frame_pointer_is_read_only() {
    for insn in [
        Insn::mov(R10, 0),
        Insn::add32(R10, 8),
        Insn::neg(R10),
        Insn::mov_sx(Size::B, R10, R1),
        Insn::load(Size::DW, R10, R1, 0),
        Insn::load_imm64(R10, 0),
        Insn::atomic_fetch_add(Width::W64, R1, 0, R10),
        Insn::atomic_xchg(Width::W64, R1, 0, R10),
        Insn::load_acquire(Size::W, R10, R1, 0),
        Insn::addr_space_cast(R10, R1, 0, 1),
    ] {
        assert_unchecked(vec![Insn::mov(R0, 0), insn, Insn::exit()], 1, CheckErrorKind::WritesFramePointer);
    }
}

#[test]
fn the_frame_pointer_may_be_read() {
    assert!(ret("r0 = r10\n *(u64 *)(r10 - 8) = r10\n lock *(u64 *)(r10 - 8) += r10\n exit").is_ok());
}

#[test]
fn immediate_shifts_are_in_range() {
    for (amount, bits) in [(32, 32), (-1, 32), (64, 64), (-1, 64), (i32::MAX, 64), (i32::MIN, 32)] {
        let shifts: [fn(i32) -> Insn; 3] = if bits == 32 {
            [|by| Insn::lsh32(R0, by), |by| Insn::rsh32(R0, by), |by| Insn::arsh32(R0, by)]
        } else {
            [|by| Insn::lsh(R0, by), |by| Insn::rsh(R0, by), |by| Insn::arsh(R0, by)]
        };
        for shift in shifts {
            assert_unchecked(vec![shift(amount), Insn::exit()], 0, CheckErrorKind::ShiftOutOfRange { bits, amount });
        }
    }
}

#[test]
fn a_program_has_a_million_slots_at_most() {
    let mut insns = vec![Insn::mov(R0, 0); MAX_SLOTS - 1];
    insns.push(Insn::exit());
    assert!(Program::new(ProgramInfo::new("longest", ProgramType::Unspec), Code::from(insns.clone())).is_ok());
    insns.push(Insn::exit());
    let too_long = Program::new(ProgramInfo::new("longer", ProgramType::Unspec), Code::from(insns));
    let kind = CheckErrorKind::TooLong { slots: MAX_SLOTS + 1 };
    assert!(matches!(too_long, Err(ProgramError::Check { source, .. }) if source == CheckError { slot: 0, kind }));
}

#[test]
fn the_first_broken_rule_is_reported() {
    let insns = vec![Insn::mov(R0, 0), Insn::jump(100), Insn::mov(R10, 0), Insn::lsh(R0, 64)];
    assert_unchecked(insns, 1, CheckErrorKind::JumpOutOfRange { target: 102 });
}

#[test]
fn a_label_out_of_reach_is_refused_by_the_assembler() {
    let mut asm = Assembler::new();
    asm.jump("far");
    (0..32_768).for_each(|_| {
        asm.push(Insn::mov(R0, 0));
    });
    asm.label("far").push(Insn::exit());
    let far = FarTarget { offset: 32_768, bits: 16 };
    assert_eq!(asm.finish().err(), Some(AssembleError::Far { slot: 0, label: "far".into(), far }));
}

#[test]
fn an_unknown_helper_is_refused_only_when_it_is_called() {
    assert_eq!(ret("r0 = 1\n goto +1\n call 195896080\n exit"), Ok(1));
    assert_eq!(ret("call 195896080\n exit"), Err(TrapKind::NoHelper { number: 195_896_080, name: None }));
}

#[test]
fn casts_are_between_address_spaces_0_and_1() {
    for (dst, src) in [(0, 0), (1, 1), (5, 7), (0, 2), (u16::MAX, 1)] {
        let cast = Insn::addr_space_cast(R1, R1, dst, src);
        assert_unchecked(vec![Insn::mov(R1, 0), cast, Insn::exit()], 1, CheckErrorKind::AddressSpaces { src, dst });
    }
}
