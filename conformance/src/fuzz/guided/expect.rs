//! [`Expectation`]: which results of a program are right, written as `ret in {1, 2}`.
//!
//! ```text
//! expectation = ("ret" | "r0") test
//! test        = ("==" | "!=" | "<" | "<=" | ">" | ">=") number
//!             | ["not"] "in" "{" number {"," number} "}"
//!             | ["not"] "in" number (".." | "..=") number
//! ```

use std::str::FromStr;

/// A condition on what a program returns.
///
/// `ret` is the low half of `r0` as a signed number: the `int` that programs are declared to return, and that the kernel
/// looks at. `r0` is all of it, unsigned.
///
/// ```
/// use softbpf_conformance::fuzz::guided::Expectation;
///
/// let verdicts: Expectation = "ret in {1, 2}".parse()?;
/// assert!(verdicts.holds(2) && !verdicts.holds(3));
/// let negative: Expectation = "ret < 0".parse()?;
/// assert!(negative.holds(0xffff_fff2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    whole: bool,
    negated: bool,
    allowed: Allowed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Allowed {
    Values(Vec<i128>),
    /// From the first to the last.
    Range(i128, i128),
}

/// Text that is no expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpectationError {
    /// It begins with something else.
    #[error("write ret (the int that it returns) or r0 first, not {found:?}")]
    Subject {
        /// What stands there.
        found: String,
    },
    /// No comparison follows.
    #[error("write ==, !=, <, <=, >, >=, in or not in behind it, not {found:?}")]
    Comparison {
        /// What stands there.
        found: String,
    },
    /// Neither a set nor a range.
    #[error("write {{1,2}} or 0..=4 behind in, not {found:?}")]
    Values {
        /// What stands there.
        found: String,
    },
    /// Not a number, nor a name that is known.
    #[error("{found:?} is not a number")]
    Number {
        /// What stands there.
        found: String,
    },
}

/// The value of a name, such as `XDP_PASS`.
pub type Names<'n> = &'n dyn Fn(&str) -> Option<i64>;

impl Expectation {
    /// Whether this `r0` is right.
    pub fn holds(&self, r0: u64) -> bool {
        let value = if self.whole { i128::from(r0) } else { i128::from(r0 as u32 as i32) };
        let is_among = match &self.allowed {
            Allowed::Values(values) => values.contains(&value),
            Allowed::Range(first, last) => (*first..=*last).contains(&value),
        };
        is_among != self.negated
    }

    /// Reads an expectation in which names may stand for numbers.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str, names: Names<'_>) -> Result<Expectation, ExpectationError> {
        let text = text.trim();
        let (whole, rest) = match (text.strip_prefix("ret"), text.strip_prefix("r0")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(ExpectationError::Subject { found: text.to_owned() }),
        };
        let (negated, allowed) = test(rest.trim_start(), names)?;
        let allowed = match allowed {
            Allowed::Values(values) => Allowed::Values(values.into_iter().map(|value| wrap(value, whole)).collect()),
            range @ Allowed::Range(..) => range,
        };
        Ok(Expectation { whole, negated, allowed })
    }
}

impl FromStr for Expectation {
    type Err = ExpectationError;

    fn from_str(text: &str) -> Result<Expectation, ExpectationError> {
        Expectation::parse(text, &|_| None)
    }
}

/// Equal numbers are equal bits: `ret == 0xffffffff` is `ret == -1`.
fn wrap(value: i128, whole: bool) -> i128 {
    if whole { i128::from(value as u64) } else { i128::from(value as u32 as i32) }
}

