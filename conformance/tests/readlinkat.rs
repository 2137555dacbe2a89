//! One program three ways: a listing out of a public write-up, the same instructions built in Rust, and our C that
//! compiles to them. It adds kernel and user stack ids to the record of a thread inside `readlinkat`.

mod readlinkat {
    pub(crate) mod ways;
}

use std::collections::BTreeSet;

use readlinkat::ways::{Way, built, compiled, listed, ways};
use softbpf::asm::{Insn, R1, R7};
use softbpf::context::PtRegs;
use softbpf::errno::Errno;
use softbpf::{Machine, Outcome, Pid, Task, Tgid};
use softbpf_conformance::{TestResult, try_on_every_engine};

const TGID: u32 = 4100;
const TID: u32 = 4107;

/// `struct record` before a run: 32 bytes, tgid, tid, and two stack ids that no one has set.
const RECORD: [u32; 12] = [1, 2, 3, 4, 5, 6, 7, 8, TGID, TID, NOT_SET, NOT_SET];
const NOT_SET: u32 = 0x5a5a_5a5a;

/// Flags of the program's two calls of `get_stackid`.
const KERNEL_STACK: u64 = 512;
const USER_STACK: u64 = 768;

fn every_way(mut test: impl FnMut(&Way, &mut Machine) -> TestResult) -> TestResult {
    ways().iter().try_for_each(|way| try_on_every_engine(&way.object, |vm| test(way, vm)))
}

/// Sets up the task, its record and the settings, as user space does before it loads the program.
fn prepare(way: &Way, vm: &mut Machine, filter: [u32; 2]) -> TestResult {
    vm.world.task = Task::new("readlink", Tgid(TGID), Pid(TID));
    vm.map(".rodata")?.insert(&0_u32, &filter)?;
    vm.map(way.records)?.insert(&TID, &RECORD)?;
    Ok(())
}

fn run(way: &Way, vm: &mut Machine) -> Result<Outcome, Box<dyn std::error::Error>> {
    let outcome = vm.run(way.program, PtRegs::new())?;
    assert_eq!(outcome.ret, Ok(0));
    Ok(outcome)
}

/// The record after a run, which must have left alone all but the two stack ids.
fn stack_ids(way: &Way, vm: &mut Machine) -> Result<[u32; 2], Box<dyn std::error::Error>> {
    let record: [u32; 12] = vm.map(way.records)?.get(&TID)?.ok_or("the record is gone")?;
    assert_eq!(record[..10], RECORD[..10]);
    Ok([record[10], record[11]])
}

/// Replaces `get_stackid` by these results.
fn mock_stacks(vm: &mut Machine, kernel: i64, user: i64) -> TestResult {
    vm.mock("get_stackid", move |call| match call.arg(2) {
        KERNEL_STACK => Ok(kernel),
        USER_STACK => Ok(user),
        flags => Err(call.stop(format!("flags {flags}"))),
    })?;
    Ok(())
}

#[test]
fn listing_and_builder_are_the_same_instructions() -> TestResult {
    let (listed, built) = (listed().object.program("main")?, built().object.program("main")?);
    assert_eq!(listed.code().slot_count(), 47);
    assert_eq!(listed.code(), built.code());
    Ok(())
}

#[test]
fn the_compiler_moves_one_instruction_of_the_listing() -> TestResult {
    let listed = listed().object.program("main")?;
    let compiled = compiled().object.program("trace_readlinkat")?;
    let mut insns = listed.code().insns().to_vec();
    let shift = insns.iter().position(|insn| *insn == Insn::rsh(R7, 32)).ok_or("there is no shift")?;
    insns[shift..shift + 3].rotate_left(1);
    // And it compares the other way round.
    insns[shift + 3] = Insn::jne(R7, R1, 29);
    assert_eq!(insns, compiled.code().insns());
    Ok(())
}

#[test]
fn filter_off_records_nothing() -> TestResult {
    every_way(|way, vm| {
        for filter_tgid in [0, TGID] {
            prepare(way, vm, [0, filter_tgid])?;
            mock_stacks(vm, 7, 9)?;
            run(way, vm)?;
            assert_eq!(stack_ids(way, vm)?, [NOT_SET; 2]);
        }
        assert!(vm.calls("map_lookup_elem")?.is_empty());
        Ok(())
    })
}

#[test]
fn settings_are_zero_until_someone_writes_them() -> TestResult {
    every_way(|way, vm| {
        assert_eq!(vm.map(".rodata")?.get::<u32, [u32; 2]>(&0)?, Some([0, 0]));
        run(way, vm)?;
        assert!(vm.calls("map_lookup_elem")?.is_empty());
        Ok(())
    })
}

#[test]
fn another_process_is_left_out() -> TestResult {
    every_way(|way, vm| {
        for other in [0, TID, TGID - 1, TGID + 1, TGID | 1 << 31] {
            prepare(way, vm, [1, other])?;
            run(way, vm)?;
            assert_eq!(stack_ids(way, vm)?, [NOT_SET; 2]);
        }
        assert!(vm.calls("map_lookup_elem")?.is_empty());
        Ok(())
    })
}

