//! Pointers and accesses.

use arbitrary::Result;
use softbpf::insn::{AluOp, AtomicOp, Imm64, Insn, Operand, Reg, Size, SwapWidth, Width};

use super::layout;
use super::maker::{BUFFERS, Maker};
use super::state::{Room, Value};
use crate::generator::values;

/// The whole stack.
const FRAME: i16 = 512;

impl Maker<'_, '_> {
    // Making pointers.

    pub(super) fn new_pointer(&mut self) -> Result<()> {
        let dst = self.target()?;
        let above = self.u.int_in_range(1..=16)?;
        let writable = self.u.arbitrary()?;
        self.pointer_to(dst, Self::need(above, writable))
    }

    /// Makes a register point to this room: a pointer that there is already, or a new one. Only what calls keep is
    /// taken, so that arguments can be made in order.
    pub(super) fn pointer_to(&mut self, dst: Reg, need: Room) -> Result<()> {
        let kept = self.state.pointers(&Reg::ALL[6..10], need);
        let spilled = self.state.spilled(need);
        match self.u.int_in_range(0..=7)? {
            0..=2 if !kept.is_empty() => {
                let src = *self.u.choose(&kept)?;
                self.push(Insn::mov(dst, src));
            }
            3 | 4 if !spilled.is_empty() => {
                let off = *self.u.choose(&spilled)?;
                self.push(Insn::load(Size::DW, dst, Reg::R10, off));
            }
            5 | 6 => {
                let maps = [layout::OUT, layout::DATA, layout::RODATA];
                let map = *self.u.choose(if need.writable { &maps[..2] } else { &maps })?;
                self.value_pointer(dst, map, need)?;
            }
            _ => self.stack_pointer(dst, need)?,
        }
        Ok(())
    }

    /// Points into the part of the stack where buffers are.
    pub(super) fn stack_pointer(&mut self, dst: Reg, need: Room) -> Result<()> {
        let (first, last) = (need.below - i32::from(FRAME), i32::from(BUFFERS) - need.above);
        let off = match self.u.int_in_range(0..=3)? {
            0 => first,
            1 => last,
            _ => self.u.int_in_range(first..=last)?,
        };
        self.push(Insn::mov(dst, Reg::R10));
        self.push(Insn::add(dst, off));
        let room = Room { above: i32::from(BUFFERS) - off, ..Room { below: off + i32::from(FRAME), ..Room::new(0) } };
        self.set_pointer(dst, room);
        Ok(())
    }

    fn value_pointer(&mut self, dst: Reg, map: i32, need: Room) -> Result<()> {
        let spec = &self.plan.maps[map as usize];
        let (size, writable) = (spec.value_size as i32, spec.map_flags == 0);
        if size < need.bytes() {
            return self.stack_pointer(dst, need);
        }
        let last = size - need.above;
        let offset = if self.u.arbitrary()? { last } else { self.u.int_in_range(need.below..=last)? };
        let wild = self.hostile(200)?;
        let offset = if wild { size } else { offset };
        self.push(Insn::LoadImm64 { dst, value: Imm64::MapValue { fd: map, offset: offset as u32 } });
        self.set_pointer(dst, Room { below: offset, above: size - offset, writable, context: false });
        Ok(())
    }

    /// A register that points somewhere, an old one or a new one.
    pub(super) fn some_pointer(&mut self) -> Result<(Reg, Room)> {
        let one = Self::need(1, false);
        let old = self.state.pointers(&Reg::ALL[..10], one);
        let base = if old.is_empty() || self.chance(1, 4)? {
            if self.chance(1, 3)? {
                return Ok((Reg::R10, Room { below: FRAME.into(), above: BUFFERS.into(), ..Room::new(0) }));
            }
            let dst = self.target()?;
            self.pointer_to(dst, Self::need(8, self.plan.knobs.atomics))?;
            dst
        } else {
            *self.u.choose(&old)?
        };
        Ok((base, self.state.get(base).room().unwrap_or(Room::new(0))))
    }

    // Accesses.

    pub(super) fn access(&mut self) -> Result<()> {
        let (base, room) = self.some_pointer()?;
        self.access_at(base, room)
    }

