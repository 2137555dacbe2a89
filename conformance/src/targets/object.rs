//! Object files: ELF with its BTF.

use softbpf::Object;
use softbpf::map_spec::MapType;
use softbpf::program_type::{ProgramType, section_names};

use super::Word;
use crate::{fixture_files, hostile};

/// Most bytes that a type's value is printed from.
const DUMPED: usize = 64;

/// Parses, prints the values of all types, loads, and runs every program on every engine.
///
/// # Panics
/// Engines disagree.
pub fn run(bytes: &[u8]) {
    let Ok(object) = Object::parse(bytes) else { return };
    if let Some(btf) = object.btf() {
        for (id, _) in btf.types().take(1000) {
            let size = btf.size_of(id).map_or(0, |size| (size as usize).min(DUMPED));
            let _ = (btf.align_of(id), btf.dump(id, &[0x5a; DUMPED][..size]).to_string());
        }
    }
    hostile::assert_agreement(&object);
}

/// The fixtures.
pub fn seeds() -> Vec<Vec<u8>> {
    fixture_files().into_iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// What names mean something in an object.
const OTHERS: &str = "\x7fELF license version GPL maps .maps .text .rodata .rodata.str1.1 .data .bss .kconfig .ksyms \
.BTF .BTF.ext .relmaps .rel.BTF .struct_ops .strtab .symtab int char pinning type key_size value_size key value values \
max_entries map_flags map_extra numa_node";

/// Names of sections, and of what they hold.
pub fn words() -> Vec<Word> {
    let types = ProgramType::ALL.iter().map(|kind| kind.name()).chain(MapType::ALL.iter().map(|kind| kind.name()));
    // `struct btf_header`: magic, version, flags, length.
    let header = Word::bytes(&[0x9f, 0xeb, 1, 0, 0x18, 0, 0, 0]);
    super::dictionary::distinct(section_names().chain(types).chain(OTHERS.split(' ')).map(Word::text).chain([header]))
}
