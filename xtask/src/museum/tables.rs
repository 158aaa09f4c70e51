//! The tables of exhibits in ARCHITECTURE.md and in the book. What stands in them is the catalogue's; which exhibits belong
//! to a chapter is the chapter's, which names them by their ids.
//!
//! ```text
//!   | | rule | where it is kept | exhibits |                               the last column: who breaks the rule
//!   | exhibit | what is planted | who must find it | oracle |              a chapter's: all but the first column
//!   | exhibits | wait for |                                                all of it
//! ```
//!
//! `cargo xtask fmt` writes them, `cargo xtask lint` says if one is out of date.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::exhibit::{Catalogue, Check, Exhibit, State};
use crate::workspace;

const RULES: &str = "| | rule | where it is kept | exhibits |";
const CHAPTER: &str = "| exhibit | what is planted | who must find it | oracle |";
const WAITING: &str = "| exhibits | wait for |";

/// Texts as they should be, and what only a person can put right.
pub struct Renewed {
    /// Those that differ from what is there.
    pub files: Vec<(PathBuf, String)>,
    /// Lines for people.
    pub wrong: Vec<String>,
}

/// The texts below `root` with tables as the catalogue has them.
pub fn renewed(catalogue: &Catalogue, root: &Path) -> Result<Renewed> {
    let mut chapters: Vec<PathBuf> = std::fs::read_dir(root.join("book/src"))
        .context("cannot read book/src")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    chapters.retain(|path| path.extension().is_some_and(|ext| ext == "md"));
    chapters.sort();
    chapters.push(root.join("ARCHITECTURE.md"));
    let (mut files, mut wrong, mut shown) = (Vec::new(), Vec::new(), BTreeSet::new());
    for path in chapters {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let new = renew(catalogue, &text, &mut shown, &mut |what| wrong.push(format!("{name}: {what}")));
        if new != text {
            files.push((path, new));
        }
    }
    let planted = catalogue.exhibits.iter().filter(|one| one.planted().is_some());
    let hidden = planted.map(|one| one.id.as_str()).filter(|id| !shown.contains(*id));
    wrong.extend(
        hidden.map(|id| format!("no chapter of the book shows exhibit {id}: add a line `| {id} |` to a table")),
    );
    Ok(Renewed { files, wrong })
}

/// Writes those that are out of date.
pub fn write(catalogue: &Catalogue, root: &Path) -> Result<()> {
    renewed(catalogue, root)?.files.iter().try_for_each(|(path, text)| workspace::write_file(path, text.as_bytes()))
}

/// One text with its tables renewed. `shown` collects the exhibits of chapters' tables.
fn renew(catalogue: &Catalogue, text: &str, shown: &mut BTreeSet<String>, wrong: &mut impl FnMut(String)) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut table = None;
    for line in text.lines() {
        let kind = [RULES, CHAPTER, WAITING].into_iter().find(|head| *head == line);
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let head = line.starts_with("|--");
        table = match (kind, table) {
            (Some(kind), _) => Some(kind),
            (None, Some(kind)) if line.starts_with('|') => Some(kind),
            _ => None,
        };
        match (table, cells.as_slice()) {
            _ if kind.is_some() => out.push(line.to_owned()),
            (Some(WAITING), _) if head => {
                out.push(line.to_owned());
                out.extend(waiting(catalogue));
            }
            (Some(WAITING), _) => {}
            (Some(RULES), [rule, what, place, ..]) if !head => {
                out.push(format!("| {rule} | {what} | {place} |{} |", breakers(catalogue, rule)));
            }
            (Some(CHAPTER), [id, ..]) if !head => match catalogue.exhibits.iter().find(|one| one.id == *id) {
                Some(exhibit) if exhibit.planted().is_some() => {
                    shown.insert((*id).to_owned());
                    out.push(row(exhibit));
                }
                _ => {
                    wrong(format!("no exhibit that is planted is called {id}"));
                    out.push(line.to_owned());
                }
            },
            _ => out.push(line.to_owned()),
        }
    }
    out.join("\n") + "\n"
}

/// A chapter's line of one exhibit.
fn row(exhibit: &Exhibit) -> String {
    let Some(planted) = exhibit.planted() else { return String::new() };
    let check = match &planted.check {
        Check::Scenario { runner, name, .. } => format!("scenario `{name}`, {}", runner.name()),
        Check::Test { name, .. } => format!("test `{name}`"),
        Check::Case { name, .. } => format!("case `{name}`"),
    };
    format!("| {} | {} | {check} | {} |", exhibit.id, exhibit.title, planted.oracle)
}

/// The exhibits that break a rule, each with a blank before it.
fn breakers(catalogue: &Catalogue, rule: &str) -> String {
    let breaks = |one: &&Exhibit| one.planted().is_some() && one.rules.iter().any(|n| format!("R{n}") == rule);
    let mut ids: Vec<&str> = catalogue.exhibits.iter().filter(breaks).map(|one| one.id.as_str()).collect();
    ids.sort_by_key(|id| place(id));
    if ids.is_empty() { String::new() } else { format!(" {}", ids.join(", ")) }
}

