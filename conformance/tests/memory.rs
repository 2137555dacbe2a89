//! Guest memory to the byte: what a program may touch, and what a refused access says. Machines: `machines.rs`.

use std::error::Error;

use softbpf::context::{Bytes, Context, ContextError, Packet, Placed};
use softbpf::map_spec::{DataSection, MapSpec, MapType, map_flags};
use softbpf::memory::{Access, FaultKind, Memory, ObjectKind, Permission};
use softbpf::object::MAIN;
use softbpf::program_type::ProgramType;
use softbpf::{Config, Machine, Object, Outcome, TrapKind};
use softbpf_conformance::programs::{outcome, program, program_with};
use softbpf_conformance::{TestResult, on_every_engine, on_every_engine_with, try_on_every_engine};

const SIZES: [(&str, i64); 4] = [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)];

/// An object of `len` bytes, with no other near it: how r1 comes to point at it, and whether it may be written.
struct Target<'a> {
    prologue: &'a str,
    len: i64,
    writable: bool,
    kind: ObjectKind,
}

/// The access that was refused, and how far the nearest object, of this kind, was.
#[track_caller]
fn refusal(outcome: &Outcome, kind: &ObjectKind) -> (Access, FaultKind, i64) {
    let trap = outcome.trap().unwrap_or_else(|| panic!("no trap: {outcome:?}"));
    let (Some(fault), Some(nearest)) = (trap.kind.fault(), &trap.nearest) else { panic!("{trap:?}") };
    assert_eq!(nearest.kind, *kind);
    (fault.access, fault.kind, nearest.distance)
}

/// Reads and writes every size at every offset around a target's edges: exactly what lies inside is allowed.
fn assert_bounds(target: &Target<'_>, maps: &[MapSpec], run: impl Fn(&Object) -> Outcome) {
    let len = target.len;
    let offsets = (-9..=9).chain(len - 9..=len + 9);
    for (offset, (size, bytes)) in offsets.flat_map(|offset| SIZES.map(|size| (offset, size))) {
        let inside = offset >= 0 && offset + bytes <= len;
        let missed = if offset < 0 { offset } else { (offset + bytes - len).max(0) };
        let accesses = [
            (format!("r0 = *({size} *)(r1 {offset:+})"), Access::Read),
            (format!("*({size} *)(r1 {offset:+}) = 0"), Access::Write),
        ];
        for (line, access) in accesses {
            let text = format!("{}\n {line}\n r0 = 1\n exit", target.prologue);
            let outcome = run(&program_with(&text, maps.to_vec()));
            if inside && (access == Access::Read || target.writable) {
                assert_eq!(outcome.ret, Ok(1), "{line}");
            } else {
                let kind = if inside { FaultKind::ReadOnly } else { FaultKind::OutOfBounds };
                assert_eq!(refusal(&outcome, &target.kind), (access, kind, missed), "{line}");
            }
        }
    }
}

#[test]
fn context_bytes_are_bounded_exactly() {
    for len in [1, 7, 8, 40] {
        let target = Target { prologue: "", len, writable: true, kind: ObjectKind::Context };
        assert_bounds(&target, &[], |object| outcome(object, vec![0; len as usize]));
    }
}

#[test]
fn packet_bytes_are_bounded_exactly() {
    let prologue = "r1 = *(u32 *)(r1 + 0)";
    for len in [1, 14, 61] {
        let target = Target { prologue, len, writable: true, kind: ObjectKind::Packet };
        assert_bounds(&target, &[], |object| {
            let mut object = object.clone();
            if let Some(info) = object.program_mut(MAIN) {
                info.program_type = ProgramType::Xdp;
            }
            outcome(&object, Packet::new(vec![0; len as usize]))
        });
    }
}

#[test]
fn stack_bytes_are_bounded_exactly() {
    let target =
        Target { prologue: "r1 = r10\n r1 += -512", len: 512, writable: true, kind: ObjectKind::Stack { frame: 0 } };
    assert_bounds(&target, &[], |object| outcome(object, ()));
}

/// Lets r1 point at the value of this key of the map `values`.
fn lookup(key: u32) -> String {
    format!(
        "*(u32 *)(r10 - 4) = {key}
         r1 = values ll
         r2 = r10
         r2 += -4
         call map_lookup_elem
         if r0 == 0 goto -1
         r1 = r0"
    )
}

