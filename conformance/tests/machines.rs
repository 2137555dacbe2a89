//! Machines share nothing, repeat themselves, and let a test's panic through.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use softbpf::context::{Packet, PtRegs};
use softbpf::machine::{LoadError, MAX_CPUS, RunError};
use softbpf::object::MAIN;
use softbpf::{Config, Machine, Outcome};
use softbpf_conformance::programs::program;
use softbpf_conformance::{TestResult, engines, fixture, on_every_engine, try_on_every_engine};

fn assert_send<T: Send>() {}

#[test]
fn a_machine_can_be_sent_to_another_thread() {
    assert_send::<Machine>();
    on_every_engine(&fixture("subprogs.bpf.o"), |mut vm| {
        let ret = thread::spawn(move || vm.run("filter", Packet::new([0; 60])).map(|outcome| outcome.ret)).join();
        assert_eq!(ret.ok(), Some(Ok(Ok(0x8789_1703))));
    });
}

#[test]
fn machines_in_the_same_state_do_the_same() -> TestResult {
    let mut first = None;
    for _ in 0..2 {
        try_on_every_engine(&fixture("events.bpf.o"), |vm| {
            let runs = [vm.run("on_openat", [0; 48])?, vm.run("on_openat", [0; 48])?];
            let maps = [vm.map("last_seen")?.entries_bytes()?, vm.map("totals")?.entries_bytes()?];
            let this = (runs, maps, vm.world.clone());
            assert_eq!(*first.get_or_insert_with(|| this.clone()), this);
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn no_run_sees_what_another_left_on_the_stack() -> TestResult {
    let text = "r0 = *(u64 *)(r10 - 8)\n *(u64 *)(r10 - 8) = 77\n call sub\n exit
        sub: r1 = *(u64 *)(r10 - 8)\n r0 += r1\n *(u64 *)(r10 - 8) = 77\n exit";
    try_on_every_engine(&program(text), |vm| {
        for _ in 0..3 {
            assert_eq!(vm.run(MAIN, ())?.ret, Ok(0));
        }
        Ok(())
    })
}

#[test]
fn addresses_are_the_same_in_every_machine_and_run() -> TestResult {
    // Context, stack, and a map value.
    let addresses = |vm: &mut Machine| -> Result<[u64; 11], Box<dyn std::error::Error>> {
        let mut last = [0; 11];
        vm.trace("open_enter", PtRegs::new(), |step| last.copy_from_slice(step.registers))?;
        Ok(last)
    };
    let mut first = None;
    for _ in 0..3 {
        try_on_every_engine(&fixture("tailcall.bpf.o"), |vm| {
            for _ in 0..2 {
                let this = addresses(vm)?;
                assert_eq!(*first.get_or_insert(this), this);
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn guest_addresses_are_below_4_gib() -> TestResult {
    try_on_every_engine(&fixture("tailcall.bpf.o"), |vm| {
        let mut frame_pointers = Vec::new();
        vm.trace("open_enter", PtRegs::new(), |step| frame_pointers.push(step.registers[10]))?;
        assert!(frame_pointers.iter().all(|&address| address < 1 << 32));
        assert!(vm.place("object", &[0; 100])? < 1 << 32);
        Ok(())
    })
}

#[test]
fn a_thousand_machines_live_at_once() {
    let object = fixture("subprogs.bpf.o");
    for engine in engines() {
        let make = |_| Machine::with_config(&object, Config { engine: engine(), ..Config::default() });
        let machines: Result<Vec<Machine>, LoadError> = (0..1000).map(make).collect();
        let mut machines = machines.unwrap_or_else(|error| panic!("{error}"));
        let threads = 4;
        let run_all = |machines: &mut [Machine]| {
            for vm in machines {
                let ret = vm.run("filter", Packet::new([0; 60])).map(|outcome| outcome.ret);
                assert_eq!(ret, Ok(Ok(0x8789_1703)));
            }
        };
        thread::scope(|scope| {
            for part in machines.chunks_mut(1000 / threads) {
                scope.spawn(move || run_all(part));
            }
        });
    }
}

#[test]
fn a_panic_in_a_mock_reaches_the_test() {
    on_every_engine(&program("call sub\n exit\n sub: call ktime_get_ns\n exit"), |mut vm| {
        let mocked = vm.mock("ktime_get_ns", |_| -> u64 { panic!("a wrong expectation") });
        assert_eq!(mocked, Ok(()));
        let caught = catch_unwind(AssertUnwindSafe(|| vm.run(MAIN, ())));
        let message = caught.err().and_then(|payload| payload.downcast::<&str>().ok());
        assert_eq!(message.as_deref(), Some(&"a wrong expectation"));
        // What it was doing is lost.
        assert_eq!(vm.run(MAIN, ()), Err(RunError::Poisoned));
    });
}

#[test]
fn a_mock_that_stops_the_program_is_a_trap() -> TestResult {
    try_on_every_engine(&program("call ktime_get_ns\n exit"), |vm| {
        vm.mock("ktime_get_ns", |call| Err::<u64, _>(call.stop("not now")))?;
        let outcome = vm.run(MAIN, ())?;
        let message = outcome.trap().map(ToString::to_string);
        assert_eq!(message.as_deref(), Some("main: slot 0: the mock of ktime_get_ns stopped the program: not now"));
        // The machine is as good as before.
        vm.unmock("ktime_get_ns")?;
        assert!(vm.run(MAIN, ())?.ret.is_ok());
        Ok(())
    })
}

#[test]
fn a_mock_keeps_state_and_calls_are_counted() -> TestResult {
    let text = "r6 = 5\n again: r1 = r6\n call get_prandom_u32\n r6 -= 1\n if r6 != 0 goto again\n exit";
    try_on_every_engine(&program(text), |vm| {
        let mut numbers = (1..).map(|n| n * 10);
        vm.mock("get_prandom_u32", move |_| numbers.next().unwrap_or(0_u64))?;
        assert_eq!(vm.run(MAIN, ())?.ret, Ok(50));
        let calls = vm.calls("get_prandom_u32")?;
        let seen: Vec<_> = calls.records().iter().map(|call| (call.args[0], call.ret)).collect();
        assert_eq!(seen, [(5, Some(10)), (4, Some(20)), (3, Some(30)), (2, Some(40)), (1, Some(50))]);
        vm.forget_calls();
        assert!(vm.calls("get_prandom_u32")?.is_empty());
        Ok(())
    })
}

#[test]
fn numbers_of_mocks_are_sign_extended_to_64_bits() -> TestResult {
    try_on_every_engine(&program("call get_prandom_u32\n exit"), |vm| {
        vm.mock("get_prandom_u32", |_| -14_i32)?;
        assert_eq!(vm.run(MAIN, ())?.ret, Ok(-14_i64 as u64));
        vm.mock("get_prandom_u32", |_| u32::MAX)?;
        assert_eq!(vm.run(MAIN, ())?.ret, Ok(u32::MAX.into()));
        vm.mock("get_prandom_u32", |_| ())?;
        assert_eq!(vm.run(MAIN, ())?.ret, Ok(0));
        Ok(())
    })
}

#[test]
fn a_machine_has_between_one_and_many_cpus() {
    let object = fixture("xdp_count.bpf.o");
    for (cpus, made) in [(0, false), (1, true), (MAX_CPUS, true), (MAX_CPUS + 1, false)] {
        let machine = Machine::with_config(&object, Config { cpus, ..Config::default() });
        assert_eq!(machine.is_ok(), made, "{cpus} CPUs");
    }
}

#[test]
fn a_program_that_does_not_exist_is_an_error_that_lists_those_that_do() -> TestResult {
    try_on_every_engine(&fixture("tailcall.bpf.o"), |vm| {
        let known = ["open_report", "spin", "open_enter"].map(String::from).to_vec();
        let error = vm.run("open_exit", PtRegs::new()).err();
        assert_eq!(error, Some(RunError::NoSuchProgram { name: "open_exit".into(), known }));
        Ok(())
    })
}

#[test]
fn an_unfit_context_is_an_error_and_the_machine_still_works() -> TestResult {
    try_on_every_engine(&fixture("tailcall.bpf.o"), |vm| {
        assert!(matches!(vm.run("spin", Packet::new([0; 60])), Err(RunError::Context(_))));
        let outcome: Outcome = vm.run("spin", PtRegs::new())?;
        assert_eq!(outcome.ret, Ok(3));
        Ok(())
    })
}
