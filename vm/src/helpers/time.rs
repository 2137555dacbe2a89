//! Time and randomness: the world's, never the host's.

use super::{Call, Stop};

type Ret = Result<u64, Stop>;

/// Nanoseconds since boot, without suspended time. `bpf_ktime_get_ns`.
pub(super) fn ktime_get_ns(call: &mut Call<'_>) -> Ret {
    Ok(call.world().clock.read_monotonic())
}

/// Nanoseconds since boot, suspended time included. `bpf_ktime_get_boot_ns`.
pub(super) fn ktime_get_boot_ns(call: &mut Call<'_>) -> Ret {
    Ok(call.world().clock.read_boottime())
}

/// Nanoseconds since boot, of the last tick. `bpf_ktime_get_coarse_ns`.
pub(super) fn ktime_get_coarse_ns(call: &mut Call<'_>) -> Ret {
    Ok(call.world().clock.read_coarse())
}

/// International Atomic Time in nanoseconds. `bpf_ktime_get_tai_ns`.
pub(super) fn ktime_get_tai_ns(call: &mut Call<'_>) -> Ret {
    Ok(call.world().clock.read_tai())
}

/// Ticks since boot. `bpf_jiffies64`.
pub(super) fn jiffies64(call: &mut Call<'_>) -> Ret {
    Ok(call.world().clock.read_jiffies())
}

/// A pseudo-random number. `bpf_get_prandom_u32`.
pub(super) fn get_prandom_u32(call: &mut Call<'_>) -> Ret {
    Ok(call.world().random.next_u32().into())
}
