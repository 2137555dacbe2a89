//! The plugin protocol of the public bpf_conformance suite, from both sides.
//!
//! `PLUGIN ["hex memory"] [options] [--elf]`: the program comes as hex bytes on standard input (of an ELF file with
//! `--elf`); r1 is the address of the memory and r2 its length, or both 0. Out goes r0 in hex on standard output and
//! status 0, or a message on standard error and another status. [`Plugin`] drives one; [`serve`] is one.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::num::NonZero;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use softbpf::check::{CheckErrorKind, OutOfRangeShifts, Rules};
use softbpf::context::Bytes;
use softbpf::{Config, Machine, Object};

use crate::case::{Case, End, Expect, Input, check_reason};
use crate::report::{CaseResult, Report};
use crate::subject::{self, Answer, EngineSubject, MOCKED_HELPER, State, Subject};
use crate::verdict::{compare, judge};
use crate::{MakeEngine, UnknownEngine, engine_named};

/// RFC 9669 and the public suite mask shifts by immediates.
pub(crate) const MASK: Rules = Rules { out_of_range_shifts: OutOfRangeShifts::Mask };

/// How long a plugin may take for a case.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Cases in a row that a plugin may leave without an answer.
pub const MAX_LATE: u32 = 5;

/// How long what a plugin wrote may at least take to reach us when it ended just in time.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Another implementation, behind the plugin protocol.
#[derive(Debug, Clone)]
pub struct Plugin {
    path: PathBuf,
    options: Vec<String>,
    timeout: Duration,
}

impl Plugin {
    /// A plugin by path, with options that it is always given.
    pub fn new(path: impl Into<PathBuf>, options: Vec<String>) -> Plugin {
        Plugin { path: path.into(), options, timeout: PATIENCE }
    }

    /// After which time it gives up on a case.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Gives up on a case after `timeout`, not after [`PATIENCE`].
    pub fn with_timeout(self, timeout: Duration) -> Plugin {
        Plugin { timeout, ..self }
    }

    fn ask(&self, memory: &[u8], program: &[u8]) -> io::Result<Reply> {
        let mut command = Command::new(&self.path);
        if !memory.is_empty() {
            command.arg(spaced_hex(memory));
        }
        command.args(&self.options).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = group::spawn(&mut command)?;
        outlived::limit(&child, self.timeout);
        let deadline = Instant::now() + self.timeout;
        // None of these threads is joined: something that left the group may hold the pipe open for ever.
        let (input, stdin) = (spaced_hex(program), child.stdin.take());
        // A plugin that does not read all of it, or fails before, closes the pipe: no error of ours.
        std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        let (stdout, stderr) = (read_some(child.stdout.take()), read_some(child.stderr.take()));
        let Some(status) = finish(&mut child, deadline)? else { return Ok(Reply::Late) };
        let text = |pipe: Receiver<String>| {
            let left = deadline.saturating_duration_since(Instant::now());
            pipe.recv_timeout(left.max(LAST_WORDS)).ok()
        };
        match (text(stdout), text(stderr)) {
            (Some(stdout), Some(stderr)) => Ok(Reply::Ended { status, stdout, stderr }),
            (None, _) | (_, None) => Ok(Reply::Late),
        }
    }

    fn try_run(&self, case: &Case) -> Result<Outcome, PluginError> {
        if let Some(why) = beyond_protocol(case) {
            return Ok(Outcome::Skipped(why));
        }
        let Input::Memory(memory) = &case.input else { return Ok(Outcome::Skipped("needs a packet")) };
        match self.ask(memory, case.bytes()) {
            Ok(reply) => Ok(Outcome::Reply(reply)),
            Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong => {
                Ok(Outcome::Skipped("its memory is too long to be an argument"))
            }
            // The system says that we may not.
            Err(_) if self.path.is_dir() => Err(self.cannot_run(io::ErrorKind::IsADirectory.into())),
            Err(error) => Err(self.cannot_run(error)),
        }
    }

    /// Runs a case, and tells an answer that does not come in time from others.
    ///
    /// # Errors
    /// The plugin cannot be run.
    pub fn ask_case(&self, case: &Case) -> Result<Asked, PluginError> {
        let outcome = self.try_run(case)?;
        Ok(Asked { late: matches!(outcome, Outcome::Reply(Reply::Late)), answer: self.answer(outcome) })
    }

