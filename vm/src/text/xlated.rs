//! Instructions and programs as `bpftool prog dump xlated` lists them: `(79) r7 = *(u64 *)(r1 +8)`.
//!
//! Follows `kernel/bpf/disasm.c` of Linux 6.18 and the `bpftool` of the same time. Where their text does not
//! say which instruction it is, and the kernel shows no such instruction, the text is made to say it: `callx r1`,
//! `call kfunc#5`, `r1 = map[idx:5]`, `r1 = btf[id:5]`. [`super::parse`] reads it all back, but for named
//! kernel functions, which read as helpers of that number, and named maps, which read as references to bind.
//! Names and source lines are the caller's; no table of helpers stands here.

use std::fmt;

use super::{Named, Source};
use crate::codec::{Code, encode_one};
use crate::insn::{AtomicOp, Callee, Imm64, Insn, Operand, PacketOffset, Reg, Size, Width};

/// Names for what instructions have numbers for. `&()` has none.
pub trait Names {
    /// The helper with this number: `bpf_map_lookup_elem`.
    fn helper(&self, number: i32) -> Option<&str> {
        let _ = number;
        None
    }

    /// The kernel function with this BTF id, in the BTF of this module.
    fn kfunc(&self, btf_id: i32, module: i16) -> Option<&str> {
        let _ = (btf_id, module);
        None
    }

    /// What to write for the map with this descriptor, between the brackets of `map[id:5]`.
    fn map(&self, fd: i32) -> Option<String> {
        let _ = fd;
        None
    }
}

impl Names for () {}

/// The instruction's text with its opcode, without slot and line end.
///
/// ```
/// use softbpf::asm::{Insn, R1, R10, Size};
/// use softbpf::text::xlated;
///
/// let insn = Insn::store(Size::DW, R10, -8, R1);
/// assert_eq!(xlated::text(&insn, &()).to_string(), "(7b) *(u64 *)(r10 -8) = r1");
/// ```
pub fn text<'a>(insn: &Insn, names: &'a dyn Names) -> impl fmt::Display + use<'a> {
    Text { insn: *insn, names }
}

struct Text<'a> {
    insn: Insn,
    names: &'a dyn Names,
}

/// `(u64 *)(r10 -8)`.
struct Memory(Size, Reg, i16);

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Memory(size, base, off) = *self;
        write!(f, "({} *)({base} {off:+})", size.c_type())
    }
}

fn decimal(operand: Operand, width: Width) -> impl fmt::Display {
    Source(operand, width, |imm| imm.to_string())
}

