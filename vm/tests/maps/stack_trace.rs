//! Stack traces: numbers, flags and what user space reads.

use softbpf::errno::Errno;
use softbpf::map_spec::MapType::StackTrace;
use softbpf::maps::stack_flags::{FAST_STACK_CMP, REUSE_STACKID, USER_STACK};

use super::Fixture;

fn stack_id(fix: &mut Fixture, ips: &[u64], flags: u64) -> Result<u32, Errno> {
    fix.map.stack_trace().expect("stack_trace").stack_id(ips, flags)
}

/// Call chains and the numbers that `bpf_get_stackid` of Linux 6.18 gave them in a map of 2^24 entries.
#[test]
fn numbers_are_those_of_the_kernel() {
    let chain = [
        0xffff_ffff_c002_6131,
        0xffff_ffff_81f0_582a,
        0xffff_ffff_81f0_7797,
        0xffff_ffff_814d_bd61,
        0xffff_ffff_814d_e1cd,
        0xffff_ffff_821e_cc51,
        0xffff_ffff_8100_0130,
    ];
    let mut fix = Fixture::new(StackTrace, 4, 8 * 127, 1 << 24);
    for (skip, id) in [(0, 0x71_d4af), (1, 0x26_df40), (2, 0x39_b510), (3, 0x78_ca6c), (4, 0xca_8b57)] {
        assert_eq!(stack_id(&mut fix, &chain, skip), Ok(id));
        assert_eq!(fix.map.stack_trace().expect("stack_trace").stack(id), Some(&chain[skip as usize..]));
    }
    assert_eq!(stack_id(&mut fix, &[0x7f65_3dd1_f829, 0x7ffc_3b8c_3f30], USER_STACK), Ok(0x90_a833));
    assert_eq!(fix.map.len(), 6);
}

#[test]
fn a_value_holds_the_innermost_frames() {
    let mut fix = Fixture::new(StackTrace, 4, 24, 16);
    let id = stack_id(&mut fix, &[1, 2, 3, 4, 5], 0).expect("id");
    assert_eq!(fix.user_lookup(id), Ok([1_u64, 2, 3].map(u64::to_le_bytes).concat()));
    let id = stack_id(&mut fix, &[1, 2, 3, 4, 5], 4).expect("id");
    assert_eq!(fix.user_lookup(id), Ok([5_u64, 0, 0].map(u64::to_le_bytes).concat()));
}

#[test]
fn chains_are_cut_at_the_depth_limit_of_the_kernel() {
    let mut fix = Fixture::new(StackTrace, 4, 8 * 127, 16);
    let chain: Vec<u64> = (1..300).collect();
    let id = stack_id(&mut fix, &chain, 27).expect("id");
    assert_eq!(fix.map.stack_trace().expect("stack_trace").stack(id), Some(&chain[27..127]));
}

#[test]
fn flags_and_errors_are_those_of_the_kernel() {
    let mut fix = Fixture::new(StackTrace, 4, 64, 1);
    assert_eq!(stack_id(&mut fix, &[1, 2], 1 << 11), Err(Errno::EINVAL));
    assert_eq!(stack_id(&mut fix, &[1, 2], 2), Err(Errno::EFAULT), "nothing is left");
    assert_eq!(stack_id(&mut fix, &[1, 2], 255), Err(Errno::EFAULT));
    assert_eq!(stack_id(&mut fix, &[], 0), Err(Errno::EFAULT));
    assert_eq!(stack_id(&mut fix, &[1, 2], 0), Ok(0));
    assert_eq!(stack_id(&mut fix, &[1, 2], FAST_STACK_CMP), Ok(0));
    assert_eq!(stack_id(&mut fix, &[1, 3], 0), Err(Errno::EEXIST), "another chain has the number");
    assert_eq!(stack_id(&mut fix, &[1, 3], FAST_STACK_CMP), Err(Errno::EEXIST));
    assert_eq!(stack_id(&mut fix, &[1, 3], REUSE_STACKID), Err(Errno::ENOMEM), "no element is free to replace it");
}

#[test]
fn a_reused_number_gets_the_new_chain() {
    let mut fix = Fixture::new(StackTrace, 4, 64, 16);
    let id = stack_id(&mut fix, &[1], 0).expect("id");
    let same = (2..).find(|&ip| stack_id(&mut fix, &[ip], 0) == Err(Errno::EEXIST)).expect("collision");
    let reused = stack_id(&mut fix, &[same], REUSE_STACKID).expect("id");
    assert_eq!(fix.map.stack_trace().expect("stack_trace").stack(reused), Some(&[same][..]));
    assert!(fix.user_lookup(id).is_ok());
}

#[test]
fn user_space_reads_walks_and_removes_traces() {
    let mut fix = Fixture::new(StackTrace, 4, 64, 100);
    let mut ids: Vec<u32> = (1..20).filter_map(|ip| stack_id(&mut fix, &[ip], 0).ok()).collect();
    ids.sort_unstable();
    assert_eq!(fix.walk(), ids);
    assert_eq!(fix.map.len(), ids.len());
    assert_eq!(fix.user_delete(ids[0]), Ok(()));
    assert_eq!(fix.user_delete(ids[0]), Err(Errno::ENOENT));
    assert_eq!(fix.user_delete(128), Err(Errno::E2BIG), "100 entries have numbers below 128");
    assert_eq!(fix.user_lookup(ids[0]), Err(Errno::ENOENT));
    assert_eq!(fix.user_lookup(u32::MAX), Err(Errno::ENOENT));
    assert_eq!(fix.walk(), ids[1..]);
    fix.map.reset(&mut fix.memory);
    assert!(fix.map.is_empty());
}

#[test]
fn a_build_id_map_gives_addresses() {
    let mut fix = Fixture::with_flags(StackTrace, 4, 64, 16, 1 << 5);
    let id = stack_id(&mut fix, &[0x1122, 2, 3], USER_STACK).expect("id");
    let mut frame = [0; 32];
    frame[0] = 2;
    frame[24..26].copy_from_slice(&[0x22, 0x11]);
    let value = fix.user_lookup(id).expect("value");
    assert_eq!((value.len(), &value[..32]), (64, &frame[..]));
}
