//! `cargo xtask guests`: the default guest's kernel and initial RAM disk.
//!
//! Debian's packages of a foreign architecture, fetched by apt into a private state (`apt.rs`), recorded with version
//! and SHA-256 (`lock.rs`), unpacked without being installed. The RAM disk is made here (`initramfs.rs`).

pub mod apt;
pub mod bzimage;
mod cpio;
mod initramfs;
pub mod lock;
mod modules;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::board::{self, Board, KernelForm};
use crate::progress::step;
use crate::{process, workspace};
use apt::{Apt, Suite};
use cpio::{Archive, Kind};
pub use initramfs::READY;
use lock::{Lock, Package, sha256};
use modules::Modules;

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
    let dir = workspace::cache_dir()?.join("guests").join(&board.guest.architecture);
    workspace::make_dir(&dir)?;
    // One fetch at a time: a second command waits here and then finds everything done.
    let gate = File::create(dir.join("in-use")).context("cannot make the cache's lock file")?;
    gate.lock().context("cannot lock the cache")?;
    let mut lock = Lock::load(&dir.join("lock.toml"))?;
    for package in packages(&board.guest) {
        if !package.iter().all(|wanted| lock.has(&wanted.asked)) {
            fetch(board, &dir, &mut lock, &package)?;
        }
    }
    let kernel = lock.verified(&dir, &board.guest.kernel_package)?;
    let read = |asked: &str| -> Result<Vec<u8>> {
        let path = lock.verified(&dir, asked)?.path;
        std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let files = board.guest.modules.iter().map(|name| Ok((format!("{name}.ko"), read(&module(&board.guest, name))?)));
    let release = kernel.package.trim_start_matches(KERNEL).to_owned();
    let modules = Modules { release, files: files.collect::<Result<_>>()? };
    // Boards of one architecture may want different modules.
    let initrd = dir.join(format!("initramfs-{}.cpio", board.name));
    workspace::write_file(&initrd, &initramfs::archive(&read(&board.guest.busybox_package)?, &modules))?;
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
    let packages = packages(&board.guest);
    let all = packages.iter().flatten().all(|wanted| lock.has(&wanted.asked));
    let names: Option<Vec<String>> = packages.iter().map(|package| lock.fetched(&package.first()?.asked)).collect();
    Ok(names.filter(|_| all).map(|names| names.join(", ")))
}

/// What the names of kernels' packages begin with; the kernel's release follows.
const KERNEL: &str = "linux-image-";

/// A file of a package.
struct Wanted {
    /// Its name in the record; that of the package, for the first.
    asked: String,
    /// Where it is in the package.
    place: Place,
}

enum Place {
    /// This path.
    Path(&'static str),
    /// The file in this folder that this begins.
    Prefix(&'static str, &'static str),
    /// The file of this name, somewhere below this folder.
    Below(&'static str, String),
}

/// The name of a kernel's module in the record.
fn module(guest: &board::Guest, name: &str) -> String {
    format!("{}: {name}.ko", guest.kernel_package)
}

/// What is taken out of packages, package by package: what of one package is missing is not looked for in another version of it.
fn packages(guest: &board::Guest) -> [Vec<Wanted>; 2] {
    let kernel = Place::Prefix("boot", guest.kernel_form.file_prefix());
    let mut kernel = vec![Wanted { asked: guest.kernel_package.clone(), place: kernel }];
    kernel.extend(
        guest.modules.iter().map(|name| Wanted {
            asked: module(guest, name),
            place: Place::Below("lib/modules", format!("{name}.ko")),
        }),
    );
    let busybox = Wanted { asked: guest.busybox_package.clone(), place: Place::Path("bin/busybox") };
    [kernel, vec![busybox]]
}

/// Fetches a package and records what is wanted of it.
fn fetch(board: &Board, dir: &Path, lock: &mut Lock, package: &[Wanted]) -> Result<()> {
    crate::setup::need_guest_tools()?;
    let guest = &board.guest;
    let asked = &package.first().context("a package of which nothing is wanted")?.asked;
    let is_kernel = *asked == guest.kernel_package;
    let apt = Apt::new(&guest.architecture, Suite::Own, &dir.join("apt"))?;
    step(&format!("reading Debian's package lists for {}", guest.architecture), || apt.update())?;
    // The kernel's package is named by a package without content, so that the newest is found.
    let name = if is_kernel { apt.depends_on(asked, KERNEL)? } else { asked.clone() };
    let offer = apt.offer(&name)?;
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
    let deb = step(&format!("fetching {name}"), || apt.download(&name, &offer))?;
    if sha256(&deb)? != offer.sha256 {
        bail!("{name} {}: the file does not have the SHA-256 that its package list names", offer.version);
    }
    let scratch = dir.join("unpack");
    step(&format!("unpacking {name}"), || unpack(&deb, &scratch))?;
    for Wanted { asked: wanted, place } in package {
        let mut file = take(&scratch, dir, place).with_context(|| format!("what is wanted of {name}: {wanted}"))?;
        if is_kernel && wanted == asked && guest.kernel_form == KernelForm::BzImage {
            file = step("unpacking the kernel in it", || unpack_kernel(dir, &file))?;
        }
        lock.record(Package {
            asked: wanted.clone(),
            name: name.clone(),
            version: offer.version.clone(),
            deb_sha256: offer.sha256.clone(),
            sha256: sha256(&dir.join(&file))?,
            file,
        })?;
    }
    std::fs::remove_file(&deb).with_context(|| format!("cannot remove {}", deb.display()))?;
    std::fs::remove_dir_all(&scratch).context("cannot clear the folder for unpacking")
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

fn unpack(deb: &Path, scratch: &Path) -> Result<()> {
    if scratch.exists() {
        std::fs::remove_dir_all(scratch).context("cannot clear the folder for unpacking")?;
    }
    workspace::make_dir(scratch)?;
    process::output(Command::new("dpkg-deb").arg("--extract").arg(deb).arg(scratch)).map(drop)
}

/// Takes one file out of an unpacked package; returns its name inside `dir`.
fn take(scratch: &Path, dir: &Path, place: &Place) -> Result<String> {
    let found = match place {
        Place::Path(path) => Some(scratch.join(path)),
        Place::Prefix(folder, prefix) => find(&scratch.join(folder), &|name| name.starts_with(prefix))?,
        Place::Below(folder, wanted) => find(&scratch.join(folder), &|name| name == wanted)?,
    };
    let found = found.context("it is not in the package")?;
    let name = found.file_name().context("a file has a name")?.to_string_lossy().into_owned();
    std::fs::rename(&found, dir.join(&name)).context("it cannot be taken out of the package")?;
    Ok(name)
}

/// The first file below a folder whose name is right.
fn find(folder: &Path, right: &dyn Fn(&str) -> bool) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let found = match entry.file_type()? {
            kind if kind.is_dir() => find(&entry.path(), right)?,
            kind if kind.is_file() && right(&entry.file_name().to_string_lossy()) => Some(entry.path()),
            _ => None,
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
