//! Maps of old objects: structs of numbers in a section `maps`.
//!
//! `struct bpf_map_def` is type, key size, value size, entries and flags; longer structs are accepted if what follows
//! is zero. The symbols of the section say where the definitions are; old compilers gave them neither size nor type.
//! libbpf up to 0.8, `bpf_object__init_user_maps`.

use object::elf;

use super::elf::{Elf, Symbol};
use super::error::{MapError, ObjectError};
use super::map_definitions::ring_size;
use super::maps::Maps;
use crate::map_spec::{MapSpec, MapType};

/// Reads every definition.
pub(super) fn read(elf: &Elf<'_>, maps: &mut Maps) -> Result<(), ObjectError> {
    let Some((section, header)) = elf.find("maps") else { return Ok(()) };
    let data = header.data()?;
    let is_map = |symbol: &&Symbol<'_>| {
        symbol.section == Some(section) && matches!(symbol.kind, elf::STT_OBJECT | elf::STT_NOTYPE)
    };
    let mut symbols: Vec<_> = elf.symbols.iter().filter(is_map).collect();
    symbols.sort_by_key(|symbol| symbol.value);
    for (position, symbol) in symbols.iter().enumerate() {
        let end = symbols.get(position + 1).map_or(header.size, |next| next.value);
        let size = if symbol.size == 0 { end.saturating_sub(symbol.value) } else { symbol.size };
        let fail = |reason| ObjectError::Map { map: symbol.name.to_string(), reason };
        let spec = read_symbol(symbol, size, data).map_err(fail)?;
        maps.define(spec, section, symbol.value, size, None)?;
    }
    Ok(())
}

fn read_symbol(symbol: &Symbol<'_>, size: u64, data: &[u8]) -> Result<MapSpec, MapError> {
    let start = usize::try_from(symbol.value).map_err(|_| MapError::OutsideSection)?;
    let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size));
    let bytes = end.and_then(|end| data.get(start..end)).ok_or(MapError::OutsideSection)?;
    let (words, rest) = bytes.as_chunks();
    let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
    let mut next = || words.next().ok_or(MapError::BadSize { size });
    let (map_type, key_size, value_size, max_entries) = (next()?, next()?, next()?, next()?);
    let flags = next().unwrap_or(0);
    if !rest.is_empty() {
        return Err(MapError::BadSize { size });
    }
    if let Some(offset) = bytes.iter().skip(20).position(|byte| *byte != 0) {
        return Err(MapError::UnknownTail { offset: 20 + offset });
    }
    let map_type = MapType::from_number(map_type);
    let is_ring = matches!(map_type, MapType::Ringbuf | MapType::UserRingbuf);
    let max_entries = if is_ring { ring_size(max_entries) } else { max_entries };
    let spec = MapSpec::new(symbol.name, map_type, key_size, value_size, max_entries);
    Ok(MapSpec { map_flags: flags, ..spec })
}
