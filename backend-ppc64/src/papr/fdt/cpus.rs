//! `/cpus`: what a kernel is told about its processors.

use super::{Table, TreeConfig};
use hv_core::flat::Writer;

/// A processor that runs guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processor {
    /// Power ISA 2.07: hashed tables only.
    Power8,
    /// Power ISA 3.0.
    Power9,
    /// Power ISA 3.1.
    Power10,
}

/// Bytes of a cache line.
const LINE: u32 = 128;
/// Bytes of a first-level cache.
const LEVEL1: u32 = 32 << 10;

/// Page sizes of radix translation: the encoding that invalidations use in the top three bits, log2 of the size below.
const RADIX_PAGES: [u32; 4] = [12, 5 << 29 | 16, 1 << 29 | 21, 2 << 29 | 30];

/// Page sizes of hashed translation: segments of 4 KiB pages, encoded as 0, have one size of page, of 4 KiB, encoded as 0.
const HASHED_PAGES: [u32; 5] = [12, 0, 1, 12, 0];
/// Sizes of segments as powers of two: 256 MiB and 1 TiB, and two that are not there.
const SEGMENTS: [u32; 4] = [28, 40, u32::MAX, u32::MAX];
/// Entries of the segment buffer.
const SEGMENT_BUFFER: u32 = 32;

/// The attribute that says radix translation.
const RADIX_ATTRIBUTE: usize = 40;
/// Bytes of the processor attributes that follow.
const ATTRIBUTES: usize = 66;
/// Those that a kernel of POWER8 knows: what comes behind is of ISA 3.0.
const ATTRIBUTES_207: usize = 24;

/// Processor attributes that guests get (PAPR, "ibm,pa-features"): byte, bits of it, bit 0 being the highest. What is not
/// here is not there: transactional memory (byte 22), a decrementer of more than 32 bits (byte 24), a second data
/// watchpoint (byte 64).
const PA_FEATURES: [(usize, u8); 25] = [
    (0, 0xf6),  // MMU, floating point, SLB, RUN latch, data breakpoint, no-execute
    (1, 0x1f),  // rounding instructions, extended breakpoint, SPRG3, and what else Power ISA 2.05 has
    (2, 0xc7),  // partition memory, Power ISA 2.05 and 2.06, program priority register
    (3, 0xc0),  // large segments, user-readable time base registers
    (4, 0x80),  // strong storage order
    (5, 0xf0),  // little-endian, come-from address, quadword loads and stores
    (6, 0x80),  // Power ISA 2.07
    (16, 0x80), // vectors
    (18, 0x80), // vector-scalar instructions
    (20, 0x80), // vector exclusive-or
    (26, 0x80), // 64-bit operation
    (28, 0x80), // performance monitor
    (30, 0x80), // moves between vector and general registers
    (32, 0x80), // little-endian atomics
    (34, 0xc0), // event-based branches
    (36, 0x80), // the summary overflow bit of special registers
    (38, 0x80), // copy and paste
    (RADIX_ATTRIBUTE, 0x80),
    (42, 0x80), // performance monitor of Power ISA 3.0
    (44, 0x80), // PC-relative addresses (addpcis)
    (46, 0x80), // vectored system calls
    (48, 0x80), // vector instructions of Power ISA 3.0
    (50, 0x80), // quadruple-precision floating point
    (52, 0x80), // string operations
    (62, 0x80), // random numbers (darn)
];

impl Processor {
    /// The processor that the version register names.
    #[must_use]
    pub const fn from_pvr(pvr: u32) -> Option<Self> {
        match pvr >> 16 {
            0x004b..=0x004d => Some(Self::Power8),
            0x004e => Some(Self::Power9),
            0x0080 => Some(Self::Power10),
            _ => None,
        }
    }

    const fn node_name(self) -> &'static str {
        match self {
            Self::Power8 => "PowerPC,POWER8",
            Self::Power9 => "PowerPC,POWER9",
            Self::Power10 => "PowerPC,POWER10",
        }
    }

    /// The version of the architecture, in the form of a processor version. Kernels take their tables by it instead of
    /// the errata of one revision.
    const fn logical_pvr(self) -> u32 {
        match self {
            Self::Power8 => 0x0f00_0004,
            Self::Power9 => 0x0f00_0005,
            Self::Power10 => 0x0f00_0006,
        }
    }
}

/// `/cpus`, one node for each vCPU: cores of one thread, numbered from 0.
pub fn cpus(root: &mut Writer, c: &TreeConfig<'_>, processor: Processor) {
    root.node(&"cpus", |cpus| {
        cpus.cell("#address-cells", 1);
        cpus.cell("#size-cells", 0);
        (0..u32::from(c.vcpus)).for_each(|number| cpu(cpus, c, processor, number));
    });
}

fn cpu(cpus: &mut Writer, c: &TreeConfig<'_>, processor: Processor, number: u32) {
    cpus.node(&format_args!("{}@{number:x}", processor.node_name()), |node| {
        node.text("device_type", "cpu");
        node.text("status", "okay");
        node.bytes("64-bit", &[]);
        let cells = [
            ("reg", number),
            ("ibm,ppc-interrupt-server#s", number),
            ("cpu-version", processor.logical_pvr()),
            ("timebase-frequency", c.timebase_hz),
            // Unknown, and used for display only.
            ("clock-frequency", 1_000_000_000),
            ("d-cache-size", LEVEL1),
            ("d-cache-line-size", LINE),
            ("d-cache-block-size", LINE),
            ("i-cache-size", LEVEL1),
            ("i-cache-line-size", LINE),
            ("i-cache-block-size", LINE),
            // 1 is vectors, 2 is vector-scalar instructions as well.
            ("ibm,vmx", 2),
            ("ibm,dfp", 1),
            ("ibm,purr", 1),
            ("ibm,spurr", 1),
        ];
        cells.iter().for_each(|(name, value)| node.cell(name, *value));
        let attributes = if processor == Processor::Power8 { ATTRIBUTES_207 } else { ATTRIBUTES };
        node.bytes("ibm,pa-features", &pa_features(c.table, attributes)[..2 + attributes]);
        match c.table {
            Table::Radix => node.cells("ibm,processor-radix-AP-encodings", &RADIX_PAGES),
            Table::Hashed { log2 } => {
                node.cells("ibm,pft-size", &[0, log2]);
                node.cells("ibm,segment-page-sizes", &HASHED_PAGES);
                node.cells("ibm,processor-segment-sizes", &SEGMENTS);
                node.cell("ibm,slb-size", SEGMENT_BUFFER);
            }
        }
    });
}

/// One attribute descriptor: its length, its kind (0), the attributes. No more than `attributes` of them count.
fn pa_features(table: Table, attributes: usize) -> [u8; 2 + ATTRIBUTES] {
    let mut bytes = [0; 2 + ATTRIBUTES];
    bytes[0] = attributes as u8;
    for (byte, bits) in PA_FEATURES {
        if byte == RADIX_ATTRIBUTE && table != Table::Radix {
            continue;
        }
        bytes[2 + byte] = bits;
    }
    bytes
}
