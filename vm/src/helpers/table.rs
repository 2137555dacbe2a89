//! Every helper of the kernel, one row each: number, name, arguments, result.
//!
//! Rows and nothing else. From a row come argument checking, the disassembler's names, the verifier's prototype and
//! the generator's well-typed calls. This file does not know which helpers are implemented, which program types may
//! call them, or how memory is reached: see [`super`] for that.
//!
//! Sources: `enum bpf_func_id` in `include/uapi/linux/bpf.h` and the kernel's `struct bpf_func_proto`s, Linux 6.18.
//! Helpers are frozen there: what came later is a kfunc. Where the kernel has several prototypes for one helper,
//! the row is the one that the most program types use, widened ([`ArgKind::ContextOrBtf`], [`ArgKind::BtfOrNull`]).

/// What an argument of a helper is. The kernel's `enum bpf_arg_type`, without what only its verifier needs.
///
/// A memory argument followed by its size is two arguments, the size directly after the memory. Sizes are
/// in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ArgKind {
    /// Any number: flags, an index, a length of something that is not an argument.
    Scalar,
    /// Any number that the helper uses as an address of kernel or user memory. It may point anywhere: a fault is the
    /// helper's result, not the program's.
    Address,
    /// The context that the program was started with.
    Context,
    /// [`Context`](Self::Context), or null for "no particular one".
    ContextOrNull,
    /// The context in some program types, a kernel object ([`Btf`](Self::Btf)) in others.
    ContextOrBtf,
    /// A map.
    Map,
    /// Readable bytes, as many as the map's key has. The map is an earlier argument.
    MapKey,
    /// Readable bytes, as many as the map's value has. The map is an earlier argument.
    MapValue,
    /// [`MapValue`](Self::MapValue), or null for none.
    MapValueOrNull,
    /// Writable bytes, as many as the map's value has, that the helper fills.
    MapValueUninit,
    /// Readable bytes. The next argument is their number.
    Mem,
    /// [`Mem`](Self::Mem), or null with size 0.
    MemOrNull,
    /// Bytes that the helper reads and writes. The next argument is their number.
    InOutMem,
    /// Writable bytes that the helper may fill, initialised or not. The next argument is their number.
    ///
    /// Also where the kernel asks for initialised bytes but only ever writes them (`d_path`).
    UninitMem,
    /// [`UninitMem`](Self::UninitMem), or null with size 0.
    UninitMemOrNull,
    /// Readable bytes, this many.
    FixedMem(u32),
    /// Bytes that the helper reads and writes, this many.
    InOutFixedMem(u32),
    /// Writable bytes that the helper may fill, this many: an out-parameter such as `long *res`.
    UninitFixedMem(u32),
    /// Number of bytes of the argument before; not 0.
    Size,
    /// Number of bytes of the argument before; may be 0.
    SizeOrZero,
    /// Number of bytes that the memory which the helper returns has.
    AllocSize,
    /// A NUL-terminated string in read-only data.
    Str,
    /// A function of the program, to be called back.
    Function,
    /// What a callback gets as its context: an address in the caller's stack frame, or null.
    StackOrNull,
    /// A ring buffer record from `ringbuf_reserve`; the call ends its life.
    Record,
    /// An initialised `struct bpf_dynptr`, 16 bytes.
    Dynptr,
    /// A `struct bpf_dynptr`, 16 bytes, that the helper initialises.
    UninitDynptr,
    /// A kernel object, described by BTF: task, socket, inode, file, per-CPU variable...
    Btf,
    /// [`Btf`](Self::Btf) or null.
    BtfOrNull,
    /// A `struct bpf_spin_lock`, 4 bytes, in a map value.
    SpinLock,
    /// A `struct bpf_timer`, 16 bytes, in a map value.
    Timer,
    /// A slot for a kernel object's address, 8 bytes, in a map value.
    Kptr,
}

