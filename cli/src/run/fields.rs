//! A context laid out by the type that the program's source gives it: the struct behind its first parameter.

use softbpf::btf::{Btf, Kind, Member};
use softbpf::program::ProgramInfo;

use crate::args::Field;
use crate::error::CliError;

/// Larger structures are no contexts.
const MAX_SIZE: u32 = 1 << 16;

/// The struct's bytes with these members set, all others 0; no bytes when the type is not known and nothing is set.
pub(crate) fn build(fields: &[Field], program: &ProgramInfo, btf: Option<&Btf>) -> Result<Vec<u8>, CliError> {
    let layout = btf.and_then(|btf| Some((btf, context_type(btf, &program.name)?)));
    let Some((btf, (size, members))) = layout else {
        return if fields.is_empty() {
            Ok(Vec::new())
        } else {
            Err(CliError::NoFields { program_type: program.program_type })
        };
    };
    let mut bytes = vec![0; size as usize];
    for field in fields {
        let place = members.iter().find(|member| btf.text(member.name) == field.name);
        let place = place.and_then(|member| place_of(btf, member));
        let place = place.and_then(|(offset, size)| bytes.get_mut(offset..offset.checked_add(size)?));
        let Some(place) = place else { return Err(no_such_field(btf, members, field, program)) };
        set(place, field)?;
    }
    Ok(bytes)
}

/// Size and members of the struct that the program's first parameter points to.
fn context_type<'b>(btf: &'b Btf, program: &str) -> Option<(u32, &'b [Member])> {
    let function = btf.find(program, |kind| matches!(kind, Kind::Func { .. }))?;
    let Kind::Func { proto, .. } = btf.kind(function).ok()? else { return None };
    let Kind::FuncProto { params, .. } = btf.kind(*proto).ok()? else { return None };
    let Kind::Ptr(target) = btf.kind(btf.resolve(params.first()?.type_id).ok()?).ok()? else { return None };
    let Kind::Struct { size, members } = btf.kind(btf.resolve(*target).ok()?).ok()? else { return None };
    (*size <= MAX_SIZE).then_some((*size, members))
}

/// Offset and size of a member that a number can be put into.
fn place_of(btf: &Btf, member: &Member) -> Option<(usize, usize)> {
    if member.bitfield_bits != 0 || !member.bit_offset.is_multiple_of(8) {
        return None;
    }
    let size = btf.size_of(member.type_id).ok()? as usize;
    (1..=8).contains(&size).then_some((member.bit_offset as usize / 8, size))
}

/// Little-endian; a negative number may lose what only repeats its sign.
fn set(place: &mut [u8], field: &Field) -> Result<(), CliError> {
    let value = field.value.to_le_bytes();
    let (bytes, rest) = value.split_at(place.len());
    let sign = if bytes.last().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    if !rest.iter().all(|&byte| byte == 0) && !rest.iter().all(|&byte| byte == sign) {
        let size = place.len() as u32;
        return Err(CliError::FieldTooLarge { name: field.name.clone(), value: field.value, size });
    }
    place.copy_from_slice(bytes);
    Ok(())
}

fn no_such_field(btf: &Btf, members: &[Member], field: &Field, program: &ProgramInfo) -> CliError {
    let settable = members.iter().filter(|member| place_of(btf, member).is_some());
    let fields = settable.map(|member| btf.text(member.name).to_owned()).filter(|name| !name.is_empty()).collect();
    CliError::NoSuchField { program_type: program.program_type, name: field.name.clone(), fields }
}
