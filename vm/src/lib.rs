//! wip
#![deny(unsafe_code)]
pub mod check;
pub mod codec;
pub mod insn;
mod isa;
