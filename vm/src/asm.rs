//! The assembler for Rust programs: constructors of [`Insn`], and labels.
//!
//! ```
//! use softbpf::asm::{Assembler, Condition, Insn, R0, R1, Size};
//!
//! // How long is the packet, if it is not too long?
//! let code = Assembler::new()
//!     .push(Insn::load(Size::W, R0, R1, 0))
//!     .jump_if(Condition::Le, R0, 1500, "done")
//!     .push(Insn::mov(R0, -1))
//!     .label("done")
//!     .push(Insn::exit())
//!     .finish()?;
//! assert_eq!(code.slot_count(), 4);
//! # Ok::<(), softbpf::asm::AssembleError>(())
//! ```
//!
//! The regular constructors come out of the rows of `isa.rs`, which also say what each instruction computes.
//! Whether a program is whole is for [`crate::check`]. This file knows no encoding. The same with labels in text:
//! [`crate::text::parse`].

use std::collections::HashMap;

pub use crate::insn::Reg::{R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10};
pub use crate::insn::{
    AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width,
};

use crate::codec::Code;

/// Names that are keywords get others; the rest of the rows keep their mnemonic.
macro_rules! alu_constructors {
    ($($name:ident $code:literal $off:literal $symbol:literal $mnemonic:literal $group:ident)*) => {
        /// Arithmetic, two constructors a row: 64 bits, and 32 bits, which clear the upper half of `dst`.
        impl Insn {
            $(alu_constructors! { @row $name $symbol })*
        }
    };
    (@row Mod $symbol:literal) => {
        alu_constructors! { @pair Mod $symbol modulo }
    };
    (@row $name:ident $symbol:literal) => {
        pastey::paste! { alu_constructors! { @pair $name $symbol [<$name:lower>] } }
    };
    (@pair $name:ident $symbol:literal $method:ident) => {
        pastey::paste! {
            #[doc = "`dst " $symbol " src`, 64 bits wide."]
            pub fn $method(dst: Reg, src: impl Into<Operand>) -> Insn {
                Insn::Alu { op: AluOp::$name, width: Width::W64, dst, src: src.into() }
            }

            #[doc = "`dst " $symbol " src`, 32 bits wide."]
            pub fn [<$method 32>](dst: Reg, src: impl Into<Operand>) -> Insn {
                Insn::Alu { op: AluOp::$name, width: Width::W32, dst, src: src.into() }
            }
        }
    };
}
for_each_alu_op!(alu_constructors);

macro_rules! jump_constructors {
    ($($name:ident $code:literal $symbol:literal $mnemonic:literal)*) => {
        /// Conditional jumps over `off` slots, two constructors a row. By label: [`Assembler::jump_if`].
        impl Insn {
            $(pastey::paste! {
                #[doc = "`if dst " $symbol " src goto off`, comparing 64 bits."]
                pub fn [<j $name:lower>](dst: Reg, src: impl Into<Operand>, off: i16) -> Insn {
                    Insn::JumpIf { condition: Condition::$name, width: Width::W64, dst, src: src.into(), off }
                }

                #[doc = "`if dst " $symbol " src goto off`, comparing the low 32 bits."]
                pub fn [<j $name:lower 32>](dst: Reg, src: impl Into<Operand>, off: i16) -> Insn {
                    Insn::JumpIf { condition: Condition::$name, width: Width::W32, dst, src: src.into(), off }
                }
            })*
        }
    };
}
for_each_condition!(jump_constructors);

macro_rules! atomic_constructors {
    ($($name:ident $imm:literal $symbol:literal)*) => {
        /// Atomic operations on 4 or 8 bytes at `base + off`.
        impl Insn {
            $(pastey::paste! {
                #[doc = "The atomic operation `" $symbol "`; see [`AtomicOp::" $name "`]."]
                pub fn [<atomic_ $name:snake>](width: Width, base: Reg, off: i16, src: Reg) -> Insn {
                    Insn::Atomic { op: AtomicOp::$name, width, base, off, src }
                }
            })*
        }
    };
}
for_each_atomic_op!(atomic_constructors);

