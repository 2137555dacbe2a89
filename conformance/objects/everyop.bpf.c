// SPDX-License-Identifier: MIT OR Apache-2.0
/* Every instruction form that clang-19's BPF assembler knows, with small,
 * negative and extreme immediates and offsets.  It computes nothing and is never
 * run: it is the golden text for assemblers and disassemblers.
 *
 * Not here, because clang 19 does not know them: load-acquire, store-release,
 * goto by register, 64-bit legacy packet loads, ldsx into a 32-bit register. */
#include "fixture.h"

#define LINE(text) text "\n"

/* Values at the edges of a 32-bit immediate. */
#define EACH_IMMEDIATE(BEFORE, AFTER)                                   \
	LINE(BEFORE "0" AFTER) LINE(BEFORE "1" AFTER)                   \
	LINE(BEFORE "-1" AFTER) LINE(BEFORE "9" AFTER)                  \
	LINE(BEFORE "10" AFTER) LINE(BEFORE "-10" AFTER)                \
	LINE(BEFORE "0x7fffffff" AFTER) LINE(BEFORE "-0x80000000" AFTER)

/* Values at the edges of a 16-bit offset. */
#define EACH_OFFSET(BEFORE, AFTER)                                      \
	LINE(BEFORE "+ 0" AFTER) LINE(BEFORE "+ 1" AFTER)               \
	LINE(BEFORE "- 1" AFTER) LINE(BEFORE "+ 16" AFTER)              \
	LINE(BEFORE "- 16" AFTER) LINE(BEFORE "+ 32767" AFTER)          \
	LINE(BEFORE "- 32768" AFTER)

/* dst op= src and dst op= imm, 64 and 32 bits wide. */
#define ALU(op)                                                         \
	LINE("r1 " op " r2") LINE("r0 " op " r10") LINE("r9 " op " r8") \
	LINE("w1 " op " w2") LINE("w9 " op " w8")                       \
	EACH_IMMEDIATE("r3 " op " ", "") EACH_IMMEDIATE("w4 " op " ", "")

/* Shift amounts that make sense. */
#define SHIFT(op)                                                       \
	LINE("r1 " op " r2") LINE("w1 " op " w2") LINE("r3 " op " 0")   \
	LINE("r3 " op " 1") LINE("r3 " op " 63") LINE("w4 " op " 0")    \
	LINE("w4 " op " 1") LINE("w4 " op " 31")

/* One memory operand at every offset; BEFORE and AFTER stand around it. */
#define MEMORY(BEFORE, type, AFTER) EACH_OFFSET(BEFORE "*(" type " *)(r2 ", ")" AFTER)

#define STORE_IMMEDIATE(type)                                           \
	MEMORY("", type, " = 1")                                        \
	EACH_IMMEDIATE("*(" type " *)(r10 - 8) = ", "")

#define ATOMIC(op)                                                      \
	EACH_OFFSET("lock *(u64 *)(r2 ", ") " op " r3")                 \
	EACH_OFFSET("lock *(u32 *)(r2 ", ") " op " w3")

#define ATOMIC_FETCH(name)                                              \
	EACH_OFFSET("r3 = " name "((u64 *)(r2 ", "), r3)")              \
	EACH_OFFSET("w3 = " name "((u32 *)(r2 ", "), w3)")

/* A condition by register and immediate, both widths; near, back, far. */
#define JUMP(op)                                                        \
	LINE("if r1 " op " r2 goto +0") LINE("if r1 " op " r2 goto -1") \
	LINE("if r9 " op " r10 goto +32767")                            \
	LINE("if r9 " op " r10 goto -32768")                            \
	LINE("if w1 " op " w2 goto +10") LINE("if w1 " op " w2 goto -10") \
	EACH_IMMEDIATE("if r3 " op " ", " goto +1")                     \
	EACH_IMMEDIATE("if w4 " op " ", " goto -2")                     \
	LINE("if r5 " op " 5 goto there_%=")

GLOBAL u64 called(u64 x)
{
	return x;
}

LOCAL u64 called_by_offset(u64 x)
{
	asm volatile("" : "+r"(x));
	return x;
}

