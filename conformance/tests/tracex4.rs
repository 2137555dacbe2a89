//! The kernel's tracex4 sample, as it was built in 2021 and as we build it: who allocated the objects that live?

use std::error::Error;

use softbpf::context::PtRegs;
use softbpf::errno::Errno;
use softbpf::map_spec::MapType;
use softbpf::{Machine, Pid, Task, Tgid};
use softbpf_conformance::{TestResult, fixture, try_on_every_engine};

/// The sample with a legacy `maps` section, and ours with a BTF-defined map.
const OBJECTS: [&str; 2] = ["tracex4_kern.o", "tracex4.bpf.o"];

/// An object in a slab cache.
const OBJECT: u64 = 0xffff_9637_e317_5cc0;

/// Frame pointer at the return of the allocation; the return address is in the word after it.
const FRAME: u64 = 0xffff_a1c2_0061_7d98;

/// Where the allocation was called from.
const CALLER: u64 = 0xffff_ffff_b7c4_21a0;

fn on_both(mut test: impl FnMut(&mut Machine) -> TestResult) -> TestResult {
    OBJECTS.iter().try_for_each(|name| try_on_every_engine(&fixture(name), &mut test))
}

fn free(object: u64) -> PtRegs {
    PtRegs::new().parm(1, 0xffff_9637_c104_2a00).parm(2, object)
}

fn allocated(object: u64) -> PtRegs {
    PtRegs::new().ret(object).bp(FRAME)
}

fn pair(vm: &mut Machine, object: u64) -> Result<Option<[u64; 2]>, Box<dyn Error>> {
    Ok(vm.map("my_map")?.get(&object)?)
}

#[test]
fn reads_like_the_design_page() -> TestResult {
    on_both(|vm| {
        vm.world.task = Task::new("sshd", Tgid(42), Pid(43));
        vm.mock("get_stackid", |call| if call.arg(2) == 512 { -14 } else { 7 })?;
        vm.map("my_map")?.insert(&OBJECT, &[1_000_u64, CALLER])?;

        let outcome = vm.run("bpf_prog1", PtRegs::new().parm(2, OBJECT))?;
        assert_eq!(outcome.ret, Ok(0));
        assert!(vm.map("my_map")?.is_empty());
        assert_eq!(vm.calls("get_stackid")?.len(), 0);
        Ok(())
    })
}

#[test]
fn free_forgets_the_object_and_no_other() -> TestResult {
    on_both(|vm| {
        for object in [OBJECT, OBJECT + 64, OBJECT + 128] {
            vm.map("my_map")?.insert(&object, &[object, CALLER])?;
        }
        assert_eq!(vm.run("bpf_prog1", free(OBJECT + 64))?.ret, Ok(0));
        let left = vm.map("my_map")?.entries::<u64, [u64; 2]>()?;
        assert_eq!(left, [(OBJECT, [OBJECT, CALLER]), (OBJECT + 128, [OBJECT + 128, CALLER])]);
        Ok(())
    })
}

#[test]
fn free_of_an_unknown_object_is_no_error() -> TestResult {
    on_both(|vm| {
        vm.map("my_map")?.insert(&OBJECT, &[1_u64, 2])?;
        assert_eq!(vm.run("bpf_prog1", free(OBJECT + 1))?.ret, Ok(0));
        assert_eq!(vm.calls("map_delete_elem")?.records()[0].ret, Some(Errno::ENOENT.ret()));
        assert_eq!(vm.map("my_map")?.len(), 1);
        Ok(())
    })
}

#[test]
fn allocation_records_time_and_caller() -> TestResult {
    on_both(|vm| {
        vm.world.clock.monotonic = 123_456_789;
        vm.place_at(FRAME + 8, "return address", &CALLER.to_le_bytes())?;
        assert_eq!(vm.run("bpf_prog2", allocated(OBJECT))?.ret, Ok(0));
        assert_eq!(pair(vm, OBJECT)?, Some([123_456_789, CALLER]));
        Ok(())
    })
}

