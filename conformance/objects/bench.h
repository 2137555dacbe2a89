/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The benchmarks compile for BPF, and natively for the expected results. */
#ifndef BENCH_H
#define BENCH_H

#ifdef __bpf__
#include "fixture.h"
#else
#include <stdint.h>
typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
#define SEC(name)
#define FIXTURE_LICENSE struct nothing
#endif

u64 bench_collatz(u8 *mem, u64 len);
u64 bench_sha256(u8 *mem, u64 len);
u64 bench_matmul(u8 *mem, u64 len);

#endif
