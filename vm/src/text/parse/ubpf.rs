//! The dialect of ubpf's assembler: a mnemonic, then operands. Printed by [`crate::text::ubpf`].

use super::Assembly;
use super::cursor::{Cursor, Fault};
use super::error::ParseErrorKind;
use super::names::{Name, NameKind, Names};
use super::statement::Statement;
use crate::asm::with_offset;
use crate::codec::encode_one;
use crate::insn::{
    AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width,
};
use crate::text::imm64_of;
use crate::text::ubpf::atomic_words;

/// The label that the first exit has.
const EXIT: &str = "exit";

/// Reads a whole text.
pub(super) fn read(text: &str) -> Result<Assembly, Fault> {
    let mut cursor = Cursor::new(text);
    let (mut insns, mut slots, mut names) = (Vec::new(), 0, Names::default());
    let mut first_exit = None;
    while !cursor.is_empty() {
        while let Some((label, at)) = label(&mut cursor) {
            names.define(label, at, slots)?;
        }
        if !cursor.at_end_of_statement() {
            let start = cursor.start_of_next();
            let Statement { insn, name } = statement(&mut cursor)?;
            encode_one(&insn).map_err(|kind| Fault::new(start, kind))?;
            if let Some(name) = name {
                names.use_name(name, insns.len(), slots);
            }
            if insn == Insn::Exit {
                first_exit.get_or_insert(slots);
            }
            slots += insn.slots();
            insns.push(insn);
        }
        if !cursor.at_end_of_statement() {
            return Err(cursor.expected("the end of the line"));
        }
        cursor.skip_line();
    }
    if let Some(slot) = first_exit {
        names.define_missing(EXIT, slot);
    }
    names.resolve(insns, &|_| None)
}

fn label<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a str, usize)> {
    let mut ahead = *cursor;
    let at = ahead.start_of_next();
    let name = ahead.word()?;
    if !ahead.eat(":") {
        return None;
    }
    *cursor = ahead;
    Some((name, at))
}

fn statement<'a>(cursor: &mut Cursor<'a>) -> Result<Statement<'a>, Fault> {
    let mut before = *cursor;
    let word = cursor.word().unwrap_or_default();
    if let Some(parsed) = jump(word, cursor) {
        return parsed;
    }
    if let Some(parsed) = arithmetic(word, cursor).or_else(|| memory_access(word, cursor)) {
        return parsed.map(Statement::from);
    }
    Err(before.expected("an instruction"))
}

/// Jumps, calls, exit. `None`: the word is none of them.
fn jump<'a>(word: &str, cursor: &mut Cursor<'a>) -> Option<Result<Statement<'a>, Fault>> {
    Some(match word {
        EXIT => Ok(Insn::Exit.into()),
        "ja" => target(cursor, Insn::Jump { off: 0, long: false }),
        "ja32" => target(cursor, Insn::Jump { off: 0, long: true }),
        "may_goto" => target(cursor, Insn::MayGoto { off: 0 }),
        "call" => call(cursor),
        _ => {
            let (name, width) = width(word);
            let condition = Condition::ALL.iter().copied().find(|condition| condition.mnemonic() == name)?;
            conditional(cursor, condition, width)
        }
    })
}

/// Arithmetic and byte order. `None`: the word is neither.
fn arithmetic(word: &str, cursor: &mut Cursor<'_>) -> Option<Result<Insn, Fault>> {
    if let Some((order, width)) = byte_order(word) {
        return Some(register(cursor).map(|dst| Insn::End { order, width, dst }));
    }
    if let Some((from, width)) = sign_extension(word) {
        return Some(pair(cursor).map(|(dst, src)| Insn::MovSx { width, from, dst, src }));
    }
    if word == "addr_space_cast" {
        return Some(addr_space_cast(cursor));
    }
    let (name, width) = width(word);
    if name == "neg" {
        return Some(register(cursor).map(|dst| Insn::Neg { width, dst }));
    }
    let op = AluOp::ALL.iter().copied().find(|op| op.mnemonic() == name)?;
    Some(dst_and(cursor, operand).map(|(dst, src)| Insn::Alu { op, width, dst, src }))
}

