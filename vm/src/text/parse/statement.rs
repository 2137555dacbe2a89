//! One instruction: all that does not start with a register. The rest: [`super::assign`].

use super::assign;
use super::cursor::{Cursor, Fault};
use super::error::ParseErrorKind;
use super::names::{Name, NameKind};
use crate::asm::with_offset;
use crate::codec::encode_one;
use crate::insn::{AtomicOp, Callee, Condition, Insn, Operand, Reg, Size, Width};
use crate::text::imm64_of;

/// An instruction, and the name whose meaning it still lacks.
pub(super) struct Statement<'a> {
    pub(super) insn: Insn,
    pub(super) name: Option<Name<'a>>,
}

impl From<Insn> for Statement<'_> {
    fn from(insn: Insn) -> Self {
        Statement { insn, name: None }
    }
}

/// Reads an instruction. `wide`: a plain number in it is one of 64 bits.
pub(super) fn parse<'a>(cursor: &mut Cursor<'a>, wide: bool) -> Result<Statement<'a>, Fault> {
    let start = cursor.start_of_next();
    let statement = shape(cursor, wide)?;
    match encode_one(&statement.insn) {
        Ok(_) => Ok(statement),
        Err(kind) => Err(Fault::new(start, kind)),
    }
}

fn shape<'a>(cursor: &mut Cursor<'a>, wide: bool) -> Result<Statement<'a>, Fault> {
    if cursor.eat("*") {
        return store(cursor).map(Statement::from);
    }
    let mut before = *cursor;
    if let Some(dst) = cursor.try_register() {
        return assign::parse(cursor, before, dst, wide);
    }
    Ok(match cursor.word().unwrap_or_default() {
        "exit" => Insn::Exit.into(),
        "if" => conditional(cursor)?,
        "goto" => target(cursor, Insn::Jump { off: 0, long: false })?,
        "gotol" => target(cursor, Insn::Jump { off: 0, long: true })?,
        "may_goto" => target(cursor, Insn::MayGoto { off: 0 })?,
        "call" => call(cursor)?,
        "callx" => Insn::Call(Callee::Reg(cursor.register_of(Width::W64)?)).into(),
        "lock" => lock(cursor)?.into(),
        "store_release" => store_release(cursor)?.into(),
        "ld_pseudo" => ld_pseudo(cursor)?.into(),
        _ => return Err(before.expected("an instruction")),
    })
}

/// `(u32 *)(r1 + 4)`, or `(s32 *)(r1 + 4)`.
#[derive(Clone, Copy)]
pub(super) struct Memory {
    pub(super) size: Size,
    pub(super) signed: bool,
    pub(super) base: Reg,
    pub(super) off: i16,
}

/// `(u32 *)`: the size, and whether it is signed.
pub(super) fn pointer_type(cursor: &mut Cursor<'_>) -> Result<(Size, bool), Fault> {
    const EXPECTED: &str = "a type: u8, u16, u32, u64, s8, s16 or s32";
    cursor.expect("(")?;
    let mut ahead = *cursor;
    let word = ahead.word().unwrap_or_default();
    let signed = word.starts_with('s');
    let of_size = |size: &Size| size.c_type().get(1..) == word.get(1..) && (signed || size.c_type() == word);
    let size = Size::ALL.iter().copied().find(of_size).ok_or_else(|| cursor.expected(EXPECTED))?;
    *cursor = ahead;
    cursor.expect("*")?;
    cursor.expect(")")?;
    Ok((size, signed))
}

/// `r1 + 4`.
pub(super) fn address(cursor: &mut Cursor<'_>) -> Result<(Reg, i16), Fault> {
    let base = cursor.register_of(Width::W64)?;
    let off = cursor.signed(i16::MIN.into(), i16::MAX.into())? as i16;
    Ok((base, off))
}

/// `(u32 *)(r1 + 4)`.
pub(super) fn memory(cursor: &mut Cursor<'_>) -> Result<Memory, Fault> {
    let (size, signed) = pointer_type(cursor)?;
    cursor.expect("(")?;
    let (base, off) = address(cursor)?;
    cursor.expect(")")?;
    Ok(Memory { size, signed, base, off })
}