#[test]
fn the_filtered_process_is_recorded() -> TestResult {
    every_way(|way, vm| {
        // Any value that is not 0 turns the filter on.
        for on in [1, 2, 0x100, 0x8000_0000, u32::MAX] {
            prepare(way, vm, [on, TGID])?;
            mock_stacks(vm, 7, 9)?;
            run(way, vm)?;
            assert_eq!(stack_ids(way, vm)?, [7, 9]);
        }
        Ok(())
    })
}

#[test]
fn a_thread_without_a_record_has_no_stacks_taken() -> TestResult {
    every_way(|way, vm| {
        prepare(way, vm, [1, TGID])?;
        vm.world.task.pid = Pid(TID + 1);
        run(way, vm)?;
        assert_eq!(vm.calls("map_lookup_elem")?.len(), 1);
        assert!(vm.calls("get_stackid")?.is_empty());
        assert_eq!(vm.map(way.records)?.len(), 1);
        Ok(())
    })
}

#[test]
fn only_positive_ids_are_stored_each_for_itself() -> TestResult {
    const IDS: [(i64, Option<u32>); 8] = [
        (1, Some(1)),
        (i32::MAX as i64, Some(i32::MAX as u32)),
        (0, None),
        (-1, None),
        (-(Errno::EFAULT.0 as i64), None),
        (-(Errno::EEXIST.0 as i64), None),
        // An id is 32 bits wide: the program looks at no more of what the helper returns.
        (0x8000_0000, None),
        (0x7_0000_0005, Some(5)),
    ];
    every_way(|way, vm| {
        for (kernel, kernel_id) in IDS {
            for (user, user_id) in IDS {
                prepare(way, vm, [1, TGID])?;
                mock_stacks(vm, kernel, user)?;
                run(way, vm)?;
                let expected = [kernel_id.unwrap_or(NOT_SET), user_id.unwrap_or(NOT_SET)];
                assert_eq!(stack_ids(way, vm)?, expected, "{kernel} {user} in {}", way.program);
            }
        }
        Ok(())
    })
}

#[test]
fn stacks_of_the_world_can_be_looked_up_by_the_stored_ids() -> TestResult {
    every_way(|way, vm| {
        prepare(way, vm, [1, TGID])?;
        vm.world.kernel_stack = vec![0xffff_ffff_8130_2010, 0xffff_ffff_8100_4a55];
        vm.world.user_stack = vec![0x7f00_1234_5678];
        run(way, vm)?;
        let [kernel, user] = stack_ids(way, vm)?;
        let mut handle = vm.map(way.stacks)?;
        let stacks = handle.map_mut().stack_trace().ok_or("no stacks")?;
        assert_eq!(stacks.stack(kernel), Some(&[0xffff_ffff_8130_2010, 0xffff_ffff_8100_4a55][..]));
        assert_eq!(stacks.stack(user), Some(&[0x7f00_1234_5678][..]));
        Ok(())
    })
}

#[test]
fn an_empty_stack_has_no_id() -> TestResult {
    every_way(|way, vm| {
        for (kernel, user) in [(true, false), (false, true), (false, false)] {
            prepare(way, vm, [1, TGID])?;
            vm.world.kernel_stack = if kernel { vec![0xffff_ffff_8130_2010] } else { Vec::new() };
            vm.world.user_stack = if user { vec![0x7f00_1234_5678] } else { Vec::new() };
            run(way, vm)?;
            assert_eq!(stack_ids(way, vm)?.map(|id| id != NOT_SET), [kernel, user]);
        }
        Ok(())
    })
}

#[test]
fn equal_stacks_have_equal_ids_in_every_run() -> TestResult {
    every_way(|way, vm| {
        prepare(way, vm, [1, TGID])?;
        run(way, vm)?;
        let first = stack_ids(way, vm)?;
        prepare(way, vm, [1, TGID])?;
        run(way, vm)?;
        assert_eq!(stack_ids(way, vm)?, first);
        Ok(())
    })
}

#[test]
fn world_maps_and_mocks_reach_every_instruction() -> TestResult {
    every_way(|way, vm| {
        let mut seen = BTreeSet::new();
        for (filter, tid, ids) in [([0, 0], TID, 0), ([1, TGID + 1], TID, 0), ([1, TGID], 1, 0), ([1, TGID], TID, 7)] {
            prepare(way, vm, filter)?;
            vm.world.task.pid = Pid(tid);
            mock_stacks(vm, ids, ids)?;
            vm.trace(way.program, PtRegs::new(), |step| {
                seen.insert(step.slot);
            })?;
        }
        let program = way.object.program(way.program)?;
        assert_eq!(seen, program.code().iter().map(|(slot, _)| slot).collect());
        Ok(())
    })
}

#[test]
fn the_longest_path_runs_all_instructions_once() -> TestResult {
    every_way(|way, vm| {
        prepare(way, vm, [1, TGID])?;
        mock_stacks(vm, 1, 1)?;
        assert_eq!(run(way, vm)?.instructions, 42);
        prepare(way, vm, [0, TGID])?;
        assert_eq!(run(way, vm)?.instructions, 10);
        Ok(())
    })
}
