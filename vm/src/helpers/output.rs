//! What programs send out: trace lines, perf samples, ring buffer records.
//!
//! Sources: `kernel/trace/bpf_trace.c`, `kernel/bpf/ringbuf.c`.

use std::sync::Arc;

use super::{Call, Stop};
use crate::errno::Errno;
use crate::map_spec::MapType;
use crate::maps::{Map, RingBuf, RingBufQuery, output_flags};
use crate::memory::Memory;
use crate::outcome::{ArgumentProblem, Event};

type Ret = Result<u64, Stop>;

/// `bpf_trace_printk(fmt, fmt_size, ...)`; the number of bytes written. Lines are kept one by one, without the newline
/// that a format may end with.
pub(super) fn trace_printk(call: &mut Call<'_>) -> Ret {
    let args = [call.arg(2), call.arg(3), call.arg(4)];
    let (line, len) = super::format::format(call.bytes(0)?, &args, &call.machine.memory)?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    call.machine.push_printk(String::from_utf8_lossy(line).into_owned());
    Ok(len)
}

/// `bpf_perf_event_output(ctx, map, flags, data, size)`. Programs with a packet may ask for its first bytes behind the
/// data, by `BPF_F_CTXLEN_MASK`: `bpf_skb_event_output`, `bpf_xdp_event_output`.
pub(super) fn perf_event_output(call: &mut Call<'_>) -> Ret {
    const PACKET_BYTES: u64 = 0xf_ffff << 32;
    call.check_context(0)?;
    let mut flags = call.arg(2);
    let mut data = call.bytes(3)?.to_vec();
    if let Some(packet) = call.machine.packet() {
        if flags & !(PACKET_BYTES | output_flags::INDEX_MASK) != 0 {
            return Err(Errno::EINVAL.into());
        }
        let packet = packet.get(..((flags & PACKET_BYTES) >> 32) as usize).ok_or(Errno::EFAULT)?;
        call.charge(packet.len() as u64)?;
        data.extend_from_slice(packet);
        flags &= !PACKET_BYTES;
    }
    let cpu = call.machine.cpu();
    let (name, array, _) = call.map_of(1, MapType::PerfEventArray, Map::perf_event_array)?;
    array.output(cpu, flags, &data)?;
    call.machine.push_event(Event { map: name, cpu: Some(cpu), data });
    Ok(0)
}

/// `bpf_ringbuf_output(map, data, size, flags)`.
pub(super) fn ringbuf_output(call: &mut Call<'_>) -> Ret {
    let (data, flags) = (call.bytes(1)?.to_vec(), call.arg(3));
    let (name, ring, memory) = ring(call)?;
    ring.output(memory, &data, flags)?;
    call.machine.push_event(Event { map: name, cpu: None, data });
    Ok(0)
}

/// Address of a new record, or 0. `bpf_ringbuf_reserve(map, size, flags)`.
pub(super) fn ringbuf_reserve(call: &mut Call<'_>) -> Ret {
    let (size, flags) = (call.arg(1), call.arg(2));
    let (_, ring, memory) = ring(call)?;
    Ok(ring.reserve(memory, size, flags).map_or(0, u64::from))
}

/// `bpf_ringbuf_submit(record, flags)`.
pub(super) fn ringbuf_submit(call: &mut Call<'_>) -> Ret {
    let (map, addr) = record(call)?;
    let (map, memory) = call.machine.map_and_memory(map);
    let name = map.name().clone();
    let Some(ring) = map.ringbuf() else { return Ok(0) };
    let data = ring.record_bytes(memory, addr).to_vec();
    if ring.submit(memory, addr.into()).is_ok() {
        call.machine.push_event(Event { map: name, cpu: None, data });
    }
    Ok(0)
}

/// `bpf_ringbuf_discard(record, flags)`.
pub(super) fn ringbuf_discard(call: &mut Call<'_>) -> Ret {
    let (map, addr) = record(call)?;
    let (map, memory) = call.machine.map_and_memory(map);
    if let Some(ring) = map.ringbuf() {
        // The record is one of this ring's: `record` has found it there.
        let _ = ring.discard(memory, addr.into());
    }
    Ok(0)
}

/// `bpf_ringbuf_query(map, flags)`; 0 for what it does not know.
pub(super) fn ringbuf_query(call: &mut Call<'_>) -> Ret {
    let query = RingBufQuery::from_flags(call.arg(1));
    let (_, ring, _) = ring(call)?;
    Ok(query.map_or(0, |query| ring.query(query)))
}

/// The ring buffer behind argument 0, with its name.
fn ring<'c>(call: &'c mut Call<'_>) -> Result<(Arc<str>, &'c mut RingBuf, &'c mut Memory), Stop> {
    call.map_of(0, MapType::Ringbuf, Map::ringbuf)
}

/// The ring buffer that reserved the record behind argument 0, and the record's address.
fn record(call: &Call<'_>) -> Result<(usize, u32), Stop> {
    let value = call.arg(0);
    let not_a_record = || call.bad_argument(0, ArgumentProblem::NotARecord { value });
    let addr = u32::try_from(value).map_err(|_| not_a_record())?;
    Ok((call.machine.record_owner(addr).ok_or_else(not_a_record)?, addr))
}
