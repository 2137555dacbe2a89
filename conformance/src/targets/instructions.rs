//! Every operation of the instruction set once, as operation x width x source, with operands that do not matter.

use softbpf::insn::{
    AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width,
};

const WIDTHS: [Width; 2] = [Width::W32, Width::W64];
const SOURCES: [Operand; 2] = [Operand::Reg(Reg::R2), Operand::Imm(1)];
const DST: Reg = Reg::R1;
const SRC: Reg = Reg::R2;
const OFF: i16 = -8;

/// One instruction for each operation.
pub(super) fn every_operation() -> Vec<Insn> {
    [arithmetic(), memory(), control()].concat()
}

fn arithmetic() -> Vec<Insn> {
    let mut all = Vec::new();
    for width in WIDTHS {
        for &op in AluOp::ALL {
            all.extend(SOURCES.map(|src| Insn::Alu { op, width, dst: DST, src }));
        }
        all.push(Insn::Neg { width, dst: DST });
        let sizes = Size::ALL.iter().filter(|size| size.bytes() < if width == Width::W32 { 4 } else { 8 });
        all.extend(sizes.map(|&from| Insn::MovSx { width, from, dst: DST, src: SRC }));
    }
    for &order in ByteOrder::ALL {
        all.extend(SwapWidth::ALL.map(|width| Insn::End { order, width, dst: DST }));
    }
    all.push(Insn::AddrSpaceCast { dst: DST, src: SRC, dst_space: 0, src_space: 1 });
    all
}

fn memory() -> Vec<Insn> {
    let mut all = Vec::new();
    for &size in Size::ALL {
        all.push(Insn::Load { size, signed: false, dst: DST, base: SRC, off: OFF });
        if size != Size::DW {
            all.push(Insn::Load { size, signed: true, dst: DST, base: SRC, off: OFF });
            all.extend(
                [PacketOffset::Abs(1), PacketOffset::Ind(SRC, 1)].map(|offset| Insn::LoadPacket { size, offset }),
            );
        }
        all.extend(SOURCES.map(|src| Insn::Store { size, base: DST, off: OFF, src }));
        all.push(Insn::LoadAcquire { size, dst: DST, base: SRC, off: OFF });
        all.push(Insn::StoreRelease { size, base: DST, off: OFF, src: SRC });
    }
    for width in WIDTHS {
        all.extend(AtomicOp::ALL.iter().map(|&op| Insn::Atomic { op, width, base: DST, off: OFF, src: SRC }));
    }
    let values = [
        Imm64::Value(1),
        Imm64::MapFd(1),
        Imm64::MapValue { fd: 1, offset: 1 },
        Imm64::Code(1),
        Imm64::MapIndex(1),
        Imm64::MapIndexValue { index: 1, offset: 1 },
    ];
    all.extend(values.map(|value| Insn::LoadImm64 { dst: DST, value }));
    all
}

fn control() -> Vec<Insn> {
    let mut all = Vec::new();
    for width in WIDTHS {
        for &condition in Condition::ALL {
            all.extend(SOURCES.map(|src| Insn::JumpIf { condition, width, dst: DST, src, off: 1 }));
        }
    }
    let callees = [Callee::Helper(1), Callee::Local(1), Callee::Reg(SRC), Callee::Kfunc { btf_id: 1, module: 0 }];
    all.extend(callees.map(Insn::Call));
    all.extend([false, true].map(|long| Insn::Jump { off: 1, long }));
    all.extend([Insn::MayGoto { off: 1 }, Insn::Exit]);
    all
}
