//! A place in a text, and the smallest things that are read there: words, numbers, registers.
//!
//! Everything that reads skips blanks and `/* */` first, but never the end of a line (outside of such a
//! comment). Knows no instruction.

use super::error::{ParseError, ParseErrorKind};
use crate::insn::{Reg, Width};

/// How much of what was found an error shows.
const SHOWN_CHARS: usize = 24;

/// An error at a byte of the text; lines and columns are counted once it is certain.
#[derive(Debug)]
pub(super) struct Fault {
    at: usize,
    kind: ParseErrorKind,
}

impl Fault {
    pub(super) fn new(at: usize, kind: impl Into<ParseErrorKind>) -> Fault {
        Fault { at, kind: kind.into() }
    }

    pub(super) fn in_text(self, text: &str) -> ParseError {
        let before = &text[..self.at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ParseError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            kind: self.kind,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

fn starts_word(c: char) -> bool {
    c.is_ascii_alphabetic() || matches!(c, '_' | '.' | '$')
}

fn continues_word(c: char) -> bool {
    starts_word(c) || c.is_ascii_digit()
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Cursor<'a> {
        Cursor { text, at: 0 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// The rest of this line.
    pub(super) fn line(&self) -> &'a str {
        let rest = self.rest();
        &rest[..rest.find('\n').unwrap_or(rest.len())]
    }

    pub(super) fn skip_line(&mut self) {
        self.advance(self.line().len());
        if self.rest().starts_with('\n') {
            self.advance(1);
        }
    }

    /// Moves on by bytes, which must be whole characters.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Skips blanks and closed `/* */`.
    pub(super) fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start_matches(|c: char| c != '\n' && c.is_whitespace()).len();
            self.advance(blanks);
            let Some(comment) = self.rest().strip_prefix("/*") else { return };
            let Some(end) = comment.find("*/") else { return };
            self.advance(2 + end + 2);
        }
    }

    /// Where the next word, number or sign starts.
    pub(super) fn start_of_next(&mut self) -> usize {
        self.skip_blanks();
        self.at
    }

    /// Nothing but a comment follows on this line.
    pub(super) fn at_end_of_statement(&mut self) -> bool {
        self.skip_blanks();
        let rest = self.rest();
        rest.is_empty() || rest.starts_with(['\n', '#', ';']) || rest.starts_with("//")
    }

    /// Skips this text if it follows.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        self.skip_blanks();
        let found = self.rest().starts_with(token);
        if found {
            self.advance(token.len());
        }
        found
    }

    /// Skips this text, which must follow.
    pub(super) fn expect(&mut self, token: &'static str) -> Result<(), Fault> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(token)) }
    }

    /// The error that something else should stand here.
    pub(super) fn expected(&mut self, expected: &'static str) -> Fault {
        self.skip_blanks();
        if self.rest().starts_with("/*") {
            return Fault::new(self.at, ParseErrorKind::UnterminatedComment);
        }
        let found = self.line().chars().take(SHOWN_CHARS).collect();
        Fault::new(self.at, ParseErrorKind::Expected { expected, found })
    }

    /// The longest of these values whose symbol follows.
    pub(super) fn symbol<T: Copy>(&mut self, all: &[T], symbol: fn(T) -> &'static str) -> Option<T> {
        self.skip_blanks();
        let rest = self.rest();
        let found = all.iter().copied().filter(|&value| rest.starts_with(symbol(value)));
        let found = found.max_by_key(|&value| symbol(value).len())?;
        self.advance(symbol(found).len());
        Some(found)
    }

