//! Corner cases of loads, stores, atomics and packet loads that implementations have got wrong. RFC 9669, section 5.

use softbpf::TrapKind;
use softbpf::context::Packet;
use softbpf::memory::{Access, FaultKind};
use softbpf::program_type::ProgramType;
use softbpf::{Object, Outcome};
use softbpf_conformance::programs::{assert_returns, outcome, ret};

/// Loads and stores of a size by its name: `u32`.
const SIZES: [(&str, i32); 4] = [("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)];

/// A refused access of a program in text.
fn fault(text: &str) -> Result<(Access, u64, FaultKind), String> {
    match ret(text) {
        Err(TrapKind::Memory(fault)) => Ok((fault.access, fault.size, fault.kind)),
        other => Err(format!("{other:?}")),
    }
}

#[test]
fn loads_extend_zeros() {
    assert_returns(&[
        ("*(u64 *)(r10 - 8) = -1\n r0 = *(u8 *)(r10 - 8)\n exit", 0xff),
        ("*(u64 *)(r10 - 8) = -1\n r0 = *(u16 *)(r10 - 8)\n exit", 0xffff),
        ("*(u64 *)(r10 - 8) = -1\n r0 = *(u32 *)(r10 - 8)\n exit", 0xffff_ffff),
        ("*(u64 *)(r10 - 8) = -1\n r0 = *(u64 *)(r10 - 8)\n exit", u64::MAX),
    ]);
}

#[test]
fn signed_loads_extend_the_sign() {
    const VALUE: &str = "r1 = 0x7fffffff7fff80f0 ll\n *(u64 *)(r10 - 8) = r1\n";
    assert_returns(&[
        (&format!("{VALUE} r0 = *(s8 *)(r10 - 8)\n exit"), -0x10_i64 as u64),
        (&format!("{VALUE} r0 = *(s16 *)(r10 - 8)\n exit"), -0x7f10_i64 as u64),
        (&format!("{VALUE} r0 = *(s16 *)(r10 - 6)\n exit"), 0x7fff),
        (&format!("{VALUE} r0 = *(s32 *)(r10 - 8)\n exit"), 0x7fff_80f0),
        (&format!("{VALUE} r0 = *(s32 *)(r10 - 4)\n exit"), 0x7fff_ffff),
        ("*(u32 *)(r10 - 8) = 0x80000000\n r0 = *(s32 *)(r10 - 8)\n exit", 0xffff_ffff_8000_0000),
    ]);
}

#[test]
fn stores_write_their_size_only() {
    for (size, bytes) in SIZES {
        let mask = if bytes == 8 { 0 } else { u64::MAX << (bytes * 8) };
        for store in [format!("*({size} *)(r10 - 8) = 0"), format!("r1 = 0\n *({size} *)(r10 - 8) = r1")] {
            let text = format!("*(u64 *)(r10 - 8) = -1\n {store}\n r0 = *(u64 *)(r10 - 8)\n exit");
            assert_eq!(ret(&text), Ok(mask), "{text}");
        }
    }
}

#[test]
fn a_stored_immediate_is_sign_extended() {
    assert_returns(&[
        ("*(u64 *)(r10 - 8) = -2\n r0 = *(u64 *)(r10 - 8)\n exit", -2_i64 as u64),
        ("*(u64 *)(r10 - 8) = 0x80000000\n r0 = *(u64 *)(r10 - 8)\n exit", 0xffff_ffff_8000_0000),
        ("*(u32 *)(r10 - 4) = -2\n r0 = *(u32 *)(r10 - 4)\n exit", 0xffff_fffe),
    ]);
}

#[test]
fn memory_is_little_endian_and_need_not_be_aligned() {
    let bytes = "r1 = 0x0807060504030201 ll\n *(u64 *)(r10 - 11) = r1\n";
    assert_returns(&[
        (&format!("{bytes} r0 = *(u8 *)(r10 - 11)\n exit"), 0x01),
        (&format!("{bytes} r0 = *(u16 *)(r10 - 10)\n exit"), 0x0302),
        (&format!("{bytes} r0 = *(u32 *)(r10 - 8)\n exit"), 0x0706_0504),
        (&format!("{bytes} r0 = *(u64 *)(r10 - 11)\n exit"), 0x0807_0605_0403_0201),
    ]);
}

#[test]
fn a_frame_has_512_bytes_and_each_can_be_reached() {
    for (size, bytes) in SIZES {
        for offset in [-512, -512 + bytes, -bytes] {
            let text = format!("*({size} *)(r10 {offset:+}) = 1\n r0 = *({size} *)(r10 {offset:+})\n exit");
            assert_eq!(ret(&text), Ok(1), "{text}");
        }
    }
}

#[test]
fn an_access_that_leaves_a_frame_is_refused() {
    for (size, bytes) in SIZES {
        // Below it, half below it, half above it, above it.
        for offset in [-512 - bytes, -513, 1 - bytes, 0, 1] {
            let expected = |access| Ok((access, bytes as u64, FaultKind::OutOfBounds));
            assert_eq!(fault(&format!("r0 = *({size} *)(r10 {offset:+})\n exit")), expected(Access::Read), "{offset}");
            assert_eq!(fault(&format!("*({size} *)(r10 {offset:+}) = 0\n exit")), expected(Access::Write), "{offset}");
            let register = format!("r1 = 0\n *({size} *)(r10 {offset:+}) = r1\n exit");
            assert_eq!(fault(&register), expected(Access::Write), "{offset}");
        }
    }
}

#[test]
fn an_address_that_wraps_around_is_refused() {
    for (base, offset) in [(u64::MAX, 0), (u64::MAX - 3, 0), (0xffff_ffff, 0), (0xffff_fffc, 4), (0x1_0000_0000, 0)] {
        for (size, _) in SIZES {
            let load = format!("r1 = {base:#x} ll\n r0 = *({size} *)(r1 {offset:+})\n exit");
            assert!(fault(&load).is_ok(), "{load}");
            let store = format!("r1 = {base:#x} ll\n *({size} *)(r1 {offset:+}) = 0\n exit");
            assert!(fault(&store).is_ok(), "{store}");
        }
    }
}

#[test]
fn an_offset_may_bring_an_address_back_into_bounds() {
    assert_returns(&[
        ("*(u64 *)(r10 - 8) = 5\n r1 = r10\n r1 += -40000\n r1 += 10000\n r0 = *(u64 *)(r1 + 29992)\n exit", 5),
        ("*(u64 *)(r10 - 8) = 5\n r1 = r10\n r1 += 30000\n r0 = *(u64 *)(r1 - 30008)\n exit", 5),
    ]);
}

#[test]
fn low_addresses_are_null_pointers() {
    for address in [0, 1, 8, 0xfff, 0xffff] {
        let text = format!("r1 = {address}\n r0 = *(u8 *)(r1 + 0)\n exit");
        assert_eq!(fault(&text), Ok((Access::Read, 1, FaultKind::Null)), "{address:#x}");
    }
    assert_eq!(fault("r1 = 8\n r0 = *(u64 *)(r1 - 8)\n exit"), Ok((Access::Read, 8, FaultKind::Null)));
}

/// What an atomic operation leaves in memory, in `r0` and in `r1`, started with these.
fn atomic(line: &str, memory: u64, r0: u64, r1: u64) -> [u64; 3] {
    let read = |result: &str| {
        let text = format!(
            "r0 = {r0:#x} ll
             r1 = {memory:#x} ll
             *(u64 *)(r10 - 8) = r1
             r1 = {r1:#x} ll
             {line}
             r0 = {result}
             exit"
        );
        ret(&text).unwrap_or_else(|trap| panic!("{trap}:\n{text}"))
    };
    [read("*(u64 *)(r10 - 8)"), read("r0"), read("r1")]
}

const MEMORY: u64 = 0xaaaa_aaaa_8000_0001;
const R0: u64 = 0x1111_1111_2222_2222;
const R1: u64 = 0xcccc_cccc_ffff_ffff;
const HIGH: u64 = 0xaaaa_aaaa_0000_0000;

#[test]
fn wide_atomics_change_memory_only() {
    let cases = [("+=", MEMORY.wrapping_add(R1)), ("|=", MEMORY | R1), ("&=", MEMORY & R1), ("^=", MEMORY ^ R1)];
    for (op, expected) in cases {
        assert_eq!(atomic(&format!("lock *(u64 *)(r10 - 8) {op} r1"), MEMORY, R0, R1), [expected, R0, R1], "{op}");
    }
}

#[test]
fn narrow_atomics_leave_the_bytes_beside_them() {
    let cases = [("+=", 0x8000_0000), ("|=", 0xffff_ffff), ("&=", 0x8000_0001), ("^=", 0x7fff_fffe)];
    for (op, expected) in cases {
        let line = format!("lock *(u32 *)(r10 - 8) {op} w1");
        assert_eq!(atomic(&line, MEMORY, R0, R1), [HIGH | expected, R0, R1], "{op}");
    }
}

#[test]
fn fetching_atomics_bring_the_old_value() {
    let cases = [
        ("add", MEMORY.wrapping_add(R1), 0x8000_0000),
        ("or", MEMORY | R1, 0xffff_ffff),
        ("and", MEMORY & R1, 0x8000_0001),
        ("xor", MEMORY ^ R1, 0x7fff_fffe),
    ];
    for (op, wide, narrow) in cases {
        let line = format!("r1 = atomic_fetch_{op}((u64 *)(r10 - 8), r1)");
        assert_eq!(atomic(&line, MEMORY, R0, R1), [wide, R0, MEMORY], "{line}");
        // The old value of 32 bits is zero-extended.
        let line = format!("w1 = atomic_fetch_{op}((u32 *)(r10 - 8), w1)");
        assert_eq!(atomic(&line, MEMORY, R0, R1), [HIGH | narrow, R0, 0x8000_0001], "{line}");
    }
}

#[test]
fn exchange_swaps_memory_and_register() {
    assert_eq!(atomic("r1 = xchg_64(r10 - 8, r1)", MEMORY, R0, R1), [R1, R0, MEMORY]);
    assert_eq!(atomic("w1 = xchg32_32(r10 - 8, w1)", MEMORY, R0, R1), [HIGH | 0xffff_ffff, R0, 0x8000_0001]);
}

#[test]
fn compare_and_exchange_brings_the_old_value_in_r0() {
    let wide = "r0 = cmpxchg_64(r10 - 8, r0, r1)";
    assert_eq!(atomic(wide, MEMORY, MEMORY, R1), [R1, MEMORY, R1]);
    assert_eq!(atomic(wide, MEMORY, R0, R1), [MEMORY, MEMORY, R1]);
    // Equal in the low half only.
    assert_eq!(atomic(wide, MEMORY, MEMORY ^ 1 << 40, R1), [MEMORY, MEMORY, R1]);
}

#[test]
fn narrow_compare_and_exchange_looks_at_low_halves_and_clears_the_high_one() {
    let narrow = "w0 = cmpxchg32_32(r10 - 8, w0, w1)";
    assert_eq!(atomic(narrow, MEMORY, 0x8000_0001, R1), [HIGH | 0xffff_ffff, 0x8000_0001, R1]);
    assert_eq!(atomic(narrow, MEMORY, 0x1234_5678_8000_0001, R1), [HIGH | 0xffff_ffff, 0x8000_0001, R1]);
    assert_eq!(atomic(narrow, MEMORY, R0, R1), [MEMORY, 0x8000_0001, R1]);
}

#[test]
fn the_source_of_an_atomic_may_be_r0() {
    assert_eq!(atomic("r0 = atomic_fetch_add((u64 *)(r10 - 8), r0)", 10, 5, 0), [15, 10, 0]);
    assert_eq!(atomic("w0 = atomic_fetch_add((u32 *)(r10 - 8), w0)", 10, 5, 0), [15, 10, 0]);
    assert_eq!(atomic("r0 = xchg_64(r10 - 8, r0)", 10, 5, 0), [5, 10, 0]);
    // Compared with itself and stored: the old value where they are equal.
    assert_eq!(atomic("r0 = cmpxchg_64(r10 - 8, r0, r0)", 10, 10, 0), [10, 10, 0]);
    assert_eq!(atomic("r0 = cmpxchg_64(r10 - 8, r0, r0)", 10, 11, 0), [10, 10, 0]);
    assert_eq!(atomic("lock *(u64 *)(r10 - 8) += r0", 10, 5, 0), [15, 5, 0]);
}

#[test]
fn the_base_of_an_atomic_may_be_its_source() {
    assert_returns(&[(
        "r1 = r10
         r1 += -8
         *(u64 *)(r1 + 0) = 7
         r1 = atomic_fetch_add((u64 *)(r1 + 0), r1)
         r0 = r1
         exit",
        7,
    )]);
}

#[test]
fn atomics_are_bounded_like_stores() {
    for offset in [-520, -513, -3, 0] {
        for line in [
            format!("lock *(u32 *)(r10 {offset:+}) += w1"),
            format!("w1 = xchg32_32(r10 {offset:+}, w1)"),
            format!("w0 = cmpxchg32_32(r10 {offset:+}, w0, w1)"),
        ] {
            let text = format!("r0 = 0\n r1 = 0\n {line}\n exit");
            assert_eq!(fault(&text), Ok((Access::Write, 4, FaultKind::OutOfBounds)), "{line}");
        }
    }
}

#[test]
fn load_acquire_and_store_release_have_four_sizes() {
    let value = "r1 = 0xf1f2f3f4f5f6f7f8 ll\n *(u64 *)(r10 - 8) = r1\n";
    assert_returns(&[
        (&format!("{value} r0 = load_acquire((u8 *)(r10 - 8))\n exit"), 0xf8),
        (&format!("{value} r0 = load_acquire((u16 *)(r10 - 8))\n exit"), 0xf7f8),
        (&format!("{value} r0 = load_acquire((u32 *)(r10 - 8))\n exit"), 0xf5f6_f7f8),
        (&format!("{value} r0 = load_acquire((u64 *)(r10 - 8))\n exit"), 0xf1f2_f3f4_f5f6_f7f8),
    ]);
    for (size, expected) in
        SIZES.iter().zip([0xffff_ffff_ffff_fff8, 0xffff_ffff_ffff_f7f8, 0xffff_ffff_f5f6_f7f8, 0xf1f2_f3f4_f5f6_f7f8])
    {
        let text = format!(
            "r1 = 0xf1f2f3f4f5f6f7f8 ll\n *(u64 *)(r10 - 8) = -1\n store_release(({} *)(r10 - 8), r1)\n r0 = *(u64 *)(r10 - 8)\n exit",
            size.0
        );
        assert_eq!(ret(&text), Ok(expected), "{text}");
    }
}

/// Runs a socket filter in text on a packet of so many bytes: 0, 1, 2...
fn on_packet(text: &str, bytes: u8) -> Outcome {
    let object = Object::from_text(text, ProgramType::SocketFilter).unwrap_or_else(|error| panic!("{error}"));
    outcome(&object, Packet::new((0..bytes).collect::<Vec<u8>>()))
}

#[test]
fn packet_loads_are_big_endian() {
    for (line, expected) in [
        ("r0 = *(u8 *)skb[3]", 3),
        ("r0 = *(u16 *)skb[3]", 0x0304),
        ("r0 = *(u32 *)skb[3]", 0x0304_0506),
        ("r0 = *(u8 *)skb[r7]", 2),
        ("r0 = *(u16 *)skb[r7 + 4]", 0x0607),
        ("r0 = *(u32 *)skb[r7 - 1]", 0x0102_0304),
    ] {
        let text = format!("r6 = r1\n r7 = 2\n {line}\n exit");
        assert_eq!(on_packet(&text, 60).ret, Ok(expected), "{line}");
    }
}

#[test]
fn a_packet_load_outside_ends_the_program_with_zero() {
    for (line, ends) in [
        ("r0 = *(u8 *)skb[59]", false),
        ("r0 = *(u8 *)skb[60]", true),
        ("r0 = *(u16 *)skb[58]", false),
        ("r0 = *(u16 *)skb[59]", true),
        ("r0 = *(u32 *)skb[56]", false),
        ("r0 = *(u32 *)skb[57]", true),
        ("r0 = *(u32 *)skb[0x7fffffff]", true),
        ("r0 = *(u8 *)skb[r7 + 0x7fffffff]", true),
    ] {
        let outcome = on_packet(&format!("r6 = r1\n r7 = 1\n {line}\n r0 = 1\n exit"), 60);
        assert_eq!(outcome.ret, Ok(u64::from(!ends)), "{line}");
        assert_eq!(outcome.instructions, if ends { 3 } else { 5 }, "{line}");
    }
}

#[test]
fn a_packet_load_outside_ends_a_subprogram_only() {
    // The kernel puts `r0 = 0; exit` behind the load: a subprogram's caller goes on.
    let text = "r6 = r1
        r7 = 35
        call sub
        r0 += r7
        exit
        sub: r7 = 0
        r0 = *(u8 *)skb[60]
        r0 = 1
        exit";
    assert_eq!(on_packet(text, 60).ret, Ok(35));
    assert_eq!(on_packet(text, 60).instructions, 7);
    assert_eq!(on_packet(text, 61).ret, Ok(36));
}

#[test]
fn packet_loads_keep_the_callee_saved_registers() {
    let text = "r6 = r1\n r7 = 7\n r8 = 8\n r9 = 9\n r0 = *(u8 *)skb[0]\n r0 += r7\n r0 += r8\n r0 += r9\n exit";
    assert_eq!(on_packet(text, 60).ret, Ok(24));
}

#[test]
fn negative_packet_offsets_count_from_the_headers() {
    // SKF_NET_OFF and SKF_LL_OFF.
    assert_eq!(on_packet("r6 = r1\n r0 = *(u8 *)skb[-0x100000]\n exit", 60).ret, Ok(14));
    assert_eq!(on_packet("r6 = r1\n r0 = *(u8 *)skb[-0x1ffffd]\n exit", 60).ret, Ok(3));
    assert_eq!(on_packet("r6 = r1\n r0 = *(u8 *)skb[-1]\n exit", 60).ret, Ok(0));
}
