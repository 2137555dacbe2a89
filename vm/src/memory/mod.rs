//! Guest memory: one arena, 32-bit addresses, permissions to the byte.
//!
//! A guest pointer is an offset into the arena, below 2^32. Two bitmaps beside it say which byte may be read and
//! which written; everything else (null page, red zones, freed objects) is inaccessible. This is the one place
//! that translates and checks addresses: engines, helpers and maps all come here. It does not know what a
//! program, a map or a helper is.
//!
//! Zones, from low to high: the null page, the stack frames, the run zone (context and packet, gone when the next
//! run starts), the persistent zone (maps, global data, objects that a test placed). Addresses are the same
//! in every run. What maps look up in, tables of their own, lies at the end of the persistent zone, closed to programs.

mod bitmap;
mod far;
mod footprint;
mod mapping;
mod objects;
mod spare;
#[cfg(test)]
mod tests;
mod view;

use std::ops::Range;

use bitmap::Bitmap;
pub use far::FAR_START;
use far::Far;
use footprint::{Footprint, PAGE};
use mapping::Mapping;
pub use objects::{Nearest, ObjectKind};
use objects::{Objects, Row};
pub use view::{View, Word};

/// Bytes of one stack frame. RFC 9669 section 2.3; the kernel's `MAX_BPF_STACK`.
pub const STACK_FRAME: u32 = 512;

/// Calls deep, the entry program included: the kernel's `MAX_CALL_FRAMES`.
pub const MAX_FRAMES: u32 = 8;

/// Inaccessible bytes from address 0.
const NULL_PAGE: u32 = 0x1_0000;
/// From one frame's top to the next one's: the gap below a frame is a red zone.
pub const FRAME_STRIDE: u32 = 2 * STACK_FRAME;
/// Top of the entry program's frame; callees' frames are below.
pub const STACK_TOP: u32 = 0x10_0000;
/// At least this many inaccessible bytes lie between two objects.
const RED_ZONE: u32 = 64;
/// Objects start at multiples of this.
const ALIGN: u32 = 64;
/// Bytes behind the arena's end, so that an access that starts inside needs no second check.
const ARENA_PADDING: usize = 128;
/// How far a window reaches to both sides.
const REACH: u32 = 0x1_0000;
/// Pages of the arena that are in use where a reset clears them: for more, a new arena costs less.
const MAX_PAGES_CLEARED: usize = 2048;
/// Pages of the arena that are in use where it is kept for another memory.
const MAX_PAGES_KEPT: usize = 256;
/// Arena sizes, the first that the machine grants is taken.
const ARENA_SIZES: [u64; 4] = [1 << 32, 1 << 30, 1 << 28, 1 << 26];

/// Memory that cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum MemoryError {
    /// The host refused even the smallest arena.
    #[error("the host grants no {bytes} bytes of address space for the guest arena")]
    NoArena { bytes: u64 },
    /// The arena is full.
    #[error("{bytes} bytes do not fit into the guest arena any more: {left} are left")]
    ArenaFull { bytes: u64, left: u64 },
    /// A far object below 2^32, empty, wrapping around, or over another one.
    #[error("no far object of {bytes} bytes can be placed at {addr:#x}")]
    BadFarObject { addr: u64, bytes: u64 },
}

/// What an access wanted to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
}

/// Why an access was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Address below 64 KiB.
    Null,
    /// No object there, or not for all of the bytes.
    OutOfBounds,
    /// The object may be read but not written.
    ReadOnly,
    /// The bytes were never written (only when uninitialised bytes are tracked).
    Uninitialised,
    /// Address above 2^32 with no far object.
    NotMapped,
}

/// A refused access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Read or write.
    pub access: Access,
    /// Guest address of the first byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// Why.
    pub kind: FaultKind,
}

/// What a program may do with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Loads and helper arguments only.
    Read,
    /// Loads and stores.
    ReadWrite,
    /// Stores only (`BPF_F_WRONLY_PROG`).
    Write,
}

