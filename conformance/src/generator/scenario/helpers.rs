//! Calls of helpers: maps, the world, tail calls.

use arbitrary::Result;
use softbpf::insn::{Callee, Imm64, Insn, Reg, Size};
use softbpf::map_spec::{MapSpec, MapType};

use super::layout;
use super::maker::{BUFFERS, Maker};
use super::state::{Room, Value};
use crate::generator::values;
use crate::model::helpers as numbers;

/// Helpers without arguments.
const SIMPLE: [i32; 5] = [
    numbers::KTIME_GET_NS,
    numbers::GET_PRANDOM_U32,
    numbers::GET_SMP_PROCESSOR_ID,
    numbers::GET_CURRENT_PID_TGID,
    numbers::GET_CURRENT_UID_GID,
];

/// Numbers that no helper has.
const UNKNOWN: [i32; 5] = [5000, 0, -1, i32::MAX, 0xff_0001];

/// Maps with elements.
const MAPS: [i32; 7] =
    [layout::OUT, layout::DATA, layout::RODATA, layout::ARRAY, layout::PERCPU, layout::HASH, layout::LRU];

/// Flags of updates, the first one the most often.
const FLAGS: [i32; 10] = [0, 0, 0, 0, 1, 2, 3, 4, 5, -1];

impl Maker<'_, '_> {
    pub(super) fn simple_helper(&mut self) -> Result<()> {
        if self.hostile(40)? {
            // What no kernel is there to provide.
            let dst = self.target()?;
            let variable = Insn::LoadImm64 { dst, value: Imm64::Variable { btf_id: 7, btf_fd: 0 } };
            let function = Insn::Call(Callee::Kfunc { btf_id: 7, module: 0 });
            let insn = *self.u.choose(&[variable, function])?;
            self.push(insn);
            return Ok(());
        }
        let number = if self.hostile(10)? { *self.u.choose(&UNKNOWN)? } else { *self.u.choose(&SIMPLE)? };
        if self.chance(1, 8)? {
            // By its number in a register.
            let reg = self.target()?;
            self.push(Insn::mov(reg, number));
            self.push(Insn::Call(Callee::Reg(reg)));
        } else {
            self.push(Insn::Call(Callee::Helper(number)));
        }
        self.state.after_helper(Value::Number);
        if self.u.arbitrary()? { self.reveal(Reg::R0) } else { Ok(()) }
    }

    /// A helper that writes memory: over a spilled word and what is around it, or elsewhere.
    pub(super) fn task_name(&mut self, off: i16) -> Result<()> {
        let size = self.u.int_in_range(1..=20)?;
        let before = self.u.int_in_range(0..=size - 1)?;
        let first = i32::from(off) - before;
        let pinned = (0..size).any(|byte| self.state.is_pinned_word(((first + byte).div_euclid(8) * 8) as i16));
        if pinned || first + size > 0 || self.u.arbitrary()? {
            self.pointer_to(Reg::R1, Self::need(size, true))?;
        } else {
            self.push(Insn::mov(Reg::R1, Reg::R10));
            self.push(Insn::add(Reg::R1, first));
            self.state.clear_words(first as i16, size as i16);
        }
        let size = if self.hostile(20)? { *self.u.choose(&[0, -1, 600])? } else { size };
        self.push(Insn::mov(Reg::R2, size));
        self.push(Insn::Call(Callee::Helper(numbers::GET_CURRENT_COMM)));
        self.state.after_helper(Value::Number);
        Ok(())
    }

    fn some_map(&mut self) -> Result<(i32, MapSpec)> {
        // The maps with more than one element are the more interesting.
        let map = match self.u.int_in_range(0..=5)? {
            0..=2 => self.plan.favourite,
            3 | 4 => *self.u.choose(&MAPS[3..])?,
            _ => *self.u.choose(&MAPS)?,
        };
        Ok((map, self.plan.maps[map as usize].clone()))
    }

    /// The map in `r1`.
    fn map(&mut self, map: i32) -> Result<()> {
        let value = match (self.hostile(80)?, self.u.int_in_range(0..=3)?) {
            (false, _) => Imm64::MapFd(map),
            (true, 0) => Imm64::MapFd(layout::SLOTS_MAP),
            (true, 1) => Imm64::MapFd(99),
            (true, 2) => Imm64::MapValue { fd: layout::DATA, offset: 0 },
            (true, _) => Imm64::Value(values::value(self.u)?),
        };
        self.push(Insn::LoadImm64 { dst: Reg::R1, value });
        Ok(())
    }

    /// A key in memory, its address in `r2`; whether an array surely has it.
    fn key(&mut self, spec: &MapSpec) -> Result<bool> {
        let size = spec.key_size as i32;
        if self.hostile(60)? {
            let insn = values::load(self.u, Reg::R2)?;
            self.push(insn);
            return Ok(false);
        }
        if self.chance(1, 8)? {
            self.pointer_to(Reg::R2, Self::need(size, false))?;
            return Ok(false);
        }
        // One more than there are: one that is not there.
        let index = self.u.int_in_range(0..=spec.max_entries as i32)?;
        let first = -512 + 8 * self.u.int_in_range(0..=2)?;
        let off = if self.chance(1, 4)? { i32::from(BUFFERS) - size } else { first };
        let mut sure = index < spec.max_entries as i32;
        if size < 8 && self.u.arbitrary()? {
            for byte in 0..size {
                self.push(Insn::store(Size::B, Reg::R10, (off + byte) as i16, if byte == 0 { index } else { 0 }));
            }
        } else {
            // What does not fit lies behind the key.
            let mut at = 0;
            while at < size {
                let part = if size - at >= 8 || off + at + 8 <= i32::from(BUFFERS) { Size::DW } else { Size::B };
                self.push(Insn::store(part, Reg::R10, (off + at) as i16, if at == 0 { index } else { 0 }));
                at += part.bytes() as i32;
            }
        }
        if self.chance(1, 10)? {
            let src = self.any_register()?;
            self.push(Insn::store(Size::B, Reg::R10, off as i16, src));
            sure = false;
        }
        self.push(Insn::mov(Reg::R2, Reg::R10));
        self.push(Insn::add(Reg::R2, off));
        Ok(sure)
    }

