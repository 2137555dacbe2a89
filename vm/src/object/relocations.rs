//! What each instruction refers to: relocations, and calls inside a section that need none.
//!
//! All errors of linking are found here, once, before any program is put together.
//! libbpf's `bpf_object__collect_prog_relos` and `bpf_program__record_reloc`.

use std::collections::BTreeMap;
use std::sync::Arc;

use object::elf;

use super::elf::{Elf, Relocation, Symbol};
use super::error::{ObjectError, RelocationError};
use super::externs::Externs;
use super::functions::Functions;
use super::link::Fixup;
use super::maps::Maps;
use crate::codec::{SLOT_BYTES, target_slot};
use crate::insn::{Callee, Imm64, Insn};

/// What is needed to say what a symbol stands for.
pub(super) struct Context<'a> {
    pub(super) elf: &'a Elf<'a>,
    pub(super) functions: &'a Functions,
    pub(super) maps: &'a Maps,
    pub(super) externs: &'a Externs,
}

/// The instruction that a relocation is on.
enum Site {
    /// A call of a function, by `imm` slots after the next instruction.
    Call(i32),
    /// A 64-bit immediate load, of this many bytes after the symbol.
    Load(i32),
}

impl Context<'_> {
    /// What the instructions of every section of code refer to, sorted by slot.
    pub(super) fn fixups(&self) -> Result<Vec<Vec<(u32, Fixup)>>, ObjectError> {
        (0..self.functions.sections.len()).map(|section| self.section_fixups(section)).collect()
    }

    fn section_fixups(&self, id: usize) -> Result<Vec<(u32, Fixup)>, ObjectError> {
        let Some(section) = self.functions.sections.get(id) else { return Ok(Vec::new()) };
        let mut fixups = BTreeMap::new();
        for relocation in self.elf.relocations(section.index)? {
            let found = self.fixup(id, &relocation).and_then(|found| match found {
                Some((slot, fixup)) if fixups.insert(slot, fixup).is_some() => Err(RelocationError::Duplicate),
                _ => Ok(()),
            });
            found.map_err(|reason| self.error(&section.name, &relocation, reason))?;
        }
        self.local_references(id, &mut fixups)?;
        Ok(fixups.into_iter().collect())
    }

    /// Calls, and loads of addresses, that the assembler has resolved inside the section.
    fn local_references(&self, id: usize, fixups: &mut BTreeMap<u32, Fixup>) -> Result<(), ObjectError> {
        let Some(section) = self.functions.sections.get(id) else { return Ok(()) };
        for run in &section.runs {
            for (slot, insn) in run.code.iter() {
                let (Insn::Call(Callee::Local(off)) | Insn::LoadImm64 { value: Imm64::Code(off), .. }) = *insn else {
                    continue;
                };
                let slot = run.start + slot as u32;
                if fixups.contains_key(&slot) {
                    continue;
                }
                let target = target_slot(slot as usize, off);
                let fixup = u32::try_from(target).ok().and_then(|target| self.function_at(id, target));
                let bad = ObjectError::BadCall { section: Arc::clone(&section.name), slot: slot as usize, target };
                fixups.insert(slot, fixup.ok_or(bad)?);
            }
        }
        Ok(())
    }

    /// What one relocation says; nothing when it is for code that no function has (an overridden weak one).
    fn fixup(&self, section: usize, relocation: &Relocation) -> Result<Option<(u32, Fixup)>, RelocationError> {
        match elf::RelocationType(relocation.kind) {
            elf::R_BPF_NONE => return Ok(None),
            elf::R_BPF_64_64 | elf::R_BPF_64_32 => {}
            other => return Err(RelocationError::Type(other.0)),
        }
        let symbol = self.symbol(relocation)?;
        let slot = relocation.offset / SLOT_BYTES as u64;
        let slot = u32::try_from(slot).map_err(|_| RelocationError::BadOffset(relocation.offset))?;
        let Some((_, run)) = self.functions.run_at(section, slot) else { return Ok(None) };
        let insn = run.code.index_at((slot - run.start) as usize).and_then(|index| run.code.insns().get(index));
        if !relocation.offset.is_multiple_of(SLOT_BYTES as u64) {
            return Err(RelocationError::NotAtInstruction);
        }
        let site = insn.ok_or(RelocationError::NotAtInstruction).and_then(site)?;
        self.resolve(&site, relocation.symbol, symbol).map(|fixup| Some((slot, fixup)))
    }

    fn symbol(&self, relocation: &Relocation) -> Result<&Symbol<'_>, RelocationError> {
        self.elf.symbols.get(relocation.symbol).ok_or(RelocationError::NoSymbol(relocation.symbol))
    }

    fn resolve(&self, site: &Site, index: usize, symbol: &Symbol<'_>) -> Result<Fixup, RelocationError> {
        if let Some((index, weak)) = self.externs.find(index) {
            return Ok(match (site, self.externs.kconfig(index, self.maps)) {
                (Site::Load(_), Some((map, offset))) => Fixup::Data { map, offset },
                (Site::Load(_), None) if weak => Fixup::Absent,
                (Site::Load(_) | Site::Call(_), _) => Fixup::Extern(index),
            });
        }
        let section = symbol.section.ok_or(RelocationError::NoSection)?;
        let value = i64::try_from(symbol.value).map_err(|_| RelocationError::BadOffset(symbol.value))?;
        match (self.functions.section_of(section), site) {
            (Some(code), Site::Call(imm)) => {
                self.function(code, value, (i64::from(*imm) + 1).saturating_mul(SLOT_BYTES as i64))
            }
            (Some(code), Site::Load(addend)) => self.function(code, value, (*addend).into()),
            (None, Site::Load(addend)) => self.data(section, value, *addend),
            (None, Site::Call(_)) => Err(RelocationError::BadSection(self.section_name(section))),
        }
    }

    /// The function at `value + addend` bytes of a section of code.
    fn function(&self, section: usize, value: i64, addend: i64) -> Result<Fixup, RelocationError> {
        let offset = value.saturating_add(addend);
        let slot = u32::try_from(offset / SLOT_BYTES as i64).ok().filter(|_| offset % SLOT_BYTES as i64 == 0);
        slot.and_then(|slot| self.function_at(section, slot)).ok_or_else(|| {
            let name = self.functions.sections.get(section).map(|section| section.name.to_string());
            RelocationError::NoFunction { section: name.unwrap_or_default(), offset }
        })
    }

    fn function_at(&self, section: usize, slot: u32) -> Option<Fixup> {
        let function = self.functions.find(section, slot)?;
        let start = self.functions.all.get(function)?.slots.start;
        Some(Fixup::Function { function, offset: slot - start })
    }

    /// A map, or a byte of global data.
    fn data(&self, section: usize, value: i64, addend: i32) -> Result<Fixup, RelocationError> {
        if let Some(map) = self.maps.data(section) {
            // The compiler's addend may be negative; as in libbpf, the sum has 32 bits.
            let offset = (value as u32).wrapping_add(addend as u32);
            return Ok(Fixup::Data { map, offset });
        }
        if !self.maps.holds_definitions(section) {
            return Err(RelocationError::BadSection(self.section_name(section)));
        }
        let offset = value.saturating_add(addend.into());
        let map = u64::try_from(offset).ok().and_then(|offset| self.maps.at(section, offset));
        map.map(Fixup::Map).ok_or_else(|| RelocationError::NoMap { section: self.section_name(section), offset })
    }

    fn section_name(&self, section: usize) -> String {
        self.elf.sections.get(section).map_or_else(String::new, |section| section.name.to_string())
    }

    fn error(&self, section: &Arc<str>, relocation: &Relocation, reason: RelocationError) -> ObjectError {
        let symbol = self.elf.symbols.get(relocation.symbol);
        ObjectError::Relocation {
            section: Arc::clone(section),
            offset: relocation.offset,
            symbol: symbol.map_or_else(String::new, |symbol| symbol.name.to_string()),
            reason,
        }
    }
}

fn site(insn: &Insn) -> Result<Site, RelocationError> {
    if let Insn::Call(Callee::Local(imm)) = *insn {
        return Ok(Site::Call(imm));
    }
    let Insn::LoadImm64 { value, .. } = *insn else { return Err(RelocationError::BadInstruction) };
    Ok(Site::Load(match value {
        Imm64::Value(value) => value as i32,
        Imm64::MapFd(low)
        | Imm64::MapValue { fd: low, .. }
        | Imm64::Variable { btf_id: low, .. }
        | Imm64::Code(low)
        | Imm64::MapIndex(low)
        | Imm64::MapIndexValue { index: low, .. } => low,
    }))
}
