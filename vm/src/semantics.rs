//! What each operation computes, as plain functions.
//!
//! Used by the interpreter and by whoever folds constants. Nothing here knows registers, memory or engines.

use crate::insn::{AluOp, AtomicOp, ByteOrder, Condition, Size, SwapWidth, Width};

macro_rules! arithmetic {
    ($name:ident, $unsigned:ty, $signed:ty, $mask:literal) => {
        /// The operation on operands of this width. RFC 9669 section 4.1.
        #[inline(always)]
        pub fn $name(op: AluOp, dst: $unsigned, src: $unsigned) -> $unsigned {
            match op {
                AluOp::Add => dst.wrapping_add(src),
                AluOp::Sub => dst.wrapping_sub(src),
                AluOp::Mul => dst.wrapping_mul(src),
                // "If execution would result in division by zero, the destination register is instead set to zero."
                AluOp::Div => dst.checked_div(src).unwrap_or(0),
                AluOp::Sdiv => match src {
                    0 => 0,
                    // The RFC: MIN / -1 = MIN.
                    src => (dst as $signed).wrapping_div(src as $signed) as $unsigned,
                },
                AluOp::Or => dst | src,
                AluOp::And => dst & src,
                // "Shift operations use a mask of 0x3F (63) for 64-bit operations and 0x1F (31) for 32-bit operations."
                AluOp::Lsh => dst << (src & $mask),
                AluOp::Rsh => dst >> (src & $mask),
                // "If execution would result in modulo by zero, [...] the destination register is unchanged."
                AluOp::Mod => dst.checked_rem(src).unwrap_or(dst),
                AluOp::Smod => match src {
                    0 => dst,
                    src => (dst as $signed).wrapping_rem(src as $signed) as $unsigned,
                },
                AluOp::Xor => dst ^ src,
                AluOp::Mov => src,
                AluOp::Arsh => ((dst as $signed) >> (src & $mask)) as $unsigned,
            }
        }
    };
}
arithmetic!(alu64, u64, i64, 63);
arithmetic!(alu32, u32, i32, 31);

/// The operation on whole registers: the 32-bit form works on the low halves and clears the high half.
#[inline(always)]
pub fn alu(op: AluOp, width: Width, dst: u64, src: u64) -> u64 {
    match width {
        Width::W32 => alu32(op, dst as u32, src as u32).into(),
        Width::W64 => alu64(op, dst, src),
    }
}

/// `-value`. RFC 9669 section 4.1.
#[inline(always)]
pub fn neg(width: Width, value: u64) -> u64 {
    match width {
        Width::W32 => (value as u32).wrapping_neg().into(),
        Width::W64 => value.wrapping_neg(),
    }
}

/// The low bytes of `value`, sign-extended to 64 bits.
#[inline(always)]
pub fn sign_extend(from: Size, value: u64) -> u64 {
    match from {
        Size::B => value as i8 as u64,
        Size::H => value as i16 as u64,
        Size::W => value as i32 as u64,
        Size::DW => value,
    }
}

/// Sign-extending move. RFC 9669 section 4.1, `MOVSX`: to 32 bits, the high half is cleared.
#[inline(always)]
pub fn movsx(width: Width, from: Size, value: u64) -> u64 {
    match width {
        Width::W32 => sign_extend(from, value) as u32 as u64,
        Width::W64 => sign_extend(from, value),
    }
}

/// Byte order conversion on the little-endian guest. RFC 9669 section 4.2.
#[inline(always)]
pub fn byte_order(order: ByteOrder, width: SwapWidth, value: u64) -> u64 {
    match (order, width) {
        (ByteOrder::Le, SwapWidth::B16) => u64::from(value as u16),
        (ByteOrder::Le, SwapWidth::B32) => u64::from(value as u32),
        (ByteOrder::Le, SwapWidth::B64) => value,
        (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B16) => u64::from((value as u16).swap_bytes()),
        (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B32) => u64::from((value as u32).swap_bytes()),
        (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B64) => value.swap_bytes(),
    }
}

macro_rules! comparison {
    ($name:ident, $unsigned:ty, $signed:ty) => {
        /// Whether the condition holds of operands of this width. RFC 9669 section 4.3.
        #[inline(always)]
        pub fn $name(condition: Condition, dst: $unsigned, src: $unsigned) -> bool {
            match condition {
                Condition::Eq => dst == src,
                Condition::Gt => dst > src,
                Condition::Ge => dst >= src,
                Condition::Set => dst & src != 0,
                Condition::Ne => dst != src,
                Condition::Sgt => dst as $signed > src as $signed,
                Condition::Sge => dst as $signed >= src as $signed,
                Condition::Lt => dst < src,
                Condition::Le => dst <= src,
                Condition::Slt => (dst as $signed) < src as $signed,
                Condition::Sle => dst as $signed <= src as $signed,
            }
        }
    };
}
comparison!(holds64, u64, i64);
comparison!(holds32, u32, i32);

/// Whether the condition holds of registers: the 32-bit form looks at the low halves only.
#[inline(always)]
pub fn holds(condition: Condition, width: Width, dst: u64, src: u64) -> bool {
    match width {
        Width::W32 => holds32(condition, dst as u32, src as u32),
        Width::W64 => holds64(condition, dst, src),
    }
}

/// What an atomic operation leaves in memory. RFC 9669 section 5.3. For 32-bit operations the caller passes and
/// stores low halves (`old` and `r0` zero-extended).
#[inline(always)]
pub fn atomic(op: AtomicOp, old: u64, src: u64, r0: u64) -> u64 {
    match op {
        AtomicOp::Add | AtomicOp::FetchAdd => old.wrapping_add(src),
        AtomicOp::Or | AtomicOp::FetchOr => old | src,
        AtomicOp::And | AtomicOp::FetchAnd => old & src,
        AtomicOp::Xor | AtomicOp::FetchXor => old ^ src,
        AtomicOp::Xchg => src,
        AtomicOp::Cmpxchg => {
            if old == r0 {
                src
            } else {
                old
            }
        }
    }
}