impl Permission {
    /// Whether it allows reading, and writing.
    fn parts(self) -> (bool, bool) {
        match self {
            Permission::Read => (true, false),
            Permission::ReadWrite => (true, true),
            Permission::Write => (false, true),
        }
    }
}

/// The guest memory of one machine.
#[derive(Debug)]
pub struct Memory {
    arena: Mapping,
    size: u64,
    /// What loads test: granted, and initialised where that is tracked.
    readable: Bitmap,
    writable: Bitmap,
    /// Which bytes are granted for reading, initialised or not; only when that is tracked.
    granted: Option<Bitmap>,
    objects: Objects,
    far: Far,
    run_zone: Zone,
    persistent: Zone,
    /// What was left of the persistent zone when [`Memory::mark`] was called.
    mark: (u64, u64),
    footprint: Footprint,
    generation: u64,
    /// The lowest byte of an object that outlives runs which somebody from outside has closed.
    narrowed: Option<u32>,
    /// Somebody has closed bytes of the run's objects.
    run_narrowed: bool,
    /// A panic has cut off a run.
    cut_off: bool,
}

impl Drop for Memory {
    /// What is cleared quickly is kept for another memory.
    fn drop(&mut self) {
        if self.may_be_kept() && spare::has_room() {
            spare::give(self.take());
        }
    }
}

/// A range of the arena that is handed out upwards.
#[derive(Debug, Clone, Copy, Default)]
struct Zone {
    start: u64,
    next: u64,
    end: u64,
}

impl Zone {
    fn take(&mut self, bytes: u64) -> Result<u32, MemoryError> {
        let full = MemoryError::ArenaFull { bytes, left: self.end - self.next };
        let padded = bytes.checked_add(u64::from(RED_ZONE)).ok_or(full)?.next_multiple_of(ALIGN.into());
        if padded > self.end - self.next {
            return Err(full);
        }
        let start = self.next;
        self.next += padded;
        u32::try_from(start).map_err(|_| full)
    }
}

/// Objects of equal size in a row, reserved but not yet accessible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elements {
    /// Guest address of the first.
    pub start: u32,
    /// Bytes from one to the next.
    pub stride: u32,
}

impl Elements {
    /// Guest address of element `index`, which is one of those reserved.
    pub(crate) fn address(&self, index: u32) -> u32 {
        self.start + self.stride * index
    }
}

impl Memory {
    /// An empty arena of 4 GiB of address space (less where the host refuses that).
    ///
    /// It may be that of a memory that was dropped: the process keeps four at most (20 GiB of addresses), of which little was touched, cleared, since
    /// the host takes longer to make one than a short program to run. No thread waits for another here, and no child of
    /// `fork` for a lock that it inherited.
    ///
    /// # Errors
    /// [`MemoryError::NoArena`] when the host grants not even 64 MiB.
    pub fn new() -> Result<Memory, MemoryError> {
        let new = |size| Memory::with_size(size).ok();
        let [largest, smaller @ ..] = ARENA_SIZES;
        // Memories that are kept may be why the host refuses.
        let found = spare::take().or_else(|| new(largest)).or_else(spare::take);
        let found = found.or_else(|| smaller.into_iter().find_map(new));
        found.ok_or(MemoryError::NoArena { bytes: ARENA_SIZES[ARENA_SIZES.len() - 1] })
    }

    fn with_size(size: u64) -> std::io::Result<Memory> {
        let bytes = usize::try_from(size).map_err(std::io::Error::other)?;
        let (run, persistent) = (u64::from(STACK_TOP) + u64::from(ALIGN), size / 4);
        let (arena, readable, writable) =
            (Mapping::new(bytes + ARENA_PADDING)?, Bitmap::new(bytes)?, Bitmap::new(bytes)?);
        let mut memory = Memory::without_arena();
        memory.arena = arena;
        memory.size = size;
        memory.readable = readable;
        memory.writable = writable;
        memory.run_zone = Zone { start: run, next: run, end: persistent };
        memory.persistent = Zone { start: persistent, next: persistent, end: size };
        memory.mark = (persistent, size);
        memory.name_frames();
        Ok(memory)
    }

