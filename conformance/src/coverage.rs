//! Which vectors exercise which instruction: one row an operation x width x source of the instruction set.
//!
//! A vector accepts a row when its program holds such an instruction and is not rejected. It rejects a row when the
//! instruction at fault is of that row: if the bytes do not decode, of the row that they are of once the fewest fields
//! are set to 0.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use softbpf::codec::{Code, SLOT_BYTES, decode_one};
use softbpf::insn::{
    AluOp, AtomicOp, ByteOrder, Callee, Condition, Imm64, Insn, Operand, PacketOffset, Reg, Size, SwapWidth, Width,
};

use crate::case::{Case, End, group_name};

const WIDTHS: [Width; 2] = [Width::W32, Width::W64];
const SOURCES: [Operand; 2] = [Operand::Imm(0), Operand::Reg(Reg::R0)];

/// Vectors of one row: file, and how many of its cases.
pub type Files = BTreeMap<String, usize>;

/// What is known of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The instruction, with `r0`, offset 0 and immediate 0.
    pub insn: Insn,
    /// Vectors whose programs run it.
    pub accepting: Files,
    /// Vectors that reject one like it.
    pub rejecting: Files,
    /// Engines on which all of these passed.
    pub engines: BTreeSet<String>,
}

/// Counts the cases of each row; with each case come the engines that it passed on.
pub fn rows<'c>(cases: impl IntoIterator<Item = (&'c Case, BTreeSet<String>)>) -> Vec<Row> {
    let mut rows: Vec<Row> = every_row().into_iter().map(Row::new).collect();
    let index: BTreeMap<Insn, usize> = rows.iter().enumerate().map(|(index, row)| (row.insn, index)).collect();
    for (case, engines) in cases {
        let rejected = matches!(case.expect.end, End::Rejected(..));
        let insns = if rejected { at_fault(case) } else { case.insns() };
        for insn in insns.into_iter().map(row_of).collect::<BTreeSet<_>>() {
            let Some(row) = index.get(&insn).and_then(|&index| rows.get_mut(index)) else { continue };
            row.add(case, rejected, &engines);
        }
    }
    rows
}

impl Row {
    fn new(insn: Insn) -> Row {
        Row { insn, accepting: Files::new(), rejecting: Files::new(), engines: BTreeSet::new() }
    }

    fn add(&mut self, case: &Case, rejected: bool, engines: &BTreeSet<String>) {
        if self.accepting.is_empty() && self.rejecting.is_empty() {
            self.engines = engines.clone();
        } else {
            self.engines.retain(|engine| engines.contains(engine));
        }
        let files = if rejected { &mut self.rejecting } else { &mut self.accepting };
        *files.entry(case.file.clone()).or_default() += 1;
    }
}

/// The instruction that the case says is at fault; none for reasons that are about no instruction.
fn at_fault(case: &Case) -> Vec<Insn> {
    let End::Rejected(_, slot) = case.expect.end else { return Vec::new() };
    if let Ok(code) = Code::decode(case.bytes()) {
        return code.index_at(slot).and_then(|index| code.insns().get(index)).copied().into_iter().collect();
    }
    case.bytes().get(slot * SLOT_BYTES..).and_then(mended).into_iter().collect()
}

/// The instruction that these bytes are once as few fields as possible are 0.
fn mended(bytes: &[u8]) -> Option<Insn> {
    type Clear = fn(&mut [u8; 2 * SLOT_BYTES]);
    const FIELDS: [Clear; 5] = [
        |slots| slots[1] &= 0xf0,
        |slots| slots[1] &= 0x0f,
        |slots| slots[2..4].fill(0),
        |slots| slots[4..8].fill(0),
        |slots| slots[8..].fill(0),
    ];
    let mut slots = [0; 2 * SLOT_BYTES];
    slots.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = *byte);
    let mut choices: Vec<u32> = (0..1 << FIELDS.len()).collect();
    choices.sort_by_key(|choice| choice.count_ones());
    choices.into_iter().find_map(|choice| {
        let mut slots = slots;
        for (index, clear) in FIELDS.iter().enumerate() {
            if choice & 1 << index != 0 {
                clear(&mut slots);
            }
        }
        decode_one(&slots).ok()
    })
}

