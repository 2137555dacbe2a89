//! Which operations are fused: common ones in a row cost one dispatch, and a result that the next one takes goes to it in
//! a machine register.
//!
//! Chosen by what compilers emit, in the benchmarks and in the objects of the conformance tests: two-address code (a move
//! and what changes the copy), addresses (an addition and the access), a load or a mask and the branch on it, shifts and
//! what joins them again, stores of what was just computed, and neighbours that have nothing to do with each other.
//!
//! To add some: a row, or a name in one. Tests find and compare all of them by themselves.

use super::exec::{self, Execute, three, two};
use super::flat::Op;
use super::ops;

/// How an operation depends on the result of the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Link {
    /// It takes its operands from the registers.
    Apart,
    /// The result is its `dst` and not its `src`.
    ToDst,
    /// The result is its `src` and not its `dst`.
    ToSrc,
}

/// Calls a reader with the rows of pairs, `[firsts] link [seconds]`: every first with every second.
macro_rules! for_each_pair_row {
    ($reader:ident) => {
        $reader! {
            [
                Mov64Reg Mov64Imm Add64Reg Add64Imm Sub64Reg Mul64Reg Mul64Imm And64Imm And64Reg Or64Reg Xor64Reg Lsh64Imm
                Rsh64Imm Arsh64Imm LoadB LoadH LoadW LoadDW LoadImm64
            ]
            ToDst
            [
                Add64Reg Add64Imm Sub64Reg Mul64Reg Mul64Imm And64Imm And64Reg Or64Reg Xor64Reg Lsh64Imm Rsh64Imm Arsh64Imm
            ]
            [
                Mov64Reg Add64Reg Add64Imm Sub64Reg Mul64Reg And64Imm And64Reg Or64Reg Xor64Reg Lsh64Imm Rsh64Imm Arsh64Imm
                LoadB LoadH LoadW LoadDW LoadImm64
            ]
            ToSrc
            [Mov64Reg Add64Reg Sub64Reg Mul64Reg And64Reg Or64Reg Xor64Reg]
            [
                Mov32Reg Mov32Imm Add32Reg Add32Imm Sub32Reg Mul32Imm And32Imm Or32Reg Xor32Reg Lsh32Imm Rsh32Imm
                LoadB LoadH LoadW
            ]
            ToDst
            [Add32Reg Add32Imm Sub32Reg Mul32Imm And32Imm Or32Reg Xor32Reg Lsh32Imm Rsh32Imm]
            [Mov32Reg Add32Reg Sub32Reg And32Imm Or32Reg Xor32Reg Lsh32Imm Rsh32Imm LoadB LoadH LoadW]
            ToSrc
            [Mov32Reg Mov64Reg Add32Reg Sub32Reg Or32Reg Xor32Reg]
            [
                Mov64Reg Add64Reg Add64Imm Sub64Reg And64Imm And64Reg Lsh64Imm Rsh64Imm Arsh64Imm LoadB LoadH LoadW LoadDW
                Mov32Reg Add32Reg Add32Imm And32Imm Rsh32Imm
            ]
            ToDst
            [
                JEq64Imm JNe64Imm JEq64Reg JNe64Reg JGt64Imm JGt64Reg JGe64Reg JLt64Imm JLt64Reg JLe64Reg JSgt64Imm JSlt64Imm
                JSet64Imm JEq32Imm JNe32Imm JGt32Imm JLt32Imm JSet32Imm
            ]
            [Mov64Reg Mov64Imm Add64Reg Add64Imm LoadDW]
            ToSrc
            [JEq64Reg JNe64Reg JGt64Reg JGe64Reg JLt64Reg JLe64Reg]
            [Mov64Reg Add64Reg Add64Imm LoadDW LoadImm64]
            ToSrc
            [LoadB LoadH LoadW LoadDW]
            [Mov64Reg Add64Reg Add64Imm LoadDW LoadImm64]
            ToDst
            [StoreBReg StoreHReg StoreWReg StoreDWReg StoreBImm StoreHImm StoreWImm StoreDWImm]
            [
                Mov64Reg Mov64Imm Mov32Imm Mov32Reg Add64Reg Add64Imm Xor64Reg Lsh64Imm Rsh64Imm Rsh32Imm
                LoadB LoadH LoadW LoadDW LoadImm64
            ]
            ToSrc
            [StoreBReg StoreHReg StoreWReg StoreDWReg]
            [LoadH Mov64Reg Mov32Reg] ToSrc [Swap16]
            [LoadW Mov64Reg Mov32Reg] ToSrc [Swap32]
            [LoadDW] ToSrc [Swap64]
            [LoadB] ToSrc [MovSxB32 MovSxB64]
            [
                Mov64Reg Mov64Imm Add64Reg Add64Imm Sub64Reg Mul64Reg And64Imm And64Reg Or64Reg Xor64Reg Lsh64Imm Rsh64Imm
                Arsh64Imm Mov32Reg Mov32Imm Add32Reg LoadB LoadH LoadW LoadDW LoadImm64 StoreBReg StoreWReg StoreDWReg JEq64Imm
                JNe64Imm
            ]
            Apart
            [
                Mov64Reg Mov64Imm Add64Reg Add64Imm Sub64Reg Mul64Reg And64Imm And64Reg Or64Reg Xor64Reg Lsh64Imm Rsh64Imm
                Arsh64Imm Mov32Reg Mov32Imm Add32Reg LoadB LoadH LoadW LoadDW LoadImm64 StoreBReg StoreWReg StoreDWReg Jump
                JEq64Imm JNe64Imm JEq64Reg JNe64Reg JGt64Reg JGt64Imm JGe64Reg JLt64Reg JLe64Reg
            ]
        }
    };
}

