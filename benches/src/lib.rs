//! Workloads and peers for the benchmarks.
//!
//! A workload is a program with no relocations whose `r1` is memory and `r2` its length, so that every
//! implementation runs the same bytes. What a run must give is written beside it: a benchmark checks before it
//! measures.

#[cfg(feature = "peers")]
pub mod solana;

use softbpf::Object;
use softbpf_conformance::fixture;

/// A program and the memory it works on.
#[derive(Debug, Clone)]
pub struct Workload {
    /// Name of the program.
    pub name: &'static str,
    /// The object it is in.
    pub object: Object,
    /// Its instructions.
    pub bytecode: Vec<u8>,
    /// Memory before the run.
    pub memory: Vec<u8>,
    /// `r0` after the run.
    pub expected: u64,
}

/// The CPU-bound workloads.
///
/// # Panics
/// A fixture does not load: the tree is broken.
pub fn cpu_bound() -> Vec<Workload> {
    [
        ("bench_collatz", 1024, 0x0000_00eb_0000_5fdc),
        ("bench_sha256", 1024, 0xe918_3d9a_79aa_d8a0),
        ("bench_matmul", 12288, 0xfada_7e12_2255_0000),
    ]
    .into_iter()
    .map(|(name, len, expected)| {
        let object = fixture(&format!("{name}.bpf.o"));
        let program = object.program(name).unwrap_or_else(|error| panic!("{error}"));
        let bytecode = program.code().encode().unwrap_or_else(|error| panic!("{error}"));
        let memory = (0..len).map(|i: u32| (i * 7 + 3) as u8).collect();
        Workload { name, object, bytecode, memory, expected }
    })
    .collect()
}
