//! Running a suite on a subject, and what comes of it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use softbpf::insn::Group;

use crate::case::{Case, GROUPS, group_name};
use crate::subject::Subject;
use crate::verdict::{Difference, Verdict, compare, judge};

/// What became of each case of a suite on one subject.
#[derive(Debug)]
pub struct Report<'s> {
    /// Name of the subject.
    pub subject: String,
    /// A result a case, in order.
    pub results: Vec<CaseResult<'s>>,
}

/// What became of a case.
#[derive(Debug)]
pub struct CaseResult<'s> {
    /// The case.
    pub case: &'s Case,
    /// Its conformance group.
    pub group: Option<Group>,
    /// What the subject's answer is worth by the case itself.
    pub verdict: Verdict,
    /// The same by the oracle; `None` without one.
    pub oracle: Option<Verdict>,
}

/// How many cases ended how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// As expected.
    pub passed: usize,
    /// Not as expected, or not as the oracle says.
    pub failed: usize,
    /// The subject could not be asked.
    pub skipped: usize,
    /// The oracle could not be asked.
    pub oracle_skipped: usize,
}

/// Runs all cases, calling `progress` after each.
pub fn run<'s>(
    cases: &'s [Case],
    subject: &mut dyn Subject,
    mut oracle: Option<&mut dyn Subject>,
    mut progress: impl FnMut(),
) -> Report<'s> {
    let results = cases.iter().map(|case| {
        let answer = subject.run(case);
        let verdict = judge(case, &answer);
        let oracle = oracle.as_mut().map(|oracle| compare(&oracle.run(case), &answer));
        progress();
        CaseResult { case, group: case.group(), verdict, oracle }
    });
    Report { results: results.collect(), subject: subject.name() }
}

impl CaseResult<'_> {
    /// What differs, by the case or else by the oracle.
    pub fn difference(&self) -> Option<&Difference> {
        self.verdict.difference().or_else(|| self.oracle.as_ref()?.difference())
    }

    /// Why the subject was not asked.
    pub fn skipped(&self) -> Option<&str> {
        self.verdict.skipped()
    }
}

impl Counts {
    fn add(&mut self, result: &CaseResult<'_>) {
        if result.difference().is_some() {
            self.failed += 1;
        } else if result.skipped().is_some() {
            self.skipped += 1;
        } else {
            self.passed += 1;
        }
        if matches!(result.oracle, Some(Verdict::Skipped { .. })) {
            self.oracle_skipped += 1;
        }
    }
}

impl Report<'_> {
    /// All cases counted.
    pub fn counts(&self) -> Counts {
        count(self.results.iter())
    }

    /// The cases counted by conformance group; groups without cases are left out.
    pub fn by_group(&self) -> Vec<(&'static str, Counts)> {
        let of = |group: Option<Group>| self.results.iter().filter(move |result| result.group == group);
        let groups = GROUPS.into_iter().filter(|&group| of(group).next().is_some());
        groups.map(|group| (group_name(group), count(of(group)))).collect()
    }

    /// The cases that failed, in order.
    pub fn failures(&self) -> impl Iterator<Item = (&CaseResult<'_>, &Difference)> {
        self.results.iter().filter_map(|result| Some((result, result.difference()?)))
    }

    /// The reasons that the subject could not be asked, with the numbers of cases, the most frequent first.
    pub fn reasons_to_skip(&self) -> Vec<(String, usize)> {
        reasons(self.results.iter().filter_map(CaseResult::skipped))
    }

    /// The same of the oracle.
    pub fn oracle_reasons_to_skip(&self) -> Vec<(String, usize)> {
        reasons(self.results.iter().filter_map(|result| result.oracle.as_ref()?.skipped()))
    }
}

fn reasons<'r>(all: impl Iterator<Item = &'r str>) -> Vec<(String, usize)> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for why in all {
        *counts.entry(why).or_default() += 1;
    }
    let mut reasons: Vec<(String, usize)> = counts.into_iter().map(|(why, count)| (why.to_owned(), count)).collect();
    reasons.sort_by_key(|(why, count)| (Reverse(*count), why.clone()));
    reasons
}

fn count<'r, 's: 'r>(results: impl Iterator<Item = &'r CaseResult<'s>>) -> Counts {
    let mut counts = Counts::default();
    results.for_each(|result| counts.add(result));
    counts
}

/// The reports as a JUnit document, one suite a subject.
pub fn junit(reports: &[Report<'_>]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for report in reports {
        let Counts { passed, failed, skipped, .. } = report.counts();
        let total = passed + failed + skipped;
        let name = escape(&report.subject);
        let _ = writeln!(
            text,
            "  <testsuite name=\"{name}\" tests=\"{total}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\">"
        );
        report.results.iter().for_each(|result| junit_case(&mut text, result));
        text.push_str("  </testsuite>\n");
    }
    text.push_str("</testsuites>\n");
    text
}

fn junit_case(text: &mut String, result: &CaseResult<'_>) {
    let (file, line) = (escape(&result.case.file), result.case.line);
    let (title, group) = (escape(&result.case.title), group_name(result.group));
    let _ = write!(text, "    <testcase classname=\"{group}\" name=\"{title}\" file=\"{file}\" line=\"{line}\"");
    if let Some(difference) = result.difference() {
        let (expected, got) = (escape(&difference.expected), escape(&difference.got));
        let _ = writeln!(text, "><failure message=\"expected {expected}; got {got}\"/></testcase>");
    } else if let Some(why) = result.skipped() {
        let _ = writeln!(text, "><skipped message=\"{}\"/></testcase>", escape(why));
    } else {
        text.push_str("/>\n");
    }
}

/// Text as XML has it in attributes; characters that it cannot have become U+FFFD.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\t' => escaped.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
