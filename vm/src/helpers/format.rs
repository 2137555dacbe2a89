//! The format strings of `bpf_trace_printk`.
//!
//! Conversions: `%d %i %u %x %X` with `l` and `ll`, `%c %s %p`, with the flags `0 + -` and space, and a width; `%pks` and
//! `%pus` are kernel and user strings, `%pi4 %pI4 %pi6 %pI6` addresses, `%ps %pS %pB` symbols, of which none are
//! known; `%p` and `%pK` are not hashed but printed as `%px`. Source: `bpf_bprintf_prepare` in `kernel/bpf/helpers.c`,
//! `lib/vsprintf.c`.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::errno::Errno;
use crate::memory::Memory;

/// Longest string that a `%s` prints: the kernel's buffer for one.
const MAX_STRING: u64 = 512;

/// Longest line: the kernel's `BPF_TRACE_PRINTK_SIZE`.
const MAX_LINE: usize = 1024;

/// Widest field that is padded; the kernel's line would be cut long before.
const MAX_WIDTH: usize = MAX_LINE;

/// One conversion specification.
#[derive(Debug, Default, Clone, Copy)]
struct Spec {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    width: usize,
    /// 0: int, 1: long, 2: long long.
    longs: u8,
}

/// The bytes of a line, and how many there would be were lines not cut to their longest.
///
/// # Errors
/// -EINVAL, as in the kernel: the format has no NUL, a conversion that does not exist, more than the
/// three arguments, or control characters.
pub(super) fn format(format: &[u8], args: &[u64], memory: &Memory) -> Result<(Vec<u8>, u64), Errno> {
    let end = format.iter().position(|&byte| byte == 0).ok_or(Errno::EINVAL)?;
    let mut args = args.iter().copied();
    let mut out = Vec::new();
    let mut rest = format[..end].iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            if byte.is_ascii_control() && !is_space(byte) {
                return Err(Errno::EINVAL);
            }
            out.push(byte);
            continue;
        }
        if rest.next_if_eq(&b'%').is_some() {
            out.push(b'%');
            continue;
        }
        let arg = args.next().ok_or(Errno::EINVAL)?;
        let spec = parse_spec(&mut rest);
        let text = match rest.next().ok_or(Errno::EINVAL)? {
            b'p' => pointer(&mut rest, spec, arg, memory)?,
            b's' if spec.longs == 0 => string(&mut rest, spec, arg, memory)?,
            b'c' if spec.longs == 0 => pad(vec![arg as u8], spec, false),
            b'd' | b'i' => signed(spec, arg),
            b'u' => unsigned(spec, arg, |value| value.to_string()),
            b'x' => unsigned(spec, arg, |value| format!("{value:x}")),
            b'X' => unsigned(spec, arg, |value| format!("{value:X}")),
            _ => return Err(Errno::EINVAL),
        };
        out.extend(text);
    }
    let len = out.len() as u64;
    out.truncate(MAX_LINE - 1);
    Ok((out, len))
}

/// The kernel's `isspace`, for ASCII.
fn is_space(byte: u8) -> bool {
    matches!(byte, b'\t'..=b'\r' | b' ')
}

/// Whether a conversion ends here: at the format's end, a space or punctuation.
fn at_end(rest: &mut Bytes<'_>) -> bool {
    rest.peek().is_none_or(|&byte| is_space(byte) || byte.is_ascii_punctuation())
}

type Bytes<'b> = std::iter::Peekable<std::iter::Copied<std::slice::Iter<'b, u8>>>;

fn parse_spec(rest: &mut Bytes<'_>) -> Spec {
    let mut spec = Spec::default();
    while let Some(flag) = rest.next_if(|byte| b"-0+ ".contains(byte)) {
        match flag {
            b'-' => spec.left = true,
            b'0' => spec.zero = true,
            b'+' => spec.plus = true,
            _ => spec.space = true,
        }
    }
    spec.width = number(rest).unwrap_or(0);
    while spec.longs < 2 && rest.next_if_eq(&b'l').is_some() {
        spec.longs += 1;
    }
    spec
}

