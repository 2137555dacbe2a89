//! The instructions between the first values and the end.

use arbitrary::{Result, Unstructured};
use softbpf::asm::{R0, R1, R2, R3, R4, R5, R9, R10};
use softbpf::insn::{AluOp, AtomicOp, ByteOrder, Condition, Insn, Operand, Reg, Size, SwapWidth, Width};

use super::Level;
use super::{INPUT, Knobs, PLAYGROUND, STACK_WINDOW, VALUES, idioms, values};

/// Bytes of a stack frame.
const FRAME: i16 = 512;

/// Instructions that stay together: no jump leads between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    insns: Vec<Insn>,
    /// How many items the last instruction, a jump, jumps over.
    over: Option<usize>,
}

impl From<Insn> for Item {
    fn from(insn: Insn) -> Item {
        Item { insns: vec![insn], over: None }
    }
}

impl From<Vec<Insn>> for Item {
    fn from(insns: Vec<Insn>) -> Item {
        Item { insns, over: None }
    }
}

impl Item {
    fn slots(&self) -> usize {
        self.insns.iter().map(Insn::slots).sum()
    }
}

fn all_arithmetic(insns: &[Insn]) -> bool {
    insns.iter().all(|insn| matches!(insn, Insn::Alu { .. }))
}

/// All instructions in order, the jumps pointed to where they lead. Those that would leave the list lead to its end.
pub(super) fn aim(items: &[Item]) -> Vec<Insn> {
    let mut insns = Vec::new();
    for (index, item) in items.iter().enumerate() {
        insns.extend_from_slice(&item.insns);
        if let (Some(over), Some(jump)) = (item.over, insns.last_mut()) {
            let distance: usize = items[index + 1..].iter().take(over).map(Item::slots).sum();
            *jump = super::aim(*jump, i16::try_from(distance).unwrap_or(0).into());
        }
    }
    insns
}

/// Where an access goes.
struct Place {
    /// What makes the base register.
    before: Vec<Insn>,
    base: Reg,
    off: i16,
    /// What makes the base register a number again.
    after: Vec<Insn>,
}

/// Kinds of instruction.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Alu,
    Idiom,
    Unary,
    Value,
    Memory,
    Atomic,
    Jump,
    Call,
}

/// Makes the instructions that the knobs allow.
pub(super) struct Body<'k> {
    knobs: &'k Knobs,
    kinds: Vec<Kind>,
    /// Registers that hold numbers.
    numbers: Vec<Reg>,
    /// Functions that calls name by number.
    pub(super) functions: Vec<Vec<Insn>>,
}

impl<'k> Body<'k> {
    pub(super) fn new(knobs: &'k Knobs) -> Body<'k> {
        let mut kinds = vec![Kind::Alu; 8];
        kinds.extend([Kind::Unary, Kind::Unary, Kind::Unary, Kind::Value, Kind::Value, Kind::Idiom, Kind::Idiom]);
        for (on, kind, weight) in [
            (knobs.memory, Kind::Memory, 4),
            (knobs.atomics, Kind::Atomic, 4),
            (knobs.jumps, Kind::Jump, 3),
            (knobs.calls, Kind::Call, 1),
        ] {
            if on {
                kinds.extend(vec![kind; weight]);
            }
        }
        Body { knobs, kinds, numbers: Reg::ALL[..VALUES].to_vec(), functions: Vec::new() }
    }

    /// One item of instructions that change no register but these, of which there are two at least.
    pub(super) fn item_on(&mut self, u: &mut Unstructured<'_>, numbers: Vec<Reg>) -> Result<Vec<Insn>> {
        self.numbers = numbers;
        Ok(self.item(u)?.insns)
    }

    pub(super) fn items(&mut self, u: &mut Unstructured<'_>, count: usize) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        while items.len() < count {
            let item = self.item(u)?;
            // Now and then jumps may lead into the middle.
            if item.over.is_none() && item.insns.len() > 1 && u.ratio(1, 4)? && all_arithmetic(&item.insns) {
                items.extend(item.insns.into_iter().map(Item::from));
            } else {
                items.push(item);
            }
        }
        Ok(items)
    }

