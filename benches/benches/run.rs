//! Running: every program on softbpf's engines, beside peers with `--features peers`. A group each for computation
//! (`cpu`), helper and function calls (`calls`), map operations (`maps`), and so on.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use softbpf_benches::contestants::{CONTESTANTS, Sort};
use softbpf_benches::workload::workloads;

fn run(c: &mut Criterion) {
    for workload in workloads() {
        let mut group = c.benchmark_group(workload.group.to_string());
        group.throughput(Throughput::Elements(workload.instructions().unwrap_or_else(|error| panic!("{error}"))));
        for row in CONTESTANTS.iter().filter(|row| row.sort != Sort::Native) {
            // Why one cannot take part is what the binary `compare` tells.
            let Ok(mut contestant) = row.ready(&workload) else { continue };
            group.bench_function(BenchmarkId::new(row.name, workload.name), |b| {
                b.iter(|| contestant.repeat(1));
            });
        }
        group.finish();
    }
}

fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = short();
    targets = run
}
criterion_main!(benches);
