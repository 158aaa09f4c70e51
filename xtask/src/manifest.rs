//! Reads the manifest (TOML): what `--guests FILE` says, refused with the line that is wrong.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hv_core::guest::manifest::{
    Backing, Granule, Huge, MAX_MEMORY, MAX_VCPUS, MEMORY_STEP, MIN_MEMORY, OutOfMemory, Shared, is_name,
};
use serde::Deserialize;
use toml::Spanned;

use crate::error::{refuse, suggestion};
use crate::units::Size;
use crate::wrong::Wrong;

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The distribution's, as fetched.
    Default,
    /// A file of the user's.
    File(PathBuf),
    /// Trivet's own image for this board, with that board's default guest as its RAM disk.
    Trivet(String),
    /// The distribution's, with this program of `tests/guests` in its `/bin` (RAM disks only).
    With(&'static str),
    /// There is none (RAM disks only).
    None,
}

/// One VM of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its name.
    pub name: String,
    /// How many virtual CPUs.
    pub vcpus: u16,
    /// Its memory in bytes.
    pub memory: u64,
    /// What its memory is made of.
    pub backing: Backing,
    /// When its memory is mapped in 2 MiB pages.
    pub huge: Huge,
    /// In what runs its memory comes and goes.
    pub granule: Granule,
    /// A window onto memory shared with other VMs.
    pub shared: Option<Shared>,
    /// Whether its pages may be compressed when the machine's memory runs short.
    pub swap: bool,
    /// What becomes of it if it uses most when nothing can be freed any more.
    pub out_of_memory: OutOfMemory,
    /// Whether its writes are logged from the start.
    pub dirty_log: bool,
    /// Whether it may have guests of its own.
    pub nested: bool,
    /// Its kernel.
    pub kernel: Source,
    /// Its RAM disk.
    pub initrd: Source,
    /// What is appended to the board's command line.
    pub cmdline: String,
}

impl Vm {
    /// The tmpfs objects it names, with their sizes in bytes.
    fn objects(&self) -> impl Iterator<Item = (&str, u64)> {
        let backing = match &self.backing {
            Backing::Named(name) => Some((name.as_str(), self.memory)),
            Backing::Anon | Backing::Tmpfs => None,
        };
        backing.into_iter().chain(self.shared.as_ref().map(|shared| (shared.object.as_str(), shared.size)))
    }
}

const KEYS: [&str; 14] = [
    "name",
    "vcpus",
    "memory",
    "backing",
    "huge",
    "granule",
    "shared",
    "swap",
    "out-of-memory",
    "dirty-log",
    "nested",
    "kernel",
    "initrd",
    "cmdline",
];

/// What a RAM disk with a program is called.
const WITH: &str = "with:";
/// The programs of Linux in `tests/guests`.
const PROGRAMS: [&str; 2] = ["kvm", "pages"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    vm: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    name: Spanned<String>,
    vcpus: Option<Spanned<i64>>,
    memory: Option<Spanned<String>>,
    backing: Option<Spanned<BackingKey>>,
    huge: Option<Spanned<String>>,
    granule: Option<Spanned<String>>,
    shared: Option<SharedKey>,
    swap: Option<bool>,
    out_of_memory: Option<Spanned<String>>,
    dirty_log: Option<bool>,
    nested: Option<bool>,
    kernel: Option<String>,
    initrd: Option<Spanned<String>>,
    cmdline: Option<String>,
}

/// `backing = "anon"`, `backing = "tmpfs"` or `backing = { tmpfs = "NAME" }`.
#[derive(Deserialize)]
#[serde(untagged, expecting = "backing is \"anon\", \"tmpfs\" or { tmpfs = \"NAME\" }")]
enum BackingKey {
    Kind(String),
    Object(ObjectKey),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ObjectKey {
    tmpfs: String,
}

/// `shared = { tmpfs = "NAME", size = "64MiB" }`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedKey {
    tmpfs: Spanned<String>,
    size: Spanned<String>,
}

