//! One instruction that starts with a register: arithmetic, and whatever loads something behind a `=`.

use super::cursor::{Cursor, Fault};
use super::error::ParseErrorKind;
use super::names::{Name, NameKind};
use super::statement::{
    ATOMIC_SIZES, Memory, Statement, address, atomic_width, memory_register, operand, pointer_type, unsigned_memory,
};
use crate::insn::{AluOp, AtomicOp, ByteOrder, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width};
use crate::text::Named;

/// The register in front of the `=`, and where it stands, for errors about it.
#[derive(Clone, Copy)]
struct Dst<'a> {
    reg: Reg,
    width: Width,
    at: Cursor<'a>,
}

impl Dst<'_> {
    /// The register, if it has this width.
    fn of(mut self, width: Width) -> Result<Reg, Fault> {
        self.at.register_of(width)
    }

    /// The register, if it may hold this much memory.
    fn of_memory(mut self, size: Size) -> Result<Reg, Fault> {
        memory_register(&mut self.at, size)
    }

    /// An error unless the register is this one.
    fn must_be(mut self, reg: Reg) -> Result<(), Fault> {
        if self.reg == reg { Ok(()) } else { Err(other_register(self.at.start_of_next(), reg, self.width)) }
    }

    /// Reads the register again.
    fn again(self, cursor: &mut Cursor<'_>) -> Result<(), Fault> {
        let at = cursor.start_of_next();
        match cursor.register()? {
            (reg, width) if reg == self.reg && width == self.width => Ok(()),
            _ => Err(other_register(at, self.reg, self.width)),
        }
    }
}

fn other_register(at: usize, reg: Reg, width: Width) -> Fault {
    Fault::new(at, ParseErrorKind::OtherRegister { expected: Named(reg, width).to_string() })
}

/// Reads on behind a register; `at` is where it stands. `wide`: a plain number is one of 64 bits.
pub(super) fn parse<'a>(
    cursor: &mut Cursor<'a>,
    at: Cursor<'a>,
    (reg, width): (Reg, Width),
    wide: bool,
) -> Result<Statement<'a>, Fault> {
    let op = cursor.symbol(AluOp::ALL, AluOp::symbol).ok_or_else(|| cursor.expected("`=`, or `+=` and the like"))?;
    if op != AluOp::Mov {
        return Ok(Insn::Alu { op, width, dst: reg, src: operand(cursor, width)? }.into());
    }
    let dst = Dst { reg, width, at };
    if cursor.eat("*") {
        return load(cursor, dst).map(Statement::from);
    }
    if cursor.eat("(") {
        return sign_extension(cursor, dst).map(Statement::from);
    }
    if cursor.at_number() {
        return number(cursor, dst, wide).map(Statement::from);
    }
    let mut ahead = *cursor;
    if ahead.eat("-") && ahead.at_register() {
        cursor.expect("-")?;
        dst.again(cursor)?;
        return Ok(Insn::Neg { width, dst: reg }.into());
    }
    if cursor.at_register() {
        let src = Operand::Reg(cursor.register_of(width)?);
        return Ok(Insn::Alu { op, width, dst: reg, src }.into());
    }
    named(cursor, dst)
}

/// A register and a number of 32 bits, or one of 64 with `ll` behind it.
fn number(cursor: &mut Cursor<'_>, dst: Dst<'_>, wide: bool) -> Result<Insn, Fault> {
    let mut ahead = *cursor;
    let value = ahead.number(i64::MIN.into(), u64::MAX.into())?;
    if ahead.eat_word("ll") || wide {
        *cursor = ahead;
        return Ok(Insn::LoadImm64 { dst: dst.of(Width::W64)?, value: Imm64::Value(value as u64) });
    }
    let src = Operand::Imm(cursor.imm32()?);
    Ok(Insn::Alu { op: AluOp::Mov, width: dst.width, dst: dst.reg, src })
}

/// `(s8)r2`, behind the parenthesis.
fn sign_extension(cursor: &mut Cursor<'_>, dst: Dst<'_>) -> Result<Insn, Fault> {
    let mut ahead = *cursor;
    let from = match ahead.word() {
        Some("s8") => Size::B,
        Some("s16") => Size::H,
        Some("s32") => Size::W,
        _ => return Err(cursor.expected("s8, s16 or s32")),
    };
    *cursor = ahead;
    cursor.expect(")")?;
    let src = cursor.register_of(dst.width)?;
    Ok(Insn::MovSx { width: dst.width, from, dst: dst.reg, src })
}

