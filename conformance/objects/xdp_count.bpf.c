// SPDX-License-Identifier: MIT OR Apache-2.0
/* Count packets and bytes by class, and drop TCP to one port.
 *
 * Understands Ethernet, at most one VLAN tag, IPv4 with options, and TCP.  A
 * packet that is too short for its own headers counts by what is sure of it. */
#include "fixture.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_VLAN 0x8100
#define PROTOCOL_TCP 6
#define TCP_FLAG_SYN 0x02

/* Setting, in host byte order; 0 drops nothing. */
volatile const u16 blocked_port = 0;

enum class { NOT_IPV4, IPV4_OTHER, TCP_SYN, TCP_OTHER, CLASSES };

struct counter {
	u64 packets;
	u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CLASSES);
	__type(key, u32);
	__type(value, struct counter);
} counters SEC(".maps");

struct ethernet {
	u8 to[6], from[6];
	u16 type;
};

struct vlan {
	u16 tag;
	u16 type;
};

struct ipv4 {
	u8 version_and_words; /* high 4 bits version, low 4 bits header words */
	u8 tos;
	u16 length, id, fragment;
	u8 ttl, protocol;
	u16 checksum;
	u32 from, to;
};

struct tcp {
	u16 from_port, to_port;
	u32 seq, ack;
	u8 data_offset, flags;
	u16 window, checksum, urgent;
};

#define NET16(x) __builtin_bswap16(x)

SEC("xdp")
int xdp_count(struct xdp_md *ctx)
{
	u8 *at = (u8 *)(long)ctx->data;
	u8 *end = (u8 *)(long)ctx->data_end;
	u64 bytes = end - at;
	u32 class = NOT_IPV4;
	int action = XDP_PASS;
	struct ethernet *eth = (void *)at;
	struct counter *counter;
	struct ipv4 *ip;
	struct tcp *tcp;
	u64 ip_length;
	u16 type;

	at += sizeof(*eth);
	if (at > end)
		goto count;
	type = eth->type;

	if (type == NET16(ETHERTYPE_VLAN)) {
		struct vlan *vlan = (void *)at;

		at += sizeof(*vlan);
		if (at > end)
			goto count;
		type = vlan->type;
	}
	if (type != NET16(ETHERTYPE_IPV4))
		goto count;

	ip = (void *)at;
	if (at + sizeof(*ip) > end)
		goto count;
	ip_length = (ip->version_and_words & 15) * 4;
	if (ip->version_and_words >> 4 != 4 || ip_length < sizeof(*ip))
		goto count;
	class = IPV4_OTHER;
	if (ip->protocol != PROTOCOL_TCP)
		goto count;

	tcp = (void *)(at + ip_length);
	if ((u8 *)(tcp + 1) > end)
		goto count;
	class = tcp->flags & TCP_FLAG_SYN ? TCP_SYN : TCP_OTHER;
	if (blocked_port && tcp->to_port == NET16(blocked_port))
		action = XDP_DROP;

count:
	counter = bpf_map_lookup_elem(&counters, &class);
	if (counter) {
		counter->packets += 1;
		counter->bytes += bytes;
	}
	return action;
}

FIXTURE_LICENSE;
