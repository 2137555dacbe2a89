// SPDX-License-Identifier: MIT OR Apache-2.0
/* CRC-32 (IEEE 802.3, reflected) by table: loads that depend on loads.
 *
 * Memory: 1024 bytes for the table, which the program makes, then the data.
 * r0 = the checksum of the data. */
#include "bench.h"

PROGRAM(crc32)
{
	u32 *table = (u32 *)mem;
	u32 crc = 0xffffffff;
	u64 i, bit;

	for (i = 0; i < 256; i++) {
		u32 word = i;

		ROLLED
		for (bit = 0; bit < 8; bit++)
			word = word & 1 ? word >> 1 ^ 0xedb88320 : word >> 1;
		table[i] = word;
	}
	ROLLED
	for (i = 1024; i < len; i++)
		crc = table[(u8)crc ^ mem[i]] ^ crc >> 8;
	return (u32)~crc;
}
