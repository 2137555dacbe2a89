//! rbpf behind the plugin protocol of the public bpf_conformance suite, for `softbpf conform --plugin` and
//! `softbpf fuzz isa --against`: `rbpf_plugin ["hex memory"] [--jit | --cranelift]`, the program as hex on standard input.
//!
//! `r1` is the address of the memory; rbpf does not set `r2`. Helper 5 gives back its first argument.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use rbpf::EbpfVmRaw;

/// The helper that plugins of the public suite provide.
const HELPER: u32 = 5;

fn helper(first: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    first
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Interpreter,
    Jit,
    Cranelift,
}

fn main() -> ExitCode {
    match run() {
        Ok(r0) if writeln!(io::stdout(), "{r0:x}").is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            // Nothing else to do when that fails.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<u64, String> {
    let (mut mode, mut memory) = (Mode::Interpreter, Vec::new());
    for arg in std::env::args().skip(1) {
        match arg.as_str() {
            "--jit" => mode = Mode::Jit,
            "--cranelift" => mode = Mode::Cranelift,
            _ => memory = unhex(&arg)?,
        }
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map_err(|error| error.to_string())?;
    let program = unhex(&text)?;
    let mut vm = EbpfVmRaw::new(Some(&program)).map_err(|error| error.to_string())?;
    vm.register_helper(HELPER, helper).map_err(|error| error.to_string())?;
    let r0 = match mode {
        Mode::Interpreter => vm.execute_program(&mut memory),
        Mode::Jit => {
            vm.jit_compile().map_err(|error| error.to_string())?;
            // SAFETY: it is not known to hold: what the code accesses is what the program says. This process does nothing
            // else, and whoever runs it is told when it dies.
            unsafe { vm.execute_program_jit(&mut memory) }
        }
        Mode::Cranelift => {
            vm.cranelift_compile().map_err(|error| error.to_string())?;
            vm.execute_program_cranelift(&mut memory)
        }
    };
    r0.map_err(|error| error.to_string())
}

/// Pairs of hex digits, with blanks between bytes or without.
fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| {
        let text: String = pair.iter().collect();
        u8::from_str_radix(&text, 16).map_err(|error| format!("{text:?} is not in hex: {error}"))
    };
    digits.chunks(2).map(byte).collect()
}
