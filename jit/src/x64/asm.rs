//! The assembler that all emitters write to.

use dynasmrt::VecAssembler;
use dynasmrt::x64::X64Relocation;

pub(super) type Assembler = VecAssembler<X64Relocation>;

/// `dynasm!` for x86-64.
macro_rules! x64 {
    ($asm:expr; $($code:tt)*) => {
        dynasm::dynasm!($asm ; .arch x64 ; $($code)*)
    };
}
pub(super) use x64;
