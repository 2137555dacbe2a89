//! Listings against bpftool: what `bpftool prog dump xlated ... opcodes` (7.1) printed of fixtures on Linux 6.18.
//! `xdp_count` is cut in front of an instruction that only the kernel has.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use softbpf::asm::{Assembler, Condition, Insn, R0, R1, R2, R3, R6, R10, Size, SwapWidth, Width};
use softbpf::codec::Code;
use softbpf::insn::{Callee, Imm64};
use softbpf::text::parse::parse;
use softbpf::text::xlated::{self, Names, SourceLine, Xlated};

const XDP_COUNT: &str = include_str!("text_xlated/xdp_count.xlated");
const ATOMICS: &str = include_str!("text_xlated/atomics.xlated");

/// A listing by bpftool, taken apart.
struct Dump<'a> {
    code: Code,
    functions: Vec<(usize, &'a str)>,
    lines: Vec<SourceLine<'a>>,
}

impl<'a> Dump<'a> {
    fn read(text: &'a str) -> Dump<'a> {
        let mut dump = Dump { code: Code::default(), functions: Vec::new(), lines: Vec::new() };
        let mut bytes = Vec::new();
        for line in text.lines() {
            let slot = bytes.len() / 8;
            if let Some(text) = line.strip_prefix("; ") {
                dump.lines.push(SourceLine { slot, text, file: "", line: 0, column: 0 });
            } else if let Some(signature) = line.strip_suffix(':') {
                dump.functions.push((slot, signature));
            } else if line.starts_with("       ") {
                bytes.extend(line.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()));
            }
        }
        dump.code = Code::decode(&bytes).unwrap();
        dump
    }
}

#[test]
fn a_program_is_listed_as_bpftool_does() {
    for text in [XDP_COUNT, ATOMICS] {
        let Dump { code, functions, lines } = Dump::read(text);
        let listing = Xlated { functions, lines, opcodes: true, ..Xlated::new(&code, &()) };
        assert_eq!(listing.to_string(), text);
    }
}

#[test]
fn a_listing_by_bpftool_is_read() {
    for text in [XDP_COUNT, ATOMICS] {
        assert_eq!(parse(text).unwrap().code, Dump::read(text).code);
    }
    assert_eq!(parse(XDP_COUNT).unwrap().labels, BTreeMap::from([("xdp_count".to_owned(), 0)]));
}

struct Known;

impl Names for Known {
    fn helper(&self, number: i32) -> Option<&str> {
        (number == 1).then_some("bpf_map_lookup_elem")
    }

    fn kfunc(&self, btf_id: i32, _module: i16) -> Option<&str> {
        (btf_id == 77).then_some("bpf_rcu_read_lock")
    }

    fn map(&self, fd: i32) -> Option<String> {
        (fd == 3).then(|| "events".to_owned())
    }
}