macro_rules! byte_order_constructors {
    ($($name:ident $class:ident $source:literal $spelling:literal)*) => {
        /// Byte order conversions.
        impl Insn {
            $(pastey::paste! {
                #[doc = "`dst = " $spelling "` of the low 16, 32 or 64 bits of `dst`."]
                pub fn [<$name:lower>](width: SwapWidth, dst: Reg) -> Insn {
                    Insn::End { order: ByteOrder::$name, width, dst }
                }
            })*
        }
    };
}
for_each_byte_order!(byte_order_constructors);

/// What is not regular enough to come out of the rows.
impl Insn {
    /// `dst = -dst`, 64 bits wide.
    pub fn neg(dst: Reg) -> Insn {
        Insn::Neg { width: Width::W64, dst }
    }

    /// `dst = -dst`, 32 bits wide.
    pub fn neg32(dst: Reg) -> Insn {
        Insn::Neg { width: Width::W32, dst }
    }

    /// `dst = ` the low `from` bytes of `src`, sign-extended to 64 bits. `DW` has no encoding.
    pub fn mov_sx(from: Size, dst: Reg, src: Reg) -> Insn {
        Insn::MovSx { width: Width::W64, from, dst, src }
    }

    /// `dst = ` the low `from` bytes of `src`, sign-extended to 32 bits. `W` and `DW` have no encoding.
    pub fn mov_sx32(from: Size, dst: Reg, src: Reg) -> Insn {
        Insn::MovSx { width: Width::W32, from, dst, src }
    }

    /// `dst = addr_space_cast(src, dst_space, src_space)`.
    pub fn addr_space_cast(dst: Reg, src: Reg, dst_space: u16, src_space: u16) -> Insn {
        Insn::AddrSpaceCast { dst, src, dst_space, src_space }
    }

    /// `dst = value`, all 64 bits; two slots.
    pub fn load_imm64(dst: Reg, value: u64) -> Insn {
        Insn::LoadImm64 { dst, value: Imm64::Value(value) }
    }

    /// `dst = ` the map with this descriptor (in a program out of an object: its index); two slots.
    pub fn load_map_fd(dst: Reg, fd: i32) -> Insn {
        Insn::LoadImm64 { dst, value: Imm64::MapFd(fd) }
    }

    /// `dst = ` the address `offset` bytes into the first value of the map with this descriptor; two slots.
    pub fn load_map_value(dst: Reg, fd: i32, offset: u32) -> Insn {
        Insn::LoadImm64 { dst, value: Imm64::MapValue { fd, offset } }
    }

    /// `dst = ` the address of the function `off` slots after this instruction's first slot; two slots.
    /// By label: [`Assembler::load_function`].
    pub fn load_function(dst: Reg, off: i32) -> Insn {
        Insn::LoadImm64 { dst, value: Imm64::Code(off) }
    }

    /// `dst = *(size *)(base + off)`, zero-extended.
    pub fn load(size: Size, dst: Reg, base: Reg, off: i16) -> Insn {
        Insn::Load { size, signed: false, dst, base, off }
    }

    /// `dst = *(size *)(base + off)`, sign-extended. `DW` has no encoding.
    pub fn load_sx(size: Size, dst: Reg, base: Reg, off: i16) -> Insn {
        Insn::Load { size, signed: true, dst, base, off }
    }

    /// `*(size *)(base + off) = src`.
    pub fn store(size: Size, base: Reg, off: i16, src: impl Into<Operand>) -> Insn {
        Insn::Store { size, base, off, src: src.into() }
    }

    /// `dst = *(size *)(base + off)`, before all later accesses.
    pub fn load_acquire(size: Size, dst: Reg, base: Reg, off: i16) -> Insn {
        Insn::LoadAcquire { size, dst, base, off }
    }

    /// `*(size *)(base + off) = src`, after all earlier accesses.
    pub fn store_release(size: Size, base: Reg, off: i16, src: Reg) -> Insn {
        Insn::StoreRelease { size, base, off, src }
    }

