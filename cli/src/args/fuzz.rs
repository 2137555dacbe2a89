//! The options of `softbpf fuzz`.

use std::path::PathBuf;

use clap::{ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::JOBS;
use super::fuzz_isa::FuzzIsaArgs;
use super::run::{ContextArgs, EngineChoice, ProgramArgs, SetupArgs};
use crate::literal::number64;

/// Name of the subcommand.
const ISA: &str = "isa";

/// What is fuzzed: by the arguments themselves a program of the user's, or what a subcommand says; derived code cannot have
/// both where an argument is required.
#[derive(Debug)]
pub(crate) enum FuzzArgs {
    /// `softbpf fuzz isa`
    Isa(Box<FuzzIsaArgs>),
    /// `softbpf fuzz OBJECT PROGRAM`
    Program(Box<FuzzProgramArgs>),
}

impl FromArgMatches for FuzzArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<FuzzArgs, clap::Error> {
        match matches.subcommand() {
            Some((ISA, matches)) => FuzzIsaArgs::from_arg_matches(matches).map(|args| FuzzArgs::Isa(Box::new(args))),
            _ => FuzzProgramArgs::from_arg_matches(matches).map(|args| FuzzArgs::Program(Box::new(args))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = FuzzArgs::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for FuzzArgs {
    fn augment_args(command: Command) -> Command {
        let isa =
            Command::new(ISA).about("Fuzz implementations of the instruction set: the engines here, or another one");
        FuzzProgramArgs::augment_args(command)
            .subcommand(FuzzIsaArgs::augment_args(isa))
            .args_conflicts_with_subcommands(true)
            .subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: Command) -> Command {
        FuzzArgs::augment_args(command)
    }
}

/// Look for inputs that make a program go wrong
///
/// That is: that trap it, keep it running without an end, or make it return what it should not.
///
/// Packet or context, contents of maps, kernel and user memory, and what helpers tell of time, random numbers, task and CPU
/// are varied, and what takes a new way through the program is varied further. What --map, --set, --mem, --mock and the options of the world
/// say holds in every run; what --ctx and --packet say is one input to begin with. Constants (.rodata) are as --set says.
///
/// A finding is made small and written to a file that softbpf run --input replays, and to a Rust test.
#[derive(Debug, Args)]
#[command(
    mut_arg("seed", |arg| arg.help("Seed of the campaign. With --runs and --jobs 1, the same seed gives the same findings").help_heading("Fuzzing")),
    mut_arg("fuel", |arg| arg.help("Most instructions of one run: one that takes more is a finding [default: 1000000]").help_heading("Fuzzing")),
)]
pub(crate) struct FuzzProgramArgs {
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
    /// What runs the program: the interpreter, which shows the ways through it
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) engine: EngineChoice,
    /// Make reading stack bytes that were never written a trap
    #[arg(long)]
    pub(crate) strict: bool,
    /// List the lines of source that no input came to
    #[arg(long)]
    pub(crate) show_coverage: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) campaign: CampaignArgs,
    #[command(flatten)]
    pub(crate) context: ContextArgs,
    #[command(flatten)]
    pub(crate) setup: SetupArgs,
}

/// How to fuzz, and what counts as a finding.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fuzzing")]
pub(crate) struct CampaignArgs {
    /// How long at most [default: 60, or as long as --runs takes]; a run that has begun goes on to its end, which --fuel
    /// sets
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// Most inputs to run
    #[arg(long, value_name = "N", value_parser = number64)]
    pub(crate) runs: Option<u64>,
    /// Threads [default: one a CPU]
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(JOBS))]
    pub(crate) jobs: Option<u16>,
    /// Which results are right: 'ret in {1,2}', 'ret in 0..=4', 'ret not in {0}', 'ret == XDP_PASS', 'ret != 0',
    /// 'ret < 3'. ret is the int that the program returns, r0 all 64 bits of it, unsigned
    #[arg(long, value_name = "EXPR")]
    pub(crate) expect: Option<String>,
    /// Go on behind the first finding, to others, unless softbpf itself panics
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// The folder that findings are written to
    #[arg(long, value_name = "DIR", default_value = "findings")]
    pub(crate) out: PathBuf,
    /// A folder of inputs to begin with, to which those are added that take new ways. Files that end in .json are
    /// inputs as softbpf fuzz writes them, others the bytes of packets or contexts
    #[arg(long, value_name = "DIR")]
    pub(crate) corpus: Option<PathBuf>,
    /// Most bytes of a packet
    #[arg(long, value_name = "N", default_value = "2048", value_parser = value_parser!(u32).range(0..=65535))]
    pub(crate) max_len: u32,
}

/// A time that ends.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=1e8).contains(&seconds) { Ok(seconds) } else { Err("it must be from 0 to 100000000".to_owned()) }
}
