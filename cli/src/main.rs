//! The command `softbpf`; see the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    softbpf_cli::main()
}
