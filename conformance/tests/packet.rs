//! Legacy packet loads in socket filters: big-endian, and the end of the program past the packet's end.

use softbpf::context::Packet;
use softbpf::object::MAIN;
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object, Outcome};
use softbpf_conformance::{TestResult, fixture, try_on_every_engine};

fn run(vm: &mut Machine, program: &str, packet: &[u8]) -> Result<Outcome, Box<dyn std::error::Error>> {
    Ok(vm.run(program, Packet::new(packet))?)
}

/// IPv4 and UDP to port 53, with this many words of IP options and this much payload.
fn dns(options: usize, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x02; 12];
    packet.extend([0x08, 0x00]);
    packet.push(0x45 + options as u8);
    packet.extend([0, 0, 60, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 53]);
    packet.extend(vec![1; options * 4]);
    packet.extend([0x80, 0x35, 0, 53, 0, 20, 0, 0]);
    packet.extend(payload);
    packet
}

#[test]
fn a_dns_query_passes_whole() -> TestResult {
    try_on_every_engine(&fixture("packet.bpf.o"), |vm| {
        for options in 0..=10 {
            let packet = dns(options, b"query");
            assert_eq!(run(vm, "legacy_loads", &packet)?.ret, Ok(packet.len() as u64), "{options} words of options");
        }
        Ok(())
    })
}

#[test]
fn each_condition_decides_alone() -> TestResult {
    // Offset and value of one byte that makes the packet another: type, protocol, source, port, payload.
    const CHANGES: [(usize, &[u8]); 6] =
        [(12, &[0x86]), (13, &[0x06]), (23, &[6]), (26, &[0, 0, 0, 0]), (36, &[1, 53]), (42, &[0, 0, 0, 0])];
    try_on_every_engine(&fixture("packet.bpf.o"), |vm| {
        for (offset, bytes) in CHANGES {
            let mut packet = dns(0, b"query");
            packet[offset..offset + bytes.len()].copy_from_slice(bytes);
            assert_eq!(run(vm, "legacy_loads", &packet)?.ret, Ok(0), "{bytes:x?} at {offset}");
        }
        Ok(())
    })
}

#[test]
fn a_truncated_packet_ends_the_program_with_zero() -> TestResult {
    try_on_every_engine(&fixture("packet.bpf.o"), |vm| {
        let packet = dns(2, b"quer");
        for len in 0..packet.len() {
            assert_eq!(run(vm, "legacy_loads", &packet[..len])?.ret, Ok(0), "{len} bytes");
        }
        assert_eq!(run(vm, "legacy_loads", &packet)?.ret, Ok(packet.len() as u64));
        Ok(())
    })
}

#[test]
fn a_load_past_the_end_stops_there() -> TestResult {
    try_on_every_engine(&fixture("packet.bpf.o"), |vm| {
        let packet: Vec<u8> = (1..=32).collect();
        let whole = run(vm, "sum_bytes", &packet)?;
        assert_eq!(whole.ret, Ok((1..=32).sum()));
        for len in 0..32 {
            let cut = run(vm, "sum_bytes", &packet[..len])?;
            assert_eq!(cut.ret, Ok(0), "{len} bytes");
            assert!(cut.instructions < whole.instructions, "{len} bytes");
        }
        Ok(())
    })
}

#[test]
fn bytes_behind_the_loads_do_not_matter() -> TestResult {
    try_on_every_engine(&fixture("packet.bpf.o"), |vm| {
        assert_eq!(run(vm, "sum_bytes", &[1; 1500])?.ret, Ok(32));
        Ok(())
    })
}

#[test]
fn a_load_past_the_end_ends_programs_that_have_no_exit() -> TestResult {
    let programs = [
        ("r6 = r1\n again: r0 = *(u8 *)skb[32]\n goto again", 2),
        // The function ends, not the program.
        ("r6 = r1\n again: call sub\n goto again\n sub: r0 = *(u8 *)skb[32]\n goto sub", 100),
    ];
    for (text, instructions) in programs {
        try_on_every_engine(&Object::assemble(text, ProgramType::SocketFilter, Vec::new())?, |vm| {
            vm.fuel = 100;
            let outcome = run(vm, MAIN, &[1; 32])?;
            assert_eq!((outcome.ret.is_ok(), outcome.instructions), (instructions < 100, instructions), "{text}");
            Ok(())
        })?;
    }
    Ok(())
}
