//! The table's results for people and for machines.

use std::fmt::Write as _;

use anyhow::Result;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Case, Ending};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table.
    Human,
    /// Test Anything Protocol, version 13.
    Tap,
    /// JUnit's XML.
    Junit,
}

/// A column's name and its results.
type Column = (String, Vec<Case>);

impl Format {
    /// The report, with its last line's end.
    pub fn report(self, results: &[Column]) -> Result<String> {
        match self {
            Self::Human if results.len() > 1 => Ok(matrix(results)),
            Self::Human => Ok(human(results)),
            Self::Tap => Ok(tap(results)),
            Self::Junit => Ok(junit(results).to_string()?),
        }
    }
}

fn human(results: &[Column]) -> String {
    // Writing to a string cannot fail.
    let mut out = String::new();
    for (column, cases) in results {
        let _written = writeln!(out, "{column}");
        let widest = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
        for case in cases {
            let (how, why) = match &case.ending {
                Ending::Ok => ("ok", ""),
                Ending::Failed(why) => ("FAIL", why.as_str()),
                Ending::Skipped(why) => ("skip", why.as_str()),
            };
            let line = format!("  {how:4} {:widest$} {:4} {why}", case.name, case.rule);
            let _written = writeln!(out, "{}", line.trim_end());
        }
        let count = |wanted: fn(&Ending) -> bool| cases.iter().filter(|case| wanted(&case.ending)).count();
        let failed = count(|ending| matches!(ending, Ending::Failed(_)));
        let skipped = count(|ending| matches!(ending, Ending::Skipped(_)));
        let _written = writeln!(out, "  {} cases, {failed} failed, {skipped} skipped", cases.len());
    }
    out
}

/// Every case in every column, in the order of the first column that has it; below, why what did not run well did not.
fn matrix(results: &[Column]) -> String {
    let mut rows: Vec<(&str, &str)> = Vec::new();
    for case in results.iter().flat_map(|(_, cases)| cases) {
        if !rows.iter().any(|(name, _)| *name == case.name) {
            rows.push((&case.name, &case.rule));
        }
    }
    let widest = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    // Writing to a string cannot fail.
    let mut out = format!("  {:widest$} {:4}", "", "");
    for (column, _) in results {
        let _written = write!(out, " {column:>4}");
    }
    out.push('\n');
    let mut reasons = String::new();
    for (name, rule) in rows {
        let _written = write!(out, "  {name:widest$} {rule:4}");
        for (column, cases) in results {
            let case = cases.iter().find(|case| case.name == name);
            let (how, why) = match case.map(|case| &case.ending) {
                Some(Ending::Ok) => ("ok", None),
                Some(Ending::Failed(why)) => ("FAIL", Some(why)),
                Some(Ending::Skipped(why)) => ("skip", Some(why)),
                // A case that is this column's own, or not yet.
                None => ("-", None),
            };
            let width = column.len().max(4);
            let _written = write!(out, " {how:>width$}");
            if let Some(why) = why {
                let _written = writeln!(reasons, "  {how} {name} on {column}: {why}");
            }
        }
        out.push('\n');
    }
    for (column, cases) in results {
        let count = |wanted: fn(&Ending) -> bool| cases.iter().filter(|case| wanted(&case.ending)).count();
        let failed = count(|ending| matches!(ending, Ending::Failed(_)));
        let skipped = count(|ending| matches!(ending, Ending::Skipped(_)));
        let _written = writeln!(out, "  {column}: {} cases, {failed} failed, {skipped} skipped", cases.len());
    }
    out + &reasons
}

fn tap(results: &[Column]) -> String {
    let all = results.iter().flat_map(|(column, cases)| cases.iter().map(move |case| (column, case)));
    let mut out = format!("TAP version 13\n1..{}\n", all.clone().count());
    for (number, (column, case)) in (1..).zip(all) {
        let name = format!("{number} - {column}: {} ({})", case.name, case.rule);
        let _written = match &case.ending {
            Ending::Ok => writeln!(out, "ok {name}"),
            Ending::Skipped(why) => writeln!(out, "ok {name} # SKIP {why}"),
            Ending::Failed(why) => writeln!(out, "not ok {name}\n  ---\n  message: {why:?}\n  ..."),
        };
    }
    out
}

fn junit(results: &[Column]) -> Report {
    let mut report = Report::new("conformance");
    for (column, cases) in results {
        let mut suite = TestSuite::new(column.as_str());
        for case in cases {
            let status = match &case.ending {
                Ending::Ok => TestCaseStatus::success(),
                Ending::Skipped(why) => {
                    let mut status = TestCaseStatus::skipped();
                    status.set_message(why.as_str());
                    status
                }
                Ending::Failed(why) => {
                    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                    status.set_message(why.as_str());
                    status
                }
            };
            let mut test = TestCase::new(case.name.as_str(), status);
            test.set_classname(case.rule.as_str());
            suite.add_test_case(test);
        }
        report.add_test_suite(suite);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::{Case, Ending, Format};

    fn results() -> Vec<super::Column> {
        let case = |name: &str, ending| Case { name: name.into(), rule: "R1".into(), ending };
        let cases = vec![
            case("a", Ending::Ok),
            case("bb", Ending::Failed("no".into())),
            case("c", Ending::Skipped("x".into())),
        ];
        vec![("host".into(), cases)]
    }

    #[test]
    fn several_columns_are_one_matrix() {
        let mut columns = results();
        let case = |name: &str, ending| Case { name: name.into(), rule: "R1".into(), ending };
        columns.push(("board".into(), vec![case("a", Ending::Ok), case("d", Ending::Ok)]));
        let text = Format::Human.report(&columns).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["          host board", "  a  R1     ok    ok", "  bb R1   FAIL     -"]);
        assert_eq!(lines[4], "  d  R1      -    ok");
        assert_eq!(
            lines[5..],
            [
                "  host: 3 cases, 1 failed, 1 skipped",
                "  board: 2 cases, 0 failed, 0 skipped",
                "  FAIL bb on host: no",
                "  skip c on host: x",
            ]
        );
    }

    #[test]
    fn each_form_says_what_failed() {
        let human = Format::Human.report(&results()).unwrap();
        assert!(human.contains("  FAIL bb R1   no\n") && human.contains("3 cases, 1 failed, 1 skipped"), "{human}");
        let tap = Format::Tap.report(&results()).unwrap();
        assert!(tap.starts_with("TAP version 13\n1..3\nok 1 - host: a (R1)\nnot ok 2 - host: bb (R1)\n"), "{tap}");
        assert!(tap.contains("ok 3 - host: c (R1) # SKIP x\n"), "{tap}");
        let junit = Format::Junit.report(&results()).unwrap();
        assert!(junit.contains("failures=\"1\"") && junit.contains("<skipped message=\"x\""), "{junit}");
    }
}
