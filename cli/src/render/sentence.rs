//! What happened, in a sentence: the kinds of traps, and where an address lies.

use softbpf::Object;
use softbpf::btf::{Kind, SectionVar};
use softbpf::insn::Insn;
use softbpf::machine::MAX_HELPER_BYTES;
use softbpf::map_spec::MapType;
use softbpf::memory::{Access, Fault, FaultKind, MAX_FRAMES, Nearest, ObjectKind};
use softbpf::outcome::{ArgumentProblem, TrapKind};

use super::{bytes, clean, plural};

/// Farther from an object than this many bytes, an address is not meant to be in it.
pub(super) const NEAR: u64 = 4096;

/// What stopped the program.
pub(crate) fn sentence(kind: &TrapKind, insn: Option<&Insn>) -> String {
    match kind {
        TrapKind::Memory(fault) => access(fault, insn),
        TrapKind::OutOfFuel { budget } => format!("the program did not end within {}", plural(*budget, "instruction")),
        TrapKind::HelperBytes => format!("helpers have read and written more than {MAX_HELPER_BYTES} bytes"),
        TrapKind::NoPacket { r6 } => format!("a legacy packet load, but r6 = {r6:#x} is not the context of a packet"),
        TrapKind::TooDeep => format!("calls more than {MAX_FRAMES} deep"),
        TrapKind::NoHelper { name: Some(name), number } => {
            format!("helper bpf_{name} (number {number}) is not implemented and not mocked")
        }
        TrapKind::NoHelper { name: None, number } => format!("there is no helper with number {number} ({number:#x})"),
        TrapKind::NoKfunc { name } => format!("nothing provides the kernel function {}", clean(name)),
        TrapKind::NoExtern { name } => format!("nothing provides the external variable {}", clean(name)),
        TrapKind::NoMap { fd } => format!("there is no map with number {fd}"),
        TrapKind::NoMapValue { fd, offset } => {
            format!("the address of byte {offset} of the value of map number {fd}, which has none")
        }
        TrapKind::BadProgram { index, name } => format!("tail call to program {index} ({name}), which cannot be run"),
        TrapKind::BadArgument { helper, index, problem } => {
            format!("argument {} of bpf_{helper} is wrong: {}", index + 1, argument(problem))
        }
        TrapKind::BadCallTarget { target } => format!("call of {target:#x}, which is neither a function nor a helper"),
        TrapKind::UnreleasedRecord { map } => {
            format!("a record of ring buffer {map} was reserved, but neither submitted nor discarded")
        }
        TrapKind::MockReentered { helper } => format!("the mock of bpf_{helper} was called while it was running"),
        TrapKind::Stopped { helper, reason } => {
            format!("the mock of bpf_{helper} stopped the program: {}", clean(reason))
        }
    }
}

fn argument(problem: &ArgumentProblem) -> String {
    match problem {
        ArgumentProblem::Memory(fault) => access(fault, None),
        ArgumentProblem::NotAMap { value } => format!("{value:#x} is not a map"),
        ArgumentProblem::WrongMapType { map, map_type } => {
            format!("the helper does not work on map {map}, which is a {map_type}")
        }
        ArgumentProblem::ZeroSize => "a size of 0 is not allowed".to_owned(),
        ArgumentProblem::UnterminatedString { addr } => format!("the string at {addr:#x} has no end"),
        ArgumentProblem::NotARecord { value } => format!("{value:#x} is not a reserved ring buffer record"),
        ArgumentProblem::TooLong { given, size } => format!("{} do not fit into {size}", bytes(*given)),
        ArgumentProblem::NotMemory => "the helper takes no memory there".to_owned(),
        ArgumentProblem::NotContext { value } => format!("{value:#x} is not the context"),
    }
}

fn access(fault: &Fault, insn: Option<&Insn>) -> String {
    let verb = match (fault.access, insn) {
        (_, Some(Insn::Atomic { .. })) => "atomic access to",
        (Access::Read, _) => "read of",
        (Access::Write, _) => "write of",
    };
    let why = match fault.kind {
        FaultKind::Null => "null pointer",
        FaultKind::OutOfBounds => "out of bounds",
        FaultKind::ReadOnly => "the memory is read-only",
        FaultKind::Uninitialised => "not all of it was ever written",
        FaultKind::NotMapped => "no guest memory has such an address",
    };
    format!("invalid {verb} {} at {:#x}: {why}", bytes(fault.size), fault.addr)
}

/// Where the nearest object is, for faults that it explains.
pub(crate) fn place(fault: &Fault, nearest: &Nearest, object: &Object) -> Option<String> {
    if matches!(fault.kind, FaultKind::Null | FaultKind::NotMapped) || nearest.distance.unsigned_abs() > NEAR {
        return None;
    }
    let object = name(fault, nearest, object);
    let at = format!("{object} ({} at {:#x})", bytes(nearest.size), nearest.start);
    let end = nearest.start.saturating_add(nearest.size);
    Some(if nearest.distance == 0 {
        format!("the access lies in {at}, at offset {}", fault.addr.saturating_sub(nearest.start))
    } else if nearest.distance < 0 {
        format!("the access starts {} before {at}", bytes(nearest.distance.unsigned_abs()))
    } else if fault.addr < end {
        format!("the access ends {} past the end of {at}", bytes(nearest.distance.unsigned_abs()))
    } else {
        // Past the end by one: the first byte behind the object.
        format!("the address is {} past the end of {at}", bytes(fault.addr - end + 1))
    })
}

/// `value of map counts[0]`.
fn name(fault: &Fault, nearest: &Nearest, object: &Object) -> String {
    match &nearest.kind {
        ObjectKind::MapValue { map, .. } => {
            const ARRAYS: [MapType; 2] = [MapType::Array, MapType::PercpuArray];
            let is_array = object.maps().iter().any(|spec| *spec.name == **map && ARRAYS.contains(&spec.map_type));
            // The elements of other maps have no index that a program would know.
            if is_array { format!("value of map {map}[{}]", nearest.index) } else { format!("a value of map {map}") }
        }
        ObjectKind::Context
        | ObjectKind::Packet
        | ObjectKind::Stack { .. }
        | ObjectKind::Record { .. }
        | ObjectKind::Placed { .. } => format!("the {}", nearest.kind),
        ObjectKind::Data { section } => match variable(fault.addr.saturating_sub(nearest.start), section, object) {
            Some(variable) => format!("{section}, variable {variable}"),
            None => section.to_string(),
        },
    }
}

/// The variable at an offset of a section of global data.
fn variable(offset: u64, section: &str, object: &Object) -> Option<String> {
    let spec = object.maps().iter().find(|spec| spec.name == section)?;
    let btf = object.btf()?;
    let Kind::DataSec { vars, .. } = btf.kind(spec.value_type_id?).ok()? else { return None };
    let holds = |var: &&SectionVar| (var.offset.into()..u64::from(var.offset) + u64::from(var.size)).contains(&offset);
    vars.iter().find(holds).map(|var| clean(btf.name(var.type_id)))
}
