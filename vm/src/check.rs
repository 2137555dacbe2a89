//! The structural check: what must hold of a program before any engine sees it.
//!
//! Jumps and calls go to instructions of the program, control never falls off its end, `r10` is never written,
//! immediate shifts are in range unless [`Rules`] say otherwise. It proves nothing about memory: that is checked as the program runs.
//! RFC 9669 sections 4 and 5; the kernel's `check_subprogs` and `check_alu_op`.

use crate::codec::{Code, target_slot};
use crate::insn::{AluOp, Callee, Imm64, Insn, Operand, Reg, Width};

/// The most slots a program may have: the kernel's `BPF_COMPLEXITY_LIMIT_INSNS`.
pub const MAX_SLOTS: usize = 1_000_000;

/// A program that no engine may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot}: {kind}")]
pub struct CheckError {
    /// Index of the offending instruction's slot, from 0.
    pub slot: usize,
    /// What is wrong with it.
    pub kind: CheckErrorKind,
}

/// Why a program may not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum CheckErrorKind {
    #[error("the program is empty")]
    Empty,
    #[error("the program has {slots} slots, more than the {MAX_SLOTS} allowed")]
    TooLong { slots: usize },
    #[error("jumps to slot {target}, outside the program")]
    JumpOutOfRange { target: i64 },
    #[error("jumps to slot {target}, into the middle of a 64-bit immediate load")]
    JumpIntoWideLoad { target: i64 },
    #[error("calls slot {target}, outside the program")]
    CallOutOfRange { target: i64 },
    #[error("calls slot {target}, the middle of a 64-bit immediate load")]
    CallIntoWideLoad { target: i64 },
    #[error("takes the address of slot {target}, which is not an instruction of the program")]
    CodeAddressOutOfRange { target: i64 },
    #[error("control falls off the end of the program")]
    FallsOffEnd,
    #[error("writes to r10, the read-only frame pointer")]
    WritesFramePointer,
    #[error("casts from address space {src} to {dst}; only 0 to 1 and 1 to 0 exist")]
    AddressSpaces { src: u16, dst: u16 },
    #[error("shifts a {bits}-bit value by {amount}")]
    ShiftOutOfRange { bits: u32, amount: i32 },
}

/// What [`check_with`] decides where RFC 9669 and the kernel differ. The default is the kernel's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// Shifts by an immediate that is not below the width of the operands.
    pub out_of_range_shifts: OutOfRangeShifts,
}

/// What becomes of a shift by an immediate that is not below the width of the operands.
///
/// RFC 9669 section 4.1 masks every shift amount with 0x3f or 0x1f; the kernel's `check_alu_op` refuses an immediate
/// for which the mask would matter. Amounts in registers are masked by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutOfRangeShifts {
    /// The program is refused, as the kernel does: [`CheckErrorKind::ShiftOutOfRange`].
    #[default]
    Refuse,
    /// The amount is masked as the program runs, as the RFC says.
    Mask,
}

/// Checks a whole program by the kernel's rules.
///
/// # Errors
/// As [`check_with`].
pub fn check(code: &Code) -> Result<(), CheckError> {
    check_with(code, Rules::default())
}

/// Checks a whole program.
///
/// # Errors
/// The first instruction, in order, that breaks a rule; an instruction that control falls off is found last.
pub fn check_with(code: &Code, rules: Rules) -> Result<(), CheckError> {
    let slots = code.slot_count();
    let whole = |kind| Err(CheckError { slot: 0, kind });
    if slots == 0 {
        return whole(CheckErrorKind::Empty);
    }
    if slots > MAX_SLOTS {
        return whole(CheckErrorKind::TooLong { slots });
    }
    for (index, insn) in code.insns().iter().enumerate() {
        check_insn(code, index, insn, rules)
            .map_err(|kind| CheckError { slot: code.slot_of(index).unwrap_or(0), kind })?;
    }
    match code.iter().last() {
        None | Some((_, Insn::Exit | Insn::Jump { .. })) => Ok(()),
        Some((slot, _)) => Err(CheckError { slot, kind: CheckErrorKind::FallsOffEnd }),
    }
}

fn check_insn(code: &Code, index: usize, insn: &Insn, rules: Rules) -> Result<(), CheckErrorKind> {
    if insn.written() == Some(Reg::R10) {
        return Err(CheckErrorKind::WritesFramePointer);
    }
    if let Some(off) = insn.jump_offset() {
        check_target(code, index, off, CheckErrorKind::jump_out_of_range, CheckErrorKind::jump_into_wide_load)?;
    }
    match *insn {
        Insn::Call(Callee::Local(off)) => {
            check_target(code, index, off, CheckErrorKind::call_out_of_range, CheckErrorKind::call_into_wide_load)
        }
        Insn::LoadImm64 { value: Imm64::Code(off), .. } => {
            let bad = |target| CheckErrorKind::CodeAddressOutOfRange { target };
            check_target(code, index, off, bad, bad)
        }
        // The kernel's address space and an arena's: `check_alu_op`.
        Insn::AddrSpaceCast { dst_space, src_space, .. } => match (dst_space, src_space) {
            (0, 1) | (1, 0) => Ok(()),
            (dst, src) => Err(CheckErrorKind::AddressSpaces { src, dst }),
        },
        Insn::Alu { op: AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, width, src: Operand::Imm(amount), .. } => {
            check_shift(width, amount, rules.out_of_range_shifts)
        }
        Insn::Alu { .. }
        | Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::LoadImm64 { .. }
        | Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::LoadPacket { .. }
        | Insn::Jump { .. }
        | Insn::JumpIf { .. }
        | Insn::MayGoto { .. }
        | Insn::Call(Callee::Helper(_) | Callee::Kfunc { .. } | Callee::Reg(_))
        | Insn::Exit => Ok(()),
    }
}

fn check_shift(width: Width, amount: i32, out_of_range: OutOfRangeShifts) -> Result<(), CheckErrorKind> {
    let bits = match width {
        Width::W32 => 32,
        Width::W64 => 64,
    };
    let in_range = u32::try_from(amount).is_ok_and(|amount| amount < bits);
    match out_of_range {
        OutOfRangeShifts::Refuse if !in_range => Err(CheckErrorKind::ShiftOutOfRange { bits, amount }),
        OutOfRangeShifts::Refuse | OutOfRangeShifts::Mask => Ok(()),
    }
}

impl CheckErrorKind {
    fn jump_out_of_range(target: i64) -> Self {
        CheckErrorKind::JumpOutOfRange { target }
    }
    fn jump_into_wide_load(target: i64) -> Self {
        CheckErrorKind::JumpIntoWideLoad { target }
    }
    fn call_out_of_range(target: i64) -> Self {
        CheckErrorKind::CallOutOfRange { target }
    }
    fn call_into_wide_load(target: i64) -> Self {
        CheckErrorKind::CallIntoWideLoad { target }
    }
}

fn check_target(
    code: &Code,
    index: usize,
    off: i32,
    out_of_range: fn(i64) -> CheckErrorKind,
    into_wide_load: fn(i64) -> CheckErrorKind,
) -> Result<(), CheckErrorKind> {
    if code.target(index, off).is_some() {
        return Ok(());
    }
    let target = target_slot(code.slot_of(index).unwrap_or(0), off);
    let inside = usize::try_from(target).is_ok_and(|slot| slot < code.slot_count());
    Err(if inside { into_wide_load(target) } else { out_of_range(target) })
}
