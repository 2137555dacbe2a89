//! Any instruction stream is refused, returns or traps, whatever it does to helpers and maps.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(object) = softbpf_conformance::hostile::object(bytes) {
        softbpf_conformance::hostile::run_all(&object);
    }
});
