//! The command `softbpf`: runs, shows, disassembles and assembles BPF programs.
//!
//! Only this crate renders sentences; what the library says is typed. Nothing here touches guest memory, decodes an
//! instruction or knows how a program is executed.
//!
//! Where to look next: `args.rs` (the command line), `input.rs` (files to objects), one file or folder for each
//! command, `render/` (what a run leaves, for people), `json.rs` (the same for programs), `progress.rs` (how far it is),
//! `harness.rs` (the command without a process, for fuzzers and tests).

mod args;
mod asm;
mod bench;
mod conform;
mod disasm;
mod elf;
mod error;
mod fuzz;
pub mod harness;
mod input;
mod jited;
mod json;
mod literal;
mod output;
mod progress;
mod render;
mod run;
mod show;
mod signature;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use error::CliError;
use output::{Output, Status};

/// The command, on the arguments, streams and files of this process; its exit status.
pub fn main() -> ExitCode {
    let mut output = Output::new();
    let status = match Args::try_parse() {
        Ok(args) => command(&args.command, &mut output),
        Err(error) => Err(CliError::Usage(error)),
    };
    finish(status, &mut output).into()
}

/// Writes out what was said, or what went wrong.
fn finish(status: Result<Status, CliError>, output: &mut Output) -> Status {
    let status = status.and_then(|status| Ok(output.flush().map(|()| status)?));
    status.unwrap_or_else(|error| error::report(&error, output))
}

fn command(command: &Command, output: &mut Output) -> Result<Status, CliError> {
    match command {
        Command::Run(args) => run::command(args, output),
        Command::Show(args) => show::command(args, output),
        Command::Disasm(args) => disasm::command(args, output),
        Command::Asm(args) => asm::command(args, output),
        Command::Bench(args) => bench::command(args, output),
        Command::Conform(args) => conform::command(args, output),
        Command::Fuzz(args) => fuzz::command(args, output),
    }
}
