//! rbpf as a peer: its interpreter, its JIT (which checks no access), and its compiler by Cranelift.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rbpf::EbpfVmMbuff;

use crate::contestants::{Made, Memories, repeat};
use crate::measure::Contestant;
use crate::native::HELPER_RESULT;
use crate::workload::Workload;

/// Number of the helper: `bpf_get_current_pid_tgid`.
const HELPER: u32 = 14;

fn helper(_: u64, _: u64, _: u64, _: u64, _: u64) -> u64 {
    black_box(HELPER_RESULT)
}

#[derive(Debug, Clone, Copy)]
enum Mode {
    Interpreter,
    Jit,
    Cranelift,
}

/// A program loaded into rbpf, with memory of its own.
pub(crate) struct Rbpf {
    vm: EbpfVmMbuff<'static>,
    mode: Mode,
    memories: Memories,
}

/// Compiles a program, again and again.
pub(crate) struct Compiler(Rbpf);

impl Compiler {
    pub(crate) fn jit(workload: &Workload) -> Made {
        Ok(Box::new(Compiler(Rbpf::load(workload, workload.bytecode.clone(), Mode::Jit)?)))
    }

    pub(crate) fn cranelift(workload: &Workload) -> Made {
        Ok(Box::new(Compiler(Rbpf::load(workload, workload.bytecode.clone(), Mode::Cranelift)?)))
    }
}

impl Contestant for Compiler {
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        let Compiler(Rbpf { vm, mode, .. }) = self;
        repeat(times, || {
            let compiled = match mode {
                Mode::Interpreter => Ok(()),
                Mode::Jit => vm.jit_compile(),
                Mode::Cranelift => vm.cranelift_compile(),
            };
            // It does not tell how much code that is.
            compiled.map(|()| 0).map_err(|error| error.to_string())
        })
    }
}

impl Rbpf {
    pub(crate) fn interpreter(workload: &Workload) -> Made {
        let memory = workload.memory().unwrap_or_default();
        // It sets r1 but not r2: an instruction in front does. A context of no bytes has length 0, as r2 has.
        let mut bytecode = vec![0xb7, 0x02, 0, 0];
        bytecode.extend((memory.len() as u32).to_le_bytes());
        bytecode.extend(&workload.bytecode);
        Ok(Box::new(Rbpf::load(workload, bytecode, Mode::Interpreter)?))
    }

    pub(crate) fn jit(workload: &Workload) -> Made {
        Ok(Box::new(Rbpf::load(workload, workload.bytecode.clone(), Mode::Jit)?))
    }

    pub(crate) fn cranelift(workload: &Workload) -> Made {
        Ok(Box::new(Rbpf::load(workload, workload.bytecode.clone(), Mode::Cranelift)?))
    }

    fn load(workload: &Workload, bytecode: Vec<u8>, mode: Mode) -> Result<Rbpf, String> {
        let memories = Memories::single(workload)?;
        // A few kilobytes, for as long as the process lives: the virtual machine borrows its program.
        let mut vm = EbpfVmMbuff::new(Some(bytecode.leak())).map_err(|error| error.to_string())?;
        vm.register_helper(HELPER, helper).map_err(|error| error.to_string())?;
        compile(&mut vm, mode)?;
        Ok(Rbpf { vm, mode, memories })
    }
}

/// Compiles the program, which panics where there is too much of it or something that the compiler does not know.
fn compile(vm: &mut EbpfVmMbuff<'static>, mode: Mode) -> Result<(), String> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let compiled = catch_unwind(AssertUnwindSafe(|| match mode {
        Mode::Interpreter => Ok(()),
        Mode::Jit => vm.jit_compile(),
        Mode::Cranelift => vm.cranelift_compile(),
    }));
    std::panic::set_hook(hook);
    match compiled {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("panics when it compiles this (its JIT has room for 4096 bytes of code)".to_owned()),
    }
}

impl Contestant for Rbpf {
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        let (vm, mode) = (&self.vm, self.mode);
        let memory = self.memories.first_mut();
        repeat(times, || {
            let r0 = match mode {
                Mode::Interpreter => vm.execute_program(&[], memory),
                // SAFETY: the program touches only its memory, as the engines that check every access have shown of
                // the same bytecode and input.
                Mode::Jit => unsafe { vm.execute_program_jit(&mut [], memory) },
                Mode::Cranelift => vm.execute_program_cranelift(&mut [], memory),
            };
            r0.map_err(|error| error.to_string())
        })
    }
}
