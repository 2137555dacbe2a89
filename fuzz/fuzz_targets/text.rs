//! Whatever parses prints to text that parses to the same instructions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softbpf::text::llvm::{Spelling, text};
use softbpf::text::parse::parse;

fuzz_target!(|input: &str| {
    let Ok(assembly) = parse(input) else { return };
    let printed: String =
        assembly.code.insns().iter().map(|insn| format!("{}\n", text(insn, Spelling::default()))).collect();
    let again = parse(&printed).unwrap_or_else(|error| panic!("{error} in\n{printed}"));
    assert_eq!(again.code, assembly.code, "{printed}");
});
