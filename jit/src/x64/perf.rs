//! What Linux's `perf` is told of code: a map of symbols, or a dump in the jitdump format.
//!
//! Formats: `tools/perf/Documentation/jit-interface.txt` and `jitdump-specification.txt` of Linux. It knows compiled
//! programs and the routines; nothing of how code is made or run.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use memmap2::{Mmap, MmapOptions};
use rustix::fs::OFlags;
use rustix::process::geteuid;
use rustix::thread::gettid;
use rustix::time::{ClockId, clock_gettime};
use softbpf::program::Program;

use super::code::{CodeMemory, Compiled};
use super::glue::Glue;
use crate::{Perf, Unavailable};

/// Where code is announced.
#[derive(Debug, Default)]
pub(super) enum Output {
    #[default]
    Off,
    Map(File),
    Dump(Arc<Mutex<Dump>>),
}

/// A name for a part of some code.
#[derive(Debug)]
struct Symbol<'p> {
    name: String,
    range: Range<usize>,
    lines: Vec<Line<'p>>,
}

/// Where a source line begins in the code.
#[derive(Debug)]
struct Line<'p> {
    offset: usize,
    file: &'p str,
    line: u32,
}

impl Output {
    /// What the configuration asks for; the routines that all code shares are announced where nobody has done so.
    pub(super) fn open(perf: &Perf, glue: &Glue) -> Result<Output, Unavailable> {
        /// One engine after the other, so that the second finds what the first has written.
        static OPENING: Mutex<()> = Mutex::new(());
        let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = std::process::id();
        let (path, opened) = match perf {
            Perf::Off => return Ok(Output::Off),
            Perf::Map => {
                let path = PathBuf::from(format!("/tmp/perf-{pid}.map"));
                let opened = open(&path, true).map(|(file, empty)| (Output::Map(file), empty));
                (path, opened)
            }
            Perf::JitDump { directory } => {
                let path = directory.join(format!("jit-{pid}.dump"));
                let opened = Dump::shared(&path).map(|(dump, empty)| (Output::Dump(dump), empty));
                (path, opened)
            }
        };
        let (mut output, empty) = opened.map_err(|error| Unavailable::Perf { path, reason: error.to_string() })?;
        if empty {
            output.routines(glue);
        }
        Ok(output)
    }

    fn routines(&mut self, glue: &Glue) {
        self.announce(|| {
            let (memory, mut starts) = glue.symbols();
            starts.sort_by_key(|&(_, start)| start);
            let ends = starts.iter().skip(1).map(|&(_, start)| start).chain([memory.bytes().len()]);
            let ends: Vec<usize> = ends.collect();
            let symbol =
                |((name, start), end)| Symbol { name: format!("softbpf_{name}"), range: start..end, lines: Vec::new() };
            (memory, starts.into_iter().zip(ends).map(symbol).collect())
        });
    }

    /// Announces a program.
    pub(super) fn program(&mut self, compiled: &Compiled) {
        self.announce(|| (&compiled.memory, symbols(compiled)));
    }

    fn announce<'c>(&mut self, code: impl FnOnce() -> (&'c CodeMemory, Vec<Symbol<'c>>)) {
        let written = match self {
            Output::Off => return,
            Output::Map(file) => {
                let (memory, symbols) = code();
                file.write_all(map(memory, &symbols).as_bytes())
            }
            Output::Dump(dump) => {
                let (memory, symbols) = code();
                let mut dump = dump.lock().unwrap_or_else(PoisonError::into_inner);
                symbols.iter().try_for_each(|symbol| dump.load(memory, symbol))
            }
        };
        if written.is_err() {
            *self = Output::Off;
        }
    }
}

