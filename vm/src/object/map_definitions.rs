//! Maps that BTF defines: the section `.maps`.
//!
//! A definition is a struct whose members carry numbers in their types: `__uint(type, 1)` is a pointer to an array of
//! one element. libbpf's `bpf_object__init_user_btf_map` and `parse_btf_map_def`, in its strict mode.

use super::elf::Elf;
use super::error::{MAX_NAME, MapError, ObjectError};
use super::maps::{MAPS_SECTION, Maps};
use super::types::Types;
use crate::btf::{Btf, Kind, Member, SectionVar, TypeId};
use crate::map_spec::{MapSpec, MapType, Pinning};

/// More members than a definition can have a use for.
const MAX_FIELDS: usize = 64;

/// A page of the machine that the object is for, the unit of a ring buffer's size.
const PAGE: u32 = 4096;

/// Reads every definition.
pub(super) fn read(elf: &Elf<'_>, types: &Types, maps: &mut Maps) -> Result<(), ObjectError> {
    let Some((section, header)) = elf.find(MAPS_SECTION) else { return Ok(()) };
    let btf = types.btf().ok_or(ObjectError::NoBtf { section: MAPS_SECTION })?;
    let id = types.data_section(MAPS_SECTION).ok_or(ObjectError::NoBtf { section: MAPS_SECTION })?;
    let Some(Kind::DataSec { vars, .. }) = btf.get(id).map(|found| &found.kind) else { return Ok(()) };
    for var in vars {
        let name = btf.get(var.type_id).and_then(|found| btf.strings().get_short(found.name, MAX_NAME));
        let name = name.unwrap_or_default();
        let fail = |reason| ObjectError::Map { map: name.to_owned(), reason };
        let (spec, slots) = read_variable(btf, name, var, header.size).map_err(fail)?;
        maps.define(spec, section, var.offset.into(), var.size.into(), slots)?;
    }
    Ok(())
}

/// A map, and where in its definition the initial slots begin.
fn read_variable(
    btf: &Btf,
    name: &str,
    var: &SectionVar,
    section_size: u64,
) -> Result<(MapSpec, Option<u64>), MapError> {
    if u64::from(var.offset) + u64::from(var.size) > section_size {
        return Err(MapError::OutsideSection);
    }
    let kind = kind(btf, var.type_id)?;
    let Kind::Var { type_id, .. } = kind else { return Err(MapError::NotAVariable(kind.name())) };
    let definition = resolve(btf, *type_id)?;
    let mut reader =
        Reader { btf, spec: MapSpec::new(name, MapType::Unknown(0), 0, 0, 0), slots: None, is_inner: false };
    reader.read(definition)?;
    Ok((reader.spec, reader.slots))
}

fn kind(btf: &Btf, id: TypeId) -> Result<&Kind, MapError> {
    btf.kind(id).map_err(|source| MapError::Btf { id, source })
}

fn resolve(btf: &Btf, id: TypeId) -> Result<&Kind, MapError> {
    kind(btf, btf.resolve(id).map_err(|source| MapError::Btf { id, source })?)
}

/// Reads the members of one definition.
struct Reader<'a> {
    btf: &'a Btf,
    spec: MapSpec,
    slots: Option<u64>,
    is_inner: bool,
}

