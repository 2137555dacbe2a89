//! The world: all that a program can learn from outside the machine.
//!
//! No engine and no helper reads the host's clock, randomness, process or CPU number: they ask the machine's
//! [`World`]. Its default is fixed, so that a run can be repeated, and a test sets what it cares about. This file does
//! not know which helper asks, nor how a result reaches guest memory.

use std::fmt;

/// Process id: the kernel's `task_struct.tgid`, what user space calls a pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tgid(pub u32);

/// Thread id: the kernel's `task_struct.pid`, what user space calls a tid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub u32);

/// User id, in the initial user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub u32);

/// Group id, in the initial user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gid(pub u32);

/// Everything that helpers may ask the outside for.
///
/// ```
/// use softbpf::world::{Pid, Task, Tgid, World};
///
/// let mut world = World::default();
/// world.task = Task::new("sshd", Tgid(42), Pid(43));
/// world.cpu = 3;
/// assert_eq!(world.task.pid_tgid(), 42 << 32 | 43);
/// assert_eq!(world.clock.read_monotonic(), 1_000_000_000);
/// assert_eq!(world.clock.read_monotonic(), 1_000_001_000);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// All clocks. Default: [`Clock::default`], 1 s after boot, 1 µs later at each read.
    pub clock: Clock,
    /// Where `get_prandom_u32` gets its numbers. Default: [`Random::default`], seed 0.
    pub random: Random,
    /// The current task. Default: [`Task::default`], "softbpf" with tgid and pid 1000, root.
    pub task: Task,
    /// Number of the CPU that the program runs on. Default: 0.
    pub cpu: u32,
    /// Number of that CPU's NUMA node. Default: 0.
    pub numa_node: u32,
    /// Id of the current task's cgroup (v2). Default: 1, the root cgroup.
    pub cgroup_id: u64,
    /// Ids of the cgroups above it, the root (level 0) first, the parent last. Default: none.
    pub cgroup_ancestors: Vec<u64>,
    /// Kernel instruction pointers, innermost first, for `get_stackid` and `get_stack`. Default: three addresses in
    /// x86-64 kernel text, `0xffff_ffff_8100_1010`, `..2020`, `..3030`.
    pub kernel_stack: Vec<u64>,
    /// User instruction pointers, innermost first, for the same with `BPF_F_USER_STACK`. Default: three addresses
    /// in the text of an x86-64 executable, `0x5555_5555_5010`, `..6020`, `..7030`.
    pub user_stack: Vec<u64>,
    /// Cookie of the network namespace. Default: 1, the initial one.
    pub netns_cookie: u64,
    /// Address of the traced function (`get_func_ip`). Default: `0xffff_ffff_8100_1000`.
    pub func_ip: u64,
    /// Value given when the program was attached (`get_attach_cookie`). Default: 0, none was.
    pub attach_cookie: u64,
}

impl Default for World {
    fn default() -> Self {
        Self {
            clock: Clock::default(),
            random: Random::default(),
            task: Task::default(),
            cpu: 0,
            numa_node: 0,
            cgroup_id: 1,
            cgroup_ancestors: Vec::new(),
            kernel_stack: vec![0xffff_ffff_8100_1010, 0xffff_ffff_8100_2020, 0xffff_ffff_8100_3030],
            user_stack: vec![0x5555_5555_5010, 0x5555_5555_6020, 0x5555_5555_7030],
            netns_cookie: 1,
            func_ip: 0xffff_ffff_8100_1000,
            attach_cookie: 0,
        }
    }
}

impl World {
    /// Id of the cgroup at this level of the current task's path: 0 is the root, the task's own is the last one. 0 where
    /// there is none, as `get_current_ancestor_cgroup_id` returns.
    #[must_use]
    pub fn cgroup_id_at(&self, level: i32) -> u64 {
        let Ok(level) = usize::try_from(level) else { return 0 };
        let path = self.cgroup_ancestors.iter().chain([&self.cgroup_id]);
        path.copied().nth(level).unwrap_or(0)
    }
}

/// Jiffies a second: the kernel's `CONFIG_HZ`.
pub const HZ: u64 = 1000;

/// Nanoseconds a jiffy.
const TICK: u64 = 1_000_000_000 / HZ;

/// Jiffies at boot: five minutes before the low 32 bits wrap, as `INITIAL_JIFFIES` in `include/linux/jiffies.h`.
const INITIAL_JIFFIES: u64 = (1 << 32) - 300 * HZ;

/// All clocks, derived from one that moves only when a program looks.
///
/// Every `read_` method returns the time and then moves all clocks on by [`step`](Self::step), so that a program that
/// measures sees time pass and one that waits comes to an end. Sums wrap around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// `CLOCK_MONOTONIC` of the next read: nanoseconds since boot, without those suspended. Default: 1 s.
    pub monotonic: u64,
    /// Nanoseconds from one read to the next. Default: 1000. 0 stops all clocks.
    pub step: u64,
    /// Nanoseconds that the system was suspended, which `CLOCK_BOOTTIME` counts. Default: 0.
    pub suspended: u64,
    /// `CLOCK_REALTIME` when `CLOCK_MONOTONIC` was 0: nanoseconds since 1970. Default: 2025-01-01 00:00:00 UTC.
    pub realtime_offset: u64,
    /// `CLOCK_TAI` minus `CLOCK_REALTIME`, nanoseconds. Default: 37 s, the leap seconds since 2017.
    pub tai_offset: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Self {
            monotonic: 1_000_000_000,
            step: 1000,
            suspended: 0,
            realtime_offset: 1_735_689_600_000_000_000,
            tai_offset: 37_000_000_000,
        }
    }
}