    /// An access through a pointer: in its room, often at the edge, and now and then beside it.
    pub(super) fn access_at(&mut self, base: Reg, room: Room) -> Result<()> {
        if self.hostile(300)? {
            // Whatever a register holds.
            let (base, dst) = (self.any_register()?, self.target()?);
            let (size, off) = (self.size()?, *self.u.choose(&[0, -8, 8, i16::MIN, i16::MAX])?);
            self.push(Insn::load(size, dst, base, off));
            return Ok(());
        }
        let mut size = self.size()?;
        while room.bytes() < size.bytes() as i32 && size != Size::B {
            size = smaller(size);
        }
        if room.bytes() < size.bytes() as i32 {
            return self.number(base);
        }
        let off = self.offset(base, room, size)?;
        let writes = room.writable || self.hostile(10)?;
        let kind = self.u.int_in_range(0..=if writes { 8 } else { 3 })?;
        let dst = self.target()?;
        let src = self.any_register()?;
        let insn = match kind {
            0 => Insn::Load { size, signed: size != Size::DW, dst, base, off },
            1 if self.plan.knobs.atomics => Insn::LoadAcquire { size, dst, base, off },
            1..=3 => Insn::Load { size, signed: false, dst, base, off },
            4 => Insn::Store { size, base, off, src: values::imm(self.u)?.into() },
            5 | 6 if self.plan.knobs.atomics => return self.atomic(base, room),
            7 if self.plan.knobs.atomics => Insn::StoreRelease { size, base, off, src },
            _ => Insn::Store { size, base, off, src: src.into() },
        };
        self.push(insn);
        Ok(())
    }

    fn offset(&mut self, base: Reg, room: Room, size: Size) -> Result<i16> {
        let bytes = size.bytes() as i32;
        let (first, last) = (-room.below, room.above - bytes);
        let off = if self.hostile(50)? {
            // The stack ends where the frame does, not where its buffers do.
            let end = if base == Reg::R10 { 0 } else { room.above };
            let last = end - bytes;
            *self.u.choose(&[first - 1, first - bytes, last + 1, end, i16::MIN.into(), i16::MAX.into()])?
        } else {
            match self.u.int_in_range(0..=3)? {
                0 => first,
                1 => last,
                _ => self.u.int_in_range(first..=last)?,
            }
        };
        Ok(off.clamp(i16::MIN.into(), i16::MAX.into()) as i16)
    }

    fn atomic(&mut self, base: Reg, room: Room) -> Result<()> {
        let width = if room.bytes() >= 8 && self.u.arbitrary()? { Width::W64 } else { Width::W32 };
        let size = if width == Width::W64 { Size::DW } else { Size::W };
        if room.bytes() < size.bytes() as i32 {
            return Ok(());
        }
        let off = self.offset(base, room, size)?;
        let op = *self.u.choose(AtomicOp::ALL)?;
        // Its result goes to r0, which may have to stay.
        let op = if op == AtomicOp::Cmpxchg && self.state.is_pinned(Reg::R0) { AtomicOp::FetchXor } else { op };
        if op == AtomicOp::Cmpxchg && self.u.arbitrary()? && base != Reg::R0 {
            self.push(Insn::load(size, Reg::R0, base, off));
        }
        let plain = [AtomicOp::Add, AtomicOp::Or, AtomicOp::And, AtomicOp::Xor, AtomicOp::Cmpxchg].contains(&op);
        let src = if plain { self.any_register()? } else { self.target()? };
        self.push(Insn::Atomic { op, width, base, off, src });
        Ok(())
    }

    /// `base + i * size`: the last `i` reaches the end of the object.
    pub(super) fn index(&mut self) -> Result<()> {
        let (base, room) = self.some_pointer()?;
        let dst = self.target_but(&[base])?;
        let is_index = |reg: &Reg| matches!(self.state.get(*reg), Value::Small(1..=255)) && *reg != dst;
        let indices: Vec<Reg> = Reg::ALL[..10].iter().copied().filter(is_index).collect();
        let max = if indices.is_empty() || self.chance(1, 4)? {
            let mask = *self.u.choose(&[1, 3, 7, 15, 31])?;
            let src = self.any_register()?;
            self.push(Insn::mov(dst, src));
            self.push(Insn::and(dst, mask));
            mask
        } else {
            let src = *self.u.choose(&indices)?;
            let Value::Small(max) = self.state.get(src) else { return Ok(()) };
            self.push(Insn::mov(dst, src));
            max
        };
        let most = (room.above - 1) / max;
        if most < 1 {
            return Ok(());
        }
        let stride = if self.u.arbitrary()? { most } else { self.u.int_in_range(1..=most)? };
        if stride == 8 && self.u.arbitrary()? {
            self.push(Insn::lsh(dst, 3));
        } else {
            self.push(Insn::mul(dst, stride));
        }
        self.push(Insn::add(dst, base));
        let room = room.moved_up_to(max * stride);
        self.set_pointer(dst, room);
        if room.bytes() > 0 { self.access_at(dst, room) } else { Ok(()) }
    }