    /// What is left of a memory whose arena is used elsewhere.
    fn without_arena() -> Memory {
        Memory {
            arena: Mapping::default(),
            size: 0,
            readable: Bitmap::default(),
            writable: Bitmap::default(),
            granted: None,
            objects: Objects::default(),
            far: Far::default(),
            run_zone: Zone::default(),
            persistent: Zone::default(),
            mark: (0, 0),
            footprint: Footprint::default(),
            generation: 0,
            narrowed: None,
            run_narrowed: false,
            cut_off: false,
        }
    }

    /// Whether another machine may have the arena, and it takes little to clear. Not where the host has refused a larger one:
    /// it may grant that next time.
    fn may_be_kept(&self) -> bool {
        !self.arena.is_empty()
            && self.size == ARENA_SIZES[0]
            && self.footprint.in_use() <= MAX_PAGES_KEPT
            && !self.cut_off
            && !std::thread::panicking()
    }

    /// A memory that is as new, with this one's arena.
    fn take(&mut self) -> Memory {
        let mut memory = std::mem::replace(self, Memory::without_arena());
        memory.granted = None;
        memory.reset();
        memory.generation = 0;
        memory
    }

    /// Notes that a panic has cut off a run: no other machine gets this memory.
    pub(crate) fn cut_off(&mut self) {
        self.cut_off = true;
    }

    /// All objects forgotten but the stack frames.
    fn name_frames(&mut self) {
        // It ends at a quarter of the arena at most.
        self.objects = Objects::new(self.run_zone.start as u32..self.run_zone.end as u32);
        for frame in 0..MAX_FRAMES {
            let row = Row { kind: ObjectKind::Stack { frame }, size: STACK_FRAME, stride: STACK_FRAME, count: 1 };
            self.objects.insert(frame_base(frame), row);
        }
    }

    /// Starts to track uninitialised bytes: from now on, reading a stack or record byte that was never written
    /// is a fault.
    ///
    /// # Errors
    /// [`MemoryError::NoArena`] when the host grants no memory for it.
    pub fn track_uninitialised(&mut self) -> Result<(), MemoryError> {
        if self.granted.is_none() {
            let mut granted =
                Bitmap::new(self.size as usize).map_err(|_| MemoryError::NoArena { bytes: self.size / 8 })?;
            for (start, end) in
                [(self.run_zone.start, self.run_zone.next), (self.persistent.start, self.persistent.next)]
            {
                granted.copy_from(&self.readable, start as u32, (end - start) as u32);
            }
            self.granted = Some(granted);
            self.grant_frames();
        }
        Ok(())
    }

    /// Whether uninitialised bytes are tracked.
    pub(crate) fn tracking(&self) -> bool {
        self.granted.is_some()
    }

    /// Frames are closed by their other bits; in this map they only wait to be written.
    fn grant_frames(&mut self) {
        let Some(granted) = &mut self.granted else { return };
        for frame in 0..MAX_FRAMES {
            granted.set(frame_base(frame), STACK_FRAME, true);
        }
    }

    // Back to what was.

    /// Everything as in a new memory, in the same place of the host's: at a cost in proportion to the pages of the arena
    /// that were opened or written since the last time. Where many have ever been, a new arena costs less.
    pub(crate) fn reset(&mut self) {
        if self.footprint.in_use() > MAX_PAGES_CLEARED && self.replace().is_ok() {
            return;
        }
        self.generation += 1;
        (self.narrowed, self.run_narrowed) = (None, false);
        for page in self.footprint.take() {
            self.clear_page(page);
        }
        self.forget_frames();
        self.far = Far::default();
        self.name_frames();
        self.run_zone.next = self.run_zone.start;
        (self.persistent.next, self.persistent.end) = (self.persistent.start, self.size);
        self.mark = (self.persistent.start, self.size);
    }

