//! The options of `softbpf conform`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, value_parser};

use super::JOBS;

/// Which engines run the cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum EngineSet {
    /// The interpreter
    Interpreter,
    /// Machine code
    Jit,
    /// Machine code with every access of memory checked, but those of the stack at constant offsets
    JitUnproved,
    /// Machine code of instructions that every x86-64 has
    JitBaseline,
    /// Machine code where there is a JIT, else the interpreter
    Auto,
    /// Every engine that works on this machine, the JIT in each of its configurations
    All,
}

/// Whose second opinion is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OracleChoice {
    /// The reference model, written from RFC 9669 alone
    Model,
    /// The kernel that runs here, where bpf(2) is permitted
    Kernel,
}

#[derive(Debug, Args)]
pub(crate) struct ConformArgs {
    /// Folders or files of cases: .vec files, or .data files of the public bpf_conformance suite. Without any,
    /// softbpf's own vectors
    #[arg(value_name = "DIR")]
    pub(crate) paths: Vec<PathBuf>,
    /// What runs the cases
    #[arg(long, value_enum, default_value = "all", conflicts_with = "plugin")]
    pub(crate) engine: EngineSet,
    /// Run the cases on another implementation, through the plugin protocol of the public suite
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) plugin: Option<PathBuf>,
    /// An argument that the plugin is always given; may be repeated
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, requires = "plugin")]
    pub(crate) plugin_arg: Vec<String>,
    /// How long the plugin may take for a case; after 5 cases in a row that take longer, softbpf gives up
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = value_parser!(u32).range(1..), requires = "plugin")]
    pub(crate) timeout: u32,
    /// How many cases the plugin runs at a time [default: one a CPU]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(JOBS), requires = "plugin")]
    pub(crate) jobs: Option<u16>,
    /// Also compare every answer with that of an oracle
    #[arg(long, value_enum)]
    pub(crate) oracle: Option<OracleChoice>,
    /// Only cases of this conformance group of RFC 9669 (base32, divmul64, ...; also callx, linux, encoding); may
    /// be repeated
    #[arg(long = "group", value_name = "GROUP", value_parser = group)]
    pub(crate) groups: Vec<&'static str>,
    /// No cases of this conformance group; may be repeated
    #[arg(long = "exclude-group", value_name = "GROUP", value_parser = group)]
    pub(crate) excluded_groups: Vec<&'static str>,
    /// Only cases whose file or title contains this
    #[arg(long = "match", value_name = "TEXT")]
    pub(crate) pattern: Option<String>,
    /// Write a JUnit report
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// A group by its name.
pub(super) fn group(name: &str) -> Result<&'static str, String> {
    let names = || softbpf_conformance::case::GROUPS.into_iter().map(softbpf_conformance::case::group_name);
    names().find(|known| *known == name).ok_or_else(|| format!("there are: {}", names().collect::<Vec<_>>().join(", ")))
}
