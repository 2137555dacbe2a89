//! Which machine register holds what while compiled code runs.
//!
//! `r1` to `r5` are where the System V ABI has the first five arguments, `r0` where it has the result, `r6` to `r9` and
//! `r10` what callees preserve: as in the kernel's `arch/x86/net/bpf_jit_comp.c`. Four more are the engine's own, and
//! no instruction names them as a guest register:
//!
//! - `r9`: fuel, the instructions that may still be executed;
//! - `r10`: host address of the guest arena;
//! - `r11`: scratch, dead between two guest instructions;
//! - `r12`: the [`super::cells::Cells`], from their middle.

use softbpf::insn::Reg;

/// A machine register by its number, as encodings have it.
pub(super) type Host = u8;

pub(super) const RAX: Host = 0;
pub(super) const RCX: Host = 1;
pub(super) const RDX: Host = 2;
/// Holds the fuel.
pub(super) const FUEL: Host = 9;
/// Holds the host address of the guest arena.
pub(super) const ARENA: Host = 10;
/// Points into the cells.
pub(super) const CELLS: Host = 12;
/// Holds no guest register.
pub(super) const SCRATCH: Host = 11;

/// Machine registers of `r0` to `r10`, and what fills up the table.
const HOSTS: [Host; 16] = [RAX, 7, 6, RDX, RCX, 8, 3, 13, 14, 15, 5, 0, 0, 0, 0, 0];

/// Where a guest register lives.
#[inline(always)]
pub(super) fn host(reg: Reg) -> Host {
    HOSTS[usize::from(reg.number()) % HOSTS.len()]
}
