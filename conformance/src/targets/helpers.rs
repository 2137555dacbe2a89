//! Helpers with hostile arguments: any number, any pointer, any size, a map of the wrong kind.
//!
//! An input is a list of calls. Each argument is what the helper's row asks for, or near it, or anything at all, so that
//! calls get past the first check and fail at every later one. What helpers return is kept, and is an argument too.

use arbitrary::{Result, Unstructured};
use softbpf::Object;
use softbpf::asm::{Insn, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
use softbpf::codec::Code;
use softbpf::helpers::table::{self, ArgKind, HelperRow, RetKind};
use softbpf::insn::{Condition, Imm64, Reg, Size, Width};
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;

use crate::hostile;

/// Most calls of a program.
const CALLS: usize = 8;

/// Argument registers, and those that keep results; `r9` keeps the context.
const ARGS: [Reg; 5] = [R1, R2, R3, R4, R5];
const KEPT: [Reg; 3] = [R6, R7, R8];

/// Numbers, sizes and addresses where implementations go wrong.
const EDGES: [u64; 28] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    11,
    12,
    16,
    17,
    64,
    65,
    255,
    256,
    512,
    513,
    4096,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 32,
    i64::MAX as u64,
    1 << 63,
    -8_i64 as u64,
    u64::MAX,
];

/// Makes a program of the bytes and runs it on every engine.
///
/// # Panics
/// Engines disagree.
pub fn run(bytes: &[u8]) {
    if let Some(object) = object(bytes) {
        hostile::assert_agreement(&object);
    }
}

/// The object with the calls that these bytes stand for.
pub fn object(bytes: &[u8]) -> Option<Object> {
    let code = code(&mut Unstructured::new(bytes)).ok()?;
    let program = Program::new(ProgramInfo::new("main", ProgramType::Unspec), code).ok()?;
    Some(Object::from_programs(vec![program], hostile::maps()))
}

/// Calls, an end, and a function for helpers to call back.
fn code(u: &mut Unstructured<'_>) -> Result<Code> {
    let mut insns = vec![Insn::mov(R9, R1)];
    insns.extend(KEPT.map(|reg| Insn::mov(reg, 0)));
    for off in (1..=8).map(|word| -8 * word) {
        insns.push(Insn::store(Size::DW, R10, off, i32::from(u.arbitrary::<i8>()?)));
    }
    for call in 0..u.int_in_range(1..=CALLS)? {
        insns.extend(helper(u, KEPT[call % KEPT.len()])?);
    }
    insns.extend([Insn::mov(R0, R6), Insn::exit()]);
    let callback = insns.len();
    insns.extend([Insn::mov(R0, i32::from(u.ratio(1, 4)?)), Insn::exit()]);
    Ok(aim(&insns.into_iter().collect(), callback))
}

/// Makes every address of a function that of the one to be called back.
fn aim(code: &Code, callback: usize) -> Code {
    let target = code.slot_of(callback).unwrap_or_default() as i32;
    let aimed = |(slot, insn): (usize, &Insn)| {
        let Insn::LoadImm64 { dst, value: Imm64::Code(_) } = *insn else { return *insn };
        Insn::load_function(dst, target - slot as i32 - 1)
    };
    code.iter().map(aimed).collect()
}

/// A call; its result may be kept in a register, and what a helper hands out may be written to.
fn helper(u: &mut Unstructured<'_>, kept: Reg) -> Result<Vec<Insn>> {
    let number = number(u)?;
    let row = table::by_number(number);
    let kinds = row.map_or(&[][..], |row| row.args);
    // A program goes on behind most calls.
    let hostile = u.ratio(1, 4)?;
    let mut insns = Vec::new();
    for (index, reg) in ARGS.into_iter().enumerate() {
        match kinds.get(index) {
            Some(ArgKind::Map) if !hostile => insns.push(fitting_map(u, reg, row)?),
            Some(kind) if !(hostile && u.arbitrary()?) => insns.extend(fitting(u, reg, *kind)?),
            None if !hostile => {}
            _ => insns.extend(anything(u, reg)?),
        }
        if hostile && u.ratio(1, 4)? {
            insns.push(Insn::add(reg, i32::from(u.arbitrary::<i16>()?)));
        }
    }
    insns.push(Insn::call(number));
    if row.is_some_and(|row| row.ret == RetKind::MemOrNull) && u.arbitrary()? {
        insns.extend(give_back(u)?);
    }
    if u.arbitrary()? {
        insns.push(Insn::mov(kept, R0));
    }
    if u.ratio(1, 8)? {
        let off = i16::from(u.arbitrary::<i8>()?);
        let is_null = Insn::JumpIf { condition: Condition::Eq, width: Width::W64, dst: R0, src: 0.into(), off: 1 };
        insns.extend([is_null, Insn::store(Size::B, R0, off, 0x5a)]);
    }
    Ok(insns)
}

/// Gives back the record in `r0`, if it is one.
fn give_back(u: &mut Unstructured<'_>) -> Result<[Insn; 4]> {
    let name = *u.choose(&["ringbuf_submit", "ringbuf_discard"])?;
    let number = table::by_name(name).map_or(0, |row| row.number);
    let is_null = Insn::JumpIf { condition: Condition::Eq, width: Width::W64, dst: R0, src: 0.into(), off: 3 };
    Ok([is_null, Insn::mov(R1, R0), Insn::mov(R2, 0), Insn::call(number)])
}

