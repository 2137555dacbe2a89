//! An XDP program that parses Ethernet, VLAN, IPv4 and TCP, on whole packets and on every part of them.

use softbpf::context::Packet;
use softbpf::{Config, Machine, Outcome};
use softbpf_conformance::{TestResult, fixture, on_every_engine_with, try_on_every_engine};

const XDP_DROP: u64 = 1;
const XDP_PASS: u64 = 2;

/// `enum class` of the source.
const NOT_IPV4: usize = 0;
const IPV4_OTHER: usize = 1;
const TCP_SYN: usize = 2;
const TCP_OTHER: usize = 3;

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

const PORT: u16 = 8080;

/// A packet, header by header.
#[derive(Clone, Default)]
struct Frame(Vec<u8>);

impl Frame {
    fn ethernet(ether_type: u16) -> Frame {
        Frame([&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &ether_type.to_be_bytes()].concat())
    }

    fn and(self, bytes: impl IntoIterator<Item = u8>) -> Frame {
        Frame(self.0.into_iter().chain(bytes).collect())
    }

    fn vlan(self, ether_type: u16) -> Frame {
        self.and([0x20, 0x64]).and(ether_type.to_be_bytes())
    }

    /// With options of this many words.
    fn ipv4(self, protocol: u8, options: u8) -> Frame {
        self.and([0x45 + options, 0, 0, 40, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0])
            .and([192, 0, 2, 1, 192, 0, 2, 2])
            .and(vec![1; usize::from(options) * 4])
    }

    fn tcp(self, port: u16, flags: u8) -> Frame {
        self.and(41000_u16.to_be_bytes())
            .and(port.to_be_bytes())
            .and([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0x20, 0, 0, 0, 0, 0])
    }
}

fn syn() -> Frame {
    Frame::ethernet(IPV4).ipv4(TCP, 0).tcp(PORT, SYN)
}

/// The class by the source's rules, read off the bytes.
fn class_of(bytes: &[u8]) -> usize {
    let half = |at: usize| bytes.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let ip = match half(12) {
        Some(IPV4) => 14,
        Some(VLAN) if half(16) == Some(IPV4) => 18,
        _ => return NOT_IPV4,
    };
    let Some(header) = bytes.get(ip..ip + 20).filter(|header| (0x45..=0x4f).contains(&header[0])) else {
        return NOT_IPV4;
    };
    let tcp = ip + usize::from(header[0] & 15) * 4;
    match bytes.get(tcp..tcp + 20) {
        Some(tcp) if header[9] == TCP => {
            if tcp[13] & SYN != 0 {
                TCP_SYN
            } else {
                TCP_OTHER
            }
        }
        _ => IPV4_OTHER,
    }
}

fn run(vm: &mut Machine, bytes: &[u8]) -> Result<Outcome, Box<dyn std::error::Error>> {
    Ok(vm.run("xdp_count", Packet::new(bytes))?)
}

/// Packets and bytes of each class on one CPU.
fn counters(vm: &mut Machine, cpu: usize) -> Result<Vec<[u64; 2]>, Box<dyn std::error::Error>> {
    let map = vm.map("counters")?;
    (0..4_u32).map(|class| Ok(map.get_percpu::<u32, [u64; 2]>(&class)?.ok_or("no class")?[cpu])).collect()
}

/// Runs one packet on fresh machines: it must pass, and count for this class only.
#[track_caller]
fn assert_class(frame: &Frame, class: usize) {
    let result = try_on_every_engine(&fixture("xdp_count.bpf.o"), |vm| {
        assert_eq!(run(vm, &frame.0)?.ret, Ok(XDP_PASS));
        let mut expected = [[0; 2]; 4];
        expected[class] = [1, frame.0.len() as u64];
        assert_eq!(counters(vm, 0)?, expected);
        Ok(())
    });
    assert!(result.is_ok(), "{result:?}");
    assert_eq!(class_of(&frame.0), class, "the test's own classes");
}

#[test]
fn other_ethernet_types_are_not_ipv4() {
    assert_class(&Frame::ethernet(IPV6).and([0x60; 40]), NOT_IPV4);
    assert_class(&Frame::ethernet(0x0806).and([0; 28]), NOT_IPV4);
    // In the other byte order it would be IPv4.
    assert_class(&Frame::ethernet(IPV4.swap_bytes()).ipv4(TCP, 0).tcp(PORT, SYN), NOT_IPV4);
}

#[test]
fn a_bad_ip_version_or_length_is_not_ipv4() {
    for first in [0x35, 0x55, 0x65, 0x40, 0x44, 0x00, 0xff] {
        let mut frame = syn();
        frame.0[14] = first;
        assert_class(&frame, NOT_IPV4);
    }
}

#[test]
fn other_protocols_are_other_ipv4() {
    for protocol in [0, 1, UDP, 41, 255] {
        assert_class(&Frame::ethernet(IPV4).ipv4(protocol, 0).and([0; 20]), IPV4_OTHER);
    }
}

#[test]
fn tcp_is_told_by_its_syn_flag() {
    for (flags, class) in [(SYN, TCP_SYN), (SYN | ACK, TCP_SYN), (ACK, TCP_OTHER), (0, TCP_OTHER), (0xff, TCP_SYN)] {
        assert_class(&Frame::ethernet(IPV4).ipv4(TCP, 0).tcp(PORT, flags), class);
    }
}

