// SPDX-License-Identifier: MIT OR Apache-2.0
/* Runs the benchmarks natively and prints what r0 must be.  See build.sh. */
#include <stdio.h>
#include "bench.h"

static u8 mem[16384] __attribute__((aligned(8)));

static void run(const char *name, u64 (*bench)(u8 *, u64), u64 len)
{
	u64 fnv = 0xcbf29ce484222325;
	u64 i, r0;

	for (i = 0; i < len; i++)
		mem[i] = i * 7 + 3;
	r0 = bench(mem, len);
	for (i = 0; i < len; i++)
		fnv = (fnv ^ mem[i]) * 0x100000001b3;
	printf("%-14s %6llu 0x%016llx 0x%016llx\n", name, (unsigned long long)len, (unsigned long long)r0,
	       (unsigned long long)fnv);
}

int main(void)
{
	static const u64 lengths[] = { 0, 1024, 4096, 12288, 16384 };
	unsigned i;

	printf("# Byte i of the memory is i * 7 + 3 (modulo 256) before the run.\n");
	printf("# benchmark   length r0                 FNV-1a 64 of the memory after\n");
	for (i = 0; i < 5; i++)
		run("bench_collatz", bench_collatz, lengths[i]);
	for (i = 0; i < 5; i++)
		run("bench_sha256", bench_sha256, lengths[i]);
	for (i = 0; i < 5; i++)
		run("bench_matmul", bench_matmul, lengths[i]);
	return 0;
}
