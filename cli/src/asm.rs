//! `softbpf asm`: text to bytecode.

use std::io::Write as _;

use softbpf::codec::EncodeError;

use crate::args::AsmArgs;
use crate::error::CliError;
use crate::input;
use crate::output::{Output, Status};
use crate::render::hex;

/// Bytes of an instruction slot.
const SLOT: usize = 8;

pub(crate) fn command(args: &AsmArgs, output: &mut Output) -> Result<Status, CliError> {
    let (file, bytes) = (input::name(&args.file), input::read(&args.file)?);
    let code = input::assemble(&file, input::text(&file, &bytes)?)?.code;
    let no_encoding =
        |EncodeError { index, kind }| CliError::Encode { file, slot: code.slot_of(index).unwrap_or(index), kind };
    let bytecode = code.encode().map_err(no_encoding)?;
    if let Some(path) = &args.output {
        std::fs::write(path, bytecode).map_err(|source| CliError::Write { path: path.clone(), source })?;
        return Ok(Status::Done);
    }
    for slot in bytecode.chunks(SLOT) {
        writeln!(output.out, "{}", hex(slot))?;
    }
    Ok(Status::Done)
}
