//! Which edges of a program's control flow there are ([`Graph`]), and which of them a run took ([`Trail`]).
//!
//! An edge goes from a basic block to one that may come next; the entry of each function counts as one too. How often a run
//! took an edge is kept in eight classes, as AFL has them: 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, more.
//!
//! That a helper could read the memory that it was to read is news too, even where the program does not ask: it is kept as an
//! edge that no count shows.

use std::collections::BTreeSet;

use softbpf::codec::Code;
use softbpf::engine::{ProgramId, Step};
use softbpf::helpers::table::{self, ArgKind};
use softbpf::insn::{Callee, Imm64, Insn};
use softbpf::memory::MAX_FRAMES;
use softbpf::{Machine, Object};

/// No block, no edge.
const NONE: u32 = u32::MAX;

/// An edge and a class of how often it was taken, one bit.
pub type Taken = (u32, u8);

/// A stretch of instructions that control enters at the first and leaves behind the last.
#[derive(Debug, Clone)]
struct Block {
    program: usize,
    /// The first slot and the one behind the last.
    slots: (usize, usize),
    /// Blocks that may come next, with the edges that lead there.
    next: [(u32, u32); 2],
    /// The edge into it from outside, if a function begins here.
    entry: u32,
}

/// What there is to see in front of an instruction.
#[derive(Debug, Clone, Copy)]
struct Mark {
    /// The block that begins there.
    block: u32,
    /// The edge that is taken if the helper in front of it has read memory.
    read: u32,
}

/// The control flow of all programs of an object.
#[derive(Debug, Clone)]
pub struct Graph {
    blocks: Vec<Block>,
    marks: Vec<Mark>,
    /// By program and slot: the mark that is there, or [`NONE`].
    places: Vec<Vec<u32>>,
    /// The program of each edge; [`NONE`] for one that does not count.
    edges: Vec<u32>,
}

/// How much of a program was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Covered {
    /// Edges that some run took.
    pub edges: usize,
    /// Edges that there are: of the program, and of those that it has tail-called.
    pub of_edges: usize,
}

impl Graph {
    /// The graph of the programs that a machine has.
    pub fn new(vm: &Machine) -> Graph {
        let mut graph = Graph { blocks: Vec::new(), marks: Vec::new(), places: Vec::new(), edges: Vec::new() };
        for program in 0..vm.programs().len() {
            let places = match vm.program(ProgramId::new(program)) {
                Some(loaded) => graph.add(program, loaded.code()),
                None => Vec::new(),
            };
            graph.places.push(places);
        }
        graph
    }

    /// Edges of all programs, with those that do not count.
    pub fn edges(&self) -> usize {
        self.edges.len()
    }

    fn add(&mut self, program: usize, code: &Code) -> Vec<u32> {
        let (starts, entries) = starts(code);
        let mut leaders = vec![NONE; code.slot_count()];
        let first = self.blocks.len();
        let ends = starts.iter().copied().skip(1).chain([code.slot_count()]);
        for (index, (start, end)) in starts.iter().copied().zip(ends).enumerate() {
            leaders[start] = (first + index) as u32;
            let block = Block { program, slots: (start, end), next: [(NONE, NONE); 2], entry: NONE };
            self.blocks.push(block);
        }
        for index in first..self.blocks.len() {
            let (start, end) = self.blocks[index].slots;
            if entries.contains(&start) {
                self.blocks[index].entry = self.edge(program as u32);
            }
            for (place, to) in successors(code, end).into_iter().flatten().enumerate() {
                let to = leaders.get(to).copied().unwrap_or(NONE);
                let edge = self.edge(program as u32);
                self.blocks[index].next[place] = (to, edge);
            }
        }
        self.mark(code, &leaders)
    }

    /// The marks of a program's slots, by the blocks that begin there.
    fn mark(&mut self, code: &Code, leaders: &[u32]) -> Vec<u32> {
        let mut reads = vec![NONE; leaders.len()];
        for (slot, insn) in code.iter() {
            if let Insn::Call(Callee::Helper(number)) = insn
                && table::by_number(*number).is_some_and(|row| row.args.contains(&ArgKind::Address))
                && let Some(read) = reads.get_mut(slot + 1)
            {
                *read = self.edge(NONE);
            }
        }
        let place = |(&block, read): (&u32, u32)| {
            if (block, read) == (NONE, NONE) {
                return NONE;
            }
            self.marks.push(Mark { block, read });
            self.marks.len() as u32 - 1
        };
        leaders.iter().zip(reads).map(place).collect()
    }

    fn edge(&mut self, program: u32) -> u32 {
        self.edges.push(program);
        self.edges.len() as u32 - 1
    }

    /// What of the graph these edges are; `taken` has a byte for each, 0 for one that no run took.
    pub fn covered(&self, program: ProgramId, taken: &[u8]) -> Covered {
        let of = self.edges.iter().zip(taken).filter(|(owner, _)| **owner != NONE);
        let entered: BTreeSet<u32> = of.clone().filter(|(_, taken)| **taken != 0).map(|(owner, _)| *owner).collect();
        let counts = |owner: u32| entered.contains(&owner) || owner as usize == program.index();
        Covered {
            edges: of.clone().filter(|(_, taken)| **taken != 0).count(),
            of_edges: of.filter(|(owner, _)| counts(**owner)).count(),
        }
    }

