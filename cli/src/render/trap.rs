//! A trap as a compiler would report it: what, where in the source, which instruction, with which registers, and why.

use std::io::{self, Write};

use softbpf::outcome::Trap;
use softbpf::{Machine, Object};

use super::{clean, excerpt, hint, insn_text, place, sentence, style};

/// Registers on a line.
const COLUMNS: usize = 4;

pub(crate) fn render(
    trap: &Trap,
    no_context: bool,
    vm: &Machine,
    object: &Object,
    out: &mut dyn Write,
) -> io::Result<()> {
    let what = sentence(&trap.kind, trap.insn.as_ref());
    writeln!(out, "{} {}", style::error("error:"), style::title(what))?;
    if let Some(line) = &trap.line {
        excerpt(out, &line.to_string(), line.line as usize, &line.text, line.column as usize)?;
    }
    let text = trap.insn.as_ref().map(|insn| insn_text(insn, object.maps())).unwrap_or_default();
    note(out, format_args!("at slot {} of {}: {text}", trap.slot, function(trap)))?;
    for (function, slot, line) in callers(trap, vm) {
        let line = line.map(|line| format!(", {}", clean(&line))).unwrap_or_default();
        note(out, format_args!("called at slot {slot} of {function}{line}"))?;
    }
    if let (Some(fault), Some(nearest)) = (trap.kind.fault(), &trap.nearest)
        && let Some(place) = place(&fault, nearest, object)
    {
        note(out, format_args!("{place}"))?;
    }
    if let Some(hint) = hint(trap, no_context) {
        note(out, format_args!("help: {hint}"))?;
    }
    registers(trap, out)
}

fn note(out: &mut dyn Write, text: std::fmt::Arguments<'_>) -> io::Result<()> {
    writeln!(out, "  {} {text}", style::frame("="))
}

/// `program`, or `function (program)` inside of another function.
fn function(trap: &Trap) -> String {
    match &trap.function {
        Some(function) if *function != trap.program => format!("{function} (program {})", trap.program),
        Some(_) | None => trap.program.to_string(),
    }
}

/// The calls that led there, the innermost first: function, slot, and place in the source.
fn callers<'t>(trap: &'t Trap, vm: &'t Machine) -> impl Iterator<Item = (String, usize, Option<String>)> + use<'t> {
    trap.callers.iter().rev().map(|(name, slot)| {
        let program = vm.find_program(name).ok().and_then(|id| vm.program(id));
        let function = program.and_then(|program| program.function_at(*slot));
        let line = program.and_then(|program| program.line_at(*slot));
        let line = line.map(|line| format!("{}:{}", line.file, line.line));
        (function.map_or_else(|| name.to_string(), |function| function.name.to_string()), *slot, line)
    })
}

fn registers(trap: &Trap, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    for (row, values) in trap.registers.chunks(COLUMNS).enumerate() {
        let mut line = String::new();
        for (column, value) in values.iter().enumerate() {
            let name = format!("r{}", row * COLUMNS + column);
            line.push_str(&format!("  {name:>3} {:<18}", format!("{value:#x}")));
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)
}
