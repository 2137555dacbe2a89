// SPDX-License-Identifier: MIT OR Apache-2.0
/* SipHash-2-4 (Aumasson and Bernstein): additions, rotations and exclusive ors, with
 * everything in registers.
 *
 * Memory: the key, 16 bytes; then messages of 64 bytes.
 * r0 = the exclusive or of all hashes, rotated left by 1 bit before each. */
#include "bench.h"

#define ROTATE(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define MESSAGE 64

#define ROUND                                                     \
	do {                                                      \
		v0 += v1; v1 = ROTATE(v1, 13); v1 ^= v0; v0 = ROTATE(v0, 32); \
		v2 += v3; v3 = ROTATE(v3, 16); v3 ^= v2;          \
		v0 += v3; v3 = ROTATE(v3, 21); v3 ^= v0;          \
		v2 += v1; v1 = ROTATE(v1, 17); v1 ^= v2; v2 = ROTATE(v2, 32); \
	} while (0)

INLINE u64 hash_of(u64 k0, u64 k1, const u64 *message)
{
	u64 v0 = k0 ^ 0x736f6d6570736575;
	u64 v1 = k1 ^ 0x646f72616e646f6d;
	u64 v2 = k0 ^ 0x6c7967656e657261;
	u64 v3 = k1 ^ 0x7465646279746573;
	u64 i;

	ROLLED
	for (i = 0; i <= MESSAGE / 8; i++) {
		u64 word = i < MESSAGE / 8 ? message[i] : (u64)MESSAGE << 56;

		v3 ^= word;
		ROUND;
		ROUND;
		v0 ^= word;
	}
	v2 ^= 0xff;
	ROLLED
	for (i = 0; i < 4; i++)
		ROUND;
	return v0 ^ v1 ^ v2 ^ v3;
}

PROGRAM(siphash)
{
	const u64 *key = (const u64 *)mem;
	u64 all = 0;
	u64 at;

	for (at = 16; at + MESSAGE <= len; at += MESSAGE)
		all = ROTATE(all, 1) ^ hash_of(key[0], key[1], (const u64 *)(mem + at));
	return all;
}
