//! Inputs to begin with: small valid packets, so that parsers are not left at the first header.
//!
//! Checksums are right. Addresses are those that RFC 5737 and RFC 3849 set aside for documentation.

use softbpf::context::ContextKind;
use softbpf::program_type::ProgramType;

use super::input::{Data, Input};

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_QINQ: u16 = 0x88a8;
const ETHERTYPE_IPV6: u16 = 0x86dd;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const DESTINATION: u8 = 60;

/// What to begin with, for a program that takes what `base` has: the base itself, and variants of its data.
pub fn seeds(base: &Input, program_type: ProgramType) -> Vec<Input> {
    let with = |data: Data| Input { data, ..base.clone() };
    let mut seeds = vec![base.clone()];
    match &base.data {
        Data::Packet { ifindex, queue, mark, .. } => {
            let (ifindex, queue, mark) = (*ifindex, *queue, *mark);
            seeds.extend(packets().into_iter().map(|bytes| with(Data::Packet { bytes, ifindex, queue, mark })));
        }
        Data::Registers(_) => {}
        Data::Bytes(bytes) => {
            seeds.push(with(Data::Bytes(vec![0; bytes.len()])));
            if ContextKind::of(program_type) == ContextKind::Bytes && program_type == ProgramType::Unspec {
                seeds.push(with(Data::Bytes(Vec::new())));
            }
        }
    }
    seeds
}

/// Packets of the protocols that programs know best.
pub fn packets() -> Vec<Vec<u8>> {
    let syn = tcp(0x02, &[2, 4, 5, 180, 1, 3, 3, 7]);
    let ack = tcp(0x10, &[]);
    let udp = udp(b"softbpf");
    let echo = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
    let arp = [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2];
    let extensions = [extension(DESTINATION), extension(UDP), udp.clone()].concat();
    vec![
        Vec::new(),
        vec![0; 64],
        ethernet(ETHERTYPE_IPV4, &ipv4(TCP, &[], &syn)),
        ethernet(ETHERTYPE_IPV4, &ipv4(TCP, &[1, 1, 1, 0], &ack)),
        ethernet(ETHERTYPE_IPV4, &ipv4(UDP, &[], &udp)),
        ethernet(ETHERTYPE_IPV4, &ipv4(ICMP, &[], &echo)),
        ethernet(ETHERTYPE_IPV6, &ipv6(TCP, &syn)),
        ethernet(ETHERTYPE_IPV6, &ipv6(UDP, &udp)),
        ethernet(ETHERTYPE_IPV6, &ipv6(ICMP6, &[128, 0, 0, 0, 0, 1, 0, 1])),
        ethernet(ETHERTYPE_IPV6, &ipv6(HOP_BY_HOP, &extensions)),
        ethernet(ETHERTYPE_VLAN, &vlan(ETHERTYPE_IPV4, &ipv4(UDP, &[], &udp))),
        ethernet(ETHERTYPE_QINQ, &vlan(ETHERTYPE_VLAN, &vlan(ETHERTYPE_IPV6, &ipv6(TCP, &ack)))),
        ethernet(ETHERTYPE_ARP, &arp),
    ]
}

fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

fn vlan(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut tagged = vec![0, 1];
    tagged.extend(ethertype.to_be_bytes());
    tagged.extend(payload);
    tagged
}

/// RFC 791. The length of the options is a multiple of 4.
fn ipv4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = (20 + options.len() + payload.len()) as u16;
    let mut header = vec![0x45 + options.len() as u8 / 4, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 1, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    header.extend(options);
    let checksum = checksum(&header);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    let pseudo = [&[192, 0, 2, 1, 192, 0, 2, 2, 0, protocol][..], &(payload.len() as u16).to_be_bytes()].concat();
    header.extend(with_checksum(protocol, &pseudo, payload));
    header
}

/// RFC 8200.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let address = |last| [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([next, 64]);
    header.extend(address(1));
    header.extend(address(2));
    let pseudo = [&header[8..40], &(payload.len() as u32).to_be_bytes(), &[0, 0, 0, next]].concat();
    header.extend(with_checksum(next, &pseudo, payload));
    header
}

/// An extension header of 8 bytes: padding.
fn extension(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

/// RFC 9293. The length of the options is a multiple of 4.
fn tcp(flags: u8, options: &[u8]) -> Vec<u8> {
    let mut header = vec![0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0];
    header.extend([0x50 + (options.len() as u8 / 4 * 16), flags, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend(options);
    header
}

/// RFC 768.
fn udp(payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x30, 0x39, 0, 53];
    header.extend((8 + payload.len() as u16).to_be_bytes());
    header.extend([0, 0]);
    header.extend(payload);
    header
}

/// The payload with the checksum of its protocol filled in.
fn with_checksum(protocol: u8, pseudo: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut payload = payload.to_vec();
    let place = match protocol {
        TCP => 16,
        UDP => 6,
        ICMP6 => 2,
        _ => return payload,
    };
    let sum = checksum(&[pseudo, &payload].concat());
    if let Some(place) = payload.get_mut(place..place + 2) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
    payload
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_right() {
        for packet in packets() {
            // With its own checksum, a header sums up to nothing.
            if packet.get(12..14) == Some(&[8, 0]) {
                let words = usize::from(packet[14] & 15);
                assert_eq!(checksum(&packet[14..14 + words * 4]), 0);
                assert_eq!(usize::from(u16::from_be_bytes([packet[16], packet[17]])), packet.len() - 14);
            }
        }
        // The example of RFC 1071, section 3.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
