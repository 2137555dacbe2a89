// SPDX-License-Identifier: MIT OR Apache-2.0
/* A state machine over text: words, numbers, strings with escapes, comments to the
 * end of the line. Byte loads and many branches.
 *
 * Memory: the text; a byte of 0, or the end of memory, ends it.
 * r0 = words, strings and comments in 16 bits each from the top, and the sum of the
 * numbers modulo 2^16. */
#include "bench.h"

enum state { BETWEEN, WORD, NUMBER, STRING, ESCAPE, COMMENT };

INLINE u32 is_letter(u8 c)
{
	return (u8)((c | 32) - 'a') < 26 || c == '_';
}

INLINE u32 is_digit(u8 c)
{
	return (u8)(c - '0') < 10;
}

PROGRAM(strings)
{
	u64 words = 0, strings = 0, comments = 0, sum = 0, number = 0;
	u32 state = BETWEEN;
	u64 i;

	ROLLED
	for (i = 0; i < len; i++) {
		u8 c = mem[i];

		if (!c)
			break;
		if (state == STRING) {
			if (c == '\\')
				state = ESCAPE;
			else if (c == '"')
				state = BETWEEN;
			continue;
		}
		if (state == ESCAPE) {
			state = STRING;
			continue;
		}
		if (state == COMMENT) {
			if (c == '\n')
				state = BETWEEN;
			continue;
		}
		if (state == NUMBER) {
			if (is_digit(c)) {
				number = number * 10 + (c - '0');
				continue;
			}
			sum += number;
		} else if (state == WORD && (is_letter(c) || is_digit(c))) {
			continue;
		}
		if (c == '"') {
			state = STRING;
			strings++;
		} else if (c == '#') {
			state = COMMENT;
			comments++;
		} else if (is_letter(c)) {
			state = WORD;
			words++;
		} else if (is_digit(c)) {
			state = NUMBER;
			number = c - '0';
		} else {
			state = BETWEEN;
		}
	}
	if (state == NUMBER)
		sum += number;
	return words << 48 | (strings & 0xffff) << 32 | (comments & 0xffff) << 16 | (sum & 0xffff);
}
