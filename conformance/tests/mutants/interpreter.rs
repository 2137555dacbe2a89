//! Mistakes that the interpreter could make: instructions taken for others, and what it does around them.
//!
//! The interpreter itself stays as it is. A mistaken instruction is the right one of a program that was altered before it
//! is run; the rest is done to the machine, the entry and the result by an engine around the interpreter.

use softbpf::Machine;
use softbpf::codec::Code;
use softbpf::engine::{Engine, Entry, Finish, StepHook};
use softbpf::insn::{
    AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width,
};
use softbpf::interp::Interpreter;
use softbpf::memory::Permission;
use softbpf::outcome::Trap;

/// A mistake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    /// What an instruction is taken for, if it is about this one.
    Taken(fn(Insn) -> Option<Insn>),
    /// Done before a run.
    Before(fn(&mut Machine, &mut Entry)),
    /// Done to what a run came to.
    After(fn(&mut Finish)),
}

impl Fault {
    /// The program as the interpreter takes it.
    pub(crate) fn altered(&self, code: &Code) -> Code {
        let What::Taken(taken) = self.what else { return code.clone() };
        code.insns().iter().map(|&insn| taken(insn).unwrap_or(insn)).collect()
    }

    /// Whether a program has anything that the fault is about.
    pub(crate) fn concerns(&self, code: &Code) -> bool {
        match self.what {
            What::Taken(taken) => code.insns().iter().any(|&insn| taken(insn).is_some_and(|other| other != insn)),
            What::Before(_) | What::After(_) => true,
        }
    }

    /// The interpreter with the fault.
    pub(crate) fn engine(&self) -> Box<dyn Engine> {
        Box::new(Faulty { interpreter: Interpreter::new(), what: self.what })
    }
}

#[derive(Debug)]
struct Faulty {
    interpreter: Interpreter,
    what: What,
}

impl Engine for Faulty {
    fn name(&self) -> &'static str {
        "faulty"
    }

    fn run(&mut self, machine: &mut Machine, mut entry: Entry, hook: Option<StepHook<'_>>) -> Finish {
        if let What::Before(before) = self.what {
            before(machine, &mut entry);
        }
        let mut finish = self.interpreter.run(machine, entry, hook);
        if let What::After(after) = self.what {
            after(&mut finish);
        }
        finish
    }
}

/// An instruction of this shape is taken for another.
macro_rules! taken {
    ($name:literal, $shape:pat => $other:expr) => {
        taken($name, |insn| if let $shape = insn { Some($other) } else { None })
    };
}

const fn taken(name: &'static str, taken: fn(Insn) -> Option<Insn>) -> Fault {
    Fault { name, what: What::Taken(taken) }
}

/// Taken for the 64-bit operation.
fn wide(insn: Insn, wanted: AluOp) -> Option<Insn> {
    let Insn::Alu { op, width: Width::W32, dst, src } = insn else { return None };
    (op == wanted).then_some(Insn::Alu { op, width: Width::W64, dst, src })
}

/// Taken for another operation.
fn operation(insn: Insn, wanted: AluOp, other: AluOp) -> Option<Insn> {
    let Insn::Alu { op, width, dst, src } = insn else { return None };
    (op == wanted).then_some(Insn::Alu { op: other, width, dst, src })
}

fn condition(insn: Insn, wanted: Condition, other: Condition) -> Option<Insn> {
    let Insn::JumpIf { condition, width, dst, src, off } = insn else { return None };
    (condition == wanted).then_some(Insn::JumpIf { condition: other, width, dst, src, off })
}

fn atomic(insn: Insn, wanted: AtomicOp, other: AtomicOp) -> Option<Insn> {
    let Insn::Atomic { op, width, base, off, src } = insn else { return None };
    (op == wanted).then_some(Insn::Atomic { op: other, width, base, off, src })
}

fn after_trap(finish: &mut Finish, change: impl Fn(&mut Trap)) {
    if let Err(trap) = &mut finish.ret {
        change(trap);
    }
}

