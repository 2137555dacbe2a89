//! The machine as engines see it: what guests' numbers mean, helper calls, stack frames, traps.

use super::{FREE_HELPER_BYTES, Machine};
use crate::context::{ETHERNET_HEADER, Placed};
use crate::engine::{Caller, ProgramId};
use crate::helpers::{Counts, Room, Stop};
use crate::insn::{Imm64, Insn};
use crate::maps::Map;
use crate::memory::{ObjectKind, Permission};
use crate::outcome::{SourceLine, Trap, TrapKind};

/// What guests see as the address of a map: this plus its index times [`MAP_STRIDE`]. Never accessible.
const MAP_HANDLES: u64 = 0xffff_c900_0000_0000;
const MAP_STRIDE: u64 = 0x1000;

/// What guests see as the address of code: this plus the program's index times [`CODE_STRIDE`] plus 8 a slot.
const CODE_ADDRESSES: u64 = 0xffff_e000_0000_0000;
const CODE_STRIDE: u64 = 1 << 24;

impl Machine {
    /// Index of the map behind a guest's map pointer (what [`Machine::imm64`] gives for a map).
    pub fn map_of_handle(&self, handle: u64) -> Option<usize> {
        let offset = handle.checked_sub(MAP_HANDLES)?;
        let index = usize::try_from(offset / MAP_STRIDE).ok()?;
        (offset % MAP_STRIDE == 0 && index < self.maps.len()).then_some(index)
    }

    /// The guest's value of a 64-bit immediate of the instruction at `slot`; `None` when nothing provides it.
    pub fn imm64(&self, program: ProgramId, slot: usize, value: Imm64) -> Option<u64> {
        match value {
            Imm64::Value(value) => Some(value),
            Imm64::MapFd(index) | Imm64::MapIndex(index) => {
                let index = usize::try_from(index).ok().filter(|&index| index < self.maps.len())?;
                Some(MAP_HANDLES + index as u64 * MAP_STRIDE)
            }
            Imm64::MapValue { fd: index, offset } | Imm64::MapIndexValue { index, offset } => {
                let map = self.maps.get(usize::try_from(index).ok()?)?;
                map.direct_value(offset).ok().map(u64::from)
            }
            Imm64::Code(off) => {
                let target = u64::try_from(crate::codec::target_slot(slot, off)).ok()?;
                Some(CODE_ADDRESSES + u64::from(program.0) * CODE_STRIDE + target * 8)
            }
            Imm64::Variable { .. } => None,
        }
    }

    /// The instruction of `program` that a guest's code address names.
    pub fn code_at(&self, program: ProgramId, addr: u64) -> Option<usize> {
        let offset = addr.checked_sub(CODE_ADDRESSES + u64::from(program.0) * CODE_STRIDE)?;
        let code = self.program(program)?.code();
        if offset % 8 == 0 { code.index_at(usize::try_from(offset / 8).ok()?) } else { None }
    }

    /// Whether a guest's address is that of an instruction of some program.
    pub(crate) fn is_code(&self, addr: u64) -> bool {
        let program = addr.checked_sub(CODE_ADDRESSES).and_then(|offset| u32::try_from(offset / CODE_STRIDE).ok());
        program.is_some_and(|program| self.code_at(ProgramId(program), addr).is_some())
    }

    /// Begins a walk over a map's elements for a helper: the guest address where their keys will stand, readable until
    /// the run ends. `None` when guest memory is full.
    pub(crate) fn begin_walk(&mut self, map: usize) -> Option<u32> {
        let place = (self.walks, map);
        let key = match self.walk_keys.iter().find(|(known, _)| *known == place) {
            Some((_, key)) => *key,
            None => {
                let info = self.maps.get(map)?;
                let kind = ObjectKind::Placed { name: format!("key of map {}", info.name()).into() };
                let key = self.memory.allocate_for_run(kind, info.key_size(), Permission::Read).ok()?;
                self.walk_keys.push((place, key));
                key
            }
        };
        self.maps.get_mut(map)?.begin_walk();
        self.walks += 1;
        Some(key)
    }

    /// Ends the walk that was begun last.
    pub(crate) fn end_walk(&mut self, map: usize) {
        self.walks -= 1;
        self.maps[map].end_walk();
    }

    /// A map by its index, to look at; `None` behind the last.
    pub fn map_info(&self, index: usize) -> Option<&Map> {
        self.maps.get(index)
    }

    /// How the context of this run, or of the last one, lies in guest memory.
    pub fn placed(&self) -> &Placed {
        &self.placed
    }

    /// Whether a helper has a mock.
    pub fn is_mocked(&self, number: i32) -> bool {
        self.helpers.is_mocked(number)
    }

    /// Whether any helper has a mock: a mock may change the world in the middle of a run.
    pub fn has_mocks(&self) -> bool {
        self.helpers.has_mocks()
    }

    /// How often each helper was called, for engines that do without [`Machine::call_helper`] where they know what it
    /// would do.
    pub fn call_counts(&mut self) -> &mut Counts {
        self.helpers.counts()
    }

