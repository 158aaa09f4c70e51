//! What is wrong in a TOML file, and in which line.

use std::ops::Range;
use std::path::Path;

use anyhow::Error;
use toml::Spanned;

use crate::error::{refuse, suggestion};

/// What is wrong, and where.
pub struct Wrong {
    /// Where, in bytes; `None`: the file as a whole.
    pub at: Option<Range<usize>>,
    /// What, in a line.
    pub what: String,
}

impl Wrong {
    /// This value is.
    pub fn at<T>(spanned: &Spanned<T>, what: String) -> Self {
        Self { at: Some(spanned.span()), what }
    }

    /// The parser says so. `plain` makes its message fit for people; a key that is near one of `keys` is suggested.
    pub fn of_toml(error: &toml::de::Error, keys: &[&str], plain: impl FnOnce(&str) -> String) -> Self {
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let hint = unknown.map(|key| suggestion(key, keys.iter().copied())).unwrap_or_default();
        Self { at: error.span(), what: plain(&message) + &hint }
    }

    /// The refusal of `file`, whose content is `text`.
    pub fn refusal(self, file: &Path, text: &str) -> Error {
        let line = self.at.and_then(|span| Some(text.get(..span.start)?.matches('\n').count() + 1));
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        refuse(format!("{}{line}: {}", file.display(), self.what))
    }
}
