// SPDX-License-Identifier: MIT OR Apache-2.0
/* Shell sort with Knuth's gaps: nested loops, compares and exchanges in memory.
 *
 * Memory: room for words of u32, which the program fills with random numbers.
 * r0 = the sum of each sorted element times its place, from 1. */
#include "bench.h"

PROGRAM(shellsort)
{
	u32 *words = (u32 *)mem;
	u64 count = len / 4;
	u64 state = 42;
	u64 gap = 1;
	u64 sum = 0;
	u64 i;

	ROLLED
	for (i = 0; i < count; i++) {
		state = state * 6364136223846793005 + 1442695040888963407;
		words[i] = state >> 32;
	}
	while (gap < count / 3)
		gap = 3 * gap + 1;
	for (; gap > 0; gap /= 3) {
		for (i = gap; i < count; i++) {
			u32 word = words[i];
			u64 at = i;

			while (at >= gap && words[at - gap] > word) {
				words[at] = words[at - gap];
				at -= gap;
			}
			words[at] = word;
		}
	}
	ROLLED
	for (i = 0; i < count; i++)
		sum += words[i] * (i + 1);
	return sum;
}
