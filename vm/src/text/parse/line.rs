//! What stands around an instruction on its line: labels, the columns of listings, comments.

use super::cursor::{Cursor, Fault};
use super::error::ParseErrorKind;
use crate::codec::{SLOT_BYTES, decode_one, encode_one};
use crate::insn::{AtomicOp, Callee, Imm64, Insn, PacketOffset, Reg, Width};
use crate::text::llvm::UNKNOWN;

/// The start of a line, up to where an instruction may stand.
pub(super) struct Line<'a> {
    /// Labels and where their names stand.
    pub(super) labels: Vec<(&'a str, usize)>,
    pub(super) prefix: Prefix,
}

/// The columns that a listing has before the instruction.
#[derive(Default)]
pub(super) struct Prefix {
    slot: bool,
    bytes: Option<Vec<u8>>,
    pub(super) opcode: Option<u8>,
}

/// Reads a line up to its instruction or its end.
pub(super) fn start<'a>(cursor: &mut Cursor<'a>) -> Result<Line<'a>, Fault> {
    let mut line = Line { labels: Vec::new(), prefix: Prefix::default() };
    cursor.skip_blanks();
    if is_heading(cursor.line()) {
        cursor.advance(cursor.line().len());
        return Ok(line);
    }
    if let Some(name) = signature_name(cursor.line()) {
        line.labels.push((name, cursor.start_of_next()));
        cursor.advance(cursor.line().len());
        return Ok(line);
    }
    loop {
        let at = cursor.start_of_next();
        if let Some(name) = symbol_label(cursor).or_else(|| label(cursor)) {
            line.labels.push((name, at));
        } else if !line.prefix.slot && slot_number(cursor) {
            line.prefix.slot = true;
        } else {
            break;
        }
    }
    line.prefix.bytes = raw_bytes(cursor);
    line.prefix.opcode = opcode(cursor);
    Ok(line)
}

/// Reads a line from behind its instruction; `is_instruction` says whether one follows at a cursor.
pub(super) fn end(cursor: &mut Cursor<'_>, is_instruction: impl Fn(Cursor<'_>) -> bool) -> Result<(), Fault> {
    if !cursor.at_end_of_statement() {
        return Err(cursor.expected("the end of the line"));
    }
    if cursor.rest().starts_with(';') {
        let mut at = cursor.start_of_next();
        for part in cursor.line().split(';') {
            if is_instruction(Cursor::new(part)) {
                return Err(Fault::new(at, ParseErrorKind::AfterSemicolon));
            }
            at += part.len() + 1;
        }
    }
    cursor.skip_line();
    Ok(())
}

/// The lines of llvm-objdump that say which file and section follow.
fn is_heading(line: &str) -> bool {
    line.starts_with("Disassembly of section ") || line.contains(":\tfile format ")
}

/// `f` of `static int f(struct xdp_md * ctx):`, as bpftool shows the signature of a function.
fn signature_name(line: &str) -> Option<&str> {
    let declaration = line.trim_end().strip_suffix("):")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '*' | ',' | '(' | ')' | '[' | ']' | '.');
    if !declaration.chars().all(plain) {
        return None;
    }
    let (before, _) = declaration.split_once('(')?;
    let start = before.rfind([' ', '*']).map_or(0, |blank| blank + 1);
    let name = &before[start..];
    (start > 0 && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).then_some(name)
}

/// `0000000000000080 <LBB0_3>:`.
fn symbol_label<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let rest = cursor.rest();
    let behind_digits = rest.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    if behind_digits.len() == rest.len() {
        return None;
    }
    // Not further than the line: a line of many labels is read once.
    let name = behind_digits.trim_start_matches(' ').strip_prefix('<')?;
    let (name, behind_name) = name.split_at(name.find(['>', '\n'])?);
    let mut ahead = *cursor;
    ahead.advance(rest.len() - behind_name.len());
    if !ahead.rest().starts_with(">:") {
        return None;
    }
    ahead.advance(2);
    *cursor = ahead;
    Some(name)
}

/// `out:`.
fn label<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    let mut ahead = *cursor;
    let name = ahead.word()?;
    if !ahead.rest().starts_with(':') {
        return None;
    }
    ahead.advance(1);
    *cursor = ahead;
    Some(name)
}

/// `12:`.
fn slot_number(cursor: &mut Cursor<'_>) -> bool {
    let line = cursor.line();
    let behind = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let found = behind.len() < line.len() && behind.starts_with(':');
    if found {
        cursor.advance(line.len() - behind.len() + 1);
    }
    found
}

/// `b7 01 00 00 00 00 00 00`: one slot, or two.
fn raw_bytes(cursor: &mut Cursor<'_>) -> Option<Vec<u8>> {
    let mut ahead = *cursor;
    let mut bytes = Vec::new();
    while bytes.len() < 2 * SLOT_BYTES
        && let Some(byte) = hex_byte(&mut ahead)
    {
        bytes.push(byte);
    }
    if bytes.len() != SLOT_BYTES && bytes.len() != 2 * SLOT_BYTES {
        return None;
    }
    *cursor = ahead;
    Some(bytes)
}

