//! The command without a process: arguments and standard input in, all that it says out. For fuzzers and tests.
//!
//! What would read or write files, start processes, or take long, is parsed and goes no further. It does not know a fuzzer;
//! `fuzz/fuzz_targets/command.rs` is the target.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;
use std::rc::Rc;

use clap::{CommandFactory as _, Parser as _};
use softbpf_conformance::targets::{Target, Word, dictionary};
use softbpf_conformance::{fixture_files, targets};

use crate::args::{Args, AsmArgs, Command, DisasmArgs, RunArgs};
use crate::error::CliError;
use crate::output::{Output, Status};
use crate::{command, finish, input};

/// Most instructions of a run, most runs, and most elements of a map that are shown.
const FUEL: u64 = 10_000;
const RUNS: u64 = 4;
const ENTRIES: usize = 64;

/// Longest standard input of a seed, so that fuzzers go on with short ones.
const SEED_BYTES: usize = 16 << 10;

/// What a command line came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The exit status.
    pub status: u8,
    /// Standard output, without colours.
    pub out: Vec<u8>,
    /// Standard error, without colours.
    pub err: Vec<u8>,
}

/// The command with these arguments (without its name), where `-` is this standard input; `None` where it would do more
/// than read that and compute for a moment.
pub fn main_with(args: &[&str], standard_input: &[u8]) -> Option<Answer> {
    let (out, err) = (Kept::default(), Kept::default());
    let mut output = Output::to(out.stripped(), err.stripped());
    let status = match Args::try_parse_from(["softbpf"].iter().chain(args)) {
        Ok(mut args) => {
            if !is_harmless(&mut args.command) {
                return None;
            }
            input::with_standard_input(standard_input, || command(&args.command, &mut output))
        }
        Err(error) => Err(CliError::Usage(error)),
    };
    let status = finish(status, &mut output);
    drop(output);
    Some(Answer { status: number(status), out: out.take(), err: err.take() })
}

fn number(status: Status) -> u8 {
    match status {
        Status::Done => 0,
        Status::Trapped | Status::Failed => 1,
        Status::Refused => 2,
    }
}

/// Whether a command reads nothing but standard input and writes nothing but its output. One that may take long is cut
/// short.
fn is_harmless(command: &mut Command) -> bool {
    let is_input = |path: &Path| path == Path::new("-");
    match command {
        Command::Run(args) => {
            let RunArgs { program, context, setup, perf, repeat, entries, input, .. } = &mut **args;
            setup.fuel = Some(setup.fuel.unwrap_or(FUEL).min(FUEL));
            *repeat = (*repeat).min(RUNS);
            *entries = (*entries).min(ENTRIES);
            let files = context.ctx_file.is_some() || context.packet_file.is_some() || input.is_some();
            is_input(&program.object) && !files && perf.is_none()
        }
        Command::Show(args) => is_input(&args.object),
        Command::Disasm(DisasmArgs { object, .. }) => is_input(object),
        Command::Asm(AsmArgs { file, output }) => is_input(file) && output.is_none(),
        Command::Bench(_) | Command::Conform(_) | Command::Fuzz(_) => false,
    }
}

/// Bytes that are written to, and read when all has been said.
#[derive(Debug, Clone, Default)]
struct Kept(Rc<RefCell<Vec<u8>>>);

impl Kept {
    fn stripped(&self) -> impl Write + 'static {
        anstream::StripStream::new(Box::new(self.clone()) as Box<dyn Write>)
    }

    fn take(&self) -> Vec<u8> {
        self.0.take()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The fuzz target: arguments, one a line; behind an empty line, standard input.
pub const TARGET: Target = Target { name: "command", run, seeds, words };

/// Runs the command line that the bytes are.
///
/// # Panics
/// It answers with a status that is none, or refuses without a word.
pub fn run(bytes: &[u8]) {
    let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (args, standard_input) = (&bytes[..end], bytes.get(end + 2..).unwrap_or_default());
    let Ok(args) = std::str::from_utf8(args) else { return };
    let args: Vec<&str> = args.lines().collect();
    if let Some(answer) = main_with(&args, standard_input) {
        assert!(answer.status <= 2 && (answer.status != 2 || !answer.err.is_empty()), "{answer:?}");
    }
}

/// Arguments of seeds, with every object and every text.
const COMMANDS: [&str; 9] = [
    "run\n-\n--json",
    "run\n-\n--type\nxdp\n--packet\n00112233445566778899aabb0800\n--trace",
    "run\n-\n--ctx\nparm1=1,ip=0x1000\n--pid\n7\n--comm\nsh\n--fuel\n100\n--repeat\n2\n--strict",
    "run\n-\n--create\nmy_map=hash:4:8:2\n--map\nmy_map=1:2\n--mock\nktime_get_ns=5\n--mem\n0x100000000=0011",
    "show\n-\n--json",
    "show\n-",
    "disasm\n-\n--raw",
    "disasm\n-\n--style\nxlated\n--linked\n--json",
    "disasm\n-\n--jited\n--raw",
];

/// Command lines on the fixtures and on text, and some that are wrong.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = fixture_files().into_iter().filter_map(|path| std::fs::read(path).ok()).collect();
    inputs.retain(|input| input.len() <= SEED_BYTES);
    inputs.push(b"r1 = my_map ll\nr2 = r10\nr2 += -4\n*(u32 *)(r2 + 0) = 1\ncall map_lookup_elem\nexit\n".to_vec());
    inputs.push(targets::decode::seeds().concat());
    let seed = |command: &str, input: &[u8]| [command.as_bytes(), b"\n\n", input].concat();
    let mut seeds: Vec<Vec<u8>> =
        inputs.iter().flat_map(|input| COMMANDS.map(|command| seed(command, input))).collect();
    let others =
        ["--help", "run\n--help", "--version", "asm\n-", "bench\n-\n--seconds\n1", "conform\n--group\nbase32", "nope"];
    seeds.extend(others.map(|command| seed(command, b"r0 = 1\nexit\n")));
    seeds
}

/// The command line's own words: commands, options, values that are one of a few; and helpers' names.
pub fn words() -> Vec<Word> {
    let mut words = vec![Word::text("\n"), Word::text("\n-\n"), Word::text("=0x"), Word::text(",")];
    let mut root = Args::command();
    root.build();
    let mut waiting = vec![&root];
    while let Some(command) = waiting.pop() {
        words.push(Word::text(command.get_name()));
        for arg in command.get_arguments() {
            words.extend(arg.get_long().map(|long| Word::text(&format!("--{long}"))));
            words.extend(arg.get_possible_values().iter().map(|value| Word::text(value.get_name())));
        }
        waiting.extend(command.get_subcommands());
    }
    dictionary::distinct(words.into_iter())
}