#[test]
fn a_map_value_is_bounded_exactly() {
    for len in [1, 3, 8, 20] {
        let kind = ObjectKind::MapValue { map: "values".into(), first: 0, copies: 1 };
        let target = Target { prologue: &lookup(0), len: len.into(), writable: true, kind };
        assert_bounds(&target, &[MapSpec::new("values", MapType::Array, 4, len, 1)], |object| outcome(object, ()));
    }
}

#[test]
fn no_access_goes_from_one_map_value_to_the_next() {
    for (kind, len) in [MapType::Array, MapType::PercpuArray].into_iter().flat_map(|kind| [(kind, 1), (kind, 8)]) {
        let map = MapSpec::new("values", kind, 4, len, 3);
        for (size, bytes) in SIZES {
            for offset in (-8..0).chain(i64::from(len) - bytes + 1..i64::from(len) + 8) {
                let text = format!("{}\n r0 = *({size} *)(r1 {offset:+})\n exit", lookup(1));
                let ret = outcome(&program_with(&text, vec![map.clone()]), ()).ret;
                assert!(ret.is_err(), "{kind} of {len} bytes, {size} at {offset}");
            }
        }
    }
}

#[test]
fn global_data_is_bounded_exactly_and_constants_are_read_only() {
    for (name, section, flags) in
        [(".rodata", DataSection::Rodata, map_flags::RDONLY_PROG), (".data", DataSection::Data, 0)]
    {
        let map = MapSpec {
            data: Some(section),
            map_flags: flags,
            initial_value: Some([7; 24].into()),
            ..MapSpec::new(name, MapType::Array, 4, 24, 1)
        };
        let kind = ObjectKind::Data { section: name.into() };
        let target = Target { prologue: &format!("r1 = {name} ll"), len: 24, writable: flags == 0, kind };
        assert_bounds(&target, &[map], |object| outcome(object, ()));
    }
}

#[test]
fn objects_that_a_test_placed_are_bounded_exactly() {
    for len in [1, 8, 100] {
        // The address comes as the context's only word.
        let target = Target {
            prologue: "r1 = *(u64 *)(r1 + 0)",
            len,
            writable: true,
            kind: ObjectKind::Placed { name: "buffer".into() },
        };
        assert_bounds(&target, &[], |object| {
            let mut outcomes = Vec::new();
            on_every_engine(object, |mut vm| {
                let address = vm.place("buffer", &vec![1; len as usize]).unwrap_or_else(|error| panic!("{error}"));
                outcomes.extend(vm.run(MAIN, address.to_le_bytes()));
            });
            assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
            outcomes.swap_remove(0)
        });
    }
}

#[test]
fn a_refused_store_writes_nothing() {
    for (size, bytes) in &SIZES[1..] {
        for offset in [1 - bytes, 17 - bytes] {
            let text = format!("r2 = -1\n *({size} *)(r1 {offset:+}) = r2\n exit");
            let outcome = outcome(&program(&text), [0; 16]);
            assert!(outcome.ret.is_err(), "{text}");
            assert_eq!(outcome.context, [0; 16], "{text}");
        }
    }
}

// Strict mode.

/// Runs a program on 4 bytes of context, where uninitialised bytes are tracked.
fn strict(text: &str) -> Result<u64, TrapKind> {
    let mut ret = None;
    let config = || Config { track_uninitialised: true, ..Config::default() };
    on_every_engine_with(&program(text), config, |mut vm| {
        let outcome = vm.run(MAIN, [1, 2, 3, 4]).unwrap_or_else(|error| panic!("{error}"));
        let this = outcome.ret.map_err(|trap| trap.kind);
        assert_eq!(ret.get_or_insert_with(|| this.clone()), &this);
    });
    ret.unwrap_or_else(|| panic!("no engines"))
}

fn fault_kind(text: &str) -> Option<FaultKind> {
    strict(text).err().and_then(|kind| kind.fault()).map(|fault| fault.kind)
}