/// What a helper leaves in `r0`. The kernel's `enum bpf_return_type`, with its integers told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RetKind {
    /// Signed 64 bits: 0 or a count when it worked, `-errno` when it did not.
    Errno,
    /// Any number.
    Scalar,
    /// Nothing that a program may use.
    Void,
    /// Address of a map value.
    MapValue,
    /// Address of a map value, or null.
    MapValueOrNull,
    /// Address of as many bytes as [`ArgKind::AllocSize`] says, or null.
    MemOrNull,
    /// Address of a kernel object.
    Btf,
    /// Address of a kernel object, or null.
    BtfOrNull,
}

// To add a helper: a row here, in the order of the numbers; and, if it is implemented, its function in the table of
// implementations in helpers/mod.rs. Without one, a call is a trap that names the helper, unless a test mocks it.
//
/// Helpers, by number.
///
/// Columns: number, name (without `bpf_`), kinds of the arguments, kind of the result. The arguments are those that
/// the function reads: `trace_printk` is variadic in C, and a program may leave its last ones unset.
macro_rules! for_each_helper {
    ($reader:ident) => {
        $reader! {
              1 map_lookup_elem (Map, MapKey) -> MapValueOrNull
              2 map_update_elem (Map, MapKey, MapValue, Scalar) -> Errno
              3 map_delete_elem (Map, MapKey) -> Errno
              4 probe_read (UninitMem, SizeOrZero, Address) -> Errno
              5 ktime_get_ns () -> Scalar
              6 trace_printk (Mem, Size, Scalar, Scalar, Scalar) -> Errno
              7 get_prandom_u32 () -> Scalar
              8 get_smp_processor_id () -> Scalar
              9 skb_store_bytes (Context, Scalar, Mem, Size, Scalar) -> Errno
             10 l3_csum_replace (Context, Scalar, Scalar, Scalar, Scalar) -> Errno
             11 l4_csum_replace (Context, Scalar, Scalar, Scalar, Scalar) -> Errno
             12 tail_call (Context, Map, Scalar) -> Void
             13 clone_redirect (Context, Scalar, Scalar) -> Errno
             14 get_current_pid_tgid () -> Scalar
             15 get_current_uid_gid () -> Scalar
             16 get_current_comm (UninitMem, Size) -> Errno
             17 get_cgroup_classid (Context) -> Scalar
             18 skb_vlan_push (Context, Scalar, Scalar) -> Errno
             19 skb_vlan_pop (Context) -> Errno
             20 skb_get_tunnel_key (Context, UninitMem, Size, Scalar) -> Errno
             21 skb_set_tunnel_key (Context, Mem, Size, Scalar) -> Errno
             22 perf_event_read (Map, Scalar) -> Scalar
             23 redirect (Scalar, Scalar) -> Scalar
             24 get_route_realm (Context) -> Scalar
             25 perf_event_output (Context, Map, Scalar, Mem, SizeOrZero) -> Errno
             26 skb_load_bytes (Context, Scalar, UninitMem, Size) -> Errno
             27 get_stackid (Context, Map, Scalar) -> Errno
             28 csum_diff (MemOrNull, SizeOrZero, MemOrNull, SizeOrZero, Scalar) -> Errno
             29 skb_get_tunnel_opt (Context, UninitMem, Size) -> Errno
             30 skb_set_tunnel_opt (Context, Mem, Size) -> Errno
             31 skb_change_proto (Context, Scalar, Scalar) -> Errno
             32 skb_change_type (Context, Scalar) -> Errno
             33 skb_under_cgroup (Context, Map, Scalar) -> Errno
             34 get_hash_recalc (Context) -> Scalar
             35 get_current_task () -> Scalar
             36 probe_write_user (Address, Mem, Size) -> Errno
             37 current_task_under_cgroup (Map, Scalar) -> Errno
             38 skb_change_tail (Context, Scalar, Scalar) -> Errno
             39 skb_pull_data (Context, Scalar) -> Errno
             40 csum_update (Context, Scalar) -> Errno
             41 set_hash_invalid (Context) -> Errno
             42 get_numa_node_id () -> Scalar
             43 skb_change_head (Context, Scalar, Scalar) -> Errno
             44 xdp_adjust_head (Context, Scalar) -> Errno
             45 probe_read_str (UninitMem, SizeOrZero, Address) -> Errno
             46 get_socket_cookie (ContextOrBtf) -> Scalar
             47 get_socket_uid (Context) -> Scalar
             48 set_hash (Context, Scalar) -> Errno
             49 setsockopt (ContextOrBtf, Scalar, Scalar, Mem, Size) -> Errno
             50 skb_adjust_room (Context, Scalar, Scalar, Scalar) -> Errno
             51 redirect_map (Map, Scalar, Scalar) -> Scalar
             52 sk_redirect_map (Context, Map, Scalar, Scalar) -> Scalar
             53 sock_map_update (Context, Map, MapKey, Scalar) -> Errno
             54 xdp_adjust_meta (Context, Scalar) -> Errno
             55 perf_event_read_value (Map, Scalar, UninitMem, Size) -> Errno
             56 perf_prog_read_value (Context, UninitMem, Size) -> Errno
             57 getsockopt (ContextOrBtf, Scalar, Scalar, UninitMem, Size) -> Errno
             58 override_return (Context, Scalar) -> Errno
             59 sock_ops_cb_flags_set (Context, Scalar) -> Errno
             60 msg_redirect_map (Context, Map, Scalar, Scalar) -> Scalar
             61 msg_apply_bytes (Context, Scalar) -> Errno
             62 msg_cork_bytes (Context, Scalar) -> Errno
             63 msg_pull_data (Context, Scalar, Scalar, Scalar) -> Errno
             64 bind (Context, Mem, Size) -> Errno
             65 xdp_adjust_tail (Context, Scalar) -> Errno
             66 skb_get_xfrm_state (Context, Scalar, UninitMem, Size, Scalar) -> Errno
             67 get_stack (Context, UninitMem, SizeOrZero, Scalar) -> Errno
             68 skb_load_bytes_relative (Context, Scalar, UninitMem, Size, Scalar) -> Errno
             69 fib_lookup (Context, InOutMem, Size, Scalar) -> Errno
             70 sock_hash_update (Context, Map, MapKey, Scalar) -> Errno
             71 msg_redirect_hash (Context, Map, MapKey, Scalar) -> Scalar
             72 sk_redirect_hash (Context, Map, MapKey, Scalar) -> Scalar
             73 lwt_push_encap (Context, Scalar, Mem, Size) -> Errno
             74 lwt_seg6_store_bytes (Context, Scalar, Mem, Size) -> Errno
             75 lwt_seg6_adjust_srh (Context, Scalar, Scalar) -> Errno
             76 lwt_seg6_action (Context, Scalar, Mem, Size) -> Errno
             77 rc_repeat (Context) -> Errno
             78 rc_keydown (Context, Scalar, Scalar, Scalar) -> Errno
             79 skb_cgroup_id (Context) -> Scalar
             80 get_current_cgroup_id () -> Scalar
             81 get_local_storage (Map, Scalar) -> MapValue
             82 sk_select_reuseport (Context, Map, MapKey, Scalar) -> Errno
             83 skb_ancestor_cgroup_id (Context, Scalar) -> Scalar
             84 sk_lookup_tcp (Context, Mem, Size, Scalar, Scalar) -> BtfOrNull
             85 sk_lookup_udp (Context, Mem, Size, Scalar, Scalar) -> BtfOrNull
             86 sk_release (Btf) -> Errno
             87 map_push_elem (Map, MapValue, Scalar) -> Errno
             88 map_pop_elem (Map, MapValueUninit) -> Errno
             89 map_peek_elem (Map, MapValueUninit) -> Errno
             90 msg_push_data (Context, Scalar, Scalar, Scalar) -> Errno
             91 msg_pop_data (Context, Scalar, Scalar, Scalar) -> Errno
             92 rc_pointer_rel (Context, Scalar, Scalar) -> Errno
             93 spin_lock (SpinLock) -> Void
             94 spin_unlock (SpinLock) -> Void
             95 sk_fullsock (Btf) -> BtfOrNull
             96 tcp_sock (Btf) -> BtfOrNull
             97 skb_ecn_set_ce (Context) -> Scalar
             98 get_listener_sock (Btf) -> BtfOrNull
             99 skc_lookup_tcp (Context, Mem, Size, Scalar, Scalar) -> BtfOrNull
            100 tcp_check_syncookie (Btf, Mem, Size, Mem, Size) -> Errno
            101 sysctl_get_name (Context, UninitMem, Size, Scalar) -> Errno
            102 sysctl_get_current_value (Context, UninitMem, Size) -> Errno
            103 sysctl_get_new_value (Context, UninitMem, Size) -> Errno
            104 sysctl_set_new_value (Context, Mem, Size) -> Errno
            105 strtol (Mem, Size, Scalar, UninitFixedMem(8)) -> Errno
            106 strtoul (Mem, Size, Scalar, UninitFixedMem(8)) -> Errno
            107 sk_storage_get (Map, ContextOrBtf, MapValueOrNull, Scalar) -> MapValueOrNull
            108 sk_storage_delete (Map, Btf) -> Errno
            109 send_signal (Scalar) -> Errno
            110 tcp_gen_syncookie (Btf, Mem, Size, Mem, Size) -> Errno
            111 skb_output (Btf, Map, Scalar, Mem, SizeOrZero) -> Errno
            112 probe_read_user (UninitMem, SizeOrZero, Address) -> Errno
            113 probe_read_kernel (UninitMem, SizeOrZero, Address) -> Errno
            114 probe_read_user_str (UninitMem, SizeOrZero, Address) -> Errno
            115 probe_read_kernel_str (UninitMem, SizeOrZero, Address) -> Errno
            116 tcp_send_ack (Btf, Scalar) -> Errno
            117 send_signal_thread (Scalar) -> Errno
            118 jiffies64 () -> Scalar
            119 read_branch_records (Context, UninitMemOrNull, SizeOrZero, Scalar) -> Errno
            120 get_ns_current_pid_tgid (Scalar, Scalar, UninitMem, Size) -> Errno
            121 xdp_output (Btf, Map, Scalar, Mem, SizeOrZero) -> Errno
            122 get_netns_cookie (ContextOrNull) -> Scalar
            123 get_current_ancestor_cgroup_id (Scalar) -> Scalar
            124 sk_assign (Context, BtfOrNull, Scalar) -> Errno
            125 ktime_get_boot_ns () -> Scalar
            126 seq_printf (Btf, Mem, Size, MemOrNull, SizeOrZero) -> Errno
            127 seq_write (Btf, Mem, SizeOrZero) -> Errno
            128 sk_cgroup_id (Btf) -> Scalar
            129 sk_ancestor_cgroup_id (Btf, Scalar) -> Scalar
            130 ringbuf_output (Map, Mem, SizeOrZero, Scalar) -> Errno
            131 ringbuf_reserve (Map, AllocSize, Scalar) -> MemOrNull
            132 ringbuf_submit (Record, Scalar) -> Void
            133 ringbuf_discard (Record, Scalar) -> Void
            134 ringbuf_query (Map, Scalar) -> Scalar
            135 csum_level (Context, Scalar) -> Errno
            136 skc_to_tcp6_sock (Btf) -> BtfOrNull
            137 skc_to_tcp_sock (Btf) -> BtfOrNull
            138 skc_to_tcp_timewait_sock (Btf) -> BtfOrNull
            139 skc_to_tcp_request_sock (Btf) -> BtfOrNull
            140 skc_to_udp6_sock (Btf) -> BtfOrNull
            141 get_task_stack (Btf, UninitMem, SizeOrZero, Scalar) -> Errno
            142 load_hdr_opt (Context, InOutMem, Size, Scalar) -> Errno
            143 store_hdr_opt (Context, Mem, Size, Scalar) -> Errno
            144 reserve_hdr_opt (Context, Scalar, Scalar) -> Errno
            145 inode_storage_get (Map, BtfOrNull, MapValueOrNull, Scalar) -> MapValueOrNull
            146 inode_storage_delete (Map, BtfOrNull) -> Errno
            147 d_path (Btf, UninitMem, SizeOrZero) -> Errno
            148 copy_from_user (UninitMem, SizeOrZero, Address) -> Errno
            149 snprintf_btf (UninitMem, Size, Mem, Size, Scalar) -> Errno
            150 seq_printf_btf (Btf, Mem, SizeOrZero, Scalar) -> Errno
            151 skb_cgroup_classid (Context) -> Scalar
            152 redirect_neigh (Scalar, MemOrNull, SizeOrZero, Scalar) -> Scalar
            153 per_cpu_ptr (Btf, Scalar) -> BtfOrNull
            154 this_cpu_ptr (Btf) -> Btf
            155 redirect_peer (Scalar, Scalar) -> Scalar
            156 task_storage_get (Map, BtfOrNull, MapValueOrNull, Scalar) -> MapValueOrNull
            157 task_storage_delete (Map, BtfOrNull) -> Errno
            158 get_current_task_btf () -> Btf
            159 bprm_opts_set (Btf, Scalar) -> Errno
            160 ktime_get_coarse_ns () -> Scalar
            161 ima_inode_hash (Btf, UninitMem, Size) -> Errno
            162 sock_from_file (Btf) -> BtfOrNull
            163 check_mtu (Context, Scalar, InOutFixedMem(4), Scalar, Scalar) -> Errno
            164 for_each_map_elem (Map, Function, StackOrNull, Scalar) -> Errno
            165 snprintf (UninitMemOrNull, SizeOrZero, Str, MemOrNull, SizeOrZero) -> Errno
            166 sys_bpf (Scalar, Mem, Size) -> Errno
            167 btf_find_by_name_kind (Mem, Size, Scalar, Scalar) -> Errno
            168 sys_close (Scalar) -> Errno
            169 timer_init (Timer, Map, Scalar) -> Errno
            170 timer_set_callback (Timer, Function) -> Errno
            171 timer_start (Timer, Scalar, Scalar) -> Errno
            172 timer_cancel (Timer) -> Errno
            173 get_func_ip (Context) -> Scalar
            174 get_attach_cookie (Context) -> Scalar
            175 task_pt_regs (Btf) -> Btf
            176 get_branch_snapshot (UninitMem, SizeOrZero, Scalar) -> Errno
            177 trace_vprintk (Mem, Size, MemOrNull, SizeOrZero) -> Errno
            178 skc_to_unix_sock (Btf) -> BtfOrNull
            179 kallsyms_lookup_name (Mem, SizeOrZero, Scalar, UninitFixedMem(8)) -> Errno
            180 find_vma (Btf, Scalar, Function, StackOrNull, Scalar) -> Errno
            181 loop (Scalar, Function, StackOrNull, Scalar) -> Errno
            182 strncmp (Mem, Size, Str) -> Scalar
            183 get_func_arg (Context, Scalar, UninitFixedMem(8)) -> Errno
            184 get_func_ret (Context, UninitFixedMem(8)) -> Errno
            185 get_func_arg_cnt (Context) -> Scalar
            186 get_retval () -> Scalar
            187 set_retval (Scalar) -> Errno
            188 xdp_get_buff_len (Context) -> Scalar
            189 xdp_load_bytes (Context, Scalar, UninitMem, Size) -> Errno
            190 xdp_store_bytes (Context, Scalar, Mem, Size) -> Errno
            191 copy_from_user_task (UninitMem, SizeOrZero, Address, Btf, Scalar) -> Errno
            192 skb_set_tstamp (Context, Scalar, Scalar) -> Errno
            193 ima_file_hash (Btf, UninitMem, Size) -> Errno
            194 kptr_xchg (Kptr, BtfOrNull) -> BtfOrNull
            195 map_lookup_percpu_elem (Map, MapKey, Scalar) -> MapValueOrNull
            196 skc_to_mptcp_sock (Btf) -> BtfOrNull
            197 dynptr_from_mem (UninitMem, SizeOrZero, Scalar, UninitDynptr) -> Errno
            198 ringbuf_reserve_dynptr (Map, Scalar, Scalar, UninitDynptr) -> Errno
            199 ringbuf_submit_dynptr (Dynptr, Scalar) -> Void
            200 ringbuf_discard_dynptr (Dynptr, Scalar) -> Void
            201 dynptr_read (UninitMem, SizeOrZero, Dynptr, Scalar, Scalar) -> Errno
            202 dynptr_write (Dynptr, Scalar, Mem, SizeOrZero, Scalar) -> Errno
            203 dynptr_data (Dynptr, Scalar, AllocSize) -> MemOrNull
            204 tcp_raw_gen_syncookie_ipv4 (FixedMem(20), Mem, SizeOrZero) -> Errno
            205 tcp_raw_gen_syncookie_ipv6 (FixedMem(40), Mem, SizeOrZero) -> Errno
            206 tcp_raw_check_syncookie_ipv4 (FixedMem(20), FixedMem(20)) -> Errno
            207 tcp_raw_check_syncookie_ipv6 (FixedMem(40), FixedMem(20)) -> Errno
            208 ktime_get_tai_ns () -> Scalar
            209 user_ringbuf_drain (Map, Function, StackOrNull, Scalar) -> Errno
            210 cgrp_storage_get (Map, BtfOrNull, MapValueOrNull, Scalar) -> MapValueOrNull
            211 cgrp_storage_delete (Map, BtfOrNull) -> Errno
        }
    };
}

