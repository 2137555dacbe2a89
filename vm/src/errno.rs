//! Error numbers as helpers and maps return them: `include/uapi/asm-generic/errno*.h`.

/// A Linux error number, positive; helpers return it negated.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

macro_rules! errnos {
    ($($name:ident $number:literal $text:literal)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Errno = Errno($number);)*

            /// The name, such as `ENOENT`; `None` for numbers that no row has.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($number => Some(stringify!($name)),)* _ => None }
            }

            /// What it means, in words.
            pub fn text(self) -> Option<&'static str> {
                match self.0 { $($number => Some($text),)* _ => None }
            }
        }
    };
}

errnos! {
    EPERM       1 "operation not permitted"
    ENOENT      2 "no such file or directory"
    EINTR       4 "interrupted system call"
    E2BIG       7 "argument list too long"
    EBADF       9 "bad file number"
    EAGAIN     11 "try again"
    ENOMEM     12 "out of memory"
    EACCES     13 "permission denied"
    EFAULT     14 "bad address"
    EBUSY      16 "device or resource busy"
    EEXIST     17 "file exists"
    ENODEV     19 "no such device"
    EINVAL     22 "invalid argument"
    ENOSPC     28 "no space left on device"
    ERANGE     34 "math result not representable"
    EDEADLK    35 "resource deadlock would occur"
    ENAMETOOLONG 36 "file name too long"
    ELOOP      40 "too many symbolic links encountered"
    EPROTO     71 "protocol error"
    EOVERFLOW  75 "value too large for defined data type"
    EMSGSIZE   90 "message too long"
    EPROTONOSUPPORT 93 "protocol not supported"
    EOPNOTSUPP 95 "operation not supported"
    EAFNOSUPPORT 97 "address family not supported by protocol"
    ENETUNREACH 101 "network is unreachable"
    ENOBUFS   105 "no buffer space available"
    ENOTSUPP  524 "operation is not supported"
}

impl Errno {
    /// The value that a helper returns in `r0`: the negated number, sign-extended.
    pub fn ret(self) -> u64 {
        i64::from(self.0).wrapping_neg() as u64
    }
}

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => write!(f, "-{name}"),
            None => write!(f, "-{}", self.0),
        }
    }
}

impl std::fmt::Debug for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Errno {}
