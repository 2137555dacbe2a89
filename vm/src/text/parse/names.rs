//! Labels, and what names in a text turn out to be once all labels are known.

use std::collections::HashMap;

use super::cursor::Fault;
use super::error::ParseErrorKind;
use super::{Assembly, Reference};
use crate::asm::aim;
use crate::codec::Code;
use crate::insn::{Callee, Imm64, Insn};

/// A name that an instruction uses.
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) what: NameKind,
}

/// What the name may be of.
#[derive(Clone, Copy)]
pub(super) enum NameKind {
    /// A label.
    Target,
    /// A label, or else a helper.
    Function,
    /// A label, or else something for the caller to know.
    Address,
    /// Something for the caller to know.
    Map,
}

struct NameUse<'a> {
    name: Name<'a>,
    index: usize,
    slot: usize,
}

#[derive(Default)]
pub(super) struct Names<'a> {
    labels: HashMap<&'a str, usize>,
    uses: Vec<NameUse<'a>>,
}

impl<'a> Names<'a> {
    /// A label at `slot`.
    pub(super) fn define(&mut self, label: &'a str, at: usize, slot: usize) -> Result<(), Fault> {
        match self.labels.get(label) {
            Some(&first) => Err(Fault::new(at, ParseErrorKind::DuplicateLabel { label: label.into(), first })),
            None => {
                self.labels.insert(label, slot);
                Ok(())
            }
        }
    }

    /// A label at `slot` unless there is one of that name.
    pub(super) fn define_missing(&mut self, label: &'a str, slot: usize) {
        self.labels.entry(label).or_insert(slot);
    }

    pub(super) fn use_name(&mut self, name: Name<'a>, index: usize, slot: usize) {
        self.uses.push(NameUse { name, index, slot });
    }

    /// The instructions, with what the names stand for.
    pub(super) fn resolve(
        self,
        mut insns: Vec<Insn>,
        helpers: &dyn Fn(&str) -> Option<i32>,
    ) -> Result<Assembly, Fault> {
        let mut references = Vec::new();
        for NameUse { name, index, slot } in self.uses {
            let fault = |kind| Fault::new(name.at, kind);
            let Some(insn) = insns.get_mut(index) else { continue };
            let label = self.labels.get(name.text).map(|&target| aim(*insn, slot, target));
            match (name.what, label) {
                (NameKind::Target | NameKind::Function, Some(aimed)) => {
                    *insn = aimed.map_err(|far| fault(ParseErrorKind::FarTarget(far)))?;
                }
                (NameKind::Target, None) => return Err(fault(ParseErrorKind::UnknownLabel(name.text.into()))),
                (NameKind::Function, None) => {
                    let helper = helpers(name.text);
                    let number = helper.ok_or_else(|| fault(ParseErrorKind::UnknownFunction(name.text.into())))?;
                    *insn = Insn::Call(Callee::Helper(number));
                }
                (NameKind::Address | NameKind::Map, _) => {
                    let Insn::LoadImm64 { dst, value } = *insn else { continue };
                    let label = self.labels.get(name.text).filter(|_| matches!(name.what, NameKind::Address));
                    match (label, value) {
                        (Some(&target), Imm64::Value(0)) => {
                            let load = Insn::LoadImm64 { dst, value: Imm64::Code(0) };
                            *insn = aim(load, slot, target).map_err(|far| fault(ParseErrorKind::FarTarget(far)))?;
                        }
                        _ => references.push(Reference { slot, name: name.text.into(), value }),
                    }
                }
            }
        }
        let labels = self.labels.into_iter().map(|(label, slot)| (label.to_owned(), slot)).collect();
        Ok(Assembly { code: Code::from(insns), labels, references })
    }
}
