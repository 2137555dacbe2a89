//! A tracepoint program that reports through a ring buffer, keeps statistics in maps, and reads user memory.

use std::error::Error;

use softbpf::errno::Errno;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::object::MAIN;
use softbpf::program_type::ProgramType;
use softbpf::world::{Gid, Pid, Random, Task, Tgid, Uid};
use softbpf::{Machine, Object, Outcome};
use softbpf_conformance::{TestResult, fixture, try_on_every_engine};

/// Where the name of the file is in user memory.
const NAME: u64 = 0x7ffd_8000_1000;

const CPU: u32 = 3;

/// `struct event` of the source.
#[derive(Debug, PartialEq, Eq)]
struct Event {
    ids: [u32; 4],
    cpu: u32,
    random: u32,
    name_length: i64,
    comm: [u8; 16],
    name: Vec<u8>,
}

impl Event {
    fn parse(bytes: &[u8]) -> Event {
        assert_eq!(bytes.len(), 112);
        let word = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap_or(&[0; 4]));
        let name_length = i64::from_le_bytes(*bytes[24..].first_chunk().unwrap_or(&[0; 8]));
        Event {
            ids: [word(0), word(4), word(8), word(12)],
            cpu: word(16),
            random: word(20),
            name_length,
            comm: *bytes[32..].first_chunk().unwrap_or(&[0; 16]),
            name: bytes[48..48 + name_length as usize].to_vec(),
        }
    }
}

/// Runs `test` on machines whose task is a thread of `cat` on [`CPU`].
fn on_fixture(mut test: impl FnMut(&mut Machine) -> TestResult) -> TestResult {
    try_on_every_engine(&fixture("events.bpf.o"), |vm| {
        let cat = Task::new("cat", Tgid(500), Pid(501));
        vm.world.task = Task { uid: Uid(1000), gid: Gid(100), ..cat };
        vm.world.cpu = CPU;
        test(vm)
    })
}

/// The record of `syscalls:sys_enter_openat` for a file name at this address.
fn openat(filename: u64) -> Vec<u8> {
    let fields = [0, 257, -100_i64 as u64, filename, 0, 0];
    fields.map(u64::to_le_bytes).concat()
}

/// Runs the program for a name in user memory.
fn open(vm: &mut Machine, name: &[u8]) -> Result<Outcome, Box<dyn Error>> {
    vm.memory.remove_far(NAME);
    vm.place_at(NAME, "file name", name)?;
    let outcome = vm.run("on_openat", openat(NAME))?;
    assert_eq!(outcome.ret, Ok(0));
    Ok(outcome)
}

/// Events and failures of a user, by CPU.
fn totals(vm: &mut Machine, uid: u32) -> Result<Option<Vec<[u64; 2]>>, Box<dyn Error>> {
    Ok(vm.map("totals")?.get_percpu(&uid)?)
}

#[test]
fn a_readable_name_is_reported_with_its_task() -> TestResult {
    on_fixture(|vm| {
        vm.world.random = Random::new(7);
        let random = Random::new(7).next_u32();
        let outcome = open(vm, b"/etc/passwd\0")?;
        let [event] = &outcome.events[..] else { return Err("not one event".into()) };
        assert_eq!((&*event.map, event.cpu), ("events", None));
        let expected = Event {
            ids: [500, 501, 1000, 100],
            cpu: CPU,
            random,
            name_length: 12,
            comm: *b"cat\0\0\0\0\0\0\0\0\0\0\0\0\0",
            name: b"/etc/passwd\0".to_vec(),
        };
        assert_eq!(Event::parse(&event.data), expected);
        Ok(())
    })
}

#[test]
fn user_space_takes_the_records_of_the_outcome() -> TestResult {
    on_fixture(|vm| {
        let sent: Vec<Vec<u8>> = [open(vm, b"/a\0")?, open(vm, b"/b\0")?]
            .into_iter()
            .flat_map(|outcome| outcome.events)
            .map(|event| event.data)
            .collect();
        assert_eq!(vm.map("events")?.drain_records()?, sent);
        assert!(vm.map("events")?.drain_records()?.is_empty());
        Ok(())
    })
}

#[test]
fn a_long_name_is_cut_with_a_zero_at_its_end() -> TestResult {
    on_fixture(|vm| {
        for (len, kept) in [(62, 63), (63, 64), (64, 64), (200, 64)] {
            let outcome = open(vm, &[vec![b'x'; len], vec![0]].concat())?;
            let event = Event::parse(&outcome.events[0].data);
            assert_eq!(event.name_length, kept, "{len} bytes");
            assert_eq!(event.name, [vec![b'x'; kept as usize - 1], vec![0]].concat());
        }
        Ok(())
    })
}

#[test]
fn an_empty_name_is_not_reported() -> TestResult {
    on_fixture(|vm| {
        assert!(open(vm, b"\0")?.events.is_empty());
        assert!(vm.map("events")?.drain_records()?.is_empty());
        assert_eq!(totals(vm, 1000)?, Some(vec![[0, 0]; 4]));
        Ok(())
    })
}

