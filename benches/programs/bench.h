/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the benchmark programs share. Each source compiles twice: for BPF, and
 * natively for the baseline (feature `native-c`), where the helper is a call
 * through a pointer that the harness sets. */
#ifndef BENCH_H
#define BENCH_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define LOCAL static __attribute__((noinline)) /* a function of its own        */
#define INLINE static inline __attribute__((always_inline))

#ifdef __bpf__
#define SEC(name) __attribute__((section(name), used))
#define ENTRY(section, name) SEC(section) u64 name
static u64 (*const helper)(void) = (void *)14; /* bpf_get_current_pid_tgid */
#else
#define ENTRY(section, name) u64 bench_##name(u8 *mem, u64 len); u64 bench_##name
extern u64 (*bench_helper)(void);
#define helper bench_helper
#endif

/* A program whose r1 is memory, 8-byte aligned, and whose r2 is its length. It
 * gives the same r0 when it runs again on the memory as it left it. */
#define PROGRAM(name) ENTRY("syscall", name)(u8 *mem, u64 len)

/* The compiler may neither turn the loop into a call of memset, nor unroll it. */
#define ROLLED _Pragma("clang loop unroll(disable)")

#define NET16(x) ((u16)__builtin_bswap16(x))
#define NET32(x) __builtin_bswap32(x)

#endif
