//! What instructions compute, so that they can be replaced by their results.

use softbpf::check::Rules;
use softbpf::context::Bytes;
use softbpf::insn::Reg;
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Machine, Object};

use super::Reproducer;

/// Registers `r0` to `r10` before each instruction of the first program when it was last executed, and after it;
/// `None` for one that was not.
pub type Values = fn(&Reproducer, Rules) -> Vec<Option<Seen>>;

/// Registers around an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    before: [u64; 11],
    after: Option<[u64; 11]>,
}

impl Seen {
    /// A register's value before the instruction.
    pub fn before(&self, reg: Reg) -> u64 {
        self.before[usize::from(reg.number())]
    }

    /// A register's value after it, if the program went on.
    pub fn after(&self, reg: Reg) -> Option<u64> {
        self.after.map(|after| after[usize::from(reg.number())])
    }
}

/// Instructions that are executed to see.
const FUEL: u64 = 20_000;

/// As the interpreter computes them, on a context of the input's bytes; nothing for more than one program.
pub fn by_interpreter(reproducer: &Reproducer, rules: Rules) -> Vec<Option<Seen>> {
    let [code] = &reproducer.programs[..] else { return Vec::new() };
    let info = ProgramInfo::new(MAIN, ProgramType::Unspec);
    let Ok(program) = Program::with_rules(info, code.clone(), rules) else { return Vec::new() };
    let Ok(mut vm) = Machine::load(&Object::from_programs(vec![program], Vec::new())) else { return Vec::new() };
    vm.fuel = FUEL;
    let mut seen = vec![None; code.insns().len()];
    let mut last: Option<usize> = None;
    // A trap ends it, and what was seen until then serves.
    let _ = vm.trace(MAIN, Bytes(&reproducer.input), |step| {
        let registers = step.registers.first_chunk().copied().unwrap_or_default();
        if let Some(Some(Seen { after, .. })) = last.and_then(|index| seen.get_mut(index)) {
            *after = Some(registers);
        }
        last = code.index_at(step.slot);
        if let Some(place) = last.and_then(|index| seen.get_mut(index)) {
            *place = Some(Seen { before: registers, after: None });
        }
    });
    seen
}
