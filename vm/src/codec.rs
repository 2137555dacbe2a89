//! Bits to typed instructions and back: the only file that knows bit positions.
//!
//! [`Code::decode`] accepts exactly what [`Code::encode`] makes: every reserved field is looked at, and every
//! refusal says which slot and why. What needs more than one instruction to judge (jump targets, the end of the
//! program) is the business of [`crate::check`]. RFC 9669 section 3; the verifier's `BPF_*` reserved-field checks.

use byteorder::{ByteOrder as _, LittleEndian};

use crate::insn::{
    AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width,
};
use crate::isa::{self, callee, class, mode, op, ordered, pseudo, source};

/// Bytes of one slot.
pub const SLOT_BYTES: usize = 8;

/// Bytes that are not an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("slot {slot}: {kind}")]
pub struct DecodeError {
    /// Index of the 8-byte slot, from 0.
    pub slot: usize,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
}

/// Why a slot is not an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum DecodeErrorKind {
    #[error("the program ends inside a slot: {bytes} of 8 bytes")]
    CutSlot { bytes: usize },
    #[error("unknown opcode {0:#04x}")]
    UnknownOpcode(u8),
    #[error("there is no register r{number} ({field})")]
    BadRegister { field: Field, number: u8 },
    #[error("{field} is reserved here and must be 0, not {value}")]
    Reserved { field: Field, value: i64 },
    #[error("{field} = {value} selects no variant of opcode {opcode:#04x}")]
    BadSelector { opcode: u8, field: Field, value: i64 },
    #[error("byte order conversion of {0} bits: only 16, 32 and 64 exist")]
    BadSwapWidth(i32),
    #[error("the program ends inside a 64-bit immediate load, after its first slot")]
    CutWideLoad,
    #[error("{field} of a 64-bit immediate load's second slot must be 0, not {value}")]
    BadWideLoad { field: Field, value: i64 },
}

/// A field of an instruction slot. RFC 9669 section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The opcode byte.
    Opcode,
    /// Destination register.
    Dst,
    /// Source register.
    Src,
    /// 16-bit offset.
    Off,
    /// 32-bit immediate.
    Imm,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Field::Opcode => "opcode",
            Field::Dst => "dst",
            Field::Src => "src",
            Field::Off => "off",
            Field::Imm => "imm",
        })
    }
}

/// A typed instruction that has no encoding, such as a `goto` further than 16 bits reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("instruction {index} has no encoding: {kind}")]
pub struct EncodeError {
    /// Index of the instruction (not of its slot), from 0.
    pub index: usize,
    /// Which part of it has none.
    pub kind: EncodeErrorKind,
}

/// Why a typed instruction has no encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum EncodeErrorKind {
    #[error("goto {0:+} is out of the 16-bit range; use gotol")]
    FarJump(i32),
    #[error("sign extension from {from:?} to {to:?}")]
    SignExtension { from: Size, to: Width },
    #[error("legacy packet load of 64 bits")]
    WidePacketLoad,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    opcode: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

impl Slot {
    #[inline(always)]
    fn from_bytes(bytes: &[u8; SLOT_BYTES]) -> Slot {
        Slot {
            opcode: bytes[0],
            dst: bytes[1] & 0xf,
            src: bytes[1] >> 4,
            off: LittleEndian::read_i16(&bytes[2..4]),
            imm: LittleEndian::read_i32(&bytes[4..8]),
        }
    }

    fn to_bytes(self) -> [u8; SLOT_BYTES] {
        let mut bytes = [self.opcode, self.src << 4 | self.dst, 0, 0, 0, 0, 0, 0];
        LittleEndian::write_i16(&mut bytes[2..4], self.off);
        LittleEndian::write_i32(&mut bytes[4..8], self.imm);
        bytes
    }

    fn class(self) -> u8 {
        self.opcode & 0x07
    }

    /// High four bits of an arithmetic or jump opcode.
    fn operation(self) -> u8 {
        self.opcode >> 4
    }

    fn source(self) -> u8 {
        self.opcode & 0x08
    }

    /// Mode of a load or store.
    fn mode(self) -> u8 {
        self.opcode & 0xe0
    }

    /// Size of a load or store.
    #[inline(always)]
    fn size(self) -> Size {
        // The rows cover all four values of the two bits.
        Size::from_bits(self.opcode & 0x18).unwrap_or(Size::B)
    }

