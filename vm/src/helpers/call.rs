//! A helper call as its implementation, or its mock, sees it: typed views of the arguments.
//!
//! Guest memory is reached through checked views only: an argument that points where the program may not go is
//! a trap that names helper and argument. How large the memory behind an argument is, the helper's row says.

use std::fmt;
use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};

use super::table::{ArgKind, HelperRow};
use super::{Stop, helper_name};
use crate::engine::Caller;
use crate::machine::Machine;
use crate::map_spec::MapType;
use crate::maps::{Map, MapHandle};
use crate::memory::{Access, Fault, FaultKind, Memory, MemoryError};
use crate::outcome::{ArgumentProblem, TrapKind};
use crate::world::World;

/// Longest string that a helper reads, the end included: the kernel's limit for format strings and names.
pub const MAX_STRING: u64 = 4096;

/// A helper call in progress. Arguments are numbered from 0.
pub struct Call<'m> {
    pub(super) machine: &'m mut Machine,
    pub(super) caller: &'m mut dyn Caller,
    pub(super) number: i32,
    pub(super) row: Option<&'static HelperRow>,
    pub(super) args: &'m [u64; 5],
}

impl fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("number", &self.number).field("args", &self.args).finish_non_exhaustive()
    }
}

impl Call<'_> {
    /// The helper's name, without `bpf_`; its number for one that the kernel does not know.
    pub fn name(&self) -> String {
        helper_name(self.number)
    }

    /// Argument `index` as a number; 0 for an argument that no helper has.
    pub fn arg(&self, index: usize) -> u64 {
        self.args.get(index).copied().unwrap_or(0)
    }

    /// The five argument registers.
    pub fn args(&self) -> [u64; 5] {
        *self.args
    }

    /// The machine's world.
    pub fn world(&mut self) -> &mut World {
        &mut self.machine.world
    }

    /// The `len` bytes at any guest address that the program may read, or of a far object.
    ///
    /// # Errors
    /// A trap: the program may not read them.
    pub fn read_at(&self, addr: u64, len: u64) -> Result<&[u8], Stop> {
        self.machine.memory.read(addr, len).map_err(|fault| Stop::trap(TrapKind::Memory(fault)))
    }

    /// Writes to any guest address that the program may write.
    ///
    /// # Errors
    /// A trap: the program may not write there.
    pub fn write_at(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Stop> {
        self.machine.memory.write(addr, bytes).map_err(|fault| Stop::trap(TrapKind::Memory(fault)))
    }

    /// Places kernel or user memory at an address above 2^32, as [`Machine::place_at`] does.
    ///
    /// # Errors
    /// The address is below 2^32, or another object lies there.
    pub fn place_at(&mut self, addr: u64, name: &str, bytes: &[u8]) -> Result<(), MemoryError> {
        self.machine.place_at(addr, name, bytes)
    }

    /// The map that argument `index` points to.
    ///
    /// # Errors
    /// A trap: the argument is no map.
    pub fn map(&mut self, index: usize) -> Result<MapHandle<'_>, Stop> {
        let map = self.map_index(index)?;
        Ok(self.machine.handle(map))
    }

    /// The bytes behind argument `index`: as many as the helper's prototype says, by the size argument after it, the
    /// map's key or value size, or the fixed size of a structure.
    ///
    /// # Errors
    /// A trap: the program may not read them, or the prototype has no memory there.
    pub fn bytes(&self, index: usize) -> Result<&[u8], Stop> {
        self.sized_bytes(index, self.size_of(index)?)
    }

    /// The `len` bytes behind argument `index`.
    #[inline]
    pub(super) fn sized_bytes(&self, index: usize, len: u64) -> Result<&[u8], Stop> {
        if len == 0 {
            return Ok(&[]);
        }
        let bytes = self.machine.memory.read(self.arg(index), len).map_err(|fault| self.refused(index, fault))?;
        self.charge(len)?;
        Ok(bytes)
    }

    /// The bytes behind argument `index` as a value; what is missing at the end counts as 0.
    ///
    /// # Errors
    /// As [`Call::bytes`].
    pub fn read<T: AnyBitPattern + NoUninit>(&self, index: usize) -> Result<T, Stop> {
        let bytes = self.bytes(index)?;
        let mut value = T::zeroed();
        for (place, byte) in bytemuck::bytes_of_mut(&mut value).iter_mut().zip(bytes) {
            *place = *byte;
        }
        Ok(value)
    }

    /// Writes to the start of the memory behind argument `index`.
    ///
    /// # Errors
    /// A trap: the program may not write there, or the memory is smaller than `bytes`.
    pub fn write(&mut self, index: usize, bytes: &[u8]) -> Result<(), Stop> {
        let (size, given) = (self.size_of(index)?, bytes.len() as u64);
        if given > size {
            return Err(self.bad_argument(index, ArgumentProblem::TooLong { given, size }));
        }
        self.machine.memory.write(self.arg(index), bytes).map_err(|fault| self.refused(index, fault))
    }

    /// Makes sure that the whole memory behind argument `index` may be written; its size.
    ///
    /// # Errors
    /// A trap: it may not.
    pub fn check_write(&self, index: usize) -> Result<u64, Stop> {
        let size = self.size_of(index)?;
        if size > 0 {
            self.machine.memory.check_write(self.arg(index), size).map_err(|fault| self.refused(index, fault))?;
            self.charge(size)?;
        }
        Ok(size)
    }

    /// Fills the memory behind argument `index` with zeros, as helpers do with a buffer that they could not fill.
    ///
    /// # Errors
    /// A trap: it may not be written.
    pub fn clear(&mut self, index: usize) -> Result<(), Stop> {
        let size = self.check_write(index)?;
        self.machine.memory.zero(self.arg(index) as u32, size as u32);
        self.machine.memory.written(self.arg(index), size);
        Ok(())
    }

    /// The NUL-terminated string behind argument `index`, without its end.
    ///
    /// # Errors
    /// A trap: it does not end within what the program may read, or within [`MAX_STRING`] bytes.
    pub fn string(&self, index: usize) -> Result<String, Stop> {
        let addr = self.arg(index);
        let bytes = self.machine.memory.read_up_to(addr, MAX_STRING);
        match bytes.iter().position(|&byte| byte == 0) {
            Some(end) => Ok(String::from_utf8_lossy(&bytes[..end]).into_owned()),
            None => Err(self.bad_argument(index, ArgumentProblem::UnterminatedString { addr })),
        }
    }

    /// Calls a function of the running program, as helpers that take one ([`ArgKind::Function`]) do: `function` is its
    /// guest address, `args` are its `r1` to `r5`; its `r0`.
    ///
    /// # Errors
    /// A trap, to be passed on: there is no such function, no stack frame left, or the function trapped.
    pub fn call_back(&mut self, function: u64, args: [u64; 5]) -> Result<u64, Stop> {
        self.caller.call_back(self.machine, function, args)
    }

    /// Stops the program with a reason, for mocks that find something they must not see.
    pub fn stop(&self, reason: impl Into<String>) -> Stop {
        Stop::trap(TrapKind::Stopped { helper: self.name().into(), reason: reason.into() })
    }

    /// Index of the map that argument `index` points to.
    pub(super) fn map_index(&self, index: usize) -> Result<usize, Stop> {
        let value = self.arg(index);
        self.machine.map_of_handle(value).ok_or_else(|| self.bad_argument(index, ArgumentProblem::NotAMap { value }))
    }

    /// The map behind argument `index`, and the memory that its values are in.
    pub(super) fn map_and_memory(&mut self, index: usize) -> Result<(&mut Map, &mut Memory), Stop> {
        let map = self.map_index(index)?;
        Ok(self.machine.map_and_memory(map))
    }

    /// The map behind argument `index` as what its type is besides keys and values: its name, that, and guest memory.
    pub(super) fn map_of<T>(
        &mut self,
        index: usize,
        wanted: MapType,
        part: fn(&mut Map) -> Option<&mut T>,
    ) -> Result<(Arc<str>, &mut T, &mut Memory), Stop> {
        self.expect_type(index, |map_type| map_type == wanted)?;
        let value = self.arg(index);
        let not_a_map = self.bad_argument(index, ArgumentProblem::NotAMap { value });
        let (map, memory) = self.map_and_memory(index)?;
        let name = map.name().clone();
        Ok((name, part(map).ok_or(not_a_map)?, memory))
    }

    /// Makes sure that argument `index` is a map of a type that the helper works on.
    pub(super) fn expect_type(&self, index: usize, works: impl Fn(MapType) -> bool) -> Result<(), Stop> {
        let map = self.machine.map_at(self.map_index(index)?);
        if works(map.map_type()) {
            return Ok(());
        }
        let problem = ArgumentProblem::WrongMapType { map: map.name().clone(), map_type: map.map_type().name() };
        Err(self.bad_argument(index, problem))
    }

    /// Argument `index`, which is the address of a function, of whichever program.
    pub(super) fn function(&self, index: usize) -> Result<u64, Stop> {
        let target = self.arg(index);
        if self.machine.is_code(target) { Ok(target) } else { Err(Stop::trap(TrapKind::BadCallTarget { target })) }
    }

    /// Accounts for bytes that the helper is about to touch.
    pub(super) fn charge(&self, bytes: u64) -> Result<(), Stop> {
        if self.machine.charge(bytes) { Ok(()) } else { Err(Stop::trap(TrapKind::HelperBytes)) }
    }

    /// What argument `index` of the prototype is.
    fn kind(&self, index: usize) -> Option<ArgKind> {
        self.row?.args.get(index).copied()
    }

    /// Bytes of memory behind argument `index`, by the prototype. 0 when it is null where that is allowed.
    fn size_of(&self, index: usize) -> Result<u64, Stop> {
        let Some(kind) = self.kind(index) else {
            return Err(self.bad_argument(index, ArgumentProblem::NotMemory));
        };
        let sized = |call: &Self| {
            let size = call.arg(index + 1);
            match call.kind(index + 1) {
                Some(ArgKind::Size) if size == 0 => Err(call.bad_argument(index + 1, ArgumentProblem::ZeroSize)),
                _ => Ok(size),
            }
        };
        match kind {
            ArgKind::MapKey => Ok(self.nearest_map(index)?.key_size().into()),
            ArgKind::MapValue | ArgKind::MapValueUninit => Ok(self.nearest_map(index)?.value_size().into()),
            ArgKind::MapValueOrNull if self.arg(index) == 0 => Ok(0),
            ArgKind::MapValueOrNull => Ok(self.nearest_map(index)?.value_size().into()),
            ArgKind::Mem | ArgKind::InOutMem | ArgKind::UninitMem => sized(self),
            // Null goes with size 0 only.
            ArgKind::MemOrNull | ArgKind::UninitMemOrNull if self.arg(index) == 0 => match self.arg(index + 1) {
                0 => Ok(0),
                size => Err(self.refused(index, Fault { access: Access::Read, addr: 0, size, kind: FaultKind::Null })),
            },
            ArgKind::MemOrNull | ArgKind::UninitMemOrNull => sized(self),
            ArgKind::FixedMem(size) | ArgKind::InOutFixedMem(size) | ArgKind::UninitFixedMem(size) => Ok(size.into()),
            ArgKind::Dynptr | ArgKind::UninitDynptr | ArgKind::Timer => Ok(16),
            ArgKind::SpinLock => Ok(4),
            ArgKind::Kptr => Ok(8),
            ArgKind::Scalar
            | ArgKind::Address
            | ArgKind::Context
            | ArgKind::ContextOrNull
            | ArgKind::ContextOrBtf
            | ArgKind::Map
            | ArgKind::Size
            | ArgKind::SizeOrZero
            | ArgKind::AllocSize
            | ArgKind::Str
            | ArgKind::Function
            | ArgKind::StackOrNull
            | ArgKind::Record
            | ArgKind::Btf
            | ArgKind::BtfOrNull => Err(self.bad_argument(index, ArgumentProblem::NotMemory)),
        }
    }

    /// The map that is an argument before `index`.
    fn nearest_map(&self, index: usize) -> Result<&Map, Stop> {
        let map = (0..index).rev().find(|&i| self.kind(i) == Some(ArgKind::Map)).unwrap_or(0);
        Ok(self.machine.map_at(self.map_index(map)?))
    }

    /// Checks every argument against the prototype, as the verifier would have: for mocks, which need not look.
    pub(super) fn check(&self) -> Result<(), Stop> {
        let Some(row) = self.row else { return Ok(()) };
        for (index, kind) in row.args.iter().enumerate() {
            match kind {
                ArgKind::Map => {
                    self.map_index(index)?;
                }
                ArgKind::MapKey
                | ArgKind::MapValue
                | ArgKind::MapValueOrNull
                | ArgKind::Mem
                | ArgKind::MemOrNull
                | ArgKind::FixedMem(_) => {
                    self.bytes(index)?;
                }
                ArgKind::InOutMem | ArgKind::InOutFixedMem(_) => {
                    self.bytes(index)?;
                    self.check_write(index)?;
                }
                ArgKind::MapValueUninit
                | ArgKind::UninitMem
                | ArgKind::UninitMemOrNull
                | ArgKind::UninitFixedMem(_)
                | ArgKind::UninitDynptr => {
                    self.check_write(index)?;
                }
                ArgKind::Context => self.check_context(index)?,
                ArgKind::Str => {
                    self.string(index)?;
                }
                ArgKind::Scalar
                | ArgKind::Address
                | ArgKind::ContextOrNull
                | ArgKind::ContextOrBtf
                | ArgKind::Size
                | ArgKind::SizeOrZero
                | ArgKind::AllocSize
                | ArgKind::Function
                | ArgKind::StackOrNull
                | ArgKind::Record
                | ArgKind::Dynptr
                | ArgKind::Btf
                | ArgKind::BtfOrNull
                | ArgKind::SpinLock
                | ArgKind::Timer
                | ArgKind::Kptr => {}
            }
        }
        Ok(())
    }

    /// Makes sure that argument `index` is the context.
    pub(super) fn check_context(&self, index: usize) -> Result<(), Stop> {
        let value = self.arg(index);
        if value == self.machine.context_address() {
            Ok(())
        } else {
            Err(self.bad_argument(index, ArgumentProblem::NotContext { value }))
        }
    }

    pub(super) fn refused(&self, index: usize, fault: Fault) -> Stop {
        self.bad_argument(index, ArgumentProblem::Memory(fault))
    }

    pub(super) fn bad_argument(&self, index: usize, problem: ArgumentProblem) -> Stop {
        Stop::trap(TrapKind::BadArgument { helper: self.name().into(), index, problem })
    }
}
