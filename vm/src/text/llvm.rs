//! One instruction as LLVM writes it: `r1 = *(u64 *)(r1 + 0x68)`.
//!
//! Compared with llvm-objdump 19, form by form, in `tests/text_objdump.rs`. `load_acquire` and `store_release`,
//! which LLVM 19 does not know, are written as LLVM 21 does. Knows nothing of neighbours, addresses and
//! symbols: those are [`super::listing`]'s.
//!
//! llvm-objdump writes the same text for some different instructions. [`Spelling::Exact`] does not:
//!
//! | instruction | llvm-objdump | exact |
//! | --- | --- | --- |
//! | call of a local function | `call 0x5` | `call pc+0x5` |
//! | call of a kernel function | `call 0x5` | `call kfunc 0x5`, or `call kfunc 0x5, 0x1` with a module |
//! | map value and other pairs | `ld_pseudo r1, 0x2, 0x5` | `ld_pseudo r1, 0x2, 0x5, 0x8` |
//! | packet load by register and offset | `skb[r1]` | `skb[r1 + 0x8]` |
//! | 32-bit atomics, without `--mcpu` | `<unknown>` | `w3 = atomic_fetch_add(...)` |

use std::fmt;

use super::{Named, Source, imm64_parts};
use crate::insn::{AtomicOp, Callee, Imm64, Insn, Operand, PacketOffset, Reg, Size, Width};

/// What `llvm-objdump` writes for an instruction that it cannot decode.
pub const UNKNOWN: &str = "<unknown>";

/// Whose spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Spelling {
    /// Every instruction has a text of its own, which [`super::parse`] reads back. LLVM's wherever that is so.
    #[default]
    Exact,
    /// What `llvm-objdump -d` writes: 64-bit names in 32-bit loads and stores, and few 32-bit atomics.
    Objdump,
    /// What `llvm-objdump -d --mcpu=v3` (or `v4`) writes.
    ObjdumpAlu32,
}

impl Spelling {
    /// How this spelling names the register of a load or store of this size.
    fn memory_width(self, size: Size) -> Width {
        match (self, size) {
            (Spelling::Objdump, _) | (_, Size::DW) => Width::W64,
            (Spelling::Exact | Spelling::ObjdumpAlu32, Size::B | Size::H | Size::W) => Width::W32,
        }
    }
}

/// The instruction's text, without a line end.
///
/// ```
/// use softbpf::asm::{Insn, R1, Size};
/// use softbpf::text::llvm::{self, Spelling};
///
/// let insn = Insn::load(Size::W, R1, R1, 104);
/// assert_eq!(llvm::text(&insn, Spelling::Exact).to_string(), "w1 = *(u32 *)(r1 + 0x68)");
/// assert_eq!(llvm::text(&insn, Spelling::Objdump).to_string(), "r1 = *(u32 *)(r1 + 0x68)");
/// ```
pub fn text(insn: &Insn, spelling: Spelling) -> impl fmt::Display + use<> {
    Text { insn: *insn, spelling }
}

impl fmt::Display for Insn {
    /// As [`Spelling::Exact`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text { insn: *self, spelling: Spelling::Exact }.fmt(f)
    }
}

struct Text {
    insn: Insn,
    spelling: Spelling,
}

/// `0x1`, `-0x1`.
struct Hex(i64);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

/// ` + 0x1`, ` - 0x1`.
struct Displacement(i64);

impl fmt::Display for Displacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, " {sign} {:#x}", self.0.unsigned_abs())
    }
}

/// `+0x1`, `-0x1`.
struct Target(i32);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{:#x}", self.0.unsigned_abs())
    }
}

/// `(u32 *)(r1 + 0x4)`.
struct Memory(Size, Reg, i16);

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Memory(size, base, off) = *self;
        write!(f, "({} *)({base}{})", size.c_type(), Displacement(off.into()))
    }
}

