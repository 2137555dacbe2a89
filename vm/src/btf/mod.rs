//! BTF, the type information of an object: types by id, names, sizes.
//!
//! The parser accepts any bytes and answers with a [`Btf`] or a [`BtfError`]; whatever it accepted can be walked
//! without a panic, and every walk is bounded. Nothing here knows ELF or maps: definitions of maps are read in
//! [`crate::object`].
//!
//! Where to look next: `parse.rs` (bytes to types), [`ext`] (`.BTF.ext`: functions, lines, CO-RE relocations),
//! [`dump`] (a value as bpftool prints it).
//!
//! Sources: `include/uapi/linux/btf.h`, `Documentation/bpf/btf.rst`, libbpf's `btf.c`.

pub mod dump;
mod error;
pub mod ext;
mod parse;
mod strings;

use std::fmt;

pub use error::{BtfError, ExtSectionKind};
pub use strings::{Name, Strings};

/// Number of a type; 0 is `void`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`, which no record stands for.
    pub const VOID: TypeId = TypeId(0);
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0)
    }
}

/// How many modifiers or arrays in a row a walk follows: libbpf's `MAX_RESOLVE_DEPTH`.
pub const MAX_RESOLVE_DEPTH: usize = 32;

/// A member of a struct or union. `struct btf_member`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Empty for anonymous members.
    pub name: Name,
    /// Its type.
    pub type_id: TypeId,
    /// Bits from the start of the struct.
    pub bit_offset: u32,
    /// Width of a bit field; 0 for other members.
    pub bitfield_bits: u8,
}

/// A named value of an enumeration. `struct btf_enum` and `struct btf_enum64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnumValue {
    /// Its name.
    pub name: Name,
    /// The value, extended to 64 bits as the enumeration's signedness says.
    pub value: u64,
}

/// A parameter of a function. `struct btf_param`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// Empty where the prototype gives none.
    pub name: Name,
    /// Its type; [`TypeId::VOID`] in the last place stands for `...`.
    pub type_id: TypeId,
}

/// A variable of a data section. `struct btf_var_secinfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionVar {
    /// The variable or function.
    pub type_id: TypeId,
    /// Bytes from the start of the section.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// Linkage of a variable or function. `BTF_VAR_*`, `BTF_FUNC_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Linkage {
    Static,
    Global,
    Extern,
}

/// Qualifiers and aliases: types that have the layout of another. `btf_is_mod`, `btf_is_typedef`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Modifier {
    Typedef,
    Volatile,
    Const,
    Restrict,
    TypeTag,
}

/// What a type is. `BTF_KIND_*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// No type.
    Void,
    /// An integer. `BTF_KIND_INT`.
    Int {
        /// Bytes.
        size: u32,
        /// Bits that count, from `offset`.
        bits: u8,
        /// First bit that counts; 0 but in old bit fields.
        offset: u8,
        /// Two's complement.
        signed: bool,
        /// To be shown as a character.
        char: bool,
        /// `_Bool`.
        bool: bool,
    },
    /// A pointer.
    Ptr(TypeId),
    /// An array.
    Array {
        /// Type of an element.
        element: TypeId,
        /// Type of the index.
        index: TypeId,
        /// Elements.
        count: u32,
    },
    /// A struct.
    Struct {
        /// Bytes.
        size: u32,
        /// In order of the source.
        members: Vec<Member>,
    },
    /// A union.
    Union {
        /// Bytes.
        size: u32,
        /// In order of the source.
        members: Vec<Member>,
    },
    /// An enumeration. `BTF_KIND_ENUM` and `BTF_KIND_ENUM64`.
    Enum {
        /// Bytes: 1 to 8.
        size: u32,
        /// The values are signed.
        signed: bool,
        /// In order of the source.
        values: Vec<EnumValue>,
    },
    /// A struct or union that is only declared.
    Fwd {
        /// A union, not a struct.
        union: bool,
    },
    /// A qualifier or alias of another type.
    Modifier(Modifier, TypeId),
    /// A function.
    Func {
        /// Its [`Kind::FuncProto`].
        proto: TypeId,
        /// Where it is defined.
        linkage: Linkage,
    },
    /// The type of a function.
    FuncProto {
        /// Type of the result.
        result: TypeId,
        /// In order.
        params: Vec<Param>,
    },
    /// A global variable.
    Var {
        /// Its type.
        type_id: TypeId,
        /// Where it is defined.
        linkage: Linkage,
    },
    /// A section of global variables.
    DataSec {
        /// Bytes; compilers leave 0.
        size: u32,
        /// In order of their records; compilers leave the offsets 0.
        vars: Vec<SectionVar>,
    },
    /// A floating-point number.
    Float {
        /// Bytes.
        size: u32,
    },
    /// `btf_decl_tag` on a type, variable, function, member or parameter.
    DeclTag {
        /// What it is on.
        type_id: TypeId,
        /// Member or parameter; `None` for the whole.
        component: Option<u32>,
    },
}

impl Kind {
    /// The name of the kind, as libbpf's `btf_kind_str` writes it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Void => "void",
            Kind::Int { .. } => "int",
            Kind::Ptr(_) => "ptr",
            Kind::Array { .. } => "array",
            Kind::Struct { .. } => "struct",
            Kind::Union { .. } => "union",
            Kind::Enum { .. } => "enum",
            Kind::Fwd { .. } => "fwd",
            Kind::Modifier(Modifier::Typedef, _) => "typedef",
            Kind::Modifier(Modifier::Volatile, _) => "volatile",
            Kind::Modifier(Modifier::Const, _) => "const",
            Kind::Modifier(Modifier::Restrict, _) => "restrict",
            Kind::Modifier(Modifier::TypeTag, _) => "type_tag",
            Kind::Func { .. } => "func",
            Kind::FuncProto { .. } => "func_proto",
            Kind::Var { .. } => "var",
            Kind::DataSec { .. } => "datasec",
            Kind::Float { .. } => "float",
            Kind::DeclTag { .. } => "decl_tag",
        }
    }
}

