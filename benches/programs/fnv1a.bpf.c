// SPDX-License-Identifier: MIT OR Apache-2.0
/* FNV-1a, 64 bits: a load and a multiplication a byte.
 *
 * r0 = the hash of the memory. */
#include "bench.h"

PROGRAM(fnv1a)
{
	u64 hash = 0xcbf29ce484222325;
	u64 i;

	ROLLED
	for (i = 0; i < len; i++)
		hash = (hash ^ mem[i]) * 0x100000001b3;
	return hash;
}
