//! The record of what was fetched: version and SHA-256. A changed checksum of the same version is an error.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::workspace;

/// One fetched package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// What the board asks for; differs from `name` where that package only names another.
    pub asked: String,
    /// The package's name.
    pub name: String,
    /// Debian's version.
    pub version: String,
    /// SHA-256 of the package file as the signed list named it.
    pub deb_sha256: String,
    /// The file that was taken out of it, beside the record.
    pub file: String,
    /// That file's SHA-256.
    pub sha256: String,
}

/// A file whose checksum is right.
pub struct Verified {
    /// Where it is.
    pub path: PathBuf,
    /// The package it came from.
    pub package: String,
    /// That package's version.
    pub version: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    #[serde(default)]
    package: Vec<Package>,
}

/// The record, and where it is kept.
pub struct Lock {
    file: PathBuf,
    content: Content,
}

impl Lock {
    /// Reads the record, an empty one if there is none.
    pub fn load(file: &Path) -> Result<Self> {
        let content = match std::fs::read_to_string(file) {
            Ok(text) => toml::from_str(&text).with_context(|| format!("{} is damaged; remove it", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Content::default(),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        Ok(Self { file: file.to_owned(), content })
    }

    fn latest(&self, asked: &str) -> Option<&Package> {
        self.content.package.iter().rev().find(|package| package.asked == asked)
    }

    /// Whether the package is recorded and its file there.
    pub fn has(&self, asked: &str) -> bool {
        let dir = self.file.parent().unwrap_or(Path::new(""));
        self.latest(asked).is_some_and(|package| dir.join(&package.file).is_file())
    }

    /// Name and version of what is recorded and there.
    pub fn fetched(&self, asked: &str) -> Option<String> {
        let package = self.latest(asked).filter(|_| self.has(asked))?;
        Some(format!("{} {}", package.name, package.version))
    }

    /// The record of one version.
    pub fn find(&self, asked: &str, version: &str) -> Option<&Package> {
        self.content.package.iter().find(|package| package.asked == asked && package.version == version)
    }

    /// Adds a package, or replaces the record of the same version, and saves.
    pub fn record(&mut self, package: Package) -> Result<()> {
        self.content.package.retain(|old| old.asked != package.asked || old.version != package.version);
        self.content.package.push(package);
        workspace::write_file(&self.file, toml::to_string(&self.content)?.as_bytes())
    }

    /// The package's file, after its checksum has been compared.
    pub fn verified(&self, dir: &Path, asked: &str) -> Result<Verified> {
        let package = self.latest(asked).with_context(|| format!("{asked} has not been fetched"))?;
        let path = dir.join(&package.file);
        let now = sha256(&path)?;
        if now != package.sha256 {
            bail!(
                "{} has SHA-256 {now}, but {} {} was unpacked with {}; remove the file to fetch it again",
                path.display(),
                package.name,
                package.version,
                package.sha256
            );
        }
        Ok(Verified { path, package: package.name.clone(), version: package.version.clone() })
    }
}

/// SHA-256 of a file in hexadecimal.
pub fn sha256(file: &Path) -> Result<String> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::{Lock, Package, sha256};

    #[test]
    fn a_changed_file_is_refused_and_a_missing_one_fetched_again() {
        let dir = std::env::temp_dir().join(format!("trivet-lock-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("f"), "abc").unwrap();
        let sum = sha256(&dir.join("f")).unwrap();
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let text = |s: &str| s.to_owned();
        let package = Package {
            asked: text("a"),
            name: text("a-1"),
            version: text("1"),
            deb_sha256: text("0"),
            file: text("f"),
            sha256: sum,
        };
        Lock::load(&dir.join("lock.toml")).unwrap().record(package.clone()).unwrap();
        let lock = Lock::load(&dir.join("lock.toml")).unwrap();
        assert_eq!(lock.find("a", "1"), Some(&package));
        assert!(lock.has("a") && !lock.has("b"));
        assert!(lock.verified(&dir, "a").is_ok());
        std::fs::write(dir.join("f"), "abd").unwrap();
        assert!(lock.verified(&dir, "a").is_err());
        std::fs::remove_file(dir.join("f")).unwrap();
        assert!(!lock.has("a"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
