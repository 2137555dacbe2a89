//! What a plugin knows: a tiny program for each row of the instruction set. A feature none of whose rows it runs is one
//! that it lacks, and programs do without; one that it knows in part is a finding.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use softbpf::asm::{R0, R1, R10};
use softbpf::codec::Code;
use softbpf::insn::{AluOp, AtomicOp, ByteOrder, Callee, Imm64, Insn, Operand, Size, Width};

use super::avoid::Rows;
use crate::coverage::every_row;

/// Instructions that implementations have together or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// 32-bit arithmetic without division.
    Alu32,
    /// 64-bit arithmetic without division.
    Alu64,
    /// Unsigned division and modulo, and multiplication, 32 bits.
    DivMul32,
    /// The same, 64 bits.
    DivMul64,
    /// Signed division and modulo.
    SignedDivision,
    /// Moves that sign-extend.
    SignExtendingMoves,
    /// Loads that sign-extend.
    SignExtendingLoads,
    /// Conversions to little and big endian.
    ByteOrder,
    /// Unconditional byte swaps.
    ByteSwaps,
    /// Loads, stores, 64-bit immediates, jumps of 64 bits, `exit`.
    Base,
    /// Comparisons of 32 bits.
    Jumps32,
    /// Jumps of 32-bit distance.
    LongJumps,
    /// Functions.
    LocalCalls,
    /// Atomic addition.
    AtomicAdd,
    /// All other atomic operations.
    Atomics,
    /// Load-acquire and store-release.
    Ordered,
    /// Stack frames of 512 bytes in functions. RFC 9669 does not say how large they are.
    WholeFrames,
    /// Shifts by immediates that are out of range are masked.
    MaskedShifts,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::Alu32 => "32-bit arithmetic",
            Feature::Alu64 => "64-bit arithmetic",
            Feature::DivMul32 => "32-bit multiplication and division",
            Feature::DivMul64 => "64-bit multiplication and division",
            Feature::SignedDivision => "signed division",
            Feature::SignExtendingMoves => "sign-extending moves",
            Feature::SignExtendingLoads => "sign-extending loads",
            Feature::ByteOrder => "byte order conversions",
            Feature::ByteSwaps => "byte swaps",
            Feature::Base => "loads, stores and jumps",
            Feature::Jumps32 => "32-bit comparisons",
            Feature::LongJumps => "gotol",
            Feature::LocalCalls => "local calls",
            Feature::AtomicAdd => "atomic addition",
            Feature::Atomics => "other atomic operations",
            Feature::Ordered => "load-acquire and store-release",
            Feature::WholeFrames => "more than 256 bytes of stack in functions",
            Feature::MaskedShifts => "immediate shifts out of range (it refuses them, as Linux does)",
        })
    }
}

/// What a plugin lacks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Lacks {
    /// Features.
    pub features: BTreeSet<Feature>,
    /// Their rows.
    pub(super) rows: Rows,
}

/// The feature that a row belongs to; `None` for what generated programs do not have.
fn feature(row: &Insn) -> Option<Feature> {
    let by_width = |width, narrow, wide| match width {
        Width::W32 => narrow,
        Width::W64 => wide,
    };
    Some(match *row {
        Insn::Alu { op, width, .. } => match op {
            AluOp::Sdiv | AluOp::Smod => Feature::SignedDivision,
            AluOp::Div | AluOp::Mod | AluOp::Mul => by_width(width, Feature::DivMul32, Feature::DivMul64),
            AluOp::Add
            | AluOp::Sub
            | AluOp::Or
            | AluOp::And
            | AluOp::Lsh
            | AluOp::Rsh
            | AluOp::Xor
            | AluOp::Mov
            | AluOp::Arsh => by_width(width, Feature::Alu32, Feature::Alu64),
        },
        Insn::Neg { width, .. } => by_width(width, Feature::Alu32, Feature::Alu64),
        Insn::MovSx { .. } => Feature::SignExtendingMoves,
        Insn::End { order: ByteOrder::Bswap, .. } => Feature::ByteSwaps,
        Insn::End { order: ByteOrder::Le | ByteOrder::Be, .. } => Feature::ByteOrder,
        Insn::Load { signed: true, .. } => Feature::SignExtendingLoads,
        Insn::LoadImm64 { value: Imm64::Value(_), .. }
        | Insn::Load { signed: false, .. }
        | Insn::Store { .. }
        | Insn::Jump { long: false, .. }
        | Insn::JumpIf { width: Width::W64, .. }
        | Insn::Exit => Feature::Base,
        Insn::JumpIf { width: Width::W32, .. } => Feature::Jumps32,
        Insn::Jump { long: true, .. } => Feature::LongJumps,
        Insn::Call(Callee::Local(_)) => Feature::LocalCalls,
        Insn::Atomic { op: AtomicOp::Add, .. } => Feature::AtomicAdd,
        Insn::Atomic { .. } => Feature::Atomics,
        Insn::LoadAcquire { .. } | Insn::StoreRelease { .. } => Feature::Ordered,
        Insn::AddrSpaceCast { .. }
        | Insn::LoadImm64 { .. }
        | Insn::LoadPacket { .. }
        | Insn::MayGoto { .. }
        | Insn::Call(Callee::Helper(_) | Callee::Kfunc { .. } | Callee::Reg(_)) => return None,
    })
}

