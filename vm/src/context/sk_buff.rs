//! `struct __sk_buff`: its fields, and which of them programs may read and write.
//!
//! Layout: `include/uapi/linux/bpf.h`. Columns: `bpf_skb_is_valid_access` and its callers in `net/core/filter.c`. A
//! field is open when the kernel allows any access to it; that it also wants a certain width is not kept here.

use byteorder::{ByteOrder as _, LittleEndian};

use super::table::permission;
use crate::memory::Permission;

/// Bytes of the structure.
pub(super) const SIZE: usize = 192;

/// Program types with the same fields, in the order of the table's columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// `sk_filter_is_valid_access`.
    Socket,
    /// `tc_cls_act_is_valid_access`.
    Tc,
    /// `cg_skb_is_valid_access`.
    Cgroup,
    /// `lwt_is_valid_access`.
    Lwt,
    /// `sk_skb_is_valid_access`.
    SkSkb,
    /// `flow_dissector_is_valid_access`.
    Flow,
}

/// A field of the structure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    #[cfg(test)]
    pub(super) name: &'static str,
    pub(super) offset: u32,
    pub(super) size: u32,
    permissions: [Option<Permission>; 6],
}

impl Field {
    /// What programs of a column may do with it.
    pub(super) fn permission(&self, column: Column) -> Option<Permission> {
        self.permissions[column as usize]
    }

    /// Sets it in the structure's bytes.
    pub(super) fn put(&self, bytes: &mut [u8; SIZE], value: u32) {
        let start = self.offset as usize;
        LittleEndian::write_u32(&mut bytes[start..start + 4], value);
    }
}

macro_rules! fields {
    ($($name:ident $offset:literal $size:literal [$($permission:tt)*])*) => {
        $(pub(super) const $name: Field = Field {
            #[cfg(test)]
            name: stringify!($name),
            offset: $offset,
            size: $size,
            permissions: [$(permission!($permission)),*],
        };)*

        /// All fields, by offset.
        pub(super) const FIELDS: &[Field] = &[$($name),*];
    };
}

// Columns: name, offset, size, then one for each `Column`.
fields! {
    //                   Socket Tc Cgroup Lwt SkSkb Flow
    LEN               0  4 [ r  r    r    r    r    - ]
    PKT_TYPE          4  4 [ r  r    r    r    r    - ]
    MARK              8  4 [ r  rw   rw   rw   -    - ]
    QUEUE_MAPPING    12  4 [ r  rw   r    r    r    - ]
    PROTOCOL         16  4 [ r  r    r    r    r    - ]
    VLAN_PRESENT     20  4 [ r  r    r    r    r    - ]
    VLAN_TCI         24  4 [ r  r    r    r    r    - ]
    VLAN_PROTO       28  4 [ r  r    r    r    r    - ]
    PRIORITY         32  4 [ r  rw   rw   rw   rw   - ]
    INGRESS_IFINDEX  36  4 [ r  r    r    r    r    - ]
    IFINDEX          40  4 [ r  r    r    r    r    - ]
    TC_INDEX         44  4 [ r  rw   r    r    rw   - ]
    CB               48 20 [ rw rw   rw   rw   r    - ]
    HASH             68  4 [ r  r    r    r    r    - ]
    TC_CLASSID       72  4 [ -  rw   -    -    -    - ]
    DATA             76  4 [ -  r    r    r    r    r ]
    DATA_END         80  4 [ -  r    r    r    r    r ]
    NAPI_ID          84  4 [ r  r    r    r    r    - ]
    FAMILY           88  4 [ -  -    r    -    r    - ]
    REMOTE_IP4       92  4 [ -  -    r    -    r    - ]
    LOCAL_IP4        96  4 [ -  -    r    -    r    - ]
    REMOTE_IP6      100 16 [ -  -    r    -    r    - ]
    LOCAL_IP6       116 16 [ -  -    r    -    r    - ]
    REMOTE_PORT     132  4 [ -  -    r    -    r    - ]
    LOCAL_PORT      136  4 [ -  -    r    -    r    - ]
    DATA_META       140  4 [ -  r    -    -    -    - ]
    FLOW_KEYS       144  8 [ -  -    -    -    -    r ]
    TSTAMP          152  8 [ -  rw   rw   -    -    - ]
    WIRE_LEN        160  4 [ -  r    -    -    -    - ]
    GSO_SEGS        164  4 [ r  r    r    r    r    - ]
    SK              168  8 [ r  r    r    r    r    - ]
    GSO_SIZE        176  4 [ r  r    r    r    r    - ]
    TSTAMP_TYPE     180  1 [ -  r    -    -    -    - ]
    HWTSTAMP        184  8 [ -  r    r    -    -    - ]
}
