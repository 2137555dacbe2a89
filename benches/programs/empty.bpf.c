// SPDX-License-Identifier: MIT OR Apache-2.0
/* Nothing: what it costs to enter and leave a program. r0 = 0. */
#include "bench.h"

PROGRAM(empty)
{
	(void)mem;
	(void)len;
	return 0;
}
