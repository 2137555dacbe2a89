//! In which order blocks are looked at: every one behind those that come to it, but for the jumps back of loops.

use softbpf::codec::Code;
use softbpf::insn::Insn;

use crate::blocks::Block;

/// When a block is looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    /// Its turn; blocks that nothing reaches may have none.
    pub(super) turn: u32,
    /// A jump comes back to it.
    pub(super) head: bool,
}

/// The order of a program's blocks.
#[derive(Debug)]
pub(super) struct Order {
    /// By number of the block.
    turns: Vec<Turn>,
    /// By turn: numbers of blocks. Empty where every block has its number as its turn.
    numbers: Vec<u32>,
}

const NEVER: Turn = Turn { turn: u32::MAX, head: false };

impl Order {
    pub(super) fn of(code: &Code, blocks: &[Block]) -> Order {
        let mut order = Order { turns: Vec::new(), numbers: Vec::new() };
        // Without a jump back every way leads from lower numbers to higher ones.
        if blocks.iter().any(|block| block.loop_head) {
            order.turns = vec![NEVER; blocks.len()];
            order.visit(code, blocks);
        }
        order
    }

    /// Walks from where control can come in, depth first, and gives the blocks their turns in reverse order of leaving them.
    fn visit(&mut self, code: &Code, blocks: &[Block]) {
        #[derive(Clone, Copy, PartialEq)]
        enum Walk {
            New,
            Inside,
            Left,
        }
        let roots = (0..).zip(blocks).filter(|(number, block)| *number == 0 || block.callable);
        let mut walks = vec![Walk::New; blocks.len()];
        let mut path: Vec<(u32, usize)> = Vec::new();
        for (root, _) in roots {
            if walks[root as usize] == Walk::New {
                walks[root as usize] = Walk::Inside;
                path.push((root, 0));
            }
            while let Some((number, next)) = path.last_mut() {
                let successors = successors(code, blocks, *number);
                let Some(&successor) = successors.get(*next) else {
                    walks[*number as usize] = Walk::Left;
                    self.numbers.push(*number);
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
                    Walk::Inside => self.turns[successor as usize].head = true,
                    Walk::Left => {}
                }
            }
        }
        self.numbers.reverse();
        for (turn, &number) in (0..).zip(&self.numbers) {
            self.turns[number as usize].turn = turn;
        }
    }

    /// The turn of the block with this number.
    pub(super) fn turn(&self, number: u32) -> Turn {
        self.turns.get(number as usize).copied().unwrap_or(Turn { turn: number, head: false })
    }

    /// The number of the block that has this turn, of so many blocks.
    pub(super) fn number(&self, turn: u32, blocks: usize) -> Option<u32> {
        if self.turns.is_empty() {
            Some(turn).filter(|&number| (number as usize) < blocks)
        } else {
            self.numbers.get(turn as usize).copied()
        }
    }
}

/// Where control goes from the end of a block: first where it jumps, so that what follows it has an early turn.
fn successors(code: &Code, blocks: &[Block], number: u32) -> [Option<u32>; 2] {
    let block = blocks[number as usize];
    let Some(insn) = code.insns().get(block.end as usize - 1) else { return [None; 2] };
    let falls = !matches!(insn, Insn::Jump { .. } | Insn::Exit);
    let next = Some(number + 1).filter(|&next| falls && (next as usize) < blocks.len());
    [insn.jump_offset().map(|_| block.target), next]
}
