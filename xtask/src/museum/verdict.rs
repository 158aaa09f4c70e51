//! What came of a check, and what that means: with the bug in, and without.

use super::exhibit::Check;
use crate::model::{self, thousands};
use crate::watched::Ran;

/// What came of an exhibit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was found; how, in a line.
    Found(String),
    /// It was not; why.
    Missed(String),
    /// It could not be tried; why.
    Error(String),
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ending {
    Passed,
    Failed {
        /// Where the oracle has to be named.
        said: String,
        /// The same for people, in a line.
        line: String,
    },
    /// It did not come to either; why.
    Neither(String),
}

/// Judges a check of the source as it is: an error if it does not pass.
pub fn pristine(check: &Check, ran: &Ran) -> Result<(), String> {
    match ending(check, ran) {
        Ending::Passed => Ok(()),
        Ending::Failed { line, .. } => Err(format!("fails without any patch: {line}")),
        Ending::Neither(why) => Err(format!("does not pass without any patch: {why}")),
    }
}

/// Judges a check of the source with the bug in it. Where a bug breaks several rules at once, and which of them is seen first
/// is the explorer's affair, the oracle is given as `G1 or G2`.
pub fn planted(check: &Check, oracle: &str, ran: &Ran) -> Verdict {
    match ending(check, ran) {
        Ending::Passed => Verdict::Missed("the check passes".to_owned()),
        Ending::Failed { said, line } if oracle.split(" or ").any(|word| names(&said, word)) => Verdict::Found(line),
        Ending::Failed { line, .. } => Verdict::Missed(format!("it fails, but not of {oracle}: {line}")),
        Ending::Neither(why) => Verdict::Missed(why),
    }
}

/// Judges a check of the source with one of the bugs in it that only together break a rule: an error if it is noticed.
pub fn alone(check: &Check, patch: &str, ran: &Ran) -> Result<(), Verdict> {
    match ending(check, ran) {
        Ending::Passed => Ok(()),
        Ending::Failed { line, .. } => {
            Err(Verdict::Missed(format!("{patch} alone is no longer held off by the other defence: {line}")))
        }
        Ending::Neither(why) => Err(Verdict::Missed(format!("{patch} alone: {why}"))),
    }
}

fn ending(check: &Check, ran: &Ran) -> Ending {
    match check {
        Check::Scenario { runner, name, .. } => match model::judge(name, *runner, ran) {
            model::Verdict::Clean(_) => Ending::Passed,
            model::Verdict::Broken(finding) => Ending::Failed {
                said: format!("{} {}", finding.oracle, finding.text),
                line: format!("execution {}: {}", thousands(finding.executions), finding.text),
            },
            model::Verdict::Unknown(why) => Ending::died(ran).unwrap_or(Ending::Neither(why)),
        },
        Check::Case { name, .. } => {
            let line = ran.lines.iter().find_map(|line| {
                let (how, rest) = line.strip_prefix("CASE ")?.split_once(' ')?;
                (rest.split(' ').next() == Some(name)).then_some((how, line))
            });
            match line {
                Some(("ok", _)) => Ending::Passed,
                // A machine that saw a rule broken has said so before.
                Some(("FAIL", line)) => Ending::Failed { said: ran.lines.join("\n"), line: line.clone() },
                Some(_) => Ending::Neither("the case was skipped".to_owned()),
                None => Ending::died(ran).unwrap_or_else(|| Ending::absent("case", ran)),
            }
        }
        Check::Test { name, .. } => {
            let ended = |how: &str| {
                let wanted = [format!("test {name} ... {how}"), format!("test {name} - should panic ... {how}")];
                ran.lines.iter().any(|line| wanted.contains(line))
            };
            if ended("ok") {
                Ending::Passed
            } else if ended("FAILED") {
                let panic = ran.lines.iter().position(|line| line.contains("panicked at"));
                let line = panic.and_then(|at| ran.lines.get(at + 1)).cloned().unwrap_or_default();
                Ending::Failed { said: ran.lines.join("\n"), line }
            } else {
                Ending::died(ran).unwrap_or_else(|| Ending::absent("test", ran))
            }
        }
    }
}

impl Ending {
    /// The program says nothing of the check.
    fn absent(what: &str, ran: &Ran) -> Self {
        let why = if ran.status.is_none() { ran.ending() } else { format!("no such {what} ({})", ran.ending()) };
        Self::Neither(why)
    }

    /// The program was ended by a signal of its own making: it aborted, or overflowed its stack.
    fn died(ran: &Ran) -> Option<Self> {
        let status = ran.status.filter(|status| status.code().is_none())?;
        let last = ran.lines.last().map(String::as_str).unwrap_or_default();
        Some(Self::Failed { said: ran.lines.join("\n"), line: format!("died ({status}): {last}") })
    }
}