/// The row that an instruction belongs to: itself, with registers, offsets and immediates that say nothing.
pub fn row_of(insn: Insn) -> Insn {
    const R0: Reg = Reg::R0;
    let source = |operand| match operand {
        Operand::Reg(_) => Operand::Reg(R0),
        Operand::Imm(_) => Operand::Imm(0),
    };
    match insn {
        Insn::Alu { op, width, src, .. } => Insn::Alu { op, width, dst: R0, src: source(src) },
        Insn::Neg { width, .. } => Insn::Neg { width, dst: R0 },
        Insn::MovSx { width, from, .. } => Insn::MovSx { width, from, dst: R0, src: R0 },
        Insn::End { order, width, .. } => Insn::End { order, width, dst: R0 },
        Insn::AddrSpaceCast { .. } => Insn::AddrSpaceCast { dst: R0, src: R0, dst_space: 0, src_space: 1 },
        Insn::LoadImm64 { value, .. } => Insn::LoadImm64 { dst: R0, value: kind_of_load(value) },
        Insn::Load { size, signed, .. } => Insn::Load { size, signed, dst: R0, base: R0, off: 0 },
        Insn::Store { size, src, .. } => Insn::Store { size, base: R0, off: 0, src: source(src) },
        Insn::Atomic { op, width, .. } => Insn::Atomic { op, width, base: R0, off: 0, src: R0 },
        Insn::LoadAcquire { size, .. } => Insn::LoadAcquire { size, dst: R0, base: R0, off: 0 },
        Insn::StoreRelease { size, .. } => Insn::StoreRelease { size, base: R0, off: 0, src: R0 },
        Insn::LoadPacket { size, offset: PacketOffset::Abs(_) } => {
            Insn::LoadPacket { size, offset: PacketOffset::Abs(0) }
        }
        Insn::LoadPacket { size, offset: PacketOffset::Ind(..) } => {
            Insn::LoadPacket { size, offset: PacketOffset::Ind(R0, 0) }
        }
        Insn::Jump { long, .. } => Insn::Jump { off: 0, long },
        Insn::JumpIf { condition, width, src, .. } => {
            Insn::JumpIf { condition, width, dst: R0, src: source(src), off: 0 }
        }
        Insn::MayGoto { .. } => Insn::MayGoto { off: 0 },
        Insn::Call(callee) => Insn::Call(match callee {
            Callee::Helper(_) => Callee::Helper(0),
            Callee::Local(_) => Callee::Local(0),
            Callee::Kfunc { .. } => Callee::Kfunc { btf_id: 0, module: 0 },
            Callee::Reg(_) => Callee::Reg(R0),
        }),
        Insn::Exit => Insn::Exit,
    }
}

fn kind_of_load(value: Imm64) -> Imm64 {
    match value {
        Imm64::Value(_) => Imm64::Value(0),
        Imm64::MapFd(_) => Imm64::MapFd(0),
        Imm64::MapValue { .. } => Imm64::MapValue { fd: 0, offset: 0 },
        Imm64::Variable { .. } => Imm64::Variable { btf_id: 0, btf_fd: 0 },
        Imm64::Code(_) => Imm64::Code(0),
        Imm64::MapIndex(_) => Imm64::MapIndex(0),
        Imm64::MapIndexValue { .. } => Imm64::MapIndexValue { index: 0, offset: 0 },
    }
}

