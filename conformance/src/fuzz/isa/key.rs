//! What a finding is about, so that each is reported once: the instructions that are left when all that can go is gone,
//! as rows of the instruction set, and what the subject does with them.

use std::collections::BTreeSet;
use std::fmt;

use softbpf::codec::Code;
use softbpf::insn::{AluOp, Callee, Imm64, Insn, Operand, Size, Width};

use crate::coverage::row_of;

/// How a subject is different.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It has another result, or leaves other things behind.
    OtherResult,
    /// It refuses what it must run to its end.
    Refused,
    /// It gives a result where it must refuse.
    NotRefused,
    /// It dies: by a signal, or, an engine here, by a panic.
    Crashed,
    /// It does not end in time.
    TimedOut,
}

impl Kind {
    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::OtherResult => "another result",
            Kind::Refused => "refused",
            Kind::NotRefused => "not refused",
            Kind::Crashed => "crash",
            Kind::TimedOut => "no end",
        }
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// Rows of the instruction set: as [`row_of`] gives them, but calls of helpers with the helper's number.
    Rows(BTreeSet<Insn>),
    /// Bytes that are no program.
    Encoding {
        /// What vectors call the reason.
        reason: String,
        /// The class of the opcode: its lowest three bits.
        class: u8,
    },
    /// The length of a program.
    Length,
}

/// What makes two findings the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What it is about.
    pub about: About,
    /// How the subject is different.
    pub kind: Kind,
}

/// Names of the classes of opcodes, RFC 9669 section 3.
const CLASSES: [&str; 8] = ["ld", "ldx", "st", "stx", "alu", "jmp", "jmp32", "alu64"];

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.about {
            About::Rows(rows) => {
                for (index, row) in rows.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { "; " }, row_name(row))?;
                }
            }
            About::Encoding { reason, class } => {
                write!(f, "{reason} ({})", CLASSES.get(usize::from(*class)).copied().unwrap_or("none"))?;
            }
            About::Length => f.write_str("the length of a program")?,
        }
        write!(f, ": {}", self.kind.name())
    }
}

/// A row in words: `w0 s/= w0` is LLVM's way, `sdiv32 reg` says the same of all registers.
pub fn row_name(row: &Insn) -> String {
    let bits = |width| match width {
        Width::W32 => "32",
        Width::W64 => "64",
    };
    let source = |src| match src {
        Operand::Reg(_) => "reg",
        Operand::Imm(_) => "imm",
    };
    match *row {
        Insn::Alu { op, width, src, .. } => format!("{}{} {}", op.mnemonic(), bits(width), source(src)),
        Insn::Neg { width, .. } => format!("neg{}", bits(width)),
        Insn::MovSx { width, from, .. } => format!("movsx{} from {}", bits(width), 8 * from.bytes()),
        Insn::End { order, width, .. } => format!("{}{}", order.spelling(), width.bits()),
        Insn::AddrSpaceCast { .. } => "addr_space_cast".to_owned(),
        Insn::LoadImm64 { value: Imm64::Value(_), .. } => "lddw".to_owned(),
        Insn::LoadImm64 { .. } => format!("lddw {row}"),
        Insn::Load { size, signed, .. } => format!("ldx{}{}", if signed { "s" } else { "" }, size.suffix()),
        Insn::Store { size, src: Operand::Reg(_), .. } => format!("stx{}", size.suffix()),
        Insn::Store { size, src: Operand::Imm(_), .. } => format!("st{}", size.suffix()),
        Insn::Atomic { op, width, .. } => format!("atomic{} {}", bits(width), op.symbol()),
        Insn::LoadAcquire { size, .. } => format!("load_acquire {}", size.suffix()),
        Insn::StoreRelease { size, .. } => format!("store_release {}", size.suffix()),
        Insn::LoadPacket { size, .. } => format!("packet load {}", size.suffix()),
        Insn::Jump { long: false, .. } => "goto".to_owned(),
        Insn::Jump { long: true, .. } => "gotol".to_owned(),
        Insn::JumpIf { condition, width, src, .. } => {
            format!("{}{} {}", condition.mnemonic(), bits(width), source(src))
        }
        Insn::MayGoto { .. } => "may_goto".to_owned(),
        Insn::Call(Callee::Helper(number)) => format!("call of helper {number}"),
        Insn::Call(Callee::Local(_)) => "local call".to_owned(),
        Insn::Call(Callee::Kfunc { .. }) => "call of a kernel function".to_owned(),
        Insn::Call(Callee::Reg(_)) => "callx".to_owned(),
        Insn::Exit => "exit".to_owned(),
    }
}

/// How likely a row is what a minimised program is about, and not what sets it up or shows its result.
pub(super) fn weight(row: &Insn) -> u8 {
    match *row {
        Insn::Exit | Insn::LoadImm64 { value: Imm64::Value(_), .. } => 0,
        Insn::Alu { op: AluOp::Mov, width: Width::W64, .. } => 1,
        Insn::Store { size: Size::DW, .. } | Insn::Load { size: Size::DW, .. } | Insn::Jump { long: false, .. } => 2,
        Insn::Store { .. } => 3,
        Insn::Load { signed: false, .. } => 4,
        Insn::Alu { op, .. } => match op {
            AluOp::Add | AluOp::Sub | AluOp::Or | AluOp::And | AluOp::Xor | AluOp::Lsh | AluOp::Rsh | AluOp::Mov => 5,
            AluOp::Mul | AluOp::Div | AluOp::Mod | AluOp::Sdiv | AluOp::Smod | AluOp::Arsh => 6,
        },
        Insn::Neg { .. } | Insn::MovSx { .. } | Insn::End { .. } | Insn::Load { signed: true, .. } => 7,
        Insn::JumpIf { .. } | Insn::Jump { long: true, .. } => 8,
        Insn::LoadImm64 { .. } | Insn::Call(_) => 9,
        Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::LoadPacket { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::MayGoto { .. } => 10,
    }
}

/// The row that an instruction belongs to, where every helper is one of its own: a fault of one says nothing of others.
pub(super) fn row_with_helper(insn: Insn) -> Insn {
    if matches!(insn, Insn::Call(Callee::Helper(_))) { insn } else { row_of(insn) }
}

/// What minimised programs are about: the rows that are least likely there for another reason.
pub(super) fn about<'c>(programs: impl IntoIterator<Item = &'c Code>) -> About {
    let rows: BTreeSet<Insn> =
        programs.into_iter().flat_map(|code| code.insns().iter().map(|&insn| row_with_helper(insn))).collect();
    let heaviest = rows.iter().map(weight).max().unwrap_or(0);
    About::Rows(rows.into_iter().filter(|row| weight(row) == heaviest).collect())
}

/// The row to do without, so that the finding is not found again.
pub(super) fn culprit(about: &About) -> Option<Insn> {
    match about {
        About::Rows(rows) => rows.iter().copied().max_by_key(weight),
        About::Encoding { .. } | About::Length => None,
    }
}
