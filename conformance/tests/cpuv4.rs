//! What `-mcpu=v4` added, and the atomics of v3, as a compiler uses them. Linux 6.18 returned the same values.

use softbpf::context::Packet;
use softbpf_conformance::{TestResult, fixture, try_on_every_engine};

/// The results, worked out by hand where the source has them.
const RESULTS: [(&str, u32); 7] = [
    ("sdiv", 0xbf8c_9d32),
    ("smod", 0xffff_8f03),
    ("movsx", 0x30e8_3c53),
    ("ldsx", 0x7663_b05e),
    ("bswap", 0x113f_b6f4),
    ("far_jump", 42),
    ("atomics", 0xa2c8_b889),
];

#[test]
fn programs_return_what_linux_returned() -> TestResult {
    try_on_every_engine(&fixture("cpuv4.bpf.o"), |vm| {
        for (program, expected) in RESULTS {
            // The return value of a program is an `int`.
            let ret = vm.run(program, Packet::new([0; 64]))?.ret.map(|r0| r0 as u32);
            assert_eq!(ret, Ok(expected), "{program}");
        }
        Ok(())
    })
}

#[test]
fn every_program_of_the_object_is_in_the_table() {
    let object = fixture("cpuv4.bpf.o");
    let names: Vec<_> = object.programs().map(|program| program.name.to_string()).collect();
    assert_eq!(names, RESULTS.map(|(name, _)| name.to_owned()));
}
