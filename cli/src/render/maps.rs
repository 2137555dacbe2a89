//! Maps as `bpftool map dump` prints them without BTF, under a line that says which map it is.

use std::io::{self, Write};

use super::{clean, hex, plural, style};
use crate::run::{Element, MapDump, Pretty, Value};

/// Key and value share a line up to these sizes: `print_entry_plain` of bpftool.
const LINE: usize = 24;
const HALF: usize = 16;

pub(crate) fn render(map: &MapDump, out: &mut dyn Write) -> io::Result<()> {
    let count = plural(map.count as u64, "element");
    writeln!(out, "\n{} {} ({}): {count}", style::title("map"), clean(&map.spec.name), map.spec.map_type)?;
    map.elements.iter().try_for_each(|element| self::element(element, out))?;
    match map.count.saturating_sub(map.elements.len()) {
        0 => Ok(()),
        more if map.too_large => writeln!(out, "... and {more} more, too large to show"),
        more => writeln!(out, "... and {more} more (--entries)"),
    }
}

fn element(element: &Element, out: &mut dyn Write) -> io::Result<()> {
    raw(element, out)?;
    let Some(Pretty { key, values }) = &element.pretty else { return Ok(()) };
    if let Some(key) = key {
        write!(out, "  {}: ", clean(key))?;
    } else {
        write!(out, "  ")?;
    }
    match values.as_slice() {
        [value] => writeln!(out, "{}", clean(value)),
        values => writeln!(out, "[{}]", clean(&values.join(", "))),
    }
}

fn raw(Element { key, value, .. }: &Element, out: &mut dyn Write) -> io::Result<()> {
    match value {
        Value::Stack(stack) => {
            writeln!(out, "key: {}  stack:", hex(key))?;
            stack.iter().try_for_each(|ip| writeln!(out, "  {ip:#x}"))
        }
        Value::Program(name) => writeln!(out, "key: {}  value: {name}", hex(key)),
        Value::One(value) if key.len() <= HALF && value.len() <= HALF && key.len() + value.len() <= LINE => {
            writeln!(out, "key: {}  value: {}", hex(key), hex(value))
        }
        Value::One(value) => {
            writeln!(out, "key:\n{}\nvalue:", rows(key))?;
            writeln!(out, "{}", rows(value))
        }
        Value::PerCpu(values) => {
            writeln!(out, "key:\n{}", rows(key))?;
            for (cpu, value) in values.iter().enumerate() {
                let separator = if value.len() > HALF { '\n' } else { ' ' };
                writeln!(out, "value (CPU {cpu:02}):{separator}{}", rows(value))?;
            }
            Ok(())
        }
    }
}

/// Sixteen bytes a line, in two halves.
fn rows(bytes: &[u8]) -> String {
    let row = |row: &[u8]| row.chunks(8).map(hex).collect::<Vec<_>>().join("  ");
    bytes.chunks(16).map(row).collect::<Vec<_>>().join("\n")
}
