//! Reads `tests/museum/exhibits.toml`, whose head describes its form; what is wrong in it is refused with its line.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use toml::Spanned;

use super::exhibit::{Catalogue, Check, Exhibit, Planted, RULES, State};
use super::patches;
use crate::error::refuse;
use crate::model::Runner;
use crate::wrong::Wrong;

/// How long a check may take, unless the exhibit says otherwise.
const LIMIT: u64 = 120;
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    sections: BTreeMap<String, String>,
    #[serde(default)]
    exhibit: Vec<Table>,
}

const KEYS: [&str; 12] =
    ["id", "title", "rules", "point", "check", "oracle", "gate", "bound", "limit", "also", "alone", "waits_for"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    id: Spanned<String>,
    title: String,
    rules: Spanned<Vec<String>>,
    point: String,
    check: Option<Spanned<CheckTable>>,
    oracle: Option<Spanned<String>>,
    gate: Option<Spanned<bool>>,
    bound: Option<Spanned<u32>>,
    limit: Option<Spanned<u64>>,
    also: Option<Spanned<Vec<String>>>,
    alone: Option<Spanned<bool>>,
    waits_for: Option<Spanned<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckTable {
    scenario: Option<String>,
    runner: Option<Runner>,
    test: Option<TestTable>,
    case: Option<CaseTable>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestTable {
    package: String,
    name: String,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseTable {
    column: String,
    name: String,
}

/// Reads the catalogue in `folder`, and checks that its patches are there and touch nothing that judges them.
pub fn read(folder: &Path) -> Result<Catalogue> {
    let file = folder.join("exhibits.toml");
    let text =
        std::fs::read_to_string(&file).map_err(|error| refuse(format!("cannot read {}: {error}", file.display())))?;
    let catalogue = parse(&text).map_err(|wrong| wrong.refusal(&file, &text)).context("the catalogue is refused")?;
    patches::check(&catalogue, folder)?;
    Ok(catalogue)
}

fn parse(text: &str) -> Result<Catalogue, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| Wrong::of_toml(&error, &KEYS, plain))?;
    let mut sections = BTreeMap::new();
    for (letter, title) in file.sections {
        let mut letters = letter.chars();
        match (letters.next(), letters.next()) {
            (Some(letter @ 'A'..='Z'), None) => sections.insert(letter, title),
            _ => return Err(Wrong { at: None, what: format!("section {letter:?}: one letter from A to Z is needed") }),
        };
    }
    let mut exhibits: Vec<Exhibit> = Vec::new();
    for table in file.exhibit {
        let id = table.id.get_ref();
        if exhibits.iter().any(|other| other.id == *id) {
            return Err(Wrong::at(&table.id, format!("a second exhibit is {id}")));
        }
        if !is_id(id) || !id.chars().next().is_some_and(|letter| sections.contains_key(&letter)) {
            let what = format!("exhibit {id:?}: the letter of a section and a number are needed, as in B2 or A11b");
            return Err(Wrong::at(&table.id, what));
        }
        exhibits.push(exhibit(table)?);
    }
    if exhibits.is_empty() {
        return Err(Wrong { at: None, what: "no [[exhibit]]: at least one is needed".to_owned() });
    }
    Ok(Catalogue { sections, exhibits })
}

/// The parser's message without the names of Rust's types.
fn plain(message: &str) -> String {
    match message {
        "invalid type: map, expected a sequence" => "an exhibit begins with [[exhibit]], in two brackets".to_owned(),
        _ => message.replace("expected u64", "expected a number").replace("expected u32", "expected a number"),
    }
}

fn is_id(text: &str) -> bool {
    let rest = text.strip_prefix(|c: char| c.is_ascii_uppercase()).unwrap_or_default();
    let number = rest.trim_end_matches(|c: char| c.is_ascii_lowercase());
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) && rest.len() - number.len() <= 1
}

