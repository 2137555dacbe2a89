//! Basic blocks: where control may arrive, and where it goes from there.
//!
//! Fuel is charged for a whole block where it begins. A block ends at a jump, at an exit and at every call, so that what
//! runs elsewhere in between finds exact fuel. Whether there is enough is asked at checkpoints only: at the heads of loops and
//! of functions, behind calls, and wherever more than [`SLACK`] instructions could be executed since the last one.

use softbpf::codec::Code;
use softbpf::insn::{Callee, Imm64, Insn};

/// Fuel that there is behind every checkpoint: most instructions from there, behind its own block, to the end of the block in
/// front of the next one. Code gives up where there is less, and the interpreter executes what is left.
pub(crate) const SLACK: u32 = 256;

/// One block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Index of its first instruction, and of the one behind its last.
    pub(crate) start: u32,
    pub(crate) end: u32,
    /// Number of the block that its last instruction jumps to, or calls; meaningless if that does neither.
    pub(crate) target: u32,
    /// Most instructions executed since the last checkpoint.
    unasked: u32,
    /// Its last instruction jumps there, always or on a condition.
    pub(crate) jumps: bool,
    /// A jump comes back to here.
    pub(crate) loop_head: bool,
    /// A call comes here.
    pub(crate) callable: bool,
    /// Fuel is looked at.
    pub(crate) checkpoint: bool,
}

impl Block {
    /// How many instructions it has.
    pub(crate) fn len(self) -> u32 {
        self.end - self.start
    }
}

/// Index of the instruction that a jump or call goes to. The check has made sure that it exists.
fn target(code: &Code, index: usize, off: i32) -> usize {
    code.target(index, off).unwrap_or(0)
}

/// Whether a block ends behind an instruction, or it may name another one: most are done with here.
fn goes_or_points_elsewhere(insn: &Insn) -> bool {
    matches!(
        insn,
        Insn::Jump { .. }
            | Insn::JumpIf { .. }
            | Insn::MayGoto { .. }
            | Insn::Call(_)
            | Insn::Exit
            | Insn::LoadImm64 { .. }
    )
}

/// How an instruction leads to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// Jumps there.
    Jump,
    /// Calls it.
    Call,
    /// Has it called by others.
    Pointer,
    /// Is a call in front of it.
    Return,
}

/// One that does: indices of both.
#[derive(Debug, Clone, Copy)]
struct Way {
    from: u32,
    to: u32,
    lead: Lead,
}

/// A set of indices.
#[derive(Debug)]
struct Set(Vec<u64>);

impl Set {
    /// Of indices up to this one.
    fn new(last: usize) -> Set {
        Set(vec![0; last / 64 + 1])
    }

    fn add(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// Does something with each, in order.
    fn each(&self, mut act: impl FnMut(u32)) {
        for (start, &word) in (0..).step_by(64).zip(&self.0) {
            let mut left = word;
            while left != 0 {
                act(start + left.trailing_zeros());
                left &= left - 1;
            }
        }
    }
}

/// All blocks of a program, in order; they are numbered from 0.
pub(crate) fn blocks(code: &Code) -> Vec<Block> {
    let len = code.insns().len();
    let mut leaders = Set::new(len);
    leaders.add(0);
    let mut ways = Vec::with_capacity(len / 8 + 8);
    for (start, eight) in (0..).step_by(8).zip(code.insns().chunks(8)) {
        // Most do neither: eight are looked at together.
        if !eight.iter().any(goes_or_points_elsewhere) {
            continue;
        }
        for (index, insn) in (start..).zip(eight).filter(|(_, insn)| goes_or_points_elsewhere(insn)) {
            note(code, index, insn, &mut leaders, &mut ways);
        }
    }
    let mut blocks = cut(&leaders, len as u32);
    aim(&mut blocks, &ways);
    set_checkpoints(&mut blocks);
    blocks
}

/// Where an instruction leads, and what begins behind it.
fn note(code: &Code, index: usize, insn: &Insn, leaders: &mut Set, ways: &mut Vec<Way>) {
    let mut lead = |to: usize, lead: Lead| {
        leaders.add(to);
        ways.push(Way { from: index as u32, to: to as u32, lead });
    };
    if let Insn::LoadImm64 { value, .. } = *insn {
        if let Imm64::Code(off) = value {
            lead(target(code, index, off), Lead::Pointer);
        }
        return;
    }
    if let Insn::Call(callee) = *insn {
        if let Callee::Local(off) = callee {
            lead(target(code, index, off), Lead::Call);
        }
        lead(index + 1, Lead::Return);
        return;
    }
    if let Some(off) = insn.jump_offset() {
        lead(target(code, index, off), Lead::Jump);
    }
    leaders.add(index + 1);
}

/// The blocks that begin at these instructions, of so many.
fn cut(leaders: &Set, len: u32) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::with_capacity(len as usize / 8 + 8);
    leaders.each(|start| {
        if let Some(block) = blocks.last_mut() {
            block.end = start;
        }
        if start < len {
            blocks.push(Block {
                start,
                end: len,
                target: 0,
                unasked: 0,
                jumps: false,
                loop_head: false,
                callable: false,
                checkpoint: start == 0,
            });
        }
    });
    blocks
}

