//! Programs of all sizes, and what a process maps for them: never writable and executable at once, and gone with the engine.

use std::error::Error;
use std::sync::{Mutex, PoisonError};

use softbpf::asm::{Insn, R0, R1, R2, R10};
use softbpf::codec::Code;
use softbpf::context::Bytes;
use softbpf::engine::Engine;
use softbpf::insn::Size;
use softbpf::interp::Interpreter;
use softbpf::object::MAIN;
use softbpf::program::{Program, ProgramInfo};
use softbpf::program_type::ProgramType;
use softbpf::{Config, Machine, Object, Outcome};
use softbpf_conformance::{TestResult, engines};

const SIZES: [usize; 4] = [1, 511, 4_096, 1_000_000];

/// What a process maps is looked at by one test at a time.
static MAPPINGS: Mutex<()> = Mutex::new(());

/// So many instructions: arithmetic, accesses that are proved, likely or neither, and jumps as far as there are.
fn program(size: usize) -> Result<Object, Box<dyn Error>> {
    let pattern = [
        Insn::add(R0, 3),
        Insn::store(Size::DW, R10, -8, R0),
        Insn::mul(R0, 0x0101_0101),
        Insn::load(Size::B, R2, R1, 5),
        Insn::add(R0, R2),
        Insn::rsh(R0, 3),
        Insn::load(Size::DW, R2, R10, -8),
        Insn::xor(R0, R2),
        Insn::xor(R1, 0x5a5a),
        Insn::xor(R1, 0x5a5a),
        Insn::store(Size::B, R1, 9, R0),
    ];
    let mut insns = vec![Insn::exit(); size];
    if let Some([first, forward, middle @ .., out, back, _]) = insns.get_mut(..) {
        *first = Insn::mov(R0, 1);
        *forward = Insn::jump_long(i32::try_from(middle.len())? + 1);
        middle.iter_mut().zip(pattern.iter().cycle()).for_each(|(insn, &part)| *insn = part);
        *back = Insn::jump_long(-i32::try_from(middle.len())? - 2);
        *out = Insn::jump_long(1);
    }
    let program = Program::new(ProgramInfo::new(MAIN, ProgramType::Unspec), Code::from(insns))?;
    Ok(Object::from_programs(vec![program], Vec::new()))
}

fn machine(size: usize, engine: Box<dyn Engine>) -> Result<Machine, Box<dyn Error>> {
    let mut vm = Machine::with_config(&program(size)?, Config { engine, ..Config::default() })?;
    vm.fuel = 1 << 30;
    Ok(vm)
}

fn run(vm: &mut Machine) -> Result<Outcome, Box<dyn Error>> {
    Ok(vm.run(MAIN, Bytes(&[7; 64]))?)
}

#[test]
fn programs_of_all_sizes_run() -> TestResult {
    let _alone = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    for size in SIZES {
        let expected = run(&mut machine(size, Box::new(Interpreter::new()))?)?;
        assert_eq!(expected.instructions, size as u64, "{size}");
        for engine in engines() {
            let mut vm = machine(size, engine())?;
            let outcome = run(&mut vm)?;
            assert!(outcome == expected, "{size} on {}", vm.engine_name());
            // The same engine, when there is fuel for all but the last instruction.
            vm.fuel = size as u64 - 1;
            let outcome = run(&mut vm)?;
            assert_eq!((outcome.ret.is_err(), outcome.instructions), (true, vm.fuel), "{size} on {}", vm.engine_name());
        }
    }
    Ok(())
}

/// Bytes of this process that are anonymous and executable. No bytes of it are executable and writable.
#[cfg(target_os = "linux")]
fn executable() -> Result<u64, Box<dyn Error>> {
    let mut bytes = 0;
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, permissions, _, _, _, name @ ..] = &fields[..] else { continue };
        assert!(!(permissions.contains('w') && permissions.contains('x')), "{line}");
        if permissions.contains('x') && name.is_empty() {
            let (start, end) = range.split_once('-').ok_or("no range")?;
            bytes += u64::from_str_radix(end, 16)? - u64::from_str_radix(start, 16)?;
        }
    }
    Ok(bytes)
}

#[cfg(target_os = "linux")]
#[test]
fn code_is_never_writable_and_goes_with_its_engine() -> TestResult {
    let _alone = MAPPINGS.lock().unwrap_or_else(PoisonError::into_inner);
    for engine in engines() {
        // What all engines share stays.
        drop(engine());
        let before = executable()?;
        let mut vm = machine(4_096, engine())?;
        let is_jit = vm.engine_name() != Interpreter::new().name();
        run(&mut vm)?;
        // A byte an instruction is the least there can be.
        assert_eq!(executable()? >= before + 4_096, is_jit, "{}", vm.engine_name());
        run(&mut vm)?;
        drop(vm);
        assert_eq!(executable()?, before);
    }
    Ok(())
}
