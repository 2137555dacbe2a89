//! Any bytes are an object or an error; any object loads or is an error; its programs do the same on every engine.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softbpf_conformance::targets::object::run(bytes));
