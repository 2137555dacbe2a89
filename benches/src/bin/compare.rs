//! Measures softbpf beside native code and other implementations: see the library's header.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use softbpf_benches::compile::{self, COMPILERS};
use softbpf_benches::contestants::{CONTESTANTS, Row};
use softbpf_benches::measure::Plan;
use softbpf_benches::page;
use softbpf_benches::report::{self, compare};
use softbpf_benches::workload::{Workload, long, workloads};

/// Runs the benchmark programs on softbpf, natively, and on other implementations, in turns in one process.
///
/// Times are nanoseconds a run. `x native` is the time over the native version's; `x peer` the time over that of the
/// fastest other implementation of the same sort (interpreter or JIT). Both are of minima. A second table has the time
/// that compilers take for an instruction, and the bytes that they make of it.
#[derive(Debug, Parser)]
struct Args {
    /// Only programs of one of these groups, or with one of these in the name.
    filters: Vec<String>,
    /// Only these contestants.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Samples of each contestant.
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Microseconds that one sample takes.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    sample: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Write a page with tables and plots into this folder: README.md and SVG files. For all programs and contestants.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["filters", "only"])]
    report: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing else to do when that fails.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), String> {
    let is_known = |name: &&String| CONTESTANTS.iter().any(|row| row.name == **name);
    if let Some(unknown) = args.only.iter().find(|name| !is_known(name)) {
        let names: Vec<_> = CONTESTANTS.iter().map(|row| row.name).collect();
        return Err(format!("there is no contestant {unknown:?}; this build has {}", names.join(", ")));
    }
    let plan = Plan { rounds: args.rounds as usize, sample: Duration::from_micros(args.sample.into()) };
    let wanted = |row: &Row| args.only.is_empty() || args.only.iter().any(|name| name == row.name);
    let all = workloads();
    let is_group = |part: &str| all.iter().any(|workload| workload.group.to_string() == part);
    let matches = |workload: &Workload, part: &str| {
        let of_group = workload.group.to_string() == part;
        of_group || workload.name == part || !is_group(part) && workload.name.contains(part)
    };
    let is_chosen =
        |workload: &&Workload| args.filters.is_empty() || args.filters.iter().any(|part| matches(workload, part));
    let chosen: Vec<_> = all.iter().filter(is_chosen).collect();
    if chosen.is_empty() {
        return Err("no program has such a name or group".to_owned());
    }

    let say = |text: &str| match args.json {
        true => Ok(()),
        false => writeln!(io::stdout(), "{text}").map_err(|error| error.to_string()),
    };
    say(&format!("native: {}\n{}", softbpf_benches::baseline(), report::heading()))?;
    let mut comparisons = Vec::new();
    for &workload in &chosen {
        let comparison = compare(workload, plan, wanted)?;
        say(&comparison.to_string())?;
        comparisons.push(comparison);
    }
    say(&report::summary(&comparisons))?;
    let mut compilations = Vec::new();
    let is_compiled = |name: &str| CONTESTANTS.iter().any(|row| row.name == name && wanted(row));
    if COMPILERS.iter().any(|row| is_compiled(row.0)) {
        let long = args.filters.is_empty().then(long);
        for workload in chosen.into_iter().chain(&long) {
            compilations.push(compile::compile(workload, plan, is_compiled));
        }
        say(&compile::table(&compilations))?;
    }
    if let Some(folder) = &args.report {
        page::write(folder, &comparisons, &compilations, plan)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    if args.json {
        writeln!(io::stdout(), "{:#}", report::json(&comparisons, &compilations, plan))
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}
