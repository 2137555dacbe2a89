//! The programs' algorithms in Rust, on the same memory: the baseline where no C compiler is at hand.
//!
//! Plain loops in safe Rust, as `programs/*.bpf.c` has them; each source there says what it computes. They are called
//! through a pointer that the compiler cannot see through, so that nothing is computed in advance.

use std::hint::black_box;

/// What stands for the helper in all implementations that take native functions: the value that softbpf's default
/// task has.
pub const HELPER_RESULT: u64 = 1000 << 32 | 1000;

/// A program in native code.
pub type Native = fn(&mut [u8]) -> u64;

/// The native version of a program that takes memory.
pub fn find(name: &str) -> Option<Native> {
    Some(match name {
        "lcg" => lcg,
        "collatz" => collatz,
        "sieve" => sieve,
        "fnv1a" => fnv1a,
        "crc32" => crc32,
        "siphash" => siphash,
        "sha256" => sha256,
        "shellsort" => shellsort,
        "matmul" => matmul,
        "packets" => packets,
        "tcpsum" => tcpsum,
        "strings" => strings,
        "helper_calls" => helper_calls,
        "local_calls" => local_calls,
        "empty" => empty,
        "tracing" => tracing,
        "xdp_parse" => xdp_parse,
        _ => return None,
    })
}

fn words(mem: &mut [u8]) -> &mut [u32] {
    bytemuck::cast_slice_mut(mem)
}

