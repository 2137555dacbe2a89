//! `softbpf disasm`: sections as `llvm-objdump -d` lists them, programs in the same way or as bpftool lists them.

use std::io::Write as _;

use softbpf::Object;
use softbpf::helpers::table;
use softbpf::insn::Insn;
use softbpf::program::Program;
use softbpf::program_type::ProgramType;
use softbpf::text::listing::{Listing, ListingSection, ListingSymbol, SymbolKind};
use softbpf::text::llvm::{self, Spelling};
use softbpf::text::xlated::{self, Names, SourceLine, Xlated};

use crate::args::{Cpu, DisasmArgs, Style};
use crate::elf;
use crate::error::CliError;
use crate::input::{self, Format, Input};
use crate::jited;
use crate::json;
use crate::output::{Output, Status};
use crate::signature::signature;

pub(crate) fn command(args: &DisasmArgs, output: &mut Output) -> Result<Status, CliError> {
    let input = input::object(&args.object, ProgramType::Unspec, Vec::new())?;
    if args.jited {
        jited::show(&input, args, output)?;
    } else if args.json {
        let programs = programs(&input.object, args.program.as_deref())?;
        json::disasm(&programs, &MapNames::of(&input.object), args, &mut output.out)?;
    } else if args.style == Style::Xlated {
        xlated(&input, args, output)?;
    } else if args.linked || input.format != Format::Elf {
        linked(&input, args, output)?;
    } else {
        sections(&input, args, output)?;
    }
    Ok(Status::Done)
}

/// An instruction in the style that is wanted.
pub(crate) fn text(insn: &Insn, names: &MapNames<'_>, args: &DisasmArgs) -> String {
    match args.style {
        Style::Llvm => llvm::text(insn, spelling(args.mcpu)).to_string(),
        Style::Xlated => xlated::text(insn, names).to_string(),
    }
}

/// Whose registers the CPU version stands for.
fn spelling(mcpu: Cpu) -> Spelling {
    match mcpu {
        Cpu::Generic | Cpu::V1 | Cpu::V2 => Spelling::Objdump,
        Cpu::V3 | Cpu::V4 => Spelling::ObjdumpAlu32,
    }
}

/// The program that is meant, or all.
fn programs(object: &Object, name: Option<&str>) -> Result<Vec<Program>, CliError> {
    match name {
        Some(name) => Ok(vec![object.program(&input::choose(object, Some(name))?)?]),
        None => {
            let programs = (0..object.programs().len()).filter_map(|index| object.program_at(index));
            Ok(programs.collect::<Result<_, _>>()?)
        }
    }
}

// As the file has it.

fn sections(input: &Input, args: &DisasmArgs, output: &mut Output) -> Result<(), CliError> {
    let at_file = |source| CliError::Symbols { file: input.file.clone(), source };
    let file = elf::parse(&input.bytes).map_err(at_file)?;
    let mut sections = elf::code(&file).map_err(at_file)?;
    let range = match &args.program {
        None => None,
        Some(name) => {
            let function = elf::function(&file, name).ok_or_else(|| no_such_function(&input.object, name))?;
            sections.retain(|section| section.name == function.section);
            Some(function.start..function.end)
        }
    };
    let listing = Listing { raw_bytes: args.raw, spelling: spelling(args.mcpu), ..Listing::new(&input.file, sections) };
    let text = listing.to_string();
    match range {
        None => write!(output.out, "{text}")?,
        Some(range) => write!(output.out, "{}", only(&text, &range))?,
    }
    Ok(())
}

fn no_such_function(object: &Object, name: &str) -> CliError {
    let known = object.programs().map(|info| info.name.to_string()).collect();
    CliError::NoSuchProgram { name: name.to_owned(), known }
}

