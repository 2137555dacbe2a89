//! Helpers that call functions of the program: `bpf_loop`, `bpf_for_each_map_elem`.
//!
//! How a function is called is the engine's business ([`crate::engine::Caller`]). Sources: `kernel/bpf/bpf_iter.c`,
//! `bpf_for_each_array_elem`, `bpf_for_each_hash_elem`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use super::{Call, Stop};
use crate::errno::Errno;
use crate::map_spec::MapType;

type Ret = Result<u64, Stop>;

/// `BPF_MAX_LOOPS`.
const MAX_LOOPS: u32 = 8 << 20;

/// Calls `function(index, ctx)` for each index until it gives something else than 0; how often it was called.
/// `bpf_loop(nr_loops, function, ctx, flags)`.
///
/// `nr_loops` is 32 bits wide, as for the kernel's function. Where the kernel inlines the call (flags known to be 0, one
/// function), Linux 6.18 looks at all 64 bits, and refuses with the low half of `-E2BIG`: `inline_bpf_loop`.
pub(super) fn bpf_loop(call: &mut Call<'_>) -> Ret {
    let function = call.function(1)?;
    let (loops, ctx, flags) = (call.arg(0) as u32, call.arg(2), call.arg(3));
    if flags != 0 {
        return Err(Errno::EINVAL.into());
    }
    if loops > MAX_LOOPS {
        return Err(Errno::E2BIG.into());
    }
    for index in 0..u64::from(loops) {
        if call.call_back(function, [index, ctx, 0, 0, 0])? != 0 {
            return Ok(index + 1);
        }
    }
    Ok(loops.into())
}

/// Calls `function(map, key, value, ctx)` for each element until it gives something else than 0; how often it was called.
/// `bpf_for_each_map_elem(map, function, ctx, flags)`.
///
/// Elements come in the order of `BPF_MAP_GET_NEXT_KEY`, which for hash maps is not the kernel's. Those that the
/// function adds are not visited, and those that it removes before their turn are not either.
pub(super) fn for_each_map_elem(call: &mut Call<'_>) -> Ret {
    call.expect_type(0, has_elements)?;
    let (map, function) = (call.map_index(0)?, call.function(1)?);
    if call.arg(3) != 0 {
        return Err(Errno::EINVAL.into());
    }
    let key = call.machine.begin_walk(map).ok_or(Errno::ENOMEM)?;
    let visited = catch_unwind(AssertUnwindSafe(|| walk(call, map, key, function)));
    call.machine.end_walk(map);
    // A mock that called this function may catch what another one has thrown, and go on.
    visited.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Types with a `map_for_each_callback`.
fn has_elements(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::Array
            | MapType::PercpuArray
            | MapType::Hash
            | MapType::PercpuHash
            | MapType::LruHash
            | MapType::LruPercpuHash
    )
}

/// Visits the elements, with each one's key at the guest address `key`; how many.
fn walk(call: &mut Call<'_>, map: usize, key: u32, function: u64) -> Ret {
    let (handle, ctx) = (call.arg(0), call.arg(2));
    let key_size = call.machine.map_at(map).key_size();
    let mut visited = 0;
    loop {
        call.charge(key_size.into())?;
        let cpu = call.machine.cpu();
        let (elements, memory) = call.machine.map_and_memory(map);
        let Some(value) = elements.walk(memory, cpu, visited, key) else { break };
        visited += 1;
        if call.call_back(function, [handle, key.into(), value.into(), ctx, 0])? != 0 {
            break;
        }
    }
    Ok(visited.into())
}