    fn unknown(self) -> DecodeErrorKind {
        DecodeErrorKind::UnknownOpcode(self.opcode)
    }

    #[inline(always)]
    fn value(self, field: Field) -> i64 {
        match field {
            Field::Opcode => self.opcode.into(),
            Field::Dst => self.dst.into(),
            Field::Src => self.src.into(),
            Field::Off => self.off.into(),
            Field::Imm => self.imm.into(),
        }
    }

    #[inline(always)]
    fn reserved(self, fields: &[Field]) -> Result<(), DecodeErrorKind> {
        match fields.iter().find(|&&field| self.value(field) != 0) {
            Some(&field) => Err(DecodeErrorKind::Reserved { field, value: self.value(field) }),
            None => Ok(()),
        }
    }

    fn bad_selector(self, field: Field) -> DecodeErrorKind {
        DecodeErrorKind::BadSelector { opcode: self.opcode, field, value: self.value(field) }
    }

    #[inline(always)]
    fn dst(self) -> Result<Reg, DecodeErrorKind> {
        Reg::new(self.dst).ok_or(DecodeErrorKind::BadRegister { field: Field::Dst, number: self.dst })
    }

    #[inline(always)]
    fn src(self) -> Result<Reg, DecodeErrorKind> {
        Reg::new(self.src).ok_or(DecodeErrorKind::BadRegister { field: Field::Src, number: self.src })
    }

    /// Register or immediate by the source bit; the one not used must be 0.
    #[inline(always)]
    fn operand(self) -> Result<Operand, DecodeErrorKind> {
        if self.source() == source::X {
            self.reserved(&[Field::Imm])?;
            self.src().map(Operand::Reg)
        } else {
            self.reserved(&[Field::Src])?;
            Ok(Operand::Imm(self.imm))
        }
    }
}

/// Decodes the instruction that `bytes` start with; bytes after it are not looked at.
///
/// # Errors
/// The bytes are not an instruction, or end inside one.
#[inline]
pub fn decode_one(bytes: &[u8]) -> Result<Insn, DecodeErrorKind> {
    let Some(first) = bytes.first_chunk() else {
        return Err(DecodeErrorKind::CutSlot { bytes: bytes.len() });
    };
    let slot = Slot::from_bytes(first);
    match slot.class() {
        class::LD => decode_ld(slot, &bytes[SLOT_BYTES..]),
        class::LDX => decode_ldx(slot),
        class::ST => decode_st(slot),
        class::STX => decode_stx(slot),
        class::ALU => decode_alu(slot, Width::W32),
        class::JMP => decode_jmp(slot, Width::W64),
        class::JMP32 => decode_jmp(slot, Width::W32),
        _ => decode_alu(slot, Width::W64),
    }
}

#[inline(always)]
fn decode_alu(slot: Slot, width: Width) -> Result<Insn, DecodeErrorKind> {
    match slot.operation() {
        op::NEG if slot.source() == source::K => {
            slot.reserved(&[Field::Src, Field::Off, Field::Imm])?;
            Ok(Insn::Neg { width, dst: slot.dst()? })
        }
        op::END => decode_end(slot),
        op::MOV if slot.source() == source::X && slot.off != 0 => decode_mov_variant(slot, width),
        operation => {
            if AluOp::from_bits(operation, 0).is_none() {
                return Err(slot.unknown());
            }
            let Some(op) = AluOp::from_bits(operation, slot.off) else {
                return Err(match AluOp::from_bits(operation, 1) {
                    Some(_) => slot.bad_selector(Field::Off),
                    None => DecodeErrorKind::Reserved { field: Field::Off, value: slot.off.into() },
                });
            };
            Ok(Insn::Alu { op, width, dst: slot.dst()?, src: slot.operand()? })
        }
    }
}

fn decode_end(slot: Slot) -> Result<Insn, DecodeErrorKind> {
    let order = ByteOrder::from_bits(slot.class(), slot.source()).ok_or(slot.unknown())?;
    slot.reserved(&[Field::Src, Field::Off])?;
    let width = SwapWidth::ALL
        .into_iter()
        .find(|width| width.bits() == slot.imm)
        .ok_or(DecodeErrorKind::BadSwapWidth(slot.imm))?;
    Ok(Insn::End { order, width, dst: slot.dst()? })
}

