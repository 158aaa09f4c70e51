//! `boards/<name>/board.toml`: what cannot be asked of the machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::error::{refuse, suggestion};
use crate::units::Size;
use crate::workspace;

/// One board.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Board {
    /// Its folder's and its package's name.
    pub name: String,
    /// One line for lists.
    pub about: String,
    /// The machine that runs unless one is named.
    pub default_machine: String,
    /// Physical CPUs unless told otherwise.
    pub cpus: u16,
    /// Most physical CPUs.
    pub max_cpus: u16,
    /// Machine memory unless told otherwise.
    pub memory: Size,
    /// Machine memory is a multiple of this, and at least this.
    pub memory_step: Size,
    /// Seconds until a guest's shell must be there, unless told otherwise.
    pub timeout: u64,
    /// How the image is built.
    pub image: Image,
    /// What runs the image.
    pub emulator: Emulator,
    /// The machines that the emulator can be.
    #[serde(rename = "machine")]
    pub machines: Vec<Machine>,
    /// The default guest.
    pub guest: Guest,
}

/// How the image is built.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Image {
    /// rustc's name of the target.
    pub target: String,
    /// What is booted.
    #[serde(default)]
    pub form: Form,
    /// Flags for rustc.
    pub rustflags: Vec<String>,
    /// Flags for the linker; scripts are relative to the tree's root.
    pub link_args: Vec<String>,
    /// Most bytes of text and read-only data in a release image.
    pub limit: Size,
}

/// What a loader is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// The ELF program.
    #[default]
    Elf,
    /// What the program has in memory, from its first loaded byte to its last.
    Flat,
}

impl Form {
    /// The file that is booted, for the image whose ELF program is `elf`.
    pub fn file(self, elf: &Path) -> PathBuf {
        match self {
            Self::Elf => elf.to_owned(),
            Self::Flat => elf.with_extension("img"),
        }
    }
}

/// What runs the image.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Emulator {
    /// Its program.
    pub program: String,
    /// Debian's package of it.
    pub package: String,
    /// Arguments of every run but benchmarks.
    pub args: Vec<String>,
    /// Arguments with which virtual time counts instructions; without them nothing can be measured.
    pub bench_args: Option<Vec<String>>,
    /// The oldest version of it that can count this board's instructions, if not all can.
    pub bench_since: Option<u32>,
    /// The machines have memory in such steps, if in larger ones than the board's. One that has more than a run asks for is told
    /// how much of it to use.
    pub machine_step: Option<Size>,
    /// Machine memory of benchmarks.
    pub bench_memory: Size,
    /// Machine memory of the conformance table.
    pub conformance_memory: Size,
    /// Who tells how a run went.
    #[serde(default)]
    pub verdict: Verdict,
}

impl Emulator {
    /// Arguments with which the installed one counts instructions, of whichever version it is.
    pub fn counting(&self) -> Option<&[String]> {
        self.bench_args.as_deref().filter(|_| self.bench_since.is_none())
    }
}

/// Who tells how a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The emulator's exit status: this one if all went well.
    Status(i32),
    /// Trivet, on the last line of the console (`hv_core::link::ENDS_MARK`); the status says nothing.
    Console,
}

impl Default for Verdict {
    fn default() -> Self {
        Self::Status(0)
    }
}

/// One machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// What makes the board's emulator be it.
    #[serde(default)]
    pub args: Vec<String>,
    /// What firmware hands to Trivet as its command line.
    pub append: Option<String>,
    /// What every guest's command line has on it, after the board's.
    pub guest_cmdline: Option<String>,
    /// What makes the emulator be the same machine as a guest has it: without a hypervisor's part. Not every board has
    /// such a one.
    pub direct: Option<Vec<String>>,
    /// Its column of the conformance table, if it has one.
    pub column: Option<String>,
    /// Bochs runs it in the place of the board's emulator, with this one of its models of a processor.
    pub bochs: Option<String>,
    /// Most physical CPUs, if fewer than the board's.
    pub max_cpus: Option<u16>,
    /// True if Trivet runs no guests on the first of several CPUs there: with guests, the machine has one more than a run
    /// asks for.
    #[serde(default)]
    pub house_cpu: bool,
    /// Most machine memory.
    pub max_memory: Option<Size>,
    /// Seconds until a guest's shell must be there, if not the board's.
    pub timeout: Option<u64>,
}

