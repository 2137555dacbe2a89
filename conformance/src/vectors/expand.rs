//! A block to cases: every row of its table with every value of its `each` lines.

use std::collections::BTreeMap;

use softbpf::check::{OutOfRangeShifts, Rules};
use softbpf::machine::DEFAULT_FUEL;

use super::assemble::assemble;
use super::block::{Block, Each, Row, Table, is_key};
use super::error::{At, VectorErrorKind};
use super::limits::{Budget, MAX_CASES, MAX_LINE, too_many};
use super::names::{self, result_column};
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

/// Appends the block's cases, of which [`count`] has said how many there are.
pub(super) fn expand(file: &str, block: &Block<'_>, budget: &mut Budget, cases: &mut Vec<Case>) -> Result<(), At> {
    let choices = choices(&block.eaches);
    let mut add = |row: &Values| {
        for choice in &choices {
            let mut row = row.clone();
            row.placeholders.extend(choice.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())));
            cases.push(case(file, block, &row, budget)?);
        }
        Ok(())
    };
    match &block.table {
        None => add(&Values::default()),
        Some(table) => table.rows.iter().flat_map(|row| spread(&table.heading, row)).try_for_each(|row| add(&row)),
    }
}

/// How many cases the block gives, before any of them is built; at most what is `left`.
pub(super) fn count(block: &Block<'_>, left: usize) -> Result<usize, At> {
    if block.programs.is_empty() {
        return Err(At::new(block.line, 1, VectorErrorKind::NoProgram));
    }
    names::check(block)?;
    let empty = |line, what: &str| At::new(line, 1, VectorErrorKind::Empty(what.to_owned()));
    let mut count = block.table.as_ref().map_or(Ok(1), count_rows)?;
    for each in &block.eaches {
        if each.names.is_empty() || each.names.len() > each.values.len() {
            return Err(empty(each.line, "the each line"));
        }
        for taken in 0..each.names.len() {
            count = count.saturating_mul(each.values.len() - taken);
        }
    }
    if count > left { Err(too_many(block.line, 1, MAX_CASES, "cases")) } else { Ok(count) }
}

/// How many cases the table gives.
fn count_rows(table: &Table<'_>) -> Result<usize, At> {
    if table.rows.is_empty() {
        return Err(At::new(table.heading.line, 1, VectorErrorKind::NoRows));
    }
    let is_result: Vec<bool> = table.heading.cells.iter().map(|(_, name)| result_column(name).is_some()).collect();
    if !is_result.contains(&true) {
        return Ok(table.rows.len());
    }
    let mut count = 0;
    for row in &table.rows {
        let cells = row.cells.iter().zip(&is_result);
        let given = cells.filter(|&((_, text), &is_result)| is_result && *text != NOTHING).count();
        if given == 0 {
            return Err(At::new(row.line, 1, VectorErrorKind::Empty("the row".to_owned())));
        }
        count += given;
    }
    Ok(count)
}

/// One row: `name` columns are common to all its cases; each `name: value` column is a case of its own, whose cell is
/// the result.
fn spread(heading: &Row<'_>, row: &Row<'_>) -> Vec<Values> {
    let mut common = Values { line: Some(row.line), ..Values::default() };
    let mut results = Vec::new();
    for (&(_, name), &(column, text)) in heading.cells.iter().zip(&row.cells) {
        let value = Value { line: row.line, column, text: text.to_owned() };
        match result_column(name) {
            Some((name, choice)) => results.push((name, choice, value)),
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

/// A value for each name.
type Choice<'t> = Vec<(&'t str, &'t str)>;

/// Every way to choose values for all `each` lines.
fn choices<'t>(eaches: &[Each<'t>]) -> Vec<Choice<'t>> {
    let mut all = vec![Vec::new()];
    for each in eaches {
        for (index, name) in each.names.iter().enumerate() {
            all = all.iter().flat_map(|chosen| with_each(chosen, name, &each.values, index)).collect();
        }
    }
    all
}

/// What was chosen so far with each value that none of the last names, those of the same line, has taken.
fn with_each<'t>(chosen: &Choice<'t>, name: &'t str, values: &[&'t str], taken: usize) -> Vec<Choice<'t>> {
    let taken = &chosen[chosen.len() - taken..];
    let free = values.iter().filter(|value| !taken.iter().any(|(_, other)| other == *value));
    free.map(|value| [chosen.as_slice(), &[(name, *value)]].concat()).collect()
}

