//! Random programs that make sense: every operation on values at the edges, accesses near the bounds, forward jumps.
//!
//! Driven by `arbitrary`: the same bytes give the same program, so that a fuzzer can steer it and a seed names it.
//! The counterpart of [`crate::streams`], which is hostile; here programs run to their end, and before they do, they
//! write every register and part of their stack into their memory, so that nothing they computed goes unseen.
//!
//! Registers: `r10` is the stack, `r9` points to the input from first to last, `r0` to `r8` are anything.
//! `values` knows the edges, `body` the instructions, `idioms` rows of them that belong together, and here a program is put together. What needs more than one
//! program and memory of more than one kind is in [`scenario`].

mod body;
mod idioms;
pub mod scenario;
mod values;

use arbitrary::{Result, Unstructured};
use softbpf::asm::{R1, R9, R10};
use softbpf::codec::Code;
use softbpf::insn::{Imm64, Insn, Reg, Size};

use crate::rng::Rng;
use body::{Body, Item};

/// Bytes of input that the program plays with.
pub const PLAYGROUND: usize = 64;

/// Bytes of stack, below the frame's top, that the program plays with and that are seen in the end.
pub const STACK_WINDOW: usize = 64;

/// Registers that a program computes with: `r0` to `r8`.
pub const VALUES: usize = 9;

/// Bytes of input: the playground, then what the program writes when it ends, `r0` to `r8` and the stack's window.
pub const INPUT: usize = PLAYGROUND + 8 * VALUES + STACK_WINDOW;

/// Bytes that are enough for the longest program.
const SEED_BYTES: usize = 4096;

/// Which instructions a kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// LLVM's `-mcpu=v3`, and fetching atomics: Linux 5.12.
    V3,
    /// Signed division, sign extension, unconditional byte swaps: Linux 6.6.
    V4,
    /// Load-acquire and store-release: Linux 6.15.
    Ordered,
}

/// What programs are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knobs {
    /// Most instructions between the first values and the end (a few more where one needs company).
    pub length: usize,
    /// Loads and stores.
    pub memory: bool,
    /// Atomic operations, load-acquire and store-release.
    pub atomics: bool,
    /// Jumps, all of them forward.
    pub jumps: bool,
    /// Now and then an access that leaves its object.
    pub out_of_bounds: bool,
    /// Nothing that the Linux verifier refuses: registers and stack are written before they are read, pointers are
    /// neither computed with nor stored, the stack and atomics are aligned, nothing is unreachable.
    pub kernel_acceptable: bool,
    /// Which instructions there are.
    pub level: Level,
}

impl Knobs {
    /// Everything that a program may do, and sometimes what it may not.
    pub const ALL: Knobs = Knobs {
        length: 40,
        memory: true,
        atomics: true,
        jumps: true,
        out_of_bounds: true,
        kernel_acceptable: false,
        level: Level::Ordered,
    };

    /// Everything that the verifier of a recent Linux takes.
    pub const KERNEL: Knobs = Knobs { out_of_bounds: false, kernel_acceptable: true, ..Knobs::ALL };

    /// Knobs for a seed: mostly everything, and now and then less, so that what is rare gets its turn.
    pub fn mixed(seed: u64) -> Knobs {
        match seed % 8 {
            0 => Knobs { out_of_bounds: false, ..Knobs::ALL },
            1 => Knobs { memory: false, atomics: false, jumps: false, out_of_bounds: false, ..Knobs::ALL },
            2 => Knobs { jumps: false, ..Knobs::ALL },
            3 => Knobs::KERNEL,
            _ => Knobs::ALL,
        }
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs::ALL
    }
}

/// A generated program and its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Everything but the first instruction, which makes `r9` point to the input.
    insns: Vec<Insn>,
    /// [`INPUT`] bytes.
    pub input: Vec<u8>,
}

impl Sample {
    /// A program made of these bytes.
    ///
    /// # Errors
    /// None in practice: bytes that run out become zeros.
    pub fn arbitrary(u: &mut Unstructured<'_>, knobs: &Knobs) -> Result<Sample> {
        let mut input = vec![0; INPUT];
        for chunk in input[..PLAYGROUND].chunks_mut(8) {
            chunk.copy_from_slice(&values::value(u)?.to_le_bytes());
        }
        let mut items = first_values(u, knobs)?;
        let count = u.int_in_range(1..=knobs.length.max(1))?;
        items.extend(Body::new(knobs).items(u, count)?);
        let mut insns = body::aim(&items);
        insns.extend(epilogue());
        Ok(Sample { insns, input })
    }

    /// The program with this number.
    pub fn from_seed(seed: u64, knobs: &Knobs) -> Sample {
        let mut rng = Rng::new(seed);
        let bytes: Vec<u8> = (0..SEED_BYTES / 8).flat_map(|_| rng.next_u64().to_le_bytes()).collect();
        Sample::arbitrary(&mut Unstructured::new(&bytes), knobs)
            .unwrap_or_else(|_| Sample { insns: epilogue(), input: vec![0; INPUT] })
    }

    /// The program, run on a context of [`Sample::input`].
    pub fn code(&self) -> Code {
        self.starting_with(Insn::mov(R9, R1))
    }

    /// The program, run on a map with one value of [`Sample::input`]: what the kernel allows any program to write.
    pub fn code_on_map(&self, fd: i32) -> Code {
        self.starting_with(Insn::LoadImm64 { dst: R9, value: Imm64::MapValue { fd, offset: 0 } })
    }

    fn starting_with(&self, first: Insn) -> Code {
        std::iter::once(first).chain(self.insns.iter().copied()).collect()
    }
}

/// Values for registers and stack; without a verifier to please, some are left as they are.
fn first_values(u: &mut Unstructured<'_>, knobs: &Knobs) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for reg in &Reg::ALL[..VALUES] {
        if knobs.kernel_acceptable || u.ratio(7, 8)? {
            items.push(values::load(u, *reg)?.into());
        }
    }
    if knobs.memory || knobs.atomics || knobs.kernel_acceptable {
        for offset in stack_words() {
            if knobs.kernel_acceptable || u.ratio(1, 2)? {
                items.push(Insn::store(Size::DW, R10, offset, values::imm(u)?).into());
            }
        }
    }
    Ok(items)
}

/// Offsets of the words of the stack's window, and of the frame's last.
fn stack_words() -> impl Iterator<Item = i16> {
    (1..=STACK_WINDOW as i16 / 8).map(|word| -8 * word).chain([-512])
}

/// Writes `r0` to `r8` and the stack's window behind the playground, and returns `r0`.
fn epilogue() -> Vec<Insn> {
    let mut offsets = (PLAYGROUND as i16..).step_by(8);
    let mut insns = Vec::new();
    for (reg, to) in Reg::ALL[..VALUES].iter().zip(&mut offsets) {
        insns.push(Insn::store(Size::DW, R9, to, *reg));
    }
    for (from, to) in (1..=STACK_WINDOW as i16 / 8).map(|word| -8 * word).zip(offsets) {
        insns.extend([Insn::load(Size::DW, R1, R10, from), Insn::store(Size::DW, R9, to, R1)]);
    }
    insns.push(Insn::exit());
    insns
}
