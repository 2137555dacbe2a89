//! Which operations are fused: two common ones in a row cost one dispatch.
//!
//! Every slot stays in place and only the first of a pair changes its operation, so that a jump to the second still
//! finds it. Each operation is a name of [`super::flat::Op`] and what the hot loop knows it by.

/// Calls a reader with every pair of an operation that often comes first and one that often comes second, as
/// `((FirstName first) (SecondName second))`.
macro_rules! for_each_pair {
    ($reader:ident) => {
        pairs! {
            $reader []
            [
                (Mov64Reg alu Mov 64 Reg) (Mov64Imm alu Mov 64 Imm) (Add64Reg alu Add 64 Reg) (Add64Imm alu Add 64 Imm)
                (Sub64Reg alu Sub 64 Reg) (And64Imm alu And 64 Imm) (And64Reg alu And 64 Reg) (Or64Reg alu Or 64 Reg)
                (Xor64Reg alu Xor 64 Reg) (Lsh64Imm alu Lsh 64 Imm) (Rsh64Imm alu Rsh 64 Imm) (Arsh64Imm alu Arsh 64 Imm)
                (Mov32Reg alu Mov 32 Reg) (Add32Reg alu Add 32 Reg) (And32Imm alu And 32 Imm) (Xor32Reg alu Xor 32 Reg)
                (LoadB load u8) (LoadW load u32) (LoadDW load u64) (StoreWReg store u32 Reg) (StoreDWReg store u64 Reg)
                (JEq64Imm jump Eq 64 Imm) (JNe64Imm jump Ne 64 Imm)
            ]
            (Mov64Reg alu Mov 64 Reg) (Mov64Imm alu Mov 64 Imm) (Add64Reg alu Add 64 Reg) (Add64Imm alu Add 64 Imm)
            (Sub64Reg alu Sub 64 Reg) (Mul64Reg alu Mul 64 Reg) (And64Imm alu And 64 Imm) (And64Reg alu And 64 Reg)
            (Or64Reg alu Or 64 Reg) (Xor64Reg alu Xor 64 Reg) (Lsh64Imm alu Lsh 64 Imm) (Rsh64Imm alu Rsh 64 Imm)
            (Arsh64Imm alu Arsh 64 Imm) (Mov32Reg alu Mov 32 Reg) (Add32Reg alu Add 32 Reg) (And32Imm alu And 32 Imm)
            (Xor32Reg alu Xor 32 Reg) (LoadB load u8) (LoadH load u16) (LoadW load u32) (LoadDW load u64)
            (StoreWReg store u32 Reg) (StoreDWReg store u64 Reg) (Jump goto) (JEq64Imm jump Eq 64 Imm)
            (JNe64Imm jump Ne 64 Imm) (JEq64Reg jump Eq 64 Reg) (JNe64Reg jump Ne 64 Reg) (JGt64Reg jump Gt 64 Reg)
            (JLt64Reg jump Lt 64 Reg) (JGt64Imm jump Gt 64 Imm)
        }
    };
}

/// The product of the firsts (in brackets) and the seconds, one second at a time.
macro_rules! pairs {
    ($reader:ident [$($pairs:tt)*] $firsts:tt) => {
        $reader! { $($pairs)* }
    };
    ($reader:ident [$($pairs:tt)*] [$($first:tt)*] $second:tt $($seconds:tt)*) => {
        pairs! { $reader [$($pairs)* $(($first $second))*] [$($first)*] $($seconds)* }
    };
}