/// Every row of the instruction set, by the tables of operations.
pub fn every_row() -> Vec<Insn> {
    let r0 = Reg::R0;
    let mut all = Vec::new();
    for width in WIDTHS {
        for &op in AluOp::ALL {
            all.extend(SOURCES.map(|src| Insn::Alu { op, width, dst: r0, src }));
        }
        all.push(Insn::Neg { width, dst: r0 });
        all.extend([Size::B, Size::H].map(|from| Insn::MovSx { width, from, dst: r0, src: r0 }));
    }
    all.push(Insn::MovSx { width: Width::W64, from: Size::W, dst: r0, src: r0 });
    for &order in ByteOrder::ALL {
        all.extend(SwapWidth::ALL.map(|width| Insn::End { order, width, dst: r0 }));
    }
    all.push(row_of(Insn::AddrSpaceCast { dst: r0, src: r0, dst_space: 0, src_space: 0 }));
    memory_rows(&mut all);
    for width in WIDTHS {
        for &condition in Condition::ALL {
            all.extend(SOURCES.map(|src| Insn::JumpIf { condition, width, dst: r0, src, off: 0 }));
        }
    }
    all.extend([false, true].map(|long| Insn::Jump { off: 0, long }));
    all.push(Insn::MayGoto { off: 0 });
    let callees = [Callee::Helper(0), Callee::Local(0), Callee::Kfunc { btf_id: 0, module: 0 }, Callee::Reg(r0)];
    all.extend(callees.map(Insn::Call));
    all.push(Insn::Exit);
    all
}

fn memory_rows(all: &mut Vec<Insn>) {
    let r0 = Reg::R0;
    let loads = [
        Imm64::Value(0),
        Imm64::MapFd(0),
        Imm64::MapValue { fd: 0, offset: 0 },
        Imm64::Variable { btf_id: 0, btf_fd: 0 },
        Imm64::Code(0),
        Imm64::MapIndex(0),
        Imm64::MapIndexValue { index: 0, offset: 0 },
    ];
    all.extend(loads.map(|value| Insn::LoadImm64 { dst: r0, value }));
    for &size in Size::ALL {
        let narrow = size != Size::DW;
        all.push(Insn::Load { size, signed: false, dst: r0, base: r0, off: 0 });
        if narrow {
            all.push(Insn::Load { size, signed: true, dst: r0, base: r0, off: 0 });
        }
        all.extend(SOURCES.map(|src| Insn::Store { size, base: r0, off: 0, src }));
        all.push(Insn::LoadAcquire { size, dst: r0, base: r0, off: 0 });
        all.push(Insn::StoreRelease { size, base: r0, off: 0, src: r0 });
        if narrow {
            all.push(Insn::LoadPacket { size, offset: PacketOffset::Abs(0) });
            all.push(Insn::LoadPacket { size, offset: PacketOffset::Ind(r0, 0) });
        }
    }
    for width in WIDTHS {
        all.extend(AtomicOp::ALL.iter().map(|&op| Insn::Atomic { op, width, base: r0, off: 0, src: r0 }));
    }
}

/// The table, as Markdown.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "# Coverage of the instruction set\n\n\
         Made by `UPDATE_COVERAGE=1 cargo test -p softbpf-conformance --test coverage`; do not edit. A row is an\n\
         operation x width x source, written with `r0` (`w0`: 32 bits) and 0 for what varies. Accepting: vectors whose\n\
         program holds such an instruction and is loaded. Rejecting: vectors in which one like it must be refused. Engines:\n\
         those on which all of them passed.\n\n\
         | instruction | group | accepting | rejecting | engines |\n| --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let insn = row.insn.to_string().replace('|', "\\|").replace('\t', " ");
        let engines: Vec<&str> = row.engines.iter().map(String::as_str).collect();
        let group = group_name(Some(row.insn.group()));
        let (accepting, rejecting) = (files(&row.accepting), files(&row.rejecting));
        let _ = writeln!(text, "| `{insn}` | {group} | {accepting} | {rejecting} | {} |", engines.join(", "));
    }
    text
}

/// `120 (alu32, shift32)`; of many files those with the most cases.
fn files(files: &Files) -> String {
    const SHOWN: usize = 3;
    let total: usize = files.values().sum();
    let mut by_count: Vec<(&String, &usize)> = files.iter().collect();
    by_count.sort_by_key(|&(name, &count)| (std::cmp::Reverse(count), name));
    let names = by_count.iter().take(SHOWN).map(|(name, _)| name.split('.').next().unwrap_or_default());
    let mut names: Vec<&str> = names.collect();
    if files.len() > SHOWN {
        names.push("...");
    }
    format!("{total} ({})", names.join(", "))
}
