//! Corner cases of arithmetic and comparisons that implementations have got wrong. RFC 9669, section 4.
//!
//! Memory: `semantics_memory.rs`. Calls, jumps, loops: `semantics_control.rs`.

use softbpf::Object;
use softbpf::asm::{Insn, R0, R1};
use softbpf::check::{OutOfRangeShifts, Rules, check};
use softbpf::codec::Code;
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf_conformance::TestResult;
use softbpf_conformance::programs::{assert_returns, outcome, ret};

const MIN64: u64 = 1 << 63;
const MIN32: u64 = 1 << 31;

/// Checks operations on registers: what is behind `dst`, the operation, the operand, and what `r0` is then.
#[track_caller]
fn assert_binary(cases: &[(u64, &str, u64, u64)]) {
    for &(dst, op, src, expected) in cases {
        let reg = if op.starts_with('w') { "w" } else { "r" };
        let op = op.trim_start_matches(['w', 'r']);
        let text = format!("r0 = {dst:#x} ll\n r1 = {src:#x} ll\n {reg}0 {op} {reg}1\n exit");
        assert_eq!(ret(&text), Ok(expected), "{dst:#x} {op} {src:#x}, not {expected:#x}:\n{text}");
    }
}

/// Checks operations on one register: its value, a line of text, and what it is then.
#[track_caller]
fn assert_unary(cases: &[(u64, &str, u64)]) {
    for &(value, line, expected) in cases {
        let text = format!("r0 = {value:#x} ll\n r1 = r0\n {line}\n exit");
        assert_eq!(ret(&text), Ok(expected), "{line} of {value:#x}, not {expected:#x}");
    }
}

#[test]
fn division_by_zero_gives_zero() {
    assert_binary(&[
        (7, "r/=", 0, 0),
        (MIN64, "rs/=", 0, 0),
        (0xffff_ffff_ffff_ffff, "w/=", 0, 0),
        (0xffff_ffff_ffff_ffff, "ws/=", 0, 0),
    ]);
    assert_returns(&[
        ("r0 = 7\n r0 /= 0\n exit", 0),
        ("r0 = -7\n w0 /= 0\n exit", 0),
        ("r0 = -7\n r0 s/= 0\n exit", 0),
        ("r0 = -7\n w0 s/= 0\n exit", 0),
    ]);
}

#[test]
fn modulo_by_zero_leaves_the_destination() {
    assert_binary(&[
        (0x1_2345_6789, "r%=", 0, 0x1_2345_6789),
        (MIN64 + 5, "rs%=", 0, MIN64 + 5),
        (0x1_2345_6789, "w%=", 0, 0x2345_6789),
        (0xffff_ffff_ffff_fff9, "ws%=", 0, 0xffff_fff9),
    ]);
    assert_returns(&[
        ("r0 = -7\n r0 %= 0\n exit", -7_i64 as u64),
        ("r0 = -7\n w0 %= 0\n exit", 0xffff_fff9),
        ("r0 = -7\n r0 s%= 0\n exit", -7_i64 as u64),
        ("r0 = -7\n w0 s%= 0\n exit", 0xffff_fff9),
    ]);
}

#[test]
fn narrow_division_looks_at_the_low_half_of_the_divisor() {
    assert_binary(&[
        (100, "w/=", 0x7_0000_0000, 0),
        (100, "ws/=", 0x7_0000_0000, 0),
        (100, "w%=", 0x7_0000_0000, 100),
        (100, "ws%=", 0x7_0000_0000, 100),
        (0x5_0000_0064, "w/=", 0x7_0000_0007, 14),
        (0x5_0000_0064, "w%=", 0x7_0000_0007, 2),
    ]);
}

#[test]
fn min_by_minus_one_overflows_to_itself() {
    assert_binary(&[
        (MIN64, "rs/=", u64::MAX, MIN64),
        (MIN64, "rs%=", u64::MAX, 0),
        (MIN32, "ws/=", 0xffff_ffff, MIN32),
        (MIN32, "ws%=", 0xffff_ffff, 0),
        (MIN32, "rs/=", u64::MAX, -(MIN32 as i64) as u64),
    ]);
    assert_returns(&[
        ("r0 = 0x8000000000000000 ll\n r0 s/= -1\n exit", MIN64),
        ("r0 = 0x8000000000000000 ll\n r0 s%= -1\n exit", 0),
        ("w0 = 0x80000000\n w0 s/= -1\n exit", MIN32),
        ("w0 = 0x80000000\n w0 s%= -1\n exit", 0),
    ]);
}

