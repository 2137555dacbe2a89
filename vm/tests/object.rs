//! What the fixtures' objects say: programs, maps, links, lines, tags.

use std::path::{Path, PathBuf};

use softbpf::btf::Kind;
use softbpf::insn::{Callee, Imm64, Insn};
use softbpf::map_spec::{DataSection, InitialSlot, MapSpec, MapType, map_flags};
use softbpf::object::{FileErrorKind, Object, ObjectError};
use softbpf::program::{Program, ProgramError, ProgramInfo, Tag};
use softbpf::program_type::ProgramType;

fn objects() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../conformance/objects")).to_owned()
}

fn load(file: &str) -> Object {
    Object::from_file(objects().join(file)).expect("a fixture loads")
}

fn program(object: &Object, name: &str) -> Program {
    object.program(name).expect("a program of the fixture")
}

fn map<'a>(object: &'a Object, name: &str) -> &'a MapSpec {
    object.maps().iter().find(|map| map.name == name).expect("a map of the fixture")
}

#[test]
fn tags_are_those_of_kernels() {
    let table = std::fs::read_to_string(objects().join("tags.txt")).expect("tags.txt");
    let mut seen = 0;
    for row in table.lines().filter(|row| !row.starts_with('#')) {
        let [file, name, sha1, kernel, sha256] = row.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("five columns in {row:?}");
        };
        let object = load(file);
        let index = object.programs().position(|info| &*info.name == name).expect("the program");
        let code = object.code_at(index).expect("the program").expect("it links");
        assert_eq!(Tag::sha1(&code).to_string(), sha1, "{file} {name}");
        assert_eq!(Tag::sha256(&code).to_string(), sha256, "{file} {name}");
        assert!(kernel == "-" || kernel == sha256, "{file} {name}");
        seen += 1;
    }
    assert!(seen > 20, "{seen} tags");
}

#[test]
fn tags_of_tracex4_are_those_that_bpftool_printed() {
    let object = load("tracex4_kern.o");
    assert_eq!(program(&object, "bpf_prog1").tag().to_string(), "a6cfc4a29f52a193");
    assert_eq!(program(&object, "bpf_prog2").tag().to_string(), "d16c41919f3b767a");
}

#[test]
fn legacy_maps_are_read() {
    let object = load("tracex4_kern.o");
    assert_eq!(object.maps(), [MapSpec::new("my_map", MapType::Hash, 8, 16, 1_000_000)]);
    assert_eq!((object.license(), object.version()), (Some("GPL"), Some(0x50400)));
    let program = program(&object, "bpf_prog1");
    assert!(program.is_gpl_compatible());
    assert_eq!(program.info(), &ProgramInfo::in_section("bpf_prog1", "kprobe/kmem_cache_free"));
    assert_eq!(program.info().attach_target(), Some("kmem_cache_free"));
    assert_eq!(program.program_type(), ProgramType::Kprobe);
    let load = program.code().insns().iter().find(|insn| matches!(insn, Insn::LoadImm64 { .. }));
    assert!(matches!(load, Some(Insn::LoadImm64 { value: Imm64::MapFd(0), .. })), "{load:?}");
}

#[test]
fn btf_maps_are_the_same_as_legacy_ones() {
    let object = load("tracex4.bpf.o");
    let spec = map(&object, "my_map");
    let (key, value) = (spec.key_type_id.expect("a key type"), spec.value_type_id.expect("a value type"));
    let plain = MapSpec { key_type_id: None, value_type_id: None, ..spec.clone() };
    assert_eq!(plain, MapSpec::new("my_map", MapType::Hash, 8, 16, 1_000_000));
    let btf = object.btf().expect("BTF");
    assert_eq!((btf.size_of(key), btf.size_of(value)), (Ok(8), Ok(16)));
    let Ok(Kind::Struct { members, .. }) = btf.resolve(value).and_then(|id| btf.kind(id)) else {
        panic!("the value is a struct");
    };
    assert_eq!(members.iter().map(|member| btf.text(member.name)).collect::<Vec<_>>(), ["time", "ip"]);
}

#[test]
fn data_sections_become_array_maps() {
    let object = load("subprogs.bpf.o");
    let rodata = map(&object, ".rodata");
    assert_eq!((rodata.map_type, rodata.key_size, rodata.max_entries), (MapType::Array, 4, 1));
    assert_eq!(rodata.map_flags, map_flags::RDONLY_PROG | map_flags::MMAPABLE);
    assert_eq!(rodata.initial_value.as_ref().map(|bytes| bytes.len()), Some(rodata.value_size as usize));
    assert_eq!(rodata.kernel_name(object.name()), "subprogs.rodata");
    assert_eq!(map(&object, ".rodata.cst8").map_flags, map_flags::RDONLY_PROG);
    let bss = map(&object, ".bss");
    assert_eq!((bss.data, &bss.initial_value, bss.value_size), (Some(DataSection::Bss), &None, 56));
    // `last_buffer` follows `entries`.
    let btf = object.btf().expect("BTF");
    let Ok(Kind::DataSec { size: 56, vars }) = btf.kind(bss.value_type_id.expect("a data section")) else {
        panic!("the value is a data section with its size");
    };
    let placed: Vec<_> = vars.iter().map(|var| (btf.name(var.type_id), var.offset, var.size)).collect();
    assert_eq!(placed, [("entries", 0, 8), ("last_buffer", 8, 48)]);
}