fn check(insns: &[Insn], expected: Expect) {
    let lines: Vec<_> = insns.iter().map(|insn| xlated::text(insn, &Known).to_string()).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn what_bpftool_spells_in_its_own_way() {
    check(
        &[
            Insn::mov32(R1, -5),
            Insn::sdiv(R1, R2),
            Insn::mov_sx(Size::H, R1, R2),
            Insn::be(SwapWidth::B16, R0),
            Insn::bswap(SwapWidth::B64, R0),
            Insn::neg32(R3),
            Insn::addr_space_cast(R1, R2, 0, 1),
            Insn::load_sx(Size::W, R1, R2, 4),
            Insn::store(Size::B, R10, -1, 255),
            Insn::jne32(R1, -1, -3),
            Insn::jump(5),
            Insn::jump_long(-5),
            Insn::may_goto(2),
            Insn::load_acquire(Size::W, R1, R2, 4),
            Insn::store_release(Size::DW, R1, 4, R2),
            Insn::atomic_xor(Width::W32, R1, 4, R2),
            Insn::atomic_fetch_or(Width::W32, R1, 4, R2),
            Insn::atomic_cmpxchg(Width::W64, R1, 4, R2),
            Insn::load_packet(Size::H, 12),
            Insn::load_packet_at(Size::W, R6, -4),
        ],
        expect![[r#"
            (b4) w1 = -5
            (3f) r1 s/= r2
            (bf) r1 = (s16)r2
            (dc) r0 = be16 r0
            (d7) r0 = bswap64 r0
            (84) w3 = -w3
            (bf) r1 = addr_space_cast(r2, 0, 1)
            (81) r1 = *(s32 *)(r2 +4)
            (72) *(u8 *)(r10 -1) = 255
            (56) if w1 != 0xffffffff goto pc-3
            (05) goto pc+5
            (06) gotol pc-5
            (e5) may_goto pc+2
            (c3) r1 = load_acquire((u32 *)(r2 +4))
            (db) store_release((u64 *)(r1 +4), r2)
            (c3) lock *(u32 *)(r1 +4) ^= r2
            (c3) r2 = atomic_fetch_or((u32 *)(r1 +4), r2)
            (db) r0 = atomic64_cmpxchg((u64 *)(r1 +4), r0, r2)
            (28) r0 = *(u16 *)skb[12]
            (40) r0 = *(u32 *)skb[r6 + -4]"#]],
    );
}

#[test]
fn what_is_named() {
    check(
        &[
            Insn::call(1),
            Insn::call(2),
            Insn::call_local(7),
            Insn::call_kfunc(77, 0),
            Insn::call_kfunc(78, 0),
            Insn::call_kfunc(78, 1),
            Insn::Call(Callee::Reg(R3)),
            Insn::load_map_fd(R1, 3),
            Insn::load_map_fd(R1, 4),
            Insn::load_map_value(R1, 3, 16),
            Insn::load_map_value(R1, 4, 0),
            Insn::load_imm64(R1, u64::MAX),
            Insn::load_function(R2, -4),
            Insn::LoadImm64 { dst: R1, value: Imm64::MapIndex(1) },
            Insn::LoadImm64 { dst: R1, value: Imm64::MapIndexValue { index: 1, offset: 8 } },
            Insn::LoadImm64 { dst: R1, value: Imm64::Variable { btf_id: 5, btf_fd: 0 } },
            Insn::LoadImm64 { dst: R1, value: Imm64::Variable { btf_id: 5, btf_fd: 6 } },
        ],
        expect![[r#"
            (85) call bpf_map_lookup_elem#1
            (85) call unknown#2
            (85) call pc+7
            (85) call bpf_rcu_read_lock#77
            (85) call kfunc#78
            (85) call kfunc#78,1
            (8d) callx r3
            (18) r1 = map[events]
            (18) r1 = map[id:4]
            (18) r1 = map[events][0]+16
            (18) r1 = map[id:4][0]+0
            (18) r1 = 0xffffffffffffffff
            (18) r2 = subprog[-4]
            (18) r1 = map[idx:1]
            (18) r1 = map[idx:1]+8
            (18) r1 = btf[id:5]
            (18) r1 = btf[id:5,fd:6]"#]],
    );
}

#[test]
fn lines_with_numbers_and_lines_that_share_a_slot() {
    let code = Assembler::new()
        .push(Insn::load_imm64(R1, 1))
        .jump_if(Condition::Eq, R1, 0, "out")
        .push(Insn::mov(R0, 0))
        .label("out")
        .push(Insn::exit())
        .finish()
        .unwrap();
    let line = |slot, text, line| SourceLine { slot, text, file: "a.c", line, column: 2 };
    let mut listing = Xlated::new(&code, &());
    listing.lines = vec![line(0, "\t first", 1), line(0, "second", 2), line(2, "", 3), line(9, "never", 9)];
    listing.functions = vec![(0, ""), (4, "int g(void)"), (3, "int out_of_order(void)")];
    listing.linum = true;
    // As bpftool: the second of two lines is shown, and again at the next instruction.
    expect![[r#"
        ; second [file:a.c line_num:2 line_col:2]
           0: (18) r1 = 0x1
        ;  [file:a.c line_num:3 line_col:2]
           2: (15) if r1 == 0x0 goto pc+1
        ;  [file:a.c line_num:3 line_col:2]
           3: (b7) r0 = 0
        int g(void):
           4: (95) exit
    "#]]
    .assert_eq(&listing.to_string());
}
