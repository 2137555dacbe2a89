//! The options of `softbpf bench`.

use std::path::PathBuf;

use clap::Args;

use super::run::{EngineChoice, ProgramArgs, SetupArgs};
use super::values::Field;
use crate::literal::Hex;

/// Medians of times, the interpreter's and the JIT's, in rounds: a sample of each in turn.
///
/// A sample is a machine of its own, with maps as they are at first, that runs the program once unmeasured and then many
/// times on one context; the least of up to 100 short measurements counts. As with the kernel's BPF_PROG_TEST_RUN, context,
/// packet and maps keep what a run changes for the next one. A compilation is all that the JIT does for a program: it
/// proves accesses, makes the code, and puts it into executable memory; making and dropping the engine is part of it.
///
/// A change is the quotient of the times now and in the baseline: the Hodges-Lehmann estimate, with the interval of 99%
/// that belongs to the Mann-Whitney test, both of ten stretches of time. It is significant when the whole interval is on
/// one side of no change, and the change is at least 5% and more than the spread. Samples know nothing of what else the
/// machine did while others were taken: for a fair comparison, take both on the same machine, doing nothing else.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) program: ProgramArgs,
    #[command(flatten)]
    pub(crate) inputs: InputArgs,
    #[command(flatten)]
    pub(crate) setup: SetupArgs,
    /// What runs the program [default: interpreter and JIT in turns]
    #[arg(long, value_enum)]
    pub(crate) engine: Option<EngineChoice>,
    /// How long to measure, all in all; at least seven samples of everything are taken
    #[arg(long, value_name = "S", default_value = "4", value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Write the samples to this file, a baseline for later
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// Compare with the samples in this file
    #[arg(long, value_name = "FILE")]
    pub(crate) baseline: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// What the program is called with: each one an input with rows of its own.
#[derive(Debug, Args)]
#[command(next_help_heading = "Context")]
pub(crate) struct InputArgs {
    /// Set fields of every context, as for softbpf run
    #[arg(long = "ctx", value_name = "FIELD=VALUE", value_delimiter = ',')]
    pub(crate) fields: Vec<Field>,
    /// A context's bytes; may be repeated
    #[arg(long, value_name = "HEX", conflicts_with_all = ["fields", "packet", "packet_file"])]
    pub(crate) ctx_hex: Vec<Hex>,
    /// A file with a context's bytes; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fields", "packet", "packet_file"])]
    pub(crate) ctx_file: Vec<PathBuf>,
    /// A packet's bytes, from the Ethernet header on; may be repeated
    #[arg(long, value_name = "HEX")]
    pub(crate) packet: Vec<Hex>,
    /// A file with a packet's bytes; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) packet_file: Vec<PathBuf>,
}

/// A time that is worth measuring for, and that ends.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.0..=86_400.0).contains(&seconds) { Ok(seconds) } else { Err("it must be from 0 to 86400".to_owned()) }
}
