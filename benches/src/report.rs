//! What was measured, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use crate::compile::{self, Compilation};
use crate::contestants::{CONTESTANTS, Row, Sort};
use crate::measure::{Plan, Samples, geometric_mean, interleaved};
use crate::workload::{Group, Workload};

/// One program, run by all.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    pub(crate) instructions: u64,
    /// In the order of the table of contestants.
    results: Vec<(Row, Result<Samples, String>)>,
}

/// Measures a program on the contestants that `wanted` picks.
///
/// # Errors
/// softbpf's interpreter cannot run it, or gives something else than it should.
pub fn compare(workload: &Workload, plan: Plan, wanted: impl Fn(&Row) -> bool) -> Result<Comparison, String> {
    let instructions = workload.instructions()?;
    let mut contestants = Vec::new();
    let mut made = Vec::new();
    for row in CONTESTANTS.iter().filter(|row| wanted(row)) {
        made.push((*row, row.ready(workload).map(|contestant| contestants.push(contestant))));
    }
    // Samples come back in the order of those that take part.
    let mut samples = interleaved(&mut contestants, plan).into_iter();
    let mut next = || samples.next().unwrap_or_else(|| Err("was not measured".to_owned()));
    let results = made.into_iter().map(|(row, made)| (row, made.and_then(|()| next()))).collect();
    Ok(Comparison { name: workload.name, group: workload.group, instructions, results })
}

/// One contestant on one program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures<'c> {
    pub(crate) row: &'c Row,
    pub(crate) samples: &'c Samples,
    pub(crate) per_instruction: f64,
    pub(crate) x_native: Option<f64>,
    /// Over the fastest peer of its sort.
    pub(crate) x_peer: Option<f64>,
}

impl Comparison {
    fn least(&self, pick: impl Fn(&Row) -> bool) -> Option<f64> {
        let times = self.results.iter().filter(|(row, _)| pick(row)).filter_map(|(_, result)| result.as_ref().ok());
        times.map(Samples::min).min_by(f64::total_cmp)
    }

    /// What others are measured against: C where there is any, else Rust.
    fn native(&self) -> Option<f64> {
        let natives = self.results.iter().filter(|(row, _)| row.sort == Sort::Native);
        natives.filter_map(|(_, result)| result.as_ref().ok()).next_back().map(Samples::min)
    }

    /// One contestant's.
    pub(crate) fn of(&self, contestant: &str) -> Option<Figures<'_>> {
        self.figures().find(|figures| figures.row.name == contestant)
    }

    fn figures(&self) -> impl Iterator<Item = Figures<'_>> {
        self.results.iter().filter_map(|(row, result)| {
            let samples = result.as_ref().ok()?;
            let is_other_peer = |other: &Row| !other.ours && other.sort == row.sort && other.name != row.name;
            let over = |time: f64| samples.min() / time;
            Some(Figures {
                row,
                samples,
                per_instruction: samples.min() / self.instructions as f64,
                x_native: self.native().map(over),
                x_peer: if row.sort == Sort::Native { None } else { self.least(is_other_peer).map(over) },
            })
        })
    }

    fn skipped(&self) -> impl Iterator<Item = (&Row, &str)> {
        self.results.iter().filter_map(|(row, result)| Some((row, result.as_ref().err()?.as_str())))
    }

    fn json(&self) -> Value {
        let figures = self.figures().map(|figures| {
            json!({
                "contestant": figures.row.name,
                "ns_min": figures.samples.min(),
                "ns_median": figures.samples.median(),
                "spread": figures.samples.spread(),
                "ns_per_instruction": figures.per_instruction,
                "x_native": figures.x_native,
                "x_best_peer": figures.x_peer,
            })
        });
        let skipped = self.skipped().map(|(row, why)| json!({ "contestant": row.name, "why": why }));
        json!({
            "program": self.name,
            "group": self.group.to_string(),
            "instructions": self.instructions,
            "results": figures.collect::<Vec<_>>(),
            "skipped": skipped.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}, {} instructions)", self.name, self.group, self.instructions)?;
        for figures in self.figures() {
            writeln!(
                f,
                "  {:<15}{:>13.1} {:>13.1} {:>6.1}% {:>9.3} {:>9} {:>9}",
                figures.row.name,
                figures.samples.min(),
                figures.samples.median(),
                figures.samples.spread() * 100.0,
                figures.per_instruction,
                times(figures.x_native),
                times(figures.x_peer),
            )?;
        }
        // One line a reason: some hold for many.
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        self.skipped().for_each(|(row, why)| reasons.entry(why).or_default().push(row.name));
        reasons.iter().try_for_each(|(why, names)| writeln!(f, "  skipped {}: {why}", names.join(", ")))
    }
}

