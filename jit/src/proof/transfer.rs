//! What an instruction does to what is known.

use softbpf::helpers::steady_helper;
use softbpf::insn::{AluOp, AtomicOp, ByteOrder, Callee, Imm64, Insn, Operand, Reg, Size, SwapWidth, Width};
use softbpf::map_spec::MapType;
use softbpf::memory::STACK_FRAME;
use softbpf::semantics;

use super::state::State;
use super::value::{Found, Offsets, Packed, Region, Value};
use super::{Lookup, Pass, Plan};
use crate::fault::Fault;

/// Number of `bpf_map_lookup_elem`.
pub(crate) const MAP_LOOKUP_ELEM: i32 = 1;

impl Pass<'_> {
    /// Takes note of one instruction.
    #[inline(always)]
    pub(super) fn step(&mut self, index: usize, insn: &Insn, state: &mut State) {
        match *insn {
            // The two kinds of operands are told apart here, so that no more of the instruction is read than there is.
            Insn::Alu { op, width, dst, src: Operand::Reg(src) } => {
                let operand = state.packed(src);
                self.alu(state, op, width, dst, operand);
            }
            Insn::Alu { op, width, dst, src: Operand::Imm(imm) } => {
                self.alu(state, op, width, dst, Packed::immediate(imm));
            }
            Insn::Neg { dst, .. } => state.set(dst, Packed::UNKNOWN),
            Insn::MovSx { dst, src, .. } => {
                let value = state.get(src).hint();
                state.set(dst, value);
            }
            Insn::End { order, width, dst } => state.set(dst, byte_order(order, width, state.get(dst))),
            Insn::AddrSpaceCast { dst, .. } => state.set(dst, Packed::UNKNOWN),
            Insn::LoadImm64 { dst, value } => state.set(dst, self.imm64(index, value)),
            Insn::Load { size, signed, dst, base, off } => self.load(index, state, size, signed, dst, (base, off)),
            Insn::LoadAcquire { size, dst, base, off } => self.load(index, state, size, false, dst, (base, off)),
            Insn::Store { size, base, off, src: Operand::Reg(src) } => {
                let value = state.packed(src);
                self.store(index, state, size, (base, off), value);
            }
            Insn::Store { size, base, off, src: Operand::Imm(imm) } => {
                self.store(index, state, size, (base, off), Packed::immediate(imm));
            }
            Insn::StoreRelease { size, base, off, src } => {
                let value = state.packed(src);
                self.store(index, state, size, (base, off), value);
            }
            Insn::Atomic { op, width, base, off, src } => self.atomic(index, state, op, width, (base, off), src),
            Insn::LoadPacket { .. } => {
                state.clobber();
                state.set(Reg::R0, Packed::LOW);
            }
            Insn::Call(callee) => self.call(index, callee, state),
            // What they tell depends on where control goes.
            Insn::Jump { .. } | Insn::JumpIf { .. } | Insn::MayGoto { .. } | Insn::Exit => {}
        }
    }

    #[inline(always)]
    fn alu(&self, state: &mut State, op: AluOp, width: Width, dst: Reg, src: Packed) {
        if op == AluOp::Add && self.planted.is(Fault::ProofAddIgnoresUnknown) && src.unpack().constant().is_none() {
            return;
        }
        state.set(dst, alu(op, width, state.packed(dst), src));
    }

    fn imm64(&self, index: usize, value: Imm64) -> Value {
        match value {
            Imm64::MapValue { fd: index, offset } | Imm64::MapIndexValue { index, offset } => {
                match u32::try_from(index) {
                    Ok(index) if offset < 1 << 30 => {
                        Value::pointer(Region::Data(index), Offsets::exactly(offset as i32))
                    }
                    Ok(_) | Err(_) => Value::UNKNOWN,
                }
            }
            Imm64::Value(_) | Imm64::MapFd(_) | Imm64::MapIndex(_) | Imm64::Code(_) | Imm64::Variable { .. } => self
                .machine
                .imm64(self.id, self.code.slot_of(index).unwrap_or(0), value)
                .map_or(Value::UNKNOWN, Value::Constant),
        }
    }

    #[inline(always)]
    fn load(&mut self, index: usize, state: &mut State, size: Size, signed: bool, dst: Reg, (base, off): (Reg, i16)) {
        let plan = self.plan(index, state, (base, off), size, true, false);
        self.proofs.plans.set(index, plan);
        let value = match size {
            Size::B | Size::H | Size::W if signed => Packed::UNKNOWN,
            Size::B => Packed::of_bits(8),
            Size::H => Packed::of_bits(16),
            Size::W => self.context_field(plan).unwrap_or(Packed::LOW),
            Size::DW => spilled_at(plan).map_or(Packed::UNKNOWN, |at| state.spilled(at)),
        };
        state.set(dst, value);
    }

    /// What a field of the context holds, if that is known: the packet pointers are.
    #[inline(always)]
    fn context_field(&mut self, plan: Plan) -> Option<Packed> {
        let fields = self.packet_fields?;
        let Plan::Proved(place) = plan else { return None };
        let at = place.offsets().single().filter(|_| place.region() == Region::Context)?;
        let value = if at == fields.data {
            Value::start_of(Region::Packet)
        } else if at == fields.data_end {
            Value::PacketEnd
        } else {
            return None;
        };
        self.proofs.assumptions.packet = Some(fields);
        Some(value.into())
    }

    #[inline(always)]
    fn store(&mut self, index: usize, state: &mut State, size: Size, (base, off): (Reg, i16), value: Packed) {
        let plan = self.plan(index, state, (base, off), size, false, true);
        self.proofs.plans.set(index, plan);
        match spilled_at(plan) {
            Some(at) if size == Size::DW => state.spill(at, value),
            Some(_) | None => self.written(state, plan, size),
        }
    }

    #[inline(never)]
    fn atomic(
        &mut self,
        index: usize,
        state: &mut State,
        op: AtomicOp,
        width: Width,
        (base, off): (Reg, i16),
        src: Reg,
    ) {
        let size = width.size();
        let plan = self.plan(index, state, (base, off), size, true, true);
        self.proofs.plans.set(index, plan);
        self.written(state, plan, size);
        match op {
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
            AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
                state.set(src, Packed::UNKNOWN);
            }
            AtomicOp::Cmpxchg => state.set(Reg::R0, Packed::UNKNOWN),
        }
    }

    #[inline(never)]
    fn call(&mut self, index: usize, callee: Callee, state: &mut State) {
        let (map, key) = (state.get(Reg::R1), state.get(Reg::R2));
        if self.planted.is(Fault::ProofCallKeepsArguments) {
            state.set(Reg::R0, Packed::UNKNOWN);
        } else {
            state.clobber();
        }
        if callee == Callee::Helper(MAP_LOOKUP_ELEM) && !self.machine.is_mocked(MAP_LOOKUP_ELEM) {
            // It writes nothing.
            self.proofs.assumptions.not_mocked(MAP_LOOKUP_ELEM);
            if let Some(map) = self.looked_up(map) {
                let id = index as u32;
                self.proofs.plans.set(index, Plan::Lookup(Lookup::new(map, self.key_in_frame(map, key))));
                // What this very call has given before is another value now.
                state.replace_maybe_null(id, Value::UNKNOWN);
                state.set(Reg::R0, Found::new(map, id).map_or(Value::UNKNOWN, Value::MaybeNull));
                if self.planted.is(Fault::ProofNeverNull) {
                    state.set(Reg::R0, Value::start_of(Region::Element(map)));
                }
            }
            return;
        }
        if let Callee::Helper(number) = callee
            && let Some(place) = steady_helper(number)
            && !self.machine.is_mocked(number)
        {
            // Nor does it.
            self.proofs.assumptions.not_mocked(number);
            self.proofs.plans.set(index, Plan::Answer(place as u64));
            return;
        }
        if !self.planted.is(Fault::ProofHelperKeepsSpilled) {
            state.doubt_spilled();
        }
    }

    /// A store has been made.
    fn written(&self, state: &mut State, plan: Plan, size: Size) {
        match plan {
            Plan::Proved(place) => {
                // Or inside another object.
                if place.region() == Region::Stack {
                    let at = place.offsets();
                    state.overwrite(at.min, at.max + size.bytes() as i32 - 1);
                }
            }
            Plan::Unknown | Plan::Likely(_) if self.planted.is(Fault::ProofStoreKeepsSpilled) => {}
            Plan::Unknown | Plan::Likely(_) | Plan::Lookup(_) | Plan::Answer(_) => state.doubt_spilled(),
        }
    }

    /// The map that a lookup looks into, if what it gives is an address of a value or null.
    fn looked_up(&self, map: Value) -> Option<u32> {
        let index = self.machine.map_of_handle(map.constant()?)?;
        let map_type = self.machine.map_info(index)?.map_type();
        let known = [
            MapType::Array,
            MapType::PercpuArray,
            MapType::Hash,
            MapType::PercpuHash,
            MapType::LruHash,
            MapType::LruPercpuHash,
        ];
        let map = u32::try_from(index).ok().filter(|&map| Found::new(map, 0).is_some());
        map.filter(|_| known.contains(&map_type))
    }

    /// Where a key of this map is on the stack, if it is all in the frame.
    fn key_in_frame(&self, map: u32, key: Value) -> Option<i32> {
        let Value::Pointer(place) = key else { return None };
        let at = place.offsets().single().filter(|_| place.region() == Region::Stack)?;
        let size = i32::try_from(self.machine.map_info(map as usize)?.key_size()).ok()?;
        (at >= -(STACK_FRAME as i32) && at <= -size).then_some(at)
    }
}