impl Clock {
    /// `CLOCK_MONOTONIC`, nanoseconds: `ktime_get_ns`.
    pub fn read_monotonic(&mut self) -> u64 {
        let now = self.monotonic;
        self.monotonic = now.wrapping_add(self.step);
        now
    }

    /// `CLOCK_BOOTTIME`, nanoseconds: `ktime_get_boot_ns`.
    pub fn read_boottime(&mut self) -> u64 {
        self.read_monotonic().wrapping_add(self.suspended)
    }

    /// `CLOCK_MONOTONIC_COARSE`, nanoseconds: the time of the last tick ([`HZ`] a second). `ktime_get_coarse_ns`.
    pub fn read_coarse(&mut self) -> u64 {
        let now = self.read_monotonic();
        now - now % TICK
    }

    /// `CLOCK_REALTIME`, nanoseconds since 1970.
    pub fn read_realtime(&mut self) -> u64 {
        self.read_monotonic().wrapping_add(self.realtime_offset)
    }

    /// `CLOCK_TAI`, nanoseconds since 1970 without leap seconds taken out: `ktime_get_tai_ns`.
    pub fn read_tai(&mut self) -> u64 {
        self.read_realtime().wrapping_add(self.tai_offset)
    }

    /// Ticks ([`HZ`] a second) since boot, plus what the kernel's counter starts with: `jiffies64`.
    pub fn read_jiffies(&mut self) -> u64 {
        INITIAL_JIFFIES + self.read_monotonic() / TICK
    }
}

/// Random numbers that are the same in every run: SplitMix64 (Steele, Lea, Flood, 2014).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Random {
    /// The whole state; a seed is any value. Default: 0.
    pub state: u64,
}

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, all 32-bit values equally likely: `get_prandom_u32`.
    pub fn next_u32(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) >> 32) as u32
    }
}

/// Bytes of a task's name, the NUL included: the kernel's `TASK_COMM_LEN`.
pub const TASK_COMM_LEN: usize = 16;

/// A task's name: at most 15 bytes, then NULs up to [`TASK_COMM_LEN`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Comm([u8; TASK_COMM_LEN]);

impl Comm {
    /// The name up to its first NUL, cut to 15 bytes as the kernel cuts it (not at a character's end).
    #[must_use]
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        let mut bytes = [0; TASK_COMM_LEN];
        let name = name.as_ref().split(|&byte| byte == 0).next().unwrap_or_default();
        for (to, from) in bytes.iter_mut().take(TASK_COMM_LEN - 1).zip(name) {
            *to = *from;
        }
        Self(bytes)
    }

    /// All bytes. The last one is NUL, and so is all behind the name.
    #[must_use]
    pub fn bytes(&self) -> [u8; TASK_COMM_LEN] {
        self.0
    }
}

impl From<&str> for Comm {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl fmt::Display for Comm {
    /// The name, without its NULs; bytes that are not UTF-8 become U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split(|&byte| byte == 0).next().unwrap_or_default();
        f.write_str(&String::from_utf8_lossy(name))
    }
}

impl fmt::Debug for Comm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Comm({:?})", self.to_string())
    }
}

/// The current task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Name. Default: "softbpf".
    pub comm: Comm,
    /// Process id. Default: 1000.
    pub tgid: Tgid,
    /// Thread id; that of a process's first thread is the process id. Default: 1000.
    pub pid: Pid,
    /// User id. Default: 0, root.
    pub uid: Uid,
    /// Group id. Default: 0, root.
    pub gid: Gid,
    /// Address of its `task_struct`. Default: `0xffff_8880_0010_0000`, where nothing is unless a test places it there.
    pub address: u64,
}

impl Default for Task {
    fn default() -> Self {
        Self::new("softbpf", Tgid(1000), Pid(1000))
    }
}

impl Task {
    /// A task of root, at the default address.
    #[must_use]
    pub fn new(comm: impl Into<Comm>, tgid: Tgid, pid: Pid) -> Self {
        Self { comm: comm.into(), tgid, pid, uid: Uid(0), gid: Gid(0), address: 0xffff_8880_0010_0000 }
    }

    /// `tgid << 32 | pid`: `get_current_pid_tgid`.
    #[must_use]
    pub fn pid_tgid(&self) -> u64 {
        u64::from(self.tgid.0) << 32 | u64::from(self.pid.0)
    }

    /// `gid << 32 | uid`: `get_current_uid_gid`.
    #[must_use]
    pub fn uid_gid(&self) -> u64 {
        u64::from(self.gid.0) << 32 | u64::from(self.uid.0)
    }

    /// The name as the kernel keeps it, NULs included: `get_current_comm`.
    #[must_use]
    pub fn comm_bytes(&self) -> [u8; TASK_COMM_LEN] {
        self.comm.bytes()
    }
}
