//! solana-sbpf as a peer: its interpreter, with its instruction meter on, as softbpf counts too.

use std::ptr::NonNull;
use std::sync::Arc;

use solana_sbpf::ebpf;
use solana_sbpf::elf::Executable;
use solana_sbpf::memory_region::{MemoryMapping, MemoryRegion};
use solana_sbpf::program::{BuiltinProgram, FunctionRegistry, SBPFVersion};
use solana_sbpf::vm::{CallFrame, Config, ContextObject, EbpfVm, ExecutionMode};

/// The version of its bytecode that is closest to the standard's.
const VERSION: SBPFVersion = SBPFVersion::V0;

#[derive(Debug)]
struct Context {
    remaining: u64,
    mapping: Option<Box<MemoryMapping>>,
}

impl ContextObject for Context {
    fn consume(&mut self, amount: u64) {
        self.remaining = self.remaining.saturating_sub(amount);
    }

    fn get_remaining(&self) -> u64 {
        self.remaining
    }

    fn active_mapping_ptr(&mut self) -> NonNull<MemoryMapping> {
        self.mapping.as_deref_mut().map_or(NonNull::dangling(), NonNull::from)
    }
}

/// A program loaded into solana-sbpf, with memory of its own.
#[allow(missing_debug_implementations)]
pub struct Solana {
    executable: Executable<Context>,
    memory: Vec<u8>,
    stack: Vec<u8>,
    frames: Vec<CallFrame>,
}

impl Solana {
    /// Loads raw bytecode.
    ///
    /// # Panics
    /// It refuses the bytecode.
    pub fn load(bytecode: &[u8], memory_size: usize) -> Solana {
        let config = Config { enable_symbol_and_section_labels: false, ..Config::default() };
        let loader = Arc::new(BuiltinProgram::new_loader(config));
        let executable = Executable::from_text_bytes(bytecode, loader, VERSION, FunctionRegistry::default())
            .unwrap_or_else(|error| panic!("solana-sbpf: {error}"));
        Solana {
            memory: vec![0; memory_size],
            stack: vec![0; executable.get_config().stack_size()],
            frames: vec![CallFrame::default(); executable.get_config().max_call_depth],
            executable,
        }
    }

    /// Runs the program on a copy of `memory`: `r0` and the instructions it counted.
    ///
    /// # Panics
    /// The program fails, or `memory` is not as long as said.
    pub fn run(&mut self, memory: &[u8]) -> (u64, u64) {
        self.memory.copy_from_slice(memory);
        let regions = vec![
            self.executable.get_ro_region(),
            MemoryRegion::new(&raw mut self.stack[..], ebpf::MM_STACK_START),
            MemoryRegion::new(&raw mut self.memory[..], ebpf::MM_INPUT_START),
        ];
        // SAFETY: the regions are slices of plain bytes that `self` owns, and the mapping is dropped before it
        // returns; nothing else touches them meanwhile.
        let mapping = unsafe { MemoryMapping::new(regions, self.executable.get_config(), VERSION) };
        let mapping = mapping.unwrap_or_else(|error| panic!("solana-sbpf: {error}"));
        let mut context = Context { remaining: u64::MAX / 2, mapping: Some(Box::new(mapping)) };
        let stack_len = self.stack.len();
        let mut vm = EbpfVm::new(self.executable.get_loader().clone(), VERSION, &mut context, stack_len);
        vm.registers[1] = ebpf::MM_INPUT_START;
        vm.registers[2] = memory.len() as u64;
        let (instructions, result) =
            vm.execute_program(&self.executable, &mut ExecutionMode::Interpreted, &mut self.frames);
        (Result::from(result).unwrap_or_else(|error| panic!("solana-sbpf: {error}")), instructions)
    }
}
