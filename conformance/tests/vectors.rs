//! Our own vectors, on every engine.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use softbpf_conformance::case::{Case, End, REASONS};
use softbpf_conformance::engines;
use softbpf_conformance::oracle::{KernelSubject, ModelSubject};
use softbpf_conformance::subject::{EngineSubject, Subject};
use softbpf_conformance::suite::{OWN, Suite};
use softbpf_conformance::verdict::{Difference, Verdict, judge};

static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
    let suite = Suite::own();
    assert!(suite.unreadable.is_empty(), "{}", suite.unreadable[0]);
    suite.cases
});

fn assert_agrees(subject: &mut dyn Subject) -> usize {
    let (failures, skipped) = judge_all(subject);
    let shown = failures.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {}, {}:\n{shown}", failures.len(), CASES.len(), subject.name());
    skipped
}

#[test]
fn every_vector_passes_on_every_engine() {
    assert!(CASES.len() > 25_000, "{} vectors", CASES.len());
    for engine in engines() {
        assert_eq!(assert_agrees(&mut EngineSubject::new(engine)), 0);
    }
}

#[test]
fn the_model_agrees_with_every_vector() {
    let skipped = assert_agrees(&mut ModelSubject);
    let beyond = ["helper.vec", "tail_call.vec"];
    let askable = |case: &&Case| !matches!(case.expect.end, End::Rejected(..)) && !beyond.contains(&case.file.as_str());
    assert_eq!(skipped, CASES.len() - CASES.iter().filter(askable).count());
}

#[test]
#[allow(clippy::print_stderr)]
fn the_kernel_agrees_with_every_vector_that_it_takes() {
    match KernelSubject::open() {
        Ok(mut kernel) => {
            let skipped = assert_agrees(&mut kernel);
            eprintln!("the kernel was asked {} vectors, and {skipped} not or in vain", CASES.len() - skipped);
        }
        Err(why) => eprintln!("skipped: {why}"),
    }
}

#[test]
fn every_file_of_the_folder_is_in_the_list() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors");
    let files: BTreeSet<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let listed: BTreeSet<String> = OWN.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, listed);
}

#[test]
fn every_reason_to_reject_has_a_vector() {
    let mut missing: BTreeSet<&str> = REASONS.iter().copied().collect();
    for case in &*CASES {
        if let End::Rejected(reason, _) = &case.expect.end {
            missing.remove(reason.as_str());
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// What the subject answers to every case, held against what the vector says: failures, and how many were skipped.
fn judge_all(subject: &mut dyn Subject) -> (Vec<String>, usize) {
    let mut skipped = 0;
    let failures = CASES.iter().filter_map(|case| match judge(case, &subject.run(case)) {
        Verdict::Passed => None,
        Verdict::Failed(Difference { expected, got }) => {
            Some(format!("{}:{}: {}\n  expected {expected}\n  got      {got}", case.file, case.line, case.title))
        }
        Verdict::Skipped { .. } => {
            skipped += 1;
            None
        }
    });
    (failures.collect(), skipped)
}
