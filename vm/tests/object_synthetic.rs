//! Objects that no fixture is: made byte by byte, each to show one rule or one refusal.

use std::sync::Arc;

use softbpf::codec::{Code, DecodeErrorKind};
use softbpf::insn::{AluOp, Callee, Imm64, Insn, Operand, Reg, Width};
use softbpf::map_spec::{DataSection, MapSpec, MapType};
use softbpf::object::{MAX_DATA, MapError, Object, ObjectError, RelocationError};
use softbpf::program::{ExternKind, ProgramError};
use softbpf::program_type::ProgramType;

mod object_elf;
use object_elf::{
    EXECUTABLE, Elf, FUNC, GLOBAL, LOCAL, NOBITS, NOTYPE, OBJECT, PROGBITS, R_64_32, R_64_64, SECTION, WEAK,
};

fn mov(value: i32) -> Insn {
    Insn::Alu { op: AluOp::Mov, width: Width::W64, dst: Reg::R0, src: Operand::Imm(value) }
}

fn load(value: u64) -> Insn {
    Insn::LoadImm64 { dst: Reg::R1, value: Imm64::Value(value) }
}

fn call(off: i32) -> Insn {
    Insn::Call(Callee::Local(off))
}

fn insns(object: &Object, name: &str) -> Vec<Insn> {
    object.program(name).expect("a program").code().insns().to_vec()
}

