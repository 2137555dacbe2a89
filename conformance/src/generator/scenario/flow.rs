//! Branches, joins and loops.

use arbitrary::Result;
use softbpf::insn::{Condition, Insn, Operand, Reg, Size, Width};

use super::link::Label;
use super::maker::{MAX_COST, Maker};
use super::state::{Room, State, Value};

/// Where a loop counts.
#[derive(Debug, Clone, Copy)]
enum Counter {
    Register(Reg),
    Word(i16),
}

impl Maker<'_, '_> {
    /// `if`, half of the time with `else`.
    pub(super) fn branch(&mut self) -> Result<()> {
        let (other, end) = (self.label(), self.label());
        self.jump_if(other)?;
        let before = self.state.clone();
        self.block(4)?;
        let mut after = self.state.clone();
        if self.u.arbitrary()? {
            self.goto(end)?;
            self.place(other);
            self.state = before;
            self.block(4)?;
        } else {
            self.place(other);
            self.state = before;
        }
        self.place(end);
        after.join(&self.state);
        self.state = after;
        Ok(())
    }

    /// A register points here or there, and is used.
    pub(super) fn select(&mut self) -> Result<()> {
        let dst = self.target()?;
        let (other, end) = (self.label(), self.label());
        let need = Self::need(self.u.int_in_range(1..=8)?, self.u.arbitrary()?);
        // The jump may use the register before it is one of the two.
        self.jump_if(other)?;
        let before = self.state.clone();
        self.pointer_to(dst, need)?;
        self.goto(end)?;
        let mut after = self.state.clone();
        self.place(other);
        self.state = before;
        self.pointer_to(dst, need)?;
        self.place(end);
        after.join(&self.state);
        self.state = after;
        match self.state.get(dst).room() {
            Some(room) if room.bytes() > 0 => self.access_at(dst, room),
            Some(_) | None => Ok(()),
        }
    }

    /// Now and then the end of the function, of the loop, or of nothing.
    pub(super) fn leave(&mut self) -> Result<()> {
        let end = self.breaks.last().copied();
        match (self.u.int_in_range(0..=3)?, end) {
            (0, _) => {
                let dst = self.any_register()?;
                let insn = Insn::JumpIf {
                    condition: Condition::Eq,
                    width: Width::W64,
                    dst,
                    src: Operand::Imm(super::values::imm(self.u)?),
                    off: 0,
                };
                self.push_to(insn, self.exit);
            }
            (1 | 2, Some(end)) => self.jump_if(end)?,
            (_, _) if self.plan.knobs.loops => {
                let label = self.label();
                self.push_to(Insn::MayGoto { off: 0 }, label);
                self.place(label);
            }
            (_, _) => {}
        }
        Ok(())
    }

    /// A loop that counts, and keeps some pointers from round to round.
    pub(super) fn repeat(&mut self) -> Result<()> {
        let most = (MAX_COST / 40 / self.trips).min(12) as i32;
        if most < 1 || self.breaks.len() >= 2 {
            return Ok(());
        }
        let up = self.u.arbitrary()?;
        let trips = self.u.int_in_range(if up { 0..=most } else { 1..=most })?;
        let outside = self.state.clone();
        let counter = self.counter()?;
        self.set_counter(counter, if up { 0 } else { trips });
        let changing = self.changing_pointer()?;
        let moving = self.moving_pointer(trips.max(1))?;
        self.keep_pointers()?;
        self.state.forget();

        let (head, middle, tail, end) = (self.label(), self.label(), self.label(), self.label());
        // Sometimes the first round starts in the middle.
        let irreducible = !up && self.chance(1, 6)?;
        if irreducible {
            self.jump_if(middle)?;
            self.state.forget();
        }
        self.place(head);
        if up {
            self.count_check(counter, trips, end)?;
        }
        if self.chance(1, 4)? {
            self.push_to(Insn::MayGoto { off: 0 }, end);
        }
        if let Counter::Register(reg) = counter {
            self.state.set(reg, Value::Small(if up { (trips - 1).max(0) } else { trips }));
        }
        let trips_outside = self.trips;
        self.trips *= trips.max(1) as u64;
        self.breaks.push(end);
        self.block(5)?;
        if irreducible {
            self.state.forget();
            self.place(middle);
            self.block(3)?;
        }
        if self.chance(1, 4)? {
            self.jump_if(tail)?;
        }
        self.breaks.pop();

        self.state.forget();
        self.place(tail);
        if let Some((reg, by, _)) = moving {
            self.push(Insn::add(reg, by));
        }
        if let Some((reg, room)) = changing
            && self.u.arbitrary()?
        {
            self.pointer_to(reg, room)?;
            self.set_pointer(reg, room);
        }
        self.count(counter, up, head)?;
        self.trips = trips_outside;
        self.place(end);
        if let Counter::Register(reg) = counter {
            self.state.set(reg, Value::Number);
        }
        self.after_loop(&outside, moving);
        Ok(())
    }

