//! The backend for x86-64 under the System V ABI.
//!
//! A program becomes machine code in one pass (`compile`, with `alu` and `memory`), most instructions one to one on a fixed
//! register map (`registers`). Code shares state with Rust in `cells`, and calls Rust through the routines of `glue`;
//! what Rust does for it is in `run`; `perf` tells profilers of it. `engine` is the [`softbpf::engine::Engine`].

// What `dynasm!` makes of register numbers.
#![allow(clippy::useless_conversion)]

mod alu;
mod asm;
mod assume;
mod cells;
mod code;
mod compile;
mod encode;
mod engine;
mod glue;
mod idiom;
mod inspect;
mod lookup;
mod memory;
#[cfg(not(target_os = "linux"))]
#[path = "no_perf.rs"]
mod perf;
#[cfg(target_os = "linux")]
mod perf;
mod registers;
mod run;
mod spare;

use engine::Jit;

use softbpf::engine::Engine;

use crate::fault::Planted;
use crate::{Config, Unavailable};

/// What the compiler may use.
#[derive(Debug, Clone, Copy)]
struct Options {
    bmi2: bool,
    proofs: bool,
    /// Keep why accesses are proved.
    explain: bool,
    planted: Planted,
}

pub(crate) use cells::name as cell_name;
pub(crate) use inspect::{code_size, inspect};

fn jit(config: Config, planted: Planted) -> Result<Jit, Unavailable> {
    let bmi2 = config.extensions && std::arch::is_x86_feature_detected!("bmi2");
    let options = Options { bmi2, proofs: config.proofs, explain: false, planted };
    let mut jit = Jit::new(options).map_err(|error| Unavailable::NoMemory { reason: error.to_string() })?;
    jit.tell_perf(&config.perf)?;
    Ok(jit)
}

/// An engine with this configuration.
pub(crate) fn new(config: Config, planted: Planted) -> Result<Box<dyn Engine>, Unavailable> {
    Ok(Box::new(jit(config, planted)?))
}
