//! What a demo tells while it runs, and the table at its end.

use std::time::Instant;

use anyhow::{Result, bail};

/// A demo's report, under way.
pub struct Story {
    begun: Instant,
    rows: Vec<(String, String, Verdict)>,
}

/// What a row of the table means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is as it has to be.
    Held,
    /// It is not.
    Broken,
    /// Nothing depends on it.
    Fact,
}

impl Story {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        Self { begun: Instant::now(), rows: Vec::new() }
    }

    /// Says what happens just now.
    pub fn tell(&self, what: impl std::fmt::Display) {
        println!("{:7.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// A row that is there to be known.
    pub fn fact(&mut self, what: impl Into<String>, value: impl std::fmt::Display) {
        self.rows.push((what.into(), value.to_string(), Verdict::Fact));
    }

    /// A row that decides whether the demo held.
    pub fn judge(&mut self, what: impl Into<String>, value: impl std::fmt::Display, held: Held) {
        let verdict = if held == Held::Yes { Verdict::Held } else { Verdict::Broken };
        self.rows.push((what.into(), value.to_string(), verdict));
    }

    /// An error if a row says so.
    pub fn verdict(&self) -> Result<()> {
        let broken = self.rows.iter().filter(|(.., verdict)| *verdict == Verdict::Broken);
        let broken: Vec<&str> = broken.map(|(what, ..)| what.as_str()).collect();
        if broken.is_empty() { Ok(()) } else { bail!("{}", broken.join("; ")) }
    }

    /// The table, and what came of it all.
    pub fn end(&self, name: &str, held: bool) {
        print!("{}", self.table());
        let time = self.begun.elapsed().as_secs_f64();
        println!("{name} {} after {time:.1} s", if held { "held" } else { "did NOT hold" });
    }

    fn table(&self) -> String {
        let widest = |of: fn(&(String, String, Verdict)) -> &str| {
            self.rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
        };
        let (whats, values) = (widest(|row| &row.0), widest(|row| &row.1));
        let line = |(what, value, verdict): &(String, String, Verdict)| {
            let mark = match verdict {
                Verdict::Held => "  ok",
                Verdict::Broken => "  WRONG",
                Verdict::Fact => "",
            };
            format!("  {what:whats$}  {value:>values$}{mark}\n")
        };
        self.rows.iter().map(line).collect()
    }
}

/// Whether something is as it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl From<bool> for Held {
    fn from(held: bool) -> Self {
        if held { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::Story;

    #[test]
    fn one_wrong_row_decides() {
        let mut story = Story::new();
        story.fact("frames", 7);
        story.judge("mismatches", 0, true.into());
        assert!(story.verdict().is_ok());
        story.judge("splits", 0, false.into());
        assert_eq!(story.verdict().unwrap_err().to_string(), "splits");
        assert_eq!(story.table(), "  frames      7\n  mismatches  0  ok\n  splits      0  WRONG\n");
    }
}