/// Offset of an access of the stack frame, if it is known.
#[inline(always)]
fn spilled_at(plan: Plan) -> Option<i32> {
    let Plan::Proved(place) = plan else { return None };
    place.offsets().single().filter(|_| place.is_on_stack())
}

/// What an operation makes of two values: most are copies, or of any number, which it stays.
#[inline(always)]
fn alu(op: AluOp, width: Width, dst: Packed, src: Packed) -> Packed {
    if width == Width::W64 {
        if op == AluOp::Mov {
            return src;
        }
        if dst == Packed::UNKNOWN && keeps_unknown(op) && (src.is_up_to() || src.is_constant()) {
            return dst;
        }
        if op == AluOp::Rsh
            && let Some(less) = dst.shifted_right(src)
        {
            return less;
        }
    }
    alu_slowly(op, width, dst, src)
}

/// Whether an operation on any number and another one gives any number.
#[inline(always)]
fn keeps_unknown(op: AluOp) -> bool {
    matches!(op, AluOp::Add | AluOp::Sub | AluOp::Mul | AluOp::Or | AluOp::Xor | AluOp::Lsh | AluOp::Arsh)
}

#[inline(never)]
fn alu_slowly(op: AluOp, width: Width, dst: Packed, src: Packed) -> Packed {
    let (dst, src) = (dst.unpack(), src.unpack());
    let value = match (op, dst, src) {
        (_, Value::Constant(dst), Value::Constant(src)) => Value::Constant(semantics::alu(op, width, dst, src)),
        (AluOp::Mov, _, Value::Constant(src)) => Value::Constant(src & u64::from(u32::MAX)),
        (..) if width == Width::W64 => alu64(op, dst, src),
        (..) => alu32(op, dst, src),
    };
    value.into()
}