/// Two hex digits with nothing but blanks behind them.
fn hex_byte(cursor: &mut Cursor<'_>) -> Option<u8> {
    cursor.skip_blanks();
    let rest = cursor.rest();
    let digits = rest.get(..2).filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))?;
    let behind = rest[2..].chars().next();
    if behind.is_some_and(|c| !c.is_whitespace()) {
        return None;
    }
    cursor.advance(2);
    u8::from_str_radix(digits, 16).ok()
}

/// `(b7)`.
fn opcode(cursor: &mut Cursor<'_>) -> Option<u8> {
    cursor.skip_blanks();
    let digits = cursor.rest().strip_prefix('(')?.get(..2)?;
    if !digits.chars().all(|c| c.is_ascii_hexdigit()) || !cursor.rest()[3..].starts_with(')') {
        return None;
    }
    cursor.advance(4);
    u8::from_str_radix(digits, 16).ok()
}

impl Prefix {
    /// There are no such columns.
    pub(super) fn is_empty(&self) -> bool {
        !self.slot && self.bytes.is_none() && self.opcode.is_none()
    }

    /// These columns may not stand without an instruction.
    pub(super) fn needs_instruction(&self, after_opcode: bool) -> bool {
        self.opcode.is_some() || (self.bytes.is_some() && (self.slot || !after_opcode))
    }

    /// The opcode says that a 64-bit immediate load follows.
    pub(super) fn is_wide_load(&self) -> bool {
        let load = Insn::LoadImm64 { dst: Reg::R0, value: Imm64::Value(0) };
        self.opcode.is_some() && self.opcode == encode_one(&load).ok().map(|bytes| bytes[0])
    }

    /// What the bytes say, where llvm-objdump writes that it does not know.
    pub(super) fn unknown(&self, cursor: &mut Cursor<'_>) -> Result<Option<Insn>, Fault> {
        let Some(bytes) = &self.bytes else { return Ok(None) };
        let at = cursor.start_of_next();
        if !cursor.eat(UNKNOWN) {
            return Ok(None);
        }
        decode_one(bytes).map(Some).map_err(|kind| Fault::new(at, kind))
    }

    /// The instruction that both text and columns say.
    pub(super) fn check(&self, insn: Insn, has_name: bool) -> Result<Insn, ParseErrorKind> {
        let own = encode_one(&insn)?[0];
        if let Some(written) = self.opcode.filter(|&written| written != own) {
            return Err(ParseErrorKind::OtherOpcode { written, own });
        }
        match &self.bytes {
            Some(bytes) if !has_name => {
                let decoded = decode_one(bytes)?;
                // A load's second slot must be among the bytes, and nothing else.
                if decoded.slots() * SLOT_BYTES == bytes.len() && (decoded == insn || as_objdump_shows(decoded) == insn)
                {
                    Ok(decoded)
                } else {
                    Err(ParseErrorKind::OtherBytes { bytes: decoded })
                }
            }
            Some(_) | None => Ok(insn),
        }
    }
}

/// What is left of an instruction in the text of llvm-objdump.
fn as_objdump_shows(insn: Insn) -> Insn {
    match insn {
        Insn::Call(Callee::Local(imm) | Callee::Kfunc { btf_id: imm, .. }) => Insn::Call(Callee::Helper(imm)),
        Insn::LoadPacket { size, offset: PacketOffset::Ind(reg, _) } => {
            Insn::LoadPacket { size, offset: PacketOffset::Ind(reg, 0) }
        }
        Insn::Atomic { op: AtomicOp::FetchAdd, width: Width::W32, base, off, src } => {
            Insn::Atomic { op: AtomicOp::Add, width: Width::W32, base, off, src }
        }
        Insn::LoadImm64 { dst, value } => {
            let value = match value {
                Imm64::MapValue { fd, .. } => Imm64::MapValue { fd, offset: 0 },
                Imm64::Variable { btf_id, .. } => Imm64::Variable { btf_id, btf_fd: 0 },
                Imm64::MapIndexValue { index, .. } => Imm64::MapIndexValue { index, offset: 0 },
                Imm64::Value(_) | Imm64::MapFd(_) | Imm64::Code(_) | Imm64::MapIndex(_) => value,
            };
            Insn::LoadImm64 { dst, value }
        }
        Insn::Alu { .. }
        | Insn::Neg { .. }
        | Insn::MovSx { .. }
        | Insn::End { .. }
        | Insn::AddrSpaceCast { .. }
        | Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::LoadAcquire { .. }
        | Insn::StoreRelease { .. }
        | Insn::LoadPacket { .. }
        | Insn::Jump { .. }
        | Insn::JumpIf { .. }
        | Insn::MayGoto { .. }
        | Insn::Call(Callee::Helper(_) | Callee::Reg(_))
        | Insn::Exit => insn,
    }
}
