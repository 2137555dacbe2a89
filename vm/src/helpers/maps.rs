//! Maps from the program's side, and tail calls.
//!
//! Semantics are the maps' own ([`crate::maps`]); here arguments become views. Sources: `kernel/bpf/helpers.c`.

use super::{Call, Stop};
use crate::engine::ProgramId;
use crate::errno::Errno;
use crate::map_spec::MapType;
use crate::maps::Map;

type Ret = Result<u64, Stop>;

/// Longest key that is copied without an allocation.
const SHORT_KEY: usize = 64;

/// Calls `then` with a copy of the key behind argument 1.
fn with_key<R>(call: &mut Call<'_>, then: impl FnOnce(&mut Call<'_>, &[u8]) -> Result<R, Stop>) -> Result<R, Stop> {
    let key = call.bytes(1)?;
    if key.len() <= SHORT_KEY {
        let mut copy = [0; SHORT_KEY];
        let len = key.len();
        copy[..len].copy_from_slice(key);
        then(call, &copy[..len])
    } else {
        let copy = key.to_vec();
        then(call, &copy)
    }
}

/// Types that have no elements for programs: `check_map_func_compatibility`.
const OPAQUE: [MapType; 4] = [MapType::ProgArray, MapType::PerfEventArray, MapType::StackTrace, MapType::Ringbuf];

fn expect_elements(call: &Call<'_>) -> Result<(), Stop> {
    call.expect_type(0, |map_type| !OPAQUE.contains(&map_type))
}

/// Address of the value, or 0. `bpf_map_lookup_elem`.
pub(super) fn map_lookup_elem(call: &mut Call<'_>) -> Ret {
    expect_elements(call)?;
    with_key(call, |call, key| {
        let cpu = call.machine.cpu();
        let (map, memory) = call.map_and_memory(0)?;
        Ok(map.lookup(memory, cpu, key).map_or(0, u64::from))
    })
}

/// `bpf_map_update_elem(map, key, value, flags)`.
pub(super) fn map_update_elem(call: &mut Call<'_>) -> Ret {
    expect_elements(call)?;
    let value = call.bytes(2)?.to_vec();
    let flags = call.arg(3);
    with_key(call, |call, key| {
        let cpu = call.machine.cpu();
        let (map, memory) = call.map_and_memory(0)?;
        map.update(memory, cpu, key, &value, flags)?;
        Ok(0)
    })
}

/// `bpf_map_delete_elem(map, key)`.
pub(super) fn map_delete_elem(call: &mut Call<'_>) -> Ret {
    expect_elements(call)?;
    with_key(call, |call, key| {
        let (map, _) = call.map_and_memory(0)?;
        map.delete(key)?;
        Ok(0)
    })
}

/// Goes on in another program, or fails and goes on behind the call. `bpf_tail_call(ctx, map, index)`.
pub(super) fn tail_call(call: &mut Call<'_>) -> Ret {
    call.check_context(0)?;
    // The index is 32 bits wide.
    let index = call.arg(2) as u32;
    let (_, array, _) = call.map_of(1, MapType::ProgArray, Map::prog_array)?;
    let program = array.program_at(index).map(ProgramId).ok_or(Errno::ENOENT)?;
    Err(Stop::TailCall(program))
}
