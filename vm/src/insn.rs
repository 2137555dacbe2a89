//! Typed instructions: seventeen shapes, no hidden meanings.
//!
//! After [`crate::codec`] nothing looks at `off` or `src` to learn what an instruction is. Offsets of jumps and
//! local calls stay as encoded, in slots relative to the next instruction, so that an [`Insn`] means the same
//! wherever it stands. This file knows no bit position; the constructors are the Rust assembler
//! (labels: [`crate::asm`]).

/// A register of the virtual machine. RFC 9669 section 2.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

impl Reg {
    /// All registers, `r0` first.
    pub const ALL: [Reg; 11] =
        [Reg::R0, Reg::R1, Reg::R2, Reg::R3, Reg::R4, Reg::R5, Reg::R6, Reg::R7, Reg::R8, Reg::R9, Reg::R10];

    /// The register with this number; `None` above 10.
    pub fn new(number: u8) -> Option<Reg> {
        Reg::ALL.get(usize::from(number)).copied()
    }

    /// 0 to 10.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// Operand width of arithmetic and comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// The low half; arithmetic clears the high half of its destination.
    W32,
    /// The whole register.
    W64,
}

impl Width {
    /// 32 or 64.
    pub fn bits(self) -> u8 {
        match self {
            Width::W32 => 32,
            Width::W64 => 64,
        }
    }

    /// The size of what an atomic operation of this width is about: [`Size::W`] or [`Size::DW`].
    pub fn size(self) -> Size {
        match self {
            Width::W32 => Size::W,
            Width::W64 => Size::DW,
        }
    }
}

/// Second operand of arithmetic, comparisons and stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    /// RFC 9669 source `X`.
    Reg(Reg),
    /// RFC 9669 source `K`: sign-extended to the width of the operation.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Operand::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(imm: i32) -> Self {
        Operand::Imm(imm)
    }
}

/// RFC 9669 conformance groups, section 2.4, and what the kernel has added since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Group {
    Base32,
    Base64,
    DivMul32,
    DivMul64,
    Atomic32,
    Atomic64,
    Packet,
    /// `callx`: encoded by compilers, not in the RFC.
    Callx,
    /// Linux and LLVM after the RFC: load-acquire, store-release, `may_goto`, `addr_space_cast`.
    Linux,
}

/// Column "group" of the arithmetic rows.
#[derive(Clone, Copy)]
enum AluGroup {
    Base,
    DivMul,
}

macro_rules! alu_ops {
    ($($name:ident $code:literal $off:literal $symbol:literal $mnemonic:literal $group:ident)*) => {
        /// An arithmetic operation (both widths, both sources). RFC 9669 section 4.1; rows in `isa.rs`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum AluOp { $($name),* }

        impl AluOp {
            /// All operations, in the order of the table.
            pub const ALL: &'static [AluOp] = &[$(AluOp::$name),*];

            /// The operation as LLVM and bpftool write it: `+=`.
            pub fn symbol(self) -> &'static str {
                match self { $(AluOp::$name => $symbol),* }
            }

            /// The operation as the ubpf assembler writes it: `add`.
            pub fn mnemonic(self) -> &'static str {
                match self { $(AluOp::$name => $mnemonic),* }
            }

            pub(crate) fn bits(self) -> (u8, i16) {
                match self { $(AluOp::$name => ($code, $off)),* }
            }

            pub(crate) fn from_bits(code: u8, off: i16) -> Option<AluOp> {
                match (code, off) { $(($code, $off) => Some(AluOp::$name),)* _ => None }
            }

            fn group(self) -> AluGroup {
                match self { $(AluOp::$name => AluGroup::$group),* }
            }
        }
    };
}
for_each_alu_op!(alu_ops);

