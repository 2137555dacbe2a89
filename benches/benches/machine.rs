//! Everything around a run: reading objects, checking programs, making, resetting and dropping machines.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Bencher, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use softbpf::context::Bytes;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object};
use softbpf_benches::workload::object_path;

/// A small object, one with maps, and a long program.
const OBJECTS: [(&str, &str); 3] = [("lcg", "lcg"), ("maps", "map_hash_update"), ("tracing", "tracing")];

fn object(name: &str) -> Object {
    Object::from_file(object_path(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn machine(object: &Object) -> Machine {
    Machine::load(object).unwrap_or_else(|error| panic!("{error}"))
}

/// Ten maps, two each of five types, as a tracing tool may have them.
fn ten_maps() -> Object {
    let types = [MapType::Array, MapType::Hash, MapType::LruHash, MapType::PercpuArray, MapType::PercpuHash];
    let map = |(number, map_type): (usize, MapType)| MapSpec::new(format!("map{number}"), map_type, 4, 8, 256);
    let maps = types.into_iter().chain(types).enumerate().map(map).collect();
    Object::assemble("r0 = 0\n exit", ProgramType::Unspec, maps).unwrap_or_else(|error| panic!("{error}"))
}

/// From the bytes of a file to an object.
fn load(c: &mut Criterion) {
    let mut group = c.benchmark_group("load");
    for (name, _) in OBJECTS {
        let bytes = std::fs::read(object_path(name)).unwrap_or_else(|error| panic!("{error}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| Object::parse(black_box(&bytes))));
    }
    group.finish();
}

/// The structural check alone, and together with linking.
fn check(c: &mut Criterion) {
    let mut group = c.benchmark_group("check");
    for (name, program) in OBJECTS {
        let object = object(name);
        let checked = object.program(program).unwrap_or_else(|error| panic!("{error}"));
        group.throughput(Throughput::Elements(checked.code().insns().len() as u64));
        group.bench_function(BenchmarkId::new("check", program), |b| {
            b.iter(|| softbpf::check::check(black_box(checked.code())));
        });
        group.bench_function(BenchmarkId::new("link", program), |b| b.iter(|| black_box(&object).program(program)));
    }
    group.finish();
}

/// Makes machines one by one; dropping them is not counted.
fn create(b: &mut Bencher<'_>, object: &Object) {
    b.iter_batched(|| (), |()| machine(object), BatchSize::PerIteration);
}

/// Making a machine, dropping it, and what a run does to it: placing a context and clearing it away again. A machine that is made
/// gets the memory of the one that was dropped before; not so where thousands live.
fn lifetime(c: &mut Criterion) {
    let mut group = c.benchmark_group("machine");
    for (name, _) in OBJECTS {
        let object = object(name);
        group.bench_function(BenchmarkId::new("create", name), |b| create(b, &object));
        group.bench_function(BenchmarkId::new("drop", name), |b| {
            b.iter_batched(|| machine(&object), drop, BatchSize::PerIteration);
        });
    }
    let ten_maps = ten_maps();
    group.bench_function("create/ten maps", |b| create(b, &ten_maps));
    group.bench_function("create among thousands/ten maps", |b| b.iter_with_large_drop(|| machine(&ten_maps)));
    let mut with_maps = machine(&ten_maps);
    group.bench_function("return to the start/ten maps", |b| b.iter(|| with_maps.reset()));
    let mut empty = machine(&object("empty"));
    for size in [0, 1024, 64 * 1024] {
        let memory = vec![1; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("reset", size), |b| {
            b.iter(|| empty.run("empty", Bytes(black_box(&memory))));
        });
    }
    group.finish();
}

fn short() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = benches;
    config = short();
    targets = load, check, lifetime
}
criterion_main!(benches);
