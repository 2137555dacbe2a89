//! Every instruction there is, at the edges of its fields: what printers and parsers are tried with.

use softbpf::insn::{
    AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width,
};

const WIDTHS: [Width; 2] = [Width::W32, Width::W64];
const IMMEDIATES: [i32; 13] = [0, 1, -1, 9, 10, -10, 16, 127, -128, 255, 0x10000, i32::MAX, i32::MIN];
const OFFSETS: [i16; 9] = [0, 1, -1, 8, -8, 255, -256, i16::MAX, i16::MIN];
const WIDE: [u64; 9] = [0, 1, 9, u64::MAX, 0x7fff_ffff, 0x8000_0000, 1 << 32, i64::MAX as u64, 1 << 63];

fn operands() -> impl Iterator<Item = Operand> {
    Reg::ALL.into_iter().map(Operand::Reg).chain(IMMEDIATES.into_iter().map(Operand::Imm))
}

fn reg_pairs() -> impl Iterator<Item = (Reg, Reg)> {
    Reg::ALL.into_iter().flat_map(|dst| Reg::ALL.into_iter().map(move |src| (dst, src)))
}

/// All instructions that have an encoding, thinned to the edges of their numbers.
pub(crate) fn every_insn() -> Vec<Insn> {
    let mut all = Vec::new();
    arithmetic(&mut all);
    wide_loads(&mut all);
    memory(&mut all);
    atomics(&mut all);
    control(&mut all);
    all
}

fn arithmetic(all: &mut Vec<Insn>) {
    for width in WIDTHS {
        for &op in AluOp::ALL {
            for dst in Reg::ALL {
                all.extend(operands().map(|src| Insn::Alu { op, width, dst, src }));
            }
        }
        all.extend(Reg::ALL.map(|dst| Insn::Neg { width, dst }));
        for &from in Size::ALL {
            if from.bytes() < 4 || from == Size::W && width == Width::W64 {
                all.extend(reg_pairs().map(|(dst, src)| Insn::MovSx { width, from, dst, src }));
            }
        }
    }
    for &order in ByteOrder::ALL {
        for width in SwapWidth::ALL {
            all.extend(Reg::ALL.map(|dst| Insn::End { order, width, dst }));
        }
    }
    for spaces in [(0, 0), (0, 1), (1, 0), (u16::MAX, 1), (1, u16::MAX)] {
        let (dst_space, src_space) = spaces;
        all.extend(reg_pairs().map(|(dst, src)| Insn::AddrSpaceCast { dst, src, dst_space, src_space }));
    }
}

fn wide_loads(all: &mut Vec<Insn>) {
    let mut values: Vec<Imm64> = WIDE.map(Imm64::Value).into();
    for low in IMMEDIATES {
        values.extend([Imm64::MapFd(low), Imm64::Code(low), Imm64::MapIndex(low)]);
        for high in IMMEDIATES {
            values.extend([
                Imm64::MapValue { fd: low, offset: high as u32 },
                Imm64::Variable { btf_id: low, btf_fd: high },
                Imm64::MapIndexValue { index: low, offset: high as u32 },
            ]);
        }
    }
    for dst in Reg::ALL {
        all.extend(values.iter().map(|&value| Insn::LoadImm64 { dst, value }));
    }
}

fn memory(all: &mut Vec<Insn>) {
    for &size in Size::ALL {
        for off in OFFSETS {
            for (dst, base) in reg_pairs() {
                all.push(Insn::Load { size, signed: false, dst, base, off });
                if size != Size::DW {
                    all.push(Insn::Load { size, signed: true, dst, base, off });
                }
                all.push(Insn::LoadAcquire { size, dst, base, off });
                all.push(Insn::StoreRelease { size, base, off, src: dst });
            }
            for base in Reg::ALL {
                all.extend(operands().map(|src| Insn::Store { size, base, off, src }));
            }
        }
        if size != Size::DW {
            for imm in IMMEDIATES {
                all.push(Insn::LoadPacket { size, offset: PacketOffset::Abs(imm) });
                all.extend(Reg::ALL.map(|reg| Insn::LoadPacket { size, offset: PacketOffset::Ind(reg, imm) }));
            }
        }
    }
}

fn atomics(all: &mut Vec<Insn>) {
    for &op in AtomicOp::ALL {
        for width in WIDTHS {
            for off in OFFSETS {
                all.extend(reg_pairs().map(|(base, src)| Insn::Atomic { op, width, base, off, src }));
            }
        }
    }
}

fn control(all: &mut Vec<Insn>) {
    for off in OFFSETS {
        all.push(Insn::Jump { off: off.into(), long: false });
        all.push(Insn::MayGoto { off });
        for &condition in Condition::ALL {
            for width in WIDTHS {
                for dst in [Reg::R0, Reg::R1, Reg::R10] {
                    all.extend(operands().map(|src| Insn::JumpIf { condition, width, dst, src, off }));
                }
            }
        }
        for btf_id in IMMEDIATES {
            all.push(Insn::Call(Callee::Kfunc { btf_id, module: off }));
        }
    }
    for imm in IMMEDIATES {
        all.push(Insn::Jump { off: imm, long: true });
        all.push(Insn::Call(Callee::Helper(imm)));
        all.push(Insn::Call(Callee::Local(imm)));
    }
    all.extend(Reg::ALL.map(|reg| Insn::Call(Callee::Reg(reg))));
    all.push(Insn::Exit);
}
