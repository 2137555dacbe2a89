//! The C sources of the programs, compiled for this machine by the build script: the same work as the bytecode does.

use std::hint::black_box;

use crate::contestants::{Made, Memories, repeat};
use crate::measure::Contestant;
use crate::native::HELPER_RESULT;
use crate::workload::Workload;

/// What compiled them, as it names itself.
pub const COMPILER: &str = env!("SOFTBPF_NATIVE_CC");

type Function = unsafe extern "C" fn(*mut u8, u64) -> u64;

extern "C" fn helper_body() -> u64 {
    black_box(HELPER_RESULT)
}

// SAFETY: no other crate here has such a symbol; bench.h declares it with this type.
#[unsafe(no_mangle)]
static bench_helper: extern "C" fn() -> u64 = helper_body;

macro_rules! functions {
    ($($symbol:ident $name:literal)*) => {
        // SAFETY: `PROGRAM` in bench.h defines them with this signature.
        unsafe extern "C" {
            $(fn $symbol(mem: *mut u8, len: u64) -> u64;)*
        }

        fn find(name: &str) -> Option<Function> {
            match name {
                $($name => Some($symbol),)*
                _ => None,
            }
        }
    };
}

functions! {
    bench_lcg          "lcg"
    bench_collatz      "collatz"
    bench_sieve        "sieve"
    bench_fnv1a        "fnv1a"
    bench_crc32        "crc32"
    bench_siphash      "siphash"
    bench_sha256       "sha256"
    bench_shellsort    "shellsort"
    bench_matmul       "matmul"
    bench_packets      "packets"
    bench_tcpsum       "tcpsum"
    bench_strings      "strings"
    bench_helper_calls "helper_calls"
    bench_local_calls  "local_calls"
    bench_empty        "empty"
    bench_tracing      "tracing"
    bench_xdp_parse    "xdp_parse"
}

/// A program's C source in native code.
#[derive(Debug)]
pub(crate) struct NativeC {
    function: Function,
    memories: Memories,
}

impl NativeC {
    pub(crate) fn make(workload: &Workload) -> Made {
        let memories = Memories::of(workload)?;
        let function = find(workload.name).ok_or("not compiled natively")?;
        Ok(Box::new(NativeC { function, memories }))
    }
}

impl Contestant for NativeC {
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        let function = black_box(self.function);
        let call = |memory: &mut [u8]| {
            // SAFETY: the program reads and writes within the length it is given only, as the engines that check
            // every access have shown of the same source and input; the memory is aligned to 8 bytes.
            unsafe { function(black_box(memory.as_mut_ptr()), memory.len() as u64) }
        };
        repeat(times, || Ok(self.memories.run(call)))
    }
}