/// Memory that is written, or taken as unsigned: of these sizes.
pub(super) fn unsigned_memory(cursor: &mut Cursor<'_>, sizes: &[Size]) -> Result<Memory, Fault> {
    let mut ahead = *cursor;
    let memory = memory(&mut ahead)?;
    if memory.signed || !sizes.contains(&memory.size) {
        return Err(cursor.expected(if sizes.len() == 2 { "(u32 *) or (u64 *)" } else { "an unsigned type" }));
    }
    *cursor = ahead;
    Ok(memory)
}

/// The sizes of atomic read-modify-write operations.
pub(super) const ATOMIC_SIZES: &[Size] = &[Size::W, Size::DW];

/// The register of a memory access: `r1` always does, `w1` up to 32 bits.
pub(super) fn memory_register(cursor: &mut Cursor<'_>, size: Size) -> Result<Reg, Fault> {
    let mut ahead = *cursor;
    let (reg, width) = ahead.register()?;
    if width == Width::W32 && size == Size::DW {
        return cursor.register_of(Width::W64);
    }
    *cursor = ahead;
    Ok(reg)
}

pub(super) fn atomic_width(size: Size) -> Width {
    match size {
        Size::DW => Width::W64,
        Size::B | Size::H | Size::W => Width::W32,
    }
}

/// Second operand of arithmetic and comparisons.
pub(super) fn operand(cursor: &mut Cursor<'_>, width: Width) -> Result<Operand, Fault> {
    if cursor.at_number() {
        return cursor.imm32().map(Operand::Imm);
    }
    if !cursor.at_register() {
        return Err(cursor.expected("a register or a number"));
    }
    cursor.register_of(width).map(Operand::Reg)
}

/// `*` was read.
fn store(cursor: &mut Cursor<'_>) -> Result<Insn, Fault> {
    let Memory { size, base, off, .. } = unsigned_memory(cursor, Size::ALL)?;
    cursor.expect("=")?;
    let src =
        if cursor.at_number() { Operand::Imm(cursor.imm32()?) } else { Operand::Reg(memory_register(cursor, size)?) };
    Ok(Insn::Store { size, base, off, src })
}

fn conditional<'a>(cursor: &mut Cursor<'a>) -> Result<Statement<'a>, Fault> {
    let (dst, width) = cursor.register()?;
    let condition = cursor.symbol(Condition::ALL, Condition::symbol);
    let condition = condition.ok_or_else(|| cursor.expected("a comparison"))?;
    let src = operand(cursor, width)?;
    if !cursor.eat_word("goto") {
        return Err(cursor.expected("goto"));
    }
    target(cursor, Insn::JumpIf { condition, width, dst, src, off: 0 })
}

/// Where `insn` jumps to: a label, `+4`, or `pc+4`; then maybe `<label>`.
fn target<'a>(cursor: &mut Cursor<'a>, insn: Insn) -> Result<Statement<'a>, Fault> {
    let mut statement = Statement::from(insn);
    if let Some(off) = relative(cursor, reach(insn))? {
        statement.insn = with_offset(insn, off.into()).unwrap_or(insn);
    } else {
        let at = cursor.start_of_next();
        let text = cursor.word().ok_or_else(|| cursor.expected("a label, or an offset in slots"))?;
        statement.name = Some(Name { text, at, what: NameKind::Target });
    }
    skip_symbol(cursor)?;
    Ok(statement)
}

/// The bounds of the offset of a jump or local call.
fn reach(insn: Insn) -> (i128, i128) {
    if matches!(insn, Insn::Jump { long: true, .. } | Insn::Call(_)) {
        (i32::MIN.into(), i32::MAX.into())
    } else {
        (i16::MIN.into(), i16::MAX.into())
    }
}

/// `+4`, `-0x4`, `4`, `pc+4`.
fn relative(cursor: &mut Cursor<'_>, (min, max): (i128, i128)) -> Result<Option<i32>, Fault> {
    let mut ahead = *cursor;
    if ahead.eat_word("pc") && ahead.at_number() {
        *cursor = ahead;
        return cursor.signed(min, max).map(|off| Some(off as i32));
    }
    if cursor.at_number() {
        return cursor.number(min, max).map(|off| Some(off as i32));
    }
    Ok(None)
}

