//! What an exhibit is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::Result;

use crate::error::{refuse, suggestion};
use crate::model::Runner;

/// The rules of ARCHITECTURE.md are R1 to this.
pub const RULES: u8 = 27;

/// The museum.
#[derive(Debug)]
pub struct Catalogue {
    /// The sections' letters and titles.
    pub sections: BTreeMap<char, String>,
    /// In the file's order.
    pub exhibits: Vec<Exhibit>,
}

/// A bug that somebody shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhibit {
    /// Its section's letter, a number, perhaps a small letter.
    pub id: String,
    /// What it was.
    pub title: String,
    /// The rules that it breaks.
    pub rules: Vec<u8>,
    /// What it is planted at.
    pub point: String,
    /// Whether it can be planted yet.
    pub state: State,
}

/// Whether an exhibit can be planted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It can.
    Planted(Planted),
    /// It cannot; what for it waits.
    Waits(String),
}

/// How a bug is planted, and who must find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planted {
    /// What must fail.
    pub check: Check,
    /// What the failure must name.
    pub oracle: String,
    /// Whether every test run plants it.
    pub gate: bool,
    /// How long the check may take.
    pub limit: Duration,
    /// The patches' names, its own first.
    pub patches: Vec<String>,
    /// Each of them alone must go unnoticed: the source has two defences.
    pub alone: bool,
}

/// Something that passes on the source as it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// A scenario of `tests/models`.
    Scenario {
        /// Who explores it; first, so that those of one build are neighbours when sorted.
        runner: Runner,
        /// Its name.
        name: String,
        /// Preemptions, where they are not the scenario's own number.
        bound: Option<u32>,
    },
    /// A test, by its full name.
    Test {
        /// Its package.
        package: String,
        /// Its path of modules and its own name.
        name: String,
    },
    /// A case of the conformance table, on the host.
    Case {
        /// The column.
        column: String,
        /// Its name.
        name: String,
    },
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario { runner, name, bound: None } => write!(f, "{} {name}", runner.name()),
            Self::Scenario { runner, name, bound: Some(bound) } => write!(f, "{} {name}, bound {bound}", runner.name()),
            Self::Test { package, name } => write!(f, "test {package} {name}"),
            Self::Case { column, name } => write!(f, "{column} {name}"),
        }
    }
}

impl Exhibit {
    /// Its section's letter.
    pub fn section(&self) -> char {
        self.id.chars().next().unwrap_or('?')
    }

    /// How it is planted, if it is.
    pub fn planted(&self) -> Option<&Planted> {
        match &self.state {
            State::Planted(planted) => Some(planted),
            State::Waits(_) => None,
        }
    }

    /// Its rules, as one writes them.
    pub fn rules(&self) -> String {
        self.rules.iter().map(|rule| format!("R{rule}")).collect::<Vec<_>>().join(" ")
    }
}

impl Catalogue {
    /// The exhibit called `id`, in whatever case it is typed.
    pub fn named(&self, id: &str) -> Result<&Exhibit> {
        let found = self.exhibits.iter().find(|exhibit| exhibit.id.eq_ignore_ascii_case(id));
        found.ok_or_else(|| {
            let hint = suggestion(&id.to_ascii_uppercase(), self.exhibits.iter().map(|exhibit| exhibit.id.as_str()));
            refuse(format!("unknown exhibit {id:?}{hint} (--list shows them)"))
        })
    }
}
