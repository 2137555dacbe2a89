// SPDX-License-Identifier: MIT OR Apache-2.0
/* Static functions that helpers call back: bpf_loop, bpf_for_each_map_elem.
 *
 * The address of such a function is a 64-bit immediate load with a relocation
 * against .text, which a loader turns into BPF_PSEUDO_FUNC.  What each program
 * returns on Linux 6.18 stands above it; none depends on the order of a hash. */
#include "fixture.h"

#define ELEMENTS 16

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ELEMENTS);
	__type(key, u32);
	__type(value, u64);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ELEMENTS);
	__type(key, u32);
	__type(value, u64);
} percpu_array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2 * ELEMENTS);
	__type(key, u32);
	__type(value, u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u32);
	__type(value, u64);
} lru_hash SEC(".maps");

struct totals {
	u64 sum;
	u64 calls;
	u64 stop; /* end after so many calls, 0 for never */
};

/* Always 0.  The verifier does not know that: it would follow counters that start
 * with a constant through every call. */
volatile u64 zero;

#define TOTALS(end) { .sum = zero, .calls = zero, .stop = (end) }

static long add_index(u32 index, struct totals *totals)
{
	totals->sum += index;
	totals->calls += 1;
	return totals->calls == totals->stop;
}

static long add_rows(u32 index, struct totals *totals)
{
	bpf_loop(index, add_index, totals, 0);
	return 0;
}

/* 4950 + 100 */
SEC("tc")
int loop_all(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(0);

	return bpf_loop(100, add_index, &totals, 0) + totals.sum;
}

/* 8 + 28 */
SEC("tc")
int loop_some(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(8);

	return bpf_loop(100, add_index, &totals, 0) + totals.sum;
}

/* 10 * 1000 + 0 + 1 + ... + 9 calls */
SEC("tc")
int loop_nested(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(0);

	return bpf_loop(10, add_rows, &totals, 0) * 1000 + totals.calls;
}

/* -E2BIG * 100 - EINVAL */
SEC("tc")
int loop_refused(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(0);

	return bpf_loop((8 << 20) + 1, add_index, &totals, 0) * 100 + bpf_loop(1, add_index, &totals, skb->len);
}

static long add_element(void *map, const u32 *key, const u64 *value, struct totals *totals)
{
	totals->sum += *key * *value;
	totals->calls += 1;
	return totals->calls == totals->stop;
}

static long fill(u32 index, void *map)
{
	u64 value = 3 * index;

	bpf_map_update_elem(&array, &index, &value, 0);
	bpf_map_update_elem(&percpu_array, &index, &value, 0);
	bpf_map_update_elem(&hash, &index, &value, 0);
	bpf_map_update_elem(&lru_hash, &index, &value, 0);
	return 0;
}

/* 4 * (16 * 10000 + 3720) */
SEC("tc")
int each_element(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(0);
	long visited;

	bpf_loop(ELEMENTS, fill, NULL, 0);
	visited = bpf_for_each_map_elem(&array, add_element, &totals, 0);
	visited += bpf_for_each_map_elem(&percpu_array, add_element, &totals, 0);
	visited += bpf_for_each_map_elem(&hash, add_element, &totals, 0);
	visited += bpf_for_each_map_elem(&lru_hash, add_element, &totals, 0);
	return visited * 10000 + totals.sum;
}

/* 5 + 5, and 3 * (0 + 1 + 4 + 9 + 16) of the array */
SEC("tc")
int each_of_some(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(5);
	struct totals others = TOTALS(5);
	long visited;

	bpf_loop(ELEMENTS, fill, NULL, 0);
	visited = bpf_for_each_map_elem(&array, add_element, &totals, 0);
	visited += bpf_for_each_map_elem(&hash, add_element, &others, 0);
	return visited * 10000 + totals.sum;
}

static long delete_element(void *map, u32 *key, u64 *value, struct totals *totals)
{
	u32 copy = *key;

	totals->calls += 1;
	bpf_map_delete_elem(&hash, &copy);
	return 0;
}

static long count_element(void *map, u32 *key, u64 *value, struct totals *totals)
{
	totals->calls += 1;
	return 0;
}

/* 16 visited, none left */
SEC("tc")
int each_deleted(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(0);
	long visited;

	bpf_loop(ELEMENTS, fill, NULL, 0);
	visited = bpf_for_each_map_elem(&hash, delete_element, &totals, 0);
	return visited * 10000 + totals.calls * 100 + bpf_for_each_map_elem(&hash, count_element, &totals, 0);
}

static long replace_element(void *map, u32 *key, u64 *value, struct totals *totals)
{
	u64 changed = *value + 1;
	u32 copy = *key;

	totals->calls += 1;
	bpf_map_update_elem(&hash, &copy, &changed, BPF_EXIST);
	return 0;
}

/* 16 visited, each replaced once: 3720 + 120 */
SEC("tc")
int each_replaced(struct __sk_buff *skb)
{
	struct totals replaced = TOTALS(0);
	struct totals totals = TOTALS(0);
	long visited;

	bpf_loop(ELEMENTS, fill, NULL, 0);
	visited = bpf_for_each_map_elem(&hash, replace_element, &replaced, 0);
	bpf_for_each_map_elem(&hash, add_element, &totals, 0);
	return visited * 10000 + totals.sum;
}

static long each_row(void *map, u32 *key, u64 *value, struct totals *totals)
{
	u64 before = *key;

	bpf_for_each_map_elem(&hash, count_element, totals, 0);
	/* The walk inside has a key of its own. */
	return *key != before;
}

/* 16 visited, each of them with 16 inside */
SEC("tc")
int each_nested(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(0);
	long visited;

	bpf_loop(ELEMENTS, fill, NULL, 0);
	visited = bpf_for_each_map_elem(&hash, each_row, &totals, 0);
	return visited * 10000 + totals.calls;
}

/* -EINVAL */
SEC("tc")
int each_refused(struct __sk_buff *skb)
{
	struct totals totals = TOTALS(0);

	return bpf_for_each_map_elem(&hash, count_element, &totals, skb->len);
}

FIXTURE_LICENSE;
