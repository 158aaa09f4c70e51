//! `cargo xtask conformance`: the one table of cases, in each column that exists.

mod column;
mod report;

use anyhow::{Result, bail};

use crate::error::{refuse, suggestion};
use crate::image::Profile;
pub use column::Column;
pub use report::Format;

/// How one case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As the rule demands.
    Ok,
    /// Otherwise; why.
    Failed(String),
    /// Not at all; why.
    Skipped(String),
}

/// One case's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The rule it defends.
    pub rule: String,
    /// How it ended.
    pub ending: Ending,
}

/// Runs the columns that `target` names, prints the report; fails if any case did. Of several columns one that does not come
/// to its end is said after the report of the others: together they take long.
pub fn run(target: &str, filter: Option<&str>, format: Format, profile: Profile) -> Result<()> {
    let columns = Column::all()?;
    let chosen: Vec<&Column> = columns.iter().filter(|column| target == "all" || column.name() == target).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = columns.iter().map(Column::name).collect();
        let hint = suggestion(target, names.iter().copied().chain(["all"]));
        return Err(refuse(format!("unknown target {target:?}{hint} (targets: {}, all)", names.join(", "))));
    }
    let filter = filter.map(regex_lite::Regex::new).transpose();
    let filter = filter.map_err(|error| refuse(format!("--filter is no regular expression: {error}")))?;
    let (mut results, mut unfinished) = (Vec::new(), Vec::new());
    for column in &chosen {
        let mut cases = match column.run(profile) {
            Ok(cases) => cases,
            Err(error) if chosen.len() > 1 => {
                unfinished.push(format!("column {} did not come to its end: {error:#}", column.name()));
                continue;
            }
            Err(error) => return Err(error),
        };
        cases.retain(|case| filter.as_ref().is_none_or(|filter| filter.is_match(&case.name)));
        results.push((column.name().to_owned(), cases));
    }
    if unfinished.is_empty() && results.iter().all(|(_, cases)| cases.is_empty()) {
        return Err(refuse("no case has such a name"));
    }
    print!("{}", format.report(&results)?);
    let failed =
        results.iter().flat_map(|(_, cases)| cases).filter(|case| matches!(case.ending, Ending::Failed(_))).count();
    if failed > 0 {
        unfinished.push(format!("{failed} cases failed"));
    }
    if unfinished.is_empty() { Ok(()) } else { bail!("{}", unfinished.join("\n")) }
}