/// Whether the values are those that are wrong, and the values.
fn test(text: &str, names: Names<'_>) -> Result<(bool, Allowed), ExpectationError> {
    const MIN: i128 = i128::MIN;
    const MAX: i128 = i128::MAX;
    // The longer ones first.
    let comparison =
        ["==", "!=", "<=", ">=", "<", ">"].into_iter().find_map(|symbol| Some((symbol, text.strip_prefix(symbol)?)));
    if let Some((symbol, rest)) = comparison {
        let value = number(rest, names)?;
        return Ok(match symbol {
            "==" => (false, Allowed::Values(vec![value])),
            "!=" => (true, Allowed::Values(vec![value])),
            "<=" => (false, Allowed::Range(MIN, value)),
            ">=" => (false, Allowed::Range(value, MAX)),
            "<" => (false, Allowed::Range(MIN, value - 1)),
            _ => (false, Allowed::Range(value + 1, MAX)),
        });
    }
    let (negated, rest) = match text.strip_prefix("not ") {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    let among = rest.strip_prefix("in").filter(|rest| rest.starts_with([' ', '{']));
    let among = among.ok_or_else(|| ExpectationError::Comparison { found: text.to_owned() })?;
    Ok((negated, values(among.trim(), names)?))
}

fn values(text: &str, names: Names<'_>) -> Result<Allowed, ExpectationError> {
    if let Some(set) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return set.split(',').map(|value| number(value, names)).collect::<Result<_, _>>().map(Allowed::Values);
    }
    let Some((first, last)) = text.split_once("..") else {
        return Err(ExpectationError::Values { found: text.to_owned() });
    };
    let first = number(first, names)?;
    Ok(match last.strip_prefix('=') {
        Some(last) => Allowed::Range(first, number(last, names)?),
        None => Allowed::Range(first, number(last, names)? - 1),
    })
}

/// A number of at most 64 bits, decimal or `0x` hexadecimal, or a name.
fn number(text: &str, names: Names<'_>) -> Result<i128, ExpectationError> {
    let text = text.trim();
    let error = || ExpectationError::Number { found: text.to_owned() };
    if let Some(value) = names(text) {
        return Ok(value.into());
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let value = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => digits.parse(),
    };
    // `parse` takes a sign.
    let value = value.ok().filter(|_| !digits.contains(['+', '-'])).ok_or_else(error)?;
    Ok(if negative { -i128::from(value) } else { value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> Vec<u64> {
        let expectation = Expectation::parse(text, &|name| (name == "XDP_PASS").then_some(2));
        let expectation = expectation.unwrap_or_else(|error| panic!("{text}: {error}"));
        [0, 1, 2, 3, 4, 5, u32::MAX.into(), u64::MAX].into_iter().filter(|&value| expectation.holds(value)).collect()
    }

    #[test]
    fn results_are_allowed_one_by_one_or_as_a_range() {
        const MINUS: u64 = u32::MAX as u64;
        assert_eq!(holds("ret == 2"), [2]);
        assert_eq!(holds("ret==XDP_PASS"), [2]);
        assert_eq!(holds("ret != 0"), [1, 2, 3, 4, 5, MINUS, u64::MAX]);
        assert_eq!(holds("ret < 2"), [0, 1, MINUS, u64::MAX]);
        assert_eq!(holds("ret >= 4"), [4, 5]);
        assert_eq!(holds("ret > 4"), [5]);
        assert_eq!(holds("ret <= -1"), [MINUS, u64::MAX]);
        assert_eq!(holds("ret in {1,XDP_PASS}"), [1, 2]);
        assert_eq!(holds("ret in{ 0xffffffff }"), [MINUS, u64::MAX]);
        assert_eq!(holds(" ret  in 0..=3 "), [0, 1, 2, 3]);
        assert_eq!(holds("ret in 0..3"), [0, 1, 2]);
        assert_eq!(holds("ret not in 0..=5"), [MINUS, u64::MAX]);
        assert_eq!(holds("r0 == 0xffffffff"), [MINUS]);
        assert_eq!(holds("r0 == -1"), [u64::MAX]);
        assert_eq!(holds("r0 > 5"), [MINUS, u64::MAX]);
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "2",
            "ret",
            "ret = 2",
            "ret ==",
            "ret == x",
            "ret == 1 2",
            "ret in",
            "ret in {}",
            "ret in {1",
            "ret in 1",
            "ret in 1..",
            "ret into {1}",
            "ret == --1",
            "ret == +1",
            "ret == 99999999999999999999",
            "retin {1}x",
        ] {
            assert!(text.parse::<Expectation>().is_err(), "{text}");
        }
    }
}
