//! The report for people: what was compared, each finding with its program, and how fast it went.

use std::io::{self, Write};

use softbpf_conformance::fuzz::isa::{Finding, LONGEST, Program, Report};

use super::files::Saved;
use super::{Campaign, rate};
use crate::args::FuzzIsaArgs;
use crate::render::{bytes, clean, hex, plural, style};

/// Lines of a program that are shown.
const MAX_LINES: usize = 24;

/// Characters of what a side says that are shown.
const MAX_SAID: usize = 400;

/// Findings that are shown; all are saved.
const MAX_FINDINGS: usize = 50;

pub(super) fn campaign(
    campaign: &Campaign,
    saved: &[Saved],
    args: &FuzzIsaArgs,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "compared  {}", clean(&campaign.subject))?;
    if let Some(known) = &campaign.known {
        writeln!(out, "with      the reference model")?;
        for feature in &known.lacks.features {
            writeln!(out, "left out  {feature}")?;
        }
        if known.longest < LONGEST {
            writeln!(out, "left out  programs of more than {} slots", known.longest)?;
        }
    }
    let Report { progress, accepted, findings, .. } = &campaign.report;
    for (finding, saved) in findings.iter().zip(saved).take(MAX_FINDINGS) {
        self::finding(finding, saved, out)?;
    }
    if findings.len() > MAX_FINDINGS {
        writeln!(out, "\nand {} more", findings.len() - MAX_FINDINGS)?;
    }
    writeln!(out)?;
    for (kind, &(made, taken)) in accepted {
        let percent = 100.0 * rate(made, taken);
        writeln!(out, "{:10}{made} generated, {percent:.1}% accepted", format!("{kind}"))?;
    }
    writeln!(
        out,
        "{}, {:.0} a second, in {:.1} s: {}",
        plural(progress.executions, "execution"),
        progress.executions_per_second(),
        progress.elapsed.as_secs_f64(),
        plural(findings.len() as u64, "finding"),
    )?;
    if !findings.is_empty() {
        writeln!(out, "saved in {}", clean(&args.out.display().to_string()))?;
    }
    Ok(())
}

fn finding(finding: &Finding, saved: &Saved, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "\n{}", style::title(&finding.key.to_string()))?;
    let lines = finding.listing();
    for line in lines.iter().take(MAX_LINES) {
        writeln!(out, "    {line}")?;
    }
    if lines.len() > MAX_LINES {
        writeln!(out, "    ... {} more", lines.len() - MAX_LINES)?;
    }
    if let Program::Bytes { memory, .. } = &finding.program
        && !memory.is_empty()
    {
        writeln!(out, "  memory    {}: {}", bytes(memory.len() as u64), hex(memory))?;
    }
    let width = finding.says.iter().map(|(who, _)| who.chars().count()).max().unwrap_or(0);
    for (who, what) in &finding.says {
        let short: String = clean(what).to_string().chars().take(MAX_SAID).collect();
        writeln!(out, "  {:width$} {short}", clean(who).to_string())?;
    }
    let rest = if finding.minimised { "" } else { ", not minimised to the end" };
    let (seed, after) = (finding.seed, finding.after.as_secs_f64());
    writeln!(out, "  program {seed}, after {after:.1} s{rest}; saved as {}", clean(&saved.name))
}
