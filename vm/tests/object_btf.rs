//! BTF that compilers do not make, and the definitions of maps in it.

mod object_elf;

use object_elf::{Btf as Writer, Elf, GLOBAL, OBJECT, PROGBITS};
use softbpf::btf::{Btf, BtfError, Kind, TypeId};
use softbpf::map_spec::{MapSpec, MapType, Pinning};
use softbpf::object::{MapError, Object, ObjectError};

const STRUCT: u32 = 4;
const ENUM: u32 = 6;
const TYPEDEF: u32 = 8;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const ENUM64: u32 = 19;
const SIGNED: u32 = 1 << 31;

fn parse(writer: &Writer) -> Result<Btf, BtfError> {
    Btf::parse(&writer.build())
}

#[test]
fn cycles_of_types_end() {
    let mut writer = Writer::new();
    writer.add("a", TYPEDEF, 0, 2, &[]);
    writer.add("b", TYPEDEF, 0, 1, &[]);
    writer.add("", 3, 0, 0, &[3, 3, 2]);
    let btf = parse(&writer).expect("types");
    for id in [1, 2].map(TypeId) {
        assert_eq!(btf.resolve(id), Err(BtfError::TooDeep { id }));
        assert_eq!(btf.size_of(id), Err(BtfError::TooDeep { id }));
        assert_eq!(btf.align_of(id), Err(BtfError::TooDeep { id }));
    }
    assert_eq!(btf.size_of(TypeId(3)), Err(BtfError::TooDeep { id: TypeId(3) }));
}

#[test]
fn sizes_do_not_overflow() {
    let mut writer = Writer::new();
    let int = writer.int("int", 4);
    let mut id = writer.array(int, 0x4000_0000);
    assert_eq!(parse(&writer).expect("types").size_of(TypeId(id)), Err(BtfError::TooLarge { id: TypeId(id) }));
    for _ in 0..4 {
        id = writer.array(id, u32::MAX);
    }
    assert_eq!(parse(&writer).expect("types").size_of(TypeId(id)), Err(BtfError::TooLarge { id: TypeId(id) }));
    let small = writer.array(int, 5);
    assert_eq!(parse(&writer).expect("types").size_of(TypeId(small)), Ok(20));
}

#[test]
fn references_lead_somewhere() {
    let mut writer = Writer::new();
    writer.pointer(2);
    assert_eq!(parse(&writer), Err(BtfError::BadReference { id: TypeId(1), target: TypeId(2) }));
    let mut writer = Writer::new();
    writer.add("", 31, 0, 0, &[]);
    assert_eq!(parse(&writer), Err(BtfError::UnknownKind { id: TypeId(1), kind: 31 }));
    let mut writer = Writer::new();
    writer.add("", STRUCT, 0xffff, 8, &[]);
    assert_eq!(parse(&writer), Err(BtfError::CutType { id: TypeId(1) }));
}

#[test]
fn headers_are_checked() {
    let mut bytes = Writer::new().build();
    assert!(Btf::parse(&bytes).is_ok());
    assert_eq!(Btf::parse(&bytes[..3]), Err(BtfError::ShortHeader { length: 3 }));
    assert_eq!(Btf::parse(&bytes[..23]), Err(BtfError::BadHeaderLength { length: 24 }));
    bytes[2] = 9;
    assert_eq!(Btf::parse(&bytes), Err(BtfError::BadVersion { version: 9 }));
    bytes[..2].reverse();
    assert_eq!(Btf::parse(&bytes), Err(BtfError::BigEndian));
    bytes[0] = 0;
    assert_eq!(Btf::parse(&bytes), Err(BtfError::BadMagic { magic: 0x9f00 }));
}

#[test]
fn enumerations_of_both_widths_have_64_bit_values() {
    let mut writer = Writer::new();
    let name = writer.string("minus_two");
    let signed = writer.add("e", ENUM, SIGNED | 1, 4, &[name, -2_i32 as u32]);
    let unsigned = writer.add("u", ENUM, 1, 4, &[name, 0xffff_fffe]);
    let wide = writer.add("w", ENUM64, 1, 8, &[name, 1, 2]);
    let btf = parse(&writer).expect("types");
    let value = |id| match btf.kind(TypeId(id)) {
        Ok(Kind::Enum { values, .. }) => values[0].value,
        other => panic!("{other:?}"),
    };
    assert_eq!(value(signed), -2_i64 as u64);
    assert_eq!(value(unsigned), 0xffff_fffe);
    assert_eq!(value(wide), 0x2_0000_0001);
    assert_eq!(btf.find("w", |kind| matches!(kind, Kind::Enum { .. })), Some(TypeId(wide)));
    assert_eq!(btf.find("w", |kind| matches!(kind, Kind::Struct { .. })), None);
}

