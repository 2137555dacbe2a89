//! Arithmetic.

use dynasmrt::DynasmApi;
use softbpf::insn::{AluOp, ByteOrder, Operand, Reg, Size, SwapWidth, Width};

use super::Options;
use super::asm::{Assembler, Cc, x64};
use super::encode::{self, group, opcode};
use super::registers::{Host, RAX, RCX, RDX, SCRATCH, host};
use crate::fault::{Fault, Planted};

/// The code of one arithmetic instruction.
#[inline(always)]
pub(super) fn emit(asm: &mut Assembler, options: Options, op: AluOp, width: Width, dst: Reg, src: Operand) {
    let dst = host(dst);
    let planted = options.planted;
    match op {
        AluOp::Sub if planted.is(Fault::SubSwapped) => {
            simple(asm, group::SUB, width, dst, src);
            encode::neg(asm, width, dst);
        }
        AluOp::Add => simple(asm, group::ADD, width, dst, src),
        AluOp::Sub => simple(asm, group::SUB, width, dst, src),
        AluOp::Or => simple(asm, group::OR, width, dst, src),
        AluOp::And => simple(asm, group::AND, width, dst, src),
        AluOp::Xor => simple(asm, group::XOR, width, dst, src),
        AluOp::Mov => mov(asm, width, dst, src),
        AluOp::Mul => mul(asm, width, dst, src),
        AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => match src {
            Operand::Imm(amount) => shift_by_constant(asm, op, width, dst, amount),
            Operand::Reg(amount) if width == Width::W32 && planted.is(Fault::Shift32MaskedTo63) => {
                x64!(asm; mov Rd(dst), Rd(dst));
                shift(asm, op, Width::W64, dst, host(amount));
                x64!(asm; mov Rd(dst), Rd(dst));
            }
            Operand::Reg(amount) if options.bmi2 => shift_bmi2(asm, op, width, dst, host(amount)),
            Operand::Reg(amount) => shift(asm, op, width, dst, host(amount)),
        },
        AluOp::Div | AluOp::Mod => divide(asm, planted, op == AluOp::Div, false, width, dst, src),
        AluOp::Sdiv | AluOp::Smod => divide(asm, planted, op == AluOp::Sdiv, true, width, dst, src),
    }
}

/// `register = imm`, sign-extended; flags are lost.
#[inline(always)]
pub(super) fn load_imm(asm: &mut Assembler, dst: Host, imm: i64) {
    if imm == 0 {
        encode::arithmetic(asm, Width::W32, group::XOR, dst, dst);
    } else if let Ok(imm) = u32::try_from(imm) {
        encode::load_low(asm, dst, imm);
    } else if let Ok(imm) = i32::try_from(imm) {
        encode::load_signed(asm, dst, imm);
    } else {
        x64!(asm; mov Rq(dst), QWORD imm);
    }
}

/// An operation with a register or an immediate.
#[inline(always)]
fn simple(asm: &mut Assembler, group: u8, width: Width, dst: Host, src: Operand) {
    match src {
        Operand::Reg(src) => encode::arithmetic(asm, width, group, dst, host(src)),
        Operand::Imm(-1) if group == group::XOR => encode::not(asm, width, dst),
        // What is cleared here is cleared there.
        Operand::Imm(imm) if group == group::AND && imm >= 0 => encode::immediate(asm, Width::W32, group, dst, imm),
        Operand::Imm(imm) => encode::immediate(asm, width, group, dst, imm),
    }
}

#[inline(always)]
fn mov(asm: &mut Assembler, width: Width, dst: Host, src: Operand) {
    match (width, src) {
        (width, Operand::Reg(src)) => encode::mov(asm, width, dst, host(src)),
        (Width::W64, Operand::Imm(imm)) => load_imm(asm, dst, imm.into()),
        (Width::W32, Operand::Imm(imm)) => load_imm(asm, dst, (imm as u32).into()),
    }
}

#[inline(always)]
fn mul(asm: &mut Assembler, width: Width, dst: Host, src: Operand) {
    match src {
        Operand::Reg(src) => encode::multiply(asm, width, dst, host(src)),
        Operand::Imm(imm) => encode::multiply_immediate(asm, width, dst, dst, imm),
    }
}

// Shifts. The machine masks amounts as RFC 9669 section 4.1 does: 63 or 31, by the width.

