//! `softbpf conform`: runs conformance cases on engines or on another implementation, and says what differs.
//!
//! What a case is, how it is read and judged: [`softbpf_conformance`]. Here are the choice of what runs, the progress
//! bar, and the report for people ([`render`], [`explain`]) or as JSON.

mod explain;
mod render;

use std::num::NonZero;
use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::json;
use softbpf_conformance::case::{Case, group_name};
use softbpf_conformance::oracle::{KernelSubject, ModelSubject};
use softbpf_conformance::plugin::{Plugin, PluginError};
use softbpf_conformance::report::{self, Report};
use softbpf_conformance::subject::{EngineSubject, Subject};
use softbpf_conformance::suite::Suite;
use softbpf_conformance::{ENGINES, engine_named};

use crate::args::{ConformArgs, EngineSet, OracleChoice, jobs};
use crate::error::CliError;
use crate::output::{Output, Status};
use crate::progress;

pub(crate) fn command(args: &ConformArgs, output: &mut Output) -> Result<Status, CliError> {
    let mut suite = suite(args);
    for error in &suite.unreadable {
        render::error(error, &mut output.err)?;
    }
    output.flush()?;
    suite.cases.retain(|case| wanted(args, case));
    if suite.cases.is_empty() {
        return if suite.unreadable.is_empty() { Err(CliError::NoCases) } else { Ok(Status::Refused) };
    }
    let plugin = args.plugin.as_deref();
    let plugin = plugin.map(|path| plugin_at(path, &args.plugin_arg, args.timeout)).transpose()?;
    let mut subjects = match &plugin {
        Some(plugin) => vec![Box::new(plugin.clone()) as Box<dyn Subject>],
        None => engine_subjects(args.engine)?,
    };
    let mut oracle = args.oracle.map(oracle).transpose()?;
    let bar = progress::bar(Some((suite.cases.len() * subjects.len()) as u64), "{msg:12} {wide_bar} {pos}/{len} {eta}");
    let reports = match &plugin {
        Some(plugin) => run_plugin(plugin, jobs(args.jobs), &suite.cases, &mut oracle, &bar).map(|report| vec![report]),
        None => Ok(run_engines(&suite.cases, &mut subjects, &mut oracle, &bar)),
    };
    bar.finish_and_clear();
    let reports = match reports {
        Ok(reports) => reports,
        Err(error) => {
            render::error(&error, &mut output.err)?;
            return Ok(Status::Refused);
        }
    };
    if let Some(path) = &args.junit {
        write(path, &report::junit(&reports))?;
    }
    if args.json {
        crate::json::conform(&document(&suite, &reports), &mut output.out)?;
    } else {
        render::reports(&suite, &reports, oracle.as_deref().map(|oracle| oracle.name()), &mut output.out)?;
        let failed = reports.iter().zip(&mut subjects).find_map(|(report, subject)| {
            report.failures().next().map(|(result, difference)| (subject, result.case, difference))
        });
        if let Some((subject, case, difference)) = failed {
            explain::first(case, difference, &mut **subject, oracle.as_deref_mut(), &mut output.out)?;
        }
    }
    let nothing_ran = reports.iter().all(|report| report.counts().passed + report.counts().failed == 0);
    if nothing_ran {
        output.flush()?;
        render::error(&"all cases were skipped: nothing was tested", &mut output.err)?;
    }
    Ok(if nothing_ran || !suite.unreadable.is_empty() {
        Status::Refused
    } else if reports.iter().any(|report| report.counts().failed > 0) {
        Status::Failed
    } else {
        Status::Done
    })
}

fn suite(args: &ConformArgs) -> Suite {
    if args.paths.is_empty() {
        return Suite::own();
    }
    let mut suite = Suite::default();
    args.paths.iter().for_each(|path| suite.append(Suite::load(path)));
    suite
}

fn wanted(args: &ConformArgs, case: &Case) -> bool {
    let pattern = args.pattern.as_deref().unwrap_or_default();
    let group = group_name(case.group());
    (args.groups.is_empty() || args.groups.contains(&group))
        && !args.excluded_groups.contains(&group)
        && (case.file.contains(pattern) || case.title.contains(pattern))
}