    fn item(&mut self, u: &mut Unstructured<'_>) -> Result<Item> {
        Ok(match *u.choose(&self.kinds)? {
            Kind::Alu => self.alu(u)?,
            Kind::Idiom => {
                let registers = [self.register(u)?, self.register(u)?, self.register(u)?];
                idioms::idiom(u, registers)?.into()
            }
            Kind::Unary => self.unary(u)?.into(),
            Kind::Value => {
                let reg = self.register(u)?;
                values::load(u, reg)?.into()
            }
            Kind::Memory => self.memory(u)?,
            Kind::Atomic => self.atomic(u)?,
            Kind::Jump => self.jump(u)?,
            Kind::Call => self.call(u)?,
        })
    }

    /// Whether there are the instructions of this level.
    fn has(&self, level: Level) -> bool {
        self.knobs.level >= level
    }

    /// One of the registers that hold numbers.
    fn register(&self, u: &mut Unstructured<'_>) -> Result<Reg> {
        Ok(*u.choose(&self.numbers)?)
    }

    /// One of them, but not this.
    fn other_register(&self, u: &mut Unstructured<'_>, but: Reg) -> Result<Reg> {
        let reg = self.register(u)?;
        let other = || self.numbers.iter().copied().find(|&other| other != but);
        Ok(if reg != but { reg } else { other().unwrap_or(R0) })
    }

    /// A register to read: where nobody minds, also one of the pointers.
    fn source(&self, u: &mut Unstructured<'_>) -> Result<Reg> {
        if !self.knobs.is_portable() && u.ratio(1, 16)? { Ok(*u.choose(&[R9, R10])?) } else { self.register(u) }
    }

    fn operand(&self, u: &mut Unstructured<'_>) -> Result<Operand> {
        Ok(if u.arbitrary()? { self.source(u)?.into() } else { values::imm(u)?.into() })
    }

    fn alu(&self, u: &mut Unstructured<'_>) -> Result<Item> {
        let op = *u.choose(AluOp::ALL)?;
        let op = if self.has(Level::V4) { op } else { unsigned(op) };
        let width = width(u)?;
        let dst = self.register(u)?;
        // Signed division has a corner of its own.
        let often = if matches!(op, AluOp::Sdiv | AluOp::Smod) { 3 } else { 8 };
        if u.ratio(1, often)? {
            let src = self.other_register(u, dst)?;
            let (a, b) = values::pair(u)?;
            let insn = Insn::Alu { op, width, dst, src: src.into() };
            return Ok(vec![Insn::load_imm64(dst, a), Insn::load_imm64(src, b), insn].into());
        }
        let src = match (op, self.operand(u)?) {
            (_, Operand::Reg(reg)) => Operand::Reg(reg),
            (AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, Operand::Imm(imm)) => {
                let any = self.knobs.masked_shifts && u.ratio(1, 8)?;
                Operand::Imm(if any { imm } else { shift(u, width)? })
            }
            // The verifier refuses a division by an immediate zero.
            (AluOp::Div | AluOp::Sdiv | AluOp::Mod | AluOp::Smod, Operand::Imm(0)) if self.knobs.kernel_acceptable => {
                Operand::Imm(-1)
            }
            (_, Operand::Imm(imm)) => Operand::Imm(imm),
        };
        Ok(Insn::Alu { op, width, dst, src }.into())
    }

    fn unary(&self, u: &mut Unstructured<'_>) -> Result<Insn> {
        let (width, dst) = (width(u)?, self.register(u)?);
        Ok(match u.int_in_range(0..=3)? {
            0 => Insn::Neg { width, dst },
            kind if kind == 1 || !self.has(Level::V4) => {
                let orders = if self.has(Level::V4) { ByteOrder::ALL } else { &[ByteOrder::Le, ByteOrder::Be] };
                Insn::End { order: *u.choose(orders)?, width: *u.choose(&SwapWidth::ALL)?, dst }
            }
            _ => {
                let sizes: &[Size] = match width {
                    Width::W32 => &[Size::B, Size::H],
                    Width::W64 => &[Size::B, Size::H, Size::W],
                };
                Insn::MovSx { width, from: *u.choose(sizes)?, dst, src: self.source(u)? }
            }
        })
    }

