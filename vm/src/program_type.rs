//! Program types, attach types and the section names that select them: three tables of rows.
//!
//! This file knows names and numbers, not what a program of a type may do: contexts and helpers are rows of their
//! own modules. A section name that no row knows gives [`ProgramType::Unspec`], and a caller may set the type
//! ([`crate::object::Object::program_mut`]).
//!
//! To add a section name: add a row to `for_each_section` in libbpf's order, since the first match wins.
//!
//! Sources: `enum bpf_prog_type` and `enum bpf_attach_type` in `include/uapi/linux/bpf.h`; `prog_type_name`,
//! `attach_type_name` and `section_defs` in libbpf's `libbpf.c`.

/// Columns: name, kernel number, name as bpftool prints it.
macro_rules! for_each_program_type {
    ($reader:ident) => {
        $reader! {
            Unspec                0  "unspec"
            SocketFilter          1  "socket_filter"
            Kprobe                2  "kprobe"
            SchedCls              3  "sched_cls"
            SchedAct              4  "sched_act"
            Tracepoint            5  "tracepoint"
            Xdp                   6  "xdp"
            PerfEvent             7  "perf_event"
            CgroupSkb             8  "cgroup_skb"
            CgroupSock            9  "cgroup_sock"
            LwtIn                 10 "lwt_in"
            LwtOut                11 "lwt_out"
            LwtXmit               12 "lwt_xmit"
            SockOps               13 "sock_ops"
            SkSkb                 14 "sk_skb"
            CgroupDevice          15 "cgroup_device"
            SkMsg                 16 "sk_msg"
            RawTracepoint         17 "raw_tracepoint"
            CgroupSockAddr        18 "cgroup_sock_addr"
            LwtSeg6local          19 "lwt_seg6local"
            LircMode2             20 "lirc_mode2"
            SkReuseport           21 "sk_reuseport"
            FlowDissector         22 "flow_dissector"
            CgroupSysctl          23 "cgroup_sysctl"
            RawTracepointWritable 24 "raw_tracepoint_writable"
            CgroupSockopt         25 "cgroup_sockopt"
            Tracing               26 "tracing"
            StructOps             27 "struct_ops"
            Ext                   28 "ext"
            Lsm                   29 "lsm"
            SkLookup              30 "sk_lookup"
            Syscall               31 "syscall"
            Netfilter             32 "netfilter"
        }
    };
}

