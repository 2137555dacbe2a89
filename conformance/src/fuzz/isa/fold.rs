//! The end of a program that can only be seen through `r0`: everything that it has computed goes in there.
//!
//! Nothing but moves, shifts, or, additions and loads of 64 bits, so that it works on what can do little. Every word is
//! added to what was turned by a few bits before, so that words which are wrong in the same way do not cancel out.

use softbpf::asm::{R0, R1, R2, R9, R10};
use softbpf::insn::{Insn, Reg, Size};

use crate::generator::{INPUT, PLAYGROUND, VALUES, stack_words};

/// How far what was added before is turned.
const TURN: i32 = 5;

/// Where `r1` waits while it is needed.
const SPARE: i16 = INPUT as i16 - 8;

/// Bodies that a program can have: words behind the playground in which their results wait, without the spare one.
pub(super) const MOST_BODIES: usize = (INPUT - PLAYGROUND) / 8 - 1;

/// Turns `r0` and adds a register; `r1` is lost.
fn add(insns: &mut Vec<Insn>, reg: Reg) {
    insns.extend([
        Insn::mov(R1, R0),
        Insn::lsh(R1, TURN),
        Insn::rsh(R0, 64 - TURN),
        Insn::or(R0, R1),
        Insn::add(R0, reg),
    ]);
}

/// Puts `r0` to `r8`, the stack's window and the playground into `r0`.
pub(super) fn everything() -> Vec<Insn> {
    let mut insns = vec![Insn::store(Size::DW, R9, SPARE, R1)];
    for reg in &Reg::ALL[2..VALUES] {
        add(&mut insns, *reg);
    }
    let stack = stack_words().map(|off| (R10, off));
    let input = (0..PLAYGROUND as i16).step_by(8).chain([SPARE]).map(|off| (R9, off));
    for (base, off) in stack.chain(input) {
        insns.push(Insn::load(Size::DW, R2, base, off));
        add(&mut insns, R2);
    }
    insns
}

/// Keeps `r0` as the result of a body.
pub(super) fn keep(body: usize) -> Insn {
    Insn::store(Size::DW, R9, (PLAYGROUND + 8 * body) as i16, R0)
}

/// Puts the results of so many bodies into `r0`, and returns.
pub(super) fn results(bodies: usize) -> Vec<Insn> {
    let mut insns = Vec::new();
    for body in 0..bodies {
        insns.push(Insn::load(Size::DW, R2, R9, (PLAYGROUND + 8 * body) as i16));
        add(&mut insns, R2);
    }
    insns.push(Insn::exit());
    insns
}

/// What to return where the fold cannot be relied on: one register, or one word of stack or input.
pub(super) fn one(number: u64) -> Vec<Insn> {
    let number = number as usize;
    let first = match number % 3 {
        0 => Insn::load(Size::DW, R0, R9, (number / 3 % (PLAYGROUND / 8) * 8) as i16),
        1 => Insn::load(Size::DW, R0, R10, stack_words().nth(number / 3 % 8).unwrap_or(-8)),
        _ => Insn::mov(R0, Reg::ALL[number / 3 % VALUES]),
    };
    vec![first, Insn::exit()]
}
