//! Programs to measure softbpf with, and what to measure it against.
//!
//! A program is C of ours in `programs/`, compiled for BPF there; its row in [`workload`] has its input and the `r0`
//! that it must give. [`contestants`] is the list of what can run it: native code, softbpf's engines, and with the
//! feature `peers` solana-sbpf and rbpf, each with its interpreter and its compilers. Nobody is measured before it
//! has given the right result twice.
//!
//! Programs that take memory have no relocations, find memory behind `r1` and its length in `r2`, and give the same
//! `r0` on the memory as they left it: so everything runs the same bytes, and nothing has to be put back between runs.
//!
//! Native code is Rust ([`native`]), and with the feature `native-c`, which needs a C compiler, the very C sources of
//! the programs, without vectorisation. Figures are ratios to C where it is there. The Rust versions are plain safe
//! loops, on average as fast as clang's code: faster where they are vectorised (`tcpsum`, 0.4 times clang's) or fill
//! memory by a library call (`sieve`, 0.7), slower where bounds are checked (`shellsort`, 1.2; `strings`, 1.4).
//!
//! Peers stand as they come, but for this. rbpf's interpreter sets no `r2`, so an instruction in front of the
//! program does. solana-sbpf calls helpers by hash and functions by key, so calls are rewritten when it loads, and its
//! stack frames lie without gaps. When reading figures: rbpf's JIT checks no access, and takes programs of up to 4096
//! bytes of machine code; solana-sbpf's obfuscates its code, as is its default.
//!
//! Where bpf(2) is permitted, the kernel takes part by BPF_PROG_TEST_RUN: programs that its verifier accepts, with memory as
//! the value of a map. Its times are its own, a whole number of nanoseconds a run. It has no budget of instructions, and
//! neither checks accesses nor counts.
//!
//! `compare` takes turns ([`measure`]) and prints ratios, which hold from machine to machine better than times. The
//! criterion benchmarks in `benches/` are for following one thing over time.
//!
//! ```text
//! cargo run --release -p softbpf-benches --features peers,native-c --bin compare
//! cargo run --release -p softbpf-benches --bin compare -- cpu --only native-rust,interpreter --json
//! cargo bench -p softbpf-benches
//! ```

pub mod compile;
pub mod contestants;
mod input;
mod kernel;
pub mod measure;
pub mod native;
#[cfg(feature = "native-c")]
pub mod native_c;
pub mod page;
mod plot;
#[cfg(feature = "peers")]
mod rbpf;
pub mod report;
#[cfg(feature = "peers")]
mod solana;
mod targets;
pub mod workload;

/// What the native baseline is.
pub fn baseline() -> &'static str {
    #[cfg(feature = "native-c")]
    return native_c::COMPILER;
    #[cfg(not(feature = "native-c"))]
    return "Rust (for C, use the feature native-c)";
}
