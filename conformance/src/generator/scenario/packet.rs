//! Packet bytes, behind a check against the packet's end in one of the forms that compilers write.

use arbitrary::Result;
use softbpf::insn::{Condition, Insn, PacketOffset, Reg, Size, Width};

use super::Input;
use super::maker::Maker;
use super::state::{Room, Value};

/// A comparison of `data + n` with `data_end`: whether the first is on the left, the condition, and whether the packet
/// is long enough where it holds.
const CHECKS: [(bool, Condition, bool); 8] = [
    (true, Condition::Gt, false),
    (true, Condition::Le, true),
    (false, Condition::Lt, false),
    (false, Condition::Ge, true),
    (true, Condition::Sgt, false),
    (true, Condition::Sle, true),
    (false, Condition::Slt, false),
    (false, Condition::Sge, true),
];

impl Maker<'_, '_> {
    pub(super) fn packet(&mut self) -> Result<()> {
        let Input::Packet(bytes) = self.plan.input else { return self.access() };
        let len = bytes.len() as i32;
        if !self.has_context() {
            return self.access();
        }
        if self.chance(1, 6)? && !self.state.is_pinned(Reg::R6) && !self.returns_pointer {
            return self.legacy_load();
        }
        let data = self.target()?;
        let end = self.target_but(&[data])?;
        let limit = self.target_but(&[data, end])?;
        self.context(limit)?;
        let field = if self.chance(1, 6)? { 8 } else { 0 };
        self.push(Insn::load(Size::W, data, limit, field));
        self.push(Insn::load(Size::W, end, limit, 4));
        // As many bytes as there are, or about.
        let near = self.u.int_in_range(-2..=2)?;
        let asked = match self.u.int_in_range(0..=2)? {
            0 => len,
            1 => (len + near).max(1),
            _ => self.u.int_in_range(1..=20)?,
        };
        if self.chance(1, 8)? {
            // Not checked at all.
            self.set_pointer(data, Room::new(len));
            return self.access_at(data, Room::new(len));
        }
        self.push(Insn::mov(limit, data));
        self.push(Insn::add(limit, asked));
        let (left, condition, long_enough) = *self.u.choose(&CHECKS)?;
        let width = if self.chance(1, 3)? { Width::W32 } else { Width::W64 };
        let (dst, src) = if left { (limit, end) } else { (end, limit) };
        let check = Insn::JumpIf { condition, width, dst, src: src.into(), off: 0 };
        let (inside, outside) = (self.label(), self.label());
        if long_enough {
            self.push_to(check, inside);
            self.goto(outside)?;
            self.place(inside);
        } else {
            self.push_to(check, outside);
        }
        let short = self.state.clone();
        let more = i32::from(self.hostile(10)?);
        let room = Room::new(asked + more);
        self.set_pointer(data, room);
        if more > 0 {
            // The last byte that is asked for lies behind what was checked.
            let (to, size) = (self.target()?, self.size()?);
            let off = (asked + more - size.bytes() as i32).max(0);
            self.push(Insn::load(size, to, data, off as i16));
        }
        // Through the pointer, through a copy, or from the checked end backwards.
        match self.u.int_in_range(0..=2)? {
            0 => self.access_at(data, room)?,
            1 => {
                let copy = self.target_but(&[data, limit, Reg::R10])?;
                self.push(Insn::mov(copy, data));
                self.set_pointer(copy, room);
                self.access_at(copy, room)?;
            }
            _ => {
                let room = Room { below: asked, ..Room::new(more) };
                self.set_pointer(limit, room);
                self.access_at(limit, room)?;
            }
        }
        self.block(3)?;
        self.place(outside);
        self.state.join(&short);
        Ok(())
    }

    /// A legacy load, which ends the function outside the packet: mostly it is inside.
    fn legacy_load(&mut self) -> Result<()> {
        let Input::Packet(bytes) = self.plan.input else { return Ok(()) };
        let size = *self.u.choose(&[Size::B, Size::H, Size::W])?;
        let last = bytes.len() as i32 - size.bytes() as i32;
        self.context(Reg::R6)?;
        let far = [last + 1, -1, -0x10_0000, -0x20_0000 + last, i32::MIN];
        let at = if last < 0 || self.chance(1, 8)? { *self.u.choose(&far)? } else { self.u.int_in_range(0..=last)? };
        let offset = if self.u.arbitrary()? {
            PacketOffset::Abs(at)
        } else {
            let reg = self.target_but(&[Reg::R6])?;
            let part = self.u.int_in_range(-4..=4)?;
            self.push(Insn::mov(reg, at.wrapping_sub(part)));
            PacketOffset::Ind(reg, part)
        };
        self.push(Insn::LoadPacket { size, offset });
        self.state.after_helper(Value::Number);
        self.reveal(Reg::R0)
    }
}
