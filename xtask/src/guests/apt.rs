//! apt with a state of its own: other architecture, other lists, other cache; the system's stay as they are, and no
//! rights are needed. Debian's key ring verifies the lists, the lists verify the packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::error::refuse;
use crate::{process, workspace};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which of the distribution's packages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// Those of the release that the system is.
    Own,
    /// Newer ones that were built for it.
    Backports,
}

/// A private apt.
pub struct Apt {
    dir: PathBuf,
    options: Vec<String>,
}

/// What the package lists say of a package.
pub struct Offer {
    /// Debian's version.
    pub version: String,
    /// SHA-256 of the package file.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Apt {
    /// Prepares a private apt in `dir` for packages of `architecture`, with the mirrors that the system's apt uses.
    pub fn new(architecture: &str, suite: Suite, dir: &Path) -> Result<Self> {
        for sub in ["lists/partial", "archives/partial"] {
            workspace::make_dir(&dir.join(sub))?;
        }
        workspace::write_file(&dir.join("status"), b"")?;
        workspace::write_file(&dir.join("sources.list"), sources(&system_targets()?, architecture, suite)?.as_bytes())?;
        let at = |name: &str| dir.join(name).display().to_string();
        let options = [
            ("APT::Architecture", architecture.to_owned()),
            ("APT::Architectures::", architecture.to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false".to_owned()),
            ("Dir::State", at("")),
            ("Dir::State::lists", at("lists")),
            ("Dir::State::status", at("status")),
            ("Dir::Cache", at("")),
            ("Dir::Cache::archives", at("archives")),
            ("Dir::Cache::pkgcache", String::new()),
            ("Dir::Cache::srcpkgcache", String::new()),
            ("Dir::Etc::sourcelist", at("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".to_owned()),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", "/dev/null".to_owned()),
            // The sandbox user of root's apt cannot write to a user's cache folder.
            ("APT::Sandbox::User", String::new()),
        ];
        let options = options.into_iter().flat_map(|(name, value)| ["-o".to_owned(), format!("{name}={value}")]);
        Ok(Self { dir: dir.to_owned(), options: options.collect() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options).env("LC_ALL", "C").current_dir(&self.dir);
        command
    }

    /// Fetches the package lists. A list that cannot be had, or does not match its signed sum, is left out with a
    /// warning, for mirrors are at times in between two states; then an older package may be found in the others.
    pub fn update(&self) -> Result<()> {
        let error_on = ["-o", "APT::Update::Error-Mode=any"];
        let mut update = self.command("apt-get");
        update.args(error_on).args(["-q", "update"]);
        let Err(error) = process::output(&mut update) else { return Ok(()) };
        let text = error.to_string();
        let failed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("E: Failed to fetch ")).collect();
        if failed.is_empty() {
            return Err(error);
        }
        for list in failed {
            eprintln!("warning: left out a package list: {list}");
        }
        Ok(())
    }

    /// The package that `name` depends on whose name begins with `prefix`.
    pub fn depends_on(&self, name: &str, prefix: &str) -> Result<String> {
        let record = self.record(name)?;
        let depends = field(&record, "Depends").with_context(|| format!("{name} depends on nothing"))?;
        let mut names = depends.split(',').filter_map(|dependency| dependency.split_whitespace().next());
        let found = names.find(|dependency| dependency.starts_with(prefix));
        found.map(str::to_owned).with_context(|| format!("{name} depends on no {prefix}*"))
    }

    /// What is offered under this name, newest version.
    pub fn offer(&self, name: &str) -> Result<Offer> {
        let record = self.record(name)?;
        let get = |key| field(&record, key).with_context(|| format!("the record of {name} has no {key}"));
        Ok(Offer {
            version: get("Version")?.to_owned(),
            sha256: get("SHA256")?.to_owned(),
            size: get("Size")?.parse().with_context(|| format!("the size of {name} is no number"))?,
        })
    }

    fn record(&self, name: &str) -> Result<String> {
        process::output(self.command("apt-cache").args(["show", "--no-all-versions", name]))
    }

    /// Fetches the package file; returns its path.
    pub fn download(&self, name: &str, offer: &Offer) -> Result<PathBuf> {
        let asked = format!("{name}={}", offer.version);
        process::output(self.command("apt-get").args(["-q", "download", &asked]))?;
        let begin = format!("{name}_");
        let mut files = std::fs::read_dir(&self.dir)?.filter_map(|entry| Some(entry.ok()?.path()));
        let found = files.find(|path| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with(&begin) && name.ends_with(".deb")
        });
        found.with_context(|| format!("apt-get fetched {asked}, but there is no file"))
    }
}

/// A field of a package's record.
fn field<'r>(record: &'r str, key: &str) -> Option<&'r str> {
    record.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// What the system's apt would read: one line `URI|release|component|origin` for each list of packages.
fn system_targets() -> Result<String> {
    let format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(CREATED_BY)";
    process::output(Command::new("apt-get").args(["indextargets", "--format", format]))
}

/// The private source list, made from Debian's own entries of the system's: so no mirror's name is built in.
fn sources(targets: &str, architecture: &str, suite: Suite) -> Result<String> {
    let mut lines: Vec<String> = Vec::new();
    for target in targets.lines() {
        let [uri, release, component, origin, "Packages"] = target.split('|').collect::<Vec<_>>()[..] else { continue };
        // The origin is only known once the lists have been fetched; mirrors keep the archive's path.
        let folder = uri.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let unknown = origin.is_empty() || origin.starts_with('$');
        let debian = origin == "Debian" || unknown && ["debian", "debian-security"].contains(&folder);
        // They lie beside the release that they are for, which has updates and security's in suites of other names.
        let release = match suite {
            Suite::Own => release.to_owned(),
            Suite::Backports if release.contains('-') => continue,
            Suite::Backports => format!("{release}-backports"),
        };
        let line = format!("deb [arch={architecture} signed-by={KEYRING}] {uri} {release} {component}");
        if debian && component == "main" && !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() {
        return Err(refuse(
            "the system's apt knows no Debian mirror to fetch from; a guest of your own is taken with --kernel FILE --initrd FILE",
        ));
    }
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::{Suite, field, sources};

    #[test]
    fn only_debians_own_lists_are_taken() {
        let targets = "http://m/debian/|bookworm|main|Debian|Packages\n\
                       http://m/debian/|bookworm|main|Debian|DEP-11\n\
                       http://m/debian/|bookworm|contrib|Debian|Packages\n\
                       http://m/debian-security|bookworm-security|main||Packages\n\
                       http://other/node|nodistro|main||Packages\n\
                       http://other/debian/|x|main|Other|Packages\n";
        let list = sources(targets, "ppc64el", Suite::Own).unwrap();
        let uris: Vec<_> = list.lines().map(|line| line.split(' ').nth(3).unwrap()).collect();
        assert_eq!(uris, ["http://m/debian/", "http://m/debian-security"]);
        assert!(list.lines().all(|line| line.contains("arch=ppc64el signed-by=")));
        assert!(sources("http://other/node|n|main||Packages", "ppc64el", Suite::Own).is_err());
        let list = sources(targets, "amd64", Suite::Backports).unwrap();
        assert!(list.ends_with(" http://m/debian/ bookworm-backports main\n") && list.lines().count() == 1, "{list}");
    }

    #[test]
    fn fields_are_whole_names() {
        let record = "Package: a\nPre-Depends: x\nDepends: b (= 1), c\n";
        assert_eq!(field(record, "Depends"), Some("b (= 1), c"));
    }
}
