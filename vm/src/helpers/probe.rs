//! The probe-read family: reads of addresses that may be anything.
//!
//! A bad address is the helper's result (-EFAULT or -ERANGE, and the buffer zeroed), not a trap; a bad buffer is a trap.
//! Kernel memory is the guest's own objects, and far objects in the upper half; user memory is far objects in
//! the lower half. Sources: `bpf_probe_read_kernel_common` and its like in `kernel/trace/bpf_trace.c`,
//! `copy_from_kernel_nofault`, `strncpy_from_user_nofault`.

use super::{Call, Stop};
use crate::errno::Errno;
use crate::memory::FAR_START;

type Ret = Result<u64, Stop>;

/// First address that is not user memory on x86-64: `TASK_SIZE_MAX`.
const USER_END: u64 = 0x7fff_ffff_f000;

/// First address of the kernel's half.
const KERNEL_START: u64 = 0xffff_8000_0000_0000;

/// No object of the guest lies below this.
const FIRST_OBJECT: u64 = 0x1_0000;

/// Which addresses a helper takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    User,
    Kernel,
    /// The old helpers: whichever the address is in.
    Either,
}

impl Space {
    /// Whether the helper tries to read `len` bytes at `addr` at all.
    ///
    /// # Errors
    /// `EFAULT` from `access_ok` for user memory, `ERANGE` from `copy_from_kernel_nofault_allowed` for kernel memory.
    fn check(self, addr: u64, len: u64) -> Result<(), Errno> {
        let user = (FAR_START..USER_END).contains(&addr) && addr.checked_add(len).is_some_and(|end| end <= USER_END);
        let kernel = addr >= KERNEL_START || (FIRST_OBJECT..FAR_START).contains(&addr);
        match self {
            Space::User if user => Ok(()),
            Space::User => Err(Errno::EFAULT),
            Space::Either if user || addr < USER_END => Ok(()),
            Space::Kernel | Space::Either if kernel => Ok(()),
            Space::Kernel | Space::Either => Err(Errno::ERANGE),
        }
    }
}

/// `bpf_probe_read(dst, size, address)`.
pub(super) fn probe_read(call: &mut Call<'_>) -> Ret {
    read(call, Space::Either)
}

/// `bpf_probe_read_user(dst, size, address)`.
pub(super) fn probe_read_user(call: &mut Call<'_>) -> Ret {
    read(call, Space::User)
}

/// `bpf_probe_read_kernel(dst, size, address)`.
pub(super) fn probe_read_kernel(call: &mut Call<'_>) -> Ret {
    read(call, Space::Kernel)
}

/// `bpf_probe_read_str(dst, size, address)`.
pub(super) fn probe_read_str(call: &mut Call<'_>) -> Ret {
    read_string(call, Space::Either)
}

/// `bpf_probe_read_user_str(dst, size, address)`.
pub(super) fn probe_read_user_str(call: &mut Call<'_>) -> Ret {
    read_string(call, Space::User)
}

/// `bpf_probe_read_kernel_str(dst, size, address)`.
pub(super) fn probe_read_kernel_str(call: &mut Call<'_>) -> Ret {
    read_string(call, Space::Kernel)
}

fn read(call: &mut Call<'_>, space: Space) -> Ret {
    let size = call.check_write(0)?;
    let addr = call.arg(2);
    let memory = &call.machine.memory;
    let bytes = space.check(addr, size).and_then(|()| match size {
        0 => Ok(Vec::new()),
        _ => memory.read(addr, size).map(<[u8]>::to_vec).map_err(|_| Errno::EFAULT),
    });
    fill(call, bytes).map(|_| 0)
}

/// Copies up to and with the NUL, or `size` bytes with the last one made a NUL; the number of bytes written.
fn read_string(call: &mut Call<'_>, space: Space) -> Ret {
    let size = call.check_write(0)?;
    let addr = call.arg(2);
    if size == 0 {
        return Ok(0);
    }
    let memory = &call.machine.memory;
    let string = space.check(addr, 1).and_then(|()| {
        let reachable = memory.read_up_to(addr, size);
        match reachable.iter().position(|&byte| byte == 0) {
            Some(end) => Ok(reachable[..=end].to_vec()),
            None if reachable.len() as u64 == size => Ok([&reachable[..reachable.len() - 1], &[0]].concat()),
            // The string runs into a fault.
            None => Err(Errno::EFAULT),
        }
    });
    fill(call, string)
}

/// Writes what was read to the start of the buffer, the number of bytes; or zeroes all of it.
fn fill(call: &mut Call<'_>, bytes: Result<Vec<u8>, Errno>) -> Ret {
    match bytes {
        Ok(bytes) => {
            call.write(0, &bytes)?;
            Ok(bytes.len() as u64)
        }
        Err(errno) => {
            call.clear(0)?;
            Err(errno.into())
        }
    }
}
