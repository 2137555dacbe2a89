//! What was measured as a page: Markdown with plots, the machine and the versions, and whether targets were met.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use crate::compile::{self, COMPILERS, Compilation};
use crate::contestants::{CONTESTANTS, Sort};
use crate::measure::Plan;
use crate::plot::{Bars, draw};
use crate::report::{Comparison, Figures, summaries};
use crate::targets::{Measured, TARGETS};
use crate::workload::Group;

const COMMAND: &str =
    "cargo run --release -p softbpf-benches --features peers,native-c --bin compare -- --report benches/report";

/// Writes `README.md` and the plots into a folder, which is made where there is none.
///
/// # Errors
/// A file cannot be written, or there is nothing to write.
pub fn write(
    folder: &Path,
    comparisons: &[Comparison],
    compilations: &[Compilation],
    plan: Plan,
) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    plots(folder, comparisons, compilations)?;
    let measured = Measured { runs: comparisons, compilations };
    let text = [
        head(plan),
        targets(measured),
        jits(comparisons),
        interpreters(comparisons),
        others(comparisons),
        compiling(compilations),
        machine(),
    ];
    std::fs::write(folder.join("README.md"), text.join("\n"))?;
    Ok(())
}

fn head(plan: Plan) -> String {
    format!(
        "# How fast softbpf is\n\n\
         Written by one command, which measures all contestants in turns in one process, {} samples each:\n\n\
         ```text\n{COMMAND}\n```\n\n\
         Times are the least of the samples. Native is the programs' own C, compiled by {}. Means are geometric, over the\n\
         programs that compute. How it is measured, and what the other implementations are given: [../src/lib.rs](../src/lib.rs).\n",
        plan.rounds,
        crate::baseline(),
    )
}

/// Rows of a table, with its heading.
fn table(heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &mut dyn Iterator<Item = &str>| format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    let mut text = line(&mut heading.iter().copied());
    let rule = |index: usize| if index == 0 { "---" } else { "---:" };
    text += &line(&mut (0..heading.len()).map(rule));
    rows.into_iter().for_each(|row| text += &line(&mut row.iter().map(String::as_str)));
    text
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 1000.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn targets(measured: Measured<'_>) -> String {
    let row = |target: &crate::targets::Target| {
        let value = (target.measured)(measured);
        let met = match value {
            Some(value) if value <= target.most => "met",
            Some(_) => "not met",
            None => "not measured",
        };
        let most = if target.most >= 10.0 { format!("{:.0}", target.most) } else { target.most.to_string() };
        let unit = target.unit;
        vec![target.what.to_owned(), format!("{most} {unit}"), format!("{} {unit}", number(value)), met.to_owned()]
    };
    let missed =
        |target: &&crate::targets::Target| (target.measured)(measured).is_some_and(|value| value > target.most);
    let tried = |target: &crate::targets::Target| match target.tried {
        "" => String::new(),
        tried => format!("- *{}*: {tried}\n", target.what),
    };
    let tried: String = TARGETS.iter().filter(missed).map(tried).collect();
    let tried =
        if tried.is_empty() { tried } else { format!("\nWhat was tried for those that are not met:\n\n{tried}") };
    format!(
        "## Targets\n\n{}{tried}\nOne more is no figure of this page: that lookups in arrays are inlined, which `softbpf disasm --jited` shows.\n",
        table(&["", "at most", "measured", ""], TARGETS.iter().map(row))
    )
}

/// Contestants of a sort that ran something.
fn named(sort: Sort, comparisons: &[Comparison]) -> Vec<&'static str> {
    let ran = |name: &str| comparisons.iter().any(|comparison| comparison.of(name).is_some());
    CONTESTANTS.iter().filter(|row| row.sort == sort && ran(row.name)).map(|row| row.name).collect()
}

fn computing(comparisons: &[Comparison]) -> impl Iterator<Item = &Comparison> {
    comparisons.iter().filter(|comparison| comparison.group == Group::Cpu)
}

/// A row a program, a column a contestant.
fn grid<'c>(
    comparisons: impl Iterator<Item = &'c Comparison>,
    names: &[&str],
    figure: impl Fn(Figures<'_>) -> Option<f64>,
) -> Vec<Vec<String>> {
    let cell = |comparison: &Comparison, name: &str| number(comparison.of(name).and_then(&figure));
    let row = |comparison: &Comparison| {
        let cells = names.iter().map(|name| cell(comparison, name));
        [comparison.name.to_owned(), comparison.instructions.to_string()].into_iter().chain(cells).collect()
    };
    comparisons.map(row).collect()
}

fn heading<'n>(names: &[&'n str]) -> Vec<&'n str> {
    ["program", "instructions"].iter().chain(names).copied().collect()
}

fn jits(comparisons: &[Comparison]) -> String {
    let names = [named(Sort::Jit, comparisons), named(Sort::Kernel, comparisons)].concat();
    let mut rows = grid(computing(comparisons), &names, |figures| figures.x_native);
    let summaries = summaries(comparisons);
    let spread = |name: &&str| summaries.iter().find(|row| row.name == *name).and_then(|row| row.x_native.0);
    let summary = |title: &str, pick: fn((f64, f64)) -> f64| {
        let cells = names.iter().map(|name| number(spread(name).map(pick)));
        [title.to_owned(), String::new()].into_iter().chain(cells).collect::<Vec<_>>()
    };
    rows.push(summary("**mean**", |(mean, _)| mean));
    rows.push(summary("**worst**", |(_, worst)| worst));
    format!(
        "## Compiled: time over native C\n\n`jit-unproved` checks every access but those of the stack at constant offsets. \
         rbpf's JIT checks nothing; neither\nit nor `rbpf-cranelift` counts instructions. \
         `kernel` does neither: it runs what its verifier has proved, where bpf(2) is permitted.\n\n![](jit.svg)\n\n{}",
        table(&heading(&names), rows)
    )
}