#[inline(always)]
fn shift_by_constant(asm: &mut Assembler, op: AluOp, width: Width, dst: Host, amount: i32) {
    let group = match op {
        AluOp::Lsh => group::SHL,
        AluOp::Rsh => group::SHR,
        AluOp::Arsh
        | AluOp::Add
        | AluOp::Sub
        | AluOp::Mul
        | AluOp::Div
        | AluOp::Sdiv
        | AluOp::Or
        | AluOp::And
        | AluOp::Mod
        | AluOp::Smod
        | AluOp::Xor
        | AluOp::Mov => group::SAR,
    };
    // A shift by 0 still clears the high half: only its flags are left alone.
    encode::shift(asm, width, group, dst, amount as u8 & (width.bits() - 1));
}

#[inline(never)]
fn shift_bmi2(asm: &mut Assembler, op: AluOp, width: Width, dst: Host, amount: Host) {
    match (op, width) {
        (AluOp::Lsh, Width::W64) => x64!(asm; shlx Rq(dst), Rq(dst), Rq(amount)),
        (AluOp::Rsh, Width::W64) => x64!(asm; shrx Rq(dst), Rq(dst), Rq(amount)),
        (_, Width::W64) => x64!(asm; sarx Rq(dst), Rq(dst), Rq(amount)),
        (AluOp::Lsh, Width::W32) => x64!(asm; shlx Rd(dst), Rd(dst), Rd(amount)),
        (AluOp::Rsh, Width::W32) => x64!(asm; shrx Rd(dst), Rd(dst), Rd(amount)),
        (_, Width::W32) => x64!(asm; sarx Rd(dst), Rd(dst), Rd(amount)),
    }
}

/// Without BMI2 the amount must be in `cl`.
#[inline(never)]
fn shift(asm: &mut Assembler, op: AluOp, width: Width, dst: Host, amount: Host) {
    match (dst, amount) {
        (RCX, _) => {
            x64!(asm; mov r11, rcx);
            if amount != RCX {
                x64!(asm; mov rcx, Rq(amount));
            }
            shift_by_cl(asm, op, width, SCRATCH);
            x64!(asm; mov rcx, r11);
        }
        (_, RCX) => shift_by_cl(asm, op, width, dst),
        (_, _) => {
            x64!(asm
                ; mov r11, rcx
                ; mov rcx, Rq(amount)
            );
            shift_by_cl(asm, op, width, dst);
            x64!(asm; mov rcx, r11);
        }
    }
}

fn shift_by_cl(asm: &mut Assembler, op: AluOp, width: Width, dst: Host) {
    match (op, width) {
        (AluOp::Lsh, Width::W64) => x64!(asm; shl Rq(dst), cl),
        (AluOp::Rsh, Width::W64) => x64!(asm; shr Rq(dst), cl),
        (_, Width::W64) => x64!(asm; sar Rq(dst), cl),
        (AluOp::Lsh, Width::W32) => x64!(asm; shl Rd(dst), cl),
        (AluOp::Rsh, Width::W32) => x64!(asm; shr Rd(dst), cl),
        (_, Width::W32) => x64!(asm; sar Rd(dst), cl),
    }
}

/// Division and modulo, by zero and MIN / -1 as RFC 9669 section 4.1 has them, where the machine would fault.
#[inline(never)]
fn divide(asm: &mut Assembler, planted: Planted, quotient: bool, signed: bool, width: Width, dst: Host, src: Operand) {
    match src {
        Operand::Imm(0) => divide_by_zero(asm, planted, quotient, width, dst),
        Operand::Imm(-1) if signed => divide_by_minus_one(asm, planted, quotient, width, dst),
        Operand::Imm(imm) => {
            load_imm(asm, SCRATCH, imm.into());
            divide_by_r11(asm, planted, quotient, signed, width, dst);
        }
        Operand::Reg(src) => {
            encode::mov(asm, width, SCRATCH, host(src));
            let mut nothing = None;
            if width == Width::W32 && planted.is(Fault::Divisor32Tested64) {
                // By 0 all the same, but without what that is to give.
                encode::two(asm, Width::W64, opcode::TEST, host(src), host(src));
                let high = asm.jump_forward(Some(Cc::Equal));
                encode::two(asm, Width::W64, opcode::TEST, SCRATCH, SCRATCH);
                nothing = Some(asm.jump_forward(Some(Cc::Equal)));
                asm.aim_here(high);
            }
            encode::two(asm, Width::W64, opcode::TEST, SCRATCH, SCRATCH);
            let by_zero = asm.jump_forward(Some(Cc::Equal));
            let by_minus_one = signed.then(|| {
                encode::immediate(asm, width, group::CMP, SCRATCH, -1);
                let by_other = asm.jump_forward(Some(Cc::NotEqual));
                divide_by_minus_one(asm, planted, quotient, width, dst);
                let done = asm.jump_forward(None);
                asm.aim_here(by_other);
                done
            });
            divide_by_r11(asm, planted, quotient, signed, width, dst);
            let done = asm.jump_forward(None);
            asm.aim_here(by_zero);
            divide_by_zero(asm, planted, quotient, width, dst);
            for done in [Some(done), by_minus_one, nothing].into_iter().flatten() {
                asm.aim_here(done);
            }
        }
    }
}

