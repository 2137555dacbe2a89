//! Assembly text to instructions and back, in every dialect that is parsed.

use softbpf::insn::{AluOp, AtomicOp, ByteOrder, Condition, Insn, Size};
use softbpf::text::llvm::{Spelling, text};
use softbpf::text::parse::{parse, parse_ubpf};
use softbpf::text::{ubpf, xlated};

use super::{Word, instructions};
use crate::fixtures;

/// Parses, prints as LLVM and as bpftool do, and parses again; the same with ubpf's dialect.
///
/// # Panics
/// What was printed does not parse, or to other instructions.
pub fn run(bytes: &[u8]) {
    let Ok(input) = std::str::from_utf8(bytes) else { return };
    if let Ok(assembly) = parse(input) {
        let insns = assembly.code.insns();
        for print in [llvm, bpftool] {
            same(insns, &lines(insns, print));
        }
    }
    // What it prints is parsed in its own tests: not every instruction has a spelling there.
    if let Ok(assembly) = parse_ubpf(input) {
        let _ = lines(assembly.code.insns(), |insn| ubpf::text(insn).to_string());
    }
}

fn llvm(insn: &Insn) -> String {
    text(insn, Spelling::default()).to_string()
}

fn bpftool(insn: &Insn) -> String {
    xlated::text(insn, &()).to_string()
}

fn lines(insns: &[Insn], print: impl Fn(&Insn) -> String) -> String {
    insns.iter().map(|insn| print(insn) + "\n").collect()
}

fn same(insns: &[Insn], printed: &str) {
    match parse(printed) {
        Ok(again) => assert_eq!(again.code.insns(), insns, "{printed}"),
        Err(error) => panic!("{error} in\n{printed}"),
    }
}

/// Every operation in each dialect, and the programs of the fixtures.
pub fn seeds() -> Vec<Vec<u8>> {
    let alone = instructions::every_operation();
    let mut seeds: Vec<String> = alone.iter().flat_map(|insn| [llvm(insn), bpftool(insn)]).collect();
    seeds.extend(alone.iter().map(|insn| ubpf::text(insn).to_string()));
    for (_, object) in fixtures() {
        let codes = (0..object.programs().len()).filter_map(|index| object.code_at(index)?.ok());
        seeds.extend(codes.map(|code| lines(code.insns(), llvm)));
    }
    seeds.push("again: if r1 > 7 goto out\nr1 += 1\ngoto again\nout: exit\n".to_owned());
    seeds.into_iter().map(String::into_bytes).collect()
}

/// Words of the dialects that are in no table.
const OTHERS: &str = "r0 r10 w0 goto if call kfunc exit ll lock skb[ pc callx may_goto ja lddw call local -0x1 0xffffffff \
load_acquire store_release atomic_ cmpxchg_64( map[fd: subprog[ ; // # : ( ) * [ ] +0x1";

/// Symbols and names of the tables, and other words of the dialects.
pub fn words() -> Vec<Word> {
    let alu = AluOp::ALL.iter().flat_map(|op| [op.symbol(), op.mnemonic()]);
    let conditions = Condition::ALL.iter().flat_map(|condition| [condition.symbol(), condition.mnemonic()]);
    let atomics = AtomicOp::ALL.iter().map(|op| op.symbol());
    let sizes = Size::ALL.iter().flat_map(|size| [size.c_type(), size.suffix()]);
    let orders = ByteOrder::ALL.iter().map(|order| order.spelling());
    let tables = alu.chain(conditions).chain(atomics).chain(sizes).chain(orders);
    super::dictionary::distinct(tables.chain(OTHERS.split(' ')).map(Word::text))
}
