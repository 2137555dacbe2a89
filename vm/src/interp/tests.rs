//! A run that changes hands between any two instructions comes to the same.

use super::flat::Touches;
use super::state::Frame;
use super::{CallerFrame, Interpreter, Run, Suspended};
use crate::context::{Bytes, Context, Packet};
use crate::engine::{Engine, Entry, Finish, ProgramId, StepHook};
use crate::helpers::{Call, Stop};
use crate::machine::Config;
use crate::map_spec::{MapSpec, MapType};
use crate::object::MAIN;
use crate::program_type::ProgramType;
use crate::{Machine, Object, Outcome, Trap};

/// Runs with the interpreter up to some instruction, and hands the run over there.
#[derive(Debug)]
struct Relay {
    cut: u64,
}

impl Engine for Relay {
    fn name(&self) -> &'static str {
        "relay"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, _: Option<StepHook<'_>>) -> Finish {
        let mut interpreter = Interpreter::new();
        assert!(interpreter.prepare(machine, entry.program));
        let part = Entry { budget: self.cut, ..entry };
        interpreter.work(&part, None, |run, _| {
            run.handed_over_with = Some(entry.budget);
            run.whole(machine, &part, Touches::Writes)
        })
    }
}

impl Run<'_, '_> {
    /// Lets another interpreter go on, with another budget, to the end or up to the floor.
    pub(super) fn hand_over(&mut self, machine: &mut Machine, budget: u64) -> Result<u64, Box<Trap>> {
        let frames = &self.state.frames[..self.state.depth as usize];
        let suspended = Suspended {
            program: ProgramId(self.state.program),
            index: self.state.pc,
            registers: *self.regs.first_chunk().expect("sixteen registers"),
            callers: frames.iter().copied().map(CallerFrame::from).collect(),
            floor: self.state.floor,
            loops: self.state.loops,
            used: self.state.used,
            budget,
            tail_calls: self.tail_calls,
        };
        let resumed = Interpreter::new().resume(machine, suspended);
        self.state.used = resumed.used;
        self.state.budget = budget;
        self.state.deepest = self.state.deepest.max(resumed.deepest);
        self.state.depth = self.state.floor;
        self.tail_calls = resumed.tail_calls;
        resumed.ret.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl From<Frame> for CallerFrame {
    fn from(frame: Frame) -> CallerFrame {
        let Frame { program, ret, saved, frame_pointer, loops } = frame;
        CallerFrame { program: ProgramId(program), ret: ret as usize, saved, frame_pointer, loops }
    }
}

/// Bytes of stack that are more than enough for a run, also where no call is a jump.
const STACK: usize = 512 << 10;

/// A helper that nothing implements, for a mock that calls back.
const HELPER: &str = "find_vma";

fn call_back(call: &mut Call<'_>) -> Result<u64, Stop> {
    let first = call.call_back(call.arg(0), [call.arg(1), 0, 0, 0, 0])?;
    call.call_back(call.arg(0), [first, 0, 0, 0, 0])
}

/// All of what a run leaves, the stack of the next one included.
fn run(object: &Object, engine: Box<dyn Engine>, fuel: u64, track: bool, context: &dyn Context) -> Outcome {
    let config = Config { engine, track_uninitialised: track, ..Config::default() };
    let mut vm = Machine::with_config(object, config).expect("a machine");
    vm.fuel = fuel;
    vm.mock(HELPER, call_back).expect("a helper");
    vm.set_tail_call("progs", 0, "tail").expect("a slot");
    let outcome = vm.run(MAIN, context).expect("a run");
    for frame in 0..crate::memory::MAX_FRAMES {
        let base = crate::memory::frame_base(frame);
        assert!(!vm.memory.is_granted(base) || track, "frame {frame} is open");
        assert_eq!(vm.memory.get(base, 512), [0; 512], "frame {frame} is not empty");
    }
    outcome
}

/// Checks every cut of the run with this much fuel.
fn assert_equal_at_every_cut(object: &Object, fuel: u64, context: &dyn Context) {
    for track in [false, true] {
        let whole = run(object, Box::new(Interpreter::new()), fuel, track, context);
        for cut in 0..=whole.instructions.min(300) {
            let cut_run = run(object, Box::new(Relay { cut }), fuel, track, context);
            assert_eq!(cut_run, whole, "cut after {cut}");
        }
    }
}

fn object(main: &str, tail: &str) -> Object {
    let progs = vec![MapSpec::new("progs", MapType::ProgArray, 4, 4, 1)];
    let mut programs = Vec::new();
    for (name, text) in [(MAIN, main), ("tail", tail)] {
        let mut object = Object::assemble(text, ProgramType::Unspec, progs.clone()).expect("assembly");
        object.program_mut(MAIN).expect("a program").name = name.into();
        programs.push(object.program(name).expect("a program"));
    }
    Object::from_programs(programs, progs)
}

const CONTEXT: Bytes<'_> = Bytes(&[1, 2, 3, 4]);

const CALLS: &str = "r6 = 3\n *(u64 *)(r10 - 8) = 4\n again: r1 = r6\n call sub\n r6 -= 1\n if r6 != 0 goto again
    r1 = *(u64 *)(r10 - 8)\n r0 += r1\n exit\n sub: r6 = r1\n *(u64 *)(r10 - 16) = r6\n r6 = 9\n call leaf
    r1 = *(u64 *)(r10 - 16)\n r0 += r1\n exit\n leaf: r7 = 1\n may_goto +0\n r0 += 1\n exit";

const TAIL_CALLS: &str =
    "r6 = r1\n r7 = 5\n call sub\n r0 += r7\n r1 = r6\n r2 = progs ll\n r3 = 0\n call tail_call\n exit
    sub: r6 = 1\n r2 = progs ll\n r3 = 0\n call tail_call\n r0 = 0\n exit";
const TAIL: &str =
    "r6 = r1\n *(u64 *)(r10 - 8) = 1\n r2 = progs ll\n r3 = 0\n call tail_call\n r0 = *(u8 *)(r6 + 3)\n exit";

const CALLS_BACK: &str = "r6 = r1\n r7 = 2\n again: r1 = f ll\n r2 = r7\n call find_vma\n r8 += r0\n r7 -= 1
    if r7 != 0 goto again\n r0 = r8\n exit\n f: *(u64 *)(r10 - 8) = r1\n r6 = 2\n loop: r6 -= 1\n if r6 != 0 goto loop
    call g\n r1 = *(u64 *)(r10 - 8)\n r0 += r1\n exit\n g: r0 = 10\n may_goto +0\n exit";

const CALL_BACK_TO_TAIL_CALL: &str =
    "r6 = r1\n r2 = r1\n r1 = f ll\n call find_vma\n r1 = f ll\n r2 = r6\n call find_vma\n exit
    f: if r1 == 4 goto out\n r2 = progs ll\n r3 = 0\n call tail_call\n out: r0 = 77\n exit";

#[test]
fn local_calls() {
    assert_equal_at_every_cut(&object(CALLS, "exit"), 1000, &CONTEXT);
}

#[test]
fn tail_calls() {
    assert_equal_at_every_cut(&object(TAIL_CALLS, TAIL), 1000, &CONTEXT);
}

#[test]
fn functions_called_back() {
    assert_equal_at_every_cut(&object(CALLS_BACK, "exit"), 1000, &CONTEXT);
    assert_equal_at_every_cut(&object(CALL_BACK_TO_TAIL_CALL, TAIL), 1000, &CONTEXT);
}

#[test]
fn may_goto() {
    // The loops that are left are handed over: 2^23 of them end where they should.
    let text = "again: r0 += 1\n may_goto out\n goto again\n out: exit";
    let object = object(text, "exit");
    let whole = run(&object, Box::new(Interpreter::new()), 1 << 30, false, &CONTEXT);
    for cut in [1, 2, 3, 4, 1000] {
        assert_eq!(run(&object, Box::new(Relay { cut }), 1 << 30, false, &CONTEXT), whole);
    }
}

#[test]
fn traps() {
    let deep = "call a\n exit\n a: r6 = 1\n call b\n exit\n b: r7 = 2\n call a\n exit";
    let null = "r1 = f ll\n call find_vma\n exit\n f: r0 = 1\n call g\n exit\n g: *(u8 *)(r10 - 1) = 1\n r0 = *(u8 *)(r1 + 0)\n exit";
    let unread = "call f\n exit\n f: *(u8 *)(r10 - 1) = 1\n r0 = *(u64 *)(r10 - 8)\n exit";
    for text in [deep, null, unread, "r0 = *(u32 *)(r1 + 1)\n exit"] {
        assert_equal_at_every_cut(&object(text, "exit"), 1000, &CONTEXT);
    }
}

#[test]
fn the_end_of_the_budget() {
    for (main, tail) in [(CALLS, "exit"), (TAIL_CALLS, TAIL), (CALLS_BACK, "exit"), (CALL_BACK_TO_TAIL_CALL, TAIL)] {
        for fuel in [1, 2, 7, 12, 20, 31, 40] {
            assert_equal_at_every_cut(&object(main, tail), fuel, &CONTEXT);
        }
    }
}

#[test]
fn packet_loads_that_return_early() {
    let text = "r6 = r1\n call f\n r0 += 1\n exit\n f: r0 = *(u8 *)skb[2]\n r0 = *(u8 *)skb[100]\n r0 = 50\n exit";
    assert_equal_at_every_cut(&object(text, "exit"), 1000, &Packet::new([7; 20]));
}

#[test]
fn a_run_needs_little_stack() {
    let straight = format!("{}exit", "r0 += 1\n".repeat(10_000));
    let round = "r1 = 0\n again: r1 += 1\n r0 += 1\n if r1 < 100000 goto again\n exit";
    let rounds =
        "r1 = 0\n again: goto next\n next: r1 += 1\n call f\n if r1 < 10000 goto again\n exit\n f: r0 += 1\n exit";
    for text in [&straight, round, rounds] {
        let object = Object::from_text(text, ProgramType::Unspec).expect("a program");
        let run = move || Machine::load(&object).expect("a machine").run(MAIN, ()).expect("a run").ret;
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(run).expect("a thread");
        assert!(thread.join().expect("it ends").is_ok_and(|r0| r0 >= 10_000));
    }
}
