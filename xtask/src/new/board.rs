//! A board, as a copy of one that runs: what it has to change then, it sees in something that works.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::tree::Changes;
use crate::board::Board;

/// Copies `boards/LIKE` with its packages, under another name.
pub fn changes(root: &Path, name: &str, like: &str) -> Result<Changes> {
    Board::named(like)?;
    let mut changes = Changes::to(root);
    changes.must_be_free(&format!("boards/{name}"))?;
    let mut files = Vec::new();
    walk(root, &PathBuf::from("boards").join(like), &mut files)?;
    for file in files {
        let path = file.to_string_lossy().replace('\\', "/");
        let mut text = renamed(&changes.read(&path)?, like, name);
        if path.ends_with("/board.toml") {
            let about = |line: &str| match line.starts_with("about = ") {
                true => format!("about = \"begun as a copy of {like}\"\n"),
                false => format!("{line}\n"),
            };
            text = text.lines().map(about).collect();
        }
        changes.put(&renamed(&path, like, name), text);
    }
    changes.edit("Cargo.toml", |text| workspace_with(text, like, name))?;
    Ok(changes)
}

/// The text files below `folder`, relative to `root`.
fn walk(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let all = root.join(folder);
    for entry in std::fs::read_dir(&all).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.file_type()?.is_dir() { walk(root, &path, files)? } else { files.push(path) }
    }
    Ok(())
}

/// `text` with the board's name replaced where it is the board's: not in its backend's modules, not in what it is about.
fn renamed(text: &str, like: &str, name: &str) -> String {
    let (old, new) = (like.replace('-', "_"), name.replace('-', "_"));
    let mut text = text.to_owned();
    for (from, to) in [
        (format!("boards/{like}"), format!("boards/{name}")),
        (format!("{like}-loop"), format!("{name}-loop")),
        (format!("{old}_loop"), format!("{new}_loop")),
        (format!("name = \"{like}\""), format!("name = \"{name}\"")),
        (format!("column = \"{like}\""), format!("column = \"{name}\"")),
        (format!("column `{like}`"), format!("column `{name}`")),
        (format!("--board {like}"), format!("--board {name}")),
        (format!("--target {like}"), format!("--target {name}")),
    ] {
        text = text.replace(&from, &to);
    }
    text
}

/// The workspace's manifest with each line that names the board's packages a second time, under the other name. A section
/// is doubled whole.
fn workspace_with(text: &str, like: &str, name: &str) -> Option<String> {
    let ours = |line: &str| line.contains(&format!("boards/{like}\"")) || line.contains(&format!("boards/{like}/"));
    let section = format!("[profile.release.package.{like}-loop]");
    let mut out = String::new();
    for paragraph in text.split("\n\n") {
        let mut lines = Vec::new();
        for line in paragraph.lines() {
            lines.push(line.to_owned());
            if ours(line) {
                lines.push(renamed(line, like, name));
            }
        }
        if !out.is_empty() {
            out += "\n\n";
        }
        out += &lines.join("\n");
        if let Some(at) = paragraph.find(&section) {
            out += "\n\n";
            out += &renamed(paragraph.get(at..)?.trim_end(), like, name);
        }
    }
    (out.len() > text.len()).then(|| out.trim_end().to_owned() + "\n")
}

#[cfg(test)]
mod tests {
    use super::changes;
    use crate::workspace;

    #[test]
    fn a_new_board_is_the_old_one_under_another_name() {
        let new = changes(&workspace::root(), "my-board", "pseries").unwrap();
        let board: toml::Table = new.of("boards/my-board/board.toml").parse().unwrap();
        assert_eq!(board["name"].as_str(), Some("my-board"));
        assert_eq!(board["machine"][0]["column"].as_str(), Some("my-board"));
        let args = board["image"]["link-args"].as_array().unwrap();
        assert!(args.iter().any(|arg| arg.as_str() == Some("-Tboards/my-board/link.ld")), "its own linker script");
        let cargo: toml::Table = new.of("Cargo.toml").parse().unwrap();
        let members = cargo["workspace"]["members"].as_array().unwrap();
        for member in ["boards/my-board", "boards/my-board/loop", "boards/pseries"] {
            assert!(members.iter().any(|name| name.as_str() == Some(member)), "{member}");
        }
        assert!(cargo["workspace"]["dependencies"].get("my-board-loop").is_some());
        assert!(
            cargo["profile"]["release"]["package"].get("my-board-loop").is_some(),
            "its hot path is compiled for speed"
        );
        let manifest: toml::Table = new.of("boards/my-board/Cargo.toml").parse().unwrap();
        assert!(manifest["dependencies"].get("my-board-loop").is_some());
        assert!(new.of("boards/my-board/src/main.rs").contains("my_board_loop::"));
    }

    #[test]
    fn what_cannot_be_copied_is_refused() {
        assert!(changes(&workspace::root(), "kit", "pseries").is_err(), "that folder is taken");
        assert!(changes(&workspace::root(), "new", "psereis").err().unwrap().to_string().contains("did you mean"));
    }
}