fn decode_mov_variant(slot: Slot, width: Width) -> Result<Insn, DecodeErrorKind> {
    if slot.off == isa::ADDR_SPACE_CAST && width == Width::W64 {
        // Two 16-bit halves of imm: destination space above, source space below.
        let (dst_space, src_space) = ((slot.imm as u32 >> 16) as u16, slot.imm as u16);
        return Ok(Insn::AddrSpaceCast { dst: slot.dst()?, src: slot.src()?, dst_space, src_space });
    }
    slot.reserved(&[Field::Imm])?;
    let from = match (slot.off, width) {
        (8, _) => Size::B,
        (16, _) => Size::H,
        (32, Width::W64) => Size::W,
        _ => return Err(slot.bad_selector(Field::Off)),
    };
    Ok(Insn::MovSx { width, from, dst: slot.dst()?, src: slot.src()? })
}

#[inline(always)]
fn decode_jmp(slot: Slot, width: Width) -> Result<Insn, DecodeErrorKind> {
    let long = width == Width::W32;
    match (slot.operation(), slot.source()) {
        (op::JA, source::K) if long => {
            slot.reserved(&[Field::Dst, Field::Src, Field::Off])?;
            Ok(Insn::Jump { off: slot.imm, long })
        }
        (op::JA, source::K) => {
            slot.reserved(&[Field::Dst, Field::Src, Field::Imm])?;
            Ok(Insn::Jump { off: slot.off.into(), long })
        }
        (op::CALL, source::K) if !long => decode_call(slot),
        (op::CALL, source::X) if !long => {
            slot.reserved(&[Field::Src, Field::Off, Field::Imm])?;
            Ok(Insn::Call(Callee::Reg(slot.dst()?)))
        }
        (op::EXIT, source::K) if !long => {
            slot.reserved(&[Field::Dst, Field::Src, Field::Off, Field::Imm])?;
            Ok(Insn::Exit)
        }
        (op::JCOND, source::K) if !long => {
            slot.reserved(&[Field::Dst, Field::Imm])?;
            if slot.src != 0 {
                return Err(slot.bad_selector(Field::Src));
            }
            Ok(Insn::MayGoto { off: slot.off })
        }
        (operation, _) => {
            let condition = Condition::from_bits(operation).ok_or(slot.unknown())?;
            Ok(Insn::JumpIf { condition, width, dst: slot.dst()?, src: slot.operand()?, off: slot.off })
        }
    }
}

fn decode_call(slot: Slot) -> Result<Insn, DecodeErrorKind> {
    slot.reserved(&[Field::Dst])?;
    let callee = match slot.src {
        callee::HELPER => Callee::Helper(slot.imm),
        callee::LOCAL => Callee::Local(slot.imm),
        callee::KFUNC => Callee::Kfunc { btf_id: slot.imm, module: slot.off },
        _ => return Err(slot.bad_selector(Field::Src)),
    };
    if slot.src != callee::KFUNC {
        slot.reserved(&[Field::Off])?;
    }
    Ok(Insn::Call(callee))
}

fn decode_ld(slot: Slot, rest: &[u8]) -> Result<Insn, DecodeErrorKind> {
    let size = slot.size();
    match slot.mode() {
        mode::IMM if size == Size::DW => decode_wide_load(slot, rest),
        mode::ABS if size != Size::DW => {
            slot.reserved(&[Field::Dst, Field::Src, Field::Off])?;
            Ok(Insn::LoadPacket { size, offset: PacketOffset::Abs(slot.imm) })
        }
        mode::IND if size != Size::DW => {
            slot.reserved(&[Field::Dst, Field::Off])?;
            Ok(Insn::LoadPacket { size, offset: PacketOffset::Ind(slot.src()?, slot.imm) })
        }
        _ => Err(slot.unknown()),
    }
}