    /// What `bpf_map_lookup_elem` gives for the map with this index and the key at a guest address, for engines that know
    /// the map; `None` where the helper must be asked: the key cannot be read, or is long, or there is no such map.
    #[inline]
    pub fn lookup(&mut self, index: usize, key: u64) -> Option<u64> {
        let cpu = self.cpu();
        let (map, memory) = (self.maps.get_mut(index)?, &mut self.memory);
        let size = u64::from(map.key_size());
        if size > FREE_HELPER_BYTES {
            return None;
        }
        let mut room = Room::EMPTY;
        let key = room.copy(memory.read(key, size).ok()?);
        Some(map.lookup(memory, cpu, key).map_or(0, u64::from))
    }

    /// Calls of each helper that are kept with their arguments; further ones are only counted. The same for as long as
    /// [`Machine::load_id`] is.
    pub fn kept_calls(&self) -> u32 {
        self.helpers.kept_calls()
    }

    /// Whether calls of this helper are only counted from now on: those that an engine may count itself.
    pub fn log_full(&self, number: i32) -> bool {
        self.helpers.log_full(number)
    }

    /// Counts a call of a helper whose log is full.
    pub fn count_call(&mut self, number: i32) {
        self.helpers.count_call(number);
    }

    /// Calls a helper, or its mock; `caller` is what runs the program, and is asked for calls back into it.
    ///
    /// # Errors
    /// What the helper wants of the engine instead of a value in `r0`: see [`Stop`].
    pub fn call_helper(&mut self, caller: &mut dyn Caller, number: i32, args: &[u64; 5]) -> Result<u64, Stop> {
        crate::helpers::call(self, caller, number, args)
    }

    /// What is to be said of a tail call to a program that cannot be run.
    pub fn bad_program(&self, program: ProgramId) -> TrapKind {
        let name = self.programs.get(program.index()).map_or_else(|| "".into(), |loaded| loaded.info.name.clone());
        TrapKind::BadProgram { index: program.0, name }
    }

    /// Describes a trap of the instruction with index `index`; `callers` are program and instruction of each call.
    pub fn trap(
        &self,
        kind: TrapKind,
        program: ProgramId,
        index: usize,
        registers: [u64; 11],
        callers: impl Iterator<Item = (ProgramId, usize)>,
    ) -> Box<Trap> {
        let name =
            |id: ProgramId| self.programs.get(id.index()).map_or_else(|| "".into(), |loaded| loaded.info.name.clone());
        let slot_of = |id, index| self.program(id).and_then(|program| program.code().slot_of(index)).unwrap_or(index);
        let slot = slot_of(program, index);
        let code = self.program(program);
        let fault = kind.fault();
        Box::new(Trap {
            nearest: fault.and_then(|fault| self.memory.nearest(fault.addr, fault.size)),
            kind,
            program: name(program),
            function: code.and_then(|code| code.function_at(slot)).map(|function| function.name.clone()),
            slot,
            insn: code.and_then(|code| code.code().insns().get(index)).copied(),
            line: code.and_then(|code| code.line_at(slot)).map(|line| SourceLine {
                file: line.file.to_owned(),
                line: line.line,
                column: line.column,
                text: line.text.to_owned(),
            }),
            registers,
            callers: callers.map(|(id, index)| (name(id), slot_of(id, index))).collect(),
        })
    }

    pub(super) fn trap_at_end(&self, program: ProgramId, kind: TrapKind) -> Box<Trap> {
        let insns = self.program(program).map_or(&[][..], |program| program.code().insns());
        let exit = insns.iter().position(|insn| *insn == Insn::Exit).unwrap_or(0);
        self.trap(kind, program, exit, [0; 11], std::iter::empty())
    }

    /// Closes the stack frames from the first to the one of a call `depth` deep, when a run has ended.
    #[inline]
    pub fn close_frames(&mut self, depth: u32) {
        self.memory.view().pop_frame(0);
        for frame in 1..=depth {
            self.close_callee(frame);
        }
    }

    #[inline(never)]
    fn close_callee(&mut self, frame: u32) {
        self.memory.view().pop_frame(frame);
    }

    /// Zeroes the stack frames from the first to the one of a call `deepest` deep, so that no run sees what another left.
    #[inline]
    pub fn zero_frames(&mut self, deepest: u32) {
        self.memory.zero_frame(0);
        if deepest > 0 {
            self.memory.zero_frames(1..deepest + 1);
        }
    }

    /// A stack frame as a tail call finds it.
    pub fn fresh_frame(&mut self, frame: u32) {
        self.memory.view().push_frame(frame);
        self.memory.zero_frame(frame);
    }

    /// The packet's bytes as they are now, if the context has one.
    pub fn packet(&self) -> Option<&[u8]> {
        let (addr, size) = self.placed.packet?;
        Some(self.memory.get(addr, size))
    }

    /// The `size` packet bytes at a legacy load's offset; `None` outside the packet. Negative offsets count from the
    /// network header (`SKF_NET_OFF`) or the link layer's (`SKF_LL_OFF`): `bpf_internal_load_pointer_neg_helper`.
    pub fn packet_bytes(&self, offset: i32, size: u32) -> Option<&[u8]> {
        const NETWORK: i32 = -0x10_0000;
        const LINK_LAYER: i32 = -0x20_0000;
        let start = match offset {
            0.. => offset,
            NETWORK..0 => offset - NETWORK + i32::from(ETHERNET_HEADER),
            LINK_LAYER..NETWORK => offset - LINK_LAYER,
            _ => return None,
        };
        let start = usize::try_from(start).ok()?;
        self.packet()?.get(start..start.checked_add(size as usize)?)
    }
}