fn hex(operand: Operand, width: Width) -> impl fmt::Display {
    Source(operand, width, |imm| format!("{imm:#x}"))
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match encode_one(&self.insn) {
            Ok(bytes) => write!(f, "({:02x}) ", bytes[0])?,
            Err(_) => f.write_str("(??) ")?,
        }
        match self.insn {
            Insn::Alu { op, width, dst, src } => {
                write!(f, "{} {} {}", Named(dst, width), op.symbol(), decimal(src, width))
            }
            Insn::Neg { width, dst } => write!(f, "{0} = -{0}", Named(dst, width)),
            Insn::MovSx { width, from, dst, src } => {
                write!(f, "{} = (s{}){}", Named(dst, width), from.bytes() * 8, Named(src, width))
            }
            Insn::End { order, width, dst } => write!(f, "{dst} = {}{} {dst}", order.spelling(), width.bits()),
            Insn::AddrSpaceCast { dst, src, dst_space, src_space } => {
                write!(f, "{dst} = addr_space_cast({src}, {dst_space}, {src_space})")
            }
            Insn::LoadImm64 { dst, value } => {
                write!(f, "{dst} = ")?;
                self.fmt_imm64(f, value)
            }
            Insn::Load { size, signed: false, dst, base, off } => write!(f, "{dst} = *{}", Memory(size, base, off)),
            Insn::Load { size, signed: true, dst, base, off } => {
                write!(f, "{dst} = *(s{} *)({base} {off:+})", size.bytes() * 8)
            }
            Insn::Store { size, base, off, src } => {
                write!(f, "*{} = {}", Memory(size, base, off), decimal(src, Width::W64))
            }
            Insn::Atomic { op, width, base, off, src } => fmt_atomic(f, op, width, (base, off), src),
            Insn::LoadAcquire { size, dst, base, off } => {
                write!(f, "{dst} = load_acquire({})", Memory(size, base, off))
            }
            Insn::StoreRelease { size, base, off, src } => {
                write!(f, "store_release({}, {src})", Memory(size, base, off))
            }
            Insn::LoadPacket { size, offset: PacketOffset::Abs(imm) } => {
                write!(f, "r0 = *({} *)skb[{imm}]", size.c_type())
            }
            Insn::LoadPacket { size, offset: PacketOffset::Ind(reg, imm) } => {
                write!(f, "r0 = *({} *)skb[{reg} + {imm}]", size.c_type())
            }
            Insn::Jump { off, long } => write!(f, "{} pc{off:+}", if long { "gotol" } else { "goto" }),
            Insn::JumpIf { condition, width, dst, src, off } => {
                write!(f, "if {} {} {} goto pc{off:+}", Named(dst, width), condition.symbol(), hex(src, width))
            }
            Insn::MayGoto { off } => write!(f, "may_goto pc{off:+}"),
            Insn::Call(callee) => self.fmt_call(f, callee),
            Insn::Exit => f.write_str("exit"),
        }
    }
}

fn fmt_atomic(
    f: &mut fmt::Formatter<'_>,
    op: AtomicOp,
    width: Width,
    (base, off): (Reg, i16),
    src: Reg,
) -> fmt::Result {
    let (size, prefix) = match width {
        Width::W32 => (Size::W, "atomic"),
        Width::W64 => (Size::DW, "atomic64"),
    };
    let (memory, symbol) = (Memory(size, base, off), op.symbol());
    match op {
        AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => write!(f, "lock *{memory} {symbol} {src}"),
        AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor | AtomicOp::Xchg => {
            write!(f, "{src} = {prefix}_{symbol}({memory}, {src})")
        }
        AtomicOp::Cmpxchg => write!(f, "r0 = {prefix}_{symbol}({memory}, r0, {src})"),
    }
}

impl Text<'_> {
    fn fmt_imm64(&self, f: &mut fmt::Formatter<'_>, value: Imm64) -> fmt::Result {
        let map = |fd: i32| self.names.map(fd).unwrap_or_else(|| format!("id:{fd}"));
        match value {
            Imm64::Value(value) => write!(f, "{value:#x}"),
            Imm64::MapFd(fd) => write!(f, "map[{}]", map(fd)),
            Imm64::MapValue { fd, offset } => write!(f, "map[{}][0]+{offset}", map(fd)),
            Imm64::Variable { btf_id, btf_fd: 0 } => write!(f, "btf[id:{btf_id}]"),
            Imm64::Variable { btf_id, btf_fd } => write!(f, "btf[id:{btf_id},fd:{btf_fd}]"),
            Imm64::Code(off) => write!(f, "subprog[{off:+}]"),
            Imm64::MapIndex(index) => write!(f, "map[idx:{index}]"),
            Imm64::MapIndexValue { index, offset } => write!(f, "map[idx:{index}]+{offset}"),
        }
    }

    fn fmt_call(&self, f: &mut fmt::Formatter<'_>, callee: Callee) -> fmt::Result {
        match callee {
            Callee::Helper(number) => {
                write!(f, "call {}#{number}", self.names.helper(number).unwrap_or("unknown"))
            }
            Callee::Local(off) => write!(f, "call pc{off:+}"),
            Callee::Kfunc { btf_id, module } => match self.names.kfunc(btf_id, module) {
                Some(name) => write!(f, "call {name}#{btf_id}"),
                None if module == 0 => write!(f, "call kfunc#{btf_id}"),
                None => write!(f, "call kfunc#{btf_id},{module}"),
            },
            Callee::Reg(reg) => write!(f, "callx {reg}"),
        }
    }
}