fn decode_wide_load(slot: Slot, rest: &[u8]) -> Result<Insn, DecodeErrorKind> {
    slot.reserved(&[Field::Off])?;
    let dst = slot.dst()?;
    let second = Slot::from_bytes(rest.first_chunk().ok_or(DecodeErrorKind::CutWideLoad)?);
    let zero = |field: Field| match second.value(field) {
        0 => Ok(()),
        value => Err(DecodeErrorKind::BadWideLoad { field, value }),
    };
    for field in [Field::Opcode, Field::Dst, Field::Src, Field::Off] {
        zero(field)?;
    }
    let (low, high) = (slot.imm, second.imm);
    let value = match slot.src {
        pseudo::NONE => Imm64::Value(u64::from(high as u32) << 32 | u64::from(low as u32)),
        pseudo::MAP_FD => Imm64::MapFd(low),
        pseudo::MAP_VALUE => Imm64::MapValue { fd: low, offset: high as u32 },
        pseudo::VARIABLE => Imm64::Variable { btf_id: low, btf_fd: high },
        pseudo::CODE => Imm64::Code(low),
        pseudo::MAP_INDEX => Imm64::MapIndex(low),
        pseudo::MAP_INDEX_VALUE => Imm64::MapIndexValue { index: low, offset: high as u32 },
        _ => return Err(slot.bad_selector(Field::Src)),
    };
    if matches!(value, Imm64::MapFd(_) | Imm64::MapIndex(_) | Imm64::Code(_)) {
        zero(Field::Imm)?;
    }
    Ok(Insn::LoadImm64 { dst, value })
}

#[inline(always)]
fn decode_ldx(slot: Slot) -> Result<Insn, DecodeErrorKind> {
    let size = slot.size();
    let signed = match slot.mode() {
        mode::MEM => false,
        mode::MEMSX if size != Size::DW => true,
        _ => return Err(slot.unknown()),
    };
    slot.reserved(&[Field::Imm])?;
    Ok(Insn::Load { size, signed, dst: slot.dst()?, base: slot.src()?, off: slot.off })
}

#[inline(always)]
fn decode_st(slot: Slot) -> Result<Insn, DecodeErrorKind> {
    if slot.mode() != mode::MEM {
        return Err(slot.unknown());
    }
    slot.reserved(&[Field::Src])?;
    Ok(Insn::Store { size: slot.size(), base: slot.dst()?, off: slot.off, src: Operand::Imm(slot.imm) })
}

#[inline(always)]
fn decode_stx(slot: Slot) -> Result<Insn, DecodeErrorKind> {
    let (size, off) = (slot.size(), slot.off);
    match slot.mode() {
        mode::MEM => {
            slot.reserved(&[Field::Imm])?;
            Ok(Insn::Store { size, base: slot.dst()?, off, src: Operand::Reg(slot.src()?) })
        }
        mode::ATOMIC => match slot.imm {
            ordered::LOAD_ACQUIRE => Ok(Insn::LoadAcquire { size, dst: slot.dst()?, base: slot.src()?, off }),
            ordered::STORE_RELEASE => Ok(Insn::StoreRelease { size, base: slot.dst()?, off, src: slot.src()? }),
            imm => {
                let op = AtomicOp::from_bits(imm).ok_or(slot.bad_selector(Field::Imm))?;
                let width = match size {
                    Size::W => Width::W32,
                    Size::DW => Width::W64,
                    Size::B | Size::H => return Err(slot.unknown()),
                };
                Ok(Insn::Atomic { op, width, base: slot.dst()?, off, src: slot.src()? })
            }
        },
        _ => Err(slot.unknown()),
    }
}

/// The bytes of one instruction: one slot or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded {
    bytes: [u8; 2 * SLOT_BYTES],
    len: usize,
}

impl std::ops::Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl From<Slot> for Encoded {
    fn from(slot: Slot) -> Self {
        let mut bytes = [0; 2 * SLOT_BYTES];
        bytes[..SLOT_BYTES].copy_from_slice(&slot.to_bytes());
        Encoded { bytes, len: SLOT_BYTES }
    }
}

fn alu_class(width: Width) -> u8 {
    match width {
        Width::W32 => class::ALU,
        Width::W64 => class::ALU64,
    }
}

/// Source bit, source register and immediate of an operand.
fn operand_bits(operand: Operand) -> (u8, u8, i32) {
    match operand {
        Operand::Imm(imm) => (source::K, 0, imm),
        Operand::Reg(reg) => (source::X, reg.number(), 0),
    }
}

