//! The options of `softbpf fuzz isa`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};
use softbpf_conformance::ENGINES;

use super::JOBS;
use super::conform::{OracleChoice, group};

/// Kinds of generated programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GeneratorChoice {
    /// Every operation on values at the edges
    Samples,
    /// Calls, loops, maps, helpers, tail calls, packets
    Scenarios,
    /// Random streams of instructions
    Streams,
}

/// Which instructions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LevelChoice {
    /// -mcpu=v3, and fetching atomics
    V3,
    /// Signed division, sign extension, byte swaps
    V4,
    /// Load-acquire and store-release too
    All,
}

#[derive(Debug, Args)]
pub(crate) struct FuzzIsaArgs {
    /// Fuzz another implementation, through the plugin protocol of the public bpf_conformance suite
    #[arg(long, value_name = "PLUGIN", conflicts_with_all = ["engines", "no_model", "oracle", "generators", "inputs"])]
    pub(crate) against: Option<PathBuf>,
    /// An argument that the plugin is always given; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, requires = "against")]
    pub(crate) plugin_arg: Vec<String>,
    /// How long the plugin may take for a program
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = value_parser!(u32).range(1..), requires = "against")]
    pub(crate) timeout: u32,
    /// No programs that must be refused or stopped: the plugin is trusted with what is valid only
    #[arg(long, requires = "against")]
    pub(crate) only_valid: bool,
    /// Generate what the plugin lacks, too. Otherwise instructions that it refuses altogether are left out
    #[arg(long, requires = "against")]
    pub(crate) everything: bool,
    /// Bodies of a program, one after the other, for a call of the plugin
    #[arg(long, value_name = "N", default_value = "4", requires = "against")]
    pub(crate) bodies: usize,
    /// An engine here; may be repeated [default: all that work]
    #[arg(long = "engine", value_name = "ENGINE", value_parser = [ENGINES.as_slice(), &["auto"]].concat())]
    pub(crate) engines: Vec<String>,
    /// Do not ask the reference model
    #[arg(long)]
    pub(crate) no_model: bool,
    /// Also ask an oracle: the model is asked anyway, the kernel about samples, where bpf(2) is permitted
    #[arg(long, value_enum)]
    pub(crate) oracle: Option<OracleChoice>,
    /// A kind of programs; may be repeated [default: all]
    #[arg(long = "generator", value_enum, value_name = "KIND")]
    pub(crate) generators: Vec<GeneratorChoice>,
    /// Inputs that a sample runs on
    #[arg(long, value_name = "N", default_value = "32", value_parser = value_parser!(u64).range(1..=1_000_000))]
    pub(crate) inputs: u64,
    /// Number of the first program
    #[arg(long, value_name = "N", default_value = "0")]
    pub(crate) seed: u64,
    /// Stop after so many programs
    #[arg(long, value_name = "N")]
    pub(crate) programs: Option<u64>,
    /// Stop after so many seconds [default: 60, or with --programs never]
    #[arg(long, value_name = "N")]
    pub(crate) seconds: Option<u32>,
    /// How many programs run at a time [default: one a CPU]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(JOBS))]
    pub(crate) jobs: Option<u16>,
    /// Stop after so many different findings
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) findings: usize,
    /// The folder that findings are saved in; it is made when there are any
    #[arg(long, value_name = "DIR", default_value = "findings")]
    pub(crate) out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) knobs: KnobArgs,
}

/// What programs are made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "What programs are made of")]
pub(crate) struct KnobArgs {
    /// Instructions of a sample at most, without first values and the end
    #[arg(long, value_name = "N", default_value = "40", value_parser = value_parser!(u16).range(1..=4096))]
    pub(crate) length: u16,
    /// Statements of a scenario's first program at most
    #[arg(long, value_name = "N", default_value = "48", value_parser = value_parser!(u16).range(1..=512))]
    pub(crate) statements: u16,
    /// Which instructions there are, in samples
    #[arg(long, value_enum, default_value = "all")]
    pub(crate) level: LevelChoice,
    /// No instructions of this conformance group of RFC 9669 (divmul64, atomic32, ...; also callx, linux); may be repeated
    #[arg(long = "exclude-group", value_name = "GROUP", value_parser = group)]
    pub(crate) excluded_groups: Vec<&'static str>,
    /// No loads and stores, in samples
    #[arg(long)]
    pub(crate) no_memory: bool,
    /// No atomic operations
    #[arg(long)]
    pub(crate) no_atomics: bool,
    /// No jumps, in samples
    #[arg(long)]
    pub(crate) no_jumps: bool,
    /// No functions
    #[arg(long)]
    pub(crate) no_calls: bool,
    /// Nothing that must be stopped: accesses out of bounds, bad arguments
    #[arg(long)]
    pub(crate) no_traps: bool,
    /// No loops, in scenarios
    #[arg(long)]
    pub(crate) no_loops: bool,
    /// No maps and helpers, in scenarios
    #[arg(long)]
    pub(crate) no_helpers: bool,
    /// No tail calls, in scenarios
    #[arg(long)]
    pub(crate) no_tail_calls: bool,
    /// No helpers that call back, in scenarios
    #[arg(long)]
    pub(crate) no_callbacks: bool,
    /// No packets, in scenarios
    #[arg(long)]
    pub(crate) no_packets: bool,
}