/// An object with one map, whose definition has the members that `fill` makes.
fn define(fill: impl FnOnce(&mut Writer) -> Vec<(&'static str, u32)>) -> Result<Object, ObjectError> {
    let mut writer = Writer::new();
    let members = fill(&mut writer);
    let definition = writer.record(&members);
    let var = writer.add("m", VAR, 0, definition, &[1]);
    writer.add(".maps", DATASEC, 1, 0, &[var, 0, members.len() as u32 * 8]);
    let mut elf = Elf::new();
    let maps = elf.section(".maps", PROGBITS, 3, vec![0; members.len() * 8]);
    elf.symbol("m", GLOBAL, OBJECT, maps, 0, members.len() as u64 * 8);
    elf.section(".BTF", PROGBITS, 0, writer.build());
    elf.parse()
}

/// `__uint`.
fn number(writer: &mut Writer, value: u32) -> u32 {
    let int = writer.int("int", 4);
    let array = writer.array(int, value);
    writer.pointer(array)
}

/// `__type` of an integer.
fn typed(writer: &mut Writer, size: u32) -> u32 {
    let int = writer.int("int", size);
    writer.pointer(int)
}

fn refused(fill: impl FnOnce(&mut Writer) -> Vec<(&'static str, u32)>) -> MapError {
    match define(fill) {
        Err(ObjectError::Map { map, reason }) if map == "m" => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn sizes_are_said_by_type_or_by_number() {
    let plain = MapSpec::new("m", MapType::Hash, 4, 8, 3);
    let object = define(|w| {
        vec![
            ("type", number(w, 1)),
            ("key_size", number(w, 4)),
            ("value_size", number(w, 8)),
            ("max_entries", number(w, 3)),
            ("pinning", number(w, 1)),
        ]
    });
    let pinned = MapSpec { pinning: Pinning::ByName, ..plain.clone() };
    assert_eq!(object.expect("a map").maps(), [pinned]);
    let object = define(|w| {
        vec![("type", number(w, 1)), ("key", typed(w, 4)), ("value", typed(w, 8)), ("max_entries", number(w, 3))]
    });
    let object = object.expect("a map");
    let [spec] = object.maps() else { panic!("one map") };
    assert!(spec.key_type_id.is_some() && spec.value_type_id.is_some());
    assert_eq!(MapSpec { key_type_id: None, value_type_id: None, ..spec.clone() }, plain);
}

#[test]
fn ring_buffers_are_rounded_up_to_what_kernels_accept() {
    for (asked, given) in [(0, 0), (1, 4096), (4096, 4096), (5000, 8192), (12288, 16384), (u32::MAX, u32::MAX)] {
        let object = define(|w| vec![("type", number(w, 27)), ("max_entries", number(w, asked))]);
        assert_eq!(object.expect("a map").maps()[0].max_entries, given, "{asked}");
    }
}

#[test]
fn map_extra_has_64_bits() {
    let object = define(|w| {
        let name = w.string("extra");
        vec![("type", number(w, 33)), ("map_extra", w.add("", ENUM64, 1, 8, &[name, 0, 0x1000]))]
    });
    assert_eq!(object.expect("a map").maps()[0].map_extra, 0x1000 << 32);
}

#[test]
fn bad_definitions_say_why() {
    assert_eq!(refused(|_| vec![]), MapError::NoType);
    assert_eq!(refused(|w| vec![("type", number(w, 0))]), MapError::NoType);
    assert_eq!(refused(|w| vec![("typo", number(w, 1))]), MapError::UnknownField("typo".into()));
    assert_eq!(refused(|w| vec![("type", w.int("int", 4))]), MapError::BadField { field: "type", kind: "int" });
    assert_eq!(refused(|w| vec![("type", typed(w, 4))]), MapError::BadField { field: "type", kind: "int" });
    assert_eq!(refused(|w| vec![("pinning", number(w, 2))]), MapError::BadPinning(2));
    assert_eq!(
        refused(|w| vec![("key_size", number(w, 8)), ("key", typed(w, 4))]),
        MapError::Conflict { field: "key", first: 8, second: 4 }
    );
    assert!(matches!(refused(|w| vec![("key", w.pointer(0))]), MapError::Btf { source: BtfError::NoSize { .. }, .. }));
    let many = |w: &mut Writer| std::iter::repeat_n(("type", number(w, 1)), 65).collect();
    assert_eq!(refused(many), MapError::TooManyFields(65));
}

/// `__array(values, ...)` of pointers to a type.
fn values(writer: &mut Writer, target: u32) -> u32 {
    let pointer = writer.pointer(target);
    writer.array(pointer, 0)
}

#[test]
fn maps_of_maps_have_a_template() {
    let object = define(|w| {
        let inner = [("type", number(w, 2)), ("max_entries", number(w, 7)), ("key_size", number(w, 4))];
        let inner = w.record(&inner);
        vec![("type", number(w, 12)), ("values", values(w, inner))]
    });
    let object = object.expect("a map");
    let [outer] = object.maps() else { panic!("one map") };
    assert_eq!((outer.map_type, outer.value_size), (MapType::ArrayOfMaps, 4));
    assert_eq!(outer.inner.as_deref(), Some(&MapSpec::new("m.inner", MapType::Array, 4, 0, 7)));
}

#[test]
fn bad_templates_say_why() {
    let prototype = |w: &mut Writer| w.add("", FUNC_PROTO, 0, 0, &[]);
    let object = define(|w| {
        let prototype = prototype(w);
        vec![("type", number(w, 3)), ("values", values(w, prototype))]
    });
    assert_eq!(object.expect("a map").maps()[0].value_size, 4);
    let reason = refused(|w| {
        let prototype = prototype(w);
        vec![("type", number(w, 12)), ("values", values(w, prototype))]
    });
    assert_eq!(reason, MapError::NotAStruct("func_proto"));
    let reason = refused(|w| {
        let prototype = prototype(w);
        vec![("type", number(w, 1)), ("values", values(w, prototype))]
    });
    assert_eq!(reason, MapError::NoSlots);
    let reason = refused(|w| {
        let prototype = prototype(w);
        vec![("type", number(w, 3)), ("values", values(w, prototype)), ("max_entries", number(w, 1))]
    });
    assert_eq!(reason, MapError::SlotsNotLast);
    // A template that is its own template.
    let reason = refused(|w| {
        let kind = number(w, 12);
        let own = |next: u32| next + 2;
        let next = kind + 1;
        let array = values(w, own(next));
        assert_eq!(array, next + 1);
        let inner = w.record(&[("type", kind), ("values", array)]);
        assert_eq!(inner, own(next));
        vec![("type", kind), ("values", array)]
    });
    assert_eq!(reason, MapError::NestedTooDeep);
}

#[test]
fn variables_must_lie_in_their_section() {
    let mut writer = Writer::new();
    let kind = number(&mut writer, 1);
    let definition = writer.record(&[("type", kind)]);
    let var = writer.add("m", VAR, 0, definition, &[1]);
    writer.add(".maps", DATASEC, 1, 0, &[var, 0, 9]);
    let mut elf = Elf::new();
    elf.section(".maps", PROGBITS, 3, vec![0; 8]);
    elf.section(".BTF", PROGBITS, 0, writer.build());
    let refusal = ObjectError::Map { map: "m".into(), reason: MapError::OutsideSection };
    assert_eq!(elf.parse(), Err(refusal));
}

#[test]
fn values_print_as_bpftool_prints_them() {
    let mut writer = Writer::new();
    let u32_id = writer.int("unsigned int", 4);
    let s64 = writer.add("long", 1, 0, 8, &[1 << 24 | 64]);
    let char_id = writer.int("char", 1);
    let bool_id = writer.add("_Bool", 1, 0, 1, &[4 << 24 | 8]);
    let pointer = writer.pointer(0);
    let comm = writer.array(char_id, 8);
    let pair = writer.array(u32_id, 2);
    let red = writer.string("RED");
    let color = writer.add("color", ENUM, 1, 4, &[red, 7]);
    let members = [("n", s64), ("comm", comm), ("pair", pair), ("p", pointer), ("color", color), ("on", bool_id)];
    let record = writer.record(&members);
    let btf = parse(&writer).expect("types");
    let mut bytes = Vec::new();
    bytes.extend((-5_i64).to_le_bytes());
    bytes.extend(b"ss\"hd\0\0\0");
    bytes.extend([1, 0, 0, 0, 2, 0, 0, 0]);
    bytes.extend(0xffff_8000_0000_0000_u64.to_le_bytes());
    bytes.extend([7, 0, 0, 0, 0, 0, 0, 0, 1]);
    let expected =
        r#"{"n": -5, "comm": "ss\"hd", "pair": [1, 2], "p": 0xffff800000000000, "color": "RED", "on": true}"#;
    assert_eq!(btf.dump(TypeId(record), &bytes).to_string(), expected);
    let cut = r#"{"n": -5, "comm": [?, ?, ?, ?, ?, ?, ?, ?], "pair": [?, ?], "p": ?, "color": ?, "on": ?}"#;
    assert_eq!(btf.dump(TypeId(record), &bytes[..8]).to_string(), cut);
}

#[test]
fn bit_fields_are_cut_out() {
    let mut writer = Writer::new();
    let int = writer.add("int", 1, 0, 4, &[1 << 24 | 32]);
    let unsigned = writer.int("unsigned int", 4);
    let (a, b) = (writer.string("a"), writer.string("b"));
    let words = [a, int, 3 << 24, b, unsigned, 7 << 24 | 3];
    let record = writer.add("bits", STRUCT, 1 << 7 << 24 | 2, 4, &words);
    let btf = parse(&writer).expect("types");
    assert_eq!(btf.dump(TypeId(record), &[0b0000_0111 | 0b1010_1000, 0b10, 0, 0]).to_string(), r#"{"a": -1, "b": 85}"#);
}

#[test]
fn types_that_hold_themselves_print_in_bounds() {
    let mut writer = Writer::new();
    let words = [0, 1, 0, 0, 1, 0];
    writer.add("twice", STRUCT, 2, 8, &words);
    let huge = writer.array(1, u32::MAX);
    let btf = parse(&writer).expect("types");
    assert!(btf.dump(TypeId(1), &[0; 8]).to_string().len() < 4 << 20);
    assert!(btf.dump(TypeId(huge), &[0; 8]).to_string().len() < 4 << 20);
}
