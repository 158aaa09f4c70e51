//! The device tree that a guest is entered with.
//!
//! On real machines the kernel's first stage asks Open Firmware for a tree and negotiates ("client architecture
//! support"); then it enters itself again with the result in r3. Guests here are entered at that second point, so the
//! tree already says what the negotiation would have: radix translation only, the guest invalidates its own
//! translations, the XICS interrupt controller. The tree is made once, when the VM starts; everything in it comes from
//! the VM's configuration and from the machine, nothing from the guest.

mod cpus;
mod devices;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use hv_core::addr::{Gpa, PAGE_SIZE};

use hv_core::flat::{Writer, tree};

pub use cpus::{Processor, segment_page_sizes};

/// Bytes of guest memory that belong to run-time firmware: one page of the guest's, whichever size it uses.
pub const RTAS_REGION: u64 = 0x1_0000;
/// Where [`RTAS_REGION`] must end: firmware's addresses are 32-bit, and kernels keep their own buffers for it below.
pub const RTAS_CEILING: u64 = 0x4000_0000;

/// Whether the guest may ask for random numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Random {
    /// The machine has a source.
    Offered,
    /// It has none.
    Absent,
}

/// The kind of table by which a guest translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// A tree that it has in its own memory.
    Radix,
    /// A hashed one, which it fills by hypervisor calls.
    Hashed {
        /// log2 of its size in bytes.
        log2: u32,
        /// The sizes of pages that it may put: [`segment_page_sizes`] of its memory's granule.
        pages: &'static [u32],
    },
}

/// What a guest's tree is made from.
#[derive(Clone, Debug)]
pub struct TreeConfig<'a> {
    /// The VM's name, as the guest may show it.
    pub name: &'a str,
    /// The processor's version register as the guest will read it.
    pub pvr: u32,
    /// Number of vCPUs.
    pub vcpus: u16,
    /// Bytes of memory, from 0.
    pub memory: u64,
    /// Where memory that is shared with other VMs lies, behind the VM's own.
    pub shared: Option<Range<Gpa>>,
    /// Ticks of the time base in a second.
    pub timebase_hz: u32,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// Where the initial RAM disk lies.
    pub initrd: Option<Range<Gpa>>,
    /// Where the loader puts [`super::rtas_blob`]: a region of [`RTAS_REGION`] bytes, below [`RTAS_CEILING`].
    pub rtas: Gpa,
    /// How it translates.
    pub table: Table,
    /// Random numbers by hypervisor call.
    pub random: Random,
    /// For the guest's random number generator, if the machine can give any. Not the same for two guests.
    pub seed: Option<[u8; 32]>,
}

/// Why there is no tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeError {
    /// No guest runs on a processor of this version, or none with a radix tree.
    UnknownProcessor(u32),
    /// A VM has at least one vCPU.
    NoProcessors,
    /// Memory is no positive multiple of a page.
    Memory(u64),
    /// Run-time firmware would not lie inside memory, below the ceiling, on a page of its own.
    Rtas(Gpa),
    /// The initial RAM disk would not lie inside memory.
    Initrd(Gpa),
    /// Shared memory would lie in the VM's own, or is empty.
    Shared(Gpa),
    /// A zero byte in the command line or in the name.
    ZeroByte,
    /// There is no heap for it.
    NoHeap,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProcessor(pvr) => write!(f, "processor {pvr:#010x} is none for this guest"),
            Self::NoProcessors => write!(f, "a VM needs at least one vCPU"),
            Self::Memory(bytes) => write!(f, "{bytes:#x} bytes of memory is not a number of pages"),
            Self::Rtas(at) => write!(f, "no room for run-time firmware at {:#x}", at.0),
            Self::Initrd(at) => write!(f, "the initial RAM disk at {:#x} lies outside memory", at.0),
            Self::Shared(at) => write!(f, "shared memory at {:#x} does not lie behind the VM's own", at.0),
            Self::ZeroByte => write!(f, "a zero byte in the command line or in the name"),
            Self::NoHeap => write!(f, "no heap for a tree of so many vCPUs"),
        }
    }
}

impl core::error::Error for TreeError {}

