//! Numbers and bytes as they are written on the command line.

use std::str::FromStr;

/// Text that is no number, or no bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LiteralError {
    #[error("{text:?} is not a number: write 42, -42, 0x2a or 0b101010")]
    NotANumber { text: String },
    #[error("{text} is out of range: at least -2^63 and below 2^64")]
    OutOfRange { text: String },
    #[error("{found:?} is not a hexadecimal digit")]
    NotHex { found: char },
    #[error("an odd number of hexadecimal digits ({digits}): two are a byte")]
    OddDigits { digits: usize },
    #[error("expected {expected} {}, got {got}", if *expected == 1 { "byte" } else { "bytes" })]
    Size { expected: usize, got: usize },
    #[error("{value} does not fit into {size} {}", if *size == 1 { "byte" } else { "bytes" })]
    DoesNotFit { value: i128, size: usize },
}

/// A number, signed or unsigned, of at most 64 bits; `_` may stand between digits.
pub(crate) fn number(text: &str) -> Result<i128, LiteralError> {
    let not_a_number = || LiteralError::NotANumber { text: text.to_owned() };
    let out_of_range = || LiteralError::OutOfRange { text: text.to_owned() };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ => (10, digits),
    };
    let digits: String = digits.chars().filter(|&digit| digit != '_').collect();
    if digits.is_empty() || !digits.chars().all(|digit| digit.is_digit(radix)) {
        return Err(not_a_number());
    }
    let value = i128::from(u64::from_str_radix(&digits, radix).map_err(|_| out_of_range())?);
    let value = if negative { -value } else { value };
    if value < i64::MIN.into() { Err(out_of_range()) } else { Ok(value) }
}

/// A number as 64 bits; negative ones as two's complement.
pub(crate) fn number64(text: &str) -> Result<u64, LiteralError> {
    number(text).map(|value| value as u64)
}

/// A number from 0 to 2^32 - 1.
pub(crate) fn number32(text: &str) -> Result<u32, LiteralError> {
    let value = number(text)?;
    u32::try_from(value).map_err(|_| LiteralError::DoesNotFit { value, size: 4 })
}

/// Bytes as pairs of hexadecimal digits; white space and colons between them and `0x` before them are skipped.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, LiteralError> {
    let text = text.trim();
    let text = text.strip_prefix("0x").unwrap_or(text);
    let mut digits = Vec::new();
    for found in text.chars().filter(|found| !found.is_whitespace() && *found != ':') {
        let digit = found.to_digit(16).ok_or(LiteralError::NotHex { found })?;
        digits.push(digit as u8);
    }
    if digits.len() % 2 == 1 {
        return Err(LiteralError::OddDigits { digits: digits.len() });
    }
    Ok(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Bytes given as hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl FromStr for Hex {
    type Err = LiteralError;

    fn from_str(text: &str) -> Result<Hex, LiteralError> {
        hex(text).map(Hex)
    }
}

/// A value for a key, a map's value or a variable: a number of whatever size is needed, or bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Literal {
    /// Little-endian, and filled up: with zeros, or with ones if it is negative.
    Number(i128),
    /// Just these.
    Bytes(Vec<u8>),
}

/// How bytes are marked.
pub(crate) const BYTES: &str = "hex:";

/// A number of more hexadecimal digits than these is bytes in the order in which they are written.
const DIGITS: usize = 16;

impl FromStr for Literal {
    type Err = LiteralError;

    fn from_str(text: &str) -> Result<Literal, LiteralError> {
        if let Some(digits) = text.strip_prefix(BYTES) {
            return hex(digits).map(Literal::Bytes);
        }
        match text.strip_prefix("0x") {
            Some(digits) if digits.len() > DIGITS => hex(digits).map(Literal::Bytes),
            _ => number(text).map(Literal::Number),
        }
    }
}

impl Literal {
    /// As many bytes as are wanted.
    pub(crate) fn to_bytes(&self, size: usize) -> Result<Vec<u8>, LiteralError> {
        match self {
            Literal::Bytes(bytes) if bytes.len() == size => Ok(bytes.clone()),
            Literal::Bytes(bytes) => Err(LiteralError::Size { expected: size, got: bytes.len() }),
            Literal::Number(value) => {
                let does_not_fit = LiteralError::DoesNotFit { value: *value, size };
                let bits = size.min(8) * 8;
                let fits = *value < 1 << bits && *value >= -(1 << bits.saturating_sub(1));
                if size == 0 || !fits {
                    return Err(does_not_fit);
                }
                let mut bytes = vec![if *value < 0 { 0xff } else { 0 }; size];
                bytes.iter_mut().zip(value.to_le_bytes()).for_each(|(place, byte)| *place = byte);
                Ok(bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(number("42"), Ok(42));
        assert_eq!(number("-0x2a"), Ok(-42));
        assert_eq!(number("0b10_1010"), Ok(42));
        assert_eq!(number64("-1"), Ok(u64::MAX));
        assert_eq!(number64("0xffff_ffff_ffff_ffff"), Ok(u64::MAX));
        assert_eq!(
            number("18446744073709551616").unwrap_err().to_string(),
            "18446744073709551616 is out of range: at least -2^63 and below 2^64"
        );
        assert!(number("-9223372036854775809").is_err());
        for text in ["", "-", "0x", "12a", "é", "0xé", "+1", "--1", "0x-1"] {
            assert!(number(text).is_err(), "{text}");
        }
        assert!(number32("-1").is_err());
    }

    #[test]
    fn bytes() {
        assert_eq!(hex("0x00 11:fF"), Ok(vec![0, 0x11, 0xff]));
        assert_eq!(hex("123"), Err(LiteralError::OddDigits { digits: 3 }));
        assert_eq!(hex("1g"), Err(LiteralError::NotHex { found: 'g' }));
        assert_eq!(hex(""), Ok(vec![]));
    }

    #[test]
    fn literals_have_the_size_that_is_wanted() {
        let bytes = |text: &str, size| text.parse::<Literal>()?.to_bytes(size);
        assert_eq!(bytes("0x102", 4), Ok(vec![2, 1, 0, 0]));
        assert_eq!(bytes("-2", 2), Ok(vec![0xfe, 0xff]));
        assert_eq!(bytes("-2", 9), Ok([[0xfe].as_slice(), &[0xff; 8]].concat()));
        assert_eq!(bytes("255", 1), Ok(vec![255]));
        assert_eq!(bytes("256", 1), Err(LiteralError::DoesNotFit { value: 256, size: 1 }));
        assert_eq!(bytes("-129", 1), Err(LiteralError::DoesNotFit { value: -129, size: 1 }));
        assert_eq!(bytes("hex:01 02", 2), Ok(vec![1, 2]));
        assert_eq!(bytes("hex:01", 2), Err(LiteralError::Size { expected: 2, got: 1 }));
        assert_eq!(bytes("0x00112233445566778899", 10).unwrap()[1], 0x11);
        assert!(bytes("0", 0).is_err());
    }
}
