//! Where offsets lead: the search gives what the slots say.

use softbpf::codec::Code;
use softbpf::insn::{Imm64, Insn, Reg};

/// A program with wide loads where `wide` has ones.
fn code(wide: u64, len: usize) -> Code {
    let load = Insn::LoadImm64 { dst: Reg::R0, value: Imm64::Value(0) };
    (0..len).map(|index| if wide >> (index % 64) & 1 == 1 { load } else { Insn::Exit }).collect()
}

/// The instruction that starts at the slot, by looking at all of them.
fn searched(code: &Code, index: usize, off: i32) -> Option<usize> {
    let slot = code.slot_of(index)? as i64 + 1 + i64::from(off);
    code.iter().position(|(start, _)| start as i64 == slot)
}

#[test]
fn a_target_is_the_instruction_at_its_slot() {
    let patterns = [0, u64::MAX, 1, 1 << 63, 0xaaaa_aaaa_aaaa_aaaa, 0x0101_0101_0101_0101, 0xffff_0000_0f00_0001];
    for pattern in patterns {
        for len in [1, 2, 3, 17, 70] {
            let code = code(pattern, len);
            let far = 2 * len as i32 + 3;
            for index in 0..=len + 1 {
                for off in (-far..=far).chain([i32::MIN, i32::MIN + 1, i32::MAX]) {
                    let expected = searched(&code, index, off);
                    assert_eq!(code.target(index, off), expected, "{pattern:#x}, {len}: {index} {off:+}");
                }
            }
        }
    }
}

#[test]
fn nothing_leads_into_no_code() {
    assert_eq!(Code::default().target(0, 0), None);
    assert_eq!(Code::default().target(usize::MAX, -1), None);
}
