//! Bytes to types.
//!
//! One pass makes the types, a second makes sure that every reference leads to one, so that walks cannot fall off.
//! Memory is a small multiple of the bytes: counts are believed only as far as the bytes reach.
//! `struct btf_header`, `struct btf_type`; libbpf's `btf_parse_hdr`, `btf_parse_type_sec`, `btf_sanity_check`.

use byteorder::{ByteOrder as _, LittleEndian};

use super::{
    Btf, BtfError, EnumValue, Kind, Linkage, Member, Modifier, Name, Param, SectionVar, Strings, Type, TypeId,
};

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;

/// Kinds, `BTF_KIND_*`.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Little-endian words in order.
pub(super) struct Words<'a>(pub(super) &'a [u8]);

impl<'a> Words<'a> {
    pub(super) fn next(&mut self) -> Option<u32> {
        self.array().map(|[word]| word)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u32; N]> {
        let bytes = self.take(4 * N)?;
        let mut words = [0; N];
        LittleEndian::read_u32_into(bytes, &mut words);
        Some(words)
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// `count` records of `N` words each; nothing is reserved before it is known that they are there.
    fn records<const N: usize, T>(&mut self, count: u32, mut read: impl FnMut([u32; N]) -> T) -> Option<Vec<T>> {
        let mut records = Words(self.take((count as usize).checked_mul(4 * N)?)?);
        Some(std::iter::from_fn(|| records.array().map(&mut read)).collect())
    }
}

/// Checks magic, version and length of a header of BTF or `.BTF.ext`; gives its words and what follows it.
pub(super) fn header(bytes: &[u8]) -> Result<(Words<'_>, &[u8]), BtfError> {
    let short = BtfError::ShortHeader { length: bytes.len() };
    let (&[m0, m1, version, _flags], rest) = bytes.split_first_chunk().ok_or(short)?;
    match u16::from_le_bytes([m0, m1]) {
        MAGIC => {}
        magic if magic == MAGIC.swap_bytes() => return Err(BtfError::BigEndian),
        magic => return Err(BtfError::BadMagic { magic }),
    }
    if version != 1 {
        return Err(BtfError::BadVersion { version });
    }
    let length = Words(rest).next().ok_or(short)?;
    let (head, body) = bytes.split_at_checked(length as usize).ok_or(BtfError::BadHeaderLength { length })?;
    let words = head.get(8..).ok_or(BtfError::BadHeaderLength { length })?;
    Ok((Words(words), body))
}

/// A part of what follows a header.
pub(super) fn part(body: &[u8], offset: u32, length: u32) -> Result<&[u8], BtfError> {
    let end = (offset as usize).checked_add(length as usize);
    let found = end.and_then(|end| body.get(offset as usize..end));
    found.ok_or(BtfError::OutOfRange { offset, length, available: body.len() })
}

impl Btf {
    /// Parses the contents of a `.BTF` section.
    ///
    /// # Errors
    /// [`BtfError`]; no bytes make it panic or loop.
    pub fn parse(bytes: &[u8]) -> Result<Btf, BtfError> {
        let (mut words, body) = header(bytes)?;
        let [type_offset, type_length, string_offset, string_length] =
            words.array().ok_or(BtfError::BadHeaderLength { length: (HEADER_BYTES.min(bytes.len())) as u32 })?;
        let strings = Strings::new(part(body, string_offset, string_length)?).ok_or(BtfError::BadStrings)?;
        let types = read_types(part(body, type_offset, type_length)?)?;
        let btf = Btf { strings, types };
        btf.check()?;
        Ok(btf)
    }

    /// Every reference leads to a type, every name into the strings.
    fn check(&self) -> Result<(), BtfError> {
        for (id, found) in self.types() {
            let mut result = self.check_name(id, found.name);
            found.kind.each_reference(|target, name| {
                let reference = self.get(target).map(|_| ()).ok_or(BtfError::BadReference { id, target });
                result = result.and(reference).and(self.check_name(id, name));
            });
            result?;
        }
        Ok(())
    }

