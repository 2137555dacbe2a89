// SPDX-License-Identifier: MIT OR Apache-2.0
/* Subprograms and global data.
 *
 * Static functions (called by offset, some through a section symbol) and global
 * functions (called by name), three calls deep, with buffers on each frame's
 * stack; .data, .bss, .rodata and a bounded loop.  Two entry programs share
 * `digest`, so a loader must append it, and what it calls, to each of them. */
#include "fixture.h"

#define BUFFER 48

u32 salt = 0x1234;               /* .data: the embedder may change it */
u64 entries = 0;                 /* .bss: counts the runs of both programs */
u8 last_buffer[BUFFER];          /* .bss: what the last run hashed */
const volatile u32 rounds = 3;   /* .rodata: a setting, at most 8 */
static const u8 weights[8] = { 1, 3, 5, 7, 11, 13, 17, 19 }; /* .rodata */

/* Level 3: one step of the hash. */
LOCAL u32 mix(u32 hash, u32 byte)
{
	return (hash ^ byte) * 16777619;
}

/* Level 2: hash a buffer of the caller's frame, by way of its own. */
LOCAL u32 hash_buffer(const u8 *from)
{
	volatile u8 copy[BUFFER];
	u32 hash = 2166136261u;
	int i;

	for (i = 0; i < BUFFER; i++)
		copy[i] = from[i] ^ weights[i & 7];
	for (i = 0; i < BUFFER; i++)
		hash = mix(hash, copy[i]);
	return hash;
}

/* Level 1, shared by both programs: fill a buffer from a seed and hash it. */
GLOBAL u32 digest(u32 seed)
{
	u8 buffer[BUFFER] = {};
	u32 hash = 0;
	u32 round;
	int i;

#pragma clang loop unroll(disable)
	for (round = 0; round < 8; round++) {
		if (round >= rounds)
			break;
		for (i = 0; i < BUFFER; i++)
			buffer[i] = seed + i * (round + 1);
		hash ^= hash_buffer(buffer);
	}
	__builtin_memcpy(last_buffer, buffer, BUFFER);
	return hash;
}

/* A global function that takes the context. */
GLOBAL u32 seed_of(struct __sk_buff *skb)
{
	return skb->len + salt;
}

/* With the settings as they stand: a packet of 100 bytes has the digest 0x3d721975
 * and passes (0), one of 50 bytes has 0x2457d575 and is dropped (2). */
SEC("tc")
int classify(struct __sk_buff *skb)
{
	u32 hash = digest(seed_of(skb));

	entries += 1;
	bpf_printk("digest %x of %u bytes", hash, skb->len);
	return hash & 0x10000 ? 2 : 0; /* TC_ACT_SHOT : TC_ACT_OK */
}

/* Returns 0x87891703 with the settings as they stand, whatever the packet. */
SEC("socket")
int filter(struct __sk_buff *skb)
{
	entries += 1;
	return mix(digest(7), salt);
}

FIXTURE_LICENSE;
