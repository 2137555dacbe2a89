//! Objects out of assembly text: one program, with the maps that the caller describes.

use super::Object;
use crate::helpers::table;
use crate::insn::Imm64;
use crate::map_spec::MapSpec;
use crate::program::{Program, ProgramError, ProgramInfo};
use crate::program_type::ProgramType;
use crate::text::parse::{ParseError, UnknownSymbol, parse_with};

/// Name of the program in an object out of text or bytecode.
pub const MAIN: &str = "main";

/// Why text is not a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssemblyError {
    /// It is not assembly.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// It names a map that the caller does not describe.
    #[error(transparent)]
    Symbol(#[from] UnknownSymbol),
    /// Its instructions are not a program.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl Object {
    /// An object of one program, [`MAIN`], out of assembly text without maps; helpers may be called by name.
    ///
    /// # Errors
    /// The text is not assembly (with line and column), or not a program that engines may run.
    pub fn from_text(text: &str, program_type: ProgramType) -> Result<Object, AssemblyError> {
        Object::assemble(text, program_type, Vec::new())
    }

    /// As [`Object::from_text`], with maps: `r1 = counts ll` loads the map `counts`, or the address of its value for
    /// a section of global data.
    ///
    /// # Errors
    /// As [`Object::from_text`], and for a name that no map has.
    pub fn assemble(text: &str, program_type: ProgramType, maps: Vec<MapSpec>) -> Result<Object, AssemblyError> {
        let helper = |name: &str| table::by_name(name).map(|row| row.number);
        let mut assembly = parse_with(text, &helper)?;
        assembly.bind(|reference| {
            let index = maps.iter().position(|spec| spec.name == reference.name)?;
            let fd = i32::try_from(index).ok()?;
            match (reference.value, maps.get(index)?.data) {
                (Imm64::MapValue { offset, .. }, _) => Some(Imm64::MapValue { fd, offset }),
                (Imm64::Value(offset), Some(_)) => Some(Imm64::MapValue { fd, offset: u32::try_from(offset).ok()? }),
                (Imm64::Value(0) | Imm64::MapFd(_), _) => Some(Imm64::MapFd(fd)),
                _ => None,
            }
        })?;
        let program = Program::new(ProgramInfo::new(MAIN, program_type), assembly.code)?;
        Ok(Object::from_programs(vec![program], maps))
    }
}