#[test]
fn signed_and_unsigned_division_differ() {
    let minus = |value: i64| -value as u64;
    assert_binary(&[
        (minus(7), "rs/=", 2, minus(3)),
        (minus(7), "rs%=", 2, minus(1)),
        (7, "rs/=", minus(2), minus(3)),
        (7, "rs%=", minus(2), 1),
        (minus(7), "r/=", 2, 0x7fff_ffff_ffff_fffc),
        (minus(7), "r%=", 2, 1),
        (minus(7), "ws/=", 2, 0xffff_fffd),
        (minus(7), "ws%=", 2, 0xffff_ffff),
        (minus(7), "w/=", 2, 0x7fff_fffc),
        (minus(7), "w%=", 2, 1),
    ]);
}

#[test]
fn an_immediate_divisor_is_sign_extended() {
    assert_returns(&[
        ("r0 = -1\n r0 /= -1\n exit", 1),
        ("r0 = 0xfffffffe ll\n r0 /= -2\n exit", 0),
        ("r0 = -1\n r0 %= -2\n exit", 1),
        ("r0 = 100\n r0 s/= -7\n exit", -14_i64 as u64),
        ("w0 = -1\n w0 /= -1\n exit", 1),
    ]);
}

#[test]
fn register_shifts_are_masked() {
    assert_binary(&[
        (1, "r<<=", 64, 1),
        (1, "r<<=", 65, 2),
        (1, "r<<=", u64::MAX, MIN64),
        (MIN64, "r>>=", 127, 1),
        (MIN64, "rs>>=", 127, u64::MAX),
        (MIN64, "rs>>=", 64, MIN64),
        (1, "w<<=", 32, 1),
        (1, "w<<=", 33, 2),
        (1, "w<<=", 63, MIN32),
        (MIN32, "w>>=", 32, MIN32),
        (MIN32, "ws>>=", 63, 0xffff_ffff),
        (1, "w<<=", 0x1_0000_0000, 1),
        (0xff00_0000_0000_0001, "w>>=", 0, 1),
    ]);
}

/// By the RFC; the kernel refuses them, and so does the check unless it is told to mask.
#[test]
fn immediate_shifts_out_of_range_are_masked_where_they_are_let_through() -> TestResult {
    const VALUE: u64 = 0x89ab_cdef_7654_3210;
    let rules = Rules { out_of_range_shifts: OutOfRangeShifts::Mask };
    for amount in [32, 33, 34, 63, 64, 65, 66, 96, 97, 127, 1 << 20 | 3, -1, -32, i32::MIN, i32::MAX] {
        let (by64, by32) = (amount as u32 % 64, amount as u32 % 32);
        let low = VALUE as u32;
        let cases = [
            (Insn::lsh(R0, amount), VALUE << by64),
            (Insn::rsh(R0, amount), VALUE >> by64),
            (Insn::arsh(R0, amount), (VALUE as i64 >> by64) as u64),
            (Insn::lsh32(R0, amount), (low << by32).into()),
            (Insn::rsh32(R0, amount), (low >> by32).into()),
            (Insn::arsh32(R0, amount), ((low as i32 >> by32) as u32).into()),
        ];
        for (shift, expected) in cases {
            // Behind a copy, where the JIT looks for more to do at once.
            let code = Code::from(vec![Insn::load_imm64(R1, VALUE), Insn::mov(R0, R1), shift, Insn::exit()]);
            if check(&code).is_ok() {
                continue;
            }
            let info = ProgramInfo::new(MAIN, ProgramType::Unspec);
            let program = Program::with_rules(info, code, rules)?;
            let outcome = outcome(&Object::from_programs(vec![program], Vec::new()), ());
            assert_eq!(outcome.ret, Ok(expected), "{shift:?}");
        }
    }
    Ok(())
}

#[test]
fn registers_may_shift_themselves() {
    assert_unary(&[
        (5, "r0 <<= r0", 160),
        (0x45, "r0 >>= r0", 2),
        (5, "w0 <<= w0", 160),
        (MIN64 | 4, "r0 s>>= r0", 0xf800_0000_0000_0000),
    ]);
}