macro_rules! conditions {
    ($($name:ident $code:literal $symbol:literal $mnemonic:literal)*) => {
        /// The condition of a jump (both widths, both sources). RFC 9669 section 4.3; rows in `isa.rs`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Condition { $($name),* }

        impl Condition {
            /// All conditions, in the order of the table.
            pub const ALL: &'static [Condition] = &[$(Condition::$name),*];

            /// The condition as LLVM and bpftool write it: `s>=`.
            pub fn symbol(self) -> &'static str {
                match self { $(Condition::$name => $symbol),* }
            }

            /// The jump as the ubpf assembler writes it: `jsge`.
            pub fn mnemonic(self) -> &'static str {
                match self { $(Condition::$name => $mnemonic),* }
            }

            pub(crate) fn bits(self) -> u8 {
                match self { $(Condition::$name => $code),* }
            }

            pub(crate) fn from_bits(code: u8) -> Option<Condition> {
                match code { $($code => Some(Condition::$name),)* _ => None }
            }
        }
    };
}
for_each_condition!(conditions);

macro_rules! atomic_ops {
    ($($name:ident $imm:literal $symbol:literal)*) => {
        /// A read-modify-write operation on memory (32 and 64 bits). RFC 9669 section 5.3; rows in `isa.rs`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum AtomicOp { $($name),* }

        impl AtomicOp {
            /// All operations, in the order of the table.
            pub const ALL: &'static [AtomicOp] = &[$(AtomicOp::$name),*];

            /// `+=` for the plain forms, `fetch_add` or `xchg` for those that return the old value.
            pub fn symbol(self) -> &'static str {
                match self { $(AtomicOp::$name => $symbol),* }
            }

            pub(crate) fn bits(self) -> i32 {
                match self { $(AtomicOp::$name => $imm),* }
            }

            pub(crate) fn from_bits(imm: i32) -> Option<AtomicOp> {
                match imm { $($imm => Some(AtomicOp::$name),)* _ => None }
            }
        }
    };
}
for_each_atomic_op!(atomic_ops);

macro_rules! sizes {
    ($($name:ident $bits:literal $bytes:literal $ctype:ident $suffix:literal)*) => {
        /// Size of a memory access. RFC 9669 section 5.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Size { $($name),* }

        impl Size {
            /// All sizes, the smallest first.
            pub const ALL: &'static [Size] = &[$(Size::$name),*];

            /// 1, 2, 4 or 8.
            pub fn bytes(self) -> u32 {
                match self { $(Size::$name => $bytes),* }
            }

            /// `u8` to `u64`, as LLVM and bpftool write it.
            pub fn c_type(self) -> &'static str {
                match self { $(Size::$name => stringify!($ctype)),* }
            }

            /// `b`, `h`, `w` or `dw`, as the ubpf assembler writes it.
            pub fn suffix(self) -> &'static str {
                match self { $(Size::$name => $suffix),* }
            }

            pub(crate) fn bits(self) -> u8 {
                match self { $(Size::$name => $bits),* }
            }

            pub(crate) fn from_bits(bits: u8) -> Option<Size> {
                match bits { $($bits => Some(Size::$name),)* _ => None }
            }
        }
    };
}
for_each_size!(sizes);

macro_rules! byte_orders {
    ($($name:ident $class:ident $source:literal $spelling:literal)*) => {
        /// A byte order conversion. RFC 9669 section 4.2; rows in `isa.rs`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum ByteOrder { $($name),* }

        impl ByteOrder {
            /// All conversions, in the order of the table.
            pub const ALL: &'static [ByteOrder] = &[$(ByteOrder::$name),*];

            /// `le`, `be` or `bswap`; the width follows.
            pub fn spelling(self) -> &'static str {
                match self { $(ByteOrder::$name => $spelling),* }
            }

            pub(crate) fn bits(self) -> (u8, u8) {
                match self { $(ByteOrder::$name => (crate::isa::class::$class, $source)),* }
            }

            pub(crate) fn from_bits(class: u8, source: u8) -> Option<ByteOrder> {
                $(if class == crate::isa::class::$class && source == $source { return Some(ByteOrder::$name) })*
                None
            }
        }
    };
}
for_each_byte_order!(byte_orders);

/// Width of a byte order conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum SwapWidth {
    B16,
    B32,
    B64,
}

impl SwapWidth {
    /// All widths, the smallest first.
    pub const ALL: [SwapWidth; 3] = [SwapWidth::B16, SwapWidth::B32, SwapWidth::B64];