/// The default guest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Guest {
    /// Debian's name of its architecture.
    pub architecture: String,
    /// The kernel's own, as `uname -m` prints it.
    pub uname: String,
    /// The package that depends on the newest kernel.
    pub kernel_package: String,
    /// The package of a busybox that needs no library.
    pub busybox_package: String,
    /// The form of that kernel. An ELF program is taken in its place on every board.
    pub kernel_form: KernelForm,
    /// Modules of that kernel that the RAM disk has, by their files' names without `.ko`.
    #[serde(default)]
    pub modules: Vec<String>,
    /// The machine number in an ELF program's header.
    pub elf_machine: u16,
    /// What every kernel command line on this board begins with.
    pub cmdline: String,
}

/// The form of a distribution's kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelForm {
    /// An ELF program, `vmlinux`.
    Elf,
    /// An arm64 `Image` (Linux: Documentation/arch/arm64/booting.rst), which its package calls `vmlinuz`.
    Arm64Image,
    /// A compressed x86 kernel, which its package calls `vmlinuz`. It is unpacked here, once, to the ELF program in it: no guest
    /// does that again in an emulator.
    BzImage,
}

impl KernelForm {
    /// What the file's name begins with in the kernel's package.
    pub fn file_prefix(self) -> &'static str {
        match self {
            Self::Elf => "vmlinux-",
            Self::Arm64Image | Self::BzImage => "vmlinuz-",
        }
    }
}

impl Board {
    /// All boards, in the order of their names.
    pub fn all() -> Result<Vec<Self>> {
        let dir = workspace::root().join("boards");
        let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut files: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path().join("board.toml"))).collect();
        files.retain(|file| file.is_file());
        files.sort();
        files.iter().map(Self::load).collect()
    }

    /// The board of this name.
    pub fn named(name: &str) -> Result<Self> {
        let mut boards = Self::all()?;
        if let Some(at) = boards.iter().position(|board| board.name == name) {
            return Ok(boards.swap_remove(at));
        }
        let names: Vec<&str> = boards.iter().map(|board| board.name.as_str()).collect();
        let hint = suggestion(name, names.iter().copied());
        Err(refuse(format!("unknown board {name:?}{hint} (boards: {})", names.join(", "))))
    }

    fn load(file: &PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is wrong", file.display()))
    }

    /// The machine of this name, the default one for `None`.
    pub fn machine(&self, name: Option<&str>) -> Result<&Machine> {
        let name = name.unwrap_or(&self.default_machine);
        let names: Vec<&str> = self.machines.iter().map(|machine| machine.name.as_str()).collect();
        self.machines.iter().find(|machine| machine.name == name).ok_or_else(|| {
            let hint = suggestion(name, names.iter().copied());
            refuse(format!("board {} has no machine {name:?}{hint} (machines: {})", self.name, names.join(", ")))
        })
    }

    /// Most physical CPUs of one of its machines.
    pub fn max_cpus(&self, machine: &Machine) -> u16 {
        machine.max_cpus.map_or(self.max_cpus, |most| most.min(self.max_cpus))
    }

    /// Physical CPUs of one of its machines unless told otherwise.
    pub fn cpus(&self, machine: &Machine) -> u16 {
        self.cpus.min(self.max_cpus(machine))
    }

    /// Machine memory of the conformance table on one of its machines.
    pub fn conformance_memory(&self, machine: &Machine) -> Size {
        let memory = self.emulator.conformance_memory;
        machine.max_memory.map_or(memory, |most| most.min(memory))
    }

    /// How long a guest's shell may take on one of its machines, unless told otherwise.
    pub fn timeout(&self, machine: &Machine) -> Duration {
        Duration::from_secs(machine.timeout.unwrap_or(self.timeout))
    }

    /// Its machines that have a column of the conformance table.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Machine)> {
        self.machines.iter().filter_map(|machine| Some((machine.column.as_deref()?, machine)))
    }
}

#[cfg(test)]
mod tests {
    use super::Board;

    #[test]
    fn every_board_file_reads_and_names_its_default_machine() {
        let boards = Board::all().unwrap();
        assert!(!boards.is_empty());
        for board in boards {
            assert!(board.machine(None).is_ok(), "{}", board.name);
            assert!(board.cpus >= 1 && board.cpus <= board.max_cpus);
            assert!(board.columns().count() > 0, "{} has no column of the conformance table", board.name);
        }
    }

    #[test]
    fn a_wrong_name_gets_a_suggestion() {
        let error = Board::named("psereis").unwrap_err().to_string();
        assert!(error.contains("did you mean \"pseries\"?"), "{error}");
        let error = Board::named("pseries").unwrap().machine(Some("p9-voff")).unwrap_err().to_string();
        assert!(error.contains("did you mean \"p9-vof\"?"), "{error}");
    }
}