/// Whether `text` has `word` in it, not as a part of a longer one: `G1` is not in `G10`.
fn names(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text.get(..at).unwrap_or_default(), text.get(at + word.len()..).unwrap_or_default());
        !part(before.chars().next_back()) && !part(after.chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::{Check, Ran, Verdict, alone, names, planted, pristine};
    use crate::model::Runner;
    use crate::watched::fixture::{killed, ran};

    fn scenario() -> Check {
        Check::Scenario { runner: Runner::Loom, name: "a".into(), bound: None }
    }

    fn case() -> Check {
        Check::Case { column: "host-radix".into(), name: "split".into() }
    }

    fn test() -> Check {
        Check::Test { package: "hv-core".into(), name: "mmu::r6".into() }
    }

    const CLEAN: &str = "MODEL ok a runner=loom executions=9 ms=1 bound=2";
    const BROKEN: &str = "MODEL FAIL a runner=loom executions=17 ms=1 bound=2 oracle=G1 -- G1: a store was lost";

    fn missed(verdict: &Verdict) -> &str {
        match verdict {
            Verdict::Missed(why) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bug_is_found_only_if_its_check_fails_and_names_the_oracle() {
        let found = |check: &Check, oracle: &str, ran: &Ran| matches!(planted(check, oracle, ran), Verdict::Found(_));
        let failed = ran(Some(1), BROKEN);
        assert!(found(&scenario(), "G1", &failed) && found(&scenario(), "a store was lost", &failed));
        assert!(found(&scenario(), "G1 or G2", &failed) && found(&scenario(), "G2 or G1", &failed));
        assert!(!found(&scenario(), "G2 or G3", &failed) && !found(&scenario(), "G10 or G2", &failed));
        assert!(missed(&planted(&scenario(), "G6", &failed)).contains("not of G6: execution 17: G1: a store was lost"));
        assert_eq!(missed(&planted(&scenario(), "G1", &ran(Some(0), CLEAN))), "the check passes");

        let failed = ran(Some(1), "G6: freed\nCASE ok splitter R1\nCASE FAIL split R3 one frame is lost\nCASES 1 1 0");
        assert!(found(&case(), "G6", &failed) && found(&case(), "one frame is lost", &failed));
        assert!(missed(&planted(&case(), "G9", &failed)).contains("not of G9"));
        let other = ran(Some(1), "CASE FAIL splitter R1 G6\nCASE ok split R3\nCASES 1 1 0");
        assert_eq!(missed(&planted(&case(), "G6", &other)), "the check passes");

        let failed = ran(Some(101), "running 1 test\ntest mmu::r6 ... FAILED\nthread x panicked at y:\nG8: stuck\n");
        assert_eq!(planted(&test(), "G8", &failed), Verdict::Found("G8: stuck".into()));
        assert_eq!(missed(&planted(&test(), "G8", &ran(Some(0), "test mmu::r6 ... ok"))), "the check passes");
    }

    #[test]
    fn no_end_and_no_such_check_are_misses_and_a_death_counts_if_it_names_the_oracle() {
        for check in [scenario(), case(), test()] {
            assert!(missed(&planted(&check, "G1", &ran(None, "G1: x"))).starts_with("no end within 9 s"), "{check}");
            assert!(missed(&planted(&check, "G1", &ran(Some(2), "G1: usage"))).contains("status: 2"), "{check}");
            assert!(missed(&planted(&check, "G1", &ran(Some(0), "G1"))).contains("status: 0"), "{check}");
            assert!(matches!(planted(&check, "G1", &killed("G1: x\naborting")), Verdict::Found(_)), "{check}");
            assert!(missed(&planted(&check, "G1", &killed("stack overflow"))).contains("not of G1"), "{check}");
        }
        assert!(missed(&planted(&case(), "G1", &ran(Some(0), "CASE skip split R3 G1"))).contains("skipped"));
    }

    #[test]
    fn a_check_has_to_pass_without_the_patch() {
        for (check, good, bad) in [
            (scenario(), CLEAN, BROKEN),
            (case(), "CASE ok split R3", "CASE FAIL split R3 x"),
            (test(), "test mmu::r6 ... ok", "test mmu::r6 ... FAILED"),
        ] {
            assert_eq!(pristine(&check, &ran(Some(0), good)), Ok(()));
            assert!(pristine(&check, &ran(Some(1), bad)).unwrap_err().contains("fails without any patch"));
            for nothing in [ran(Some(0), ""), ran(None, ""), ran(Some(2), ""), killed("")] {
                assert!(pristine(&check, &nothing).is_err());
            }
            assert_eq!(alone(&check, "A1", &ran(Some(0), good)), Ok(()));
            assert!(missed(&alone(&check, "A1", &ran(Some(1), bad)).unwrap_err()).contains("A1 alone"));
        }
    }

    #[test]
    fn an_oracle_is_a_word() {
        assert!(names("oracle G1: x", "G1") && names("G1", "G1") && names("G10 G1", "G1"));
        assert!(!names("G10: x", "G1") && !names("AG1", "G1") && !names("", "G1"));
    }
}