/// Columns: name, kernel number, name as libbpf prints it.
macro_rules! for_each_attach_type {
    ($reader:ident) => {
        $reader! {
            CgroupInetIngress           0  "cgroup_inet_ingress"
            CgroupInetEgress            1  "cgroup_inet_egress"
            CgroupInetSockCreate        2  "cgroup_inet_sock_create"
            CgroupSockOps               3  "cgroup_sock_ops"
            SkSkbStreamParser           4  "sk_skb_stream_parser"
            SkSkbStreamVerdict          5  "sk_skb_stream_verdict"
            CgroupDevice                6  "cgroup_device"
            SkMsgVerdict                7  "sk_msg_verdict"
            CgroupInet4Bind             8  "cgroup_inet4_bind"
            CgroupInet6Bind             9  "cgroup_inet6_bind"
            CgroupInet4Connect          10 "cgroup_inet4_connect"
            CgroupInet6Connect          11 "cgroup_inet6_connect"
            CgroupInet4PostBind         12 "cgroup_inet4_post_bind"
            CgroupInet6PostBind         13 "cgroup_inet6_post_bind"
            CgroupUdp4Sendmsg           14 "cgroup_udp4_sendmsg"
            CgroupUdp6Sendmsg           15 "cgroup_udp6_sendmsg"
            LircMode2                   16 "lirc_mode2"
            FlowDissector               17 "flow_dissector"
            CgroupSysctl                18 "cgroup_sysctl"
            CgroupUdp4Recvmsg           19 "cgroup_udp4_recvmsg"
            CgroupUdp6Recvmsg           20 "cgroup_udp6_recvmsg"
            CgroupGetsockopt            21 "cgroup_getsockopt"
            CgroupSetsockopt            22 "cgroup_setsockopt"
            TraceRawTp                  23 "trace_raw_tp"
            TraceFentry                 24 "trace_fentry"
            TraceFexit                  25 "trace_fexit"
            ModifyReturn                26 "modify_return"
            LsmMac                      27 "lsm_mac"
            TraceIter                   28 "trace_iter"
            CgroupInet4Getpeername      29 "cgroup_inet4_getpeername"
            CgroupInet6Getpeername      30 "cgroup_inet6_getpeername"
            CgroupInet4Getsockname      31 "cgroup_inet4_getsockname"
            CgroupInet6Getsockname      32 "cgroup_inet6_getsockname"
            XdpDevmap                   33 "xdp_devmap"
            CgroupInetSockRelease       34 "cgroup_inet_sock_release"
            XdpCpumap                   35 "xdp_cpumap"
            SkLookup                    36 "sk_lookup"
            Xdp                         37 "xdp"
            SkSkbVerdict                38 "sk_skb_verdict"
            SkReuseportSelect           39 "sk_reuseport_select"
            SkReuseportSelectOrMigrate  40 "sk_reuseport_select_or_migrate"
            PerfEvent                   41 "perf_event"
            TraceKprobeMulti            42 "trace_kprobe_multi"
            LsmCgroup                   43 "lsm_cgroup"
            StructOps                   44 "struct_ops"
            Netfilter                   45 "netfilter"
            TcxIngress                  46 "tcx_ingress"
            TcxEgress                   47 "tcx_egress"
            TraceUprobeMulti            48 "trace_uprobe_multi"
            CgroupUnixConnect           49 "cgroup_unix_connect"
            CgroupUnixSendmsg           50 "cgroup_unix_sendmsg"
            CgroupUnixRecvmsg           51 "cgroup_unix_recvmsg"
            CgroupUnixGetpeername       52 "cgroup_unix_getpeername"
            CgroupUnixGetsockname       53 "cgroup_unix_getsockname"
            NetkitPrimary               54 "netkit_primary"
            NetkitPeer                  55 "netkit_peer"
            TraceKprobeSession          56 "trace_kprobe_session"
            TraceUprobeSession          57 "trace_uprobe_session"
            TraceFsession               58 "trace_fsession"
            TraceFentryMulti            59 "trace_fentry_multi"
            TraceFexitMulti             60 "trace_fexit_multi"
            TraceFsessionMulti          61 "trace_fsession_multi"
        }
    };
}

