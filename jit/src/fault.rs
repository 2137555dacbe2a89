//! Faults to plant, so that tests can show that they would find them.
//!
//! They are there only with the feature `planted-faults`, and act where code is made or where Rust serves it: without the
//! feature every question for one is the constant `false`. None of them lets code out of the guest's memory.

use std::borrow::Cow;

use softbpf::insn::{AluOp, ByteOrder, Condition, Insn, Operand, Size, SwapWidth, Width};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A mistake that a JIT could make.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(not(feature = "planted-faults"), expect(dead_code, unreachable_pub))]
        pub enum Fault { $($(#[$doc])* $name,)* }

        #[cfg(feature = "planted-faults")]
        impl Fault {
            /// All of them.
            pub const ALL: &[Fault] = &[$(Fault::$name),*];
        }
    };
}

faults! {
    // One instruction is taken for another.
    /// `w1 = w2` leaves the upper half.
    Mov32Moves64,
    /// `w1 = -w1` leaves a borrow in the upper half.
    Neg32Negates64,
    /// `w1 += w2` leaves a carry in the upper half.
    Add32Adds64,
    /// `w1 = (s8)w2` extends to 64 bits.
    MovSx32Extends64,
    /// `r1 = le32 r1` does not cut.
    Le32CutsNothing,
    /// `r1 = be64 r1` swaps the low half only.
    Swap64Swaps32,
    /// `s/=` and `s%=` are unsigned.
    SignedDivisionIsUnsigned,
    /// `s>>=` shifts in zeros.
    ArshIsLogical,
    /// The immediate of `&=` is not sign-extended.
    AndImmZeroExtended,
    /// `if w1 < w2` looks at all 64 bits.
    Jump32Compares64,
    /// `if r1 s> r2` is unsigned.
    SgtIsUnsigned,
    /// `if r1 & r2` jumps where both are equal.
    SetIsEq,
    /// `*(s16 *)` does not extend the sign.
    LoadSignLost,
    /// `*(u64 *) = r1` stores 32 bits.
    Store64Stores32,

    // Emitters.
    /// A 32-bit shift by a register masks the amount to 63.
    Shift32MaskedTo63,
    /// `r1 -= r2` gives `r2 - r1`.
    SubSwapped,
    /// Division by zero leaves the dividend.
    DivByZeroKeeps,
    /// Modulo by zero gives 0.
    ModByZeroClears,
    /// A 32-bit modulo by zero does not cut.
    Mod32ByZeroCutsNothing,
    /// MIN / -1 gives 0.
    MinByMinusOneClears,
    /// A 32-bit division asks all 64 bits of the divisor whether it is 0.
    Divisor32Tested64,
    /// A division leaves its remainder in `r3`.
    DivisionLosesR3,
    /// The immediate of an unsigned comparison is not sign-extended.
    JumpImmZeroExtended,
    /// The immediate of a 64-bit store is not sign-extended.
    StoreImmZeroExtended,
    /// A 32-bit compare and exchange that succeeds leaves the upper half of `r0`.
    Cmpxchg32KeepsHigh,
    /// A 32-bit fetch-and-add sign-extends what it has fetched.
    Fetch32SignExtends,
    /// A fetching operation loses `r0`.
    FetchLosesR0,

    // Several instructions made one.
    /// A register is thought to be written again, wherever it is used.
    IdiomForgetsRest,
    /// What is added to a copy is not negative.
    IdiomAddsUnsigned,
    /// An index is scaled by half of what it should be.
    IdiomScalesLess,
    /// A lower half that is cut out extends its sign.
    IdiomHalfIsSigned,
    /// Rotations go the other way.
    IdiomRotatesBack,
    /// Instructions are made one although a jump leads between them.
    IdiomOverLeader,

    // Calls, frames, fuel.
    /// A call of a helper that code does without is not counted.
    InlineCallNotCounted,
    /// What a helper gives that code does without is what it gave before a mock changed it.
    AnswersStay,
    /// A search of a hash map sees one entry only.
    SearchGivesUp,
    /// A search of a hash map takes the first key with the right hash.
    SearchTrustsHash,
    /// A lookup in a per-CPU map gives the value of CPU 0.
    LookupOfFirstCpu,
    /// A helper leaves something in `r1`.
    HelperLeavesR1,
    /// A helper does not preserve `r6`.
    HelperLosesR6,
    /// A function does not preserve `r6`.
    CallLosesR6,
    /// A function is thought not to write `r7`.
    CallForgetsR7,
    /// A function is thought not to use its budget of `may_goto`.
    CallForgetsLoops,
    /// A function's frame stays open behind it.
    FrameStaysOpen,
    /// A function's frame is taken for open when it is not.
    FrameNotOpened,
    /// The interpreter takes over frames that are not open.
    FramesNotHandedOver,
    /// What a function leaves in its frame stays there for the next run.
    FrameNotZeroed,
    /// A function's `may_goto` goes once less often.
    MayGotoOneTooFew,
    /// A block of several instructions is charged one too many.
    FuelOneTooMany,
    /// A block of several instructions is charged one too few.
    FuelOneTooFew,
    /// What stops in the middle of a block has been charged for one more.
    RefundOneTooFew,
    /// A packet load that ends a function has been charged for what comes behind it.
    PacketLoadRefundsNothing,
    /// There is no end to tail calls.
    TailCallsUnlimited,
    /// A tail call finds the frame as it was.
    TailCallKeepsFrame,
    /// A tail call finds `r6` as it was.
    TailCallKeepsR6,
    /// A function that is called back finds nothing in `r1`.
    CallbackLosesR1,

    // Proofs.
    /// A frame has one byte more.
    ProofStackOneMore,
    /// All of the context may be written.
    ProofContextWritable,
    /// A value of a map has one byte more.
    ProofValueOneMore,
    /// A lookup gives no null pointer.
    ProofNeverNull,
    /// A packet has one byte more than was tested.
    ProofPacketOneMore,
    /// A read-only map may be written.
    ProofMapWritable,
    /// A store through any pointer leaves spilled values alone.
    ProofStoreKeepsSpilled,
    /// A helper leaves spilled values alone.
    ProofHelperKeepsSpilled,
    /// Registers that a loop writes are what they were before it.
    ProofLoopKeepsRegisters,
    /// What a jump brings is forgotten where it arrives.
    ProofJoinTakesOneSide,
    /// A pointer plus an unknown number is where it was.
    ProofAddIgnoresUnknown,
    /// A function leaves `r1` to `r5` alone.
    ProofCallKeepsArguments,

    // Windows and limits.
    /// A window has one byte more.
    WindowOneMore,
    /// Windows stay when memory closes.
    WindowsStay,
    /// Windows into context and packet stay for the next run.
    FleetingWindowsStay,
    /// The check for the frame that a pointer is likely in has one byte more.
    LikelyStackOneMore,
    /// The check of an access that is compared with bitmaps forgets its upper half.
    BitmapHalf,
}

/// The fault that code is to be made with, if any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Planted(Option<Fault>);

impl Planted {
    #[cfg(feature = "planted-faults")]
    pub(crate) const fn new(fault: Fault) -> Planted {
        Planted(Some(fault))
    }

    /// Whether this is the one.
    pub(crate) fn is(self, fault: Fault) -> bool {
        cfg!(feature = "planted-faults") && self.0 == Some(fault)
    }

    /// What instructions are taken for.
    pub(crate) fn taken_for(self, insns: &[Insn]) -> Cow<'_, [Insn]> {
        match self.0 {
            Some(fault) if cfg!(feature = "planted-faults") => {
                insns.iter().map(|&insn| mistake(fault, insn).unwrap_or(insn)).collect()
            }
            Some(_) | None => Cow::Borrowed(insns),
        }
    }
}

