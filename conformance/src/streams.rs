//! Random instruction streams: hostile, not sensible.
//!
//! Four kinds by seed: instructions of every shape with random operands, the same with bits flipped, programs that
//! compilers made, damaged, and raw bytes. They are for finding panics, hangs and disagreements, so nothing here tries to
//! make them run long or end.

use std::sync::LazyLock;

use softbpf::Object;
use softbpf::codec::{Code, SLOT_BYTES};
use softbpf::insn::{
    AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width,
};

use crate::rng::Rng;

/// Immediates and offsets where implementations go wrong.
const EDGES: [i32; 16] =
    [0, 1, -1, 2, 7, 8, 31, 32, 63, 64, 127, -128, i16::MAX as i32, i16::MIN as i32, i32::MAX, i32::MIN];

/// Objects whose programs are damaged.
const OBJECTS: [&[u8]; 5] = [
    include_bytes!("../objects/callbacks.bpf.o"),
    include_bytes!("../objects/readlinkat.bpf.o"),
    include_bytes!("../objects/tailcall.bpf.o"),
    include_bytes!("../objects/tracex4_kern.o"),
    include_bytes!("../objects/xdp_count.bpf.o"),
];

/// Their programs, as bytes.
static REAL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let programs = |bytes: &&[u8]| {
        let Ok(object) = Object::parse(bytes) else { return Vec::new() };
        let names: Vec<_> = object.programs().map(|info| info.name.clone()).collect();
        names.iter().filter_map(|name| object.program(name).ok()?.code().encode().ok()).collect()
    };
    OBJECTS.iter().flat_map(programs).collect()
});

/// The bytes of stream number `seed`, at most `max_slots` instructions.
pub fn stream(seed: u64, max_slots: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let len = 1 + rng.below(max_slots);
    if rng.one_in(16) {
        return (0..len * SLOT_BYTES).map(|_| rng.next_u64() as u8).collect();
    }
    if rng.one_in(8)
        && let Some(bytes) = REAL.get(rng.below(REAL.len()))
        && bytes.len() <= max_slots * SLOT_BYTES
    {
        let mut bytes = bytes.clone();
        damage(&mut rng, &mut bytes);
        return bytes;
    }
    let mut insns: Vec<Insn> = (0..len).map(|_| insn(&mut rng, len)).collect();
    insns.push(Insn::Exit);
    let mut bytes = Code::from(insns).encode().unwrap_or_default();
    if rng.one_in(4) {
        flip(&mut rng, &mut bytes);
    }
    bytes
}

/// Flips some bits.
fn flip(rng: &mut Rng, bytes: &mut [u8]) {
    for _ in 0..=rng.below(3) {
        let (at, bit) = (rng.below(bytes.len()), rng.below(8));
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }
}

/// Flips bits, or moves, doubles or replaces whole slots.
fn damage(rng: &mut Rng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        let slots = bytes.len() / SLOT_BYTES;
        let slot = |rng: &mut Rng| SLOT_BYTES * rng.below(slots);
        let (from, to) = (slot(rng), slot(rng));
        let moved: Vec<u8> = bytes[from..from + SLOT_BYTES].to_vec();
        match rng.below(5) {
            0 => flip(rng, bytes),
            1 => bytes[to..to + SLOT_BYTES].copy_from_slice(&moved),
            2 => drop(bytes.splice(to..to, moved)),
            3 if slots > 1 => drop(bytes.drain(from..from + SLOT_BYTES)),
            _ => {
                let insn = Code::from(vec![insn(rng, slots)]).encode().unwrap_or_default();
                drop(bytes.splice(to..to + SLOT_BYTES, insn));
            }
        }
    }
}

