//! Dictionaries in the form that libFuzzer and AFL read: one word a line, in quotes.

use std::collections::BTreeSet;

/// A piece of input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Word(Vec<u8>);

impl Word {
    /// These bytes.
    pub fn bytes(bytes: &[u8]) -> Word {
        Word(bytes.to_vec())
    }

    /// This text.
    pub fn text(text: &str) -> Word {
        Word(text.as_bytes().to_vec())
    }

    /// The line of the dictionary.
    pub fn line(&self) -> String {
        let escaped: String = self.0.iter().map(|&byte| escape(byte)).collect();
        format!("\"{escaped}\"\n")
    }
}

fn escape(byte: u8) -> String {
    match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    }
}

/// Each word once, in their order; empty ones are none.
pub fn distinct(words: impl Iterator<Item = Word>) -> Vec<Word> {
    let words: BTreeSet<Word> = words.filter(|word| !word.0.is_empty()).collect();
    words.into_iter().collect()
}

/// The contents of a dictionary file.
pub fn file(words: &[Word]) -> String {
    words.iter().map(Word::line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plain_letter_is_escaped() {
        let words = [Word::text("s>>="), Word::bytes(&[0, 0x95, b'"', b'\\']), Word::text("s>>="), Word::text("")];
        assert_eq!(file(&distinct(words.into_iter())), "\"\\x00\\x95\\\"\\\\\"\n\"s>>=\"\n");
    }
}
