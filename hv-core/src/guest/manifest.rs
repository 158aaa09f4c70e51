//! What xtask packs and Trivet boots: the configuration of the guests, and the form of the bundle around it.
//!
//! The bundle is a tar archive (ustar, regular files only) that the firmware loads beside Trivet's image:
//!
//! 1. `trivet.config`: [`MAGIC`], then [`Config`] in postcard;
//! 2. `trivet.sum`: [`Sums`] in postcard: name, length and XXH64 (seed 0) of every other member, in archive order;
//! 3. the images that the configuration names, each once.
//!
//! Both sides call [`Config::validate`]: xtask so that nothing wrong is booted, Trivet because a bundle need not come
//! from xtask. A sum guards against damage, not against malice: every later reader still checks what it reads (R26).

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::addr::{Gfn, GfnRange, Order, PAGE_SHIFT};
use crate::link::{LinkMode, Stream};

/// Name of the first member.
pub const CONFIG_MEMBER: &str = "trivet.config";
/// Name of the second member.
pub const SUM_MEMBER: &str = "trivet.sum";
/// What the first member begins with; the last byte is the format's version.
pub const MAGIC: [u8; 8] = *b"TRIVET\0\x04";

/// Most VMs in one bundle; the console protocol can name no more.
pub const MAX_VMS: usize = Stream::CONSOLES as usize;
/// Most vCPUs of one VM.
pub const MAX_VCPUS: u16 = 32;
/// Most bytes in a VM's name.
pub const MAX_NAME: usize = 31;
/// Most bytes in a member's name (the tar header's field, less its terminator).
pub const MAX_MEMBER: usize = 99;
/// Most bytes in a kernel command line.
pub const MAX_CMDLINE: usize = 1024;
/// Guest memory is a multiple of this many bytes.
pub const MEMORY_STEP: u64 = 2 << 20;
/// Least memory of a VM in bytes.
pub const MIN_MEMORY: u64 = 64 << 20;
/// Most memory of a VM in bytes.
pub const MAX_MEMORY: u64 = 1 << 40;

/// Everything Trivet is told at boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// What the console carries.
    pub link: LinkMode,
    /// The virtual machines, in the order of their numbers.
    pub vms: Vec<VmConfig>,
}

/// One virtual machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmConfig {
    /// Unique; 1 to [`MAX_NAME`] of `a-z`, `0-9`, `-`, the first a letter.
    pub name: String,
    /// Virtual CPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u16,
    /// Memory in bytes, a multiple of [`MEMORY_STEP`].
    pub memory: u64,
    /// What its memory is made of.
    pub backing: Backing,
    /// When its memory is mapped in 2 MiB pages.
    pub huge: Huge,
    /// In what runs its memory comes and goes.
    pub granule: Granule,
    /// A window onto memory that it shares with other VMs, beside its own.
    pub shared: Option<Shared>,
    /// Whether its pages may be put into the compressed store when the machine's memory runs short.
    pub swap: bool,
    /// What becomes of it if it uses most when nothing can be freed any more.
    pub out_of_memory: OutOfMemory,
    /// Whether its writes are logged from the first instruction on; the monitor can begin later.
    pub dirty_log: bool,
    /// Whether it may have guests of its own, where the instruction set has a way to that.
    pub nested: bool,
    /// Member that holds the kernel (ELF).
    pub kernel: String,
    /// Member that holds the initial RAM disk.
    pub initrd: Option<String>,
    /// The kernel's command line, complete.
    pub cmdline: String,
}

/// What a VM's memory is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// Anonymous memory of its own.
    Anon,
    /// A tmpfs object of its own, of the same size.
    Tmpfs,
    /// The tmpfs object of this name, which has the size of the memory: all of it is shared with every VM that names it.
    Named(String),
}

/// When memory is mapped in 2 MiB pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Huge {
    /// Wherever possible, from the first touch.
    Always,
    /// Only in ranges for which it was advised: those of the images that are loaded.
    Advise,
    /// Nowhere.
    Never,
}

/// The least size in which a VM's memory comes and goes: what a guest that chooses the size of its translations may choose.
/// Memory of more than [`Granule::Page`] is anonymous, a multiple of it, and all that the VM has; not every machine has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Granule {
    /// 4 KiB.
    #[default]
    Page,
    /// 64 KiB.
    Kib64,
    /// 16 MiB.
    Mib16,
}

impl Granule {
    /// As a size.
    #[must_use]
    pub const fn order(self) -> Order {
        match self {
            Self::Page => Order::PAGE,
            Self::Kib64 => Order::KIB64,
            Self::Mib16 => Order::MIB16,
        }
    }
}

/// What becomes of a VM that ran out of the machine's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutOfMemory {
    /// It stays ended; the operator may start it again.
    #[default]
    Stop,
    /// It is started anew.
    Restart,
}