fn step(state: u64) -> u64 {
    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

fn empty(_: &mut [u8]) -> u64 {
    0
}

fn lcg(mem: &mut [u8]) -> u64 {
    let longs: &[u64] = bytemuck::cast_slice(mem);
    let (mut state, mut sum) = (longs[0], 0_u64);
    for _ in 0..mem.len() * 32 {
        state = step(state);
        sum = sum.wrapping_add(state >> 32);
    }
    sum
}

fn collatz(mem: &mut [u8]) -> u64 {
    let words = words(mem);
    let (starts, lengths) = words.split_at_mut(words.len() / 2);
    let (mut longest, mut sum) = (0_u64, 0_u64);
    for (start, length) in starts.iter().zip(lengths) {
        let mut n = u64::from(*start & 0xffff) + 1;
        let mut steps = 0_u64;
        while n != 1 {
            n = if n & 1 == 1 { 3 * n + 1 } else { n / 2 };
            steps += 1;
        }
        *length = steps as u32;
        sum += steps;
        longest = longest.max(steps);
    }
    longest << 32 | u64::from(sum as u32)
}

fn sieve(mem: &mut [u8]) -> u64 {
    let (mut count, mut sum) = (0_u64, 0_u64);
    mem.fill(1);
    for i in 2..mem.len() {
        if mem[i] == 0 {
            continue;
        }
        count += 1;
        sum += i as u64;
        let mut k = i * i;
        while let Some(flag) = mem.get_mut(k) {
            *flag = 0;
            k += i;
        }
    }
    count << 32 | u64::from(sum as u32)
}

fn fnv1a(mem: &mut [u8]) -> u64 {
    mem.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

fn crc32(mem: &mut [u8]) -> u64 {
    let (table, data) = mem.split_at_mut(1024);
    let Ok(table): Result<&mut [u32; 256], _> = words(table).try_into() else { return 0 };
    for (i, entry) in (0..).zip(table.iter_mut()) {
        *entry = (0..8).fold(i, |word, _| if word & 1 == 1 { word >> 1 ^ 0xedb8_8320 } else { word >> 1 });
    }
    let crc = data.iter().fold(u32::MAX, |crc, byte| table[usize::from(crc as u8 ^ byte)] ^ crc >> 8);
    u64::from(!crc)
}

fn siphash(mem: &mut [u8]) -> u64 {
    let (key, messages) = mem.split_at(16);
    let key: &[u64] = bytemuck::cast_slice(key);
    let hash = |all: u64, message: &[u8]| all.rotate_left(1) ^ siphash_of(key[0], key[1], message);
    messages.chunks_exact(64).fold(0, hash)
}

fn siphash_of(k0: u64, k1: u64, message: &[u8]) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let longs: &[u64] = bytemuck::cast_slice(message);
    for &word in longs.iter().chain(&[64 << 56]) {
        v[3] ^= word;
        v = sip_round(sip_round(v));
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        v = sip_round(v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round([mut v0, mut v1, mut v2, mut v3]: [u64; 4]) -> [u64; 4] {
    v0 = v0.wrapping_add(v1);
    v1 = v1.rotate_left(13) ^ v0;
    v0 = v0.rotate_left(32);
    v2 = v2.wrapping_add(v3);
    v3 = v3.rotate_left(16) ^ v2;
    v0 = v0.wrapping_add(v3);
    v3 = v3.rotate_left(21) ^ v0;
    v2 = v2.wrapping_add(v1);
    v1 = v1.rotate_left(17) ^ v2;
    v2 = v2.rotate_left(32);
    [v0, v1, v2, v3]
}

fn sha256(mem: &mut [u8]) -> u64 {
    let (tables, message) = words(mem).split_at_mut(128);
    let (k, w) = tables.split_at_mut(64);
    let (Ok(k), Ok(w)): (Result<&[u32; 64], _>, Result<&mut [u32; 64], _>) = ((&*k).try_into(), w.try_into()) else {
        return 0;
    };
    let mut padding = [0; 16];
    padding[0] = 0x8000_0000_u32.swap_bytes();
    padding[15] = (message.len() as u32 * 32).swap_bytes();

    let mut h: [u32; 8] =
        [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
    for block in message.chunks_exact(16).chain([&padding[..]]) {
        compress(&mut h, k, w, block);
    }
    u64::from(h[0]) << 32 | u64::from(h[1])
}

fn compress(hash: &mut [u32; 8], k: &[u32; 64], w: &mut [u32; 64], block: &[u32]) {
    for (word, bytes) in w.iter_mut().zip(block) {
        *word = bytes.swap_bytes();
    }
    for i in 16..64 {
        let (s0, s1) = (w[i - 15], w[i - 2]);
        let s0 = s0.rotate_right(7) ^ s0.rotate_right(18) ^ s0 >> 3;
        let s1 = s1.rotate_right(17) ^ s1.rotate_right(19) ^ s1 >> 10;
        w[i] = w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *hash;
    for (k, w) in k.iter().zip(w) {
        let t = h
            .wrapping_add(e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25))
            .wrapping_add((e & f) ^ (!e & g))
            .wrapping_add(*k)
            .wrapping_add(*w);
        let u = (a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22)).wrapping_add((a & b) ^ (a & c) ^ (b & c));
        (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t), c, b, a, t.wrapping_add(u));
    }
    for (sum, word) in hash.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *sum = sum.wrapping_add(word);
    }
}

fn shellsort(mem: &mut [u8]) -> u64 {
    let words = words(mem);
    let mut state = 42;
    for word in &mut *words {
        state = step(state);
        *word = (state >> 32) as u32;
    }
    let mut gap = 1;
    while gap < words.len() / 3 {
        gap = 3 * gap + 1;
    }
    while gap > 0 {
        for i in gap..words.len() {
            let word = words[i];
            let mut at = i;
            while at >= gap && words[at - gap] > word {
                words[at] = words[at - gap];
                at -= gap;
            }
            words[at] = word;
        }
        gap /= 3;
    }
    words.iter().zip(1..).fold(0, |sum, (&word, place)| sum.wrapping_add(u64::from(word) * place))
}

fn matmul(mem: &mut [u8]) -> u64 {
    let mut n = 0;
    while 12 * (n + 1) * (n + 1) <= mem.len() {
        n += 1;
    }
    let (a, rest) = words(mem).split_at_mut(n * n);
    let (b, c) = rest.split_at_mut(n * n);
    let mut sum = 0_u64;
    for row in 0..n {
        for col in 0..n {
            let column = b[col..].iter().step_by(n);
            let products = a[row * n..][..n].iter().zip(column).map(|(a, b)| a.wrapping_mul(*b));
            let element = products.fold(0_u32, u32::wrapping_add);
            c[row * n + col] = element;
            sum = sum.wrapping_mul(31).wrapping_add(element.into());
        }
    }
    sum
}

const CLASSES: usize = 8;
const TOO_SHORT: usize = 0;
const NOT_IP: usize = 1;
const IPV4: usize = 2;
const IPV6: usize = 5;

fn net16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Class and flow of a packet.
fn parse(packet: &[u8]) -> (usize, u32) {
    let Some((ethernet, mut rest)) = packet.split_at_checked(14) else { return (TOO_SHORT, 0) };
    let mut ether_type = net16(ethernet, 12);
    for _ in 0..2 {
        if ether_type != 0x8100 && ether_type != 0x88a8 {
            break;
        }
        let Some((tag, behind)) = rest.split_at_checked(4) else { return (TOO_SHORT, 0) };
        (ether_type, rest) = (net16(tag, 2), behind);
    }
    let (class, protocol, mut flow, transport) = match ether_type {
        0x0800 => {
            let Some(header) = rest.get(..20) else { return (TOO_SHORT, 0) };
            let length = usize::from(header[0] & 15) * 4;
            if header[0] >> 4 != 4 || length < 20 {
                return (TOO_SHORT, 0);
            }
            let flow = long(header, 12) ^ long(header, 16);
            if net16(header, 6) & 0x1fff != 0 {
                return (IPV4, flow);
            }
            (IPV4, header[9], flow, rest.get(length..).unwrap_or_default())
        }
        0x86dd => {
            let Some((header, behind)) = rest.split_at_checked(40) else { return (TOO_SHORT, 0) };
            let flow = long(header, 8) ^ long(header, 20) ^ long(header, 24) ^ long(header, 36);
            (IPV6, header[6], flow, behind)
        }
        _ => return (NOT_IP, 0),
    };
    let more = match protocol {
        6 if transport.len() >= 20 => 1,
        17 if transport.len() >= 8 => 2,
        _ => return (class, flow),
    };
    flow ^= long(transport, 0);
    (class + more, flow)
}

fn packets(mem: &mut [u8]) -> u64 {
    let (counters, buffer) = mem.split_at_mut(CLASSES * 8);
    let counters: &mut [u64] = bytemuck::cast_slice_mut(counters);
    counters.fill(0);
    let mut flows = 0_u64;
    for pass in 0..8 {
        let mut rest = &*buffer;
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = usize::from(u16::from_le_bytes(*length));
            let Some(packet) = behind.get(..length).filter(|packet| !packet.is_empty()) else { break };
            let (class, flow) = parse(packet);
            counters[class] += length as u64;
            flows = flows.wrapping_add(u64::from(flow) + pass);
            rest = behind.get(length.next_multiple_of(2)..).unwrap_or_default();
        }
    }
    counters.iter().fold(0_u64, |sum, counter| sum.wrapping_mul(31).wrapping_add(*counter)).wrapping_add(flows)
}

fn tcpsum(mem: &mut [u8]) -> u64 {
    let (mut right, mut all) = (0_u64, 0_u64);
    let mut rest = &*mem;
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = u16::from_le_bytes(*length);
        let Some(packet) = behind.get(..length.into()).filter(|packet| packet.len() >= 40) else { break };
        let mut sum = u64::from(6_u16.swap_bytes()) + u64::from((length - 20).swap_bytes());
        // Addresses and segment, which follow each other.
        for word in packet[12..].chunks_exact(2) {
            sum += u64::from(u16::from_le_bytes([word[0], word[1]]));
        }
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        right += u64::from(sum == 0xffff);
        all += sum;
        rest = &behind[length.into()..];
    }
    right << 32 | u64::from(all as u32)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lexer {
    Between,
    Word,
    Number,
    String,
    Escape,
    Comment,
}

fn strings(mem: &mut [u8]) -> u64 {
    let (mut words, mut strings, mut comments, mut sum, mut number) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    let mut state = Lexer::Between;
    let is_word = |c: u8| c.is_ascii_alphabetic() || c == b'_';
    for &c in mem.iter().take_while(|&&c| c != 0) {
        match state {
            Lexer::String => {
                match c {
                    b'\\' => state = Lexer::Escape,
                    b'"' => state = Lexer::Between,
                    _ => {}
                }
                continue;
            }
            Lexer::Escape => {
                state = Lexer::String;
                continue;
            }
            Lexer::Comment => {
                if c == b'\n' {
                    state = Lexer::Between;
                }
                continue;
            }
            Lexer::Number if c.is_ascii_digit() => {
                number = number.wrapping_mul(10).wrapping_add(u64::from(c - b'0'));
                continue;
            }
            Lexer::Number => sum = sum.wrapping_add(number),
            Lexer::Word if is_word(c) || c.is_ascii_digit() => continue,
            Lexer::Word | Lexer::Between => {}
        }
        state = match c {
            b'"' => {
                strings += 1;
                Lexer::String
            }
            b'#' => {
                comments += 1;
                Lexer::Comment
            }
            _ if is_word(c) => {
                words += 1;
                Lexer::Word
            }
            _ if c.is_ascii_digit() => {
                number = u64::from(c - b'0');
                Lexer::Number
            }
            _ => Lexer::Between,
        };
    }
    if state == Lexer::Number {
        sum = sum.wrapping_add(number);
    }
    words << 48 | (strings & 0xffff) << 32 | (comments & 0xffff) << 16 | sum & 0xffff
}

/// The helper: an indirect call, as nobody knows helpers when they compile.
fn helper_calls(mem: &mut [u8]) -> u64 {
    let helper: fn() -> u64 = black_box(|| black_box(HELPER_RESULT));
    (0..mem.len() as u64).fold(0, |sum, i| sum.wrapping_add(helper() ^ i))
}

#[inline(never)]
fn inner(a: u64, b: u64) -> u64 {
    (a ^ b).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[inline(never)]
fn outer(a: u64, b: u64) -> u64 {
    inner(a, b).wrapping_add(inner(b, a >> 1))
}

fn local_calls(mem: &mut [u8]) -> u64 {
    (0..mem.len() as u64).fold(0, outer)
}

/// As a loop: what the C source has unrolled.
fn tracing(mem: &mut [u8]) -> u64 {
    let regs: &[u64] = bytemuck::cast_slice(mem);
    let mut kept = [0, 1, 2, 3, 4, 5, 6, 7];
    let mut hash = 0_u64;
    for n in 0..368 {
        let mut value = regs[n % 21];
        if value & 1 << (n % 31) != 0 {
            value = value.wrapping_add(kept[n % 8]);
        }
        hash = (hash ^ value).wrapping_mul(0x9e37_79b1).wrapping_add(n as u64);
        hash ^= hash >> 29;
        kept[n % 8] = hash;
    }
    hash
}

fn xdp_parse(mem: &mut [u8]) -> u64 {
    const DROP: u64 = 1;
    const PASS: u64 = 2;
    const TX: u64 = 3;
    match parse(mem) {
        (TOO_SHORT, _) => DROP,
        (class, flow) if class == IPV4 + 2 || class == IPV6 + 2 => {
            if flow & 1 == 1 {
                TX
            } else {
                DROP
            }
        }
        _ => PASS,
    }
}