    /// 16, 32 or 64.
    pub fn bits(self) -> i32 {
        match self {
            SwapWidth::B16 => 16,
            SwapWidth::B32 => 32,
            SwapWidth::B64 => 64,
        }
    }
}

/// What a 64-bit immediate load (`lddw`) loads. RFC 9669 section 5.4.
///
/// In a program out of an object, map descriptors are indices of the object's maps: the place
/// where a kernel loader puts real file descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Imm64 {
    /// A number.
    Value(u64),
    /// The map with this descriptor.
    MapFd(i32),
    /// The address `offset` bytes into the first value of the map with this descriptor.
    MapValue {
        /// Descriptor of the map.
        fd: i32,
        /// Bytes from the start of the value.
        offset: u32,
    },
    /// The address of a kernel variable.
    Variable {
        /// BTF type id.
        btf_id: i32,
        /// Descriptor of the BTF object; 0 is the kernel's own.
        btf_fd: i32,
    },
    /// The address of a function of this program, in slots relative to the instruction after this load's first slot.
    Code(i32),
    /// The map with this index in the loader's array of descriptors.
    MapIndex(i32),
    /// The address `offset` bytes into the first value of the map with this index.
    MapIndexValue {
        /// Index of the map.
        index: i32,
        /// Bytes from the start of the value.
        offset: u32,
    },
}

/// What a call calls. RFC 9669 section 4.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Callee {
    /// A helper by number (`enum bpf_func_id`).
    Helper(i32),
    /// A function of this program, in slots relative to the next instruction.
    Local(i32),
    /// A kernel function.
    Kfunc {
        /// BTF type id of the function.
        btf_id: i32,
        /// Which module's BTF; 0 is the kernel's own.
        module: i16,
    },
    /// `callx`: the function whose address (or the helper whose number) is in a register.
    Reg(Reg),
}

/// Where a legacy packet load finds its offset. RFC 9669 section 5.5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketOffset {
    /// `BPF_ABS`: the immediate.
    Abs(i32),
    /// `BPF_IND`: a register plus the immediate.
    Ind(Reg, i32),
}

