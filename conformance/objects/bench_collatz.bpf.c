// SPDX-License-Identifier: MIT OR Apache-2.0
/* Benchmark: lengths of Collatz sequences.  Branches and 64-bit arithmetic.
 *
 * r1 = memory, 4-byte aligned; r2 = its length in bytes, a multiple of 4.
 * Memory: little-endian u32 words; each word's low 16 bits plus 1 is a start
 * value.  The program writes each sequence's number of steps over its word.
 * r0 = (longest sequence << 32) | sum of all steps. */
#include "bench.h"

SEC("socket")
u64 bench_collatz(u8 *mem, u64 len)
{
	u32 *words = (u32 *)mem;
	u64 count = len / 4;
	u64 longest = 0;
	u64 sum = 0;
	u64 i;

	for (i = 0; i < count; i++) {
		u64 n = (words[i] & 0xffff) + 1;
		u64 steps = 0;

		while (n != 1) {
			n = n & 1 ? 3 * n + 1 : n / 2;
			steps++;
		}
		words[i] = steps;
		sum += steps;
		if (steps > longest)
			longest = steps;
	}
	return longest << 32 | (u32)sum;
}

FIXTURE_LICENSE;
