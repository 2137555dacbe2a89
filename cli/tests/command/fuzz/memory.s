r3 = *(u64 *)(r1 + 112)
r1 = r10
r1 += -8
r2 = 8
call probe_read_kernel
r1 = *(u64 *)(r10 - 8)
if r1 != 0xbeef goto out
r0 = *(u8 *)(r1 + 0)
out: r0 = 0
exit
