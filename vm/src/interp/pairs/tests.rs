//! Everything that is fused does what its operations do one by one: entered at each of them, and stopped behind each.

use super::{Link, pair, triple};
use crate::interp::exec::{Core, PADDING};
use crate::interp::flat::{Op, R, Slot};
use crate::interp::fuse::fuse;
use crate::interp::state::{Leave, Registers, State};
use crate::memory::{Memory, ObjectKind, Permission};

/// Bytes that programs here may touch.
const OBJECT: u32 = 24;
/// Assignments of registers and values that each row is tried with.
const TRIES: usize = 10;

macro_rules! list_pairs {
    ($([$($first:ident)*] $link:ident $seconds:tt)*) => {
        fn pairs() -> Vec<(Vec<Op>, Vec<Link>)> {
            let mut all = Vec::new();
            $(list_pairs!(@one all [$($first)*] $link $seconds);)*
            all
        }
    };
    (@one $all:ident [$($first:ident)*] $link:ident [$($second:ident)*]) => {
        for first in [$(Op::$first),*] {
            for second in [$(Op::$second),*] {
                $all.push((vec![first, second], vec![Link::$link]));
            }
        }
    };
}
for_each_pair_row!(list_pairs);

macro_rules! list_triples {
    ($([$($first:ident)*] $link:ident [$($second:ident)*] $then:ident [$($third:ident)*])*) => {
        fn triples() -> Vec<(Vec<Op>, Vec<Link>)> {
            let mut all = Vec::new();
            $(list_triples!(@one all ([$(Op::$first),*]) $link ([$(Op::$second),*]) $then ([$(Op::$third),*]));)*
            all
        }
    };
    (@one $all:ident ($firsts:expr) $link:ident ($seconds:expr) $then:ident ($thirds:expr)) => {
        for first in $firsts {
            for second in $seconds {
                for third in $thirds {
                    $all.push((vec![first, second, third], vec![Link::$link, Link::$then]));
                }
            }
        }
    };
}
for_each_triple_row!(list_triples);

/// Knuth's MMIX generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn register(&mut self) -> R {
        [R::R0, R::R1, R::R2, R::R3][self.below(4) as usize]
    }

    /// An address in or around the object, a small number, or any.
    fn value(&mut self, object: u32) -> u64 {
        match self.below(4) {
            0 | 1 => u64::from(object) - 2 + self.below(u64::from(OBJECT)),
            2 => self.below(4),
            _ => self.below(1 << 31) << 32 | self.below(1 << 31),
        }
    }

    /// An instruction that jumps behind the program, where it jumps.
    fn slot(&mut self, op: Op, object: u32, behind: usize) -> Slot {
        let is_jump = format!("{op:?}").starts_with('J');
        let off = if is_jump { behind as i32 } else { self.below(9) as i32 - 4 };
        let imm = self.value(object);
        Slot { execute: op.execute(), op, dst: self.register(), src: self.register(), off, imm }
    }
}

/// What is left of a run: why it ended, registers, where it stands, what it has executed, memory.
type Left = (Leave, Registers, usize, u64, Vec<u8>);

fn run(slots: &[Slot], memory: &mut Memory, object: u32, mut regs: Registers, from: usize, most: u64) -> Left {
    let content: Vec<u8> = (0..OBJECT as u8).map(|byte| byte ^ 0xa5).collect();
    memory.put(object, &content);
    let mut state = State::new(0, 100, Box::default());
    state.pc = from;
    let leave = Core::new(slots, memory.view(), &mut state).exec(&mut regs, most);
    (leave, regs, state.pc, state.used, memory.get(object, OBJECT).to_vec())
}

fn check(rows: Vec<(Vec<Op>, Vec<Link>)>) {
    let mut memory = Memory::new().expect("memory");
    let kind = ObjectKind::Placed { name: "object".into() };
    let object = memory.allocate(kind, OBJECT, Permission::ReadWrite).expect("room");
    let mut random = Random(1);
    for (ops, links) in rows {
        let mut tries = 0;
        for _ in 0.. {
            let mut slots: Vec<Slot> = ops.iter().map(|op| random.slot(*op, object, ops.len() + 1)).collect();
            if !slots.windows(2).zip(&links).all(|(two, link)| Link::of(&two[0], &two[1]) == *link) {
                continue;
            }
            slots.extend(vec![Slot { execute: Op::Exit.execute(), op: Op::Exit, ..slots[0] }; 2]);
            slots.extend(vec![Slot { execute: Op::NoSlot.execute(), op: Op::NoSlot, ..slots[0] }; PADDING]);
            let mut fused = slots.clone();
            fused[0].execute = match (&ops[..], &links[..]) {
                ([first, second], [link]) => pair(*first, *link, *second),
                ([first, second, third], [link, then]) => triple(*first, *link, *second, *then, *third),
                _ => None,
            }
            .expect("the row");
            let chosen = fuse(slots.clone());
            let regs = [(); 16].map(|()| random.value(object));
            for (from, most) in [(0, 100), (1, 100), (0, 1), (0, 2), (0, 3)] {
                let one_by_one = run(&slots, &mut memory, object, regs, from, most);
                let row = format!("{ops:?} {links:?}: {:?}", &slots[..ops.len()]);
                assert_eq!(run(&fused, &mut memory, object, regs, from, most), one_by_one, "{row}");
                assert_eq!(run(&chosen, &mut memory, object, regs, from, most), one_by_one, "{row}");
            }
            tries += 1;
            if tries == TRIES {
                break;
            }
        }
    }
}

#[test]
fn pairs_do_what_their_operations_do() {
    check(pairs());
}

#[test]
fn triples_do_what_their_operations_do() {
    check(triples());
}
