// SPDX-License-Identifier: MIT OR Apache-2.0
/* Add kernel and user stack ids to the record of a thread that is inside
 * readlinkat, for one process only.
 *
 * Built with -mcpu=v1 (no 32-bit registers, no "less than" jumps), so that the
 * compiler must sign-extend an id by a pair of shifts. */
#include "fixture.h"

/* Settings: the loader writes them into .rodata before it loads the program. */
volatile const u32 filter_on = 0;   /* 0: record nothing at all */
volatile const u32 filter_tgid = 0; /* the process to record */

struct record {
	u64 entered_at;
	u64 left_at;
	u64 number;
	u64 result;
	u32 tgid;
	u32 tid;
	s32 kernel_stack; /* offset 40 */
	s32 user_stack;   /* offset 44 */
};

_Static_assert(sizeof(struct record) == 48, "record is 48 bytes");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, u32); /* thread id */
	__type(value, struct record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 1024);
	__uint(key_size, sizeof(u32));
	__uint(value_size, 127 * sizeof(u64));
} stacks SEC(".maps");

#define KERNEL_STACK BPF_F_FAST_STACK_CMP                    /* 512 */
#define USER_STACK (BPF_F_FAST_STACK_CMP | BPF_F_USER_STACK) /* 768 */

static __always_inline int is_filtered_out(u64 tgid)
{
	return filter_on && tgid != filter_tgid;
}

SEC("kprobe/sys_readlinkat")
int trace_readlinkat(struct pt_regs *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u32 tid = bpf_get_current_pid_tgid();
	struct record *record;
	s32 kernel_stack, user_stack;

	if (!filter_on || is_filtered_out(pid_tgid >> 32))
		return 0;

	record = bpf_map_lookup_elem(&records, &tid);
	if (!record)
		return 0;

	kernel_stack = bpf_get_stackid(ctx, &stacks, KERNEL_STACK);
	user_stack = bpf_get_stackid(ctx, &stacks, USER_STACK);
	if (kernel_stack > 0)
		record->kernel_stack = kernel_stack;
	if (user_stack > 0)
		record->user_stack = user_stack;
	return 0;
}

FIXTURE_LICENSE;