#[test]
fn strict_reads_of_unwritten_stack_trap() {
    for text in [
        "r0 = *(u8 *)(r10 - 1)\n exit",
        "r0 = *(u64 *)(r10 - 8)\n exit",
        // One of eight bytes is missing, at either end.
        "*(u32 *)(r10 - 8) = 0\n *(u16 *)(r10 - 4) = 0\n *(u8 *)(r10 - 2) = 0\n r0 = *(u64 *)(r10 - 8)\n exit",
        "*(u64 *)(r10 - 15) = 0\n r0 = *(u64 *)(r10 - 16)\n exit",
        "lock *(u64 *)(r10 - 8) += r0\n exit",
        "*(u64 *)(r10 - 8) = 0\n r0 = *(u8 *)(r10 - 9)\n exit",
    ] {
        assert_eq!(fault_kind(text), Some(FaultKind::Uninitialised), "{text}");
    }
}

#[test]
fn strict_reads_of_written_stack_do_not() {
    for (text, expected) in [
        ("*(u8 *)(r10 - 1) = 5\n r0 = *(u8 *)(r10 - 1)\n exit", 5),
        ("*(u64 *)(r10 - 8) = 5\n r0 = *(u64 *)(r10 - 8)\n exit", 5),
        ("*(u64 *)(r10 - 512) = 5\n r0 = *(u16 *)(r10 - 512)\n exit", 5),
        ("*(u32 *)(r10 - 8) = 5\n *(u32 *)(r10 - 4) = 0\n r0 = *(u64 *)(r10 - 8)\n exit", 5),
        ("*(u64 *)(r10 - 13) = 5\n r0 = *(u64 *)(r10 - 13)\n exit", 5),
        ("r0 = 5\n *(u64 *)(r10 - 8) = r0\n lock *(u64 *)(r10 - 8) += r0\n r0 = *(u64 *)(r10 - 8)\n exit", 10),
    ] {
        assert_eq!(strict(text), Ok(expected), "{text}");
    }
}

#[test]
fn strict_mode_takes_what_helpers_wrote_as_written() {
    let text = "r1 = r10\n r1 += -16\n r2 = 16\n call get_current_comm\n r0 = *(u8 *)(r10 - 16)\n exit";
    assert_eq!(strict(text), Ok(u64::from(b's')));
}

#[test]
fn strict_mode_lets_helpers_read_only_what_was_written() {
    let print = |stores: &str| format!("{stores}\n r1 = r10\n r1 += -8\n r2 = 8\n call trace_printk\n exit");
    assert_eq!(fault_kind(&print("")), Some(FaultKind::Uninitialised));
    assert_eq!(fault_kind(&print("*(u32 *)(r10 - 8) = 0x41\n *(u16 *)(r10 - 4) = 0")), Some(FaultKind::Uninitialised));
    assert_eq!(strict(&print("*(u64 *)(r10 - 8) = 0x41")), Ok(1));
}

#[test]
fn strict_mode_forgets_a_frame_when_its_function_returns() {
    let text = "call one\n call two\n exit\n one: *(u64 *)(r10 - 8) = 1\n exit\n two: r0 = *(u64 *)(r10 - 8)\n exit";
    assert_eq!(fault_kind(text), Some(FaultKind::Uninitialised));
}

#[test]
fn strict_mode_does_not_mind_the_context() {
    assert_eq!(strict("r0 = *(u32 *)(r1 + 0)\n exit"), Ok(0x0403_0201));
}

#[test]
fn a_closed_frame_is_out_of_bounds_strict_or_not() {
    for access in ["r0 = *(u64 *)(r0 - 8)", "*(u64 *)(r0 - 8) = 1"] {
        let text = format!("call sub\n {access}\n exit\n sub: *(u64 *)(r10 - 8) = 1\n r0 = r10\n exit");
        assert_eq!(fault_kind(&text), Some(FaultKind::OutOfBounds), "{text}");
        let loose = outcome(&program(&text), ()).ret.err().and_then(|trap| trap.kind.fault());
        assert_eq!(loose.map(|fault| fault.kind), Some(FaultKind::OutOfBounds), "{text}");
    }
}

