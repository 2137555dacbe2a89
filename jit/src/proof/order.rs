//! In which order blocks are looked at: every one behind those that come to it, but for the jumps back of loops.

use softbpf::codec::Code;
use softbpf::insn::Insn;

use crate::blocks::Place;

/// A block of instructions, and when it is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    /// Index of its first instruction, and of the one behind its last.
    pub(super) start: u32,
    pub(super) end: u32,
    /// Its turn; blocks that nothing reaches have none.
    pub(super) turn: u32,
    /// A jump comes back to it.
    pub(super) head: bool,
}

/// The blocks of a program.
#[derive(Debug)]
pub(super) struct Order {
    /// By place in the program.
    blocks: Vec<Block>,
    /// By turn: numbers of blocks.
    turns: Vec<u32>,
}

const NEVER: u32 = u32::MAX;

impl Order {
    pub(super) fn of(code: &Code, places: &[Place]) -> Order {
        let leaders: Vec<u32> = (0..).zip(places).filter(|(_, place)| place.leader).map(|(index, _)| index).collect();
        let ends = leaders.iter().skip(1).copied().chain([places.len() as u32]);
        let block = |(&start, end)| Block { start, end, turn: NEVER, head: false };
        let mut order = Order { blocks: leaders.iter().zip(ends).map(block).collect(), turns: Vec::new() };
        let roots = leaders.iter().enumerate().filter(|&(_, &start)| start == 0 || places[start as usize].callable);
        let roots: Vec<u32> = roots.map(|(number, _)| number as u32).collect();
        order.visit(code, places, &roots);
        order
    }

    /// Walks from the roots, depth first, and gives the blocks their turns in reverse order of leaving them.
    fn visit(&mut self, code: &Code, places: &[Place], roots: &[u32]) {
        #[derive(Clone, Copy, PartialEq)]
        enum Walk {
            New,
            Inside,
            Left,
        }
        let mut walks = vec![Walk::New; self.blocks.len()];
        let mut path: Vec<(u32, usize)> = Vec::new();
        for &root in roots {
            if walks[root as usize] == Walk::New {
                walks[root as usize] = Walk::Inside;
                path.push((root, 0));
            }
            while let Some((number, next)) = path.last_mut() {
                let successors = self.successors(code, places, *number);
                let Some(&successor) = successors.get(*next) else {
                    walks[*number as usize] = Walk::Left;
                    self.turns.push(*number);
                    path.pop();
                    continue;
                };
                *next += 1;
                let Some(successor) = successor else { continue };
                match walks[successor as usize] {
                    Walk::New => {
                        walks[successor as usize] = Walk::Inside;
                        path.push((successor, 0));
                    }
                    Walk::Inside => self.blocks[successor as usize].head = true,
                    Walk::Left => {}
                }
            }
        }
        self.turns.reverse();
        for (turn, &number) in (0..).zip(&self.turns) {
            self.blocks[number as usize].turn = turn;
        }
    }

    /// Where control goes from the end of a block: first where it jumps, so that what follows it has an early turn.
    fn successors(&self, code: &Code, places: &[Place], number: u32) -> [Option<u32>; 2] {
        let last = self.blocks[number as usize].end as usize - 1;
        let Some(insn) = code.insns().get(last) else { return [None; 2] };
        let falls = !matches!(insn, Insn::Jump { .. } | Insn::Exit);
        let next = Some(number + 1).filter(|&next| falls && (next as usize) < self.blocks.len());
        let target = insn.jump_offset().map(|_| places[places[last].target as usize].block);
        [target, next]
    }

    /// A block by its number.
    pub(super) fn block(&self, number: usize) -> Block {
        self.blocks[number]
    }

    /// All blocks that are reached, with their numbers, in order of their turns.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, Block)> {
        self.turns.iter().map(|&number| (number as usize, self.blocks[number as usize]))
    }

    /// How many blocks there are, reached or not.
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }
}
