//! A machine that was reset is as it was loaded, one that was reloaded is as a new one, and so is one whose memory another had.

use std::panic::{AssertUnwindSafe, catch_unwind};

use softbpf::context::{Bytes, Packet};
use softbpf::machine::RunError;
use softbpf::map_spec::{MapSpec, MapType};
use softbpf::memory::{FAR_START, Permission};
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::world::World;
use softbpf::{Config, Machine, Object, text};
use softbpf_conformance::generator::scenario::{Scenario, ScenarioKnobs};
use softbpf_conformance::model::scenario::{machine, on_machine, runs};
use softbpf_conformance::programs::{program, program_with};
use softbpf_conformance::reusable::Reusable;
use softbpf_conformance::{TestResult, engines, fixture, on_every_engine_with, try_on_every_engine};

/// Scenarios that are held against those on a new machine.
const SCENARIOS: u64 = 300;

#[test]
fn scenarios_go_as_on_a_new_machine() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for engine in engines() {
        let mut reused = Reusable::new(engine);
        for seed in 0..SCENARIOS {
            let scenario = Scenario::from_seed(seed, &ScenarioKnobs::mixed(seed));
            let mut new = machine(&scenario, engine)?;
            let expected = runs(&scenario, &mut new)?;
            assert_eq!(on_machine(&scenario, &mut reused)?, expected, "reloaded: {seed}\n{scenario}");
            new.reset();
            assert_eq!(runs(&scenario, &mut new)?, expected, "reset: {seed}\n{scenario}");
        }
    }
    Ok(())
}

#[test]
fn a_reset_gives_back_what_was_placed() -> TestResult {
    // What lies at the address in its packet.
    let look = "r2 = *(u32 *)(r1 + 0)\n r2 = *(u64 *)(r2 + 0)\n r0 = *(u64 *)(r2 + 0)\n exit";
    let object = Object::assemble(look, ProgramType::Xdp, Vec::new())?;
    try_on_every_engine(&object, |vm| {
        let mut addresses = Vec::new();
        for round in 0..4 {
            let near = vm.place("near", &[7; 5000])?;
            vm.place_at(1 << 40, "far", &[9; 8])?;
            addresses.push(near);
            let see = |vm: &mut Machine, addr: u64| -> Result<_, RunError> {
                Ok(vm.run(MAIN, Packet::new(addr.to_le_bytes()))?.ret)
            };
            assert_eq!(see(vm, near + 4992)?, Ok(0x0707_0707_0707_0707));
            assert_eq!(see(vm, 1 << 40)?, Ok(0x0909_0909_0909_0909));
            if round % 2 == 0 {
                vm.reset()
            } else {
                vm.reload(&object)?
            }
            for addr in [near, near + 4992, 1 << 40] {
                assert!(see(vm, addr)?.is_err());
            }
        }
        addresses.dedup();
        assert_eq!(addresses.len(), 1);
        Ok(())
    })
}

#[test]
fn a_new_object_finds_zeros() -> TestResult {
    let write =
        "ld_pseudo r1, 0x2, 0x0, 0x0\n r2 = -1\n *(u64 *)(r1 + 4088) = r2\n *(u64 *)(r1 + 0) = r2\n r0 = 0\n exit";
    let read = "ld_pseudo r1, 0x2, 0x0, 0x0\n r0 = *(u64 *)(r1 + 8)\n r2 = *(u64 *)(r1 + 4080)\n r0 |= r2\n exit";
    let array = |size| vec![MapSpec::new("array", MapType::Array, 4, size, 1)];
    let beyond = "ld_pseudo r1, 0x2, 0x0, 0x0\n r0 = *(u64 *)(r1 + 4088)\n exit";
    let assemble = |text: &str, size| Object::assemble(text, ProgramType::Unspec, array(size));
    let (write, read, beyond) = (assemble(write, 4096)?, assemble(read, 4088)?, assemble(beyond, 4088)?);
    try_on_every_engine(&write, |vm| {
        for _ in 0..3 {
            vm.reload(&write)?;
            assert_eq!(vm.run(MAIN, ())?.ret, Ok(0));
            vm.reload(&read)?;
            assert_eq!(vm.run(MAIN, ())?.ret, Ok(0));
            vm.reload(&beyond)?;
            assert!(vm.run(MAIN, ())?.ret.is_err());
        }
        Ok(())
    })
}