#[test]
fn narrow_arithmetic_clears_the_high_half() {
    const ONES: u64 = u64::MAX;
    assert_unary(&[
        (ONES, "w0 = w0", 0xffff_ffff),
        (ONES, "w0 = w1", 0xffff_ffff),
        (ONES, "w0 = -1", 0xffff_ffff),
        (ONES, "w0 += 0", 0xffff_ffff),
        (ONES, "w0 += 1", 0),
        (ONES, "w0 -= 1", 0xffff_fffe),
        (ONES, "w0 *= -1", 1),
        (ONES, "w0 |= 0", 0xffff_ffff),
        (ONES, "w0 &= -1", 0xffff_ffff),
        (ONES, "w0 ^= 0", 0xffff_ffff),
        (ONES, "w0 ^= w1", 0),
        (ONES, "w0 <<= 0", 0xffff_ffff),
        (ONES, "w0 >>= 0", 0xffff_ffff),
        (ONES, "w0 s>>= 0", 0xffff_ffff),
        (ONES, "w0 s>>= 1", 0xffff_ffff),
        (ONES, "w0 /= 1", 0xffff_ffff),
        (ONES, "w0 %= -1", 0),
        (0x1_0000_0000, "w0 = -w0", 0),
        (1, "w0 = -w0", 0xffff_ffff),
        (0x7_8000_0000, "w0 = -w0", MIN32),
    ]);
}

#[test]
fn wide_arithmetic_wraps() {
    assert_unary(&[
        (u64::MAX, "r0 += 1", 0),
        (0, "r0 -= 1", u64::MAX),
        (MIN64, "r0 = -r0", MIN64),
        (1, "r0 = -r0", u64::MAX),
        (u64::MAX, "r0 *= r1", 1),
        (0x1_0000_0001, "r0 *= r1", 0x0000_0002_0000_0001),
        (u64::MAX, "r0 *= -3", 3),
    ]);
}

#[test]
fn immediates_are_sign_extended_to_64_bits() {
    assert_unary(&[
        (0, "r0 = -1", u64::MAX),
        (0, "r0 = 0x80000000", 0xffff_ffff_8000_0000),
        (0, "r0 += -1", u64::MAX),
        (0, "r0 |= -2", 0xffff_ffff_ffff_fffe),
        (u64::MAX, "r0 &= -16", 0xffff_ffff_ffff_fff0),
        (u64::MAX, "r0 ^= -1", 0),
        (0, "r0 -= -1", 1),
    ]);
}

#[test]
fn byte_order_cuts_to_its_width() {
    const VALUE: u64 = 0x0123_4567_89ab_cdef;
    assert_unary(&[
        (VALUE, "r0 = le16 r0", 0xcdef),
        (VALUE, "r0 = le32 r0", 0x89ab_cdef),
        (VALUE, "r0 = le64 r0", VALUE),
        (VALUE, "r0 = be16 r0", 0xefcd),
        (VALUE, "r0 = be32 r0", 0xefcd_ab89),
        (VALUE, "r0 = be64 r0", 0xefcd_ab89_6745_2301),
        (VALUE, "r0 = bswap16 r0", 0xefcd),
        (VALUE, "r0 = bswap32 r0", 0xefcd_ab89),
        (VALUE, "r0 = bswap64 r0", 0xefcd_ab89_6745_2301),
    ]);
}

#[test]
fn moves_extend_the_sign_from_their_width() {
    const NEGATIVE: u64 = 0x7fff_ffff_ffff_80f0;
    const POSITIVE: u64 = 0xffff_ffff_0000_7f0f;
    assert_unary(&[
        (NEGATIVE, "r0 = (s8)r1", 0xffff_ffff_ffff_fff0),
        (NEGATIVE, "r0 = (s16)r1", 0xffff_ffff_ffff_80f0),
        (NEGATIVE, "r0 = (s32)r1", 0xffff_ffff_ffff_80f0),
        (NEGATIVE, "w0 = (s8)w1", 0xffff_fff0),
        (NEGATIVE, "w0 = (s16)w1", 0xffff_80f0),
        (POSITIVE, "r0 = (s8)r1", 0x0f),
        (POSITIVE, "r0 = (s16)r1", 0x7f0f),
        (POSITIVE, "r0 = (s32)r1", 0x7f0f),
        (POSITIVE, "w0 = (s8)w1", 0x0f),
        (POSITIVE, "w0 = (s16)w1", 0x7f0f),
        (0x8000_0000, "r0 = (s32)r1", 0xffff_ffff_8000_0000),
        (0x8000_0000, "r0 = (s32)r0", 0xffff_ffff_8000_0000),
    ]);
}

