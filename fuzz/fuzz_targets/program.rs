//! Generated programs do what the model does, on every engine.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softbpf_conformance::targets::program::run(bytes));
