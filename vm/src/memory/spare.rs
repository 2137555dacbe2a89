//! Memories that nobody needs now but somebody soon will: to map an arena, touch it and unmap it takes the host longer than
//! short programs do. They are as new.
//!
//! Nobody waits here: who finds another thread at work, or a lock that a fork has left behind, does without.

use std::sync::Mutex;

use super::Memory;
use super::mapping::Mapping;

/// Memories that are kept at most. Under a fuzzer what is dropped is unmapped, so that it sees who still reaches for it.
const MOST: usize = if cfg!(fuzzing) { 0 } else { 4 };

static SPARES: Mutex<Vec<Memory>> = Mutex::new(Vec::new());

/// One of them.
pub(super) fn take() -> Option<Memory> {
    SPARES.try_lock().ok()?.pop()
}

/// Whether another one would be kept.
pub(super) fn has_room() -> bool {
    SPARES.try_lock().is_ok_and(|spares| spares.len() < MOST)
}

/// Keeps one, if there still is room.
pub(super) fn give(mut memory: Memory) {
    if let Ok(mut spares) = SPARES.try_lock()
        && spares.len() < MOST
    {
        spares.push(memory);
    } else {
        // Without an arena it is not offered again.
        memory.arena = Mapping::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_are_kept() -> Result<(), super::super::MemoryError> {
        let many = (0..2 * MOST).map(|_| Memory::new()).collect::<Result<Vec<_>, _>>()?;
        drop(many);
        assert!(SPARES.lock().is_ok_and(|spares| spares.len() <= MOST));
        Ok(())
    }

    #[test]
    fn who_finds_the_lock_taken_does_without() -> Result<(), super::super::MemoryError> {
        let spares = SPARES.lock();
        drop(Memory::new()?);
        assert!(take().is_none() && !has_room());
        drop(spares);
        Ok(())
    }
}
