//! A value as text, by its type: what `bpftool map dump` shows, on one line.
//!
//! `{"time": 5, "comm": "sshd", "flags": [1, 0]}`. Nothing here knows maps or memory: it is given bytes. Bytes that
//! end too early, types without values and types nested too deep print as `?`; output is bounded, whatever the types.
//! bpftool's `btf_dumper.c`.

use std::cell::Cell;
use std::fmt::{self, Display, Formatter, Write as _};

use super::{Btf, Kind, MAX_RESOLVE_DEPTH, Member, Name, TypeId};

/// The most numbers, names and strings that are printed; then follows `...`.
const MAX_ITEMS: usize = 1 << 14;

/// The most bytes of a name that are printed: the kernel's `KSYM_NAME_LEN`; longer ones print as `?`.
const MAX_NAME: usize = 512;

/// The value of a type in some bytes, to be printed.
#[derive(Debug, Clone, Copy)]
pub struct Dump<'a> {
    btf: &'a Btf,
    type_id: TypeId,
    bytes: &'a [u8],
}

impl Btf {
    /// The value that `bytes` hold, in little-endian order, to be printed.
    pub fn dump<'a>(&'a self, type_id: TypeId, bytes: &'a [u8]) -> Dump<'a> {
        Dump { btf: self, type_id, bytes }
    }
}

impl Display for Dump<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut printer = Printer { btf: self.btf, f, items: Cell::new(MAX_ITEMS) };
        printer.value(self.type_id, self.bytes, 0)
    }
}

struct Printer<'a, 'f> {
    btf: &'a Btf,
    f: &'a mut Formatter<'f>,
    items: Cell<usize>,
}

impl Printer<'_, '_> {
    fn value(&mut self, id: TypeId, bytes: &[u8], depth: usize) -> fmt::Result {
        let btf = self.btf;
        let kind = btf.resolve(id).and_then(|id| btf.kind(id));
        let Some(left) = self.items.get().checked_sub(1) else { return Ok(()) };
        self.items.set(left);
        if left == 0 {
            return self.f.write_str("...");
        }
        let (Ok(kind), true) = (kind, depth < MAX_RESOLVE_DEPTH) else { return self.f.write_char('?') };
        match kind {
            Kind::Int { size, signed, char, bool, .. } => match number(bytes, *size) {
                Some(value) if *bool && value < 2 => write!(self.f, "{}", value == 1),
                Some(value) if *char && is_printable(value) => self.text(&[value as u8]),
                Some(value) if *signed => write!(self.f, "{}", extend(value, size * 8)),
                Some(value) => write!(self.f, "{value}"),
                None => self.hex(bytes, *size),
            },
            Kind::Ptr(_) => match number(bytes, 8) {
                Some(value) => write!(self.f, "{value:#x}"),
                None => self.f.write_char('?'),
            },
            Kind::Enum { size, signed, values } => {
                let Some(raw) = number(bytes, *size) else { return self.f.write_char('?') };
                let value = if *signed { extend(raw, size * 8) as u64 } else { raw };
                match values.iter().find(|named| named.value == value) {
                    Some(named) => self.text(short(btf, named.name).as_bytes()),
                    None if *signed => write!(self.f, "{}", value as i64),
                    None => write!(self.f, "{value}"),
                }
            }
            Kind::Float { size } => match (number(bytes, *size), size) {
                (Some(bits), 4) => write!(self.f, "{}", f32::from_bits(bits as u32)),
                (Some(bits), 8) => write!(self.f, "{}", f64::from_bits(bits)),
                _ => self.hex(bytes, *size),
            },
            Kind::Array { element, count, .. } => self.array(*element, *count, bytes, depth),
            Kind::Struct { members, .. } | Kind::Union { members, .. } => self.members(members, bytes, depth),
            Kind::Var { type_id, .. } => self.value(*type_id, bytes, depth + 1),
            Kind::DataSec { vars, .. } => {
                let name = |id| btf.get(id).map_or("", |var| short(btf, var.name));
                let fields = vars.iter().map(|var| (name(var.type_id), var.type_id, var.offset as usize));
                self.fields(fields, bytes, depth)
            }
            Kind::Void
            | Kind::Fwd { .. }
            | Kind::Modifier(..)
            | Kind::Func { .. }
            | Kind::FuncProto { .. }
            | Kind::DeclTag { .. } => self.f.write_char('?'),
        }
    }

    fn array(&mut self, element: TypeId, count: u32, bytes: &[u8], depth: usize) -> fmt::Result {
        let size = self.btf.size_of(element).unwrap_or(0) as usize;
        if size == 1 && self.is_char(element) {
            let text = bytes.get(..count as usize).unwrap_or(bytes);
            let text = text.iter().position(|byte| *byte == 0).map(|end| text.split_at(end));
            if let Some((text, rest)) = text
                && text.iter().all(|byte| is_printable((*byte).into()))
                && rest.iter().all(|byte| *byte == 0)
            {
                return self.text(text);
            }
        }
        self.f.write_char('[')?;
        for index in 0..count as usize {
            if self.items.get() == 0 {
                break;
            }
            self.f.write_str(if index == 0 { "" } else { ", " })?;
            let at = index.saturating_mul(size);
            self.value(element, bytes.get(at..).unwrap_or_default(), depth + 1)?;
        }
        self.f.write_char(']')
    }

