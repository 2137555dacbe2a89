//! `struct pt_regs` of x86-64: the context of kprobes, kretprobes and uprobes.
//!
//! Layout: `arch/x86/include/asm/ptrace.h`. Parameters: `PT_REGS_PARM1` to `PARM6` of libbpf's `bpf_tracing.h`.

use byteorder::{ByteOrder as _, LittleEndian};

use super::bytes::place_bytes;
use super::table::{Layout, Row};
use super::{Context, ContextError, Placed};
use crate::memory::{Memory, Permission};
use crate::program_type::ProgramType;

/// The kernel's names, in order of memory; each is 8 bytes.
pub const REGISTERS: [&str; 21] = [
    "r15", "r14", "r13", "r12", "bp", "bx", "r11", "r10", "r9", "r8", "ax", "cx", "dx", "si", "di", "orig_ax", "ip",
    "cs", "flags", "sp", "ss",
];

/// Which registers carry parameters 1 to 6 of a function.
const PARAMETERS: [&str; 6] = ["di", "si", "dx", "cx", "r8", "r9"];

/// A register name that `struct pt_regs` does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("struct pt_regs has no field {name}; it has {}, and parm1 to parm6 and ret", REGISTERS.join(", "))]
pub struct UnknownRegister {
    /// The name asked for.
    pub name: String,
}

/// The registers at the probed instruction; all 0 until set. Programs may read them, not write.
///
/// ```
/// use softbpf::context::PtRegs;
/// let entry = PtRegs::new().parm(1, 0xffff_8880_0000_1000).parm(2, 64);
/// let exit = PtRegs::new().ret(-2_i64 as u64);
/// assert_eq!(entry.get("si"), Ok(64));
/// # assert_eq!(exit.get("ax"), Ok(-2_i64 as u64));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PtRegs {
    values: [u64; REGISTERS.len()],
}

impl PtRegs {
    /// All registers 0.
    pub fn new() -> PtRegs {
        PtRegs::default()
    }

    /// Parameter `number` (1 to 6) of the probed function; other numbers are ignored.
    #[must_use]
    pub fn parm(self, number: usize, value: u64) -> PtRegs {
        match number.checked_sub(1).and_then(|index| PARAMETERS.get(index)) {
            Some(name) => self.with(name, value),
            None => self,
        }
    }

    /// Return value of the probed function, for kretprobes.
    #[must_use]
    pub fn ret(self, value: u64) -> PtRegs {
        self.with("ax", value)
    }

    /// Instruction pointer.
    #[must_use]
    pub fn ip(self, value: u64) -> PtRegs {
        self.with("ip", value)
    }

    /// Stack pointer.
    #[must_use]
    pub fn sp(self, value: u64) -> PtRegs {
        self.with("sp", value)
    }

    /// Frame pointer.
    #[must_use]
    pub fn bp(self, value: u64) -> PtRegs {
        self.with("bp", value)
    }

    /// All registers, in the order of [`REGISTERS`].
    #[must_use]
    pub fn values(&self) -> &[u64; REGISTERS.len()] {
        &self.values
    }

    /// All registers, to be changed in place, in the order of [`REGISTERS`].
    #[must_use]
    pub fn values_mut(&mut self) -> &mut [u64; REGISTERS.len()] {
        &mut self.values
    }

    fn with(mut self, name: &str, value: u64) -> PtRegs {
        // The names come from this file.
        let _ = self.set(name, value);
        self
    }

    /// Sets a register by the kernel's name, or `parm1` to `parm6`, or `ret`.
    ///
    /// # Errors
    /// There is no such register.
    pub fn set(&mut self, name: &str, value: u64) -> Result<(), UnknownRegister> {
        let index = index(name)?;
        self.values[index] = value;
        Ok(())
    }

    /// Reads a register by name, as [`PtRegs::set`] names them.
    ///
    /// # Errors
    /// There is no such register.
    pub fn get(&self, name: &str) -> Result<u64, UnknownRegister> {
        Ok(self.values[index(name)?])
    }
}

fn index(name: &str) -> Result<usize, UnknownRegister> {
    let parameter = name.strip_prefix("parm").and_then(|digits| digits.parse::<usize>().ok());
    let register = match parameter {
        Some(number) => number.checked_sub(1).and_then(|index| PARAMETERS.get(index)).copied().unwrap_or(name),
        None if name == "ret" || name == "rc" => "ax",
        None => name,
    };
    REGISTERS.iter().position(|&known| known == register).ok_or_else(|| UnknownRegister { name: name.to_owned() })
}

impl Context for PtRegs {
    fn place(&self, memory: &mut Memory, program_type: ProgramType) -> Result<Placed, ContextError> {
        match Row::of(program_type).layout {
            Layout::PtRegs | Layout::Any => {}
            other @ (Layout::XdpMd | Layout::SkBuff(_) | Layout::Bytes) => {
                return Err(other.refuse(program_type, "registers"));
            }
        }
        let mut bytes = [0; 8 * REGISTERS.len()];
        LittleEndian::write_u64_into(&self.values, &mut bytes);
        place_bytes(memory, &bytes, Permission::Read)
    }
}