fn relocation_error(elf: Elf) -> RelocationError {
    match elf.parse() {
        Err(ObjectError::Relocation { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_of_other_kinds_are_named() {
    assert_eq!(Object::parse(b""), Err(ObjectError::NotElf));
    assert_eq!(Object::parse(b"#!/bin/sh"), Err(ObjectError::NotElf));
    assert_eq!(Elf { machine: 62, ..Elf::new() }.parse(), Err(ObjectError::NotBpf { machine: 62 }));
    assert!(Elf { machine: 62, ..Elf::new() }.parse().unwrap_err().to_string().contains("x86-64"));
    assert_eq!(Elf { kind: 2, ..Elf::new() }.parse(), Err(ObjectError::NotRelocatable { kind: 2 }));
    let mut big = Elf::new().build();
    big[5] = 2;
    big[18..20].copy_from_slice(&247_u16.to_be_bytes());
    assert_eq!(Object::parse(&big), Err(ObjectError::BigEndian));
    let mut narrow = Elf::new().build();
    narrow[4] = 1;
    assert_eq!(Object::parse(&narrow), Err(ObjectError::Not64Bit));
}

#[test]
fn a_section_without_symbols_is_a_program() {
    let mut elf = Elf::new();
    elf.code("socket", vec![mov(1), Insn::Exit]);
    let xdp = elf.code("xdp", vec![mov(2), Insn::Exit]);
    elf.symbol("entry", GLOBAL, NOTYPE, xdp, 0, 0);
    let object = elf.parse().expect("an object");
    let names: Vec<_> = object.programs().map(|info| (&*info.name, info.program_type)).collect();
    assert_eq!(names, [("socket", ProgramType::SocketFilter), ("entry", ProgramType::Xdp)]);
}

#[test]
fn text_alone_holds_programs() {
    let mut elf = Elf::new();
    let text = elf.code(".text", vec![mov(1), Insn::Exit, call(-3), Insn::Exit]);
    elf.symbol("callee", LOCAL, FUNC, text, 0, 16);
    elf.symbol("main", GLOBAL, FUNC, text, 16, 16);
    let object = elf.parse().expect("an object");
    assert_eq!(object.programs().len(), 2);
    assert_eq!(insns(&object, "main"), [call(1), Insn::Exit, mov(1), Insn::Exit]);
}

#[test]
fn functions_follow_in_the_order_of_first_calls() {
    // main calls b and a; b calls a: libbpf places a behind b, before it returns to main.
    let mut elf = Elf::new();
    let text = elf.code(".text", vec![mov(1), Insn::Exit, call(-1), Insn::Exit]);
    let main = elf.code("tc", vec![call(1), call(-1), Insn::Exit]);
    let a = elf.symbol("a", GLOBAL, FUNC, text, 0, 16);
    let section = elf.symbol("", LOCAL, SECTION, text, 0, 0);
    elf.symbol("b", LOCAL, FUNC, text, 16, 16);
    elf.symbol("main", GLOBAL, FUNC, main, 0, 24);
    elf.relocate(text, &[(16, R_64_32, a)]);
    // Static functions are reached through their section: the immediate is their slot less one.
    elf.relocate(main, &[(0, R_64_32, section), (8, R_64_32, a)]);
    let object = elf.parse().expect("an object");
    let expected = [call(2), call(3), Insn::Exit, call(1), Insn::Exit, mov(1), Insn::Exit];
    assert_eq!(insns(&object, "main"), expected);
    let program = object.program("main").expect("a program");
    let functions: Vec<_> = program.functions().iter().map(|function| (&*function.name, &function.slots)).collect();
    assert_eq!(functions, [("main", &(0..3)), ("b", &(3..5)), ("a", &(5..7))]);
}

#[test]
fn a_program_may_call_itself_and_take_addresses() {
    let mut elf = Elf::new();
    let text = elf.code(".text", vec![mov(1), Insn::Exit, mov(2), Insn::Exit]);
    let main = elf.code("tc", vec![load(16), load(0), call(-5), Insn::Exit]);
    let section = elf.symbol("", LOCAL, SECTION, text, 0, 0);
    elf.symbol("first", LOCAL, FUNC, text, 0, 16);
    let global = elf.symbol("second", GLOBAL, FUNC, text, 16, 16);
    elf.symbol("main", GLOBAL, FUNC, main, 0, 48);
    elf.relocate(main, &[(0, R_64_64, section), (16, R_64_64, global)]);
    let code = insns(&elf.parse().expect("an object"), "main");
    let address = |off| Insn::LoadImm64 { dst: Reg::R1, value: Imm64::Code(off) };
    assert_eq!(code, [address(5), address(3), call(-5), Insn::Exit, mov(2), Insn::Exit]);
}

#[test]
fn mutual_recursion_and_long_chains_of_calls_end() {
    const COUNT: usize = 20_000;
    let mut elf = Elf::new();
    // Each function calls the next, the last one the first.
    let next = |index: usize| if index + 1 == COUNT { -2 * COUNT as i32 + 1 } else { 1 };
    let text = elf.code(".text", (0..COUNT).flat_map(|index| [call(next(index)), Insn::Exit]).collect());
    for index in 0..COUNT {
        elf.symbol("f", LOCAL, FUNC, text, index as u64 * 16, 16);
    }
    let object = elf.parse().expect("an object");
    let program = object.program_at(COUNT / 2).expect("the program").expect("it links");
    assert_eq!(program.functions().len(), COUNT);
    assert_eq!(program.functions().last().map(|function| function.slots.end), Some(2 * COUNT));
}

#[test]
fn overlapping_functions_do_not_multiply() {
    let mut elf = Elf::new();
    let mut code = vec![mov(0); 4_000];
    code.push(Insn::Exit);
    let size = code.len() as u64 * 8;
    let text = elf.code("tc", code);
    for index in 0..2_000 {
        elf.symbol("f", GLOBAL, FUNC, text, index * 8, size - index * 8);
    }
    let object = elf.parse().expect("an object");
    assert_eq!(object.programs().len(), 2_000);
    assert_eq!(object.program_at(1_999).expect("a program").expect("it links").code().slot_count(), 2_002);
}

#[test]
fn undecodable_instructions_are_located() {
    let mut elf = Elf::new();
    let mut bytes = Code::from(vec![mov(1), Insn::Exit, mov(2), Insn::Exit]).encode().expect("encodable");
    bytes[16] = 0xff;
    let xdp = elf.section("xdp", PROGBITS, EXECUTABLE, bytes);
    elf.symbol("good", GLOBAL, FUNC, xdp, 0, 16);
    elf.symbol("bad", GLOBAL, FUNC, xdp, 16, 16);
    let Err(ObjectError::Decode { section, function, source }) = elf.parse() else { panic!("it decodes") };
    assert_eq!((&*section, &*function, source.slot), ("xdp", "bad", 0));
    assert_eq!(source.kind, DecodeErrorKind::UnknownOpcode(0xff));
}

#[test]
fn functions_outside_of_their_section_are_refused() {
    for (value, size) in [(0, 24), (8, 16), (4, 8), (0, 12), (u64::MAX - 7, 16), (16, 0)] {
        let mut elf = Elf::new();
        let xdp = elf.code("xdp", vec![mov(1), Insn::Exit]);
        elf.symbol("f", GLOBAL, FUNC, xdp, value, size);
        assert!(matches!(elf.parse(), Err(ObjectError::BadFunction { .. })), "{value} {size}");
    }
    // Cut in the middle of a wide load.
    let mut elf = Elf::new();
    let xdp = elf.code("xdp", vec![load(1), Insn::Exit]);
    elf.symbol("f", GLOBAL, FUNC, xdp, 0, 8);
    assert!(matches!(elf.parse(), Err(ObjectError::Decode { .. })));
}

#[test]
fn helpers_keep_their_numbers_known_or_not() {
    let mut elf = Elf::new();
    let helpers = vec![Insn::Call(Callee::Helper(1)), Insn::Call(Callee::Helper(0xbad_2310)), Insn::Exit];
    elf.code("tc", helpers.clone());
    assert_eq!(insns(&elf.parse().expect("an object"), "tc"), helpers);
}

#[test]
fn references_to_data_carry_map_and_offset() {
    let mut elf = Elf::new();
    let main = elf.code("tc", vec![load(4), load(-8_i64 as u64), Insn::Exit]);
    let data = elf.section(".data", PROGBITS, 3, vec![1; 32]);
    let section = elf.symbol("", LOCAL, SECTION, data, 0, 0);
    let variable = elf.symbol("x", GLOBAL, OBJECT, data, 16, 8);
    elf.relocate(main, &[(0, R_64_64, section), (16, R_64_64, variable)]);
    let object = elf.parse().expect("an object");
    let value = |offset| Insn::LoadImm64 { dst: Reg::R1, value: Imm64::MapValue { fd: 0, offset } };
    assert_eq!(insns(&object, "tc"), [value(4), value(8), Insn::Exit]);
    assert_eq!(object.maps()[0].initial_value.as_deref(), Some(&[1; 32][..]));
}

#[test]
fn a_huge_bss_takes_no_memory_and_has_a_limit() {
    let with_size = |size| {
        let mut elf = Elf::new();
        let bss = elf.section(".bss", NOBITS, 3, Vec::new());
        elf.sections[bss - 1].size = size;
        elf.parse()
    };
    let object = with_size(MAX_DATA).expect("an object");
    assert_eq!((object.maps()[0].data, &object.maps()[0].initial_value), (Some(DataSection::Bss), &None));
    for size in [MAX_DATA + 1, u64::MAX] {
        assert_eq!(with_size(size), Err(ObjectError::DataTooLarge { section: ".bss".into(), size }));
    }
}

#[test]
fn sections_that_share_bytes_are_refused() {
    let mut elf = Elf::new();
    for _ in 0..100 {
        elf.section(".data.x", PROGBITS, 3, vec![0; 4096]);
    }
    let mut bytes = elf.build();
    // All of them at the place of the first.
    let headers = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes")) as usize;
    for section in 2..=100 {
        bytes[headers + 64 * section + 24..][..8].copy_from_slice(&64_u64.to_le_bytes());
    }
    bytes.drain(64 + 8 * 4096..64 + 99 * 4096);
    let moved = headers - 91 * 4096;
    bytes[40..48].copy_from_slice(&(moved as u64).to_le_bytes());
    for section in 101..=102 {
        let at = moved + 64 * section + 24;
        let offset = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) - 91 * 4096;
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
    }
    assert_eq!(Object::parse(&bytes), Err(ObjectError::OverlappingSections));
}

/// A legacy definition of a map with these words.
fn legacy(words: &[u32], size: u64) -> Result<Object, ObjectError> {
    let mut elf = Elf::new();
    let maps = elf.section("maps", PROGBITS, 3, words.iter().flat_map(|word| word.to_le_bytes()).collect());
    elf.symbol("m", GLOBAL, if size == 0 { NOTYPE } else { OBJECT }, maps, 0, size);
    elf.parse()
}

#[test]
fn legacy_maps_of_any_length_are_read() {
    let expected = MapSpec { map_flags: 1, ..MapSpec::new("m", MapType::Array, 4, 8, 16) };
    for size in [0, 20] {
        assert_eq!(legacy(&[2, 4, 8, 16, 1], size).expect("an object").maps(), std::slice::from_ref(&expected));
    }
    assert_eq!(legacy(&[2, 4, 8, 16, 1, 0, 0], 0).expect("an object").maps(), [expected]);
    assert_eq!(legacy(&[99, 4, 8, 16], 16).expect("an object").maps()[0].map_type, MapType::Unknown(99));
    let refused = |words: &[u32], size| match legacy(words, size) {
        Err(ObjectError::Map { map, reason }) if map == "m" => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&[2, 4, 8, 16, 1, 0, 7], 0), MapError::UnknownTail { offset: 24 });
    assert_eq!(refused(&[2, 4, 8], 0), MapError::BadSize { size: 12 });
    assert_eq!(refused(&[2, 4, 8, 16], 20), MapError::OutsideSection);
}

#[test]
fn maps_are_found_by_offset() {
    let mut elf = Elf::new();
    let main = elf.code("tc", vec![load(0), Insn::Exit]);
    let maps = elf.section("maps", PROGBITS, 3, [1_u32, 4, 8, 16, 0, 2, 4, 8, 16, 0].map(u32::to_le_bytes).concat());
    elf.symbol("first", GLOBAL, NOTYPE, maps, 0, 0);
    let second = elf.symbol("second", GLOBAL, NOTYPE, maps, 20, 0);
    elf.relocate(main, &[(0, R_64_64, second)]);
    let object = elf.parse().expect("an object");
    let expected = Insn::LoadImm64 { dst: Reg::R1, value: Imm64::MapFd(1) };
    assert_eq!(insns(&object, "tc"), [expected, Insn::Exit]);
}

#[test]
fn externs_wait_for_someone_to_provide_them() {
    let mut elf = Elf::new();
    let main = elf.code("tc", vec![load(0), load(0), call(-1), Insn::Exit]);
    let strong = elf.symbol("jiffies", GLOBAL, NOTYPE, 0, 0, 0);
    let weak = elf.symbol("maybe", WEAK, NOTYPE, 0, 0, 0);
    let function = elf.symbol("bpf_kfunc", GLOBAL, NOTYPE, 0, 0, 0);
    elf.relocate(main, &[(0, R_64_64, strong), (16, R_64_64, weak), (32, R_64_32, function)]);
    let object = elf.parse().expect("an object");
    let names: Vec<_> = object.externs().iter().map(|found| (&*found.name, found.weak, found.kind)).collect();
    let ksym = ExternKind::Ksym;
    assert_eq!(names, [("jiffies", false, ksym), ("maybe", true, ksym), ("bpf_kfunc", false, ksym)]);
    let strong = Insn::LoadImm64 { dst: Reg::R1, value: Imm64::Variable { btf_id: 0, btf_fd: 0 } };
    let kfunc = Insn::Call(Callee::Kfunc { btf_id: 2, module: 0 });
    assert_eq!(insns(&object, "tc"), [strong, load(0), kfunc, Insn::Exit]);
    assert_eq!(object.program("tc").expect("a program").externs(), object.externs());
}

#[test]
fn bad_relocations_say_why() {
    let with = |relocation: fn(u32, u32) -> (u64, u32, u32)| {
        let mut elf = Elf::new();
        let main = elf.code("tc", vec![load(0), mov(1), Insn::Exit]);
        let license = elf.section("license", PROGBITS, 3, b"GPL\0".to_vec());
        let in_license = elf.symbol("_license", GLOBAL, OBJECT, license, 0, 4);
        let nowhere = elf.symbol("local", LOCAL, NOTYPE, 0, 0, 0);
        elf.relocate(main, &[relocation(in_license, nowhere)]);
        relocation_error(elf)
    };
    assert_eq!(with(|license, _| (0, R_64_64, license)), RelocationError::BadSection("license".into()));
    assert_eq!(with(|_, nowhere| (0, R_64_64, nowhere)), RelocationError::NoSection);
    assert_eq!(with(|_, _| (0, R_64_64, 77)), RelocationError::NoSymbol(77));
    assert_eq!(with(|license, _| (0, 2, license)), RelocationError::Type(2));
    assert_eq!(with(|license, _| (8, R_64_64, license)), RelocationError::NotAtInstruction);
    assert_eq!(with(|license, _| (1, R_64_64, license)), RelocationError::NotAtInstruction);
    assert_eq!(with(|license, _| (16, R_64_64, license)), RelocationError::BadInstruction);
}

#[test]
fn relocations_of_no_type_and_of_no_function_are_skipped() {
    let mut elf = Elf::new();
    let main = elf.code("tc", vec![load(5), Insn::Exit, load(6), Insn::Exit]);
    elf.symbol("main", GLOBAL, FUNC, main, 0, 24);
    let nowhere = elf.symbol("local", LOCAL, NOTYPE, 0, 0, 0);
    elf.relocate(main, &[(0, 0, nowhere), (24, R_64_64, nowhere)]);
    assert_eq!(insns(&elf.parse().expect("an object"), "main"), [load(5), Insn::Exit]);
}

#[test]
fn calls_into_nowhere_are_refused() {
    let mut elf = Elf::new();
    elf.code("tc", vec![call(7), Insn::Exit]);
    let bad = ObjectError::BadCall { section: Arc::from("tc"), slot: 0, target: 8 };
    assert_eq!(elf.parse(), Err(bad));
}

#[test]
fn maps_in_btf_need_btf() {
    let mut elf = Elf::new();
    elf.section(".maps", PROGBITS, 3, vec![0; 8]);
    assert_eq!(elf.parse(), Err(ObjectError::NoBtf { section: ".maps" }));
}

#[test]
fn endless_names_are_refused() {
    let mut elf = Elf::new();
    let xdp = elf.code("xdp", vec![mov(1), Insn::Exit]);
    elf.symbol(&"x".repeat(5_000), GLOBAL, FUNC, xdp, 0, 16);
    assert!(matches!(elf.parse(), Err(ObjectError::BadName { .. })));
}

#[test]
fn a_program_that_no_engine_may_run_is_an_error_of_its_own() {
    let mut elf = Elf::new();
    elf.code("tc", vec![mov(1)]);
    elf.code("xdp", vec![mov(1), Insn::Exit]);
    let object = elf.parse().expect("an object");
    assert!(matches!(object.program("tc"), Err(ProgramError::Check { .. })));
    assert!(object.program("xdp").is_ok());
}