/// A window onto a tmpfs object. In the guest it lies behind the memory, see [`VmConfig::shared_window`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The object's name, formed like a VM's.
    pub object: String,
    /// Its size in bytes, a multiple of [`MEMORY_STEP`]; the same for every VM that names it.
    pub size: u64,
}

/// The second member: what the others must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sums {
    /// One entry for every member but `trivet.sum` itself, in archive order.
    pub members: Vec<Sum>,
}

/// One member's sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// The member's name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// XXH64 of its bytes with seed 0.
    pub xxh64: u64,
}

impl Sum {
    /// The sum of a member.
    #[must_use]
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self { name: String::from(name), len, xxh64: xxhash_rust::xxh64::xxh64(bytes, 0) }
    }
}

impl Sums {
    /// The member's bytes.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        postcard::to_allocvec(self).map_err(|_| ManifestError::Malformed(SUM_MEMBER))
    }

    /// Reads the member's bytes, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        whole(bytes, SUM_MEMBER)
    }
}

impl Config {
    /// The member's bytes. Does not validate.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        let body = postcard::to_allocvec(self).map_err(|_| ManifestError::Malformed(CONFIG_MEMBER))?;
        let mut bytes = Vec::from(MAGIC);
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads the member's bytes, all of them. Does not validate.
    pub fn decode(bytes: &[u8]) -> Result<Self, ManifestError> {
        let (magic, body) = bytes.split_at_checked(MAGIC.len()).ok_or(ManifestError::NotTrivet)?;
        let ([name @ .., version], [want @ .., ours]) = (magic, MAGIC.as_slice()) else {
            return Err(ManifestError::NotTrivet);
        };
        if name != want {
            return Err(ManifestError::NotTrivet);
        }
        if version != ours {
            return Err(ManifestError::Version { found: *version, want: *ours });
        }
        whole(body, CONFIG_MEMBER)
    }

    /// Checks everything that can be checked without the images.
    pub fn validate(&self) -> Result<(), ManifestError> {
        if self.vms.is_empty() {
            return Err(ManifestError::NoVms);
        }
        if self.vms.len() > MAX_VMS {
            return Err(ManifestError::TooManyVms(self.vms.len()));
        }
        for (i, vm) in self.vms.iter().enumerate() {
            vm.validate()?;
            if self.vms.iter().take(i).any(|other| other.name == vm.name) {
                return Err(ManifestError::DuplicateName(vm.name.clone()));
            }
        }
        let mut objects: Vec<(&str, u64)> = Vec::new();
        for (name, size) in self.vms.iter().flat_map(VmConfig::objects) {
            match objects.iter().find(|(known, _)| *known == name) {
                Some((_, known)) if *known != size => return Err(ManifestError::ObjectSizes(String::from(name))),
                Some(_) => {}
                None => objects.push((name, size)),
            }
        }
        Ok(())
    }
}

impl VmConfig {
    /// Checks one VM by itself.
    pub fn validate(&self) -> Result<(), ManifestError> {
        let name = || self.name.clone();
        if !is_name(&self.name) {
            return Err(ManifestError::Name(name()));
        }
        if self.vcpus == 0 || self.vcpus > MAX_VCPUS {
            return Err(ManifestError::Vcpus(name(), self.vcpus));
        }
        if !(MIN_MEMORY..=MAX_MEMORY).contains(&self.memory) || !self.memory.is_multiple_of(MEMORY_STEP) {
            return Err(ManifestError::Memory(name(), self.memory));
        }
        if self.granule != Granule::Page
            && (self.backing != Backing::Anon
                || self.shared.is_some()
                || !self.memory.is_multiple_of(self.granule.order().bytes()))
        {
            return Err(ManifestError::Granule(name()));
        }
        if self.cmdline.len() > MAX_CMDLINE || self.cmdline.chars().any(char::is_control) {
            return Err(ManifestError::Cmdline(name()));
        }
        if let Some((object, _)) = self.objects().find(|(object, _)| !is_name(object)) {
            return Err(ManifestError::Object(name(), String::from(object)));
        }
        if let Some(Shared { size, .. }) = self.shared
            && (size == 0 || size > MAX_MEMORY || !size.is_multiple_of(MEMORY_STEP))
        {
            return Err(ManifestError::SharedSize(name(), size));
        }
        let mut members = core::iter::once(&self.kernel).chain(&self.initrd);
        match members.find(|member| !is_member(member)) {
            Some(member) => Err(ManifestError::Member(name(), member.clone())),
            None => Ok(()),
        }
    }
}

impl VmConfig {
    /// The tmpfs objects it names, with their sizes in bytes.
    pub fn objects(&self) -> impl Iterator<Item = (&str, u64)> {
        let backing = match &self.backing {
            Backing::Named(name) => Some((name.as_str(), self.memory)),
            Backing::Anon | Backing::Tmpfs => None,
        };
        let window = self.shared.as_ref().map(|shared| (shared.object.as_str(), shared.size));
        backing.into_iter().chain(window)
    }

