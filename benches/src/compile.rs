//! How fast compilers work, and how much code they make: time and bytes for each instruction of bytecode, lddw counting
//! as two, as bpftool counts.
//!
//! Nothing is subtracted. A compilation of softbpf ([`code_size`]) makes an engine, proves accesses, emits the code into
//! executable memory, and gives all of it back; one of the peers is what their `compile`
//! functions do, executable memory included, with whatever the program before that left to drop. So what a compilation
//! costs however short the program is, is in all figures; the program `empty` shows it alone.
//!
//! To add a compiler: a row in [`COMPILERS`].

use std::fmt::{self, Write as _};

use serde_json::{Value, json};
use softbpf::Machine;
use softbpf_jit::inspect::{CompiledInsn, Note, code_size, inspect};

use crate::contestants::{CONTESTANTS, Made};
use crate::measure::{Contestant, Plan, Samples, geometric_mean, interleaved};
use crate::workload::{Group, Workload};
#[cfg(feature = "peers")]
use crate::{rbpf, solana};

/// A row of the table: the name of a contestant, and what makes it compile a program again and again. Its result is the
/// size of the code in bytes, 0 where nothing tells.
pub type Row = (&'static str, fn(&Workload) -> Made);

/// All compilers.
pub const COMPILERS: &[Row] = &[
    ("jit", |workload| Softbpf::make(workload, true)),
    ("jit-unproved", |workload| Softbpf::make(workload, false)),
    #[cfg(feature = "peers")]
    ("solana-jit", solana::Compiler::make),
    #[cfg(feature = "peers")]
    ("rbpf-jit", rbpf::Compiler::jit),
    #[cfg(feature = "peers")]
    ("rbpf-cranelift", rbpf::Compiler::cranelift),
];

struct Softbpf {
    machine: Machine,
    program: &'static str,
    config: softbpf_jit::Config,
}

impl Softbpf {
    fn make(workload: &Workload, proofs: bool) -> Made {
        softbpf_jit::engine().map_err(|error| error.to_string())?;
        let machine = Machine::load(&workload.object).map_err(|error| error.to_string())?;
        let config = softbpf_jit::Config { proofs, ..softbpf_jit::Config::default() };
        Ok(Box::new(Softbpf { machine, program: workload.name, config }))
    }
}

impl Contestant for Softbpf {
    fn repeat(&mut self, times: u64) -> Result<u64, String> {
        crate::contestants::repeat(times, || {
            let size = code_size(&mut self.machine, self.program, self.config.clone());
            Ok(size.map_err(|error| error.to_string())?.ok_or("it makes no code of this")? as u64)
        })
    }
}

/// A compiler with what makes it compile one program.
///
/// # Errors
/// Why it cannot: it does not compile the program, or what it makes gives a wrong result.
pub fn ready(row: &Row, workload: &Workload) -> Made {
    let contestant = CONTESTANTS.iter().find(|contestant| contestant.name == row.0);
    contestant.ok_or("there is no such contestant")?.ready(workload)?;
    (row.1)(workload)
}

/// Whether the JIT leaves out the checks of all accesses.
fn is_proved(workload: &Workload) -> bool {
    let Ok(mut machine) = Machine::load(&workload.object) else { return false };
    let compiled = inspect(&mut machine, workload.name, softbpf_jit::Config::default()).ok().flatten();
    let is_proved = |insn: &CompiledInsn| matches!(insn.note, None | Some(Note::Proved { .. }));
    compiled.is_some_and(|compiled| compiled.insns.iter().all(is_proved))
}

/// What a compiler did with a program.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Nanoseconds a compilation.
    pub time: Samples,
    /// Bytes of machine code, where something tells.
    pub bytes: Option<u64>,
}