/// The paragraphs of a listing without those that start outside of the range.
fn only(listing: &str, range: &std::ops::Range<u64>) -> String {
    let outside = |paragraph: &&str| {
        let address = paragraph.split_once(" <").and_then(|(address, _)| u64::from_str_radix(address, 16).ok());
        address.is_none_or(|address| range.contains(&address))
    };
    let mut kept: Vec<&str> = listing.split("\n\n").filter(outside).collect();
    let last = kept.pop().map(|last| format!("{}\n", last.trim_end_matches('\n')));
    kept.iter().map(|paragraph| format!("{paragraph}\n\n")).chain(last).collect()
}

// As it is run.

fn linked(input: &Input, args: &DisasmArgs, output: &mut Output) -> Result<(), CliError> {
    for (index, program) in programs(&input.object, args.program.as_deref())?.iter().enumerate() {
        // A program that exists has an encoding.
        let bytes = program.code().encode().unwrap_or_default();
        let functions = program.functions().iter();
        let symbols = functions.map(|function| ListingSymbol {
            name: &function.name,
            offset: function.slots.start as u64 * 8,
            kind: SymbolKind::Function,
        });
        let name = if program.section().is_empty() { ".text" } else { program.section() };
        let section = ListingSection { name, bytes: &bytes, symbols: symbols.collect() };
        let listing =
            Listing { raw_bytes: args.raw, spelling: spelling(args.mcpu), ..Listing::new(&input.file, vec![section]) };
        let text = listing.to_string();
        // The file is named once.
        let text = if index == 0 { &*text } else { text.split_once("\n\n").map_or(&*text, |(_, rest)| rest) };
        let separator = if index == 0 { "" } else { "\n" };
        write!(output.out, "{separator}{text}")?;
    }
    Ok(())
}

fn xlated(input: &Input, args: &DisasmArgs, output: &mut Output) -> Result<(), CliError> {
    let names = MapNames::of(&input.object);
    let btf = input.object.btf();
    for (index, program) in programs(&input.object, args.program.as_deref())?.iter().enumerate() {
        if index > 0 {
            writeln!(output.out)?;
        }
        let signatures = program.functions().iter().map(|function| {
            let known = btf.and_then(|btf| signature(btf, &function.name));
            (function.slots.start, known.unwrap_or_else(|| function.name.to_string()))
        });
        let signatures: Vec<(usize, String)> = signatures.collect();
        let mut listing = Xlated::new(program.code(), &names);
        listing.opcodes = args.raw;
        listing.functions = signatures.iter().map(|(slot, text)| (*slot, text.as_str())).collect();
        let lines = program.lines().iter();
        listing.lines = lines
            .map(|line| SourceLine {
                slot: line.slot,
                text: line.text,
                file: line.file,
                line: line.line,
                column: line.column,
            })
            .collect();
        write!(output.out, "{listing}")?;
    }
    Ok(())
}

/// Names of helpers, of maps by index, and of kernel functions by the index of the extern.
pub(crate) struct MapNames<'o> {
    object: &'o Object,
    /// `bpf_` and the helper's name, by number.
    helpers: Vec<Option<String>>,
}

impl<'o> MapNames<'o> {
    pub(crate) fn of(object: &'o Object) -> MapNames<'o> {
        let most = table::all().iter().map(|row| row.number).max().unwrap_or(0);
        let name = |number| table::by_number(number).map(|row| format!("bpf_{}", row.name));
        MapNames { object, helpers: (0..=most).map(name).collect() }
    }
}

impl Names for MapNames<'_> {
    fn helper(&self, number: i32) -> Option<&str> {
        self.helpers.get(usize::try_from(number).ok()?)?.as_deref()
    }

    fn kfunc(&self, btf_id: i32, _: i16) -> Option<&str> {
        self.object.externs().get(usize::try_from(btf_id).ok()?).map(|external| &*external.name)
    }

    fn map(&self, fd: i32) -> Option<String> {
        self.object.maps().get(usize::try_from(fd).ok()?).map(|map| map.name.clone())
    }
}
