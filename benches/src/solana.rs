//! solana-sbpf as a peer: its interpreter and its JIT, as configured by default, with the instruction meter on, as
//! softbpf counts too.

use std::error::Error;
use std::fmt;
use std::hint::black_box;
use std::ptr::NonNull;
use std::sync::Arc;

use solana_sbpf::ebpf;
use solana_sbpf::elf::Executable;
use solana_sbpf::memory_region::{MemoryMapping, MemoryRegion};
use solana_sbpf::program::{BuiltinFunctionDefinition, BuiltinProgram, FunctionRegistry, SBPFVersion};
use solana_sbpf::vm::{CallFrame, Config, ContextObject, EbpfVm, ExecutionMode};

use crate::contestants::{Made, Memories, repeat};
use crate::measure::Contestant;
use crate::native::HELPER_RESULT;
use crate::workload::Workload;

/// The version of its bytecode that is closest to the standard's.
const VERSION: SBPFVersion = SBPFVersion::V0;

/// What its helpers go by: names.
const HELPER: &str = "helper";

/// Opcode of calls.
const CALL: u8 = 0x85;

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

struct Helper;

impl BuiltinFunctionDefinition<Context> for Helper {
    type Error = Box<dyn Error>;

    fn rust(_: &mut Context, _: u64, _: u64, _: u64, _: u64, _: u64) -> Result<u64, Box<dyn Error>> {
        Ok(black_box(HELPER_RESULT))
    }
}

/// A program loaded into solana-sbpf, with memory of its own.
pub(crate) struct Solana {
    executable: Executable<Context>,
    mode: ExecutionMode,
    memories: Memories,
    stack: Vec<u64>,
    frames: Vec<CallFrame>,
}

impl Solana {
    pub(crate) fn interpreter(workload: &Workload) -> Made {
        Ok(Box::new(Solana::load(workload, ExecutionMode::Interpreted)?))
    }

    pub(crate) fn jit(workload: &Workload) -> Made {
        let solana = Solana::load(workload, ExecutionMode::Jit)?;
        solana.executable.jit_compile().map_err(sentence)?;
        Ok(Box::new(solana))
    }

    fn load(workload: &Workload, mode: ExecutionMode) -> Result<Solana, String> {
        let memories = Memories::single(workload)?;
        // Stack frames without gaps between them, so that the stack is one piece of memory.
        let config = Config { enable_stack_frame_gaps: false, ..Config::default() };
        let mut loader = BuiltinProgram::new_loader(config);
        loader.register_definition::<Helper>(HELPER).map_err(sentence)?;
        let (bytecode, functions) = rewrite_calls(&workload.bytecode)?;
        let executable =
            Executable::from_text_bytes(&bytecode, Arc::new(loader), VERSION, functions).map_err(sentence)?;
        Ok(Solana {
            mode,
            memories,
            stack: vec![0; executable.get_config().stack_size() / 8],
            frames: vec![CallFrame::default(); executable.get_config().max_call_depth],
            executable,
        })
    }
}

/// Compiles a program, again and again.
pub(crate) struct Compiler(Solana);

impl Compiler {
    pub(crate) fn make(workload: &Workload) -> Made {
        Ok(Box::new(Compiler(Solana::load(workload, ExecutionMode::Jit)?)))
    }
}

impl Contestant for Compiler {
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        repeat(times, || {
            self.0.executable.jit_compile().map_err(sentence)?;
            let compiled = self.0.executable.get_compiled_program().ok_or("it has no code")?;
            Ok(compiled.machine_code_length() as u64)
        })
    }
}

/// The calls as this version wants them: by hash of a name to helpers, by key to functions.
fn rewrite_calls(bytecode: &[u8]) -> Result<(Vec<u8>, FunctionRegistry<usize>), String> {
    let mut bytecode = bytecode.to_vec();
    let mut functions = FunctionRegistry::default();
    for (slot, insn) in bytecode.chunks_exact_mut(8).enumerate() {
        let &mut [CALL, registers, _, _, ref mut imm @ ..] = insn else { continue };
        let Ok(imm): Result<&mut [u8; 4], _> = imm.try_into() else { continue };
        let key = if registers >> 4 == 0 {
            ebpf::hash_symbol_name(HELPER.as_bytes())
        } else {
            let target = (slot as i64 + 1 + i64::from(i32::from_le_bytes(*imm))) as usize;
            functions.register_function(target as u32, "", target).map_err(sentence)?;
            target as u32
        };
        *imm = key.to_le_bytes();
    }
    Ok((bytecode, functions))
}

fn sentence(error: impl fmt::Display) -> String {
    error.to_string()
}

impl Contestant for Solana {
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        let memory = self.memories.first_mut();
        let len = memory.len() as u64;
        let stack: &mut [u8] = bytemuck::cast_slice_mut(&mut self.stack);
        let stack_len = stack.len();
        let regions = vec![
            self.executable.get_ro_region(),
            MemoryRegion::new(&raw mut stack[..], ebpf::MM_STACK_START),
            MemoryRegion::new(&raw mut memory[..], ebpf::MM_INPUT_START),
        ];
        // SAFETY: the regions are slices of plain bytes that `self` owns, and the mapping is dropped before this
        // returns; nothing else touches them meanwhile.
        let mapping = unsafe { MemoryMapping::new(regions, self.executable.get_config(), VERSION) };
        let mapping = Some(Box::new(mapping.map_err(sentence)?));
        let mut context = Context { remaining: u64::MAX / 2, mapping };
        let mut vm = EbpfVm::new(self.executable.get_loader().clone(), VERSION, &mut context, stack_len);
        repeat(times, || {
            vm.registers[1] = ebpf::MM_INPUT_START;
            vm.registers[2] = len;
            let (_, result) = vm.execute_program(&self.executable, &mut self.mode, &mut self.frames);
            Result::from(result).map_err(sentence)
        })
    }
}
