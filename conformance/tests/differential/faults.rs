//! Faults that implementations of eBPF have had, to be planted in the model: a comparison that does not find them is
//! worth nothing.

use softbpf::insn::{AluOp, AtomicOp, ByteOrder, Condition, Insn, Operand, Reg, Size, SwapWidth, Width};
use softbpf_conformance::model::{Executed, Model, Setup};

/// Something done wrong.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    /// Done to the model after each instruction.
    pub(crate) after: fn(&mut Model<'_>, &Executed),
    /// Done before the start.
    pub(crate) setup: fn(&mut Setup),
}

pub(crate) const fn fault(name: &'static str, after: fn(&mut Model<'_>, &Executed)) -> Fault {
    Fault { name, after, setup: |_| () }
}

/// A fault in what an arithmetic instruction computes: a wrong result, where it would be wrong.
fn alu(model: &mut Model<'_>, done: &Executed, wrong: impl Fn(AluOp, Width, u64, u64) -> Option<u64>) {
    if let Insn::Alu { op, width, dst, src } = done.insn
        && let Some(wrong) = wrong(op, width, done.before[index(dst)], operand(src, &done.before))
    {
        model.registers[index(dst)] = wrong;
    }
}

pub(crate) fn index(reg: Reg) -> usize {
    reg.number().into()
}

pub(crate) fn operand(operand: Operand, registers: &[u64; 11]) -> u64 {
    match operand {
        Operand::Reg(reg) => registers[index(reg)],
        Operand::Imm(imm) => imm as u64,
    }
}

pub(crate) fn address(base: Reg, off: i16, registers: &[u64; 11]) -> u64 {
    registers[index(base)].wrapping_add(off as u64)
}

/// Writes memory that the instruction has just written: it may be.
pub(crate) fn overwrite(model: &mut Model<'_>, addr: u64, size: u32, value: u64) {
    let _ = model.memory.store(addr, size, value);
}

const HIGH: u64 = 0xffff_ffff_0000_0000;
const LOW: u64 = 0xffff_ffff;

