//! What compiled code finds behind `r12`: the part of a run's state that machine code and Rust share.
//!
//! Code addresses cells by constant displacements from the middle of the struct, so that the often used ones are in reach of
//! a one-byte displacement. Behind the struct, in the same mapping, lie the windows of memory accesses.

use std::mem::offset_of;
use std::num::NonZeroU32;

use memmap2::{MmapMut, MmapOptions};
use softbpf::helpers::{STEADY_HELPERS, steady_numbers};
use softbpf::insn::Size;
use softbpf::interp::MAY_GOTO_LOOPS;
use softbpf::memory::{FRAME_STRIDE, STACK_TOP};

use super::run::Run;
use super::spare::Spares;
use crate::proof::MAP_LOOKUP_ELEM;

/// The cells. One for each engine, as long as the engine lives.
#[repr(C)]
pub(super) struct Cells {
    /// `r0` to `r10`, where code leaves them for Rust and takes them back.
    pub(super) registers: [u64; 11],
    /// Stack pointer to leave with: that of the innermost entry.
    pub(super) host_stack: u64,
    /// Misses until the next one moves a window.
    pub(super) misses: i64,
    /// Host address of the arena.
    pub(super) arena: *mut u8,
    // From here on in reach of a one-byte displacement.
    /// The context, and the packet.
    pub(super) objects: [Object; 2],
    /// Fuel, while Rust runs; in a register while code runs.
    pub(super) fuel: i64,
    /// Bitmap of what may be read, and its number of 64-bit words.
    pub(super) readable: *const u8,
    /// Bitmap of what may be written.
    pub(super) writable: *const u8,
    /// 64-bit words of a bitmap.
    pub(super) words: u64,
    /// What is left of the current frame's `may_goto` budget.
    pub(super) loops: u64,
    /// Lowest top of a stack frame so far that may have been written to.
    pub(super) lowest: u64,
    /// Top of the deepest frame whose bits are set in the bitmaps. Those of its callers are, too, and no others.
    pub(super) opened: u64,
    /// Which helper call is under way ([`super::code::HelperSite`]).
    pub(super) site: u64,
    /// Stack pointer of the code that called Rust.
    pub(super) caller_stack: u64,
    /// Values that an instruction needs a place for.
    pub(super) scratch: [u64; 2],
    /// Routines that all code shares, and functions of Rust that they call: [`super::glue`].
    pub(super) routines: Routines,
    /// How often code has done what a helper does since somebody was told, and whether the next such call is to be kept with its
    /// arguments: by place ([`counted_numbers`]).
    pub(super) counted: [u64; COUNTED],
    pub(super) kept: [u64; COUNTED],
    /// What helpers give that only tell of the world ([`softbpf::helpers::steady_helper`]).
    pub(super) answers: [u64; STEADY_HELPERS],
    /// The engine's run.
    pub(super) run: *mut Run,
}

/// Helpers whose calls code counts: those that only tell of the world, and behind them `bpf_map_lookup_elem`.
pub(super) const COUNTED: usize = LOOKUPS + 1;

/// The place of the last one.
pub(super) const LOOKUPS: usize = STEADY_HELPERS;

/// The numbers of those helpers, by place.
pub(super) fn counted_numbers() -> [i32; COUNTED] {
    let mut numbers = [MAP_LOOKUP_ELEM; COUNTED];
    numbers[..LOOKUPS].copy_from_slice(&steady_numbers());
    numbers
}

/// [`Cells::opened`] where no frame is open.
pub(super) const NO_FRAME: u64 = STACK_TOP as u64 + FRAME_STRIDE as u64;

impl Cells {
    /// What a run begins with.
    pub(super) fn begin(&mut self) {
        self.loops = MAY_GOTO_LOOPS.into();
        self.lowest = STACK_TOP.into();
        self.opened = NO_FRAME;
        self.misses = 0;
    }
}

/// An object that lies where code has been told to expect it: for accesses of 1, 2, 4 and 8 bytes, how many first bytes of
/// reads it holds, and of writes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Object {
    limits: [[u64; 4]; 2],
}

impl Object {
    /// `len` bytes that may be read and written, or only one of them, or neither.
    pub(super) fn new(len: u32, read: bool, write: bool) -> Object {
        let limits =
            |open: bool| [1, 2, 4, 8].map(|size| if open { (u64::from(len) + 1).saturating_sub(size) } else { 0 });
        Object { limits: [limits(read), limits(write)] }
    }
}

