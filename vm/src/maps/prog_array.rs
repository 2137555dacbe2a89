//! Arrays of programs, for tail calls. `prog_array_map_ops` in `kernel/bpf/arraymap.c`.
//!
//! A slot holds the number of a program of the machine, in the place of the descriptor that the kernel's user space
//! stores; what the number stands for is the machine's business, which also says how many there are.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::definition::{Definition, index_of, next_index, update_flags};
use super::error::MapErrorKind;
use super::{Actor, MapKind};
use crate::errno::Errno;
use crate::memory::Memory;

/// The slots of a program array.
#[derive(Debug)]
pub struct ProgArray {
    max_entries: u32,
    /// Numbers of programs are below this; `None` while no machine has said it.
    programs: Option<u32>,
    /// Only slots that hold a program.
    slots: FxHashMap<u32, u32>,
    /// What [`super::Map::reset`] returns to.
    initial: BTreeMap<u32, u32>,
}

impl ProgArray {
    /// Number of the program in slot `index`; `None` when the slot is empty or there is none, so that a tail call
    /// goes on behind the call. `bpf_tail_call`.
    #[inline]
    pub fn program_at(&self, index: u32) -> Option<u32> {
        self.slots.get(&index).copied()
    }

    /// Puts a program into a slot, or empties the slot.
    ///
    /// # Errors
    /// `E2BIG` when there is no such slot, `EBADF` when there is no such program. `bpf_fd_array_map_update_elem`.
    pub fn set_program(&mut self, index: u32, program: Option<u32>) -> Result<(), Errno> {
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        if program.zip(self.programs).is_some_and(|(program, programs)| program >= programs) {
            return Err(Errno::EBADF);
        }
        match program {
            Some(program) => self.slots.insert(index, program),
            None => self.slots.remove(&index),
        };
        Ok(())
    }

    /// Puts a program into a slot, for good: [`super::Map::reset`] returns to it. For the slots that the object
    /// fills in ([`crate::map_spec::InitialSlot`]).
    ///
    /// # Errors
    /// As [`ProgArray::set_program`].
    pub fn set_initial_program(&mut self, index: u32, program: u32) -> Result<(), Errno> {
        self.set_program(index, Some(program))?;
        self.initial.insert(index, program);
        Ok(())
    }

    /// Says how many programs there are: from now on, slots take no others. A machine does when it is made.
    pub fn set_program_count(&mut self, programs: u32) {
        self.programs = Some(programs);
    }
}

impl MapKind for ProgArray {
    /// `fd_array_map_alloc_check`.
    fn create(def: &Definition, _memory: &mut Memory) -> Result<ProgArray, MapErrorKind> {
        def.check_descriptors()?;
        Ok(ProgArray {
            max_entries: def.max_entries,
            programs: None,
            slots: FxHashMap::default(),
            initial: BTreeMap::new(),
        })
    }

    /// Programs cannot look at slots: `check_map_func_compatibility`.
    fn lookup(&mut self, _memory: &mut Memory, _cpu: u32, _key: &[u8]) -> Option<u32> {
        None
    }

    /// `bpf_fd_array_map_update_elem`; only user space may.
    fn update(
        &mut self,
        _memory: &mut Memory,
        actor: Actor,
        key: &[u8],
        value: &[u8],
        flags: u64,
    ) -> Result<(), Errno> {
        if flags != update_flags::ANY || actor != Actor::User {
            return Err(Errno::EINVAL);
        }
        self.set_program(index_of(key), Some(index_of(value)))
    }

    /// `fd_array_map_delete_elem`; only user space may.
    fn delete(&mut self, _memory: &mut Memory, actor: Actor, key: &[u8]) -> Result<(), Errno> {
        let index = index_of(key);
        if actor != Actor::User {
            return Err(Errno::EINVAL);
        }
        if index >= self.max_entries {
            return Err(Errno::E2BIG);
        }
        self.slots.remove(&index).map(|_| ()).ok_or(Errno::ENOENT)
    }

    /// `bpf_fd_array_map_lookup_elem`: the number of the program, where the kernel gives its id.
    fn read(&self, _memory: &Memory, key: &[u8]) -> Result<Vec<u8>, Errno> {
        self.program_at(index_of(key)).map(|program| program.to_le_bytes().to_vec()).ok_or(Errno::ENOENT)
    }

    fn next_key(&self, _memory: &Memory, key: Option<&[u8]>) -> Result<Vec<u8>, Errno> {
        next_index(key, self.max_entries)
    }

    /// Slots that hold a program.
    fn keys(&self, _memory: &Memory) -> impl Iterator<Item = Vec<u8>> {
        let mut indices: Vec<u32> = self.slots.keys().copied().collect();
        indices.sort_unstable();
        indices.into_iter().map(|index| index.to_le_bytes().to_vec())
    }

    fn len(&self) -> usize {
        self.slots.len()
    }

    fn clear(&mut self, _memory: &mut Memory) {
        self.slots.clear();
    }

    fn end_run(&mut self, _memory: &mut Memory) {}

    fn reset(&mut self, _memory: &mut Memory) {
        self.slots.clear();
        self.slots.extend(self.initial.iter().map(|(&index, &program)| (index, program)));
    }
}
