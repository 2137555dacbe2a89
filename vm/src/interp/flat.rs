//! The interpreter's own form of a program: 24-byte slots with what executes them, jump targets absolute.
//!
//! Made from the typed form once, when a program is first run. One slot an [`Insn`], in the same order, so that
//! distances in slots are numbers of executed instructions and a slot's index finds its [`Insn`] again. Which slots are
//! executed together is for [`super::fuse`] to say.

use super::exec::{Execute, PADDING, one};
use super::ops::{self, Operation, Uses};
use super::special;
use crate::codec::Code;
use crate::insn::{AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, Size, SwapWidth, Width};
/// A register number that cannot leave a file of sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(dead_code)]
pub(super) enum R {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

impl From<crate::insn::Reg> for R {
    fn from(reg: crate::insn::Reg) -> R {
        use crate::insn::Reg;
        match reg {
            Reg::R0 => R::R0,
            Reg::R1 => R::R1,
            Reg::R2 => R::R2,
            Reg::R3 => R::R3,
            Reg::R4 => R::R4,
            Reg::R5 => R::R5,
            Reg::R6 => R::R6,
            Reg::R7 => R::R7,
            Reg::R8 => R::R8,
            Reg::R9 => R::R9,
            Reg::R10 => R::R10,
        }
    }
}

/// One pre-decoded instruction.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Slot {
    /// Executes it, perhaps together with what follows it.
    pub(super) execute: Execute,
    /// Immediate, sign-extended.
    pub(super) imm: u64,
    /// Displacement of an access, or absolute index of a jump's target.
    pub(super) off: i32,
    pub(super) dst: R,
    pub(super) src: R,
    /// What it is by itself.
    pub(super) op: Op,
}

macro_rules! ops {
    (
        alu [$($alu:ident $acode:literal $aoff:literal $asym:literal $amnemonic:literal $agroup:ident)*]
        condition [$($condition:ident $ccode:literal $csym:literal $cmnemonic:literal)*]
        atomic [$($atomic:ident $imm:literal $symbol:literal)*]
        size [$($size:ident $bits:literal $bytes:literal $ctype:ident $suffix:literal)*]
    ) => { pastey::paste! {
        ops! {
            plain [
                $([<$alu 32Imm>] [<$alu 32Reg>] [<$alu 64Imm>] [<$alu 64Reg>])*
                $([<J $condition 32Imm>] [<J $condition 32Reg>] [<J $condition 64Imm>] [<J $condition 64Reg>])*
                $([<Load $size>] [<Store $size Imm>] [<Store $size Reg>])*
                LoadSignedB LoadSignedH LoadSignedW
                Neg32 Neg64
                MovSxB32 MovSxH32 MovSxB64 MovSxH64 MovSxW64
                Cut16 Swap16 Swap32 Swap64
                LoadImm64
                Jump
            ]
            special [
                $([<Atomic $atomic 32>] [<atomic_ $atomic:snake _32>] [<Atomic $atomic 64>] [<atomic_ $atomic:snake _64>])*
                MayGoto may_goto
                CallHelper call_helper
                CallLocal call_local
                Exit exit
                Slow slow
                NoSlot no_slot
            ]
        }

        fn alu_op(op: AluOp, width: Width, src: Operand) -> Op {
            match (op, width, src) {
                $(
                    (AluOp::$alu, Width::W32, Operand::Imm(_)) => Op::[<$alu 32Imm>],
                    (AluOp::$alu, Width::W32, Operand::Reg(_)) => Op::[<$alu 32Reg>],
                    (AluOp::$alu, Width::W64, Operand::Imm(_)) => Op::[<$alu 64Imm>],
                    (AluOp::$alu, Width::W64, Operand::Reg(_)) => Op::[<$alu 64Reg>],
                )*
            }
        }

        fn jump_op(condition: Condition, width: Width, src: Operand) -> Op {
            match (condition, width, src) {
                $(
                    (Condition::$condition, Width::W32, Operand::Imm(_)) => Op::[<J $condition 32Imm>],
                    (Condition::$condition, Width::W32, Operand::Reg(_)) => Op::[<J $condition 32Reg>],
                    (Condition::$condition, Width::W64, Operand::Imm(_)) => Op::[<J $condition 64Imm>],
                    (Condition::$condition, Width::W64, Operand::Reg(_)) => Op::[<J $condition 64Reg>],
                )*
            }
        }

        fn atomic_op(op: AtomicOp, width: Width) -> Op {
            match (op, width) {
                $(
                    (AtomicOp::$atomic, Width::W32) => Op::[<Atomic $atomic 32>],
                    (AtomicOp::$atomic, Width::W64) => Op::[<Atomic $atomic 64>],
                )*
            }
        }

        fn load_op(size: Size) -> Op {
            match size { $(Size::$size => Op::[<Load $size>]),* }
        }

        fn store_op(size: Size, src: Operand) -> Op {
            match (size, src) {
                $(
                    (Size::$size, Operand::Imm(_)) => Op::[<Store $size Imm>],
                    (Size::$size, Operand::Reg(_)) => Op::[<Store $size Reg>],
                )*
            }
        }
    } };

    (plain [$($plain:ident)*] special [$($special:ident $function:ident)*]) => {
        /// An operation by itself: operation x width x source.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u16)]
        pub(super) enum Op {
            $($plain,)*
            $($special,)*
        }

        impl Op {
            /// What executes it by itself.
            #[inline]
            pub(super) fn execute(self) -> Execute {
                match self {
                    $(Op::$plain => one::<ops::$plain>,)*
                    $(Op::$special => special::$function,)*
                }
            }

            /// Which of the slot's registers it reads and writes, of those that may be fused.
            #[inline]
            pub(super) fn uses(self) -> Uses {
                match self {
                    $(Op::$plain => <ops::$plain as Operation>::USES,)*
                    $(Op::$special => Uses { result: false, dst: false, src: false },)*
                }
            }
        }
    };
}
for_each_row!(ops);