/// A program to list. [`fmt::Display`] writes what `bpftool prog dump xlated` prints.
///
/// ```
/// use softbpf::asm::{Assembler, Insn, R0};
/// use softbpf::text::xlated::{SourceLine, Xlated};
///
/// let code = Assembler::new().push(Insn::mov(R0, 2)).push(Insn::exit()).finish()?;
/// let mut xlated = Xlated::new(&code, &());
/// xlated.functions = vec![(0, "int pass(struct xdp_md * ctx)")];
/// xlated.lines = vec![SourceLine { slot: 0, text: "\treturn XDP_PASS;", file: "pass.c", line: 7, column: 2 }];
/// assert_eq!(
///     xlated.to_string(),
///     "int pass(struct xdp_md * ctx):\n\
///      ; return XDP_PASS;\n   \
///      0: (b7) r0 = 2\n   \
///      1: (95) exit\n"
/// );
/// # Ok::<(), softbpf::asm::AssembleError>(())
/// ```
pub struct Xlated<'a> {
    /// The program.
    pub code: &'a Code,
    /// Names of helpers, kernel functions and maps.
    pub names: &'a dyn Names,
    /// First slots and C signatures of the functions, in order of slots (BTF `func_info`).
    pub functions: Vec<(usize, &'a str)>,
    /// Source lines in order of slots (BTF `line_info`).
    pub lines: Vec<SourceLine<'a>>,
    /// Show the bytes of every instruction under it: `bpftool ... opcodes`.
    pub opcodes: bool,
    /// Show where every source line stands: `bpftool ... linum`.
    pub linum: bool,
}

/// The source line that a program's instructions from some slot on come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLine<'a> {
    /// The first slot that comes from this line.
    pub slot: usize,
    /// The line itself; white space in front of it is not shown.
    pub text: &'a str,
    /// Name of its file.
    pub file: &'a str,
    /// Line number, from 1.
    pub line: u32,
    /// Column number, from 1.
    pub column: u32,
}

impl<'a> Xlated<'a> {
    /// The listing without source lines.
    pub fn new(code: &'a Code, names: &'a dyn Names) -> Xlated<'a> {
        Xlated { code, names, functions: Vec::new(), lines: Vec::new(), opcodes: false, linum: false }
    }

    fn fmt_line(&self, f: &mut fmt::Formatter<'_>, line: &SourceLine<'_>) -> fmt::Result {
        write!(f, "; {}", line.text.trim_start())?;
        if self.linum {
            write!(f, " [file:{} line_num:{} line_col:{}]", line.file, line.line, line.column)?;
        }
        writeln!(f)
    }

    fn fmt_opcodes(&self, f: &mut fmt::Formatter<'_>, insn: &Insn) -> fmt::Result {
        if let Ok(bytes) = encode_one(insn) {
            write!(f, "      ")?;
            bytes.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
        }
        writeln!(f)
    }
}

impl fmt::Display for Xlated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut functions = self.functions.iter().peekable();
        let mut shown_lines = 0;
        let mut reached_lines = 0;
        for (slot, insn) in self.code.iter() {
            if let Some((_, signature)) = functions.next_if(|(first, _)| *first == slot)
                && !signature.is_empty()
            {
                writeln!(f, "{signature}:")?;
            }
            // As libbpf's bpf_prog_linfo__lfind: of the lines up to here, the last; and each time one is shown,
            // one more line counts as done, whichever it was.
            let reached = self.lines[reached_lines..].iter().take_while(|line| line.slot <= slot).count();
            reached_lines += reached;
            if shown_lines < reached_lines {
                self.fmt_line(f, &self.lines[reached_lines - 1])?;
                shown_lines += 1;
            }
            writeln!(f, "{slot:4}: {}", text(insn, self.names))?;
            if self.opcodes {
                self.fmt_opcodes(f, insn)?;
            }
        }
        Ok(())
    }
}
