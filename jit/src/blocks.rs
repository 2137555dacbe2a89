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

/// What is known of an instruction that a block begins with: bits.
mod mark {
    pub(super) const LEADER: u8 = 1;
    pub(super) const LOOP_HEAD: u8 = 2;
    pub(super) const CALLABLE: u8 = 4;
    pub(super) const CHECKPOINT: u8 = 8;
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

/// All blocks of a program, in order; they are numbered from 0.
pub(crate) fn blocks(code: &Code) -> Vec<Block> {
    let len = code.insns().len();
    let mut marks = vec![0; len + 1];
    // Of instructions that go to another one: both indices.
    let mut ways = Vec::new();
    marks[0] = mark::LEADER | mark::CHECKPOINT;
    for (index, insn) in code.insns().iter().enumerate() {
        if !goes_or_points_elsewhere(insn) {
            continue;
        }
        if let Some(off) = insn.jump_offset() {
            let to = target(code, index, off);
            let back = if to <= index { mark::LOOP_HEAD | mark::CHECKPOINT } else { 0 };
            marks[to] |= mark::LEADER | back;
            ways.push((index as u32, to as u32));
        }
        if let Insn::Call(Callee::Local(off)) | Insn::LoadImm64 { value: Imm64::Code(off), .. } = *insn {
            let to = target(code, index, off);
            marks[to] |= mark::LEADER | mark::CALLABLE | mark::CHECKPOINT;
            if let Insn::Call(_) = insn {
                ways.push((index as u32, to as u32));
            }
        }
        let checkpoint = if let Insn::Call(_) = insn { mark::CHECKPOINT } else { 0 };
        if !matches!(insn, Insn::LoadImm64 { .. }) {
            marks[index + 1] |= mark::LEADER | checkpoint;
        }
    }
    let mut blocks = cut(&marks[..len]);
    aim(&mut blocks, &ways);
    set_checkpoints(code, &mut blocks);
    blocks
}

/// The blocks that begin at marks.
fn cut(marks: &[u8]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::with_capacity(marks.len() / 8 + 8);
    let mut index = 0;
    while let Some(&mark) = marks.get(index) {
        if mark == 0 {
            // Most instructions begin none: eight are looked at together.
            let eight = marks[index..].first_chunk().map(|eight| u64::from_le_bytes(*eight));
            index += eight.map_or(1, |eight| eight.trailing_zeros() as usize / 8);
            continue;
        }
        if let Some(block) = blocks.last_mut() {
            block.end = index as u32;
        }
        blocks.push(Block {
            start: index as u32,
            end: marks.len() as u32,
            target: 0,
            unasked: 0,
            loop_head: mark & mark::LOOP_HEAD != 0,
            callable: mark & mark::CALLABLE != 0,
            checkpoint: mark & mark::CHECKPOINT != 0,
        });
        index += 1;
    }
    blocks
}

/// Tells blocks where they go: every instruction that goes elsewhere is the last one of its block.
fn aim(blocks: &mut [Block], ways: &[(u32, u32)]) {
    let mut number = 0;
    for &(from, to) in ways {
        while blocks[number].end <= from {
            number += 1;
        }
        // Most go to the next block but one.
        let near = blocks[number..].iter().take(4).position(|block| block.start == to);
        blocks[number].target =
            near.map_or_else(|| blocks.partition_point(|block| block.start < to), |near| number + near) as u32;
    }
}

/// Makes further checkpoints where more than [`SLACK`] instructions could go by without one.
fn set_checkpoints(code: &Code, blocks: &mut [Block]) {
    for number in 0..blocks.len() {
        let block = &mut blocks[number];
        block.checkpoint |= block.unasked + block.len() > SLACK;
        let unasked = if block.checkpoint { 0 } else { block.unasked + block.len() };
        let Block { target, end, .. } = *block;
        if code.insns()[end as usize - 1].jump_offset().is_some() {
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
