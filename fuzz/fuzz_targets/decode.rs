//! Whatever decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| softbpf_conformance::targets::decode::run(bytes));
