// SPDX-License-Identifier: MIT OR Apache-2.0
/* Maps, one program a type: 256 rounds of lookups and updates with scattered keys.
 *
 * r0 = how many calls did what they should, whatever the maps held before. No context. */
#include "bench.h"

#define __uint(name, value) int(*name)[value]
#define __type(name, value) typeof(value) *name

enum { HASH = 1, ARRAY = 2, PERCPU_HASH = 5, PERCPU_ARRAY = 6, LRU_HASH = 9 };

static void *(*const lookup)(void *map, const void *key) = (void *)1;
static long (*const update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const delete)(void *map, const void *key) = (void *)3;

#define MAP(map, kind, entries)                   \
	struct {                                  \
		__uint(type, kind);               \
		__uint(max_entries, entries);     \
		__type(key, u32);                 \
		__type(value, u64);               \
	} map SEC(".maps")

MAP(an_array, ARRAY, 1024);
MAP(a_percpu_array, PERCPU_ARRAY, 1024);
MAP(a_hash, HASH, 1024);
MAP(a_percpu_hash, PERCPU_HASH, 1024);
MAP(an_lru_hash, LRU_HASH, 256);

#define ROUNDS 256
#define KEYS 512 /* LRU: twice what the map holds */

/* Keys 0 to KEYS - 1 in an order without a pattern. */
#define FOR_EACH_KEY(key) \
	ROLLED            \
	for (i = 0, key = 7; i < ROUNDS; i++, key = (key * 1664525 + 1013904223) & (KEYS - 1))

/* Look up and add in place. */
#define COUNT_IN(map)                                    \
	do {                                             \
		u64 done = 0;                            \
		u32 key, i;                              \
							 \
		FOR_EACH_KEY(key) {                      \
			u32 copy = key;                  \
			u64 *value = lookup(&map, &copy); \
							 \
			if (value) {                     \
				*value += i;             \
				done++;                  \
			}                                \
		}                                        \
		return done;                             \
	} while (0)

/* Update, then look up. */
#define UPDATE_IN(map)                                               \
	do {                                                         \
		u64 done = 0;                                        \
		u32 key, i;                                          \
								     \
		FOR_EACH_KEY(key) {                                  \
			u32 copy = key;                              \
			u64 put = i + 1;                             \
			u64 *value;                                  \
								     \
			done += update(&map, &copy, &put, 0) == 0;   \
			value = lookup(&map, &copy);                 \
			done += value && *value == put;              \
		}                                                    \
		return done;                                         \
	} while (0)

SEC("xdp") int map_array_lookup(void *ctx) { COUNT_IN(an_array); }
SEC("xdp") int map_array_update(void *ctx) { UPDATE_IN(an_array); }
SEC("xdp") int map_percpu_array(void *ctx) { COUNT_IN(a_percpu_array); }
SEC("xdp") int map_hash_update(void *ctx) { UPDATE_IN(a_hash); }
SEC("xdp") int map_percpu_hash(void *ctx) { UPDATE_IN(a_percpu_hash); }
SEC("xdp") int map_lru_hash(void *ctx) { UPDATE_IN(an_lru_hash); }

/* Insert and delete in turn, so that nothing stays. */
SEC("xdp") int map_hash_churn(void *ctx)
{
	u64 done = 0;
	u32 key, i;

	FOR_EACH_KEY(key) {
		u32 copy = key | KEYS; /* keys of its own */
		u64 put = i;

		done += update(&a_hash, &copy, &put, 1 /* BPF_NOEXIST */) == 0;
		done += delete(&a_hash, &copy) == 0;
	}
	return done;
}

/* Lookups of keys that are there: 512 of them, put there by the harness. */
SEC("xdp") int map_hash_lookup(void *ctx) { COUNT_IN(a_hash); }

char _license[] SEC("license") = "Dual MIT/GPL";
