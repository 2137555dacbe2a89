//! Every map does what a simple collection does.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softbpf_conformance::targets::maps::run(bytes));
