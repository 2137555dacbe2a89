//! Maps from the program's side, and tail calls.
//!
//! Semantics are the maps' own ([`crate::maps`]); here arguments become views. Sources: `kernel/bpf/helpers.c`.

use super::{Call, Stop};
use crate::engine::ProgramId;
use crate::errno::Errno;
use crate::map_spec::MapType;
use crate::maps::Map;

type Ret = Result<u64, Stop>;

/// Longest key or value that is copied without an allocation.
const SHORT: usize = 64;

/// Room for a copy of a key or value: the originals lie in the memory that maps write to.
pub(crate) struct Room {
    short: [u8; SHORT],
    long: Vec<u8>,
}

impl Room {
    pub(crate) const EMPTY: Room = Room { short: [0; SHORT], long: Vec::new() };

    #[inline]
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> &[u8] {
        let len = bytes.len();
        match len {
            // Most keys and values; the compiler makes moves of these.
            4 => self.short[..4].copy_from_slice(bytes),
            8 => self.short[..8].copy_from_slice(bytes),
            ..=SHORT => self.short[..len].copy_from_slice(bytes),
            _ => self.long.extend_from_slice(bytes),
        }
        self.short.get(..len).unwrap_or(&self.long)
    }
}

/// Types that have no elements for programs: `check_map_func_compatibility`.
fn has_elements(map_type: MapType) -> bool {
    !matches!(map_type, MapType::ProgArray | MapType::PerfEventArray | MapType::StackTrace | MapType::Ringbuf)
}

/// The map behind argument 0, which has elements, and the key behind argument 1.
#[inline]
fn map_and_key<'r>(call: &Call<'_>, room: &'r mut Room) -> Result<(usize, &'r [u8]), Stop> {
    let index = call.map_index(0)?;
    let map = call.machine.map_at(index);
    if !has_elements(map.map_type()) {
        call.expect_type(0, has_elements)?;
    }
    Ok((index, room.copy(call.sized_bytes(1, map.key_size().into())?)))
}

/// Address of the value, or 0. `bpf_map_lookup_elem`.
pub(super) fn map_lookup_elem(call: &mut Call<'_>) -> Ret {
    let mut room = Room::EMPTY;
    let (index, key) = map_and_key(call, &mut room)?;
    let cpu = call.machine.cpu();
    let (map, memory) = call.machine.map_and_memory(index);
    Ok(map.lookup(memory, cpu, key).map_or(0, u64::from))
}

/// `bpf_map_update_elem(map, key, value, flags)`.
pub(super) fn map_update_elem(call: &mut Call<'_>) -> Ret {
    let mut room = Room::EMPTY;
    let (index, key) = map_and_key(call, &mut room)?;
    let size = call.machine.map_at(index).value_size();
    let mut value = Room::EMPTY;
    let value = value.copy(call.sized_bytes(2, size.into())?);
    let (cpu, flags) = (call.machine.cpu(), call.arg(3));
    let (map, memory) = call.machine.map_and_memory(index);
    map.update(memory, cpu, key, value, flags)?;
    Ok(0)
}

/// `bpf_map_delete_elem(map, key)`.
pub(super) fn map_delete_elem(call: &mut Call<'_>) -> Ret {
    let mut room = Room::EMPTY;
    let (index, key) = map_and_key(call, &mut room)?;
    let (map, memory) = call.machine.map_and_memory(index);
    map.delete(memory, key)?;
    Ok(0)
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
