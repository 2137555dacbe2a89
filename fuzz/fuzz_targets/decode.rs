//! Whatever decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softbpf::codec::Code;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(code) = Code::decode(bytes) {
        assert_eq!(code.encode().as_deref(), Ok(bytes));
        // An error value, never a panic.
        let _ = softbpf::check::check(&code);
    }
});
