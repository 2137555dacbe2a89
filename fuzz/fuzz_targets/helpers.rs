//! Helpers with hostile arguments do the same on every engine.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softbpf_conformance::targets::helpers::run(bytes));
