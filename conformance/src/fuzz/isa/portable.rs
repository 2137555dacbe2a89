//! What any implementation must answer to a program: what the model says, if it says the same wherever memory lies and
//! whatever registers and stack hold that nobody has written.

use std::collections::BTreeSet;

use softbpf::codec::Code;
use softbpf::context::Bytes;
use softbpf::insn::{Callee, Imm64, Insn};
use softbpf::program_type::ProgramType;

use super::CampaignError;
use crate::minimise::flow::{Node, nodes};
use crate::model::{Executed, Model, Observed, Region, Setup, StopKind};

/// What any implementation must answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// This value in `r0`.
    Value(u64),
    /// An error: the instruction at this slot accesses what is not there.
    Error {
        /// The slot.
        slot: usize,
    },
}

/// Instructions that are executed at most.
const FUEL: u64 = 100_000;

/// What registers and stack hold in the other world, where nobody has written to them.
const GARBAGE: u64 = 0xa5c3_96e1_d2b4_8778;

/// Two worlds that differ in all that RFC 9669 leaves open.
#[derive(Debug, Clone)]
pub(super) struct Portable {
    here: Setup,
    there: Setup,
}

impl Portable {
    /// Finds out where a machine puts things; the other world puts them elsewhere.
    ///
    /// # Errors
    /// There is no machine.
    pub(super) fn new() -> Result<Portable, CampaignError> {
        let here = Setup::of(ProgramType::Unspec, Bytes(&[0; 8])).map_err(|e| CampaignError::Setup(e.to_string()))?;
        // Many implementations leave r2 alone.
        let here = Setup { fuel: FUEL, args: [here.args[0], 0], ..here };
        let mut there = here.clone();
        // Not aligned either, and below the stack, not above it.
        const CONTEXT: u64 = 0x5a00_0b1c_1235;
        const STACK: u64 = 0x7f31_4000_90f3;
        (0..).zip(&mut there.frames).for_each(|(depth, frame)| *frame = STACK - depth * 0x1_0000);
        there.args = [CONTEXT, GARBAGE];
        there.code = 0x6b00_0000_3000;
        if let Some(Region { start, .. }) = &mut there.context {
            *start = CONTEXT;
        }
        Ok(Portable { here, there })
    }

    /// What any implementation must answer; `None` when it is free to answer this or that.
    pub(super) fn expected(&self, code: &Code, input: &[u8]) -> Option<Expected> {
        let here = Model::new(code, &with_input(&self.here, input)).run();
        let there = elsewhere(code, &with_input(&self.there, input));
        match (here.ret, there.ret) {
            (Ok(here), Ok(there)) if here == there => Some(Expected::Value(here)),
            (Err(here), Err(there)) if here.slot == there.slot => match (here.kind, there.kind) {
                (StopKind::Access(_), StopKind::Access(_)) => Some(Expected::Error { slot: here.slot }),
                _ => None,
            },
            (Ok(_) | Err(_), Ok(_) | Err(_)) => None,
        }
    }
}

/// Whether functions stand one behind the other, with an end of their own, and no jump leads from one into another. RFC
/// 9669 does not ask for it, but Linux and others do.
pub(super) fn functions_are_apart(code: &Code) -> bool {
    let nodes = nodes(code);
    let is_call = |insn| matches!(insn, Insn::Call(Callee::Local(_)) | Insn::LoadImm64 { value: Imm64::Code(_), .. });
    let entries: BTreeSet<usize> = nodes.iter().filter(|node| is_call(node.insn)).filter_map(|node| node.to).collect();
    let function = |index: usize| entries.range(..=index).count();
    let stays =
        |(index, node): (usize, &Node)| is_call(node.insn) || node.to.is_none_or(|to| function(to) == function(index));
    let ends = |&entry: &usize| {
        let last = entry.checked_sub(1).and_then(|index| nodes.get(index));
        last.is_some_and(|node| matches!(node.insn, Insn::Exit | Insn::Jump { .. }))
    };
    nodes.iter().enumerate().all(stays) && entries.iter().all(ends)
}

fn with_input(setup: &Setup, input: &[u8]) -> Setup {
    if input.is_empty() {
        return Setup { context: None, args: [0, setup.args[1]], ..setup.clone() };
    }
    setup.clone().with_context(input)
}

fn elsewhere(code: &Code, setup: &Setup) -> Observed {
    let mut model = Model::new(code, setup);
    model.registers[0] = GARBAGE;
    forget(&mut model, 3..10);
    let frames = setup.frames.len();
    for region in model.memory.regions.iter_mut().take(frames) {
        region.bytes.fill(GARBAGE as u8);
    }
    let mut depth = 0;
    model.run_with(|model, done| {
        after(model, done, depth);
        depth = model.depth();
    })
}

/// A call and a return leave registers undefined, and the frame of a function is nobody's before.
fn after(model: &mut Model<'_>, done: &Executed, depth: usize) {
    match model.depth() {
        deeper if deeper > depth => {
            model.registers[0] = GARBAGE;
            forget(model, 6..10);
            if let Some(frame) = model.memory.regions.get_mut(deeper) {
                frame.bytes.fill(GARBAGE as u8);
            }
        }
        same if same == depth => {
            if matches!(done.insn, Insn::Call(Callee::Helper(_) | Callee::Reg(_))) {
                forget(model, 1..6);
            }
        }
        _ => forget(model, 1..6),
    }
}

fn forget(model: &mut Model<'_>, registers: std::ops::Range<usize>) {
    for (number, register) in model.registers.iter_mut().enumerate() {
        if registers.contains(&number) {
            *register = GARBAGE.rotate_left(number as u32);
        }
    }
}
