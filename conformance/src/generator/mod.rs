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
use softbpf::insn::{Callee, Imm64, Insn, Reg, Size};

use crate::rng::Rng;
use body::{Body, Item};

pub(crate) use scenario::aim;

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
    /// The same result wherever memory lies, and whatever registers and stack hold at first: both are written before
    /// they are read, and pointers are neither computed with nor stored. Goes without saying with `kernel_acceptable`.
    pub portable: bool,
    /// Calls of functions with a frame of their own.
    pub calls: bool,
    /// These functions use 256 bytes of their frame at most.
    pub small_frames: bool,
    /// Shifts by immediates that are out of range, which RFC 9669 masks and Linux refuses.
    pub masked_shifts: bool,
    /// Some registers start with words of the input, so that one program computes on many inputs.
    pub from_input: bool,
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
        portable: false,
        calls: false,
        small_frames: false,
        masked_shifts: false,
        from_input: false,
        level: Level::Ordered,
    };

    /// Everything that the verifier of a recent Linux takes.
    pub const KERNEL: Knobs = Knobs { out_of_bounds: false, kernel_acceptable: true, ..Knobs::ALL };

    /// Everything that every implementation must do alike.
    pub const PORTABLE: Knobs = Knobs { portable: true, calls: true, masked_shifts: true, ..Knobs::ALL };

    /// Mostly these, and now and then less, so that what is rare gets its turn.
    #[must_use]
    pub fn mixed(self, seed: u64) -> Knobs {
        match seed % 8 {
            0 => Knobs { out_of_bounds: false, ..self },
            1 => Knobs { memory: false, atomics: false, jumps: false, out_of_bounds: false, ..self },
            2 => Knobs { jumps: false, ..self },
            3 => Knobs { out_of_bounds: false, kernel_acceptable: true, calls: false, masked_shifts: false, ..self },
            _ => self,
        }
    }

    fn is_portable(&self) -> bool {
        self.portable || self.kernel_acceptable
    }
}

impl Default for Knobs {
    fn default() -> Self {
        Knobs::ALL
    }
}

/// A generated program and its input.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sample {
    /// Everything but the first instruction, which makes `r9` point to the input, and the end.
    pub(crate) body: Vec<Insn>,
    /// Functions, which local calls of the body name by their numbers.
    pub(crate) functions: Vec<Vec<Insn>>,
    /// [`INPUT`] bytes.
    pub input: Vec<u8>,
}

impl Sample {
    /// A program made of these bytes.
    ///
    /// # Errors
    /// None in practice: bytes that run out become zeros.
    pub fn arbitrary(u: &mut Unstructured<'_>, knobs: &Knobs) -> Result<Sample> {
        let input = input(u)?;
        let mut items = first_values(u, knobs)?;
        let count = u.int_in_range(1..=knobs.length.max(1))?;
        let mut body = Body::new(knobs);
        items.extend(body.items(u, count)?);
        Ok(Sample { body: body::aim(&items), functions: body.functions, input })
    }

    /// The program with this number.
    pub fn from_seed(seed: u64, knobs: &Knobs) -> Sample {
        // Half of the instructions take less than this.
        let bytes = random_bytes(seed, SEED_BYTES.max(48 * knobs.length));
        Sample::arbitrary(&mut Unstructured::new(&bytes), knobs).unwrap_or_else(|_| Sample {
            body: Vec::new(),
            functions: Vec::new(),
            input: vec![0; INPUT],
        })
    }

    /// Another input for any program: number `index` of those that belong to a seed.
    pub fn input_from_seed(seed: u64, index: u64) -> Vec<u8> {
        let bytes = random_bytes(seed ^ (index + 1).rotate_right(16), SEED_BYTES / 16);
        input(&mut Unstructured::new(&bytes)).unwrap_or_else(|_| vec![0; INPUT])
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
        link(&[first], &[Part { sample: self, end: &epilogue() }])
    }
}

/// The body of a sample, and what follows it.
pub(crate) struct Part<'s> {
    pub(crate) sample: &'s Sample,
    pub(crate) end: &'s [Insn],
}

/// A program of some bodies, one after the other, with their functions behind them.
pub(crate) fn link(first: &[Insn], parts: &[Part<'_>]) -> Code {
    let slots = |insns: &[Insn]| insns.iter().map(Insn::slots).sum::<usize>();
    let main = slots(first) + parts.iter().map(|part| slots(&part.sample.body) + slots(part.end)).sum::<usize>();
    let mut entry = main;
    let mut insns = first.to_vec();
    let mut slot = slots(first);
    for Part { sample, end } in parts {
        let mut entries = Vec::with_capacity(sample.functions.len());
        for function in &sample.functions {
            entries.push(entry);
            entry += slots(function);
        }
        for &insn in sample.body.iter().chain(*end) {
            let callee = if let Insn::Call(Callee::Local(number)) = insn { entries.get(number as usize) } else { None };
            insns.push(callee.map_or(insn, |&entry| aim(insn, entry as i64 - slot as i64 - 1)));
            slot += insn.slots();
        }
    }
    insns.extend(parts.iter().flat_map(|part| part.sample.functions.iter().flatten()));
    insns.into()
}

fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    let mut bytes = vec![0; count];
    bytes.as_chunks_mut().0.iter_mut().for_each(|chunk| *chunk = rng.next_u64().to_le_bytes());
    bytes
}

fn input(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut input = vec![0; INPUT];
    for chunk in input[..PLAYGROUND].chunks_mut(8) {
        chunk.copy_from_slice(&values::value(u)?.to_le_bytes());
    }
    Ok(input)
}

/// Values for registers and stack; without a verifier to please, some are left as they are.
fn first_values(u: &mut Unstructured<'_>, knobs: &Knobs) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for reg in &Reg::ALL[..VALUES] {
        if knobs.from_input && u.ratio(2, 3)? {
            let word = u.int_in_range(0..=PLAYGROUND as i16 / 8 - 1)?;
            items.push(Insn::load(Size::DW, *reg, R9, 8 * word).into());
        } else if knobs.is_portable() || u.ratio(7, 8)? {
            items.push(values::load(u, *reg)?.into());
        }
    }
    if knobs.memory || knobs.atomics || knobs.is_portable() {
        for offset in stack_words() {
            if knobs.is_portable() || u.ratio(1, 2)? {
                items.push(Insn::store(Size::DW, R10, offset, values::imm(u)?).into());
            }
        }
    }
    Ok(items)
}

/// Offsets of the words of the stack's window, and of the frame's last.
pub(crate) fn stack_words() -> impl Iterator<Item = i16> {
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
