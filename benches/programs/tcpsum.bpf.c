// SPDX-License-Identifier: MIT OR Apache-2.0
/* Verifies TCP checksums (RFC 1071, RFC 9293): 16-bit loads and additions.
 *
 * Memory: packets as in packets.bpf.c, each an IPv4 header of 20 bytes and a TCP
 * segment of even length.
 * r0 = (packets with the right checksum << 32) | the sum of all checksums as found. */
#include "bench.h"

PROGRAM(tcpsum)
{
	const u8 *end = mem + len;
	const u8 *at = mem;
	u64 right = 0;
	u64 all = 0;

	while (at + 22 <= end) {
		u64 length = *(const u16 *)at;
		const u8 *ip = at + 2;
		u64 sum, i;

		if (length < 40 || ip + length > end)
			break;
		/* The pseudo-header: addresses, protocol, length of the segment. */
		sum = NET16(6) + NET16(length - 20);
		for (i = 12; i < 20; i += 2)
			sum += *(const u16 *)(ip + i);
		ROLLED
		for (i = 20; i + 2 <= length; i += 2)
			sum += *(const u16 *)(ip + i);
		sum = (sum & 0xffff) + (sum >> 16);
		sum = (sum & 0xffff) + (sum >> 16);
		right += sum == 0xffff;
		all += sum;
		at += 2 + length;
	}
	return right << 32 | (u32)all;
}
