//! A copy of the source tree that may be patched, and built again and again.
//!
//! It stays from run to run, so that builds are incremental. [`Copy::reset`] makes it the source again, whatever was done
//! to it and wherever that was cut short: it writes the files that differ, and no others, since cargo goes by times.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::patches::touched;
use crate::error::refuse;
use crate::{process, workspace};

/// The source as it was at one moment: what git tracks and what it does not ignore, with the content of the working tree.
pub struct Source {
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Source {
    /// Reads the tree at `root`.
    pub fn read(root: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listed = process::output(&mut git)
            .map_err(|error| refuse(format!("the museum copies what git tracks: {error:#}")))?;
        let mut files = BTreeMap::new();
        for name in listed.split('\0').filter(|name| !name.is_empty()) {
            let file = root.join(name);
            // One that was removed, but not yet from git's list.
            if !file.is_file() {
                continue;
            }
            let content = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            files.insert(PathBuf::from(name), content);
        }
        Ok(Self { files })
    }

    #[cfg(test)]
    fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec()));
        Self { files: files.collect() }
    }

    /// The patch of this name.
    fn patch(&self, name: &str) -> Result<&str> {
        let file = Path::new("tests/museum").join(format!("{name}.patch"));
        let bytes = self.files.get(&file).with_context(|| format!("there is no {}", file.display()))?;
        std::str::from_utf8(bytes).with_context(|| format!("{} is no text", file.display()))
    }
}

/// The copy.
pub struct Copy<'a> {
    source: &'a Source,
    root: PathBuf,
}

impl<'a> Copy<'a> {
    /// The one in the folder `root`, as the source is.
    pub fn new(source: &'a Source, root: PathBuf) -> Result<Self> {
        workspace::make_dir(&root)?;
        // Git and cargo want to know it by the name that they find it under.
        let root = root.canonicalize().with_context(|| format!("cannot find {}", root.display()))?;
        let copy = Self { source, root };
        copy.reset()?;
        Ok(copy)
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes it the source again.
    pub fn reset(&self) -> Result<()> {
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
            for entry in entries {
                let path = entry?.path();
                let name = path.strip_prefix(&self.root).unwrap_or(&path);
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                } else if !self.source.files.contains_key(name) {
                    std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
                }
            }
        }
        self.source.files.iter().try_for_each(|(name, content)| workspace::write_file(&self.root.join(name), content))
    }

    /// Plants the patches of these names.
    pub fn plant(&self, names: &[&str]) -> Result<()> {
        for name in names {
            self.apply(self.source.patch(name)?)
                .with_context(|| format!("{name}.patch: the exhibit no longer applies to the source"))?;
        }
        Ok(())
    }

    fn apply(&self, patch: &str) -> Result<()> {
        let before = self.contents(patch);
        let file = self.root.with_extension("patch");
        workspace::write_file(&file, patch.as_bytes())?;
        let mut git = Command::new("git");
        git.current_dir(&self.root).args(["apply", "--whitespace=nowarn"]).arg(&file);
        // In a repository's folder, it would look for the files at that repository's root, and not mind that there are none.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX"] {
            git.env_remove(name);
        }
        if let Some(above) = self.root.parent() {
            git.env("GIT_CEILING_DIRECTORIES", above);
        }
        process::output(&mut git)?;
        if self.contents(patch) == before {
            bail!("it changes nothing");
        }
        Ok(())
    }

    fn contents(&self, patch: &str) -> Vec<Option<Vec<u8>>> {
        touched(patch).iter().map(|name| std::fs::read(self.root.join(name)).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Copy, Source};
    use std::path::PathBuf;
    use std::time::SystemTime;

    const PATCH: &str = "--- a/a/x.rs\n+++ b/a/x.rs\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n";
    const LATE: &str = "--- a/a/x.rs\n+++ b/a/x.rs\n@@ -1,3 +1,3 @@\n one\n-2\n+TWO\n three\n";

    /// Removed when the test is over.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            Self(crate::workspace::target_dir().join("museum-tests").join(format!("{}-{name}", std::process::id())))
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _removed = std::fs::remove_dir_all(&self.0);
        }
    }

    fn source() -> Source {
        Source::of(&[
            ("a/x.rs", "one\ntwo\nthree\n"),
            ("b.rs", "b"),
            ("tests/museum/A1.patch", PATCH),
            ("tests/museum/A2.patch", LATE),
            ("tests/museum/A3.patch", "--- a/gone.rs\n+++ b/gone.rs\n@@ -1 +1 @@\n-a\n+b\n"),
            ("tests/museum/A4.patch", "--- /dev/null\n+++ b/new/y.rs\n@@ -0,0 +1 @@\n+y\n"),
        ])
    }

    #[test]
    fn a_patch_is_planted_and_removed_and_other_files_keep_their_times() {
        let (source, folder) = (source(), Folder::new("planted"));
        let copy = Copy::new(&source, folder.0.join("tree")).unwrap();
        let time = |name: &str| -> SystemTime { copy.root().join(name).metadata().unwrap().modified().unwrap() };
        let read = |name: &str| std::fs::read_to_string(copy.root().join(name)).ok();
        let (changed, unchanged) = (time("a/x.rs"), time("b.rs"));
        copy.plant(&["A1", "A4"]).unwrap();
        assert_eq!((read("a/x.rs").unwrap(), read("new/y.rs").unwrap()), ("one\n2\nthree\n".into(), "y\n".into()));
        // A run cut short: a new copy finds this state.
        let copy = Copy::new(&source, folder.0.join("tree")).unwrap();
        assert_eq!((read("a/x.rs").unwrap(), read("new/y.rs")), ("one\ntwo\nthree\n".into(), None));
        assert!(time("a/x.rs") > changed && time("b.rs") == unchanged);
        drop(copy);
    }

    #[test]
    fn patches_apply_one_after_another_or_not_at_all() {
        let (source, folder) = (source(), Folder::new("order"));
        let copy = Copy::new(&source, folder.0.join("tree")).unwrap();
        copy.plant(&["A1", "A2"]).unwrap();
        assert_eq!(std::fs::read_to_string(copy.root().join("a/x.rs")).unwrap(), "one\nTWO\nthree\n");
        copy.reset().unwrap();
        for name in ["A2", "A3"] {
            let error = format!("{:#}", copy.plant(&[name]).unwrap_err());
            assert!(error.contains("no longer applies to the source"), "{error}");
        }
        assert!(format!("{:#}", copy.plant(&["A9"]).unwrap_err()).contains("A9.patch"));
    }
}
