//! A finding as a Rust test: a whole function that uses the library's public interface only.

use std::fmt::Write as _;

use softbpf::context::REGISTERS;
use softbpf::machine::DEFAULT_CPUS;
use softbpf::map_spec::MapSpec;
use softbpf::program::ProgramInfo;
use softbpf::{Trap, World};
use softbpf_conformance::fuzz::guided::{Data, Element, Finding, Target};

use crate::input::{Format, Input};
use crate::render::clean;

/// Bytes on a line.
const COLUMNS: usize = 16;

/// What a finding was made of.
pub(super) struct Subject<'s> {
    pub(super) input: &'s Input,
    pub(super) program: &'s ProgramInfo,
    /// Maps that the command line has declared.
    pub(super) created: &'s [MapSpec],
    pub(super) target: &'s Target,
    /// As the command line has it.
    pub(super) expected: Option<&'s str>,
}

/// The text of a file with the test, a function of this name.
pub(super) fn rust_test(finding: &Finding, subject: &Subject<'_>, function: &str) -> String {
    let mut text = String::new();
    let target = subject.target;
    let (program, file) = (clean(&subject.program.name), clean(&subject.input.file));
    let _ = writeln!(text, "/// Found by `softbpf fuzz` in program {program} of {file}.");
    text.push_str("#[test]\n");
    let _ = writeln!(text, "fn {function}() -> Result<(), Box<dyn std::error::Error>> {{");
    let mut line = |line: String| {
        let _ = writeln!(text, "    {line}");
    };
    object(subject, &mut line);
    if target.cpus == DEFAULT_CPUS && !target.strict {
        line("let mut vm = softbpf::Machine::load(&object)?;".to_owned());
    } else {
        let (cpus, strict) = (target.cpus, target.strict);
        line(format!(
            "let config = softbpf::Config {{ cpus: {cpus}, track_uninitialised: {strict}, ..Default::default() }};"
        ));
        line("let mut vm = softbpf::Machine::with_config(&object, config)?;".to_owned());
    }
    line(format!("vm.fuel = {};", target.fuel));
    world(&finding.input.world, &mut line);
    for far in &finding.input.memory {
        line(format!("vm.place_at({:#x}, \"memory\", &{})?;", far.addr, array(&far.bytes)));
    }
    for (helper, value) in &target.mocks {
        line(format!("vm.mock({helper}, |_| {value:#x}_u64)?;"));
    }
    finding.input.elements.iter().for_each(|one| element(one, target, &mut line));
    if let Err(message) = &finding.outcome {
        line(format!("// softbpf panics here: {}", clean(message)));
    }
    data(&finding.input.data, &subject.program.name, &mut line);
    match finding.outcome.as_ref().map(|outcome| &outcome.ret) {
        Ok(Ok(value)) => {
            line(format!("// Expected: {}", clean(subject.expected.unwrap_or_default())));
            line(format!("assert_eq!(outcome.ret, Ok({value}));"));
        }
        Ok(Err(trap)) => trapped(trap, &mut line),
        Err(_) => line("drop(outcome);".to_owned()),
    }
    line("Ok(())".to_owned());
    text.push_str("}\n");
    text
}

fn object(subject: &Subject<'_>, line: &mut dyn FnMut(String)) {
    let path = literal(&subject.input.file);
    let program_type = format!("softbpf::program_type::ProgramType::{:?}", subject.program.program_type);
    match subject.input.format {
        Format::Elf => {
            let by_section = ProgramInfo::in_section(&*subject.program.name, &*subject.program.section).program_type;
            if by_section == subject.program.program_type {
                line(format!("let object = softbpf::Object::from_file({path})?;"));
                return;
            }
            line(format!("let mut object = softbpf::Object::from_file({path})?;"));
            let program = literal(&subject.program.name);
            line(format!("object.program_mut({program}).ok_or(\"no such program\")?.program_type = {program_type};"));
        }
        Format::Assembly => {
            line(format!("let text = std::fs::read_to_string({path})?;"));
            let maps: Vec<_> = subject.created.iter().map(map_spec).collect();
            line(format!("let object = softbpf::Object::assemble(&text, {program_type}, vec![{}])?;", maps.join(", ")));
        }
        Format::Bytecode => {
            line(format!("let bytes = std::fs::read({path})?;"));
            let program = literal(&subject.program.name);
            line(format!("let object = softbpf::Object::from_bytecode({program}, {program_type}, &bytes)?;"));
        }
    }
}

fn map_spec(map: &MapSpec) -> String {
    let MapSpec { name, map_type, key_size, value_size, max_entries, .. } = map;
    let name = literal(name);
    format!(
        "softbpf::map_spec::MapSpec::new({name}, softbpf::map_spec::MapType::{map_type:?}, {key_size}, {value_size}, {max_entries})"
    )
}

