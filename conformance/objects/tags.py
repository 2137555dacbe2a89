#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Prints the tags of every program in the given objects.

A tag is the first 8 bytes of a hash over a program's instructions, as they are
after linking, with both immediates of each map reference zeroed.  Older
kernels hash with SHA-1, Linux 6.18 with SHA-256.

Written for the fixtures in this folder, on purpose without any library, so that it
can check softbpf and be checked by eye.  It links as libbpf does: each subprogram
of .text that a program calls is appended when its first call is met, and its own
calls are followed before the next call of its caller.

It also asks the running kernel, as root: it loads each object with bpftool, reads
the tags, and unloads it; nothing is attached.  Set BPFFS to the folder of a mounted
bpf file system.
"""

import hashlib
import json
import os
import struct
import subprocess
import sys

LDDW, CALL, MAP_FD, MAP_VALUE, PSEUDO_CALL, PSEUDO_FUNC = 0x18, 0x85, 1, 2, 1, 4
SHT_SYMTAB, SHT_REL, STT_SECTION, STT_FUNC, EXECUTABLE = 2, 9, 3, 2, 4


class Elf:
    def __init__(self, data):
        shoff, = struct.unpack_from("<Q", data, 40)
        count, names = struct.unpack_from("<HH", data, 60)
        heads = [struct.unpack_from("<IIQQQQIIQQ", data, shoff + 64 * i) for i in range(count)]

        def string(table, at):
            start = heads[table][4] + at
            return data[start:data.index(b"\0", start)].decode()

        self.flags = [h[2] for h in heads]
        self.names = [string(names, h[0]) for h in heads]
        self.bytes = [data[h[4]:h[4] + h[5]] if h[1] != 8 else b"" for h in heads]
        self.symbols, self.relocs = [], {}
        for i, h in enumerate(heads):
            if h[1] == SHT_SYMTAB:
                for name, info, _, section, value, size in struct.iter_unpack("<IBBHQQ", self.bytes[i]):
                    self.symbols.append((string(h[6], name), info & 15, section, value, size))
        for i, h in enumerate(heads):
            if h[1] == SHT_REL:
                for offset, info in struct.iter_unpack("<QQ", self.bytes[i]):
                    self.relocs[(h[7], offset // 8)] = self.symbols[info >> 32]


def functions(elf):
    """Name -> (section, first instruction, count)."""
    for name, kind, section, value, size in elf.symbols:
        if kind == STT_FUNC and elf.flags[section] & EXECUTABLE:
            yield name, (section, value // 8, size // 8)


def link(elf, main, by_start):
    """The instructions of one program, as [code, registers, offset, immediate]."""
    out, placed = [], {}

    def append(section, first, count):
        base = len(out)
        placed[(section, first)] = base
        text = elf.bytes[section]
        out.extend(list(i) for i in struct.iter_unpack("<BBhi", text[first * 8:(first + count) * 8]))
        for i in range(count):
            insn = out[base + i]
            symbol = elf.relocs.get((section, first + i))
            target = None
            if insn[0] == CALL and insn[1] >> 4 == PSEUDO_CALL:
                if symbol:
                    target = (symbol[2], symbol[3] // 8 + insn[3] + 1)
                else:
                    target = (section, first + i + insn[3] + 1)
            elif insn[0] == LDDW and symbol and elf.flags[symbol[2]] & EXECUTABLE:
                target = (symbol[2], (symbol[3] + insn[3]) // 8)
                insn[1] = insn[1] & 15 | PSEUDO_FUNC << 4
                out[base + i + 1][3] = 0
            elif insn[0] == LDDW and symbol:
                is_map = elf.names[symbol[2]] in (".maps", "maps")
                insn[1] = insn[1] & 15 | (MAP_FD if is_map else MAP_VALUE) << 4
            if target:
                if target not in placed:
                    append(*by_start[target])
                insn[3] = placed[target] - (base + i) - 1

    append(*main)
    return out


def hashed_bytes(insns):
    skip = False
    for code, regs, off, imm in insns:
        is_map = code == LDDW and regs >> 4 in (MAP_FD, MAP_VALUE)
        yield struct.pack("<BBhi", code, regs, off, 0 if is_map or skip else imm)
        skip = is_map


def kernel_tags(path):
    """Program -> tag, as bpftool reports them; nothing when the load is refused."""
    folder = os.path.join(os.environ["BPFFS"], "softbpf_tags")
    load = subprocess.run(["bpftool", "prog", "loadall", path, folder], capture_output=True, check=False)
    tags = {}
    if load.returncode == 0:
        for name in os.listdir(folder):
            pinned = os.path.join(folder, name)
            shown = subprocess.run(["bpftool", "-j", "prog", "show", "pinned", pinned], capture_output=True, check=True)
            tags[name] = json.loads(shown.stdout)["tag"]
            os.unlink(pinned)
        os.rmdir(folder)
    return tags


def main():
    rows = [("# object", "program", "sha1", "kernel_6.18", "sha256")]
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            elf = Elf(file.read())
        found = dict(functions(elf))
        by_start = {where[:2]: where for where in found.values()}
        kernel = kernel_tags(path)
        for name, where in found.items():
            if elf.names[where[0]] != ".text":
                text = b"".join(hashed_bytes(link(elf, where, by_start)))
                sha1, sha256 = (h(text).hexdigest()[:16] for h in (hashlib.sha1, hashlib.sha256))
                rows.append((path, name, sha1, kernel.get(name, "-"), sha256))
    for row in rows:
        print("{:<20} {:<20} {:<16} {:<16} {}".format(*row))


main()
