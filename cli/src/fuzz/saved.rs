//! Inputs in files: JSON that a person can read and change, with all that a run depends on.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use softbpf::context::{PtRegs, REGISTERS};
use softbpf::world::{Comm, Random};
use softbpf::{Gid, Machine, Pid, Tgid, Uid, World};
use softbpf_conformance::fuzz::guided::{Data, Element, Far, Input, Target};

use crate::error::CliError;
use crate::json::hex;
use crate::{input, literal, run};

/// The form of the file.
const VERSION: u64 = 1;

/// An input, and the machine that it is for.
pub(crate) struct Saved {
    pub(crate) input: Input,
    pub(crate) fuel: u64,
    pub(crate) cpus: u32,
    pub(crate) strict: bool,
    mocks: Vec<(i32, u64)>,
}

impl Saved {
    /// An input of a target.
    pub(crate) fn new(input: &Input, target: &Target) -> Saved {
        let Target { fuel, cpus, strict, mocks, .. } = target;
        Saved { input: input.clone(), fuel: *fuel, cpus: *cpus, strict: *strict, mocks: mocks.clone() }
    }

    /// Puts all but the context into a machine.
    pub(crate) fn prepare(&self, vm: &mut Machine) -> Result<(), CliError> {
        run::mock(self.mocks.iter().copied(), vm)?;
        Ok(self.input.prepare(vm)?)
    }

    pub(crate) fn read(path: &Path) -> Result<Saved, CliError> {
        Saved::from_bytes(&input::read(path)?, &input::name(path))
    }

    pub(crate) fn from_bytes(bytes: &[u8], file: &str) -> Result<Saved, CliError> {
        let refused = |problem| CliError::NoInput { file: file.to_owned(), problem };
        let document: Json = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
        Saved::from_json(&document).map_err(refused)
    }

    /// The file's text; `about` says where it comes from, and is not read again.
    pub(crate) fn text(&self, about: Map<String, Json>) -> String {
        let mut document = json!({ "softbpf_input": VERSION });
        let mut set = |name: &str, value: Json| document[name] = value;
        about.into_iter().for_each(|(name, value)| set(&name, value));
        set("fuel", self.fuel.into());
        set("cpus", self.cpus.into());
        set("strict", self.strict.into());
        match &self.input.data {
            Data::Packet { bytes, ifindex, queue, mark } => {
                set("packet", hex(bytes).into());
                set("ifindex", (*ifindex).into());
                set("queue", (*queue).into());
                set("mark", (*mark).into());
            }
            Data::Registers(registers) => set("registers", registers_json(registers)),
            Data::Bytes(bytes) => set("context", hex(bytes).into()),
        }
        let element =
            |element: &Element| json!({ "map": &*element.map, "key": hex(&element.key), "value": hex(&element.value) });
        set("maps", self.input.elements.iter().map(element).collect());
        set("world", world_json(&self.input.world));
        let far = |far: &Far| json!({ "addr": format!("{:#x}", far.addr), "bytes": hex(&far.bytes) });
        set("memory", self.input.memory.iter().map(far).collect());
        set("mocks", self.mocks.iter().map(|(helper, value)| json!({ "helper": helper, "value": value })).collect());
        format!("{document:#}\n")
    }

    fn from_json(document: &Json) -> Result<Saved, String> {
        if document["softbpf_input"] != VERSION {
            return Err(format!("softbpf_input is not {VERSION}"));
        }
        let data = match (&document["packet"], &document["registers"], &document["context"]) {
            (packet @ Json::String(_), _, _) => Data::Packet {
                bytes: bytes(packet, "packet")?,
                ifindex: number32(&document["ifindex"], "ifindex", 1)?,
                queue: number32(&document["queue"], "queue", 0)?,
                mark: number32(&document["mark"], "mark", 0)?,
            },
            (_, registers @ Json::Object(_), _) => Data::Registers(registers_of(registers)?),
            (_, _, context) => Data::Bytes(bytes(context, "packet, registers or context")?),
        };
        let element = |element: &Json| {
            let map: Arc<str> = element["map"].as_str().ok_or("an element names no map")?.into();
            Ok(Element { map, key: bytes(&element["key"], "key")?, value: bytes(&element["value"], "value")? })
        };
        let far =
            |far: &Json| Ok(Far { addr: number(&far["addr"], "addr", 0)?, bytes: bytes(&far["bytes"], "bytes")? });
        let mock = |mock: &Json| {
            let helper = number(&mock["helper"], "helper", 0)?;
            let helper = i32::try_from(helper).map_err(|_| "helper is too large".to_owned())?;
            Ok((helper, number(&mock["value"], "value", 0)?))
        };
        Ok(Saved {
            input: Input {
                data,
                elements: list(&document["maps"], element)?,
                memory: list(&document["memory"], far)?,
                world: world_of(&document["world"])?,
            },
            fuel: number(&document["fuel"], "fuel", softbpf::machine::DEFAULT_FUEL)?,
            cpus: number32(&document["cpus"], "cpus", softbpf::machine::DEFAULT_CPUS)?,
            strict: document["strict"] == true,
            mocks: list(&document["mocks"], mock)?,
        })
    }
}