/// What a program may do to memory, it or what it calls: no more than that is to be got ready, and cleared away, for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Touches {
    Nothing,
    Reads,
    Writes,
}

impl Touches {
    pub(super) fn of(code: &Code) -> Touches {
        code.insns().iter().map(Touches::of_one).max().unwrap_or(Touches::Nothing)
    }

    fn of_one(insn: &Insn) -> Touches {
        match insn {
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::MovSx { .. }
            | Insn::End { .. }
            | Insn::AddrSpaceCast { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Jump { .. }
            | Insn::JumpIf { .. }
            | Insn::MayGoto { .. }
            | Insn::Exit => Touches::Nothing,
            Insn::Load { .. } | Insn::LoadAcquire { .. } | Insn::LoadPacket { .. } => Touches::Reads,
            Insn::Store { .. } | Insn::StoreRelease { .. } | Insn::Atomic { .. } | Insn::Call(_) => Touches::Writes,
        }
    }
}

/// Flattens a checked program, for memory that keeps account of uninitialised bytes or does not; `resolve` gives the
/// guest's value of a 64-bit immediate, `None` if it has none.
pub(super) fn flatten(code: &Code, tracking: bool, resolve: impl Fn(usize, Imm64) -> Option<u64>) -> Vec<Slot> {
    let slots = code.iter().enumerate().map(|(index, (slot, insn))| {
        let is_store = matches!(insn, Insn::Store { .. } | Insn::StoreRelease { .. });
        // The driver stores, and takes account of it.
        let slot = if tracking && is_store { Slot::SLOW } else { flatten_one(code, index, slot, insn, &resolve) };
        Slot { execute: slot.op.execute(), ..slot }
    });
    slots.chain(std::iter::repeat_n(Slot::NONE, PADDING)).collect()
}

impl Slot {
    /// No instruction.
    const NONE: Slot = Slot { execute: special::no_slot, op: Op::NoSlot, dst: R::R0, src: R::R0, off: 0, imm: 0 };

    const SLOW: Slot = Slot { execute: special::slow, op: Op::Slow, dst: R::R0, src: R::R0, off: 0, imm: 0 };

