// SPDX-License-Identifier: MIT OR Apache-2.0
/* One bug per program.  The kernel's verifier refuses them (but for one, see
 * there); a virtual machine must run up to the bug and then name it.  Where C could not keep the
 * bug through the optimiser, a line of assembly says exactly what is meant. */
#include "fixture.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, u32);
	__type(value, u64[2]); /* 16 bytes */
} table SEC(".maps");

volatile const u32 setting = 5;

/* Read the byte after a 16-byte map value (which has a neighbour). */
SEC("kprobe/past_map_value")
int past_map_value(struct pt_regs *ctx)
{
	u32 key = 0;
	u8 *value = bpf_map_lookup_elem(&table, &key);

	if (!value)
		return -1;
	return *(volatile u8 *)(value + 16);
}

/* Use what lookup returned, without the null check; the key does not exist. */
SEC("kprobe/null_map_value")
int null_map_value(struct pt_regs *ctx)
{
	u32 key = 99;
	u64 *value = bpf_map_lookup_elem(&table, &key);

	return *(volatile u64 *)value;
}

/* Check for 14 bytes of packet, then read the 15th. */
SEC("xdp")
int past_packet_end(struct xdp_md *ctx)
{
	u8 *data = (u8 *)(long)ctx->data;
	u8 *end = (u8 *)(long)ctx->data_end;

	if (data + 14 > end)
		return XDP_DROP;
	return *(volatile u8 *)(data + 14) ? XDP_PASS : XDP_ABORTED;
}

/* Write below the 512 bytes of one frame. */
SEC("kprobe/out_of_stack")
int out_of_stack(struct pt_regs *ctx)
{
	asm volatile("*(u64 *)(r10 - 520) = %0" : : "r"(ctx) : "memory");
	return 0;
}

/* Read a stack slot that nobody wrote.  The kernel lets root do so. */
SEC("kprobe/uninitialised_stack")
int uninitialised_stack(struct pt_regs *ctx)
{
	u64 junk;

	asm volatile("%0 = *(u64 *)(r10 - 64)" : "=r"(junk));
	return junk;
}

/* Two frames of 304 bytes: each is allowed, the sum is not.  (As a kprobe
 * Linux 6.18 accepts it: there the frames need not share one stack.) */
LOCAL u64 big_frame(u64 x)
{
	asm volatile("*(u64 *)(r10 - 304) = %0" : : "r"(x) : "memory");
	return x;
}

SEC("xdp")
int frames_too_big(struct xdp_md *ctx)
{
	asm volatile("*(u64 *)(r10 - 304) = %0" : : "r"(ctx) : "memory");
	return big_frame(1);
}

/* Never ends. */
SEC("kprobe/endless_loop")
int endless_loop(struct pt_regs *ctx)
{
	u64 turns = 0;

	for (;;) {
		turns += 1;
		asm volatile("" : "+r"(turns));
	}
	return turns;
}

/* Each call adds one frame; eight are allowed. */
LOCAL u64 dive(u64 depth)
{
	volatile u64 here = depth;

	if (depth == 0)
		return 0;
	return dive(depth - 1) + here;
}

SEC("kprobe/deep_recursion")
int deep_recursion(struct pt_regs *ctx)
{
	return dive(20);
}

/* The section is mapped read-only. */
SEC("kprobe/write_rodata")
int write_rodata(struct pt_regs *ctx)
{
	*(volatile u32 *)&setting = 6;
	return setting;
}

/* No such helper. */
SEC("kprobe/unknown_helper")
int unknown_helper(struct pt_regs *ctx)
{
	u64 (*helper)(void *) = (void *)0xbad2310;

	return helper(ctx);
}

/* r0 is never set. */
SEC("kprobe/no_return_value")
__attribute__((naked)) int no_return_value(struct pt_regs *ctx)
{
	asm volatile("exit");
}

FIXTURE_LICENSE;