/// Whether the instruction has an encoding.
///
/// # Errors
/// As [`encode_one`].
pub fn check_one(insn: &Insn) -> Result<(), EncodeErrorKind> {
    match *insn {
        Insn::MovSx { width: Width::W32, from: from @ Size::W, .. }
        | Insn::MovSx { width: Width::W32, from: from @ Size::DW, .. } => {
            Err(EncodeErrorKind::SignExtension { from, to: Width::W32 })
        }
        Insn::MovSx { width: Width::W64, from: from @ Size::DW, .. }
        | Insn::Load { size: from @ Size::DW, signed: true, .. } => {
            Err(EncodeErrorKind::SignExtension { from, to: Width::W64 })
        }
        Insn::LoadPacket { size: Size::DW, .. } => Err(EncodeErrorKind::WidePacketLoad),
        Insn::Jump { off, long: false } if i16::try_from(off).is_err() => Err(EncodeErrorKind::FarJump(off)),
        Insn::Alu { .. }
        | Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::LoadImm64 { .. }
        | Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::LoadPacket { .. }
        | Insn::Jump { .. }
        | Insn::JumpIf { .. }
        | Insn::MayGoto { .. }
        | Insn::Call(_)
        | Insn::Exit => Ok(()),
    }
}

/// Encodes one instruction.
///
/// # Errors
/// The value is one that no bytes decode to.
pub fn encode_one(insn: &Insn) -> Result<Encoded, EncodeErrorKind> {
    check_one(insn)?;
    let slot = match *insn {
        Insn::Alu { op, width, dst, src } => {
            let (code, off) = op.bits();
            let (bit, src, imm) = operand_bits(src);
            Slot { opcode: code << 4 | bit | alu_class(width), dst: dst.number(), src, off, imm }
        }
        Insn::Neg { width, dst } => {
            Slot { opcode: op::NEG << 4 | alu_class(width), dst: dst.number(), ..Slot::default() }
        }
        Insn::MovSx { width, from, dst, src } => {
            let opcode = op::MOV << 4 | source::X | alu_class(width);
            Slot { opcode, dst: dst.number(), src: src.number(), off: 8 * from.bytes() as i16, imm: 0 }
        }
        Insn::End { order, width, dst } => {
            let (class, bit) = order.bits();
            Slot { opcode: op::END << 4 | bit | class, dst: dst.number(), imm: width.bits(), ..Slot::default() }
        }
        Insn::AddrSpaceCast { dst, src, dst_space, src_space } => Slot {
            opcode: op::MOV << 4 | source::X | class::ALU64,
            dst: dst.number(),
            src: src.number(),
            off: isa::ADDR_SPACE_CAST,
            imm: (u32::from(dst_space) << 16 | u32::from(src_space)) as i32,
        },
        Insn::LoadImm64 { dst, value } => return Ok(encode_wide_load(dst, value)),
        Insn::Load { size, signed, dst, base, off } => {
            let mode = if signed { mode::MEMSX } else { mode::MEM };
            let opcode = mode | size.bits() | class::LDX;
            Slot { opcode, dst: dst.number(), src: base.number(), off, imm: 0 }
        }
        Insn::Store { size, base, off, src } => {
            let class = match src {
                Operand::Imm(_) => class::ST,
                Operand::Reg(_) => class::STX,
            };
            let (_, src, imm) = operand_bits(src);
            Slot { opcode: mode::MEM | size.bits() | class, dst: base.number(), src, off, imm }
        }
        Insn::Atomic { op, width, base, off, src } => atomic_slot(width.size(), base, src, off, op.bits()),
        Insn::LoadAcquire { size, dst, base, off } => atomic_slot(size, dst, base, off, ordered::LOAD_ACQUIRE),
        Insn::StoreRelease { size, base, off, src } => atomic_slot(size, base, src, off, ordered::STORE_RELEASE),
        Insn::LoadPacket { size, offset } => {
            let (mode, src, imm) = match offset {
                PacketOffset::Abs(imm) => (mode::ABS, 0, imm),
                PacketOffset::Ind(reg, imm) => (mode::IND, reg.number(), imm),
            };
            Slot { opcode: mode | size.bits() | class::LD, src, imm, ..Slot::default() }
        }
        Insn::Jump { off, long: true } => Slot { opcode: op::JA << 4 | class::JMP32, imm: off, ..Slot::default() },
        Insn::Jump { off, long: false } => {
            Slot { opcode: op::JA << 4 | class::JMP, off: off as i16, ..Slot::default() }
        }
        Insn::JumpIf { condition, width, dst, src, off } => {
            let class = match width {
                Width::W32 => class::JMP32,
                Width::W64 => class::JMP,
            };
            let (bit, src, imm) = operand_bits(src);
            Slot { opcode: condition.bits() << 4 | bit | class, dst: dst.number(), src, off, imm }
        }
        Insn::MayGoto { off } => Slot { opcode: op::JCOND << 4 | class::JMP, off, ..Slot::default() },
        Insn::Call(callee) => encode_call(callee),
        Insn::Exit => Slot { opcode: op::EXIT << 4 | class::JMP, ..Slot::default() },
    };
    Ok(slot.into())
}

