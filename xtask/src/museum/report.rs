//! What the museum has to show: exhibits found, by section and by rule, and what each cost.

use std::fmt::Write as _;

use super::exhibit::{Catalogue, Exhibit, RULES, State};
use super::stand::Tried;
use super::verdict::Verdict;

/// The first line of something longer.
fn brief(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// One exhibit's line, as it is done.
pub fn line(exhibit: &Exhibit, tried: &Tried) -> String {
    let (mark, what) = match &tried.verdict {
        Verdict::Found(how) => ("found ", brief(how)),
        // In full: somebody has to act on it.
        Verdict::Missed(why) => ("MISSED", why.as_str()),
        Verdict::Error(why) => ("ERROR ", why.as_str()),
    };
    let check = exhibit.planted().map(|planted| planted.check.to_string()).unwrap_or_default();
    let seconds = (tried.build + tried.run).as_secs_f64();
    format!("{mark} {:5} {:10} {seconds:6.1} s  {check}: {what}", exhibit.id, exhibit.rules())
}

/// All of it, about the exhibits that were tried.
pub fn report(catalogue: &Catalogue, tried: &[(&Exhibit, Tried)]) -> String {
    // Writing to a string cannot fail.
    let mut out = String::new();
    let _written = writeln!(out, "\nexhibit rules       build     run    check");
    for (exhibit, one) in tried {
        let check = exhibit.planted().map(|planted| planted.check.to_string()).unwrap_or_default();
        let (build, run) = (one.build.as_secs_f64(), one.run.as_secs_f64());
        let mark = if found(one) { "" } else { "  NOT FOUND" };
        let _written =
            writeln!(out, "{:7} {:10} {build:5.1} s {run:5.1} s  {check}{mark}", exhibit.id, exhibit.rules());
    }
    out += &sections(catalogue, tried);
    out += &rules(catalogue, tried);
    out
}

fn found(tried: &Tried) -> bool {
    matches!(tried.verdict, Verdict::Found(_))
}

fn sections(catalogue: &Catalogue, tried: &[(&Exhibit, Tried)]) -> String {
    let mut out = format!("\n{:52} found  total  waiting\n", "section");
    let mut sum = (0, 0, 0);
    let row = |out: &mut String, name: &str, (found, total, waiting): (usize, usize, usize)| {
        let _written = writeln!(out, "{name:52} {found:5}  {total:5}  {waiting:7}");
    };
    for (letter, title) in &catalogue.sections {
        let of: Vec<&Tried> = tried.iter().filter(|(one, _)| one.section() == *letter).map(|(_, one)| one).collect();
        let waits = |one: &&Exhibit| one.section() == *letter && matches!(one.state, State::Waits(_));
        let waiting = catalogue.exhibits.iter().filter(waits).count();
        let found = of.iter().filter(|one| found(one)).count();
        if of.is_empty() && waiting == 0 {
            continue;
        }
        row(&mut out, &format!("{letter}  {title}"), (found, of.len(), waiting));
        sum = (sum.0 + found, sum.1 + of.len(), sum.2 + waiting);
    }
    row(&mut out, "all", sum);
    out
}

fn rules(catalogue: &Catalogue, tried: &[(&Exhibit, Tried)]) -> String {
    let mut out = "\nrule  killed mutants\n".to_owned();
    for rule in 1..=RULES {
        let of = |exhibit: &Exhibit| exhibit.rules.contains(&rule);
        let ids = |ids: Vec<&str>| ids.join(" ");
        let killed = tried.iter().filter(|(exhibit, one)| of(exhibit) && found(one));
        let killed: Vec<&str> = killed.map(|(exhibit, _)| exhibit.id.as_str()).collect();
        let waits = |one: &&Exhibit| of(one) && matches!(one.state, State::Waits(_));
        let waiting: Vec<&str> = catalogue.exhibits.iter().filter(waits).map(|one| one.id.as_str()).collect();
        let text = match (killed.is_empty(), waiting.is_empty()) {
            (false, _) => ids(killed),
            (true, false) => format!("NONE, so nothing shows that it is checked (waiting: {})", ids(waiting)),
            (true, true) => "NONE, so nothing shows that it is checked".to_owned(),
        };
        let _written = writeln!(out, "{:5} {text}", format!("R{rule}"));
    }
    out
}

/// The exhibits that wait, and what for.
pub fn waiting(catalogue: &Catalogue) -> String {
    let mut out = String::new();
    for exhibit in &catalogue.exhibits {
        if let State::Waits(what) = &exhibit.state {
            let _written = writeln!(out, "{:7} {:10} waits for {what}", exhibit.id, exhibit.rules());
        }
    }
    if out.is_empty() { out } else { format!("\n{out}") }
}

/// The catalogue.
pub fn list(catalogue: &Catalogue) -> String {
    let mut out = String::new();
    for (letter, title) in &catalogue.sections {
        let of: Vec<&Exhibit> = catalogue.exhibits.iter().filter(|one| one.section() == *letter).collect();
        if of.is_empty() {
            continue;
        }
        let _written = writeln!(out, "{letter}  {title}");
        for exhibit in of {
            let _written = writeln!(out, "  {:5} {:10} {}", exhibit.id, exhibit.rules(), exhibit.title);
            let how = match &exhibit.state {
                State::Planted(planted) => {
                    let gate = if planted.gate { "; part of test" } else { "" };
                    let alone = if planted.alone { ", and no patch alone" } else { "" };
                    let (point, check, oracle) = (&exhibit.point, &planted.check, &planted.oracle);
                    format!("{point}: {check} must say {oracle}{alone}{gate}")
                }
                State::Waits(what) => format!("{}: waits for {what}", exhibit.point),
            };
            let _written = writeln!(out, "  {:16} {how}", "");
        }
    }
    out
}
