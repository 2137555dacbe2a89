//! What a run did, in words for people.

mod events;
mod hint;
mod insn;
mod maps;
mod sentence;
mod text;
mod trap;
mod verdict;

use std::io::{self, Write};

use softbpf::{Machine, Object};

use crate::output::Output;
use crate::run::Report;

pub(crate) use hint::hint;
pub(crate) use insn::insn_text;
pub(crate) use sentence::{place, sentence};
pub(crate) use text::{bytes, clean, excerpt, hex, plural, style};
pub(crate) use trap::render as trap;
pub(crate) use verdict::{reading, verdict};

/// All that a run did: the trap on standard error, the rest on standard output.
pub(crate) fn run(report: &Report, vm: &Machine, object: &Object, output: &mut Output) -> io::Result<()> {
    if let Some(trap) = report.outcome.trap() {
        trap::render(trap, report.outcome.context.is_empty(), vm, object, &mut output.err)?;
        output.err.flush()?;
    }
    let out = &mut output.out;
    result(report, out)?;
    for map in &report.maps {
        maps::render(map, out)?;
    }
    events::render(&report.outcome, out)?;
    if let (Some(before), Some(after)) = (&report.packet, &report.outcome.packet)
        && before != after
    {
        writeln!(out, "\n{}, {}", style::title("packet changed"), bytes(after.len() as u64))?;
        events::dump(after, out)?;
    }
    Ok(())
}

fn result(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let program = &report.program;
    writeln!(out, "program       {} ({})", clean(&program.name), program.program_type)?;
    match &report.outcome.ret {
        Ok(value) => {
            write!(out, "returned      {value} ({value:#x})")?;
            match reading(*value, program.program_type) {
                Some(reading) => writeln!(out, ", {reading}")?,
                None => writeln!(out)?,
            }
        }
        Err(trap) => writeln!(out, "trapped       at slot {} of {}", trap.slot, trap.program)?,
    }
    if report.runs > 1 {
        writeln!(out, "runs          {}", report.runs)?;
    }
    writeln!(out, "instructions  {}", report.instructions)
}