/// The plugin at a path, with what it is always given and the seconds that it may take.
pub(crate) fn plugin_at(path: &Path, args: &[String], timeout: u32) -> Result<Plugin, CliError> {
    let read = |source| CliError::Read { file: path.display().to_string(), source };
    std::fs::metadata(path).map_err(read)?;
    // Without a folder in its name, a program would be looked up in the search path.
    let path = std::path::absolute(path).map_err(read)?;
    Ok(Plugin::new(path, args.to_vec()).with_timeout(Duration::from_secs(timeout.into())))
}

fn engine_subjects(set: EngineSet) -> Result<Vec<Box<dyn Subject>>, CliError> {
    let one = match set {
        EngineSet::Interpreter => "interpreter",
        EngineSet::Jit => "jit",
        EngineSet::JitUnproved => "jit-unproved",
        EngineSet::JitBaseline => "jit-baseline",
        EngineSet::Auto => return Ok(vec![Box::new(EngineSubject::new(engine_named("auto")?))]),
        EngineSet::All => return Ok(ENGINES.iter().filter_map(|name| subject(name).ok()).collect()),
    };
    Ok(vec![subject(one)?])
}

fn subject(engine: &'static str) -> Result<Box<dyn Subject>, CliError> {
    Ok(Box::new(EngineSubject::new(engine_named(engine)?).with_name(engine)))
}

fn oracle(choice: OracleChoice) -> Result<Box<dyn Subject>, CliError> {
    Ok(match choice {
        OracleChoice::Model => Box::new(ModelSubject),
        OracleChoice::Kernel => Box::new(KernelSubject::open().map_err(CliError::Kernel)?),
    })
}

fn run_plugin<'s>(
    plugin: &Plugin,
    jobs: NonZero<usize>,
    cases: &'s [Case],
    oracle: &mut Option<Box<dyn Subject>>,
    bar: &ProgressBar,
) -> Result<Report<'s>, PluginError> {
    bar.set_message(plugin.name());
    let oracle = oracle.as_mut().map(|oracle| &mut **oracle as &mut dyn Subject);
    plugin.run_all(cases, jobs, oracle, || bar.inc(1))
}

fn run_engines<'s>(
    cases: &'s [Case],
    subjects: &mut [Box<dyn Subject>],
    oracle: &mut Option<Box<dyn Subject>>,
    bar: &ProgressBar,
) -> Vec<Report<'s>> {
    let reports = subjects.iter_mut().map(|subject| {
        bar.set_message(subject.name());
        let oracle = oracle.as_mut().map(|oracle| &mut **oracle as &mut dyn Subject);
        report::run(cases, &mut **subject, oracle, || bar.inc(1))
    });
    reports.collect()
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|source| CliError::Write { path: path.to_owned(), source })
}

fn document(suite: &Suite, reports: &[Report<'_>]) -> serde_json::Value {
    let counts = |counts: report::Counts| {
        json!({
            "passed": counts.passed,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "oracle_skipped": counts.oracle_skipped,
        })
    };
    let report = |report: &Report<'_>| {
        let groups = report.by_group().into_iter().map(|(name, of_group)| (name.to_owned(), counts(of_group)));
        let failures = report.failures().map(|(result, difference)| {
            json!({
                "file": result.case.file,
                "line": result.case.line,
                "title": result.case.title,
                "expected": difference.expected,
                "got": difference.got,
            })
        });
        let skipped = report.reasons_to_skip().into_iter().map(|(why, count)| (why, json!(count)));
        json!({
            "subject": report.subject,
            "counts": counts(report.counts()),
            "groups": groups.collect::<serde_json::Map<_, _>>(),
            "failures": failures.collect::<Vec<_>>(),
            "skipped_because": skipped.collect::<serde_json::Map<_, _>>(),
        })
    };
    json!({
        "cases": suite.cases.len(),
        "unreadable": suite.unreadable.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "reports": reports.iter().map(report).collect::<Vec<_>>(),
    })
}
