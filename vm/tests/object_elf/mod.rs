//! Writes ELF and BTF, byte by byte, for tests of what no compiler makes.
#![allow(dead_code, unreachable_pub)]

use softbpf::codec::Code;
use softbpf::insn::Insn;
use softbpf::object::{Object, ObjectError};

pub const PROGBITS: u32 = 1;
pub const SYMTAB: u32 = 2;
pub const STRTAB: u32 = 3;
pub const NOBITS: u32 = 8;
pub const REL: u32 = 9;
pub const EXECUTABLE: u64 = 4;

pub const LOCAL: u8 = 0;
pub const GLOBAL: u8 = 1;
pub const WEAK: u8 = 2;
pub const NOTYPE: u8 = 0;
pub const OBJECT: u8 = 1;
pub const FUNC: u8 = 2;
pub const SECTION: u8 = 3;

pub const R_64_64: u32 = 1;
pub const R_64_32: u32 = 10;

/// One section header and its contents.
pub struct Section {
    pub name: &'static str,
    pub kind: u32,
    pub flags: u64,
    pub size: u64,
    pub info: u32,
    pub data: Vec<u8>,
}

/// Writes relocatable ELF files.
pub struct Elf {
    pub machine: u16,
    pub kind: u16,
    pub sections: Vec<Section>,
    pub symbols: Vec<u8>,
    pub strings: Vec<u8>,
}

impl Elf {
    pub fn new() -> Elf {
        Elf { machine: 247, kind: 1, sections: Vec::new(), symbols: vec![0; 24], strings: vec![0] }
    }

    /// Adds a section; gives its index.
    pub fn section(&mut self, name: &'static str, kind: u32, flags: u64, data: Vec<u8>) -> usize {
        self.sections.push(Section { name, kind, flags, size: data.len() as u64, info: 0, data });
        self.sections.len()
    }

    pub fn code(&mut self, name: &'static str, insns: Vec<Insn>) -> usize {
        let bytes = Code::from(insns).encode().expect("encodable");
        self.section(name, PROGBITS, EXECUTABLE, bytes)
    }

    /// Adds a symbol; gives its index.
    pub fn symbol(&mut self, name: &str, bind: u8, kind: u8, section: usize, value: u64, size: u64) -> u32 {
        let name_offset = if name.is_empty() { 0 } else { self.strings.len() as u32 };
        if !name.is_empty() {
            self.strings.extend_from_slice(name.as_bytes());
            self.strings.push(0);
        }
        self.symbols.extend(name_offset.to_le_bytes());
        self.symbols.extend([bind << 4 | kind, 0]);
        self.symbols.extend((section as u16).to_le_bytes());
        self.symbols.extend(value.to_le_bytes());
        self.symbols.extend(size.to_le_bytes());
        (self.symbols.len() / 24 - 1) as u32
    }

    pub fn relocate(&mut self, section: usize, relocations: &[(u64, u32, u32)]) {
        let entry = |&(offset, kind, symbol): &(u64, u32, u32)| {
            [offset.to_le_bytes(), (u64::from(symbol) << 32 | u64::from(kind)).to_le_bytes()].concat()
        };
        let index = self.section(".rel", REL, 0, relocations.iter().flat_map(entry).collect());
        self.sections[index - 1].info = section as u32;
    }

    pub fn build(mut self) -> Vec<u8> {
        let strings = self.sections.len() + 2;
        let symbols = std::mem::take(&mut self.symbols);
        self.section(".symtab", SYMTAB, 0, symbols);
        let mut names = std::mem::take(&mut self.strings);
        let mut offsets = Vec::new();
        for name in self.sections.iter().map(|section| section.name).chain([".strtab"]) {
            offsets.push(names.len() as u32);
            names.extend_from_slice(name.as_bytes());
            names.push(0);
        }
        self.section(".strtab", STRTAB, 0, names);
        let mut bytes = vec![0; 64];
        let mut headers = vec![0; 64];
        for (section, name) in self.sections.iter().zip(offsets) {
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            let (link, entry): (u32, u64) = match section.kind {
                SYMTAB => (strings as u32, 24),
                REL => (strings as u32 - 1, 16),
                _ => (0, 0),
            };
            headers.extend([name, section.kind].map(u32::to_le_bytes).concat());
            headers.extend([section.flags, 0, bytes.len() as u64, section.size].map(u64::to_le_bytes).concat());
            headers.extend([link, section.info].map(u32::to_le_bytes).concat());
            headers.extend([8, entry].map(u64::to_le_bytes).concat());
            bytes.extend_from_slice(&section.data);
        }
        let start = bytes.len() as u64;
        bytes.extend(headers);
        let ident = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes[..16].copy_from_slice(&ident);
        bytes[16..20].copy_from_slice(&[self.kind, self.machine].map(u16::to_le_bytes).concat());
        bytes[20] = 1;
        bytes[40..48].copy_from_slice(&start.to_le_bytes());
        let sizes = [64, 0, 0, 64, self.sections.len() as u16 + 1, strings as u16];
        bytes[52..64].copy_from_slice(&sizes.map(u16::to_le_bytes).concat());
        bytes
    }

    pub fn parse(self) -> Result<Object, ObjectError> {
        Object::parse(&self.build())
    }
}

/// Writes BTF: types are words, numbered from 1; strings are found by their text.
pub struct Btf {
    types: Vec<u32>,
    strings: Vec<u8>,
    count: u32,
}

impl Btf {
    pub fn new() -> Btf {
        Btf { types: Vec::new(), strings: vec![0], count: 0 }
    }

    pub fn string(&mut self, text: &str) -> u32 {
        let offset = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        offset
    }

    /// Adds a type with this name, kind, number of entries, size or type, and the words that follow; gives its id.
    pub fn add(&mut self, name: &str, kind: u32, entries: u32, size_or_type: u32, rest: &[u32]) -> u32 {
        let name = if name.is_empty() { 0 } else { self.string(name) };
        self.types.extend([name, kind << 24 | entries, size_or_type]);
        self.types.extend(rest);
        self.count += 1;
        self.count
    }

    pub fn int(&mut self, name: &str, size: u32) -> u32 {
        self.add(name, 1, 0, size, &[size * 8])
    }

    pub fn pointer(&mut self, target: u32) -> u32 {
        self.add("", 2, 0, target, &[])
    }

    pub fn array(&mut self, element: u32, count: u32) -> u32 {
        self.add("", 3, 0, 0, &[element, element, count])
    }

    /// A struct of 8-byte members.
    pub fn record(&mut self, members: &[(&str, u32)]) -> u32 {
        let mut words = Vec::new();
        for (index, (name, id)) in members.iter().enumerate() {
            words.extend([self.string(name), *id, index as u32 * 64]);
        }
        self.add("", 4, members.len() as u32, members.len() as u32 * 8, &words)
    }

    pub fn build(&self) -> Vec<u8> {
        let types: Vec<u8> = self.types.iter().flat_map(|word| word.to_le_bytes()).collect();
        let length = types.len() as u32;
        let header = [0x1_eb9f, 24, 0, length, length, self.strings.len() as u32];
        [header.map(u32::to_le_bytes).concat(), types, self.strings.clone()].concat()
    }
}