    /// The lines of a program's source that no run came to, in order; none when the object has no line info.
    pub fn lines_never_run(&self, object: &Object, program: ProgramId, taken: &[u8]) -> Vec<Line> {
        let Some(Ok(linked)) = object.program_at(program.index()) else { return Vec::new() };
        let seen = |edge: u32| taken.get(edge as usize).is_some_and(|&classes| classes != 0);
        let mut entered = vec![false; self.blocks.len()];
        for (index, block) in self.blocks.iter().enumerate() {
            entered[index] |= seen(block.entry);
            for &(to, edge) in &block.next {
                if let Some(entered) = entered.get_mut(to as usize) {
                    *entered |= seen(edge);
                }
            }
        }
        let (mut run, mut all) = (BTreeSet::new(), BTreeSet::new());
        for (block, entered) in self.blocks.iter().zip(entered).filter(|(block, _)| block.program == program.index()) {
            for slot in block.slots.0..block.slots.1 {
                let Some(line) = linked.line_at(slot).filter(|line| line.line > 0) else { continue };
                let line = Line { file: line.file.to_owned(), line: line.line, text: line.text.to_owned() };
                if entered {
                    run.insert(line.clone());
                }
                all.insert(line);
            }
        }
        all.difference(&run).cloned().collect()
    }
}

/// A line of source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// File, as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// The line itself; empty when unknown.
    pub text: String,
}

/// The slots at which blocks begin, in order; and those at which functions do.
fn starts(code: &Code) -> (Vec<usize>, BTreeSet<usize>) {
    let mut starts = BTreeSet::from([0]);
    let mut entries = BTreeSet::from([0]);
    for (index, (slot, insn)) in code.iter().enumerate() {
        if let Insn::Call(Callee::Local(off)) | Insn::LoadImm64 { value: Imm64::Code(off), .. } = *insn {
            entries.extend(target(code, index, off));
        }
        if let Some(off) = insn.jump_offset() {
            starts.extend(target(code, index, off));
        }
        if insn.jump_offset().is_some() || *insn == Insn::Exit {
            starts.insert(slot + 1);
        }
    }
    starts.extend(&entries);
    let exists = |slot: &usize| *slot < code.slot_count();
    (starts.into_iter().filter(exists).collect(), entries.into_iter().filter(exists).collect())
}

/// The slot that instruction `index` leads to.
fn target(code: &Code, index: usize, off: i32) -> Option<usize> {
    code.slot_of(code.target(index, off)?)
}

/// Where control may go behind the block that ends in front of a slot.
fn successors(code: &Code, end: usize) -> [Option<usize>; 2] {
    // A load of 64 bits takes two slots.
    let last = (end.saturating_sub(2)..end).rev().find_map(|slot| code.index_at(slot));
    let Some((index, insn)) = last.and_then(|index| Some((index, code.insns().get(index)?))) else { return [None; 2] };
    let to = insn.jump_offset().and_then(|off| target(code, index, off));
    let falls = !matches!(insn, Insn::Jump { .. } | Insn::Exit);
    [falls.then_some(end), to.filter(|to| !falls || *to != end)]
}

/// The edges that one run took.
#[derive(Debug, Clone)]
pub struct Trail {
    /// How often, by edge; stops at 255.
    counts: Vec<u8>,
    /// Edges whose count is not 0.
    touched: Vec<u32>,
    /// The last block at each depth of calls.
    last: [u32; MAX_FRAMES as usize],
}

impl Trail {
    /// Nothing yet.
    pub fn new(graph: &Graph) -> Trail {
        Trail { counts: vec![0; graph.edges()], touched: Vec::new(), last: [NONE; MAX_FRAMES as usize] }
    }

    /// Starts a new run.
    pub fn clear(&mut self) {
        for edge in self.touched.drain(..) {
            self.counts[edge as usize] = 0;
        }
        self.last = [NONE; MAX_FRAMES as usize];
    }

    /// Follows an instruction that is about to be executed.
    #[inline]
    pub fn step(&mut self, graph: &Graph, step: &Step<'_>) {
        let places = graph.places.get(step.program.index()).map_or(&[][..], |places| places);
        match places.get(step.slot) {
            None | Some(&NONE) => {}
            Some(&mark) => self.pass(graph, mark, step),
        }
    }

    fn pass(&mut self, graph: &Graph, mark: u32, step: &Step<'_>) {
        let Some(mark) = graph.marks.get(mark as usize) else { return };
        if step.registers.first().is_some_and(|&r0| r0 as i64 >= 0) {
            self.count(mark.read);
        }
        if mark.block != NONE {
            self.enter(graph, mark.block, step.depth);
        }
    }

    fn enter(&mut self, graph: &Graph, block: u32, depth: u32) {
        let Some(last) = self.last.get_mut(depth as usize) else { return };
        let next = graph.blocks.get(*last as usize).and_then(|from| from.next.iter().find(|(to, _)| *to == block));
        *last = block;
        // What does not come from the block before was called: the function before it at this depth has returned.
        let edge = match next {
            Some((_, edge)) => *edge,
            None => graph.blocks.get(block as usize).map_or(NONE, |block| block.entry),
        };
        self.count(edge);
    }

    fn count(&mut self, edge: u32) {
        if let Some(count) = self.counts.get_mut(edge as usize) {
            if *count == 0 {
                self.touched.push(edge);
            }
            *count = count.saturating_add(1);
        }
    }

    /// The edges, each with the class of how often it was taken.
    pub fn taken(&self) -> impl Iterator<Item = Taken> {
        self.touched.iter().map(|&edge| (edge, class(self.counts[edge as usize])))
    }
}

/// The class of a count, as a bit.
fn class(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..8 => 8,
        8..16 => 16,
        16..32 => 32,
        32..128 => 64,
        128.. => 128,
    }
}