/// Loads, stores, atomics. `None`: the word is none of them.
fn memory_access(word: &str, cursor: &mut Cursor<'_>) -> Option<Result<Insn, Fault>> {
    match word {
        "lddw" => return Some(load_imm64(cursor)),
        "ld_pseudo" => return Some(ld_pseudo(cursor)),
        "lock" => return Some(lock(cursor)),
        _ => {}
    }
    let size_of =
        |prefix: &str| Size::ALL.iter().copied().find(|size| word.strip_prefix(prefix) == Some(size.suffix()));
    if let Some(size) = size_of("ldx") {
        return Some(load(cursor, |dst, base, off| Insn::Load { size, signed: false, dst, base, off }));
    }
    if let Some(size) = size_of("ldxs") {
        return Some(load(cursor, |dst, base, off| Insn::Load { size, signed: true, dst, base, off }));
    }
    if let Some(size) = size_of("ldacq") {
        return Some(load(cursor, |dst, base, off| Insn::LoadAcquire { size, dst, base, off }));
    }
    if let Some(size) = size_of("stx") {
        return Some(store(cursor, |base, off, src| Insn::Store { size, base, off, src: src.into() }));
    }
    if let Some(size) = size_of("strel") {
        return Some(store(cursor, |base, off, src| Insn::StoreRelease { size, base, off, src }));
    }
    if let Some(size) = size_of("st") {
        return Some(store_immediate(cursor, size));
    }
    if let Some(size) = size_of("ldabs") {
        let offset = cursor.imm32().map(PacketOffset::Abs);
        return Some(offset.map(|offset| Insn::LoadPacket { size, offset }));
    }
    let size = size_of("ldind")?;
    Some(dst_and(cursor, Cursor::imm32).map(|(reg, imm)| {
        let offset = PacketOffset::Ind(reg, imm);
        Insn::LoadPacket { size, offset }
    }))
}

/// A mnemonic without its width; 64 bits need none.
fn width(word: &str) -> (&str, Width) {
    if let Some(name) = word.strip_suffix("32") {
        return (name, Width::W32);
    }
    (word.strip_suffix("64").unwrap_or(word), Width::W64)
}

/// `le16`, `be32`, `bswap64`, also `swap64`.
fn byte_order(word: &str) -> Option<(ByteOrder, SwapWidth)> {
    let digits = word.find(|c: char| c.is_ascii_digit())?;
    let (name, bits) = word.split_at(digits);
    let order = ByteOrder::ALL.iter().copied().find(|order| order.spelling() == name);
    let order = order.or((name == "swap").then_some(ByteOrder::Bswap))?;
    let width = SwapWidth::ALL.into_iter().find(|width| bits.parse() == Ok(width.bits()))?;
    Some((order, width))
}

/// `movsx832`, `movsx1664`, ...
fn sign_extension(word: &str) -> Option<(Size, Width)> {
    let (bits, width) = width(word.strip_prefix("movsx")?);
    let from = Size::ALL.iter().copied().find(|size| bits.parse() == Ok(size.bytes() * 8))?;
    Some((from, width))
}

fn register(cursor: &mut Cursor<'_>) -> Result<Reg, Fault> {
    let mut ahead = *cursor;
    if ahead.eat("%")
        && let Ok(reg) = ahead.register_of(Width::W64)
    {
        *cursor = ahead;
        return Ok(reg);
    }
    Err(cursor.expected("a register: %r0 to %r10"))
}

fn at_register(cursor: &Cursor<'_>) -> bool {
    let mut ahead = *cursor;
    ahead.eat("%")
}

fn operand(cursor: &mut Cursor<'_>) -> Result<Operand, Fault> {
    if at_register(cursor) {
        return register(cursor).map(Operand::Reg);
    }
    if !cursor.at_number() {
        return Err(cursor.expected("a register or a number"));
    }
    cursor.imm32().map(Operand::Imm)
}

/// A register, a comma, and one more.
fn dst_and<'a, T>(
    cursor: &mut Cursor<'a>,
    second: impl FnOnce(&mut Cursor<'a>) -> Result<T, Fault>,
) -> Result<(Reg, T), Fault> {
    let dst = register(cursor)?;
    cursor.expect(",")?;
    Ok((dst, second(cursor)?))
}

fn pair(cursor: &mut Cursor<'_>) -> Result<(Reg, Reg), Fault> {
    dst_and(cursor, register)
}

/// `[%r1]`, `[%r1+4]`, `[%r10-8]`; the displacement may be a 16-bit pattern.
fn memory(cursor: &mut Cursor<'_>) -> Result<(Reg, i16), Fault> {
    cursor.expect("[")?;
    let base = register(cursor)?;
    if cursor.eat("]") {
        return Ok((base, 0));
    }
    let off = cursor.signed(i16::MIN.into(), u16::MAX.into())? as i16;
    cursor.expect("]")?;
    Ok((base, off))
}

fn load(cursor: &mut Cursor<'_>, insn: impl FnOnce(Reg, Reg, i16) -> Insn) -> Result<Insn, Fault> {
    let (dst, (base, off)) = dst_and(cursor, memory)?;
    Ok(insn(dst, base, off))
}

