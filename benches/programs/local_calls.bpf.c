// SPDX-License-Identifier: MIT OR Apache-2.0
/* A function of the program called in a loop, which calls another.
 *
 * As many rounds as the memory has bytes. r0 = what they make of each other. */
#include "bench.h"

LOCAL u64 inner(u64 a, u64 b)
{
	return (a ^ b) * 0x9e3779b97f4a7c15;
}

LOCAL u64 outer(u64 a, u64 b)
{
	return inner(a, b) + inner(b, a >> 1);
}

PROGRAM(local_calls)
{
	u64 sum = 0;
	u64 i;

	(void)mem;
	ROLLED
	for (i = 0; i < len; i++)
		sum = outer(sum, i);
	return sum;
}