/// `*(u32 *)(r1 + 4)` or `*(u32 *)skb[4]`, behind the asterisk.
fn load(cursor: &mut Cursor<'_>, dst: Dst<'_>) -> Result<Insn, Fault> {
    let (size, signed) = pointer_type(cursor)?;
    if !signed && cursor.eat_word("skb") {
        dst.must_be(Reg::R0)?;
        dst.of(Width::W64)?;
        return Ok(Insn::LoadPacket { size, offset: packet_offset(cursor)? });
    }
    cursor.expect("(")?;
    let (base, off) = address(cursor)?;
    cursor.expect(")")?;
    let reg = if signed { dst.of(Width::W64)? } else { dst.of_memory(size)? };
    Ok(Insn::Load { size, signed, dst: reg, base, off })
}

/// `[4]`, `[r1]`, `[r1 + 4]`.
fn packet_offset(cursor: &mut Cursor<'_>) -> Result<PacketOffset, Fault> {
    cursor.expect("[")?;
    let offset = if cursor.at_number() {
        PacketOffset::Abs(cursor.imm32()?)
    } else {
        let reg = cursor.register_of(Width::W64)?;
        if cursor.eat("]") {
            return Ok(PacketOffset::Ind(reg, 0));
        }
        PacketOffset::Ind(reg, cursor.signed(i32::MIN.into(), i32::MAX.into())? as i32)
    };
    cursor.expect("]")?;
    Ok(offset)
}

/// What starts with a word: a function of the instruction set, a map, or a name with `ll`.
fn named<'a>(cursor: &mut Cursor<'a>, dst: Dst<'a>) -> Result<Statement<'a>, Fault> {
    const EXPECTED: &str = "a register, a number, memory, or a name and `ll`";
    let mut before = *cursor;
    let at = cursor.start_of_next();
    let Some(word) = cursor.word() else { return Err(cursor.expected(EXPECTED)) };
    if let Some((order, width)) = byte_order(word) {
        dst.of(Width::W64)?;
        dst.again(cursor)?;
        return Ok(Insn::End { order, width, dst: dst.reg }.into());
    }
    if cursor.eat("(") {
        let call = match word {
            "addr_space_cast" => addr_space_cast(cursor, dst)?,
            "load_acquire" => load_acquire(cursor, dst)?,
            _ => match atomic(word) {
                Some(form) => fetch(cursor, dst, form)?,
                None => return Err(before.expected(EXPECTED)),
            },
        };
        cursor.expect(")")?;
        return Ok(call.into());
    }
    let (value, name) = if cursor.eat("[") {
        bracketed(cursor, word)?.ok_or_else(|| before.expected(EXPECTED))?
    } else {
        let addend = addend(cursor)?.ok_or_else(|| before.expected(EXPECTED))?;
        (Imm64::Value(addend), Some(Name { text: word, at, what: NameKind::Address }))
    };
    Ok(Statement { insn: Insn::LoadImm64 { dst: dst.of(Width::W64)?, value }, name })
}

/// `ll`, or `+ 8 ll`.
fn addend(cursor: &mut Cursor<'_>) -> Result<Option<u64>, Fault> {
    let addend = if cursor.at_number() { cursor.signed(i64::MIN.into(), i64::MAX.into())? } else { 0 };
    Ok(cursor.eat_word("ll").then_some(addend as u64))
}

/// `be16`, `bswap64`.
fn byte_order(word: &str) -> Option<(ByteOrder, SwapWidth)> {
    let orders = ByteOrder::ALL.iter().copied();
    orders.into_iter().find_map(|order| {
        let bits = word.strip_prefix(order.spelling())?;
        SwapWidth::ALL.into_iter().find(|width| width.bits().to_string() == bits).map(|width| (order, width))
    })
}

fn addr_space_cast(cursor: &mut Cursor<'_>, dst: Dst<'_>) -> Result<Insn, Fault> {
    let dst = dst.of(Width::W64)?;
    let src = cursor.register_of(Width::W64)?;
    cursor.expect(",")?;
    let dst_space = cursor.number(0, u16::MAX.into())? as u16;
    cursor.expect(",")?;
    let src_space = cursor.number(0, u16::MAX.into())? as u16;
    Ok(Insn::AddrSpaceCast { dst, src, dst_space, src_space })
}

fn load_acquire(cursor: &mut Cursor<'_>, dst: Dst<'_>) -> Result<Insn, Fault> {
    let Memory { size, base, off, .. } = unsigned_memory(cursor, Size::ALL)?;
    Ok(Insn::LoadAcquire { size, dst: dst.of_memory(size)?, base, off })
}

/// How a fetching atomic writes its operands.
#[derive(Clone, Copy)]
struct AtomicForm {
    op: AtomicOp,
    /// The name says the width.
    width: Option<Width>,
    /// `((u64 *)(r1 + 4), ...)` rather than `(r1 + 4, ...)`.
    typed: bool,
}

