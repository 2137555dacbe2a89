// SPDX-License-Identifier: MIT OR Apache-2.0
/* Lengths of Collatz sequences: branches that nobody can predict.
 *
 * Memory: n words of u32, then room for n more. The low 16 bits of a word, plus 1,
 * start a sequence; its number of steps is written to the second half.
 * r0 = (longest sequence << 32) | sum of all steps. */
#include "bench.h"

PROGRAM(collatz)
{
	u32 *starts = (u32 *)mem;
	u64 count = len / 8;
	u64 longest = 0;
	u64 sum = 0;
	u64 i;

	for (i = 0; i < count; i++) {
		u64 n = (starts[i] & 0xffff) + 1;
		u64 steps = 0;

		while (n != 1) {
			n = n & 1 ? 3 * n + 1 : n / 2;
			steps++;
		}
		starts[count + i] = steps;
		sum += steps;
		if (steps > longest)
			longest = steps;
	}
	return longest << 32 | (u32)sum;
}