/// Tells blocks where they go, and what comes to them: every instruction that goes elsewhere is the last one of its block.
fn aim(blocks: &mut [Block], ways: &[Way]) {
    let mut number = 0;
    for &Way { from, to, lead } in ways {
        while blocks[number].end <= from {
            number += 1;
        }
        // Most go to the next block or the next but one; a call at the end returns to none.
        let near = blocks[number..].iter().take(4).position(|block| block.start == to);
        let found = near.map_or_else(|| blocks.partition_point(|block| block.start < to), |near| number + near);
        if let Lead::Jump | Lead::Call = lead {
            blocks[number].target = found as u32;
            blocks[number].jumps = lead == Lead::Jump;
        }
        let Some(block) = blocks.get_mut(found) else { continue };
        block.loop_head |= lead == Lead::Jump && to <= from;
        block.callable |= matches!(lead, Lead::Call | Lead::Pointer);
        block.checkpoint |= lead != Lead::Jump || to <= from;
    }
}

/// Makes further checkpoints where more than [`SLACK`] instructions could go by without one.
fn set_checkpoints(blocks: &mut [Block]) {
    for number in 0..blocks.len() {
        let block = &mut blocks[number];
        block.checkpoint |= block.unasked + block.len() > SLACK;
        let unasked = if block.checkpoint { 0 } else { block.unasked + block.len() };
        let Block { target, jumps, .. } = *block;
        if jumps {
            let target = &mut blocks[target as usize];
            target.unasked = target.unasked.max(unasked);
        }
        if let Some(next) = blocks.get_mut(number + 1) {
            next.unasked = next.unasked.max(unasked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Block> {
        blocks(&softbpf::text::parse::parse(text).unwrap().code)
    }

    #[test]
    fn a_block_ends_where_control_may_go_elsewhere_and_begins_where_it_may_arrive() {
        let blocks = of("
            r0 = 0
            r1 = 5
            r0 += r1
            r1 -= 1
            if r1 != 0 goto -3
            call 5
            if r0 == 7 goto +4
            r1 = 7 ll
            call pc+1
            exit
            r0 = 1
            exit");
        let ranges: Vec<_> = blocks.iter().map(|block| (block.start, block.end)).collect();
        assert_eq!(ranges, [(0, 2), (2, 5), (5, 6), (6, 7), (7, 9), (9, 10), (10, 12)]);
        let ways: Vec<_> = [1, 3, 4].map(|number| (number, blocks[number].target)).into();
        assert_eq!(ways, [(1, 1), (3, 6), (4, 6)]);
        let numbers =
            |is: fn(&Block) -> bool| (0..blocks.len()).filter(|&number| is(&blocks[number])).collect::<Vec<_>>();
        assert_eq!(numbers(|block| block.loop_head), [1]);
        assert_eq!(numbers(|block| block.callable), [6]);
        assert_eq!(numbers(|block| block.checkpoint), [0, 1, 3, 5, 6]);
    }

    #[test]
    fn fuel_is_looked_at_before_more_goes_by_than_is_in_reserve() {
        let branch = format!("if r0 == 0 goto +1\n{}", "r0 += 1\n".repeat(100));
        let blocks = of(&format!("{}exit", branch.repeat(20)));
        let mut since = 0;
        for block in &blocks[1..] {
            assert!(block.checkpoint || since + block.len() <= SLACK, "{block:?}");
            since = if block.checkpoint { 0 } else { since + block.len() };
        }
        assert!(blocks.iter().filter(|block| block.checkpoint).count() < 12);
    }
}
