//! What an instruction does to what is known.

use softbpf::insn::{AluOp, AtomicOp, ByteOrder, Callee, Imm64, Insn, Reg, Size, SwapWidth, Width};
use softbpf::map_spec::MapType;
use softbpf::semantics;

use super::state::State;
use super::value::{ANY, Range, Region, Value};
use super::{Pass, Plan, Test};

/// Number of `bpf_map_lookup_elem`.
pub(crate) const MAP_LOOKUP_ELEM: i32 = 1;

impl Pass<'_> {
    /// Takes note of one instruction; false when control does not go on behind it.
    pub(super) fn step(&mut self, index: usize, slot: usize, insn: &Insn, state: &mut State) -> bool {
        match *insn {
            Insn::Alu { op, width, dst, src } => {
                let value = alu(op, width, state.get(dst), state.operand(src));
                state.set(dst, value);
            }
            Insn::Neg { dst, .. } => state.set(dst, Value::UNKNOWN),
            Insn::MovSx { dst, src, .. } => {
                let value = state.get(src).hint();
                state.set(dst, value);
            }
            Insn::End { order, width, dst } => state.set(dst, byte_order(order, width, state.get(dst))),
            Insn::AddrSpaceCast { dst, .. } => state.set(dst, Value::UNKNOWN),
            Insn::LoadImm64 { dst, value } => state.set(dst, self.imm64(slot, value)),
            Insn::Load { size, signed, dst, base, off } => self.load(index, state, size, signed, dst, (base, off)),
            Insn::LoadAcquire { size, dst, base, off } => self.load(index, state, size, false, dst, (base, off)),
            Insn::Store { size, base, off, src } => {
                let value = state.operand(src);
                self.store(index, state, size, (base, off), value);
            }
            Insn::StoreRelease { size, base, off, src } => {
                let value = state.get(src);
                self.store(index, state, size, (base, off), value);
            }
            Insn::Atomic { op, width, base, off, src } => self.atomic(index, state, op, width, (base, off), src),
            Insn::LoadPacket { .. } => {
                state.clobber();
                state.set(Reg::R0, Value::Number(Range::LOW));
            }
            Insn::Jump { off, .. } => {
                self.jump(index, slot, off, state.clone());
                return false;
            }
            Insn::JumpIf { condition, width, dst, src, off } => {
                self.branch(index, slot, off.into(), state, Test { condition, width, dst, src });
            }
            Insn::MayGoto { off } => self.jump(index, slot, off.into(), state.clone()),
            Insn::Call(callee) => self.call(index, callee, state),
            Insn::Exit => return false,
        }
        true
    }

    fn imm64(&self, slot: usize, value: Imm64) -> Value {
        match value {
            Imm64::MapValue { fd: index, offset } | Imm64::MapIndexValue { index, offset } => {
                match u32::try_from(index) {
                    Ok(index) => Value::Pointer(Region::Data(index), Range::exactly(offset.into())),
                    Err(_) => Value::UNKNOWN,
                }
            }
            Imm64::Value(_) | Imm64::MapFd(_) | Imm64::MapIndex(_) | Imm64::Code(_) | Imm64::Variable { .. } => {
                self.machine.imm64(self.id, slot, value).map_or(Value::UNKNOWN, Value::number)
            }
        }
    }

    fn load(&mut self, index: usize, state: &mut State, size: Size, signed: bool, dst: Reg, (base, off): (Reg, i16)) {
        let plan = self.plan(state, base, off, size, true, false);
        self.proofs.plans[index] = plan;
        let loaded = match (plan, size) {
            (Plan::Proved(Region::Stack, at), Size::DW) if at.min == at.max => state.spilled(at.min),
            (Plan::Proved(Region::Context, at), Size::W) if at.min == at.max && !signed => self.context_field(at.min),
            _ => Value::UNKNOWN,
        };
        let value = match size {
            _ if signed || loaded != Value::UNKNOWN => loaded,
            Size::DW => Value::UNKNOWN,
            Size::B | Size::H | Size::W => Value::Number(Range { min: 0, max: u64::MAX >> (64 - 8 * size.bytes()) }),
        };
        state.set(dst, value);
    }

    /// What a field of the context holds: the packet pointers are known.
    fn context_field(&mut self, at: i64) -> Value {
        let Some(fields) = self.packet_fields else { return Value::UNKNOWN };
        let value = if at == fields.data {
            Value::Pointer(Region::Packet, Range::exactly(0))
        } else if at == fields.data_end {
            Value::PacketEnd
        } else {
            return Value::UNKNOWN;
        };
        self.proofs.assumptions.packet = Some(fields);
        value
    }

    fn store(&mut self, index: usize, state: &mut State, size: Size, (base, off): (Reg, i16), value: Value) {
        let plan = self.plan(state, base, off, size, false, true);
        self.proofs.plans[index] = plan;
        if let Plan::Proved(Region::Stack, at) = plan
            && at.min == at.max
            && size == Size::DW
        {
            state.spill(at.min, value);
        } else {
            written(state, plan, size);
        }
    }

    fn atomic(
        &mut self,
        index: usize,
        state: &mut State,
        op: AtomicOp,
        width: Width,
        (base, off): (Reg, i16),
        src: Reg,
    ) {
        let size = match width {
            Width::W32 => Size::W,
            Width::W64 => Size::DW,
        };
        let plan = self.plan(state, base, off, size, true, true);
        self.proofs.plans[index] = plan;
        written(state, plan, size);
        match op {
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
            AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
                state.set(src, Value::UNKNOWN);
            }
            AtomicOp::Cmpxchg => state.set(Reg::R0, Value::UNKNOWN),
        }
    }

    fn call(&mut self, index: usize, callee: Callee, state: &mut State) {
        let map = state.get(Reg::R1);
        state.clobber();
        if callee == Callee::Helper(MAP_LOOKUP_ELEM) && !self.machine.is_mocked(MAP_LOOKUP_ELEM) {
            // It writes nothing.
            self.proofs.assumptions.lookup = true;
            if let Some(map) = self.looked_up(map) {
                let id = index as u32;
                // What this very call has given before is another value now.
                state.replace_maybe_null(id, Value::UNKNOWN);
                state.set(Reg::R0, Value::MaybeNull { map, id });
            }
            return;
        }
        state.doubt_spilled();
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
        if known.contains(&map_type) { u32::try_from(index).ok() } else { None }
    }
}

