//! What a program sent out: events and lines of `bpf_trace_printk`.

use std::io::{self, Write};

use softbpf::Outcome;
use softbpf::outcome::Event;

use super::{bytes, clean, hex, style};

pub(crate) fn render(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    outcome.events.iter().enumerate().try_for_each(|(index, event)| self::event(index, event, out))?;
    if !outcome.printk.is_empty() {
        writeln!(out, "\n{}", style::title("printk"))?;
    }
    outcome.printk.iter().try_for_each(|line| writeln!(out, "  {}", clean(line)))
}

fn event(index: usize, event: &Event, out: &mut dyn Write) -> io::Result<()> {
    let cpu = event.cpu.map(|cpu| format!(", CPU {cpu}")).unwrap_or_default();
    let size = bytes(event.data.len() as u64);
    writeln!(out, "\n{} {index}: map {}{cpu}, {size}", style::title("event"), event.map)?;
    dump(&event.data, out)
}

/// Sixteen bytes a line with their offset, and the printable characters among them.
pub(crate) fn dump(bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    for (index, row) in bytes.chunks(16).enumerate() {
        let printable = |&byte: &u8| if matches!(byte, b' '..=b'~') { char::from(byte) } else { '.' };
        let text: String = row.iter().map(printable).collect();
        let halves = row.chunks(8).map(hex).collect::<Vec<_>>().join("  ");
        writeln!(out, "  {:04x}  {halves:48}  |{text}|", index * 16)?;
    }
    Ok(())
}
