//! Where the table runs: on the build machine against the fake instruction set, or inside a board's image.
//!
//! Either prints `CASE <ok|FAIL|skip> <name> <rule> [reason]` for each case and ends with
//! `CASES <ok> <failed> <skipped>`; without that last line, or with other counts in it, the run is not believed.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::{Case, Ending};
use crate::batch;
use crate::board::{Board, Machine};
use crate::emulator::Launch;
use crate::image::{self, Profile, Variant};
use crate::progress::step;
use crate::{process, setup, workspace};

/// A column of the table.
pub enum Column {
    /// On the build machine.
    Host {
        /// The column's name; the program in tests/backend-fake is called the same.
        name: &'static str,
    },
    /// Inside a board's image.
    Board {
        /// The column's name.
        name: String,
        /// The board.
        board: Arc<Board>,
        /// The machine.
        machine: Box<Machine>,
    },
}

impl Column {
    /// Every column that exists.
    pub fn all() -> Result<Vec<Self>> {
        let boards = Board::all()?.into_iter().map(Arc::new).flat_map(|board| {
            let columns: Vec<_> =
                board.columns().map(|(name, machine)| (name.to_owned(), Box::new(machine.clone()))).collect();
            columns.into_iter().map(move |(name, machine)| Self::Board { name, board: Arc::clone(&board), machine })
        });
        let host = ["host-radix", "host-hash", "host-hpt", "host-nest", "host-trap"].map(|name| Self::Host { name });
        Ok(host.into_iter().chain(boards).collect())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Host { name } => name,
            Self::Board { name, .. } => name,
        }
    }

    /// Runs the whole table.
    pub fn run(&self, profile: Profile) -> Result<Vec<Case>> {
        let (lines, good) = match self {
            Self::Host { name } => host(name)?,
            Self::Board { board, machine, .. } => on_board(board, machine, profile)?,
        };
        let cases = parse(&lines).with_context(|| format!("column {}", self.name()))?;
        let failed = cases.iter().any(|case| matches!(case.ending, Ending::Failed(_)));
        if !good && !failed {
            bail!("column {}: every case passed, but the run ended with a failure status", self.name());
        }
        Ok(cases)
    }
}

/// The lines, and whether the run ended well.
fn host(program: &str) -> Result<(Vec<String>, bool)> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["build", "--quiet", "--package", "backend-fake", "--bin", program]);
    step(&format!("building {program}"), || process::output(&mut cargo))?;
    let mut run = Command::new("cargo");
    run.current_dir(workspace::root()).args(["run", "--quiet", "--package", "backend-fake", "--bin", program]);
    let out = step(&format!("running {program}"), || run.output().with_context(|| format!("cannot run {program}")))?;
    let lines = String::from_utf8_lossy(&out.stdout).lines().map(str::to_owned).collect();
    Ok((lines, out.status.success()))
}

fn on_board(board: &Board, machine: &Machine, profile: Profile) -> Result<(Vec<String>, bool)> {
    setup::need_to_run(board, machine)?;
    let image = image::build(board, profile, Variant::Conformance)?;
    let launch = Launch {
        board,
        machine,
        args: &board.emulator.args,
        cpus: board.cpus(machine),
        memory: board.conformance_memory(machine),
        image: &image,
        bundle: None,
    };
    let what = format!("running the table on {} ({})", board.name, machine.name);
    let written = step(&what, || batch::run(&launch, board.timeout(machine)))?;
    Ok((written.lines, written.status.success()))
}

fn parse(lines: &[String]) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for line in lines.iter().filter_map(|line| line.strip_prefix("CASE ")) {
        let mut words = line.splitn(4, ' ');
        let (Some(how), Some(name), Some(rule)) = (words.next(), words.next(), words.next()) else {
            bail!("a line that is no result: CASE {line}");
        };
        let why = words.next().unwrap_or("no reason given").to_owned();
        let ending = match how {
            "ok" => Ending::Ok,
            "FAIL" => Ending::Failed(why),
            "skip" => Ending::Skipped(why),
            _ => bail!("a line that is no result: CASE {line}"),
        };
        cases.push(Case { name: name.to_owned(), rule: rule.to_owned(), ending });
    }
    let count = |wanted: fn(&Ending) -> bool| cases.iter().filter(|case| wanted(&case.ending)).count();
    let ok = count(|ending| matches!(ending, Ending::Ok));
    let failed = count(|ending| matches!(ending, Ending::Failed(_)));
    let total = format!("CASES {ok} {failed} {}", cases.len() - ok - failed);
    if !lines.contains(&total) {
        let last = lines.iter().rev().take(10).rev().map(String::as_str).collect::<Vec<_>>().join("\n");
        bail!("the table did not run to its end (no line {total:?}); the last lines:\n{last}");
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::{Ending, parse};

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn results_are_read_with_their_reasons() {
        let cases =
            parse(&lines("noise\nCASE ok a R1\nCASE FAIL b R2 why so\nCASE skip c R3 none\nCASES 1 1 1")).unwrap();
        assert_eq!(cases.len(), 3);
        assert_eq!(cases[1].ending, Ending::Failed("why so".into()));
        assert_eq!((cases[2].name.as_str(), cases[2].rule.as_str()), ("c", "R3"));
    }

    #[test]
    fn a_run_cut_short_is_not_believed() {
        assert!(parse(&lines("CASE ok a R1")).is_err());
        assert!(parse(&lines("CASE ok a R1\nCASES 2 0 0")).is_err());
        assert!(parse(&lines("CASE maybe a R1\nCASES 1 0 0")).is_err());
    }
}