#[test]
fn an_address_space_cast_leaves_a_32_bit_guest_address() {
    assert_unary(&[
        (0x7f00_1234_5678, "r0 = addr_space_cast(r1, 0, 1)", 0x1234_5678),
        (0x1234_5678, "r0 = addr_space_cast(r1, 1, 0)", 0x1234_5678),
        (0, "r0 = addr_space_cast(r1, 1, 0)", 0),
    ]);
}

/// The conditions that hold of two values, as bits in the order of [`CONDITIONS`].
const CONDITIONS: [&str; 11] = ["==", "!=", ">", ">=", "<", "<=", "s>", "s>=", "s<", "s<=", "&"];

fn holding(dst: u64, src: u64, narrow: bool) -> [bool; 11] {
    let cut = |value: u64| if narrow { i64::from(value as i32) } else { value as i64 };
    let (signed_dst, signed_src) = (cut(dst), cut(src));
    // Sign extension keeps the order of unsigned values, too.
    let (dst, src) = (signed_dst as u64, signed_src as u64);
    [
        dst == src,
        dst != src,
        dst > src,
        dst >= src,
        dst < src,
        dst <= src,
        signed_dst > signed_src,
        signed_dst >= signed_src,
        signed_dst < signed_src,
        signed_dst <= signed_src,
        dst & src & if narrow { 0xffff_ffff } else { u64::MAX } != 0,
    ]
}

/// All conditions on two registers in one program: a bit of `r0` each.
fn compare(dst: u64, register: &str, src: &str, load_src: &str) -> Result<u64, softbpf::TrapKind> {
    let mut text = format!("r0 = 0\n r1 = {dst:#x} ll\n {load_src}");
    for (bit, condition) in CONDITIONS.iter().enumerate() {
        text += &format!("if {register} {condition} {src} goto +1\n goto +1\n r0 |= {}\n", 1 << bit);
    }
    ret(&(text + "exit"))
}

fn bits(holding: [bool; 11]) -> u64 {
    holding.iter().enumerate().map(|(bit, &holds)| u64::from(holds) << bit).sum()
}

const COMPARED: [u64; 12] = [
    0,
    1,
    2,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_8000_0000,
    0xffff_ffff_ffff_ffff,
];

#[test]
fn wide_comparisons_look_at_64_bits() {
    for dst in COMPARED {
        for src in COMPARED {
            let load = format!("r2 = {src:#x} ll\n");
            assert_eq!(compare(dst, "r1", "r2", &load), Ok(bits(holding(dst, src, false))), "{dst:#x} {src:#x}");
        }
    }
}

#[test]
fn narrow_comparisons_look_at_the_low_halves() {
    for dst in COMPARED {
        for src in COMPARED {
            let load = format!("r2 = {src:#x} ll\n");
            assert_eq!(compare(dst, "w1", "w2", &load), Ok(bits(holding(dst, src, true))), "{dst:#x} {src:#x}");
        }
    }
}

#[test]
fn immediates_of_comparisons_are_sign_extended() {
    for dst in COMPARED {
        for imm in [0, 1, -1, -2, i32::MAX, i32::MIN] {
            let (src, imm) = (i64::from(imm) as u64, imm.to_string());
            assert_eq!(compare(dst, "r1", &imm, ""), Ok(bits(holding(dst, src, false))), "{dst:#x} {imm}");
            assert_eq!(compare(dst, "w1", &imm, ""), Ok(bits(holding(dst, src, true))), "{dst:#x} {imm}");
        }
    }
}

#[test]
fn comparisons_leave_their_operands() {
    let text = "r1 = 0x180000001 ll\n r2 = -1\n if w1 s< w2 goto +0\n if r1 & 1 goto +0\n r0 = r1\n r0 += r2\n exit";
    assert_returns(&[(text, 0x1_8000_0000)]);
}