/// libbpf's `section_defs`, in its order: the first match wins.
///
/// Columns: section (`name+` stands for `name` and `name/...`), program type, attach type, whether it may sleep.
macro_rules! for_each_section {
    ($reader:ident) => {
        $reader! {
            "socket"                    SocketFilter          -                           -
            "sk_reuseport/migrate"      SkReuseport           SkReuseportSelectOrMigrate  -
            "sk_reuseport"              SkReuseport           SkReuseportSelect           -
            "kprobe+"                   Kprobe                -                           -
            "uprobe+"                   Kprobe                -                           -
            "uprobe.s+"                 Kprobe                -                           sleepable
            "kretprobe+"                Kprobe                -                           -
            "uretprobe+"                Kprobe                -                           -
            "uretprobe.s+"              Kprobe                -                           sleepable
            "kprobe.multi+"             Kprobe                TraceKprobeMulti            -
            "kretprobe.multi+"          Kprobe                TraceKprobeMulti            -
            "kprobe.session+"           Kprobe                TraceKprobeSession          -
            "uprobe.multi+"             Kprobe                TraceUprobeMulti            -
            "uretprobe.multi+"          Kprobe                TraceUprobeMulti            -
            "uprobe.session+"           Kprobe                TraceUprobeSession          -
            "uprobe.multi.s+"           Kprobe                TraceUprobeMulti            sleepable
            "uretprobe.multi.s+"        Kprobe                TraceUprobeMulti            sleepable
            "uprobe.session.s+"         Kprobe                TraceUprobeSession          sleepable
            "ksyscall+"                 Kprobe                -                           -
            "kretsyscall+"              Kprobe                -                           -
            "usdt+"                     Kprobe                -                           -
            "usdt.s+"                   Kprobe                -                           sleepable
            "tc/ingress"                SchedCls              TcxIngress                  -
            "tc/egress"                 SchedCls              TcxEgress                   -
            "tcx/ingress"               SchedCls              TcxIngress                  -
            "tcx/egress"                SchedCls              TcxEgress                   -
            "tc"                        SchedCls              -                           -
            "classifier"                SchedCls              -                           -
            "action"                    SchedAct              -                           -
            "netkit/primary"            SchedCls              NetkitPrimary               -
            "netkit/peer"               SchedCls              NetkitPeer                  -
            "tracepoint+"               Tracepoint            -                           -
            "tp+"                       Tracepoint            -                           -
            "tracepoint.s+"             Tracepoint            -                           sleepable
            "tp.s+"                     Tracepoint            -                           sleepable
            "raw_tracepoint+"           RawTracepoint         -                           -
            "raw_tp+"                   RawTracepoint         -                           -
            "raw_tracepoint.s+"         RawTracepoint         -                           sleepable
            "raw_tp.s+"                 RawTracepoint         -                           sleepable
            "raw_tracepoint.w+"         RawTracepointWritable -                           -
            "raw_tp.w+"                 RawTracepointWritable -                           -
            "tp_btf+"                   Tracing               TraceRawTp                  -
            "tp_btf.s+"                 Tracing               TraceRawTp                  sleepable
            "fentry+"                   Tracing               TraceFentry                 -
            "fmod_ret+"                 Tracing               ModifyReturn                -
            "fexit+"                    Tracing               TraceFexit                  -
            "fentry.s+"                 Tracing               TraceFentry                 sleepable
            "fmod_ret.s+"               Tracing               ModifyReturn                sleepable
            "fexit.s+"                  Tracing               TraceFexit                  sleepable
            "fsession+"                 Tracing               TraceFsession               -
            "fsession.s+"               Tracing               TraceFsession               sleepable
            "fsession.multi+"           Tracing               TraceFsessionMulti          -
            "fsession.multi.s+"         Tracing               TraceFsessionMulti          sleepable
            "fentry.multi+"             Tracing               TraceFentryMulti            -
            "fexit.multi+"              Tracing               TraceFexitMulti             -
            "fentry.multi.s+"           Tracing               TraceFentryMulti            sleepable
            "fexit.multi.s+"            Tracing               TraceFexitMulti             sleepable
            "freplace+"                 Ext                   -                           -
            "lsm+"                      Lsm                   LsmMac                      -
            "lsm.s+"                    Lsm                   LsmMac                      sleepable
            "lsm_cgroup+"               Lsm                   LsmCgroup                   -
            "iter+"                     Tracing               TraceIter                   -
            "iter.s+"                   Tracing               TraceIter                   sleepable
            "syscall"                   Syscall               -                           sleepable
            "xdp.frags/devmap"          Xdp                   XdpDevmap                   -
            "xdp/devmap"                Xdp                   XdpDevmap                   -
            "xdp.frags/cpumap"          Xdp                   XdpCpumap                   -
            "xdp/cpumap"                Xdp                   XdpCpumap                   -
            "xdp.frags"                 Xdp                   Xdp                         -
            "xdp"                       Xdp                   Xdp                         -
            "perf_event"                PerfEvent             -                           -
            "lwt_in"                    LwtIn                 -                           -
            "lwt_out"                   LwtOut                -                           -
            "lwt_xmit"                  LwtXmit               -                           -
            "lwt_seg6local"             LwtSeg6local          -                           -
            "sockops"                   SockOps               CgroupSockOps               -
            "sk_skb/stream_parser"      SkSkb                 SkSkbStreamParser           -
            "sk_skb/stream_verdict"     SkSkb                 SkSkbStreamVerdict          -
            "sk_skb/verdict"            SkSkb                 SkSkbVerdict                -
            "sk_skb"                    SkSkb                 -                           -
            "sk_msg"                    SkMsg                 SkMsgVerdict                -
            "lirc_mode2"                LircMode2             LircMode2                   -
            "flow_dissector"            FlowDissector         FlowDissector               -
            "cgroup_skb/ingress"        CgroupSkb             CgroupInetIngress           -
            "cgroup_skb/egress"         CgroupSkb             CgroupInetEgress            -
            "cgroup/skb"                CgroupSkb             -                           -
            "cgroup/sock_create"        CgroupSock            CgroupInetSockCreate        -
            "cgroup/sock_release"       CgroupSock            CgroupInetSockRelease       -
            "cgroup/sock"               CgroupSock            CgroupInetSockCreate        -
            "cgroup/post_bind4"         CgroupSock            CgroupInet4PostBind         -
            "cgroup/post_bind6"         CgroupSock            CgroupInet6PostBind         -
            "cgroup/bind4"              CgroupSockAddr        CgroupInet4Bind             -
            "cgroup/bind6"              CgroupSockAddr        CgroupInet6Bind             -
            "cgroup/connect4"           CgroupSockAddr        CgroupInet4Connect          -
            "cgroup/connect6"           CgroupSockAddr        CgroupInet6Connect          -
            "cgroup/connect_unix"       CgroupSockAddr        CgroupUnixConnect           -
            "cgroup/sendmsg4"           CgroupSockAddr        CgroupUdp4Sendmsg           -
            "cgroup/sendmsg6"           CgroupSockAddr        CgroupUdp6Sendmsg           -
            "cgroup/sendmsg_unix"       CgroupSockAddr        CgroupUnixSendmsg           -
            "cgroup/recvmsg4"           CgroupSockAddr        CgroupUdp4Recvmsg           -
            "cgroup/recvmsg6"           CgroupSockAddr        CgroupUdp6Recvmsg           -
            "cgroup/recvmsg_unix"       CgroupSockAddr        CgroupUnixRecvmsg           -
            "cgroup/getpeername4"       CgroupSockAddr        CgroupInet4Getpeername      -
            "cgroup/getpeername6"       CgroupSockAddr        CgroupInet6Getpeername      -
            "cgroup/getpeername_unix"   CgroupSockAddr        CgroupUnixGetpeername       -
            "cgroup/getsockname4"       CgroupSockAddr        CgroupInet4Getsockname      -
            "cgroup/getsockname6"       CgroupSockAddr        CgroupInet6Getsockname      -
            "cgroup/getsockname_unix"   CgroupSockAddr        CgroupUnixGetsockname       -
            "cgroup/sysctl"             CgroupSysctl          CgroupSysctl                -
            "cgroup/getsockopt"         CgroupSockopt         CgroupGetsockopt            -
            "cgroup/setsockopt"         CgroupSockopt         CgroupSetsockopt            -
            "cgroup/dev"                CgroupDevice          CgroupDevice                -
            "struct_ops+"               StructOps             -                           -
            "struct_ops.s+"             StructOps             -                           sleepable
            "sk_lookup"                 SkLookup              SkLookup                    -
            "netfilter"                 Netfilter             Netfilter                   -
        }
    };
}

