//! The world: its defaults, and what helpers get from it.

use softbpf::world::{Clock, Comm, Gid, Pid, Random, Task, Tgid, Uid, World};

#[test]
fn the_default_is_the_same_every_time() {
    assert_eq!(World::default(), World::default());
}

#[test]
fn a_read_moves_the_clock_on_and_shows_in_equality() {
    let mut world = World::default();
    assert_eq!(world.clock.read_monotonic(), 1_000_000_000);
    assert_ne!(world, World::default());
    assert_eq!(world.clock.read_monotonic(), 1_000_001_000);
}

#[test]
fn all_clocks_are_one() {
    let stopped = Clock { step: 0, monotonic: 5_000_000_123, suspended: 7, ..Clock::default() };
    let mut clock = stopped.clone();
    assert_eq!(clock.read_monotonic(), 5_000_000_123);
    assert_eq!(clock.read_boottime(), 5_000_000_130);
    assert_eq!(clock.read_coarse(), 5_000_000_000);
    assert_eq!(clock.read_realtime(), 1_735_689_605_000_000_123);
    assert_eq!(clock.read_tai(), 1_735_689_642_000_000_123);
    assert_eq!(clock.read_jiffies(), 4_294_667_296 + 5000);
    assert_eq!(clock, stopped);

    let reads: [fn(&mut Clock) -> u64; 6] = [
        Clock::read_monotonic,
        Clock::read_boottime,
        Clock::read_coarse,
        Clock::read_realtime,
        Clock::read_tai,
        Clock::read_jiffies,
    ];
    for read in reads {
        let mut clock = Clock::default();
        read(&mut clock);
        assert_eq!(clock, Clock { monotonic: 1_000_001_000, ..Clock::default() });
    }
}

#[test]
fn clocks_wrap() {
    let max = u64::MAX;
    let mut clock = Clock { monotonic: max, step: max, suspended: max, realtime_offset: max, tai_offset: max };
    clock.read_monotonic();
    clock.read_boottime();
    clock.read_coarse();
    clock.read_realtime();
    clock.read_tai();
    clock.read_jiffies();
}

#[test]
fn random_numbers_are_those_of_splitmix64() {
    // The reference implementation's first two with this seed, their high halves.
    let mut random = Random::new(1_234_567);
    assert_eq!(random.next_u32(), (6_457_827_717_110_365_317_u64 >> 32) as u32);
    assert_eq!(random.next_u32(), (3_203_168_211_198_807_973_u64 >> 32) as u32);
}

#[test]
fn ids_are_packed_as_the_helpers_return_them() {
    let task = Task { uid: Uid(3), gid: Gid(4), ..Task::new("sshd", Tgid(42), Pid(43)) };
    assert_eq!(task.pid_tgid(), 0x2a_0000_002b);
    assert_eq!(task.uid_gid(), 0x4_0000_0003);
}

#[test]
fn a_name_is_cut_to_15_bytes_and_filled_with_nuls() {
    assert_eq!(&Task::default().comm_bytes(), b"softbpf\0\0\0\0\0\0\0\0\0");
    assert_eq!(&Comm::new("0123456789abcdefg").bytes(), b"0123456789abcde\0");
    assert_eq!(Comm::new(b"a\0b"), Comm::new("a"));
    assert_eq!(Comm::new("").bytes(), [0; 16]);
    assert_eq!(Comm::new("sshd").to_string(), "sshd");
    assert_eq!(format!("{:?}", Comm::new(b"\xff")), "Comm(\"\u{fffd}\")");
}

#[test]
fn cgroups_are_found_by_level() {
    let world = World { cgroup_id: 30, cgroup_ancestors: vec![1, 20], ..World::default() };
    let levels = [-1, 0, 1, 2, 3, i32::MIN, i32::MAX];
    assert_eq!(levels.map(|level| world.cgroup_id_at(level)), [0, 1, 20, 30, 0, 0, 0]);
    assert_eq!(World::default().cgroup_id_at(0), 1);
}