    fn check_name(&self, id: TypeId, name: Name) -> Result<(), BtfError> {
        if (name.0 as usize) < self.strings.len() { Ok(()) } else { Err(BtfError::BadName { id, name }) }
    }
}

impl Kind {
    /// Every type and name that the type refers to.
    fn each_reference(&self, mut visit: impl FnMut(TypeId, Name)) {
        match self {
            Kind::Void | Kind::Int { .. } | Kind::Fwd { .. } | Kind::Float { .. } => {}
            Kind::Ptr(target)
            | Kind::Modifier(_, target)
            | Kind::Func { proto: target, .. }
            | Kind::Var { type_id: target, .. }
            | Kind::DeclTag { type_id: target, .. } => visit(*target, Name::EMPTY),
            Kind::Array { element, index, .. } => {
                visit(*element, Name::EMPTY);
                visit(*index, Name::EMPTY);
            }
            Kind::Struct { members, .. } | Kind::Union { members, .. } => {
                members.iter().for_each(|member| visit(member.type_id, member.name));
            }
            Kind::Enum { values, .. } => values.iter().for_each(|value| visit(TypeId::VOID, value.name)),
            Kind::FuncProto { result, params } => {
                visit(*result, Name::EMPTY);
                params.iter().for_each(|param| visit(param.type_id, param.name));
            }
            Kind::DataSec { vars, .. } => vars.iter().for_each(|var| visit(var.type_id, Name::EMPTY)),
        }
    }
}

fn read_types(bytes: &[u8]) -> Result<Vec<Type>, BtfError> {
    let mut words = Words(bytes);
    let mut types = vec![Type { name: Name::EMPTY, kind: Kind::Void }];
    while !words.0.is_empty() {
        let id = TypeId(types.len() as u32);
        let [name, info, size_or_type] = words.array().ok_or(BtfError::CutType { id })?;
        let head = Head { id, info, size_or_type };
        types.push(Type { name: Name(name), kind: head.read(&mut words)? });
    }
    Ok(types)
}

/// `struct btf_type` but for the name.
struct Head {
    id: TypeId,
    info: u32,
    size_or_type: u32,
}

impl Head {
    fn read(&self, words: &mut Words<'_>) -> Result<Kind, BtfError> {
        let target = TypeId(self.size_or_type);
        // Kinds are five bits up to Linux 6.18, whose two spare bits above are zero.
        let number = self.info >> 24 & 0x7f;
        let kind = match number {
            kind::INT => words.next().map(|bits| self.int(bits)),
            kind::PTR => Some(Kind::Ptr(target)),
            kind::ARRAY => words.array().map(|[element, index, count]| Kind::Array {
                element: TypeId(element),
                index: TypeId(index),
                count,
            }),
            kind::STRUCT => self.members(words).map(|members| Kind::Struct { size: self.size_or_type, members }),
            kind::UNION => self.members(words).map(|members| Kind::Union { size: self.size_or_type, members }),
            kind::ENUM => self.enumeration(words),
            kind::ENUM64 => self.enumeration64(words),
            kind::FWD => Some(Kind::Fwd { union: self.flag() }),
            kind::TYPEDEF => Some(Kind::Modifier(Modifier::Typedef, target)),
            kind::VOLATILE => Some(Kind::Modifier(Modifier::Volatile, target)),
            kind::CONST => Some(Kind::Modifier(Modifier::Const, target)),
            kind::RESTRICT => Some(Kind::Modifier(Modifier::Restrict, target)),
            kind::TYPE_TAG => Some(Kind::Modifier(Modifier::TypeTag, target)),
            kind::FUNC => Some(Kind::Func { proto: target, linkage: self.linkage(self.count())? }),
            kind::FUNC_PROTO => self.params(words).map(|params| Kind::FuncProto { result: target, params }),
            kind::VAR => match words.next() {
                Some(linkage) => Some(Kind::Var { type_id: target, linkage: self.linkage(linkage)? }),
                None => None,
            },
            kind::DATASEC => self.vars(words).map(|vars| Kind::DataSec { size: self.size_or_type, vars }),
            kind::FLOAT => Some(Kind::Float { size: self.size_or_type }),
            kind::DECL_TAG => words.next().map(|component| Kind::DeclTag {
                type_id: target,
                component: (component != u32::MAX).then_some(component),
            }),
            kind => return Err(BtfError::UnknownKind { id: self.id, kind }),
        };
        kind.ok_or(BtfError::CutType { id: self.id })
    }

    /// `BTF_INFO_VLEN`.
    fn count(&self) -> u32 {
        self.info & 0xffff
    }

    /// `BTF_INFO_KFLAG`.
    fn flag(&self) -> bool {
        self.info >> 31 != 0
    }

    fn linkage(&self, linkage: u32) -> Result<Linkage, BtfError> {
        match linkage {
            0 => Ok(Linkage::Static),
            1 => Ok(Linkage::Global),
            2 => Ok(Linkage::Extern),
            linkage => Err(BtfError::BadLinkage { id: self.id, linkage }),
        }
    }

    fn int(&self, word: u32) -> Kind {
        let encoding = word >> 24 & 0xf;
        Kind::Int {
            size: self.size_or_type,
            bits: word as u8,
            offset: (word >> 16) as u8,
            signed: encoding & 1 != 0,
            char: encoding & 2 != 0,
            bool: encoding & 4 != 0,
        }
    }

    fn members(&self, words: &mut Words<'_>) -> Option<Vec<Member>> {
        let packed = self.flag();
        words.records(self.count(), |[name, type_id, offset]| Member {
            name: Name(name),
            type_id: TypeId(type_id),
            bit_offset: if packed { offset & 0xff_ffff } else { offset },
            bitfield_bits: if packed { (offset >> 24) as u8 } else { 0 },
        })
    }

    fn enumeration(&self, words: &mut Words<'_>) -> Option<Kind> {
        let signed = self.flag();
        let extend = |value: u32| if signed { i64::from(value as i32) as u64 } else { value.into() };
        let values =
            words.records(self.count(), |[name, value]| EnumValue { name: Name(name), value: extend(value) })?;
        Some(Kind::Enum { size: self.size_or_type, signed, values })
    }

    fn enumeration64(&self, words: &mut Words<'_>) -> Option<Kind> {
        let values = words.records(self.count(), |[name, low, high]| EnumValue {
            name: Name(name),
            value: u64::from(high) << 32 | u64::from(low),
        })?;
        Some(Kind::Enum { size: self.size_or_type, signed: self.flag(), values })
    }

    fn params(&self, words: &mut Words<'_>) -> Option<Vec<Param>> {
        words.records(self.count(), |[name, type_id]| Param { name: Name(name), type_id: TypeId(type_id) })
    }

    fn vars(&self, words: &mut Words<'_>) -> Option<Vec<SectionVar>> {
        words.records(self.count(), |[type_id, offset, size]| SectionVar { type_id: TypeId(type_id), offset, size })
    }
}