/// What the fault makes of an instruction that it is about.
fn mistake(fault: Fault, insn: Insn) -> Option<Insn> {
    let wide = Width::W64;
    match (fault, insn) {
        (
            Fault::Mov32Moves64,
            Insn::Alu { op: op @ AluOp::Mov, width: Width::W32, dst, src: src @ Operand::Reg(_) },
        )
        | (Fault::Add32Adds64, Insn::Alu { op: op @ AluOp::Add, width: Width::W32, dst, src }) => {
            Some(Insn::Alu { op, width: wide, dst, src })
        }
        (Fault::Neg32Negates64, Insn::Neg { dst, .. }) => Some(Insn::Neg { width: wide, dst }),
        (Fault::MovSx32Extends64, Insn::MovSx { from, dst, src, .. }) => {
            Some(Insn::MovSx { width: wide, from, dst, src })
        }
        (Fault::Le32CutsNothing, Insn::End { order: order @ ByteOrder::Le, width: SwapWidth::B32, dst }) => {
            Some(Insn::End { order, width: SwapWidth::B64, dst })
        }
        (Fault::Swap64Swaps32, Insn::End { order: order @ (ByteOrder::Be | ByteOrder::Bswap), dst, .. }) => {
            Some(Insn::End { order, width: SwapWidth::B32, dst })
        }
        (Fault::SignedDivisionIsUnsigned, Insn::Alu { op: AluOp::Sdiv, width, dst, src }) => {
            Some(Insn::Alu { op: AluOp::Div, width, dst, src })
        }
        (Fault::SignedDivisionIsUnsigned, Insn::Alu { op: AluOp::Smod, width, dst, src }) => {
            Some(Insn::Alu { op: AluOp::Mod, width, dst, src })
        }
        (Fault::ArshIsLogical, Insn::Alu { op: AluOp::Arsh, width, dst, src }) => {
            Some(Insn::Alu { op: AluOp::Rsh, width, dst, src })
        }
        (Fault::AndImmZeroExtended, Insn::Alu { op: op @ AluOp::And, dst, src: src @ Operand::Imm(_), .. }) => {
            Some(Insn::Alu { op, width: Width::W32, dst, src })
        }
        (Fault::Jump32Compares64, Insn::JumpIf { condition, dst, src, off, .. }) => {
            Some(Insn::JumpIf { condition, width: wide, dst, src, off })
        }
        (Fault::SgtIsUnsigned, Insn::JumpIf { condition: Condition::Sgt, width, dst, src, off }) => {
            Some(Insn::JumpIf { condition: Condition::Gt, width, dst, src, off })
        }
        (Fault::SetIsEq, Insn::JumpIf { condition: Condition::Set, width, dst, src, off }) => {
            Some(Insn::JumpIf { condition: Condition::Eq, width, dst, src, off })
        }
        (Fault::LoadSignLost, Insn::Load { size, dst, base, off, .. }) => {
            Some(Insn::Load { size, signed: false, dst, base, off })
        }
        (Fault::Store64Stores32, Insn::Store { size: Size::DW, base, off, src: src @ Operand::Reg(_) }) => {
            Some(Insn::Store { size: Size::W, base, off, src })
        }
        (_, _) => None,
    }
}
