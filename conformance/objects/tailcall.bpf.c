// SPDX-License-Identifier: MIT OR Apache-2.0
/* Tail calls.
 *
 * open_enter leaves a value in a per-CPU array and jumps to open_report, which
 * reports it as a perf event.  spin jumps to itself until the kernel's limit of
 * 33 tail calls stops it: it runs 34 times, then falls through.
 *
 * The two program arrays are filled by the object itself: their slots are
 * relocations in the .maps section. */
#include "fixture.h"

int open_report(struct pt_regs *ctx);
int spin(struct pt_regs *ctx);

enum slot { SLOT_REPORT = 1 };

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 4);
	__uint(key_size, sizeof(u32));
	__array(values, int(struct pt_regs *));
} programs SEC(".maps") = {
	.values = { [SLOT_REPORT] = (void *)&open_report },
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(u32));
	__array(values, int(struct pt_regs *));
} myself SEC(".maps") = {
	.values = { [0] = (void *)&spin },
};

struct message {
	u64 path;    /* first argument of the probed function */
	u32 flags;   /* third argument */
	u32 visited; /* one bit for each program that saw the message */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct message);
} scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(u32));
	__uint(value_size, sizeof(u32));
} events SEC(".maps");

/* [0] runs of spin, [1] how often its tail call fell through,
 * [2] how often open_enter's tail call fell through. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, u32);
	__type(value, u64);
} counters SEC(".maps");

static __always_inline void count(u32 index)
{
	u64 *counter = bpf_map_lookup_elem(&counters, &index);

	if (counter)
		*counter += 1;
}

SEC("kprobe/do_sys_open")
int open_enter(struct pt_regs *ctx)
{
	u32 zero = 0;
	struct message *message = bpf_map_lookup_elem(&scratch, &zero);

	if (!message)
		return 0;
	message->path = ctx->di;
	message->flags = ctx->dx;
	message->visited = 1;

	bpf_tail_call(ctx, &programs, SLOT_REPORT);

	/* Only reached when the slot is empty. */
	count(2);
	return 1;
}

SEC("kprobe/vfs_open")
int open_report(struct pt_regs *ctx)
{
	u32 zero = 0;
	struct message *message = bpf_map_lookup_elem(&scratch, &zero);
	struct message copy;

	if (!message)
		return 0;
	message->visited |= 2;
	copy = *message;
	bpf_perf_event_output(ctx, &events, BPF_F_CURRENT_CPU, &copy, sizeof(copy));
	return 2;
}

SEC("kprobe/vfs_read")
int spin(struct pt_regs *ctx)
{
	count(0);
	bpf_tail_call(ctx, &myself, 0);
	count(1);
	return 3;
}

FIXTURE_LICENSE;