/// The heading of the columns that a comparison prints.
pub fn heading() -> String {
    format!(
        "  {:<15}{:>13} {:>13} {:>7} {:>9} {:>9} {:>9}",
        "", "min ns", "median ns", "spread", "ns/insn", "x native", "x peer"
    )
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// One contestant over the programs of the group `cpu`: geometric means, and the worst.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) name: &'static str,
    pub(crate) programs: usize,
    pub(crate) per_instruction: f64,
    pub(crate) x_native: Spread,
    pub(crate) x_peer: Spread,
}

/// The geometric mean and the greatest of ratios, if there are any.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread(pub(crate) Option<(f64, f64)>);

impl Spread {
    pub(crate) fn of(ratios: impl Iterator<Item = f64> + Clone) -> Spread {
        Spread(ratios.clone().max_by(f64::total_cmp).map(|worst| (geometric_mean(ratios), worst)))
    }

    fn json(self) -> Value {
        self.0.map_or(Value::Null, |(mean, worst)| json!({ "geometric_mean": mean, "worst": worst }))
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.map_or_else(|| "-".to_owned(), |(mean, worst)| format!("{mean:.2} ({worst:.2})")))
    }
}

pub(crate) fn summaries(comparisons: &[Comparison]) -> Vec<Summary> {
    let summary = |row: &Row| {
        let averaged = comparisons.iter().filter(|comparison| comparison.group == Group::Cpu);
        let figures: Vec<_> =
            averaged.flat_map(Comparison::figures).filter(|figures| figures.row.name == row.name).collect();
        (!figures.is_empty()).then(|| Summary {
            name: row.name,
            programs: figures.len(),
            per_instruction: geometric_mean(figures.iter().map(|figures| figures.per_instruction)),
            x_native: Spread::of(figures.iter().filter_map(|figures| figures.x_native)),
            x_peer: Spread::of(figures.iter().filter_map(|figures| figures.x_peer)),
        })
    };
    CONTESTANTS.iter().filter_map(summary).collect()
}

/// The means over the programs of the group `cpu`, as text; empty where none was measured.
pub fn summary(comparisons: &[Comparison]) -> String {
    let summaries = summaries(comparisons);
    if summaries.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "{:<17}{:>8} {:>9} {:>16} {:>16}\n",
        "geometric means", "programs", "ns/insn", "x native (worst)", "x peer (worst)"
    );
    for summary in summaries {
        let Summary { name, programs, per_instruction, x_native, x_peer } = summary;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<15}{programs:>8} {per_instruction:>9.3} {x_native:>16} {x_peer:>16}");
    }
    text
}

/// All of it, as JSON.
pub fn json(comparisons: &[Comparison], compilations: &[Compilation], plan: Plan) -> Value {
    let summary = |summary: Summary| {
        json!({
            "contestant": summary.name,
            "programs": summary.programs,
            "ns_per_instruction": summary.per_instruction,
            "x_native": summary.x_native.json(),
            "x_best_peer": summary.x_peer.json(),
        })
    };
    json!({
        "native": crate::baseline(),
        "rounds": plan.rounds,
        "sample_us": plan.sample.as_micros() as u64,
        "programs": comparisons.iter().map(Comparison::json).collect::<Vec<_>>(),
        "summary": summaries(comparisons).into_iter().map(summary).collect::<Vec<_>>(),
        "compile": compile::json(compilations),
    })
}
