//! `softbpf fuzz`: looks for inputs that make a program go wrong, or, in [`isa`], for programs that implementations
//! disagree about.
//!
//! How inputs are made and judged: [`softbpf_conformance::fuzz`]. Here are what the command line says of a campaign
//! ([`guided`]), the files that inputs are kept in ([`saved`]), the Rust tests that findings become ([`test`]), how
//! their files are named ([`files`]), and what is shown ([`render`]).

mod files;
mod guided;
mod isa;
mod render;
mod saved;
mod test;

pub(crate) use saved::Saved;

use crate::args::FuzzArgs;
use crate::error::CliError;
use crate::output::{Output, Status};

pub(crate) fn command(args: &FuzzArgs, output: &mut Output) -> Result<Status, CliError> {
    match args {
        FuzzArgs::Isa(args) => isa::command(args, output),
        FuzzArgs::Program(args) => guided::command(args, output),
    }
}
