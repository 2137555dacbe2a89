//! Compiling: every program by softbpf's JIT, beside peers with `--features peers`; throughput is in instructions. What is
//! part of a compilation: head of `src/compile.rs`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use softbpf_benches::compile::{COMPILERS, ready};
use softbpf_benches::workload::{long, workloads};

fn compile(c: &mut Criterion) {
    let mut group = c.benchmark_group("compile");
    for workload in workloads().into_iter().chain([long()]) {
        group.throughput(Throughput::Elements(workload.bytecode.len() as u64 / 8));
        for row in COMPILERS {
            // Why one cannot take part is what the binary `compare` tells.
            let Ok(mut compiler) = ready(row, &workload) else { continue };
            group.bench_function(BenchmarkId::new(row.0, workload.name), |b| b.iter(|| compiler.repeat(1)));
        }
    }
    group.finish();
}

fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = short();
    targets = compile
}
criterion_main!(benches);
