//! The patches beside the catalogue: each belongs to an exhibit, and none touches what judges it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::exhibit::{Catalogue, Exhibit};
use crate::error::refuse;
use crate::{process, workspace};

/// Patches may not touch what judges them.
const JUDGES: [&str; 5] = ["tests/models/", "tests/conformance/", "tests/compile-fail/", "tests/museum/", "xtask/"];

/// Sees that they are all there, and no others.
pub fn check(catalogue: &Catalogue, folder: &Path) -> Result<()> {
    let named: BTreeSet<&String> =
        catalogue.exhibits.iter().filter_map(Exhibit::planted).flat_map(|planted| &planted.patches).collect();
    for name in &named {
        let file = folder.join(format!("{name}.patch"));
        let text = std::fs::read_to_string(&file)
            .map_err(|error| refuse(format!("the catalogue names {}: {error}", file.display())))?;
        let touched = touched(&text);
        if touched.is_empty() {
            return Err(refuse(format!("{} is no patch: no file is named in it", file.display())));
        }
        if let Some(judge) = touched.iter().find(|file| JUDGES.iter().any(|judge| file.starts_with(judge))) {
            return Err(refuse(format!("{} touches {judge}, which judges it", file.display())));
        }
    }
    let found = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in found {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|ext| ext == "patch") && !named.contains(&name) {
            return Err(refuse(format!("{} belongs to no exhibit", path.display())));
        }
    }
    Ok(())
}

/// Of each exhibit whose patches do not apply to the tree at `root`, one after the other, a line for people.
pub fn stale(catalogue: &Catalogue, root: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (exhibit, planted) in catalogue.exhibits.iter().filter_map(|one| Some((one, one.planted()?))) {
        let mut all = Vec::new();
        for name in &planted.patches {
            let file = root.join("tests/museum").join(format!("{name}.patch"));
            all.extend(std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
        }
        let together = workspace::target_dir().join("museum").join("check.patch");
        workspace::write_file(&together, &all)?;
        let mut git = Command::new("git");
        git.current_dir(root).args(["apply", "--check", "--whitespace=nowarn"]).arg(&together);
        if let Err(error) = process::output(&mut git) {
            let error = format!("{error:#}");
            let why: Vec<&str> = error.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
            let files = planted.patches.join(".patch, ");
            lines.push(format!("exhibit {}: {files}.patch no longer applies: {}", exhibit.id, why.join("; ")));
        }
    }
    Ok(lines)
}

/// The files that a patch changes, makes or removes, relative to the tree's root.
pub fn touched(patch: &str) -> Vec<String> {
    let sides = patch.lines().filter_map(|line| line.strip_prefix("--- ").or_else(|| line.strip_prefix("+++ ")));
    let name = |side: &str| Some(side.split('\t').next()?.split_once('/')?.1.to_owned());
    let files: BTreeSet<String> = sides.filter(|side| !side.starts_with("/dev/null")).filter_map(name).collect();
    files.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::touched;

    #[test]
    fn every_file_of_a_patch_is_seen() {
        let patch = "diff --git a/x b/x\n--- a/hv-core/src/x.rs\t2026\n+++ b/hv-core/src/x.rs\n@@ -1 +1 @@\n-a\n+b\n\
                     --- /dev/null\n+++ b/xtask/new.rs\n--- a/old.rs\n+++ /dev/null\n";
        assert_eq!(touched(patch), ["hv-core/src/x.rs", "old.rs", "xtask/new.rs"]);
        assert!(touched("no patch").is_empty());
    }
}
