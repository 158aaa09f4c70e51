//! What the scenarios' program says, read: which scenarios there are, and what came of one.
//!
//! ```text
//!   MODEL list NAME rules=R1,R2 preemptions=2 -- the race
//!   MODEL ok NAME runner=loom executions=1234 ms=567 bound=2
//!   MODEL FAIL NAME runner=loom executions=17 ms=5 bound=2 oracle=G1 -- G1: the finding ...
//! ```
//! A scenario without such a line at its end is not believed, whatever its status.

use anyhow::{Context as _, Result, bail};

use super::runner::Runner;
use crate::watched::Ran;

/// A scenario of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// The rules it defends, joined by commas.
    pub rules: String,
    /// What it is about.
    pub race: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The oracle that saw it.
    pub oracle: String,
    /// All that the program says of it.
    pub text: String,
    /// In which execution, from 1.
    pub executions: u64,
}

/// How an exploration ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found; this was explored.
    Clean(String),
    /// Something was.
    Broken(Finding),
    /// There is no telling; why.
    Unknown(String),
}

/// A line's parts.
struct Line<'a> {
    how: &'a str,
    name: &'a str,
    fields: &'a str,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (head, text) = line.strip_prefix("MODEL ")?.split_once(" -- ").unwrap_or((line.get(6..)?, ""));
        let (how, rest) = head.split_once(' ')?;
        let (name, fields) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Self { how, name, fields, text })
    }

    fn get(&self, wanted: &str) -> Option<&'a str> {
        let mut pairs = self.fields.split_whitespace().filter_map(|word| word.split_once('='));
        pairs.find_map(|(key, value)| (key == wanted).then_some(value))
    }

    /// A number above 0.
    fn count(&self, wanted: &str) -> Option<u64> {
        self.get(wanted)?.parse().ok().filter(|count| *count > 0)
    }
}

/// Reads the list.
pub fn list(lines: &[String]) -> Result<Vec<Scenario>> {
    let listed = lines.iter().filter_map(|line| Line::parse(line)).filter(|line| line.how == "list");
    let scenario = |line: Line<'_>| {
        let rules = line.get("rules").with_context(|| format!("scenario {} is listed without rules", line.name))?;
        Ok(Scenario { name: line.name.to_owned(), rules: rules.to_owned(), race: line.text.to_owned() })
    };
    let scenarios = listed.map(scenario).collect::<Result<Vec<_>>>()?;
    if scenarios.is_empty() {
        bail!("the scenarios' program lists none; it wrote:\n{}", lines.join("\n"));
    }
    Ok(scenarios)
}

/// Judges a run of one scenario.
pub fn judge(name: &str, runner: Runner, ran: &Ran) -> Verdict {
    let lines = ran.lines.iter().rev().filter_map(|line| Line::parse(line));
    let own = |line: &Line<'_>| line.name == name && line.get("runner") == Some(runner.name());
    match lines.filter(own).find(|line| ["ok", "FAIL"].contains(&line.how)) {
        Some(line) if line.how == "FAIL" => Verdict::Broken(Finding {
            oracle: line.get("oracle").unwrap_or("unnamed").to_owned(),
            text: line.text.to_owned(),
            executions: line.count("executions").unwrap_or(1),
        }),
        _ if ran.status.is_none() => Verdict::Unknown(ran.ending()),
        Some(_) if !ran.good() => Verdict::Unknown(format!("it said ok, then ended with {}", ran.ending())),
        Some(line) => match explored(runner, &line) {
            Some(explored) => Verdict::Clean(explored),
            None => Verdict::Unknown(format!("it does not say what was explored: {:?}", line.fields)),
        },
        None => Verdict::Unknown(format!("it gave no verdict ({})", ran.ending())),
    }
}

/// What an `ok` line says was explored.
fn explored(runner: Runner, line: &Line<'_>) -> Option<String> {
    let executions = line.count("executions")?;
    let shown = thousands(executions);
    Some(match runner {
        Runner::Loom => format!("exhaustive at preemption bound {}: {shown} executions", line.get("bound")?),
        Runner::Shuttle => {
            let (random, pct) = (line.count("random")?, line.count("pct")?);
            // Fewer than were planned would be a run that ended early.
            (executions == random + pct).then_some(())?;
            let (depth, seed) = (line.get("depth")?, line.get("seed")?);
            format!(
                "{shown} schedules: {} random, {} PCT depth {depth}, seed {seed}",
                thousands(random),
                thousands(pct)
            )
        }
        Runner::Threads | Runner::Miri => format!("{shown} rounds"),
    })
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Finding, Ran, Runner, Verdict, judge, list, thousands};
    use crate::watched::fixture::ran;

    fn unknown(runner: Runner, ran: &Ran) -> String {
        match judge("a", runner, ran) {
            Verdict::Unknown(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_list_is_read() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let text = "noise\nMODEL list fault-unmap rules=R6,R8 preemptions=2 -- a race=x\nMODEL list b rules=R1 preemptions=3\n";
        let scenarios = list(&lines(text)).unwrap();
        let names: Vec<_> = scenarios.iter().map(|one| (one.name.as_str(), one.rules.as_str())).collect();
        assert_eq!(names, [("fault-unmap", "R6,R8"), ("b", "R1")]);
        assert!(list(&lines("")).is_err() && list(&lines("MODEL list a -- rules=R1")).is_err());
    }

    #[test]
    fn clean_needs_a_line_of_this_scenario_and_runner_that_says_what_was_explored() {
        let line = "MODEL ok a runner=loom executions=12345 ms=5 bound=2";
        let clean = Verdict::Clean("exhaustive at preemption bound 2: 12,345 executions".into());
        assert_eq!(judge("a", Runner::Loom, &ran(Some(0), line)), clean);
        let line = "MODEL ok a runner=shuttle executions=10000 ms=5 random=5000 pct=5000 depth=3 seed=1";
        let clean = Verdict::Clean("10,000 schedules: 5,000 random, 5,000 PCT depth 3, seed 1".into());
        assert_eq!(judge("a", Runner::Shuttle, &ran(Some(0), line)), clean);
        for text in [
            "",
            &line.replace("ok a", "ok b"),
            &line.replace("shuttle", "loom"),
            &line.replace("10000", "9999"),
            &line.replace("executions=10000", ""),
            &line.replace("MODEL", "MODELS"),
        ] {
            unknown(Runner::Shuttle, &ran(Some(0), text));
        }
        assert!(unknown(Runner::Shuttle, &ran(Some(1), line)).contains("then ended"));
        assert!(unknown(Runner::Shuttle, &ran(None, line)).contains("within 9 s"));
        assert!(unknown(Runner::Threads, &ran(Some(0), "MODEL ok a runner=threads executions=0")).contains("explored"));
    }

    #[test]
    fn a_finding_is_read_and_a_death_without_one_is_no_verdict() {
        let line = "MODEL FAIL a runner=loom executions=17 ms=5 bound=2 oracle=G1 -- G1: lost -- a=b";
        let finding = Finding { oracle: "G1".into(), text: "G1: lost -- a=b".into(), executions: 17 };
        for status in [Some(1), Some(0), None] {
            assert_eq!(judge("a", Runner::Loom, &ran(status, line)), Verdict::Broken(finding.clone()));
        }
        assert!(unknown(Runner::Loom, &ran(Some(101), "stack overflow")).contains("no verdict"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 1234567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
    }
}
