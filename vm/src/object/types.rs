//! The object's BTF, completed with what only the symbol table knows, and indexed by name.
//!
//! Compilers leave the sizes of data sections and the offsets of global variables zero, for the loader to fill in.
//! libbpf's `btf_fixup_datasec`, `find_extern_btf_id` and `map_is_mmapable`.

use std::collections::{HashMap, HashSet};

use super::elf::Elf;
use super::error::{MAX_NAME, ObjectError};
use crate::btf::ext::BtfExt;
use crate::btf::{Btf, BtfError, Kind, Linkage, Name, TypeId};

/// The data section of the kernel's configuration.
pub(super) const KCONFIG: &str = ".kconfig";

/// What the object knows of types.
#[derive(Default)]
pub(super) struct Types {
    btf: Option<Btf>,
    ext: BtfExt,
    /// Data sections, sorted by name.
    sections: Vec<TypeId>,
    /// Variables and functions that are defined elsewhere, sorted by name.
    externs: Vec<TypeId>,
    /// Data sections with a variable that other files may see.
    visible: HashSet<TypeId>,
    /// The data section that lists a variable or function.
    listed: HashMap<TypeId, TypeId>,
}

impl Types {
    pub(super) fn parse(elf: &Elf<'_>) -> Result<Types, ObjectError> {
        let Some((_, header)) = elf.find(".BTF") else { return Ok(Types::default()) };
        let fail = |section| move |source: BtfError| ObjectError::Btf { section, source };
        let mut btf = Btf::parse(header.data()?).map_err(fail(".BTF"))?;
        let ext = match elf.find(".BTF.ext") {
            Some((_, header)) => BtfExt::parse(header.data()?).map_err(fail(".BTF.ext"))?,
            None => BtfExt::default(),
        };
        complete_sections(&mut btf, elf);
        Ok(Types {
            sections: index(&btf, |kind| matches!(kind, Kind::DataSec { .. })),
            externs: index(&btf, is_extern),
            visible: index_visible(&btf),
            listed: index_listed(&btf),
            btf: Some(btf),
            ext,
        })
    }

    pub(super) fn btf(&self) -> Option<&Btf> {
        self.btf.as_ref()
    }

    pub(super) fn ext(&self) -> &BtfExt {
        &self.ext
    }

    pub(super) fn into_btf(self) -> Option<Btf> {
        self.btf
    }

    /// The data section with this name.
    pub(super) fn data_section(&self, name: &str) -> Option<TypeId> {
        find(self.btf()?, &self.sections, name)
    }

    /// The extern with this name, and the name of the data section that lists it.
    pub(super) fn find_extern(&self, name: &str) -> Option<(TypeId, &str)> {
        let id = find(self.btf()?, &self.externs, name)?;
        let section = self.listed.get(&id).and_then(|section| self.btf()?.get(*section));
        Some((id, section.map_or("", |section| self.short(section.name))))
    }

    /// Whether a data section has a variable that other files may see.
    pub(super) fn has_visible_variable(&self, id: TypeId) -> bool {
        self.visible.contains(&id)
    }

    /// Fills in the data section `.kconfig`: its size and the offsets of its variables.
    pub(super) fn complete_kconfig(&mut self, new_size: u32, offsets: &HashMap<TypeId, u32>) {
        let Some(id) = self.data_section(KCONFIG) else { return };
        let Some((size, vars)) = self.btf.as_mut().and_then(|btf| btf.data_section_mut(id)) else { return };
        *size = new_size;
        for var in vars.iter_mut() {
            var.offset = offsets.get(&var.type_id).copied().unwrap_or(var.offset);
        }
        vars.sort_by_key(|var| var.offset);
    }

    /// A name that is short enough to be one.
    pub(super) fn short(&self, name: Name) -> &str {
        self.btf().map_or("", |btf| short(btf, name))
    }
}

fn short(btf: &Btf, name: Name) -> &str {
    btf.strings().get_short(name, MAX_NAME).unwrap_or_default()
}

fn name_of(btf: &Btf, id: TypeId) -> &str {
    btf.get(id).map_or("", |found| short(btf, found.name))
}

fn is_extern(kind: &Kind) -> bool {
    matches!(kind, Kind::Var { linkage: Linkage::Extern, .. } | Kind::Func { linkage: Linkage::Extern, .. })
}

/// The types of some kind, sorted by name.
fn index(btf: &Btf, wanted: impl Fn(&Kind) -> bool) -> Vec<TypeId> {
    let mut ids: Vec<_> = btf.types().filter(|(_, found)| wanted(&found.kind)).map(|(id, _)| id).collect();
    ids.sort_by_key(|id| name_of(btf, *id));
    ids
}

/// The first type with this name in an index.
fn find(btf: &Btf, sorted: &[TypeId], name: &str) -> Option<TypeId> {
    let first = sorted.partition_point(|id| name_of(btf, *id) < name);
    sorted.get(first).copied().filter(|id| name_of(btf, *id) == name)
}

fn index_visible(btf: &Btf) -> HashSet<TypeId> {
    let is_visible = |id| {
        let kind = btf.get(id).map(|found| &found.kind);
        matches!(kind, Some(Kind::Var { linkage: Linkage::Global | Linkage::Extern, .. }))
    };
    let has_visible = |kind: &Kind| {
        let Kind::DataSec { vars, .. } = kind else { return false };
        vars.iter().any(|var| is_visible(var.type_id))
    };
    btf.types().filter(|(_, found)| has_visible(&found.kind)).map(|(id, _)| id).collect()
}

fn index_listed(btf: &Btf) -> HashMap<TypeId, TypeId> {
    let mut listed = HashMap::new();
    for (id, found) in btf.types() {
        if let Kind::DataSec { vars, .. } = &found.kind {
            listed.extend(vars.iter().map(|var| (var.type_id, id)));
        }
    }
    listed
}

/// Fills in the size of every data section whose size is 0, and the offsets of its global variables.
fn complete_sections(btf: &mut Btf, elf: &Elf<'_>) {
    let mut by_name: HashMap<&str, (usize, u64)> = HashMap::new();
    for (index, section) in elf.sections.iter().enumerate() {
        by_name.entry(section.name).or_insert((index, section.size));
    }
    let mut values: HashMap<(usize, &str), u64> = HashMap::new();
    for symbol in &elf.symbols {
        if let Some(section) = symbol.section {
            values.entry((section, symbol.name)).or_insert(symbol.value);
        }
    }
    let mut changes = Vec::new();
    for (id, found) in btf.types() {
        let Kind::DataSec { size: 0, vars } = &found.kind else { continue };
        let section = btf.strings().get_short(found.name, MAX_NAME).and_then(|name| by_name.get(name));
        let Some(&(index, size)) = section else { continue };
        let offset = |var: TypeId| {
            let name = btf.strings().get_short(btf.get(var)?.name, MAX_NAME)?;
            values.get(&(index, name)).and_then(|value| u32::try_from(*value).ok())
        };
        let offsets: Vec<_> = vars.iter().map(|var| offset(var.type_id).unwrap_or(var.offset)).collect();
        changes.push((id, u32::try_from(size).unwrap_or(u32::MAX), offsets));
    }
    for (id, new_size, offsets) in changes {
        let Some((size, vars)) = btf.data_section_mut(id) else { continue };
        *size = new_size;
        vars.iter_mut().zip(offsets).for_each(|(var, offset)| var.offset = offset);
        vars.sort_by_key(|var| var.offset);
    }
}