pub(crate) const FAULTS: &[Fault] = &[
    fault("32-bit arithmetic keeps the upper half", |model, done| {
        if let Insn::Alu { width: Width::W32, dst, .. } = done.insn {
            model.registers[index(dst)] |= done.before[index(dst)] & HIGH;
        }
    }),
    fault("64-bit shift by a register uses the 32-bit mask", |model, done| {
        alu(model, done, |op, width, dst, src| (op == AluOp::Lsh && width == Width::W64).then(|| dst << (src & 31)));
    }),
    fault("32-bit shift by a register uses the 64-bit mask", |model, done| {
        alu(model, done, |op, width, dst, src| {
            (op == AluOp::Rsh && width == Width::W32).then(|| (dst & LOW) >> (src & 63))
        });
    }),
    fault("arsh32 shifts zeros in", |model, done| {
        alu(model, done, |op, width, dst, src| {
            (op == AluOp::Arsh && width == Width::W32).then(|| (dst & LOW) >> (src & 31))
        });
    }),
    fault("signed division is unsigned", |model, done| {
        alu(model, done, |op, width, dst, src| {
            (op == AluOp::Sdiv && width == Width::W64).then(|| dst.checked_div(src).unwrap_or(0))
        });
    }),
    fault("signed division of MIN by -1 is 0", |model, done| {
        alu(model, done, |op, width, dst, src| {
            (op == AluOp::Sdiv && width == Width::W64 && dst == 1 << 63 && src == u64::MAX).then_some(0)
        });
    }),
    fault("signed modulo has the divisor's sign", |model, done| {
        alu(model, done, |op, width, dst, src| {
            (op == AluOp::Smod && width == Width::W64 && src != 0)
                .then(|| (dst as i64).wrapping_rem_euclid(src as i64) as u64)
        });
    }),
    fault("division by zero leaves dst", |model, done| {
        alu(model, done, |op, width, dst, src| (op == AluOp::Div && width == Width::W64 && src == 0).then_some(dst));
    }),
    fault("modulo by zero is 0", |model, done| {
        alu(model, done, |op, width, _, src| (op == AluOp::Mod && width == Width::W64 && src == 0).then_some(0));
    }),
    fault("mod32 by zero keeps the upper half", |model, done| {
        alu(model, done, |op, width, dst, src| {
            (op == AluOp::Mod && width == Width::W32 && src & LOW == 0).then_some(dst)
        });
    }),
    fault("div32 looks at the whole divisor", |model, done| {
        alu(model, done, |op, width, dst, src| {
            (op == AluOp::Div && width == Width::W32).then(|| (dst & LOW).checked_div(src).unwrap_or(0))
        });
    }),
    fault("immediates of 64-bit arithmetic are zero-extended", |model, done| {
        if let Insn::Alu { op: AluOp::Or, width: Width::W64, dst, src: Operand::Imm(imm) } = done.insn {
            model.registers[index(dst)] = done.before[index(dst)] | u64::from(imm as u32);
        }
    }),
    fault("movsx is mov", |model, done| {
        if let Insn::MovSx { width: Width::W64, from: Size::W, dst, src } = done.insn {
            model.registers[index(dst)] = done.before[index(src)];
        }
    }),
    fault("movsx to 32 bits extends to 64", |model, done| {
        if let Insn::MovSx { width: Width::W32, from: Size::B, dst, src } = done.insn {
            model.registers[index(dst)] = done.before[index(src)] as i8 as u64;
        }
    }),
    fault("neg32 extends its sign", |model, done| {
        if let Insn::Neg { width: Width::W32, dst } = done.insn {
            let value = &mut model.registers[index(dst)];
            *value = *value as i32 as u64;
        }
    }),
    fault("le32 does nothing", |model, done| {
        if let Insn::End { order: ByteOrder::Le, width: SwapWidth::B32, dst } = done.insn {
            model.registers[index(dst)] = done.before[index(dst)];
        }
    }),
    fault("bswap16 keeps what is above", |model, done| {
        if let Insn::End { order: ByteOrder::Bswap, width: SwapWidth::B16, dst } = done.insn {
            model.registers[index(dst)] |= done.before[index(dst)] & !0xffff;
        }
    }),
    fault("sign-extending loads zero-extend", |model, done| {
        if let Insn::Load { size: size @ Size::H, signed: true, dst, base, off } = done.insn
            && let Ok(value) = model.memory.load(address(base, off, &done.before), size.bytes())
        {
            model.registers[index(dst)] = value;
        }
    }),
    fault("immediates of 64-bit stores are zero-extended", |model, done| {
        if let Insn::Store { size: Size::DW, base, off, src: Operand::Imm(imm) } = done.insn {
            overwrite(model, address(base, off, &done.before), 8, u64::from(imm as u32));
        }
    }),
    fault("16-bit stores write 32 bits", |model, done| {
        if let Insn::Store { size: Size::H, base, off, src } = done.insn {
            overwrite(model, address(base, off, &done.before), 4, operand(src, &done.before));
        }
    }),
    fault("fetch_add32 extends the old value's sign", |model, done| {
        if let Insn::Atomic { op: AtomicOp::FetchAdd, width: Width::W32, src, .. } = done.insn {
            let value = &mut model.registers[index(src)];
            *value = *value as i32 as u64;
        }
    }),
    fault("cmpxchg32 leaves the upper half of r0 when it succeeds", |model, done| {
        if let Insn::Atomic { op: AtomicOp::Cmpxchg, width: Width::W32, .. } = done.insn
            && model.registers[0] == done.before[0] & LOW
        {
            model.registers[0] = done.before[0];
        }
    }),
    fault("cmpxchg stores without looking", |model, done| {
        if let Insn::Atomic { op: AtomicOp::Cmpxchg, width: Width::W64, base, off, src } = done.insn {
            overwrite(model, address(base, off, &done.before), 8, done.before[index(src)]);
        }
    }),
    fault("atomic_and fetches", |model, done| {
        if let Insn::Atomic { op: AtomicOp::And, src, .. } = done.insn {
            model.registers[index(src)] = done.before[index(src)] ^ 1;
        }
    }),
    fault("store-release stores nothing but the low byte", |model, done| {
        if let Insn::StoreRelease { size: Size::W, base, off, src } = done.insn {
            overwrite(model, address(base, off, &done.before), 4, done.before[index(src)] & 0xff);
        }
    }),
    fault("32-bit jumps compare 64 bits", |model, done| {
        jump(model, done, |condition, width, dst, src| {
            (condition == Condition::Ne && width == Width::W32).then_some(dst != src)
        });
    }),
    fault("unsigned jumps zero-extend their immediate", |model, done| {
        let Insn::JumpIf { src: Operand::Imm(imm), .. } = done.insn else { return };
        jump(model, done, |condition, width, dst, _| {
            (condition == Condition::Gt && width == Width::W64).then_some(dst > u64::from(imm as u32))
        });
    }),
    fault("a signed jump is unsigned", |model, done| {
        jump(model, done, |condition, width, dst, src| {
            (condition == Condition::Slt && width == Width::W64).then_some(dst < src)
        });
    }),
    Fault {
        name: "the input has a byte more",
        after: |_, _| (),
        setup: |setup| {
            if let Some(context) = &mut setup.context {
                context.bytes.push(0);
                context.writable.push(true);
            }
        },
    },
    Fault { name: "the stack starts eight bytes lower", after: |_, _| (), setup: |setup| setup.frame_size += 8 },
];

/// A fault in whether a jump is taken: what it would do instead, where it is wrong.
fn jump(model: &mut Model<'_>, done: &Executed, taken: impl Fn(Condition, Width, u64, u64) -> Option<bool>) {
    let Insn::JumpIf { condition, width, dst, src, off } = done.insn else { return };
    let (dst, src) = (done.before[index(dst)], operand(src, &done.before));
    if let Some(taken) = taken(condition, width, dst, src) {
        let next = done.slot + 1;
        model.go_to(if taken { next.wrapping_add_signed(off.into()) } else { next });
    }
}