    /// `r0 = ntoh(packet bytes at offset)`, or the program returns 0 (legacy). `DW` has no encoding.
    pub fn load_packet(size: Size, offset: i32) -> Insn {
        Insn::LoadPacket { size, offset: PacketOffset::Abs(offset) }
    }

    /// `r0 = ntoh(packet bytes at reg + offset)`, or the program returns 0 (legacy). `DW` has no encoding.
    pub fn load_packet_at(size: Size, reg: Reg, offset: i32) -> Insn {
        Insn::LoadPacket { size, offset: PacketOffset::Ind(reg, offset) }
    }

    /// `goto off`, in slots after this one. By label: [`Assembler::jump`].
    pub fn jump(off: i16) -> Insn {
        Insn::Jump { off: off.into(), long: false }
    }

    /// `gotol off`, in slots after this one. By label: [`Assembler::jump_long`].
    pub fn jump_long(off: i32) -> Insn {
        Insn::Jump { off, long: true }
    }

    /// `may_goto off`, in slots after this one. By label: [`Assembler::may_goto`].
    pub fn may_goto(off: i16) -> Insn {
        Insn::MayGoto { off }
    }

    /// `r0 = ` the helper with this number (`enum bpf_func_id`).
    pub fn call(helper: i32) -> Insn {
        Insn::Call(Callee::Helper(helper))
    }

    /// `r0 = ` the function `off` slots after this one. By label: [`Assembler::call`].
    pub fn call_local(off: i32) -> Insn {
        Insn::Call(Callee::Local(off))
    }

    /// `r0 = ` the kernel function with this BTF id; `module` 0 is the kernel's own BTF.
    pub fn call_kfunc(btf_id: i32, module: i16) -> Insn {
        Insn::Call(Callee::Kfunc { btf_id, module })
    }

    /// `r0 = ` the function whose address is in `reg` (`callx`).
    pub fn call_reg(reg: Reg) -> Insn {
        Insn::Call(Callee::Reg(reg))
    }

    /// Return `r0`.
    pub fn exit() -> Insn {
        Insn::Exit
    }
}

/// A program whose labels do not work out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum AssembleError {
    #[error("slot {slot}: there is no label {label:?}")]
    UnknownLabel { slot: usize, label: String },
    #[error("label {label:?} stands at slot {first} and again at slot {second}")]
    DuplicateLabel { label: String, first: usize, second: usize },
    #[error("slot {slot}: label {label:?} is {far}")]
    Far { slot: usize, label: String, far: FarTarget },
}

/// A target that the offset field of its instruction cannot reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{offset:+} slots away, out of the reach of {bits} bits")]
pub struct FarTarget {
    /// Slots from the next instruction to the target.
    pub offset: i64,
    /// Bits of the offset field: 16, or 32 for `gotol`, calls and addresses of functions.
    pub bits: u32,
}

/// Collects instructions and gives labels their offsets.
///
/// Labels may be used before they are defined. Mistakes are reported by [`Assembler::finish`].
#[derive(Debug, Clone, Default)]
pub struct Assembler {
    insns: Vec<Insn>,
    slots: usize,
    labels: HashMap<String, usize>,
    duplicate: Option<AssembleError>,
    uses: Vec<LabelUse>,
}

#[derive(Debug, Clone)]
struct LabelUse {
    index: usize,
    slot: usize,
    label: String,
}

impl Assembler {
    /// An empty program.
    pub fn new() -> Assembler {
        Assembler::default()
    }

    /// Appends an instruction.
    pub fn push(&mut self, insn: Insn) -> &mut Assembler {
        self.slots += insn.slots();
        self.insns.push(insn);
        self
    }

    /// Gives the next instruction a name.
    pub fn label(&mut self, label: impl Into<String>) -> &mut Assembler {
        let label = label.into();
        let second = self.slots;
        if let Some(&first) = self.labels.get(&label) {
            self.duplicate.get_or_insert(AssembleError::DuplicateLabel { label, first, second });
        } else {
            self.labels.insert(label, second);
        }
        self
    }

    /// `goto label` (16 bits).
    pub fn jump(&mut self, label: impl Into<String>) -> &mut Assembler {
        self.push_use(Insn::jump(0), label)
    }

