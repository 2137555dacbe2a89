//! The instruction set, written once.
//!
//! Rows and nothing else: one row an operation, with the bits and the quirk that select it, its spelling in each
//! assembly dialect, its RFC 9669 conformance group (section 2.4) and, as a comment, what it does in
//! register-transfer notation. Widths (32, 64) and sources (register, immediate) are not rows: an opcode is
//! class x operation x source, and the readers expand the product.
//!
//! Readers are short macros beside their consumers: [`crate::insn`] (the enums), [`crate::codec`] (bits),
//! [`crate::semantics`] (what is computed), [`crate::text`] (spelling), [`crate::interp`] (one arm each).
//! A row added here is an error at every exhaustive `match` that must learn of it.
//!
//! Sources: RFC 9669; `include/uapi/linux/bpf.h` and `kernel/bpf/disasm.c` for what came after it.

/// Arithmetic: class `ALU` (32-bit) and `ALU64`, source `K` (immediate) or `X` (register). RFC 9669 section 4.1.
///
/// Columns: name, operation code (high four bits of the opcode), `off` that selects it, symbol (LLVM and
/// bpftool), mnemonic (ubpf assembler), conformance group.
macro_rules! for_each_alu_op {
    ($reader:ident $($carry:tt)*) => {
        $reader! { $($carry)*
            Add  0x0 0 "+="   "add"  Base    // dst += src
            Sub  0x1 0 "-="   "sub"  Base    // dst -= src
            Mul  0x2 0 "*="   "mul"  DivMul  // dst *= src
            Div  0x3 0 "/="   "div"  DivMul  // dst = src ? dst / src : 0
            Sdiv 0x3 1 "s/="  "sdiv" DivMul  // dst = src ? dst s/ src : 0; MIN s/ -1 = MIN
            Or   0x4 0 "|="   "or"   Base    // dst |= src
            And  0x5 0 "&="   "and"  Base    // dst &= src
            Lsh  0x6 0 "<<="  "lsh"  Base    // dst <<= src & mask
            Rsh  0x7 0 ">>="  "rsh"  Base    // dst >>= src & mask, zeros come in
            Mod  0x9 0 "%="   "mod"  DivMul  // dst = src ? dst % src : dst
            Smod 0x9 1 "s%="  "smod" DivMul  // dst = src ? dst s% src : dst; MIN s% -1 = 0
            Xor  0xa 0 "^="   "xor"  Base    // dst ^= src
            Mov  0xb 0 "="    "mov"  Base    // dst = src
            Arsh 0xc 0 "s>>=" "arsh" Base    // dst s>>= src & mask, the sign comes in
        }
    };
}

/// Conditions: class `JMP` (64-bit compare) and `JMP32`, source `K` or `X`. RFC 9669 section 4.3.
///
/// Columns: name, operation code, symbol (LLVM and bpftool), mnemonic (ubpf assembler).
macro_rules! for_each_condition {
    ($reader:ident $($carry:tt)*) => {
        $reader! { $($carry)*
            Eq  0x1 "=="  "jeq"   // pc += off if dst == src
            Gt  0x2 ">"   "jgt"   // pc += off if dst > src
            Ge  0x3 ">="  "jge"   // pc += off if dst >= src
            Set 0x4 "&"   "jset"  // pc += off if dst & src
            Ne  0x5 "!="  "jne"   // pc += off if dst != src
            Sgt 0x6 "s>"  "jsgt"  // pc += off if dst s> src
            Sge 0x7 "s>=" "jsge"  // pc += off if dst s>= src
            Lt  0xa "<"   "jlt"   // pc += off if dst < src
            Le  0xb "<="  "jle"   // pc += off if dst <= src
            Slt 0xc "s<"  "jslt"  // pc += off if dst s< src
            Sle 0xd "s<=" "jsle"  // pc += off if dst s<= src
        }
    };
}

