//! Whatever parses prints to text that parses to the same instructions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softbpf_conformance::targets::text::run(bytes));
