//! `cargo xtask guests`: the default guest's kernel and initial RAM disk.
//!
//! Debian's packages of a foreign architecture, fetched by apt into a private state (`apt.rs`), recorded with version
//! and SHA-256 (`lock.rs`), unpacked without being installed. The RAM disk is made here (`initramfs.rs`).

pub mod apt;
pub mod bzimage;
mod cpio;
mod initramfs;
pub mod lock;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::board::{Board, KernelForm};
use crate::progress::step;
use crate::{process, workspace};
use apt::{Apt, Suite};
use cpio::{Archive, Kind};
pub use initramfs::READY;
use lock::{Lock, Package, sha256};

/// A guest's two images.
pub struct Guest {
    /// The kernel, in the form that the board's file names.
    pub kernel: PathBuf,
    /// The RAM disk, a cpio archive.
    pub initrd: PathBuf,
    /// What the kernel is.
    pub version: String,
}

/// Prints where the default guest of every board lies, fetching it first if need be.
pub fn run() -> Result<()> {
    for board in Board::all()? {
        let guest = default(&board)?;
        println!("{}: kernel {} ({})", board.name, guest.kernel.display(), guest.version);
        println!("{}: initrd {}", board.name, guest.initrd.display());
    }
    Ok(())
}

/// The default guest of `board`, fetched if it is not there yet.
pub fn default(board: &Board) -> Result<Guest> {
    let arch = &board.guest.architecture;
    let dir = workspace::cache_dir()?.join("guests").join(arch);
    workspace::make_dir(&dir)?;
    // One fetch at a time: a second command waits here and then finds everything done.
    let gate = File::create(dir.join("in-use")).context("cannot make the cache's lock file")?;
    gate.lock().context("cannot lock the cache")?;
    let mut lock = Lock::load(&dir.join("lock.toml"))?;
    if !lock.has(&board.guest.kernel_package) || !lock.has(&board.guest.busybox_package) {
        fetch(board, &dir, &mut lock)?;
    }
    let kernel = lock.verified(&dir, &board.guest.kernel_package)?;
    let busybox = lock.verified(&dir, &board.guest.busybox_package)?;
    let program = std::fs::read(&busybox.path).with_context(|| format!("cannot read {}", busybox.path.display()))?;
    let initrd = dir.join("initramfs.cpio");
    workspace::write_file(&initrd, &initramfs::archive(&program))?;
    Ok(Guest { kernel: kernel.path, initrd, version: format!("{} {}", kernel.package, kernel.version) })
}

/// The default guest's RAM disk with one program more, in `/bin`.
pub fn initrd_with(board: &Board, name: &str, program: &Path) -> Result<Vec<u8>> {
    let read = |file: &Path| std::fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    let mut more = Archive::default();
    more.add(&format!("bin/{name}"), &Kind::Program(&read(program)?));
    // Linux unpacks archives that stand one behind the other one after the other.
    let mut archives = read(&default(board)?.initrd)?;
    archives.extend(more.finish());
    Ok(archives)
}

/// What has been fetched for `board`, if all of it has.
pub fn fetched(board: &Board) -> Result<Option<String>> {
    let lock = Lock::load(&workspace::cache_dir()?.join("guests").join(&board.guest.architecture).join("lock.toml"))?;
    let packages = [&board.guest.kernel_package, &board.guest.busybox_package];
    let found: Option<Vec<String>> = packages.into_iter().map(|asked| lock.fetched(asked)).collect();
    Ok(found.map(|found| found.join(", ")))
}

fn fetch(board: &Board, dir: &Path, lock: &mut Lock) -> Result<()> {
    crate::setup::need_guest_tools()?;
    let guest = &board.guest;
    let apt = Apt::new(&guest.architecture, Suite::Own, &dir.join("apt"))?;
    step(&format!("reading Debian's package lists for {}", guest.architecture), || apt.update())?;
    // The kernel's package is named by a package without content, so that the newest is found.
    let kernel = apt.depends_on(&guest.kernel_package, "linux-image-")?;
    for (asked, name, wanted) in [
        (&guest.kernel_package, kernel.as_str(), Path::new("boot")),
        (&guest.busybox_package, guest.busybox_package.as_str(), Path::new("bin/busybox")),
    ] {
        if lock.has(asked) {
            continue;
        }
        let offer = apt.offer(name)?;
        if let Some(known) = lock.find(asked, &offer.version)
            && known.deb_sha256 != offer.sha256
        {
            bail!(
                "{name} {} had SHA-256 {} when first fetched, but is now offered with {}; refusing it",
                offer.version,
                known.deb_sha256,
                offer.sha256
            );
        }
        eprintln!("fetching {name} {} for {} ({} MB)", offer.version, guest.architecture, offer.size / 1_000_000);
        let deb = step(&format!("fetching {name}"), || apt.download(name, &offer))?;
        if sha256(&deb)? != offer.sha256 {
            bail!("{name} {}: the file does not have the SHA-256 that its package list names", offer.version);
        }
        let prefix = guest.kernel_form.file_prefix();
        let mut file = step(&format!("unpacking {name}"), || unpack(&deb, dir, wanted, prefix))?;
        if asked == &guest.kernel_package && guest.kernel_form == KernelForm::BzImage {
            file = step("unpacking the kernel in it", || unpack_kernel(dir, &file))?;
        }
        std::fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
        lock.record(Package {
            asked: asked.clone(),
            name: name.to_owned(),
            version: offer.version,
            deb_sha256: offer.sha256,
            sha256: sha256(&dir.join(&file))?,
            file,
        })?;
    }
    Ok(())
}

/// Puts the ELF program beside a packed kernel in its place; returns its name inside `dir`.
fn unpack_kernel(dir: &Path, name: &str) -> Result<String> {
    let packed = dir.join(name);
    let bytes = std::fs::read(&packed).with_context(|| format!("cannot read {name}"))?;
    let program = bzimage::unpack(&bytes).map_err(|why| anyhow::anyhow!("{name}: {why}"))?;
    let unpacked = name.replace("vmlinuz", "vmlinux");
    workspace::write_file(&dir.join(&unpacked), &program)?;
    std::fs::remove_file(&packed).with_context(|| format!("cannot remove {name}"))?;
    Ok(unpacked)
}

/// Takes one file out of a package; returns its name inside `dir`. For a folder, the file in it that `prefix` begins.
fn unpack(deb: &Path, dir: &Path, wanted: &Path, prefix: &str) -> Result<String> {
    let scratch = dir.join("unpack");
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).context("cannot clear the folder for unpacking")?;
    }
    workspace::make_dir(&scratch)?;
    process::output(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(&scratch))?;
    let mut found = scratch.join(wanted);
    if found.is_dir() {
        let mut entries = std::fs::read_dir(&found)?.collect::<Result<Vec<_>, _>>()?.into_iter().map(|e| e.path());
        found = entries
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
            .with_context(|| format!("no kernel in {}", deb.display()))?;
    }
    let name = found.file_name().context("a file has a name")?.to_string_lossy().into_owned();
    std::fs::rename(&found, dir.join(&name)).with_context(|| format!("{} is not in the package", wanted.display()))?;
    std::fs::remove_dir_all(&scratch).context("cannot clear the folder for unpacking")?;
    Ok(name)
}