/// Reads `file`.
pub fn read(file: &Path) -> Result<Vec<Vm>> {
    let text =
        std::fs::read_to_string(file).map_err(|error| refuse(format!("cannot read {}: {error}", file.display())))?;
    let dir = file.parent().unwrap_or(Path::new(""));
    parse(&text, dir).map_err(|wrong| wrong.refusal(file, &text)).context("the manifest is refused")
}

fn parse(text: &str, dir: &Path) -> Result<Vec<Vm>, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| Wrong::of_toml(&error, &KEYS, plain))?;
    if file.vm.is_empty() {
        return Err(Wrong { at: None, what: "no [[vm]]: at least one is needed".to_owned() });
    }
    let mut vms: Vec<Vm> = Vec::new();
    for table in file.vm {
        if vms.iter().any(|vm| vm.name == *table.name.get_ref()) {
            return Err(Wrong::at(&table.name, format!("a second VM is named {:?}", table.name.get_ref())));
        }
        let at = table.backing.as_ref().map(Spanned::span);
        let at = table.shared.as_ref().map(|shared| shared.size.span()).or(at);
        let new = vm(table, dir)?;
        for (name, size) in new.objects() {
            if vms.iter().flat_map(Vm::objects).any(|(known, other)| known == name && other != size) {
                return Err(Wrong { at, what: format!("two VMs give the tmpfs object {name:?} different sizes") });
            }
        }
        vms.push(new);
    }
    Ok(vms)
}

/// The parser's message without the names of Rust's types.
fn plain(message: &str) -> String {
    match message {
        "invalid type: map, expected a sequence" => "a VM begins with [[vm]], in two brackets".to_owned(),
        _ => message.replace("expected i64", "expected a number"),
    }
}

fn vm(table: Table, dir: &Path) -> Result<Vm, Wrong> {
    if !is_name(table.name.get_ref()) {
        let what =
            format!("VM name {:?}: up to 31 of a-z, 0-9 and - are allowed, a letter first", table.name.get_ref());
        return Err(Wrong::at(&table.name, what));
    }
    let image = |name: Option<String>| match name.as_deref() {
        None | Some("default") => Source::Default,
        Some("none") => Source::None,
        Some(path) => Source::File(dir.join(path)),
    };
    let trivet = table.kernel.as_deref().and_then(|name| name.strip_prefix("trivet:")).map(str::to_owned);
    let kernel = trivet.clone().map_or_else(|| image(table.kernel), Source::Trivet);
    let initrd = match (trivet, &table.initrd) {
        (Some(board), None) => Source::Trivet(board),
        (_, Some(name)) if name.get_ref().starts_with(WITH) => with(name)?,
        _ => image(table.initrd.map(Spanned::into_inner)),
    };
    let bytes = table.memory.as_ref().map_or(Ok(512 << 20), memory)?;
    Ok(Vm {
        granule: match &table.granule {
            Some(key) => granule(key, bytes, table.backing.as_ref(), table.shared.as_ref())?,
            None => Granule::Page,
        },
        vcpus: table.vcpus.map_or(Ok(1), vcpus)?,
        memory: bytes,
        backing: table.backing.map_or(Ok(Backing::Anon), backing)?,
        huge: table.huge.map_or(Ok(Huge::Always), huge)?,
        shared: table.shared.map(shared).transpose()?,
        swap: table.swap.unwrap_or(true),
        out_of_memory: table.out_of_memory.map_or(Ok(OutOfMemory::Stop), out_of_memory)?,
        dirty_log: table.dirty_log.unwrap_or(false),
        nested: table.nested.unwrap_or(false),
        kernel,
        initrd,
        cmdline: table.cmdline.unwrap_or_default(),
        name: table.name.into_inner(),
    })
}

/// `initrd = "with:PROGRAM"`.
fn with(key: &Spanned<String>) -> Result<Source, Wrong> {
    let name = key.get_ref().strip_prefix(WITH).unwrap_or_default();
    let known = PROGRAMS.into_iter().find(|known| *known == name);
    known.map(Source::With).ok_or_else(|| {
        let what = format!("initrd = {:?}: there is no such program", key.get_ref());
        Wrong::at(key, what + &suggestion(name, PROGRAMS))
    })
}

