//! softbpf behind the plugin protocol of the public bpf_conformance suite; see [`softbpf_conformance::plugin`].

use std::io::{Read, Write as _};
use std::process::ExitCode;

const USAGE: &str =
    "usage: bpf-conformance-plugin [\"hex memory\"] [--engine interpreter|jit|auto] [--program HEX] [--elf]

Runs a BPF program and prints r0 in hex. The program comes as hex bytes on standard input, or behind --program; with
--elf they are the bytes of an ELF file. r1 is the address of the memory and r2 its length, or both 0 without memory.
Helper 5 gives back its first argument. Shifts by immediates out of range are masked, as RFC 9669 has it.
";

/// Most bytes of standard input: the longest program has 8 MB, three characters a byte.
const MAX_INPUT: usize = 64 << 20;

/// A reader that may not give more than so many bytes.
struct Limited<R> {
    inner: R,
    left: usize,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let too_much = || std::io::Error::other(format!("more than {MAX_INPUT} bytes"));
        self.left = self.left.checked_sub(count).ok_or_else(too_much)?;
        Ok(count)
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    if args.iter().any(|arg| arg == "--help" || arg == "-h") {
        let _ = std::io::stdout().write_all(USAGE.as_bytes());
        return ExitCode::SUCCESS;
    }
    match softbpf_conformance::plugin::serve(args, Limited { inner: std::io::stdin(), left: MAX_INPUT }) {
        Ok(r0) if writeln!(std::io::stdout(), "{r0:x}").is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}
