//! Every contestant gives every program's result, or says why it cannot take part.

use std::collections::BTreeSet;
use std::time::Duration;

use softbpf_benches::compile;
use softbpf_benches::contestants::CONTESTANTS;
use softbpf_benches::measure::Plan;
use softbpf_benches::workload::{Group, long, workloads};

#[test]
fn results_are_what_the_table_says() {
    for workload in workloads() {
        assert_ne!(workload.instructions(), Ok(0), "{}", workload.name);
        for row in CONTESTANTS {
            if let Err(why) = row.ready(&workload) {
                assert!(!why.starts_with("r0 is"), "{} on {}: {why}", workload.name, row.name);
            }
        }
    }
}

#[test]
fn native_rust_has_all_that_takes_memory() {
    let native = &CONTESTANTS[0];
    let refused = workloads().into_iter().filter(|workload| native.ready(workload).is_err());
    let groups: Vec<_> = refused.map(|workload| workload.group).collect();
    assert!(!groups.is_empty() && groups.iter().all(|group| *group == Group::Maps), "{groups:?}");
}

#[test]
fn names_are_unique() {
    let programs: BTreeSet<_> = workloads().iter().map(|workload| workload.name).collect();
    let contestants: BTreeSet<_> = CONTESTANTS.iter().map(|row| row.name).collect();
    assert_eq!((programs.len(), contestants.len()), (workloads().len(), CONTESTANTS.len()));
}

#[test]
fn a_long_program_has_the_length_it_says() {
    assert_eq!(long().bytecode.len() / 8, 4096);
}

#[test]
fn compilers_tell_time_and_size() {
    let plan = Plan { rounds: 2, sample: Duration::from_micros(10) };
    let long = compile::compile(&long(), plan, |_| true);
    if softbpf_jit::engine().is_ok() {
        let rate = long.rate("jit").expect("it compiles everything");
        assert!(rate.ns > 0.0 && rate.bytes.is_some_and(|bytes| bytes > 1.0), "{rate}");
    }
    assert!(compile::COMPILERS.iter().all(|row| CONTESTANTS.iter().any(|other| other.name == row.0)));
}
