//! Everything that can run a program, one row each: native code, softbpf's engines, and with the feature `peers` other
//! implementations.
//!
//! To add one: a type that implements [`Contestant`] in a file of its own, and a row in [`CONTESTANTS`].

use std::hint::black_box;

use softbpf::Machine;
use softbpf_conformance::engine_named;

use crate::kernel::Kernel;
use crate::measure::Contestant;
use crate::native::{self, Native};
#[cfg(feature = "native-c")]
use crate::native_c::NativeC;
use crate::workload::{Input, Workload, fold};
#[cfg(feature = "peers")]
use crate::{rbpf::Rbpf, solana::Solana};

/// What sort of thing runs the program. Comparisons with peers are within a sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// The machine itself.
    Native,
    /// Instruction by instruction.
    Interpreter,
    /// Machine code made of BPF.
    Jit,
    /// The Linux that runs here: machine code made of what its verifier has proved, so that it checks nothing.
    Kernel,
}

/// Why a contestant does not take part, or what makes it.
pub type Made = Result<Box<dyn Contestant>, String>;

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name in reports.
    pub name: &'static str,
    /// What sort of thing it is.
    pub sort: Sort,
    /// Made by us, so no peer.
    pub ours: bool,
    /// Loads a program, and compiles it.
    pub make: fn(&Workload) -> Made,
}

/// Columns: name, sort, ours, what makes it. Of two native ones, the last is what others are measured against.
pub const CONTESTANTS: &[Row] = &[
    row("native-rust", Sort::Native, false, NativeRust::make),
    #[cfg(feature = "native-c")]
    row("native-c", Sort::Native, false, NativeC::make),
    row("interpreter", Sort::Interpreter, true, |workload| Softbpf::make(workload, "interpreter")),
    #[cfg(feature = "peers")]
    row("solana", Sort::Interpreter, false, Solana::interpreter),
    #[cfg(feature = "peers")]
    row("rbpf", Sort::Interpreter, false, Rbpf::interpreter),
    row("jit", Sort::Jit, true, |workload| Softbpf::make(workload, "jit")),
    row("jit-unproved", Sort::Jit, true, |workload| Softbpf::make(workload, "jit-unproved")),
    #[cfg(feature = "peers")]
    row("solana-jit", Sort::Jit, false, Solana::jit),
    #[cfg(feature = "peers")]
    row("rbpf-jit", Sort::Jit, false, Rbpf::jit),
    #[cfg(feature = "peers")]
    row("rbpf-cranelift", Sort::Jit, false, Rbpf::cranelift),
    row("kernel", Sort::Kernel, false, Kernel::make),
];

const fn row(name: &'static str, sort: Sort, ours: bool, make: fn(&Workload) -> Made) -> Row {
    Row { name, sort, ours, make }
}

impl Row {
    /// Makes the contestant and sees to it that two runs give what they should.
    ///
    /// # Errors
    /// Why it cannot take part.
    pub fn ready(&self, workload: &Workload) -> Made {
        let mut contestant = (self.make)(workload)?;
        for times in [1, 2] {
            let r0 = contestant.repeat(times)?;
            if r0 != workload.expected {
                return Err(format!("r0 is {r0:#x} and should be {:#x}", workload.expected));
            }
        }
        Ok(contestant)
    }
}

/// One of softbpf's engines, through the library's front door.
#[derive(Debug)]
struct Softbpf {
    workload: Workload,
    machine: Machine,
}

impl Softbpf {
    fn make(workload: &Workload, engine: &str) -> Made {
        let machine = workload.machine(engine_named(engine).map_err(|error| error.to_string())?);
        Ok(Box::new(Softbpf { workload: workload.clone(), machine }))
    }
}

impl Contestant for Softbpf {
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        self.workload.run(&mut self.machine, times).map(|(r0, _)| r0)
    }
}

/// The last of so many results.
pub(crate) fn repeat(times: u64, mut run: impl FnMut() -> Result<u64, String>) -> Result<u64, String> {
    for _ in 1..times {
        black_box(run()?);
    }
    run()
}

/// The memories that native code runs on, one after the other; as words, so that they are aligned.
#[derive(Debug, Clone)]
pub(crate) struct Memories(Vec<Vec<u64>>, Vec<usize>);

impl Memories {
    /// The workload's, if it has any.
    pub(crate) fn of(workload: &Workload) -> Result<Memories, String> {
        match &workload.input {
            Input::Memory(memory) => Ok(Memories::new(std::slice::from_ref(memory))),
            Input::Packets(_, packets) => Ok(Memories::new(packets)),
            Input::Maps => Err("there are no maps".to_owned()),
        }
    }

    /// The one memory of a workload that has one.
    #[cfg(feature = "peers")]
    pub(crate) fn single(workload: &Workload) -> Result<Memories, String> {
        match workload.input {
            Input::Memory(_) => Memories::of(workload),
            Input::Maps => Err("there are no maps".to_owned()),
            Input::Packets(..) => Err("there is no struct xdp_md".to_owned()),
        }
    }

    fn new(memories: &[Vec<u8>]) -> Memories {
        let aligned = |bytes: &Vec<u8>| {
            let mut words = vec![0; bytes.len().div_ceil(8)];
            bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
            words
        };
        Memories(memories.iter().map(aligned).collect(), memories.iter().map(Vec::len).collect())
    }

    /// The memories as bytes.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.0.iter_mut().zip(&self.1).map(|(words, len)| &mut bytemuck::cast_slice_mut(words)[..*len])
    }

    /// The first memory.
    #[cfg(feature = "peers")]
    pub(crate) fn first_mut(&mut self) -> &mut [u8] {
        self.iter_mut().next().unwrap_or_default()
    }

    /// One run on each, as the expected results have it: of several, folded.
    pub(crate) fn run(&mut self, mut run: impl FnMut(&mut [u8]) -> u64) -> u64 {
        if let [words] = &mut self.0[..] {
            return run(&mut bytemuck::cast_slice_mut(words)[..self.1[0]]);
        }
        self.iter_mut().fold(0, |sum, memory| fold(sum, run(memory)))
    }
}

/// The algorithm in Rust.
#[derive(Debug)]
struct NativeRust {
    function: Native,
    memories: Memories,
}

impl NativeRust {
    fn make(workload: &Workload) -> Made {
        let memories = Memories::of(workload)?;
        let function = native::find(workload.name).ok_or("not written in Rust")?;
        Ok(Box::new(NativeRust { function, memories }))
    }
}

impl Contestant for NativeRust {
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        let function = black_box(self.function);
        repeat(times, || Ok(self.memories.run(|memory| function(black_box(memory)))))
    }
}
