// SPDX-License-Identifier: MIT OR Apache-2.0
/* A helper called in a loop: bpf_get_current_pid_tgid, or what stands for it.
 *
 * As many calls as the memory has bytes. r0 = the sum of the results and numbers. */
#include "bench.h"

PROGRAM(helper_calls)
{
	u64 sum = 0;
	u64 i;

	(void)mem;
	ROLLED
	for (i = 0; i < len; i++)
		sum += helper() ^ i;
	return sum;
}
