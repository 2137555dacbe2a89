// SPDX-License-Identifier: MIT OR Apache-2.0
/* A linear congruential generator, Knuth's MMIX: one long chain of multiplications.
 *
 * Memory: the seed, u64. 32 steps a byte of memory.
 * r0 = the sum of the high halves of all states. */
#include "bench.h"

PROGRAM(lcg)
{
	u64 state = *(u64 *)mem;
	u64 sum = 0;
	u64 i;

	ROLLED
	for (i = 0; i < len * 32; i++) {
		state = state * 6364136223846793005 + 1442695040888963407;
		sum += state >> 32;
	}
	return sum;
}