fn backing(key: Spanned<BackingKey>) -> Result<Backing, Wrong> {
    match key.get_ref() {
        BackingKey::Kind(kind) if kind == "anon" => Ok(Backing::Anon),
        BackingKey::Kind(kind) if kind == "tmpfs" => Ok(Backing::Tmpfs),
        BackingKey::Kind(kind) => {
            let what = format!("backing = {kind:?}: \"anon\", \"tmpfs\" or {{ tmpfs = \"NAME\" }} are possible");
            Err(Wrong::at(&key, what + &suggestion(kind, ["anon", "tmpfs"])))
        }
        BackingKey::Object(ObjectKey { tmpfs }) if is_name(tmpfs) => Ok(Backing::Named(tmpfs.clone())),
        BackingKey::Object(ObjectKey { tmpfs }) => Err(Wrong::at(&key, object_name(tmpfs))),
    }
}

fn object_name(name: &str) -> String {
    format!("tmpfs object {name:?}: up to 31 of a-z, 0-9 and - are allowed, a letter first")
}

fn huge(key: Spanned<String>) -> Result<Huge, Wrong> {
    match key.get_ref().as_str() {
        "always" => Ok(Huge::Always),
        "advise" => Ok(Huge::Advise),
        "never" => Ok(Huge::Never),
        other => {
            let what = format!("huge = {other:?}: \"always\", \"advise\" or \"never\" are possible");
            Err(Wrong::at(&key, what + &suggestion(other, ["always", "advise", "never"])))
        }
    }
}

/// The key, for a VM with so many bytes of memory, made of this, and with this window.
fn granule(
    key: &Spanned<String>,
    memory: u64,
    backing: Option<&Spanned<BackingKey>>,
    shared: Option<&SharedKey>,
) -> Result<Granule, Wrong> {
    let wanted = match key.get_ref().as_str() {
        "4K" => return Ok(Granule::Page),
        "64K" => Granule::Kib64,
        "16M" => Granule::Mib16,
        other => {
            let what = format!("granule = {other:?}: \"4K\", \"64K\" or \"16M\" are possible");
            return Err(Wrong::at(key, what + &suggestion(other, ["4K", "64K", "16M"])));
        }
    };
    if !memory.is_multiple_of(wanted.order().bytes()) {
        return Err(Wrong::at(key, format!("{} of memory do not consist of runs of {}", Size(memory), key.get_ref())));
    }
    let anon = backing.is_none_or(|kind| matches!(kind.get_ref(), BackingKey::Kind(kind) if kind == "anon"));
    if !anon || shared.is_some() {
        let what = format!("granule = {:?}: memory of tmpfs objects comes page by page", key.get_ref());
        return Err(Wrong::at(key, what));
    }
    Ok(wanted)
}

fn out_of_memory(key: Spanned<String>) -> Result<OutOfMemory, Wrong> {
    match key.get_ref().as_str() {
        "stop" => Ok(OutOfMemory::Stop),
        "restart" => Ok(OutOfMemory::Restart),
        other => {
            let what = format!("out-of-memory = {other:?}: \"stop\" or \"restart\" are possible");
            Err(Wrong::at(&key, what + &suggestion(other, ["stop", "restart"])))
        }
    }
}

fn shared(key: SharedKey) -> Result<Shared, Wrong> {
    if !is_name(key.tmpfs.get_ref()) {
        return Err(Wrong::at(&key.tmpfs, object_name(key.tmpfs.get_ref())));
    }
    let Size(size) = key.size.get_ref().parse().map_err(|what| Wrong::at(&key.size, what))?;
    if size == 0 || size > MAX_MEMORY || !size.is_multiple_of(MEMORY_STEP) {
        let what = format!("size {:?}: a multiple of 2MiB up to 1TiB is needed", key.size.get_ref());
        return Err(Wrong::at(&key.size, what));
    }
    Ok(Shared { object: key.tmpfs.into_inner(), size })
}

