//! Reads of addresses that may be anything: which are refused with which error, and what is left in the buffer.

use softbpf::errno::Errno;
use softbpf_conformance::programs::program_with;
use softbpf_conformance::{TestResult, try_on_every_engine};

/// Where the far object of these tests lies.
const KERNEL: u64 = 0xffff_8880_0000_1000;
const USER: u64 = 0x7ffd_0000_1000;

/// Calls `helper(r10 - 16, size, addr)` on a buffer of ones; `r0`, and the first 8 bytes of the buffer.
fn probe(helper: &str, size: i32, addr: u64, object: (u64, &[u8]), check: impl Fn(u64, [u8; 8])) -> TestResult {
    let text = format!(
        "*(u64 *)(r10 - 16) = -1\n *(u64 *)(r10 - 8) = -1\n r6 = r1\n r1 = r10\n r1 += -16\n r2 = {size}\n
         r3 = {addr} ll\n call {helper}\n r1 = *(u64 *)(r10 - 16)\n *(u64 *)(r6 + 0) = r1\n exit"
    );
    try_on_every_engine(&program_with(&text, Vec::new()), |vm| {
        vm.place_at(object.0, "object", object.1)?;
        let outcome = vm.run("main", [0; 8])?;
        let bytes = outcome.context.first_chunk().copied().unwrap_or_default();
        check(outcome.ret.map_err(|trap| trap.to_string())?, bytes);
        Ok(())
    })
}

const ONES: [u8; 8] = [0xff; 8];

#[test]
fn a_string_that_ends_inside_the_buffer_is_copied_with_its_end() -> TestResult {
    probe("probe_read_kernel_str", 8, KERNEL, (KERNEL, b"abc\0xyz"), |ret, bytes| {
        assert_eq!((ret, bytes), (4, *b"abc\0\xff\xff\xff\xff"));
    })
}

#[test]
fn a_longer_string_is_cut_to_the_buffer() -> TestResult {
    probe("probe_read_user_str", 4, USER, (USER, b"abcdefgh"), |ret, bytes| {
        assert_eq!((ret, bytes), (4, *b"abc\0\xff\xff\xff\xff"));
    })
}

#[test]
fn a_string_that_runs_into_a_fault_is_refused_even_at_the_end_of_the_buffer() -> TestResult {
    probe("probe_read_kernel_str", 4, KERNEL, (KERNEL, b"abc"), |ret, bytes| {
        assert_eq!((ret, bytes), (Errno::EFAULT.ret(), *b"\0\0\0\0\xff\xff\xff\xff"));
    })
}

#[test]
fn a_buffer_of_one_byte_does_not_make_a_bad_address_good() -> TestResult {
    probe("probe_read_kernel_str", 1, KERNEL + 0x100, (KERNEL, b"abc"), |ret, _| {
        assert_eq!(ret, Errno::EFAULT.ret());
    })
}

#[test]
fn a_buffer_of_no_bytes_is_left_alone() -> TestResult {
    probe("probe_read_kernel_str", 0, 0, (KERNEL, b"abc"), |ret, bytes| assert_eq!((ret, bytes), (0, ONES)))
}

#[test]
fn addresses_that_cannot_be_kernel_memory_are_out_of_range() -> TestResult {
    for addr in [0, 8, 0x5555_5555_5000, 0x8000_0000_0000_0000, 0x0000_8000_0000_0000] {
        for helper in ["probe_read_kernel", "probe_read_kernel_str"] {
            probe(helper, 8, addr, (KERNEL, b"abc"), |ret, bytes| {
                assert_eq!((ret, bytes), (Errno::ERANGE.ret(), [0; 8]), "{helper} {addr:#x}");
            })?;
        }
    }
    Ok(())
}

#[test]
fn kernel_memory_that_is_not_there_is_a_fault() -> TestResult {
    for helper in ["probe_read", "probe_read_kernel", "probe_read_str", "probe_read_kernel_str"] {
        probe(helper, 8, KERNEL + 0x1000, (KERNEL, b"abc"), |ret, bytes| {
            assert_eq!((ret, bytes), (Errno::EFAULT.ret(), [0; 8]), "{helper}");
        })?;
    }
    Ok(())
}

#[test]
fn the_old_helper_takes_null_for_user_memory() -> TestResult {
    probe("probe_read", 8, 0, (KERNEL, b"abc"), |ret, bytes| {
        assert_eq!((ret, bytes), (Errno::EFAULT.ret(), [0; 8]));
    })
}

#[test]
fn user_helpers_refuse_kernel_memory() -> TestResult {
    for helper in ["probe_read_user", "probe_read_user_str"] {
        probe(helper, 4, KERNEL, (KERNEL, b"abcdefgh"), |ret, bytes| {
            assert_eq!((ret, bytes), (Errno::EFAULT.ret(), *b"\0\0\0\0\xff\xff\xff\xff"), "{helper}");
        })?;
    }
    Ok(())
}

#[test]
fn a_size_that_leaves_the_buffer_is_a_trap_that_names_the_argument() -> TestResult {
    let text = "r1 = r10\n r1 += -8\n r2 = -1\n r3 = 0\n call probe_read_kernel\n exit";
    try_on_every_engine(&program_with(text, Vec::new()), |vm| {
        let trap = vm.run("main", [0; 8])?.ret.expect_err("the buffer has 8 bytes");
        assert!(trap.to_string().contains("argument 1 of probe_read_kernel"), "{trap}");
        assert!(trap.nearest.is_some());
        Ok(())
    })
}
