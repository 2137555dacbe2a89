//! One bug a program, which the kernel's verifier would refuse: each runs up to the bug, and the trap names it.

use std::error::Error;

use softbpf::context::{Packet, PtRegs};
use softbpf::memory::{Access, FaultKind, Nearest, ObjectKind};
use softbpf::{Config, Machine, Outcome, Trap, TrapKind};
use softbpf_conformance::{TestResult, fixture, on_every_engine_with, try_on_every_engine};

/// What a trap must say about where it happened.
struct Place<'a> {
    function: &'a str,
    slot: usize,
    /// Part of the line of source.
    source: &'a str,
}

fn on_fixture(test: impl FnMut(&mut Machine) -> TestResult) -> TestResult {
    try_on_every_engine(&fixture("faults.bpf.o"), test)
}

fn kprobe(vm: &mut Machine, program: &str) -> Result<Outcome, Box<dyn Error>> {
    vm.fuel = 10_000;
    Ok(vm.run(program, PtRegs::new())?)
}

/// What the address of a refused access was nearest to.
fn nearest(trap: &Trap) -> Option<(&ObjectKind, u32, u64, i64)> {
    trap.nearest.as_ref().map(|Nearest { kind, index, size, distance, .. }| (kind, *index, *size, *distance))
}

fn fault(trap: &Trap) -> Option<(Access, u64, FaultKind)> {
    trap.kind.fault().map(|fault| (fault.access, fault.size, fault.kind))
}

/// The trap of a program, after a look at its place.
#[track_caller]
fn trap(outcome: &Outcome, program: &str, place: &Place<'_>) -> Trap {
    let trap = outcome.trap().unwrap_or_else(|| panic!("no trap: {outcome:?}")).clone();
    assert_eq!(&*trap.program, program);
    assert_eq!(trap.function.as_deref(), Some(place.function));
    assert_eq!(trap.slot, place.slot);
    let line = trap.line.clone().unwrap_or_else(|| panic!("no line: {trap:?}"));
    assert!(line.file.ends_with("faults.bpf.c"), "{line}");
    assert!(line.text.contains(place.source), "{line}: {}", line.text);
    trap
}

#[test]
fn the_byte_after_a_map_value_is_not_its_neighbours() -> TestResult {
    on_fixture(|vm| {
        for (key, value) in [(0_u32, u64::MAX), (1, u64::MAX)] {
            vm.map("table")?.insert(&key, &[value; 2])?;
        }
        let place = Place { function: "past_map_value", slot: 10, source: "*(volatile u8 *)(value + 16)" };
        let trap = trap(&kprobe(vm, "past_map_value")?, "past_map_value", &place);
        assert_eq!(fault(&trap), Some((Access::Read, 1, FaultKind::OutOfBounds)));
        let table = ObjectKind::MapValue { map: "table".into(), first: 0, copies: 1 };
        assert_eq!(nearest(&trap), Some((&table, 0, 16, 1)));
        Ok(())
    })
}

#[test]
fn a_value_that_was_not_found_is_a_null_pointer() -> TestResult {
    on_fixture(|vm| {
        let place = Place { function: "null_map_value", slot: 7, source: "return *(volatile u64 *)value" };
        let trap = trap(&kprobe(vm, "null_map_value")?, "null_map_value", &place);
        assert_eq!(fault(&trap), Some((Access::Read, 8, FaultKind::Null)));
        assert_eq!((trap.registers[0], trap.kind.fault().map(|fault| fault.addr)), (0, Some(0)));
        Ok(())
    })
}

#[test]
fn the_byte_after_the_packet_is_out_of_bounds() -> TestResult {
    on_fixture(|vm| {
        let outcome = vm.run("past_packet_end", Packet::new([0; 14]))?;
        let place = Place { function: "past_packet_end", slot: 5, source: "*(volatile u8 *)(data + 14)" };
        let trap = trap(&outcome, "past_packet_end", &place);
        assert_eq!(fault(&trap), Some((Access::Read, 1, FaultKind::OutOfBounds)));
        assert_eq!(nearest(&trap), Some((&ObjectKind::Packet, 0, 14, 1)));
        // Its own check ends the program for a shorter packet; a longer one hides the bug.
        assert_eq!(vm.run("past_packet_end", Packet::new([0; 13]))?.ret, Ok(1));
        assert_eq!(vm.run("past_packet_end", Packet::new([1; 15]))?.ret, Ok(2));
        Ok(())
    })
}

#[test]
fn below_the_stack_is_out_of_bounds() -> TestResult {
    on_fixture(|vm| {
        let place = Place { function: "out_of_stack", slot: 0, source: "*(u64 *)(r10 - 520)" };
        let trap = trap(&kprobe(vm, "out_of_stack")?, "out_of_stack", &place);
        assert_eq!(fault(&trap), Some((Access::Write, 8, FaultKind::OutOfBounds)));
        assert_eq!(nearest(&trap), Some((&ObjectKind::Stack { frame: 0 }, 0, 512, -8)));
        Ok(())
    })
}

