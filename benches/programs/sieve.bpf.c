// SPDX-License-Identifier: MIT OR Apache-2.0
/* The sieve of Eratosthenes: byte stores with a stride.
 *
 * Memory: one byte a number.
 * r0 = (how many primes < length << 32) | their sum modulo 2^32. */
#include "bench.h"

PROGRAM(sieve)
{
	u64 count = 0;
	u64 sum = 0;
	u64 i, k;

	ROLLED
	for (i = 0; i < len; i++)
		mem[i] = 1;
	ROLLED
	for (i = 2; i < len; i++) {
		if (!mem[i])
			continue;
		count++;
		sum += i;
		ROLLED
		for (k = i * i; k < len; k += i)
			mem[k] = 0;
	}
	return count << 32 | (u32)sum;
}