    /// Reads an object to its end, piece by piece, and now and then a piece too much.
    pub(super) fn walk(&mut self) -> Result<()> {
        const MOST: u64 = 24;
        let (base, room) = self.some_pointer()?;
        let (size, most) = (self.size()?, MOST.min(MAX_COST / 40 / self.trips) as i32);
        let stride = size.bytes() as i32;
        let pieces = (room.bytes() / stride).min(most);
        let pointer = self.target_but(&[base])?;
        let counter = self.target_but(&[base, pointer])?;
        let dst = self.target_but(&[base, pointer, counter])?;
        if pieces < 1 || [pointer, counter, dst].contains(&Reg::R10) {
            return Ok(());
        }
        self.push(Insn::mov(pointer, base));
        if self.u.arbitrary()? {
            let key = super::values::imm(self.u)?;
            self.push(Insn::xor(pointer, key));
            self.push(Insn::xor(pointer, key));
        }
        self.push(Insn::add(pointer, room.above - pieces * stride));
        let too_many = i32::from(self.hostile(3)?);
        self.push(Insn::mov(counter, pieces + too_many));
        let head = self.label();
        self.place(head);
        let outside = self.trips;
        self.trips *= pieces as u64;
        self.push(Insn::load(size, dst, pointer, 0));
        self.push(Insn::add(pointer, stride));
        self.push(Insn::sub(counter, 1));
        let again =
            Insn::JumpIf { condition: Condition::Ne, width: Width::W64, dst: counter, src: Operand::Imm(0), off: 0 };
        self.push_to(again, head);
        self.trips = outside;
        for reg in [pointer, counter, dst] {
            self.state.set(reg, Value::Number);
        }
        Ok(())
    }

    /// Only what was pinned is known, and the counter is no more pinned.
    fn after_loop(&mut self, outside: &State, moving: Option<(Reg, i32, Room)>) {
        self.state.forget();
        if let Some((reg, _, room)) = moving {
            self.set_pointer(reg, room);
        }
        self.state.pins_of(outside);
    }

    fn counter(&mut self) -> Result<Counter> {
        let free: Vec<Reg> = Reg::ALL[6..10].iter().copied().filter(|reg| !self.state.is_pinned(*reg)).collect();
        Ok(if free.len() > 1 && self.chance(2, 3)? {
            let reg = *self.u.choose(&free)?;
            self.state.pin(reg);
            Counter::Register(reg)
        } else {
            let off = self.free_word()?;
            self.state.pin_word(off);
            Counter::Word(off)
        })
    }

    fn set_counter(&mut self, counter: Counter, value: i32) {
        match counter {
            Counter::Register(reg) => self.push(Insn::mov(reg, value)),
            Counter::Word(off) => self.push(Insn::store(Size::DW, Reg::R10, off, value)),
        }
    }

    /// The counter in a register.
    fn counted(&mut self, counter: Counter) -> Result<Reg> {
        Ok(match counter {
            Counter::Register(reg) => reg,
            Counter::Word(off) => {
                let reg = self.target()?;
                self.push(Insn::load(Size::DW, reg, Reg::R10, off));
                reg
            }
        })
    }