fn number(rest: &mut Bytes<'_>) -> Option<usize> {
    let mut value = None;
    while let Some(digit) = rest.next_if(u8::is_ascii_digit) {
        value = Some((value.unwrap_or(0) * 10 + usize::from(digit - b'0')).min(MAX_WIDTH));
    }
    value
}

fn pad(text: impl Into<Vec<u8>>, spec: Spec, numeric: bool) -> Vec<u8> {
    let text = text.into();
    let missing = spec.width.saturating_sub(text.len());
    if spec.left {
        [text, vec![b' '; missing]].concat()
    } else if spec.zero && numeric {
        let sign = text.iter().take_while(|byte| b"-+ ".contains(byte)).count();
        [&text[..sign], &vec![b'0'; missing], &text[sign..]].concat()
    } else {
        [vec![b' '; missing], text].concat()
    }
}

fn signed(spec: Spec, arg: u64) -> Vec<u8> {
    let value = if spec.longs == 0 { i64::from(arg as i32) } else { arg as i64 };
    let sign = match value {
        i64::MIN..0 => "-",
        _ if spec.plus => "+",
        _ if spec.space => " ",
        _ => "",
    };
    pad(format!("{sign}{}", value.unsigned_abs()), spec, true)
}

fn unsigned(spec: Spec, arg: u64, to_text: impl Fn(u64) -> String) -> Vec<u8> {
    let value = if spec.longs == 0 { u64::from(arg as u32) } else { arg };
    pad(to_text(value), spec, true)
}

/// The string at an address; empty when it runs into a fault, as `bpf_trace_copy_string` leaves it.
fn string(rest: &mut Bytes<'_>, spec: Spec, addr: u64, memory: &Memory) -> Result<Vec<u8>, Errno> {
    if !at_end(rest) {
        return Err(Errno::EINVAL);
    }
    let bytes = memory.read_up_to(addr, MAX_STRING - 1);
    let end = match bytes.iter().position(|&byte| byte == 0) {
        Some(end) => end,
        None if bytes.len() as u64 == MAX_STRING - 1 => bytes.len(),
        None => 0,
    };
    Ok(pad(&bytes[..end], spec, false))
}

/// What may follow `%p`.
fn pointer(rest: &mut Bytes<'_>, spec: Spec, arg: u64, memory: &Memory) -> Result<Vec<u8>, Errno> {
    let plain = || if spec.width == 0 { format!("{arg:016x}").into() } else { pad(format!("{arg:x}"), spec, true) };
    if spec.longs > 0 {
        return Err(Errno::EINVAL);
    }
    if at_end(rest) {
        return Ok(plain());
    }
    match rest.next() {
        Some(b'x' | b'K') => Ok(plain()),
        Some(b's' | b'S' | b'B') => Ok(pad(format!("{arg:#x}"), spec, false)),
        Some(b'k' | b'u') if rest.next_if_eq(&b's').is_some() => string(rest, spec, arg, memory),
        Some(kind @ (b'i' | b'I')) => match rest.next() {
            Some(b'4') => Ok(ipv4(kind == b'I', read(memory, arg).into()).into()),
            Some(b'6') => Ok(ipv6(kind == b'I', read(memory, arg).into()).into()),
            _ => Err(Errno::EINVAL),
        },
        _ => Err(Errno::EINVAL),
    }
}

/// The bytes of an address; zeros where it cannot be read.
fn read<const N: usize>(memory: &Memory, addr: u64) -> [u8; N] {
    memory.read(addr, N as u64).ok().and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

/// `192.0.2.1` for `%pI4`, `192.000.002.001` for `%pi4`.
fn ipv4(short: bool, addr: Ipv4Addr) -> String {
    let [a, b, c, d] = addr.octets();
    if short { addr.to_string() } else { format!("{a:03}.{b:03}.{c:03}.{d:03}") }
}

/// All eight groups, with colons between them for `%pI6`, without for `%pi6`.
fn ipv6(colons: bool, addr: Ipv6Addr) -> String {
    let groups = addr.segments().map(|group| format!("{group:04x}"));
    groups.join(if colons { ":" } else { "" })
}
