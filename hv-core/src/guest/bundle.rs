//! Reads the bundle: the archive of configuration and guest images that the firmware loaded beside Trivet's image.
//!
//! The form is stated in [`crate::guest::manifest`]. The bytes come from outside and may be cut short, damaged or made
//! with intent: whatever they are, the answer is a [`Bundle`] that keeps what it promises, or one [`BundleError`] to
//! show to the operator (R26). After [`Bundle::open`] every image that the configuration names is there and whole.

use alloc::vec::Vec;
use core::fmt;

use crate::guest::manifest::{CONFIG_MEMBER, Config, ManifestError, SUM_MEMBER, Sum, Sums, VmConfig};

mod archive;

use archive::{Archive, Member, Wrong};

/// An opened bundle. Borrows the bytes; images are read in place.
#[derive(Debug)]
pub struct Bundle<'a> {
    archive: Archive<'a>,
    config: Config,
}

/// Why a bundle is refused. The texts are for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// The firmware handed over nothing.
    Missing,
    /// Not a tar archive, or cut short, after this many members.
    Archive(usize),
    /// Something else than a regular file is in the archive, after this many members.
    NotAFile(usize),
    /// The member at this place must have this name.
    Order(usize, &'static str),
    /// Configuration or sums are not what they should be.
    Manifest(ManifestError),
    /// A member differs from what `trivet.sum` says about it; its number, beginning with 0, among the summed members.
    Sum(usize),
    /// `trivet.sum` lists another number of members than there are.
    Count {
        /// Members in the archive, without the sums.
        found: usize,
        /// Members in the list.
        listed: usize,
    },
    /// The VM with this number, beginning with 0, needs an image that the archive does not hold.
    NoImage(usize, What),
}

/// An image of a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
        })
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("no bundle: the firmware handed over no initial RAM disk"),
            Self::Archive(at) => write!(f, "the bundle is cut short or damaged: no tar archive after member {at}"),
            Self::NotAFile(at) => write!(f, "the bundle holds something other than files after member {at}"),
            Self::Order(at, name) => write!(f, "not a Trivet bundle: member {at} is not {name}"),
            Self::Manifest(why) => why.fmt(f),
            Self::Sum(at) => write!(f, "the bundle is damaged: member {at} is not what {SUM_MEMBER} says"),
            Self::Count { found, listed } => {
                write!(f, "the bundle is cut short or damaged: {found} members, but {SUM_MEMBER} lists {listed}")
            }
            Self::NoImage(vm, what) => write!(f, "the bundle lacks the {what} of VM {vm}"),
        }
    }
}

impl core::error::Error for BundleError {}

impl From<ManifestError> for BundleError {
    fn from(why: ManifestError) -> Self {
        Self::Manifest(why)
    }
}

impl<'a> Bundle<'a> {
    /// Opens and checks a bundle. Reads all of it once, for the sums.
    pub fn open(bytes: &'a [u8]) -> Result<Self, BundleError> {
        if bytes.is_empty() {
            return Err(BundleError::Missing);
        }
        let archive = Archive::open(bytes).map_err(|wrong| match wrong {
            Wrong::Damaged(at) => BundleError::Archive(at),
            Wrong::NotAFile(at) => BundleError::NotAFile(at),
        })?;
        let mut members = archive.members();
        let config = Config::decode(expect(members.next(), 0, CONFIG_MEMBER)?)?;
        let sums = Sums::decode(expect(members.next(), 1, SUM_MEMBER)?)?;
        check_sums(archive, &sums)?;
        config.validate()?;
        let bundle = Self { archive, config };
        for (number, vm) in bundle.config.vms.iter().enumerate() {
            bundle.kernel(vm).ok_or(BundleError::NoImage(number, What::Kernel))?;
            if vm.initrd.is_some() {
                bundle.initrd(vm).ok_or(BundleError::NoImage(number, What::Initrd))?;
            }
        }
        Ok(bundle)
    }

    /// The configuration, validated.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Hands the VMs over; the configuration has none from then on.
    pub fn take_vms(&mut self) -> Vec<VmConfig> {
        core::mem::take(&mut self.config.vms)
    }

    /// The kernel of one of this bundle's VMs; `None` only for a foreign [`VmConfig`].
    #[must_use]
    pub fn kernel(&self, vm: &VmConfig) -> Option<&'a [u8]> {
        self.member(&vm.kernel)
    }

    /// The initial RAM disk of one of this bundle's VMs, if it has one.
    #[must_use]
    pub fn initrd(&self, vm: &VmConfig) -> Option<&'a [u8]> {
        self.member(vm.initrd.as_deref()?)
    }

    fn member(&self, name: &str) -> Option<&'a [u8]> {
        self.archive.members().find(|member| member.name == name.as_bytes()).map(|member| member.data)
    }
}

/// The data of a member that must have this name.
fn expect<'a>(member: Option<Member<'a>>, at: usize, name: &'static str) -> Result<&'a [u8], BundleError> {
    let named = member.filter(|member| member.name == name.as_bytes());
    named.map(|member| member.data).ok_or(BundleError::Order(at, name))
}

/// Compares every member but the second, which is the list itself, with the list.
fn check_sums(archive: Archive<'_>, sums: &Sums) -> Result<(), BundleError> {
    let summed = || archive.members().enumerate().filter(|(at, _)| *at != 1).map(|(_, member)| member);
    let found = summed().count();
    if found != sums.members.len() {
        return Err(BundleError::Count { found, listed: sums.members.len() });
    }
    for (at, (member, sum)) in summed().zip(&sums.members).enumerate() {
        // A name that is no UTF-8 is an error like any other.
        let name = core::str::from_utf8(member.name);
        if name.map(|name| Sum::of(name, member.data)).as_ref() != Ok(sum) {
            return Err(BundleError::Sum(at));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
