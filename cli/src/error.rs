//! What stops the command before or instead of a run, and how it says so.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;

use softbpf::errno::Errno;
use softbpf::helpers::UnknownHelper;
use softbpf::machine::{LoadError, NoSuchMap, RunError, TailCallError};
use softbpf::maps::MapAccessError;
use softbpf::object::ObjectError;
use softbpf::program::ProgramError;
use softbpf::program_type::ProgramType;
use softbpf::text::parse::{ParseError, UnknownSymbol};

use crate::literal::LiteralError;
use crate::output::{Output, Status};
use crate::render::{bytes, plural, style};

/// Why the command refuses. The message is for people; the values are in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    #[error(transparent)]
    Usage(clap::Error),
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{file}: {source}")]
    Read { file: String, source: io::Error },
    #[error("fuzz takes no object from standard input: what it finds is replayed from the object's file")]
    FuzzedStandardInput,
    #[error("{file} has more than {limit} bytes")]
    TooLarge { file: String, limit: u64 },
    #[error("{file}: not an ELF file; name assembly text .s, .asm or .txt and raw bytecode .bin")]
    UnknownFormat { file: String },
    #[error("{file}: {source}")]
    Object { file: String, source: ObjectError },
    #[error("{file}: the symbols of the ELF file cannot be read: {source}")]
    Symbols { file: String, source: object::read::Error },
    #[error("{file}: not text: byte {offset} is no UTF-8")]
    NotText { file: String, offset: usize },
    #[error("{}", source.kind)]
    Assembly { file: String, text: String, source: Box<ParseError> },
    #[error("{file}: {source}")]
    Symbol { file: String, source: UnknownSymbol },
    #[error("{file}: instruction at slot {slot}: {kind}")]
    Encode { file: String, slot: usize, kind: softbpf::codec::EncodeErrorKind },
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error("the object has no programs")]
    NoPrograms,
    #[error("which program? There are: {}", known.join(", "))]
    WhichProgram { known: Vec<String> },
    #[error("there is no program {name}; there are: {}", known.join(", "))]
    NoSuchProgram { name: String, known: Vec<String> },
    #[error("there is no program type {name}; there are: {}", known.join(", "))]
    NoSuchType { name: String, known: Vec<&'static str> },
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Engine(#[from] softbpf_jit::Unavailable),
    #[error("--perf: the interpreter has no code that perf could name")]
    PerfOfInterpreter,
    #[error(
        "this host grants a program less than the 4 GiB of addresses that the JIT needs (see ulimit -v); use --engine interpreter"
    )]
    SmallMemory,
    #[error(
        "--engine jit: fuzz follows the ways through a program, which only the interpreter shows; softbpf run --input FILE --engine jit runs its findings on the JIT"
    )]
    FuzzOnJit,
    #[error("--perf-dir: perf looks for the map in /tmp and nowhere else; the folder is that of --perf jitdump")]
    FolderOfMap,
    #[error("program {program}: the JIT makes no code of it; the interpreter runs it")]
    NotCompiled { program: String },
    #[error(transparent)]
    UnknownEngine(#[from] softbpf_conformance::UnknownEngine),
    #[error("--oracle kernel: {0}")]
    Kernel(softbpf_conformance::kernel::NotPermitted),
    #[error(transparent)]
    Campaign(Box<softbpf_conformance::fuzz::isa::CampaignError>),
    #[error("no conformance case is left")]
    NoCases,
    #[error(transparent)]
    NoSuchMap(#[from] NoSuchMap),
    #[error(transparent)]
    Map(#[from] MapAccessError),
    #[error("map {map} has {entries} at most: {errno}", entries = plural((*max_entries).into(), "element"))]
    Full { map: String, max_entries: u32, errno: Errno },
    #[error(transparent)]
    TailCall(#[from] TailCallError),
    #[error("{what} for map {map}: {source}")]
    MapLiteral { map: String, what: &'static str, source: LiteralError },
    #[error("no field {name} in the context of {program_type} programs; there are: {}", fields.join(", "))]
    NoSuchField { program_type: ProgramType, name: String, fields: Vec<String> },
    #[error("the context of {program_type} programs has no fields here: give its bytes by --ctx-hex or --ctx-file")]
    NoFields { program_type: ProgramType },
    #[error("field {name}: {value} does not fit into {size} bytes")]
    FieldTooLarge { name: String, value: u64, size: u32 },
    #[error("{program_type} programs take no packet")]
    NoPacket { program_type: ProgramType },
    #[error("there is no variable {name}; there are: {}", none_or(known))]
    NoSuchVariable { name: String, known: Vec<String> },
    #[error("variable {name}: {source}")]
    VariableLiteral { name: String, source: LiteralError },
    #[error("variable {name}: bytes {offset} to {end} lie outside of {section}, which has {size}")]
    OutsideSection { name: String, section: Arc<str>, offset: u64, end: u64, size: usize },
    #[error("--mem: {} cannot be placed at {addr:#x}: addresses must be free and at least 2^32", bytes(*size))]
    Memory { addr: u64, size: u64 },
    #[error("--mock: {0}; write one of the kernel's names, or a number")]
    Helper(#[from] UnknownHelper),
    #[error("CPU {cpu} of --cpu is not one of the {cpus} that the machine has (--cpus)")]
    NoSuchCpu { cpu: u32, cpus: u32 },
    #[error("{file}: no baseline that softbpf bench --save has written")]
    NoBaseline { file: String },
    #[error("{file}: no input that softbpf fuzz has written: {problem}")]
    NoInput { file: String, problem: String },
    #[error("{file}: {program_type} programs take {taken}, not {given}")]
    OtherInput { file: String, program_type: ProgramType, taken: &'static str, given: &'static str },
    #[error(transparent)]
    Prepare(#[from] softbpf_conformance::fuzz::guided::input::PrepareError),
    #[error(transparent)]
    Target(#[from] softbpf_conformance::fuzz::guided::TargetError),
    #[error("--expect: {0}")]
    Expectation(softbpf_conformance::fuzz::guided::expect::ExpectationError),
    #[error("{name} is an input twice")]
    SameInput { name: String },
    #[error("--repeat: a program runs at least once")]
    NoRuns,
    #[error("{file}: --create is for assembly text; this object has maps of its own, or cannot name any")]
    MapsOfTheirOwn { file: String },
}

fn none_or(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Says what is wrong, on standard error; the exit status.
///
/// Help and version are asked for by way of an error too, and go to standard output.
pub(crate) fn report(error: &CliError, output: &mut Output) -> Status {
    let (status, written) = if let CliError::Usage(usage) = error
        && !usage.use_stderr()
    {
        (Status::Done, write!(output.out, "{}", usage.render().ansi()))
    } else {
        (Status::Refused, refusal(error, output))
    };
    // Nobody is left to hear of a failure to write these; the status tells.
    if written.and_then(|()| output.flush()).is_err() { Status::Refused } else { status }
}

fn refusal(error: &CliError, output: &mut Output) -> io::Result<()> {
    if let CliError::Usage(usage) = error {
        write!(output.err, "{}", usage.render().ansi())
    } else if let CliError::Assembly { file, text, source } = error {
        assembly(file, text, source, output)
    } else {
        writeln!(output.err, "{} {error}", style::error("error:"))
    }
}

/// An error in assembly text, with the line and a caret under the place.
fn assembly(file: &str, text: &str, error: &ParseError, output: &mut Output) -> io::Result<()> {
    let line = text.lines().nth(error.line.saturating_sub(1)).unwrap_or_default();
    writeln!(output.err, "{} {}", style::error("error:"), error.kind)?;
    let place = format!("{file}:{}:{}", error.line, error.column);
    crate::render::excerpt(&mut output.err, &place, error.line, line, error.column)
}