    // Moving pointers about.

    pub(super) fn move_pointer(&mut self) -> Result<()> {
        let (base, room) = self.some_pointer()?;
        let dst = self.target_but(&[base])?;
        let other = self.target_but(&[base, dst])?;
        if self.hostile(50)? {
            // The same in its low half, and far away.
            self.push(Insn::load_imm64(dst, 1 << 32));
            self.push(Insn::add(dst, base));
            return self.access_at(dst, room);
        }
        let same = match self.u.int_in_range(0..=12)? {
            0 => vec![Insn::mov(dst, base)],
            1 => vec![Insn::mov32(dst, base)],
            2 => vec![Insn::mov(dst, base), Insn::lsh(dst, 32), Insn::rsh(dst, 32)],
            3 => {
                let key = values::imm(self.u)?;
                vec![Insn::mov(dst, base), Insn::xor(dst, key), Insn::xor(dst, key)]
            }
            4 => vec![Insn::mov(dst, base), Insn::neg(dst), Insn::neg(dst)],
            5 => {
                let swap = Insn::bswap(SwapWidth::B64, dst);
                vec![Insn::mov(dst, base), swap, swap]
            }
            6 => vec![
                Insn::mov(other, 0),
                Insn::mov(dst, base),
                Insn::Alu {
                    op: *self.u.choose(&[AluOp::Add, AluOp::Or, AluOp::Xor, AluOp::Sub])?,
                    width: if self.u.arbitrary()? { Width::W32 } else { Width::W64 },
                    dst,
                    src: Operand::Reg(other),
                },
            ],
            7 => {
                let off = self.free_word()?;
                let offset = i32::from(off);
                // Spilled through a copy of the frame pointer.
                self.state.set_word(off, Value::Pointer(room));
                vec![
                    Insn::mov(other, Reg::R10),
                    Insn::add(other, offset - 4),
                    Insn::store(Size::DW, other, 4, base),
                    Insn::load(Size::DW, dst, Reg::R10, off),
                ]
            }
            8 => return self.move_by_number(dst, base, room),
            9 => {
                let by = values::imm(self.u)?;
                vec![Insn::mov(dst, base), Insn::add(dst, by), Insn::sub(dst, by)]
            }
            // Addresses are such as this instruction leaves them.
            10 => vec![Insn::addr_space_cast(dst, base, 0, 1)],
            _ => {
                let by = self.u.int_in_range(-room.below..=room.above)?;
                let insns = if self.u.arbitrary()? {
                    vec![Insn::mov(dst, base), Insn::add(dst, by)]
                } else {
                    vec![Insn::mov(dst, base), Insn::sub(dst, -by)]
                };
                insns.into_iter().for_each(|insn| self.push(insn));
                self.set_pointer(dst, room.moved(by));
                return Ok(());
            }
        };
        same.into_iter().for_each(|insn| self.push(insn));
        self.set_pointer(dst, room);
        Ok(())
    }

    /// A masked number is added.
    fn move_by_number(&mut self, dst: Reg, base: Reg, room: Room) -> Result<()> {
        let masks: Vec<i32> = [1, 3, 7, 15, 31, 63].into_iter().filter(|mask| *mask < room.above).collect();
        if masks.is_empty() {
            return Ok(());
        }
        let mask = *self.u.choose(&masks)?;
        let src = self.any_register()?;
        self.push(Insn::mov(dst, src));
        let and = if self.u.arbitrary()? { Insn::and(dst, mask) } else { Insn::and32(dst, mask) };
        self.push(and);
        if self.u.arbitrary()? {
            self.push(Insn::add(dst, base));
        } else {
            let number = self.target_but(&[dst, base])?;
            self.push(Insn::mov(number, dst));
            self.push(Insn::mov(dst, base));
            self.push(Insn::add(dst, number));
        }
        let room = room.moved_up_to(mask);
        self.set_pointer(dst, room);
        self.access_at(dst, room)
    }

