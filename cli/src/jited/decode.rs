//! Machine code to text, with names for the places that it goes to and for what it shares with the engine.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Decoder, DecoderOptions, Formatter as _, Instruction, IntelFormatter, Mnemonic, OpKind, Register, SymbolResolver,
    SymbolResult,
};
use softbpf::map_spec::MapSpec;
use softbpf_jit::inspect::{Compilation, cell_name};

use super::Machine;
use crate::render::clean;

/// Places with a name, by offset.
type Labels = BTreeMap<u64, String>;

/// All of a program's code in order; `slots` are those of its instructions. Addresses are offsets in the code.
pub(super) fn decode(compilation: &Compilation, slots: &[usize], maps: &[MapSpec]) -> Vec<Machine> {
    let code = Decoder::with_ip(64, &compilation.code, 0, DecoderOptions::NONE).into_iter();
    let code: Vec<Instruction> = code.collect();
    let targets = code.iter().filter_map(target);
    let named: BTreeSet<u64> = targets.collect();
    let labels = labels(compilation, slots, maps, &code);
    let shown = |offset: u64| labels.get(&offset).filter(|_| named.contains(&offset)).cloned();
    let labelled: Vec<Option<String>> = code.iter().map(|instruction| shown(instruction.ip())).collect();
    let mut formatter = formatter(labels);
    let lines = code.iter().zip(labelled).map(|(instruction, label)| {
        let mut text = String::new();
        // Handles and addresses are no negative numbers.
        let wide = instruction.op1_kind() == OpKind::Immediate64;
        formatter.options_mut().set_signed_immediate_operands(!wide);
        formatter.format(instruction, &mut text);
        let range = instruction.ip() as usize..instruction.next_ip() as usize;
        let bytes = compilation.code.get(range).unwrap_or_default().to_vec();
        Machine { offset: instruction.ip() as usize, label, bytes, text }
    });
    lines.collect()
}

/// Where a jump or a call goes.
fn target(instruction: &Instruction) -> Option<u64> {
    (instruction.op0_kind() == OpKind::NearBranch64).then(|| instruction.near_branch_target())
}

/// `slot_7` is the code of that slot, `search_counts` the routine that searches the map `counts`, `stub_7` what code of slot 7
/// jumps to behind the program; `stub_7_2` its second one.
fn labels(compilation: &Compilation, slots: &[usize], maps: &[MapSpec], code: &[Instruction]) -> Labels {
    let mut labels = Labels::new();
    let start = |offset: usize| code.partition_point(|instruction| (instruction.ip() as usize) < offset);
    for (compiled, slot) in compilation.insns.iter().zip(slots) {
        let own = &code[start(compiled.code.start)..start(compiled.code.end)];
        // Jumps go behind what aligns the code.
        if let Some(first) = own.iter().find(|instruction| instruction.mnemonic() != Mnemonic::Nop) {
            labels.insert(first.ip(), format!("slot_{slot}"));
        }
    }
    for search in &compilation.searches {
        let name = maps.get(search.map).map_or_else(|| search.map.to_string(), |map| clean(&map.name));
        labels.insert(search.entry as u64, format!("search_{name}"));
    }
    let end = compilation.insns.last().map_or(0, |insn| insn.code.end) as u64;
    for (compiled, slot) in compilation.insns.iter().zip(slots) {
        let own = &code[start(compiled.code.start)..start(compiled.code.end)];
        let stubs = own.iter().filter_map(target).filter(|&target| target >= end);
        let mut number = 1;
        for stub in stubs {
            labels.entry(stub).or_insert_with(|| {
                number += 1;
                if number == 2 { format!("stub_{slot}") } else { format!("stub_{slot}_{}", number - 1) }
            });
        }
    }
    labels
}

struct Names(Labels);

impl SymbolResolver for Names {
    fn symbol(
        &mut self,
        instruction: &Instruction,
        _: u32,
        operand: Option<u32>,
        address: u64,
        _: u32,
    ) -> Option<SymbolResult<'_>> {
        if target(instruction) == Some(address) {
            let (&at, name) = self.0.range(..=address).next_back()?;
            return Some(SymbolResult::with_str(at, name));
        }
        let is_memory = operand.is_some_and(|operand| instruction.op_kind(operand) == OpKind::Memory);
        let is_cell = instruction.memory_base() == Register::R12 && instruction.memory_index() == Register::None;
        let name = (is_memory && is_cell).then(|| cell_name(address as i64))??;
        Some(SymbolResult::with_string(address, name))
    }
}

fn formatter(labels: Labels) -> IntelFormatter {
    let mut formatter = IntelFormatter::with_options(Some(Box::new(Names(labels))), None);
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_space_after_operand_separator(true);
    options.set_show_branch_size(false);
    options.set_first_operand_char_index(7);
    formatter
}
