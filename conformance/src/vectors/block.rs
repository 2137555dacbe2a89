//! A file's lines as blocks: what stands under one title, before values are put in.

use super::error::{At, VectorErrorKind};
use super::limits::{MAX_CASES, MAX_COLUMNS, MAX_EACHES, MAX_LINE, MAX_PROGRAMS, MAX_ROWS, too_many};

/// Everything under one `== title`.
#[derive(Debug, Default)]
pub(super) struct Block<'t> {
    pub(super) line: usize,
    pub(super) title: &'t str,
    pub(super) programs: Vec<Program<'t>>,
    pub(super) fields: Vec<Field<'t>>,
    pub(super) eaches: Vec<Each<'t>>,
    pub(super) table: Option<Table<'t>>,
    /// A line that is no row has ended the table.
    table_ended: bool,
}

/// A program's lines, with their numbers.
#[derive(Debug)]
pub(super) struct Program<'t> {
    pub(super) name: &'t str,
    pub(super) lines: Vec<(usize, &'t str)>,
}

/// `key: value`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'t> {
    pub(super) line: usize,
    /// Of the value.
    pub(super) column: usize,
    pub(super) key: &'t str,
    pub(super) value: &'t str,
}

/// `each a: 1 2 3`, or `each a b: 1 2 3` for all arrangements of different values.
#[derive(Debug)]
pub(super) struct Each<'t> {
    pub(super) line: usize,
    pub(super) names: Vec<&'t str>,
    pub(super) values: Vec<&'t str>,
}

/// Lines between bars.
#[derive(Debug)]
pub(super) struct Table<'t> {
    pub(super) heading: Row<'t>,
    pub(super) rows: Vec<Row<'t>>,
}

/// A line between bars.
#[derive(Debug)]
pub(super) struct Row<'t> {
    pub(super) line: usize,
    /// Column and text of each cell.
    pub(super) cells: Vec<(usize, &'t str)>,
}

/// Keys that may stand once in a case, or head a column of its table instead.
const KEYS: &[&str] = &["memory", "packet", "fuel", "rules", "r0", "after", "trap", "reject", "instructions"];

/// Whether a table column or a line of this name is no placeholder but says something of the case.
pub(super) fn is_key(name: &str) -> bool {
    KEYS.contains(&name)
}

/// Cuts a file into blocks.
pub(super) fn blocks(text: &str) -> Result<Vec<Block<'_>>, At> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.len() > MAX_LINE {
            return Err(too_many(number, MAX_LINE + 1, MAX_LINE, "bytes in a line"));
        }
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            if let Some(block) = blocks.last_mut() {
                block.end_table();
            }
            continue;
        }
        if let Some(title) = line.strip_prefix("==") {
            if blocks.len() == MAX_CASES {
                return Err(too_many(number, 1, MAX_CASES, "cases"));
            }
            blocks.push(Block { line: number, title: title.trim(), ..Block::default() });
            continue;
        }
        let block = blocks.last_mut().ok_or(At::new(number, 1, VectorErrorKind::NoCase))?;
        block.line(number, line)?;
    }
    Ok(blocks)
}

impl<'t> Block<'t> {
    fn line(&mut self, number: usize, line: &'t str) -> Result<(), At> {
        if line.starts_with('|') {
            return self.row(number, line);
        }
        self.end_table();
        if line.starts_with([' ', '\t']) {
            self.program().lines.push((number, line));
            return Ok(());
        }
        let Some((key, value)) = line.split_once(':') else {
            return Err(At::expected(number, 1, "`key: value`, a table row, or an indented program line", line));
        };
        let column = key.chars().count() + 2 + value.len() - value.trim_start().len();
        let (key, value) = (key.trim(), value.trim());
        if key == "program" {
            if self.programs.iter().any(|program| program.name == value) {
                return Err(At::new(number, column, VectorErrorKind::Duplicate(format!("program {value}"))));
            }
            if self.programs.len() == MAX_PROGRAMS {
                return Err(too_many(number, 1, MAX_PROGRAMS, "programs"));
            }
            self.programs.push(Program { name: value, lines: Vec::new() });
        } else if let Some(names) = key.strip_prefix("each ") {
            if self.eaches.len() == MAX_EACHES {
                return Err(too_many(number, 1, MAX_EACHES, "each lines"));
            }
            let names = names.split_whitespace().collect();
            self.eaches.push(Each { line: number, names, values: value.split_whitespace().collect() });
        } else if !is_key(key) {
            let label = value.is_empty();
            let kind = if label { VectorErrorKind::NotIndented } else { VectorErrorKind::UnknownDirective };
            return Err(At::new(number, 1, kind(key.to_owned())));
        } else if self.fields.iter().any(|field| field.key == key) {
            return Err(At::new(number, 1, VectorErrorKind::Duplicate(key.to_owned())));
        } else {
            self.fields.push(Field { line: number, column, key, value });
        }
        Ok(())
    }

    fn end_table(&mut self) {
        self.table_ended = self.table.is_some();
    }

    fn program(&mut self) -> &mut Program<'t> {
        if self.programs.is_empty() {
            self.programs.push(Program { name: "main", lines: Vec::new() });
        }
        let last = self.programs.len() - 1;
        &mut self.programs[last]
    }

    fn row(&mut self, number: usize, line: &'t str) -> Result<(), At> {
        if self.table_ended {
            return Err(At::new(number, 1, VectorErrorKind::TwoTables));
        }
        let row = Row { line: number, cells: cells(number, line)? };
        let Some(table) = &mut self.table else {
            self.table = Some(Table { heading: row, rows: Vec::new() });
            return Ok(());
        };
        let (expected, found) = (table.heading.cells.len(), row.cells.len());
        if expected != found {
            return Err(At::new(number, 1, VectorErrorKind::CellCount { expected, found }));
        }
        if table.rows.len() == MAX_ROWS {
            return Err(too_many(number, 1, MAX_ROWS, "rows in a table"));
        }
        table.rows.push(row);
        Ok(())
    }
}

/// The cells of a row: what stands between bars that have blanks, or the line's ends, on both sides. So `|=` is no bar.
fn cells(number: usize, line: &str) -> Result<Vec<(usize, &str)>, At> {
    let line = line.trim_end();
    let mut cells = Vec::new();
    let mut start = 1;
    let is_blank = |at: usize| line.as_bytes().get(at).is_none_or(u8::is_ascii_whitespace);
    for (at, _) in line.match_indices('|').skip(1) {
        if is_blank(at - 1) && is_blank(at + 1) {
            let cell = &line[start..at];
            let column = column_of(line, start);
            if cells.len() == MAX_COLUMNS {
                return Err(too_many(number, column, MAX_COLUMNS, "columns in a table"));
            }
            cells.push((column, cell.trim()));
            start = at + 1;
        }
    }
    if cells.is_empty() || start < line.len() {
        let rest = &line[start..];
        return Err(At::expected(
            number,
            column_of(line, start),
            "a bar with blanks around it at the end of the row",
            rest.trim(),
        ));
    }
    Ok(cells)
}

/// Column of the first character that is no blank, from a byte of the line on.
fn column_of(line: &str, start: usize) -> usize {
    let rest = &line[start..];
    line[..start].chars().count() + 1 + rest.len() - rest.trim_start().len()
}
