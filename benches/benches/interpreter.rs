//! The CPU-bound programs on softbpf's engines, beside peers with `--features peers`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use softbpf_benches::contestants::{CONTESTANTS, Sort};
use softbpf_benches::workload::{Group, workloads};

fn run(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    let programs = workloads().into_iter().filter(|workload| workload.group != Group::Maps);
    for workload in programs {
        group.throughput(Throughput::Elements(workload.instructions().unwrap_or_else(|error| panic!("{error}"))));
        for row in CONTESTANTS.iter().filter(|row| row.sort != Sort::Native) {
            // Why one cannot take part is what the binary `compare` tells.
            let Ok(mut contestant) = row.ready(&workload) else { continue };
            group.bench_function(BenchmarkId::new(row.name, workload.name), |b| {
                b.iter(|| contestant.repeat(1));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, run);
criterion_main!(benches);
