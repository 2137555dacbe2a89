//! What fuzzing found, for people and as JSON.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value as Json, json};
use softbpf::map_spec::MapSpec;
use softbpf::program::ProgramInfo;
use softbpf::{Machine, Outcome};
use softbpf_conformance::fuzz::guided::{Data, Finding, Key, Summary};

use super::guided::Filed;
use crate::args::FuzzProgramArgs;
use crate::input::Input;
use crate::output::Output;
use crate::render::{self, bytes, clean, plural, reading, style};

/// A finding, as soon as there is one.
pub(super) fn found(
    filed: &Filed,
    input: &Input,
    program: &ProgramInfo,
    args: &FuzzProgramArgs,
    vm: &Machine,
    output: &mut Output,
) -> io::Result<()> {
    let Filed { finding, file, test } = filed;
    let out = &mut output.out;
    match finding.outcome.as_ref().map(|outcome| (&outcome.ret, outcome.context.is_empty())) {
        Ok((Ok(value), _)) => {
            let meaning =
                reading(*value, program.program_type).map(|meaning| format!(", {meaning}")).unwrap_or_default();
            let what = format!("{} returned {value} ({value:#x}{meaning})", clean(&program.name));
            writeln!(out, "{} {}", style::error("error:"), style::title(what))?;
            let expected = args.campaign.expect.as_deref().unwrap_or_default();
            writeln!(out, "  {} expected: {}\n", style::frame("="), clean(expected))?;
        }
        Ok((Err(trap), no_context)) => render::trap(trap, no_context, vm, &input.object, out)?,
        Err(message) => {
            let what = format!("softbpf panicked: {}", clean(message));
            writeln!(out, "{} {}", style::error("error:"), style::title(what))?;
            writeln!(out, "  {} a bug of softbpf: please report it with the files below\n", style::frame("="))?;
        }
    }
    let made_small = if finding.outcome.is_ok() { "; made small" } else { "" };
    writeln!(out, "found     after {}{made_small}: {}", plural(finding.executions, "input"), size(finding))?;
    writeln!(out, "replay    {}", replay(file, program, args))?;
    writeln!(out, "as test   {}\n", clean(&test.display().to_string()))
}

/// The command that runs a finding again.
fn replay(file: &Path, program: &ProgramInfo, args: &FuzzProgramArgs) -> String {
    let path = |path: &Path| word(&path.display().to_string());
    let (object, program) = (path(&args.program.object), word(&program.name));
    let mut command = format!("softbpf run {object} {program} --input {}", path(file));
    if let Some(program_type) = &args.program.program_type {
        command += &format!(" --type {program_type}");
    }
    for created in &args.setup.created {
        let MapSpec { name, map_type, key_size, value_size, max_entries, .. } = &created.0;
        command += " --create ";
        command += &word(&format!("{name}={map_type}:{key_size}:{value_size}:{max_entries}"));
    }
    command
}

/// A word of a shell's command line, in quotes where it needs them.
fn word(text: &str) -> String {
    let (text, is_plain) = (clean(text), |c: char| c.is_alphanumeric() || "_-./,:=+@%".contains(c));
    if !text.is_empty() && text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// What an input consists of.
fn size(finding: &Finding) -> String {
    let part =
        |count: usize, noun| if count == 0 { String::new() } else { format!(", {}", plural(count as u64, noun)) };
    let input = &finding.input;
    let elements = part(input.elements.len(), "map element") + &part(input.memory.len(), "far object");
    match &finding.input.data {
        Data::Packet { bytes: packet, .. } => format!("a packet of {}{elements}", bytes(packet.len() as u64)),
        Data::Registers(registers) => {
            let set = registers.values().iter().filter(|value| **value != 0).count();
            format!("{} set{elements}", plural(set as u64, "register"))
        }
        Data::Bytes(context) => format!("a context of {}{elements}", bytes(context.len() as u64)),
    }
}

/// How far the campaign came.
pub(super) fn summary(summary: &Summary, program: &ProgramInfo, lines: bool, out: &mut dyn Write) -> io::Result<()> {
    let stats = &summary.stats;
    writeln!(out, "program   {} ({})", clean(&program.name), program.program_type)?;
    let (seconds, rate) = (stats.elapsed.as_secs_f64(), stats.executions_per_second());
    writeln!(out, "inputs    {} in {seconds:.1} s, {rate:.0} a second", stats.executions)?;
    writeln!(out, "coverage  {} of {} edges", stats.covered.edges, stats.covered.of_edges)?;
    writeln!(out, "kept      {}", plural(stats.corpus as u64, "input"))?;
    writeln!(out, "findings  {}", stats.findings)?;
    if lines {
        writeln!(out, "\n{}", style::title("lines that no input came to"))?;
        for line in &summary.lines_never_run {
            writeln!(out, "  {}:{}  {}", clean(&line.file), line.line, clean(line.text.trim()))?;
        }
        if summary.lines_never_run.is_empty() {
            writeln!(out, "  none, or the object has no line info")?;
        }
    }
    Ok(())
}

/// A finding without its input, and without what another run that comes to it may say otherwise.
pub(super) fn finding(finding: &Finding) -> Json {
    let (kind, slot) = match &finding.key {
        Key::Trap { kind, slot, .. } => (*kind, Some(*slot)),
        Key::Endless { .. } => ("endless", None),
        Key::Unexpected { .. } => ("unexpected", None),
        Key::Panic { .. } => ("panic", None),
    };
    let outcome = finding.outcome.as_ref().ok();
    let trap = outcome.and_then(Outcome::trap);
    let message = match &finding.outcome {
        Ok(outcome) => outcome.trap().map(|trap| render::sentence(&trap.kind, trap.insn.as_ref())),
        Err(message) => Some(message.to_string()),
    };
    let line = trap.and_then(|trap| trap.line.as_ref());
    json!({
        "kind": kind,
        "program": trap.map(|trap| &*trap.program),
        "function": trap.and_then(|trap| trap.function.as_deref()),
        "slot": slot,
        "message": message,
        "line": line.map(|line| json!({ "file": line.file, "line": line.line, "column": line.column, "text": line.text })),
        "return": outcome.and_then(|outcome| outcome.ret.as_ref().ok()),
    })
}

/// All of it.
pub(super) fn document(summary: &Summary, filed: &[Filed], program: &ProgramInfo, args: &FuzzProgramArgs) -> Json {
    let stats = &summary.stats;
    let lines = summary.lines_never_run.iter();
    let with_files = |filed: &Filed| {
        let mut document = finding(&filed.finding);
        document["executions"] = filed.finding.executions.into();
        document["input"] = filed.file.display().to_string().into();
        document["test"] = filed.test.display().to_string().into();
        document
    };
    json!({
        "program": &*program.name,
        "type": program.program_type.name(),
        "seed": args.setup.world.seed.unwrap_or(0),
        "executions": stats.executions,
        "seconds": stats.elapsed.as_secs_f64(),
        "executions_per_second": stats.executions_per_second(),
        "coverage": {
            "edges": stats.covered.edges,
            "of_edges": stats.covered.of_edges,
            "lines_never_run": lines.map(|line| json!({ "file": line.file, "line": line.line, "text": line.text })).collect::<Vec<_>>(),
        },
        "corpus": stats.corpus,
        "findings": filed.iter().map(with_files).collect::<Vec<_>>(),
    })
}
