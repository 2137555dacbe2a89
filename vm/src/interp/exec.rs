//! The hot loop: one `match`, an arm an operation, generated from the rows.
//!
//! It knows slots, registers and guest memory. Whatever needs more (helpers, other programs, addresses that
//! missed, the last instructions of a budget) it hands to the driver by returning.
//!
//! Instructions are counted by distance: `base + index` is the number executed before the instruction at
//! `index`, and only taken jumps change `base`. Once a jump finds that the budget could end before the next
//! one, the driver goes on with the careful instance, which looks before every instruction.

use super::flat::{Op, Slot};
use crate::insn::{AluOp, AtomicOp, ByteOrder, Condition, Size, SwapWidth, Width};
use crate::memory::{MAX_FRAMES, View};
use crate::semantics;

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
    /// Instructions executed, less `pc`.
    pub(super) base: i64,
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
    pub(super) budget: i64,
}

impl State {
    /// Before the first instruction of a run.
    pub(super) fn new(program: u32, budget: i64, frames: Box<Frames>) -> State {
        let loops = MAY_GOTO_LOOPS;
        State { program, pc: 0, base: 0, frames, depth: 0, floor: 0, deepest: 0, loops, budget }
    }

    /// Instructions executed.
    pub(super) fn used(&self) -> i64 {
        self.base + self.pc as i64
    }
}

/// Why the loop was left. `pc` is behind the instruction that left it, but where said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// The entry program returned, or the function that a helper has called back.
    Done,
    /// A function returned to another program, whose tail call it replaced.
    Return,
    /// Call this helper.
    Helper(i32),
    /// The driver executes this instruction.
    Slow,
    /// A call deeper than [`MAX_FRAMES`].
    TooDeep,
    /// The budget may end soon; `pc` is the next instruction.
    Careful,
    /// The budget has ended; `pc` is the next instruction.
    OutOfFuel,
    /// There is no slot to execute. The check and the fusing of pairs make sure that this does not happen.
    NoSlot,
}

/// Called before every instruction: index, registers, depth.
pub(super) type Hook<'h> = &'h mut dyn FnMut(usize, &Registers, u32);