    fn is_char(&self, id: TypeId) -> bool {
        let kind = self.btf.resolve(id).and_then(|id| self.btf.kind(id));
        // Clang marks no `char` as one; it is the only integer of this name.
        let named = self.btf.resolve(id).ok().and_then(|id| self.btf.get(id));
        let named = named.is_some_and(|found| self.btf.strings().is(found.name, "char"));
        named || matches!(kind, Ok(Kind::Int { char: true, .. }))
    }

    fn members(&mut self, members: &[Member], bytes: &[u8], depth: usize) -> fmt::Result {
        let btf = self.btf;
        self.f.write_char('{')?;
        for (index, member) in members.iter().enumerate() {
            if self.items.get() == 0 {
                break;
            }
            self.f.write_str(if index == 0 { "" } else { ", " })?;
            self.name(short(btf, member.name))?;
            if member.bitfield_bits != 0 {
                self.bitfield(member, bytes)?;
            } else {
                let at = (member.bit_offset / 8) as usize;
                self.value(member.type_id, bytes.get(at..).unwrap_or_default(), depth + 1)?;
            }
        }
        self.f.write_char('}')
    }

    fn fields<'n>(
        &mut self,
        fields: impl Iterator<Item = (&'n str, TypeId, usize)>,
        bytes: &[u8],
        depth: usize,
    ) -> fmt::Result {
        self.f.write_char('{')?;
        for (index, (name, id, at)) in fields.enumerate() {
            if self.items.get() == 0 {
                break;
            }
            self.f.write_str(if index == 0 { "" } else { ", " })?;
            self.name(name)?;
            self.value(id, bytes.get(at..).unwrap_or_default(), depth + 1)?;
        }
        self.f.write_char('}')
    }

    fn bitfield(&mut self, member: &Member, bytes: &[u8]) -> fmt::Result {
        self.items.set(self.items.get().saturating_sub(1));
        let (first, shift) = ((member.bit_offset / 8) as usize, member.bit_offset % 8);
        let bits = u32::from(member.bitfield_bits).min(64);
        let end = first + (shift + bits).div_ceil(8) as usize;
        let Some(bytes) = bytes.get(first..end) else { return self.f.write_char('?') };
        let wide = bytes.iter().rev().fold(0_u128, |wide, byte| wide << 8 | u128::from(*byte));
        let value = (wide >> shift) as u64 & (u64::MAX >> (64 - bits));
        let kind = self.btf.resolve(member.type_id).and_then(|id| self.btf.kind(id));
        if matches!(kind, Ok(Kind::Int { signed: true, .. } | Kind::Enum { signed: true, .. })) {
            return write!(self.f, "{}", extend(value, bits));
        }
        write!(self.f, "{value}")
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        self.text(if name.is_empty() { b"(anon)" } else { name.as_bytes() })?;
        self.f.write_str(": ")
    }

    /// A string as JSON has it.
    fn text(&mut self, text: &[u8]) -> fmt::Result {
        self.f.write_char('"')?;
        for byte in text {
            match byte {
                b'"' | b'\\' => write!(self.f, "\\{}", char::from(*byte))?,
                b' '..=b'~' => self.f.write_char(char::from(*byte))?,
                other => write!(self.f, "\\u{other:04x}")?,
            }
        }
        self.f.write_char('"')
    }

    /// A number of unusual size, the highest byte first.
    fn hex(&mut self, bytes: &[u8], size: u32) -> fmt::Result {
        match bytes.get(..size as usize) {
            Some(bytes) if size > 0 && size <= 32 => {
                self.f.write_str("0x")?;
                bytes.iter().rev().try_for_each(|byte| write!(self.f, "{byte:02x}"))
            }
            _ => self.f.write_char('?'),
        }
    }
}

fn short(btf: &Btf, name: Name) -> &str {
    btf.strings().get_short(name, MAX_NAME).unwrap_or("?")
}

/// A number of 1 to 8 bytes.
fn number(bytes: &[u8], size: u32) -> Option<u64> {
    let bytes = bytes.get(..size as usize).filter(|_| (1..=8).contains(&size))?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// The two's complement value of the low bits, 1 to 64 of them.
fn extend(value: u64, bits: u32) -> i64 {
    let unused = 64 - bits.clamp(1, 64);
    (value << unused) as i64 >> unused
}

fn is_printable(value: u64) -> bool {
    (0x20..0x7f).contains(&value)
}
