//! Which symbols a listing shows, and how it shows what is not code: as llvm-objdump 19 listed the same object.

use expect_test::expect;
use softbpf::text::listing::{Listing, ListingSection, ListingSymbol, SymbolKind};

fn hex(bytes: &str) -> Vec<u8> {
    bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn symbol(name: &str, offset: u64, kind: SymbolKind) -> ListingSymbol<'_> {
    ListingSymbol { name, offset, kind }
}

#[test]
fn symbols_are_chosen_as_llvm_objdump_does() {
    let text = hex("b7 00 00 00 01 00 00 00 b7 00 00 00 02 00 00 00 05 00 fd ff 00 00 00 00
         05 00 fd ff 00 00 00 00 05 00 00 00 00 00 00 00
         68 65 00 6c 6f 61 62 63 64 65 66 67 68 69 6a 6b c8 1f 01 02
         b7 00 00 00 03 00 00 00 95 00 00 00 00 00 00 00 05 00 f5 ff 00 00 00 00 05 00 64 00 00 00 00 00");
    let symbols = vec![
        symbol("zeta", 0, SymbolKind::Label),
        symbol("alpha", 0, SymbolKind::Label),
        symbol("mid", 0, SymbolKind::Label),
        symbol("LBB0_1", 8, SymbolKind::Label),
        symbol("obj", 0x28, SymbolKind::Data),
        symbol("fn", 0x3c, SymbolKind::Function),
        symbol("fnalias", 0x3c, SymbolKind::Label),
        symbol("dat", 0x3c, SymbolKind::Data),
        symbol("tail", 0x5c, SymbolKind::Label),
        symbol("", 0x8, SymbolKind::Section),
        symbol("a.c", 0, SymbolKind::File),
    ];
    let foo = hex("b7 01 00 00 00 00 00 00 05 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
         95 00 00 00 00 00 00 00 05 00 02 00 00 00 00 00 05 00 ec ff 00 00 00 00 00 00 00 00");
    let bar = b"hello world\n";
    let baz = hex("18 00 00 00 00 00 00 00");
    let section = |name, bytes, symbols| ListingSection { name, bytes, symbols };
    let sections = vec![
        section(".text", &text, symbols),
        section("foo", &foo, vec![symbol("x1", 0x1c, SymbolKind::Label)]),
        section("bar", bar, vec![symbol("bobj", 0, SymbolKind::Data)]),
        section("baz", &baz, vec![]),
        section("empty", &[], vec![]),
    ];
    expect![[r#"

        sym.o:	file format elf64-bpf

        Disassembly of section .text:

        0000000000000000 <zeta>:
               0:	b7 00 00 00 01 00 00 00	r0 = 0x1

        0000000000000008 <LBB0_1>:
               1:	b7 00 00 00 02 00 00 00	r0 = 0x2
               2:	05 00 fd ff 00 00 00 00	goto -0x3 <zeta>
               3:	05 00 fd ff 00 00 00 00	goto -0x3 <LBB0_1>
               4:	05 00 00 00 00 00 00 00	goto +0x0 <obj>

        0000000000000028 <obj>:
              28: 68 65 00 6c 6f 61 62 63         he.loabc
              30: 64 65 66 67 68 69 6a 6b         defghijk
              38: c8 1f 01 02                     ....

        000000000000003c <fnalias>:
               7:	b7 00 00 00 03 00 00 00	r0 = 0x3
               8:	95 00 00 00 00 00 00 00	exit
               9:	05 00 f5 ff 00 00 00 00	goto -0xb <tail+0xffffffffffffffa0>
              10:	05 00 64 00 00 00 00 00	goto +0x64 <tail+0x320>

        Disassembly of section foo:

        0000000000000000 <foo>:
               0:	b7 01 00 00 00 00 00 00	r1 = 0x0
               1:	05 00 01 00 00 00 00 00	goto +0x1 <foo+0x18>
        		...

        000000000000001c <x1>:
               3:	95 00 00 00 00 00 00 00	exit
               4:	05 00 02 00 00 00 00 00	goto +0x2 <x1+0x20>
               5:	05 00 ec ff 00 00 00 00	goto -0x14 <x1+0xffffffffffffff78>
               6:	00	<unknown>
               6:	00	<unknown>
               6:	00	<unknown>
               6:	00	<unknown>

        Disassembly of section bar:

        0000000000000000 <bobj>:
               0: 68 65 6c 6c 6f 20 77 6f         hello wo
               8: 72 6c 64 0a                     rld.

        Disassembly of section baz:

        0000000000000000 <baz>:
               0:	18	<unknown>
               0:	00	<unknown>
               0:	00	<unknown>
               0:	00	<unknown>
               0:	00	<unknown>
               0:	00	<unknown>
               0:	00	<unknown>
               0:	00	<unknown>
    "#]]
    .assert_eq(&Listing::new("sym.o", sections).to_string());
}

#[test]
fn symbols_outside_of_the_section_are_no_matter() {
    let code = hex("05 00 7f 00 00 00 00 00 95 00 00 00 00 00 00 00");
    let symbols = vec![symbol("far", u64::MAX, SymbolKind::Function), symbol("out", 0x100, SymbolKind::Label)];
    let listing = Listing {
        raw_bytes: false,
        ..Listing::new("x.o", vec![ListingSection { name: "xdp", bytes: &code, symbols }])
    };
    expect![[r#"

        x.o:	file format elf64-bpf

        Disassembly of section xdp:

        0000000000000000 <xdp>:
               0:	goto +0x7f <out+0x300>
               1:	exit
    "#]]
    .assert_eq(&listing.to_string());
}