fn store(cursor: &mut Cursor<'_>, insn: impl FnOnce(Reg, i16, Reg) -> Insn) -> Result<Insn, Fault> {
    let (base, off) = memory(cursor)?;
    cursor.expect(",")?;
    Ok(insn(base, off, register(cursor)?))
}

fn store_immediate(cursor: &mut Cursor<'_>, size: Size) -> Result<Insn, Fault> {
    let (base, off) = memory(cursor)?;
    cursor.expect(",")?;
    Ok(Insn::Store { size, base, off, src: cursor.imm32()?.into() })
}

/// `[fetch] add [%r10-8], %r1`, behind `lock`.
fn lock(cursor: &mut Cursor<'_>) -> Result<Insn, Fault> {
    let mut before = *cursor;
    let fetch = cursor.eat_word("fetch");
    let (name, width) = width(cursor.word().unwrap_or_default());
    let op = AtomicOp::ALL.iter().copied().find(|&op| atomic_words(op) == (fetch, name));
    let op = op.ok_or_else(|| before.expected("an atomic operation"))?;
    store(cursor, |base, off, src| Insn::Atomic { op, width, base, off, src })
}

fn load_imm64(cursor: &mut Cursor<'_>) -> Result<Insn, Fault> {
    let (dst, value) = dst_and(cursor, |cursor| cursor.number(i64::MIN.into(), u64::MAX.into()))?;
    Ok(Insn::LoadImm64 { dst, value: Imm64::Value(value as u64) })
}

/// `%r1, 0x2, 0x5, 0x8`: pseudo source and both halves.
fn ld_pseudo(cursor: &mut Cursor<'_>) -> Result<Insn, Fault> {
    let mut at = 0;
    let (dst, source) = dst_and(cursor, |cursor| {
        at = cursor.start_of_next();
        cursor.number(0, 6)
    })?;
    cursor.expect(",")?;
    let low = cursor.imm32()? as u32;
    cursor.expect(",")?;
    let high = cursor.imm32()? as u32;
    let value = imm64_of(source as i64, low, high);
    let value = value.ok_or_else(|| {
        let expected = "a source with two operands: 0, 2, 3 or 6";
        Fault::new(at, ParseErrorKind::Expected { expected, found: source.to_string() })
    })?;
    Ok(Insn::LoadImm64 { dst, value })
}

fn addr_space_cast(cursor: &mut Cursor<'_>) -> Result<Insn, Fault> {
    let (dst, src) = pair(cursor)?;
    cursor.expect(",")?;
    let dst_space = cursor.number(0, u16::MAX.into())? as u16;
    cursor.expect(",")?;
    let src_space = cursor.number(0, u16::MAX.into())? as u16;
    Ok(Insn::AddrSpaceCast { dst, src, dst_space, src_space })
}

fn conditional<'a>(cursor: &mut Cursor<'a>, condition: Condition, width: Width) -> Result<Statement<'a>, Fault> {
    let (dst, src) = dst_and(cursor, operand)?;
    cursor.expect(",")?;
    target(cursor, Insn::JumpIf { condition, width, dst, src, off: 0 })
}

/// A label, or `+4`.
fn target<'a>(cursor: &mut Cursor<'a>, insn: Insn) -> Result<Statement<'a>, Fault> {
    let at = cursor.start_of_next();
    if let Some(text) = cursor.word() {
        return Ok(Statement { insn, name: Some(Name { text, at, what: NameKind::Target }) });
    }
    if !cursor.at_number() {
        return Err(cursor.expected("a label, or an offset in slots"));
    }
    let off = cursor.number(i32::MIN.into(), i32::MAX.into())?;
    let insn = with_offset(insn, off as i64).map_err(|far| Fault::new(at, ParseErrorKind::FarTarget(far)))?;
    Ok(insn.into())
}

/// `5`, `helper 5`, `local f`, `runtime 5`, `%r2`.
fn call<'a>(cursor: &mut Cursor<'a>) -> Result<Statement<'a>, Fault> {
    if cursor.eat_word("local") {
        return target(cursor, Insn::Call(Callee::Local(0)));
    }
    if cursor.eat_word("runtime") {
        let btf_id = cursor.imm32()?;
        let module = if cursor.eat(",") { cursor.number(i16::MIN.into(), i16::MAX.into())? as i16 } else { 0 };
        return Ok(Insn::Call(Callee::Kfunc { btf_id, module }).into());
    }
    cursor.eat_word("helper");
    let callee = match operand(cursor)? {
        Operand::Reg(reg) => Callee::Reg(reg),
        Operand::Imm(number) => Callee::Helper(number),
    };
    Ok(Insn::Call(callee).into())
}
