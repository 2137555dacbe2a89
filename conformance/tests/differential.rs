//! Every engine does what the model does, on generated programs; and the comparison can fail.
//!
//! `SOFTBPF_PROGRAMS=1000000 cargo test --release -p softbpf-conformance --test differential` runs as many as are
//! asked of the product. `SOFTBPF_ENGINES=interpreter,jit` leaves the other engines out.

#[path = "differential/faults.rs"]
mod faults;
#[path = "differential/scenario_faults.rs"]
mod scenario_faults;
#[path = "differential/scenarios.rs"]
mod scenarios;

use std::collections::BTreeSet;

use expect_test::expect;
use softbpf::Machine;
use softbpf::context::Bytes;
use softbpf::engine::{Engine, Entry, Finish, Step, StepHook};
use softbpf::insn::{AluOp, AtomicOp, ByteOrder, Condition, Insn, Operand, Size, SwapWidth, Width};
use softbpf::interp::Interpreter;
use softbpf::program_type::ProgramType;
use softbpf_conformance::generator::{INPUT, Knobs, Sample};
use softbpf_conformance::model::{self, Model, Observed, Setup};
use softbpf_conformance::reusable::Reusable;
use softbpf_conformance::{MakeEngine, engine_named, engines};

/// Programs within which every planted fault must be found.
const FAULT_PROGRAMS: u64 = 2_000;

fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// All engines, or those whose names are in `SOFTBPF_ENGINES`.
fn engines_asked_for() -> Vec<MakeEngine> {
    let Ok(names) = std::env::var("SOFTBPF_ENGINES") else { return engines() };
    let named = |name: &str| engine_named(name).unwrap_or_else(|error| panic!("{error}"));
    names.split(',').map(named).collect()
}

fn setup() -> Setup {
    Setup::of(ProgramType::Unspec, Bytes(&[0; INPUT])).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn generated_programs_do_what_the_model_says() {
    let setup = setup();
    let programs = count("SOFTBPF_PROGRAMS", 20_000);
    let (mut returned, mut executed) = (0, 0);
    let mut machines = Reusable::on(engines_asked_for());
    for seed in 0..programs {
        let sample = Sample::from_seed(seed, &Knobs::ALL.mixed(seed));
        let code = sample.code();
        let setup = setup.clone().with_context(&sample.input);
        let expected = model::run(&code, &setup);
        returned += u64::from(expected.ret.is_ok());
        executed += expected.instructions;
        for machine in &mut machines {
            match model::compare(&code, &setup, machine, &expected) {
                Ok(None) => {}
                Ok(Some(difference)) => panic!("seed {seed}\n{difference}"),
                Err(error) => panic!("seed {seed}: {error:?}\n{}", model::compare::listing(&code)),
            }
        }
    }
    // Programs that all trap, or all end at once, would prove little.
    assert!(returned * 4 > programs * 3, "only {returned} of {programs} programs return");
    assert!(executed > programs * 30, "only {executed} instructions in {programs} programs");
}

#[test]
fn every_planted_fault_is_found() {
    let setup = setup();
    let samples: Vec<_> = (0..FAULT_PROGRAMS)
        .map(|seed| {
            let sample = Sample::from_seed(seed, &Knobs::ALL.mixed(seed));
            let (code, setup) = (sample.code(), setup.clone().with_context(&sample.input));
            let expected = model::run(&code, &setup);
            (code, setup, expected)
        })
        .collect();
    let find = |fault: &faults::Fault| {
        samples.iter().position(|(code, setup, expected)| faulty(code, setup, fault) != *expected)
    };
    let found: Vec<_> = faults::FAULTS.iter().map(|fault| (fault.name, find(fault))).collect();
    let missed: Vec<_> = found.iter().filter(|(_, program)| program.is_none()).collect();
    assert!(missed.is_empty(), "not found in {FAULT_PROGRAMS} programs: {missed:?}");
    assert!(found.len() >= 10);
}

/// An interpreter whose 32-bit additions leave a bit in the upper half of `r0`.
#[derive(Debug)]
struct Wrong(Interpreter);

/// The bit.
const STRAY: u64 = 1 << 40;

impl Engine for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn run(&mut self, machine: &mut Machine, entry: Entry, mut hook: Option<StepHook<'_>>) -> Finish {
        let (mut stray, mut next) = (0, 0);
        let finish = self.0.run(
            machine,
            entry,
            Some(&mut |step| {
                stray |= next;
                if let Insn::Alu { op: AluOp::Add, width: Width::W32, .. } = step.insn {
                    next = STRAY;
                }
                let mut registers = step.registers.to_vec();
                registers[0] |= stray;
                if let Some(hook) = &mut hook {
                    hook(&Step { registers: &registers, ..*step });
                }
            }),
        );
        Finish { ret: finish.ret.map(|r0| r0 | stray), ..finish }
    }
}

