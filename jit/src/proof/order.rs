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
pub(super) enum Order {
    /// That of the program, of so many blocks: without a jump back every way leads from lower numbers to higher ones.
    Numbers(u32),
    /// What a walk came to.
    Walked(Walked),
}

/// An order in which loops come before what follows them.
#[derive(Debug)]
pub(super) struct Walked {
    /// By number of the block.
    turns: Vec<Turn>,
    /// By turn: numbers of blocks.
    numbers: Vec<u32>,
}

const NEVER: Turn = Turn { turn: u32::MAX, head: false };

impl Order {
    pub(super) fn of(code: &Code, blocks: &[Block]) -> Order {
        if blocks.iter().any(|block| block.loop_head) {
            let mut walked = Walked { turns: vec![NEVER; blocks.len()], numbers: Vec::new() };
            walked.visit(code, blocks);
            Order::Walked(walked)
        } else {
            Order::Numbers(blocks.len() as u32)
        }
    }

    /// The turn of the block with this number.
    pub(super) fn turn(&self, number: u32) -> Turn {
        match self {
            Order::Numbers(_) => Turn { turn: number, head: false },
            Order::Walked(walked) => walked.turns.get(number as usize).copied().unwrap_or(NEVER),
        }
    }

    /// The number of the block that has this turn.
    pub(super) fn number(&self, turn: u32) -> Option<u32> {
        match self {
            Order::Numbers(blocks) => Some(turn).filter(|turn| turn < blocks),
            Order::Walked(walked) => walked.numbers.get(turn as usize).copied(),
        }
    }
}

impl Walked {
    /// Walks from where control can come in, depth first, and gives the blocks their turns in reverse order of leaving
    /// them.
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
}

/// Where control goes from the end of a block: first where it jumps, so that what follows it has an early turn.
fn successors(code: &Code, blocks: &[Block], number: u32) -> [Option<u32>; 2] {
    let block = blocks[number as usize];
    let Some(insn) = code.insns().get(block.end as usize - 1) else { return [None; 2] };
    let falls = !matches!(insn, Insn::Jump { .. } | Insn::Exit);
    let next = Some(number + 1).filter(|&next| falls && (next as usize) < blocks.len());
    [block.jumps.then_some(block.target), next]
}
