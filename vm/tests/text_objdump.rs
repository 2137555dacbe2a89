//! Listings against llvm-objdump: the goldens of the fixtures, and the tool itself where it is installed.

#![allow(clippy::print_stderr)]

mod text_insns;

use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind as Kind};
use softbpf::codec::{Code, encode_one};
use softbpf::insn::{Callee, Imm64, Insn, PacketOffset};
use softbpf::text::listing::{Listing, ListingSection, ListingSymbol, SymbolKind};
use softbpf::text::llvm::Spelling;
use softbpf::text::parse::parse;
use text_insns::every_insn;

const OBJDUMP: &str = "llvm-objdump-19";
const CLANG: &str = "clang-19";

/// What a command prints; `None`, said aloud, if there is no such command.
fn run(command: &mut Command) -> Option<String> {
    match command.output() {
        Ok(output) => {
            assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            eprintln!("SKIPPED: {:?} does not run here: {error}", command.get_program());
            None
        }
    }
}

/// A folder for this test's files.
fn scratch(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn section_header(name: u32, kind: u32, flags: u64, offset: u64, size: u64) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend([name, kind].map(u32::to_le_bytes).concat());
    header.extend([flags, 0, offset, size].map(u64::to_le_bytes).concat());
    header.extend([0u32, 0].map(u32::to_le_bytes).concat());
    header.extend([1u64, 0].map(u64::to_le_bytes).concat());
    header
}

/// An object with these bytes in `.text` and nothing else.
fn object_of(code: &[u8]) -> Vec<u8> {
    const NAMES: &[u8] = b"\0.text\0.shstrtab\0";
    let names_at = 64 + code.len() as u64;
    let headers_at = names_at + NAMES.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend([1u16, 247].map(u16::to_le_bytes).concat());
    elf.extend(1u32.to_le_bytes());
    elf.extend([0, 0, headers_at].map(u64::to_le_bytes).concat());
    elf.extend(0u32.to_le_bytes());
    elf.extend([64u16, 0, 0, 64, 3, 2].map(u16::to_le_bytes).concat());
    elf.extend_from_slice(code);
    elf.extend_from_slice(NAMES);
    elf.extend([0; 64]);
    elf.extend(section_header(1, 1, 6, 64, code.len() as u64));
    elf.extend(section_header(7, 3, 0, names_at, NAMES.len() as u64));
    elf
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

/// The sections that llvm-objdump disassembles.
fn sections<'a>(file: &object::File<'a>) -> Vec<ListingSection<'a>> {
    let text = file.sections().filter(|section| section.kind() == object::SectionKind::Text);
    text.map(|section| {
        let symbols = file.symbols().filter(|symbol| symbol.section_index() == Some(section.index()));
        let symbols = symbols.map(|symbol| ListingSymbol {
            name: symbol.name().unwrap(),
            offset: symbol.address(),
            kind: kind(symbol.kind()),
        });
        ListingSection { name: section.name().unwrap(), bytes: section.data().unwrap(), symbols: symbols.collect() }
    })
    .collect()
}

/// Line by line, so that a failure shows the first difference.
fn assert_same_lines(ours: &str, theirs: &str, what: &str) {
    for (number, (ours, theirs)) in ours.lines().zip(theirs.lines()).enumerate() {
        assert_eq!(ours, theirs, "{what}, line {}", number + 1);
    }
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{what}");
    assert_eq!(ours, theirs, "{what}");
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/objects")
}

#[test]
fn fixtures_are_listed_as_their_goldens_say() {
    let mut compared = 0;
    for entry in std::fs::read_dir(fixtures()).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|extension| extension != "o") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let mut listing = Listing::new(name, sections(&file));
        for (golden, spelling) in [("objdump", Spelling::Objdump), ("v4.objdump", Spelling::ObjdumpAlu32)] {
            if let Ok(theirs) = std::fs::read_to_string(path.with_extension(golden)) {
                listing.spelling = spelling;
                assert_same_lines(&listing.to_string(), &theirs, name);
                compared += 1;
            }
        }
    }
    if compared == 0 {
        eprintln!("SKIPPED: no fixtures with goldens in {}", fixtures().display());
    }
}

#[test]
fn fixtures_are_parsed_back_out_of_their_goldens() {
    for entry in std::fs::read_dir(fixtures()).into_iter().flatten() {
        let path = entry.unwrap().path();
        let Ok(golden) = std::fs::read_to_string(path.with_extension("objdump")) else { continue };
        if path.extension().is_none_or(|extension| extension != "o") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let mut code = Code::default();
        sections(&file).iter().for_each(|section| code.append(&Code::decode(section.bytes).unwrap()));
        let assembly = parse(&golden).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(assembly.code, code, "{}", path.display());
        assert!(!assembly.labels.is_empty());
    }
}