    /// A new arena of the same size in place of this one.
    fn replace(&mut self) -> Result<(), MemoryError> {
        let mut new = Memory::with_size(self.size).map_err(|_| MemoryError::NoArena { bytes: self.size })?;
        if self.granted.is_some() {
            new.track_uninitialised()?;
        }
        new.generation = self.generation + 1;
        *self = new;
        Ok(())
    }

    /// Objects that are there now outlive [`Memory::return_to_mark`].
    pub(crate) fn mark(&mut self) {
        self.mark = (self.persistent.next, self.persistent.end);
    }

    /// Forgets the last run, far objects, and what was handed out of the persistent zone since [`Memory::mark`]. What
    /// was handed out before is the caller's to restore; of tables nothing may be relied upon, for all may be zeroed.
    pub(crate) fn return_to_mark(&mut self) {
        self.start_run();
        self.forget_frames();
        self.far = Far::default();
        self.narrowed = self.narrowed.filter(|&lowest| u64::from(lowest) < self.mark.0);
        if (self.persistent.next, self.persistent.end) == self.mark {
            return;
        }
        self.generation += 1;
        self.objects.forget_from(self.mark.0);
        (self.persistent.next, self.persistent.end) = self.mark;
        let start = self.mark.0 as u32;
        let rest = start.wrapping_neg() % PAGE;
        self.close(start, rest);
        self.zero(start, rest);
        if let Some(next_page) = start.checked_add(rest) {
            for page in self.footprint.take_from(next_page) {
                self.clear_page(page);
            }
        }
    }

    /// Zeroes and closes all stack frames: a run that was cut off has left them open.
    fn forget_frames(&mut self) {
        let mut view = self.view();
        for frame in 0..MAX_FRAMES {
            view.pop_frame(frame);
        }
        self.zero_frames(0..MAX_FRAMES);
        self.grant_frames();
    }

    fn clear_page(&mut self, start: u32) {
        self.zero(start, PAGE);
        self.readable.clear(start, PAGE);
        self.writable.clear(start, PAGE);
        if let Some(granted) = &mut self.granted {
            granted.clear(start, PAGE);
        }
    }

    // Objects.

    /// A zeroed object that stays until it is freed.
    ///
    /// # Errors
    /// The arena is full.
    pub fn allocate(&mut self, kind: ObjectKind, size: u32, permission: Permission) -> Result<u32, MemoryError> {
        let start = self.persistent.take(size.into())?;
        self.objects.insert(start, Row { kind, size, stride: size, count: 1 });
        self.open(start, size, permission);
        Ok(start)
    }

    /// Reserves `count` objects of `size` bytes in a row, with a red zone after each; [`Memory::grant`] opens them.
    ///
    /// # Errors
    /// The arena is full.
    pub fn reserve_elements(&mut self, kind: ObjectKind, size: u32, count: u32) -> Result<Elements, MemoryError> {
        let too_large = MemoryError::ArenaFull { bytes: u64::from(size) * u64::from(count), left: self.left() };
        // Eight bytes at least, so that no access that starts inside one object ends inside the next.
        let stride = size.checked_next_multiple_of(8).and_then(|size| size.checked_add(8)).ok_or(too_large)?;
        let start = self.persistent.take(u64::from(stride) * u64::from(count))?;
        self.objects.insert(start, Row { kind, size, stride, count });
        Ok(Elements { start, stride })
    }

    /// Reserves `bytes` that no program gets at: room for a table of a map, which [`Memory::claim_table`] makes its own. It
    /// is taken from the end, so that no object's address depends on it.
    ///
    /// # Errors
    /// The arena is full.
    pub(crate) fn reserve_table(&mut self, bytes: u64) -> Result<u32, MemoryError> {
        let full = MemoryError::ArenaFull { bytes, left: self.left() };
        let end = self.persistent.end.checked_sub(bytes).ok_or(full)? / u64::from(ALIGN) * u64::from(ALIGN);
        if end < self.persistent.next {
            return Err(full);
        }
        self.persistent.end = end;
        // Not behind the arena, where a table without bytes would be.
        u32::try_from(end).map_err(|_| full)
    }

