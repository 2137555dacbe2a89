// SPDX-License-Identifier: MIT OR Apache-2.0
/* The product of two square matrices: loads, multiplications, nested loops.
 *
 * Memory: three n x n matrices A, B, C of u32, row after row; n is the greatest
 * number with 12 * n * n <= length. The program writes C = A * B modulo 2^32.
 * r0 = over the elements of C in order, sum = sum * 31 + element. */
#include "bench.h"

PROGRAM(matmul)
{
	u64 n = 0;
	u64 sum = 0;
	u64 row, col, i;
	u32 *a, *b, *c;

	while (12 * (n + 1) * (n + 1) <= len)
		n++;
	a = (u32 *)mem;
	b = a + n * n;
	c = b + n * n;

	for (row = 0; row < n; row++) {
		for (col = 0; col < n; col++) {
			u32 element = 0;

			ROLLED
			for (i = 0; i < n; i++)
				element += a[row * n + i] * b[i * n + col];
			c[row * n + col] = element;
			sum = sum * 31 + element;
		}
	}
	return sum;
}
