#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Rebuilds every fixture: NAME.bpf.o from NAME.bpf.c, and the golden disassembly
# NAME.bpf.objdump.
#
# Needs clang-19, llvm-strip-19, llvm-objdump-19, and the headers of libbpf and of
# the kernel's user API.  Another version of clang makes other instructions: then
# the goldens and tags.txt change too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

CLANG=${CLANG:-clang-19}
STRIP=${STRIP:-llvm-strip-19}
OBJDUMP=${OBJDUMP:-llvm-objdump-19}

# asm/types.h lives in a folder named after the build machine's architecture.
arch_headers=/usr/include/$(uname -m)-linux-gnu

cpu_of() {
	case $1 in
	readlinkat) echo v1 ;;
	cpuv4 | everyop) echo v4 ;;
	*) echo v3 ;;
	esac
}

for source in *.bpf.c; do
	name=${source%.bpf.c}
	cpu=$(cpu_of "$name")

	# The prefix maps keep folders of this machine out of the debug information.
	"$CLANG" -O2 -g -target bpf -mcpu="$cpu" -std=gnu11 \
		-Wall -Wextra -Wno-unused-parameter -Wno-infinite-recursion \
		-ffile-prefix-map="$PWD"=. -ffile-prefix-map=/usr/include=include \
		-fdebug-compilation-dir=. \
		-idirafter "$arch_headers" \
		-c "$source" -o "$name.bpf.o"
	"$STRIP" -g "$name.bpf.o" # drops DWARF, keeps .BTF and .BTF.ext
done

# Without --mcpu, llvm-objdump-19 takes 32-bit loads, stores and atomics for their
# 64-bit relatives: it prints r1 for w1, and <unknown> for most 32-bit atomics.
# The .v4 goldens show these as they are.
for object in *.o; do
	"$OBJDUMP" -d "$object" >"${object%.o}.objdump"
done
for name in cpuv4 everyop; do
	"$OBJDUMP" -d --mcpu=v4 "$name.bpf.o" >"$name.bpf.v4.objdump"
done
