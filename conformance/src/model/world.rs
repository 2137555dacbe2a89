//! What the model's helpers know of the outside: fixed answers, and two that move as they are asked.

/// The outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// Number of the CPU: `get_smp_processor_id`, and which copy of a value a program sees.
    pub cpu: usize,
    /// `get_current_pid_tgid`.
    pub pid_tgid: u64,
    /// `get_current_uid_gid`.
    pub uid_gid: u64,
    /// `get_current_comm`, without the zero.
    pub name: Vec<u8>,
    /// What `ktime_get_ns` returns next.
    pub now: u64,
    /// Nanoseconds from one reading of the clock to the next.
    pub step: u64,
    /// State of the generator behind `get_prandom_u32`.
    pub random: u64,
}

impl Default for World {
    fn default() -> World {
        World {
            cpu: 0,
            pid_tgid: 1000 << 32 | 1000,
            uid_gid: 0,
            name: b"softbpf".to_vec(),
            now: 1_000_000_000,
            step: 1000,
            random: 0,
        }
    }
}

impl World {
    /// `ktime_get_ns`.
    pub(super) fn time(&mut self) -> u64 {
        let now = self.now;
        self.now += self.step;
        now
    }

    /// `get_prandom_u32`: the upper half of what SplitMix64 gives (Steele, Lea, Flood: "Fast splittable pseudorandom
    /// number generators", figure 17).
    pub(super) fn random(&mut self) -> u64 {
        let mut rng = crate::rng::Rng::new(self.random);
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        rng.next_u64() >> 32
    }
}