/// Calls a reader with the rows of triples, `[firsts] link [seconds] link [thirds]`.
macro_rules! for_each_triple_row {
    ($reader:ident) => {
        $reader! {
            [Mov64Reg] ToDst [Add64Reg] ToSrc [LoadB LoadH LoadW LoadDW]
            [Mov64Reg] ToDst [Add64Reg] ToDst [StoreBReg StoreHReg StoreWReg StoreDWReg]
            [Mov64Reg] ToDst [Lsh64Imm Rsh64Imm And64Imm] ToSrc [Add64Reg And64Reg Or64Reg Xor64Reg StoreBReg StoreWReg]
            [Mov64Reg] ToDst [Lsh64Imm Rsh64Imm And64Imm Add64Reg] ToDst [Lsh64Imm Rsh64Imm And64Imm Add64Reg Xor64Reg]
            [Mov64Reg] ToDst [And64Imm Sub64Reg Rsh64Imm Add64Imm] ToDst [JEq64Imm JNe64Imm JGt64Imm JGt64Reg]
            [Add64Reg] ToSrc [LoadB LoadH LoadW LoadDW] ToSrc [Add64Reg Xor64Reg Mov64Reg StoreBReg StoreWReg]
            [LoadB LoadH LoadW] ToDst [Lsh64Imm And64Imm] ToDst [JEq64Imm JNe64Imm Or64Reg]
            [Add64Reg] Apart [Add64Imm] Apart [Mov64Reg JLt64Reg JLe64Reg]
            [Add64Imm] Apart [Mov64Reg] Apart [JLt64Reg JNe64Imm JEq64Reg JNe64Reg]
        }
    };
}

macro_rules! pair_function {
    ($([$($first:ident)*] $link:ident $seconds:tt)*) => {
        /// What executes two operations in a row, the second depending on the first in this way.
        pub(super) fn pair(first: Op, link: Link, second: Op) -> Option<Execute> {
            $(if link == Link::$link {
                match first {
                    $(Op::$first => pair_function!(@second second $first $link $seconds),)*
                    _ => {}
                }
            })*
            None
        }
    };
    (@second $op:ident $first:ident $link:ident [$($second:ident)*]) => {
        match $op {
            $(Op::$second => return Some(two::<ops::$first, exec::$link, ops::$second>),)*
            _ => {}
        }
    };
}
for_each_pair_row!(pair_function);

macro_rules! triple_function {
    ($([$($first:ident)*] $link:ident $seconds:tt $then:ident $thirds:tt)*) => {
        /// What executes three.
        pub(super) fn triple(first: Op, link: Link, second: Op, then: Link, third: Op) -> Option<Execute> {
            $(if (link, then) == (Link::$link, Link::$then) {
                $(if first == Op::$first {
                    triple_function!(@second second third $first $link $seconds $then $thirds);
                })*
            })*
            None
        }
    };
    (@second $op:ident $third_op:ident $first:ident $link:ident [$($second:ident)*] $then:ident $thirds:tt) => {
        $(if $op == Op::$second {
            triple_function!(@third $third_op $first $link $second $then $thirds);
        })*
    };
    (@third $op:ident $first:ident $link:ident $second:ident $then:ident [$($third:ident)*]) => {
        match $op {
            $(Op::$third => {
                return Some(three::<ops::$first, exec::$link, ops::$second, exec::$then, ops::$third>);
            })*
            _ => {}
        }
    };
}
for_each_triple_row!(triple_function);

#[cfg(test)]
mod tests;
