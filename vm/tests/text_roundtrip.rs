//! What the printers write, the parser reads back: every instruction, both dialects.

mod text_insns;

use softbpf::codec::Code;
use softbpf::insn::Insn;
use softbpf::text::llvm::{self, Spelling, UNKNOWN};
use softbpf::text::parse::{parse, parse_with};
use softbpf::text::xlated::{self, Names, Xlated};
use text_insns::every_insn;

struct Helpers;

const HELPER_NAMES: [(i32, &str); 3] = [(1, "bpf_map_lookup_elem"), (9, "bpf_clone_redirect"), (127, "bpf_helper")];

impl Names for Helpers {
    fn helper(&self, number: i32) -> Option<&str> {
        HELPER_NAMES.into_iter().find(|&(known, _)| known == number).map(|(_, name)| name)
    }
}

fn helper_number(name: &str) -> Option<i32> {
    HELPER_NAMES.into_iter().find(|&(_, known)| known == name).map(|(number, _)| number)
}

/// Prints and parses one by one, so that a failure says which.
fn check(print: impl Fn(&Insn) -> String) {
    let all = every_insn();
    assert!(all.len() > 50_000, "{} instructions", all.len());
    for insn in all {
        let text = print(&insn);
        let assembly = parse_with(&text, &helper_number).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(assembly.code.insns(), [insn], "{text:?}");
        assert!(assembly.references.is_empty());
    }
}

#[test]
fn every_instruction_survives_llvm_text() {
    check(|insn| insn.to_string());
}

#[test]
fn every_instruction_survives_llvm_text_with_spaces_and_comments() {
    check(|insn| format!("\t {}   # a comment: r0 = 0", insn.to_string().replace(' ', " /* , */ ")));
}

#[test]
fn every_instruction_survives_llvm_text_without_spaces_around_signs() {
    check(|insn| insn.to_string().replace(" = ", "=").replace(" + ", "+").replace(", ", ","));
}

#[test]
fn every_instruction_survives_xlated_text() {
    check(|insn| xlated::text(insn, &()).to_string());
}

#[test]
fn every_instruction_survives_xlated_text_with_names() {
    check(|insn| xlated::text(insn, &Helpers).to_string());
}

#[test]
fn every_instruction_survives_a_line_of_llvm_objdump_with_bytes() {
    for spelling in [Spelling::Objdump, Spelling::ObjdumpAlu32] {
        check(|insn| {
            let bytes = softbpf::codec::encode_one(insn).unwrap();
            let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("      12:\t{}\t{}", bytes.join(" "), llvm::text(insn, spelling))
        });
    }
}

#[test]
fn texts_are_distinct() {
    let all = every_insn();
    let mut exact: Vec<_> = all.iter().map(Insn::to_string).collect();
    let count = exact.len();
    exact.sort();
    exact.dedup();
    assert_eq!(exact.len(), count);
    assert!(!exact.iter().any(|text| text.contains(UNKNOWN)));
}

#[test]
fn a_whole_program_survives_an_xlated_listing() {
    let code = Code::from(every_insn());
    let mut listing = Xlated::new(&code, &());
    listing.functions = vec![(0, "static int everything(struct __sk_buff * skb)")];
    for opcodes in [false, true] {
        listing.opcodes = opcodes;
        let assembly = parse(&listing.to_string()).unwrap();
        assert_eq!(assembly.code, code);
        assert_eq!(assembly.labels["everything"], 0);
    }
}
