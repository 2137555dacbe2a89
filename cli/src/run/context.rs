//! The context that the command line describes, in the kind that the program takes.

use softbpf::btf::Btf;
use softbpf::context::{ContextKind, PtRegs, REGISTERS};
use softbpf::program::ProgramInfo;
use softbpf::program_type::ProgramType;
use softbpf_conformance::fuzz::guided::Data;

use super::fields;
use crate::args::{ContextArgs, Field};
use crate::error::CliError;
use crate::input;

/// What the options say, for this program.
pub(crate) fn build(args: &ContextArgs, program: &ProgramInfo, btf: Option<&Btf>) -> Result<Data, CliError> {
    if let Some(bytes) = given(args.ctx_hex.as_ref().map(|hex| &hex.0), args.ctx_file.as_deref())? {
        return Ok(Data::Bytes(bytes));
    }
    let packet = given(args.packet.as_ref().map(|hex| &hex.0), args.packet_file.as_deref())?;
    let program_type = program.program_type;
    match ContextKind::of(program_type) {
        ContextKind::Xdp | ContextKind::SkBuff => self::packet(packet.unwrap_or_default(), &args.fields, program_type),
        // A program of no type takes what it is given.
        _ if program_type == ProgramType::Unspec && packet.is_some() => {
            self::packet(packet.unwrap_or_default(), &args.fields, program_type)
        }
        _ if packet.is_some() => Err(CliError::NoPacket { program_type }),
        ContextKind::PtRegs => registers(&args.fields, program_type),
        ContextKind::Bytes if program_type == ProgramType::Unspec && !args.fields.is_empty() => {
            registers(&args.fields, program_type)
        }
        ContextKind::Bytes => fields::build(&args.fields, program, btf).map(Data::Bytes),
    }
}

fn given(hex: Option<&Vec<u8>>, file: Option<&std::path::Path>) -> Result<Option<Vec<u8>>, CliError> {
    match (hex, file) {
        (Some(bytes), _) => Ok(Some(bytes.clone())),
        (None, Some(file)) => input::read(file).map(Some),
        (None, None) => Ok(None),
    }
}

fn no_such_field(program_type: ProgramType, field: &Field, fields: &[&str]) -> CliError {
    let fields = fields.iter().map(|&field| field.to_owned()).collect();
    CliError::NoSuchField { program_type, name: field.name.clone(), fields }
}

fn registers(fields: &[Field], program_type: ProgramType) -> Result<Data, CliError> {
    const PARAMETERS: [&str; 7] = ["parm1", "parm2", "parm3", "parm4", "parm5", "parm6", "ret"];
    let mut registers = PtRegs::new();
    for field in fields {
        let unknown = |_| no_such_field(program_type, field, &[&PARAMETERS[..], &REGISTERS[..]].concat());
        registers.set(&field.name, field.value).map_err(unknown)?;
    }
    Ok(Data::Registers(registers))
}

fn packet(bytes: Vec<u8>, fields: &[Field], program_type: ProgramType) -> Result<Data, CliError> {
    let (mut ifindex, mut queue, mut mark) = (1, 0, 0);
    for field in fields {
        let FieldValue(value) = FieldValue::of(field)?;
        match field.name.as_str() {
            "ifindex" => ifindex = value,
            "queue" => queue = value,
            "mark" if program_type != ProgramType::Xdp => mark = value,
            _ if program_type == ProgramType::Xdp => {
                return Err(no_such_field(program_type, field, &["ifindex", "queue"]));
            }
            _ => return Err(no_such_field(program_type, field, &["ifindex", "queue", "mark"])),
        }
    }
    Ok(Data::Packet { bytes, ifindex, queue, mark })
}

/// The value of a 32-bit field.
struct FieldValue(u32);

impl FieldValue {
    fn of(field: &Field) -> Result<FieldValue, CliError> {
        let too_large = |_| CliError::FieldTooLarge { name: field.name.clone(), value: field.value, size: 4 };
        u32::try_from(field.value).map(FieldValue).map_err(too_large)
    }
}
