//! The three ways to the program: assembly text, Rust, C.

use softbpf::asm::{Assembler, Condition, Insn, R0, R1, R2, R3, R6, R7, R8, R10, Size};
use softbpf::codec::Code;
use softbpf::insn::Imm64;
use softbpf::map_spec::{DataSection, MapSpec, MapType, map_flags};
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Object, text};
use softbpf_conformance::fixture;

/// As `llvm-objdump` printed it for the write-up: map references are zero.
const LISTING: &str = include_str!("../../../vm/tests/text_parse/readlinkat.txt");

/// Where the listing refers to which map, and how far into its value.
const REFERENCES: [(usize, Imm64); 5] = [
    (5, Imm64::MapValue { fd: RODATA, offset: 0 }),
    (12, Imm64::MapValue { fd: RODATA, offset: 4 }),
    (18, Imm64::MapFd(RECORDS)),
    (24, Imm64::MapFd(STACKS)),
    (30, Imm64::MapFd(STACKS)),
];

/// Indices of [`maps`].
const RECORDS: i32 = 0;
const STACKS: i32 = 1;
const RODATA: i32 = 2;

/// The program, and the names that it goes by.
pub(crate) struct Way {
    pub(crate) object: Object,
    pub(crate) program: &'static str,
    pub(crate) records: &'static str,
    pub(crate) stacks: &'static str,
}

pub(crate) fn ways() -> [Way; 3] {
    [listed(), built(), compiled()]
}

/// The listing, read by the assembler and bound to its maps.
pub(crate) fn listed() -> Way {
    let assembly = text::parse::parse(LISTING).unwrap_or_else(|error| panic!("{error}"));
    let bind = |(slot, insn): (usize, &Insn)| match (*insn, REFERENCES.iter().find(|(at, _)| *at == slot)) {
        (Insn::LoadImm64 { dst, value: Imm64::Value(0) }, Some((_, value))) => Insn::LoadImm64 { dst, value: *value },
        (insn, _) => insn,
    };
    ours(assembly.code.iter().map(bind).collect::<Vec<_>>().into())
}

/// The same instructions, with labels for its jumps.
pub(crate) fn built() -> Way {
    let mut asm = Assembler::new();
    asm.push(Insn::mov(R6, R1))
        .push(Insn::call(14))
        .push(Insn::mov(R7, R0))
        .push(Insn::call(14))
        .push(Insn::store(Size::W, R10, -4, R0))
        .push(Insn::load_map_value(R1, RODATA, 0))
        .push(Insn::load(Size::W, R2, R1, 0))
        .jump_if(Condition::Eq, R2, 0, "done")
        .push(Insn::load(Size::W, R1, R1, 0))
        .jump_if(Condition::Eq, R1, 0, "look up")
        .push(Insn::rsh(R7, 32))
        .push(Insn::load_map_value(R1, RODATA, 4))
        .push(Insn::load(Size::W, R1, R1, 0))
        .jump_if(Condition::Ne, R1, R7, "done")
        .label("look up")
        .push(Insn::mov(R2, R10))
        .push(Insn::add(R2, -4))
        .push(Insn::load_map_fd(R1, RECORDS))
        .push(Insn::call(1))
        .push(Insn::mov(R7, R0))
        .jump_if(Condition::Eq, R7, 0, "done");
    for flags in [512, 768] {
        asm.push(Insn::mov(R1, R6)).push(Insn::load_map_fd(R2, STACKS)).push(Insn::mov(R3, flags)).push(Insn::call(27));
        if flags == 512 {
            asm.push(Insn::mov(R8, R0));
        }
    }
    for (id, offset, next) in [(R8, 40, "user"), (R0, 44, "done")] {
        asm.push(Insn::mov(R2, id)).push(Insn::lsh(R2, 32)).push(Insn::arsh(R2, 32));
        if next == "user" {
            asm.push(Insn::mov(R1, 1));
        }
        asm.jump_if(Condition::Sgt, R1, R2, next).push(Insn::store(Size::W, R7, offset, id)).label(next);
    }
    asm.push(Insn::mov(R0, 0)).push(Insn::exit());
    ours(asm.finish().unwrap_or_else(|error| panic!("{error}")))
}

/// The fixture that clang made.
pub(crate) fn compiled() -> Way {
    Way { object: fixture("readlinkat.bpf.o"), program: "trace_readlinkat", records: "records", stacks: "stacks" }
}

fn ours(code: Code) -> Way {
    let program = Program::new(ProgramInfo::new(MAIN, ProgramType::Kprobe), code);
    let program = program.unwrap_or_else(|error| panic!("{error}"));
    let object = Object::from_programs(vec![program], maps());
    Way { object, program: MAIN, records: "xm_syscalls_record_map", stacks: "xm_syscalls_stack_map" }
}

fn maps() -> Vec<MapSpec> {
    let settings = MapSpec::new(".rodata", MapType::Array, 4, 8, 1);
    vec![
        MapSpec::new("xm_syscalls_record_map", MapType::Hash, 4, 48, 1024),
        MapSpec::new("xm_syscalls_stack_map", MapType::StackTrace, 4, 127 * 8, 1024),
        MapSpec { data: Some(DataSection::Rodata), map_flags: map_flags::RDONLY_PROG, ..settings },
    ]
}