    fn memory(&self, u: &mut Unstructured<'_>) -> Result<Item> {
        let size = *u.choose(Size::ALL)?;
        let place = self.place(u, size, false)?;
        let Place { base, off, .. } = place;
        let other = self.other_register(u, base)?;
        let insn = match u.int_in_range(0..=3)? {
            0 => Insn::Load { size, signed: false, dst: other, base, off },
            1 => Insn::Load { size, signed: size != Size::DW && self.has(Level::V4), dst: other, base, off },
            2 => Insn::Store { size, base, off, src: other.into() },
            _ => Insn::Store { size, base, off, src: values::imm(u)?.into() },
        };
        Ok(place.around(insn))
    }

    /// A call of a function of its own, which loses what a function may lose; the caller relies on the rest.
    fn call(&mut self, u: &mut Unstructured<'_>) -> Result<Item> {
        let mut function = vec![values::load(u, R0)?];
        for reg in &Reg::ALL[6..10] {
            function.push(values::load(u, *reg)?);
        }
        let frame = if self.knobs.small_frames { FRAME / 2 } else { FRAME };
        let (dst, word) = (self.register(u)?, u.int_in_range(1..=frame / 8)?);
        function.push(Insn::store(Size::DW, R10, -8 * word, *u.choose(&Reg::ALL[..VALUES])?));
        for _ in 0..u.int_in_range(0..=3)? {
            function.extend(self.alu(u)?.insns);
        }
        function.extend([Insn::load(Size::DW, dst, R10, -8 * word), Insn::Exit]);
        let mut insns = vec![Insn::call_local(self.functions.len() as i32)];
        self.functions.push(function);
        for reg in [R1, R2, R3, R4, R5] {
            insns.push(values::load(u, reg)?);
        }
        Ok(insns.into())
    }

    fn atomic(&self, u: &mut Unstructured<'_>) -> Result<Item> {
        if self.has(Level::Ordered) && u.ratio(1, 4)? {
            return self.ordered(u);
        }
        let width = width(u)?;
        let size = width.size();
        let place = self.place(u, size, true)?;
        let Place { base, off, .. } = place;
        let op = *u.choose(AtomicOp::ALL)?;
        let mut insns = vec![Insn::Atomic { op, width, base, off, src: self.other_register(u, base)? }];
        if op == AtomicOp::Cmpxchg && u.arbitrary()? {
            // Without help the comparison would hardly ever hold; and it must hold whatever the upper half is.
            insns.insert(0, Insn::Load { size, signed: size == Size::W && self.has(Level::V4), dst: R0, base, off });
        }
        if op == AtomicOp::Cmpxchg && width == Width::W32 && self.knobs.kernel_acceptable && self.knobs.jumps {
            // Where paths join, Linux 6.18 on x86 forgets to zero the upper half of r0 when the comparison holds; mended
            // by "bpf: Infer zext_dst based on static register liveness analysis". Without jumps no paths join.
            insns.push(Insn::mov32(R0, R0));
        }
        Ok(place.around_all(insns))
    }

    fn ordered(&self, u: &mut Unstructured<'_>) -> Result<Item> {
        let size = *u.choose(Size::ALL)?;
        let place = self.place(u, size, true)?;
        let Place { base, off, .. } = place;
        let other = self.other_register(u, base)?;
        Ok(place.around(if u.arbitrary()? {
            Insn::LoadAcquire { size, dst: other, base, off }
        } else {
            Insn::StoreRelease { size, base, off, src: other }
        }))
    }

    /// An address on the stack or in the input: through its pointer, or through a copy that is some way off.
    fn place(&self, u: &mut Unstructured<'_>, size: Size, atomic: bool) -> Result<Place> {
        let pointer = *u.choose(&[R9, R10])?;
        let off = self.offset(u, pointer, size, atomic)?;
        let plain = Place { before: Vec::new(), base: pointer, off, after: Vec::new() };
        if self.knobs.out_of_bounds && u.ratio(1, 100)? {
            return Ok(Place { base: self.register(u)?, ..plain });
        }
        if !u.ratio(1, 4)? {
            return Ok(plain);
        }
        // Not r0, which cmpxchg needs.
        let base = *u.choose(&Reg::ALL[1..VALUES])?;
        let away = i16::from(u.arbitrary::<i8>()?);
        Ok(Place {
            before: vec![Insn::mov(base, pointer), Insn::add(base, i32::from(off) - i32::from(away))],
            base,
            off: away,
            after: vec![values::load(u, base)?],
        })
    }