    /// A word: a mnemonic, a register, a name.
    pub(super) fn word(&mut self) -> Option<&'a str> {
        self.skip_blanks();
        let rest = self.rest();
        if !rest.starts_with(starts_word) {
            return None;
        }
        let word = &rest[..rest.find(|c| !continues_word(c)).unwrap_or(rest.len())];
        self.advance(word.len());
        Some(word)
    }

    /// Skips this word if it follows as a whole.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let mut ahead = *self;
        let found = ahead.word() == Some(word);
        if found {
            *self = ahead;
        }
        found
    }

    /// A register and the width that its letter says.
    pub(super) fn register(&mut self) -> Result<(Reg, Width), Fault> {
        self.try_register().ok_or_else(|| self.expected("a register: r0 to r10, or w0 to w10"))
    }

    pub(super) fn try_register(&mut self) -> Option<(Reg, Width)> {
        let mut ahead = *self;
        let register = named_register(ahead.word()?)?;
        *self = ahead;
        Some(register)
    }

    /// Whether a register follows.
    pub(super) fn at_register(&self) -> bool {
        let mut ahead = *self;
        ahead.try_register().is_some()
    }

    /// A register that must have this width.
    pub(super) fn register_of(&mut self, width: Width) -> Result<Reg, Fault> {
        let mut ahead = *self;
        match ahead.try_register() {
            Some((reg, found)) if found == width => {
                *self = ahead;
                Ok(reg)
            }
            _ => Err(self.expected(match width {
                Width::W32 => "a 32-bit register: w0 to w10",
                Width::W64 => "a 64-bit register: r0 to r10",
            })),
        }
    }

    /// Whether a number with or without sign follows.
    pub(super) fn at_number(&mut self) -> bool {
        self.skip_blanks();
        let rest = self.rest();
        rest.trim_start_matches(['+', '-', ' ', '\t']).starts_with(|c: char| c.is_ascii_digit())
    }

    /// A number in decimal or hex, with or without sign, within bounds.
    pub(super) fn number(&mut self, min: i128, max: i128) -> Result<i128, Fault> {
        let start = self.start_of_next();
        let negative = self.eat("-");
        if !negative {
            self.eat("+");
        }
        let magnitude = self.magnitude()?;
        let value = if negative { -magnitude } else { magnitude };
        if value < min || value > max {
            return Err(Fault::new(start, ParseErrorKind::NumberOutOfRange { min, max }));
        }
        Ok(value)
    }

    /// Digits; what is far out of every range becomes some number that is so too.
    fn magnitude(&mut self) -> Result<i128, Fault> {
        self.skip_blanks();
        let rest = self.rest();
        let (prefix, radix) = if rest.starts_with("0x") || rest.starts_with("0X") { (2, 16) } else { (0, 10) };
        let digits = &rest[prefix..];
        let digits = &digits[..digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len())];
        if digits.is_empty() {
            return Err(self.expected("a number"));
        }
        if radix == 10 && digits.len() > 1 && digits.starts_with('0') {
            return Err(Fault::new(self.at, ParseErrorKind::LeadingZero));
        }
        self.advance(prefix + digits.len());
        if self.rest().starts_with(continues_word) {
            return Err(self.expected("the end of a number"));
        }
        let significant = digits.trim_start_matches('0');
        if significant.is_empty() {
            return Ok(0);
        }
        // 32 hex digits fill 128 bits; no range reaches beyond 64.
        if significant.len() > 20 {
            return Ok(i128::MAX);
        }
        Ok(i128::from_str_radix(significant, radix).unwrap_or(i128::MAX))
    }

    /// A 32-bit immediate, signed or as a bit pattern.
    pub(super) fn imm32(&mut self) -> Result<i32, Fault> {
        self.number(i32::MIN.into(), u32::MAX.into()).map(|value| value as i32)
    }

    /// `+ 4` or `- 4`, also `+ -4`: a sign must stand there.
    pub(super) fn signed(&mut self, min: i128, max: i128) -> Result<i128, Fault> {
        let start = self.start_of_next();
        let sign = match (self.eat("+"), self.rest()) {
            (true, _) => 1,
            (false, rest) if rest.starts_with('-') => {
                self.advance(1);
                -1
            }
            (false, _) => return Err(self.expected("`+` or `-`")),
        };
        let value = sign * self.number(-max.max(-min), max.max(-min))?;
        if value < min || value > max {
            return Err(Fault::new(start, ParseErrorKind::NumberOutOfRange { min, max }));
        }
        Ok(value)
    }
}

fn named_register(word: &str) -> Option<(Reg, Width)> {
    let (number, width) = match (word.strip_prefix('r'), word.strip_prefix('w')) {
        (Some(number), _) => (number, Width::W64),
        (None, number) => (number?, Width::W32),
    };
    let reg = Reg::ALL.into_iter().find(|reg| number.parse() == Ok(reg.number()))?;
    // Not `r01` or `r+1`.
    (number.len() == if reg == Reg::R10 { 2 } else { 1 }).then_some((reg, width))
}