macro_rules! program_types {
    ($($name:ident $number:literal $spelling:literal)*) => {
        /// What kind of program it is: its context, its helpers and the meaning of its result.
        ///
        /// `enum bpf_prog_type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[allow(missing_docs)]
        pub enum ProgramType {
            #[default]
            $($name),*
        }

        impl ProgramType {
            /// All types, by number.
            pub const ALL: &'static [ProgramType] = &[$(ProgramType::$name),*];

            /// The name that bpftool prints: `sched_cls`.
            pub fn name(self) -> &'static str {
                match self { $(ProgramType::$name => $spelling),* }
            }

            /// The kernel's number, `BPF_PROG_TYPE_*`.
            pub fn number(self) -> u32 {
                match self { $(ProgramType::$name => $number),* }
            }
        }
    };
}

macro_rules! attach_types {
    ($($name:ident $number:literal $spelling:literal)*) => {
        /// Where in the kernel a program of some types is attached. `enum bpf_attach_type`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum AttachType { $($name),* }

        impl AttachType {
            /// All types, by number.
            pub const ALL: &'static [AttachType] = &[$(AttachType::$name),*];

            /// The name that libbpf prints: `trace_fentry`.
            pub fn name(self) -> &'static str {
                match self { $(AttachType::$name => $spelling),* }
            }

            /// The kernel's number, `BPF_*`.
            pub fn number(self) -> u32 {
                match self { $(AttachType::$name => $number),* }
            }
        }
    };
}

macro_rules! attach {
    (-) => {
        None
    };
    ($name:ident) => {
        Some(AttachType::$name)
    };
}

macro_rules! sleeps {
    (-) => {
        false
    };
    (sleepable) => {
        true
    };
}

macro_rules! sections {
    ($($pattern:literal $program:ident $attach:tt $sleeps:tt)*) => {
        const SECTIONS: &[Row] = &[$(Row {
            pattern: $pattern,
            program_type: ProgramType::$program,
            attach_type: attach!($attach),
            sleepable: sleeps!($sleeps),
        }),*];
    };
}

for_each_program_type!(program_types);
for_each_attach_type!(attach_types);
for_each_section!(sections);

struct Row {
    pattern: &'static str,
    program_type: ProgramType,
    attach_type: Option<AttachType>,
    sleepable: bool,
}