/// One program, compiled by all.
#[derive(Debug, Clone)]
pub struct Compilation {
    /// The program.
    pub program: &'static str,
    /// Where it belongs.
    pub group: Group,
    /// Its instructions.
    pub instructions: usize,
    /// The JIT has proved every access of it.
    pub proved: bool,
    /// Of those that can compile it.
    pub results: Vec<(&'static str, Compiled)>,
}

/// Measures the compilers that `wanted` picks.
pub fn compile(workload: &Workload, plan: Plan, wanted: impl Fn(&str) -> bool) -> Compilation {
    let mut made = Vec::new();
    let mut contestants = Vec::new();
    for row in COMPILERS.iter().filter(|row| wanted(row.0)) {
        // Why one cannot take part is said where it is asked to run the program.
        let Ok(mut contestant) = ready(row, workload) else { continue };
        let Ok(bytes) = contestant.repeat(1) else { continue };
        made.push((row.0, (bytes > 0).then_some(bytes)));
        contestants.push(contestant);
    }
    let samples = interleaved(&mut contestants, plan);
    let results = made.into_iter().zip(samples);
    let results = results.filter_map(|((name, bytes), time)| Some((name, Compiled { time: time.ok()?, bytes })));
    Compilation {
        program: workload.name,
        group: workload.group,
        instructions: workload.bytecode.len() / 8,
        proved: is_proved(workload),
        results: results.collect(),
    }
}

/// Time and size for each instruction.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Nanoseconds.
    pub ns: f64,
    /// Bytes of machine code.
    pub bytes: Option<f64>,
}

impl Compilation {
    /// A compiler's time in nanoseconds; of minima, as everywhere.
    pub fn ns(&self, compiler: &str) -> Option<f64> {
        self.results.iter().find(|(name, _)| *name == compiler).map(|(_, compiled)| compiled.time.min())
    }

    /// What an instruction costs a compiler.
    pub fn rate(&self, compiler: &str) -> Option<Rate> {
        let (_, compiled) = self.results.iter().find(|(name, _)| *name == compiler)?;
        let per_instruction = |value: f64| value / self.instructions as f64;
        Some(Rate {
            ns: per_instruction(compiled.time.min()),
            bytes: compiled.bytes.map(|bytes| per_instruction(bytes as f64)),
        })
    }

    fn json(&self) -> Value {
        let result = |(name, compiled): &(&str, Compiled)| {
            let rate = self.rate(name);
            json!({
                "contestant": name,
                "ns_min": compiled.time.min(),
                "ns_median": compiled.time.median(),
                "bytes": compiled.bytes,
                "ns_per_instruction": rate.map(|rate| rate.ns),
                "bytes_per_instruction": rate.and_then(|rate| rate.bytes),
            })
        };
        json!({
            "program": self.program,
            "instructions": self.instructions,
            "results": self.results.iter().map(result).collect::<Vec<_>>(),
        })
    }
}

/// A compiler over the programs of the group `cpu`: geometric means.
pub fn mean(compilations: &[Compilation], compiler: &str) -> Option<Rate> {
    let averaged = compilations.iter().filter(|compilation| compilation.group == Group::Cpu);
    let rates: Vec<_> = averaged.filter_map(|compilation| compilation.rate(compiler)).collect();
    let bytes: Option<Vec<_>> = rates.iter().map(|rate| rate.bytes).collect();
    let mean = Rate { ns: geometric_mean(rates.iter().map(|rate| rate.ns)), bytes: bytes.map(geometric_mean) };
    (!rates.is_empty()).then_some(mean)
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.1}"));
        f.pad(&format!("{:.1} / {bytes}", self.ns))
    }
}

/// A table for people: nanoseconds and bytes an instruction.
pub fn table(compilations: &[Compilation]) -> String {
    let names: Vec<_> = COMPILERS.iter().map(|row| row.0).collect();
    let cell = |rate: Option<Rate>| rate.map_or_else(|| "-".to_owned(), |rate| rate.to_string());
    let mut text = format!("{:<17}{:>8}", "compile", "insns");
    // Writing to a string cannot fail.
    names.iter().for_each(|name| _ = write!(text, " {name:>15}"));
    text += "   (ns/insn / bytes/insn)\n";
    for compilation in compilations {
        let _ = write!(text, "  {:<15}{:>8}", compilation.program, compilation.instructions);
        names.iter().for_each(|name| _ = write!(text, " {:>15}", cell(compilation.rate(name))));
        text.push('\n');
    }
    let _ = write!(text, "  {:<15}{:>8}", "mean of cpu", "");
    names.iter().for_each(|name| _ = write!(text, " {:>15}", cell(mean(compilations, name))));
    text.push('\n');
    text
}

/// All of it, as JSON.
pub fn json(compilations: &[Compilation]) -> Value {
    let summary = |row: &Row| {
        let mean = mean(compilations, row.0)?;
        Some(json!({
            "contestant": row.0,
            "ns_per_instruction": mean.ns,
            "bytes_per_instruction": mean.bytes,
        }))
    };
    json!({
        "programs": compilations.iter().map(Compilation::json).collect::<Vec<_>>(),
        "summary": COMPILERS.iter().filter_map(summary).collect::<Vec<_>>(),
    })
}