fn case(file: &str, block: &Block<'_>, row: &Values, budget: &mut Budget) -> Result<Case, At> {
    let mut programs = Vec::new();
    for program in &block.programs {
        budget.take(block.line, 1, program.name.len())?;
        let mut lines = Vec::new();
        for &(number, line) in &program.lines {
            lines.push((number, row.fill(number, 1, line, budget)?));
        }
        programs.push((program.name.to_owned(), assemble(&lines, budget)?));
    }
    let mut keys = row.keys.clone();
    for field in &block.fields {
        let text = row.fill(field.line, field.column, field.value, budget)?;
        let value = Value { line: field.line, column: field.column, text };
        if keys.insert(field.key.to_owned(), value).is_some() {
            return Err(At::new(field.line, 1, VectorErrorKind::Duplicate(field.key.to_owned())));
        }
    }
    for value in keys.values_mut() {
        value.text = row.fill(value.line, value.column, &value.text, budget)?;
    }
    let number = |key: &str| keys.get(key).map(Value::number).transpose();
    let fuel = number("fuel")?;
    if let Some(value) = keys.get("fuel").filter(|_| fuel > Some(DEFAULT_FUEL)) {
        return Err(value.expected("at most the 100000000 instructions that every run has"));
    }
    let beside_reject = ["after", "instructions"].into_iter().find_map(|key| keys.get_key_value(key));
    if let (true, Some((key, value))) = (keys.contains_key("reject"), beside_reject) {
        return Err(At::new(value.line, value.column, VectorErrorKind::BesideReject(key.clone())));
    }
    Ok(Case {
        file: file.to_owned(),
        line: row.line.unwrap_or(block.line),
        title: title(block, row, budget)?,
        programs,
        input: input(&keys, budget)?,
        rules: rules(keys.get("rules"))?,
        mock_helper_5: false,
        fuel,
        expect: Expect {
            end: end(&keys).map_err(|kind| kind.unwrap_or_else(|kind| At::new(block.line, 1, kind)))?,
            after: keys.get("after").map(|value| value.bytes(budget)).transpose()?,
            instructions: number("instructions")?,
        },
    })
}

/// The title, and behind it the values that it does not name. It may name columns of every kind.
fn title(block: &Block<'_>, row: &Values, budget: &mut Budget) -> Result<String, At> {
    let rest = row.placeholders.iter().filter(|(name, _)| !block.title.contains(&format!("{{{name}}}")));
    let rest: Vec<(&String, &String)> = rest.collect();
    budget.take(block.line, 1, rest.iter().map(|(name, value)| name.len() + value.len()).sum())?;
    let rest: Vec<String> = rest.into_iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let mut row = row.clone();
    row.placeholders.extend(row.keys.iter().map(|(name, value)| (name.clone(), value.text.clone())));
    let title = row.fill(block.line, 1, block.title, budget)?;
    Ok(if rest.is_empty() { title } else { format!("{title} [{}]", rest.join(", ")) })
}

fn input(keys: &BTreeMap<String, Value>, budget: &mut Budget) -> Result<Input, At> {
    match (keys.get("memory"), keys.get("packet")) {
        (Some(_), Some(packet)) => {
            Err(At::new(packet.line, packet.column, VectorErrorKind::Duplicate("what the program gets".into())))
        }
        (_, Some(packet)) => packet.bytes(budget).map(Input::Packet),
        (memory, None) => memory.map_or(Ok(Vec::new()), |value| value.bytes(budget)).map(Input::Memory),
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
    fn fill(&self, line: usize, column: usize, text: &str, budget: &mut Budget) -> Result<String, At> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let place = column + text.len() - behind.len();
            let Some((name, behind)) = behind.split_once('}') else {
                return Err(At::expected(line, place, "the end of a placeholder", behind));
            };
            let value = self.placeholders.get(name);
            let value = value.ok_or_else(|| At::new(line, place, VectorErrorKind::UnknownPlaceholder(name.into())))?;
            if filled.len() + before.len() + value.len() > MAX_LINE {
                return Err(too_many(line, place, MAX_LINE, "bytes in a line with its values"));
            }
            filled.push_str(before);
            filled.push_str(value);
            rest = behind;
        }
        filled.push_str(rest);
        budget.take(line, column, filled.len())?;
        Ok(filled)
    }
}
