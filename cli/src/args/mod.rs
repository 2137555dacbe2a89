//! The command line. Values are parsed where they stand; what they mean for an object is checked by the commands.

mod bench;
mod conform;
mod fuzz;
mod fuzz_isa;
mod run;
mod values;

use std::num::NonZero;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use softbpf::program_type::ProgramType;

pub(crate) use bench::{BenchArgs, InputArgs};
pub(crate) use conform::{ConformArgs, EngineSet, OracleChoice};
pub(crate) use fuzz::{FuzzArgs, FuzzProgramArgs};
pub(crate) use fuzz_isa::{FuzzIsaArgs, GeneratorChoice, KnobArgs, LevelChoice};
pub(crate) use run::{ContextArgs, EngineChoice, PerfChoice, ProgramArgs, RunArgs, SetupArgs, WorldArgs};
pub(crate) use values::{Field, MapEntry, Place, Setting};

use crate::error::CliError;

/// What `--jobs` may say: no host has so many CPUs that more threads would help, and each takes memory.
const JOBS: RangeInclusive<i64> = 1..=256;

/// Threads: as many as `--jobs` says, or one a CPU.
pub(crate) fn jobs(said: Option<u16>) -> NonZero<usize> {
    let cpus = || std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    said.and_then(|jobs| NonZero::new(jobs.into())).unwrap_or_else(cpus)
}

const EXIT_STATUS: &str = "\
Exit status:
  0  the program returned, or there was nothing to run
  1  the program trapped: it did what a kernel would not have let it do, or ran out of instructions;
     or a conformance case failed, or fuzzing found something
  2  the command line or the input is wrong

OBJECT is an ELF file that clang made for BPF, assembly text (.s, .asm, .txt), raw bytecode (.bin), or - for \
standard input. Numbers are decimal, 0x hexadecimal or 0b binary.";

/// A software eBPF machine: runs the .o that clang built for the kernel, without a kernel.
#[derive(Debug, Parser)]
#[command(name = "softbpf", version, after_help = EXIT_STATUS, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a program, and show what it returned and did
    Run(Box<RunArgs>),
    /// List the programs and maps of an object
    Show(ShowArgs),
    /// List instructions as llvm-objdump or bpftool do
    Disasm(DisasmArgs),
    /// Assemble text to bytecode
    Asm(AsmArgs),
    /// Measure a program: time of a run on interpreter and JIT, time and size of compiled code
    Bench(Box<BenchArgs>),
    /// Run conformance vectors: on the engines, or on another implementation
    Conform(Box<ConformArgs>),
    // Its help, the long one too, stands with its options.
    Fuzz(FuzzArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// ELF file, assembly text, raw bytecode, or - for standard input
    pub(crate) object: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whose way of writing instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Style {
    /// llvm-objdump -d --no-show-raw-insn; with --raw, llvm-objdump -d
    Llvm,
    /// bpftool prog dump xlated: the linked program
    Xlated,
}

/// The CPU version, which decides how LLVM names the registers of 32-bit memory operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub(crate) enum Cpu {
    Generic,
    V1,
    V2,
    V3,
    V4,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DisasmArgs {
    /// ELF file, assembly text, raw bytecode, or - for standard input
    pub(crate) object: PathBuf,
    /// Only this program, or this function
    pub(crate) program: Option<String>,
    /// Whose way of writing
    #[arg(long, value_enum, default_value = "llvm")]
    pub(crate) style: Style,
    /// CPU version as for llvm-objdump --mcpu: v3 and v4 name 32-bit registers
    #[arg(long, value_enum, default_value = "generic", value_name = "CPU")]
    pub(crate) mcpu: Cpu,
    /// Show the bytes of each instruction too; with --jited, those of the machine code
    #[arg(long)]
    pub(crate) raw: bool,
    /// List programs with their subprograms and references resolved, not sections
    #[arg(long)]
    pub(crate) linked: bool,
    /// Show the machine code that the JIT makes of each instruction, and how it makes accesses of memory safe
    ///
    /// Registers r0 to r10 are in rax, rdi, rsi, rdx, rcx, r8, rbx, r13, r14, r15 and rbp. The machine's r9 counts
    /// instructions down, r10 is the address of guest memory, r11 is scratch, and r12 points to what the code shares with
    /// the engine. Behind the instructions come the entries of functions, and stubs for what is rare. Side by side on a
    /// terminal of at least 100 columns, else one under the other.
    #[arg(long, conflicts_with = "linked")]
    pub(crate) jited: bool,
    /// With --jited, prove nothing: every access is checked but those of the stack at constant offsets
    #[arg(long, requires = "jited")]
    pub(crate) no_proofs: bool,
    /// With --jited, use only instructions that every x86-64 has
    #[arg(long, requires = "jited")]
    pub(crate) baseline: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct AsmArgs {
    /// Assembly text, or - for standard input
    pub(crate) file: PathBuf,
    /// Write the bytecode to this file instead of hexadecimal digits to standard output
    #[arg(short, long, value_name = "OUT")]
    pub(crate) output: Option<PathBuf>,
}

/// The program type with a name that bpftool prints.
pub(crate) fn program_type(name: &str) -> Result<ProgramType, CliError> {
    ProgramType::from_name(name).ok_or_else(|| CliError::NoSuchType {
        name: name.to_owned(),
        known: ProgramType::ALL.iter().map(|kind| kind.name()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
