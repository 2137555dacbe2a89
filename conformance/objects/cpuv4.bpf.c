// SPDX-License-Identifier: MIT OR Apache-2.0
/* The instructions that -mcpu=v4 adds (and the atomics of v3), as the compiler
 * uses them.  Built with -mcpu=v4.
 *
 * No program reads its context.  Each returns one 32-bit value, given above it:
 * worked out apart from this code, and also what Linux 6.18 returned in a test
 * run. */
#include "fixture.h"

/* The compiler may not know this value, so it cannot compute ahead. */
#define hide(x) ({ typeof(x) hidden_ = (x); asm volatile("" : "+r"(hidden_)); hidden_; })

/* Fold one more value into the result. */
#define fold(hash, x) ((hash) = (hash) * 31 + (u32)(x))

/* Expected: 0xbf8c9d32.  -7 / 2 is -3: signed division truncates. */
SEC("socket")
int sdiv(void *ctx)
{
	u32 hash = 0;

	fold(hash, hide((s64)-7) / hide((s64)2));                      /* r s/= r: -3 */
	fold(hash, hide((s64)-7000000000000) / 1000);                  /* r s/= imm: -7000000000 */
	fold(hash, hide((s32)-7) / hide((s32)-2));                     /* w s/= w: 3 */
	fold(hash, hide((s32)100) / -7);                               /* w s/= imm: -14 */
	return hash;
}

/* Expected: 0xffff8f03.  -7 % 2 is -1: the sign is the dividend's. */
SEC("socket")
int smod(void *ctx)
{
	u32 hash = 0;

	fold(hash, hide((s64)-7) % hide((s64)2));                      /* r s%= r: -1 */
	fold(hash, hide((s64)7000000000001) % 1000);                   /* r s%= imm: 1 */
	fold(hash, hide((s32)-7) % hide((s32)-4));                     /* w s%= w: -3 */
	fold(hash, hide((s32)-100) % 7);                               /* w s%= imm: -2 */
	return hash;
}

/* Expected: 0x30e83c53. */
SEC("socket")
int movsx(void *ctx)
{
	u64 hash = 0;
	u64 x = 0x123456789abcdef0;

	hash = hash * 31 + (s64)(s8)hide(x);                           /* r = (s8)r: -0x10 */
	hash = hash * 31 + (s64)(s16)hide(x);                          /* r = (s16)r: -0x2110 */
	hash = hash * 31 + (s64)(s32)hide(x);                          /* r = (s32)r: -0x65432110 */
	hash = hash * 31 + (u32)(s32)(s8)hide((u32)x);                 /* w = (s8)w: 0xfffffff0 */
	hash = hash * 31 + (u32)(s32)(s16)hide((u32)x);                /* w = (s16)w: 0xffffdef0 */
	return hash ^ (hash >> 32);
}

/* Expected: 0x7663b05e. */
SEC("socket")
int ldsx(void *ctx)
{
	union {
		volatile u64 all;
		struct {
			volatile s8 byte;
			volatile s8 next;
			volatile s16 half;
			volatile s32 word;
		};
	} u;
	u64 hash = 0;

	u.all = 0x89abcdef8182f3f4;
	hash = hash * 31 + (s64)u.byte;                                /* s8: -0xc */
	hash = hash * 31 + (s64)u.half;                                /* s16: -0x7e7f */
	hash = hash * 31 + (s64)u.word;                                /* s32: -0x76543211 */
	return hash ^ (hash >> 32);
}

/* Expected: 0x113fb6f4. */
SEC("socket")
int bswap(void *ctx)
{
	u64 x = 0x0123456789abcdef;
	u32 hash = 0;

	fold(hash, __builtin_bswap16(hide((u16)x)));                   /* 0xefcd */
	fold(hash, __builtin_bswap32(hide((u32)x)));                   /* 0xefcdab89 */
	fold(hash, __builtin_bswap64(hide(x)) >> 32);                  /* 0xefcdab89 */
	fold(hash, __builtin_bswap64(hide(x)));                        /* 0x67452301 */
	return hash;
}

/* Expected: 42.  The compiler emits gotol only for far targets, so ask for it. */
SEC("socket")
int far_jump(void *ctx)
{
	asm volatile goto("gotol %l[there]" : : : : there);
	return 1;
there:
	return 42;
}

/* Expected: 0xa2c8b889.  Every atomic operation, 64 and 32 bits wide, with
 * and without its old value. */
SEC("socket")
int atomics(void *ctx)
{
	u64 wide = 0x1111222233334444;
	u32 narrow = 0x55556666;
	u32 hash = 0;

	/* Without fetch: lock *(u64 *)... += r, and so on. */
	__sync_fetch_and_add(&wide, 0x100000001);
	__sync_fetch_and_and(&wide, ~0xf0ul);
	__sync_fetch_and_or(&wide, 0xf00);
	__sync_fetch_and_xor(&wide, 0xff);
	__sync_fetch_and_add(&narrow, 7);
	__sync_fetch_and_and(&narrow, ~0xf0);
	__sync_fetch_and_or(&narrow, 0xf00);
	__sync_fetch_and_xor(&narrow, 0xff);
	fold(hash, wide);
	fold(hash, wide >> 32);
	fold(hash, narrow);

	/* With fetch. */
	fold(hash, __sync_fetch_and_add(&wide, -1));
	fold(hash, __sync_fetch_and_and(&wide, 0xffffffff00ff));
	fold(hash, __sync_fetch_and_or(&wide, 0x8000));
	fold(hash, __sync_fetch_and_xor(&wide, 0x123));
	fold(hash, __sync_fetch_and_add(&narrow, -1));
	fold(hash, __sync_fetch_and_and(&narrow, 0xffff00ff));
	fold(hash, __sync_fetch_and_or(&narrow, 0x8000));
	fold(hash, __sync_fetch_and_xor(&narrow, 0x123));

	/* Exchange, and compare and exchange: one that fits, one that does not. */
	fold(hash, __sync_lock_test_and_set(&wide, 77));
	fold(hash, __sync_val_compare_and_swap(&wide, 77, 78));
	fold(hash, __sync_val_compare_and_swap(&wide, 77, 79));
	fold(hash, __sync_lock_test_and_set(&narrow, 87));
	fold(hash, __sync_val_compare_and_swap(&narrow, 87, 88));
	fold(hash, __sync_val_compare_and_swap(&narrow, 87, 89));
	fold(hash, wide);
	fold(hash, narrow);
	return hash;
}

FIXTURE_LICENSE;