fn exhibit(table: Table) -> Result<Exhibit, Wrong> {
    let rule = |text: &String| {
        let number = text.strip_prefix('R').and_then(|number| number.parse().ok());
        let known = number.filter(|number| (1..=RULES).contains(number));
        known.ok_or_else(|| Wrong::at(&table.rules, format!("rule {text:?}: R1 to R{RULES} are known")))
    };
    let rules = table.rules.get_ref().iter().map(rule).collect::<Result<Vec<u8>, Wrong>>()?;
    if rules.is_empty() {
        return Err(Wrong::at(&table.rules, "at least one rule is needed".to_owned()));
    }
    let id = table.id.get_ref().clone();
    let state = match (&table.check, &table.waits_for) {
        (Some(_), None) => State::Planted(planted(&table)?),
        (None, Some(what)) => {
            let spans = [
                table.oracle.as_ref().map(Spanned::span),
                table.gate.as_ref().map(Spanned::span),
                table.bound.as_ref().map(Spanned::span),
                table.limit.as_ref().map(Spanned::span),
                table.also.as_ref().map(Spanned::span),
                table.alone.as_ref().map(Spanned::span),
            ];
            if let Some(span) = spans.into_iter().flatten().next() {
                let what = format!("{id} waits, so it has neither a check nor what belongs to one");
                return Err(Wrong { at: Some(span), what });
            }
            if what.get_ref().trim().is_empty() {
                return Err(Wrong::at(what, format!("{id}: say what it waits for")));
            }
            State::Waits(what.get_ref().clone())
        }
        _ => return Err(Wrong::at(&table.id, format!("{id} needs either check or waits_for"))),
    };
    Ok(Exhibit { id, title: table.title, rules, point: table.point, state })
}

fn planted(table: &Table) -> Result<Planted, Wrong> {
    let id = table.id.get_ref();
    let Some(check) = &table.check else { return Err(Wrong::at(&table.id, format!("{id} has no check"))) };
    let oracle = match &table.oracle {
        Some(oracle) if !oracle.get_ref().trim().is_empty() => oracle.get_ref().trim().to_owned(),
        Some(oracle) => return Err(Wrong::at(oracle, format!("{id}: the oracle is empty"))),
        None => return Err(Wrong::at(&table.id, format!("{id} has a check but no oracle"))),
    };
    let also = table.also.as_ref().map(|also| also.get_ref().clone()).unwrap_or_default();
    let alone = table.alone.as_ref().is_some_and(|alone| *alone.get_ref());
    if let Some(at) = table.alone.as_ref().filter(|_| alone && also.is_empty()) {
        return Err(Wrong::at(at, format!("{id}: alone needs a second patch in also")));
    }
    if let Some(at) = table.limit.as_ref().filter(|limit| *limit.get_ref() == 0) {
        return Err(Wrong::at(at, format!("{id}: a limit of no time")));
    }
    Ok(Planted {
        check: self::check(id, check, table.bound.as_ref())?,
        oracle,
        gate: table.gate.as_ref().is_some_and(|gate| *gate.get_ref()),
        limit: Duration::from_secs(table.limit.as_ref().map_or(LIMIT, |limit| *limit.get_ref())),
        patches: std::iter::once(id.clone()).chain(also).collect(),
        alone,
    })
}

fn check(id: &str, table: &Spanned<CheckTable>, bound: Option<&Spanned<u32>>) -> Result<Check, Wrong> {
    let CheckTable { scenario, runner, test, case } = table.get_ref().clone();
    let check = match (scenario, runner, test, case) {
        (Some(_), Some(Runner::Miri), None, None) => {
            return Err(Wrong::at(table, format!("{id}: the museum has no Miri; loom, shuttle and threads it has")));
        }
        (Some(name), Some(runner), None, None) => {
            return Ok(Check::Scenario { runner, name, bound: bound.map(|bound| *bound.get_ref()) });
        }
        (None, None, Some(TestTable { package, name }), None) => Check::Test { package, name },
        (None, None, None, Some(CaseTable { column, name })) => Check::Case { column, name },
        _ => {
            let forms = "{ scenario, runner }, { test = { package, name } } or { case = { column, name } }";
            return Err(Wrong::at(table, format!("{id}: a check is one of {forms}")));
        }
    };
    match bound {
        Some(bound) => Err(Wrong::at(bound, format!("{id}: only scenarios have a bound"))),
        None => Ok(check),
    }
}

#[cfg(test)]
mod tests;
