//! Where a run stands: registers, callers, what it has executed; and why the hot loop was left.
//!
//! Plain values that know neither slots nor the driver.

use crate::memory::{MAX_FRAMES, View};

/// Iterations that `may_goto` grants a frame: the kernel's `BPF_MAX_LOOPS`.
pub const MAY_GOTO_LOOPS: u32 = 8 << 20;

/// Registers `r0` to `r10`, and five that no program names.
pub(super) type Registers = [u64; 16];

/// What a caller needs back when its callee returns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Frame {
    /// Which program the caller is.
    pub(super) program: u32,
    /// Index of the instruction after the call.
    pub(super) ret: u32,
    /// `r6` to `r9`.
    pub(super) saved: [u64; 4],
    /// `r10`.
    pub(super) frame_pointer: u64,
    /// What is left of the `may_goto` budget.
    pub(super) loops: u32,
}

/// As many callers as there can be.
pub(super) type Frames = [Frame; MAX_FRAMES as usize];

/// Where execution stands, but for the registers.
#[derive(Debug)]
pub(super) struct State {
    /// Which program runs.
    pub(super) program: u32,
    /// Index of the next instruction.
    pub(super) pc: usize,
    /// Instructions executed.
    pub(super) used: u64,
    /// Callers, the entry program's first.
    pub(super) frames: Box<Frames>,
    /// Callers in `frames`.
    pub(super) depth: u32,
    /// Execution is done when the function at this depth returns: 0, or that of a function which a helper calls back.
    pub(super) floor: u32,
    /// The most that `depth` has been.
    pub(super) deepest: u32,
    /// What is left of this frame's `may_goto` budget.
    pub(super) loops: u32,
    /// Most instructions allowed.
    pub(super) budget: u64,
}

impl State {
    /// Before the first instruction of a run.
    #[inline(always)]
    pub(super) fn new(program: u32, budget: u64, frames: Box<Frames>) -> State {
        let loops = MAY_GOTO_LOOPS;
        State { program, pc: 0, used: 0, frames, depth: 0, floor: 0, deepest: 0, loops, budget }
    }

    /// Goes back to the first instruction of a program.
    #[inline(always)]
    pub(super) fn begin(&mut self, program: u32) {
        (self.program, self.pc, self.used) = (program, 0, 0);
        (self.depth, self.floor, self.deepest) = (0, 0, 0);
        self.loops = MAY_GOTO_LOOPS;
    }
}

/// Why the loop was left. `pc` is behind the instruction that left it, but where said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// The entry program returned, or the function that a helper has called back. `pc` is anywhere.
    Done,
    /// A function returned to another program, whose tail call it replaced.
    Return,
    /// Call this helper.
    Helper(i32),
    /// The driver executes this instruction.
    Slow,
    /// A call deeper than [`MAX_FRAMES`].
    TooDeep,
    /// The window or the stretch has ended; `pc` is the next instruction.
    Pause,
    /// There is no slot to execute; the check makes sure that this does not happen.
    NoSlot,
}

impl State {
    /// Remembers the caller and enters a frame whose top is `top`.
    #[inline(always)]
    pub(super) fn call(&mut self, regs: &mut Registers, ret: usize, top: u64) {
        self.frames[self.depth as usize % self.frames.len()] = Frame {
            program: self.program,
            ret: ret as u32,
            saved: [regs[6], regs[7], regs[8], regs[9]],
            frame_pointer: regs[10],
            loops: self.loops,
        };
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        self.loops = MAY_GOTO_LOOPS;
        regs[10] = top;
    }

    /// Leaves the current frame; the caller's program and where it goes on, or `None` when the function at the floor returns,
    /// whose frame stays open.
    #[inline(always)]
    pub(super) fn ret(&mut self, regs: &mut Registers, view: &mut View<'_>) -> Option<(u32, u32)> {
        if self.depth <= self.floor {
            return None;
        }
        view.pop_frame(self.depth);
        self.depth -= 1;
        let frame = &self.frames[self.depth as usize % self.frames.len()];
        [regs[6], regs[7], regs[8], regs[9]] = frame.saved;
        regs[10] = frame.frame_pointer;
        self.loops = frame.loops;
        Some((frame.program, frame.ret))
    }
}
