//! `bpf(2)` itself: the one place of this crate where `unsafe` stands.

use std::io;
use std::marker::PhantomData;

/// Bytes of `union bpf_attr` that are passed: more than any command here looks at. The kernel wants the rest zero.
const ATTR_BYTES: usize = 128;

/// Errors that are about the caller or the system, and never about the program that is loaded.
#[cfg(target_os = "linux")]
pub(super) const NOT_THE_PROGRAM: &[i32] = &[libc::EPERM, libc::ENOSYS, libc::ENOMEM, libc::EAGAIN, libc::EINTR];
#[cfg(not(target_os = "linux"))]
pub(super) const NOT_THE_PROGRAM: &[i32] = &[];

/// Commands: `enum bpf_cmd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Command {
    MapCreate = 0,
    MapLookupElem = 1,
    MapUpdateElem = 2,
    ProgLoad = 5,
    ProgTestRun = 10,
}

/// A descriptor that the kernel has handed out; closed when it is dropped.
#[derive(Debug)]
pub(super) struct Descriptor(
    #[cfg(target_os = "linux")] std::os::fd::OwnedFd,
    #[cfg(not(target_os = "linux"))] std::convert::Infallible,
);

impl Descriptor {
    pub(super) fn number(&self) -> i32 {
        #[cfg(target_os = "linux")]
        return std::os::fd::AsRawFd::as_raw_fd(&self.0);
        #[cfg(not(target_os = "linux"))]
        match self.0 {}
    }
}

/// A `union bpf_attr`, and the borrows of the buffers that it points to.
#[derive(Debug)]
#[repr(C, align(8))]
pub(super) struct Attr<'b> {
    bytes: [u8; ATTR_BYTES],
    buffers: PhantomData<&'b mut [u8]>,
}

impl<'b> Attr<'b> {
    pub(super) fn new() -> Attr<'b> {
        Attr { bytes: [0; ATTR_BYTES], buffers: PhantomData }
    }

    /// Sets a `__u32` at an offset.
    pub(super) fn number(&mut self, offset: usize, value: u32) -> &mut Self {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    /// Sets a pointer, at an offset, to bytes that the kernel reads.
    pub(super) fn input(&mut self, offset: usize, bytes: &'b [u8]) -> &mut Self {
        self.pointer(offset, bytes.as_ptr() as u64)
    }

    /// Sets a pointer, at an offset, to bytes that the kernel writes.
    pub(super) fn output(&mut self, offset: usize, bytes: &'b mut [u8]) -> &mut Self {
        self.pointer(offset, bytes.as_mut_ptr() as u64)
    }

    fn pointer(&mut self, offset: usize, address: u64) -> &mut Self {
        self.bytes[offset..offset + 8].copy_from_slice(&address.to_ne_bytes());
        self
    }

    /// The `__u32` at an offset, which the kernel may have written.
    pub(super) fn get(&self, offset: usize) -> u32 {
        self.bytes[offset..offset + 4].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
    }
}

/// Calls `bpf(2)`; what makes something answers with its descriptor.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
pub(super) fn bpf(command: Command, attr: &mut Attr<'_>) -> io::Result<Option<Descriptor>> {
    use std::os::fd::{FromRawFd as _, OwnedFd};

    let (number, size) = (command as libc::c_long, ATTR_BYTES as libc::c_long);
    // SAFETY: the kernel reads and writes `size` bytes of `attr`, which is exclusively borrowed and that long. The
    // pointers in it are addresses of slices that `attr` borrows for as long as it lives, and those that the kernel
    // writes through are borrowed exclusively; their lengths are in `attr` beside them or, for keys and values, those
    // that the map was made with, as the callers see to.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, number, attr.bytes.as_mut_ptr(), size) };
    match (i32::try_from(answer), command) {
        (Ok(fd @ 0..), Command::MapCreate | Command::ProgLoad) => {
            // SAFETY: these two commands answer with a new descriptor, which nobody else owns.
            Ok(Some(Descriptor(unsafe { OwnedFd::from_raw_fd(fd) })))
        }
        (Ok(0..), Command::MapLookupElem | Command::MapUpdateElem | Command::ProgTestRun) => Ok(None),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Other systems have no `bpf(2)`.
#[cfg(not(target_os = "linux"))]
pub(super) fn bpf(_: Command, _: &mut Attr<'_>) -> io::Result<Option<Descriptor>> {
    Err(io::ErrorKind::Unsupported.into())
}