/// Makes the flattened tree. It is to lie at a multiple of 8; its boot processor is vCPU 0.
///
/// # Errors
/// [`TreeError`] if the configuration contradicts itself.
pub fn build(c: &TreeConfig<'_>) -> Result<Vec<u8>, TreeError> {
    let processor = check(c)?;
    let written = tree(&[(c.rtas.0, RTAS_REGION)], |root| {
        root.text("device_type", "chrp");
        root.text("model", "Trivet PAPR guest");
        root.text("compatible", "trivet,pseries");
        root.text("ibm,partition-name", c.name);
        root.cell("#address-cells", 2);
        root.cell("#size-cells", 2);
        chosen(root, c);
        cpus::cpus(root, c, processor);
        memory(root, c);
        if let Some(at) = &c.shared {
            shared(root, at);
        }
        devices::rtas(root, c);
        devices::interrupt_controller(root, c);
        devices::vdevice(root);
        if c.random == Random::Offered {
            devices::platform_facilities(root);
        }
    });
    written.map_err(|_| TreeError::NoHeap)
}

fn check(c: &TreeConfig<'_>) -> Result<Processor, TreeError> {
    if c.vcpus == 0 {
        return Err(TreeError::NoProcessors);
    }
    if c.memory == 0 || !c.memory.is_multiple_of(PAGE_SIZE as u64) {
        return Err(TreeError::Memory(c.memory));
    }
    let ceiling = c.memory.min(RTAS_CEILING);
    let rtas_end = c.rtas.checked_add(RTAS_REGION).filter(|end| end.0 <= ceiling);
    if rtas_end.is_none() || !c.rtas.0.is_multiple_of(RTAS_REGION) {
        return Err(TreeError::Rtas(c.rtas));
    }
    if let Some(initrd) = &c.initrd
        && (initrd.start >= initrd.end || initrd.end.0 > c.memory)
    {
        return Err(TreeError::Initrd(initrd.start));
    }
    if let Some(shared) = &c.shared
        && (shared.start >= shared.end || shared.start.0 < c.memory)
    {
        return Err(TreeError::Shared(shared.start));
    }
    if c.bootargs.contains('\0') || c.name.contains('\0') {
        return Err(TreeError::ZeroByte);
    }
    Processor::from_pvr(c.pvr)
        .filter(|processor| *processor != Processor::Power8 || c.table != Table::Radix)
        .ok_or(TreeError::UnknownProcessor(c.pvr))
}

/// What PAPR calls option vector 5: the outcome of the negotiation. The first byte is the length less one; after it,
/// byte n of the vector is at index n.
fn vector5(table: Table) -> [u8; 27] {
    let mut vector = [0; 27];
    vector[0] = 25;
    vector[2] = 0xc0; // logical partition, shared processors
    vector[23] = 0x00; // XICS interrupts
    if table == Table::Radix {
        vector[24] = 0x40; // radix translation only
        vector[26] = 0x40; // the guest invalidates its own translations
    }
    vector
}

fn chosen(root: &mut Writer, c: &TreeConfig<'_>) {
    root.node(&"chosen", |node| {
        node.text("bootargs", c.bootargs);
        if let Some(initrd) = &c.initrd {
            node.wide("linux,initrd-start", &[initrd.start.0]);
            node.wide("linux,initrd-end", &[initrd.end.0]);
        }
        node.text("stdout-path", devices::VTY_PATH);
        node.text("linux,stdout-path", devices::VTY_PATH);
        node.bytes("ibm,architecture-vec-5", &vector5(c.table));
        if let Some(seed) = &c.seed {
            node.bytes("rng-seed", seed);
        }
    });
}

fn memory(root: &mut Writer, c: &TreeConfig<'_>) {
    root.node(&"memory@0", |node| {
        node.text("device_type", "memory");
        node.wide("reg", &[0, c.memory]);
    });
}

/// Memory that is no RAM of the guest's: it finds it here, and maps it as a device's.
fn shared(root: &mut Writer, at: &Range<Gpa>) {
    root.node(&format_args!("shared-memory@{:x}", at.start.0), |node| {
        node.text("compatible", "trivet,shared-memory");
        node.wide("reg", &[at.start.0, at.end.0.saturating_sub(at.start.0)]);
    });
}
