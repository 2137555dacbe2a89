//! What operations compute, as arithmetic on mathematical integers.
//!
//! A register's low bits are read as an unsigned or a signed number, the operation is done without any overflow in
//! `i128`, and the result is taken modulo 2 to the width. Nothing is done in a machine's way: no masks, no shifts,
//! no wrapping operators. Section numbers are RFC 9669's.

use softbpf::insn::{AluOp, AtomicOp, ByteOrder, Condition, Size, SwapWidth, Width};

fn bits(width: Width) -> u32 {
    match width {
        Width::W32 => 32,
        Width::W64 => 64,
    }
}

/// Powers of two, worked out once.
const POWERS: [i128; 65] = {
    let mut powers = [1; 65];
    let mut exponent = 1;
    while exponent < powers.len() {
        powers[exponent] = 2 * powers[exponent - 1];
        exponent += 1;
    }
    powers
};

fn power_of_two(exponent: u32) -> i128 {
    POWERS[exponent as usize]
}

/// The low `bits` of a register as an unsigned number.
pub fn unsigned(bits: u32, register: u64) -> i128 {
    // All 64 bits are the number itself.
    if bits == 64 { register.into() } else { i128::from(register % 2_u64.pow(bits)) }
}

/// The low `bits` of a register as a two's complement number.
pub fn signed(bits: u32, register: u64) -> i128 {
    let value = unsigned(bits, register);
    if value < power_of_two(bits - 1) { value } else { value - power_of_two(bits) }
}

/// A number as the low `bits` of a register whose other bits are zero.
pub fn register(bits: u32, value: i128) -> u64 {
    let modulus = power_of_two(bits);
    // Most fit as they are, and dividing takes long.
    let value = if (0..modulus).contains(&value) { value } else { value.rem_euclid(modulus) };
    u64::try_from(value).unwrap_or_default()
}

/// Section 4.1: what `dst` is after `dst = dst op src`; 32-bit operations zero the upper half.
pub fn alu(op: AluOp, width: Width, dst: u64, src: u64) -> u64 {
    let bits = bits(width);
    let (u, s) = (|value| unsigned(bits, value), |value| signed(bits, value));
    let result = match op {
        AluOp::Add => u(dst) + u(src),
        AluOp::Sub => u(dst) - u(src),
        // The product of the signed numbers is the same modulo 2 to the width, and always fits.
        AluOp::Mul => s(dst) * s(src),
        // "If execution would result in division by zero, the destination register is instead set to zero."
        AluOp::Div if u(src) == 0 => 0,
        AluOp::Div => u(dst) / u(src),
        AluOp::Sdiv if s(src) == 0 => 0,
        // Truncates towards zero. The smallest number by -1 comes out as itself, modulo 2 to the width.
        AluOp::Sdiv => s(dst) / s(src),
        // "If execution would result in modulo by zero [...] the value of the destination register is unchanged",
        // but that a 32-bit operation zeroes its upper half.
        AluOp::Mod if u(src) == 0 => u(dst),
        AluOp::Mod => u(dst) % u(src),
        AluOp::Smod if s(src) == 0 => s(dst),
        // "a % n = a - n * trunc(a / n)".
        AluOp::Smod => s(dst) - s(src) * (s(dst) / s(src)),
        AluOp::Or => bitwise(u(dst), u(src), |a, b| a || b),
        AluOp::And => bitwise(u(dst), u(src), |a, b| a && b),
        AluOp::Xor => bitwise(u(dst), u(src), |a, b| a != b),
        AluOp::Mov => u(src),
        // "Shift operations use a mask of 0x3F (63) for 64-bit operations and 0x1F (31) for 32-bit operations."
        AluOp::Lsh => u(dst) * power_of_two(shift_amount(bits, src)),
        AluOp::Rsh => u(dst).div_euclid(power_of_two(shift_amount(bits, src))),
        AluOp::Arsh => s(dst).div_euclid(power_of_two(shift_amount(bits, src))),
    };
    register(bits, result)
}