impl Row {
    /// What follows the name when `section` matches; libbpf's `sec_def_matches`.
    fn matches<'a>(&self, section: &'a str) -> Option<Option<&'a str>> {
        let Some(name) = self.pattern.strip_suffix('+') else {
            return (section == self.pattern).then_some(None);
        };
        match section.strip_prefix(name)? {
            "" => Some(None),
            rest => rest.strip_prefix('/').map(Some),
        }
    }
}

impl ProgramType {
    /// The type of this name, as [`ProgramType::name`] writes it.
    pub fn from_name(name: &str) -> Option<ProgramType> {
        ProgramType::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The type of this kernel number.
    pub fn from_number(number: u32) -> Option<ProgramType> {
        ProgramType::ALL.iter().copied().find(|kind| kind.number() == number)
    }
}

impl std::fmt::Display for ProgramType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::fmt::Display for AttachType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What a section's name says about the programs in it. libbpf's `find_sec_def`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SectionInfo<'a> {
    /// Type of the programs; [`ProgramType::Unspec`] when no row knows the name.
    pub program_type: ProgramType,
    /// Where they expect to be attached.
    pub attach_type: Option<AttachType>,
    /// What they attach to: what follows the first slash of `kprobe/sys_open`.
    pub attach_target: Option<&'a str>,
    /// They may call helpers that sleep.
    pub sleepable: bool,
    /// False for names that start with `?`: libbpf does not load such a program unless it is told to.
    pub autoload: bool,
}

impl<'a> SectionInfo<'a> {
    /// Looks a section name up; a leading `?` is not part of it.
    ///
    /// ```
    /// use softbpf::program_type::{ProgramType, SectionInfo};
    ///
    /// let info = SectionInfo::of("kprobe/sys_open");
    /// assert_eq!(info.program_type, ProgramType::Kprobe);
    /// assert_eq!(info.attach_target, Some("sys_open"));
    /// assert_eq!(SectionInfo::of("from-netdev").program_type, ProgramType::Unspec);
    /// ```
    pub fn of(section: &'a str) -> SectionInfo<'a> {
        let name = section.strip_prefix('?');
        let unknown = SectionInfo { autoload: name.is_none(), ..SectionInfo::default() };
        let name = name.unwrap_or(section);
        let found = SECTIONS.iter().find_map(|row| Some((row, row.matches(name)?)));
        found.map_or(unknown, |(row, attach_target)| SectionInfo {
            program_type: row.program_type,
            attach_type: row.attach_type,
            attach_target,
            sleepable: row.sleepable,
            ..unknown
        })
    }
}

/// The names of sections that mean something, in libbpf's order; without the `/` and the target that may follow some.
pub fn section_names() -> impl ExactSizeIterator<Item = &'static str> {
    SECTIONS.iter().map(|row| row.pattern.trim_end_matches('+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known() {
        assert!(section_names().all(|name| SectionInfo::of(name).program_type != ProgramType::Unspec));
    }

    #[test]
    fn numbers_are_positions() {
        for (number, kind) in ProgramType::ALL.iter().enumerate() {
            assert_eq!(ProgramType::from_number(number as u32), Some(*kind));
            assert_eq!(ProgramType::from_name(kind.name()), Some(*kind));
        }
        for (number, kind) in AttachType::ALL.iter().enumerate() {
            assert_eq!(kind.number(), number as u32);
        }
    }

    #[test]
    fn sections_match_as_in_libbpf() {
        let kind = |section| SectionInfo::of(section).program_type;
        assert_eq!(kind("xdp"), ProgramType::Xdp);
        assert_eq!(kind("xdp_prog"), ProgramType::Unspec, "no prefix matching without a plus");
        assert_eq!(kind("xdp/mine"), ProgramType::Unspec);
        assert_eq!(kind("kprobe"), ProgramType::Kprobe);
        assert_eq!(kind("kprobes/x"), ProgramType::Unspec, "the separator is a slash");
        assert_eq!(kind("tc/tail"), ProgramType::Unspec);
        assert_eq!(SectionInfo::of("fentry.s/vfs_read").attach_target, Some("vfs_read"));
        assert!(SectionInfo::of("fentry.s/vfs_read").sleepable);
        let tracepoint = SectionInfo::of("tp/syscalls/sys_enter_openat");
        assert_eq!(tracepoint.attach_target, Some("syscalls/sys_enter_openat"));
        let optional = SectionInfo::of("?tcx/ingress");
        assert_eq!((optional.autoload, optional.attach_type), (false, Some(AttachType::TcxIngress)));
    }
}
