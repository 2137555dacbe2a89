//! What softbpf is meant to reach, one row a target, and whether it did.

use crate::compile::{self, Compilation};
use crate::report::{Comparison, Spread, summaries};
use crate::workload::Group;

/// All that was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured<'m> {
    pub(crate) runs: &'m [Comparison],
    pub(crate) compilations: &'m [Compilation],
}

/// A figure that should be no more than a limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) most: f64,
    pub(crate) unit: &'static str,
    pub(crate) measured: fn(Measured<'_>) -> Option<f64>,
    /// What was done to reach it, and what is in the way; said where it is not met.
    pub(crate) tried: &'static str,
}

impl Target {
    const fn tried(self, tried: &'static str) -> Target {
        Target { tried, ..self }
    }
}

/// Columns: what, the most that it should be, unit, where it is measured.
pub(crate) const TARGETS: &[Target] = &[
    target("interpreter: an instruction, geometric mean", 0.65, "ns", |all| {
        summaries(all.runs).into_iter().find(|row| row.name == "interpreter").map(|row| row.per_instruction)
    })
    .tried(
        "The figure is that of a machine on which solana-sbpf's interpreter takes 2.0 ns an instruction: where that takes \
         longer, so may this. A function an operation, each ending in the call of the next, rows of two and three \
         operations made one: 1.46 ns before.",
    ),
    target("interpreter: time over the fastest other interpreter's, geometric mean", 0.33, "x", |all| {
        Some(summaries(all.runs).into_iter().find(|row| row.name == "interpreter")?.x_peer.0?.0)
    }),
    target(
        "JIT, every access checked or proved, instructions counted: time over native C, geometric mean",
        1.45,
        "x",
        |all| Some(x_native(all, "jit")?.0),
    )
    .tried(
        "Rows of instructions made one, fuel looked at where a path could become long only, heads of loops aligned to 64 \
         bytes: 1.53 before. What is left are checks of accesses at offsets that no analysis knows, three machine instructions each; one \
         check for several accesses of a block through the same register would save some.",
    ),
    target("the same, the worst program", 2.3, "x", |all| Some(x_native(all, "jit")?.1)).tried(
        "The sieve's loop of four instructions, of whose code check and fuel are half: from 1.9 to 2.25, as the code of both happens to \
         lie. Fuel was 5% of it before the machine could make one operation of charging and asking. To check once in front of a loop \
         would save more.",
    ),
    target("JIT, the programs in which every access is proved: time over native C, geometric mean", 1.25, "x", proved),
    target("compiling 4,096 instructions: an instruction", 15.0, "ns", |all| {
        Some(all.compilation("long")?.rate("jit")?.ns)
    })
    .tried(
        "The figure is that of a machine on which solana-sbpf's JIT takes 11.5 ns: where that takes longer, so may this. Code is written a \
         word at a time by encoders of our own, straight into its mapping; blocks, plans and values are words, and no more of an \
         instruction is read than there is: 70 ns at first, 47, 24.6 and 22 to 25 then. Of what is left two fifths are the analysis, as much \
         is choosing and encoding, and a twentieth the host's mprotect.",
    ),
    target("the same: time over solana-sbpf's JIT", 1.3, "x", |all| {
        let long = all.compilation("long")?;
        Some(long.rate("jit")?.ns / long.rate("solana-jit")?.ns)
    })
    .tried("As above. That JIT proves nothing about accesses: each is a call."),
    target("code: an instruction, geometric mean", 10.0, "bytes", |all| compile::mean(all.compilations, "jit")?.bytes),
    target("compiling a program that does nothing", 10_000.0, "ns", |all| all.compilation("empty")?.ns("jit")),
    target("a run of a program that does nothing: interpreter", 6.0, "ns", |all| all.ns("empty", "interpreter")),
    target("a run of a program that does nothing: JIT, more than a native call", 3.0, "ns", |all| {
        Some(all.ns("empty", "jit")? - all.ns("empty", "native-c").or_else(|| all.ns("empty", "native-rust"))?)
    }),
    target("calling a helper from the JIT: time over a native indirect call", 1.3, "x", |all| {
        all.run("helper_calls")?.of("jit")?.x_native
    }),
    target("lookups in a hash map by the JIT: time over the kernel's", 1.0, "x", |all| {
        Some(all.ns("map_hash_lookup", "jit")? / all.ns("map_hash_lookup", "kernel")?)
    }),
];

const fn target(
    what: &'static str,
    most: f64,
    unit: &'static str,
    measured: fn(Measured<'_>) -> Option<f64>,
) -> Target {
    Target { what, most, unit, measured, tried: "" }
}

impl Measured<'_> {
    fn run(&self, program: &str) -> Option<&Comparison> {
        self.runs.iter().find(|run| run.name == program)
    }

    fn ns(&self, program: &str, contestant: &str) -> Option<f64> {
        Some(self.run(program)?.of(contestant)?.samples.min())
    }

    fn compilation(&self, program: &str) -> Option<&Compilation> {
        self.compilations.iter().find(|compilation| compilation.program == program)
    }
}

/// Geometric mean and worst over the programs that compute.
fn x_native(all: Measured<'_>, contestant: &str) -> Option<(f64, f64)> {
    summaries(all.runs).into_iter().find(|row| row.name == contestant)?.x_native.0
}

fn proved(all: Measured<'_>) -> Option<f64> {
    let is_proved = |run: &&Comparison| all.compilation(run.name).is_some_and(|compilation| compilation.proved);
    let runs: Vec<_> = all.runs.iter().filter(|run| run.group == Group::Cpu).filter(is_proved).collect();
    Some(Spread::of(runs.iter().filter_map(|run| run.of("jit")?.x_native)).0?.0)
}
