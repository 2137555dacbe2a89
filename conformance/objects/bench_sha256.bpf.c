// SPDX-License-Identifier: MIT OR Apache-2.0
/* Benchmark: SHA-256 (FIPS 180-4).  Long straight runs of arithmetic and logic,
 * with many registers spilled to the stack.
 *
 * r1 = memory; r2 = its length in bytes, any length.  The memory is only read.
 * r0 = the first 8 bytes of the hash, as a big-endian number (so the first 16
 * hex digits of what sha256sum prints).
 *
 * The table of constants is written to the stack first, so the object has no
 * relocation. */
#include "bench.h"

/* Write one constant.  The compiler may not know it: else it would make a .rodata
 * table of all of them, or keep them all in spilled registers at once. */
#define SET(word, constant)                           \
	do {                                          \
		u32 hidden = constant;                \
		asm volatile("" : "+r"(hidden));      \
		(word) = hidden;                      \
		asm volatile("" : : : "memory");      \
	} while (0)

#define K(i, constant) SET(k[i], constant)

#define ROTATE(x, n) ((x) >> (n) | (x) << (32 - (n)))

/* The byte at `at` of the padded message. */
static inline __attribute__((always_inline)) u32 padded(const u8 *mem, u64 len, u64 total, u64 at)
{
	if (at < len)
		return mem[at];
	if (at == len)
		return 0x80;
	if (at >= total - 8)
		return (u8)((len * 8) >> (8 * (total - 1 - at)));
	return 0;
}

SEC("socket")
u64 bench_sha256(u8 *mem, u64 len)
{
	u32 k[64];
	u64 total = (len + 9 + 63) / 64 * 64;
	volatile u32 hash[8];
	u64 block;

	SET(hash[0], 0x6a09e667); SET(hash[1], 0xbb67ae85); SET(hash[2], 0x3c6ef372); SET(hash[3], 0xa54ff53a);
	SET(hash[4], 0x510e527f); SET(hash[5], 0x9b05688c); SET(hash[6], 0x1f83d9ab); SET(hash[7], 0x5be0cd19);

	K(0, 0x428a2f98); K(1, 0x71374491); K(2, 0xb5c0fbcf); K(3, 0xe9b5dba5);
	K(4, 0x3956c25b); K(5, 0x59f111f1); K(6, 0x923f82a4); K(7, 0xab1c5ed5);
	K(8, 0xd807aa98); K(9, 0x12835b01); K(10, 0x243185be); K(11, 0x550c7dc3);
	K(12, 0x72be5d74); K(13, 0x80deb1fe); K(14, 0x9bdc06a7); K(15, 0xc19bf174);
	K(16, 0xe49b69c1); K(17, 0xefbe4786); K(18, 0x0fc19dc6); K(19, 0x240ca1cc);
	K(20, 0x2de92c6f); K(21, 0x4a7484aa); K(22, 0x5cb0a9dc); K(23, 0x76f988da);
	K(24, 0x983e5152); K(25, 0xa831c66d); K(26, 0xb00327c8); K(27, 0xbf597fc7);
	K(28, 0xc6e00bf3); K(29, 0xd5a79147); K(30, 0x06ca6351); K(31, 0x14292967);
	K(32, 0x27b70a85); K(33, 0x2e1b2138); K(34, 0x4d2c6dfc); K(35, 0x53380d13);
	K(36, 0x650a7354); K(37, 0x766a0abb); K(38, 0x81c2c92e); K(39, 0x92722c85);
	K(40, 0xa2bfe8a1); K(41, 0xa81a664b); K(42, 0xc24b8b70); K(43, 0xc76c51a3);
	K(44, 0xd192e819); K(45, 0xd6990624); K(46, 0xf40e3585); K(47, 0x106aa070);
	K(48, 0x19a4c116); K(49, 0x1e376c08); K(50, 0x2748774c); K(51, 0x34b0bcb5);
	K(52, 0x391c0cb3); K(53, 0x4ed8aa4a); K(54, 0x5b9cca4f); K(55, 0x682e6ff3);
	K(56, 0x748f82ee); K(57, 0x78a5636f); K(58, 0x84c87814); K(59, 0x8cc70208);
	K(60, 0x90befffa); K(61, 0xa4506ceb); K(62, 0xbef9a3f7); K(63, 0xc67178f2);

	for (block = 0; block < total; block += 64) {
		volatile u32 w[16]; /* the last 16 words of the schedule */
		volatile u32 s[8];  /* a..h; round i finds a at index -i */
		u64 i;

#pragma clang loop unroll(disable)
		for (i = 0; i < 16; i++) {
			u32 word = 0;
			u64 byte;

#pragma clang loop unroll(disable)
			for (byte = 0; byte < 4; byte++)
				word = word << 8 | padded(mem, len, total, block + 4 * i + byte);
			w[i] = word;
		}
#pragma clang loop unroll(disable)
		for (i = 0; i < 8; i++)
			s[i] = hash[i];

#pragma clang loop unroll(disable)
		for (i = 0; i < 64; i++) {
			u32 word = w[i & 15];
			u32 a, e, t;

			if (i >= 16) {
				u32 old = w[(i + 1) & 15], new = w[(i + 14) & 15];

				word += (ROTATE(old, 7) ^ ROTATE(old, 18) ^ old >> 3) + w[(i + 9) & 15] +
					(ROTATE(new, 17) ^ ROTATE(new, 19) ^ new >> 10);
				w[i & 15] = word;
			}
			e = s[(4 - i) & 7];
			t = s[(7 - i) & 7] + k[i] + word + (ROTATE(e, 6) ^ ROTATE(e, 11) ^ ROTATE(e, 25)) +
			    ((e & s[(5 - i) & 7]) ^ (~e & s[(6 - i) & 7]));
			s[(3 - i) & 7] += t; /* d becomes e */
			a = s[-i & 7];
			t += (ROTATE(a, 2) ^ ROTATE(a, 13) ^ ROTATE(a, 22)) +
			     ((a & s[(1 - i) & 7]) ^ (a & s[(2 - i) & 7]) ^ (s[(1 - i) & 7] & s[(2 - i) & 7]));
			s[(7 - i) & 7] = t;  /* h becomes a */
		}
#pragma clang loop unroll(disable)
		for (i = 0; i < 8; i++)
			hash[i] += s[i];
	}
	return (u64)hash[0] << 32 | hash[1];
}

FIXTURE_LICENSE;