/// Which object is the context.
pub(super) const CONTEXT: usize = 0;
/// Which object is the packet.
pub(super) const PACKET: usize = 1;

/// Displacement of an object's limit for an access, from `r12`.
pub(super) fn limit_displacement(object: usize, write: bool, size: Size) -> i8 {
    const { assert!(OBJECTS >= -128 && OBJECTS + 2 * size_of::<Object>() as i32 <= 128) };
    let start = OBJECTS + (object * size_of::<Object>()) as i32;
    (start + if write { 32 } else { 0 } + 8 * size.bytes().trailing_zeros() as i32) as i8
}

/// Addresses that code calls.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Routines {
    pub(super) leave: *const u8,
    pub(super) slow: *const u8,
    pub(super) helper: *const u8,
    pub(super) call_register: *const u8,
    pub(super) close_frame: *const u8,
    pub(super) check: [*const u8; 12],
    // Rust.
    pub(super) on_leave: *const u8,
    pub(super) on_helper: *const u8,
    pub(super) on_special: *const u8,
    pub(super) on_call_register: *const u8,
    pub(super) on_slow: *const u8,
}

/// `r12` points this far into the cells.
const MIDDLE: usize = 128 + offset_of!(Cells, misses);

macro_rules! displacements {
    ($($name:ident $($field:ident).+;)*) => {
        $(pub(super) const $name: i32 = offset_of!(Cells, $($field).+) as i32 - MIDDLE as i32;)*

        /// The way to each field, by displacement.
        const FIELDS: &[(i32, &[&str])] = &[$(($name, &[$(stringify!($field)),+])),*];
    };
}
displacements! {
    REGISTERS registers;
    HOST_STACK host_stack;
    MISSES misses;
    ARENA arena;
    OBJECTS objects;
    FUEL fuel;
    READABLE readable;
    WRITABLE writable;
    WORDS words;
    LOOPS loops;
    LOWEST lowest;
    OPENED opened;
    SITE site;
    CALLER_STACK caller_stack;
    SCRATCH scratch;
    COUNTED_CALLS counted;
    KEPT kept;
    ANSWERS answers;
    LEAVE routines.leave;
    HELPER routines.helper;
    SLOW routines.slow;
    CALL_REGISTER routines.call_register;
    CLOSE_FRAME routines.close_frame;
    CHECK routines.check;
    ON_LEAVE routines.on_leave;
    ON_HELPER routines.on_helper;
    ON_SPECIAL routines.on_special;
    ON_CALL_REGISTER routines.on_call_register;
    ON_SLOW routines.on_slow;
}

/// A window of one memory access: it passes where `base - start < len`, `base` being the guest register of the access.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Window {
    /// First guest address that the window holds, less the displacement of the access.
    pub(super) start: u64,
    /// First bytes of accesses that the window holds; 0 for an empty window.
    pub(super) len: u64,
}

/// Which window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WindowNumber(NonZeroU32);

impl WindowNumber {
    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// Bytes of the mapping that holds the cells and the windows: committed as it is used.
const MAPPING: usize = 64 << 20;
/// Where windows begin in the mapping.
const WINDOWS: usize = 4096;

/// Windows that a mapping may have had that is used again: they are zeroed before.
const SPARE_WINDOWS: usize = 4096;

/// Mappings whose engines are gone, zeroed.
static SPARE: Spares = Spares::new();

/// The mapping.
#[derive(Debug)]
pub(super) struct CellMemory {
    /// There until it is dropped.
    mapping: Option<MmapMut>,
    /// Where it begins. While there is an engine, nothing else leads into the mapping.
    cells: *mut Cells,
    /// Windows handed out, and the most that there were at a time.
    used: usize,
    most: usize,
}

impl CellMemory {
    pub(super) fn new() -> std::io::Result<CellMemory> {
        const { assert!(size_of::<Cells>() <= WINDOWS) };
        let mut mapping = match SPARE.take() {
            Some(mapping) => mapping,
            None => MmapOptions::new().len(MAPPING).no_reserve_swap().map_anon()?,
        };
        let cells = mapping.as_mut_ptr().cast();
        Ok(CellMemory { mapping: Some(mapping), cells, used: 0, most: 0 })
    }

    /// The cells: zeroed, or as they were left.
    pub(super) fn cells(&mut self) -> *mut Cells {
        self.cells
    }

    /// A new window; `None` when there is no room.
    pub(super) fn new_window(&mut self) -> Option<WindowNumber> {
        let end = WINDOWS + (self.used + 1) * size_of::<Window>();
        if end > MAPPING {
            return None;
        }
        self.used += 1;
        self.most = self.most.max(self.used);
        NonZeroU32::new(self.used as u32).map(WindowNumber)
    }

