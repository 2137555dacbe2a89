//! The same as `render` and the listings, for programs: JSON, one document on standard output.
//!
//! Bytes are hexadecimal digits without spaces, numbers are numbers; what does not exist is null.

use std::io::{self, Write};
use std::ops::Range;

use serde_json::{Value as Json, json};
use softbpf::Object;
use softbpf::helpers::helper_name;
use softbpf::map_spec::MapSpec;
use softbpf::outcome::Trap;
use softbpf::program::{Program, ProgramInfo};
use softbpf_jit::inspect::Assumptions;

use crate::args::DisasmArgs;
use crate::disasm::{MapNames, text};
use crate::jited::{Jited, Machine as X86};
use crate::render;
use crate::run::{Element, MapDump, Recorded, Report, Value};
use crate::show;

fn write(document: &Json, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    writeln!(out)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    render::hex(bytes).replace(' ', "")
}

// softbpf conform

pub(crate) fn conform(document: &Json, out: &mut dyn Write) -> io::Result<()> {
    write(document, out)
}

// softbpf fuzz isa

pub(crate) fn fuzz_isa(document: &Json, out: &mut dyn Write) -> io::Result<()> {
    write(document, out)
}

// softbpf bench

pub(crate) fn bench(document: &Json, out: &mut dyn Write) -> io::Result<()> {
    write(document, out)
}

// softbpf fuzz

pub(crate) fn fuzz(document: &Json, out: &mut dyn Write) -> io::Result<()> {
    write(document, out)
}

// softbpf run

pub(crate) fn run(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let outcome = &report.outcome;
    let event =
        |event: &softbpf::outcome::Event| json!({ "map": &*event.map, "cpu": event.cpu, "data": hex(&event.data) });
    let meaning = outcome.ret.as_ref().ok().and_then(|value| render::reading(*value, report.program.program_type));
    let mut document = json!({
        "program": &*report.program.name,
        "type": report.program.program_type.name(),
        "engine": report.engine,
        "return": outcome.ret.as_ref().ok(),
        "meaning": meaning,
        "trap": outcome.trap().map(|trap| self::trap(trap, outcome.context.is_empty())),
        "runs": report.runs,
        "instructions": report.instructions,
        "maps": report.maps.iter().map(map).collect::<Vec<_>>(),
        "events": outcome.events.iter().map(event).collect::<Vec<_>>(),
        "printk": outcome.printk,
        "context": hex(&outcome.context),
        "packet": outcome.packet.as_deref().map(hex),
    });
    if let Some(recorded) = &report.trace {
        document["trace"] = trace(recorded);
        document["trace_cut"] = recorded.cut.into();
    }
    write(&document, out)
}

fn trap(trap: &Trap, no_context: bool) -> Json {
    let line = trap
        .line
        .as_ref()
        .map(|line| json!({ "file": line.file, "line": line.line, "column": line.column, "text": line.text }));
    let nearest = trap.nearest.as_ref().map(|nearest| {
        json!({
            "object": nearest.kind.to_string(),
            "index": nearest.index,
            "start": nearest.start,
            "size": nearest.size,
            "distance": nearest.distance,
        })
    });
    let callers = trap.callers.iter().map(|(program, slot)| json!({ "program": &**program, "slot": slot }));
    json!({
        "message": render::sentence(&trap.kind, trap.insn.as_ref()),
        "help": render::hint(trap, no_context),
        "program": &*trap.program,
        "function": trap.function.as_deref(),
        "slot": trap.slot,
        "instruction": trap.insn.map(|insn| insn.to_string()),
        "line": line,
        "registers": trap.registers,
        "callers": callers.collect::<Vec<_>>(),
        "address": trap.kind.fault().map(|fault| fault.addr),
        "nearest": nearest,
    })
}

fn map(map: &MapDump) -> Json {
    json!({
        "name": map.spec.name,
        "type": map.spec.map_type.name(),
        "count": map.count,
        "elements": map.elements.iter().map(element).collect::<Vec<_>>(),
    })
}

fn element(Element { key, value, pretty }: &Element) -> Json {
    let mut element = json!({ "key": hex(key) });
    match value {
        Value::One(bytes) => element["value"] = hex(bytes).into(),
        Value::PerCpu(values) => element["values"] = values.iter().map(|bytes| hex(bytes)).collect(),
        Value::Stack(stack) => element["stack"] = stack.as_slice().into(),
        Value::Program(name) => element["program"] = name.as_str().into(),
    }
    if let Some(pretty) = pretty {
        let values: Json = pretty.values.iter().map(|value| typed(value)).collect();
        element["formatted"] = json!({ "key": pretty.key.as_deref().map(typed), "values": values });
    }
    element
}

