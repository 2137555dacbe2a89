//! The ELF file as the rest of `object` sees it: sections with names, symbols with names, relocations.
//!
//! Crate `object` decodes headers and symbols; this file decides what is an error, bounds names and sizes, and knows
//! nothing of BPF but the machine number. System V ABI, chapter 4; libbpf's `bpf_object__elf_init`.

use std::collections::BTreeMap;

use object::LittleEndian;
use object::SymbolIndex;
use object::elf::{self, FileHeader64, SectionType, SymbolBind, SymbolType};
use object::read::elf::{FileHeader as _, SectionHeader as _, SymbolTable};

use super::error::{MAX_NAME, ObjectError};

type Header = FileHeader64<LittleEndian>;
const ENDIAN: LittleEndian = LittleEndian;

/// A section.
pub(super) struct Section<'a> {
    pub(super) name: &'a str,
    pub(super) kind: SectionType,
    pub(super) executable: bool,
    /// Size that the header says; [`Section::data`] has as many bytes unless the kind is `NOBITS`.
    pub(super) size: u64,
    /// `sh_info`: for relocations, the section that they are of.
    pub(super) info: usize,
    header: &'a elf::SectionHeader64<LittleEndian>,
    file: &'a [u8],
}

impl<'a> Section<'a> {
    /// The contents; none for `NOBITS`.
    pub(super) fn data(&self) -> Result<&'a [u8], ObjectError> {
        self.header.data(ENDIAN, self.file).map_err(|_| ObjectError::CutSection { section: self.name.to_owned() })
    }

    /// Instructions are in it.
    pub(super) fn is_code(&self) -> bool {
        self.kind == elf::SHT_PROGBITS && self.executable && self.size > 0
    }
}

/// A symbol.
pub(super) struct Symbol<'a> {
    /// The section's name for a section symbol.
    pub(super) name: &'a str,
    pub(super) kind: SymbolType,
    pub(super) bind: SymbolBind,
    /// `None` for undefined, absolute and common symbols.
    pub(super) section: Option<usize>,
    pub(super) undefined: bool,
    pub(super) value: u64,
    pub(super) size: u64,
}

impl Symbol<'_> {
    pub(super) fn is_global(&self) -> bool {
        self.bind != elf::STB_LOCAL
    }

    /// libbpf's `sym_is_extern`.
    pub(super) fn is_extern(&self) -> bool {
        self.undefined && self.is_global() && self.kind == elf::STT_NOTYPE && !self.name.is_empty()
    }
}

/// A relocation: something at `offset` of a section refers to a symbol.
pub(super) struct Relocation {
    pub(super) offset: u64,
    pub(super) symbol: usize,
    pub(super) kind: u32,
}

/// A BPF object file.
pub(super) struct Elf<'a> {
    pub(super) flags: u32,
    pub(super) sections: Vec<Section<'a>>,
    pub(super) symbols: Vec<Symbol<'a>>,
    /// Sections of relocations, by the section that they are of.
    relocation_tables: BTreeMap<usize, Vec<usize>>,
}