    /// Leaves the loop when it has counted to the end.
    fn count_check(&mut self, counter: Counter, trips: i32, end: Label) -> Result<()> {
        let dst = self.counted(counter)?;
        let condition = *self.u.choose(&[Condition::Eq, Condition::Ge, Condition::Sge])?;
        let width = if self.u.arbitrary()? { Width::W32 } else { Width::W64 };
        self.push_to(Insn::JumpIf { condition, width, dst, src: trips.into(), off: 0 }, end);
        Ok(())
    }

    /// Counts, and jumps back unless that was the last round.
    fn count(&mut self, counter: Counter, up: bool, head: Label) -> Result<()> {
        let dst = self.counted(counter)?;
        self.push(if up { Insn::add(dst, 1) } else { Insn::sub(dst, 1) });
        if let Counter::Word(off) = counter {
            self.push(Insn::store(Size::DW, Reg::R10, off, dst));
        }
        if up {
            return self.goto(head);
        }
        let condition = *self.u.choose(&[Condition::Ne, Condition::Gt, Condition::Sgt])?;
        let width = if self.u.arbitrary()? { Width::W32 } else { Width::W64 };
        self.push_to(Insn::JumpIf { condition, width, dst, src: 0.into(), off: 0 }, head);
        Ok(())
    }

    fn free_callee_saved(&mut self) -> Result<Option<Reg>> {
        let free: Vec<Reg> = Reg::ALL[6..10].iter().copied().filter(|reg| !self.state.is_pinned(*reg)).collect();
        // One stays free, for what the body wants to keep over calls.
        if free.len() < 2 { Ok(None) } else { Ok(Some(*self.u.choose(&free)?)) }
    }

    /// A pointer that is one thing in the first round and may be another in the next.
    fn changing_pointer(&mut self) -> Result<Option<(Reg, Room)>> {
        if !self.plan.knobs.pointers || !self.chance(1, 3)? {
            return Ok(None);
        }
        let Some(reg) = self.free_callee_saved()? else { return Ok(None) };
        let room = Self::need(self.u.int_in_range(1..=16)?, self.u.arbitrary()?);
        self.pointer_to(reg, room)?;
        self.set_pointer(reg, room);
        self.state.pin(reg);
        Ok(Some((reg, room)))
    }

    /// A pointer that moves on with every round; the room it has when it has moved for the last time.
    fn moving_pointer(&mut self, trips: i32) -> Result<Option<(Reg, i32, Room)>> {
        if !self.plan.knobs.pointers || !self.chance(1, 3)? {
            return Ok(None);
        }
        let Some(reg) = self.free_callee_saved()? else { return Ok(None) };
        let by = self.u.int_in_range(1..=8)?;
        let size = self.u.int_in_range(1..=by)?;
        let mut room = Self::need(by * (trips - 1) + size, self.u.arbitrary()?);
        // To the byte: the last round is at the end of the object, where there is such a one.
        self.pointer_to(reg, room)?;
        room = self.state.get(reg).room().unwrap_or(room);
        let inside = Room { above: room.above - by * (trips - 1), ..room };
        self.set_pointer(reg, Room { context: false, ..inside });
        self.state.pin(reg);
        // The loop may be left in any round.
        Ok(Some((reg, by, Room { context: false, above: inside.above - by, ..inside })))
    }

    /// Some pointers are not written in the loop.
    fn keep_pointers(&mut self) -> Result<()> {
        for reg in self.state.pointers(&Reg::ALL[6..10], Self::need(1, false)) {
            if self.u.arbitrary()? && self.free_callee_saved()?.is_some() {
                self.state.pin(reg);
            }
        }
        for off in self.state.spilled(Self::need(1, false)) {
            if self.u.arbitrary()? && !self.state.is_pinned_word(off) {
                self.state.pin_word(off);
            }
        }
        Ok(())
    }
}
