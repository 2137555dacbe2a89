//! What usually causes a trap, and what to do about it.

use softbpf::memory::{Fault, FaultKind, Nearest, ObjectKind, STACK_FRAME};
use softbpf::outcome::{ArgumentProblem, Trap, TrapKind};

use super::sentence::NEAR;

/// Advice, where there is some. `no_context`: the program got no context.
pub(crate) fn hint(trap: &Trap, no_context: bool) -> Option<String> {
    let hint = match &trap.kind {
        TrapKind::Memory(fault) => return memory(fault, trap, no_context),
        TrapKind::BadArgument { problem, helper, .. } => return argument(problem, helper, trap, no_context),
        TrapKind::OutOfFuel { .. } => "a loop without an end? --fuel N allows more instructions".to_owned(),
        TrapKind::HelperBytes => "a loop without an end that calls helpers?".to_owned(),
        TrapKind::NoPacket { .. } => {
            "these loads need the context in r6, and a packet: --packet HEX, with --type if the section says none"
                .to_owned()
        }
        TrapKind::TooDeep => "a function that calls itself without an end? The kernel allows 8 frames".to_owned(),
        TrapKind::NoHelper { name: Some(name), .. } => {
            format!("--mock {name}=VALUE makes it return a constant")
        }
        TrapKind::NoHelper { number, name: None } => {
            format!("no kernel has this helper; --mock {number}=VALUE makes it return a constant")
        }
        TrapKind::NoKfunc { .. } => "kernel functions cannot be provided from the command line yet".to_owned(),
        TrapKind::NoExtern { .. } => "kernel variables cannot be provided from the command line yet".to_owned(),
        TrapKind::NoMap { .. } => "bytecode that names maps by descriptor needs the object that has them".to_owned(),
        TrapKind::NoMapValue { .. } => "only arrays and global data have a value whose address is known".to_owned(),
        TrapKind::BadProgram { .. } => "a slot of a program array holds a program that was refused".to_owned(),
        TrapKind::BadCallTarget { .. } => "the register does not hold the address of a function".to_owned(),
        TrapKind::UnreleasedRecord { .. } => {
            "every path behind bpf_ringbuf_reserve must reach bpf_ringbuf_submit or bpf_ringbuf_discard".to_owned()
        }
        TrapKind::MockReentered { .. } | TrapKind::Stopped { .. } => return None,
    };
    Some(hint)
}

fn argument(problem: &ArgumentProblem, helper: &str, trap: &Trap, no_context: bool) -> Option<String> {
    let hint = match problem {
        ArgumentProblem::Memory(fault) => return memory(fault, trap, no_context),
        ArgumentProblem::NotAMap { value: 0 } => "the instruction that loads the map has not been relocated?",
        ArgumentProblem::NotAMap { .. } | ArgumentProblem::WrongMapType { .. } => {
            return Some(format!("bpf_{helper} takes a pointer to a map of its own kind"));
        }
        ArgumentProblem::ZeroSize => "check the size before the call: the compiler may not know that it is not 0",
        ArgumentProblem::UnterminatedString { .. } => "end the string with a zero byte",
        ArgumentProblem::NotARecord { .. } => "pass what bpf_ringbuf_reserve returned, once, and not when it is null",
        ArgumentProblem::NotContext { .. } => "pass the program's first argument unchanged",
        ArgumentProblem::TooLong { .. } | ArgumentProblem::NotMemory => return None,
    };
    Some(hint.to_owned())
}

fn memory(fault: &Fault, trap: &Trap, no_context: bool) -> Option<String> {
    let hint = match fault.kind {
        FaultKind::Null if no_context => {
            "check pointers before use; the program got no context either: --ctx-hex or --ctx-file gives it one"
        }
        FaultKind::Null => {
            "check pointers before use: bpf_map_lookup_elem returns null for a key that is not in the map"
        }
        FaultKind::Uninitialised => {
            "the stack starts out with whatever was there before: write it first, or run without --strict"
        }
        FaultKind::NotMapped => {
            "kernel and user memory is read by bpf_probe_read_kernel and its like; --mem ADDR=HEX places some"
        }
        FaultKind::ReadOnly => return trap.nearest.as_ref().map(read_only),
        FaultKind::OutOfBounds => {
            let nearest = trap.nearest.as_ref().filter(|nearest| nearest.distance.unsigned_abs() <= NEAR);
            return Some(nearest.map_or_else(
                || "the address is no pointer: a number, or a pointer from an earlier run?".to_owned(),
                |nearest| out_of_bounds(nearest, fault),
            ));
        }
    };
    Some(hint.to_owned())
}

fn read_only(nearest: &Nearest) -> String {
    match &nearest.kind {
        ObjectKind::Data { section } => {
            format!("programs cannot change {section}; --set NAME=VALUE sets a variable before the run")
        }
        ObjectKind::Context => "programs of this type may not change this part of the context".to_owned(),
        ObjectKind::Packet => "programs of this type may not change the packet directly".to_owned(),
        ObjectKind::MapValue { map, .. } => format!("map {map} was made with BPF_F_RDONLY_PROG"),
        ObjectKind::Stack { .. } | ObjectKind::Record { .. } | ObjectKind::Placed { .. } => {
            "the program may only read this memory".to_owned()
        }
    }
}

fn out_of_bounds(nearest: &Nearest, fault: &Fault) -> String {
    match &nearest.kind {
        ObjectKind::Packet => "compare the end of what is read with data_end before reading it".to_owned(),
        ObjectKind::MapValue { .. } => {
            format!("values of this map have {} bytes: is an index or offset checked?", nearest.size)
        }
        ObjectKind::Stack { .. } if fault.addr < nearest.start => {
            format!("a frame has {STACK_FRAME} bytes, from r10 - {STACK_FRAME} on")
        }
        ObjectKind::Stack { .. } => "nothing of the frame lies at or above r10".to_owned(),
        ObjectKind::Context if nearest.distance == 0 => {
            "programs of this type may not read this part of the context".to_owned()
        }
        ObjectKind::Context => format!("the context of this run has {} bytes", nearest.size),
        ObjectKind::Data { section } => {
            format!("{section} has {} bytes: is an index checked?", nearest.size)
        }
        ObjectKind::Record { .. } => format!("the record was reserved with {} bytes", nearest.size),
        ObjectKind::Placed { .. } => format!("{} bytes were placed there", nearest.size),
    }
}
