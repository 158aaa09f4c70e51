//! Reads the manifest (TOML): what `--guests FILE` says, refused with the line that is wrong.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error, Result};
use hv_core::guest::manifest::{MAX_MEMORY, MAX_VCPUS, MEMORY_STEP, MIN_MEMORY};
use serde::Deserialize;
use toml::Spanned;

use crate::error::{refuse, suggestion};
use crate::units::Size;

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The distribution's, as fetched.
    Default,
    /// A file of the user's.
    File(PathBuf),
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
    /// Its kernel.
    pub kernel: Source,
    /// Its RAM disk.
    pub initrd: Source,
    /// What is appended to the board's command line.
    pub cmdline: String,
}

const KEYS: [&str; 8] = ["name", "vcpus", "memory", "backing", "huge", "kernel", "initrd", "cmdline"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    vm: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: Spanned<String>,
    vcpus: Option<Spanned<i64>>,
    memory: Option<Spanned<String>>,
    backing: Option<Spanned<toml::Value>>,
    huge: Option<Spanned<toml::Value>>,
    kernel: Option<String>,
    initrd: Option<String>,
    cmdline: Option<String>,
}

/// Reads `file`.
pub fn read(file: &Path) -> Result<Vec<Vm>> {
    let text =
        std::fs::read_to_string(file).map_err(|error| refuse(format!("cannot read {}: {error}", file.display())))?;
    let dir = file.parent().unwrap_or(Path::new(""));
    parse(&text, dir).map_err(|wrong| wrong.refusal(file, &text)).context("the manifest is refused")
}

/// What is wrong, and where.
struct Wrong {
    at: Option<Range<usize>>,
    what: String,
}

impl Wrong {
    fn at<T>(spanned: &Spanned<T>, what: String) -> Self {
        Self { at: Some(spanned.span()), what }
    }

    fn refusal(self, file: &Path, text: &str) -> Error {
        let line = self.at.and_then(|span| Some(text.get(..span.start)?.matches('\n').count() + 1));
        let line = line.map(|line| format!(":{line}")).unwrap_or_default();
        refuse(format!("{}{line}: {}", file.display(), self.what))
    }
}

fn parse(text: &str, dir: &Path) -> Result<Vec<Vm>, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join(" ");
        let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
        let hint = unknown.map(|key| suggestion(key, KEYS)).unwrap_or_default();
        Wrong { at: error.span(), what: plain(&message) + &hint }
    })?;
    if file.vm.is_empty() {
        return Err(Wrong { at: None, what: "no [[vm]]: at least one is needed".to_owned() });
    }
    let mut vms: Vec<Vm> = Vec::new();
    for table in file.vm {
        if vms.iter().any(|vm| vm.name == *table.name.get_ref()) {
            return Err(Wrong::at(&table.name, format!("a second VM is named {:?}", table.name.get_ref())));
        }
        vms.push(vm(table, dir)?);
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
    if !hv_core::guest::manifest::is_name(table.name.get_ref()) {
        let what =
            format!("VM name {:?}: up to 31 of a-z, 0-9 and - are allowed, a letter first", table.name.get_ref());
        return Err(Wrong::at(&table.name, what));
    }
    later(table.backing.as_ref(), "anon", "backing")?;
    later(table.huge.as_ref(), "never", "huge")?;
    let image = |name: Option<String>| match name.as_deref() {
        None | Some("default") => Source::Default,
        Some("none") => Source::None,
        Some(path) => Source::File(dir.join(path)),
    };
    Ok(Vm {
        vcpus: table.vcpus.map_or(Ok(1), vcpus)?,
        memory: table.memory.map_or(Ok(512 << 20), memory)?,
        kernel: image(table.kernel),
        initrd: image(table.initrd),
        cmdline: table.cmdline.unwrap_or_default(),
        name: table.name.into_inner(),
    })
}

/// Keys of which only one value can be had yet.
fn later(value: Option<&Spanned<toml::Value>>, only: &str, key: &str) -> Result<(), Wrong> {
    match value {
        Some(value) if value.get_ref().as_str() != Some(only) => {
            Err(Wrong::at(value, format!("{key} = {}: not there yet; only {only:?} is", value.get_ref())))
        }
        _ => Ok(()),
    }
}

fn vcpus(count: Spanned<i64>) -> Result<u16, Wrong> {
    let wrong = || Wrong::at(&count, format!("{} vCPUs: 1 to {MAX_VCPUS} are possible", count.get_ref()));
    let number = u16::try_from(*count.get_ref()).map_err(|_| wrong())?;
    if (1..=MAX_VCPUS).contains(&number) { Ok(number) } else { Err(wrong()) }
}

fn memory(text: Spanned<String>) -> Result<u64, Wrong> {
    let Size(bytes) = text.get_ref().parse().map_err(|what| Wrong::at(&text, what))?;
    if (MIN_MEMORY..=MAX_MEMORY).contains(&bytes) && bytes.is_multiple_of(MEMORY_STEP) {
        return Ok(bytes);
    }
    Err(Wrong::at(&text, format!("memory {:?}: a multiple of 2 MiB from 64 MiB to 1 TiB is needed", text.get_ref())))
}

#[cfg(test)]
mod tests {
    use super::{Source, parse};
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
        assert_eq!((&vms[1].kernel, &vms[1].initrd), (&Source::Default, &Source::Default));
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
            ("[[vm]]\nname='a'\nbacking='tmpfs'\n", 3, "not there yet"),
            ("[[vm]]\nname='a'\nhuge='always'\n", 3, "not there yet"),
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