fn atomic_slot(size: Size, dst: Reg, src: Reg, off: i16, imm: i32) -> Slot {
    Slot { opcode: mode::ATOMIC | size.bits() | class::STX, dst: dst.number(), src: src.number(), off, imm }
}

fn encode_call(callee: Callee) -> Slot {
    let opcode = op::CALL << 4 | class::JMP;
    match callee {
        Callee::Helper(imm) => Slot { opcode, src: callee::HELPER, imm, ..Slot::default() },
        Callee::Local(imm) => Slot { opcode, src: callee::LOCAL, imm, ..Slot::default() },
        Callee::Kfunc { btf_id, module } => {
            Slot { opcode, src: callee::KFUNC, off: module, imm: btf_id, ..Slot::default() }
        }
        Callee::Reg(reg) => Slot { opcode: opcode | source::X, dst: reg.number(), ..Slot::default() },
    }
}

fn encode_wide_load(dst: Reg, value: Imm64) -> Encoded {
    let (src, low, high) = match value {
        Imm64::Value(value) => (pseudo::NONE, value as i32, (value >> 32) as i32),
        Imm64::MapFd(fd) => (pseudo::MAP_FD, fd, 0),
        Imm64::MapValue { fd, offset } => (pseudo::MAP_VALUE, fd, offset as i32),
        Imm64::Variable { btf_id, btf_fd } => (pseudo::VARIABLE, btf_id, btf_fd),
        Imm64::Code(off) => (pseudo::CODE, off, 0),
        Imm64::MapIndex(index) => (pseudo::MAP_INDEX, index, 0),
        Imm64::MapIndexValue { index, offset } => (pseudo::MAP_INDEX_VALUE, index, offset as i32),
    };
    let opcode = mode::IMM | Size::DW.bits() | class::LD;
    let first = Slot { opcode, dst: dst.number(), src, off: 0, imm: low };
    let second = Slot { imm: high, ..Slot::default() };
    let mut bytes = [0; 2 * SLOT_BYTES];
    bytes[..SLOT_BYTES].copy_from_slice(&first.to_bytes());
    bytes[SLOT_BYTES..].copy_from_slice(&second.to_bytes());
    Encoded { bytes, len: 2 * SLOT_BYTES }
}

/// The slot that an offset in the instruction at `slot` (its first one) leads to, whether it exists or not.
pub(crate) fn target_slot(slot: usize, off: i32) -> i64 {
    slot as i64 + 1 + i64::from(off)
}

/// A sequence of decoded instructions, each with the slot that it starts at.
///
/// Every instruction is valid by itself; what they are together is for [`crate::check`] to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Code {
    insns: Vec<Insn>,
    /// Slot of each instruction, and at the end the number of slots.
    slots: Vec<u32>,
}

impl Code {
    /// Decodes a whole program or section.
    ///
    /// # Errors
    /// The first slot that is not an instruction, and why.
    pub fn decode(bytes: &[u8]) -> Result<Code, DecodeError> {
        let slots = bytes.len() / SLOT_BYTES;
        let mut code = Code { insns: Vec::with_capacity(slots), slots: Vec::with_capacity(slots + 1) };
        let (mut slot, mut rest) = (0, bytes);
        while !rest.is_empty() {
            let insn = decode_one(rest).map_err(|kind| DecodeError { slot, kind })?;
            code.insns.push(insn);
            code.slots.push(slot as u32);
            slot += insn.slots();
            rest = &rest[insn.slots() * SLOT_BYTES..];
        }
        code.slots.push(slot as u32);
        Ok(code)
    }

