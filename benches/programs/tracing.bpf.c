// SPDX-License-Identifier: MIT OR Apache-2.0
/* About 5,000 instructions in a row, as a large tracing program executes them: it reads
 * registers, mixes them, compares now and then, and keeps results on the stack.
 *
 * Memory: struct pt_regs, 21 words of u64.
 * r0 = a hash of everything. */
#include "bench.h"

#define STEP(n)                                            \
	do {                                               \
		u64 value = regs[(n) % 21];                \
							   \
		if (value & (1ULL << ((n) % 31)))          \
			value += kept[(n) % 8];            \
		hash = (hash ^ value) * 0x9e3779b1 + (n);  \
		hash ^= hash >> 29;                        \
		kept[(n) % 8] = hash;                      \
	} while (0)
#define STEPS4(n) do { STEP(n); STEP((n) + 1); STEP((n) + 2); STEP((n) + 3); } while (0)
#define STEPS16(n) do { STEPS4(n); STEPS4((n) + 4); STEPS4((n) + 8); STEPS4((n) + 12); } while (0)
#define STEPS64(n) do { STEPS16(n); STEPS16((n) + 16); STEPS16((n) + 32); STEPS16((n) + 48); } while (0)

ENTRY("kprobe/tracing", tracing)(u8 *mem, u64 len)
{
	const volatile u64 *regs = (const volatile u64 *)mem;
	volatile u64 kept[8];
	u64 hash = 0;
	u32 i;

	(void)len;
	ROLLED
	for (i = 0; i < 8; i++)
		kept[i] = i;
	STEPS64(0);
	STEPS64(64);
	STEPS64(128);
	STEPS64(192);
	STEPS64(256);
	STEPS16(320);
	STEPS16(336);
	STEPS16(352);
	return hash;
}
