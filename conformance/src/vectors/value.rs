//! Values of a case: numbers, bytes, traps and reasons.

use super::error::At;
use super::limits::{Budget, MAX_BYTES};
use crate::case::{End, REASONS, TRAP_NAMES};

/// A value with the place that it stands at.
#[derive(Debug, Clone)]
pub(super) struct Value {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) text: String,
}

impl Value {
    pub(super) fn expected(&self, expected: &'static str) -> At {
        At::expected(self.line, self.column, expected, &self.text)
    }

    /// A number of 64 bits, decimal or hex, signed or a bit pattern.
    pub(super) fn number(&self) -> Result<u64, At> {
        let error = || self.expected("a number of 64 bits");
        let (negative, digits) = match self.text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, self.text.as_str()),
        };
        let magnitude = match digits.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let magnitude = magnitude.map_err(|_| error())?;
        if negative && magnitude > 1 << 63 {
            return Err(error());
        }
        Ok(if negative { magnitude.wrapping_neg() } else { magnitude })
    }

    /// A number that fits a `usize`.
    pub(super) fn size(&self) -> Result<usize, At> {
        usize::try_from(self.number()?).map_err(|_| self.expected("a smaller number"))
    }

    /// Bytes: pairs of hex digits, with or without blanks between them; `00*16` is sixteen times the same.
    pub(super) fn bytes(&self, budget: &mut Budget) -> Result<Vec<u8>, At> {
        let mut bytes = Vec::new();
        for word in self.text.split_whitespace() {
            let error = || self.expected("bytes: pairs of hex digits, or 00*16");
            let (digits, times) = match word.split_once('*') {
                Some((digits, times)) => (digits, times.parse().map_err(|_| error())?),
                None => (word, 1),
            };
            let unit = hex(digits).ok_or_else(error)?;
            if unit.len().saturating_mul(times) + bytes.len() > MAX_BYTES {
                return Err(self.expected("fewer bytes"));
            }
            budget.take(self.line, self.column, unit.len() * times)?;
            bytes.extend(unit.repeat(times));
        }
        Ok(bytes)
    }

    /// `out of bounds at 3`.
    pub(super) fn trap(&self) -> Result<End, At> {
        let (name, slot) = self.named(TRAP_NAMES, "the name of a trap, `at`, and a slot")?;
        Ok(End::Traps(name, slot))
    }

    /// `reserved imm at 3`.
    pub(super) fn rejection(&self) -> Result<End, At> {
        let (name, slot) = self.named(REASONS, "a reason, `at`, and a slot")?;
        Ok(End::Rejected(name, slot))
    }

    fn named(&self, names: &[&str], expected: &'static str) -> Result<(String, usize), At> {
        let error = || self.expected(expected);
        let (name, slot) = self.text.rsplit_once(" at ").ok_or_else(error)?;
        let slot = slot.trim().parse().map_err(|_| error())?;
        let name = name.trim();
        if names.contains(&name) { Ok((name.to_owned(), slot)) } else { Err(error()) }
    }
}

/// Pairs of hex digits without blanks.
pub(crate) fn hex(digits: &str) -> Option<Vec<u8>> {
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect()
}
