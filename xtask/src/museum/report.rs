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

/// What each exhibit cost.
pub fn times(tried: &[(&Exhibit, Tried)]) -> String {
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
    out
}

fn found(tried: &Tried) -> bool {
    matches!(tried.verdict, Verdict::Found(_))
}

/// How many were found, by section.
pub fn sections(catalogue: &Catalogue, tried: &[(&Exhibit, Tried)]) -> String {
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

/// Which exhibits show that a rule is checked, by rule.
pub fn rules(catalogue: &Catalogue, tried: &[(&Exhibit, Tried)]) -> String {
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

#[cfg(test)]
mod tests {
    use super::super::exhibit::{Catalogue, Check, Exhibit, Planted, State};
    use super::super::stand::Tried;
    use super::super::verdict::Verdict;
    use super::{line, list, rules, sections, times, waiting};
    use std::time::Duration;

    fn exhibit(id: &str, rules: &[u8], state: State) -> Exhibit {
        Exhibit { id: id.into(), title: "title".into(), rules: rules.to_vec(), point: "point".into(), state }
    }

    fn planted() -> State {
        State::Planted(Planted {
            check: Check::Case { column: "host-radix".into(), name: "x".into() },
            oracle: "G1".into(),
            gate: true,
            limit: Duration::from_secs(1),
            patches: vec!["A1".into()],
            alone: false,
        })
    }

    fn tried(verdict: Verdict) -> Tried {
        Tried { verdict, build: Duration::from_secs(2), run: Duration::from_millis(500) }
    }

    #[test]
    fn sections_and_rules_count_what_was_found_only() {
        let exhibits = vec![
            exhibit("A1", &[1, 2], planted()),
            exhibit("A2", &[2, 3], planted()),
            exhibit("B1", &[4], State::Waits("issue 5".into())),
        ];
        let sections_of = [('A', "first".to_owned()), ('B', "second".into()), ('C', "third".into())];
        let catalogue = Catalogue { sections: sections_of.into(), exhibits };
        let [first, second, _] = &catalogue.exhibits[..] else { panic!() };
        let results = [
            (first, tried(Verdict::Found("G1: x\nmore".into()))),
            (second, tried(Verdict::Missed("the check passes".into()))),
        ];
        let text = sections(&catalogue, &results);
        let rows: Vec<Vec<&str>> = text.trim().lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows[1..],
            [&["A", "first", "1", "2", "0"][..], &["B", "second", "0", "0", "1"], &["all", "1", "2", "1"]]
        );
        let text = rules(&catalogue, &results);
        assert!(text.contains("R1    A1\nR2    A1\nR3    NONE") && text.contains("R4    NONE"), "{text}");
        assert!(text.contains("(waiting: B1)") && text.trim().lines().count() == 28, "{text}");
        assert!(waiting(&catalogue).contains("B1      R4         waits for issue 5"));
        assert!(times(&results).contains("A2      R2 R3        2.0 s   0.5 s  host-radix x  NOT FOUND"));
        assert!(line(first, &results[0].1).ends_with("2.5 s  host-radix x: G1: x"));
        assert!(list(&catalogue).contains("point: host-radix x must say G1; part of test"));
    }
}
