//! The report for people: a table by conformance group, what was skipped and why, the first failures.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, Write};

use softbpf_conformance::report::{Counts, Report};
use softbpf_conformance::suite::Suite;

use crate::render::{clean, plural, style};

/// Failures that are listed; the rest is counted.
const MAX_FAILURES: usize = 10;

/// Reasons to skip that are listed.
const MAX_REASONS: usize = 8;

/// A file that is no test, or a subject that is none.
pub(super) fn error(error: &dyn Display, err: &mut dyn Write) -> io::Result<()> {
    writeln!(err, "{} {}", style::error("error:"), clean(&error.to_string()))
}

/// All reports, one after the other.
pub(super) fn reports(
    suite: &Suite,
    reports: &[Report<'_>],
    oracle: Option<String>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let files: BTreeSet<&str> = suite.cases.iter().map(|case| case.file.as_str()).collect();
    let (cases, files) = (plural(suite.cases.len() as u64, "case"), plural(files.len() as u64, "file"));
    writeln!(out, "{cases} in {files}")?;
    for report in reports {
        table(report, out)?;
        if let Some(oracle) = &oracle {
            let asked = suite.cases.len() - report.counts().oracle_skipped;
            writeln!(out, "compared with the {oracle}: {}", plural(asked as u64, "case"))?;
            skipped("not compared", &report.oracle_reasons_to_skip(), out)?;
        }
        skipped("skipped", &report.reasons_to_skip(), out)?;
        failures(report, out)?;
    }
    Ok(())
}

fn table(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    let title = format!("{:12}", clean(&report.subject).to_string());
    writeln!(out, "\n{}{:>9}{:>9}{:>9}{:>9}", style::title(&title), "cases", "passed", "failed", "skipped")?;
    for (group, counts) in report.by_group() {
        row(group, counts, out)?;
    }
    row("total", report.counts(), out)
}

fn row(name: &str, counts: Counts, out: &mut dyn Write) -> io::Result<()> {
    let Counts { passed, failed, skipped, .. } = counts;
    writeln!(out, "{name:12}{:>9}{passed:>9}{failed:>9}{skipped:>9}", passed + failed + skipped)
}

fn skipped(word: &str, reasons: &[(String, usize)], out: &mut dyn Write) -> io::Result<()> {
    for (why, count) in reasons.iter().take(MAX_REASONS) {
        writeln!(out, "{word} {count}: {}", clean(why))?;
    }
    match reasons.len().checked_sub(MAX_REASONS) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "{word} others for {}", plural(more as u64, "more reason")),
    }
}

fn failures(report: &Report<'_>, out: &mut dyn Write) -> io::Result<()> {
    for (result, difference) in report.failures().take(MAX_FAILURES) {
        let case = result.case;
        writeln!(out, "\n{} {}:{}: {}", style::error("failed"), clean(&case.file), case.line, clean(&case.title))?;
        writeln!(out, "  expected  {}", clean(&difference.expected))?;
        writeln!(out, "  got       {}", clean(&difference.got))?;
    }
    match report.counts().failed.checked_sub(MAX_FAILURES) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "\nand {more} more"),
    }
}
