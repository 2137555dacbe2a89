//! Symbols that the object expects from the kernel: `__ksym` variables and functions, `__kconfig` values.
//!
//! They stay unresolved: nobody here knows a kernel. Values of the configuration get a place in a map `.kconfig`, laid
//! out as libbpf does. libbpf's `bpf_object__collect_externs` and `bpf_object__init_kconfig_map`.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::data::global_data;
use super::elf::{Elf, Symbol};
use super::error::ObjectError;
use super::maps::Maps;
use super::types::{KCONFIG, Types};
use crate::btf::Kind;
use crate::map_spec::DataSection;
use crate::program::{Extern, ExternKind};

/// The externs of an object.
#[derive(Default)]
pub(super) struct Externs {
    pub(super) all: Vec<Extern>,
    /// By index of the symbol.
    by_symbol: HashMap<usize, i32>,
}

impl Externs {
    /// Collects the undefined symbols, and adds the map `.kconfig` if one of them is configuration.
    pub(super) fn collect(elf: &Elf<'_>, types: &mut Types, maps: &mut Maps) -> Result<Externs, ObjectError> {
        let mut externs = Externs::default();
        let mut kconfig = Vec::new();
        for (index, symbol) in elf.symbols.iter().enumerate().filter(|(_, symbol)| symbol.is_extern()) {
            let found = describe(symbol, types)?;
            if let ExternKind::Kconfig { size, .. } = found.kind {
                kconfig.push((externs.all.len(), size));
            }
            externs.by_symbol.insert(index, externs.all.len() as i32);
            externs.all.push(found);
        }
        if !kconfig.is_empty() {
            externs.lay_out(kconfig, types, maps)?;
        }
        Ok(externs)
    }

    /// The extern of a symbol: its index, and whether it is weak.
    pub(super) fn find(&self, symbol: usize) -> Option<(i32, bool)> {
        let index = *self.by_symbol.get(&symbol)?;
        Some((index, self.all.get(index as usize)?.weak))
    }

    /// Map and offset of an extern that is configuration.
    pub(super) fn kconfig(&self, index: i32, maps: &Maps) -> Option<(i32, u32)> {
        match self.all.get(index as usize)?.kind {
            ExternKind::Kconfig { offset, .. } => Some((maps.kconfig?, offset)),
            ExternKind::Ksym | ExternKind::Kfunc => None,
        }
    }

    /// Gives each value of the configuration its offset: the most aligned first, then the smallest, then by name.
    fn lay_out(
        &mut self,
        mut kconfig: Vec<(usize, u32)>,
        types: &mut Types,
        maps: &mut Maps,
    ) -> Result<(), ObjectError> {
        let all = &mut self.all;
        let align = |index: usize| {
            let id = all.get(index).and_then(|found| found.type_id);
            id.and_then(|id| types.btf()?.align_of(id).ok()).unwrap_or(1)
        };
        let mut aligned: Vec<_> = kconfig.drain(..).map(|(index, size)| (align(index), size, index)).collect();
        let name = |index: usize| all.get(index).map(|found| found.name.clone());
        aligned.sort_by_cached_key(|(align, size, index)| (Reverse(*align), *size, name(*index)));
        let (mut end, mut offsets) = (0_u64, HashMap::new());
        for (align, size, index) in aligned {
            let start = end.next_multiple_of(align.into());
            end = start.saturating_add(size.into());
            if let Some(Extern { kind: ExternKind::Kconfig { offset, .. }, type_id, .. }) = all.get_mut(index) {
                // What does not fit is refused below, by the size of the whole.
                *offset = u32::try_from(start).unwrap_or(u32::MAX);
                offsets.extend(type_id.map(|id| (id, *offset)));
            }
        }
        let spec = global_data(KCONFIG, DataSection::Kconfig, end, types)?;
        types.complete_kconfig(spec.value_size, &offsets);
        maps.kconfig = i32::try_from(maps.specs.len()).ok();
        maps.specs.push(spec);
        Ok(())
    }
}

fn describe(symbol: &Symbol<'_>, types: &Types) -> Result<Extern, ObjectError> {
    let name = symbol.name.into();
    let weak = symbol.bind == object::elf::STB_WEAK;
    let Some((btf, (id, section))) = types.btf().zip(types.find_extern(symbol.name)) else {
        return Ok(Extern { name, weak, type_id: None, kind: ExternKind::Ksym });
    };
    let is_function = matches!(btf.get(id).map(|found| &found.kind), Some(Kind::Func { .. }));
    let kind = match section {
        _ if is_function => ExternKind::Kfunc,
        KCONFIG => match btf.size_of(id) {
            Ok(size) => ExternKind::Kconfig { offset: 0, size },
            Err(source) => return Err(ObjectError::Extern { name, source }),
        },
        _ => ExternKind::Ksym,
    };
    Ok(Extern { name, weak, type_id: Some(id), kind })
}