    /// Takes the table back that was reserved last, and has not been used.
    pub(crate) fn give_table_back(&mut self, start: u32, bytes: u64) {
        debug_assert_eq!(self.persistent.end, u64::from(start));
        self.persistent.end += bytes.next_multiple_of(ALIGN.into());
    }

    /// Zeroes part of a reserved table, before it is used.
    pub(crate) fn claim_table(&mut self, addr: u32, len: u32) {
        self.footprint.add(addr, len);
        self.zero(addr, len);
    }

    /// Bytes of the persistent zone that are not handed out yet.
    pub fn left(&self) -> u64 {
        self.persistent.end - self.persistent.next
    }

    /// A zeroed object that lives until the next run starts.
    ///
    /// # Errors
    /// The arena is full.
    pub fn allocate_for_run(
        &mut self,
        kind: ObjectKind,
        size: u32,
        permission: Permission,
    ) -> Result<u32, MemoryError> {
        let start = self.run_zone.take(size.into())?;
        self.objects.insert(start, Row { kind, size, stride: size, count: 1 });
        self.open(start, size, permission);
        Ok(start)
    }

    /// Room that lives until the next run starts, for objects that the caller names and grants.
    ///
    /// # Errors
    /// The arena is full.
    pub(crate) fn reserve_for_run(&mut self, size: u32) -> Result<u32, MemoryError> {
        self.run_zone.take(size.into())
    }

    /// Forgets the last run: its objects are revoked and zeroed. Its stack frames are [`crate::Machine::zero_frames`]' care.
    pub(crate) fn start_run(&mut self) {
        self.run_narrowed = false;
        let (start, used) = (self.run_zone.start as u32, (self.run_zone.next - self.run_zone.start) as u32);
        if used > 0 {
            self.objects.forget_run();
            self.close(start, used);
            self.zero(start, used);
            self.run_zone.next = self.run_zone.start;
        }
    }

    /// Names an object that needs no memory of its own, such as a record inside a ring buffer.
    pub fn name(&mut self, start: u32, kind: ObjectKind, size: u32) {
        self.objects.insert(start, Row { kind, size, stride: size, count: 1 });
    }

    /// Forgets the name that [`Memory::name`] gave.
    pub fn unname(&mut self, start: u32) {
        self.objects.remove(start);
    }

    /// Opens each of the first `count` elements, the size of which they were reserved for.
    pub(crate) fn grant_elements(&mut self, elements: Elements, size: u32, count: u32, permission: Permission) {
        if permission != Permission::ReadWrite {
            // The other half may have been open before.
            self.generation += 1;
        }
        self.footprint.add(elements.start, elements.stride * count);
        let (read, write) = permission.parts();
        self.readable.set_row(elements.start, size, elements.stride, count, read);
        self.writable.set_row(elements.start, size, elements.stride, count, write);
        if let Some(granted) = &mut self.granted {
            granted.set_row(elements.start, size, elements.stride, count, read);
        }
    }

    /// Opens `size` bytes at `addr`, and closes them for what is not permitted.
    pub fn grant(&mut self, addr: u32, size: u32, permission: Permission) {
        let (read, write) = permission.parts();
        if !read && self.readable.any_set(addr, size) || !write && self.writable.any_set(addr, size) {
            self.narrow(addr, size);
        }
        self.open(addr, size, permission);
    }

    /// Opens bytes of an object as its kind has it.
    pub(crate) fn open(&mut self, addr: u32, size: u32, permission: Permission) {
        let (read, write) = permission.parts();
        if permission != Permission::ReadWrite && u64::from(addr) >= self.persistent.start {
            // The other half may have been open before.
            self.generation += 1;
        }
        self.footprint.add(addr, size);
        self.readable.set(addr, size, read);
        self.writable.set(addr, size, write);
        if let Some(granted) = &mut self.granted {
            granted.set(addr, size, read);
        }
    }

