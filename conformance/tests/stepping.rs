//! Random programs, run in one go and step by step: a hook changes nothing, and fuel ends a run at any instruction
//! with the registers that a hook sees there.
//!
//! Engines may take short cuts only where nobody looks: these tests compare them with runs where somebody does.

use softbpf::asm::{Insn, R1, R10, Size};
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Config, Machine, Object, Outcome, TrapKind};
use softbpf_conformance::generator::{Knobs, Sample};
use softbpf_conformance::rng::Rng;
use softbpf_conformance::{engines, hostile, streams};

/// Slot and registers before an instruction.
type Seen = (usize, [u64; 11]);

fn machines(object: &Object) -> impl Iterator<Item = Machine> {
    engines().into_iter().filter_map(|engine| {
        let mut vm = Machine::with_config(object, Config { engine: engine(), ..Config::default() }).ok()?;
        vm.fuel = hostile::FUEL;
        Some(vm)
    })
}

fn traced(vm: &mut Machine, context: &[u8]) -> Option<(Outcome, Vec<Seen>)> {
    let mut seen = Vec::new();
    let outcome = vm.trace(MAIN, context, |step| {
        let registers = step.registers.first_chunk().copied();
        seen.push((step.slot, registers.unwrap_or_default()));
    });
    Some((outcome.ok()?, seen))
}

/// A generated program, on an input; every other one goes round three times, with the counter on the stack.
fn looping(seed: u64) -> (Object, Vec<u8>) {
    /// Below what generated programs touch.
    const COUNTER: i16 = -80;
    let sample = Sample::from_seed(seed, &Knobs { length: 60, ..Knobs::KERNEL });
    let mut insns = sample.code().insns().to_vec();
    if seed.is_multiple_of(2) {
        // Behind the first instruction, which must not come again.
        insns.insert(1, Insn::store(Size::DW, R10, COUNTER, 0));
        insns.pop();
        let back = -(insns.iter().map(Insn::slots).sum::<usize>() as i16) - 2;
        insns.extend([
            Insn::load(Size::DW, R1, R10, COUNTER),
            Insn::add(R1, 1),
            Insn::store(Size::DW, R10, COUNTER, R1),
            Insn::jlt(R1, 3, back),
            Insn::exit(),
        ]);
    }
    let program = Program::new(ProgramInfo::new(MAIN, ProgramType::Unspec), insns.into());
    let program = program.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    (Object::from_programs(vec![program], Vec::new()), sample.input)
}

#[test]
fn a_hook_changes_nothing_of_hostile_programs() {
    let mut compared = 0_u64;
    for seed in 0..4000 {
        let Some(object) = hostile::object(&streams::stream(seed, 48)) else { continue };
        let context = [0x5a; hostile::CONTEXT];
        for (mut one, mut other) in machines(&object).zip(machines(&object)) {
            let Ok(outcome) = one.run(MAIN, &context[..]) else { continue };
            let Some((seen_outcome, seen)) = traced(&mut other, &context) else { continue };
            assert_eq!(outcome, seen_outcome, "stream {seed}");
            assert_eq!(outcome.instructions, seen.len() as u64, "stream {seed}");
            compared += 1;
        }
    }
    assert!(compared > 500, "only {compared} programs");
}

#[test]
fn a_hook_changes_nothing_of_programs_that_return() {
    for seed in 0..500 {
        let (object, input) = looping(seed);
        for mut vm in machines(&object) {
            let outcome = vm.run(MAIN, &input);
            let seen = traced(&mut vm, &input);
            assert_eq!(outcome.ok().as_ref(), seen.as_ref().map(|(outcome, _)| outcome), "seed {seed}");
            assert!(
                seen.is_some_and(|(outcome, seen)| outcome.ret.is_ok() && outcome.instructions == seen.len() as u64)
            );
        }
    }
}

#[test]
fn fuel_ends_a_run_anywhere_with_the_state_of_that_instruction() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let (object, input) = looping(seed);
        for mut vm in machines(&object) {
            let Some((_, seen)) = traced(&mut vm, &input) else { panic!("seed {seed}") };
            for _ in 0..20 {
                let fuel = rng.below(seen.len());
                vm.fuel = fuel as u64;
                let outcome = vm.run(MAIN, &input).unwrap_or_else(|error| panic!("{error}"));
                let trap = outcome.trap().unwrap_or_else(|| panic!("seed {seed}: no trap with {fuel}"));
                assert_eq!(trap.kind, TrapKind::OutOfFuel { budget: fuel as u64 });
                assert_eq!((trap.slot, trap.registers), seen[fuel], "seed {seed}, fuel {fuel}");
            }
        }
    }
}

#[test]
fn engines_see_the_same_steps() {
    for seed in 0..200 {
        let mut first = None;
        let (object, input) = looping(seed);
        for mut vm in machines(&object) {
            let this = traced(&mut vm, &input);
            assert!(first.get_or_insert_with(|| this.clone()) == &this, "seed {seed}");
        }
    }
}
