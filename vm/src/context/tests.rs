//! Offsets and sizes against those of the kernel's headers.

use super::packet::{FLOW_KEYS, XDP_MD};
use super::{REGISTERS, sk_buff};

/// Structure, field, `offsetof`, `sizeof`; the structure itself is `-`. As gcc computes them for x86-64 from
/// `linux/bpf.h` of Linux 6.18 and, under the kernel's names, `asm/ptrace.h`.
const HEADERS: &str = "
__sk_buff len 0 4
__sk_buff pkt_type 4 4
__sk_buff mark 8 4
__sk_buff queue_mapping 12 4
__sk_buff protocol 16 4
__sk_buff vlan_present 20 4
__sk_buff vlan_tci 24 4
__sk_buff vlan_proto 28 4
__sk_buff priority 32 4
__sk_buff ingress_ifindex 36 4
__sk_buff ifindex 40 4
__sk_buff tc_index 44 4
__sk_buff cb 48 20
__sk_buff hash 68 4
__sk_buff tc_classid 72 4
__sk_buff data 76 4
__sk_buff data_end 80 4
__sk_buff napi_id 84 4
__sk_buff family 88 4
__sk_buff remote_ip4 92 4
__sk_buff local_ip4 96 4
__sk_buff remote_ip6 100 16
__sk_buff local_ip6 116 16
__sk_buff remote_port 132 4
__sk_buff local_port 136 4
__sk_buff data_meta 140 4
__sk_buff flow_keys 144 8
__sk_buff tstamp 152 8
__sk_buff wire_len 160 4
__sk_buff gso_segs 164 4
__sk_buff sk 168 8
__sk_buff gso_size 176 4
__sk_buff tstamp_type 180 1
__sk_buff hwtstamp 184 8
__sk_buff - 0 192
xdp_md data 0 4
xdp_md data_end 4 4
xdp_md data_meta 8 4
xdp_md ingress_ifindex 12 4
xdp_md rx_queue_index 16 4
xdp_md egress_ifindex 20 4
xdp_md - 0 24
pt_regs r15 0 8
pt_regs r14 8 8
pt_regs r13 16 8
pt_regs r12 24 8
pt_regs bp 32 8
pt_regs bx 40 8
pt_regs r11 48 8
pt_regs r10 56 8
pt_regs r9 64 8
pt_regs r8 72 8
pt_regs ax 80 8
pt_regs cx 88 8
pt_regs dx 96 8
pt_regs si 104 8
pt_regs di 112 8
pt_regs orig_ax 120 8
pt_regs ip 128 8
pt_regs cs 136 8
pt_regs flags 144 8
pt_regs sp 152 8
pt_regs ss 160 8
pt_regs - 0 168
bpf_flow_keys - 0 56
";

fn array(structure: &str, fields: &[&str], size: usize) -> Vec<String> {
    let rows = fields.iter().enumerate().map(|(index, field)| format!("{structure} {field} {} {size}", index * size));
    rows.chain([format!("{structure} - 0 {}", fields.len() * size)]).collect()
}

#[test]
fn layouts_are_those_of_the_headers() {
    let ours: Vec<String> = sk_buff::FIELDS
        .iter()
        .map(|field| format!("__sk_buff {} {} {}", field.name.to_lowercase(), field.offset, field.size))
        .chain([format!("__sk_buff - 0 {}", sk_buff::SIZE)])
        .chain(array("xdp_md", &XDP_MD, 4))
        .chain(array("pt_regs", &REGISTERS, 8))
        .chain([format!("bpf_flow_keys - 0 {FLOW_KEYS}")])
        .collect();
    assert_eq!(ours, HEADERS.trim().lines().collect::<Vec<_>>());
}
