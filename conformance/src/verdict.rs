//! Whether an answer is what the case expects, and whether two subjects agree.

use std::fmt;

use crate::case::{Case, End, Expect};
use crate::subject::{Answer, State};

/// What became of a case on a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Not as expected.
    Failed(Difference),
    /// The subject cannot be asked.
    Skipped {
        /// Why not.
        why: String,
    },
}

/// What was expected, and what came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What the case, or the oracle, says.
    pub expected: String,
    /// What the subject says.
    pub got: String,
}

impl Verdict {
    /// Why the subject could not be asked.
    pub fn skipped(&self) -> Option<&str> {
        match self {
            Verdict::Skipped { why } => Some(why),
            Verdict::Passed | Verdict::Failed(_) => None,
        }
    }

    /// What differs, if it failed.
    pub fn difference(&self) -> Option<&Difference> {
        match self {
            Verdict::Failed(difference) => Some(difference),
            Verdict::Passed | Verdict::Skipped { .. } => None,
        }
    }

    fn new(same: bool, expected: impl fmt::Display, got: impl fmt::Display) -> Verdict {
        if same {
            return Verdict::Passed;
        }
        Verdict::Failed(Difference { expected: expected.to_string(), got: got.to_string() })
    }
}

/// Compares an answer with what the case expects. What the subject cannot see is not held against it.
pub fn judge(case: &Case, answer: &Answer) -> Verdict {
    let expect = &case.expect;
    let same = match (&expect.end, answer) {
        (_, Answer::Skipped { why }) => return Verdict::Skipped { why: why.clone() },
        (_, Answer::Crashed { .. }) => false,
        (End::Returns(expected), Answer::Returned { r0, state }) => expected == r0 && fits(expect, state),
        (End::Traps(expected, at), Answer::Trapped { name, slot, state, .. }) => {
            expected == name && at == slot && fits(expect, state)
        }
        (End::Rejected(expected, at), Answer::Rejected { reason, slot, .. }) => expected == reason && at == slot,
        (End::Fails | End::Traps(..) | End::Rejected(..), Answer::Failed { .. })
        | (End::Fails, Answer::Trapped { .. } | Answer::Rejected { .. }) => true,
        (End::Returns(_), Answer::Trapped { .. } | Answer::Rejected { .. } | Answer::Failed { .. })
        | (End::Traps(..), Answer::Returned { .. } | Answer::Rejected { .. })
        | (End::Rejected(..), Answer::Returned { .. } | Answer::Trapped { .. })
        | (End::Fails, Answer::Returned { .. }) => false,
    };
    Verdict::new(same, expect, answer)
}

fn fits(expect: &Expect, state: &State) -> bool {
    let unknown_or = |seen: Option<bool>| seen.unwrap_or(true);
    unknown_or(expect.after.as_ref().zip(state.memory.as_ref()).map(|(expected, seen)| expected == seen))
        && unknown_or(expect.instructions.zip(state.instructions).map(|(expected, seen)| expected == seen))
}

/// Compares a subject's answer with that of another one. What either cannot see is not held against them.
pub fn compare(expected: &Answer, got: &Answer) -> Verdict {
    let same_state = |left: &State, right: &State| {
        left.memory.as_ref().zip(right.memory.as_ref()).is_none_or(|(left, right)| left == right)
            && left.instructions.zip(right.instructions).is_none_or(|(left, right)| left == right)
    };
    let same = match (expected, got) {
        (Answer::Skipped { why }, _) | (_, Answer::Skipped { why }) => return Verdict::Skipped { why: why.clone() },
        (Answer::Crashed { .. }, _) | (_, Answer::Crashed { .. }) => false,
        (Answer::Returned { r0: left, state: a }, Answer::Returned { r0: right, state: b }) => {
            left == right && same_state(a, b)
        }
        (
            Answer::Trapped { name: left, slot: left_slot, state: a, .. },
            Answer::Trapped { name: right, slot: right_slot, state: b, .. },
        ) => (left, left_slot) == (right, right_slot) && same_state(a, b),
        (
            Answer::Rejected { reason: left, slot: left_slot, .. },
            Answer::Rejected { reason: right, slot: right_slot, .. },
        ) => (left, left_slot) == (right, right_slot),
        (Answer::Failed { .. }, other) | (other, Answer::Failed { .. }) => !matches!(other, Answer::Returned { .. }),
        (Answer::Returned { .. }, Answer::Trapped { .. } | Answer::Rejected { .. })
        | (Answer::Trapped { .. }, Answer::Returned { .. } | Answer::Rejected { .. })
        | (Answer::Rejected { .. }, Answer::Returned { .. } | Answer::Trapped { .. }) => false,
    };
    Verdict::new(same, expected, got)
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            End::Returns(r0) => write!(f, "r0 = {r0:#x}")?,
            End::Traps(name, slot) => write!(f, "trap: {name} at {slot}")?,
            End::Rejected(reason, slot) => write!(f, "rejected: {reason} at {slot}")?,
            End::Fails => f.write_str("some error")?,
        }
        fmt_state(f, self.after.as_deref(), self.instructions)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Returned { r0, state } => {
                write!(f, "r0 = {r0:#x}")?;
                fmt_state(f, state.memory.as_deref(), state.instructions)
            }
            Answer::Trapped { name, slot, message, state } => {
                write!(f, "trap: {name} at {slot} ({message})")?;
                fmt_state(f, state.memory.as_deref(), state.instructions)
            }
            Answer::Rejected { reason, slot, message } => write!(f, "rejected: {reason} at {slot} ({message})"),
            Answer::Failed { message } => write!(f, "error: {message}"),
            Answer::Crashed { message } => write!(f, "crashed: {message}"),
            Answer::Skipped { why } => write!(f, "skipped: {why}"),
        }
    }
}

fn fmt_state(f: &mut fmt::Formatter<'_>, memory: Option<&[u8]>, instructions: Option<u64>) -> fmt::Result {
    if let Some(memory) = memory.filter(|memory| !memory.is_empty()) {
        f.write_str(", memory")?;
        memory.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
    }
    match instructions {
        Some(instructions) => write!(f, ", {instructions} instructions"),
        None => Ok(()),
    }
}
