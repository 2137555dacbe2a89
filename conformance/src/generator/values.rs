//! Numbers where implementations go wrong, and some where they do not.

use arbitrary::{Result, Unstructured};
use softbpf::insn::{Insn, Reg};

/// Whole registers: zero, one, minus one, the extremes of every width and signedness, and what is beside 2^32.
const EDGES: [u64; 28] = [
    0,
    1,
    2,
    7,
    8,
    31,
    32,
    33,
    63,
    64,
    65,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0xffff_ffff_0000_0000,
    0xffff_ffff_7fff_ffff,
    0xffff_ffff_8000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Immediates.
const IMMEDIATES: [i32; 20] =
    [0, 1, -1, 2, -2, 7, 8, 31, 32, 63, 64, 0x7f, -0x80, 0xff, 0x7fff, -0x8000, 0xffff, 0x1_0000, i32::MAX, i32::MIN];

/// A register's value: mostly an edge, one beside it, or two halves of edges.
pub(super) fn value(u: &mut Unstructured<'_>) -> Result<u64> {
    let edge = *u.choose(&EDGES)?;
    Ok(match u.int_in_range(0..=7)? {
        0..=3 => edge,
        4 => edge.wrapping_add(u.int_in_range(0..=4)?).wrapping_sub(2),
        5 => edge << 32 | *u.choose(&EDGES)? & 0xffff_ffff,
        6 => edge.wrapping_neg(),
        _ => u.arbitrary()?,
    })
}

/// Operands that only matter together: MIN and -1, and zeros with something above.
const PAIRS: [(u64, u64); 6] = [
    (0x8000_0000_0000_0000, 0xffff_ffff_ffff_ffff),
    (0x8000_0000, 0xffff_ffff),
    (0xffff_ffff_8000_0000, 0xffff_ffff_ffff_ffff),
    (0xffff_ffff_0000_0007, 0x1_0000_0000),
    (0xffff_ffff_ffff_fff9, 2),
    (7, 0xffff_ffff_ffff_fffe),
];

/// Two operands: half of the time values that only matter together.
pub(super) fn pair(u: &mut Unstructured<'_>) -> Result<(u64, u64)> {
    if u.arbitrary()? { Ok(*u.choose(&PAIRS)?) } else { Ok((value(u)?, value(u)?)) }
}

/// Two values that a comparison may take for equal or for unequal: the same, neighbours, or with only one half alike.
pub(super) fn alike(u: &mut Unstructured<'_>) -> Result<(u64, u64)> {
    let value = value(u)?;
    Ok((value, like(u, value)?))
}

/// A value that a comparison may take for this one, or for another.
pub(super) fn like(u: &mut Unstructured<'_>, value: u64) -> Result<u64> {
    Ok(match u.int_in_range(0..=4)? {
        0 => value,
        1 => value.wrapping_add(1),
        2 => value ^ 0xffff_ffff_0000_0000,
        3 => value ^ 0x1_0000_0000,
        _ => value ^ 0x8000_0000,
    })
}

/// An immediate: mostly an edge.
pub(super) fn imm(u: &mut Unstructured<'_>) -> Result<i32> {
    if u.ratio(3, 4)? { Ok(*u.choose(&IMMEDIATES)?) } else { u.arbitrary() }
}

/// An instruction that puts a value into a register.
pub(super) fn load(u: &mut Unstructured<'_>, reg: Reg) -> Result<Insn> {
    Ok(match u.int_in_range(0..=3)? {
        0 => Insn::mov(reg, imm(u)?),
        1 => Insn::mov32(reg, imm(u)?),
        _ => Insn::load_imm64(reg, value(u)?),
    })
}