#[test]
fn a_second_allocation_at_the_address_replaces_the_record() -> TestResult {
    on_both(|vm| {
        vm.world.clock.step = 5;
        vm.world.clock.monotonic = 10;
        for expected in [[10, 0], [15, 0]] {
            assert_eq!(vm.run("bpf_prog2", allocated(OBJECT))?.ret, Ok(0));
            assert_eq!(pair(vm, OBJECT)?, Some(expected));
        }
        assert_eq!(vm.map("my_map")?.len(), 1);
        Ok(())
    })
}

#[test]
fn an_unreadable_stack_gives_caller_zero() -> TestResult {
    on_both(|vm| {
        assert_eq!(vm.run("bpf_prog2", allocated(OBJECT))?.ret, Ok(0));
        assert_eq!(pair(vm, OBJECT)?.map(|pair| pair[1]), Some(0));
        Ok(())
    })
}

#[test]
fn a_half_readable_stack_gives_caller_zero() -> TestResult {
    on_both(|vm| {
        // The program has zeroed its buffer, and so has the helper: what it could read is not left there.
        vm.place_at(FRAME + 8, "half a return address", &CALLER.to_le_bytes()[..4])?;
        assert_eq!(vm.run("bpf_prog2", allocated(OBJECT))?.ret, Ok(0));
        assert_eq!(pair(vm, OBJECT)?.map(|pair| pair[1]), Some(0));
        Ok(())
    })
}

#[test]
fn a_failed_read_of_kernel_memory_is_the_helpers_result() -> TestResult {
    on_both(|vm| {
        vm.run("bpf_prog2", allocated(OBJECT))?;
        let (old, new) = (vm.calls("probe_read")?, vm.calls("probe_read_kernel")?);
        let returned: Vec<_> = old.records().iter().chain(new.records()).map(|call| call.ret).collect();
        assert_eq!(returned, [Some(Errno::EFAULT.ret())]);
        Ok(())
    })
}

#[test]
fn both_programs_work_together() -> TestResult {
    on_both(|vm| {
        for object in 0..100 {
            vm.run("bpf_prog2", allocated(OBJECT + object * 256))?;
        }
        for object in 0..99 {
            vm.run("bpf_prog1", free(OBJECT + object * 256))?;
        }
        let left = vm.map("my_map")?.entries::<u64, [u64; 2]>()?;
        assert_eq!(left.iter().map(|(object, _)| *object).collect::<Vec<_>>(), [OBJECT + 99 * 256]);
        Ok(())
    })
}

#[test]
fn instructions_are_those_of_the_listing() -> TestResult {
    // 9 and 24 slots, of which one load of a map takes two.
    on_both(|vm| {
        assert_eq!(vm.run("bpf_prog1", free(OBJECT))?.instructions, 8);
        assert_eq!(vm.run("bpf_prog2", allocated(OBJECT))?.instructions, 23);
        Ok(())
    })
}

#[test]
fn the_map_is_as_defined() -> TestResult {
    on_both(|vm| {
        let handle = vm.map("my_map")?;
        let map = handle.map();
        assert_eq!(map.map_type(), MapType::Hash);
        assert_eq!((map.key_size(), map.value_size(), map.max_entries()), (8, 16, 1_000_000));
        Ok(())
    })
}

#[test]
fn the_map_takes_a_million_objects_and_no_more() -> TestResult {
    try_on_every_engine(&fixture("tracex4_kern.o"), |vm| {
        let mut map = vm.map("my_map")?;
        for object in 0..999_999_u64 {
            map.insert(&object, &[0_u64; 2])?;
        }
        vm.run("bpf_prog2", allocated(OBJECT))?;
        vm.run("bpf_prog2", allocated(OBJECT + 1))?;
        let returned: Vec<_> = vm.calls("map_update_elem")?.records().iter().map(|call| call.ret).collect();
        assert_eq!(returned, [Some(0), Some(Errno::E2BIG.ret())]);
        Ok(())
    })
}

#[test]
fn tags_are_those_that_bpftool_showed() -> TestResult {
    let object = fixture("tracex4_kern.o");
    assert_eq!(object.program("bpf_prog1")?.tag().to_string(), "a6cfc4a29f52a193");
    assert_eq!(object.program("bpf_prog2")?.tag().to_string(), "d16c41919f3b767a");
    Ok(())
}