    fn operand(self, src: Operand) -> Slot {
        match src {
            Operand::Reg(reg) => Slot { src: reg.into(), ..self },
            Operand::Imm(imm) => Slot { imm: imm as i64 as u64, ..self },
        }
    }
}

fn flatten_one(
    code: &Code,
    at: usize,
    slot: usize,
    insn: &Insn,
    resolve: &impl Fn(usize, Imm64) -> Option<u64>,
) -> Slot {
    let base = Slot::SLOW;
    // The check has made sure that every target is an instruction.
    let index = |off: i32| code.target(at, off).unwrap_or(0) as i32;
    match *insn {
        Insn::Alu { op, width, dst, src } => Slot { op: alu_op(op, width, src), dst: dst.into(), ..base }.operand(src),
        Insn::Neg { width, dst } => {
            let op = match width {
                Width::W32 => Op::Neg32,
                Width::W64 => Op::Neg64,
            };
            Slot { op, dst: dst.into(), src: dst.into(), ..base }
        }
        Insn::MovSx { width, from, dst, src } => {
            let op = match (width, from) {
                (Width::W32, Size::B) => Op::MovSxB32,
                (Width::W32, Size::H) => Op::MovSxH32,
                (Width::W64, Size::B) => Op::MovSxB64,
                (Width::W64, Size::H) => Op::MovSxH64,
                (Width::W64, Size::W) => Op::MovSxW64,
                (Width::W32, Size::W | Size::DW) => Op::Mov32Reg,
                (Width::W64, Size::DW) => Op::Mov64Reg,
            };
            Slot { op, dst: dst.into(), src: src.into(), ..base }
        }
        Insn::End { order, width, dst } => {
            let op = match (order, width) {
                (ByteOrder::Le, SwapWidth::B16) => Op::Cut16,
                (ByteOrder::Le, SwapWidth::B32) => Op::Mov32Reg,
                (ByteOrder::Le, SwapWidth::B64) => Op::Mov64Reg,
                (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B16) => Op::Swap16,
                (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B32) => Op::Swap32,
                (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B64) => Op::Swap64,
            };
            Slot { op, dst: dst.into(), src: dst.into(), ..base }
        }
        // Both kinds of arena pointer are 32-bit guest addresses here.
        Insn::AddrSpaceCast { dst, src, .. } => Slot { op: Op::Mov32Reg, dst: dst.into(), src: src.into(), ..base },
        Insn::LoadImm64 { dst, value } => match resolve(slot, value) {
            Some(imm) => Slot { op: Op::LoadImm64, dst: dst.into(), imm, ..base },
            None => base,
        },
        Insn::Load { size, signed, dst, base: src, off } => {
            let op = match (size, signed) {
                (Size::B, true) => Op::LoadSignedB,
                (Size::H, true) => Op::LoadSignedH,
                (Size::W, true) => Op::LoadSignedW,
                (size, _) => load_op(size),
            };
            Slot { op, dst: dst.into(), src: src.into(), off: off.into(), ..base }
        }
        Insn::Store { size, base: dst, off, src } => {
            Slot { op: store_op(size, src), dst: dst.into(), off: off.into(), ..base }.operand(src)
        }
        // One machine is one thread: order is program order.
        Insn::LoadAcquire { size, dst, base: src, off } => {
            Slot { op: load_op(size), dst: dst.into(), src: src.into(), off: off.into(), ..base }
        }
        Insn::StoreRelease { size, base: dst, off, src } => {
            let op = store_op(size, Operand::Reg(src));
            Slot { op, dst: dst.into(), src: src.into(), off: off.into(), ..base }
        }
        Insn::Atomic { op, width, base: dst, off, src } => {
            Slot { op: atomic_op(op, width), dst: dst.into(), src: src.into(), off: off.into(), ..base }
        }
        Insn::Jump { off, .. } => Slot { op: Op::Jump, off: index(off), ..base },
        Insn::JumpIf { condition, width, dst, src, off } => {
            Slot { op: jump_op(condition, width, src), dst: dst.into(), off: index(off.into()), ..base }.operand(src)
        }
        Insn::MayGoto { off } => Slot { op: Op::MayGoto, off: index(off.into()), ..base },
        Insn::Call(Callee::Helper(number)) => Slot { op: Op::CallHelper, imm: number as u64, ..base },
        Insn::Call(Callee::Local(off)) => Slot { op: Op::CallLocal, off: index(off), ..base },
        Insn::Exit => Slot { op: Op::Exit, ..base },
        Insn::Call(Callee::Kfunc { .. } | Callee::Reg(_)) | Insn::LoadPacket { .. } => base,
    }
}
