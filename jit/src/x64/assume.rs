//! Whether a run is as the proofs assume, and where its objects are.

use softbpf::machine::Machine;
use softbpf::memory::{Permission, Word};

use super::cells::{CONTEXT, Object, PACKET};
use crate::proof::{Assumptions, PacketFields};

/// Whether what was assumed holds of a run whose program finds `r1` in its first argument.
pub(super) fn holds(assumptions: &Assumptions, machine: &mut Machine, r1: u64) -> bool {
    assumptions.helpers.iter().all(|&helper| !machine.is_mocked(helper))
        && (!assumptions.context || context_holds(assumptions, machine, r1))
        && assumptions.packet.is_none_or(|fields| packet_holds(assumptions, machine, fields))
}

fn context_holds(assumptions: &Assumptions, machine: &mut Machine, r1: u64) -> bool {
    let (context, _) = machine.placed().context;
    if u64::from(context) != r1 || context % 64 != 0 {
        return false;
    }
    let first = context as usize / 64;
    let mut view = machine.memory.view();
    let (_, readable, writable) = view.parts();
    let covers = |bitmap: &[Word], needed: &[u64]| {
        let words = bitmap.get(first..first + assumptions.words);
        let covered = |(&needed, word): (&u64, &Word)| needed & !u64::from_le_bytes(*word) == 0;
        words.is_some_and(|words| needed.iter().zip(words).all(covered))
    };
    covers(readable, &assumptions.readable) && covers(writable, &assumptions.writable)
}

fn packet_holds(assumptions: &Assumptions, machine: &mut Machine, fields: PacketFields) -> bool {
    let placed = *machine.placed();
    let (Some((start, len)), (context, _)) = (placed.packet, placed.context) else { return false };
    if machine.memory.is_run_narrowed() {
        return false;
    }
    let mut view = machine.memory.view();
    let (arena, readable, writable) = view.parts();
    let holds = |offset: i32, value: u32| {
        let at = context as usize + offset.unsigned_abs() as usize;
        // Fields are aligned, so that all bits of one are in a word.
        let bits = |bitmap: &[Word]| bitmap.get(at / 64).map(|word| u64::from_le_bytes(*word) >> (at % 64) & 0xf);
        at.is_multiple_of(4)
            && bits(readable) == Some(0xf)
            && bits(writable) == Some(0)
            && arena.get(at..at + 4) == Some(&value.to_le_bytes())
    };
    let (read, write) = open(placed.packet_permission);
    (!assumptions.packet_read || read)
        && (!assumptions.packet_write || write)
        && holds(fields.data, start)
        && holds(fields.data_end, start + len)
}

fn open(permission: Option<Permission>) -> (bool, bool) {
    match permission {
        Some(Permission::Read) => (true, false),
        Some(Permission::ReadWrite) => (true, true),
        Some(Permission::Write) => (false, true),
        None => (false, false),
    }
}

/// The context and the packet of a run, as far as they are all open and where code expects them.
pub(super) fn objects(machine: &mut Machine, expected: [Option<u32>; 2]) -> [Object; 2] {
    let placed = *machine.placed();
    let (start, len) = placed.context;
    let narrowed = machine.memory.is_run_narrowed();
    let mut view = machine.memory.view();
    let (_, readable, writable) = view.parts();
    let open_context = |bitmap: &[Word]| {
        let end = start as usize + len as usize;
        let words = bitmap.get(start as usize / 64..end.div_ceil(64)).unwrap_or(&[]);
        let (last, whole) =
            words.split_last().map_or((u64::MAX, words), |(last, whole)| (u64::from_le_bytes(*last), whole));
        let tail = u64::MAX >> ((64 - end % 64) % 64);
        start % 64 == 0 && whole.iter().all(|word| *word == [0xff; 8]) && tail & !last == 0
    };
    let mut objects = [Object::default(); 2];
    if expected[CONTEXT] == Some(start) {
        objects[CONTEXT] = Object::new(len, open_context(readable), open_context(writable));
    }
    if let Some((start, len)) = placed.packet
        && expected[PACKET] == Some(start)
        && !narrowed
    {
        let (read, write) = open(placed.packet_permission);
        objects[PACKET] = Object::new(len, read, write);
    }
    objects
}