fn vcpus(count: Spanned<i64>) -> Result<u16, Wrong> {
    let wrong = || Wrong::at(&count, format!("{} vCPUs: 1 to {MAX_VCPUS} are possible", count.get_ref()));
    let number = u16::try_from(*count.get_ref()).map_err(|_| wrong())?;
    if (1..=MAX_VCPUS).contains(&number) { Ok(number) } else { Err(wrong()) }
}

fn memory(text: &Spanned<String>) -> Result<u64, Wrong> {
    let Size(bytes) = text.get_ref().parse().map_err(|what| Wrong::at(text, what))?;
    if (MIN_MEMORY..=MAX_MEMORY).contains(&bytes) && bytes.is_multiple_of(MEMORY_STEP) {
        return Ok(bytes);
    }
    Err(Wrong::at(text, format!("memory {:?}: a multiple of 2 MiB from 64 MiB to 1 TiB is needed", text.get_ref())))
}

#[cfg(test)]
mod tests {
    use super::{Source, parse};
    use hv_core::guest::manifest::{Backing, Granule, Huge, OutOfMemory, Shared};
    use std::path::{Path, PathBuf};

    fn wrong(text: &str) -> (usize, String) {
        let wrong = parse(text, Path::new("d")).err().unwrap();
        let text = wrong.refusal(Path::new("f"), text).to_string();
        let mut parts = text.splitn(3, ':');
        assert_eq!(parts.next(), Some("f"));
        (parts.next().unwrap().parse().unwrap_or(0), parts.next().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_full_table_and_the_defaults() {
        let text = "[[vm]]\nname='a'\nvcpus=2\nmemory='1GiB'\nbacking='anon'\nkernel='k'\ninitrd='none'\ncmdline='quiet'\n\
                    [[vm]]\nname='b'";
        let vms = parse(text, Path::new("d")).ok().unwrap();
        assert_eq!((vms[0].vcpus, vms[0].memory, vms[0].cmdline.as_str()), (2, 1 << 30, "quiet"));
        assert_eq!((&vms[0].kernel, &vms[0].initrd), (&Source::File(PathBuf::from("d/k")), &Source::None));
        assert_eq!((vms[1].vcpus, vms[1].memory), (1, 512 << 20));
        assert_eq!((&vms[1].backing, vms[1].huge, &vms[1].shared), (&Backing::Anon, Huge::Always, &None));
        assert_eq!((vms[1].swap, vms[1].out_of_memory, vms[1].dirty_log), (true, OutOfMemory::Stop, false));
        let text = "[[vm]]\nname='a'\nbacking={tmpfs='ram'}\nhuge='never'\nshared={tmpfs='window',size='64MiB'}\n\
                    [[vm]]\nname='b'\nbacking='tmpfs'\nhuge='advise'\nswap=false\nout-of-memory='restart'\ndirty-log=true";
        let vms = parse(text, Path::new("d")).ok().unwrap();
        assert_eq!((&vms[0].backing, vms[0].huge), (&Backing::Named("ram".to_owned()), Huge::Never));
        assert_eq!(vms[0].shared, Some(Shared { object: "window".to_owned(), size: 64 << 20 }));
        assert_eq!((&vms[1].backing, vms[1].huge), (&Backing::Tmpfs, Huge::Advise));
        assert_eq!((vms[1].swap, vms[1].out_of_memory, vms[1].dirty_log), (false, OutOfMemory::Restart, true));
        assert_eq!((&vms[1].kernel, &vms[1].initrd), (&Source::Default, &Source::Default));
        let text = "[[vm]]\nname='a'\nkernel='trivet:pseries'\n[[vm]]\nname='b'\ninitrd='with:kvm'";
        let vms = parse(text, Path::new("d")).ok().unwrap();
        assert_eq!(vms[0].initrd, Source::Trivet("pseries".to_owned()));
        assert_eq!((&vms[1].kernel, &vms[1].initrd), (&Source::Default, &Source::With("kvm")));
        let granules = "[[vm]]\nname='a'\ngranule='64K'\n[[vm]]\nname='b'\ngranule='16M'\n[[vm]]\nname='c'\ngranule='4K'\n[[vm]]\nname='d'";
        let vms = parse(granules, Path::new("d")).ok().unwrap();
        let granules: Vec<Granule> = vms.iter().map(|vm| vm.granule).collect();
        assert_eq!(granules, [Granule::Kib64, Granule::Mib16, Granule::Page, Granule::Page]);
    }

    #[test]
    fn mistakes_name_their_line() {
        let (line, what) = wrong("[[vm]]\nname = 'a'\nmemry = '1GiB'\n");
        assert!(line == 3 && what.contains("unknown field") && what.contains("did you mean \"memory\"?"), "{what}");
        for (text, line, part) in [
            ("[[vm]]\nname='a'\nvcpus=0\n", 3, "0 vCPUs"),
            ("[[vm]]\nname='a'\nvcpus=99999999\n", 3, "99999999 vCPUs"),
            ("[[vm]]\nname='a'\n\nmemory='3MiB'\n", 4, "memory \"3MiB\""),
            ("[[vm]]\nname='a'\nmemory='99999999TiB'\n", 3, "more than any machine"),
            ("[[vm]]\nname='a'\n[[vm]]\nname='a'\n", 4, "second VM"),
            ("[[vm]]\nname='A'\n", 2, "VM name"),
            ("[[vm]]\nname='a'\nbacking='tempfs'\n", 3, "did you mean \"tmpfs\"?"),
            ("[[vm]]\nname='a'\nbacking={tmpfs='A'}\n", 3, "tmpfs object \"A\""),
            ("[[vm]]\nname='a'\nbacking={tmp='a'}\n", 3, "backing is \"anon\""),
            ("[[vm]]\nname='a'\nbacking=7\n", 3, "backing is \"anon\""),
            ("[[vm]]\nname='a'\nswap='yes'\n", 3, "expected a boolean"),
            ("[[vm]]\nname='a'\ninitrd='with:page'\n", 3, "did you mean \"pages\"?"),
            ("[[vm]]\nname='a'\ninitrd='with:'\n", 3, "no such program"),
            ("[[vm]]\nname='a'\nout_of_memory='stop'\n", 3, "did you mean \"out-of-memory\"?"),
            ("[[vm]]\nname='a'\nout-of-memory='restar'\n", 3, "did you mean \"restart\"?"),
            ("[[vm]]\nname='a'\nhuge='alway'\n", 3, "did you mean \"always\"?"),
            ("[[vm]]\nname='a'\ngranule='64k'\n", 3, "did you mean \"64K\"?"),
            ("[[vm]]\nname='a'\nmemory='66MiB'\ngranule='16M'\n", 4, "do not consist of runs of 16M"),
            ("[[vm]]\nname='a'\nbacking='tmpfs'\ngranule='64K'\n", 4, "page by page"),
            ("[[vm]]\nname='a'\nshared={tmpfs='b',size='2MiB'}\ngranule='64K'\n", 4, "page by page"),
            ("[[vm]]\nname='a'\nshared={tmpfs='b',size='1MiB'}\n", 3, "a multiple of 2MiB"),
            ("[[vm]]\nname='a'\nshared={tmpfs='b'}\n", 3, "missing field"),
            (
                "[[vm]]\nname='a'\nmemory='64MiB'\nbacking={tmpfs='x'}\n[[vm]]\nname='b'\nshared={tmpfs='x',size='2MiB'}\n",
                7,
                "different sizes",
            ),
            ("[[vm]]\nvcpus=1\n", 1, "missing field"),
            ("[[vm]\n", 1, ""),
            ("[vm]\nname='a'\n", 1, "in two brackets"),
            ("[[vm]]\nname='a'\nvcpus='2'\n", 3, "expected a number"),
            ("", 0, ""),
        ] {
            let (at, what) = wrong(text);
            assert!(at == line && what.contains(part), "{text:?}: line {at}: {what}");
        }
    }
}
