//! Where things are: the source tree, its build folder, the cache outside of it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::error::refuse;

/// The source tree's root.
pub fn root() -> PathBuf {
    // Cargo sets it for `cargo run`; the fallback is for the binary called by itself.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or(here.clone(), Path::to_path_buf)
}

/// The folder of all build results of the host's cargo.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// What is fetched lies here: it outlives `cargo clean` and serves every checkout of one user.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| Some(set("HOME")?.join(".cache")))
        .ok_or_else(|| refuse("no place for the cache: neither XDG_CACHE_HOME nor HOME is set"))?;
    Ok(base.join("trivet"))
}

/// Makes a folder and what lies above it.
pub fn make_dir(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make folder {}", dir.display()))
}

/// Writes a file whole or not at all, and only if its content changes.
pub fn write_file(file: &Path, content: &[u8]) -> Result<()> {
    if std::fs::read(file).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let parent = file.parent().context("a file lies in a folder")?;
    make_dir(parent)?;
    let mut new = file.as_os_str().to_owned();
    new.push(format!(".new-{}", std::process::id()));
    let new = PathBuf::from(new);
    std::fs::write(&new, content).with_context(|| format!("cannot write {}", new.display()))?;
    std::fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))
}