#[inline(never)]
fn alu64(op: AluOp, dst: Value, src: Value) -> Value {
    let (largest, other) = (dst.largest(), src.largest());
    let bits = |value: u64| u64::MAX.checked_shr(value.leading_zeros()).unwrap_or(0);
    match op {
        AluOp::Mov => src,
        AluOp::Add => dst.plus(src),
        AluOp::Sub => dst.minus(src),
        AluOp::And => match dst {
            // Cutting the offset of a pointer.
            Value::Pointer(_) => dst.hint(),
            Value::Constant(_) | Value::UpTo(_) | Value::MaybeNull(_) | Value::PacketEnd => {
                Value::UpTo(largest.min(other))
            }
        },
        AluOp::Or | AluOp::Xor => Value::UpTo(bits(largest | other)),
        AluOp::Mul => Value::UpTo(largest.saturating_mul(other)),
        AluOp::Lsh => match src.constant() {
            Some(amount) if u64::from(largest.leading_zeros()) >= amount && amount < 64 => {
                Value::UpTo(largest << amount)
            }
            _ => Value::UNKNOWN,
        },
        AluOp::Rsh => match src.constant() {
            Some(amount) => Value::UpTo(largest >> (amount & 63)),
            _ => Value::UpTo(largest),
        },
        AluOp::Div => Value::UpTo(largest),
        AluOp::Mod => match src.constant() {
            Some(divisor) if divisor > 0 => Value::UpTo(largest.min(divisor - 1)),
            _ => Value::UpTo(largest),
        },
        AluOp::Sdiv | AluOp::Smod | AluOp::Arsh => Value::UNKNOWN,
    }
}