/// The functions of a program, and what lies behind them.
fn symbols(compiled: &Compiled) -> Vec<Symbol<'_>> {
    let program = &compiled.program;
    let place = |slot: usize| {
        let index = program.code().index_at(slot).unwrap_or(program.code().insns().len());
        compiled.starts.get(index).map_or(0, |&start| start as usize)
    };
    let lines = |range: &Range<usize>| {
        let lines = program.lines().iter();
        let lines = lines.map(|line| Line { offset: place(line.slot), file: line.file, line: line.line });
        lines.filter(|line| range.contains(&line.offset)).collect()
    };
    let end = compiled.starts.last().map_or(0, |&end| end as usize);
    let functions = program.functions().iter();
    let mut ranges: Vec<(&str, Range<usize>)> =
        functions.map(|function| (&*function.name, place(function.slots.start)..place(function.slots.end))).collect();
    if ranges.is_empty() {
        ranges.push((program.name(), 0..end));
    }
    let named = ranges.into_iter().map(|(name, range)| Symbol {
        name: symbol_name(program, name),
        lines: lines(&range),
        range,
    });
    let stubs = Symbol {
        name: symbol_name(program, program.name()) + ".stubs",
        range: end..compiled.memory.bytes().len(),
        lines: Vec::new(),
    };
    named.chain([stubs]).filter(|symbol| !symbol.range.is_empty()).collect()
}

/// As in `/proc/kallsyms`. Names come from files: no character in one ends a line or a field.
fn symbol_name(program: &Program, function: &str) -> String {
    let plain = |found: char| if found.is_ascii_alphanumeric() || "_.$".contains(found) { found } else { '_' };
    format!("bpf_prog_{}_{}", program.tag(), function.chars().map(plain).collect::<String>())
}

/// `START SIZE NAME`, a line each.
fn map(memory: &CodeMemory, symbols: &[Symbol<'_>]) -> String {
    let line = |symbol: &Symbol<'_>| {
        let Symbol { name, range, .. } = symbol;
        format!("{:x} {:x} {name}\n", memory.address(range.start) as usize, range.len())
    };
    symbols.iter().map(line).collect()
}

/// Opens a file for appending, and says whether it has nothing of ours yet. What an earlier process with this id has left is
/// taken out; not so what others of this process have written, in a file that they share: the runtime of the language that
/// it is written in may tell `perf` of its code, too.
fn open(path: &Path, shared: bool) -> io::Result<(File, bool)> {
    static OPENED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let path = std::path::absolute(path)?;
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let file = open_ours(&path)?;
    let metadata = file.metadata()?;
    let known = opened.contains(&path);
    if !known {
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if !shared || process_age().is_none_or(|process| age > process) {
            file.set_len(0)?;
        }
        opened.push(path);
    }
    Ok((file, !known || metadata.len() == 0))
}

/// How long this process has been there, if `/proc` tells: the time since the host started less the 22nd field of
/// `/proc/self/stat`, which is in hundredths of a second. `proc_pid_stat(5)`.
fn process_age() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // Names of processes may hold anything, but the last parenthesis is behind them, and the second field.
    let start: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let now = clock_gettime(ClockId::Boottime);
    let now = Duration::new(now.tv_sec.try_into().ok()?, now.tv_nsec.try_into().ok()?);
    now.checked_sub(Duration::from_millis(start * 10))
}

/// A new file, or one that is ours; for nobody else to read. Others may write to its directory too, so that no link is
/// followed.
fn open_ours(path: &Path) -> io::Result<File> {
    const MODE: u32 = 0o600;
    let mut options = File::options();
    options.read(true).append(true).mode(MODE).custom_flags(OFlags::NOFOLLOW.bits() as i32);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        opened => return opened,
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.nlink() != 1 || metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is there already, and not a file of this user",
        ));
    }
    file.set_permissions(Permissions::from_mode(MODE))?;
    Ok(file)
}

/// A jitdump file. All engines of a process that want one in the same directory share it.
#[derive(Debug)]
pub(super) struct Dump {
    file: File,
    /// `perf record` notes that this page was mapped: so it learns of the file.
    _marker: Mmap,
}

/// `JiTD`, whose bytes say the byte order.
const MAGIC: u32 = 0x4a69_5444;
const VERSION: u32 = 1;
const HEADER_SIZE: u32 = 40;
const EM_X86_64: u32 = 62;
/// Bytes before a record's own: what it is, its size, when it was written.
const PREFIX_SIZE: usize = 16;
const JIT_CODE_LOAD: u32 = 0;
const JIT_CODE_DEBUG_INFO: u32 = 2;
const JIT_CODE_CLOSE: u32 = 3;

