//! The project's own lints, one file each, over the text of the whole tree.

mod atomics;
mod layers;
mod length;
mod orphans;
mod safety;
mod source;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use source::Source;

/// A lint's finding.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    file: PathBuf,
    /// From 1; 0 means the whole file.
    line: usize,
    what: String,
    weight: Weight,
}

/// What a finding leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// It is shown.
    Warning,
    /// It fails the check.
    Error,
}

impl Problem {
    fn error(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into(), weight: Weight::Error }
    }

    fn warning(file: &Path, line: usize, what: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::error(file, line, what) }
    }
}

/// Every text file of the tree, paths relative to its root.
struct Tree {
    files: Vec<Source>,
}

impl Tree {
    fn load(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
            for entry in entries {
                let path = entry?.path();
                let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                // The latter is a file where git has several working trees.
                if ["target", ".git"].contains(&name.as_str()) {
                    continue;
                }
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(text) = std::fs::read_to_string(&path) {
                    let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
                    files.push(Source::new(relative, text));
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// The Rust files.
    fn rust(&self) -> impl Iterator<Item = &Source> {
        self.files.iter().filter(|file| file.path.extension().is_some_and(|ext| ext == "rs"))
    }
}

/// Runs every lint over the tree; prints what they find, fails on errors.
pub fn run(root: &Path) -> Result<()> {
    let tree = Tree::load(root)?;
    let lints: [fn(&Tree) -> Vec<Problem>; 6] =
        [layers::check, length::check, orphans::check, safety::check, words::check, atomics::check];
    let problems: Vec<Problem> = lints.into_iter().flat_map(|lint| lint(&tree)).collect();
    for problem in &problems {
        let weight = match problem.weight {
            Weight::Warning => "warning",
            Weight::Error => "error",
        };
        eprintln!("{}:{}: {weight}: {}", problem.file.display(), problem.line, problem.what);
    }
    let errors = problems.iter().filter(|problem| problem.weight == Weight::Error).count();
    if errors == 0 { Ok(()) } else { bail!("{errors} errors of the project's own lints") }
}

#[cfg(test)]
impl Tree {
    /// A tree out of texts, for the lints' own tests.
    fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| Source::new(PathBuf::from(path), (*text).to_owned()));
        Self { files: files.collect() }
    }
}

/// The findings as `file:line: text`, for the lints' own tests.
#[cfg(test)]
fn found(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(|p| format!("{}:{}: {}", p.file.display(), p.line, p.what)).collect()
}
