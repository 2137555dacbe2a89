//! One test: programs, what they get, and what must come of it. What every format is read into.
//!
//! A case knows no engine and no format.

use softbpf::check::{CheckErrorKind, Rules};
use softbpf::codec::{Code, DecodeErrorKind};
use softbpf::context::{Context, Packet};
use softbpf::insn::{AluOp, Callee, Group, Imm64, Insn, Width};
use softbpf::memory::FaultKind;
use softbpf::outcome::TrapKind;
use softbpf::program_type::ProgramType;

/// Name of the program array that programs of a case find as map 0; slot N holds program N.
pub const PROGRAM_ARRAY: &str = "progs";

/// A test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// File that it stands in.
    pub file: String,
    /// Line of the file, from 1: of the table row if it has one.
    pub line: usize,
    /// What is tested, with the values of its row.
    pub title: String,
    /// Name and bytecode of each program; the first one is run. More than one are in [`PROGRAM_ARRAY`].
    pub programs: Vec<(String, Vec<u8>)>,
    /// What the program gets.
    pub input: Input,
    /// Rules of the structural check.
    pub rules: Rules,
    /// Helper 5 gives back its first argument, as the plugins of the public suite have it.
    pub mock_helper_5: bool,
    /// Most instructions; `None` for plenty.
    pub fuel: Option<u64>,
    /// What must come of it.
    pub expect: Expect,
}

/// What a program gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// `r1` is the address of these bytes and `r2` their number; both are 0 when there are none.
    Memory(Vec<u8>),
    /// `r1` is the address of a `struct __sk_buff` with this packet.
    Packet(Vec<u8>),
}

impl Input {
    /// The type of a case's programs: one that takes this, reads all of a packet and may write to it.
    pub fn program_type(&self) -> ProgramType {
        match self {
            Input::Memory(_) => ProgramType::Unspec,
            Input::Packet(_) => ProgramType::SchedCls,
        }
    }

    /// The context that machines lay out for it.
    pub fn context(&self) -> Box<dyn Context> {
        match self {
            Input::Memory(bytes) => Box::new(bytes.clone()),
            Input::Packet(bytes) => Box::new(Packet::new(bytes)),
        }
    }
}

/// What must come of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// How it ends.
    pub end: End,
    /// Bytes of the memory or packet at the end, if that matters.
    pub after: Option<Vec<u8>>,
    /// Instructions executed, if that matters.
    pub instructions: Option<u64>,
}

/// How a case ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this value in `r0`.
    Returns(u64),
    /// In a trap of this name, at this slot.
    Traps(String, usize),
    /// Never starts: rejected for this reason, at this slot.
    Rejected(String, usize),
    /// In some error, before or while it runs.
    Fails,
}

impl Case {
    /// Bytecode of the program that is run.
    pub fn bytes(&self) -> &[u8] {
        self.programs.first().map_or(&[], |(_, bytes)| bytes)
    }

    /// The instructions of all programs, one program after the other; those that do not decode are left out.
    pub fn insns(&self) -> Vec<Insn> {
        let codes = self.programs.iter().filter_map(|(_, bytes)| Code::decode(bytes).ok());
        codes.flat_map(|code| code.insns().to_vec()).collect()
    }

    /// A program loads the address of [`PROGRAM_ARRAY`], or there are programs to put into it.
    pub fn needs_program_array(&self) -> bool {
        let names_map = |insn: &Insn| matches!(insn, Insn::LoadImm64 { value: Imm64::MapFd(0), .. });
        self.programs.len() > 1 || self.insns().iter().any(names_map)
    }

    /// A program calls a helper by number.
    pub fn calls_helpers(&self) -> bool {
        self.insns().iter().any(|insn| matches!(insn, Insn::Call(Callee::Helper(_))))
    }

    /// The conformance group of what is tested: of the instructions that are not there to set it up; `None` when the
    /// bytes are no instructions.
    pub fn group(&self) -> Option<Group> {
        let insns = self.insns();
        let tested: Vec<&Insn> = insns.iter().filter(|insn| !sets_up(insn)).collect();
        let groups = |insns: &[&Insn]| insns.iter().map(|insn| insn.group()).max_by_key(|&group| weight(group));
        groups(&tested).or_else(|| groups(&insns.iter().collect::<Vec<_>>()))
    }
}

/// Instructions that nearly every program has, whatever it tests.
fn sets_up(insn: &Insn) -> bool {
    matches!(
        insn,
        Insn::Exit
            | Insn::LoadImm64 { value: Imm64::Value(_), .. }
            | Insn::Alu { op: AluOp::Mov, width: Width::W64, .. }
    )
}

/// Which group a program is counted in when its instructions are of several.
fn weight(group: Group) -> u8 {
    match group {
        Group::Base32 => 1,
        Group::Base64 => 2,
        Group::DivMul32 => 3,
        Group::DivMul64 => 4,
        Group::Atomic32 => 5,
        Group::Atomic64 => 6,
        Group::Packet => 7,
        Group::Callx => 8,
        Group::Linux => 9,
    }
}