/// One encodable instruction of a program of about `len`.
pub fn insn(rng: &mut Rng, len: usize) -> Insn {
    let width = rng.pick(&[Width::W32, Width::W64]);
    // r10 as a destination makes the whole program invalid: rarely.
    let dst = if rng.one_in(400) { Reg::R10 } else { Reg::ALL[rng.below(10)] };
    let src = rng.pick(&Reg::ALL);
    let size = rng.pick(Size::ALL);
    let (base, off) = address(rng);
    match rng.below(20) {
        0..=5 => alu(rng, width, dst),
        6 => Insn::Neg { width, dst },
        7 => Insn::MovSx { width, from: rng.pick(&[Size::B, Size::H]), dst, src },
        8 => Insn::End { order: rng.pick(ByteOrder::ALL), width: rng.pick(&SwapWidth::ALL), dst },
        9 => Insn::LoadImm64 { dst, value: imm64(rng) },
        10 => Insn::Load { size, signed: size != Size::DW && rng.one_in(3), dst, base, off },
        11 | 12 => Insn::Store { size, base, off, src: operand(rng) },
        13 => Insn::Atomic { op: rng.pick(AtomicOp::ALL), width, base, off, src: Reg::ALL[rng.below(10)] },
        14 => Insn::JumpIf {
            condition: rng.pick(Condition::ALL),
            width,
            dst,
            src: operand(rng),
            off: jump(rng, len) as i16,
        },
        15 => Insn::Jump { off: jump(rng, len), long: rng.one_in(2) },
        16 => Insn::Call(callee(rng, len)),
        17 => Insn::MayGoto { off: jump(rng, len) as i16 },
        18 => rng.pick(&[
            Insn::LoadPacket { size: Size::H, offset: PacketOffset::Abs(12) },
            Insn::LoadPacket { size: Size::W, offset: PacketOffset::Ind(src, -4) },
            Insn::LoadAcquire { size, dst, base, off },
            Insn::StoreRelease { size, base, off, src },
            Insn::AddrSpaceCast { dst, src, dst_space: 0, src_space: 1 },
        ]),
        _ => Insn::Exit,
    }
}

fn alu(rng: &mut Rng, width: Width, dst: Reg) -> Insn {
    let op = rng.pick(AluOp::ALL);
    let src = operand(rng);
    let src = match (op, src) {
        (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(imm)) => Operand::Imm(imm & 31),
        _ => src,
    };
    Insn::Alu { op, width, dst, src }
}

fn operand(rng: &mut Rng) -> Operand {
    if rng.one_in(2) { Operand::Reg(rng.pick(&Reg::ALL)) } else { Operand::Imm(rng.pick(&EDGES)) }
}

/// Mostly the stack or the context, at a displacement near their bounds.
fn address(rng: &mut Rng) -> (Reg, i16) {
    match rng.below(4) {
        0 | 1 => (Reg::R10, rng.pick(&[-8, -16, -24, -4, -1, -512, -513, -505, 0, 8])),
        2 => (Reg::R1, rng.pick(&[0, 1, 4, 56, 60, 63, 64, -1])),
        _ => (rng.pick(&Reg::ALL), rng.pick(&EDGES) as i16),
    }
}

fn imm64(rng: &mut Rng) -> Imm64 {
    match rng.below(6) {
        0 | 1 => Imm64::MapFd(rng.below(8) as i32),
        2 => Imm64::MapValue { fd: rng.below(8) as i32, offset: rng.pick(&EDGES) as u32 },
        3 => Imm64::Code(rng.below(4) as i32),
        _ => Imm64::Value(rng.next_u64()),
    }
}

fn jump(rng: &mut Rng, len: usize) -> i32 {
    if rng.one_in(50) { rng.pick(&EDGES) } else { rng.below(len) as i32 - (len / 3) as i32 }
}

fn callee(rng: &mut Rng, len: usize) -> Callee {
    match rng.below(8) {
        0 => Callee::Local(jump(rng, len)),
        1 => Callee::Reg(rng.pick(&Reg::ALL)),
        2 => Callee::Kfunc { btf_id: rng.pick(&EDGES), module: 0 },
        3 => Callee::Helper(rng.pick(&EDGES)),
        _ => Callee::Helper(1 + rng.below(211) as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_programs_are_damaged_and_often_still_programs() {
        let whole = |bytes: &&Vec<u8>| crate::hostile::object(bytes).is_some();
        assert_eq!(REAL.iter().filter(whole).count(), REAL.len());
        let damaged = |seed: &u64| {
            let mut rng = Rng::new(*seed);
            let mut bytes = REAL[rng.below(REAL.len())].clone();
            let before = bytes.clone();
            damage(&mut rng, &mut bytes);
            bytes != before && crate::hostile::object(&bytes).is_some()
        };
        assert!((0..1000).filter(damaged).count() > 200);
    }
}
