//! `softbpf fuzz isa`: fuzzes the engines here, or another implementation, and says how they differ.
//!
//! Programs, comparisons and minimising: [`softbpf_conformance::fuzz::isa`]. Here are the command line's choices, the
//! progress line, the files that findings are saved in ([`files`]), and the report for people ([`render`]) or as JSON.

mod files;
mod render;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value as Json, json};
use softbpf::insn::Insn;
use softbpf_conformance::case::group_name;
use softbpf_conformance::coverage::every_row;
use softbpf_conformance::fuzz::isa::against::{self, Known};
use softbpf_conformance::fuzz::isa::engines::{self, Generator};
use softbpf_conformance::fuzz::isa::{CampaignError, Event, Finding, Limits, Progress, Report};
use softbpf_conformance::generator::scenario::{Callbacks, ScenarioKnobs};
use softbpf_conformance::generator::{Knobs, Level};
use softbpf_conformance::plugin::Plugin;
use softbpf_conformance::subject::Subject as _;
use softbpf_conformance::{ENGINES, engine_named, has_room_for};

use crate::args::{FuzzIsaArgs, GeneratorChoice, KnobArgs, LevelChoice, OracleChoice, jobs};
use crate::error::CliError;
use crate::output::{Output, Status};
use crate::progress;

use self::files::Files;

/// Time that a campaign takes when nobody says how long.
const SECONDS: u32 = 60;

/// What was compared with what.
struct Campaign {
    subject: String,
    /// What is known of the plugin, if it is one.
    known: Option<Known>,
    report: Report,
}

pub(crate) fn command(args: &FuzzIsaArgs, output: &mut Output) -> Result<Status, CliError> {
    let bar = progress::bar(None, "{spinner} {elapsed} {msg}");
    let mut files = Files::new(&args.out);
    let mut watch = |event: Event<'_>| match event {
        Event::Tick(progress) => {
            show(&bar, progress);
            ControlFlow::Continue(())
        }
        // At once: who knows what comes of the campaign.
        Event::Found(finding) => files.save(finding),
    };
    let campaign = match &args.against {
        Some(path) => {
            let plugin = crate::conform::plugin_at(path, &args.plugin_arg, args.timeout)?;
            plugin_campaign(args, &plugin, &mut watch)
        }
        None => engine_campaign(args, &mut watch),
    };
    bar.finish_and_clear();
    let mut campaign = campaign?;
    if args.json {
        crate::json::fuzz_isa(&document(&campaign, &files.saved), &mut output.out)?;
    } else {
        render::campaign(&campaign, &files.saved, args, &mut output.out)?;
    }
    files.check()?;
    if let Some(error) = campaign.report.failed.take() {
        return Err(error.into());
    }
    Ok(if campaign.report.findings.is_empty() { Status::Done } else { Status::Failed })
}

/// Who is told of a campaign's events.
type Watch<'w> = &'w mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

fn plugin_campaign(args: &FuzzIsaArgs, plugin: &Plugin, watch: Watch<'_>) -> Result<Campaign, CliError> {
    let options = against::Options {
        knobs: Knobs { portable: true, masked_shifts: true, ..knobs(&args.knobs) },
        without: without(&args.knobs),
        bodies: args.bodies,
        only_valid: args.only_valid,
        everything: args.everything,
        ..against::Options::default()
    };
    let known = against::probe(plugin, &options)?;
    let report = against::campaign(plugin, &known, &options, limits(args), watch)?;
    Ok(Campaign { subject: plugin.name(), known: Some(known), report })
}

fn engine_campaign(args: &FuzzIsaArgs, watch: Watch<'_>) -> Result<Campaign, CliError> {
    let engines = if args.engines.is_empty() {
        ENGINES.iter().filter_map(|&name| Some((name.to_owned(), engine_named(name).ok()?))).collect()
    } else {
        let named = |name: &String| Ok((name.clone(), engine_named(name)?));
        args.engines.iter().map(named).collect::<Result<Vec<_>, CliError>>()?
    };
    // Each thread has a machine of each engine.
    let machines = engines.len() * jobs(args.jobs).get();
    if engines.iter().any(|(name, _)| name != "interpreter") && !has_room_for(machines) {
        return Err(CliError::SmallMemory);
    }
    let mut names: Vec<&str> = engines.iter().map(|(name, _)| name.as_str()).collect();
    if !args.no_model {
        names.push("model");
    }
    let kernel = args.oracle == Some(OracleChoice::Kernel);
    if kernel {
        names.push("kernel");
    }
    let subject = names.join(", ");
    let mut options = engines::Options::new(engines);
    options.model = !args.no_model;
    options.kernel = kernel;
    options.without = without(&args.knobs);
    options.inputs = args.inputs;
    options.knobs = Knobs { from_input: true, ..knobs(&args.knobs) };
    options.scenario = scenario_knobs(&args.knobs);
    if !args.generators.is_empty() {
        options.generators = args.generators.iter().map(|&choice| generator(choice)).collect();
    }
    let report = engines::campaign(&options, limits(args), watch)?;
    Ok(Campaign { subject, known: None, report })
}