    /// `gotol label` (32 bits).
    pub fn jump_long(&mut self, label: impl Into<String>) -> &mut Assembler {
        self.push_use(Insn::jump_long(0), label)
    }

    /// `if dst condition src goto label`, comparing 64 bits.
    pub fn jump_if(
        &mut self,
        condition: Condition,
        dst: Reg,
        src: impl Into<Operand>,
        label: impl Into<String>,
    ) -> &mut Assembler {
        self.push_use(Insn::JumpIf { condition, width: Width::W64, dst, src: src.into(), off: 0 }, label)
    }

    /// `if dst condition src goto label`, comparing the low 32 bits.
    pub fn jump_if32(
        &mut self,
        condition: Condition,
        dst: Reg,
        src: impl Into<Operand>,
        label: impl Into<String>,
    ) -> &mut Assembler {
        self.push_use(Insn::JumpIf { condition, width: Width::W32, dst, src: src.into(), off: 0 }, label)
    }

    /// `may_goto label`.
    pub fn may_goto(&mut self, label: impl Into<String>) -> &mut Assembler {
        self.push_use(Insn::may_goto(0), label)
    }

    /// Calls the function that starts at a label.
    pub fn call(&mut self, label: impl Into<String>) -> &mut Assembler {
        self.push_use(Insn::call_local(0), label)
    }

    /// `dst = ` the address of the function that starts at a label; two slots.
    pub fn load_function(&mut self, dst: Reg, label: impl Into<String>) -> &mut Assembler {
        self.push_use(Insn::load_function(dst, 0), label)
    }

    fn push_use(&mut self, insn: Insn, label: impl Into<String>) -> &mut Assembler {
        self.uses.push(LabelUse { index: self.insns.len(), slot: self.slots, label: label.into() });
        self.push(insn)
    }

    /// The program so far, every label resolved.
    ///
    /// # Errors
    /// A label is defined twice, or not at all, or is too far from where it is used.
    pub fn finish(&self) -> Result<Code, AssembleError> {
        if let Some(duplicate) = &self.duplicate {
            return Err(duplicate.clone());
        }
        let mut insns = self.insns.clone();
        for LabelUse { index, slot, label } in &self.uses {
            let (slot, label) = (*slot, label.clone());
            let Some(&target) = self.labels.get(&label) else {
                return Err(AssembleError::UnknownLabel { slot, label });
            };
            insns[*index] = aim(insns[*index], slot, target).map_err(|far| AssembleError::Far { slot, label, far })?;
        }
        Ok(Code::from(insns))
    }
}

/// The jump, local call or function address at `slot`, with its offset set to reach slot `target`.
/// Instructions without a target stay as they are.
pub(crate) fn aim(insn: Insn, slot: usize, target: usize) -> Result<Insn, FarTarget> {
    with_offset(insn, target as i64 - slot as i64 - 1)
}

/// The jump, local call or function address with this offset. Instructions without a target stay as they are.
pub(crate) fn with_offset(insn: Insn, offset: i64) -> Result<Insn, FarTarget> {
    let far = |bits| FarTarget { offset, bits };
    let short = i16::try_from(offset).map_err(|_| far(16));
    let wide = i32::try_from(offset).map_err(|_| far(32));
    Ok(match insn {
        Insn::Jump { long: false, .. } => Insn::Jump { off: short?.into(), long: false },
        Insn::Jump { long: true, .. } => Insn::Jump { off: wide?, long: true },
        Insn::JumpIf { condition, width, dst, src, .. } => Insn::JumpIf { condition, width, dst, src, off: short? },
        Insn::MayGoto { .. } => Insn::MayGoto { off: short? },
        Insn::Call(Callee::Local(_)) => Insn::Call(Callee::Local(wide?)),
        Insn::LoadImm64 { dst, value: Imm64::Code(_) } => Insn::LoadImm64 { dst, value: Imm64::Code(wide?) },
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
        | Insn::Call(Callee::Helper(_) | Callee::Kfunc { .. } | Callee::Reg(_))
        | Insn::Exit => insn,
    })
}