#[test]
fn subprograms_are_appended_where_they_are_first_called() {
    let object = load("subprogs.bpf.o");
    let program = program(&object, "classify");
    let functions: Vec<_> = program.functions().iter().map(|function| &*function.name).collect();
    assert_eq!(functions, ["classify", "seed_of", "digest", "hash_buffer", "mix"]);
    for function in program.functions() {
        assert_eq!(program.function_at(function.slots.start), Some(function));
        let line = program.line_at(function.slots.start).expect("a line");
        assert!(line.file.ends_with("subprogs.bpf.c"), "{line:?}");
    }
    // Every call leads to the start of a function.
    for (slot, insn) in program.code().iter() {
        if let Insn::Call(Callee::Local(off)) = insn {
            let target = (slot as i64 + 1 + i64::from(*off)) as usize;
            assert!(program.functions().iter().any(|function| function.slots.start == target), "{slot}: {insn:?}");
        }
    }
}

#[test]
fn lines_carry_their_source() {
    let program = program(&load("tracex4.bpf.o"), "bpf_prog1");
    let line = program.line_at(0).expect("a line");
    assert_eq!((line.file, line.line, line.column), ("./tracex4.bpf.c", 25, 20));
    assert_eq!(line.text, "\tu64 object = ctx->si;");
    let last = program.line_at(program.code().slot_count() - 1).expect("a line");
    assert!(last.slot < program.code().slot_count() && last.line > line.line);
}

#[test]
fn program_arrays_have_initial_slots() {
    let object = load("tailcall.bpf.o");
    let slots = |name| map(&object, name).initial_slots.clone().into_iter().collect::<Vec<_>>();
    assert_eq!(slots("programs"), [(1, InitialSlot::Program("open_report".into()))]);
    assert_eq!(slots("myself"), [(0, InitialSlot::Program("spin".into()))]);
}

#[test]
fn a_ring_buffer_has_no_key_and_no_value() {
    let object = load("events.bpf.o");
    let ring = map(&object, "events");
    assert_eq!((ring.map_type, ring.key_size, ring.value_size), (MapType::Ringbuf, 0, 0));
    assert_eq!(map(&object, "totals").map_type, MapType::PercpuHash);
}

#[test]
fn a_bad_program_does_not_hide_the_object() {
    let object = load("everyop.bpf.o");
    assert!(matches!(object.program("everyop"), Err(ProgramError::Check { .. })));
    let functions: Vec<_> = object.functions().map(|function| (function.name, function.is_entry)).collect();
    assert_eq!(functions, [("called", false), ("called_by_offset", false), ("everyop", true)]);
    let missing = ProgramError::NotFound { name: "nobody".into() };
    assert_eq!(object.program("nobody"), Err(missing));
}

#[test]
fn a_program_in_an_unknown_section_gets_its_type_from_the_caller() {
    let mut object = load("xdp_count.bpf.o");
    object.program_mut("xdp_count").expect("the program").program_type = ProgramType::SchedCls;
    assert_eq!(program(&object, "xdp_count").program_type(), ProgramType::SchedCls);
}

#[test]
fn a_missing_file_is_named() {
    let error = Object::from_file("no/such.o").expect_err("no such file");
    assert_eq!(error.path, Path::new("no/such.o"));
    assert!(matches!(error.source, FileErrorKind::Io(_)));
}

#[test]
fn bytecode_is_an_object() {
    let bytes = [0xb7, 0, 0, 0, 7, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let object = Object::from_bytecode("main", ProgramType::Xdp, &bytes).expect("two instructions");
    let program = program(&object, "main");
    assert_eq!((program.code().slot_count(), program.program_type()), (2, ProgramType::Xdp));
    assert!(matches!(Object::from_bytecode("x", ProgramType::Xdp, &bytes[..7]), Err(ObjectError::Bytecode { .. })));
    assert!(matches!(Object::from_bytecode("x", ProgramType::Xdp, &bytes[..8]), Err(ObjectError::Program(_))));
}

#[test]
fn parsing_does_not_depend_on_where_the_bytes_lie() {
    let bytes = std::fs::read(objects().join("tracex4.bpf.o")).expect("a fixture");
    let mut shifted = vec![0; 1];
    shifted.extend_from_slice(&bytes);
    assert_eq!(Object::parse(&shifted[1..]), Object::parse(&bytes));
}
