//! The x86-64 backend of softbpf: programs as machine code, with the outcome of the interpreter to the bit.
//!
//! [`engine`] makes an engine where there is a backend, and says why not elsewhere. A machine that has it runs programs as
//! machine code, and is used like any other:
//!
//! ```
//! use softbpf::interp::Interpreter;
//! use softbpf::object::MAIN;
//! use softbpf::program_type::ProgramType;
//! use softbpf::{Config, Machine, Object};
//!
//! let object = Object::assemble("r0 = 6\n r0 *= 7\n exit", ProgramType::Unspec, Vec::new())?;
//! let engine = softbpf_jit::engine().unwrap_or_else(|_| Box::new(Interpreter::new()));
//! let mut vm = Machine::with_config(&object, Config { engine, ..Config::default() })?;
//! assert_eq!(vm.run(MAIN, ())?.ret, Ok(42));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(all(target_arch = "x86_64", unix))]
mod blocks;
#[cfg(all(target_arch = "x86_64", unix))]
mod effects;
#[cfg(any(feature = "planted-faults", all(target_arch = "x86_64", unix)))]
#[cfg_attr(not(all(target_arch = "x86_64", unix)), allow(dead_code))]
mod fault;
#[cfg(all(target_arch = "x86_64", unix))]
mod proof;
#[cfg(all(target_arch = "x86_64", unix))]
mod x64;

use std::path::PathBuf;

use softbpf::engine::Engine;

pub mod inspect;

#[cfg(feature = "planted-faults")]
#[doc(hidden)]
pub use fault::Fault;

/// How to compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Use instructions beyond the baseline of x86-64 where the machine has them.
    pub extensions: bool,
    /// Leave out checks of accesses that an analysis has proved.
    pub proofs: bool,
    /// What `perf` is told of the code.
    pub perf: Perf,
}

impl Default for Config {
    fn default() -> Self {
        Config { extensions: true, proofs: true, perf: Perf::Off }
    }
}

/// What `perf` is told of the code, so that its reports name programs: each function `bpf_prog_<tag>_<name>`, as in the
/// kernel's list of symbols, with the tag of the program. Under Linux only.
///
/// The files are readable for their owner only. One that is already there is used, without what an earlier process has left
/// in it, only if it is a regular file of this process's user, and no link. What cannot be written later is left out from then on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Perf {
    /// Nothing.
    #[default]
    Off,
    /// Addresses and names, in `/tmp/perf-<pid>.map`: enough for `perf report`.
    Map,
    /// Addresses, names, source lines and the code itself, in `jit-<pid>.dump` of this directory: for
    /// `perf record -k mono`, `perf inject --jit` and then `perf report` and `perf annotate`. The directory must let
    /// files be mapped as executable, by which `perf` gets to know of the file.
    JitDump {
        /// The directory.
        directory: PathBuf,
    },
}

/// Why there is no JIT.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The machine is none that the JIT makes code for.
    #[error("there is no JIT for this machine, only for x86-64 under Unix; use the interpreter")]
    NotSupported,
    /// The host grants no executable memory.
    #[error("the JIT cannot work here: {reason}; use the interpreter")]
    NoMemory {
        /// What the host said.
        reason: String,
    },
    /// The file for `perf` cannot be opened.
    #[error("cannot write {} for perf: {reason}", path.display())]
    Perf {
        /// The file.
        path: PathBuf,
        /// What the host said.
        reason: String,
    },
    /// `perf` is Linux's.
    #[error("perf can be told of compiled programs only under Linux")]
    NoPerf,
}

/// A JIT for this machine.
///
/// # Errors
/// There is none for this machine, the host does not let it work, or a file that [`Config::perf`] asks for cannot be
/// opened.
pub fn engine() -> Result<Box<dyn Engine>, Unavailable> {
    engine_with(Config::default())
}

/// As [`engine`], with another configuration.
///
/// # Errors
/// As [`engine`].
#[cfg(all(target_arch = "x86_64", unix))]
pub fn engine_with(config: Config) -> Result<Box<dyn Engine>, Unavailable> {
    x64::new(config, fault::Planted::default())
}

/// As [`engine`], with another configuration.
///
/// # Errors
/// As [`engine`].
#[cfg(not(all(target_arch = "x86_64", unix)))]
pub fn engine_with(_config: Config) -> Result<Box<dyn Engine>, Unavailable> {
    Err(Unavailable::NotSupported)
}

/// As [`engine_with`], with a fault planted: for tests of tests.
///
/// # Errors
/// As [`engine`].
#[cfg(feature = "planted-faults")]
#[doc(hidden)]
pub fn engine_with_fault(config: Config, fault: Fault) -> Result<Box<dyn Engine>, Unavailable> {
    #[cfg(all(target_arch = "x86_64", unix))]
    return x64::new(config, fault::Planted::new(fault));
    #[cfg(not(all(target_arch = "x86_64", unix)))]
    {
        let _ = fault::Planted::new(fault);
        engine_with(config)
    }
}

#[cfg(all(target_arch = "x86_64", unix))]
use x64::{cell_name as backend_cell_name, code_size as backend_code_size, inspect as backend_inspect};

#[cfg(not(all(target_arch = "x86_64", unix)))]
fn backend_inspect(_: &mut softbpf::Machine, _: softbpf::engine::ProgramId, _: Config) -> Option<inspect::Compilation> {
    None
}

#[cfg(not(all(target_arch = "x86_64", unix)))]
fn backend_code_size(_: &mut softbpf::Machine, _: softbpf::engine::ProgramId, _: Config) -> Option<usize> {
    None
}

#[cfg(not(all(target_arch = "x86_64", unix)))]
fn backend_cell_name(_: i32) -> Option<String> {
    None
}
