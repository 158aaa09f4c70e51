//! `cargo xtask bench --host`: page-table work on this machine, beside other crates and loops written by hand.
//!
//! `tests/bench-host` measures, and prints a line a figure (its head has their form); here they are held against the
//! goals. Times are ratios within one run, since nobody knows what else a machine does; counts are callgrind's and hold
//! as they are.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::error::refuse;
use crate::progress::step;
use crate::{process, setup, watched, workspace};

/// How long all of it may take: under callgrind everything is fifty times slower.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What is measured of an operation.
#[derive(Clone, Copy)]
enum Measure {
    /// Its time as a multiple of what this subject takes.
    Times(&'static str),
    /// Nanoseconds.
    Nanoseconds,
    /// Instructions.
    Instructions,
}

/// A figure to be met.
struct Goal {
    about: &'static str,
    op: &'static str,
    subject: &'static str,
    measure: Measure,
    /// It may not be more.
    most: f64,
}

impl Goal {
    const fn of_table(about: &'static str, op: &'static str, measure: Measure, most: f64) -> Self {
        Self { about, op, subject: "trivet", measure, most }
    }
}

const BY_HAND: Measure = Measure::Times("by-hand");
const LOCKED: Measure = Measure::Times("x86_64-rwlock");

const GOALS: [Goal; 10] = [
    Goal::of_table("map, tables there", "map", BY_HAND, 1.05),
    Goal::of_table("look-up, dependent", "lookup-dependent", BY_HAND, 1.03),
    Goal::of_table("look-up, independent", "lookup", BY_HAND, 1.03),
    Goal::of_table("unmap", "unmap", BY_HAND, 1.05),
    Goal::of_table("map, tables there", "map", LOCKED, 0.6),
    Goal::of_table("unmap", "unmap", LOCKED, 0.6),
    Goal::of_table("range map, a page", "map-range", Measure::Nanoseconds, 2.0),
    Goal::of_table("range unmap, a page", "unmap-range", Measure::Nanoseconds, 2.0),
    Goal { about: "discard, a page", op: "discard", subject: "trivet-vm", measure: Measure::Instructions, most: 15.0 },
    Goal { about: "split of 2 MiB", op: "split", subject: "trivet-vm", measure: Measure::Instructions, most: 1400.0 },
];

/// All figures: of which kind, which operation, whose, and what it is called.
type Figures = BTreeMap<(String, String, String, String), f64>;

/// Measures everything, counts everything, and says which goals are met; fails if one is missed.
pub fn run() -> Result<()> {
    let lines = measured(&["--counts"])?;
    for line in lines.iter().filter(|line| !is_figure(line)) {
        println!("{line}");
    }
    let (table, missed) = judge(&figures(&lines)?);
    print!("\n{table}");
    if missed.is_empty() { Ok(()) } else { bail!("missed: {}", missed.join(", ")) }
}

/// Counts what has a limit in `tests/bench-host`; fails if one is exceeded. Times are not judged.
pub fn check() -> Result<()> {
    let lines = measured(&["--check", "--rounds", "1"])?;
    for line in lines.iter().filter(|line| line.starts_with("count ")) {
        println!("{line}");
    }
    Ok(())
}

fn measured(words: &[&str]) -> Result<Vec<String>> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(refuse(
            "bench --host needs an x86-64 machine: one of the crates that it compares with is for nothing else",
        ));
    }
    setup::need_callgrind()?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace::root()).args(["build", "--quiet", "--profile", "bench", "--package", "bench-host"]);
    step("building the benchmark", || process::output(&mut cargo))?;
    let mut program = process::outlived(workspace::target_dir().join("release").join("bench-host"));
    let ran = step("measuring", || watched::run(program.args(words), LIMIT, |_| {}))?;
    if !ran.good() {
        bail!("the benchmark ended with {}:\n{}", ran.ending(), ran.lines.join("\n"));
    }
    Ok(ran.lines)
}

fn is_figure(line: &str) -> bool {
    line.starts_with("bench op=") || line.starts_with("count op=")
}

/// `bench op=map subject=trivet ns=9.41 ratio=1.02`, `count op=map subject=trivet instructions=44.0 loads=9.0 stores=2.0`.
fn figures(lines: &[String]) -> Result<Figures> {
    let mut figures = Figures::new();
    for line in lines.iter().filter(|line| is_figure(line)) {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let pairs: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        let ["op", "subject"] = pairs.iter().map(|(key, _)| *key).take(2).collect::<Vec<_>>()[..] else {
            bail!("not of the form of a figure: {line}");
        };
        let (Some((_, op)), Some((_, subject))) = (pairs.first(), pairs.get(1)) else { bail!("no figure: {line}") };
        for (key, value) in pairs.iter().skip(2) {
            let value = value.parse().with_context(|| format!("{value:?} in {line:?} is no number"))?;
            figures.insert((kind.to_owned(), (*op).to_owned(), (*subject).to_owned(), (*key).to_owned()), value);
        }
    }
    Ok(figures)
}