/// The name of a group, as RFC 9669 writes it.
pub fn group_name(group: Option<Group>) -> &'static str {
    match group {
        Some(Group::Base32) => "base32",
        Some(Group::Base64) => "base64",
        Some(Group::DivMul32) => "divmul32",
        Some(Group::DivMul64) => "divmul64",
        Some(Group::Atomic32) => "atomic32",
        Some(Group::Atomic64) => "atomic64",
        Some(Group::Packet) => "packet",
        Some(Group::Callx) => "callx",
        Some(Group::Linux) => "linux",
        None => "encoding",
    }
}

/// The groups in the order of reports, what does not decode last.
pub const GROUPS: [Option<Group>; 10] = [
    Some(Group::Base32),
    Some(Group::Base64),
    Some(Group::DivMul32),
    Some(Group::DivMul64),
    Some(Group::Atomic32),
    Some(Group::Atomic64),
    Some(Group::Packet),
    Some(Group::Callx),
    Some(Group::Linux),
    None,
];

/// Every name that [`trap_name`] gives.
pub const TRAP_NAMES: &[&str] = &[
    "null",
    "out of bounds",
    "read-only",
    "uninitialised",
    "not mapped",
    "out of fuel",
    "helper bytes",
    "too deep",
    "no helper",
    "no kfunc",
    "no extern",
    "no map",
    "no map value",
    "bad program",
    "bad argument",
    "bad call target",
    "no packet",
    "unreleased record",
    "mock reentered",
    "stopped",
];

/// What vectors call a trap.
pub fn trap_name(kind: &TrapKind) -> &'static str {
    match kind {
        TrapKind::Memory(fault) => match fault.kind {
            FaultKind::Null => "null",
            FaultKind::OutOfBounds => "out of bounds",
            FaultKind::ReadOnly => "read-only",
            FaultKind::Uninitialised => "uninitialised",
            FaultKind::NotMapped => "not mapped",
        },
        TrapKind::OutOfFuel { .. } => "out of fuel",
        TrapKind::HelperBytes => "helper bytes",
        TrapKind::TooDeep => "too deep",
        TrapKind::NoHelper { .. } => "no helper",
        TrapKind::NoKfunc { .. } => "no kfunc",
        TrapKind::NoExtern { .. } => "no extern",
        TrapKind::NoMap { .. } => "no map",
        TrapKind::NoMapValue { .. } => "no map value",
        TrapKind::BadProgram { .. } => "bad program",
        TrapKind::BadArgument { .. } => "bad argument",
        TrapKind::BadCallTarget { .. } => "bad call target",
        TrapKind::NoPacket { .. } => "no packet",
        TrapKind::UnreleasedRecord { .. } => "unreleased record",
        TrapKind::MockReentered { .. } => "mock reentered",
        TrapKind::Stopped { .. } => "stopped",
    }
}

/// Every reason that [`decode_reason`] and [`check_reason`] give.
pub const REASONS: &[&str] = &[
    "cut slot",
    "unknown opcode",
    "bad register dst",
    "bad register src",
    "reserved dst",
    "reserved src",
    "reserved off",
    "reserved imm",
    "bad selector off",
    "bad selector src",
    "bad selector imm",
    "bad width",
    "cut lddw",
    "bad lddw opcode",
    "bad lddw dst",
    "bad lddw src",
    "bad lddw off",
    "bad lddw imm",
    "empty",
    "too long",
    "jump out of range",
    "jump into lddw",
    "call out of range",
    "call into lddw",
    "address out of range",
    "falls off the end",
    "writes r10",
    "shift out of range",
    "address spaces",
];

/// What vectors call a reason of the decoder.
pub fn decode_reason(kind: &DecodeErrorKind) -> String {
    match kind {
        DecodeErrorKind::CutSlot { .. } => "cut slot".into(),
        DecodeErrorKind::UnknownOpcode(_) => "unknown opcode".into(),
        DecodeErrorKind::BadRegister { field, .. } => format!("bad register {field}"),
        DecodeErrorKind::Reserved { field, .. } => format!("reserved {field}"),
        DecodeErrorKind::BadSelector { field, .. } => format!("bad selector {field}"),
        DecodeErrorKind::BadSwapWidth(_) => "bad width".into(),
        DecodeErrorKind::CutWideLoad => "cut lddw".into(),
        DecodeErrorKind::BadWideLoad { field, .. } => format!("bad lddw {field}"),
    }
}

/// What vectors call a reason of the structural check.
pub fn check_reason(kind: &CheckErrorKind) -> &'static str {
    match kind {
        CheckErrorKind::Empty => "empty",
        CheckErrorKind::TooLong { .. } => "too long",
        CheckErrorKind::JumpOutOfRange { .. } => "jump out of range",
        CheckErrorKind::JumpIntoWideLoad { .. } => "jump into lddw",
        CheckErrorKind::CallOutOfRange { .. } => "call out of range",
        CheckErrorKind::CallIntoWideLoad { .. } => "call into lddw",
        CheckErrorKind::CodeAddressOutOfRange { .. } => "address out of range",
        CheckErrorKind::FallsOffEnd => "falls off the end",
        CheckErrorKind::WritesFramePointer => "writes r10",
        CheckErrorKind::ShiftOutOfRange { .. } => "shift out of range",
        CheckErrorKind::AddressSpaces { .. } => "address spaces",
    }
}
