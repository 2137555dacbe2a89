//! Every row of the instruction set has vectors that accept it and vectors that reject it, and `COVERAGE.md` says so.

use std::collections::BTreeSet;

use softbpf_conformance::coverage::{rows, table};
use softbpf_conformance::engines;
use softbpf_conformance::subject::{EngineSubject, Subject};
use softbpf_conformance::suite::Suite;
use softbpf_conformance::verdict::{Verdict, judge};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/COVERAGE.md");

#[test]
fn every_row_is_accepted_and_rejected_somewhere() {
    let suite = Suite::own();
    let mut subjects: Vec<EngineSubject> = engines().into_iter().map(EngineSubject::new).collect();
    let rows = rows(suite.cases.iter().map(|case| {
        let passed = subjects
            .iter_mut()
            .filter_map(|subject| (judge(case, &subject.run(case)) == Verdict::Passed).then(|| subject.name()));
        (case, passed.collect::<BTreeSet<String>>())
    }));
    for row in &rows {
        assert!(!row.accepting.is_empty(), "no vector accepts `{}`", row.insn);
        assert!(!row.rejecting.is_empty(), "no vector rejects `{}`", row.insn);
    }
    let text = table(&rows);
    if std::env::var_os("UPDATE_COVERAGE").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let written = std::fs::read_to_string(FILE).unwrap_or_default();
    // A machine that lacks an engine cannot say what passes on it.
    let (text, written) =
        if engines().len() < 2 { (without_engines(&text), without_engines(&written)) } else { (text, written) };
    assert!(text == written, "COVERAGE.md is not current: run the test with UPDATE_COVERAGE=1");
}

/// The table without its last column.
fn without_engines(table: &str) -> String {
    let cut = |line: &str| line.rsplitn(3, '|').last().unwrap_or(line).to_owned() + "\n";
    table.lines().map(cut).collect()
}
