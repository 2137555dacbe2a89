//! Global variables: each section of data becomes an array map of one value.
//!
//! libbpf's `bpf_object__init_global_data_maps` and `bpf_object__init_internal_map`.

use std::sync::Arc;

use object::elf;

use super::elf::{Elf, Section};
use super::error::{MAX_DATA, MapError, ObjectError};
use super::maps::Maps;
use super::types::Types;
use crate::map_spec::{DataSection, MapSpec, MapType, map_flags};

/// Variables that live in the object's arena, if it has one.
const ARENA_SECTION: &str = ".addr_space.1";

/// Makes a map of every section of global data.
pub(super) fn read(elf: &Elf<'_>, types: &Types, maps: &mut Maps) -> Result<(), ObjectError> {
    for (index, section) in elf.sections.iter().enumerate() {
        if section.size == 0 || section.is_code() {
            continue;
        }
        if let Some(kind) = kind_of(section) {
            let spec = global_data(section.name, kind, section.size, types)?;
            let bytes = section.data()?;
            let initial_value = (kind != DataSection::Bss).then(|| Arc::from(bytes));
            maps.define_data(MapSpec { initial_value, ..spec }, index);
        } else if section.name == ARENA_SECTION && section.kind == elf::SHT_PROGBITS {
            read_arena(index, section, maps)?;
        }
    }
    Ok(())
}

/// The map of a section of global data, without its contents.
pub(super) fn global_data(name: &str, kind: DataSection, size: u64, types: &Types) -> Result<MapSpec, ObjectError> {
    let too_large = ObjectError::DataTooLarge { section: name.to_owned(), size };
    let Some(value_size) = u32::try_from(size).ok().filter(|_| size <= MAX_DATA) else { return Err(too_large) };
    let mut spec = MapSpec::global_data(name, kind, value_size);
    spec.value_type_id = types.data_section(name);
    if spec.value_type_id.is_some_and(|id| types.has_visible_variable(id)) {
        spec.map_flags |= map_flags::MMAPABLE;
    }
    Ok(spec)
}

fn kind_of(section: &Section<'_>) -> Option<DataSection> {
    let is = |name: &str| section.name.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    match section.kind {
        elf::SHT_PROGBITS if is(".rodata") => Some(DataSection::Rodata),
        elf::SHT_PROGBITS if is(".data") => Some(DataSection::Data),
        elf::SHT_NOBITS if is(".bss") => Some(DataSection::Bss),
        _ => None,
    }
}

/// Variables in the arena are its first contents; without one they are data that nobody can refer to.
fn read_arena(index: usize, section: &Section<'_>, maps: &mut Maps) -> Result<(), ObjectError> {
    let Some(map) = maps.specs.iter().position(|spec| spec.map_type == MapType::Arena) else { return Ok(()) };
    if let Some(spec) = maps.specs.get_mut(map) {
        if section.size > u64::from(spec.max_entries) * 4096 {
            let reason = MapError::DataTooLarge { size: section.size };
            return Err(ObjectError::Map { map: spec.name.clone(), reason });
        }
        spec.initial_value = Some(section.data()?.into());
    }
    maps.alias_data(index, map);
    Ok(())
}