    /// Where the guest sees the shared window: from the first multiple of 1 GiB behind the memory, so that it can be mapped
    /// in the largest pages, but behind the platform's hole if it does not fit before.
    #[must_use]
    pub fn shared_window(&self, hole: Option<GfnRange>) -> Option<GfnRange> {
        let ram = self.memory >> PAGE_SHIFT;
        let pages = self.shared.as_ref()?.size >> PAGE_SHIFT;
        let behind = |end: u64| GfnRange::new(Gfn(end.checked_next_multiple_of(Order::GIB.pages())?), pages);
        match hole {
            Some(hole) if ram > hole.start().0 => behind(ram.saturating_add(hole.pages())),
            Some(hole) => behind(ram).filter(|at| at.intersect(&hole).is_none()).or_else(|| behind(hole.end().0)),
            None => behind(ram),
        }
    }
}

/// Whether `text` may name a VM or a tmpfs object.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether `text` may name an image in the archive.
fn is_member(text: &str) -> bool {
    (1..=MAX_MEMBER).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_graphic())
        && text != CONFIG_MEMBER
        && text != SUM_MEMBER
}

/// Decodes all of `bytes`: what is left over is damage too.
fn whole<'b, T: Deserialize<'b>>(bytes: &'b [u8], member: &'static str) -> Result<T, ManifestError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(ManifestError::Malformed(member)),
    }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// The first member does not begin with [`MAGIC`].
    NotTrivet,
    /// Another version of the format.
    Version {
        /// The bundle's.
        found: u8,
        /// This build's.
        want: u8,
    },
    /// The named member does not decode.
    Malformed(&'static str),
    /// No VM.
    NoVms,
    /// More than [`MAX_VMS`] VMs.
    TooManyVms(usize),
    /// Not a name.
    Name(String),
    /// Two VMs of one name.
    DuplicateName(String),
    /// Number of vCPUs out of bounds, with the VM's name.
    Vcpus(String, u16),
    /// Memory size out of bounds or not a multiple of [`MEMORY_STEP`], with the VM's name.
    Memory(String, u64),
    /// Memory that does not come in runs of the granule, with the VM's name.
    Granule(String),
    /// Command line too long or with control characters, with the VM's name.
    Cmdline(String),
    /// Not the name of an image, with the VM's name.
    Member(String, String),
    /// Not the name of a tmpfs object, with the VM's name.
    Object(String, String),
    /// Size of the shared window out of bounds or not a multiple of [`MEMORY_STEP`], with the VM's name.
    SharedSize(String, u64),
    /// Two VMs give the tmpfs object of this name different sizes.
    ObjectSizes(String),
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTrivet => write!(f, "not a Trivet bundle: {CONFIG_MEMBER} does not begin with the magic number"),
            Self::Version { found, want } => write!(f, "bundle format {found}, but this Trivet reads format {want}"),
            Self::Malformed(member) => write!(f, "{member} is damaged"),
            Self::NoVms => write!(f, "no VM: at least one is needed"),
            Self::TooManyVms(n) => write!(f, "{n} VMs, but at most {MAX_VMS} are possible"),
            Self::Name(name) => {
                write!(
                    f,
                    "VM name {}: 1 to {MAX_NAME} of a-z, 0-9 and - are allowed, beginning with a letter",
                    Quoted(name)
                )
            }
            Self::DuplicateName(name) => write!(f, "two VMs are named {}", Quoted(name)),
            Self::Vcpus(vm, n) => write!(f, "VM {}: {n} vCPUs, but 1 to {MAX_VCPUS} are possible", Quoted(vm)),
            Self::Memory(vm, bytes) => {
                write!(
                    f,
                    "VM {}: {bytes} bytes of memory, but a multiple of 2 MiB from 64 MiB to 1 TiB is needed",
                    Quoted(vm)
                )
            }
            Self::Granule(vm) => {
                write!(f, "VM {}: with a granule, memory is anonymous, a multiple of it, and not shared", Quoted(vm))
            }
            Self::Cmdline(vm) => {
                write!(
                    f,
                    "VM {}: the command line is longer than {MAX_CMDLINE} bytes or has control characters",
                    Quoted(vm)
                )
            }
            Self::Object(vm, object) => {
                write!(f, "VM {}: tmpfs object {}: a name is formed like a VM's", Quoted(vm), Quoted(object))
            }
            Self::SharedSize(vm, bytes) => {
                write!(
                    f,
                    "VM {}: {bytes} bytes of shared memory, but a multiple of 2 MiB up to 1 TiB is needed",
                    Quoted(vm)
                )
            }
            Self::ObjectSizes(object) => write!(f, "two VMs give the tmpfs object {} different sizes", Quoted(object)),
            Self::Member(vm, member) => {
                write!(f, "VM {}: {} cannot name an image in the bundle", Quoted(vm), Quoted(member))
            }
        }
    }
}

/// A name from a bundle, which may be anything: what a terminal would act on is escaped.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.as_bytes().escape_ascii())
    }
}

impl core::error::Error for ManifestError {}

#[cfg(test)]
mod tests;
