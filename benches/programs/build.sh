#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Rebuilds NAME.bpf.o from NAME.bpf.c. Needs clang-19 and llvm-strip-19, and no headers.
# Another version of clang makes other instructions, and so other figures.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

CLANG=${CLANG:-clang-19}
STRIP=${STRIP:-llvm-strip-19}

for source in *.bpf.c; do
	object=${source%.c}.o
	debug=()
	[[ $source != maps.* ]] || debug=(-g) # .maps is described in BTF
	# Freestanding: a loop that fills memory must not become a call of memset.
	"$CLANG" -O2 "${debug[@]}" -target bpf -mcpu=v2 -std=gnu11 -ffreestanding \
		-Wall -Wextra -Wno-unused-parameter \
		-ffile-prefix-map="$PWD"=. -fdebug-compilation-dir=. \
		-c "$source" -o "$object"
	"$STRIP" -g "$object" # drops DWARF, keeps .BTF and .BTF.ext
done