/// `atomic_fetch_add`, `xchg_64`, `cmpxchg32_32` (LLVM); `atomic64_xchg`, `atomic_cmpxchg` (bpftool).
fn atomic(word: &str) -> Option<AtomicForm> {
    let (name, width, typed) = if let Some(name) = word.strip_prefix("atomic64_") {
        (name, Some(Width::W64), true)
    } else if let Some(name) = word.strip_prefix("atomic_") {
        (name, None, true)
    } else if let Some(name) = word.strip_suffix("_64") {
        (name, Some(Width::W64), false)
    } else {
        (word.strip_suffix("32_32")?, Some(Width::W32), false)
    };
    let op = AtomicOp::ALL.iter().copied().find(|op| op.symbol() == name)?;
    let bare = matches!(op, AtomicOp::Xchg | AtomicOp::Cmpxchg);
    (typed || bare).then_some(AtomicForm { op, width, typed })
}

/// The operands of a fetching atomic, between the parentheses.
fn fetch(cursor: &mut Cursor<'_>, dst: Dst<'_>, form: AtomicForm) -> Result<Insn, Fault> {
    let (base, off, width) = if form.typed {
        let mut before = *cursor;
        let Memory { size, base, off, .. } = unsigned_memory(cursor, ATOMIC_SIZES)?;
        let width = atomic_width(size);
        if form.width.is_some_and(|named| named != width) {
            return Err(before.expected("(u64 *)"));
        }
        (base, off, width)
    } else {
        let (base, off) = address(cursor)?;
        (base, off, form.width.unwrap_or(Width::W64))
    };
    let size = if width == Width::W64 { Size::DW } else { Size::W };
    dst.of_memory(size)?;
    cursor.expect(",")?;
    if form.op == AtomicOp::Cmpxchg {
        dst.must_be(Reg::R0)?;
        dst.again(cursor)?;
        cursor.expect(",")?;
        return Ok(Insn::Atomic { op: form.op, width, base, off, src: memory_register(cursor, size)? });
    }
    dst.again(cursor)?;
    Ok(Insn::Atomic { op: form.op, width, base, off, src: dst.reg })
}

/// `map[id:5]`, `map[id:5][0]+8`, `map[name]`, `map[idx:5]`, `map[idx:5]+8`, `subprog[+3]`, `btf[id:5,fd:7]`, behind
/// the bracket. `None` if no such thing has this name.
fn bracketed<'a>(cursor: &mut Cursor<'a>, word: &str) -> Result<Option<(Imm64, Option<Name<'a>>)>, Fault> {
    let value = match word {
        "map" => return map(cursor).map(Some),
        "subprog" => Imm64::Code(cursor.signed(i32::MIN.into(), i32::MAX.into())? as i32),
        "btf" => {
            let btf_id = field(cursor, "id")?;
            let btf_fd = if cursor.eat(",") { field(cursor, "fd")? } else { 0 };
            Imm64::Variable { btf_id, btf_fd }
        }
        _ => return Ok(None),
    };
    cursor.expect("]")?;
    Ok(Some((value, None)))
}

fn map<'a>(cursor: &mut Cursor<'a>) -> Result<(Imm64, Option<Name<'a>>), Fault> {
    let mut before = *cursor;
    let at = cursor.start_of_next();
    let text = cursor.word().unwrap_or_default();
    let number = if cursor.eat(":") { Some(cursor.imm32()?) } else { None };
    match (text, number) {
        ("idx", Some(index)) => {
            cursor.expect("]")?;
            let offset = if cursor.eat("+") { Some(cursor.imm32()? as u32) } else { None };
            Ok((offset.map_or(Imm64::MapIndex(index), |offset| Imm64::MapIndexValue { index, offset }), None))
        }
        ("id", Some(fd)) => Ok((map_or_value(cursor, fd)?, None)),
        ("", _) | (_, Some(_)) => Err(before.expected("id:, idx: or the name of a map")),
        (_, None) => Ok((map_or_value(cursor, 0)?, Some(Name { text, at, what: NameKind::Map }))),
    }
}

/// `]`, or `][0]+8`.
fn map_or_value(cursor: &mut Cursor<'_>, fd: i32) -> Result<Imm64, Fault> {
    cursor.expect("]")?;
    if !cursor.eat("[") {
        return Ok(Imm64::MapFd(fd));
    }
    for token in ["0", "]", "+"] {
        cursor.expect(token)?;
    }
    Ok(Imm64::MapValue { fd, offset: cursor.imm32()? as u32 })
}

/// `id:5`.
fn field(cursor: &mut Cursor<'_>, name: &'static str) -> Result<i32, Fault> {
    if !cursor.eat_word(name) {
        return Err(cursor.expected(name));
    }
    cursor.expect(":")?;
    cursor.imm32()
}
