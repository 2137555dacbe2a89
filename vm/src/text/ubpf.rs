//! One instruction as ubpf's assembler writes it: `ldxdw %r1, [%r1+104]`.
//!
//! The dialect of the public conformance suite; [`super::parse::parse_ubpf`] reads it. What that assembler has no
//! words for has some here, so that every instruction has a text of its own: `ld_pseudo`, `ldabsw`, `ldindw`,
//! `ldacqw`, `strelw`, `may_goto`, `addr_space_cast`.
//!
//! Immediates are bit patterns in hex; displacements and jump offsets are signed decimals. Mnemonics and suffixes
//! come from the rows of `isa.rs`. Knows nothing of labels.

use std::fmt;

use super::imm64_parts;
use crate::insn::{AtomicOp, Callee, Imm64, Insn, Operand, PacketOffset, Reg, Width};

/// The instruction's text, without a line end.
///
/// ```
/// use softbpf::asm::{Insn, R1, Size};
///
/// let insn = Insn::load(Size::W, R1, R1, 104);
/// assert_eq!(softbpf::text::ubpf::text(&insn).to_string(), "ldxw %r1, [%r1+104]");
/// ```
pub fn text(insn: &Insn) -> impl fmt::Display + use<> {
    Text(*insn)
}

/// Spelling of an atomic operation, and whether `fetch` stands before it.
pub(super) fn atomic_words(op: AtomicOp) -> (bool, &'static str) {
    match op {
        AtomicOp::Add => (false, "add"),
        AtomicOp::Or => (false, "or"),
        AtomicOp::And => (false, "and"),
        AtomicOp::Xor => (false, "xor"),
        AtomicOp::FetchAdd => (true, "add"),
        AtomicOp::FetchOr => (true, "or"),
        AtomicOp::FetchAnd => (true, "and"),
        AtomicOp::FetchXor => (true, "xor"),
        AtomicOp::Xchg => (false, "xchg"),
        AtomicOp::Cmpxchg => (false, "cmpxchg"),
    }
}

/// What stands behind the mnemonic of a 32-bit operation.
fn suffix(width: Width) -> &'static str {
    match width {
        Width::W32 => "32",
        Width::W64 => "",
    }
}

fn width_bits(width: Width) -> u32 {
    match width {
        Width::W32 => 32,
        Width::W64 => 64,
    }
}

/// `%r1`.
struct Percent(Reg);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// `%r1` or `0xffffffff`.
struct Source(Operand);

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operand::Reg(reg) => Percent(reg).fmt(f),
            Operand::Imm(imm) => write!(f, "{:#x}", imm as u32),
        }
    }
}

/// `[%r1]`, `[%r1+4]`, `[%r10-8]`.
struct Memory(Reg, i16);

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 => write!(f, "[%{}]", self.0),
            off => write!(f, "[%{}{off:+}]", self.0),
        }
    }
}

struct Text(Insn);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Insn::Alu { op, width, dst, src } => {
                write!(f, "{}{} {}, {}", op.mnemonic(), suffix(width), Percent(dst), Source(src))
            }
            Insn::Neg { width, dst } => write!(f, "neg{} {}", suffix(width), Percent(dst)),
            Insn::MovSx { width, from, dst, src } => {
                let (from, to) = (from.bytes() * 8, width_bits(width));
                write!(f, "movsx{from}{to} {}, {}", Percent(dst), Percent(src))
            }
            Insn::End { order, width, dst } => write!(f, "{}{} {}", order.spelling(), width.bits(), Percent(dst)),
            Insn::AddrSpaceCast { dst, src, dst_space, src_space } => {
                write!(f, "addr_space_cast {}, {}, {dst_space:#x}, {src_space:#x}", Percent(dst), Percent(src))
            }
            Insn::LoadImm64 { dst, value } => fmt_wide_load(f, dst, value),
            Insn::Load { size, signed, dst, base, off } => {
                let sign = if signed { "s" } else { "" };
                write!(f, "ldx{sign}{} {}, {}", size.suffix(), Percent(dst), Memory(base, off))
            }
            Insn::Store { size, base, off, src } => {
                let x = if matches!(src, Operand::Reg(_)) { "x" } else { "" };
                write!(f, "st{x}{} {}, {}", size.suffix(), Memory(base, off), Source(src))
            }
            Insn::Atomic { op, width, base, off, src } => {
                let (fetch, name) = atomic_words(op);
                let fetch = if fetch { "fetch " } else { "" };
                write!(f, "lock {fetch}{name}{} {}, {}", suffix(width), Memory(base, off), Percent(src))
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                write!(f, "ldacq{} {}, {}", size.suffix(), Percent(dst), Memory(base, off))
            }
            Insn::StoreRelease { size, base, off, src } => {
                write!(f, "strel{} {}, {}", size.suffix(), Memory(base, off), Percent(src))
            }
            Insn::LoadPacket { size, offset } => match offset {
                PacketOffset::Abs(imm) => write!(f, "ldabs{} {:#x}", size.suffix(), imm as u32),
                PacketOffset::Ind(reg, imm) => write!(f, "ldind{} {}, {:#x}", size.suffix(), Percent(reg), imm as u32),
            },
            Insn::Jump { off, long } => write!(f, "ja{} {off:+}", if long { "32" } else { "" }),
            Insn::JumpIf { condition, width, dst, src, off } => {
                let name = condition.mnemonic();
                write!(f, "{name}{} {}, {}, {off:+}", suffix(width), Percent(dst), Source(src))
            }
            Insn::MayGoto { off } => write!(f, "may_goto {off:+}"),
            Insn::Call(callee) => fmt_call(f, callee),
            Insn::Exit => f.write_str("exit"),
        }
    }
}

fn fmt_wide_load(f: &mut fmt::Formatter<'_>, dst: Reg, value: Imm64) -> fmt::Result {
    if let Imm64::Value(value) = value {
        return write!(f, "lddw {}, {value:#x}", Percent(dst));
    }
    let (source, low, high) = imm64_parts(value);
    write!(f, "ld_pseudo {}, {source:#x}, {low:#x}, {high:#x}", Percent(dst))
}

fn fmt_call(f: &mut fmt::Formatter<'_>, callee: Callee) -> fmt::Result {
    match callee {
        Callee::Helper(number) => write!(f, "call {:#x}", number as u32),
        Callee::Local(off) => write!(f, "call local {off:+}"),
        Callee::Kfunc { btf_id, module: 0 } => write!(f, "call runtime {:#x}", btf_id as u32),
        Callee::Kfunc { btf_id, module } => write!(f, "call runtime {:#x}, {module}", btf_id as u32),
        Callee::Reg(reg) => write!(f, "call {}", Percent(reg)),
    }
}
