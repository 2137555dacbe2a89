//! Small pieces of text: styles, counts, bytes, and a line of a file with a caret under it.

use std::io::{self, Write};

/// Colours. Whether they are shown is decided where they are written.
pub(crate) mod style {
    use std::fmt;

    use anstyle::{AnsiColor, Style};

    /// Text in a style.
    pub(crate) struct Painted<T>(Style, T);

    impl<T: fmt::Display> fmt::Display for Painted<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{}{}{:#}", self.0, self.1, self.0)
        }
    }

    /// What went wrong.
    pub(crate) fn error<T: fmt::Display>(text: T) -> Painted<T> {
        Painted(AnsiColor::Red.on_default().bold(), text)
    }

    /// The frame around an excerpt.
    pub(crate) fn frame<T: fmt::Display>(text: T) -> Painted<T> {
        Painted(AnsiColor::Blue.on_default().bold(), text)
    }

    /// Names of what follows.
    pub(crate) fn title<T: fmt::Display>(text: T) -> Painted<T> {
        Painted(Style::new().bold(), text)
    }
}

/// Text out of a file, without what a terminal would obey.
pub(crate) fn clean(text: &str) -> String {
    let visible = |found: char| match found {
        '\t' => ' ',
        // What turns text around hides what it says, and rustc refuses it in comments.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        found if found.is_control() => '\u{fffd}',
        found => found,
    };
    text.chars().map(visible).collect()
}

/// Characters of a line that an excerpt shows at most.
const EXCERPT: usize = 120;

/// A line of a file, and a caret under a column (from 1; 0 for none), as compilers show it.
pub(crate) fn excerpt(writer: &mut dyn Write, place: &str, number: usize, text: &str, column: usize) -> io::Result<()> {
    let number = number.to_string();
    let gutter = number.len();
    writeln!(writer, "{:gutter$}{} {}", "", style::frame("-->"), clean(place))?;
    let indent = text.chars().take_while(|found| found.is_whitespace()).count();
    // A line of generated code may be very long.
    let skipped = if column.saturating_sub(indent) > EXCERPT { column - EXCERPT / 2 } else { indent };
    let shown: String = text.trim_end().chars().skip(skipped).take(EXCERPT).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let bar = style::frame("|");
    writeln!(writer, "{:gutter$} {bar}", "")?;
    writeln!(writer, "{} {bar} {}", style::frame(&number), clean(&shown))?;
    if column > skipped {
        writeln!(writer, "{:gutter$} {bar} {:2$}{3}", "", "", column - skipped - 1, style::error("^"))?;
    }
    Ok(())
}

/// `1 byte`, `2 bytes`.
pub(crate) fn bytes(count: u64) -> String {
    plural(count, "byte")
}

/// `1 element`, `2 elements`.
pub(crate) fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// `00 11 22`.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if !text.is_empty() {
            text.push(' ');
        }
        text.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('?')));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, column: usize) -> String {
        let mut out = Vec::new();
        excerpt(&mut out, "f.s:7", 7, text, column).unwrap();
        anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string()
    }

    #[test]
    fn excerpts_point_at_columns() {
        assert_eq!(shown("\tr1 = r99", 7), " --> f.s:7\n  |\n7 | r1 = r99\n  |      ^\n");
        assert_eq!(shown("exit", 0), " --> f.s:7\n  |\n7 | exit\n");
        assert_eq!(shown("", 3), " --> f.s:7\n");
        assert_eq!(shown("\x1b[31m", 6).lines().nth(2), Some("7 | \u{fffd}[31m"));
        let long = "x".repeat(1_000_000);
        assert!(shown(&long, 999_999).len() < 400);
    }

    #[test]
    fn bytes_are_counted() {
        assert_eq!((bytes(1), bytes(2), hex(&[0, 0xff])), ("1 byte".into(), "2 bytes".into(), "00 ff".into()));
    }
}
