/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What every fixture here shares: short type names, the license, and the few
 * kernel structures that the programs read.  Written from their documented
 * layout; no vmlinux.h is needed. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;

/* The context of a kprobe on x86-64: the registers as the kernel saves them.
 * Function arguments stand in di, si, dx, cx, r8, r9; the return value in ax. */
struct pt_regs {
	u64 r15, r14, r13, r12;
	u64 bp, bx;             /* offsets  32,  40 */
	u64 r11, r10, r9, r8;
	u64 ax, cx, dx;         /* offsets  80,  88,  96 */
	u64 si, di;             /* offsets 104, 112 */
	u64 orig_ax;
	u64 ip, cs, flags, sp, ss;
};

#define GLOBAL __attribute__((noinline)) /* a subprogram others may call    */
#define LOCAL static __attribute__((noinline)) /* a subprogram of this file */

/* Helpers such as bpf_probe_read_kernel need a license that GPL code accepts. */
#define FIXTURE_LICENSE char _license[] SEC("license") = "Dual MIT/GPL"

#endif
