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
    step("installing packages", || process::output(&mut root.apt_get(&words)))
        .map(drop)
        .map_err(|error| refuse(format!("{error:#}\ncould not install {list}")))
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
