//! A block to cases: every row of its table with every value of its `each` lines.

use std::collections::BTreeMap;

use softbpf::check::{OutOfRangeShifts, Rules};

use super::assemble::assemble;
use super::block::{Block, Each, Row, is_key};
use super::error::{At, VectorErrorKind};
use super::value::Value;
use crate::case::{Case, End, Expect, Input};

/// What stands in a cell that says nothing.
const NOTHING: &str = "-";

/// Values of placeholders, and of keys that the table gives, with the line they come from.
#[derive(Clone, Default)]
struct Values {
    line: Option<usize>,
    placeholders: BTreeMap<String, String>,
    keys: BTreeMap<String, Value>,
}

/// Appends the block's cases.
pub(super) fn expand(file: &str, block: &Block<'_>, cases: &mut Vec<Case>) -> Result<(), At> {
    if block.programs.is_empty() {
        return Err(At::new(block.line, 1, VectorErrorKind::NoProgram));
    }
    for row in rows(block)? {
        for choice in choices(&block.eaches) {
            let mut row = row.clone();
            row.placeholders.extend(choice);
            cases.push(case(file, block, &row)?);
        }
    }
    Ok(())
}

/// The rows of the table, those with several results taken apart; one empty row without a table.
fn rows(block: &Block<'_>) -> Result<Vec<Values>, At> {
    let Some(table) = &block.table else { return Ok(vec![Values::default()]) };
    if table.rows.is_empty() {
        return Err(At::new(table.heading.line, 1, VectorErrorKind::NoRows));
    }
    Ok(table.rows.iter().flat_map(|row| spread(&table.heading, row)).collect())
}

/// One row: `name` columns are common to all its cases; each `name: value` column is a case of its own, whose cell is
/// the result.
fn spread(heading: &Row<'_>, row: &Row<'_>) -> Vec<Values> {
    let mut common = Values { line: Some(row.line), ..Values::default() };
    let mut results = Vec::new();
    for (&(_, name), &(column, text)) in heading.cells.iter().zip(&row.cells) {
        let value = Value { line: row.line, column, text: text.to_owned() };
        match name.split_once(": ") {
            Some((name, choice)) => results.push((name, choice.trim(), value)),
            None if !is_key(name) => {
                common.placeholders.insert(name.to_owned(), value.text);
            }
            None if text != NOTHING => {
                common.keys.insert(name.to_owned(), value);
            }
            None => {}
        }
    }
    if results.is_empty() {
        return vec![common];
    }
    let given = results.into_iter().filter(|(_, _, value)| value.text != NOTHING);
    given
        .map(|(name, choice, value)| {
            let mut row = common.clone();
            row.placeholders.insert(name.to_owned(), choice.to_owned());
            row.keys.insert("r0".to_owned(), value);
            row
        })
        .collect()
}

