//! An emulator that counts instructions, where the installed one is too old for the board: the newer one that the distribution
//! has among its backports, unpacked into the cache. Nothing is installed, and everything else goes on with the system's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::guest_tools;
use crate::board::Emulator;
use crate::error::refuse;
use crate::guests::apt::{Apt, Suite};
use crate::guests::lock::sha256;
use crate::progress::step;
use crate::{process, workspace};

/// What firmware and other data of Debian's emulators is in: the packages depend on it.
const DATA: &str = "qemu-system-data";
/// Programs of the package, and data, in the folder that it is unpacked into.
const PROGRAMS: &str = "usr/bin";
const SHARE: &str = "usr/share/qemu";

/// The emulator that benchmarks run on.
pub fn counter(mut emulator: Emulator) -> Result<Emulator> {
    let Some(since) = emulator.bench_since else { return Ok(emulator) };
    if version(Path::new(&emulator.program)).is_ok_and(|version| version >= since) {
        return Ok(emulator);
    }
    let root = fetched(&emulator.package, &emulator.program, since)?;
    emulator.program = root.join(PROGRAMS).join(&emulator.program).display().to_string();
    let data = ["-L".to_owned(), root.join(SHARE).display().to_string()];
    emulator.bench_args = emulator.bench_args.map(|args| data.into_iter().chain(args).collect());
    Ok(emulator)
}

/// The folder that has it, with what it needs beside libraries.
fn fetched(package: &str, program: &str, since: u32) -> Result<PathBuf> {
    let dir = workspace::cache_dir()?.join("emulators");
    workspace::make_dir(&dir)?;
    // One fetch at a time: a second command waits here and then finds everything done.
    let gate = File::create(dir.join("in-use")).context("cannot make the cache's lock file")?;
    gate.lock().context("cannot lock the cache")?;
    let root = dir.join(format!("{package}-{since}"));
    if !root.exists() {
        fetch(package, since, &dir, &root)?;
    }
    let new = root.join(PROGRAMS).join(program);
    // It is linked with the libraries of the release that it was built for.
    version(&new)
        .map_err(|why| refuse(format!("{program} of the distribution's backports does not run here: {why:#}")))?;
    Ok(root)
}

fn fetch(package: &str, since: u32, dir: &Path, root: &Path) -> Result<()> {
    if let Some(tool) = super::install::missing(&guest_tools()).first() {
        return Err(refuse(format!(
            "counting instructions needs {package} {since} or later; {tool} is needed to fetch it"
        )));
    }
    let architecture = process::output(Command::new("dpkg").arg("--print-architecture"))?;
    let apt = Apt::new(architecture.trim(), Suite::Backports, &dir.join("apt"))?;
    step("reading the package lists of the distribution's backports", || apt.update())?;
    let newest = apt.offer(package)?;
    if major(&newest.version).is_none_or(|version| version < since) {
        return Err(refuse(format!(
            "counting instructions needs {package} {since} or later; installed is an older one, and the distribution's \
             backports have {}",
            newest.version
        )));
    }
    let scratch = dir.join("unpack");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).context("cannot clear the folder for unpacking")?;
    }
    workspace::make_dir(&scratch)?;
    for name in [package, &apt.depends_on(package, DATA)?] {
        let offer = apt.offer(name)?;
        eprintln!("fetching {name} {} ({} MB), to be unpacked into the cache", offer.version, offer.size / 1_000_000);
        let deb = step(&format!("fetching {name}"), || apt.download(name, &offer))?;
        if sha256(&deb)? != offer.sha256 {
            bail!("{name} {}: the file does not have the SHA-256 that its package list names", offer.version);
        }
        let mut unpack = Command::new("dpkg-deb");
        unpack.arg("--extract").arg(&deb).arg(&scratch);
        step(&format!("unpacking {name}"), || process::output(&mut unpack))?;
        std::fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
    }
    std::fs::rename(&scratch, root).with_context(|| format!("cannot make {}", root.display()))
}

/// The major version of QEMU that this program is.
fn version(program: &Path) -> Result<u32> {
    let text = process::output(Command::new(program).arg("--version"))?;
    let word = text.split_whitespace().skip_while(|word| *word != "version").nth(1);
    word.and_then(major).with_context(|| format!("{} says no version", program.display()))
}

/// `1:10.0.2+ds-2` to 10, and `7.2.15` to 7.
fn major(version: &str) -> Option<u32> {
    let upstream = version.split_once(':').map_or(version, |(_, upstream)| upstream);
    upstream.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{counter, major};
    use crate::board::Board;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(major("1:10.0.2+ds-2+deb13u1~bpo12+1"), Some(10));
        assert_eq!((major("7.2.15"), major("nonsense")), (Some(7), None));
    }

    /// Nothing is fetched for boards whose emulator counts in every version.
    #[test]
    fn most_boards_keep_the_installed_one() {
        let emulator = Board::named("virt").unwrap().emulator;
        assert_eq!(
            (emulator.bench_since, counter(emulator).unwrap().program),
            (None, "qemu-system-aarch64".to_owned())
        );
    }
}
