//! The interpreter on CPU-bound programs, beside solana-sbpf's with `--features peers`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use softbpf::Machine;
use softbpf::context::Bytes;
use softbpf_benches::cpu_bound;

fn interpreter(c: &mut Criterion) {
    let mut group = c.benchmark_group("interpreter");
    for workload in cpu_bound() {
        let mut vm = Machine::load(&workload.object).unwrap_or_else(|error| panic!("{error}"));
        let mut run = |memory: &[u8]| vm.run(workload.name, Bytes(memory)).unwrap_or_else(|error| panic!("{error}"));
        let outcome = run(&workload.memory);
        assert_eq!(outcome.ret, Ok(workload.expected), "{}", workload.name);

        group.throughput(Throughput::Elements(outcome.instructions));
        group.bench_function(BenchmarkId::new("softbpf", workload.name), |b| {
            b.iter(|| run(black_box(&workload.memory)).ret);
        });
        #[cfg(feature = "peers")]
        {
            let mut peer = softbpf_benches::solana::Solana::load(&workload.bytecode, workload.memory.len());
            assert_eq!(peer.run(&workload.memory).0, workload.expected, "{}", workload.name);
            group.bench_function(BenchmarkId::new("solana-sbpf", workload.name), |b| {
                b.iter(|| peer.run(black_box(&workload.memory)).0);
            });
        }
    }
    group.finish();
}

criterion_group!(benches, interpreter);
criterion_main!(benches);