/// A helper as the kernel declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HelperRow {
    /// The call's immediate: `BPF_FUNC_<name>`.
    pub number: i32,
    /// Name, without `bpf_`.
    pub name: &'static str,
    /// Arguments, `r1` first; at most 5.
    pub args: &'static [ArgKind],
    /// What is in `r0` afterwards.
    pub ret: RetKind,
}

macro_rules! define_rows {
    ($($number:literal $name:ident ($($arg:ident $(($bytes:literal))?),*) -> $ret:ident)*) => {
        static ROWS: &[HelperRow] = &[$(
            HelperRow {
                number: $number,
                name: stringify!($name),
                args: &[$(ArgKind::$arg $(($bytes))?),*],
                ret: RetKind::$ret,
            },
        )*];
    };
}
for_each_helper!(define_rows);

/// All helpers, in the order of their numbers, which are 1, 2, 3... without gaps.
#[must_use]
pub fn all() -> &'static [HelperRow] {
    ROWS
}

/// The helper with this number, in constant time. `None` for 0 (`BPF_FUNC_unspec`), negative and unknown ones.
#[must_use]
pub fn by_number(number: i32) -> Option<&'static HelperRow> {
    ROWS.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

/// The helper with this name, `map_lookup_elem` or `bpf_map_lookup_elem`. Searches the whole table.
///
/// ```
/// use softbpf::helpers::table;
///
/// let row = table::by_name("bpf_get_current_comm").unwrap();
/// assert_eq!(row.number, 16);
/// assert_eq!(table::by_number(16), Some(row));
/// ```
#[must_use]
pub fn by_name(name: &str) -> Option<&'static HelperRow> {
    let bare = name.strip_prefix("bpf_").unwrap_or(name);
    ROWS.iter().find(|row| row.name == bare)
}
