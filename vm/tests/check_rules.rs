//! Where RFC 9669 and the kernel differ, the structural check does as it is told.

use softbpf::asm::{Insn, R0};
use softbpf::check::{CheckErrorKind, OutOfRangeShifts, Rules, check, check_with};
use softbpf::codec::Code;

const MASK: Rules = Rules { out_of_range_shifts: OutOfRangeShifts::Mask };

#[test]
fn the_kernel_refuses_immediate_shifts_that_the_rfc_masks() {
    for (insn, bits, amount) in [
        (Insn::lsh(R0, 64), 64, 64),
        (Insn::rsh(R0, -1), 64, -1),
        (Insn::arsh32(R0, 32), 32, 32),
        (Insn::lsh32(R0, i32::MIN), 32, i32::MIN),
    ] {
        let code = Code::from(vec![Insn::mov(R0, 1), insn, Insn::exit()]);
        let error = check(&code).unwrap_err();
        assert_eq!((error.slot, error.kind), (1, CheckErrorKind::ShiftOutOfRange { bits, amount }));
        assert_eq!(check_with(&code, MASK), Ok(()));
    }
}