/// A program with an instruction of this row.
fn program(row: Insn) -> Code {
    const AT: i16 = -8;
    let middle = match row {
        Insn::Alu { op, width, src, .. } => {
            let src = match src {
                Operand::Reg(_) => Operand::Reg(R1),
                Operand::Imm(_) => Operand::Imm(3),
            };
            Insn::Alu { op, width, dst: R0, src }
        }
        Insn::MovSx { width, from, .. } => Insn::MovSx { width, from, dst: R0, src: R1 },
        Insn::Load { size, signed, .. } => Insn::Load { size, signed, dst: R0, base: R10, off: AT },
        Insn::Store { size, src, .. } => Insn::Store { size, base: R10, off: AT, src },
        Insn::Atomic { op, width, .. } => Insn::Atomic { op, width, base: R10, off: AT, src: R1 },
        Insn::LoadAcquire { size, .. } => Insn::LoadAcquire { size, dst: R0, base: R10, off: AT },
        Insn::StoreRelease { size, .. } => Insn::StoreRelease { size, base: R10, off: AT, src: R1 },
        Insn::JumpIf { condition, width, src, .. } => Insn::JumpIf { condition, width, dst: R0, src, off: 1 },
        Insn::Jump { long, .. } => Insn::Jump { off: 1, long },
        Insn::Call(_) => {
            let function = vec![Insn::call_local(1), Insn::exit(), Insn::mov(R0, 1), Insn::exit()];
            return Code::from(function);
        }
        Insn::Neg { .. }
        | Insn::End { .. }
        | Insn::LoadImm64 { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::LoadPacket { .. }
        | Insn::MayGoto { .. }
        | Insn::Exit => row,
    };
    let before = [Insn::mov(R0, 7), Insn::mov(R1, 3), Insn::store(Size::DW, R10, AT, R1)];
    let memory = matches!(
        row,
        Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. }
    );
    let before = &before[..if memory { 3 } else { 2 }];
    [before, &[middle, Insn::mov(R0, 1), Insn::exit()]].concat().into()
}

/// What the plugin lacks, by what it says to tiny programs: whether each is `run`, to whatever end.
pub(super) fn lacks<E>(mut run: impl FnMut(&Code) -> Result<bool, E>) -> Result<Lacks, E> {
    let mut rows: BTreeMap<Feature, Vec<(Insn, bool)>> = BTreeMap::new();
    for row in every_row() {
        if let Some(feature) = feature(&row) {
            let runs = run(&program(row))?;
            rows.entry(feature).or_default().push((row, runs));
        }
    }
    rows.retain(|&feature, rows| feature != Feature::Base && rows.iter().all(|&(_, runs)| !runs));
    let mut lacks = Lacks {
        features: rows.keys().copied().collect(),
        rows: rows.into_values().flatten().map(|(row, _)| row).collect(),
    };
    let far = [Insn::call_local(1), Insn::exit(), Insn::store(Size::DW, R10, -512, 0), Insn::mov(R0, 0), Insn::exit()];
    if !lacks.features.contains(&Feature::LocalCalls) && !run(&Code::from(far.to_vec()))? {
        lacks.features.insert(Feature::WholeFrames);
    }
    if !run(&Code::from(vec![Insn::mov(R0, 1), Insn::lsh(R0, 65), Insn::exit()]))? {
        lacks.features.insert(Feature::MaskedShifts);
    }
    Ok(lacks)
}

/// Slots of the longest program that plugins are tried with.
pub const LONGEST: usize = 8192;

/// Slots that programs are tried with.
const LENGTHS: [usize; 6] = [LONGEST, 4096, 2048, 1024, 512, 256];

/// About how long programs may be for the plugin.
pub(super) fn longest<E>(mut run: impl FnMut(&Code) -> Result<bool, E>) -> Result<usize, E> {
    for slots in LENGTHS {
        let middle = std::iter::repeat_n([Insn::store(Size::DW, R10, -8, R0), Insn::add(R0, 0x1234_5678)], slots / 2);
        let code = std::iter::once(Insn::mov(R0, 0)).chain(middle.flatten()).chain([Insn::exit()]).collect();
        if run(&code)? {
            return Ok(slots);
        }
    }
    Ok(LENGTHS[LENGTHS.len() - 1] / 2)
}