/// `<f+0x58>`, as llvm-objdump writes behind a target.
fn skip_symbol(cursor: &mut Cursor<'_>) -> Result<(), Fault> {
    if cursor.eat("<") {
        let name = cursor.rest().find(['>', '\n']).unwrap_or(cursor.rest().len());
        cursor.advance(name);
        cursor.expect(">")?;
    }
    Ok(())
}

fn call<'a>(cursor: &mut Cursor<'a>) -> Result<Statement<'a>, Fault> {
    let local = Insn::Call(Callee::Local(0));
    let statement = if cursor.eat_word("kfunc") {
        let _ = eat_number_sign(cursor);
        Insn::Call(kfunc(cursor)?).into()
    } else if cursor.at_number() {
        let number = cursor.imm32()?;
        Insn::Call(Callee::Helper(numbered(cursor)?.unwrap_or(number))).into()
    } else if let Some(off) = relative(cursor, reach(local))? {
        with_offset(local, off.into()).unwrap_or(local).into()
    } else {
        named_call(cursor, local)?
    };
    skip_symbol(cursor)?;
    Ok(statement)
}

/// `call name`, or `call name#1`, where the number counts.
fn named_call<'a>(cursor: &mut Cursor<'a>, local: Insn) -> Result<Statement<'a>, Fault> {
    let at = cursor.start_of_next();
    let text = cursor.word().ok_or_else(|| cursor.expected("a function, the number of a helper, or pc+offset"))?;
    Ok(match numbered(cursor)? {
        Some(number) => Insn::Call(Callee::Helper(number)).into(),
        None => Statement { insn: local, name: Some(Name { text, at, what: NameKind::Function }) },
    })
}

/// `5` or `5, 1`: BTF id and module.
fn kfunc(cursor: &mut Cursor<'_>) -> Result<Callee, Fault> {
    let btf_id = cursor.imm32()?;
    let module = if cursor.eat(",") { cursor.number(i16::MIN.into(), i16::MAX.into())? as i16 } else { 0 };
    Ok(Callee::Kfunc { btf_id, module })
}

/// The number of `name#1`: directly behind the name, as anything else is a comment.
fn numbered(cursor: &mut Cursor<'_>) -> Result<Option<i32>, Fault> {
    if eat_number_sign(cursor) { cursor.imm32().map(Some) } else { Ok(None) }
}

fn eat_number_sign(cursor: &mut Cursor<'_>) -> bool {
    let number = cursor.rest().strip_prefix('#').map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    let found = number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()));
    if found {
        cursor.advance(1);
    }
    found
}

fn lock(cursor: &mut Cursor<'_>) -> Result<Insn, Fault> {
    const PLAIN: &[AtomicOp] = &[AtomicOp::Add, AtomicOp::Or, AtomicOp::And, AtomicOp::Xor];
    cursor.expect("*")?;
    let Memory { size, base, off, .. } = unsigned_memory(cursor, ATOMIC_SIZES)?;
    let op = cursor.symbol(PLAIN, AtomicOp::symbol).ok_or_else(|| cursor.expected("+=, |=, &= or ^="))?;
    let src = memory_register(cursor, size)?;
    Ok(Insn::Atomic { op, width: atomic_width(size), base, off, src })
}

fn store_release(cursor: &mut Cursor<'_>) -> Result<Insn, Fault> {
    cursor.expect("(")?;
    let Memory { size, base, off, .. } = unsigned_memory(cursor, Size::ALL)?;
    cursor.expect(",")?;
    let src = memory_register(cursor, size)?;
    cursor.expect(")")?;
    Ok(Insn::StoreRelease { size, base, off, src })
}

/// `ld_pseudo r1, 0x2, 0x5`, and maybe the high half.
fn ld_pseudo(cursor: &mut Cursor<'_>) -> Result<Insn, Fault> {
    let dst = cursor.register_of(Width::W64)?;
    cursor.expect(",")?;
    let at = cursor.start_of_next();
    let source = cursor.number(0, 6)? as i64;
    cursor.expect(",")?;
    let low = cursor.imm32()? as u32;
    let high = if cursor.eat(",") { cursor.imm32()? as u32 } else { 0 };
    let value = imm64_of(source, low, high);
    let value = value.ok_or_else(|| {
        let expected = "a source with two operands: 0, 2, 3 or 6";
        Fault::new(at, ParseErrorKind::Expected { expected, found: source.to_string() })
    })?;
    Ok(Insn::LoadImm64 { dst, value })
}
