call get_current_uid_gid
w0 = w0
if r0 != 4242 goto out
r2 = 7
*(u32 *)(r10 - 4) = r2
r2 = r10
r2 += -4
ld_pseudo r1, 0x1, 0x0, 0x0
call map_lookup_elem
if r0 == 0 goto out
r1 = *(u64 *)(r0 + 0)
if r1 != 0x1234 goto out
r0 = *(u8 *)(r1 + 0)
out: r0 = 0
exit