/// Runs until the driver is needed. `CAREFUL` looks at budget and hook before every instruction.
pub(super) fn exec<const CAREFUL: bool>(
    code: &[Slot],
    regs: &mut Registers,
    state: &mut State,
    mut view: View<'_>,
    hook: &mut Option<Hook<'_>>,
) -> Leave {
    let mut base = state.base;
    let soft_limit = state.budget - code.len() as i64;
    let mut next = code.get(state.pc..).unwrap_or(&[]).iter();

    // Index of the instruction that `next` yields next.
    macro_rules! pc {
        () => {
            code.len() - next.as_slice().len()
        };
    }
    macro_rules! leave {
        ($leave:expr) => {{
            state.base = base;
            state.pc = pc!();
            return $leave;
        }};
    }
    macro_rules! goto {
        ($target:expr) => {{
            let target = $target as usize;
            base += pc!() as i64 - target as i64;
            next = code.get(target..).unwrap_or(&[]).iter();
            if !CAREFUL && base + target as i64 > soft_limit {
                leave!(Leave::Careful);
            }
            continue;
        }};
    }

    loop {
        if CAREFUL {
            if base + pc!() as i64 >= state.budget {
                leave!(Leave::OutOfFuel);
            }
            if let Some(hook) = hook {
                hook(pc!(), regs, state.depth);
            }
        }
        let Some(slot) = next.next() else { leave!(Leave::NoSlot) };
        // What one operation does to the slot named.
        macro_rules! operand {
            ($slot:ident Imm) => {
                $slot.imm
            };
            ($slot:ident Reg) => {
                regs[$slot.src as usize]
            };
        }
        macro_rules! body {
            ($slot:ident alu $op:ident 32 $src:ident) => {{
                let result = semantics::alu32(AluOp::$op, regs[$slot.dst as usize] as u32, operand!($slot $src) as u32);
                regs[$slot.dst as usize] = result.into()
            }};
            ($slot:ident alu $op:ident 64 $src:ident) => {
                regs[$slot.dst as usize] = semantics::alu64(AluOp::$op, regs[$slot.dst as usize], operand!($slot $src))
            };
            ($slot:ident jump $condition:ident 32 $src:ident) => {
                if semantics::holds32(Condition::$condition, regs[$slot.dst as usize] as u32, operand!($slot $src) as u32) {
                    goto!($slot.off)
                }
            };
            ($slot:ident jump $condition:ident 64 $src:ident) => {
                if semantics::holds64(Condition::$condition, regs[$slot.dst as usize], operand!($slot $src)) {
                    goto!($slot.off)
                }
            };
            ($slot:ident goto) => {
                goto!($slot.off)
            };
            ($slot:ident load $unsigned:ty) => {
                body!($slot load $unsigned as u64)
            };
            ($slot:ident load $unsigned:ty as $extend:ty) => {
                match view.load(regs[$slot.src as usize].wrapping_add($slot.off as i64 as u64)) {
                    Some(bytes) => regs[$slot.dst as usize] = <$unsigned>::from_le_bytes(bytes) as $extend as u64,
                    None => leave!(Leave::Slow),
                }
            };
            ($slot:ident store $unsigned:ident $src:ident) => {{
                let addr = regs[$slot.dst as usize].wrapping_add($slot.off as i64 as u64);
                let bytes = (operand!($slot $src) as $unsigned).to_le_bytes();
                if (CAREFUL && view.tracking()) || view.store(addr, bytes).is_none() {
                    leave!(Leave::Slow)
                }
            }};
            ($slot:ident atomic $op:ident $unsigned:ty) => {{
                let addr = regs[$slot.dst as usize].wrapping_add($slot.off as i64 as u64);
                match view.place(addr) {
                    Some(place) => {
                        let old = <$unsigned>::from_le_bytes(*place) as u64;
                        let src = regs[$slot.src as usize] as $unsigned as u64;
                        let new = semantics::atomic(AtomicOp::$op, old, src, regs[0] as $unsigned as u64);
                        *place = (new as $unsigned).to_le_bytes();
                        match AtomicOp::$op {
                            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
                            AtomicOp::FetchAdd
                            | AtomicOp::FetchOr
                            | AtomicOp::FetchAnd
                            | AtomicOp::FetchXor
                            | AtomicOp::Xchg => regs[$slot.src as usize] = old,
                            AtomicOp::Cmpxchg => regs[0] = old,
                        }
                    }
                    None => leave!(Leave::Slow),
                }
            }};
        }
        // `register = function(register)`.
        macro_rules! unary {
            ($function:expr, $register:ident) => {
                regs[slot.dst as usize] = $function(regs[slot.$register as usize])
            };
        }

        macro_rules! arms {
            (
                [$((($first:ident $($f:tt)*) ($second:ident $($s:tt)*)))*]
                alu [$($alu:ident $acode:literal $aoff:literal $asym:literal $amnemonic:literal $agroup:ident)*]
                condition [$($condition:ident $ccode:literal $csym:literal $cmnemonic:literal)*]
                atomic [$($atomic:ident $imm:literal $symbol:literal)*]
                size [$($size:ident $bits:literal $bytes:literal $ctype:ident $suffix:literal)*]
            ) => { pastey::paste! {
                match slot.op {
                    $(
                        Op::[<$alu 32Imm>] => body!(slot alu $alu 32 Imm),
                        Op::[<$alu 32Reg>] => body!(slot alu $alu 32 Reg),
                        Op::[<$alu 64Imm>] => body!(slot alu $alu 64 Imm),
                        Op::[<$alu 64Reg>] => body!(slot alu $alu 64 Reg),
                    )*
                    $(
                        Op::[<J $condition 32Imm>] => body!(slot jump $condition 32 Imm),
                        Op::[<J $condition 32Reg>] => body!(slot jump $condition 32 Reg),
                        Op::[<J $condition 64Imm>] => body!(slot jump $condition 64 Imm),
                        Op::[<J $condition 64Reg>] => body!(slot jump $condition 64 Reg),
                    )*
                    $(
                        Op::[<Atomic $atomic 32>] => body!(slot atomic $atomic u32),
                        Op::[<Atomic $atomic 64>] => body!(slot atomic $atomic u64),
                    )*
                    $(
                        Op::[<Load $size>] => body!(slot load $ctype),
                        Op::[<Store $size Imm>] => body!(slot store $ctype Imm),
                        Op::[<Store $size Reg>] => body!(slot store $ctype Reg),
                    )*
                    $(
                        Op::[<$first Then $second>] => {
                            if CAREFUL {
                                // Looks at every instruction, and so never gets fused ones.
                                leave!(Leave::NoSlot);
                            }
                            let first = slot;
                            body!(first $($f)*);
                            let Some(second) = next.next() else { leave!(Leave::NoSlot) };
                            body!(second $($s)*)
                        }
                    )*
                    Op::LoadSignedB => body!(slot load u8 as i8),
                    Op::LoadSignedH => body!(slot load u16 as i16),
                    Op::LoadSignedW => body!(slot load u32 as i32),
                    Op::Neg32 => unary!(|value| semantics::neg(Width::W32, value), dst),
                    Op::Neg64 => unary!(|value| semantics::neg(Width::W64, value), dst),
                    Op::MovSxB32 => unary!(|value| semantics::movsx(Width::W32, Size::B, value), src),
                    Op::MovSxH32 => unary!(|value| semantics::movsx(Width::W32, Size::H, value), src),
                    Op::MovSxB64 => unary!(|value| semantics::movsx(Width::W64, Size::B, value), src),
                    Op::MovSxH64 => unary!(|value| semantics::movsx(Width::W64, Size::H, value), src),
                    Op::MovSxW64 => unary!(|value| semantics::movsx(Width::W64, Size::W, value), src),
                    Op::Cut16 => unary!(|value| semantics::byte_order(ByteOrder::Le, SwapWidth::B16, value), dst),
                    Op::Swap16 => unary!(|value| semantics::byte_order(ByteOrder::Bswap, SwapWidth::B16, value), dst),
                    Op::Swap32 => unary!(|value| semantics::byte_order(ByteOrder::Bswap, SwapWidth::B32, value), dst),
                    Op::Swap64 => unary!(|value| semantics::byte_order(ByteOrder::Bswap, SwapWidth::B64, value), dst),
                    Op::LoadImm64 => regs[slot.dst as usize] = slot.imm,
                    Op::Jump => goto!(slot.off),
                    Op::MayGoto => {
                        if state.loops == 0 {
                            goto!(slot.off)
                        }
                        state.loops -= 1;
                    }
                    Op::CallHelper => leave!(Leave::Helper(slot.imm as i32)),
                    Op::CallLocal => {
                        let Some(top) = view.push_frame(state.depth + 1) else { leave!(Leave::TooDeep) };
                        state.call(regs, pc!(), top);
                        goto!(slot.off)
                    }
                    Op::Exit => match state.ret(regs, &mut view) {
                        None => leave!(Leave::Done),
                        Some(frame) if frame.program == state.program => goto!(frame.ret),
                        Some(frame) => {
                            base += pc!() as i64 - i64::from(frame.ret);
                            state.base = base;
                            state.pc = frame.ret as usize;
                            state.program = frame.program;
                            return Leave::Return;
                        }
                    },
                    Op::Slow => leave!(Leave::Slow),
                }
            } };
        }
        macro_rules! arms_with_pairs {
            ($($pairs:tt)*) => {
                for_each_row! { arms [$($pairs)*] }
            };
        }
        for_each_pair!(arms_with_pairs);
    }
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

    /// Leaves the current frame; the caller, or `None` when the function at the floor returns, whose frame stays open.
    #[inline(always)]
    pub(super) fn ret(&mut self, regs: &mut Registers, view: &mut View<'_>) -> Option<Frame> {
        if self.depth <= self.floor {
            return None;
        }
        view.pop_frame(self.depth);
        self.depth -= 1;
        let frame = self.frames[self.depth as usize % self.frames.len()];
        regs[6..10].copy_from_slice(&frame.saved);
        regs[10] = frame.frame_pointer;
        self.loops = frame.loops;
        Some(frame)
    }
}
