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
    let unknown = packages.iter().any(|package| !has_candidate(package));
    if unknown {
        step("reading package lists", || process::output(&mut root.apt_get(&["-q", "update"])))?;
    }
    let install = || {
        // Nothing the user has is removed for it.
        let mut words = vec!["-qy", "--no-install-recommends", "--no-remove", "install"];
        words.extend(packages.iter().map(String::as_str));
        step("installing packages", || process::output(&mut root.apt_get(&words)))
    };
    let done = match install() {
        Ok(_) => Ok(()),
        // Lists that are there but old name files that the mirror no longer has.
        Err(_) if !unknown => {
            step("reading package lists", || process::output(&mut root.apt_get(&["-q", "update"])))?;
            install().map(drop)
        }
        Err(error) => Err(error),
    };
    done.map_err(|error| refuse(format!("{error:#}\ncould not install {list}")))
}

fn has_candidate(package: &str) -> bool {
    let policy = process::output(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", package]));
    policy.is_ok_and(|text| text.lines().any(|l| l.trim().strip_prefix("Candidate: ").is_some_and(|v| v != "(none)")))
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