impl Reader<'_> {
    fn read(&mut self, definition: &Kind) -> Result<(), MapError> {
        let Kind::Struct { members, .. } = definition else { return Err(MapError::NotAStruct(definition.name())) };
        if members.len() > MAX_FIELDS {
            return Err(MapError::TooManyFields(members.len()));
        }
        for (position, member) in members.iter().enumerate() {
            self.field(member, position + 1 == members.len())?;
        }
        if self.spec.map_type == MapType::Unknown(0) {
            return Err(MapError::NoType);
        }
        if matches!(self.spec.map_type, MapType::Ringbuf | MapType::UserRingbuf) {
            self.spec.max_entries = ring_size(self.spec.max_entries);
        }
        Ok(())
    }

    fn field(&mut self, member: &Member, is_last: bool) -> Result<(), MapError> {
        match self.btf.strings().get_short(member.name, MAX_NAME).unwrap_or_default() {
            "type" => self.spec.map_type = MapType::from_number(self.number("type", member)?),
            "max_entries" => self.spec.max_entries = self.number("max_entries", member)?,
            "map_flags" => self.spec.map_flags = self.number("map_flags", member)?,
            "numa_node" => self.spec.numa_node = self.number("numa_node", member)?,
            "map_extra" => self.spec.map_extra = self.long("map_extra", member)?,
            "key_size" => self.spec.key_size = agree("key_size", self.spec.key_size, self.number("key_size", member)?)?,
            "value_size" => {
                self.spec.value_size = agree("value_size", self.spec.value_size, self.number("value_size", member)?)?;
            }
            "key" => {
                let (id, size) = self.pointee("key", member)?;
                self.spec.key_size = agree("key", self.spec.key_size, size)?;
                self.spec.key_type_id = Some(id);
            }
            "value" => {
                let (id, size) = self.pointee("value", member)?;
                self.spec.value_size = agree("value", self.spec.value_size, size)?;
                self.spec.value_type_id = Some(id);
            }
            "pinning" if self.is_inner => return Err(MapError::NestedTooDeep),
            "pinning" => {
                self.spec.pinning = match self.number("pinning", member)? {
                    0 => Pinning::None,
                    1 => Pinning::ByName,
                    other => return Err(MapError::BadPinning(other)),
                };
            }
            "values" => self.values(member, is_last)?,
            unknown => return Err(MapError::UnknownField(unknown.to_owned())),
        }
        Ok(())
    }

    /// `__uint`: a pointer to an array of so many elements. libbpf's `get_map_field_int`.
    fn number(&self, field: &'static str, member: &Member) -> Result<u32, MapError> {
        let bad = |kind: &Kind| MapError::BadField { field, kind: kind.name() };
        let pointer = resolve(self.btf, member.type_id)?;
        let Kind::Ptr(target) = pointer else { return Err(bad(pointer)) };
        let array = kind(self.btf, *target)?;
        let Kind::Array { count, .. } = array else { return Err(bad(array)) };
        Ok(*count)
    }

    /// `__ulong`: an enumeration of one value, or as [`Reader::number`]. libbpf's `get_map_field_long`.
    fn long(&self, field: &'static str, member: &Member) -> Result<u64, MapError> {
        let found = resolve(self.btf, member.type_id)?;
        let Kind::Enum { values, .. } = found else { return self.number(field, member).map(u64::from) };
        match values.as_slice() {
            [only] => Ok(only.value),
            _ => Err(MapError::BadField { field, kind: found.name() }),
        }
    }

    /// `__type`: a pointer to the type. Gives the type and its size.
    fn pointee(&self, field: &'static str, member: &Member) -> Result<(TypeId, u32), MapError> {
        let pointer = kind(self.btf, member.type_id)?;
        let Kind::Ptr(id) = *pointer else { return Err(MapError::BadField { field, kind: pointer.name() }) };
        let size = self.btf.size_of(id).map_err(|source| MapError::Btf { id, source })?;
        Ok((id, size))
    }

    /// `__array(values, ...)`: the template of the maps in a map of maps, or the signature of programs.
    fn values(&mut self, member: &Member, is_last: bool) -> Result<(), MapError> {
        if self.is_inner {
            return Err(MapError::NestedTooDeep);
        }
        if !is_last {
            return Err(MapError::SlotsNotLast);
        }
        let holds_maps = matches!(self.spec.map_type, MapType::ArrayOfMaps | MapType::HashOfMaps);
        if !holds_maps && self.spec.map_type != MapType::ProgArray {
            return Err(MapError::NoSlots);
        }
        self.spec.value_size = agree("values", self.spec.value_size, 4)?;
        let bad = |kind: &Kind| MapError::BadField { field: "values", kind: kind.name() };
        let array = kind(self.btf, member.type_id)?;
        let Kind::Array { element, count: 0, .. } = *array else { return Err(bad(array)) };
        let pointer = resolve(self.btf, element)?;
        let Kind::Ptr(target) = *pointer else { return Err(bad(pointer)) };
        let target = resolve(self.btf, target)?;
        self.slots = Some(u64::from(member.bit_offset / 8));
        if holds_maps {
            let name = format!("{}.inner", self.spec.name);
            let spec = MapSpec::new(name, MapType::Unknown(0), 0, 0, 0);
            let mut inner = Reader { btf: self.btf, spec, slots: None, is_inner: true };
            inner.read(target)?;
            self.spec.inner = Some(Box::new(inner.spec));
        } else if !matches!(target, Kind::FuncProto { .. }) {
            return Err(bad(target));
        }
        Ok(())
    }
}

/// A size that is said twice must be the same.
fn agree(field: &'static str, first: u32, second: u32) -> Result<u32, MapError> {
    if first != 0 && first != second { Err(MapError::Conflict { field, first, second }) } else { Ok(second) }
}

/// The size of a ring buffer that the kernel accepts: the next power of two of pages. libbpf's `adjust_ringbuf_sz`.
pub(super) fn ring_size(size: u32) -> u32 {
    if size == 0 {
        return 0;
    }
    size.max(PAGE).checked_next_power_of_two().unwrap_or(size)
}
