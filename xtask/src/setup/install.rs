//! Installs Debian packages if that needs no password; says what it does.

use std::process::Command;

use anyhow::Result;

use super::Tool;
use crate::error::refuse;
use crate::process;
use crate::progress::step;

/// The packages of those tools that are not there.
pub fn missing(tools: &[Tool]) -> Vec<String> {
    tools.iter().filter(|tool| tool.find().is_none()).map(|tool| tool.package.clone()).collect()
}

/// Installs `packages`, or refuses with the commands that would.
pub fn packages(packages: &[String], purpose: &str) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if process::find("apt-get").is_none() {
        return Err(refuse(format!(
            "{purpose}, programs are missing that Debian has in these packages: {list}; \
             this machine has no apt-get, so install their like by its own means"
        )));
    }
    let Some(root) = Privilege::find() else {
        return Err(refuse(format!(
            "{purpose}, packages are missing; install them with:\n  sudo apt-get update\n  \
             sudo apt-get install --no-install-recommends {list}"
        )));
    };
    eprintln!("installing with apt-get, {purpose}: {list}");
    // Always: with old lists apt-get takes an old Rust where a recent one is to be had, or asks for files that are gone.
    // Without network it still may have what is needed.
    if let Err(error) = step("reading package lists", || process::output(&mut root.apt_get(&["-q", "update"]))) {
        eprintln!("warning: the package lists could not be brought up to date: {error:#}");
    }
    // Nothing the user has is removed for it.
    let mut words = vec!["-qy", "--no-install-recommends", "--no-remove", "install"];
    words.extend(packages.iter().map(String::as_str));
    // Replaced, though: a program from elsewhere may not stand beside the distribution's own of another version.
    let others = step("looking what stands in the way", || in_the_way(&root, packages))?;
    if !others.is_empty() {
        eprintln!("replacing by the distribution's own version: {}", others.join(" "));
        words.push("--allow-downgrades");
        words.extend(others.iter().map(String::as_str));
    }
    step("installing packages", || process::output(&mut root.apt_get(&words)))
        .map(drop)
        .map_err(|error| refuse(format!("{error:#}\ncould not install {list}")))
}

/// Packages that would have to go for `packages`, each as `NAME=VERSION` with the newest version that the distribution has
/// of it. One that it has not is left to the installation to refuse.
fn in_the_way(root: &Privilege, packages: &[String]) -> Result<Vec<String>> {
    let mut words = vec!["-q", "--simulate", "--no-install-recommends", "install"];
    words.extend(packages.iter().map(String::as_str));
    // What cannot be installed at all is found out, and said, by the installation itself.
    let plan = process::output(&mut root.apt_get(&words)).unwrap_or_default();
    let mut found = Vec::new();
    for name in removed(&plan) {
        let versions = process::output(Command::new("apt-cache").args(["madison", name]))?;
        found.extend(newest(&versions).map(|version| format!("{name}={version}")));
    }
    Ok(found)
}

/// The packages that a simulated installation removes: lines `Remv NAME [VERSION] ...`.
fn removed(plan: &str) -> impl Iterator<Item = &str> {
    plan.lines().filter_map(|line| line.strip_prefix("Remv ")?.split(' ').next())
}

/// The first version in a list of lines `NAME | VERSION | SOURCE`.
fn newest(versions: &str) -> Option<&str> {
    versions.lines().next()?.split('|').nth(1).map(str::trim)
}

/// How this user may install.
enum Privilege {
    Root,
    Sudo,
}

impl Privilege {
    fn find() -> Option<Self> {
        if rustix::process::geteuid().is_root() {
            return Some(Self::Root);
        }
        process::succeeds(Command::new("sudo").args(["-n", "true"])).then_some(Self::Sudo)
    }

    fn apt_get(&self, words: &[&str]) -> Command {
        let mut command = match self {
            Self::Root => Command::new("apt-get"),
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
                sudo
            }
        };
        command.args(words).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::{newest, removed};

    #[test]
    fn what_stands_in_the_way_is_read_from_a_simulation() {
        let plan = "The following packages will be REMOVED:\n  qemu-utils\nRemv qemu-utils [1:10.0] [lib:amd64 ]\nInst lld (1 Debian)\n";
        assert_eq!(removed(plan).collect::<Vec<_>>(), ["qemu-utils"]);
        assert_eq!(removed("Inst lld (1 Debian)\n").count(), 0);
        let versions = "qemu-utils | 1:7.2+b3 | http://mirror bookworm/main\nqemu-utils | 1:7.2+b1 | http://mirror\n";
        assert_eq!((newest(versions), newest("")), (Some("1:7.2+b3"), None));
    }
}