#[test]
fn a_difference_names_the_instruction() {
    let code = softbpf::text::parse::parse("w1 = -1\n r0 = 7\n w0 += w1\n r0 += 1\n exit");
    let code = code.unwrap_or_else(|error| panic!("{error}")).code;
    let setup = setup().with_context(&[0; INPUT]);
    let expected = model::run(&code, &setup);
    let mut wrong = Reusable::new(|| Box::new(Wrong(Interpreter::new())));
    let difference = model::compare(&code, &setup, &mut wrong, &expected);
    let Ok(Some(difference)) = difference else { panic!("{difference:?}") };
    expect![[r#"
            0: w1 = -0x1
            1: r0 = 0x7
            2: w0 += w1
            3: r0 += 0x1
            4: exit
        wrong: returned 0x10000000007 after 5 instructions
        model: returned 0x7 after 5 instructions
        first difference: slot 2: w0 += w1 (after 2 instructions)
        * r0                 0x7  engine      0x10000000006  model                0x6
          r1          0xffffffff  engine         0xffffffff  model         0xffffffff
          r2                0xc8  engine               0xc8  model               0xc8
          r3                 0x0  engine                0x0  model                0x0
          r4                 0x0  engine                0x0  model                0x0
          r5                 0x0  engine                0x0  model                0x0
          r6                 0x0  engine                0x0  model                0x0
          r7                 0x0  engine                0x0  model                0x0
          r8                 0x0  engine                0x0  model                0x0
          r9                 0x0  engine                0x0  model                0x0
          r10           0x100000  engine           0x100000  model           0x100000
          next: engine 3, model 3
    "#]]
    .assert_eq(&difference.to_string());
}

fn faulty(code: &softbpf::codec::Code, setup: &Setup, fault: &faults::Fault) -> Observed {
    let mut setup = setup.clone();
    (fault.setup)(&mut setup);
    let mut observed = Model::new(code, &setup).run_with(fault.after);
    observed.context.truncate(INPUT);
    observed
}

/// What a generated program is made of, as operation x width x source.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Alu(AluOp, Width, bool),
    Neg(Width),
    MovSx(Width, Size),
    End(ByteOrder, SwapWidth),
    LoadImm64,
    Load(Size, bool),
    Store(Size, bool),
    Atomic(AtomicOp, Width),
    LoadAcquire(Size),
    StoreRelease(Size),
    Jump(bool),
    JumpIf(Condition, Width, bool),
    Exit,
    Other,
}

fn row(insn: &Insn) -> Row {
    let is_reg = |operand| matches!(operand, Operand::Reg(_));
    match *insn {
        Insn::Alu { op, width, src, .. } => Row::Alu(op, width, is_reg(src)),
        Insn::Neg { width, .. } => Row::Neg(width),
        Insn::MovSx { width, from, .. } => Row::MovSx(width, from),
        Insn::End { order, width, .. } => Row::End(order, width),
        Insn::LoadImm64 { .. } => Row::LoadImm64,
        Insn::Load { size, signed, .. } => Row::Load(size, signed),
        Insn::Store { size, src, .. } => Row::Store(size, is_reg(src)),
        Insn::Atomic { op, width, .. } => Row::Atomic(op, width),
        Insn::LoadAcquire { size, .. } => Row::LoadAcquire(size),
        Insn::StoreRelease { size, .. } => Row::StoreRelease(size),
        Insn::Jump { long, .. } => Row::Jump(long),
        Insn::JumpIf { condition, width, src, .. } => Row::JumpIf(condition, width, is_reg(src)),
        Insn::Exit => Row::Exit,
        Insn::AddrSpaceCast { .. } | Insn::LoadPacket { .. } | Insn::MayGoto { .. } | Insn::Call(_) => Row::Other,
    }
}

/// Operation x width x source; sign-extending moves and loads; stores; byte orders; lddw, two jumps, exit.
const ROWS: usize =
    AluOp::ALL.len() * 4 + 2 + 5 + 9 + 1 + 7 + 8 + AtomicOp::ALL.len() * 2 + 8 + 2 + Condition::ALL.len() * 4 + 1;

#[test]
fn the_generator_covers_every_operation() {
    for knobs in [Knobs::ALL, Knobs::KERNEL] {
        let covered: BTreeSet<Row> = (0..3_000)
            .flat_map(|seed| Sample::from_seed(seed, &knobs).code().insns().to_vec())
            .map(|insn| row(&insn))
            .collect();
        assert_eq!(covered.len(), ROWS, "{covered:?}");
    }
}

/// What is generated behind a jump or a trap is no good.
#[test]
fn generated_programs_execute_every_operation() {
    let (setup, mut executed) = (setup(), BTreeSet::new());
    for seed in 0..3_000 {
        let sample = Sample::from_seed(seed, &Knobs::ALL.mixed(seed));
        let (code, setup) = (sample.code(), setup.clone().with_context(&sample.input));
        Model::new(&code, &setup).run_with(|_, done| {
            executed.insert(row(&done.insn));
        });
    }
    // The last instruction is not looked at: it ends the run.
    assert_eq!(executed.len(), ROWS - 1, "{executed:?}");
}

#[test]
fn a_level_has_no_newer_instructions() {
    use softbpf_conformance::generator::Level;
    let rows = |level| -> BTreeSet<Row> {
        (0..1_000)
            .flat_map(|seed| Sample::from_seed(seed, &Knobs { level, ..Knobs::ALL }).code().insns().to_vec())
            .map(|insn| row(&insn))
            .collect()
    };
    let (v3, v4) = (rows(Level::V3), rows(Level::V4));
    let is_ordered = |row: &Row| matches!(row, Row::LoadAcquire(_) | Row::StoreRelease(_));
    let is_v4 = |row: &Row| match row {
        Row::Alu(op, ..) => [AluOp::Sdiv, AluOp::Smod].contains(op),
        Row::MovSx(..) | Row::End(ByteOrder::Bswap, _) | Row::Load(_, true) | Row::Jump(true) => true,
        Row::Neg(_)
        | Row::End(ByteOrder::Le | ByteOrder::Be, _)
        | Row::LoadImm64
        | Row::Load(_, false)
        | Row::Store(..)
        | Row::Atomic(..)
        | Row::LoadAcquire(_)
        | Row::StoreRelease(_)
        | Row::Jump(false)
        | Row::JumpIf(..)
        | Row::Exit
        | Row::Other => false,
    };
    assert!(!v3.iter().any(|row| is_v4(row) || is_ordered(row)) && v3.len() > 100);
    assert!(!v4.iter().any(is_ordered) && v4.iter().any(is_v4));
}

/// Instructions of the first programs with these knobs.
fn insns(knobs: Knobs) -> Vec<Insn> {
    (0..400).flat_map(|seed| Sample::from_seed(seed, &knobs).code().insns().to_vec()).collect()
}

#[test]
fn further_knobs_bring_what_they_say() {
    use softbpf::insn::{Callee, Reg};
    type IsSuch = fn(&Insn) -> bool;
    let is_call: IsSuch = |insn| matches!(insn, Insn::Call(Callee::Local(_)));
    let is_masked: IsSuch = |insn| {
        let Insn::Alu { op: AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, width, src: Operand::Imm(amount), .. } = insn else {
            return false;
        };
        !(0..if *width == Width::W32 { 32 } else { 64 }).contains(amount)
    };
    let is_from_input: IsSuch = |insn| matches!(insn, Insn::Load { base: Reg::R9, .. });
    let is_far: IsSuch = |insn| matches!(insn, Insn::Store { base: Reg::R10, off: ..-256, src: Operand::Reg(_), .. });
    let none = Knobs { memory: false, atomics: false, portable: true, ..Knobs::ALL };
    for (with, without, is_such) in [
        (Knobs { calls: true, ..none }, none, is_call),
        (Knobs { masked_shifts: true, ..none }, none, is_masked),
        (Knobs { from_input: true, ..none }, none, is_from_input),
        (Knobs { calls: true, ..none }, Knobs { calls: true, small_frames: true, ..none }, is_far),
    ] {
        assert!(insns(with).iter().any(is_such), "{with:?}");
        assert!(!insns(without).iter().any(is_such), "{without:?}");
    }
}

#[test]
fn the_same_bytes_give_the_same_program() {
    for seed in 0..100 {
        assert_eq!(Sample::from_seed(seed, &Knobs::ALL), Sample::from_seed(seed, &Knobs::ALL));
    }
    // Bytes that run out are zeros, not an error.
    let few = Sample::arbitrary(&mut arbitrary::Unstructured::new(&[1, 2, 3]), &Knobs::ALL);
    assert!(few.is_ok_and(|sample| sample.code().insns().last() == Some(&Insn::Exit)));
}