/// One instruction. All but `LoadImm64` take one 8-byte slot; that takes two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Insn {
    /// `dst = dst op src`. RFC 9669 section 4.1.
    Alu {
        /// Operation.
        op: AluOp,
        /// Operand width.
        width: Width,
        /// First operand and destination.
        dst: Reg,
        /// Second operand.
        src: Operand,
    },
    /// `dst = -dst`. RFC 9669 section 4.1.
    Neg {
        /// Operand width.
        width: Width,
        /// Operand and destination.
        dst: Reg,
    },
    /// `dst = (sign-extended low bits of) src`. RFC 9669 section 4.1, `MOVSX`.
    MovSx {
        /// Width of the destination.
        width: Width,
        /// How many low bits of the source: `B`, `H`, and `W` for 64-bit destinations.
        from: Size,
        /// Destination.
        dst: Reg,
        /// Source.
        src: Reg,
    },
    /// Byte order conversion of the low bits of `dst`. RFC 9669 section 4.2.
    End {
        /// To which order.
        order: ByteOrder,
        /// How many bits.
        width: SwapWidth,
        /// Operand and destination.
        dst: Reg,
    },
    /// `dst = addr_space_cast(src, dst_space, src_space)`: arena pointers (Linux 6.9).
    AddrSpaceCast {
        /// Destination.
        dst: Reg,
        /// Source.
        src: Reg,
        /// Address space of the result.
        dst_space: u16,
        /// Address space of the operand.
        src_space: u16,
    },
    /// `dst = *(size *)(base + off)`. RFC 9669 sections 5.1 and 5.2.
    Load {
        /// Size of the access.
        size: Size,
        /// Sign-extend to 64 bits (`MEMSX`; not for `DW`) instead of zero-extending.
        signed: bool,
        /// Destination.
        dst: Reg,
        /// Base address.
        base: Reg,
        /// Displacement in bytes.
        off: i16,
    },
    /// `*(size *)(base + off) = src`. RFC 9669 section 5.1.
    Store {
        /// Size of the access.
        size: Size,
        /// Base address.
        base: Reg,
        /// Displacement in bytes.
        off: i16,
        /// What is stored; an immediate is sign-extended.
        src: Operand,
    },
    /// Read-modify-write of `*(size *)(base + off)`. RFC 9669 section 5.3.
    Atomic {
        /// Operation.
        op: AtomicOp,
        /// Operand width: 4 or 8 bytes in memory.
        width: Width,
        /// Base address.
        base: Reg,
        /// Displacement in bytes.
        off: i16,
        /// Operand; receives the old value in the fetching forms (`Cmpxchg`: `r0` does).
        src: Reg,
    },
    /// `dst = *(size *)(base + off)` with acquire order (Linux 6.15).
    LoadAcquire {
        /// Size of the access.
        size: Size,
        /// Destination, zero-extended.
        dst: Reg,
        /// Base address.
        base: Reg,
        /// Displacement in bytes.
        off: i16,
    },
    /// `*(size *)(base + off) = src` with release order (Linux 6.15).
    StoreRelease {
        /// Size of the access.
        size: Size,
        /// Base address.
        base: Reg,
        /// Displacement in bytes.
        off: i16,
        /// What is stored.
        src: Reg,
    },
    /// `r0 = ntoh(packet bytes)`, or the program ends with 0. RFC 9669 section 5.5.
    LoadPacket {
        /// `B`, `H` or `W`.
        size: Size,
        /// Offset into the packet.
        offset: PacketOffset,
    },
    // From here on what may go elsewhere, or point there: whoever looks for that has one comparison to make.
    /// `dst = value`, in two slots. RFC 9669 section 5.4.
    LoadImm64 {
        /// Destination.
        dst: Reg,
        /// What is loaded.
        value: Imm64,
    },
    /// `pc += off`: `goto` (16 bits) and `gotol` (32 bits). RFC 9669 section 4.3.
    Jump {
        /// Slots relative to the next instruction.
        off: i32,
        /// Encode as `gotol` (RFC 9669 `JA` of class `JMP32`).
        long: bool,
    },
    /// `pc += off if dst condition src`. RFC 9669 section 4.3.
    JumpIf {
        /// Condition.
        condition: Condition,
        /// Width of the comparison.
        width: Width,
        /// First operand.
        dst: Reg,
        /// Second operand.
        src: Operand,
        /// Slots relative to the next instruction.
        off: i16,
    },
    /// `pc += off` once this frame's loop budget is used up (Linux 6.9, `may_goto`).
    MayGoto {
        /// Slots relative to the next instruction.
        off: i16,
    },
    /// A call; the result is in `r0`, and `r1` to `r5` are lost. RFC 9669 section 4.3.
    Call(Callee),
    /// Return `r0` to the caller. RFC 9669 section 4.3.
    Exit,
}

/// Memory behind a register, as an instruction names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryOperand {
    /// How many bytes.
    pub size: Size,
    /// The register that holds the address.
    pub base: Reg,
    /// Bytes from there.
    pub off: i16,
    /// The bytes are read.
    pub reads: bool,
    /// The bytes are written.
    pub writes: bool,
}

impl Insn {
    /// Slots of 8 bytes that the instruction takes: 2 for [`Insn::LoadImm64`], else 1.
    pub fn slots(&self) -> usize {
        if matches!(self, Insn::LoadImm64 { .. }) { 2 } else { 1 }
    }

    /// The relative target of a jump or local call, in slots after the next instruction.
    pub fn jump_offset(&self) -> Option<i32> {
        match *self {
            Insn::Jump { off, .. } => Some(off),
            Insn::JumpIf { off, .. } | Insn::MayGoto { off } => Some(off.into()),
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::MovSx { .. }
            | Insn::End { .. }
            | Insn::AddrSpaceCast { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. }
            | Insn::LoadPacket { .. }
            | Insn::Call(_)
            | Insn::Exit => None,
        }
    }

