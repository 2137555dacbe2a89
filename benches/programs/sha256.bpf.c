// SPDX-License-Identifier: MIT OR Apache-2.0
/* SHA-256 (FIPS 180-4): 32-bit arithmetic and logic, with registers spilled.
 *
 * Memory: the 64 constants K, u32; room for a message schedule of 64 words; then the
 * message, whole blocks of 64 bytes.
 * r0 = the first 8 bytes of the hash, as a big-endian number. */
#include "bench.h"

#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))

/* Word i of the blocks, the padding being one block more. */
INLINE u32 word(const u32 *message, u64 words, u64 i)
{
	if (i < words)
		return NET32(message[i]);
	if (i == words)
		return 0x80000000;
	return i == words + 15 ? words * 32 : 0;
}

PROGRAM(sha256)
{
	const u32 *k = (const u32 *)mem;
	u32 *w = (u32 *)(mem + 256);
	const u32 *message = (const u32 *)(mem + 512);
	u64 words = (len - 512) / 4;
	u32 h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	u64 block, i;

	for (block = 0; block <= words; block += 16) {
		u32 a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], f = h[5], g = h[6], last = h[7];

		ROLLED
		for (i = 0; i < 16; i++)
			w[i] = word(message, words, block + i);
		ROLLED
		for (i = 16; i < 64; i++) {
			u32 s0 = w[i - 15], s1 = w[i - 2];

			s0 = ROTATE(s0, 7) ^ ROTATE(s0, 18) ^ s0 >> 3;
			s1 = ROTATE(s1, 17) ^ ROTATE(s1, 19) ^ s1 >> 10;
			w[i] = w[i - 16] + s0 + w[i - 7] + s1;
		}
		ROLLED
		for (i = 0; i < 64; i++) {
			u32 t = last + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) + ((e & f) ^ (~e & g)) +
				k[i] + w[i];
			u32 u = (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));

			last = g;
			g = f;
			f = e;
			e = d + t;
			d = c;
			c = b;
			b = a;
			a = t + u;
		}
		h[0] += a;
		h[1] += b;
		h[2] += c;
		h[3] += d;
		h[4] += e;
		h[5] += f;
		h[6] += g;
		h[7] += last;
	}
	return (u64)h[0] << 32 | h[1];
}