/// The operation on low halves, cleared above: the same as on whole registers that have nothing above, where nothing is
/// carried out of the low half and no amount is cut at the other width.
#[inline(never)]
fn alu32(op: AluOp, dst: Value, src: Value) -> Value {
    const LARGEST: u64 = u32::MAX as u64;
    let cut = |value: Value| Value::UpTo(value.largest().min(LARGEST));
    let fits = |value: Value| value.largest() <= LARGEST;
    let known = match op {
        AluOp::And => Some(Value::UpTo(dst.largest().min(src.largest()))),
        AluOp::Rsh | AluOp::Lsh if src.constant().is_some_and(|amount| amount < 32) => Some(alu64(op, cut(dst), src)),
        AluOp::Mov => Some(src),
        AluOp::Add | AluOp::Mul | AluOp::Div | AluOp::Or | AluOp::Mod | AluOp::Xor if fits(dst) && fits(src) => {
            Some(alu64(op, dst, src))
        }
        AluOp::Add
        | AluOp::Sub
        | AluOp::Mul
        | AluOp::Div
        | AluOp::Sdiv
        | AluOp::Or
        | AluOp::Lsh
        | AluOp::Rsh
        | AluOp::Mod
        | AluOp::Smod
        | AluOp::Xor
        | AluOp::Arsh => None,
    };
    match known {
        Some(known) if fits(known) => known,
        _ => low(dst, src, op),
    }
}

/// Any number of 32 bits; likely a pointer still, if one was moved or added to, for a pointer has no more bits.
fn low(dst: Value, src: Value, op: AluOp) -> Value {
    let pointer = if op == AluOp::Mov { src } else { dst };
    let moves = matches!(op, AluOp::Mov | AluOp::Add | AluOp::Sub);
    match pointer {
        Value::Pointer(_) | Value::MaybeNull(_) if moves => pointer.hint(),
        Value::Constant(_) | Value::UpTo(_) | Value::Pointer(_) | Value::MaybeNull(_) | Value::PacketEnd => Value::LOW,
    }
}

fn byte_order(order: ByteOrder, width: SwapWidth, value: Value) -> Value {
    match (order, width) {
        (ByteOrder::Le, SwapWidth::B64) => value,
        (_, SwapWidth::B16) => Value::UpTo(u16::MAX.into()),
        (_, SwapWidth::B32) => Value::LOW,
        (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B64) => Value::UNKNOWN,
    }
}
