//! The assembler that all emitters write to.

use dynasmrt::x64::X64Relocation;
use dynasmrt::{DynasmApi, VecAssembler};

pub(super) type Assembler = VecAssembler<X64Relocation>;

/// `dynasm!` for x86-64.
macro_rules! x64 {
    ($asm:expr; $($code:tt)*) => {
        dynasm::dynasm!($asm ; .arch x64 ; $($code)*)
    };
}
pub(super) use x64;

/// A condition of a jump, by its number in the encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cc {
    Below = 2,
    AboveOrEqual = 3,
    Equal = 4,
    NotEqual = 5,
    BelowOrEqual = 6,
    Above = 7,
    Negative = 8,
    Less = 12,
    GreaterOrEqual = 13,
    LessOrEqual = 14,
    Greater = 15,
}

/// A jump whose target is not there yet: the offset behind it. Its last four bytes are the distance.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub(super) struct Forward(u32);

impl Forward {
    /// Has it go to this offset.
    pub(super) fn aim(self, code: &mut [u8], to: u32) {
        let end = self.0 as usize;
        code[end - 4..end].copy_from_slice(&to.wrapping_sub(self.0).to_le_bytes());
    }
}

/// Offset of what comes next.
pub(super) fn offset(asm: &Assembler) -> u32 {
    asm.offset().0 as u32
}

/// A jump forward: always, or on a condition.
pub(super) fn jump_forward(asm: &mut Assembler, cc: Option<Cc>) -> Forward {
    match cc {
        Some(cc) => asm.extend([0x0f, 0x80 | cc as u8, 0, 0, 0, 0]),
        None => asm.extend([0xe9, 0, 0, 0, 0]),
    }
    Forward(offset(asm))
}

/// A call of code that is not there yet.
pub(super) fn call_forward(asm: &mut Assembler) -> Forward {
    asm.extend([0xe8, 0, 0, 0, 0]);
    Forward(offset(asm))
}

/// A jump to code that is there, in its short form where it is near.
pub(super) fn jump_back(asm: &mut Assembler, cc: Option<Cc>, to: u32) {
    const SHORT: i64 = 2;
    let distance = i64::from(to) - i64::from(offset(asm));
    match (i8::try_from(distance - SHORT), cc) {
        (Ok(near), Some(cc)) => asm.extend([0x70 | cc as u8, near as u8]),
        (Ok(near), None) => asm.extend([0xeb, near as u8]),
        (Err(_), Some(cc)) => {
            asm.extend([0x0f, 0x80 | cc as u8]);
            asm.push_i32((distance - 6) as i32);
        }
        (Err(_), None) => {
            asm.push(0xe9);
            asm.push_i32((distance - 5) as i32);
        }
    }
}
