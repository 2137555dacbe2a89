//! What each instruction does, one arm an instruction. Section numbers are RFC 9669's.

use softbpf::insn::{AtomicOp, Callee, Imm64, Insn, Operand, PacketOffset, Reg, Size, Width};

use super::arithmetic as math;
use super::observed::StopKind;
use super::{Caller, Flow, MAY_GOTO_LOOPS, Model};

/// Bytes in front of the network header.
const ETHERNET_HEADER: i128 = 14;

impl Model<'_> {
    fn get(&self, reg: Reg) -> u64 {
        self.registers[usize::from(reg.number())]
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.registers[usize::from(reg.number())] = value;
    }

    /// Section 4.1: with source `K`, "use 32-bit 'imm' value as source operand", sign-extended to the operation.
    fn operand(&self, operand: Operand) -> u64 {
        match operand {
            Operand::Reg(reg) => self.get(reg),
            Operand::Imm(imm) => math::register(64, imm.into()),
        }
    }

    /// Section 5.1: "dst + offset".
    fn address(&self, base: Reg, offset: i16) -> u64 {
        math::register(64, i128::from(self.get(base)) + i128::from(offset))
    }

    fn load(&self, base: Reg, offset: i16, size: Size) -> Result<u64, StopKind> {
        self.memory.load(self.address(base, offset), size.bytes()).map_err(StopKind::Access)
    }

    fn store(&mut self, base: Reg, offset: i16, size: Size, value: u64) -> Result<(), StopKind> {
        self.memory.store(self.address(base, offset), size.bytes(), value).map_err(StopKind::Access)
    }

    pub(super) fn execute(&mut self, slot: usize, insn: &Insn) -> Result<Flow, StopKind> {
        match *insn {
            Insn::Alu { op, width, dst, src } => {
                self.set(dst, math::alu(op, width, self.get(dst), self.operand(src)));
            }
            Insn::Neg { width, dst } => self.set(dst, math::neg(width, self.get(dst))),
            Insn::MovSx { width, from, dst, src } => self.set(dst, math::movsx(width, from, self.get(src))),
            Insn::End { order, width, dst } => self.set(dst, math::byte_order(order, width, self.get(dst))),
            // Not in the RFC. Arena pointers are 32-bit guest addresses in every address space.
            Insn::AddrSpaceCast { dst, src, .. } => self.set(dst, math::register(32, self.get(src).into())),
            Insn::LoadImm64 { dst, value } => {
                let value = self.imm64(slot, value).ok_or(StopKind::Missing)?;
                self.set(dst, value);
            }
            Insn::Load { size, signed: false, dst, base, off } | Insn::LoadAcquire { size, dst, base, off } => {
                let value = self.load(base, off, size)?;
                self.set(dst, value);
            }
            // Section 5.2: "dst = *(signed size *) (src + offset)", extended to 64 bits.
            Insn::Load { size, signed: true, dst, base, off } => {
                let value = self.load(base, off, size)?;
                self.set(dst, math::movsx(Width::W64, size, value));
            }
            Insn::Store { size, base, off, src } => self.store(base, off, size, self.operand(src))?,
            Insn::StoreRelease { size, base, off, src } => self.store(base, off, size, self.get(src))?,
            Insn::Atomic { op, width, base, off, src } => self.atomic(op, width, self.address(base, off), src)?,
            Insn::LoadPacket { size, offset } => return self.load_packet(size, offset),
            Insn::Jump { off, .. } => return Ok(Flow::Jump(off)),
            Insn::JumpIf { condition, width, dst, src, off } => {
                if math::holds(condition, width, self.get(dst), self.operand(src)) {
                    return Ok(Flow::Jump(off.into()));
                }
            }
            // Not in the RFC; the kernel's `BPF_JCOND`: jumps when the frame's loops are used up.
            Insn::MayGoto { off } => match self.loops.checked_sub(1) {
                Some(left) => self.loops = left,
                None => return Ok(Flow::Jump(off.into())),
            },
            Insn::Call(Callee::Helper(number)) => return self.call_helper(number),
            Insn::Call(Callee::Local(off)) => {
                let callee = self.target(slot, off).ok_or(StopKind::Missing)?;
                return self.call(callee);
            }
            Insn::Call(Callee::Reg(reg)) => return self.call_register(self.get(reg)),
            Insn::Call(Callee::Kfunc { .. }) => return Err(StopKind::Missing),
            Insn::Exit => return Ok(self.exit()),
        }
        Ok(Flow::Next)
    }

    /// Section 5.4.
    fn imm64(&self, slot: usize, value: Imm64) -> Option<u64> {
        match value {
            Imm64::Value(value) => Some(value),
            Imm64::Code(off) => {
                let target = i128::try_from(slot).ok()? + 1 + i128::from(off);
                u64::try_from(i128::from(self.code_address()) + 8 * target).ok()
            }
            Imm64::MapFd(map) | Imm64::MapIndex(map) => Some(self.maps.get(usize::try_from(map).ok()?)?.setup.handle),
            Imm64::MapValue { fd: map, offset } | Imm64::MapIndexValue { index: map, offset } => {
                self.maps.get(usize::try_from(map).ok()?)?.setup.value_address(offset)
            }
            Imm64::Variable { .. } => None,
        }
    }

    /// Section 5.3. With `FETCH`, the old value is zero-extended into `src` (`CMPXCHG`: always, into `r0`).
    fn atomic(&mut self, op: AtomicOp, width: Width, addr: u64, src: Reg) -> Result<(), StopKind> {
        let size = match width {
            Width::W32 => 4,
            Width::W64 => 8,
        };
        // What cannot be read cannot be modified.
        let refused = |bad| StopKind::Access(super::BadAccess { write: true, ..bad });
        let old = self.memory.load(addr, size).map_err(refused)?;
        let new = math::atomic(op, width, old, self.get(src), self.get(Reg::R0));
        self.memory.store(addr, size, new).map_err(StopKind::Access)?;
        match op {
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
            AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
                self.set(src, old);
            }
            AtomicOp::Cmpxchg => self.set(Reg::R0, old),
        }
        Ok(())
    }

    /// Section 5.5 and the kernel's `bpf_skb_load_helper_*`: `r0` is the big-endian value in the packet of the context
    /// in `r6`; `r1` to `r5` are lost; outside the packet, the function returns 0 (`bpf_gen_ld_abs`).
    fn load_packet(&mut self, size: Size, offset: PacketOffset) -> Result<Flow, StopKind> {
        let r6 = self.get(Reg::R6);
        let packet = self.setup.packet.as_ref().filter(|_| r6 == self.setup.args[0]);
        let start = packet.ok_or(StopKind::NoPacket(r6))?.start;
        let offset = match offset {
            PacketOffset::Abs(imm) => imm.into(),
            PacketOffset::Ind(reg, imm) => i128::from(self.get(reg)) + i128::from(imm),
        };
        self.clobber();
        // The offset is an `int`; far below zero it counts from the network header or the first byte.
        let offset = match math::signed(32, math::register(32, offset)) {
            offset @ 0.. => offset,
            offset @ -0x10_0000..0 => offset + 0x10_0000 + ETHERNET_HEADER,
            offset @ -0x20_0000..-0x10_0000 => offset + 0x20_0000,
            _ => return Ok(self.exit_with(0)),
        };
        let region = self.memory.region(start).ok_or(StopKind::NoPacket(r6))?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let end = at.saturating_add(size.bytes() as usize);
        let Some(bytes) = region.bytes.get(at..end) else { return Ok(self.exit_with(0)) };
        self.registers[0] = bytes.iter().fold(0, |value, &byte| value * 256 + u64::from(byte));
        Ok(Flow::Next)
    }

    /// Section 4.3.2: the callee has a frame of its own, and `r6` to `r9` are the caller's again when it returns.
    pub(super) fn call(&mut self, callee: usize) -> Result<Flow, StopKind> {
        let &frame_pointer = self.setup.frames.get(self.callers.len() + 1).ok_or(StopKind::TooDeep)?;
        let [.., r6, r7, r8, r9, _] = self.registers;
        self.callers.push(Caller {
            program: self.program,
            call: self.next,
            preserved: [r6, r7, r8, r9],
            loops: self.loops,
            again: None,
        });
        self.memory.regions[self.callers.len()].open = true;
        self.registers[10] = frame_pointer;
        self.loops = MAY_GOTO_LOOPS;
        Ok(Flow::Goto(callee))
    }

    /// `callx`, not in the RFC: a function by its address, or a helper by its number.
    fn call_register(&mut self, target: u64) -> Result<Flow, StopKind> {
        if let Some(index) = self.function(target) {
            return self.call(index);
        }
        let number = i32::try_from(target).map_err(|_| StopKind::BadCallTarget(target))?;
        self.call_helper(number)
    }

    /// Index of the instruction at an address of this program's code.
    pub(super) fn function(&self, address: u64) -> Option<usize> {
        let offset = address.checked_sub(self.code_address())?;
        if offset % 8 == 0 { self.code().index_at(usize::try_from(offset / 8).ok()?) } else { None }
    }

    /// Address of the running program's first slot.
    fn code_address(&self) -> u64 {
        self.setup.code + self.program as u64 * self.setup.code_stride
    }

    fn exit_with(&mut self, r0: u64) -> Flow {
        self.set(Reg::R0, r0);
        self.exit()
    }

    fn exit(&mut self) -> Flow {
        if let Some(again) = self.next_round() {
            return again;
        }
        let depth = self.callers.len();
        let Some(caller) = self.callers.pop() else { return Flow::Return(self.get(Reg::R0)) };
        self.memory.regions[depth].open = false;
        self.registers[6..=9].copy_from_slice(&caller.preserved);
        self.registers[10] = self.setup.frames[depth - 1];
        self.loops = caller.loops;
        self.program = caller.program;
        if let Some(done) = caller.again {
            self.registers[0] = done.round;
            self.clobber();
        }
        Flow::Goto(caller.call + 1)
    }
}
