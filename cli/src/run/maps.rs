//! `--map`: elements before the run; and what the maps hold after it.

use std::slice;

use softbpf::errno::Errno;
use softbpf::machine::TailCallError;
use softbpf::map_spec::{DataSection, MapSpec, MapType};
use softbpf::maps::{MapAccessError, MapHandle, RawEntry};
use softbpf::{Machine, Object};

use crate::args::MapEntry;
use crate::error::CliError;
use crate::literal::Literal;

/// Most bytes of a map that are shown, keys and values together: text takes many times as much memory.
const SHOWN_BYTES: u64 = 16 << 20;

/// What a map holds.
pub(crate) struct MapDump {
    pub(crate) spec: MapSpec,
    /// Elements in all.
    pub(crate) count: usize,
    /// The first of them.
    pub(crate) elements: Vec<Element>,
    /// Whether it is their size that limits how many are shown.
    pub(crate) too_large: bool,
}

/// A key and its value.
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Value,
    /// By their types, if the object has those.
    pub(crate) pretty: Option<Pretty>,
}

/// Key and value as their types say.
pub(crate) struct Pretty {
    /// None for the only value of global data.
    pub(crate) key: Option<String>,
    /// One, or one for each CPU.
    pub(crate) values: Vec<String>,
}

/// The value of an element.
pub(crate) enum Value {
    One(Vec<u8>),
    /// One for each CPU.
    PerCpu(Vec<Vec<u8>>),
    /// A program array's.
    Program(String),
    /// A stack trace's instruction pointers, innermost first.
    Stack(Vec<u64>),
}

// Before the run.

pub(crate) fn fill(entries: &[MapEntry], object: &Object, vm: &mut Machine) -> Result<(), CliError> {
    entries.iter().try_for_each(|entry| insert(entry, object, vm))
}

/// Says how many elements there may be where the error number says only that there may be no more.
fn refused(error: MapAccessError, spec: (String, u32)) -> CliError {
    match (error.errno(), spec) {
        (errno @ Errno::E2BIG, (map, max_entries)) => CliError::Full { map, max_entries, errno },
        _ => error.into(),
    }
}

fn insert(entry: &MapEntry, object: &Object, vm: &mut Machine) -> Result<(), CliError> {
    let literal = |what, source| CliError::MapLiteral { map: entry.map.clone(), what, source };
    let mut map = vm.map(&entry.map)?;
    let key = entry.key.to_bytes(map.map().key_size() as usize).map_err(|source| literal("key", source))?;
    if map.map().map_type() == MapType::ProgArray {
        return set_program(entry, &key, object, vm);
    }
    let size = map.map().value_size() as usize;
    let value = entry.value.parse::<Literal>().and_then(|value| value.to_bytes(size));
    let mut value = value.map_err(|source| literal("value", source))?;
    if map.map().is_percpu() {
        value.resize(size.next_multiple_of(8), 0);
        value = value.repeat(map.map().copies() as usize);
    }
    let spec = (entry.map.clone(), map.map().max_entries());
    map.insert_bytes(&key, &value, 0).map_err(|error| refused(error, spec))
}

fn set_program(entry: &MapEntry, key: &[u8], object: &Object, vm: &mut Machine) -> Result<(), CliError> {
    let slot = key.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let name = match entry.value.parse() {
        Ok(Literal::Number(index)) => program_name(object, u32::try_from(index).ok()),
        Ok(Literal::Bytes(_)) | Err(_) => None,
    };
    let spec = (entry.map.clone(), vm.map(&entry.map)?.map().max_entries());
    vm.set_tail_call(&entry.map, slot, name.as_deref().unwrap_or(&entry.value)).map_err(|error| match error {
        TailCallError::Access(error) => refused(error, spec),
        TailCallError::Program(_) | TailCallError::Map(_) => error.into(),
    })
}

fn program_name(object: &Object, index: Option<u32>) -> Option<String> {
    object.programs().nth(index? as usize).map(|info| info.name.to_string())
}

// After it.

/// The first elements of every map that has some.
pub(crate) fn dump(object: &Object, vm: &mut Machine, most: usize) -> Result<Vec<MapDump>, CliError> {
    let shown = object.maps().iter().filter(|spec| is_shown(spec));
    shown.map(|spec| Ok(dump_map(spec, object, vm.map(&spec.name)?, most)?)).collect()
}

/// Constants do not change, and records are events.
fn is_shown(spec: &MapSpec) -> bool {
    const QUEUES: [MapType; 2] = [MapType::PerfEventArray, MapType::Ringbuf];
    !matches!(spec.data, Some(DataSection::Rodata | DataSection::Kconfig)) && !QUEUES.contains(&spec.map_type)
}

fn dump_map(spec: &MapSpec, object: &Object, mut map: MapHandle<'_>, most: usize) -> Result<MapDump, MapAccessError> {
    let fitting = SHOWN_BYTES / (u64::from(map.map().key_size()) + map.map().user_value_size()).max(1);
    let fitting = usize::try_from(fitting).unwrap_or(usize::MAX);
    let shown: Vec<_> = map.iter()?.take(most.min(fitting)).collect();
    let element = |(key, bytes): RawEntry| {
        let value = value(object, &mut map, &key, bytes);
        Element { pretty: pretty(spec, object, &key, &value), key, value }
    };
    let elements = shown.into_iter().map(element).collect();
    Ok(MapDump { spec: spec.clone(), count: map.len(), elements, too_large: fitting < most })
}

fn pretty(spec: &MapSpec, object: &Object, key: &[u8], value: &Value) -> Option<Pretty> {
    let (btf, value_type) = (object.btf()?, spec.value_type_id?);
    let values = match value {
        Value::One(value) => slice::from_ref(value),
        Value::PerCpu(values) => values,
        Value::Program(_) | Value::Stack(_) => return None,
    };
    let key = match (spec.data, spec.key_type_id) {
        (Some(_), _) => None,
        (None, key_type) => Some(btf.dump(key_type?, key).to_string()),
    };
    Some(Pretty { key, values: values.iter().map(|value| btf.dump(value_type, value).to_string()).collect() })
}

fn value(object: &Object, map: &mut MapHandle<'_>, key: &[u8], bytes: Vec<u8>) -> Value {
    let id = key.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if let Some(stack) = map.map_mut().stack_trace().and_then(|map| map.stack(id)) {
        return Value::Stack(stack.to_vec());
    }
    if map.map().map_type() == MapType::ProgArray {
        let index = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        if let Some(name) = program_name(object, index) {
            return Value::Program(name);
        }
    }
    if !map.map().is_percpu() {
        return Value::One(bytes);
    }
    let size = map.map().value_size() as usize;
    let copy = |copy: &[u8]| copy.get(..size).unwrap_or(copy).to_vec();
    Value::PerCpu(bytes.chunks(size.next_multiple_of(8).max(8)).map(copy).collect())
}
