//! `--trace`: every instruction, and the registers that it changed, which the next one shows.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use softbpf::engine::Step;
use softbpf::map_spec::MapSpec;
use softbpf::{Machine, Outcome};
use softbpf_conformance::fuzz::guided::Data;

use crate::error::CliError;
use crate::render::insn_text;

/// Steps that JSON shows at most: a run may have any number.
const MAX_RECORDED: usize = 100_000;

/// A register that got another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register {
    pub(crate) number: usize,
    pub(crate) value: u64,
}

/// One executed instruction.
pub(crate) struct Entry {
    pub(crate) program: Arc<str>,
    pub(crate) slot: usize,
    pub(crate) depth: u32,
    pub(crate) text: String,
    pub(crate) changed: Vec<Register>,
}

/// Steps that were kept.
#[derive(Default)]
pub(crate) struct Recorded {
    pub(crate) entries: Vec<Entry>,
    /// There were more.
    pub(crate) cut: bool,
}

/// An instruction whose effect is not known yet.
struct Pending {
    entry: Entry,
    before: Vec<u64>,
}

/// Follows runs.
pub(crate) struct Tracer {
    programs: Vec<Arc<str>>,
    recorded: Option<Recorded>,
}

impl Tracer {
    /// A tracer that writes lines, or keeps the steps.
    pub(crate) fn new(vm: &Machine, record: bool) -> Tracer {
        let programs = vm.programs().map(|info| info.name.clone()).collect();
        Tracer { programs, recorded: record.then(Recorded::default) }
    }

    /// What was kept, if that was wanted.
    pub(crate) fn into_recorded(self) -> Option<Recorded> {
        self.recorded
    }

    /// Runs a program.
    pub(crate) fn run(
        &mut self,
        vm: &mut Machine,
        program: &str,
        context: &Data,
        maps: &[MapSpec],
        writer: &mut dyn Write,
    ) -> Result<Outcome, CliError> {
        let mut pending: Option<Pending> = None;
        let mut written = Ok(());
        let mut finish = |recorded: &mut Option<Recorded>, done: Pending| match recorded {
            Some(recorded) => recorded.push(done.entry),
            None if written.is_ok() => written = line(writer, &done.entry),
            None => {}
        };
        let outcome = vm.trace(program, context, |step| {
            if let Some(mut done) = pending.take() {
                done.entry.changed = changed(&done.before, step.registers);
                finish(&mut self.recorded, done);
            }
            pending = Some(Pending { entry: entry(&self.programs, maps, step), before: step.registers.to_vec() });
        })?;
        if let Some(mut last) = pending.take() {
            // The registers behind the last one are not shown; what a trap left is in its report.
            last.entry.changed.clear();
            finish(&mut self.recorded, last);
        }
        written?;
        Ok(outcome)
    }
}

impl Recorded {
    fn push(&mut self, entry: Entry) {
        if self.entries.len() < MAX_RECORDED {
            self.entries.push(entry);
        } else {
            self.cut = true;
        }
    }
}

fn entry(programs: &[Arc<str>], maps: &[MapSpec], step: &Step<'_>) -> Entry {
    Entry {
        program: programs.get(step.program.index()).cloned().unwrap_or_default(),
        slot: step.slot,
        depth: step.depth,
        text: insn_text(step.insn, maps),
        changed: Vec::new(),
    }
}

fn changed(before: &[u64], after: &[u64]) -> Vec<Register> {
    let pairs = before.iter().zip(after).enumerate();
    let changed = pairs.filter(|(_, (before, after))| before != after);
    changed.map(|(number, (_, &value))| Register { number, value }).collect()
}

/// `  program    12  r1 = r0    r1=0x5`; a call deeper, two columns to the right.
fn line(writer: &mut dyn Write, entry: &Entry) -> io::Result<()> {
    let mut changed = String::new();
    for Register { number, value } in &entry.changed {
        let _ = write!(changed, " r{number}={value:#x}");
    }
    let indent = 2 * entry.depth as usize;
    let text = format!("{:indent$}{}", "", entry.text);
    let line = format!("{} {:5}: {text:44}{changed}", entry.program, entry.slot);
    writeln!(writer, "{}", line.trim_end())
}
