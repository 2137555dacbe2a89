//! The names of a block: each is given once, and something uses it.

use std::collections::HashSet;

use super::block::{Block, is_key};
use super::error::{At, VectorErrorKind};

/// Name and choice of a column `name: value`, whose cells are results.
pub(super) fn result_column(name: &str) -> Option<(&str, &str)> {
    name.split_once(": ").map(|(name, choice)| (name, choice.trim()))
}

/// Holds names of columns and of `each` lines against each other, and against the placeholders of the block.
pub(super) fn check(block: &Block<'_>) -> Result<(), At> {
    let used = used(block);
    let unused = |line, column, name: &str| {
        let error = || At::new(line, column, VectorErrorKind::Unused(name.to_owned()));
        if used.contains(name) { Ok(()) } else { Err(error()) }
    };
    let duplicate = |line, column, name: &str| Err(At::new(line, column, VectorErrorKind::Duplicate(name.to_owned())));
    let mut names = HashSet::new();
    let mut headings = HashSet::new();
    if let Some(table) = &block.table {
        let line = table.heading.line;
        for &(column, heading) in &table.heading.cells {
            let Some((name, _)) = result_column(heading) else { continue };
            unused(line, column, name)?;
            names.insert(name);
            names.insert("r0");
            if !headings.insert(heading) {
                return duplicate(line, column, heading);
            }
        }
        for &(column, heading) in &table.heading.cells {
            if result_column(heading).is_some() {
                continue;
            }
            if !is_key(heading) {
                unused(line, column, heading)?;
            }
            if !names.insert(heading) {
                return duplicate(line, column, heading);
            }
        }
    }
    for each in &block.eaches {
        for name in &each.names {
            unused(each.line, 1, name)?;
            if !names.insert(name) {
                return duplicate(each.line, 1, name);
            }
        }
        let mut values = HashSet::new();
        for value in &each.values {
            if !values.insert(value) {
                return duplicate(each.line, 1, value);
            }
        }
    }
    Ok(())
}

/// Every name that stands between braces where values are put in.
fn used<'t>(block: &Block<'t>) -> HashSet<&'t str> {
    let lines = block.programs.iter().flat_map(|program| program.lines.iter().map(|&(_, line)| line));
    let fields = block.fields.iter().map(|field| field.value);
    let mut used: HashSet<&str> = lines.chain(fields).chain([block.title]).flat_map(placeholders).collect();
    if let Some(table) = &block.table {
        let is_value = |heading: &str| is_key(heading) || result_column(heading).is_some();
        for row in &table.rows {
            let cells = table.heading.cells.iter().zip(&row.cells);
            used.extend(cells.filter(|((_, name), _)| is_value(name)).flat_map(|(_, &(_, cell))| placeholders(cell)));
        }
    }
    used
}

fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|behind| behind.split_once('}')).map(|(name, _)| name)
}