    fn cannot_run(&self, source: io::Error) -> PluginError {
        PluginError::CannotRun { path: self.path.clone(), source }
    }

    fn answer(&self, outcome: Outcome) -> Answer {
        match outcome {
            Outcome::Skipped(why) => Answer::Skipped { why: why.to_owned() },
            Outcome::Reply(Reply::Ended { status, stdout, stderr }) => answer(status, &stdout, &stderr),
            Outcome::Reply(Reply::Late) => {
                Answer::Crashed { message: format!("no answer within {} s", self.timeout.as_secs_f64()) }
            }
        }
    }

    /// Runs all cases, `jobs` at a time, calling `progress` after each; the report does not depend on `jobs`.
    ///
    /// # Errors
    /// The plugin cannot be run, or it does not answer time after time. By the first case, in order, that shows it.
    pub fn run_all<'s>(
        &self,
        cases: &'s [Case],
        jobs: NonZero<usize>,
        mut oracle: Option<&mut dyn Subject>,
        progress: impl FnMut(),
    ) -> Result<Report<'s>, PluginError> {
        let answers = self.answers(cases, jobs, progress)?;
        let results = cases.iter().zip(answers).map(|(case, answer)| {
            let oracle = oracle.as_mut().map(|oracle| compare(&oracle.run(case), &answer));
            CaseResult { case, group: case.group(), verdict: judge(case, &answer), oracle }
        });
        Ok(Report { results: results.collect(), subject: self.name() })
    }

    fn answers(
        &self,
        cases: &[Case],
        jobs: NonZero<usize>,
        mut progress: impl FnMut(),
    ) -> Result<Vec<Answer>, PluginError> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let (sender, receiver) = mpsc::channel();
            for _ in 0..jobs.get().min(cases.len()) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(case) = cases.get(at) else { break };
                        // Nobody receives any more after an error.
                        if sender.send((at, self.try_run(case))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(sender);
            let mut early = BTreeMap::new();
            let mut answers = Vec::with_capacity(cases.len());
            let mut late = 0;
            for (at, outcome) in receiver {
                progress();
                early.insert(at, outcome);
                // In the order of the cases, so that it is always the same one that ends it all.
                while let Some(outcome) = early.remove(&answers.len()) {
                    let outcome = outcome?;
                    match &outcome {
                        Outcome::Reply(Reply::Late) => late += 1,
                        Outcome::Reply(Reply::Ended { .. }) => late = 0,
                        Outcome::Skipped(_) => {}
                    }
                    if late == MAX_LATE {
                        return Err(PluginError::NeverAnswers { path: self.path.clone(), timeout: self.timeout });
                    }
                    answers.push(self.answer(outcome));
                }
            }
            Ok(answers)
        })
    }
}

/// Why a plugin cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The system does not run it.
    #[error("cannot run {}: {source}", path.display())]
    CannotRun {
        /// The plugin.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It ran out of time over and over.
    #[error(
        "{} gave no answer within {} s for {MAX_LATE} cases in a row; giving up",
        path.display(),
        timeout.as_secs_f64()
    )]
    NeverAnswers {
        /// The plugin.
        path: PathBuf,
        /// The time that each case had.
        timeout: Duration,
    },
}

/// What a plugin said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The answer.
    pub answer: Answer,
    /// There is none, since it did not come in time; [`Asked::answer`] says so.
    pub late: bool,
}

/// What became of a case.
enum Outcome {
    Reply(Reply),
    Skipped(&'static str),
}

/// What came of a call.
enum Reply {
    /// It ended, and so did its output.
    Ended { status: ExitStatus, stdout: String, stderr: String },
    /// It did not in time.
    Late,
}

/// Waits for the child until `deadline`, then ends whatever is left of its group; `None` when the child was.
fn finish(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let ended = loop {
        match group::leader_ended(child) {
            Ok(false) if Instant::now() < deadline => std::thread::sleep(Duration::from_micros(200)),
            ended => break ended,
        }
    };
    group::kill(child);
    let status = child.wait()?;
    Ok(ended?.then_some(status))
}

/// A child with a process group of its own, so that what it starts can be ended with it.
#[cfg(unix)]
mod group {
    use std::io;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Child, Command};

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

    pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
        command.process_group(0).spawn()
    }

    /// Whether the child ended. It is not reaped: until it is, nobody else can get the number of the group.
    pub(super) fn leader_ended(child: &mut Child) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        Ok(waitid(WaitId::Pid(Pid::from_child(child)), options)?.is_some())
    }

    pub(super) fn kill(child: &mut Child) {
        // It fails when nobody is left in the group.
        let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    }
}

/// Where there are no process groups: the child alone.
#[cfg(not(unix))]
mod group {
    use std::io;
    use std::process::{Child, Command};

    pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
        command.spawn()
    }

    pub(super) fn leader_ended(child: &mut Child) -> io::Result<bool> {
        Ok(child.try_wait()?.is_some())
    }

    pub(super) fn kill(child: &mut Child) {
        // It fails when the child has ended.
        let _ = child.kill();
    }
}

/// A plugin that hangs when this process is killed, which kills no other process group. A signal at a parent's death would
/// need unsafe code between fork and exec, so it is processor time that ends it: as much as it can use until its time is up,
/// on all CPUs at once. What only waits is not ended; what reads or writes finds its pipes closed.
#[cfg(target_os = "linux")]
mod outlived {
    use std::num::NonZero;
    use std::process::Child;
    use std::thread::available_parallelism;
    use std::time::Duration;

    use rustix::process::{Pid, Resource, Rlimit, prlimit};

    pub(super) fn limit(child: &Child, timeout: Duration) {
        let cpus = available_parallelism().map_or(1, NonZero::get) as u64;
        let seconds = Some(timeout.as_secs().saturating_add(2).saturating_mul(cpus));
        // It fails when the child has ended, or has a lower limit already.
        let _ = prlimit(Some(Pid::from_child(child)), Resource::Cpu, Rlimit { current: seconds, maximum: seconds });
    }
}

/// Where nobody can limit another process.
#[cfg(not(target_os = "linux"))]
mod outlived {
    pub(super) fn limit(_: &std::process::Child, _: std::time::Duration) {}
}

/// What a plugin wrote, up to a limit, once the pipe is closed; the rest is read and dropped.
fn read_some(from: Option<impl io::Read + Send + 'static>) -> Receiver<String> {
    const LIMIT: u64 = 1 << 16;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = from.by_ref().take(LIMIT).read_to_end(&mut bytes);
            let _ = io::copy(&mut from, &mut io::sink());
        }
        // Nobody listens any more after the timeout.
        let _ = sender.send(String::from_utf8_lossy(&bytes).trim().to_owned());
    });
    receiver
}

fn answer(status: ExitStatus, stdout: &str, stderr: &str) -> Answer {
    if let Some(signal) = signal(status) {
        let colon = if stderr.is_empty() { "" } else { ": " };
        return Answer::Crashed { message: format!("signal {signal}{colon}{stderr}") };
    }
    if !status.success() {
        let number = || status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"));
        return Answer::Failed { message: if stderr.is_empty() { number() } else { stderr.to_owned() } };
    }
    let digits = stdout.strip_prefix("0x").unwrap_or(stdout);
    match u64::from_str_radix(digits, 16) {
        Ok(r0) => Answer::Returned { r0, state: State::default() },
        Err(_) => Answer::Failed { message: format!("not a number in hex: {stdout:?}") },
    }
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}

impl Subject for Plugin {
    fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    fn run(&mut self, case: &Case) -> Answer {
        match self.try_run(case) {
            Ok(outcome) => self.answer(outcome),
            Err(error) => Answer::Crashed { message: error.to_string() },
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
        Answer::Trapped { .. }
        | Answer::Rejected { .. }
        | Answer::Failed { .. }
        | Answer::Crashed { .. }
        | Answer::Skipped { .. } => Err(ServeError::Answer(Box::new(answer))),
    }
}

/// A program of the public suite.
pub(crate) fn case(program: Vec<u8>, memory: Vec<u8>) -> Case {
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