fn source(operand: Operand, width: Width) -> impl fmt::Display {
    Source(operand, width, |imm| Hex(imm.into()).to_string())
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.insn {
            Insn::Alu { op, width, dst, src } => {
                write!(f, "{} {} {}", Named(dst, width), op.symbol(), source(src, width))
            }
            Insn::Neg { width, dst } => write!(f, "{0} = -{0}", Named(dst, width)),
            Insn::MovSx { width, from, dst, src } => {
                write!(f, "{} = (s{}){}", Named(dst, width), from.bytes() * 8, Named(src, width))
            }
            Insn::End { order, width, dst } => write!(f, "{dst} = {}{} {dst}", order.spelling(), width.bits()),
            Insn::AddrSpaceCast { dst, src, dst_space, src_space } => {
                write!(f, "{dst} = addr_space_cast({src}, {dst_space:#x}, {src_space:#x})")
            }
            Insn::LoadImm64 { dst, value } => self.fmt_wide_load(f, dst, value),
            Insn::Load { size, signed: false, dst, base, off } => {
                write!(f, "{} = *{}", Named(dst, self.spelling.memory_width(size)), Memory(size, base, off))
            }
            Insn::Load { size, signed: true, dst, base, off } => {
                write!(f, "{dst} = *(s{} *)({base}{})", size.bytes() * 8, Displacement(off.into()))
            }
            Insn::Store { size, base, off, src } => {
                let src = source(src, self.spelling.memory_width(size));
                write!(f, "*{} = {src}", Memory(size, base, off))
            }
            Insn::Atomic { op, width, base, off, src } => self.fmt_atomic(f, op, width, (base, off), src),
            Insn::LoadAcquire { size, dst, base, off } => {
                let width = Spelling::Exact.memory_width(size);
                write!(f, "{} = load_acquire({})", Named(dst, width), Memory(size, base, off))
            }
            Insn::StoreRelease { size, base, off, src } => {
                let width = Spelling::Exact.memory_width(size);
                write!(f, "store_release({}, {})", Memory(size, base, off), Named(src, width))
            }
            Insn::LoadPacket { size, offset } => self.fmt_packet_load(f, size, offset),
            Insn::Jump { off, long } => write!(f, "{} {}", if long { "gotol" } else { "goto" }, Target(off)),
            Insn::JumpIf { condition, width, dst, src, off } => {
                let (dst, src) = (Named(dst, width), source(src, width));
                write!(f, "if {dst} {} {src} goto {}", condition.symbol(), Target(off.into()))
            }
            Insn::MayGoto { off } => write!(f, "may_goto {}", Target(off.into())),
            Insn::Call(callee) => self.fmt_call(f, callee),
            Insn::Exit => f.write_str("exit"),
        }
    }
}

impl Text {
    fn exact(&self) -> bool {
        self.spelling == Spelling::Exact
    }

    fn fmt_wide_load(&self, f: &mut fmt::Formatter<'_>, dst: Reg, value: Imm64) -> fmt::Result {
        if let Imm64::Value(value) = value {
            return write!(f, "{dst} = {} ll", Hex(value as i64));
        }
        let (source, low, high) = imm64_parts(value);
        write!(f, "ld_pseudo\t{dst}, {source:#x}, {low:#x}")?;
        if high != 0 && self.exact() { write!(f, ", {high:#x}") } else { Ok(()) }
    }

    fn fmt_atomic(
        &self,
        f: &mut fmt::Formatter<'_>,
        op: AtomicOp,
        width: Width,
        (base, off): (Reg, i16),
        src: Reg,
    ) -> fmt::Result {
        let (size, suffix) = match width {
            Width::W32 => (Size::W, "32_32"),
            Width::W64 => (Size::DW, "_64"),
        };
        let memory = Memory(size, base, off);
        if self.spelling == Spelling::Objdump && width == Width::W32 {
            return match op {
                AtomicOp::Add | AtomicOp::FetchAdd => write!(f, "lock *{memory} += {src}"),
                AtomicOp::Or
                | AtomicOp::And
                | AtomicOp::Xor
                | AtomicOp::FetchOr
                | AtomicOp::FetchAnd
                | AtomicOp::FetchXor
                | AtomicOp::Xchg
                | AtomicOp::Cmpxchg => f.write_str(UNKNOWN),
            };
        }
        let (src, symbol) = (Named(src, width), op.symbol());
        match op {
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {
                write!(f, "lock *{memory} {symbol} {src}")
            }
            AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor => {
                write!(f, "{src} = atomic_{symbol}({memory}, {src})")
            }
            AtomicOp::Xchg => write!(f, "{src} = {symbol}{suffix}({base}{}, {src})", Displacement(off.into())),
            AtomicOp::Cmpxchg => {
                let (old, off) = (Named(Reg::R0, width), Displacement(off.into()));
                write!(f, "{old} = {symbol}{suffix}({base}{off}, {old}, {src})")
            }
        }
    }

    fn fmt_packet_load(&self, f: &mut fmt::Formatter<'_>, size: Size, offset: PacketOffset) -> fmt::Result {
        write!(f, "r0 = *({} *)skb[", size.c_type())?;
        match offset {
            PacketOffset::Abs(imm) => write!(f, "{}", Hex(imm.into()))?,
            PacketOffset::Ind(reg, imm) => {
                write!(f, "{reg}")?;
                if imm != 0 && self.exact() {
                    write!(f, "{}", Displacement(imm.into()))?;
                }
            }
        }
        f.write_str("]")
    }

    fn fmt_call(&self, f: &mut fmt::Formatter<'_>, callee: Callee) -> fmt::Result {
        match callee {
            Callee::Reg(reg) => write!(f, "callx {reg}"),
            Callee::Helper(number) => write!(f, "call {}", Hex(number.into())),
            Callee::Local(off) if self.exact() => write!(f, "call pc{}", Target(off)),
            Callee::Kfunc { btf_id, module } if self.exact() => {
                write!(f, "call kfunc {}", Hex(btf_id.into()))?;
                if module != 0 { write!(f, ", {}", Hex(module.into())) } else { Ok(()) }
            }
            Callee::Local(imm) | Callee::Kfunc { btf_id: imm, .. } => write!(f, "call {}", Hex(imm.into())),
        }
    }
}
