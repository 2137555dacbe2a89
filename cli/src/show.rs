//! `softbpf show`: the programs and maps of an object as `bpftool prog show` and `bpftool map show` print them.

use std::collections::BTreeSet;
use std::io::{self, Write};

use softbpf::Object;
use softbpf::insn::{Imm64, Insn};
use softbpf::map_spec::MapSpec;
use softbpf::program::{Program, ProgramError, ProgramInfo};
use softbpf::program_type::ProgramType;

use crate::args::ShowArgs;
use crate::error::CliError;
use crate::input;
use crate::json;
use crate::output::{Output, Status};
use crate::render::clean;

/// Bytes of an instruction slot.
pub(crate) const SLOT: usize = 8;

pub(crate) fn command(args: &ShowArgs, output: &mut Output) -> Result<Status, CliError> {
    let object = input::object(&args.object, ProgramType::Unspec, Vec::new())?.object;
    if args.json {
        json::show(&object, &mut output.out)?;
    } else {
        show(&object, &mut output.out)?;
    }
    Ok(Status::Done)
}

/// Every program: what is known of it, and it, if it can be linked.
pub(crate) fn programs(object: &Object) -> impl Iterator<Item = (usize, &ProgramInfo, Result<Program, ProgramError>)> {
    object.programs().enumerate().filter_map(|(index, info)| Some((index, info, object.program_at(index)?)))
}

/// Indices of the maps that a program's instructions name.
pub(crate) fn map_ids(program: &Program) -> BTreeSet<i32> {
    let map = |insn: &Insn| {
        let Insn::LoadImm64 { value: Imm64::MapFd(map) | Imm64::MapValue { fd: map, .. }, .. } = insn else {
            return None;
        };
        Some(*map)
    };
    program.code().insns().iter().filter_map(map).collect()
}

/// `KERNEL_VERSION` taken apart.
pub(crate) fn kernel_version(code: u32) -> String {
    format!("{}.{}.{}", code >> 16, code >> 8 & 0xff, code & 0xff)
}

fn show(object: &Object, out: &mut dyn Write) -> io::Result<()> {
    if let Some(license) = object.license() {
        writeln!(out, "license: {}", clean(license))?;
    }
    if let Some(version) = object.version() {
        writeln!(out, "version: {}", kernel_version(version))?;
    }
    if object.license().is_some() || object.version().is_some() {
        writeln!(out)?;
    }
    for (index, info, program) in programs(object) {
        match program {
            Ok(program) => show_program(index, &program, out)?,
            Err(error) => {
                writeln!(
                    out,
                    "{index}: {}  name {}\n\tsection {}",
                    info.program_type,
                    clean(&info.name),
                    clean(&info.section)
                )?;
                writeln!(out, "\tcannot be loaded: {error}")?;
            }
        }
    }
    if object.programs().len() > 0 && !object.maps().is_empty() {
        writeln!(out)?;
    }
    object.maps().iter().enumerate().try_for_each(|(index, map)| show_map(index, map, out))
}

fn show_program(index: usize, program: &Program, out: &mut dyn Write) -> io::Result<()> {
    let gpl = if program.is_gpl_compatible() { "  gpl" } else { "" };
    let (kind, name, tag) = (program.program_type(), clean(program.name()), program.tag());
    writeln!(out, "{index}: {kind}  name {name}  tag {tag}{gpl}")?;
    writeln!(out, "\ttag_sha256 {} (since Linux 6.18)", program.tag_sha256())?;
    if !program.section().is_empty() {
        writeln!(out, "\tsection {}", clean(program.section()))?;
    }
    let slots = program.code().slot_count();
    write!(out, "\txlated {}B  insns {slots}", slots * SLOT)?;
    let maps = map_ids(program);
    if !maps.is_empty() {
        let maps: Vec<String> = maps.iter().map(i32::to_string).collect();
        write!(out, "  map_ids {}", maps.join(","))?;
    }
    writeln!(out)
}

fn show_map(index: usize, map: &MapSpec, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{index}: {}  name {}  flags {:#x}", map.map_type, clean(&map.name), map.map_flags)?;
    writeln!(out, "\tkey {}B  value {}B  max_entries {}", map.key_size, map.value_size, map.max_entries)
}