/// Read-modify-write atomics: class `STX`, mode `ATOMIC`, 32 and 64 bits, selected by `imm`. RFC 9669 section 5.3.
///
/// Columns: name, `imm`, symbol (of the plain form) or function name (of the fetching form).
macro_rules! for_each_atomic_op {
    ($reader:ident $($carry:tt)*) => {
        $reader! { $($carry)*
            Add      0x00 "+="         // *(dst + off) += src
            Or       0x40 "|="         // *(dst + off) |= src
            And      0x50 "&="         // *(dst + off) &= src
            Xor      0xa0 "^="         // *(dst + off) ^= src
            FetchAdd 0x01 "fetch_add"  // old = *(dst + off); *(dst + off) += src; src = old
            FetchOr  0x41 "fetch_or"   // old = *(dst + off); *(dst + off) |= src; src = old
            FetchAnd 0x51 "fetch_and"  // old = *(dst + off); *(dst + off) &= src; src = old
            FetchXor 0xa1 "fetch_xor"  // old = *(dst + off); *(dst + off) ^= src; src = old
            Xchg     0xe1 "xchg"       // old = *(dst + off); *(dst + off) = src; src = old
            Cmpxchg  0xf1 "cmpxchg"    // old = *(dst + off); if old == r0 { *(dst + off) = src }; r0 = old
        }
    };
}

/// Sizes of a memory access. RFC 9669 section 5, table 13.
///
/// Columns: name, size bits of the opcode, bytes, type (as LLVM and bpftool write it), suffix (ubpf assembler).
macro_rules! for_each_size {
    ($reader:ident $($carry:tt)*) => {
        $reader! { $($carry)*
            B  0x10 1 u8  "b"
            H  0x08 2 u16 "h"
            W  0x00 4 u32 "w"
            DW 0x18 8 u64 "dw"
        }
    };
}

/// Byte order conversions: operation `END`. RFC 9669 section 4.2. `imm` is the width: 16, 32 or 64.
///
/// Columns: name, class, source bit, spelling.
macro_rules! for_each_byte_order {
    ($reader:ident $($carry:tt)*) => {
        $reader! { $($carry)*
            Le    ALU   0x00 "le"     // dst = htole(dst), cut to the width
            Be    ALU   0x08 "be"     // dst = htobe(dst), cut to the width
            Bswap ALU64 0x00 "bswap"  // dst = bytes of dst reversed, cut to the width
        }
    };
}

/// All tables at once, for a reader that needs one list: what it was called with, then `alu [rows] condition [rows]
/// atomic [rows] size [rows]`.
macro_rules! for_each_row {
    ($reader:ident $($carry:tt)*) => {
        for_each_alu_op! { rows_with_alu $reader [$($carry)*] }
    };
}
macro_rules! rows_with_alu {
    ($reader:ident $carry:tt $($alu:tt)*) => {
        for_each_condition! { rows_with_conditions $reader $carry [$($alu)*] }
    };
}
macro_rules! rows_with_conditions {
    ($reader:ident $carry:tt $alu:tt $($condition:tt)*) => {
        for_each_atomic_op! { rows_with_atomics $reader $carry $alu [$($condition)*] }
    };
}
macro_rules! rows_with_atomics {
    ($reader:ident $carry:tt $alu:tt $condition:tt $($atomic:tt)*) => {
        for_each_size! { rows_with_sizes $reader $carry $alu $condition [$($atomic)*] }
    };
}
macro_rules! rows_with_sizes {
    ($reader:ident [$($carry:tt)*] $alu:tt $condition:tt $atomic:tt $($size:tt)*) => {
        $reader! { $($carry)* alu $alu condition $condition atomic $atomic size [$($size)*] }
    };
}

/// Instruction classes: low three bits of the opcode. RFC 9669 section 3.2, table 3.
pub(crate) mod class {
    pub(crate) const LD: u8 = 0x0;
    pub(crate) const LDX: u8 = 0x1;
    pub(crate) const ST: u8 = 0x2;
    pub(crate) const STX: u8 = 0x3;
    pub(crate) const ALU: u8 = 0x4;
    pub(crate) const JMP: u8 = 0x5;
    pub(crate) const JMP32: u8 = 0x6;
    pub(crate) const ALU64: u8 = 0x7;
}