    /// Gives all windows back.
    pub(super) fn forget_windows(&mut self) {
        self.clear_windows();
        self.used = 0;
    }

    /// Empties all windows.
    pub(super) fn clear_windows(&mut self) {
        // SAFETY: those handed out lie in the mapping, and code does not run now.
        unsafe { self.windows().write_bytes(0, self.used) };
    }

    /// Sets a window that was handed out.
    pub(super) fn set_window(&mut self, number: WindowNumber, window: Window) {
        assert!(number.index() < self.used, "no window {number:?}");
        // SAFETY: it was handed out and lies in the mapping, and code does not run now.
        unsafe { self.windows().add(number.index()).write(window) };
    }

    fn windows(&mut self) -> *mut Window {
        self.cells.cast::<u8>().wrapping_add(WINDOWS).cast()
    }
}

impl Drop for CellMemory {
    fn drop(&mut self) {
        if let Some(mut mapping) = self.mapping.take()
            && self.most <= SPARE_WINDOWS
        {
            mapping[..size_of::<Cells>()].fill(0);
            mapping[WINDOWS..WINDOWS + self.used * size_of::<Window>()].fill(0);
            SPARE.give(mapping);
        }
    }
}

/// Displacement of a window from `r12`.
pub(super) fn window_displacement(number: WindowNumber) -> i32 {
    FIRST_WINDOW + (number.index() * size_of::<Window>()) as i32
}

/// That of the first one.
const FIRST_WINDOW: i32 = WINDOWS as i32 - MIDDLE as i32;

/// What lies at a displacement from `r12`, in a word or two: `fuel`, `context.read4`, `check.write8`, `window3.len`.
pub(crate) fn name(displacement: i32) -> Option<String> {
    const SIZES: [&str; 4] = ["1", "2", "4", "8"];
    const LIMITS: usize = size_of::<Object>() / 8;
    let word = |start: i32, words: usize| {
        let offset = usize::try_from(displacement.checked_sub(start)?).ok()?;
        (offset % 8 == 0 && offset / 8 < words).then_some(offset / 8)
    };
    if let Some(register) = word(REGISTERS, 11) {
        return Some(format!("r{register}"));
    }
    if let Some(limit) = word(OBJECTS, 2 * LIMITS) {
        let object = ["context", "packet"][limit / LIMITS];
        return Some(format!("{object}.{}{}", ["read", "write"][limit % LIMITS / 4], SIZES[limit % 4]));
    }
    if let Some(check) = word(CHECK, 12) {
        return Some(format!("check.{}{}", ["read", "write", "both"][check / 4], SIZES[check % 4]));
    }
    if let Some(answer) = word(ANSWERS, STEADY_HELPERS) {
        return Some(format!("answer{answer}"));
    }
    for (start, what) in [(COUNTED_CALLS, "counted"), (KEPT, "kept")] {
        if let Some(place) = word(start, COUNTED) {
            return Some(format!("{what}{}", counted_numbers()[place]));
        }
    }
    if let Some(value) = word(SCRATCH, 2) {
        return Some(format!("scratch{value}"));
    }
    if let Some(word) = word(FIRST_WINDOW, (MAPPING - WINDOWS) / 8) {
        return Some(format!("window{}.{}", word / 2, ["start", "len"][word % 2]));
    }
    let (_, path) = FIELDS.iter().find(|(at, _)| *at == displacement)?;
    path.last().map(|&field| field.to_owned())
}

/// What `r12` holds.
pub(super) fn middle(cells: *mut Cells) -> *mut u8 {
    cells.cast::<u8>().wrapping_add(MIDDLE)
}

/// The cells that `r12` points into.
pub(super) fn from_middle(middle: *mut u8) -> *mut Cells {
    middle.wrapping_sub(MIDDLE).cast()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_and_what_lies_behind_them_have_their_names() {
        for (object, what) in [(CONTEXT, "context"), (PACKET, "packet")] {
            for (write, how) in [(false, "read"), (true, "write")] {
                for &size in Size::ALL {
                    let displacement = limit_displacement(object, write, size);
                    assert_eq!(name(displacement.into()), Some(format!("{what}.{how}{}", size.bytes())));
                }
            }
        }
        assert_eq!(name(FUEL).as_deref(), Some("fuel"));
        assert_eq!(name(READABLE).as_deref(), Some("readable"));
    }
}