impl<'a> Elf<'a> {
    pub(super) fn parse(file: &'a [u8]) -> Result<Elf<'a>, ObjectError> {
        check_ident(file)?;
        let header = Header::parse(file)?;
        let machine = header.e_machine.get(ENDIAN);
        if machine != elf::EM_BPF {
            return Err(ObjectError::NotBpf { machine: machine.0 });
        }
        let kind = header.e_type.get(ENDIAN);
        if kind != elf::ET_REL {
            return Err(ObjectError::NotRelocatable { kind: kind.0 });
        }
        let sections = read_sections(header, file)?;
        let symbols = read_symbols(header, file, &sections)?;
        let mut relocation_tables = BTreeMap::<usize, Vec<usize>>::new();
        for (index, table) in sections.iter().enumerate().filter(|(_, table)| table.kind == elf::SHT_REL) {
            relocation_tables.entry(table.info).or_default().push(index);
        }
        Ok(Elf { flags: header.e_flags.get(ENDIAN).0, sections, symbols, relocation_tables })
    }

    /// The first section with this name that has contents.
    pub(super) fn find(&self, name: &str) -> Option<(usize, &Section<'a>)> {
        let mut sections = self.sections.iter().enumerate();
        sections.find(|(_, section)| section.name == name && section.kind == elf::SHT_PROGBITS)
    }

    /// The relocations of the section with this index.
    pub(super) fn relocations(&self, section: usize) -> Result<Vec<Relocation>, ObjectError> {
        let mut found = Vec::new();
        let tables = self.relocation_tables.get(&section).map_or(&[][..], Vec::as_slice);
        for table in tables.iter().filter_map(|index| self.sections.get(*index)) {
            let (entries, rest) = table.data()?.as_chunks();
            if !rest.is_empty() {
                return Err(ObjectError::CutSection { section: table.name.to_owned() });
            }
            found.extend(entries.iter().map(|entry| relocation(*entry)));
        }
        Ok(found)
    }
}

/// `Elf64_Rel`.
fn relocation(bytes: [u8; 16]) -> Relocation {
    let [o0, o1, o2, o3, o4, o5, o6, o7, t0, t1, t2, t3, s0, s1, s2, s3] = bytes;
    Relocation {
        offset: u64::from_le_bytes([o0, o1, o2, o3, o4, o5, o6, o7]),
        kind: u32::from_le_bytes([t0, t1, t2, t3]),
        symbol: u32::from_le_bytes([s0, s1, s2, s3]) as usize,
    }
}

/// Says what people are most often wrong about before anything else can fail.
fn check_ident(file: &[u8]) -> Result<(), ObjectError> {
    let Some(&[m0, m1, m2, m3, class, order]) = file.first_chunk() else { return Err(ObjectError::NotElf) };
    if [m0, m1, m2, m3] != elf::ELFMAG {
        return Err(ObjectError::NotElf);
    }
    let big = elf::DataEncoding(order) == elf::ELFDATA2MSB;
    // `e_machine` follows the identification and the type, in every class.
    if let Some(&[m0, m1]) = file.get(18..).and_then(|tail| tail.first_chunk()) {
        let machine = if big { u16::from_be_bytes([m0, m1]) } else { u16::from_le_bytes([m0, m1]) };
        if machine != elf::EM_BPF.0 {
            return Err(ObjectError::NotBpf { machine });
        }
    }
    if big {
        return Err(ObjectError::BigEndian);
    }
    if elf::FileClass(class) != elf::ELFCLASS64 { Err(ObjectError::Not64Bit) } else { Ok(()) }
}

fn read_sections<'a>(header: &'a Header, file: &'a [u8]) -> Result<Vec<Section<'a>>, ObjectError> {
    let headers = header.section_headers(ENDIAN, file)?;
    let names = match header.section_strings_index(ENDIAN, file) {
        Ok(index) => string_table(headers, index.0, file)?,
        Err(error) if headers.is_empty() => return Err(error.into()),
        Err(_) => &[],
    };
    // Whoever reads every section once must not read more than the file.
    let in_file = |header: &elf::SectionHeader64<LittleEndian>| header.data(ENDIAN, file).map_or(0, <[u8]>::len);
    let total = headers.iter().map(in_file).fold(0, usize::saturating_add);
    if total > file.len() {
        return Err(ObjectError::OverlappingSections);
    }
    let section = |header: &'a elf::SectionHeader64<LittleEndian>| {
        Ok(Section {
            name: string(names, header.sh_name.get(ENDIAN))?,
            kind: header.sh_type.get(ENDIAN),
            executable: header.sh_flags.get(ENDIAN).0 & elf::SHF_EXECINSTR.0 != 0,
            size: header.sh_size.get(ENDIAN),
            info: header.sh_info.get(ENDIAN) as usize,
            header,
            file,
        })
    };
    headers.iter().map(section).collect()
}

fn string_table<'a>(
    headers: &'a [elf::SectionHeader64<LittleEndian>],
    index: usize,
    file: &'a [u8],
) -> Result<&'a [u8], ObjectError> {
    headers.get(index).map_or(Ok(&[][..]), |header| Ok(header.data(ENDIAN, file)?))
}

fn read_symbols<'a>(
    header: &'a Header,
    file: &'a [u8],
    sections: &[Section<'a>],
) -> Result<Vec<Symbol<'a>>, ObjectError> {
    let table: SymbolTable<'a, Header> = header.sections(ENDIAN, file)?.symbols(ENDIAN, file, elf::SHT_SYMTAB)?;
    if table.is_empty() {
        return Err(ObjectError::NoSymbols);
    }
    let names = sections.get(table.string_section().0).map_or(Ok(&[][..]), Section::data)?;
    let mut symbols = Vec::with_capacity(table.len());
    for (index, symbol) in table.iter().enumerate() {
        let section = table.symbol_section(ENDIAN, symbol, SymbolIndex(index))?.map(|section| section.0);
        let section = section.filter(|section| *section != 0);
        let mut name = string(names, symbol.st_name.get(ENDIAN))?;
        if symbol.st_type() == elf::STT_SECTION && name.is_empty() {
            name = section.and_then(|section| sections.get(section)).map_or(name, |section| section.name);
        }
        symbols.push(Symbol {
            name,
            kind: symbol.st_type(),
            bind: symbol.st_bind(),
            section,
            undefined: symbol.st_shndx.get(ENDIAN) == elf::SHN_UNDEF,
            value: symbol.st_value.get(ENDIAN),
            size: symbol.st_size.get(ENDIAN),
        });
    }
    Ok(symbols)
}

/// A name of at most [`MAX_NAME`] bytes, in UTF-8.
fn string(table: &[u8], offset: u32) -> Result<&str, ObjectError> {
    if offset == 0 {
        return Ok("");
    }
    let bad = ObjectError::BadName { offset };
    let Some(tail) = table.get(offset as usize..) else { return Err(bad) };
    let end = tail.iter().take(MAX_NAME + 1).position(|byte| *byte == 0);
    end.and_then(|end| std::str::from_utf8(tail.get(..end)?).ok()).ok_or(bad)
}
