//! What each operation does to a slot's operands: a type an operation, made from the rows.
//!
//! An operation knows its two operands and guest memory. Where the result goes, what comes next and what is fused with
//! what is the business of [`super::exec`], which makes functions of these types; which of them an instruction becomes is
//! that of [`super::flat`].

use super::flat::Slot;
use super::state::Registers;
use crate::insn::{AluOp, ByteOrder, Condition, Size, SwapWidth, Width};
use crate::memory::View;
use crate::semantics;

/// What came of an operation.
pub(super) enum Flow {
    /// A result, for `dst`.
    Value(u64),
    /// Nothing but what it did to memory, or a jump that was not taken.
    Next,
    /// On to the slot's target.
    Jump,
    /// The driver must do it.
    Slow,
}

/// Which of the registers that a slot names an operation reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Uses {
    /// It has a result, for `dst`.
    pub(super) result: bool,
    /// It reads `dst`.
    pub(super) dst: bool,
    /// It reads `src`.
    pub(super) src: bool,
}

/// One operation. Its operands are called as the fields of the slot that name them; an immediate stands for `src`.
pub(super) trait Operation {
    /// Which of its registers it reads and writes.
    const USES: Uses;

    /// The operand that is a register or an immediate.
    #[inline(always)]
    fn src(regs: &Registers, slot: &Slot) -> u64 {
        if Self::USES.src { regs[slot.src as usize] } else { slot.imm }
    }

    /// Does it, with the values of its operands.
    fn execute(view: &mut View<'_>, slot: &Slot, dst: u64, src: u64) -> Flow;
}

macro_rules! uses {
    (Imm) => {
        Uses { result: false, dst: false, src: false }
    };
    (Reg) => {
        Uses { result: false, dst: false, src: true }
    };
}

/// `Name [what it uses] source |view, slot, dst, src| what comes of it`
macro_rules! operation {
    ($name:ident [$($uses:ident)*] $source:ident |$view:ident, $slot:ident, $dst:ident, $src:ident| $execute:expr) => {
        pub(super) struct $name;

        impl Operation for $name {
            const USES: Uses = Uses { $($uses: true,)* ..uses!($source) };

            #[inline(always)]
            fn execute($view: &mut View<'_>, $slot: &Slot, $dst: u64, $src: u64) -> Flow {
                $execute
            }
        }
    };
}

/// `base` plus the slot's displacement.
#[inline(always)]
fn address(slot: &Slot, base: u64) -> u64 {
    base.wrapping_add(slot.off as i64 as u64)
}

macro_rules! load {
    ($name:ident $unsigned:ident $extend:ident) => {
        operation!($name [result] Reg |view, slot, _dst, src| match view.load(address(slot, src)) {
            Some(bytes) => Flow::Value($unsigned::from_le_bytes(bytes) as $extend as u64),
            None => Flow::Slow,
        });
    };
}

macro_rules! store {
    ($name:ident $unsigned:ident $source:ident) => {
        operation!($name [dst] $source |view, slot, dst, src| {
            match view.store(address(slot, dst), (src as $unsigned).to_le_bytes()) {
                Some(()) => Flow::Next,
                None => Flow::Slow,
            }
        });
    };
}

macro_rules! jump {
    ($name:ident $holds:ident $condition:ident $unsigned:ident $source:ident) => {
        operation!($name [dst] $source |_view, _slot, dst, src| {
            if semantics::$holds(Condition::$condition, dst as $unsigned, src as $unsigned) { Flow::Jump } else { Flow::Next }
        });
    };
}

macro_rules! operations {
    (
        alu [$($alu:ident $acode:literal $aoff:literal $asym:literal $amnemonic:literal $agroup:ident)*]
        condition [$($condition:ident $ccode:literal $csym:literal $cmnemonic:literal)*]
        atomic [$($atomic:tt)*]
        size [$($size:ident $bits:literal $bytes:literal $ctype:ident $suffix:literal)*]
    ) => { pastey::paste! {
        $(
            operation!([<$alu 32Imm>] [result dst] Imm |_view, _slot, dst, src| Flow::Value(semantics::alu(AluOp::$alu, Width::W32, dst, src)));
            operation!([<$alu 32Reg>] [result dst] Reg |_view, _slot, dst, src| Flow::Value(semantics::alu(AluOp::$alu, Width::W32, dst, src)));
            operation!([<$alu 64Imm>] [result dst] Imm |_view, _slot, dst, src| Flow::Value(semantics::alu(AluOp::$alu, Width::W64, dst, src)));
            operation!([<$alu 64Reg>] [result dst] Reg |_view, _slot, dst, src| Flow::Value(semantics::alu(AluOp::$alu, Width::W64, dst, src)));
        )*
        $(
            jump!([<J $condition 32Imm>] holds32 $condition u32 Imm);
            jump!([<J $condition 32Reg>] holds32 $condition u32 Reg);
            jump!([<J $condition 64Imm>] holds64 $condition u64 Imm);
            jump!([<J $condition 64Reg>] holds64 $condition u64 Reg);
        )*
        $(
            load!([<Load $size>] $ctype u64);
            store!([<Store $size Imm>] $ctype Imm);
            store!([<Store $size Reg>] $ctype Reg);
        )*
    } };
}
for_each_row!(operations);

load!(LoadSignedB u8 i8);
load!(LoadSignedH u16 i16);
load!(LoadSignedW u32 i32);

operation!(LoadImm64 [result] Imm |_view, _slot, _dst, src| Flow::Value(src));
operation!(Jump [] Imm |_view, _slot, _dst, _src| Flow::Jump);

macro_rules! unary {
    ($($name:ident $result:expr;)*) => {
        // Those of one register have it in both fields.
        $(operation!($name [result] Reg |_view, _slot, _dst, src| Flow::Value(($result)(src)));)*
    };
}

unary! {
    Neg32 |value| semantics::neg(Width::W32, value);
    Neg64 |value| semantics::neg(Width::W64, value);
    MovSxB32 |value| semantics::movsx(Width::W32, Size::B, value);
    MovSxH32 |value| semantics::movsx(Width::W32, Size::H, value);
    MovSxB64 |value| semantics::movsx(Width::W64, Size::B, value);
    MovSxH64 |value| semantics::movsx(Width::W64, Size::H, value);
    MovSxW64 |value| semantics::movsx(Width::W64, Size::W, value);
    Cut16 |value| semantics::byte_order(ByteOrder::Le, SwapWidth::B16, value);
    Swap16 |value| semantics::byte_order(ByteOrder::Bswap, SwapWidth::B16, value);
    Swap32 |value| semantics::byte_order(ByteOrder::Bswap, SwapWidth::B32, value);
    Swap64 |value| semantics::byte_order(ByteOrder::Bswap, SwapWidth::B64, value);
}
