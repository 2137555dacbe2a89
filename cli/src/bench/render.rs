//! What was measured, as a table for people.

use std::cmp::Ordering;
use std::io::{self, Write};

use super::statistics::{median, spread};
use super::{Compared, Report, Row, Same};
use crate::render::{clean, style};

pub(super) fn report(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let slots = report.slots as f64;
    let program = &report.program;
    writeln!(out, "program  {} ({}), {} instructions", clean(&program.name), program.program_type, report.slots)?;
    match (&report.compile, &report.no_jit) {
        (Some(compile), _) => {
            let ns = median(&compile.ns);
            let (time, each) = (time(ns), ns / slots);
            let (bytes, size) = (compile.bytes, compile.bytes as f64 / slots);
            write!(out, "compile  {time}, {each:.1} ns an instruction; {bytes} bytes, {size:.1} an instruction")?;
            writeln!(out, "{}", after(&compile.change))?;
        }
        (None, why) => writeln!(out, "compile  - ({})", why.as_deref().unwrap_or_default())?,
    }
    match report.baseline {
        Some(Same::Name) => writeln!(out, "note     the program is not the baseline's: it has changed")?,
        Some(Same::Nothing) => writeln!(out, "note     the baseline is of another program")?,
        Some(Same::Program) | None => {}
    }
    rows(report, out)
}

fn rows(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let names: Vec<_> = report.rows.iter().map(|row| clean(&row.input)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("input".len());
    let title = format!(
        "{:<width$}  {:<11} {:>12} {:>10} {:>13} {:>8}",
        "input", "engine", "a run", "ns/insn", "instructions", "spread"
    );
    writeln!(out, "\n{}", style::title(title))?;
    let mut last = None;
    for (row, name) in report.rows.iter().zip(&names) {
        let shown = if last == Some(name) { "" } else { name };
        last = Some(name);
        let ns = median(&row.ns);
        writeln!(
            out,
            "{shown:<width$}  {:<11} {:>12} {:>10.3} {:>13} {:>7.1}%{}{}",
            row.engine,
            time(ns),
            ns / row.instructions,
            instructions(row.instructions),
            spread(&row.ns) * 100.0,
            faster(row, report),
            after(&row.change),
        )?;
    }
    writeln!(out, "\nmedians of {} samples", report.rounds)
}

/// How much faster it is than the interpreter on the same input.
fn faster(row: &Row, report: &Report) -> String {
    let mut others = report.rows.iter().filter(|other| other.input == row.input && other.engine != row.engine);
    match others.next() {
        Some(other) if row.engine == "jit" => format!("  {:.1}x", median(&other.ns) / median(&row.ns)),
        Some(_) | None => String::new(),
    }
}

/// Whole where it is the same in every run.
fn instructions(count: f64) -> String {
    if count.fract() == 0.0 { format!("{count}") } else { format!("{count:.1}") }
}

/// A time with a unit that suits it.
fn time(ns: f64) -> String {
    match ns {
        1e9.. => format!("{:.3} s", ns / 1e9),
        1e6.. => format!("{:.3} ms", ns / 1e6),
        1e4.. => format!("{:.2} us", ns / 1e3),
        _ => format!("{ns:.1} ns"),
    }
}

fn after(compared: &Compared) -> String {
    match compared {
        Compared::NoBaseline => String::new(),
        Compared::Missing | Compared::TooFew | Compared::Change(_) => format!("  {}", verdict(compared)),
    }
}

/// What has changed, in words.
pub(super) fn verdict(compared: &Compared) -> String {
    let change = match compared {
        Compared::NoBaseline => return String::new(),
        Compared::Missing => return "not in the baseline".to_owned(),
        Compared::TooFew => return "too few samples to compare".to_owned(),
        Compared::Change(change) => change,
    };
    let percent = |ratio: f64| {
        let percent = (ratio - 1.0).abs() * 100.0;
        if percent >= 10.0 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
    };
    match change.verdict() {
        Ordering::Greater => format!("slower by {}, significant", percent(change.ratio)),
        Ordering::Less => format!("faster by {}, significant", percent(change.ratio)),
        Ordering::Equal => "no significant change".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::statistics::Change;

    #[test]
    fn verdicts() {
        let of = |ratio: f64, low, high| verdict(&Compared::Change(Change { ratio, low, high, spread: 0.01 }));
        assert_eq!(of(1.12, 1.10, 1.14), "slower by 12%, significant");
        assert_eq!(of(0.927, 0.92, 0.93), "faster by 7.3%, significant");
        assert_eq!(of(1.12, 0.99, 1.3), "no significant change");
        let busy = Change { ratio: 1.12, low: 1.1, high: 1.14, spread: 0.3 };
        assert_eq!(verdict(&Compared::Change(busy)), "no significant change");
        assert_eq!(of(1.01, 1.005, 1.015), "no significant change");
        assert_eq!(verdict(&Compared::Missing), "not in the baseline");
    }

    #[test]
    fn times_and_counts() {
        assert_eq!([time(3.25), time(43_210.0), time(5e6), time(2e9)], ["3.2 ns", "43.21 us", "5.000 ms", "2.000 s"]);
        assert_eq!([instructions(1000.0), instructions(2.5)], ["1000", "2.5"]);
    }
}
