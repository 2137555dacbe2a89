//! What programs of each type find behind `r1`: one row a program type.
//!
//! The columns are what the kernel allows (`*_is_valid_access` in `net/core/filter.c` and
//! `kernel/trace/bpf_trace.c`, and `may_access_direct_pkt_data`); `conformance/tests/context/access.txt` records its answers.

use super::sk_buff::Column;
use super::{ContextError, ContextKind};
use crate::memory::Permission;
use crate::program_type::ProgramType;

/// How a context is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Any of these, as the caller likes; a packet comes behind `struct xdp_md`.
    Any,
    /// `struct pt_regs`, all of it for reading.
    PtRegs,
    /// `struct xdp_md`, all of it for reading.
    XdpMd,
    /// `struct __sk_buff`, with the fields of one column of its table.
    SkBuff(Column),
    /// Bytes that the caller lays out.
    Bytes,
}

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) layout: Layout,
    /// What the program may do between `data` and `data_end`; nothing when there are no such pointers.
    pub(super) packet: Option<Permission>,
}

/// A permission as the tables write it: `-`, `r` or `rw`.
macro_rules! permission {
    (-) => {
        None
    };
    (r) => {
        Some(Permission::Read)
    };
    (rw) => {
        Some(Permission::ReadWrite)
    };
}
pub(super) use permission;

macro_rules! layout {
    ($layout:ident -) => {
        Layout::$layout
    };
    ($layout:ident $column:ident) => {
        Layout::$layout(Column::$column)
    };
}

macro_rules! rows {
    ($($program:ident $layout:ident $column:tt $packet:tt)*) => {
        impl Row {
            /// The row of programs of a type.
            pub(super) fn of(program_type: ProgramType) -> Row {
                match program_type {
                    $(ProgramType::$program => Row {
                        layout: layout!($layout $column),
                        packet: permission!($packet),
                    }),*
                }
            }
        }
    };
}

// To add a context: a file here with a type that implements `Context`, a `Layout` with its `ContextKind`, and that
// layout in the rows of the program types that take it. To add a program type: a row, which the compiler asks for.
//
// Columns: program type, layout, column of `struct __sk_buff`'s fields, what it may do with the packet.
rows! {
    Unspec                Any    -      rw
    SocketFilter          SkBuff Socket -    // sees packet bytes through helpers and legacy loads only
    Kprobe                PtRegs -      -
    SchedCls              SkBuff Tc     rw
    SchedAct              SkBuff Tc     rw
    Tracepoint            Bytes  -      -
    Xdp                   XdpMd  -      rw
    PerfEvent             Bytes  -      -
    CgroupSkb             SkBuff Cgroup r
    CgroupSock            Bytes  -      -
    LwtIn                 SkBuff Lwt    r
    LwtOut                SkBuff Lwt    r
    LwtXmit               SkBuff Lwt    rw
    SockOps               Bytes  -      -
    SkSkb                 SkBuff SkSkb  rw
    CgroupDevice          Bytes  -      -
    SkMsg                 Bytes  -      -
    RawTracepoint         Bytes  -      -
    CgroupSockAddr        Bytes  -      -
    LwtSeg6local          SkBuff Lwt    r
    LircMode2             Bytes  -      -
    SkReuseport           Bytes  -      -
    FlowDissector         SkBuff Flow   r
    CgroupSysctl          Bytes  -      -
    RawTracepointWritable Bytes  -      -
    CgroupSockopt         Bytes  -      -
    Tracing               Bytes  -      -
    StructOps             Bytes  -      -
    Ext                   Bytes  -      -
    Lsm                   Bytes  -      -
    SkLookup              Bytes  -      -
    Syscall               Bytes  -      -
    Netfilter             Bytes  -      -
}

impl Layout {
    pub(super) fn kind(self) -> ContextKind {
        match self {
            Layout::PtRegs => ContextKind::PtRegs,
            Layout::XdpMd => ContextKind::Xdp,
            Layout::SkBuff(_) => ContextKind::SkBuff,
            Layout::Any | Layout::Bytes => ContextKind::Bytes,
        }
    }

    /// The error of a program with this layout that was given something else.
    pub(super) fn refuse(self, program_type: ProgramType, given: &'static str) -> ContextError {
        ContextError::WrongKind { program_type, expected: self.kind(), given }
    }
}