/// A store has been made.
fn written(state: &mut State, plan: Plan, size: Size) {
    match plan {
        Plan::Proved(Region::Stack, at) => {
            state.overwrite(Range { min: at.min, max: at.max + i64::from(size.bytes()) - 1 });
        }
        // Inside another object.
        Plan::Proved(Region::Context | Region::Packet | Region::Data(_) | Region::Element(_), _) => {}
        Plan::Unknown | Plan::Likely(_) => state.doubt_spilled(),
    }
}

fn alu(op: AluOp, width: Width, dst: Value, src: Value) -> Value {
    if let (Some(dst), Some(src)) = (dst.constant(), src.constant()) {
        return Value::number(semantics::alu(op, width, dst, src));
    }
    let wide = alu64(op, dst, src);
    match width {
        Width::W64 => wide,
        Width::W32 => low(op, dst, src, wide),
    }
}

fn alu64(op: AluOp, dst: Value, src: Value) -> Value {
    let (range, other) = (dst.range(), src.range());
    let number = |min: Option<u64>, max: Option<u64>| match (min, max) {
        (Some(min), Some(max)) => Value::Number(Range { min, max }),
        _ => Value::UNKNOWN,
    };
    match op {
        AluOp::Mov => src,
        AluOp::Add => dst.plus(src),
        AluOp::Sub => dst.minus(src),
        AluOp::And => match (dst, src) {
            // Cutting the offset of a pointer.
            (Value::Pointer(region, _), Value::Number(_)) => Value::Pointer(region, ANY),
            _ => Value::Number(Range { min: 0, max: range.max.min(other.max) }),
        },
        AluOp::Or | AluOp::Xor => {
            number(Some(0), (range.max | other.max).checked_add(1).map(next_power).or(Some(u64::MAX)))
        }
        AluOp::Mul => number(range.min.checked_mul(other.min), range.max.checked_mul(other.max)),
        AluOp::Lsh => match src.constant() {
            Some(amount) if amount < 64 && range.max.leading_zeros() as u64 >= amount => {
                Value::Number(Range { min: range.min << amount, max: range.max << amount })
            }
            _ => Value::UNKNOWN,
        },
        AluOp::Rsh => match src.constant() {
            Some(amount) => Value::Number(Range { min: range.min >> (amount & 63), max: range.max >> (amount & 63) }),
            None => Value::Number(Range { min: 0, max: range.max }),
        },
        AluOp::Div => Value::Number(Range { min: 0, max: range.max }),
        AluOp::Mod => match src.constant() {
            Some(divisor) if divisor > 0 => Value::Number(Range { min: 0, max: range.max.min(divisor - 1) }),
            _ => Value::Number(Range { min: 0, max: range.max }),
        },
        AluOp::Sdiv | AluOp::Smod | AluOp::Arsh => Value::UNKNOWN,
    }
}

/// The largest number with as many bits as those below a power of two.
fn next_power(above: u64) -> u64 {
    above.checked_next_power_of_two().map_or(u64::MAX, |power| power - 1)
}

/// What the low half of an operation is, cleared above: the operation on low halves, where nothing is carried out of them.
fn low(op: AluOp, dst: Value, src: Value, wide: Value) -> Value {
    let fits = |value: Value| value.range().max <= Range::LOW.max;
    match wide {
        // A pointer's low half is the pointer, if it is one; but that is not claimed.
        Value::Pointer(..) | Value::MaybeNull { .. } | Value::PacketEnd => wide.hint(),
        Value::Number(range) => {
            let unary = op == AluOp::Mov;
            // A shift's amount is cut at another width.
            let amount = || src.constant().is_some_and(|amount| amount < 32);
            let shift = matches!(op, AluOp::Lsh | AluOp::Rsh);
            let same = fits(src) && (unary || fits(dst)) && fits(wide) && (!shift || amount());
            if same { Value::Number(range) } else { Value::Number(Range::LOW) }
        }
    }
}

fn byte_order(order: ByteOrder, width: SwapWidth, value: Value) -> Value {
    match (order, width) {
        (ByteOrder::Le, SwapWidth::B64) => value,
        (_, SwapWidth::B16) => Value::Number(Range { min: 0, max: u16::MAX.into() }),
        (_, SwapWidth::B32) => Value::Number(Range::LOW),
        (ByteOrder::Be | ByteOrder::Bswap, SwapWidth::B64) => Value::UNKNOWN,
    }
}