fn interpreters(comparisons: &[Comparison]) -> String {
    let names = named(Sort::Interpreter, comparisons);
    let mut rows = grid(computing(comparisons), &names, |figures| Some(figures.per_instruction));
    let summaries = summaries(comparisons);
    let mean = |name: &&str| summaries.iter().find(|row| row.name == *name).map(|row| row.per_instruction);
    rows.push(
        ["**mean**".to_owned(), String::new()].into_iter().chain(names.iter().map(|name| number(mean(name)))).collect(),
    );
    let table = table(&heading(&names), rows);
    format!("## Interpreted: nanoseconds an instruction\n\n![](interpreter.svg)\n\n{table}")
}

fn others(comparisons: &[Comparison]) -> String {
    let names: Vec<_> = CONTESTANTS.iter().map(|row| row.name).collect();
    let others = comparisons.iter().filter(|comparison| comparison.group != Group::Cpu);
    let rows = grid(others, &names, |figures| Some(figures.samples.min()));
    format!(
        "## Calls, packets, maps: nanoseconds a run\n\n`helper_calls` and `local_calls` are loops of 4,096 rounds, those of \
         maps of 256; `xdp_parse` is 64 packets, each placed\nanew; `tracing` is a long program without loops.\n\n{}",
        table(&heading(&names), rows)
    )
}

fn compiling(compilations: &[Compilation]) -> String {
    let names: Vec<_> = COMPILERS.iter().map(|row| row.0).collect();
    let cell = |rate: Option<compile::Rate>| rate.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
    let row = |compilation: &Compilation| {
        let cells = names.iter().map(|name| cell(compilation.rate(name)));
        let first = [compilation.program.to_owned(), compilation.instructions.to_string()];
        first.into_iter().chain(cells).collect::<Vec<_>>()
    };
    let mean = names.iter().map(|name| cell(compile::mean(compilations, name)));
    let mean = ["**mean**".to_owned(), String::new()].into_iter().chain(mean).collect();
    let rows = compilations.iter().map(row).chain([mean]);
    format!(
        "## Compiling: nanoseconds / bytes an instruction\n\nNothing is subtracted: making and dropping an engine is part of \
         the time, so short programs show what does not depend on\ntheir length. `long` has 4,096 instructions.\n\n\
         ![](compile.svg)\n\n{}",
        table(&heading(&names), rows)
    )
}

fn machine() -> String {
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = file("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1)).unwrap_or("unknown");
    // Without what a distribution or a cloud puts behind it.
    let kernel = file("/proc/sys/kernel/osrelease");
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut text = "## Machine and versions\n\n".to_owned();
    let mut line = |what: &str, value: &str| _ = writeln!(text, "- {what}: {value}");
    line("processor", &format!("{model}, {cores} CPUs"));
    line("system", &format!("{} {kernel}, {}", std::env::consts::OS, std::env::consts::ARCH));
    line("softbpf", &format!("{}, by {}", env!("CARGO_PKG_VERSION"), env!("SOFTBPF_RUSTC")));
    line("native", crate::baseline());
    for peer in ["rbpf", "solana-sbpf"] {
        line(peer, locked(peer).unwrap_or("unknown"));
    }
    text
}

/// Version of a dependency.
fn locked(name: &str) -> Option<&'static str> {
    let lock = include_str!("../../Cargo.lock");
    let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("\nname = \"{name}\"\n")))?;
    entry.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
}

fn plots(folder: &Path, comparisons: &[Comparison], compilations: &[Compilation]) -> Result<(), Box<dyn Error>> {
    let computing: Vec<_> = computing(comparisons).collect();
    let programs: Vec<_> = computing.iter().map(|comparison| comparison.name).collect();
    let series = |names: &[&'static str], figure: fn(Figures<'_>) -> Option<f64>| {
        let values = |name: &str| computing.iter().map(|comparison| comparison.of(name).and_then(figure)).collect();
        names.iter().map(|name| (*name, values(name))).collect::<Vec<_>>()
    };
    let jits = series(&named(Sort::Jit, comparisons), |figures| figures.x_native);
    let title = "Compiled: time over native C (less is better)";
    draw(&Bars { title, groups: &programs, series: &jits, limit: Some(1.45) }, &folder.join("jit.svg"))?;
    let interpreters = series(&named(Sort::Interpreter, comparisons), |figures| Some(figures.per_instruction));
    let title = "Interpreted: nanoseconds an instruction (less is better)";
    let bars = Bars { title, groups: &programs, series: &interpreters, limit: Some(0.65) };
    draw(&bars, &folder.join("interpreter.svg"))?;
    let compiled = compilations.iter().filter(|compilation| {
        programs.contains(&compilation.program) || ["long", "tracing", "empty"].contains(&compilation.program)
    });
    let compiled: Vec<_> = compiled.collect();
    let groups: Vec<_> = compiled.iter().map(|compilation| compilation.program).collect();
    let values = |name: &str| compiled.iter().map(|compilation| Some(compilation.rate(name)?.ns)).collect();
    let series: Vec<_> = COMPILERS.iter().map(|row| (row.0, values(row.0))).collect();
    let title = "Compiling: nanoseconds an instruction (less is better)";
    draw(&Bars { title, groups: &groups, series: &series, limit: Some(15.0) }, &folder.join("compile.svg"))
}
