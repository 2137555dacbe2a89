// SPDX-License-Identifier: MIT OR Apache-2.0
/* Parses and classifies packets: compares, short branches, byte and 16-bit loads.
 *
 * Memory: 8 counters of u64; then packets, each a u16 with its length, its bytes, and
 * a byte of padding if the length is odd; a length of 0 is the end. Eight passes.
 * r0 = over the counters, sum = sum * 31 + counter; and the flows of all packets. */
#include "packet.h"

PROGRAM(packets)
{
	u64 *counters = (u64 *)mem;
	const u8 *end = mem + len;
	u64 flows = 0;
	u64 sum = 0;
	u64 pass, i;

	ROLLED
	for (i = 0; i < CLASSES; i++)
		((volatile u64 *)counters)[i] = 0;
	for (pass = 0; pass < 8; pass++) {
		const u8 *at = mem + CLASSES * 8;

		while (at + 2 <= end) {
			u64 length = *(const u16 *)at;
			struct parsed parsed;

			if (!length || at + 2 + length > end)
				break;
			parsed = parse(at + 2, at + 2 + length);
			counters[parsed.class] += length;
			flows += parsed.flow + pass;
			at += 2 + ((length + 1) & ~1ULL);
		}
	}
	ROLLED
	for (i = 0; i < CLASSES; i++)
		sum = sum * 31 + counters[i];
	return sum + flows;
}