/// What is not as by default.
fn world(world: &World, line: &mut dyn FnMut(String)) {
    let default = World::default();
    let mut set = |field: &str, value: String, differs: bool| {
        if differs {
            line(format!("vm.world.{field} = {value};"));
        }
    };
    let (task, usual) = (&world.task, &default.task);
    set("clock.monotonic", world.clock.monotonic.to_string(), world.clock.monotonic != default.clock.monotonic);
    set("random.state", format!("{:#x}", world.random.state), world.random != default.random);
    set("task.tgid", format!("softbpf::Tgid({})", task.tgid.0), task.tgid != usual.tgid);
    set("task.pid", format!("softbpf::Pid({})", task.pid.0), task.pid != usual.pid);
    set("task.uid", format!("softbpf::Uid({})", task.uid.0), task.uid != usual.uid);
    set("task.gid", format!("softbpf::Gid({})", task.gid.0), task.gid != usual.gid);
    set("task.comm", format!("softbpf::world::Comm::new({})", array(&task.comm.bytes())), task.comm != usual.comm);
    set("cpu", world.cpu.to_string(), world.cpu != default.cpu);
    set("cgroup_id", world.cgroup_id.to_string(), world.cgroup_id != default.cgroup_id);
    set("kernel_stack", format!("vec!{:?}", world.kernel_stack), world.kernel_stack != default.kernel_stack);
    set("user_stack", format!("vec!{:?}", world.user_stack), world.user_stack != default.user_stack);
}

fn element(element: &Element, target: &Target, line: &mut dyn FnMut(String)) {
    use softbpf::map_spec::MapType::{LruPercpuHash, PercpuArray, PercpuHash};
    let spec = target.object.maps().iter().find(|spec| *spec.name == *element.map);
    let is_percpu = spec.is_some_and(|spec| [LruPercpuHash, PercpuArray, PercpuHash].contains(&spec.map_type));
    let (map, key) = (literal(&element.map), array(&element.key));
    if is_percpu {
        // On the user side a value is rounded up to 8 bytes, and there is one for each CPU.
        let mut value = element.value.clone();
        value.resize(value.len().next_multiple_of(8), 0);
        line(format!("let value = {}.repeat({});", array(&value), target.cpus));
        line(format!("vm.map({map})?.insert_bytes(&{key}, &value, 0)?;"));
    } else {
        line(format!("vm.map({map})?.insert_bytes(&{key}, &{}, 0)?;", array(&element.value)));
    }
}

fn data(data: &Data, program: &str, line: &mut dyn FnMut(String)) {
    match data {
        Data::Packet { bytes, ifindex, queue, mark } => {
            line(format!("let packet = softbpf::context::Packet::new({});", array(bytes)));
            if (*ifindex, *queue, *mark) != (1, 0, 0) {
                line(format!("let packet = packet.ifindex({ifindex}).queue({queue}).mark({mark});"));
            }
            line(format!("let outcome = vm.run({}, packet)?;", literal(program)));
        }
        Data::Registers(registers) => {
            let set: Vec<_> = REGISTERS.iter().zip(registers.values()).filter(|(_, value)| **value != 0).collect();
            let mutable = if set.is_empty() { "" } else { "mut " };
            line(format!("let {mutable}registers = softbpf::context::PtRegs::new();"));
            set.iter().for_each(|(name, value)| line(format!("registers.set({name:?}, {value:#x})?;")));
            line(format!("let outcome = vm.run({}, registers)?;", literal(program)));
        }
        Data::Bytes(bytes) => {
            line(format!("let context = {};", array(bytes)));
            line(format!("let outcome = vm.run({}, &context[..])?;", literal(program)));
        }
    }
}

fn trapped(trap: &Trap, line: &mut dyn FnMut(String)) {
    if let Some(source) = &trap.line {
        line(clean(&format!("// {source}: {}", source.text.trim())));
    }
    line("let trap = outcome.trap().ok_or(\"the program returned\")?;".to_owned());
    line(format!("assert_eq!(trap.kind.to_string(), {});", literal(&trap.kind.to_string())));
    line(format!("assert_eq!((&*trap.program, trap.slot), ({}, {}));", literal(&trap.program), trap.slot));
}

fn literal(text: &str) -> String {
    format!("{text:?}")
}

/// An array of bytes, on lines of their own when there are many.
fn array(bytes: &[u8]) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:#04x}")).collect::<Vec<_>>().join(", ");
    match bytes.len() {
        len if bytes.iter().all(|&byte| byte == 0) => format!("[0_u8; {len}]"),
        ..=COLUMNS => format!("[{}]", hex(bytes)),
        _ => {
            let lines = bytes.chunks(COLUMNS).map(|line| format!("        {},\n", hex(line)));
            format!("[\n{}    ]", lines.collect::<String>())
        }
    }
}
