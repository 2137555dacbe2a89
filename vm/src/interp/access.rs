//! Memory instructions by their typed form: what the hot loop hands back, and what other engines do not do themselves.
//!
//! It knows registers and guest memory; what a fault means for the run is the driver's business.

use crate::insn::{AtomicOp, Insn, Operand, PacketOffset, Reg, Size, Width};
use crate::machine::Machine;
use crate::memory::{Fault, Memory};
use crate::outcome::TrapKind;
use crate::semantics;

/// Executes one load, store or atomic operation; other instructions do nothing. `registers` are `r0` to `r10`.
///
/// It is the slow path of every engine: any address, far objects and uninitialised bytes included.
///
/// # Errors
/// The fault of the access; registers and memory are as before then.
pub fn access(machine: &mut Machine, insn: &Insn, registers: &mut [u64; 11]) -> Result<(), Fault> {
    Accessor { memory: &mut machine.memory, registers }.execute(insn)
}

/// The value that a legacy packet load puts into `r0`, RFC 9669 section 5.5: big-endian bytes of the packet whose context
/// `r6` holds. `None` outside the packet: the function then returns 0 (`bpf_gen_ld_abs` ends in an `exit`, which a
/// subprogram's caller survives). Either way, `r1` to `r5` are lost as in a call: the engine sets them to 0.
///
/// # Errors
/// [`TrapKind::NoPacket`]: `r6` is not the context of a packet.
pub fn load_packet(
    machine: &Machine,
    size: Size,
    offset: PacketOffset,
    registers: &[u64; 11],
) -> Result<Option<u64>, TrapKind> {
    let get = |reg: Reg| registers[usize::from(reg.number())];
    let r6 = get(Reg::R6);
    if r6 != machine.context_address() || machine.packet().is_none() {
        return Err(TrapKind::NoPacket { r6 });
    }
    let offset = match offset {
        PacketOffset::Abs(imm) => imm,
        PacketOffset::Ind(reg, imm) => (get(reg) as u32).wrapping_add(imm as u32) as i32,
    };
    let bytes = machine.packet_bytes(offset, size.bytes());
    Ok(bytes.map(|bytes| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))))
}

struct Accessor<'m> {
    memory: &'m mut Memory,
    registers: &'m mut [u64; 11],
}

impl Accessor<'_> {
    fn execute(&mut self, insn: &Insn) -> Result<(), Fault> {
        match *insn {
            Insn::Load { size, signed, dst, base, off } => {
                let value = self.load(size, self.address(base, off))?;
                self.set(dst, if signed { semantics::sign_extend(size, value) } else { value });
            }
            Insn::LoadAcquire { size, dst, base, off } => {
                let value = self.load(size, self.address(base, off))?;
                self.set(dst, value);
            }
            Insn::Store { size, base, off, src } => {
                let value = match src {
                    Operand::Reg(reg) => self.get(reg),
                    Operand::Imm(imm) => imm as i64 as u64,
                };
                self.store(size, self.address(base, off), value)?;
            }
            Insn::StoreRelease { size, base, off, src } => {
                self.store(size, self.address(base, off), self.get(src))?;
            }
            Insn::Atomic { op, width, base, off, src } => self.atomic(op, width, self.address(base, off), src)?,
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::MovSx { .. }
            | Insn::End { .. }
            | Insn::AddrSpaceCast { .. }
            | Insn::LoadImm64 { .. }
            | Insn::LoadPacket { .. }
            | Insn::Jump { .. }
            | Insn::JumpIf { .. }
            | Insn::MayGoto { .. }
            | Insn::Call(_)
            | Insn::Exit => {}
        }
        Ok(())
    }

    fn get(&self, reg: Reg) -> u64 {
        self.registers[usize::from(reg.number())]
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.registers[usize::from(reg.number())] = value;
    }

    fn address(&self, base: Reg, off: i16) -> u64 {
        self.get(base).wrapping_add(off as i64 as u64)
    }

    fn load(&self, size: Size, addr: u64) -> Result<u64, Fault> {
        let bytes = self.memory.read(addr, size.bytes().into())?;
        let mut value = [0; 8];
        value[..bytes.len()].copy_from_slice(bytes);
        Ok(u64::from_le_bytes(value))
    }

    fn store(&mut self, size: Size, addr: u64, value: u64) -> Result<(), Fault> {
        self.memory.write(addr, &value.to_le_bytes()[..size.bytes() as usize])
    }

    fn atomic(&mut self, op: AtomicOp, width: Width, addr: u64, src: Reg) -> Result<(), Fault> {
        let (size, mask) = match width {
            Width::W32 => (Size::W, u64::from(u32::MAX)),
            Width::W64 => (Size::DW, u64::MAX),
        };
        self.memory.check_write(addr, size.bytes().into())?;
        let old = self.load(size, addr)?;
        let new = semantics::atomic(op, old, self.get(src) & mask, self.get(Reg::R0) & mask);
        self.store(size, addr, new)?;
        match op {
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
            AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
                self.set(src, old);
            }
            AtomicOp::Cmpxchg => self.set(Reg::R0, old),
        }
        Ok(())
    }
}
