//! What emitters write to.

use dynasmrt::x64::X64Relocation;
use dynasmrt::{AssemblyOffset, DynasmApi, VecAssembler};

use softbpf::insn::Width;

use super::code::{CodeError, CodeMemory, WritableMemory};
use super::encode::{self, Operation, group, opcode};

/// An assembler with labels, for the routines that all code shares.
pub(super) type LabelAssembler = VecAssembler<X64Relocation>;

/// `dynasm!` for x86-64.
macro_rules! x64 {
    ($asm:expr; $($code:tt)*) => {
        dynasm::dynasm!($asm ; .arch x64 ; $($code)*)
    };
}
pub(super) use x64;

/// Machine code under way, in memory that will be executable: what is common is put there a word at a time, what is rare by
/// `dynasm!`. Jumps are aimed with [`Forward`].
#[derive(Debug)]
pub(super) struct Assembler {
    memory: WritableMemory,
    len: usize,
    /// The largest offset behind which there is room for a word.
    last: usize,
    /// Why there is no more memory; what is put then goes nowhere.
    failed: Option<CodeError>,
}

/// Bytes of an instruction, or of a part of one, the first one lowest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub(super) word: u64,
    /// Up to 8; what the word has behind them is not kept.
    pub(super) len: usize,
}

impl Assembler {
    /// With room for so many bytes, and more when it needs it.
    pub(super) fn with_capacity(capacity: usize) -> Result<Assembler, CodeError> {
        let memory = WritableMemory::new(capacity.max(WORD))?;
        Ok(Assembler { last: memory.len() - WORD, memory, len: 0, failed: None })
    }

    /// Offset of what comes next.
    #[inline(always)]
    pub(super) fn offset(&self) -> u32 {
        self.len as u32
    }

    #[inline(always)]
    pub(super) fn put(&mut self, bytes: Bytes) {
        debug_assert!(bytes.len <= WORD);
        if self.len > self.last {
            self.make_room();
        }
        // What stands behind the bytes is written over, or not kept.
        // SAFETY: there is room for a word behind the last offset, which this is not.
        unsafe { self.memory.write(self.len, bytes.word) };
        self.len += bytes.len.min(WORD);
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self) {
        if let Err(error) = self.memory.grow(self.len) {
            // Nothing will come of it, but there has to be room for what is put until somebody asks.
            self.failed = Some(error);
            self.len = 0;
        }
        self.last = self.memory.len() - WORD;
    }

    /// Has a jump go to this offset.
    #[inline]
    pub(super) fn aim(&mut self, jump: Forward, to: u32) {
        let Forward(end) = jump;
        // It is in the code, but for one that failed.
        if let Some(distance) = self.memory.bytes_mut(self.len).get_mut(..end as usize).and_then(<[u8]>::last_chunk_mut)
        {
            *distance = to.wrapping_sub(end).to_le_bytes();
        }
    }

    /// The code, executable.
    pub(super) fn finish(self) -> Result<CodeMemory, CodeError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.memory.make_executable(self.len),
        }
    }
}

/// Bytes that are put at a time.
const WORD: usize = size_of::<u64>();

impl Extend<u8> for Assembler {
    #[inline]
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        for byte in bytes {
            self.push(byte);
        }
    }
}

impl<'b> Extend<&'b u8> for Assembler {
    #[inline]
    fn extend<I: IntoIterator<Item = &'b u8>>(&mut self, bytes: I) {
        self.extend(bytes.into_iter().copied());
    }
}

impl DynasmApi for Assembler {
    fn offset(&self) -> AssemblyOffset {
        AssemblyOffset(self.len)
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.put(Bytes { word: byte.into(), len: 1 });
    }

    fn align(&mut self, alignment: usize, with: u8) {
        while !self.len.is_multiple_of(alignment) {
            self.push(with);
        }
    }

    fn push_i32(&mut self, value: i32) {
        self.put(Bytes { word: u64::from(value as u32), len: 4 });
    }
}

