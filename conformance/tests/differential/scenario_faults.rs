//! Faults around calls, frames, pointers, helpers, maps and tail calls, to be planted in the model as those of `faults`.

use softbpf::insn::AluOp;
use softbpf::insn::{Callee, Imm64, Insn, Operand, Reg, Size, Width};
use softbpf_conformance::generator::scenario::layout;
use softbpf_conformance::model::helpers::{
    GET_PRANDOM_U32, GET_SMP_PROCESSOR_ID, MAP_DELETE_ELEM, MAP_LOOKUP_ELEM, MAP_UPDATE_ELEM, TAIL_CALL,
};
use softbpf_conformance::model::maps::{Kind, MapSetup, errno};
use softbpf_conformance::model::{Executed, Model, Setup};

use super::faults::{Fault, address, fault, index, operand, overwrite};

/// A fault in what a machine starts with.
const fn wrong_setup(name: &'static str, setup: fn(&mut Setup)) -> Fault {
    Fault { name, after: |_, _| (), setup }
}

/// Whether a helper has just returned, and to this program.
fn returned(model: &Model<'_>, done: &Executed, helper: i32) -> bool {
    done.insn == Insn::Call(Callee::Helper(helper)) && !tail_called(model, done)
}

/// Whether another program has just started: nothing but that leaves a helper with a context in `r1`.
fn tail_called(model: &Model<'_>, done: &Executed) -> bool {
    done.insn == Insn::Call(Callee::Helper(TAIL_CALL)) && model.registers[1] != 0
}

/// Whether a function has just been entered.
fn called(model: &Model<'_>, done: &Executed) -> bool {
    let calls = matches!(done.insn, Insn::Call(Callee::Local(_) | Callee::Reg(_)));
    calls && model.registers[10] != done.before[10]
}

fn failed(model: &Model<'_>, errno: i64) -> bool {
    model.registers[0] == (-errno) as u64
}

/// The setup of one of the maps.
fn map(setup: &mut Setup, map: i32) -> Option<&mut MapSetup> {
    setup.maps.get_mut(usize::try_from(map).ok()?)
}

