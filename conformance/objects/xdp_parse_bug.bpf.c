// SPDX-License-Identifier: MIT OR Apache-2.0
/* A packet parser, once right and three times with one bug, for fuzzing.
 *
 * Drops TCP SYNs to port 443 that announce a segment size below 536, and passes
 * all else.  Understands Ethernet, two VLAN tags, IPv4 with options, IPv6 with
 * extension headers, TCP with options, and UDP.  The bugs lie behind all of that:
 * a packet must have several bytes right to get there. */
#include "fixture.h"

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_IPV6 0x86dd
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define IPV6_HOP_BY_HOP 0
#define IPV6_ROUTING 43
#define IPV6_DESTINATION 60
#define TCP_FLAG_SYN 0x02
#define TCP_OPTION_END 0
#define TCP_OPTION_NOP 1
#define TCP_OPTION_MSS 2

#define MAX_VLANS 2
#define MAX_EXTENSIONS 4
#define MAX_OPTIONS 40
#define PROTECTED_PORT 443
#define DNS_PORT 53
#define LEAST_MSS 536

#define NET16(x) __builtin_bswap16(x)
#define INLINE static inline __attribute__((always_inline))

enum bug {
	NO_BUG,
	/* The header's own length is believed, whatever the packet's is. */
	MISSING_CHECK,
	/* An option of length 0 is skipped by 0 bytes. */
	ENDLESS_OPTIONS,
	/* DNS in a VLAN gets a number that is no verdict. */
	ODD_VERDICT,
};

struct ethernet {
	u8 to[6], from[6];
	u16 type;
};

struct vlan {
	u16 tag, type;
};

struct ipv4 {
	u8 version_and_words; /* high 4 bits version, low 4 bits header words */
	u8 tos;
	u16 length, id, fragment;
	u8 ttl, protocol;
	u16 checksum;
	u32 from, to;
};

struct ipv6 {
	u8 version_and_class;
	u8 flow[3];
	u16 length;
	u8 next, hops;
	u8 from[16], to[16];
};

struct extension {
	u8 next, length; /* in units of 8 bytes, the first not counted */
	u8 data[6];
};

struct tcp {
	u16 from_port, to_port;
	u32 seq, ack;
	u8 data_offset, flags;
	u16 window, checksum, urgent;
};

struct udp {
	u16 from_port, to_port, length, checksum;
};

/* The segment size that the options announce; 0 without one. */
INLINE u32 segment_size(u8 *at, u8 *options_end, enum bug bug)
{
	u32 turns = 0;

	while (at < options_end && (bug == ENDLESS_OPTIONS || turns++ < MAX_OPTIONS)) {
		u8 kind = at[0], length;

		if (kind == TCP_OPTION_END)
			break;
		if (kind == TCP_OPTION_NOP) {
			at += 1;
			continue;
		}
		if (at + 2 > options_end)
			break;
		length = at[1];
		if (length < 2 && bug != ENDLESS_OPTIONS)
			break;
		if (kind == TCP_OPTION_MSS && length == 4) {
			if (at + 4 > options_end)
				break;
			return at[2] << 8 | at[3];
		}
		at += length;
	}
	return 0;
}

INLINE int tcp_verdict(u8 *at, u8 *end, enum bug bug)
{
	struct tcp *tcp = (void *)at;
	u32 length, size;

	if ((u8 *)(tcp + 1) > end)
		return XDP_PASS;
	length = (tcp->data_offset >> 4) * 4;
	if (length < sizeof(*tcp))
		return XDP_PASS;
	if (bug != MISSING_CHECK && at + length > end)
		return XDP_PASS;
	if (tcp->to_port != NET16(PROTECTED_PORT) || !(tcp->flags & TCP_FLAG_SYN))
		return XDP_PASS;
	size = segment_size((u8 *)(tcp + 1), at + length, bug);
	return size && size < LEAST_MSS ? XDP_DROP : XDP_PASS;
}

INLINE int udp_verdict(u8 *at, u8 *end, u32 vlans, enum bug bug)
{
	struct udp *udp = (void *)at;

	if ((u8 *)(udp + 1) > end)
		return XDP_PASS;
	if (bug == ODD_VERDICT && vlans == MAX_VLANS && udp->to_port == NET16(DNS_PORT))
		return XDP_REDIRECT + vlans;
	return XDP_PASS;
}

INLINE int parse(struct xdp_md *ctx, enum bug bug)
{
	u8 *at = (u8 *)(long)ctx->data;
	u8 *end = (u8 *)(long)ctx->data_end;
	struct ethernet *eth = (void *)at;
	u32 vlans = 0, turn;
	u8 protocol;
	u16 type;

	at += sizeof(*eth);
	if (at > end)
		return XDP_PASS;
	type = eth->type;

	while (vlans < MAX_VLANS && (type == NET16(ETHERTYPE_VLAN) || type == NET16(ETHERTYPE_QINQ))) {
		struct vlan *vlan = (void *)at;

		at += sizeof(*vlan);
		if (at > end)
			return XDP_PASS;
		type = vlan->type;
		vlans += 1;
	}

	if (type == NET16(ETHERTYPE_IPV4)) {
		struct ipv4 *ip = (void *)at;
		u32 length;

		if ((u8 *)(ip + 1) > end)
			return XDP_PASS;
		length = (ip->version_and_words & 15) * 4;
		if (ip->version_and_words >> 4 != 4 || length < sizeof(*ip))
			return XDP_PASS;
		protocol = ip->protocol;
		at += length;
	} else if (type == NET16(ETHERTYPE_IPV6)) {
		struct ipv6 *ip = (void *)at;

		if ((u8 *)(ip + 1) > end || ip->version_and_class >> 4 != 6)
			return XDP_PASS;
		protocol = ip->next;
		at += sizeof(*ip);
		for (turn = 0; turn < MAX_EXTENSIONS; turn++) {
			struct extension *extension = (void *)at;

			if (protocol != IPV6_HOP_BY_HOP && protocol != IPV6_ROUTING && protocol != IPV6_DESTINATION)
				break;
			if ((u8 *)(extension + 1) > end)
				return XDP_PASS;
			protocol = extension->next;
			at += (extension->length + 1) * 8;
		}
	} else {
		return XDP_PASS;
	}

	if (protocol == PROTOCOL_TCP)
		return tcp_verdict(at, end, bug);
	if (protocol == PROTOCOL_UDP)
		return udp_verdict(at, end, vlans, bug);
	return XDP_PASS;
}

SEC("xdp")
int parse_right(struct xdp_md *ctx)
{
	return parse(ctx, NO_BUG);
}

SEC("xdp")
int parse_missing_check(struct xdp_md *ctx)
{
	return parse(ctx, MISSING_CHECK);
}

SEC("xdp")
int parse_endless(struct xdp_md *ctx)
{
	return parse(ctx, ENDLESS_OPTIONS);
}

SEC("xdp")
int parse_odd_verdict(struct xdp_md *ctx)
{
	return parse(ctx, ODD_VERDICT);
}

FIXTURE_LICENSE;