/// A condition of a jump, by its number in the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cc {
    NoOverflow = 1,
    Below = 2,
    AboveOrEqual = 3,
    Equal = 4,
    NotEqual = 5,
    BelowOrEqual = 6,
    Above = 7,
    Less = 12,
    GreaterOrEqual = 13,
    LessOrEqual = 14,
    Greater = 15,
}

/// A jump whose target is not there yet: the offset behind it. Its last four bytes are the distance.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(super) struct Forward(u32);

impl Assembler {
    /// A jump forward: always, or on a condition.
    pub(super) fn jump_forward(&mut self, cc: Option<Cc>) -> Forward {
        match cc {
            Some(cc) => self.put(Bytes { word: 0x800f | (cc as u64) << 8, len: 6 }),
            None => self.put(Bytes { word: 0xe9, len: 5 }),
        }
        Forward(self.offset())
    }

    /// A call of code that is not there yet.
    pub(super) fn call_forward(&mut self) -> Forward {
        self.put(Bytes { word: 0xe8, len: 5 });
        Forward(self.offset())
    }

    /// A call of the routine whose address is in the cell at this displacement.
    pub(super) fn call_cell(&mut self, displacement: i32) {
        let operation = Operation::new(Width::W32, opcode::INDIRECT);
        encode::cell(self, operation, group::CALL, displacement);
    }

    /// Has a jump come here.
    pub(super) fn aim_here(&mut self, jump: Forward) {
        self.aim(jump, self.offset());
    }

    /// A jump to code that is there, in its short form where it is near.
    pub(super) fn jump_back(&mut self, cc: Option<Cc>, to: u32) {
        const SHORT: i64 = 2;
        let distance = i64::from(to) - i64::from(self.offset());
        let far = |behind: i64| u64::from((distance - behind) as u32);
        self.put(match (i8::try_from(distance - SHORT), cc) {
            (Ok(near), Some(cc)) => {
                Bytes { word: u64::from(u16::from_le_bytes([0x70 | cc as u8, near as u8])), len: 2 }
            }
            (Ok(near), None) => Bytes { word: u64::from(u16::from_le_bytes([0xeb, near as u8])), len: 2 },
            (Err(_), Some(cc)) => Bytes { word: 0x800f | (cc as u64) << 8 | far(6) << 16, len: 6 },
            (Err(_), None) => Bytes { word: 0xe9 | far(5) << 8, len: 5 },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_more_room() {
        let mut asm = Assembler::with_capacity(0).unwrap();
        for number in 0..1000_u64 {
            asm.put(Bytes { word: number, len: 3 });
        }
        asm.extend(std::iter::repeat_n(0x90, 1 << 17));
        let code = asm.finish().unwrap();
        let code = code.bytes();
        assert_eq!(code.len(), 3000 + (1 << 17));
        let (code, nops) = code.split_at(3000);
        assert!(nops.iter().all(|&nop| nop == 0x90));
        assert!(code.chunks(3).enumerate().all(|(number, bytes)| bytes == &number.to_le_bytes()[..3]));
    }

    #[test]
    fn jumps_back_are_as_long_as_they_must_be() {
        for (distance, cc, expected) in [
            (0, None, &[0xeb, 0xfe][..]),
            (126, Some(Cc::Equal), &[0x74, 0x80]),
            (127, Some(Cc::Equal), &[0x0f, 0x84, 0x7b, 0xff, 0xff, 0xff]),
            (127, None, &[0xe9, 0x7c, 0xff, 0xff, 0xff]),
        ] {
            let mut asm = Assembler::with_capacity(0).unwrap();
            asm.extend(std::iter::repeat_n(0x90, distance));
            asm.jump_back(cc, 0);
            assert_eq!(&asm.finish().unwrap().bytes()[distance..], expected, "{distance} {cc:?}");
        }
    }

    #[test]
    fn a_jump_forward_goes_where_it_is_aimed() {
        let mut asm = Assembler::with_capacity(0).unwrap();
        let jump = asm.jump_forward(Some(Cc::Less));
        asm.push(0x90);
        asm.aim_here(jump);
        assert_eq!(asm.finish().unwrap().bytes(), [0x0f, 0x8c, 1, 0, 0, 0, 0x90]);
    }
}
