//! softbpf: a software eBPF virtual machine. So far: the instruction set, its encoding and its text.

#![deny(unsafe_code)]

// First, and by name: its macros are the tables that the other modules read.
#[macro_use]
mod isa;

pub mod asm;
pub mod check;
pub mod codec;
pub mod insn;
pub mod semantics;
pub mod text;
