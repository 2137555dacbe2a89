//! What the command wants of an ELF file beyond the object: code as it stands in the file, and where variables are.
//!
//! The file has been accepted by [`softbpf::Object::parse`] before it comes here.

use std::collections::HashMap;
use std::sync::Arc;

use object::read::elf::{ElfFile64, SectionHeader as _};
use object::{LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind as Kind};
use softbpf::text::listing::{ListingSection, ListingSymbol, SymbolKind};

/// A parsed file.
pub(crate) type Elf<'b> = ElfFile64<'b, LittleEndian>;

/// Reads the headers.
pub(crate) fn parse(bytes: &[u8]) -> Result<Elf<'_>, object::read::Error> {
    ElfFile64::parse(bytes)
}

/// The sections with code and their symbols, as `llvm-objdump -d` finds them.
pub(crate) fn code<'b>(elf: &Elf<'b>) -> Result<Vec<ListingSection<'b>>, object::read::Error> {
    let mut symbols: HashMap<_, Vec<_>> = HashMap::new();
    for symbol in elf.symbols() {
        let listed = ListingSymbol { name: symbol.name()?, offset: symbol.address(), kind: kind(symbol.kind()) };
        symbols.entry(symbol.section_index()).or_default().push(listed);
    }
    let mut sections = Vec::new();
    for section in elf.sections() {
        let flags = section.elf_section_header().sh_flags(LittleEndian);
        if flags.0 & object::elf::SHF_EXECINSTR.0 == 0 || section.size() == 0 {
            continue;
        }
        let symbols = symbols.remove(&Some(section.index())).unwrap_or_default();
        sections.push(ListingSection { name: section.name()?, bytes: section.data()?, symbols });
    }
    Ok(sections)
}

fn kind(kind: Kind) -> SymbolKind {
    const KINDS: [(Kind, SymbolKind); 4] = [
        (Kind::Data, SymbolKind::Data),
        (Kind::Text, SymbolKind::Function),
        (Kind::Section, SymbolKind::Section),
        (Kind::File, SymbolKind::File),
    ];
    KINDS.iter().find(|(theirs, _)| *theirs == kind).map_or(SymbolKind::Label, |(_, ours)| *ours)
}

/// Where a function stands.
pub(crate) struct Function {
    pub(crate) section: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// The function with this name.
pub(crate) fn function(elf: &Elf<'_>, name: &str) -> Option<Function> {
    let symbol = elf.symbols().find(|symbol| symbol.kind() == Kind::Text && symbol.name() == Ok(name))?;
    let section = elf.section_by_index(symbol.section_index()?).ok()?;
    let start = symbol.address();
    Some(Function { section: section.name().ok()?.to_owned(), start, end: start.checked_add(symbol.size())? })
}

/// A global variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) section: Arc<str>,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// The variables in these sections.
pub(crate) fn variables(elf: &Elf<'_>, sections: &[Arc<str>]) -> Vec<Variable> {
    let variable = |symbol: object::read::elf::ElfSymbol64<'_, '_, LittleEndian>| {
        let section = elf.section_by_index(symbol.section_index()?).ok()?;
        let name = section.name().ok()?;
        let section = sections.iter().find(|known| &***known == name)?.clone();
        Some(Variable { name: symbol.name().ok()?.to_owned(), section, offset: symbol.address(), size: symbol.size() })
    };
    elf.symbols().filter(|symbol| symbol.kind() == Kind::Data).filter_map(variable).collect()
}
