//! The string section of BTF: offsets to text, without copying.
//!
//! Knows nothing of types. Bytes that are not UTF-8 (comments in old source files) become `?`, one for one, so that
//! offsets stay valid.

use std::sync::Arc;

/// Offset of a string; 0 is the empty string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(pub u32);

impl Name {
    /// The empty string.
    pub const EMPTY: Name = Name(0);
}

/// Zero-terminated strings, addressed by [`Name`]; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strings(Arc<str>);

impl Default for Strings {
    fn default() -> Self {
        Strings("\0".into())
    }
}

impl Strings {
    /// Takes a string section; `None` unless it starts and ends with a zero.
    pub(crate) fn new(bytes: &[u8]) -> Option<Strings> {
        if bytes.first() != Some(&0) || bytes.last() != Some(&0) {
            return None;
        }
        let mut text = String::with_capacity(bytes.len());
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
        Some(Strings(text.into()))
    }

    /// Collects texts for [`Strings`] that no BTF has: the names to look them up by are the result of `push`.
    pub(crate) fn build(fill: impl FnOnce(&mut dyn FnMut(&str) -> Name)) -> Strings {
        let mut pool = String::from("\0");
        let mut known = std::collections::HashMap::new();
        fill(&mut |text| {
            *known.entry(text.to_owned()).or_insert_with(|| {
                let name = Name(pool.len() as u32);
                pool.push_str(text.split('\0').next().unwrap_or(""));
                pool.push('\0');
                name
            })
        });
        Strings(pool.into())
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There is nothing but the empty string.
    pub fn is_empty(&self) -> bool {
        self.len() <= 1
    }

    /// The text at an offset; empty when the offset is out of range or in the middle of a character.
    pub fn get(&self, name: Name) -> &str {
        self.tail(name).split('\0').next().unwrap_or("")
    }

    /// Whether the text at an offset is this one; does not read further than its length.
    pub fn is(&self, name: Name, text: &str) -> bool {
        self.tail(name).strip_prefix(text).is_some_and(|rest| rest.starts_with('\0'))
    }

    /// The text at an offset if it has at most `limit` bytes.
    pub(crate) fn get_short(&self, name: Name, limit: usize) -> Option<&str> {
        let tail = self.tail(name);
        let end = tail.bytes().take(limit.saturating_add(1)).position(|byte| byte == 0)?;
        tail.get(..end)
    }

    fn tail(&self, name: Name) -> &str {
        self.0.get(name.0 as usize..).unwrap_or("\0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_found_by_offset() {
        let strings = Strings::new(b"\0int\0caf\xe9\0\xc3\xa9\0").expect("a string section");
        assert_eq!(strings.get(Name(1)), "int");
        assert_eq!(strings.get(Name(2)), "nt");
        assert_eq!(strings.get(Name(5)), "caf?");
        assert_eq!(strings.get(Name(10)), "é");
        assert_eq!(strings.get(Name(11)), "", "in the middle of a character");
        assert_eq!(strings.get(Name(1000)), "");
        assert!(strings.is(Name(1), "int") && !strings.is(Name(1), "in"));
        assert_eq!(strings.get_short(Name(5), 4), Some("caf?"));
        assert_eq!(strings.get_short(Name(5), 3), None);
        assert_eq!(Strings::new(b"x\0"), None);
    }
}
