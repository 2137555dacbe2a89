// SPDX-License-Identifier: MIT OR Apache-2.0
/* Report each openat call through a ring buffer, and keep statistics.
 *
 * Long names go out by reserve and submit; an empty name is discarded; a name
 * that cannot be read goes out as a short record by bpf_ringbuf_output. */
#include "fixture.h"

/* Context of syscalls/sys_enter_openat, as its tracefs "format" file has it. */
struct sys_enter_openat {
	u16 common_type;
	u8 common_flags, common_preempt_count;
	s32 common_pid;
	s32 syscall_nr; /* offset 8 */
	u32 pad;
	s64 dfd;              /* offset 16 */
	const char *filename; /* offset 24 */
	s64 flags, mode;      /* offsets 32, 40 */
};

struct event {
	u32 tgid, tid;
	u32 uid, gid;
	u32 cpu, random;
	s64 name_length; /* with the final zero */
	char comm[16];
	char name[64];
};

struct failure {
	u32 tid;
	s32 error;
};

struct totals {
	u64 events;
	u64 failures;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 256 * 1024);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 64);
	__type(key, u32); /* thread id */
	__type(value, u64); /* time of its last event */
} last_seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 64);
	__type(key, u32); /* user id */
	__type(value, struct totals);
} totals SEC(".maps");

static __always_inline struct totals *totals_of(u32 uid)
{
	struct totals *found = bpf_map_lookup_elem(&totals, &uid);
	struct totals fresh = {};

	if (found)
		return found;
	bpf_map_update_elem(&totals, &uid, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&totals, &uid);
}

SEC("tracepoint/syscalls/sys_enter_openat")
int on_openat(struct sys_enter_openat *ctx)
{
	u64 pid_tgid = bpf_get_current_pid_tgid();
	u64 uid_gid = bpf_get_current_uid_gid();
	u32 tid = pid_tgid;
	u64 now = bpf_ktime_get_ns();
	struct totals *totals = totals_of((u32)uid_gid);
	struct event *event;

	bpf_map_update_elem(&last_seen, &tid, &now, BPF_ANY);

	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event)
		return 0;
	event->name_length = bpf_probe_read_user_str(event->name, sizeof(event->name), ctx->filename);

	if (event->name_length < 0) {
		struct failure failure = { .tid = tid, .error = event->name_length };

		bpf_ringbuf_discard(event, 0);
		bpf_ringbuf_output(&events, &failure, sizeof(failure), BPF_RB_NO_WAKEUP);
		if (totals)
			totals->failures += 1;
		return 0;
	}
	if (event->name_length <= 1) {
		bpf_ringbuf_discard(event, BPF_RB_NO_WAKEUP);
		return 0;
	}

	event->tgid = pid_tgid >> 32;
	event->tid = tid;
	event->uid = uid_gid;
	event->gid = uid_gid >> 32;
	event->cpu = bpf_get_smp_processor_id();
	event->random = bpf_get_prandom_u32();
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	bpf_ringbuf_submit(event, 0);

	if (totals)
		totals->events += 1;
	bpf_printk("openat by %d on cpu %d", tid, bpf_get_smp_processor_id());
	return 0;
}

FIXTURE_LICENSE;
