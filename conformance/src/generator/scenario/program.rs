//! One program: its functions, its own statements, and the end that shows what it has computed.

use arbitrary::{Result, Unstructured};
use softbpf::codec::Code;
use softbpf::insn::{Imm64, Insn, Reg, Size};

use super::calls::{self, Function, Role};
use super::link::{Piece, link};
use super::maker::{Maker, Plan, WORDS};
use super::state::Value;
use super::{Callbacks, Input, ScenarioKnobs, layout};

/// Most functions of a program, a chain of calls that is as deep as it may be (or one too deep).
const MOST: usize = 7;

/// Makes a program.
pub(super) fn make(u: &mut Unstructured<'_>, knobs: &ScenarioKnobs, number: u32, input: &Input) -> Result<Code> {
    let maps = layout::maps(number);
    let favourite = u.int_in_range(layout::ARRAY..=layout::LRU)?;
    let plan = Plan { knobs, maps: &maps, input, favourite };
    let mut labels = 0;
    let mut functions: Vec<Function> = Vec::new();
    let mut bodies: Vec<Vec<Piece>> = Vec::new();
    let mut add = |u: &mut Unstructured<'_>, functions: &mut Vec<Function>, labels: &mut usize, role, chain| {
        let (function, body) = calls::make(u, plan, labels, functions, role, chain)?;
        functions.push(function);
        bodies.push(body);
        Ok::<(), arbitrary::Error>(())
    };
    if knobs.callbacks > Callbacks::None {
        add(u, &mut functions, &mut labels, Role::Round, None)?;
    }
    if knobs.callbacks == Callbacks::All {
        let array = &maps[layout::ARRAY as usize];
        let role = Role::Element { key: array.key_size as i32, value: array.value_size as i32 };
        add(u, &mut functions, &mut labels, role, None)?;
    }
    if knobs.calls {
        let chained = u.ratio(1, 10)?;
        let deepest = MOST + usize::from(knobs.hostile && u.ratio(1, 8)?);
        let count = if chained { deepest } else { u.int_in_range(1..=3)? };
        for index in 0..count {
            let role = if !chained && u.ratio(1, 4)? { Role::Recursive } else { Role::Plain };
            add(u, &mut functions, &mut labels, role, chained.then_some(index))?;
        }
        if chained && let Some(last) = functions.pop() {
            // Calls of the others would be too deep, or not deep at all.
            functions = vec![last];
        }
    }
    let mut maker = Maker::new(u, plan, &mut labels, &functions);
    maker.main()?;
    let main = maker.pieces;
    let pieces: Vec<Piece> = main.into_iter().chain(bodies.into_iter().flatten()).collect();
    Ok(link(&pieces, labels))
}

impl Maker<'_, '_> {
    fn main(&mut self) -> Result<()> {
        let context = Value::Pointer(self.context_room());
        self.state.set(Reg::R1, context);
        match self.u.int_in_range(0..=3)? {
            0 => {
                let off = self.free_word()?;
                self.push(Insn::store(Size::DW, Reg::R10, off, Reg::R1));
            }
            1 => {}
            _ => {
                let reg = *self.u.choose(&Reg::ALL[6..10])?;
                self.push(Insn::mov(reg, Reg::R1));
            }
        }
        for reg in [Reg::R0, Reg::R2, Reg::R3, Reg::R4, Reg::R5] {
            if self.u.arbitrary()? {
                self.number(reg)?;
            }
        }
        let statements = self.u.int_in_range(1..=self.plan.knobs.statements.max(1))?;
        self.statements(statements)?;
        if self.plan.knobs.tail_calls && self.chance(1, 3)? {
            self.tail_call()?;
        }
        let exit = self.exit;
        self.place(exit);
        self.state.forget();
        self.show()
    }

    /// Writes all registers and some of the stack where they are seen.
    fn show(&mut self) -> Result<()> {
        self.push(Insn::store(Size::DW, Reg::R10, -8, Reg::R1));
        self.push(Insn::LoadImm64 { dst: Reg::R1, value: Imm64::MapValue { fd: layout::OUT, offset: 0 } });
        let mut to = (0_i16..).step_by(8);
        for (reg, to) in Reg::ALL[..10].iter().filter(|reg| **reg != Reg::R1).zip(&mut to) {
            self.push(Insn::store(Size::DW, Reg::R1, to, *reg));
        }
        let mut words: Vec<i16> = vec![-8];
        for _ in 0..3 {
            words.push(-8 * self.u.int_in_range(2..=WORDS)?);
            words.push(-8 * self.u.int_in_range(WORDS..=64)?);
        }
        for (from, to) in words.into_iter().zip(to) {
            self.push(Insn::load(Size::DW, Reg::R2, Reg::R10, from));
            self.push(Insn::store(Size::DW, Reg::R1, to, Reg::R2));
        }
        self.push(Insn::load(Size::DW, Reg::R0, Reg::R1, 0));
        self.push(Insn::Exit);
        Ok(())
    }
}
