//! Holds an engine against the model: the whole outcome, and on a difference the first instruction that made it.

use std::fmt;

use softbpf::codec::Code;
use softbpf::context::{Bytes, Context};
use softbpf::insn::Insn;
use softbpf::machine::{LoadError, RunError};
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramError, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object};

use super::{Model, Observed, Setup};
use crate::reusable::Reusable;

/// Runs a program on the model.
pub fn run(code: &Code, setup: &Setup) -> Observed {
    Model::new(code, setup).run()
}

/// Why a program cannot be compared.
#[derive(Debug)]
pub enum CompareError {
    /// It is not one that engines run.
    Program(ProgramError),
    /// There is no machine to run it on.
    Load(LoadError),
    /// The machine does not run it.
    Run(RunError),
}

/// An engine that did something else than the model.
#[derive(Debug)]
pub struct Difference {
    /// Name of the engine.
    pub engine: &'static str,
    /// What the engine did.
    pub engine_did: Observed,
    /// What the model did.
    pub model_did: Observed,
    /// Every instruction of the program, one a line.
    pub listing: String,
    /// The first instruction after which the registers or the next instruction differ, if any does.
    pub first: Option<FirstDifference>,
}

/// The first instruction that two runs disagree about.
#[derive(Debug)]
pub struct FirstDifference {
    /// How many instructions were executed before it.
    pub executed: usize,
    /// Its slot.
    pub slot: usize,
    /// The instruction.
    pub insn: Insn,
    /// `r0` to `r10` before it.
    pub before: [u64; 11],
    /// Slot that follows and registers there, in the engine; `None` at its end.
    pub engine_after: Option<(usize, [u64; 11])>,
    /// The same in the model.
    pub model_after: Option<(usize, [u64; 11])>,
}

/// Runs a program on bytes, on this machine; `None` when it did what the model did.
///
/// # Errors
/// The program cannot be run at all.
pub fn compare(
    code: &Code,
    setup: &Setup,
    machine: &mut Reusable,
    expected: &Observed,
) -> Result<Option<Box<Difference>>, CompareError> {
    let vm = machine.load(&object(code)?).map_err(CompareError::Load)?;
    vm.fuel = setup.fuel;
    let input = setup.context.as_ref().map_or(&[][..], |context| &context.bytes);
    let observed = Observed::from(&vm.run(MAIN, Bytes(input)).map_err(CompareError::Run)?);
    if observed == *expected {
        return Ok(None);
    }
    Ok(Some(Box::new(Difference {
        engine: vm.engine_name(),
        engine_did: observed,
        model_did: expected.clone(),
        listing: listing(code),
        first: first_difference(code, setup, vm, Bytes(input)),
    })))
}

fn object(code: &Code) -> Result<Object, CompareError> {
    let info = ProgramInfo::new(MAIN, ProgramType::Unspec);
    let program = Program::new(info, code.clone()).map_err(CompareError::Program)?;
    Ok(Object::from_programs(vec![program], Vec::new()))
}

/// Steps the model beside a traced run. Only the engine's own steps are kept, so a long run costs memory.
fn first_difference(code: &Code, setup: &Setup, vm: &mut Machine, context: impl Context) -> Option<FirstDifference> {
    let mut steps: Vec<(usize, [u64; 11])> = Vec::new();
    let traced = vm.trace(MAIN, context, |step| {
        steps.push((step.slot, step.registers.first_chunk().copied().unwrap_or_default()));
    });
    traced.ok()?;
    let mut model = Model::new(code, setup);
    for executed in 0.. {
        let (slot, insn) = model.next()?;
        let before = model.registers;
        let ended = model.step().is_some();
        let model_after = if ended { None } else { model.next().map(|(slot, _)| (slot, model.registers)) };
        let engine_after = steps.get(executed + 1).copied();
        if model_after != engine_after {
            return Some(FirstDifference { executed, slot, insn: *insn, before, engine_after, model_after });
        }
        if ended {
            return None;
        }
    }
    None
}

/// A program as LLVM writes it, with slots.
pub fn listing(code: &Code) -> String {
    code.iter().map(|(slot, insn)| format!("{slot:5}: {insn}\n")).collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.listing)?;
        writeln!(f, "{}: {}", self.engine, self.engine_did)?;
        writeln!(f, "model: {}", self.model_did)?;
        for (name, engine, model) in [
            ("context", Some(&self.engine_did.context), Some(&self.model_did.context)),
            ("packet", self.engine_did.packet.as_ref(), self.model_did.packet.as_ref()),
        ] {
            if engine != model {
                writeln!(f, "{name} differs:\n  {}: {engine:02x?}\n  model: {model:02x?}", self.engine)?;
            }
        }
        match &self.first {
            Some(first) => write!(f, "{first}"),
            None => writeln!(f, "the registers never differ"),
        }
    }
}

impl fmt::Display for FirstDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FirstDifference { executed, slot, insn, .. } = self;
        writeln!(f, "first difference: slot {slot}: {insn} (after {executed} instructions)")?;
        for (number, &before) in self.before.iter().enumerate() {
            let after = |state: &Option<(usize, [u64; 11])>| match state {
                Some((_, registers)) => format!("{:#x}", registers[number]),
                None => "-".to_owned(),
            };
            let (engine, model) = (after(&self.engine_after), after(&self.model_after));
            let mark = if engine == model { ' ' } else { '*' };
            writeln!(f, "{mark} r{number:<2} {before:#18x}  engine {engine:>18}  model {model:>18}")?;
        }
        let next =
            |state: &Option<(usize, [u64; 11])>| state.map_or("the end".to_owned(), |(slot, _)| slot.to_string());
        writeln!(f, "  next: engine {}, model {}", next(&self.engine_after), next(&self.model_after))
    }
}