/// Every way to choose values for all `each` lines.
fn choices(eaches: &[Each<'_>]) -> Vec<Vec<(String, String)>> {
    let mut all = vec![Vec::new()];
    for each in eaches {
        for (index, name) in each.names.iter().enumerate() {
            let taken = &each.names[..index];
            all = all.iter().flat_map(|chosen| with_each(chosen, name, &each.values, taken)).collect();
        }
    }
    all
}

/// What was chosen so far with each value that no name of the same line has taken.
fn with_each(chosen: &[(String, String)], name: &str, values: &[&str], taken: &[&str]) -> Vec<Vec<(String, String)>> {
    let free = |value: &&&str| !chosen.iter().any(|(name, other)| taken.contains(&name.as_str()) && other == **value);
    let extended = |value: &&str| {
        let mut chosen = chosen.to_vec();
        chosen.push((name.to_owned(), (*value).to_owned()));
        chosen
    };
    values.iter().filter(free).map(extended).collect()
}

fn case(file: &str, block: &Block<'_>, row: &Values) -> Result<Case, At> {
    let mut programs = Vec::new();
    for program in &block.programs {
        let lines: Result<Vec<_>, At> =
            program.lines.iter().map(|&(number, line)| Ok((number, row.fill(number, 1, line)?))).collect();
        programs.push((program.name.to_owned(), assemble(&lines?)?));
    }
    let mut keys = row.keys.clone();
    for field in &block.fields {
        let text = row.fill(field.line, field.column, field.value)?;
        let value = Value { line: field.line, column: field.column, text };
        if keys.insert(field.key.to_owned(), value).is_some() {
            return Err(At::new(field.line, 1, VectorErrorKind::Duplicate(field.key.to_owned())));
        }
    }
    for value in keys.values_mut() {
        value.text = row.fill(value.line, value.column, &value.text)?;
    }
    let number = |key: &str| keys.get(key).map(Value::number).transpose();
    Ok(Case {
        file: file.to_owned(),
        line: row.line.unwrap_or(block.line),
        title: title(block, row)?,
        programs,
        input: input(&keys)?,
        rules: rules(keys.get("rules"))?,
        mock_helper_5: false,
        fuel: number("fuel")?,
        expect: Expect {
            end: end(&keys).map_err(|kind| kind.unwrap_or_else(|kind| At::new(block.line, 1, kind)))?,
            after: keys.get("after").map(Value::bytes).transpose()?,
            instructions: number("instructions")?,
        },
    })
}

/// The title, and behind it the values that it does not name. It may name columns of every kind.
fn title(block: &Block<'_>, row: &Values) -> Result<String, At> {
    let rest = row.placeholders.iter().filter(|(name, _)| !block.title.contains(&format!("{{{name}}}")));
    let rest: Vec<String> = rest.map(|(name, value)| format!("{name} = {value}")).collect();
    let mut row = row.clone();
    row.placeholders.extend(row.keys.iter().map(|(name, value)| (name.clone(), value.text.clone())));
    let title = row.fill(block.line, 1, block.title)?;
    Ok(if rest.is_empty() { title } else { format!("{title} [{}]", rest.join(", ")) })
}

fn input(keys: &BTreeMap<String, Value>) -> Result<Input, At> {
    match (keys.get("memory"), keys.get("packet")) {
        (Some(_), Some(packet)) => {
            Err(At::new(packet.line, packet.column, VectorErrorKind::Duplicate("what the program gets".into())))
        }
        (_, Some(packet)) => packet.bytes().map(Input::Packet),
        (memory, None) => memory.map_or(Ok(Vec::new()), Value::bytes).map(Input::Memory),
    }
}

fn rules(value: Option<&Value>) -> Result<Rules, At> {
    let out_of_range_shifts = match value.map(|value| value.text.as_str()) {
        None => OutOfRangeShifts::Refuse,
        Some("mask shifts") => OutOfRangeShifts::Mask,
        Some(found) => {
            let (line, column) = value.map_or((1, 1), |value| (value.line, value.column));
            return Err(At::expected(line, column, "`mask shifts`", found));
        }
    };
    Ok(Rules { out_of_range_shifts })
}

/// How the case ends. The inner error is about the case as a whole.
fn end(keys: &BTreeMap<String, Value>) -> Result<End, Result<At, VectorErrorKind>> {
    match (keys.get("r0"), keys.get("trap"), keys.get("reject")) {
        (Some(r0), None, None) => r0.number().map(End::Returns).map_err(Ok),
        (None, Some(trap), None) => trap.trap().map_err(Ok),
        (None, None, Some(reason)) => reason.rejection().map_err(Ok),
        (None, None, None) => Err(Err(VectorErrorKind::NoExpectation)),
        _ => Err(Err(VectorErrorKind::ManyExpectations)),
    }
}

impl Values {
    /// Puts in the values of placeholders.
    fn fill(&self, line: usize, column: usize, text: &str) -> Result<String, At> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let place = column + text.len() - behind.len();
            let Some((name, behind)) = behind.split_once('}') else {
                return Err(At::expected(line, place, "the end of a placeholder", behind));
            };
            let value = self.placeholders.get(name);
            let value = value.ok_or_else(|| At::new(line, place, VectorErrorKind::UnknownPlaceholder(name.into())))?;
            filled.push_str(before);
            filled.push_str(value);
            rest = behind;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}
