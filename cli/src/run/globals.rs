//! `--set`: global variables get their values before the run, as a loader writes them through the skeleton.

use std::sync::Arc;

use softbpf::Machine;
use softbpf::program::ExternKind;

use crate::args::{Place, Setting};
use crate::elf::{self, Variable};
use crate::error::CliError;
use crate::input::{Format, Input};
use crate::literal::Literal;

/// The only key of a section of global data.
pub(crate) const KEY: [u8; 4] = [0; 4];

pub(crate) fn set(settings: &[Setting], input: &Input, vm: &mut Machine) -> Result<(), CliError> {
    if settings.is_empty() {
        return Ok(());
    }
    let variables = variables(input)?;
    settings.iter().try_for_each(|setting| write(&find(&setting.place, &variables)?, &setting.value, vm))
}

/// The sections whose variables are set.
pub(crate) fn sections(settings: &[Setting], input: &Input) -> Result<Vec<Arc<str>>, CliError> {
    let variables = if settings.is_empty() { Vec::new() } else { variables(input)? };
    settings.iter().map(|setting| Ok(find(&setting.place, &variables)?.section)).collect()
}

/// Every variable that a map holds: by the symbols, and those of the kernel's configuration.
fn variables(input: &Input) -> Result<Vec<Variable>, CliError> {
    let data = input.object.maps().iter().filter(|map| map.data.is_some());
    let sections: Vec<Arc<str>> = data.map(|map| map.name.as_str().into()).collect();
    let mut variables = Vec::new();
    if input.format == Format::Elf {
        let at_file = |source| CliError::Symbols { file: input.file.clone(), source };
        variables.extend(elf::variables(&elf::parse(&input.bytes).map_err(at_file)?, &sections));
    }
    for external in input.object.externs() {
        if let ExternKind::Kconfig { offset, size } = external.kind {
            let (name, section) = (external.name.to_string(), ".kconfig".into());
            variables.push(Variable { name, section, offset: offset.into(), size: size.into() });
        }
    }
    Ok(variables)
}

fn find(place: &Place, variables: &[Variable]) -> Result<Variable, CliError> {
    match place {
        Place::Name(name) => variables.iter().find(|known| known.name == *name).cloned().ok_or_else(|| {
            let known = variables.iter().map(|known| known.name.clone()).collect();
            CliError::NoSuchVariable { name: name.clone(), known }
        }),
        Place::Section { section, offset, size } => Ok(Variable {
            name: format!("{section}+{offset}"),
            section: section.as_str().into(),
            offset: *offset,
            size: *size,
        }),
    }
}

fn write(variable: &Variable, value: &Literal, vm: &mut Machine) -> Result<(), CliError> {
    let Variable { name, section, offset, size } = variable;
    let mut map = vm.map(section)?;
    let mut bytes = map.get_bytes(&KEY)?.unwrap_or_default();
    let end = offset.saturating_add(*size);
    let outside = CliError::OutsideSection {
        name: name.clone(),
        section: section.clone(),
        offset: *offset,
        end,
        size: bytes.len(),
    };
    let range = usize::try_from(*offset).ok().zip(usize::try_from(end).ok());
    let Some(place) = range.and_then(|(start, end)| bytes.get_mut(start..end)) else { return Err(outside) };
    let value = value.to_bytes(place.len());
    place.copy_from_slice(&value.map_err(|source| CliError::VariableLiteral { name: name.clone(), source })?);
    Ok(map.insert_bytes(&KEY, &bytes, 0)?)
}