#[test]
fn ip_options_are_skipped() {
    for options in 0..=10 {
        assert_class(&Frame::ethernet(IPV4).ipv4(TCP, options).tcp(PORT, SYN), TCP_SYN);
    }
}

#[test]
fn one_vlan_tag_is_skipped_and_no_second() {
    assert_class(&Frame::ethernet(VLAN).vlan(IPV4).ipv4(TCP, 2).tcp(PORT, SYN), TCP_SYN);
    assert_class(&Frame::ethernet(VLAN).vlan(IPV6).and([0; 40]), NOT_IPV4);
    assert_class(&Frame::ethernet(VLAN).vlan(VLAN).vlan(IPV4).ipv4(TCP, 0).tcp(PORT, SYN), NOT_IPV4);
}

#[test]
fn every_truncation_passes_and_counts_by_what_is_left() {
    let frames = [
        syn(),
        Frame::ethernet(VLAN).vlan(IPV4).ipv4(TCP, 10).tcp(PORT, ACK).and([7; 5]),
        Frame::ethernet(IPV4).ipv4(UDP, 1).and([0; 8]),
        Frame::ethernet(IPV6).and([0; 40]),
    ];
    for Frame(bytes) in frames {
        for len in 0..=bytes.len() {
            let cut = &bytes[..len];
            assert_class(&Frame(cut.to_vec()), class_of(cut));
        }
    }
}

#[test]
fn tcp_to_the_blocked_port_is_dropped_and_counted() -> TestResult {
    try_on_every_engine(&fixture("xdp_count.bpf.o"), |vm| {
        vm.map(".rodata")?.insert(&0_u32, &PORT)?;
        for (frame, action) in [
            (syn(), XDP_DROP),
            (Frame::ethernet(IPV4).ipv4(TCP, 3).tcp(PORT, ACK), XDP_DROP),
            (Frame::ethernet(IPV4).ipv4(TCP, 0).tcp(PORT + 1, SYN), XDP_PASS),
            (Frame::ethernet(IPV4).ipv4(TCP, 0).tcp(PORT.swap_bytes(), SYN), XDP_PASS),
            (Frame::ethernet(IPV4).ipv4(UDP, 0).tcp(PORT, 0), XDP_PASS),
        ] {
            assert_eq!(run(vm, &frame.0)?.ret, Ok(action));
        }
        let packets: Vec<u64> = counters(vm, 0)?.iter().map(|counter| counter[0]).collect();
        assert_eq!(packets, [0, 1, 3, 1]);
        Ok(())
    })
}

#[test]
fn port_zero_blocks_nothing() -> TestResult {
    try_on_every_engine(&fixture("xdp_count.bpf.o"), |vm| {
        assert_eq!(run(vm, &Frame::ethernet(IPV4).ipv4(TCP, 0).tcp(0, SYN).0)?.ret, Ok(XDP_PASS));
        Ok(())
    })
}

#[test]
fn a_truncated_packet_to_the_blocked_port_passes() -> TestResult {
    try_on_every_engine(&fixture("xdp_count.bpf.o"), |vm| {
        vm.map(".rodata")?.insert(&0_u32, &PORT)?;
        let Frame(bytes) = syn();
        for len in 0..bytes.len() {
            assert_eq!(run(vm, &bytes[..len])?.ret, Ok(XDP_PASS), "{len} bytes");
        }
        assert_eq!(run(vm, &bytes)?.ret, Ok(XDP_DROP));
        Ok(())
    })
}

#[test]
fn each_cpu_counts_for_itself() {
    let two_cpus = || Config { cpus: 2, ..Config::default() };
    on_every_engine_with(&fixture("xdp_count.bpf.o"), two_cpus, |mut vm| {
        let mut test = || -> TestResult {
            for (cpu, packets) in [(0, 3), (1, 5), (0, 4)] {
                vm.world.cpu = cpu;
                for _ in 0..packets {
                    run(&mut vm, &syn().0)?;
                }
            }
            assert_eq!(counters(&mut vm, 0)?[TCP_SYN], [7, 7 * 54]);
            assert_eq!(counters(&mut vm, 1)?[TCP_SYN], [5, 5 * 54]);
            Ok(())
        };
        test().unwrap_or_else(|error| panic!("{error}"));
    });
}

#[test]
fn the_packet_and_its_context_stay_as_they_are() -> TestResult {
    try_on_every_engine(&fixture("xdp_count.bpf.o"), |vm| {
        let first = run(vm, &syn().0)?;
        assert_eq!(first.packet, Some(syn().0));
        assert_eq!(run(vm, &syn().0)?, first);
        Ok(())
    })
}

#[test]
fn context_fields_hold_guest_addresses_of_the_packet() -> TestResult {
    try_on_every_engine(&fixture("xdp_count.bpf.o"), |vm| {
        let outcome = vm.run("xdp_count", Packet::new([0; 100]).ifindex(7).queue(3))?;
        let field = |index: usize| {
            let bytes = outcome.context[index * 4..].first_chunk().copied();
            u32::from_le_bytes(bytes.unwrap_or_default())
        };
        assert_eq!(field(1) - field(0), 100);
        assert_eq!([field(2), field(3), field(4)], [field(0), 7, 3]);
        Ok(())
    })
}