#[test]
fn a_stack_slot_that_nobody_wrote_reads_zero() -> TestResult {
    on_fixture(|vm| {
        assert_eq!(kprobe(vm, "uninitialised_stack")?.ret, Ok(0));
        Ok(())
    })
}

#[test]
fn a_stack_slot_that_nobody_wrote_traps_where_that_is_tracked() {
    let strict = || Config { track_uninitialised: true, ..Config::default() };
    on_every_engine_with(&fixture("faults.bpf.o"), strict, |mut vm| {
        let outcome = kprobe(&mut vm, "uninitialised_stack").unwrap_or_else(|error| panic!("{error}"));
        let place = Place { function: "uninitialised_stack", slot: 0, source: "*(u64 *)(r10 - 64)" };
        let trap = trap(&outcome, "uninitialised_stack", &place);
        assert_eq!(fault(&trap), Some((Access::Read, 8, FaultKind::Uninitialised)));
        assert_eq!(nearest(&trap), Some((&ObjectKind::Stack { frame: 0 }, 0, 512, 0)));
    });
}

#[test]
fn frames_need_not_share_512_bytes() -> TestResult {
    // Only the sum is too large, which some kernels and program types allow.
    on_fixture(|vm| {
        assert_eq!(vm.run("frames_too_big", Packet::new([0; 64]))?.ret, Ok(1));
        Ok(())
    })
}

#[test]
fn an_endless_loop_ends_with_its_fuel() -> TestResult {
    on_fixture(|vm| {
        let outcome = kprobe(vm, "endless_loop")?;
        let place = Place { function: "endless_loop", slot: 2, source: "for (;;)" };
        let trap = trap(&outcome, "endless_loop", &place);
        assert_eq!(trap.kind, TrapKind::OutOfFuel { budget: 10_000 });
        assert_eq!(outcome.instructions, 10_000);
        Ok(())
    })
}

#[test]
fn a_ninth_frame_is_too_deep() -> TestResult {
    on_fixture(|vm| {
        let place = Place { function: "dive", slot: 7, source: "return dive(depth - 1) + here" };
        let trap = trap(&kprobe(vm, "deep_recursion")?, "deep_recursion", &place);
        assert_eq!(trap.kind, TrapKind::TooDeep);
        // The entry program's call, then those of six frames of `dive`; the seventh made the one too many.
        let slots: Vec<usize> = trap.callers.iter().map(|(_, slot)| *slot).collect();
        assert_eq!(slots, [1, 7, 7, 7, 7, 7, 7]);
        Ok(())
    })
}

#[test]
fn read_only_data_cannot_be_written() -> TestResult {
    on_fixture(|vm| {
        let place = Place { function: "write_rodata", slot: 3, source: "*(volatile u32 *)&setting = 6" };
        let trap = trap(&kprobe(vm, "write_rodata")?, "write_rodata", &place);
        assert_eq!(fault(&trap), Some((Access::Write, 4, FaultKind::ReadOnly)));
        let rodata = ObjectKind::Data { section: ".rodata".into() };
        assert_eq!(nearest(&trap), Some((&rodata, 0, 4, 0)));
        assert_eq!(vm.map(".rodata")?.get::<u32, u32>(&0)?, Some(5));
        Ok(())
    })
}

#[test]
fn a_helper_that_does_not_exist_is_named_when_it_is_called() -> TestResult {
    on_fixture(|vm| {
        let place = Place { function: "unknown_helper", slot: 0, source: "helper(ctx)" };
        let trap = trap(&kprobe(vm, "unknown_helper")?, "unknown_helper", &place);
        assert_eq!(trap.kind, TrapKind::NoHelper { number: 0xbad_2310, name: None });
        Ok(())
    })
}

#[test]
fn a_helper_that_does_not_exist_can_be_mocked() -> TestResult {
    on_fixture(|vm| {
        vm.mock(0xbad_2310, |_| 77)?;
        assert_eq!(kprobe(vm, "unknown_helper")?.ret, Ok(77));
        assert_eq!(vm.calls(0xbad_2310)?.len(), 1);
        Ok(())
    })
}

#[test]
fn a_program_that_sets_no_result_returns_zero() -> TestResult {
    on_fixture(|vm| {
        assert_eq!(kprobe(vm, "no_return_value")?.ret, Ok(0));
        Ok(())
    })
}

#[test]
fn a_trap_leaves_a_machine_that_still_works() -> TestResult {
    on_fixture(|vm| {
        let names: Vec<String> = vm.programs().map(|program| program.name.to_string()).collect();
        for name in names.iter().filter(|name| !["past_packet_end", "frames_too_big"].contains(&name.as_str())) {
            let first = kprobe(vm, name)?;
            assert_eq!(kprobe(vm, name)?, first);
        }
        Ok(())
    })
}