#[test]
fn maps_are_as_declared_after_a_reset() -> TestResult {
    try_on_every_engine(&fixture("events.bpf.o"), |vm| {
        let mut expected = None;
        for round in 0..3 {
            let outcomes = [vm.run("on_openat", [0; 48])?, vm.run("on_openat", [0; 48])?];
            let names: Vec<_> = vm.map_names().cloned().collect();
            let mut maps = Vec::new();
            for name in &names {
                // Not of every type can the elements be read.
                maps.push((vm.map(name)?.map().len(), vm.map(name)?.entries_bytes().ok()));
            }
            let this = (outcomes, maps, vm.world.clone());
            assert_eq!(*expected.get_or_insert_with(|| this.clone()), this, "round {round}");
            vm.reset();
            assert_eq!(vm.world, World::default());
        }
        Ok(())
    })
}

#[test]
fn a_hash_that_has_grown_is_as_small_as_before() -> TestResult {
    let maps = vec![MapSpec::new("large", MapType::Hash, 4, 1 << 16, 100_000)];
    try_on_every_engine(&program_with("r0 = 0\n exit", maps), |vm| {
        let place = vm.place("object", &[1; 8])?;
        for _ in 0..2 {
            vm.reset();
            for key in 0..600_u32 {
                vm.map("large")?.insert_bytes(&key.to_le_bytes(), &[1; 1 << 16], 0)?;
            }
            assert_ne!(vm.place("object", &[1; 8])?, place);
        }
        vm.reset();
        assert!(vm.map("large")?.map().is_empty());
        assert_eq!(vm.place("object", &[1; 8])?, place);
        vm.reload(&program("r0 = 0\n exit"))?;
        assert!(vm.place("object", &[1; 8])? < place);
        Ok(())
    })
}

#[test]
fn a_record_that_was_left_reserved_is_gone() -> TestResult {
    let leave =
        "ld_pseudo r1, 0x1, 0x0\n r2 = 16\n r3 = 0\n call ringbuf_reserve\n r1 = r0\n *(u64 *)(r1 + 0) = 1\n exit";
    let ring = || vec![MapSpec::new("ring", MapType::Ringbuf, 0, 0, 4096)];
    let object = Object::assemble(leave, ProgramType::Unspec, ring())?;
    try_on_every_engine(&object, |vm| {
        let first = vm.run(MAIN, ())?;
        assert!(first.ret.is_err());
        vm.reset();
        assert_eq!(vm.run(MAIN, ())?, first);
        vm.reload(&object)?;
        assert_eq!(vm.run(MAIN, ())?, first);
        Ok(())
    })
}

#[test]
fn strict_machines_stay_strict() -> TestResult {
    let object = program("r1 = 1\n *(u8 *)(r10 - 8) = r1\n r0 = *(u8 *)(r10 - 8)\n r2 = *(u8 *)(r10 - 7)\n exit");
    let lax = program("r0 = *(u64 *)(r10 - 8)\n exit");
    let mut result = Ok(());
    on_every_engine_with(
        &object,
        || Config { track_uninitialised: true, ..Config::default() },
        |mut vm| {
            let mut test = || -> TestResult {
                let first = vm.run(MAIN, ())?;
                assert!(first.ret.is_err());
                vm.reset();
                assert_eq!(vm.run(MAIN, ())?, first);
                vm.reload(&lax)?;
                assert!(vm.run(MAIN, ())?.ret.is_err());
                vm.reload(&object)?;
                assert_eq!(vm.run(MAIN, ())?, first);
                Ok(())
            };
            if result.is_ok() {
                result = test();
            }
        },
    );
    result
}