    /// Opens `size` bytes at `addr` whose content no one has written yet; where that is tracked, they cannot be
    /// read before they are.
    pub(crate) fn grant_uninitialised(&mut self, addr: u32, size: u32) {
        self.open(addr, size, Permission::ReadWrite);
        if self.granted.is_some() {
            self.readable.set(addr, size, false);
        }
    }

    /// Closes `size` bytes at `addr`.
    pub fn revoke(&mut self, addr: u32, size: u32) {
        self.narrow(addr, size);
        self.withdraw(addr, size);
    }

    /// Notes that somebody from outside closes these bytes.
    fn narrow(&mut self, addr: u32, size: u32) {
        // It ends at a quarter of the arena at most.
        let outlives_runs = self.persistent.start as u32;
        if u64::from(addr) + u64::from(size) > self.persistent.start {
            let lowest = addr.max(outlives_runs);
            self.narrowed = Some(self.narrowed.map_or(lowest, |narrowed| narrowed.min(lowest)));
        }
        self.run_narrowed |= addr < outlives_runs;
    }

    /// Closes bytes of an object that is no more.
    pub(crate) fn withdraw(&mut self, addr: u32, size: u32) {
        self.generation += 1;
        self.footprint.add(addr, size);
        self.close(addr, size);
    }

    /// Closes bytes that no [`Memory::window`] shows, or that all engines know to be gone: the last run's.
    pub(crate) fn close(&mut self, addr: u32, size: u32) {
        self.readable.set(addr, size, false);
        self.writable.set(addr, size, false);
        if let Some(granted) = &mut self.granted {
            granted.set(addr, size, false);
        }
    }

    /// Whether a byte is open for reading (initialised or not).
    pub fn is_granted(&self, addr: u32) -> bool {
        self.granted.as_ref().unwrap_or(&self.readable).covers_range(addr, 1) || self.writable.covers_range(addr, 1)
    }

    /// The object nearest to the `size` bytes at `addr`, for error messages.
    pub fn nearest(&self, addr: u64, size: u64) -> Option<Nearest> {
        if addr < FAR_START {
            return self.objects.nearest(addr, size);
        }
        self.far.nearest(addr, size)
    }

    // What engines may remember.

    /// A number that changes whenever bytes stop being accessible that a [`Memory::window`] may have shown. What the
    /// start of a run does to the objects of the last one is left out: windows of the run zone are good for one run.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether [`Memory::grant`] or [`Memory::revoke`] has closed bytes of objects that outlive runs, so that what such an
    /// object permits may not be true of all of its bytes.
    pub fn is_narrowed(&self) -> bool {
        self.narrowed.is_some()
    }

    /// The same of the objects of the run that has been prepared: until the next one is.
    pub fn is_run_narrowed(&self) -> bool {
        self.run_narrowed
    }

    /// The accessible bytes around `addr`: as many on both sides, inside its object, as are all open to such an access,
    /// but no more than 64 KiB, so that the cost of looking has a bound.
    /// They stay so until the run ends or [`Memory::generation`] changes. `None` where the byte at `addr` is not open,
    /// and for what opens and closes all the time: stack frames, ring buffer records, far objects.
    pub fn window(&self, addr: u64, access: Access) -> Option<Range<u32>> {
        let addr = u32::try_from(addr).ok().filter(|&addr| u64::from(addr) < self.size)?;
        let bits = match access {
            Access::Read => &self.readable,
            Access::Write => &self.writable,
        };
        let (kind, start, end) = self.objects.at(addr)?;
        match kind {
            ObjectKind::Stack { .. } | ObjectKind::Record { .. } => return None,
            ObjectKind::Context
            | ObjectKind::Packet
            | ObjectKind::MapValue { .. }
            | ObjectKind::Data { .. }
            | ObjectKind::Placed { .. } => {}
        }
        let (start, end) = (start.max(addr.saturating_sub(REACH)), end.min(addr.saturating_add(REACH)));
        let first = bits.last_clear(start, addr - start).map_or(start, |clear| start + clear + 1);
        let last = bits.first_clear(addr, end - addr).map_or(end, |clear| addr + clear);
        (addr < last).then_some(first..last)
    }

