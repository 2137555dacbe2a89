// SPDX-License-Identifier: MIT OR Apache-2.0
/* Who allocated the slab objects that are still alive?
 *
 * One map, filled when kmem_cache_alloc_node returns, emptied when
 * kmem_cache_free is called.  The same pair as the kernel's tracex4 sample, with
 * a BTF-defined map. */
#include "fixture.h"

struct pair {
	u64 time; /* nanoseconds since boot */
	u64 ip;   /* where the allocation was called from */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1000000);
	__type(key, u64); /* address of the object */
	__type(value, struct pair);
} my_map SEC(".maps");

/* void kmem_cache_free(struct kmem_cache *cache, void *object) */
SEC("kprobe/kmem_cache_free")
int bpf_prog1(struct pt_regs *ctx)
{
	u64 object = ctx->si;

	bpf_map_delete_elem(&my_map, &object);
	return 0;
}

/* void *kmem_cache_alloc_node(...) */
SEC("kretprobe/kmem_cache_alloc_node")
int bpf_prog2(struct pt_regs *ctx)
{
	u64 object = ctx->ax;
	u64 ip = 0;
	struct pair pair;

	/* The return address lies one word past the saved frame pointer. */
	bpf_probe_read_kernel(&ip, sizeof(ip), (void *)(ctx->bp + 8));

	pair.time = bpf_ktime_get_ns();
	pair.ip = ip;
	bpf_map_update_elem(&my_map, &object, &pair, BPF_ANY);
	return 0;
}

FIXTURE_LICENSE;