/// The access that a run is refused, if it is.
fn refused(vm: &mut Machine, context: impl Context) -> Result<Option<Access>, Box<dyn Error>> {
    let outcome = vm.run(MAIN, context)?;
    Ok(outcome.trap().and_then(|trap| trap.kind.fault()).map(|fault| fault.access))
}

#[test]
fn bytes_of_a_value_that_a_test_closes_are_closed_on_every_engine() -> TestResult {
    let address = "r1 = map[m][0]+0";
    let element = "*(u32 *)(r10 - 4) = 0\n r1 = m ll\n r2 = r10\n r2 += -4\n call map_lookup_elem
                   if r0 == 0 goto +1\n r1 = r0";
    let pointers = [(MapType::Array, address), (MapType::Array, element), (MapType::Hash, element)];
    let accesses = [("r0 = *(u64 *)(r1 + 8)", Access::Read), ("*(u64 *)(r1 + 8) = 0", Access::Write)];
    for ((map_type, pointer), (access, needed)) in
        pointers.into_iter().flat_map(|pointer| accesses.map(|access| (pointer, access)))
    {
        let text = format!("{pointer}\n {access}\n r0 = r1\n exit");
        let object = program_with(&text, vec![MapSpec::new("m", map_type, 4, 16, 1)]);
        try_on_every_engine(&object, |vm| {
            let engine = vm.engine_name();
            vm.map("m")?.insert_bytes(&[0; 4], &[7; 16], 0)?;
            let value = vm.run(MAIN, ())?.ret? as u32 + 8;
            vm.memory.revoke(value, 8);
            assert_eq!(refused(vm, ())?, Some(needed), "{text}: closed");
            vm.memory.grant(value, 8, Permission::ReadWrite);
            assert_eq!(refused(vm, ())?, None, "{text}: open again");
            vm.memory.grant(value, 8, Permission::Read);
            assert_eq!(refused(vm, ())?, Some(needed).filter(|&needed| needed == Access::Write), "{text}: read-only");
            vm.reload(&object)?;
            vm.map("m")?.insert_bytes(&[0; 4], &[7; 16], 0)?;
            assert_eq!(refused(vm, ())?, None, "{text}: all as new");
            assert_eq!(vm.engine_name(), engine, "what a test has closed is forgotten");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn what_is_placed_and_closed_is_forgotten_when_the_machine_is_reset() -> TestResult {
    try_on_every_engine(&program("r0 = *(u64 *)(r1 + 0)\n exit"), |vm| {
        let engine = vm.engine_name();
        let near = vm.place("near", &[7; 8])? as u32;
        vm.memory.revoke(near, 8);
        vm.reset();
        assert_eq!(refused(vm, Bytes(&[1; 8]))?, None);
        assert_eq!(vm.engine_name(), engine);
        Ok(())
    })
}

/// A packet of which some bytes are not as they should be.
struct Closed(Option<Permission>);

impl Context for Closed {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        let placed = Packet::new([7; 64]).place(memory, program_type)?;
        if let Some((packet, _)) = placed.packet {
            match self.0 {
                Some(permission) => memory.grant(packet + 20, 4, permission),
                None => memory.revoke(packet + 20, 4),
            }
        }
        Ok(placed)
    }
}

#[test]
fn bytes_of_a_packet_that_a_context_closes_are_closed_on_every_engine() -> TestResult {
    for (access, needed) in [("r0 = *(u32 *)(r2 + 20)", Access::Read), ("*(u32 *)(r2 + 20) = 0", Access::Write)] {
        let text = format!(
            "r2 = *(u32 *)(r1 + 0)\n r3 = *(u32 *)(r1 + 4)\n r4 = r2\n r4 += 24\n r0 = 0
             if r4 > r3 goto out\n {access}\n out: exit"
        );
        try_on_every_engine(&Object::from_text(&text, ProgramType::Xdp)?, |vm| {
            assert_eq!(refused(vm, Packet::new([7; 64]))?, None);
            assert_eq!(refused(vm, Closed(None))?, Some(needed));
            let read_only = Closed(Some(Permission::Read));
            assert_eq!(refused(vm, read_only)?, Some(needed).filter(|&needed| needed == Access::Write));
            assert_eq!(refused(vm, Packet::new([7; 64]))?, None);
            Ok(())
        })?;
    }
    Ok(())
}