/// The registers that are not 0.
fn registers_json(registers: &PtRegs) -> Json {
    let set = REGISTERS.iter().zip(registers.values()).filter(|(_, value)| **value != 0);
    set.map(|(name, value)| ((*name).to_owned(), format!("{value:#x}").into())).collect::<Map<_, _>>().into()
}

fn registers_of(json: &Json) -> Result<PtRegs, String> {
    let mut registers = PtRegs::new();
    for (name, value) in json.as_object().into_iter().flatten() {
        registers.set(name, number(value, name, 0)?).map_err(|error| error.to_string())?;
    }
    Ok(registers)
}

/// What is not as by default.
fn world_json(world: &World) -> Json {
    let default = World::default();
    let mut document = Map::new();
    let mut set = |name: &str, value: Json, usual: Json| {
        if value != usual {
            document.insert(name.to_owned(), value);
        }
    };
    set("time", world.clock.monotonic.into(), default.clock.monotonic.into());
    set("random", world.random.state.into(), default.random.state.into());
    set("tgid", world.task.tgid.0.into(), default.task.tgid.0.into());
    set("pid", world.task.pid.0.into(), default.task.pid.0.into());
    set("uid", world.task.uid.0.into(), default.task.uid.0.into());
    set("gid", world.task.gid.0.into(), default.task.gid.0.into());
    set("comm", hex(&world.task.comm.bytes()).into(), hex(&default.task.comm.bytes()).into());
    set("cpu", world.cpu.into(), default.cpu.into());
    set("cgroup", world.cgroup_id.into(), default.cgroup_id.into());
    set("stack", world.kernel_stack.clone().into(), default.kernel_stack.into());
    set("user_stack", world.user_stack.clone().into(), default.user_stack.into());
    document.into()
}

fn world_of(json: &Json) -> Result<World, String> {
    let mut world = World::default();
    let stack = |name: &str, usual: Vec<u64>| match json[name].is_null() {
        true => Ok(usual),
        false => list(&json[name], |addr| number(addr, name, 0)),
    };
    world.clock.monotonic = number(&json["time"], "time", world.clock.monotonic)?;
    world.random = Random::new(number(&json["random"], "random", world.random.state)?);
    world.task.tgid = Tgid(number32(&json["tgid"], "tgid", world.task.tgid.0)?);
    world.task.pid = Pid(number32(&json["pid"], "pid", world.task.pid.0)?);
    world.task.uid = Uid(number32(&json["uid"], "uid", world.task.uid.0)?);
    world.task.gid = Gid(number32(&json["gid"], "gid", world.task.gid.0)?);
    if !json["comm"].is_null() {
        world.task.comm = Comm::new(bytes(&json["comm"], "comm")?);
    }
    world.cpu = number32(&json["cpu"], "cpu", world.cpu)?;
    world.cgroup_id = number(&json["cgroup"], "cgroup", world.cgroup_id)?;
    world.kernel_stack = stack("stack", world.kernel_stack)?;
    world.user_stack = stack("user_stack", world.user_stack)?;
    Ok(world)
}

// Parts of a document, whose absence is allowed where a usual value is named.

fn list<T>(json: &Json, of: impl Fn(&Json) -> Result<T, String>) -> Result<Vec<T>, String> {
    json.as_array().into_iter().flatten().map(of).collect()
}

fn bytes(json: &Json, name: &str) -> Result<Vec<u8>, String> {
    let text = json.as_str().ok_or_else(|| format!("{name} is missing, or no text"))?;
    literal::hex(text).map_err(|error| format!("{name}: {error}"))
}

/// A number, or the text of one.
fn number(json: &Json, name: &str, usual: u64) -> Result<u64, String> {
    if json.is_null() {
        return Ok(usual);
    }
    if let Some(text) = json.as_str() {
        return literal::number64(text).map_err(|error| format!("{name}: {error}"));
    }
    json.as_u64().ok_or_else(|| format!("{name} is no number"))
}

fn number32(json: &Json, name: &str, usual: u32) -> Result<u32, String> {
    let value = number(json, name, usual.into())?;
    u32::try_from(value).map_err(|_| format!("{name} does not fit into 4 bytes"))
}
