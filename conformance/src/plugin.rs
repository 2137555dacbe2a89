//! The plugin protocol of the public bpf_conformance suite, from both sides.
//!
//! `PLUGIN ["hex memory"] [options] [--elf]`: the program comes as hex bytes on standard input (of an ELF file with
//! `--elf`); r1 is the address of the memory and r2 its length, or both 0. Out goes r0 in hex on standard output and
//! status 0, or a message on standard error and another status. [`Plugin`] drives one; [`serve`] is one.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use softbpf::check::{CheckErrorKind, OutOfRangeShifts, Rules};
use softbpf::context::Bytes;
use softbpf::{Config, Machine, Object};

use crate::case::{Case, End, Expect, Input, check_reason};
use crate::subject::{self, Answer, EngineSubject, MOCKED_HELPER, State, Subject};
use crate::{MakeEngine, UnknownEngine, engine_named};

/// RFC 9669 and the public suite mask shifts by immediates.
const MASK: Rules = Rules { out_of_range_shifts: OutOfRangeShifts::Mask };

/// How long a plugin may take for a case.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Another implementation, behind the plugin protocol.
#[derive(Debug, Clone)]
pub struct Plugin {
    path: PathBuf,
    options: Vec<String>,
}

impl Plugin {
    /// A plugin by path, with options that it is always given.
    pub fn new(path: impl Into<PathBuf>, options: Vec<String>) -> Plugin {
        Plugin { path: path.into(), options }
    }

    fn ask(&self, memory: &[u8], program: &[u8]) -> std::io::Result<Answer> {
        let mut command = Command::new(&self.path);
        if !memory.is_empty() {
            command.arg(spaced_hex(memory));
        }
        command.args(&self.options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let input = spaced_hex(program);
        let stdin = child.stdin.take();
        // A plugin that does not read all of it, or fails before, closes the pipe: no error of ours.
        let writer = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let reader = std::thread::spawn(move || read_some(stdout.as_mut()));
        let errors = std::thread::spawn(move || read_some(stderr.as_mut()));
        let start = Instant::now();
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => {
                    child.kill()?;
                    child.wait()?;
                    return Ok(Answer::Failed { message: format!("no answer in {} s", PATIENCE.as_secs()) });
                }
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        let _ = writer.join();
        let (stdout, stderr) = (reader.join().unwrap_or_default(), errors.join().unwrap_or_default());
        Ok(answer(status.success(), &stdout, &stderr))
    }
}

/// What a plugin wrote, up to a limit; the rest is read and dropped.
fn read_some(from: Option<&mut impl std::io::Read>) -> String {
    const LIMIT: u64 = 1 << 16;
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let _ = from.by_ref().take(LIMIT).read_to_end(&mut bytes);
        let _ = std::io::copy(from, &mut std::io::sink());
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

fn answer(success: bool, stdout: &str, stderr: &str) -> Answer {
    if !success {
        let message = if stderr.is_empty() { stdout } else { stderr };
        return Answer::Failed { message: message.to_owned() };
    }
    let digits = stdout.strip_prefix("0x").unwrap_or(stdout);
    match u64::from_str_radix(digits, 16) {
        Ok(r0) => Answer::Returned { r0, state: State::default() },
        Err(_) => Answer::Failed { message: format!("not a number in hex: {stdout:?}") },
    }
}

impl Subject for Plugin {
    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    fn run(&mut self, case: &Case) -> Answer {
        if let Some(why) = beyond_protocol(case) {
            return Answer::Skipped { why: why.to_owned() };
        }
        let Input::Memory(memory) = &case.input else { return Answer::Skipped { why: "needs a packet".into() } };
        match self.ask(memory, case.bytes()) {
            Ok(answer) => answer,
            Err(error) => Answer::Skipped { why: format!("cannot run {}: {error}", self.path.display()) },
        }
    }
}

/// What the case needs that the protocol has no words for.
fn beyond_protocol(case: &Case) -> Option<&'static str> {
    if matches!(case.input, Input::Packet(_)) {
        return Some("the plugin protocol has no packets");
    }
    if case.needs_program_array() {
        return Some("the plugin protocol has no maps");
    }
    if case.fuel.is_some() {
        return Some("the plugin protocol has no budget of instructions");
    }
    if case.calls_helpers() && !case.mock_helper_5 {
        return Some("the plugin protocol has no helpers of the kernel");
    }
    if matches!(&case.expect.end, End::Rejected(reason, _) if reason == check_reason(&LINUX_ONLY)) {
        return Some("Linux refuses what RFC 9669 masks: either is right");
    }
    if case.bytes().len() > MAX_PROGRAM {
        return Some("too long to be sent to plugins");
    }
    None
}

/// A rule of Linux that other implementations need not have: the one that [`Rules`] is about.
const LINUX_ONLY: CheckErrorKind = CheckErrorKind::ShiftOutOfRange { bits: 64, amount: 64 };

/// Longest program that plugins are given, in bytes.
const MAX_PROGRAM: usize = 1 << 20;

/// Bytes as the protocol has them: `b7 00`.
fn spaced_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        let _ = write!(text, "{byte:02x} ");
    }
    text
}