    /// Whether what lies at an address goes when the next run starts: contexts and packets.
    pub fn is_fleeting(&self, addr: u32) -> bool {
        (self.run_zone.start..self.run_zone.end).contains(&addr.into())
    }

    // Stack frames.

    /// Zeroes stack frames, so that no run sees what another left.
    pub(crate) fn zero_frames(&mut self, frames: Range<u32>) {
        for frame in frames.start..frames.end.min(MAX_FRAMES) {
            self.zero_frame(frame);
        }
    }

    /// What an engine's hot loop needs; see [`View`].
    #[inline(always)]
    pub fn view(&mut self) -> View<'_> {
        View {
            arena: &mut self.arena,
            readable: self.readable.bytes(),
            writable: self.writable.bytes(),
            tracking: self.granted.is_some(),
        }
    }

    /// Notes that bytes have been written.
    fn initialise(&mut self, addr: u32, len: u32) {
        if let Some(granted) = &self.granted {
            self.readable.copy_from(granted, addr, len);
        }
    }

    // What helpers and tests do.

    /// The `len` bytes at `addr`, if the program may read all of them (or a far object holds them).
    ///
    /// # Errors
    /// The fault that a load of them would be.
    pub fn read(&self, addr: u64, len: u64) -> Result<&[u8], Fault> {
        if addr >= FAR_START {
            return self.far.read(addr, len).ok_or_else(|| self.fault(Access::Read, addr, len));
        }
        match self.bounded(addr, len) {
            Some((start, size)) if self.readable.covers_range(start, size) => {
                let bytes = self.arena.get(start as usize..(start + size) as usize);
                bytes.ok_or_else(|| self.fault(Access::Read, addr, len))
            }
            _ => Err(self.fault(Access::Read, addr, len)),
        }
    }

    /// Writes `bytes` at `addr`, if the program may write all of them.
    ///
    /// # Errors
    /// The fault that a store of them would be; nothing is written then.
    pub fn write(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        let fault = |memory: &Memory| Err(memory.fault(Access::Write, addr, bytes.len() as u64));
        match self.bounded(addr, bytes.len() as u64) {
            Some((start, len)) if self.writable.covers_range(start, len) => {
                self.put(start, bytes);
                self.initialise(start, len);
                Ok(())
            }
            _ => fault(self),
        }
    }

    /// Checks that the program may write `len` bytes at `addr`.
    ///
    /// # Errors
    /// The fault that a store of them would be.
    pub fn check_write(&self, addr: u64, len: u64) -> Result<(), Fault> {
        match self.bounded(addr, len) {
            Some((start, len)) if self.writable.covers_range(start, len) => Ok(()),
            _ => Err(self.fault(Access::Write, addr, len)),
        }
    }

    /// As many bytes at `addr` as the program may read, `max` at most; for strings, whose length is not known.
    pub fn read_up_to(&self, addr: u64, max: u64) -> &[u8] {
        if addr >= FAR_START {
            return self.far.read_up_to(addr, max);
        }
        let max = max.min((self.size - 1).saturating_sub(addr));
        let Some((start, len)) = self.bounded(addr, max) else { return &[] };
        let len = self.readable.first_clear(start, len).unwrap_or(len);
        self.arena.get(start as usize..(start + len) as usize).unwrap_or(&[])
    }

    /// Start and length as arena offsets; `None` where they leave it.
    fn bounded(&self, addr: u64, len: u64) -> Option<(u32, u32)> {
        let end = addr.checked_add(len)?;
        // The last byte of a 4 GiB arena is a red zone, so that every end fits 32 bits.
        (end < self.size).then_some((addr as u32, len as u32))
    }

    fn fault(&self, access: Access, addr: u64, size: u64) -> Fault {
        let allowed = |bitmap: &Bitmap| self.bounded(addr, size).is_some_and(|(a, n)| bitmap.covers_range(a, n));
        let kind = if addr >= FAR_START {
            FaultKind::NotMapped
        } else if addr < NULL_PAGE.into() {
            FaultKind::Null
        } else {
            let granted = self.granted.as_ref().unwrap_or(&self.readable);
            match access {
                // Read-only bytes have been there from the start.
                Access::Read if allowed(granted) && allowed(&self.writable) => FaultKind::Uninitialised,
                // Not what is granted: frames are, open or closed.
                Access::Write if allowed(&self.readable) => FaultKind::ReadOnly,
                Access::Read | Access::Write => FaultKind::OutOfBounds,
            }
        };
        Fault { access, addr, size, kind }
    }

    /// Notes that bytes have been written by [`Memory::zero`] or [`Memory::put`] on the program's behalf.
    pub(crate) fn written(&mut self, addr: u64, len: u64) {
        if let Some((addr, len)) = self.bounded(addr, len) {
            self.initialise(addr, len);
        }
    }

    /// Zeroes a stack frame.
    #[inline]
    pub(crate) fn zero_frame(&mut self, frame: u32) {
        self.zero(frame_base(frame), STACK_FRAME);
    }

    // What maps, contexts and the user-space side do: permissions do not bind them.

    /// The `len` bytes of an object at `addr`; empty outside the arena.
    pub(crate) fn get(&self, addr: u32, len: u32) -> &[u8] {
        self.arena.get(addr as usize..addr as usize + len as usize).unwrap_or(&[])
    }

    /// Overwrites bytes of an object.
    pub(crate) fn put(&mut self, addr: u32, bytes: &[u8]) {
        self.footprint.add(addr, bytes.len() as u32);
        if let Some(place) = self.arena.get_mut(addr as usize..addr as usize + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// As [`Memory::put`], of bytes that have been opened or claimed before: that their pages are in use is known.
    #[inline]
    pub(crate) fn overwrite(&mut self, addr: u32, bytes: &[u8]) {
        let Some(place) = self.arena.get_mut(addr as usize..addr as usize + bytes.len()) else { return };
        // Most keys and values; the compiler makes moves of these.
        match bytes.len() {
            4 => place[..4].copy_from_slice(&bytes[..4]),
            8 => place[..8].copy_from_slice(&bytes[..8]),
            _ => place.copy_from_slice(bytes),
        }
    }

    /// Copies bytes of a table to an object.
    pub(crate) fn copy(&mut self, from: u32, to: u32, len: u32) {
        self.footprint.add(to, len);
        let (from, to, len) = (from as usize, to as usize, len as usize);
        if from.max(to) + len <= self.arena.len() {
            self.arena.copy_within(from..from + len, to);
        }
    }

    /// Zeroes bytes of an object.
    #[inline]
    pub(crate) fn zero(&mut self, addr: u32, len: u32) {
        if let Some(place) = self.arena.get_mut(addr as usize..addr as usize + len as usize) {
            place.fill(0);
        }
    }

    /// Places bytes above 2^32, where kernel and task memory is.
    ///
    /// # Errors
    /// The address is below 2^32, the range wraps around, is empty, or lies over another object.
    pub fn place_far(&mut self, addr: u64, name: &str, bytes: &[u8]) -> Result<(), MemoryError> {
        if self.far.place(addr, name, bytes) {
            Ok(())
        } else {
            Err(MemoryError::BadFarObject { addr, bytes: bytes.len() as u64 })
        }
    }

    /// Removes a far object; whether there was one.
    pub fn remove_far(&mut self, addr: u64) -> bool {
        self.far.remove(addr)
    }

    /// Writes into a far object, as `bpf_probe_write_user` does; whether one holds all of the bytes.
    pub fn write_far(&mut self, addr: u64, bytes: &[u8]) -> bool {
        self.far.write(addr, bytes)
    }
}

/// Guest address of a frame's lowest byte.
pub(crate) fn frame_base(frame: u32) -> u32 {
    STACK_TOP - frame * FRAME_STRIDE - STACK_FRAME
}