    pub(super) fn lookup(&mut self) -> Result<()> {
        let (map, spec) = self.some_map()?;
        let sure = self.key(&spec)?;
        self.map(map)?;
        self.push(Insn::Call(Callee::Helper(numbers::MAP_LOOKUP_ELEM)));
        self.state.after_helper(Value::Number);
        if self.chance(1, 4)? {
            self.reveal(Reg::R0)?;
        }
        let room = Room { writable: spec.map_flags & 0x80 == 0, ..Room::new(spec.value_size as i32) };
        let is_array = [MapType::Array, MapType::PercpuArray].contains(&spec.map_type);
        if is_array && sure && self.u.arbitrary()? || self.hostile(40)? {
            // Not checked: an array has the element (or the program is hostile).
            self.set_pointer(Reg::R0, room);
            return self.access_at(Reg::R0, room);
        }
        // Checked here or in a copy, for a few statements or for all that follow.
        let end = self.label();
        let reg = if self.u.arbitrary()? { Reg::R0 } else { self.target()? };
        if reg != Reg::R0 {
            self.push(Insn::mov(reg, Reg::R0));
        }
        let checked = if self.u.arbitrary()? { reg } else { Reg::R0 };
        if is_array && sure && self.u.arbitrary()? {
            let exit = self.exit;
            self.if_zero(checked, exit)?;
            self.set_pointer(reg, room);
            return self.access_at(reg, room);
        }
        self.if_zero(checked, end)?;
        let missing = self.state.clone();
        self.set_pointer(reg, room);
        self.access_at(reg, room)?;
        self.block(3)?;
        self.place(end);
        self.state.join(&missing);
        Ok(())
    }

    pub(super) fn update(&mut self) -> Result<()> {
        let (map, spec) = self.some_map()?;
        let helper = if self.chance(1, 4)? { numbers::MAP_DELETE_ELEM } else { numbers::MAP_UPDATE_ELEM };
        self.update_in(map, &spec, helper)
    }

    /// What happens to a few keys of one map, and where their values are then.
    pub(super) fn history(&mut self) -> Result<()> {
        let map = if self.u.arbitrary()? { layout::HASH } else { layout::LRU };
        let spec = self.plan.maps[map as usize].clone();
        for _ in 0..self.u.int_in_range(2..=6)? {
            match self.u.int_in_range(0..=5)? {
                0 => {
                    self.key(&spec)?;
                    self.map(map)?;
                    self.push(Insn::Call(Callee::Helper(numbers::MAP_LOOKUP_ELEM)));
                    self.state.after_helper(Value::Number);
                    self.reveal(Reg::R0)?;
                }
                1 | 2 => self.update_in(map, &spec, numbers::MAP_DELETE_ELEM)?,
                _ => self.update_in(map, &spec, numbers::MAP_UPDATE_ELEM)?,
            }
        }
        Ok(())
    }

    fn update_in(&mut self, map: i32, spec: &MapSpec, helper: i32) -> Result<()> {
        self.key(spec)?;
        if helper == numbers::MAP_UPDATE_ELEM {
            if self.hostile(80)? {
                let insn = values::load(self.u, Reg::R3)?;
                self.push(insn);
            } else {
                self.pointer_to(Reg::R3, Self::need(spec.value_size as i32, false))?;
            }
            let flags = *self.u.choose(&FLAGS)?;
            self.push(Insn::mov(Reg::R4, flags));
        }
        self.map(map)?;
        self.push(Insn::Call(Callee::Helper(helper)));
        self.state.after_helper(Value::Number);
        if self.chance(1, 4)? { self.reveal(Reg::R0) } else { Ok(()) }
    }

    /// Goes on in another program, or behind the call.
    pub(super) fn tail_call(&mut self) -> Result<()> {
        if self.returns_pointer || !self.has_context() && !self.hostile(20)? {
            return self.access();
        }
        self.context(Reg::R1)?;
        let map = if self.hostile(60)? { layout::ARRAY } else { layout::SLOTS_MAP };
        self.push(Insn::LoadImm64 { dst: Reg::R2, value: Imm64::MapFd(map) });
        // The last ones are no slots.
        let slot = self.u.int_in_range(0..=i32::try_from(layout::SLOTS).unwrap_or(0) + 1)?;
        let insn = match self.u.int_in_range(0..=3)? {
            0 => Insn::load_imm64(Reg::R3, 1 << 32 | slot as u64),
            1 => Insn::mov(Reg::R3, -1),
            _ => Insn::mov(Reg::R3, slot),
        };
        self.push(insn);
        self.push(Insn::Call(Callee::Helper(numbers::TAIL_CALL)));
        self.state.after_helper(Value::Number);
        Ok(())
    }
}
