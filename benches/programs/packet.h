/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Parsing of one packet, for the program that walks a buffer of them and for the
 * XDP program: Ethernet, up to two VLAN tags, IPv4 with options or IPv6, TCP or UDP.
 * Headers are read field by field, as packets align nothing. */
#ifndef PACKET_H
#define PACKET_H

#include "bench.h"

enum class { TOO_SHORT, NOT_IP, IPV4_OTHER, IPV4_TCP, IPV4_UDP, IPV6_OTHER, IPV6_TCP, IPV6_UDP, CLASSES };

struct parsed {
	u32 class;
	u32 flow; /* addresses and ports, folded */
};

INLINE struct parsed parse(const u8 *at, const u8 *end)
{
	struct parsed parsed = { TOO_SHORT, 0 };
	u32 protocol, i;
	u16 type;

	if (at + 14 > end)
		return parsed;
	type = NET16(*(const u16 *)(at + 12));
	at += 14;
#pragma clang loop unroll(full)
	for (i = 0; i < 2; i++) {
		if (type != 0x8100 && type != 0x88a8)
			break;
		if (at + 4 > end)
			return parsed;
		type = NET16(*(const u16 *)(at + 2));
		at += 4;
	}

	if (type == 0x0800) {
		u32 header;

		if (at + 20 > end)
			return parsed;
		header = (at[0] & 15) * 4;
		if (at[0] >> 4 != 4 || header < 20)
			return parsed;
		protocol = at[9];
		parsed.flow = *(const u32 *)(at + 12) ^ *(const u32 *)(at + 16);
		parsed.class = IPV4_OTHER;
		if (NET16(*(const u16 *)(at + 6)) & 0x1fff)
			return parsed; /* a later fragment has no ports */
		at += header;
	} else if (type == 0x86dd) {
		if (at + 40 > end)
			return parsed;
		protocol = at[6];
		parsed.flow = *(const u32 *)(at + 8) ^ *(const u32 *)(at + 20) ^ *(const u32 *)(at + 24) ^
			      *(const u32 *)(at + 36);
		parsed.class = IPV6_OTHER;
		at += 40;
	} else {
		parsed.class = NOT_IP;
		return parsed;
	}

	if (protocol == 6 && at + 20 <= end)
		parsed.class += 1;
	else if (protocol == 17 && at + 8 <= end)
		parsed.class += 2;
	else
		return parsed;
	parsed.flow ^= *(const u32 *)at;
	return parsed;
}

#endif