    pub(super) fn spill(&mut self) -> Result<()> {
        let spilled = self.state.spilled(Self::need(1, false));
        if spilled.is_empty() || self.chance(1, 3)? {
            let (base, _) = self.some_pointer()?;
            let off = self.free_word()?;
            self.push(Insn::store(Size::DW, Reg::R10, off, base));
            return Ok(());
        }
        let off = *self.u.choose(&spilled)?;
        let Value::Pointer(room) = self.state.word(off) else { return Ok(()) };
        let (dst, other) = (self.target()?, self.any_register()?);
        let pinned = self.state.is_pinned_word(off);
        match self.u.int_in_range(0..=10)? {
            // Half of the word is an address, too.
            0 => self.push(Insn::load(Size::W, dst, Reg::R10, off)),
            // A part is written again as it was: the word stays a pointer.
            1 => {
                let size = *self.u.choose(&[Size::B, Size::H, Size::W])?;
                let part = self.u.int_in_range(0..=(8 / size.bytes() as i16 - 1))? * size.bytes() as i16;
                self.push(Insn::load(size, dst, Reg::R10, off + part));
                self.push(Insn::store(size, Reg::R10, off + part, dst));
                self.state.set_word(off, Value::Pointer(room));
            }
            // The upper half of an address is zero.
            2 => {
                self.push(Insn::store(Size::W, Reg::R10, off + 4, 0));
                self.state.set_word(off, Value::Pointer(room));
            }
            // A part is written, and the word no pointer any more; now and then it is used as one.
            3 if !pinned => {
                let size = *self.u.choose(&[Size::B, Size::H, Size::W])?;
                let part = self.u.int_in_range(0..=(8 - size.bytes() as i16))?;
                self.push(Insn::store(size, Reg::R10, off + part, other));
                self.push(Insn::load(Size::DW, dst, Reg::R10, off));
                if self.hostile(4)? {
                    let to = self.target()?;
                    self.push(Insn::load(Size::B, to, dst, 0));
                }
            }
            // Another value by another way: the word is what was written last.
            4 | 5 if !pinned => {
                let pointers = self.state.pointers(&Reg::ALL[..10], Self::need(1, false));
                let other = if pointers.is_empty() { other } else { *self.u.choose(&pointers)? };
                let value = self.state.get(other);
                let base = self.target_but(&[other])?;
                let away = i32::from(self.u.arbitrary::<i8>()?);
                // Addresses have 32 bits: this is one as well.
                let plain = self.u.arbitrary()?;
                self.push(if plain { Insn::mov(base, Reg::R10) } else { Insn::mov32(base, Reg::R10) });
                self.push(Insn::add(base, i32::from(off) - away));
                if other != base {
                    self.push(Insn::store(Size::DW, base, away as i16, other));
                    self.state.set_word(off, value);
                }
                if let Some(room) = self.state.word(off).room() {
                    let dst = self.target()?;
                    self.push(Insn::load(Size::DW, dst, Reg::R10, off));
                    return self.access_at(dst, room);
                }
            }
            6 if self.plan.knobs.helpers && !pinned => {
                self.task_name(off)?;
                if self.hostile(3)? {
                    // What was a pointer is a name.
                    let dst = self.target()?;
                    self.push(Insn::load(Size::DW, dst, Reg::R10, off));
                    self.push(Insn::load(Size::B, dst, dst, 0));
                }
            }
            8 if self.plan.knobs.atomics && !pinned => self.exchange(off)?,
            7 if self.plan.knobs.atomics && !pinned && dst != Reg::R10 => {
                self.push(Insn::mov(dst, 0));
                self.push(Insn::atomic_fetch_add(Width::W64, Reg::R10, off, dst));
                self.set_pointer(dst, room);
                self.state.set_word(off, Value::Pointer(room));
            }
            _ => self.push(Insn::load(Size::DW, dst, Reg::R10, off)),
        }
        Ok(())
    }

    /// A register and a word change places.
    fn exchange(&mut self, off: i16) -> Result<()> {
        let reg = self.target()?;
        let (value, word) = (self.state.get(reg), self.state.word(off));
        self.push(Insn::atomic_xchg(Width::W64, Reg::R10, off, reg));
        self.state.set(reg, word);
        self.state.set_word(off, value);
        Ok(())
    }
}

fn smaller(size: Size) -> Size {
    match size {
        Size::DW => Size::W,
        Size::W => Size::H,
        Size::H | Size::B => Size::B,
    }
}