#[test]
fn a_machine_has_as_many_cpus_as_before() {
    let object = program_with("r0 = 0\n exit", vec![MapSpec::new("each", MapType::PercpuHash, 4, 12, 3)]);
    on_every_engine_with(
        &object,
        || Config { cpus: 64, ..Config::default() },
        |mut vm| {
            for round in 0..4 {
                let size = vm.map("each").map(|each| each.map().user_value_size());
                assert_eq!(size, Ok(64 * 16));
                let inserted = vm.map("each").map(|mut each| each.insert_bytes(&[round, 0, 0, 0], &[1; 64 * 16], 0));
                assert!(matches!(inserted, Ok(Ok(()))));
                let len = vm.map("each").map(|each| each.map().len());
                assert_eq!(len, Ok(1));
                if round % 2 == 0 {
                    vm.reset();
                } else {
                    assert_eq!(vm.reload(&object), Ok(()));
                }
            }
        },
    );
}

#[test]
fn a_panic_ends_with_a_reset() {
    let text = "call sub\n exit\n sub: *(u64 *)(r10 - 8) = 5\n call ktime_get_ns\n exit";
    on_every_engine_with(&program(text), Config::default, |mut vm| {
        let mut calls = 0;
        let mocked = vm.mock("ktime_get_ns", move |_| {
            calls += 1;
            assert!(calls % 2 == 0, "every other call");
            calls
        });
        assert_eq!(mocked, Ok(()));
        for round in 0..3 {
            assert!(catch_unwind(AssertUnwindSafe(|| vm.run(MAIN, ()))).is_err());
            assert_eq!(vm.run(MAIN, ()), Err(RunError::Poisoned));
            vm.reset();
            // The mock has kept its state.
            let ret = vm.run(MAIN, ()).map(|outcome| outcome.ret);
            assert_eq!(ret, Ok(Ok(2 * round + 2)));
        }
        assert!(catch_unwind(AssertUnwindSafe(|| vm.run(MAIN, ()))).is_err());
        assert_eq!(vm.reload(&program("r0 = *(u64 *)(r10 - 504)\n call ktime_get_ns\n exit")), Ok(()));
        let ret = vm.run(MAIN, ()).map(|outcome| outcome.ret);
        assert_eq!(ret, Ok(Ok(World::default().clock.read_monotonic())));
    });
}

/// Programs that were reached by a tail call only are known by their number too.
#[test]
fn no_program_of_another_object_runs() -> TestResult {
    let object = |constant: i32| -> Result<Object, Box<dyn std::error::Error>> {
        let callee = format!("r0 = {constant}\n exit");
        let caller = "ld_pseudo r2, 0x1, 0x0\n r3 = 0\n call 12\n r0 = -1\n exit";
        let program = |name: &str, text: &str| -> Result<Program, Box<dyn std::error::Error>> {
            Ok(Program::new(ProgramInfo::new(name, ProgramType::Unspec), text::parse::parse(text)?.code)?)
        };
        let programs = vec![program("first", caller)?, program("callee", &callee)?, program("last", caller)?];
        Ok(Object::from_programs(programs, vec![MapSpec::new("programs", MapType::ProgArray, 4, 4, 1)]))
    };
    try_on_every_engine(&object(0)?, |vm| {
        for (constant, entry) in (1..).zip(["first", "last", "first", "first", "callee", "last"]) {
            vm.reload(&object(constant)?)?;
            vm.set_tail_call("programs", 0, "callee")?;
            assert_eq!(vm.run(entry, ())?.ret, Ok(constant as u64));
        }
        Ok(())
    })
}

#[test]
fn an_object_that_does_not_load_leaves_an_empty_machine() -> TestResult {
    let bad = program_with("r0 = 0\n exit", vec![MapSpec::new("bad", MapType::Hash, 0, 0, 0)]);
    try_on_every_engine(&program("r0 = 1\n exit"), |vm| {
        assert!(vm.reload(&bad).is_err());
        assert_eq!((vm.programs().len(), vm.map_names().count()), (0, 0));
        assert!(matches!(vm.run(MAIN, ()), Err(RunError::NoSuchProgram { .. })));
        vm.reload(&program("r0 = 2\n exit"))?;
        assert_eq!(vm.run(MAIN, ())?.ret, Ok(2));
        Ok(())
    })
}

