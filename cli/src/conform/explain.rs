//! A failed case, instruction by instruction: what the subject did, up to where the oracle did something else.
//!
//! A plugin cannot be watched; the interpreter shows in its place what should have happened.

use std::io::{self, Write};

use softbpf_conformance::MakeEngine;
use softbpf_conformance::case::Case;
use softbpf_conformance::engine_named;
use softbpf_conformance::subject::{EngineSubject, Step, Subject};
use softbpf_conformance::verdict::Difference;

use crate::render::{clean, insn_text, style};

/// Steps that are recorded.
const MAX_STEPS: usize = 10_000;

/// Steps that are shown: the last ones.
const SHOWN: usize = 40;

/// Explains a failure.
pub(super) fn first(
    case: &Case,
    difference: &Difference,
    subject: &mut dyn Subject,
    oracle: Option<&mut (dyn Subject + 'static)>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut steps = subject.trace(case, MAX_STEPS);
    let mut whose = subject.name();
    if steps.is_empty() {
        let interpreter: Result<MakeEngine, _> = engine_named("interpreter");
        steps = interpreter.map(|make| EngineSubject::new(make).trace(case, MAX_STEPS)).unwrap_or_default();
        whose = "interpreter".to_owned();
    }
    if steps.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{} {}:{} on the {}", style::title("step by step:"), clean(&case.file), case.line, clean(&whose))?;
    let other = oracle.map(|oracle| (oracle.name(), oracle.trace(case, MAX_STEPS)));
    let differs = other.as_ref().and_then(|(_, other)| first_difference(&steps, other));
    let end = differs.map_or(steps.len(), |at| (at + 1).min(steps.len()));
    let start = end.saturating_sub(SHOWN);
    if start > 0 {
        writeln!(out, "  ... {start} instructions before")?;
    }
    for at in start..end {
        line(&steps, at, out)?;
    }
    if let (Some(at), Some((name, other))) = (differs, &other) {
        there(name, steps.get(at), other.get(at), out)?;
    }
    writeln!(out, "  expected  {}\n  got       {}", clean(&difference.expected), clean(&difference.got))
}

/// The first step before which the two are not the same.
fn first_difference(steps: &[Step], other: &[Step]) -> Option<usize> {
    if other.is_empty() {
        return None;
    }
    let same = steps.iter().zip(other).take_while(|(left, right)| left == right).count();
    (same < steps.len() || same < other.len()).then_some(same)
}

/// An instruction and the registers that it changed, which the next step shows.
fn line(steps: &[Step], at: usize, out: &mut dyn Write) -> io::Result<()> {
    let Some(step) = steps.get(at) else { return Ok(()) };
    let mut text = format!("  {:5}: {:44}", step.slot, insn_text(&step.insn, &[]));
    if let Some(next) = steps.get(at + 1) {
        for (number, (before, after)) in step.registers.iter().zip(&next.registers).enumerate() {
            if before != after {
                text.push_str(&format!(" r{number}={after:#x}"));
            }
        }
    }
    writeln!(out, "{}", text.trim_end())
}

/// What the other one has where the two part.
fn there(name: &str, step: Option<&Step>, other: Option<&Step>, out: &mut dyn Write) -> io::Result<()> {
    let (Some(step), Some(other)) = (step, other) else {
        return writeln!(out, "  here one of them ends, and the {name} is not with it");
    };
    if step.slot != other.slot {
        return writeln!(out, "  here the {name} is at slot {}", other.slot);
    }
    for (number, (left, right)) in step.registers.iter().zip(&other.registers).enumerate() {
        if left != right {
            writeln!(out, "  before it, the {name} has r{number}={right:#x}, not {left:#x}")?;
        }
    }
    Ok(())
}
