//! Files to objects: what OBJECT on the command line may be.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use softbpf::Object;
use softbpf::helpers::table;
use softbpf::map_spec::MapSpec;
use softbpf::object::{AssemblyError, MAIN};
use softbpf::program_type::ProgramType;
use softbpf::text::parse::{Assembly, parse_with};

use crate::error::CliError;

/// Larger files are refused before they fill the memory.
const MAX_FILE: u64 = 1 << 28;

const ELF_MAGIC: &[u8] = b"\x7fELF";

/// What a file is, as its name or its first bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Elf,
    Assembly,
    Bytecode,
}

/// A file that is an object.
pub(crate) struct Input {
    /// The file's name as it was given; `<stdin>` for `-`.
    pub(crate) file: String,
    pub(crate) format: Format,
    pub(crate) bytes: Vec<u8>,
    pub(crate) object: Object,
}

/// The name for messages.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".to_owned() } else { path.display().to_string() }
}

thread_local! {
    /// What `-` stands for in place of the process's standard input.
    static STANDARD_INPUT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Makes `-` stand for these bytes, on this thread, while `body` runs.
pub(crate) fn with_standard_input<R>(bytes: &[u8], body: impl FnOnce() -> R) -> R {
    STANDARD_INPUT.set(Some(bytes.to_vec()));
    let result = body();
    STANDARD_INPUT.set(None);
    result
}

/// All bytes of a file, or of standard input for `-`.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let file = name(path);
    let mut bytes = Vec::new();
    let done = if path == Path::new("-") {
        if let Some(given) = STANDARD_INPUT.with_borrow(Clone::clone) {
            return Ok(given);
        }
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|opened| opened.take(MAX_FILE + 1).read_to_end(&mut bytes))
    };
    match done {
        Err(source) => Err(CliError::Read { file, source }),
        Ok(_) if bytes.len() as u64 > MAX_FILE => Err(CliError::TooLarge { file, limit: MAX_FILE }),
        Ok(_) => Ok(bytes),
    }
}

/// Reads an object. Text and bytecode do not say what type their program has, nor which maps it names.
pub(crate) fn object(path: &Path, program_type: ProgramType, maps: Vec<MapSpec>) -> Result<Input, CliError> {
    let bytes = read(path)?;
    let file = name(path);
    let format = format(path, &bytes).ok_or_else(|| CliError::UnknownFormat { file: file.clone() })?;
    let at_file = |source| CliError::Object { file: file.clone(), source };
    let object = match format {
        Format::Elf => {
            let stem = path.file_name().unwrap_or_default().to_string_lossy();
            Object::parse(&bytes).map_err(at_file)?.with_name(stem.split('.').next().unwrap_or_default())
        }
        Format::Assembly => {
            let text = text(&file, &bytes)?;
            let assembled = Object::assemble(text, program_type, maps);
            assembled.map_err(|error| at_text(&file, text, error))?
        }
        Format::Bytecode => Object::from_bytecode(MAIN, program_type, &bytes).map_err(at_file)?,
    };
    Ok(Input { file, format, bytes, object })
}

/// By the first bytes, else by the name, else (standard input) by what the bytes look like.
fn format(path: &Path, bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(ELF_MAGIC) {
        return Some(Format::Elf);
    }
    if path == Path::new("-") {
        let is_text = !bytes.contains(&0) && std::str::from_utf8(bytes).is_ok();
        return Some(if is_text { Format::Assembly } else { Format::Bytecode });
    }
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "s" | "asm" | "txt" => Some(Format::Assembly),
        "bin" => Some(Format::Bytecode),
        _ => None,
    }
}

/// The file's text.
pub(crate) fn text<'b>(file: &str, bytes: &'b [u8]) -> Result<&'b str, CliError> {
    let not_text =
        |error: std::str::Utf8Error| CliError::NotText { file: file.to_owned(), offset: error.valid_up_to() };
    std::str::from_utf8(bytes).map_err(not_text)
}

/// Assembly text to instructions; helpers may be called by name.
pub(crate) fn assemble(file: &str, text: &str) -> Result<Assembly, CliError> {
    let helper = |name: &str| table::by_name(name).map(|row| row.number);
    let mut assembly = parse_with(text, &helper).map_err(|error| at_text(file, text, error.into()))?;
    // Bytecode by itself has no maps and no data that a name could stand for.
    assembly.bind(|_| None).map_err(|error| at_text(file, text, error.into()))?;
    Ok(assembly)
}

/// An error in text, with the text around it.
fn at_text(file: &str, text: &str, error: AssemblyError) -> CliError {
    let file = file.to_owned();
    match error {
        AssemblyError::Parse(source) => CliError::Assembly { file, text: text.to_owned(), source: Box::new(source) },
        AssemblyError::Symbol(source) => CliError::Symbol { file, source },
        AssemblyError::Program(source) => CliError::Object { file, source: source.into() },
    }
}

/// The program that is meant: the named one, or the only one.
pub(crate) fn choose(object: &Object, name: Option<&str>) -> Result<String, CliError> {
    let known: Vec<String> = object.programs().map(|info| info.name.to_string()).collect();
    match (name, known.as_slice()) {
        (_, []) => Err(CliError::NoPrograms),
        (Some(name), _) if known.iter().any(|known| known == name) => Ok(name.to_owned()),
        (Some(name), _) => Err(CliError::NoSuchProgram { name: name.to_owned(), known }),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err(CliError::WhichProgram { known }),
    }
}