/// The text as JSON, which it is unless a value had no text.
fn typed(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn trace(recorded: &Recorded) -> Json {
    let entries = recorded.entries.iter().map(|entry| {
        let changed = entry.changed.iter().map(|register| (format!("r{}", register.number), register.value.into()));
        json!({
            "program": &*entry.program,
            "slot": entry.slot,
            "depth": entry.depth,
            "instruction": entry.text,
            "changed": changed.collect::<serde_json::Map<String, Json>>(),
        })
    });
    entries.collect()
}

// softbpf show

pub(crate) fn show(object: &Object, out: &mut dyn Write) -> io::Result<()> {
    let programs = show::programs(object).map(|(index, info, program)| match program {
        Ok(program) => shown_program(index, info, &program),
        Err(error) => json!({
            "id": index,
            "type": info.program_type.name(),
            "name": &*info.name,
            "section": &*info.section,
            "error": error.to_string(),
        }),
    });
    let document = json!({
        "license": object.license(),
        "version": object.version().map(crate::show::kernel_version),
        "programs": programs.collect::<Vec<_>>(),
        "maps": object.maps().iter().enumerate().map(shown_map).collect::<Vec<_>>(),
    });
    write(&document, out)
}

fn shown_program(index: usize, info: &ProgramInfo, program: &Program) -> Json {
    let slots = program.code().slot_count();
    json!({
        "id": index,
        "type": info.program_type.name(),
        "name": &*info.name,
        "tag": program.tag().to_string(),
        "tag_sha256": program.tag_sha256().to_string(),
        "gpl_compatible": program.is_gpl_compatible(),
        "section": &*info.section,
        "bytes_xlated": slots * show::SLOT,
        "insns": slots,
        "map_ids": show::map_ids(program),
    })
}

fn shown_map((index, map): (usize, &MapSpec)) -> Json {
    json!({
        "id": index,
        "type": map.map_type.name(),
        "name": map.name,
        "flags": map.map_flags,
        "bytes_key": map.key_size,
        "bytes_value": map.value_size,
        "max_entries": map.max_entries,
    })
}

// softbpf disasm

pub(crate) fn disasm(
    programs: &[Program],
    names: &MapNames<'_>,
    args: &DisasmArgs,
    out: &mut dyn Write,
) -> io::Result<()> {
    let program = |program: &Program| {
        let insns = program.code().iter().map(|(slot, insn)| {
            let bytes = softbpf::codec::encode_one(insn).map(|bytes| hex(&bytes)).ok();
            json!({ "slot": slot, "bytes": bytes, "text": text(insn, names, args) })
        });
        let functions =
            program.functions().iter().map(|function| json!({ "name": &*function.name, "slot": function.slots.start }));
        json!({
            "program": program.name(),
            "section": program.section(),
            "functions": functions.collect::<Vec<_>>(),
            "instructions": insns.collect::<Vec<_>>(),
        })
    };
    write(&programs.iter().map(program).collect(), out)
}

fn assumptions(assumptions: &Assumptions) -> Json {
    let ranges =
        |ranges: &[Range<u32>]| ranges.iter().map(|range| json!([range.start, range.end - 1])).collect::<Vec<_>>();
    let packet_pointers = assumptions.packet_pointers.map(|(start, end)| json!([start, end]));
    json!({
        "context_readable": ranges(&assumptions.context_readable),
        "context_writable": ranges(&assumptions.context_writable),
        "packet_pointers": packet_pointers,
        "packet_readable": assumptions.packet_readable,
        "packet_writable": assumptions.packet_writable,
        "not_mocked": assumptions.not_mocked.iter().map(|&helper| helper_name(helper)).collect::<Vec<_>>(),
    })
}

pub(crate) fn jited(programs: &[Jited], out: &mut dyn Write) -> io::Result<()> {
    let code = |lines: &[X86]| {
        let line = |line: &X86| json!({ "offset": line.offset, "label": line.label, "bytes": hex(&line.bytes), "text": line.text });
        lines.iter().map(line).collect::<Vec<_>>()
    };
    let program = |program: &Jited| {
        let insns = program.insns.iter().map(|insn| {
            let access = insn.access.as_ref().map(|access| {
                let offsets = access.offsets.as_ref();
                json!({
                    "check": access.check.name(),
                    "object": access.object,
                    "first": offsets.map(|offsets| *offsets.start()),
                    "last": offsets.map(|offsets| *offsets.end()),
                    "why": access.why,
                })
            });
            let line = insn
                .line
                .as_ref()
                .map(|line| json!({ "file": line.file, "line": line.line, "column": line.column, "text": line.text }));
            json!({
                "slot": insn.slot,
                "function": insn.function,
                "line": line,
                "text": insn.text,
                "access": access,
                "code": code(&insn.code),
            })
        });
        let totals = &program.totals;
        json!({
            "program": program.name,
            "section": program.section,
            "code_bytes": totals.bytes,
            "assumptions": assumptions(&program.assumptions),
            "accesses": { "proved": totals.proved, "object": totals.object, "window": totals.window },
            "instructions": insns.collect::<Vec<_>>(),
            "behind": code(&program.behind),
        })
    };
    write(&programs.iter().map(program).collect(), out)
}