pub(crate) const FAULTS: &[Fault] = &[
    taken("w1 = w2 leaves the upper half", |insn| wide(insn, AluOp::Mov)),
    taken("w1 += w2 leaves a carry", |insn| wide(insn, AluOp::Add)),
    taken("w1 -= w2 leaves a borrow", |insn| wide(insn, AluOp::Sub)),
    taken("w1 *= w2 is a 64-bit product", |insn| wide(insn, AluOp::Mul)),
    taken("w1 <<= w2 shifts 64 bits", |insn| wide(insn, AluOp::Lsh)),
    taken("w1 s>>= w2 has the sign of 64 bits", |insn| wide(insn, AluOp::Arsh)),
    taken("w1 /= w2 divides 64 bits", |insn| wide(insn, AluOp::Div)),
    taken("signed division is unsigned", |insn| operation(insn, AluOp::Sdiv, AluOp::Div)),
    taken("signed modulo is unsigned", |insn| operation(insn, AluOp::Smod, AluOp::Mod)),
    taken("an arithmetic shift is a logical one", |insn| operation(insn, AluOp::Arsh, AluOp::Rsh)),
    taken("xor is or", |insn| operation(insn, AluOp::Xor, AluOp::Or)),
    taken!("the immediate of &= is not sign-extended", Insn::Alu { op: op @ AluOp::And, width: Width::W64, dst, src: src @ Operand::Imm(_) } => Insn::Alu { op, width: Width::W32, dst, src }),
    taken!("w1 = -w1 negates 64 bits", Insn::Neg { width: Width::W32, dst } => Insn::Neg { width: Width::W64, dst }),
    taken!("w1 = (s8)w2 extends to 64 bits", Insn::MovSx { width: Width::W32, from, dst, src } => Insn::MovSx { width: Width::W64, from, dst, src }),
    taken!("le32 cuts nothing", Insn::End { order: order @ ByteOrder::Le, width: SwapWidth::B32, dst } => Insn::End { order, width: SwapWidth::B64, dst }),
    taken!("be is le", Insn::End { order: ByteOrder::Be, width, dst } => Insn::End { order: ByteOrder::Le, width, dst }),
    taken!("32-bit jumps compare 64 bits", Insn::JumpIf { condition, width: Width::W32, dst, src, off } => Insn::JumpIf { condition, width: Width::W64, dst, src, off }),
    taken("s< is <", |insn| condition(insn, Condition::Slt, Condition::Lt)),
    taken("s> is s>=", |insn| condition(insn, Condition::Sgt, Condition::Sge)),
    taken("<= is <", |insn| condition(insn, Condition::Le, Condition::Lt)),
    taken("& is ==", |insn| condition(insn, Condition::Set, Condition::Eq)),
    taken!("a sign-extending load does not", Insn::Load { size, signed: true, dst, base, off } => Insn::Load { size, signed: false, dst, base, off }),
    taken!("a 64-bit store stores 32 bits", Insn::Store { size: Size::DW, base, off, src } => Insn::Store { size: Size::W, base, off, src }),
    taken!("a byte is stored as two", Insn::Store { size: Size::B, base, off, src } => Insn::Store { size: Size::H, base, off, src }),
    taken!("a load of 16 bits loads 8", Insn::Load { size: Size::H, signed: false, dst, base, off } => Insn::Load { size: Size::B, signed: false, dst, base, off }),
    taken!("displacements from r10 are one byte too many", Insn::Load { size, signed, dst, base: base @ Reg::R10, off: off @ ..0 } => Insn::Load { size, signed, dst, base, off: off + 1 }),
    taken("cmpxchg does not compare", |insn| atomic(insn, AtomicOp::Cmpxchg, AtomicOp::Xchg)),
    taken("fetch_add does not fetch", |insn| atomic(insn, AtomicOp::FetchAdd, AtomicOp::Add)),
    taken("fetch_or is fetch_xor", |insn| atomic(insn, AtomicOp::FetchOr, AtomicOp::FetchXor)),
    taken("a plain atomic and fetches", |insn| atomic(insn, AtomicOp::And, AtomicOp::FetchAnd)),
    taken!("a store-release of 32 bits stores 16", Insn::StoreRelease { size: Size::W, base, off, src } => Insn::StoreRelease { size: Size::H, base, off, src }),
    taken!("a 64-bit immediate loses its upper half", Insn::LoadImm64 { dst, value: Imm64::Value(value) } => Insn::load_imm64(dst, u64::from(value as u32))),
    taken!("a value's address is that of its first byte", Insn::LoadImm64 { dst, value: Imm64::MapValue { fd, .. } } => Insn::load_map_value(dst, fd, 0)),
    taken!("may_goto jumps at once", Insn::MayGoto { off } => Insn::jump(off)),
    taken!("an indirect packet load is an absolute one", Insn::LoadPacket { size, offset: PacketOffset::Ind(_, offset) } => Insn::LoadPacket { size, offset: PacketOffset::Abs(offset) }),
    taken!("a delete is a lookup", Insn::Call(Callee::Helper(3)) => Insn::call(1)),
    Fault { name: "the budget is one more", what: What::Before(|_, entry| entry.budget += 1) },
    Fault { name: "the context has a byte more", what: What::Before(context_one_more) },
    Fault { name: "the context is closed at its last byte", what: What::Before(context_one_less) },
    Fault { name: "r2 is not 0 at first", what: What::Before(|_, entry| entry.args[1] ^= 1) },
    Fault { name: "there is no context", what: What::Before(|_, entry| entry.args[0] = 0) },
    Fault { name: "another CPU", what: What::Before(|machine, _| machine.world.cpu ^= 1) },
    Fault { name: "r0 is cut to 32 bits", what: What::After(|finish| finish.ret = cut(finish.ret.clone())) },
    Fault {
        name: "what traps is not counted",
        what: What::After(|finish| finish.instructions -= u64::from(finish.ret.is_err() && finish.instructions > 0)),
    },
    Fault { name: "a trap names the next slot", what: What::After(|finish| after_trap(finish, |trap| trap.slot += 1)) },
    Fault {
        name: "a trap forgets its innermost caller",
        what: What::After(|finish| {
            after_trap(finish, |trap| trap.callers.truncate(trap.callers.len().saturating_sub(1)))
        }),
    },
    Fault {
        name: "a trap's r5 is lost",
        what: What::After(|finish| after_trap(finish, |trap| trap.registers[5] ^= 1)),
    },
];

fn context_end(entry: &Entry, machine: &Machine) -> Option<u32> {
    let (start, size) = machine.placed().context;
    (entry.args[0] != 0 && size > 0).then_some(start + size)
}

fn context_one_more(machine: &mut Machine, entry: &mut Entry) {
    if let Some(end) = context_end(entry, machine) {
        machine.memory.grant(end, 1, Permission::ReadWrite);
    }
}

fn context_one_less(machine: &mut Machine, entry: &mut Entry) {
    if let Some(end) = context_end(entry, machine) {
        machine.memory.revoke(end - 1, 1);
    }
}

fn cut(ret: Result<u64, Box<Trap>>) -> Result<u64, Box<Trap>> {
    ret.map(|r0| u64::from(r0 as u32))
}
