//! Any bytes are an object or an error; any object loads or is an error; any program returns or traps.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softbpf::Object;

fuzz_target!(|bytes: &[u8]| {
    let Ok(object) = Object::parse(bytes) else { return };
    softbpf_conformance::hostile::run_all(&object);
});
