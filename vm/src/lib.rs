//! softbpf: a software eBPF virtual machine. It loads the `.o` that clang built for the kernel and runs its programs
//! anywhere: no root, no kernel, no recompiling.
//!
//! ```text
//! bytes -> Object -> Program -> Machine -> Engine::run -> Outcome
//! ```
//!
//! ```
//! use softbpf::context::PtRegs;
//! use softbpf::{Machine, Object, Pid, Task, Tgid};
//!
//! # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/objects/tracex4_kern.o");
//! let object = Object::from_file(path)?; // pure: nothing has happened yet
//! let mut vm = Machine::load(&object)?; // maps exist, programs are checked
//! vm.world.task = Task::new("sshd", Tgid(42), Pid(43));
//! vm.map("my_map")?.insert(&0xffff_9637_e317_5cc0_u64, &[1_u64, 2])?;
//!
//! let outcome = vm.run("bpf_prog1", PtRegs::new().parm(2, 0xffff_9637_e317_5cc0))?;
//! assert_eq!(outcome.ret, Ok(0));
//! assert!(vm.map("my_map")?.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Where to look: [`Object`] (files, assembly text, bytecode), [`Machine`] (running, mocking, maps), [`context`] (what
//! programs get), [`world`] (time, task, CPU), [`asm`] and [`text`] (writing and printing instructions).

#![deny(unsafe_code)]

// First, and by name: its macros are the tables that the other modules read.
#[macro_use]
mod isa;

pub mod asm;
pub mod btf;
pub mod check;
pub mod codec;
pub mod context;
pub mod engine;
pub mod errno;
pub mod helpers;
pub mod insn;
pub mod interp;
pub mod machine;
pub mod map_spec;
pub mod maps;
pub mod memory;
pub mod object;
pub mod outcome;
pub mod program;
pub mod program_type;
pub mod semantics;
pub mod text;
pub mod world;

pub use machine::{Config, Machine};
pub use object::Object;
pub use outcome::{Outcome, Trap, TrapKind};
pub use world::{Gid, Pid, Task, Tgid, Uid, World};