fn shift_amount(bits: u32, src: u64) -> u32 {
    u32::try_from(src % u64::from(bits)).unwrap_or_default()
}

/// The number whose binary digits are `digit` of the digits of `a` and `b`.
fn bitwise(a: i128, b: i128, digit: impl Fn(bool, bool) -> bool) -> i128 {
    let [mut a, mut b] = [a, b].map(|value| u64::try_from(value).unwrap_or_default());
    let (mut result, mut weight) = (0, 1);
    while a != 0 || b != 0 {
        if digit(a % 2 == 1, b % 2 == 1) {
            result += weight;
        }
        (a, b, weight) = (a / 2, b / 2, weight * 2);
    }
    result
}

/// Section 4.1, `NEG`: "dst = -dst".
pub fn neg(width: Width, dst: u64) -> u64 {
    register(bits(width), -signed(bits(width), dst))
}

/// Section 4.1, `MOVSX`: "sign extends 8-bit, 16-bit, and 32-bit operands into 64-bit operands" (and 8 and 16 into 32
/// "and zeroes the remaining upper 32 bits").
pub fn movsx(width: Width, from: Size, src: u64) -> u64 {
    register(bits(width), signed(8 * from.bytes(), src))
}

/// Section 4.2, on a little-endian machine: `le` keeps the low bytes, `be` and `bswap` reverse them, and what is above
/// is zeroed.
pub fn byte_order(order: ByteOrder, width: SwapWidth, dst: u64) -> u64 {
    let count = match width {
        SwapWidth::B16 => 2,
        SwapWidth::B32 => 4,
        SwapWidth::B64 => 8,
    };
    let mut bytes = to_bytes(count, dst);
    match order {
        ByteOrder::Le => {}
        ByteOrder::Be | ByteOrder::Bswap => bytes.reverse(),
    }
    from_bytes(&bytes)
}

/// The `count` low bytes of a value, the least significant first.
pub fn to_bytes(count: u32, value: u64) -> Vec<u8> {
    let byte = |index| u8::try_from(value / 256_u64.pow(index) % 256).unwrap_or_default();
    (0..count).map(byte).collect()
}

/// The value of bytes, the least significant first.
pub fn from_bytes(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value * 256 + u64::from(byte))
}

/// Section 4.3: whether a conditional jump is taken; `JMP32` compares "32-bit wide operands".
pub fn holds(condition: Condition, width: Width, dst: u64, src: u64) -> bool {
    let bits = bits(width);
    let (u, s) = (|value| unsigned(bits, value), |value| signed(bits, value));
    match condition {
        Condition::Eq => u(dst) == u(src),
        Condition::Ne => u(dst) != u(src),
        Condition::Gt => u(dst) > u(src),
        Condition::Ge => u(dst) >= u(src),
        Condition::Lt => u(dst) < u(src),
        Condition::Le => u(dst) <= u(src),
        Condition::Sgt => s(dst) > s(src),
        Condition::Sge => s(dst) >= s(src),
        Condition::Slt => s(dst) < s(src),
        Condition::Sle => s(dst) <= s(src),
        Condition::Set => bitwise(u(dst), u(src), |a, b| a && b) != 0,
    }
}

/// Section 5.3: what is in memory after an atomic operation on `old`.
pub fn atomic(op: AtomicOp, width: Width, old: u64, src: u64, r0: u64) -> u64 {
    let same = unsigned(bits(width), old) == unsigned(bits(width), r0);
    match op {
        AtomicOp::Add | AtomicOp::FetchAdd => alu(AluOp::Add, width, old, src),
        AtomicOp::Or | AtomicOp::FetchOr => alu(AluOp::Or, width, old, src),
        AtomicOp::And | AtomicOp::FetchAnd => alu(AluOp::And, width, old, src),
        AtomicOp::Xor | AtomicOp::FetchXor => alu(AluOp::Xor, width, old, src),
        AtomicOp::Xchg => alu(AluOp::Mov, width, old, src),
        AtomicOp::Cmpxchg if same => alu(AluOp::Mov, width, old, src),
        AtomicOp::Cmpxchg => old,
    }
}