/// Where an exhibit stands among others: B9 comes before B10, and A1 before A1b.
fn place(id: &str) -> (Option<char>, u32, &str) {
    let rest = id.trim_start_matches(|c: char| c.is_ascii_uppercase());
    let letter = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = rest.strip_suffix(letter).and_then(|number| number.parse().ok());
    (id.chars().next(), number.unwrap_or(u32::MAX), letter)
}

/// The lines of those that wait, by what for, in the catalogue's order.
fn waiting(catalogue: &Catalogue) -> Vec<String> {
    let mut by: BTreeMap<&str, (usize, Vec<&str>)> = BTreeMap::new();
    for (at, exhibit) in catalogue.exhibits.iter().enumerate() {
        if let State::Waits(what) = &exhibit.state {
            by.entry(what).or_insert((at, Vec::new())).1.push(&exhibit.id);
        }
    }
    let mut lines: Vec<_> = by.into_iter().map(|(what, (at, ids))| (at, ids.join(", "), what)).collect();
    lines.sort_unstable();
    lines.into_iter().map(|(_, ids, what)| format!("| {ids} | {what} |")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::exhibit::{Catalogue, Check, Exhibit, Planted, State};
    use super::{CHAPTER, RULES, WAITING, place, renew};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn exhibit(id: &str, rules: &[u8], state: State) -> Exhibit {
        Exhibit { id: id.into(), title: format!("title of {id}"), rules: rules.to_vec(), point: "p".into(), state }
    }

    fn catalogue() -> Catalogue {
        let planted = State::Planted(Planted {
            check: Check::Case { column: "host-radix".into(), name: "x".into() },
            oracle: "G1".into(),
            gate: true,
            limit: Duration::from_secs(1),
            patches: vec!["A1".into()],
            alone: false,
        });
        let exhibits = vec![
            exhibit("A2", &[1, 2], planted.clone()),
            exhibit("B1", &[2], State::Waits("later".into())),
            exhibit("B2", &[2], State::Waits("another".into())),
            exhibit("B3", &[2], State::Waits("later".into())),
            exhibit("A1", &[2], planted),
        ];
        Catalogue { sections: [('A', "first".to_owned()), ('B', "second".into())].into(), exhibits }
    }

    fn renewed(text: &str) -> (String, Vec<String>, Vec<String>) {
        let (mut shown, mut wrong) = (BTreeSet::new(), Vec::new());
        let new = renew(&catalogue(), text, &mut shown, &mut |what| wrong.push(what));
        (new, shown.into_iter().collect(), wrong)
    }

    #[test]
    fn what_the_catalogue_knows_is_written_and_what_people_wrote_stays() {
        let text = format!(
            "{RULES}\n|---|---|---|---|\n| R1 | one | `a` | A9 |\n| R2 | two | b | |\n| R3 | three | c | A1 |\n\n\
             | R2 | not | a | table |\n\n{CHAPTER}\n|---|---|---|---|\n| A1 | old |\n| A2 |\n\nmore\n\n\
             {WAITING}\n|---|---|\n| Z9 | nothing |\n\nend\n"
        );
        let row = |id: &str| format!("| {id} | title of {id} | case `x` | G1 |");
        let wanted = format!(
            "{RULES}\n|---|---|---|---|\n| R1 | one | `a` | A2 |\n| R2 | two | b | A1, A2 |\n| R3 | three | c | |\n\n\
             | R2 | not | a | table |\n\n{CHAPTER}\n|---|---|---|---|\n{}\n{}\n\nmore\n\n\
             {WAITING}\n|---|---|\n| B1, B3 | later |\n| B2 | another |\n\nend\n",
            row("A1"),
            row("A2")
        );
        let (new, shown, wrong) = renewed(&text);
        assert_eq!(new, wanted);
        assert_eq!((shown, wrong), (vec!["A1".to_owned(), "A2".into()], Vec::new()));
        assert_eq!(renewed(&wanted).0, wanted, "writing it twice changes nothing");
    }

    #[test]
    fn exhibits_are_sorted_as_people_count() {
        let mut ids = ["B1", "A11b", "A2", "A11", "A1b", "A1"];
        ids.sort_by_key(|id| place(id));
        assert_eq!(ids, ["A1", "A1b", "A2", "A11", "A11b", "B1"]);
    }

    #[test]
    fn an_exhibit_that_is_not_planted_is_not_shown() {
        let text = format!("{CHAPTER}\n|---|---|---|---|\n| B1 | x |\n| A7 | y |\n");
        let (new, shown, wrong) = renewed(&text);
        assert_eq!((new, shown.len(), wrong.len()), (text, 0, 2));
    }
}
