// SPDX-License-Identifier: MIT OR Apache-2.0
/* The parser of packet.h as an XDP program; natively it takes the packet's memory.
 *
 * r0 = the action: drop what is too short and every other UDP flow, send the others
 * back, pass the rest. */
#include "packet.h"

enum action { XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX };

INLINE u64 act(const u8 *data, const u8 *end)
{
	struct parsed parsed = parse(data, end);

	if (parsed.class == TOO_SHORT)
		return XDP_DROP;
	if (parsed.class == IPV4_UDP || parsed.class == IPV6_UDP)
		return parsed.flow & 1 ? XDP_TX : XDP_DROP;
	return XDP_PASS;
}

#ifdef __bpf__
struct xdp_md {
	u32 data;
	u32 data_end;
};

SEC("xdp") int xdp_parse(struct xdp_md *ctx)
{
	return act((const u8 *)(long)ctx->data, (const u8 *)(long)ctx->data_end);
}

char _license[] SEC("license") = "Dual MIT/GPL";
#else
PROGRAM(xdp_parse)
{
	return act(mem, mem + len);
}
#endif