pub(crate) const FAULTS: &[Fault] = &[
    // Calls and frames.
    fault("r6 is not the caller's again", |model, done| {
        if done.insn == Insn::Exit {
            model.registers[6] = done.before[6];
        }
    }),
    fault("r9 is not the caller's again", |model, done| {
        if done.insn == Insn::Exit {
            model.registers[9] = done.before[9];
        }
    }),
    fault("r10 is not the caller's again", |model, done| {
        if done.insn == Insn::Exit {
            model.registers[10] = done.before[10];
        }
    }),
    fault("a function's return clears r1 to r5", |model, done| {
        if done.insn == Insn::Exit {
            model.registers[1..=5].fill(0);
        }
    }),
    fault("a function starts with a cleared r6", |model, done| {
        if called(model, done) {
            model.registers[6] = 0;
        }
    }),
    fault("a function starts with a cleared frame", |model, done| {
        if called(model, done) {
            let depth = model.depth();
            model.memory.regions[depth].bytes.fill(0);
        }
    }),
    fault("a frame stays when its function has returned", |model, done| {
        if done.insn == Insn::Exit {
            let gone = model.depth() + 1;
            model.memory.regions[gone].open = true;
        }
    }),
    fault("the caller's frame is closed to its callee", |model, done| {
        if called(model, done) {
            let caller = model.depth() - 1;
            model.memory.regions[caller].open = false;
        } else if done.insn == Insn::Exit {
            let depth = model.depth();
            model.memory.regions[depth].open = true;
        }
    }),
    fault("callx does not open a frame of its own", |model, done| {
        if called(model, done) && matches!(done.insn, Insn::Call(Callee::Reg(_))) {
            model.registers[10] = done.before[10];
        }
    }),
    wrong_setup("frames lie side by side", |setup| {
        let first = setup.frames.first().copied().unwrap_or_default();
        for (depth, top) in (0..).zip(&mut setup.frames) {
            *top = first - depth * setup.frame_size as u64;
        }
    }),
    wrong_setup("there is a ninth frame", |setup| {
        let last = setup.frames.last().copied().unwrap_or_default();
        setup.frames.push(last - 0x400);
    }),
    wrong_setup("there are but seven frames", |setup| setup.frames.truncate(7)),
    // Loops.
    fault("may_goto jumps at once", |model, done| {
        if let Insn::MayGoto { off } = done.insn {
            model.go_to((done.slot + 1).wrapping_add_signed(off.into()));
        }
    }),
    fault("may_goto falls through five times", |model, done| {
        if let Insn::MayGoto { .. } = done.insn {
            model.loops = model.loops.min(5);
            model.loops -= u64::from(model.loops > 0);
        }
    }),
    fault("a jump back counts as two instructions", |model, done| {
        let back = done.insn.jump_offset().is_some_and(|off| off < 0);
        let taken = model.next().is_some_and(|(slot, _)| slot < done.slot);
        model.instructions += u64::from(back && taken);
    }),
    // Pointers.
    fault("a spill of four bytes writes eight", |model, done| {
        if let Insn::Store { size: Size::W, base: Reg::R10, off, src } = done.insn {
            overwrite(model, address(Reg::R10, off, &done.before), 8, operand(src, &done.before));
        }
    }),
    fault("a byte written into a spilled word replaces it", |model, done| {
        if let Insn::Store { size: Size::B, base: Reg::R10, off, src } = done.insn
            && off >= -128
        {
            let word = address(Reg::R10, off, &done.before) / 8 * 8;
            overwrite(model, word, 8, operand(src, &done.before) & 0xff);
        }
    }),
    fault("a negative displacement of a pointer is not sign-extended", |model, done| {
        if let Insn::Alu { op: AluOp::Add, width: Width::W64, dst, src: Operand::Imm(imm @ ..0) } = done.insn {
            model.registers[index(dst)] = done.before[index(dst)].wrapping_add(u64::from(imm as u32));
        }
    }),
    fault("the address of a map's value is that of its first byte", |model, done| {
        if let Insn::LoadImm64 { dst, value: Imm64::MapValue { offset, .. } } = done.insn {
            model.registers[index(dst)] -= u64::from(offset);
        }
    }),
    // Memory.
    wrong_setup("the packet has a byte more", |setup| {
        if let Some(packet) = &mut setup.packet {
            packet.bytes.push(0);
            packet.writable.push(true);
        }
    }),
    wrong_setup("struct xdp_md may be written", |setup| {
        if let Some(context) = &mut setup.context {
            context.writable.fill(true);
        }
    }),
    wrong_setup("constants may be written", |setup| {
        if let Some(map) = map(setup, layout::RODATA) {
            map.read_only = false;
        }
    }),
    wrong_setup("constants are zero", |setup| {
        if let Some(map) = map(setup, layout::RODATA) {
            map.initial.clear();
        }
    }),
    // Helpers and maps.
    fault("a helper leaves r1 to r5", |model, done| {
        if matches!(done.insn, Insn::Call(Callee::Helper(_))) && !tail_called(model, done) {
            model.registers[1..=5].copy_from_slice(&done.before[1..=5]);
        }
    }),
    fault("a lookup finds the value behind", |model, done| {
        if returned(model, done, MAP_LOOKUP_ELEM) && model.registers[0] != 0 {
            model.registers[0] += 8;
        }
    }),
    fault("a lookup of what is not there is not null", |model, done| {
        if returned(model, done, MAP_LOOKUP_ELEM) && model.registers[0] == 0 {
            model.registers[0] = 1;
        }
    }),
    fault("every CPU sees the copies of the first", |model, done| {
        let map = &model.maps[layout::PERCPU as usize].setup;
        if returned(model, done, MAP_LOOKUP_ELEM) && done.before[1] == map.handle && model.registers[0] != 0 {
            model.registers[0] -= map.stride * model.world.cpu as u64;
        }
    }),
    fault("the last byte of a value is not written", |model, done| {
        let map = &model.maps[layout::ARRAY as usize].setup;
        if returned(model, done, MAP_UPDATE_ELEM) && done.before[1] == map.handle && model.registers[0] == 0 {
            let key = model.memory.load(done.before[2], 4).unwrap_or(0);
            let last = map.start + map.stride * key + map.value_size as u64 - 1;
            overwrite(model, last, 1, 0);
        }
    }),
    fault("BPF_NOEXIST is not looked at", |model, done| {
        if returned(model, done, MAP_UPDATE_ELEM) && failed(model, errno::EEXIST) {
            model.registers[0] = 0;
        }
    }),
    fault("deleting what is not there succeeds", |model, done| {
        if returned(model, done, MAP_DELETE_ELEM) && failed(model, errno::ENOENT) {
            model.registers[0] = 0;
        }
    }),
    wrong_setup("an LRU map does not evict", |setup| {
        if let Some(map) = map(setup, layout::LRU) {
            map.kind = Kind::Hash { lru: false, spare: false };
        }
    }),
    wrong_setup("a hash has room for one element more", |setup| {
        if let Some(map) = map(setup, layout::HASH) {
            map.max_entries += 1;
        }
    }),
    wrong_setup("an element is replaced in the place that was freed last", |setup| {
        if let Some(map) = map(setup, layout::HASH) {
            map.kind = Kind::Hash { lru: false, spare: false };
        }
    }),
    wrong_setup("time stands still", |setup| setup.world.step = 0),
    wrong_setup("thread and process change places", |setup| {
        setup.world.pid_tgid = setup.world.pid_tgid.rotate_left(32);
    }),
    fault("random numbers have 33 bits", |model, done| {
        if returned(model, done, GET_PRANDOM_U32) {
            model.registers[0] += 1 << 32;
        }
    }),
    fault("all CPUs are the first", |model, done| {
        if returned(model, done, GET_SMP_PROCESSOR_ID) {
            model.registers[0] = 0;
        }
    }),
    // Tail calls.
    fault("there are 32 tail calls", |model, done| {
        if tail_called(model, done) && model.tail_calls == 1 {
            model.tail_calls = 2;
        }
    }),
    fault("a tail call keeps r6", |model, done| {
        if tail_called(model, done) {
            model.registers[6] = done.before[6];
        }
    }),
    fault("a tail call finds a frame that was used", |model, done| {
        if tail_called(model, done) {
            let depth = model.depth();
            model.memory.regions[depth].bytes.fill(0x5a);
        }
    }),
    fault("a tail call is not counted as an instruction", |model, done| {
        if tail_called(model, done) {
            model.instructions -= 1;
        }
    }),
    fault("a tail call that fails returns 0", |model, done| {
        if returned(model, done, TAIL_CALL) {
            model.registers[0] = 0;
        }
    }),
    wrong_setup("the budget is one instruction more", |setup| setup.fuel += 1),
];