    /// The register that the instruction writes by name (not the clobbers of a call).
    pub fn written(&self) -> Option<Reg> {
        match *self {
            Insn::Alu { dst, .. }
            | Insn::Neg { dst, .. }
            | Insn::MovSx { dst, .. }
            | Insn::End { dst, .. }
            | Insn::AddrSpaceCast { dst, .. }
            | Insn::LoadImm64 { dst, .. }
            | Insn::Load { dst, .. }
            | Insn::LoadAcquire { dst, .. } => Some(dst),
            Insn::Atomic { op, src, .. } => match op {
                AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => None,
                AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
                    Some(src)
                }
                AtomicOp::Cmpxchg => Some(Reg::R0),
            },
            Insn::LoadPacket { .. } | Insn::Call(_) => Some(Reg::R0),
            Insn::Store { .. }
            | Insn::StoreRelease { .. }
            | Insn::Jump { .. }
            | Insn::JumpIf { .. }
            | Insn::MayGoto { .. }
            | Insn::Exit => None,
        }
    }

    /// The memory that a load, a store or an atomic operation is about.
    pub fn memory(&self) -> Option<MemoryOperand> {
        let operand = |size, base, off, reads, writes| Some(MemoryOperand { size, base, off, reads, writes });
        match *self {
            Insn::Load { size, base, off, .. } | Insn::LoadAcquire { size, base, off, .. } => {
                operand(size, base, off, true, false)
            }
            Insn::Store { size, base, off, .. } | Insn::StoreRelease { size, base, off, .. } => {
                operand(size, base, off, false, true)
            }
            Insn::Atomic { width, base, off, .. } => operand(width.size(), base, off, true, true),
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::MovSx { .. }
            | Insn::End { .. }
            | Insn::AddrSpaceCast { .. }
            | Insn::LoadImm64 { .. }
            | Insn::LoadPacket { .. }
            | Insn::Jump { .. }
            | Insn::JumpIf { .. }
            | Insn::MayGoto { .. }
            | Insn::Call(_)
            | Insn::Exit => None,
        }
    }

    /// RFC 9669 conformance group, appendix A.
    pub fn group(&self) -> Group {
        fn by_width(width: Width, narrow: Group, wide: Group) -> Group {
            match width {
                Width::W32 => narrow,
                Width::W64 => wide,
            }
        }
        fn by_size(size: Size) -> Group {
            if size == Size::DW { Group::Base64 } else { Group::Base32 }
        }
        match *self {
            Insn::Alu { op, width, .. } => match op.group() {
                AluGroup::Base => by_width(width, Group::Base32, Group::Base64),
                AluGroup::DivMul => by_width(width, Group::DivMul32, Group::DivMul64),
            },
            Insn::Neg { width, .. } | Insn::MovSx { width, .. } | Insn::JumpIf { width, .. } => {
                by_width(width, Group::Base32, Group::Base64)
            }
            Insn::End { order, width, .. } => match (order, width) {
                (ByteOrder::Le | ByteOrder::Be, SwapWidth::B16 | SwapWidth::B32) => Group::Base32,
                (ByteOrder::Le | ByteOrder::Be, SwapWidth::B64) | (ByteOrder::Bswap, _) => Group::Base64,
            },
            Insn::LoadImm64 { .. } => Group::Base64,
            Insn::Load { size, signed, .. } => {
                if signed {
                    Group::Base64
                } else {
                    by_size(size)
                }
            }
            Insn::Store { size, .. } => by_size(size),
            Insn::Atomic { width, .. } => by_width(width, Group::Atomic32, Group::Atomic64),
            Insn::LoadPacket { .. } => Group::Packet,
            Insn::Jump { .. } | Insn::Exit => Group::Base32,
            Insn::Call(callee) => match callee {
                Callee::Reg(_) => Group::Callx,
                Callee::Helper(_) | Callee::Local(_) | Callee::Kfunc { .. } => Group::Base32,
            },
            Insn::AddrSpaceCast { .. }
            | Insn::LoadAcquire { .. }
            | Insn::StoreRelease { .. }
            | Insn::MayGoto { .. } => Group::Linux,
        }
    }
}