#[test]
fn an_unreadable_name_is_reported_as_failure() -> TestResult {
    // Nothing there, the null page, kernel memory, and a string that runs into nothing.
    on_fixture(|vm| {
        vm.place_at(0xffff_8880_0000_1000, "kernel memory", b"/etc/passwd\0")?;
        vm.place_at(NAME, "no end", b"/etc")?;
        let failure = [501_u32.to_le_bytes(), (-Errno::EFAULT.0).to_le_bytes()].concat();
        for name in [0x7ffd_0000_0000, 0, 8, 0xffff_8880_0000_1000, u64::MAX, NAME] {
            let outcome = vm.run("on_openat", openat(name))?;
            let data: Vec<_> = outcome.events.into_iter().map(|event| event.data).collect();
            assert_eq!(data, std::slice::from_ref(&failure), "{name:#x}");
        }
        let mut expected = vec![[0, 0]; 4];
        expected[CPU as usize] = [0, 6];
        assert_eq!(totals(vm, 1000)?, Some(expected));
        Ok(())
    })
}

#[test]
fn totals_are_kept_by_user_and_cpu() -> TestResult {
    on_fixture(|vm| {
        for (uid, cpu) in [(0, 0), (0, 2), (1000, 2), (0, 2)] {
            vm.world.task.uid = Uid(uid);
            vm.world.cpu = cpu;
            open(vm, b"/x\0")?;
        }
        assert_eq!(totals(vm, 0)?, Some(vec![[1, 0], [0, 0], [2, 0], [0, 0]]));
        assert_eq!(totals(vm, 1000)?, Some(vec![[0, 0], [0, 0], [1, 0], [0, 0]]));
        assert_eq!(totals(vm, 1)?, None);
        Ok(())
    })
}

#[test]
fn the_threads_last_event_is_dated() -> TestResult {
    on_fixture(|vm| {
        vm.world.clock.monotonic = 5_000;
        vm.world.clock.step = 10;
        for (pid, expected) in [(501, 5_000), (502, 5_010), (501, 5_020)] {
            vm.world.task.pid = Pid(pid);
            open(vm, b"/x\0")?;
            assert_eq!(vm.map("last_seen")?.get::<u32, u64>(&pid)?, Some(expected));
        }
        Ok(())
    })
}

#[test]
fn only_the_most_recent_threads_are_remembered() -> TestResult {
    on_fixture(|vm| {
        for pid in 0..200 {
            vm.world.task.pid = Pid(pid);
            open(vm, b"/x\0")?;
        }
        let map = vm.map("last_seen")?;
        assert!((1..=64).contains(&map.len()), "{} threads", map.len());
        assert!(map.contains(&199_u32)?);
        assert!(!map.contains(&0_u32)?);
        Ok(())
    })
}

#[test]
fn a_line_is_printed_for_each_event() -> TestResult {
    on_fixture(|vm| {
        assert_eq!(open(vm, b"/x\0")?.printk, ["openat by 501 on cpu 3"]);
        assert!(open(vm, b"\0")?.printk.is_empty());
        Ok(())
    })
}

#[test]
fn random_numbers_follow_the_seed() -> TestResult {
    on_fixture(|vm| {
        let mut randoms = Vec::new();
        for seed in [1, 1, 2] {
            vm.world.random = Random::new(seed);
            randoms.push(Event::parse(&open(vm, b"/x\0")?.events[0].data).random);
        }
        assert_eq!(randoms[0], randoms[1]);
        assert_ne!(randoms[0], randoms[2]);
        Ok(())
    })
}

#[test]
fn a_full_ring_loses_events_until_it_is_drained() -> TestResult {
    // 256 KiB, one byte of which stays free; a record has an 8-byte header.
    const FIT: usize = (256 * 1024 - 1) / (112 + 8);
    on_fixture(|vm| {
        let mut reported = 0;
        for _ in 0..FIT + 10 {
            reported += open(vm, b"/x\0")?.events.len();
        }
        assert_eq!(reported, FIT);
        assert_eq!(vm.map("events")?.drain_records()?.len(), FIT);
        assert_eq!(open(vm, b"/x\0")?.events.len(), 1);
        Ok(())
    })
}

#[test]
fn a_context_that_is_too_short_is_a_trap() -> TestResult {
    on_fixture(|vm| {
        let outcome = vm.run("on_openat", &openat(NAME)[..24])?;
        let trap = outcome.trap().ok_or("no trap")?;
        assert_eq!(trap.nearest.as_ref().map(|nearest| nearest.distance), Some(8));
        Ok(())
    })
}

#[test]
fn a_program_may_submit_many_records_in_one_run() -> Result<(), Box<dyn Error>> {
    let text = "
        r6 = 100000
        next:
        r1 = ring ll
        r2 = 4
        r3 = 0
        call ringbuf_reserve
        if r0 == 0 goto out
        *(u32 *)(r0 + 0) = r6
        r1 = r0
        r2 = 0
        call ringbuf_submit
        r6 += -1
        if r6 != 0 goto next
        out:
        r0 = r6
        exit";
    let spec = MapSpec::new("ring", MapType::Ringbuf, 0, 0, 1 << 23);
    let expected: Vec<_> = (1_u32..=100_000).rev().map(|number| number.to_le_bytes().to_vec()).collect();
    try_on_every_engine(&Object::assemble(text, ProgramType::Tracepoint, vec![spec])?, |vm| {
        let outcome = vm.run(MAIN, ())?;
        assert_eq!((outcome.ret, outcome.events.len()), (Ok(0), 100_000));
        assert!(vm.map("ring")?.drain_records()? == expected);
        Ok(())
    })
}
