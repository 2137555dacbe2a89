//! `.BTF.ext`: which function, which source line and which CO-RE relocation belongs to which instruction.
//!
//! Offsets are in bytes from the start of an ELF section, which is named, not numbered. What the records mean for a
//! linked program is for [`crate::object`] to say; CO-RE relocations are kept, nobody applies them yet: programs run
//! with the offsets that the compiler saw.
//!
//! `struct btf_ext_header`, `struct bpf_func_info`, `struct bpf_line_info`, `struct bpf_core_relo`.

use super::parse::{Words, header, part};
use super::{BtfError, ExtSectionKind, Name, TypeId};

/// Where a function starts. `struct bpf_func_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionRecord {
    /// Bytes from the start of the section.
    pub offset: u32,
    /// Its `FUNC`.
    pub type_id: TypeId,
}

/// Where the code of a source line starts. `struct bpf_line_info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineRecord {
    /// Bytes from the start of the section.
    pub offset: u32,
    /// File.
    pub file: Name,
    /// The line itself.
    pub text: Name,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
}

macro_rules! core_kinds {
    ($($(#[$doc:meta])* $name:ident $number:literal $spelling:literal)*) => {
        /// What a CO-RE relocation asks about the running kernel's types. `enum bpf_core_relo_kind`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CoreKind { $($(#[$doc])* $name),* }

        impl CoreKind {
            /// The name that libbpf's `core_relo_kind_str` gives it.
            pub fn name(self) -> &'static str {
                match self { $(CoreKind::$name => $spelling),* }
            }

            fn from_number(number: u32) -> Option<CoreKind> {
                match number { $($number => Some(CoreKind::$name),)* _ => None }
            }
        }
    };
}
core_kinds! {
    /// Offset of a field in bytes.
    FieldByteOffset 0 "byte_off"
    /// Size of a field in bytes.
    FieldByteSize 1 "byte_sz"
    /// Whether a field exists.
    FieldExists 2 "field_exists"
    /// Whether a field is signed.
    FieldSigned 3 "signed"
    /// Left shift that extracts a bit field.
    FieldLshiftU64 4 "lshift_u64"
    /// Right shift that extracts a bit field.
    FieldRshiftU64 5 "rshift_u64"
    /// Type id in the object's BTF.
    TypeIdLocal 6 "local_type_id"
    /// Type id in the kernel's BTF.
    TypeIdTarget 7 "target_type_id"
    /// Whether a type exists.
    TypeExists 8 "type_exists"
    /// Size of a type in bytes.
    TypeSize 9 "type_size"
    /// Whether a named value of an enumeration exists.
    EnumvalExists 10 "enumval_exists"
    /// A named value of an enumeration.
    EnumvalValue 11 "enumval_value"
    /// Whether a type matches.
    TypeMatches 12 "type_matches"
}

/// A question about the running kernel's types that an instruction's immediate or offset answers.
/// `struct bpf_core_relo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreRelocation {
    /// Bytes from the start of the section.
    pub offset: u32,
    /// The type in the object's BTF.
    pub type_id: TypeId,
    /// Path of member indices, `0:1:2`.
    pub access: Name,
    /// What is asked.
    pub kind: CoreKind,
}

/// The records of one ELF section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Records<T> {
    /// Name of the ELF section.
    pub section: Name,
    /// In order of the file.
    pub records: Vec<T>,
}

/// Contents of `.BTF.ext`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BtfExt {
    /// Functions.
    pub functions: Vec<Records<FunctionRecord>>,
    /// Source lines.
    pub lines: Vec<Records<LineRecord>>,
    /// CO-RE relocations.
    pub relocations: Vec<Records<CoreRelocation>>,
}

impl BtfExt {
    /// Parses the contents of a `.BTF.ext` section.
    ///
    /// # Errors
    /// [`BtfError`]; no bytes make it panic or loop.
    pub fn parse(bytes: &[u8]) -> Result<BtfExt, BtfError> {
        let (mut words, body) = header(bytes)?;
        let mut next = || match words.array() {
            Some([offset, length]) => part(body, offset, length),
            None => Ok(&[][..]),
        };
        let (functions, lines, relocations) = (next()?, next()?, next()?);
        Ok(BtfExt {
            functions: read(functions, ExtSectionKind::Functions, |[offset, type_id]| {
                Ok(FunctionRecord { offset, type_id: TypeId(type_id) })
            })?,
            lines: read(lines, ExtSectionKind::Lines, |[offset, file, text, line_column]| {
                // `BPF_LINE_INFO_LINE_NUM` and `BPF_LINE_INFO_LINE_COL`.
                let (line, column) = (line_column >> 10, line_column & 0x3ff);
                Ok(LineRecord { offset, file: Name(file), text: Name(text), line, column })
            })?,
            relocations: read(relocations, ExtSectionKind::Relocations, |[offset, type_id, access, kind]| {
                let kind = CoreKind::from_number(kind).ok_or(BtfError::UnknownRelocation { kind })?;
                Ok(CoreRelocation { offset, type_id: TypeId(type_id), access: Name(access), kind })
            })?,
        })
    }
}

/// Reads one list: the size of a record, then for each section a name, a count and the records. Records may be longer
/// than the `N` words that are known; `btf_ext_parse_sec_info`.
fn read<const N: usize, T>(
    bytes: &[u8],
    kind: ExtSectionKind,
    convert: impl Fn([u32; N]) -> Result<T, BtfError>,
) -> Result<Vec<Records<T>>, BtfError> {
    let mut words = Words(bytes);
    let Some(size) = words.next() else { return Ok(Vec::new()) };
    if (size as usize) < 4 * N || size % 4 != 0 {
        return Err(BtfError::BadRecordSize { kind, size });
    }
    let mut sections = Vec::new();
    while let Some([section, count]) = words.array() {
        let length = (count as usize).checked_mul(size as usize);
        let data = length.and_then(|length| words.take(length)).ok_or(BtfError::CutRecords { kind, count, size })?;
        let record = |bytes| Words(bytes).array().map_or(Err(BtfError::BadRecordSize { kind, size }), &convert);
        let records = data.chunks_exact(size as usize).map(record).collect::<Result<_, _>>()?;
        sections.push(Records { section: Name(section), records });
    }
    Ok(sections)
}