/// Source bit of arithmetic and jumps: an immediate or a register. RFC 9669 section 4, table 4.
pub(crate) mod source {
    pub(crate) const K: u8 = 0x00;
    pub(crate) const X: u8 = 0x08;
}

/// Modes of loads and stores: high three bits of the opcode. RFC 9669 section 5, table 12.
pub(crate) mod mode {
    pub(crate) const IMM: u8 = 0x00; //    dst = imm64 (two slots)
    pub(crate) const ABS: u8 = 0x20; //    r0 = ntoh(packet[imm]), or exit with 0 (legacy)
    pub(crate) const IND: u8 = 0x40; //    r0 = ntoh(packet[src + imm]), or exit with 0 (legacy)
    pub(crate) const MEM: u8 = 0x60; //    dst = *(src + off); *(dst + off) = src or imm
    pub(crate) const MEMSX: u8 = 0x80; //  dst = sign-extended *(src + off)
    pub(crate) const ATOMIC: u8 = 0xc0; // selected by imm
}

/// Ordered accesses: mode `ATOMIC` with these `imm`, all four sizes (Linux 6.15, after the RFC).
pub(crate) mod ordered {
    pub(crate) const LOAD_ACQUIRE: i32 = 0x100; //  dst = *(src + off), before all later accesses
    pub(crate) const STORE_RELEASE: i32 = 0x110; // *(dst + off) = src, after all earlier accesses
}

/// Operations that are not in the algebra above: operation code, within the class named.
pub(crate) mod op {
    pub(crate) const NEG: u8 = 0x8; //      ALU, ALU64: dst = -dst
    pub(crate) const END: u8 = 0xd; //      ALU, ALU64: byte order, see for_each_byte_order
    pub(crate) const MOV: u8 = 0xb; //      ALU, ALU64 with X and off 8, 16, 32: dst = sign-extended low bits of src
    pub(crate) const JA: u8 = 0x0; //       JMP: pc += off; JMP32: pc += imm (gotol)
    pub(crate) const CALL: u8 = 0x8; //     JMP with K: r0 = call of imm, by src; JMP with X: call of the code at dst
    pub(crate) const EXIT: u8 = 0x9; //     JMP: return r0
    pub(crate) const JCOND: u8 = 0xe; //    JMP: src = 0: may_goto, pc += off once the loop budget is used up
}

/// `off` of a 64-bit register move that makes it an address space cast (LLVM 19, Linux 6.9); the spaces are in `imm`.
pub(crate) const ADDR_SPACE_CAST: i16 = 1;

/// `src` of a call. RFC 9669 section 4.3.1 and `BPF_PSEUDO_KFUNC_CALL`.
pub(crate) mod callee {
    pub(crate) const HELPER: u8 = 0; // a helper by number, imm
    pub(crate) const LOCAL: u8 = 1; //  a function of this program, imm slots after the next instruction
    pub(crate) const KFUNC: u8 = 2; //  a kernel function by BTF id imm; off names the module's BTF
}

/// `src` of a 64-bit immediate load. RFC 9669 section 5.4, table 18.
pub(crate) mod pseudo {
    pub(crate) const NONE: u8 = 0; //          imm64
    pub(crate) const MAP_FD: u8 = 1; //        map by descriptor
    pub(crate) const MAP_VALUE: u8 = 2; //     address in the map's first value: descriptor, offset
    pub(crate) const VARIABLE: u8 = 3; //      address of a kernel variable: BTF id, BTF descriptor
    pub(crate) const CODE: u8 = 4; //          address of a function of this program, relative
    pub(crate) const MAP_INDEX: u8 = 5; //     map by index
    pub(crate) const MAP_INDEX_VALUE: u8 = 6; // address in the map's first value: index, offset
}