/// Where the zones of memory begin, and as many bytes of each as the test below writes to.
const ZONES: [(u32, u32); 2] = [(0, 2 << 20), (1 << 30, 1 << 20)];

/// That everything a machine can touch is closed and zero.
fn is_as_new(vm: &mut Machine, far: u64) -> TestResult {
    assert!(vm.memory.read(far, 1).is_err());
    for (start, len) in ZONES {
        assert!((start..start + len).all(|addr| !vm.memory.is_granted(addr)));
        vm.memory.grant(start, len, Permission::ReadWrite);
        assert!(vm.memory.read(start.into(), len.into()).is_ok_and(|bytes| bytes.iter().all(|&byte| byte == 0)));
    }
    Ok(())
}

#[test]
fn a_machine_with_the_memory_of_another_finds_nothing_of_it() -> TestResult {
    // Both stack frames, the context, and a record that is left reserved.
    let fill = "r2 = -1\n *(u64 *)(r1 + 0) = r2\n *(u64 *)(r10 - 512) = r2\n *(u64 *)(r10 - 8) = r2\n call sub
        ld_pseudo r1, 0x1, 0x0\n r2 = 16\n r3 = 0\n call ringbuf_reserve\n r1 = r0\n r2 = -1\n *(u64 *)(r1 + 0) = r2\n exit
        sub: *(u64 *)(r10 - 512) = r2\n *(u64 *)(r10 - 8) = r2\n exit";
    let types = [MapType::Array, MapType::Hash, MapType::PercpuArray, MapType::PercpuHash, MapType::LruHash];
    let values = types.into_iter().map(|map_type| MapSpec::new(map_type.to_string(), map_type, 4, 24, 3));
    let ring = MapSpec::new("ring", MapType::Ringbuf, 0, 0, 4096);
    let fill = Object::assemble(fill, ProgramType::Unspec, std::iter::once(ring).chain(values).collect())?;
    let packet = "r2 = *(u32 *)(r1 + 0)\n r0 = -1\n *(u64 *)(r2 + 0) = r0\n exit";
    let packet = Object::assemble(packet, ProgramType::Xdp, Vec::new())?;
    let empty = program("r0 = 0\n exit");
    for track_uninitialised in [false, true] {
        let config = || Config { track_uninitialised, ..Config::default() };
        let mut result = Ok(());
        let mut check = |test: &mut dyn FnMut() -> TestResult| {
            if result.is_ok() {
                result = test();
            }
        };
        on_every_engine_with(&fill, config, |mut vm| {
            check(&mut || {
                vm.run(MAIN, Bytes(&[1; 64]))?;
                for map_type in types {
                    let name = map_type.to_string();
                    let size = vm.map(&name)?.map().user_value_size() as usize;
                    vm.map(&name)?.insert_bytes(&[1, 0, 0, 0], &vec![7; size], 0)?;
                }
                vm.place("near", &[7; 5000])?;
                vm.place_at(FAR_START, "far", &[9; 8])?;
                for (start, len) in ZONES {
                    vm.memory.grant(start, len.min(8192), Permission::ReadWrite);
                    assert_eq!(vm.memory.write(start.into(), &[8; 8192]), Ok(()));
                }
                Ok(())
            });
            drop(vm);
            check(&mut || is_as_new(&mut Machine::with_config(&empty, Config::default())?, FAR_START));
        });
        on_every_engine_with(&packet, config, |mut vm| {
            check(&mut || {
                assert_eq!(vm.run(MAIN, Packet::new([1; 1500]))?.ret, Ok(u64::MAX));
                Ok(())
            });
            drop(vm);
            check(&mut || is_as_new(&mut Machine::with_config(&empty, Config::default())?, FAR_START));
        });
        result?;
    }
    Ok(())
}