    /// Encodes to bytes, the inverse of [`Code::decode`].
    ///
    /// # Errors
    /// The first instruction that has no encoding.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::with_capacity(self.slot_count() * SLOT_BYTES);
        for (index, insn) in self.insns.iter().enumerate() {
            bytes.extend_from_slice(&encode_one(insn).map_err(|kind| EncodeError { index, kind })?);
        }
        Ok(bytes)
    }

    /// The instructions in order.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// The instructions in order, for a linker to put addresses in; their number of slots must stay.
    pub(crate) fn insns_mut(&mut self) -> &mut [Insn] {
        &mut self.insns
    }

    /// Slots in all: what the kernel calls the program's number of instructions.
    pub fn slot_count(&self) -> usize {
        self.slots.last().map_or(0, |&slot| slot as usize)
    }

    /// Slot at which instruction `index` starts; `index == len` gives [`Code::slot_count`].
    pub fn slot_of(&self, index: usize) -> Option<usize> {
        self.slots.get(index).map(|&slot| slot as usize)
    }

    /// Index of the instruction that starts at `slot`; `None` inside a wide load and past the end.
    pub fn index_at(&self, slot: usize) -> Option<usize> {
        // An instruction's index is its slot less the number of wide loads before it.
        let wide = self.slots.last().map_or(0, |&slots| slots as usize) - self.insns.len();
        let (first, end) = (slot.saturating_sub(wide), slot.saturating_add(1).min(self.insns.len()));
        let found = self.slots.get(first..end)?.binary_search(&u32::try_from(slot).ok()?).ok()?;
        Some(first + found)
    }

    /// Index of the instruction that instruction `index` leads to with the offset of a jump, a local call or the address of a
    /// function: so many slots away from the slot behind its first one (RFC 9669 section 4.3, where jumps have one slot).
    /// `None` inside a wide load and outside the program.
    ///
    /// ```
    /// let code = softbpf::text::parse::parse("goto +2\n r0 = 1 ll\n exit")?.code;
    /// assert_eq!((code.target(0, 2), code.target(0, 1)), (Some(2), None));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn target(&self, index: usize, off: i32) -> Option<usize> {
        let slot_of = |index: usize| self.slots.get(index).map(|&slot| i64::from(slot));
        let slot = target_slot(self.slot_of(index)?, off);
        // So many instructions away, if no wide load lies between. Else that is too far: by so many slots, and by at least half
        // as many instructions.
        let mut found = (index as i64 + 1 + i64::from(off)).clamp(0, self.insns.len() as i64) as usize;
        let mut distance = slot_of(found)? - slot;
        let forward = off >= 0;
        while distance != 0 && forward == (distance > 0) {
            let half = distance.unsigned_abs().div_ceil(2) as usize;
            found = if forward { found.checked_sub(half)? } else { found + half };
            distance = slot_of(found)? - slot;
        }
        (distance == 0 && found < self.insns.len()).then_some(found)
    }

    /// Slot and instruction, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (usize, &Insn)> {
        self.insns.iter().zip(&self.slots).map(|(insn, &slot)| (slot as usize, insn))
    }

    /// Appends another sequence behind this one.
    pub fn append(&mut self, other: &Code) {
        let mut insns = std::mem::take(&mut self.insns);
        insns.extend_from_slice(&other.insns);
        *self = Code::from(insns);
    }

    /// The instructions of a range of slots; `None` unless it starts and ends between instructions.
    pub fn slice(&self, slots: std::ops::Range<usize>) -> Option<Code> {
        let edge = |slot: usize| self.slots.binary_search(&u32::try_from(slot).ok()?).ok();
        Some(Code::from(self.insns.get(edge(slots.start)?..edge(slots.end)?)?.to_vec()))
    }
}

impl From<Vec<Insn>> for Code {
    fn from(insns: Vec<Insn>) -> Code {
        let mut slots = Vec::with_capacity(insns.len() + 1);
        let mut slot = 0;
        for insn in &insns {
            slots.push(slot);
            slot += insn.slots() as u32;
        }
        slots.push(slot);
        Code { insns, slots }
    }
}

impl FromIterator<Insn> for Code {
    fn from_iter<I: IntoIterator<Item = Insn>>(insns: I) -> Code {
        Code::from(insns.into_iter().collect::<Vec<_>>())
    }
}
