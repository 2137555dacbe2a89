//! Instructions as people read them: three dialects out, all of them in.
//!
//! - [`llvm`]: one instruction as LLVM writes it; [`listing`]: a whole object as `llvm-objdump -d` lists it.
//! - [`xlated`]: instructions and programs as `bpftool prog dump xlated` lists them.
//! - [`ubpf`]: one instruction as ubpf's assembler writes it, the dialect of the public conformance suite.
//! - [`parse`]: text of the first two dialects, or a pasted listing, to instructions; and, where asked, of the third.
//!
//! Symbols (`+=`, `s>=`, `u32`, ...) come from the rows of `isa.rs`. No bit position is known here, and no helper's
//! name: it is [`Insn`](crate::insn::Insn) on one side and characters on the other.

pub mod listing;
pub mod llvm;
pub mod parse;
pub mod ubpf;
pub mod xlated;

use std::fmt;

use crate::insn::{Imm64, Operand, Reg, Width};
use crate::isa::pseudo;

/// A register as an operand of this width: `r1` or `w1`.
#[derive(Clone, Copy)]
struct Named(Reg, Width);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.1 {
            Width::W32 => 'w',
            Width::W64 => 'r',
        };
        write!(f, "{letter}{}", self.0.number())
    }
}

impl fmt::Display for Reg {
    /// `r0` to `r10`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Named(*self, Width::W64))
    }
}

/// A second operand: the register by width, the immediate as `I` writes it.
struct Source<I: Fn(i32) -> String>(Operand, Width, I);

impl<I: Fn(i32) -> String> fmt::Display for Source<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operand::Reg(reg) => write!(f, "{}", Named(reg, self.1)),
            Operand::Imm(imm) => f.write_str(&(self.2)(imm)),
        }
    }
}

/// What a 64-bit immediate load consists of: pseudo source and the two halves, low first.
///
/// [`imm64_of`] is the inverse.
fn imm64_parts(value: Imm64) -> (u8, u32, u32) {
    match value {
        Imm64::Value(value) => (pseudo::NONE, value as u32, (value >> 32) as u32),
        Imm64::MapFd(fd) => (pseudo::MAP_FD, fd as u32, 0),
        Imm64::MapValue { fd, offset } => (pseudo::MAP_VALUE, fd as u32, offset),
        Imm64::Variable { btf_id, btf_fd } => (pseudo::VARIABLE, btf_id as u32, btf_fd as u32),
        Imm64::Code(off) => (pseudo::CODE, off as u32, 0),
        Imm64::MapIndex(index) => (pseudo::MAP_INDEX, index as u32, 0),
        Imm64::MapIndexValue { index, offset } => (pseudo::MAP_INDEX_VALUE, index as u32, offset),
    }
}

/// The load with this pseudo source and halves; `None` if there is no such source, or its high half must be 0.
fn imm64_of(source: i64, low: u32, high: u32) -> Option<Imm64> {
    let value = match u8::try_from(source).ok()? {
        pseudo::NONE => Imm64::Value(u64::from(high) << 32 | u64::from(low)),
        pseudo::MAP_FD => Imm64::MapFd(low as i32),
        pseudo::MAP_VALUE => Imm64::MapValue { fd: low as i32, offset: high },
        pseudo::VARIABLE => Imm64::Variable { btf_id: low as i32, btf_fd: high as i32 },
        pseudo::CODE => Imm64::Code(low as i32),
        pseudo::MAP_INDEX => Imm64::MapIndex(low as i32),
        pseudo::MAP_INDEX_VALUE => Imm64::MapIndexValue { index: low as i32, offset: high },
        _ => return None,
    };
    (imm64_parts(value).2 == high).then_some(value)
}