/// The goals, each with what was measured, and those that are missed.
fn judge(figures: &Figures) -> (String, Vec<String>) {
    let get = |kind: &str, op: &str, subject: &str, key: &str| {
        let found = figures.get(&(kind.to_owned(), op.to_owned(), subject.to_owned(), key.to_owned()));
        found.copied().filter(|value| value.is_finite())
    };
    let count = |goal: &Goal, subject: &str| get("count", goal.op, subject, "instructions");
    let mut table = format!("{:22} {:22} {:>9} {:>9}  {:8} instructions\n", "goal", "", "measured", "at most", "");
    let mut missed = Vec::new();
    for goal in &GOALS {
        let time = |subject: &str| get("bench", goal.op, subject, "ns");
        let (unit, value, counts) = match goal.measure {
            Measure::Times(other) => {
                let ratio = time(goal.subject).zip(time(other)).map(|(own, other)| own / other);
                let counts = count(goal, goal.subject).zip(count(goal, other));
                let counts = counts.map(|(own, other)| format!("{own:.1} to {other:.1}"));
                (format!("x {other}"), ratio, counts.unwrap_or_default())
            }
            Measure::Nanoseconds => ("ns".to_owned(), time(goal.subject), String::new()),
            Measure::Instructions => ("instructions".to_owned(), count(goal, goal.subject), String::new()),
        };
        let verdict = match value {
            None => "UNKNOWN",
            Some(value) if value <= goal.most => "met",
            Some(_) => "MISSED",
        };
        if verdict != "met" {
            missed.push(format!("{} ({unit})", goal.about));
        }
        let value = value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let line = format!("{:22} {unit:22} {value:>9} {:>9.2}  {verdict:8} {counts}", goal.about, goal.most);
        table += line.trim_end();
        table.push('\n');
    }
    (table, missed)
}

#[cfg(test)]
mod tests {
    use super::{GOALS, figures, judge};

    fn lines(trivet: f64, range: &str) -> Vec<String> {
        let mut lines = vec!["a table for people".to_owned()];
        for op in ["map", "lookup", "lookup-dependent", "unmap"] {
            for (subject, ns) in [("trivet", trivet), ("by-hand", 10.0), ("x86_64-rwlock", 20.0)] {
                lines.push(format!("bench op={op} subject={subject} ns={ns:.2} ratio=1.00"));
                lines.push(format!("count op={op} subject={subject} instructions=44.00 loads=9.00 stores=2.00"));
            }
        }
        lines.push(format!("bench op=map-range subject=trivet ns={range} ratio=9.00"));
        lines.push("bench op=unmap-range subject=trivet ns=0.10 ratio=9.00".to_owned());
        lines.push("count op=discard subject=trivet-vm instructions=15.00 loads=1.00 stores=1.00".to_owned());
        lines.push("count op=split subject=trivet-vm instructions=1400.00 loads=1.00 stores=1.00".to_owned());
        lines
    }

    #[test]
    fn goals_are_met_or_missed_by_what_was_measured() {
        let judged = |lines: &[String]| judge(&figures(lines).unwrap());
        let (table, missed) = judged(&lines(10.3, "2.00"));
        assert_eq!((missed.join(", "), table.lines().count()), (String::new(), GOALS.len() + 1), "{table}");
        assert!(table.contains("x by-hand                   1.03      1.05  met      44.0 to 44.0"), "{table}");
        let (_, missed) = judged(&lines(10.4, "2.01"));
        let wanted = ["look-up, dependent (x by-hand)", "look-up, independent (x by-hand)", "range map, a page (ns)"];
        assert_eq!(missed, wanted);
        assert_eq!(judged(&lines(12.1, "1.00")).1.len(), 6);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let all = lines(10.0, "NaN");
        assert_eq!(judge(&figures(&all).unwrap()).1, ["range map, a page (ns)"]);
        assert_eq!(judge(&figures(&[]).unwrap()).1.len(), GOALS.len());
        for line in ["bench op=map ns=1", "bench op=map subject=a ns=x"] {
            assert!(figures(&[line.to_owned()]).is_err(), "{line}");
        }
    }
}
