//! Changes to the source tree, made in memory first: a name that is taken, or a file that is not as expected, leaves
//! everything as it was.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::error::refuse;
use crate::workspace;

/// The changes.
pub struct Changes {
    root: PathBuf,
    files: BTreeMap<PathBuf, String>,
}

impl Changes {
    /// None yet.
    pub fn to(root: &Path) -> Self {
        Self { root: root.to_owned(), files: BTreeMap::new() }
    }

    /// Refuses if there is something at `path`.
    pub fn must_be_free(&self, path: &str) -> Result<()> {
        if self.root.join(path).exists() { Err(refuse(format!("there is a {path} already"))) } else { Ok(()) }
    }

    /// Adds a file, or gives one that is there another content.
    pub fn put(&mut self, path: &str, text: String) {
        self.files.insert(PathBuf::from(path), text);
    }

    /// Changes a file that is there.
    pub fn edit(&mut self, path: &str, with: impl FnOnce(&str) -> Option<String>) -> Result<()> {
        let text = match self.files.get(Path::new(path)) {
            Some(text) => text.clone(),
            None => self.read(path)?,
        };
        let text = with(&text).with_context(|| format!("{path} is not as this command expects it"))?;
        self.put(path, text);
        Ok(())
    }

    /// A file as it is.
    pub fn read(&self, path: &str) -> Result<String> {
        std::fs::read_to_string(self.root.join(path)).with_context(|| format!("cannot read {path}"))
    }

    /// Makes them.
    pub fn write(&self) -> Result<()> {
        self.files.iter().try_for_each(|(path, text)| workspace::write_file(&self.root.join(path), text.as_bytes()))
    }

    /// What a file will hold.
    #[cfg(test)]
    pub fn of(&self, path: &str) -> &str {
        self.files.get(Path::new(path)).map(String::as_str).unwrap_or_default()
    }

    /// The files that change.
    #[cfg(test)]
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }
}

/// `text` with `new` as a line after the last of its lines that begins with `anchor`, if one does.
pub fn after_last(text: &str, anchor: &str, new: &str) -> Option<String> {
    let at = text.lines().enumerate().filter(|(_, line)| line.starts_with(anchor)).map(|(n, _)| n).last()?;
    let lines = text.lines().enumerate().flat_map(|(n, line)| [Some(line), (n == at).then_some(new)]).flatten();
    Some(lines.map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::after_last;

    #[test]
    fn a_line_goes_after_the_last_of_its_kind() {
        let text = "[a]\nb-1\nb-2\n\n[c]\n";
        assert_eq!(after_last(text, "b-", "b-3").unwrap(), "[a]\nb-1\nb-2\nb-3\n\n[c]\n");
        assert_eq!(after_last(text, "d-", "d-1"), None);
    }
}
