//! What the programs work on: memory, made by rule, the same everywhere. Knows no program's instructions.

/// Pseudo-random numbers for inputs: Knuth's MMIX generator.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 32
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Bytes without a pattern.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    Random(1).bytes(len)
}

/// Constants of SHA-256, room for its schedule, and a message.
pub(crate) fn sha256(message: usize) -> Vec<u8> {
    let constants = primes().take(64).map(|prime| cube_root_fraction(prime).to_le_bytes());
    let mut memory: Vec<u8> = constants.flatten().collect();
    memory.resize(512, 0);
    memory.extend(noise(message));
    memory
}

fn primes() -> impl Iterator<Item = u64> {
    (2_u64..).filter(|&n| (2..n).take_while(|d| d * d <= n).all(|d| n % d != 0))
}

/// The first 32 bits of the fraction of a number's cube root.
fn cube_root_fraction(number: u64) -> u32 {
    let scaled = u128::from(number) << 96;
    let (mut low, mut high) = (0_u128, 1_u128 << 40);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if middle * middle * middle <= scaled { low = middle } else { high = middle }
    }
    low as u32
}

const WORDS: [&str; 12] = [
    "int",
    "packet",
    "42",
    "1500",
    "\"a string\"",
    "\"an \\\" escape\"",
    "map_lookup",
    "0",
    "x9",
    "+",
    "{ }",
    "# note",
];

/// Text for the state machine: words, numbers, strings and comments.
pub(crate) fn text(len: usize) -> Vec<u8> {
    let mut random = Random(2);
    let mut text = Vec::new();
    while text.len() < len {
        let word = WORDS[random.below(WORDS.len() as u64) as usize];
        text.extend_from_slice(word.as_bytes());
        text.push(if word.starts_with('#') || random.below(8) == 0 { b'\n' } else { b' ' });
    }
    text.truncate(len);
    text
}

/// A set of packets: VLAN tags, IPv4 and IPv6, TCP, UDP and others, some cut off.
pub(crate) fn packets(count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(3);
    (0..count).map(|_| packet(&mut random)).collect()
}

fn packet(random: &mut Random) -> Vec<u8> {
    let mut packet = random.bytes(12);
    for tag in [0x88a8_u16, 0x8100] {
        if random.below(5) == 0 {
            packet.extend(tag.to_be_bytes());
            packet.extend(random.bytes(2));
        }
    }
    let protocol = [6, 6, 6, 17, 17, 1][random.below(6) as usize];
    match random.below(10) {
        0 => packet.extend(0x0806_u16.to_be_bytes()),
        1..=3 => {
            packet.extend(0x86dd_u16.to_be_bytes());
            let mut header = random.bytes(40);
            (header[0], header[6]) = (0x60, protocol);
            packet.extend(header);
        }
        _ => {
            packet.extend(0x0800_u16.to_be_bytes());
            let words = if random.below(8) == 0 { 7 } else { 5 };
            let mut header = random.bytes(words * 4);
            (header[0], header[9]) = (0x40 | words as u8, protocol);
            (header[6], header[7]) = if random.below(10) == 0 { (0, 9) } else { (0x40, 0) };
            packet.extend(header);
        }
    }
    packet.extend(random.bytes(20));
    let payload = random.below(60) as usize;
    packet.extend(random.bytes(payload));
    if random.below(12) == 0 {
        packet.truncate(30);
    }
    packet
}

/// Packets in one memory: room for counters, then each with its length in front.
pub(crate) fn packet_buffer(count: usize) -> Vec<u8> {
    let mut memory = vec![0; 64];
    for packet in packets(count) {
        append(&mut memory, &packet);
    }
    end(memory)
}

/// TCP segments behind IPv4 headers, with right checksums but for every fourth.
pub(crate) fn segments(count: usize, payload: usize) -> Vec<u8> {
    let mut random = Random(4);
    let mut memory = Vec::new();
    for number in 0..count {
        let mut packet = random.bytes(40 + payload);
        (packet[0], packet[9]) = (0x45, 6);
        packet[36..38].fill(0);
        let sum = checksum(&packet);
        packet[36..38].copy_from_slice(&sum.to_be_bytes());
        packet[39] ^= u8::from(number % 4 == 3);
        append(&mut memory, &packet);
    }
    end(memory)
}

/// The checksum that a TCP segment behind an IPv4 header of 20 bytes should have.
fn checksum(packet: &[u8]) -> u16 {
    let words = packet[12..].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let mut sum = words.sum::<u32>() + 6 + (packet.len() as u32 - 20);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn append(memory: &mut Vec<u8>, packet: &[u8]) {
    memory.extend((packet.len() as u16).to_le_bytes());
    memory.extend(packet);
    memory.resize(memory.len().next_multiple_of(2), 0);
}

/// An end, and whole words.
fn end(mut memory: Vec<u8>) -> Vec<u8> {
    memory.resize((memory.len() + 2).next_multiple_of(8), 0);
    memory
}
