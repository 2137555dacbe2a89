//! The listing for people.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::ops::Range;

use super::{Access, Assumptions, Check, Insn, Jited, Machine, Totals};
use softbpf::helpers::helper_name;

use crate::render::{bytes, hex, plural, style};

/// Columns of the left side, where there are two.
const LEFT: usize = 50;

/// A terminal that has room for two sides.
const WIDE: u16 = 100;

/// Where the machine code stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Beside the instruction.
    Beside,
    /// Under it.
    Under,
}

impl Layout {
    /// What standard output has room for.
    pub(super) fn of_terminal() -> Layout {
        match terminal_size::terminal_size_of(io::stdout()) {
            Some((terminal_size::Width(columns), _)) if columns >= WIDE => Layout::Beside,
            _ => Layout::Under,
        }
    }
}

/// Lists programs.
pub(super) fn write(programs: &[Jited], raw: bool, layout: Layout, out: &mut dyn Write) -> io::Result<()> {
    for (index, program) in programs.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        summary(program, out)?;
        for insn in &program.insns {
            if let Some(function) = &insn.function {
                writeln!(out, "\n{}", style::title(format_args!("{function}:")))?;
            }
            match layout {
                Layout::Beside => beside(insn, raw, out)?,
                Layout::Under => under(insn, raw, out)?,
            }
        }
        if !program.behind.is_empty() {
            writeln!(out, "\n{}", style::title("behind the instructions:"))?;
        }
        for line in &program.behind {
            if let Some(label) = &line.label {
                writeln!(out, "    {label}:")?;
            }
            writeln!(out, "        {}", machine(line, raw))?;
        }
    }
    Ok(())
}

fn summary(program: &Jited, out: &mut dyn Write) -> io::Result<()> {
    let Totals { bytes: size, proved, object, window } = program.totals;
    let count = program.insns.len();
    let each = size as f64 / count.max(1) as f64;
    let name = style::title(&program.name);
    let count = plural(count as u64, "instruction");
    writeln!(out, "{name}: {count}, {} of machine code, {each:.1} an instruction", bytes(size as u64))?;
    writeln!(out, "accesses: {proved} proved, {object} compared with an object, {window} with a window")?;
    let assumed = assumed(&program.assumptions);
    if assumed.is_empty() {
        return Ok(());
    }
    writeln!(out, "assumed of a run, which else takes code without proofs:")?;
    assumed.iter().try_for_each(|line| writeln!(out, "    {line}"))
}

/// What must be so in a run, a line each.
fn assumed(assumptions: &Assumptions) -> Vec<String> {
    let Assumptions {
        context_readable,
        context_writable,
        packet_pointers,
        packet_readable,
        packet_writable,
        not_mocked,
    } = assumptions;
    let mut lines = Vec::new();
    for (ranges, how) in [(context_readable, "read"), (context_writable, "written")] {
        let offsets: Vec<String> = ranges.iter().map(offsets).collect();
        if !offsets.is_empty() {
            lines.push(format!("context {} can be {how}", offsets.join(", ")));
        }
    }
    if let Some((start, end)) = packet_pointers {
        lines.push(format!("context +{start} and +{end} hold the packet's start and end"));
    }
    for (assumed, how) in [(packet_readable, "read"), (packet_writable, "written")] {
        if *assumed {
            lines.push(format!("the packet can be {how}"));
        }
    }
    lines.extend(not_mocked.iter().map(|&helper| format!("{} is not mocked", helper_name(helper))));
    lines
}

fn offsets(range: &Range<u32>) -> String {
    format!("+{} to +{}", range.start, range.end - 1)
}

/// `; proved: stack -8`, `; checked: window`.
fn note(access: &Access) -> String {
    let mut text = match access.check {
        Check::Proved => "; proved:".to_owned(),
        Check::Object | Check::Window => "; checked:".to_owned(),
    };
    let _ = write!(text, " {}", access.object.as_deref().unwrap_or("window"));
    if let Some(offsets) = &access.offsets {
        let _ = write!(text, " {:+}", offsets.start());
        if offsets.start() != offsets.end() {
            let _ = write!(text, " to {:+}", offsets.end());
        }
    }
    if let Some(why) = &access.why {
        let _ = write!(text, ", {why}");
    }
    text
}

fn machine(line: &Machine, raw: bool) -> String {
    let Machine { offset, bytes, text, .. } = line;
    if raw { format!("{offset:4x}: {:35} {text}", hex(bytes)) } else { format!("{offset:4x}: {text}") }
}

fn insn_line(insn: &Insn) -> String {
    format!("{:4}: {}", insn.slot, insn.text)
}

/// The source line, if the compiler could read it.
fn source(insn: &Insn, out: &mut dyn Write) -> io::Result<()> {
    match &insn.line {
        Some(line) if !line.text.is_empty() => writeln!(out, "; {}", line.text),
        _ => Ok(()),
    }
}

fn under(insn: &Insn, raw: bool, out: &mut dyn Write) -> io::Result<()> {
    source(insn, out)?;
    let text = insn_line(insn);
    match &insn.access {
        Some(access) => writeln!(out, "{text:LEFT$} {}", note(access))?,
        None => writeln!(out, "{text}")?,
    }
    insn.code.iter().try_for_each(|line| writeln!(out, "          {}", machine(line, raw)))
}

fn beside(insn: &Insn, raw: bool, out: &mut dyn Write) -> io::Result<()> {
    source(insn, out)?;
    let mut left = vec![insn_line(insn)];
    left.extend(insn.access.as_ref().map(|access| format!("      {}", note(access))));
    let mut left = left.into_iter();
    let mut right = insn.code.iter();
    loop {
        let (text, code) = (left.next(), right.next());
        if text.is_none() && code.is_none() {
            return Ok(());
        }
        let code = code.map(|line| machine(line, raw)).unwrap_or_default();
        let line = format!("{:LEFT$} | {code}", text.unwrap_or_default());
        writeln!(out, "{}", line.trim_end())?;
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::Line;
    use super::*;

    #[test]
    fn code_stands_beside_instructions() {
        let machine = |offset, byte, text: &str| Machine { offset, label: None, bytes: vec![byte], text: text.into() };
        let first = Insn {
            slot: 0,
            function: Some("main".into()),
            line: Some(Line { file: "a.c".into(), line: 1, column: 1, text: "return 0;".into() }),
            text: "r0 = *(u8 *)(r1 + 0x4)".into(),
            access: Some(Access {
                check: Check::Proved,
                object: Some("context".into()),
                offsets: Some(4..=4),
                why: None,
            }),
            code: vec![machine(0, 0x90, "nop")],
        };
        let code = vec![machine(1, 0xf8, "clc"), machine(2, 0xc3, "ret")];
        let last = Insn { slot: 1, function: None, line: None, text: "exit".into(), access: None, code };
        let totals = Totals { bytes: 3, proved: 1, object: 0, window: 0 };
        let program = Jited {
            name: "main".into(),
            section: String::new(),
            insns: vec![first, last],
            behind: Vec::new(),
            totals,
            assumptions: Assumptions::default(),
        };
        let mut out = Vec::new();
        write(&[program], false, Layout::Beside, &mut out).unwrap();
        expect![[r#"
            main: 2 instructions, 3 bytes of machine code, 1.5 an instruction
            accesses: 1 proved, 0 compared with an object, 0 with a window

            main:
            ; return 0;
               0: r0 = *(u8 *)(r1 + 0x4)                       |    0: nop
                  ; proved: context +4                         |
               1: exit                                         |    1: clc
                                                               |    2: ret
        "#]]
        .assert_eq(&anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string());
    }
}