SEC("socket")
__attribute__((naked)) int everyop(void *ctx)
{
	asm volatile(
	/* Arithmetic and logic */
	ALU("=") ALU("+=") ALU("-=") ALU("*=") ALU("/=") ALU("%%=")
	ALU("s/=") ALU("s%%=") ALU("&=") ALU("|=") ALU("^=")
	SHIFT("<<=") SHIFT(">>=") SHIFT("s>>=")
	LINE("r1 = -r1") LINE("r9 = -r9") LINE("w1 = -w1") LINE("w9 = -w9")

	/* Sign-extending moves */
	LINE("r1 = (s8)r2") LINE("r1 = (s16)r2") LINE("r1 = (s32)r2")
	LINE("r9 = (s32)r10") LINE("w1 = (s8)w2") LINE("w1 = (s16)w2")

	/* Byte order */
	LINE("r1 = be16 r1") LINE("r1 = be32 r1") LINE("r1 = be64 r1")
	LINE("r2 = le16 r2") LINE("r2 = le32 r2") LINE("r2 = le64 r2")
	LINE("r3 = bswap16 r3") LINE("r3 = bswap32 r3") LINE("r3 = bswap64 r3")

	/* Loads */
	MEMORY("r1 = ", "u8", "") MEMORY("r1 = ", "u16", "")
	MEMORY("r1 = ", "u32", "") MEMORY("r1 = ", "u64", "")
	MEMORY("w1 = ", "u8", "") MEMORY("w1 = ", "u16", "")
	MEMORY("w1 = ", "u32", "")
	MEMORY("r1 = ", "s8", "") MEMORY("r1 = ", "s16", "")
	MEMORY("r1 = ", "s32", "")

	/* Stores */
	MEMORY("", "u8", " = r1") MEMORY("", "u16", " = r1")
	MEMORY("", "u32", " = r1") MEMORY("", "u64", " = r1")
	MEMORY("", "u8", " = w1") MEMORY("", "u16", " = w1")
	MEMORY("", "u32", " = w1")
	STORE_IMMEDIATE("u8") STORE_IMMEDIATE("u16")
	STORE_IMMEDIATE("u32") STORE_IMMEDIATE("u64")

	/* Atomics */
	ATOMIC("+=") ATOMIC("&=") ATOMIC("|=") ATOMIC("^=")
	ATOMIC_FETCH("atomic_fetch_add") ATOMIC_FETCH("atomic_fetch_and")
	ATOMIC_FETCH("atomic_fetch_or") ATOMIC_FETCH("atomic_fetch_xor")
	EACH_OFFSET("r3 = xchg_64(r2 ", ", r3)")
	EACH_OFFSET("w3 = xchg32_32(r2 ", ", w3)")
	EACH_OFFSET("r0 = cmpxchg_64(r2 ", ", r0, r3)")
	EACH_OFFSET("w0 = cmpxchg32_32(r2 ", ", w0, w3)")

	/* Conditional jumps */
	JUMP("==") JUMP("!=") JUMP(">") JUMP(">=") JUMP("<") JUMP("<=")
	JUMP("s>") JUMP("s>=") JUMP("s<") JUMP("s<=") JUMP("&")

	/* Jumps */
	LINE("goto +0") LINE("goto +5") LINE("goto -5") LINE("goto -1")
	LINE("goto +32767") LINE("goto -32768") LINE("goto there_%=")
	LINE("gotol +0") LINE("gotol +5") LINE("gotol -5") LINE("gotol -1")
	LINE("gotol +32767") LINE("gotol -32768")
	/* The assembler takes 16 bits here; the format has 32.  So in raw words. */
	LINE(".long 6, 0x7fffffff") LINE(".long 6, 0x80000000")
	LINE("gotol there_%=")
	LINE("may_goto +0") LINE("may_goto +5") LINE("may_goto -5")
	LINE("may_goto +32767") LINE("may_goto -32768")
	LINE("may_goto there_%=")
	LINE("there_%=:")

	/* Calls: a helper, a subprogram by name and by section, a register */
	LINE("call 1") LINE("call 0") LINE("call -1") LINE("call 0x7fffffff")
	LINE("call %[global]") LINE("call %[local]")
	LINE("callx r1") LINE("callx r9")

	/* 64-bit immediates, in two slots */
	LINE("r1 = 0 ll") LINE("r1 = 1 ll") LINE("r1 = -1 ll")
	LINE("r1 = 0x7fffffff ll") LINE("r1 = 0x80000000 ll")
	LINE("r1 = 0xffffffff ll") LINE("r1 = 0x100000000 ll")
	LINE("r1 = 0x123456789abcdef0 ll") LINE("r1 = 0x7fffffffffffffff ll")
	LINE("r9 = -0x8000000000000000 ll")
	LINE("r1 = %[global] ll") LINE("ld_pseudo r1, 1, 5")
	LINE("ld_pseudo r1, 2, 5")

	/* Legacy packet loads */
	LINE("r0 = *(u8 *)skb[0]") LINE("r0 = *(u8 *)skb[23]")
	LINE("r0 = *(u16 *)skb[12]") LINE("r0 = *(u32 *)skb[26]")
	LINE("r0 = *(u8 *)skb[-1]") LINE("r0 = *(u32 *)skb[0x7fffffff]")
	LINE("r0 = *(u32 *)skb[-0x80000000]")
	LINE("r0 = *(u8 *)skb[r1]") LINE("r0 = *(u16 *)skb[r7]")
	LINE("r0 = *(u32 *)skb[r9]")

	/* Address spaces (arena) */
	LINE("r1 = addr_space_cast(r2, 0, 1)")
	LINE("r1 = addr_space_cast(r2, 1, 0)")
	LINE("r3 = addr_space_cast(r4, 0x7fff, 1)")

	LINE("exit")
	: : [global] "i"(called), [local] "i"(called_by_offset));
}

FIXTURE_LICENSE;