/// The size of a page.
const PAGE: usize = 4096;

impl Dump {
    /// The process's dump at this path, and whether there is no code in it yet.
    fn shared(path: &Path) -> io::Result<(Arc<Mutex<Dump>>, bool)> {
        /// Dumps that this process has made.
        static DUMPS: Mutex<Vec<(PathBuf, Weak<Mutex<Dump>>)>> = Mutex::new(Vec::new());
        let mut dumps = DUMPS.lock().unwrap_or_else(PoisonError::into_inner);
        let path = std::path::absolute(path)?;
        let known = dumps.iter_mut().find(|(known, _)| *known == path);
        if let Some(dump) = known.as_ref().and_then(|(_, dump)| dump.upgrade()) {
            return Ok((dump, false));
        }
        let (file, empty) = open(&path, false)?;
        if empty {
            (&file).write_all(&header())?;
        }
        // SAFETY: nobody reads this memory, so that it does not matter when the file changes.
        let marker = unsafe { MmapOptions::new().len(PAGE).map_exec(&file)? };
        let dump = Arc::new(Mutex::new(Dump { file, _marker: marker }));
        match known {
            Some((_, known)) => *known = Arc::downgrade(&dump),
            None => dumps.push((path, Arc::downgrade(&dump))),
        }
        Ok((dump, empty))
    }

    fn load(&mut self, memory: &CodeMemory, symbol: &Symbol<'_>) -> io::Result<()> {
        /// No two pieces of code of a process have the same number.
        static INDEX: AtomicU64 = AtomicU64::new(0);
        let address = |offset: usize| (memory.address(offset) as u64).to_ne_bytes();
        let start = address(symbol.range.start);
        let mut records = Vec::new();
        if !symbol.lines.is_empty() {
            let mut debug = [start, (symbol.lines.len() as u64).to_ne_bytes()].concat();
            for Line { offset, file, line } in &symbol.lines {
                debug.extend(address(*offset));
                debug.extend(line.to_ne_bytes());
                // The discriminator.
                debug.extend(0_u32.to_ne_bytes());
                text(&mut debug, file);
            }
            records.extend(record(JIT_CODE_DEBUG_INFO, &debug));
        }
        let code = memory.bytes().get(symbol.range.clone()).unwrap_or_default();
        let mut load = Vec::new();
        load.extend(std::process::id().to_ne_bytes());
        load.extend(gettid().as_raw_nonzero().get().to_ne_bytes());
        load.extend([start, start].concat());
        load.extend((code.len() as u64).to_ne_bytes());
        load.extend(INDEX.fetch_add(1, Ordering::Relaxed).to_ne_bytes());
        text(&mut load, &symbol.name);
        load.extend(code);
        records.extend(record(JIT_CODE_LOAD, &load));
        self.file.write_all(&records)
    }
}

impl Drop for Dump {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure.
        let _ = self.file.write_all(&record(JIT_CODE_CLOSE, &[]));
    }
}

fn header() -> Vec<u8> {
    let words = [MAGIC, VERSION, HEADER_SIZE, EM_X86_64, 0, std::process::id()];
    let mut header: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    header.extend(now().to_ne_bytes());
    // Flags: the timestamps are no counts of the processor.
    header.extend(0_u64.to_ne_bytes());
    header
}

fn record(id: u32, body: &[u8]) -> Vec<u8> {
    let mut record = id.to_ne_bytes().to_vec();
    record.extend(((PREFIX_SIZE + body.len()) as u32).to_ne_bytes());
    record.extend(now().to_ne_bytes());
    record.extend(body);
    record
}

/// Text up to its end or a zero, and a zero.
fn text(to: &mut Vec<u8>, text: &str) {
    to.extend(text.bytes().take_while(|&byte| byte != 0));
    to.push(0);
}

/// The clock of `perf record -k mono`.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