/// LLVM 19 does not know these.
fn is_newer_than_llvm_19(insn: &Insn) -> bool {
    matches!(insn, Insn::LoadAcquire { .. } | Insn::StoreRelease { .. })
}

#[test]
fn every_instruction_is_listed_as_llvm_objdump_does() {
    let insns: Vec<_> = every_insn().into_iter().filter(|insn| !is_newer_than_llvm_19(insn)).collect();
    let code = Code::from(insns).encode().unwrap();
    let folder = scratch("every_instruction_is_listed");
    std::fs::write(folder.join("every.o"), object_of(&code)).unwrap();
    let section = ListingSection { name: ".text", bytes: &code, symbols: Vec::new() };
    let mut listing = Listing::new("every.o", vec![section]);
    for (spelling, arguments) in
        [(Spelling::Objdump, ["-d", "--mcpu=generic"]), (Spelling::ObjdumpAlu32, ["-d", "--mcpu=v4"])]
    {
        let mut objdump = Command::new(OBJDUMP);
        objdump.current_dir(&folder).args(arguments).arg("every.o");
        let Some(theirs) = run(&mut objdump) else { return };
        listing.spelling = spelling;
        listing.raw_bytes = true;
        assert_same_lines(&listing.to_string(), &theirs, arguments[1]);
        let Some(theirs) = run(objdump.arg("--no-show-raw-insn")) else { return };
        listing.raw_bytes = false;
        assert_same_lines(&listing.to_string(), &theirs, arguments[1]);
    }
}

#[test]
fn bytes_that_are_not_instructions_are_skipped_as_llvm_objdump_does() {
    // Every opcode but the wide load with all else zero, then runs of zeros, then a load that is cut.
    let opcodes = (1..=255).filter(|&opcode| opcode != 0x18);
    let mut code: Vec<u8> = opcodes.flat_map(|opcode| [opcode, 0, 0, 0, 0, 0, 0, 0]).collect();
    for zeros in 1..40 {
        code.push(0xff);
        code.extend(vec![0; zeros]);
    }
    code.resize(code.len().next_multiple_of(8), 0xff);
    code.extend([0x18, 0, 0, 0, 0, 0, 0, 0]);
    let folder = scratch("bytes_that_are_not");
    std::fs::write(folder.join("bytes.o"), object_of(&code)).unwrap();
    let mut objdump = Command::new(OBJDUMP);
    let Some(theirs) = run(objdump.current_dir(&folder).args(["-d", "bytes.o"])) else { return };
    let section = ListingSection { name: ".text", bytes: &code, symbols: Vec::new() };
    let ours = Listing::new("bytes.o", vec![section]).to_string();
    assert_same_lines(&ours, &theirs, "bytes.o");
}

/// Has no text for the assembler of LLVM 19, or is refused by it.
fn is_beyond_clang(insn: &Insn) -> bool {
    let has_text = !matches!(
        insn,
        Insn::Call(Callee::Local(_) | Callee::Kfunc { .. })
            | Insn::LoadPacket { offset: PacketOffset::Ind(_, ..=-1 | 1..), .. }
            | Insn::LoadImm64 {
                value: Imm64::MapValue { offset: 1.., .. }
                    | Imm64::MapIndexValue { offset: 1.., .. }
                    | Imm64::Variable { btf_fd: ..=-1 | 1.., .. },
                ..
            }
    );
    // For gotol the assembler takes offsets of 16 bits.
    let far = matches!(insn, Insn::Jump { off, .. } if i16::try_from(*off).is_err());
    !has_text || far || is_newer_than_llvm_19(insn)
}

#[test]
fn clang_assembles_our_text_to_our_bytes() {
    let insns: Vec<_> = every_insn().into_iter().filter(|insn| !is_beyond_clang(insn)).collect();
    let text: String = insns.iter().map(|insn| format!("{insn}\n")).collect();
    let folder = scratch("clang_assembles");
    std::fs::write(folder.join("every.s"), format!(".text\n{text}")).unwrap();
    let mut clang = Command::new(CLANG);
    clang.current_dir(&folder).args(["-target", "bpf", "-mcpu=v4", "-c", "every.s", "-o", "every.o"]);
    if run(&mut clang).is_none() {
        return;
    }
    let bytes = std::fs::read(folder.join("every.o")).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let theirs = file.section_by_name(".text").unwrap();
    let mut theirs = theirs.data().unwrap();
    for insn in insns {
        let ours = encode_one(&insn).unwrap();
        let (first, rest) = theirs.split_at(ours.len());
        assert_eq!(*ours, *first, "{insn}");
        theirs = rest;
    }
    assert!(theirs.is_empty());
}
