// SPDX-License-Identifier: MIT OR Apache-2.0
/* Socket filter with the legacy packet loads, which read big-endian and end the
 * program with 0 when they would read past the packet.
 *
 * legacy_loads passes (returns the length of) IPv4 UDP packets to port 53.
 * sum_bytes adds up the first 32 bytes of the packet, one indirect load each.
 *
 * Note for comparisons: the kernel's test run hands a socket filter the packet
 * without its first 14 bytes. */
#include "fixture.h"

long long load_byte(void *skb, long long at) asm("llvm.bpf.load.byte");
long long load_half(void *skb, long long at) asm("llvm.bpf.load.half");
long long load_word(void *skb, long long at) asm("llvm.bpf.load.word");

#define ETHERNET 14
#define SRC_ADDRESS (ETHERNET + 12)

SEC("socket")
int legacy_loads(struct __sk_buff *skb)
{
	u32 header;

	if (load_half(skb, 12) != 0x0800)         /* absolute, u16 */
		return 0;
	if (load_byte(skb, ETHERNET + 9) != 17)   /* absolute, u8 */
		return 0;
	if (load_word(skb, SRC_ADDRESS) == 0)     /* absolute, u32 */
		return 0;
	header = (load_byte(skb, ETHERNET) & 15) * 4;
	if (load_half(skb, ETHERNET + header + 2) != 53) /* indirect, u16 */
		return 0;
	if (load_word(skb, ETHERNET + header + 8) == 0)  /* indirect, u32 */
		return 0;
	return skb->len;
}

SEC("socket")
int sum_bytes(struct __sk_buff *skb)
{
	u32 sum = 0;
	u32 at;

	for (at = 0; at < 32; at++) {
		/* Hide the value, or the compiler would unroll to absolute loads. */
		asm volatile("" : "+r"(at));
		sum += load_byte(skb, at);        /* indirect, u8 */
	}
	return sum;
}

FIXTURE_LICENSE;
