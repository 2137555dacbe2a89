//! Compiled programs: executable memory, and what is known of the places in it.

use std::sync::Arc;

use crate::effects::Effects;
use crate::proof::Assumptions;
use dynasmrt::DynasmError;
use memmap2::{Mmap, MmapMut};
use softbpf::engine::ProgramId;
use softbpf::program::Program;

use super::cells::WindowNumber;
use super::spare::Spares;

/// Why code cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CodeError {
    /// The host grants no executable memory.
    #[error("no executable memory: {0}")]
    Memory(#[from] std::io::Error),
    /// A branch out of reach.
    #[error("{0}")]
    Assemble(#[from] DynasmError),
}

/// Bytes of mappings that are used again. There are small ones because the host takes time for every page whose permission it
/// changes.
const SPARE_BYTES: [usize; 4] = [4 << 10, 16 << 10, 64 << 10, 256 << 10];

/// Mappings of [`SPARE_BYTES`] that are kept when their code is gone: to make one anew takes longer than to compile a short
/// program. They are writable, not executable, and hold nothing that was code.
static SPARES: [Spares; 4] = [const { Spares::new() }; 4];

/// Memory that code is written to: not executable.
#[derive(Debug)]
pub(super) struct WritableMemory {
    mapping: MmapMut,
    /// Where it begins, and its length.
    start: *mut u8,
    len: usize,
}

impl WritableMemory {
    /// With room for so many bytes.
    pub(super) fn new(room: usize) -> Result<WritableMemory, CodeError> {
        let size = SPARE_BYTES.iter().position(|&size| room <= size);
        Ok(WritableMemory::of(match size.and_then(|size| SPARES[size].take()) {
            Some(mapping) => mapping,
            None => MmapMut::map_anon(size.map_or(room, |size| SPARE_BYTES[size]))?,
        }))
    }

    fn of(mut mapping: MmapMut) -> WritableMemory {
        let (start, len) = (mapping.as_mut_ptr(), mapping.len());
        WritableMemory { mapping, start, len }
    }

    /// Bytes that there is room for.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Writes a word at an offset.
    ///
    /// # Safety
    /// There is room for it from there on.
    #[inline(always)]
    pub(super) unsafe fn write(&mut self, offset: usize, word: u64) {
        debug_assert!(offset + size_of::<u64>() <= self.len);
        // SAFETY: it lies in the mapping, as the caller says, and nobody else uses that.
        unsafe { self.start.add(offset).cast::<u64>().write_unaligned(word.to_le()) }
    }

    /// The first bytes, or all of them.
    pub(super) fn bytes_mut(&mut self, len: usize) -> &mut [u8] {
        let len = len.min(self.len);
        &mut self.mapping[..len]
    }

    /// Twice as large, with the first bytes as they are.
    pub(super) fn grow(&mut self, keep: usize) -> Result<(), CodeError> {
        let mut larger = WritableMemory::new(self.len.saturating_mul(2))?;
        let kept = self.bytes_mut(keep);
        larger.bytes_mut(kept.len()).copy_from_slice(kept);
        *self = larger;
        Ok(())
    }

    /// Has the first bytes executed from now on, and not written any more.
    pub(super) fn make_executable(self, len: usize) -> Result<CodeMemory, CodeError> {
        Ok(CodeMemory { mapping: Some(self.mapping.make_exec()?), len: len.min(self.len) })
    }
}

/// Executable memory: written, then read and executed only. When it is dropped it is made writable, overwritten, and kept for
/// other code or unmapped.
#[derive(Debug)]
pub(super) struct CodeMemory {
    /// There until it is dropped.
    mapping: Option<Mmap>,
    len: usize,
}

impl CodeMemory {
    /// Of code that is there.
    pub(super) fn new(code: &[u8]) -> Result<CodeMemory, CodeError> {
        let mut memory = WritableMemory::new(code.len())?;
        memory.bytes_mut(code.len()).copy_from_slice(code);
        memory.make_executable(code.len())
    }

    /// Address of a byte of the code.
    pub(super) fn address(&self, offset: usize) -> *const u8 {
        self.all()[offset..].as_ptr()
    }

    fn all(&self) -> &[u8] {
        self.mapping.as_deref().unwrap_or(&[])
    }

    /// Offset of an address in the code or right behind it.
    pub(super) fn offset_of(&self, address: usize) -> Option<usize> {
        address.checked_sub(self.all().as_ptr() as usize).filter(|&offset| offset <= self.len)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.all()[..self.len]
    }
}

impl Drop for CodeMemory {
    fn drop(&mut self) {
        /// What stops whoever comes here.
        const BREAKPOINT: u8 = 0xcc;
        if let Some(mapping) = self.mapping.take()
            && let Some(size) = SPARE_BYTES.iter().position(|&size| mapping.len() == size)
            && let Ok(mut mapping) = mapping.make_mut()
        {
            mapping[..self.len].fill(BREAKPOINT);
            SPARES[size].give(mapping);
        }
    }
}

/// A place where code calls a routine, known by its return address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Site {
    /// Offset of the return address in the code.
    pub(super) offset: u32,
    /// Index of the instruction under way.
    pub(super) index: u32,
    /// Instructions that the fuel has been charged for but that are not executed yet, the one under way included.
    pub(super) charged: u32,
    /// Where to go on behind the instruction, as an offset in the code.
    pub(super) resume: u32,
    /// Window of the access.
    pub(super) window: Option<WindowNumber>,
    /// What the caller has saved, where this is where a function returns to.
    pub(super) saved: Effects,
}