fn generator(choice: GeneratorChoice) -> Generator {
    match choice {
        GeneratorChoice::Samples => Generator::Samples,
        GeneratorChoice::Scenarios => Generator::Scenarios,
        GeneratorChoice::Streams => Generator::Streams,
    }
}

fn knobs(args: &KnobArgs) -> Knobs {
    Knobs {
        length: args.length.into(),
        memory: !args.no_memory,
        atomics: !args.no_atomics,
        jumps: !args.no_jumps,
        calls: !args.no_calls,
        out_of_bounds: !args.no_traps,
        level: match args.level {
            LevelChoice::V3 => Level::V3,
            LevelChoice::V4 => Level::V4,
            LevelChoice::All => Level::Ordered,
        },
        ..Knobs::ALL
    }
}

/// Rows of the groups that are left out.
fn without(args: &KnobArgs) -> BTreeSet<Insn> {
    let left_out = |row: &Insn| args.excluded_groups.contains(&group_name(Some(row.group())));
    every_row().into_iter().filter(left_out).collect()
}

fn scenario_knobs(args: &KnobArgs) -> ScenarioKnobs {
    ScenarioKnobs {
        statements: args.statements.into(),
        loops: !args.no_loops,
        calls: !args.no_calls,
        helpers: !args.no_helpers,
        tail_calls: !args.no_tail_calls,
        atomics: !args.no_atomics,
        packets: !args.no_packets,
        hostile: !args.no_traps,
        callbacks: if args.no_callbacks || args.no_helpers { Callbacks::None } else { Callbacks::All },
        ..ScenarioKnobs::ALL
    }
}

fn limits(args: &FuzzIsaArgs) -> Limits {
    let seconds = args.seconds.or(args.programs.is_none().then_some(SECONDS));
    Limits {
        first_seed: args.seed,
        programs: args.programs,
        time: seconds.map(|seconds| Duration::from_secs(seconds.into())),
        jobs: jobs(args.jobs),
        findings: args.findings,
    }
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let Progress { programs, executions, findings, .. } = progress;
    let rate = progress.executions_per_second();
    bar.set_message(format!("{programs} programs, {executions} executions, {rate:.0}/s, {findings} findings"));
    bar.tick();
}

fn document(campaign: &Campaign, saved: &[files::Saved]) -> Json {
    let Report { progress, accepted, findings, .. } = &campaign.report;
    let share = |&(made, taken): &(u64, u64)| json!({ "made": made, "accepted": taken, "rate": rate(made, taken) });
    let accepted = accepted.iter().map(|(&kind, counts)| (kind.to_owned(), share(counts)));
    json!({
        "subject": campaign.subject,
        "lacks": campaign.known.as_ref().map(|known| known.lacks.features.iter().map(ToString::to_string).collect::<Vec<_>>()),
        "longest": campaign.known.as_ref().map(|known| known.longest),
        "seconds": progress.elapsed.as_secs_f64(),
        "programs": progress.programs,
        "executions": progress.executions,
        "instructions": progress.instructions,
        "executions_per_second": progress.executions_per_second(),
        "accepted": accepted.collect::<serde_json::Map<_, _>>(),
        "findings": findings.iter().zip(saved).map(|(finding, saved)| self::finding(finding, saved)).collect::<Vec<_>>(),
    })
}

fn rate(made: u64, taken: u64) -> f64 {
    taken as f64 / made.max(1) as f64
}

fn finding(finding: &Finding, saved: &files::Saved) -> Json {
    let says = finding.says.iter().map(|(who, what)| (who.clone(), json!(what)));
    json!({
        "about": finding.key.to_string(),
        "kind": finding.key.kind.name(),
        "seed": finding.seed,
        "seconds": finding.after.as_secs_f64(),
        "count": finding.count,
        "instructions": finding.instructions(),
        "minimised": finding.minimised,
        "program": finding.listing(),
        "says": says.collect::<serde_json::Map<_, _>>(),
        "files": saved.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
    })
}

impl From<CampaignError> for CliError {
    fn from(error: CampaignError) -> CliError {
        CliError::Campaign(Box::new(error))
    }
}