/// A type. `struct btf_type`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Empty for anonymous types.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
}

/// The types of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Btf {
    strings: Strings,
    /// `types[0]` is `void`.
    types: Vec<Type>,
}

impl Btf {
    /// The type with this id.
    pub fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(id.0 as usize)
    }

    /// What the type with this id is.
    ///
    /// # Errors
    /// [`BtfError::NoType`].
    pub fn kind(&self, id: TypeId) -> Result<&Kind, BtfError> {
        self.get(id).map(|found| &found.kind).ok_or(BtfError::NoType { id })
    }

    /// Every type with its id, `void` first.
    pub fn types(&self) -> impl ExactSizeIterator<Item = (TypeId, &Type)> {
        self.types.iter().enumerate().map(|(id, found)| (TypeId(id as u32), found))
    }

    /// The strings: names, files and source lines.
    pub fn strings(&self) -> &Strings {
        &self.strings
    }

    /// The text of a name.
    pub fn text(&self, name: Name) -> &str {
        self.strings.get(name)
    }

    /// The name of a type; empty when it has none.
    pub fn name(&self, id: TypeId) -> &str {
        self.get(id).map_or("", |found| self.text(found.name))
    }

    /// The first type with this name that `wanted` accepts.
    pub fn find(&self, name: &str, wanted: impl Fn(&Kind) -> bool) -> Option<TypeId> {
        let mut types = self.types();
        types.find(|(_, found)| wanted(&found.kind) && self.strings.is(found.name, name)).map(|(id, _)| id)
    }

    /// The type behind qualifiers and aliases. libbpf's `skip_mods_and_typedefs`.
    ///
    /// # Errors
    /// [`BtfError::TooDeep`] behind more than [`MAX_RESOLVE_DEPTH`] of them (or a cycle), [`BtfError::NoType`].
    pub fn resolve(&self, id: TypeId) -> Result<TypeId, BtfError> {
        let mut at = id;
        for _ in 0..MAX_RESOLVE_DEPTH {
            let Kind::Modifier(_, target) = self.kind(at)? else { return Ok(at) };
            at = *target;
        }
        Err(BtfError::TooDeep { id })
    }

    /// Bytes of a value of this type. libbpf's `btf__resolve_size`.
    ///
    /// # Errors
    /// [`BtfError::NoSize`] for functions, `void` and other types without values, [`BtfError::TooLarge`] for
    /// arrays above 4 GiB, [`BtfError::TooDeep`], [`BtfError::NoType`].
    pub fn size_of(&self, id: TypeId) -> Result<u32, BtfError> {
        let (mut at, mut count) = (id, 1_u64);
        for _ in 0..MAX_RESOLVE_DEPTH {
            let size = match *self.kind(at)? {
                Kind::Int { size, .. }
                | Kind::Struct { size, .. }
                | Kind::Union { size, .. }
                | Kind::Enum { size, .. }
                | Kind::DataSec { size, .. }
                | Kind::Float { size } => size,
                Kind::Ptr(_) => 8,
                Kind::Modifier(_, target) | Kind::Var { type_id: target, .. } => {
                    at = target;
                    continue;
                }
                Kind::Array { element, count: more, .. } => {
                    count = count.checked_mul(more.into()).ok_or(BtfError::TooLarge { id })?;
                    at = element;
                    continue;
                }
                Kind::Void | Kind::Fwd { .. } | Kind::Func { .. } | Kind::FuncProto { .. } | Kind::DeclTag { .. } => {
                    return Err(BtfError::NoSize { id: at });
                }
            };
            let total = count.checked_mul(size.into()).and_then(|total| u32::try_from(total).ok());
            return total.ok_or(BtfError::TooLarge { id });
        }
        Err(BtfError::TooDeep { id })
    }

    /// Alignment of a value of this type, a power of two. libbpf's `btf__align_of`, without packed structs.
    ///
    /// # Errors
    /// As [`Btf::size_of`].
    pub fn align_of(&self, id: TypeId) -> Result<u32, BtfError> {
        let mut at = id;
        for _ in 0..MAX_RESOLVE_DEPTH {
            match *self.kind(at)? {
                Kind::Modifier(_, target) | Kind::Var { type_id: target, .. } => at = target,
                Kind::Array { element, .. } => at = element,
                Kind::Int { size, .. } | Kind::Enum { size, .. } | Kind::Float { size } => {
                    return Ok(size.clamp(1, 8).next_power_of_two());
                }
                Kind::Ptr(_) => return Ok(8),
                // Nobody asks for a struct's alignment but for `.kconfig`, where none can stand.
                Kind::Struct { .. } | Kind::Union { .. } => return Ok(8),
                Kind::Void
                | Kind::Fwd { .. }
                | Kind::Func { .. }
                | Kind::FuncProto { .. }
                | Kind::DataSec { .. }
                | Kind::DeclTag { .. } => return Err(BtfError::NoSize { id: at }),
            }
        }
        Err(BtfError::TooDeep { id })
    }

    /// The variables of the data section with this id, to be completed from symbols.
    pub(crate) fn data_section_mut(&mut self, id: TypeId) -> Option<(&mut u32, &mut Vec<SectionVar>)> {
        let Kind::DataSec { size, vars } = &mut self.types.get_mut(id.0 as usize)?.kind else { return None };
        Some((size, vars))
    }
}