fn divide_by_zero(asm: &mut Assembler, planted: Planted, quotient: bool, width: Width, dst: Host) {
    match (quotient, width) {
        (true, _) if planted.is(Fault::DivByZeroKeeps) => {}
        (true, _) => x64!(asm; xor Rd(dst), Rd(dst)),
        (false, _) if planted.is(Fault::ModByZeroClears) => x64!(asm; xor Rd(dst), Rd(dst)),
        (false, Width::W32) if planted.is(Fault::Mod32ByZeroCutsNothing) => {}
        (false, Width::W32) => x64!(asm; mov Rd(dst), Rd(dst)),
        (false, Width::W64) => {}
    }
}

fn divide_by_minus_one(asm: &mut Assembler, planted: Planted, quotient: bool, width: Width, dst: Host) {
    if quotient {
        encode::neg(asm, width, dst);
    } else {
        x64!(asm; xor Rd(dst), Rd(dst));
    }
    if quotient && planted.is(Fault::MinByMinusOneClears) {
        let negated = asm.jump_forward(Some(Cc::NoOverflow));
        x64!(asm; xor Rd(dst), Rd(dst));
        asm.aim_here(negated);
    }
}

/// Divides by `r11`, which no guest register is, through `rax` and `rdx`, which two are.
fn divide_by_r11(asm: &mut Assembler, planted: Planted, quotient: bool, signed: bool, width: Width, dst: Host) {
    if dst != RAX {
        x64!(asm; push rax);
    }
    if dst != RDX {
        x64!(asm; push rdx);
    }
    if dst != RAX {
        x64!(asm; mov rax, Rq(dst));
    }
    match (signed, width) {
        (false, Width::W64) => x64!(asm; xor edx, edx; div r11),
        (false, Width::W32) => x64!(asm; xor edx, edx; div r11d),
        (true, Width::W64) => x64!(asm; cqo; idiv r11),
        (true, Width::W32) => x64!(asm; cdq; idiv r11d),
    }
    // The 32-bit forms have cleared the high halves.
    if quotient {
        x64!(asm; mov r11, rax);
    } else {
        x64!(asm; mov r11, rdx);
    }
    if dst != RDX && planted.is(Fault::DivisionLosesR3) {
        x64!(asm; add rsp, BYTE 8);
    } else if dst != RDX {
        x64!(asm; pop rdx);
    }
    if dst != RAX {
        x64!(asm; pop rax);
    }
    x64!(asm; mov Rq(dst), r11);
}

pub(super) fn neg(asm: &mut Assembler, width: Width, dst: Reg) {
    encode::neg(asm, width, host(dst));
}

/// RFC 9669 section 4.1, `MOVSX`.
pub(super) fn movsx(asm: &mut Assembler, width: Width, from: Size, dst: Reg, src: Reg) {
    let (dst, src) = (host(dst), host(src));
    match (width, from) {
        (Width::W64, Size::B) => x64!(asm; movsx Rq(dst), Rb(src)),
        (Width::W64, Size::H) => x64!(asm; movsx Rq(dst), Rw(src)),
        (Width::W64, Size::W) => x64!(asm; movsxd Rq(dst), Rd(src)),
        (Width::W64, Size::DW) => x64!(asm; mov Rq(dst), Rq(src)),
        (Width::W32, Size::B) => x64!(asm; movsx Rd(dst), Rb(src)),
        (Width::W32, Size::H) => x64!(asm; movsx Rd(dst), Rw(src)),
        (Width::W32, Size::W | Size::DW) => x64!(asm; mov Rd(dst), Rd(src)),
    }
}

/// RFC 9669 section 4.2.
pub(super) fn byte_order(asm: &mut Assembler, order: ByteOrder, width: SwapWidth, dst: Reg) {
    let dst = host(dst);
    match (order, width) {
        (ByteOrder::Le, SwapWidth::B16) => x64!(asm; movzx Rd(dst), Rw(dst)),
        (ByteOrder::Le, SwapWidth::B32) => x64!(asm; mov Rd(dst), Rd(dst)),
        (ByteOrder::Le, SwapWidth::B64) => {}
        (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B16) => x64!(asm
            ; ror Rw(dst), BYTE 8
            ; movzx Rd(dst), Rw(dst)
        ),
        (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B32) => x64!(asm; bswap Rd(dst)),
        (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B64) => x64!(asm; bswap Rq(dst)),
    }
}