/// A map of the kind that the helper works on.
fn fitting_map(u: &mut Unstructured<'_>, reg: Reg, row: Option<&HelperRow>) -> Result<Insn> {
    let name = row.map_or("", |row| row.name);
    let wanted: &[MapType] = if name.starts_with("ringbuf") {
        &[MapType::Ringbuf]
    } else if name == "perf_event_output" {
        &[MapType::PerfEventArray]
    } else if name == "get_stackid" {
        &[MapType::StackTrace]
    } else if name == "tail_call" {
        &[MapType::ProgArray]
    } else {
        &[MapType::Array, MapType::Hash, MapType::PercpuArray, MapType::PercpuHash, MapType::LruHash]
    };
    let maps = hostile::maps();
    let fitting: Vec<usize> = (0..maps.len()).filter(|&map| wanted.contains(&maps[map].map_type)).collect();
    Ok(Insn::load_map_fd(reg, *u.choose(&fitting)? as i32))
}

/// Mostly a helper that is implemented, now and then any number.
fn number(u: &mut Unstructured<'_>) -> Result<i32> {
    let rows = table::all().len() as i32;
    if u.ratio(1, 16)? {
        return Ok(*u.choose(&[0, -1, i32::MIN, i32::MAX, rows + 1, 256])?);
    }
    let number = u.int_in_range(1..=rows)?;
    if softbpf::helpers::is_implemented(number) || u.ratio(1, 16)? {
        return Ok(number);
    }
    let implemented: Vec<i32> = (1..=rows).filter(|&number| softbpf::helpers::is_implemented(number)).collect();
    Ok(*u.choose(&implemented)?)
}

fn edge(u: &mut Unstructured<'_>) -> Result<u64> {
    Ok(*u.choose(&EDGES)?)
}

/// Puts an argument of the kind that is asked for into a register.
fn fitting(u: &mut Unstructured<'_>, reg: Reg, kind: ArgKind) -> Result<Vec<Insn>> {
    Ok(match kind {
        ArgKind::Context | ArgKind::ContextOrNull | ArgKind::ContextOrBtf => vec![Insn::mov(reg, R9)],
        ArgKind::Map => vec![map(u, reg)?],
        ArgKind::Size | ArgKind::SizeOrZero | ArgKind::AllocSize => {
            vec![Insn::load_imm64(reg, if u.ratio(1, 8)? { edge(u)? } else { u.int_in_range(1..=64)? })]
        }
        ArgKind::Scalar => vec![Insn::mov(reg, if u.arbitrary()? { 0 } else { u.int_in_range(0..=3)? })],
        ArgKind::Function => vec![Insn::load_function(reg, 0)],
        ArgKind::Record | ArgKind::Btf | ArgKind::BtfOrNull => vec![Insn::mov(reg, *u.choose(&KEPT)?)],
        ArgKind::Address
        | ArgKind::MapKey
        | ArgKind::MapValue
        | ArgKind::MapValueOrNull
        | ArgKind::MapValueUninit
        | ArgKind::Mem
        | ArgKind::MemOrNull
        | ArgKind::InOutMem
        | ArgKind::UninitMem
        | ArgKind::UninitMemOrNull
        | ArgKind::FixedMem(_)
        | ArgKind::InOutFixedMem(_)
        | ArgKind::UninitFixedMem(_)
        | ArgKind::Str
        | ArgKind::StackOrNull
        | ArgKind::Dynptr
        | ArgKind::UninitDynptr
        | ArgKind::SpinLock
        | ArgKind::Timer
        | ArgKind::Kptr => pointer(u, reg)?,
    })
}

/// A map, of whatever kind.
fn map(u: &mut Unstructured<'_>, reg: Reg) -> Result<Insn> {
    Ok(Insn::load_map_fd(reg, u.int_in_range(0..=hostile::maps().len() as i32 - 1)?))
}

/// An address that may be read: of the stack, of the context, of a map's only value, of what a helper gave.
fn pointer(u: &mut Unstructured<'_>, reg: Reg) -> Result<Vec<Insn>> {
    let single = |spec: &MapSpec| spec.map_type == MapType::Array && spec.max_entries == 1;
    let value = hostile::maps().iter().position(single).unwrap_or_default() as i32;
    Ok(match u.int_in_range(0..=15)? {
        0 => vec![Insn::mov(reg, R9)],
        1 => vec![Insn::mov(reg, *u.choose(&KEPT)?)],
        2 => vec![Insn::load_map_value(reg, value, u.int_in_range(0..=63)?)],
        3 => vec![Insn::mov(reg, R10), Insn::add(reg, -u.int_in_range(1..=64)?)],
        _ => vec![Insn::mov(reg, R10), Insn::add(reg, -64)],
    })
}

fn anything(u: &mut Unstructured<'_>, reg: Reg) -> Result<Vec<Insn>> {
    Ok(match u.int_in_range(0..=6)? {
        0 => vec![Insn::mov(reg, R10)],
        1 => vec![map(u, reg)?],
        2 => vec![Insn::load_function(reg, 0)],
        3 => pointer(u, reg)?,
        4 => vec![Insn::load_imm64(reg, u.arbitrary()?)],
        _ => vec![Insn::load_imm64(reg, edge(u)?)],
    })
}

/// Calls of every kind.
pub fn seeds() -> Vec<Vec<u8>> {
    super::random_seeds(256, 512)
}
