//! `softbpf disasm --jited`: instructions beside the machine code that the JIT makes of them.
//!
//! The JIT says which bytes belong to which instruction and how accesses are made safe ([`softbpf_jit::inspect`]);
//! [`decode`] makes text of the bytes, [`text`] a listing for people. JSON: [`crate::json`].

mod decode;
mod text;

use std::ops::RangeInclusive;

use softbpf::Machine as Vm;
use softbpf::map_spec::MapSpec;
use softbpf::program::{LineInfo, Program};
use softbpf_jit::Config;
use softbpf_jit::inspect::{self, Assumptions, Compilation, Note, Region};

use crate::args::DisasmArgs;
use crate::disasm::{self, MapNames};
use crate::error::CliError;
use crate::input::{self, Input};
use crate::json;
use crate::output::Output;
use crate::render::{bytes, clean};

/// A program with its machine code.
pub(crate) struct Jited {
    pub(crate) name: String,
    pub(crate) section: String,
    pub(crate) insns: Vec<Insn>,
    /// Entries of functions, and stubs.
    pub(crate) behind: Vec<Machine>,
    pub(crate) totals: Totals,
    /// What the proofs rely on.
    pub(crate) assumptions: Assumptions,
}

/// An instruction.
pub(crate) struct Insn {
    pub(crate) slot: usize,
    /// The function that begins here.
    pub(crate) function: Option<String>,
    /// The source line that begins here.
    pub(crate) line: Option<Line>,
    pub(crate) text: String,
    pub(crate) access: Option<Access>,
    pub(crate) code: Vec<Machine>,
}

/// A line of source.
pub(crate) struct Line {
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) text: String,
}

/// How an access of memory is made safe.
pub(crate) struct Access {
    pub(crate) check: Check,
    /// What it is in, where that is known.
    pub(crate) object: Option<String>,
    /// Where in it, if that is proved.
    pub(crate) offsets: Option<RangeInclusive<i64>>,
    /// Why that is proved.
    pub(crate) why: Option<String>,
}

/// What stands in front of an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Nothing.
    Proved,
    /// A comparison with the limits of an object.
    Object,
    /// A comparison with a window.
    Window,
}

impl Check {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Check::Proved => "proved",
            Check::Object => "object",
            Check::Window => "window",
        }
    }
}

/// An instruction of the machine.
pub(crate) struct Machine {
    /// Distance from the program's first byte.
    pub(crate) offset: usize,
    /// The label of the place, where jumps know it by one.
    pub(crate) label: Option<String>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
}

/// The program in numbers.
pub(crate) struct Totals {
    /// Bytes of machine code.
    pub(crate) bytes: usize,
    /// Accesses by what stands in front of them.
    pub(crate) proved: usize,
    pub(crate) object: usize,
    pub(crate) window: usize,
}

/// Shows one program or all.
pub(crate) fn show(input: &Input, args: &DisasmArgs, output: &mut Output) -> Result<(), CliError> {
    softbpf_jit::engine()?;
    let mut vm = Vm::load(&input.object)?;
    let names: Vec<String> = match &args.program {
        Some(name) => vec![input::choose(&input.object, Some(name))?],
        None => vm.programs().map(|info| info.name.to_string()).collect(),
    };
    let programs: Result<Vec<Jited>, CliError> = names.iter().map(|name| program(&mut vm, input, name, args)).collect();
    if args.json {
        json::jited(&programs?, &mut output.out)?;
    } else {
        text::write(&programs?, args.raw, text::Layout::of_terminal(), &mut output.out)?;
    }
    Ok(())
}

fn program(vm: &mut Vm, input: &Input, name: &str, args: &DisasmArgs) -> Result<Jited, CliError> {
    let program = input.object.program(name)?;
    let config = Config { extensions: !args.baseline, proofs: !args.no_proofs, ..Config::default() };
    let compilation = inspect::inspect(vm, name, config)?;
    let compilation = compilation.ok_or_else(|| CliError::NotCompiled { program: name.to_owned() })?;
    Ok(jited(&program, &compilation, &MapNames::of(&input.object), input.object.maps(), args))
}

fn jited(
    program: &Program,
    compilation: &Compilation,
    names: &MapNames<'_>,
    maps: &[MapSpec],
    args: &DisasmArgs,
) -> Jited {
    let slots: Vec<usize> = program.code().iter().map(|(slot, _)| slot).collect();
    let mut decoded = decode::decode(compilation, &slots, maps);
    let end = compilation.insns.last().map_or(0, |insn| insn.code.end);
    let behind = decoded.split_off(decoded.partition_point(|line| line.offset < end));
    let mut decoded = decoded.into_iter().peekable();
    let insns = program.code().iter().zip(&compilation.insns).map(|((slot, insn), compiled)| Insn {
        slot,
        function: program
            .functions()
            .iter()
            .find(|function| function.slots.start == slot)
            .map(|function| clean(&function.name)),
        line: program.line_at(slot).filter(|line| line.slot == slot).map(line),
        // LLVM puts a tab behind `ld_pseudo`.
        text: clean(&disasm::text(insn, names, args)),
        access: compiled.note.map(|note| access(note, maps)),
        code: std::iter::from_fn(|| decoded.next_if(|line| line.offset < compiled.code.end)).collect(),
    });
    let insns: Vec<Insn> = insns.collect();
    let count =
        |check| insns.iter().filter_map(|insn| insn.access.as_ref()).filter(|access| access.check == check).count();
    let totals = Totals {
        bytes: compilation.code.len(),
        proved: count(Check::Proved),
        object: count(Check::Object),
        window: count(Check::Window),
    };
    let assumptions = compilation.assumptions.clone();
    Jited { name: clean(program.name()), section: clean(program.section()), insns, behind, totals, assumptions }
}

fn line(line: LineInfo<'_>) -> Line {
    Line { file: clean(line.file), line: line.line, column: line.column, text: clean(line.text.trim()) }
}

fn access(note: Note, maps: &[MapSpec]) -> Access {
    match note {
        Note::Window => Access { check: Check::Window, object: None, offsets: None, why: None },
        Note::Likely(region) => {
            Access { check: Check::Object, object: Some(object(region, maps)), offsets: None, why: None }
        }
        Note::Proved { region, first, last, tested } => Access {
            check: Check::Proved,
            object: Some(object(region, maps)),
            offsets: Some(first..=last),
            why: Some(why(region, tested, maps)),
        },
    }
}

/// Why an access is in this object for sure.
fn why(region: Region, tested: Option<u32>, maps: &[MapSpec]) -> String {
    let value = |map: u32| {
        maps.get(map as usize).map_or_else(String::new, |map| format!("of {}", bytes(map.value_size.into())))
    };
    match region {
        Region::Stack => "in the frame".to_owned(),
        Region::Context => "as assumed".to_owned(),
        Region::Packet => format!("behind a test for {}", bytes(tested.unwrap_or(0).into())),
        Region::Data(map) => value(map),
        Region::Element(map) => format!("{}, behind a test for null", value(map)),
    }
}

fn object(region: Region, maps: &[MapSpec]) -> String {
    match region {
        Region::Stack => "stack".to_owned(),
        Region::Context => "context".to_owned(),
        Region::Packet => "packet".to_owned(),
        Region::Data(map) | Region::Element(map) => {
            maps.get(map as usize).map_or_else(|| "value".to_owned(), |map| format!("value of {}", clean(&map.name)))
        }
    }
}