/// A call of a helper, known by its number.
#[derive(Debug, Clone, Copy)]
pub(super) struct HelperSite {
    /// The program.
    pub(super) program: ProgramId,
    /// Index of the instruction.
    pub(super) index: u32,
    /// Number of the helper.
    pub(super) helper: i32,
    /// Index of the map that a lookup looks into, where that is known.
    pub(super) map: Option<u32>,
    /// Place of the helper among those whose calls code counts, if it is called here only as long as they are kept.
    pub(super) counted: Option<usize>,
}

/// A routine that searches a hash map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    /// Index of the map.
    pub(super) map: u32,
    /// Offset of the routine.
    pub(super) start: u32,
}

/// A compiled program.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) memory: CodeMemory,
    /// What was compiled.
    pub(super) program: Arc<Program>,
    /// By offset.
    pub(super) sites: Vec<Site>,
    /// Indices of the instructions that may be called.
    pub(super) functions: Vec<u32>,
    /// The routines that search maps.
    pub(super) searches: Vec<Search>,
    /// Offset of a return.
    pub(super) epilogue: u32,
    /// By index: offset of an instruction's code. What comes behind the last one belongs to all.
    pub(super) starts: Vec<u32>,
    /// It may write to stack frames.
    pub(super) writes_stack: bool,
    /// What must be true of a run for the code to be right.
    pub(super) assumptions: Assumptions,
    /// Some access is compared with the limits of context or packet ([`super::cells::Object`]).
    pub(super) likely_objects: bool,
    /// Some helper's answer is taken from [`super::cells::Cells::answers`].
    pub(super) answers: bool,
    /// Calls of some helper are counted in [`super::cells::Cells::counted`].
    pub(super) counts: bool,
}

impl Compiled {
    /// Where the program starts.
    pub(super) fn entry(&self) -> *const u8 {
        self.memory.address(0)
    }

    /// The site with this return address.
    pub(super) fn site(&self, address: usize) -> Option<&Site> {
        let offset = u32::try_from(self.memory.offset_of(address)?).ok()?;
        let at = self.sites.binary_search_by_key(&offset, |site| site.offset).ok()?;
        self.sites.get(at)
    }

    /// The code of the function that begins with the instruction with this index.
    pub(super) fn function(&self, index: usize) -> Option<*const u8> {
        self.functions.binary_search(&u32::try_from(index).ok()?).ok()?;
        Some(self.address(*self.starts.get(index)?))
    }

    /// An address of the code.
    pub(super) fn address(&self, offset: u32) -> *const u8 {
        self.memory.address(offset as usize)
    }
}