/// Why our plugin gives no result.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The command line is none of the protocol's.
    #[error("{0}")]
    Usage(String),
    /// Memory or program are not pairs of hex digits.
    #[error("{what} is not in hex: {found:?}")]
    NotHex {
        /// What it was to be.
        what: &'static str,
        /// Where it goes wrong.
        found: String,
    },
    /// The program cannot be read.
    #[error("the program cannot be read: {0}")]
    Input(#[from] std::io::Error),
    /// The ELF file cannot be used.
    #[error("{0}")]
    Elf(String),
    /// There is no such engine here.
    #[error(transparent)]
    Engine(#[from] UnknownEngine),
    /// It was rejected, or it ran into a trap.
    #[error("{0}")]
    Answer(Box<Answer>),
}

/// How our plugin was called.
#[derive(Debug, Default, PartialEq, Eq)]
struct Call {
    memory: Option<String>,
    program: Option<String>,
    engine: Option<String>,
    elf: bool,
}

impl Call {
    fn parse(args: impl IntoIterator<Item = String>) -> Result<Call, ServeError> {
        let mut call = Call::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
                _ => (arg, None),
            };
            let mut value = || {
                let missing = || ServeError::Usage(format!("{name} needs a value"));
                inline.clone().or_else(|| args.next()).ok_or_else(missing)
            };
            match name.as_str() {
                "--elf" => call.elf = true,
                "--engine" => call.engine = Some(value()?),
                "--program" => call.program = Some(value()?),
                _ if name.starts_with('-') => return Err(ServeError::Usage(format!("unknown option {name}"))),
                _ if call.memory.is_some() => {
                    return Err(ServeError::Usage(format!("one argument too many: {name:?}")));
                }
                _ => call.memory = Some(name),
            }
        }
        Ok(call)
    }
}

/// What our plugin does: runs the program that the arguments and `input` give, and returns r0.
///
/// # Errors
/// There is nothing to run, or it did not return.
pub fn serve(args: impl IntoIterator<Item = String>, input: impl std::io::Read) -> Result<u64, ServeError> {
    let call = Call::parse(args)?;
    let engine = engine_named(call.engine.as_deref().unwrap_or("interpreter"))?;
    let memory = unhex("the memory", call.memory.as_deref().unwrap_or_default())?;
    let program = match &call.program {
        Some(program) => program.clone(),
        None => std::io::read_to_string(input)?,
    };
    let program = unhex("the program", &program)?;
    let answer = if call.elf {
        run_elf(engine, &program, &memory)?
    } else {
        EngineSubject::new(engine).run(&case(program, memory))
    };
    match answer {
        Answer::Returned { r0, .. } => Ok(r0),
        Answer::Trapped { .. } | Answer::Rejected { .. } | Answer::Failed { .. } | Answer::Skipped { .. } => {
            Err(ServeError::Answer(Box::new(answer)))
        }
    }
}

/// A program of the public suite.
fn case(program: Vec<u8>, memory: Vec<u8>) -> Case {
    Case {
        file: String::new(),
        line: 0,
        title: String::new(),
        programs: vec![("main".to_owned(), program)],
        input: Input::Memory(memory),
        rules: MASK,
        mock_helper_5: true,
        fuel: None,
        expect: Expect { end: End::Fails, after: None, instructions: None },
    }
}

/// Runs the first program of an ELF file, with the maps of the file.
fn run_elf(engine: MakeEngine, bytes: &[u8], memory: &[u8]) -> Result<Answer, ServeError> {
    let elf = |error: &dyn std::fmt::Display| ServeError::Elf(error.to_string());
    let object = Object::parse(bytes).map_err(|error| elf(&error))?;
    let (Some(info), Some(code)) = (object.programs().next(), object.code_at(0)) else {
        return Err(elf(&"the file has no program"));
    };
    let name = info.name.clone();
    let program = match subject::check(info.clone(), code.map_err(|error| elf(&error))?, MASK) {
        Ok(program) => program.with_externs(object.externs().into()),
        Err(answer) => return Ok(answer),
    };
    let object = Object::from_programs(vec![program], object.maps().to_vec());
    let mut vm =
        Machine::with_config(&object, Config { engine: engine(), ..Config::default() }).map_err(|error| elf(&error))?;
    vm.mock(MOCKED_HELPER, |call| call.arg(0)).map_err(|error| elf(&error))?;
    Ok(subject::answer(vm.run(&name, Bytes(memory))))
}

/// Pairs of hex digits, with blanks between bytes or without.
fn unhex(what: &'static str, text: &str) -> Result<Vec<u8>, ServeError> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        let error = || ServeError::NotHex { what, found: word.chars().take(16).collect() };
        bytes.extend(crate::vectors::hex(word).ok_or_else(error)?);
    }
    Ok(bytes)
}
