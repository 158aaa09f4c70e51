//! Two kinds of failure, so that scripts can tell them apart by the exit status.

use std::fmt;

/// What was asked for cannot be done as asked: a wrong argument, a missing file, something not installed.
/// Exit status 2; every other error is status 1.
#[derive(Debug)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Refuses with one clear line.
pub fn refuse(why: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Refused(why.into()))
}

/// `"; did you mean NAME?"` for the known name nearest to `typed`, or nothing if none is near.
pub fn suggestion<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(typed, name), name))
        // The measure fails short words, where one slip is much.
        .filter(|(likeness, name)| *likeness > 0.7 || strsim::osa_distance(typed, name) == 1)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    near.map(|(_, name)| format!("; did you mean {name:?}?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::suggestion;

    #[test]
    fn suggestions_are_near_or_absent() {
        let boards = ["pseries", "powernv"];
        assert_eq!(suggestion("psereis", boards), "; did you mean \"pseries\"?");
        assert_eq!(suggestion("rn", ["run", "test"]), "; did you mean \"run\"?");
        assert_eq!(suggestion("xyz", boards), "");
    }
}
