//! Bytes to an [`Object`]: the order in which the parts of the file are read.
//!
//! libbpf's `bpf_object_open`.

use std::collections::HashMap;
use std::sync::Arc;

use super::data;
use super::elf::Elf;
use super::error::{MAX_NAME, ObjectError};
use super::externs::Externs;
use super::functions::Functions;
use super::legacy_maps;
use super::link::Image;
use super::map_definitions;
use super::maps::Maps;
use super::relocations::Context;
use super::types::Types;
use super::{Body, ElfFacts, Entry, Object, StructOps};
use crate::btf::Kind;
use crate::btf::ext::Records;
use crate::codec::SLOT_BYTES;
use crate::program::{LineRecord, ProgramInfo};

pub(super) fn parse(bytes: &[u8]) -> Result<Object, ObjectError> {
    let elf = Elf::parse(bytes)?;
    let mut types = Types::parse(&elf)?;
    let mut functions = Functions::collect(&elf)?;
    let mut maps = Maps::default();
    map_definitions::read(&elf, &types, &mut maps)?;
    legacy_maps::read(&elf, &mut maps)?;
    data::read(&elf, &types, &mut maps)?;
    let externs = Externs::collect(&elf, &mut types, &mut maps)?;
    maps.read_slots(&elf, &functions)?;
    let context = Context { elf: &elf, functions: &functions, maps: &maps, externs: &externs };
    let fixups = context.fixups()?;
    read_source(&types, &mut functions);
    let strings = types.btf().map(|btf| btf.strings().clone()).unwrap_or_default();
    Ok(Object {
        name: "".into(),
        programs: entries(&functions),
        image: Image { functions, fixups, strings },
        maps: maps.specs,
        externs: externs.all.into(),
        license: license(&elf)?,
        version: version(&elf)?,
        struct_ops: struct_ops(&elf, &types),
        btf: types.into_btf().map(Arc::new),
        elf: Some(ElfFacts { flags: elf.flags, sections: elf.sections.len(), symbols: elf.symbols.len() }),
    })
}

fn entries(functions: &Functions) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (id, function) in functions.all.iter().enumerate().filter(|(_, function)| function.is_entry) {
        let Some(section) = functions.sections.get(function.section) else { continue };
        let info = ProgramInfo::in_section(Arc::clone(&function.name), Arc::clone(&section.name));
        entries.push(Entry { info, body: Body::Function(id) });
    }
    entries
}

/// Hands each section of code its source lines and CO-RE relocations, sorted, the first of each slot.
fn read_source(types: &Types, functions: &mut Functions) {
    let mut by_name = HashMap::new();
    for (index, section) in functions.sections.iter().enumerate() {
        by_name.entry(section.name.to_string()).or_insert(index);
    }
    let section_of = |name| by_name.get(types.short(name)).copied();
    let slot = |offset: u32| offset / SLOT_BYTES as u32;
    for Records { section, records } in &types.ext().lines {
        let Some(code) = section_of(*section).and_then(|index| functions.sections.get_mut(index)) else { continue };
        code.lines.extend(records.iter().map(|record| LineRecord {
            slot: slot(record.offset),
            file: record.file,
            text: record.text,
            line: record.line,
            column: record.column,
        }));
    }
    for Records { section, records } in &types.ext().relocations {
        let Some(code) = section_of(*section).and_then(|index| functions.sections.get_mut(index)) else { continue };
        code.relocations.extend(records.iter().map(|record| (slot(record.offset), *record)));
    }
    for code in &mut functions.sections {
        code.lines.sort_by_key(|line| line.slot);
        code.lines.dedup_by_key(|line| line.slot);
        code.relocations.sort_by_key(|(slot, _)| *slot);
        code.relocations.dedup_by_key(|(slot, _)| *slot);
    }
}

/// Contents of the section `license`, up to the first zero.
fn license(elf: &Elf<'_>) -> Result<Option<Arc<str>>, ObjectError> {
    let Some((_, section)) = elf.find("license") else { return Ok(None) };
    let text = section.data()?.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = text.get(..MAX_NAME).unwrap_or(text);
    Ok(Some(String::from_utf8_lossy(text).into()))
}

/// Contents of the section `version`.
fn version(elf: &Elf<'_>) -> Result<Option<u32>, ObjectError> {
    let Some((_, section)) = elf.find("version") else { return Ok(None) };
    Ok(section.data()?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)))
}

/// Variables of the sections of `struct_ops`.
fn struct_ops(elf: &Elf<'_>, types: &Types) -> Vec<StructOps> {
    let mut found = Vec::new();
    for section in [".struct_ops", ".struct_ops.link", "?.struct_ops", "?.struct_ops.link"] {
        let id = elf.find(section).and_then(|_| types.data_section(section));
        let kind = types.btf().zip(id).and_then(|(btf, id)| btf.get(id)).map(|found| &found.kind);
        let Some(Kind::DataSec { vars, .. }) = kind else { continue };
        for var in vars {
            let Some(Kind::Var { type_id, .. }) = types.btf().and_then(|btf| btf.kind(var.type_id).ok()) else {
                continue;
            };
            let name = types.btf().and_then(|btf| btf.get(var.type_id)).map_or("", |var| types.short(var.name));
            found.push(StructOps { name: name.to_owned(), section: section.into(), type_id: *type_id });
        }
    }
    found
}
