//! The maps of an object, and which of them a place in the file stands for.
//!
//! Definitions come from BTF ([`super::map_definitions`]) or from a section `maps` ([`super::legacy_maps`]), global
//! data from [`super::data`]. This file keeps them together and reads the initial contents of maps of programs and
//! maps. libbpf's `bpf_object__init_maps` and `bpf_object__collect_map_relos`.

use std::collections::{BTreeMap, BTreeSet};

use object::elf;

use super::elf::{Elf, Relocation};
use super::error::{MapError, ObjectError, RelocationError};
use super::functions::Functions;
use crate::codec::SLOT_BYTES;
use crate::map_spec::{InitialSlot, MapSpec, MapType};

/// The section of definitions that BTF describes.
pub(super) const MAPS_SECTION: &str = ".maps";

/// Where a map is defined.
#[derive(Debug, Clone, Copy)]
struct Definition {
    map: usize,
    size: u64,
    /// Where its initial slots begin, from the start of the definition.
    slots: Option<u64>,
}

/// The maps of an object.
#[derive(Debug, Default)]
pub(super) struct Maps {
    pub(super) specs: Vec<MapSpec>,
    /// By section and offset.
    definitions: BTreeMap<(usize, u64), Definition>,
    definition_sections: BTreeSet<usize>,
    /// Map of each section of global data.
    data: BTreeMap<usize, usize>,
    pub(super) kconfig: Option<i32>,
}

impl Maps {
    /// Adds a map that a section defines.
    pub(super) fn define(
        &mut self,
        spec: MapSpec,
        section: usize,
        offset: u64,
        size: u64,
        slots: Option<u64>,
    ) -> Result<(), ObjectError> {
        self.definition_sections.insert(section);
        let definition = Definition { map: self.specs.len(), size, slots };
        if self.definitions.insert((section, offset), definition).is_some() {
            return Err(ObjectError::Map { map: spec.name, reason: MapError::SameOffset });
        }
        self.specs.push(spec);
        Ok(())
    }

    /// Adds the map of a section of global data.
    pub(super) fn define_data(&mut self, spec: MapSpec, section: usize) {
        self.data.insert(section, self.specs.len());
        self.specs.push(spec);
    }

    /// Says that a section of global data is the contents of a map that is defined elsewhere.
    pub(super) fn alias_data(&mut self, section: usize, map: usize) {
        self.data.insert(section, map);
    }

    /// The map of a section of global data.
    pub(super) fn data(&self, section: usize) -> Option<i32> {
        self.data.get(&section).and_then(|map| i32::try_from(*map).ok())
    }

    /// Maps are defined in the section.
    pub(super) fn holds_definitions(&self, section: usize) -> bool {
        self.definition_sections.contains(&section)
    }

    /// The map that is defined at an offset of a section.
    pub(super) fn at(&self, section: usize, offset: u64) -> Option<i32> {
        let definition = self.definitions.get(&(section, offset))?;
        i32::try_from(definition.map).ok()
    }

    /// Reads the initial slots of maps of programs and maps.
    pub(super) fn read_slots(&mut self, elf: &Elf<'_>, functions: &Functions) -> Result<(), ObjectError> {
        let Some((section, header)) = elf.find(MAPS_SECTION) else { return Ok(()) };
        let data = header.data()?;
        for relocation in elf.relocations(section)? {
            self.read_slot(elf, functions, section, data, &relocation).map_err(|reason| {
                let symbol = elf.symbols.get(relocation.symbol);
                ObjectError::Relocation {
                    section: MAPS_SECTION.into(),
                    offset: relocation.offset,
                    symbol: symbol.map_or_else(String::new, |symbol| symbol.name.to_string()),
                    reason,
                }
            })?;
        }
        Ok(())
    }

    fn read_slot(
        &mut self,
        elf: &Elf<'_>,
        functions: &Functions,
        section: usize,
        data: &[u8],
        relocation: &Relocation,
    ) -> Result<(), RelocationError> {
        if relocation.kind == elf::R_BPF_NONE.0 {
            return Ok(());
        }
        if relocation.kind != R_BPF_64_ABS64 && relocation.kind != elf::R_BPF_64_64.0 {
            return Err(RelocationError::Type(relocation.kind));
        }
        let symbol = elf.symbols.get(relocation.symbol).ok_or(RelocationError::NoSymbol(relocation.symbol))?;
        let (map, index) = self.slot_at(section, relocation.offset).ok_or(RelocationError::NotASlot)?;
        let addend = usize::try_from(relocation.offset).ok().and_then(|offset| data.get(offset..)?.first_chunk());
        let addend = addend.map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let target = (symbol.section.ok_or(RelocationError::NoSection)?, symbol.value.wrapping_add(addend));
        let slot = if self.specs.get(map).is_some_and(|spec| spec.map_type == MapType::ProgArray) {
            InitialSlot::Program(entry_at(functions, target).ok_or(RelocationError::NotAProgram)?)
        } else {
            let found = self.definitions.get(&target);
            let (_, offset) = target;
            let missing = RelocationError::NoMap { section: MAPS_SECTION.to_owned(), offset: offset as i64 };
            InitialSlot::Map(found.ok_or(missing)?.map)
        };
        if let Some(spec) = self.specs.get_mut(map) {
            spec.initial_slots.insert(index, slot);
        }
        Ok(())
    }

    /// The map and the index that eight bytes of a definition are the initial slot of.
    fn slot_at(&self, section: usize, offset: u64) -> Option<(usize, u32)> {
        let (&(_, start), definition) = self.definitions.range((section, 0)..=(section, offset)).next_back()?;
        let inside = offset - start;
        let place = inside.checked_sub(definition.slots?)?;
        let fits = inside.checked_add(8)? <= definition.size && place.is_multiple_of(8);
        fits.then_some((definition.map, u32::try_from(place / 8).ok()?))
    }
}

/// `R_BPF_64_ABS64`: a 64-bit address in data. LLVM's `llvm/BinaryFormat/ELFRelocs/BPF.def`.
const R_BPF_64_ABS64: u32 = 2;

/// Name of the entry program that starts at an offset of a section.
fn entry_at(functions: &Functions, (section, offset): (usize, u64)) -> Option<std::sync::Arc<str>> {
    let slot = u32::try_from(offset / SLOT_BYTES as u64).ok()?;
    let function = functions.all.get(functions.find(functions.section_of(section)?, slot)?)?;
    let starts_here = function.slots.start == slot && offset.is_multiple_of(SLOT_BYTES as u64);
    (function.is_entry && starts_here).then(|| function.name.clone())
}