    fn offset(&self, u: &mut Unstructured<'_>, pointer: Reg, size: Size, atomic: bool) -> Result<i16> {
        let bytes = size.bytes() as i16;
        if self.knobs.out_of_bounds && u.ratio(1, 50)? {
            return outside(u, pointer, bytes);
        }
        // The kernel wants the stack aligned always, and everything else for atomics.
        let align = if self.knobs.kernel_acceptable && (atomic || pointer == R10) { bytes } else { 1 };
        let (first, end) = if pointer == R10 {
            if u.ratio(1, 8)? { (-FRAME, 8 - FRAME) } else { (-(STACK_WINDOW as i16), 0) }
        } else {
            (0, PLAYGROUND as i16)
        };
        let last = (end - bytes - first) / align;
        let step = match u.int_in_range(0..=3)? {
            0 => 0,
            1 => last,
            _ => u.int_in_range(0..=last)?,
        };
        Ok(first + step * align)
    }

    fn jump(&self, u: &mut Unstructured<'_>) -> Result<Item> {
        let over = Some(u.int_in_range(0..=6)?);
        let (width, dst) = (width(u)?, self.register(u)?);
        let condition = *u.choose(Condition::ALL)?;
        // Left to themselves, operands are hardly ever close to each other.
        let mut insns = Vec::new();
        let src = if u.ratio(1, 3)? {
            let src = self.other_register(u, dst)?;
            let (a, b) = values::alike(u)?;
            insns.extend([Insn::load_imm64(dst, a), Insn::load_imm64(src, b)]);
            src.into()
        } else {
            let src = self.operand(u)?;
            if let Operand::Imm(imm) = src
                && u.arbitrary()?
            {
                insns.push(Insn::load_imm64(dst, values::like(u, imm as u64)?));
            }
            src
        };
        let if_insn = |off| Insn::JumpIf { condition, width, dst, src, off };
        if u.ratio(3, 4)? {
            insns.push(if_insn(0));
            return Ok(Item { insns, over });
        }
        // What it jumps over must be reachable by another way.
        if self.knobs.kernel_acceptable {
            insns.push(if_insn(1));
        }
        insns.push(Insn::Jump { off: 0, long: self.has(Level::V4) && u.arbitrary()? });
        Ok(Item { insns, over })
    }
}

impl Place {
    fn around(self, insn: Insn) -> Item {
        self.around_all(vec![insn])
    }

    fn around_all(self, insns: Vec<Insn>) -> Item {
        let all: Vec<Insn> = [self.before, insns, self.after].concat();
        all.into()
    }
}

/// An offset at which `bytes` are not, or not all, where the pointer points.
fn outside(u: &mut Unstructured<'_>, pointer: Reg, bytes: i16) -> Result<i16> {
    let (first, end) = if pointer == R10 { (-FRAME, 0) } else { (0, INPUT as i16) };
    let edges = [first - bytes, first - 1, end - bytes + 1, end - 1, end, end + 1, i16::MIN, i16::MAX];
    u.choose(&edges).copied()
}

fn width(u: &mut Unstructured<'_>) -> Result<Width> {
    Ok(*u.choose(&[Width::W32, Width::W64])?)
}

/// What there was before signed division.
fn unsigned(op: AluOp) -> AluOp {
    if op == AluOp::Sdiv {
        AluOp::Div
    } else if op == AluOp::Smod {
        AluOp::Mod
    } else {
        op
    }
}

/// An amount that an immediate shift may have.
fn shift(u: &mut Unstructured<'_>, width: Width) -> Result<i32> {
    let last = match width {
        Width::W32 => 31,
        Width::W64 => 63,
    };
    Ok(match u.int_in_range(0..=3)? {
        0 => *u.choose(&[0, 1, 31.min(last), 32.min(last)])?,
        1 => last,
        _ => u.int_in_range(0..=last)?,
    })
}
