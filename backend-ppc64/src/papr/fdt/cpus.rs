//! `/cpus`: what a kernel is told about its processors.

use super::{Table, TreeConfig};
use hv_core::addr::Order;
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

/// Page sizes of hashed translation, where entries may be of 4 KiB. For each size of a segment's pages: log2 of it, the
/// encoding in a segment's descriptor (L and LP), how many sizes of entries translate such a segment; for each of those its
/// log2, and the encoding in an entry (the low bits of the real page number).
const UP_TO_4K: &[u32] = &[12, 0, 1, 12, 0];
/// The same, of up to 64 KiB.
const UP_TO_64K: &[u32] = &[12, 0, 2, 12, 0, 16, 7, 16, 0x110, 1, 16, 1];
/// The same, of up to 16 MiB.
const UP_TO_16M: &[u32] = &[12, 0, 3, 12, 0, 16, 7, 24, 0x38, 16, 0x110, 2, 16, 1, 24, 8, 24, 0x100, 1, 24, 0];
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
            Table::Hashed { log2, pages } => {
                node.cells("ibm,pft-size", &[0, log2]);
                node.cells("ibm,segment-page-sizes", pages);
                node.cells("ibm,processor-segment-sizes", &SEGMENTS);
                node.cell("ibm,slb-size", SEGMENT_BUFFER);
            }
        }
    });
}

/// What a guest is told of page sizes up to this one ("ibm,segment-page-sizes").
#[must_use]
pub fn segment_page_sizes(granule: Order) -> &'static [u32] {
    if granule >= Order::MIB16 {
        UP_TO_16M
    } else if granule >= Order::KIB64 {
        UP_TO_64K
    } else {
        UP_TO_4K
    }
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

#[cfg(test)]
mod tests {
    use super::segment_page_sizes;
    use crate::hash::words::{LARGE, ORDERS, PageSize};

    /// Reads the property as a guest does, and each size that it tells of as H_ENTER would.
    #[test]
    fn r11_a_guest_is_told_of_what_its_calls_may_ask_for_and_of_no_more() {
        let order = |log2: u32| ORDERS.into_iter().find(|order| order.bytes() == 1 << log2).unwrap();
        let mut counts = Vec::new();
        for granule in ORDERS {
            let mut cells = segment_page_sizes(granule).iter().copied();
            let mut told = 0;
            while let Some(base) = cells.next() {
                let (descriptor, count) = (cells.next().unwrap(), cells.next().unwrap());
                assert_eq!(descriptor, [0, 0x110, 0x100][ORDERS.iter().position(|o| *o == order(base)).unwrap()]);
                for _ in 0..count {
                    let (size, encoding) = (cells.next().unwrap(), cells.next().unwrap());
                    let large = if size == 12 { 0 } else { LARGE };
                    let found = PageSize::of(large, u64::from(encoding) << 12).unwrap();
                    assert_eq!((found.base, found.actual), (order(base), order(size)));
                    assert!(found.actual <= granule);
                    told += 1;
                }
            }
            counts.push(told);
        }
        assert_eq!(counts, [1, 3, 6], "a size was forgotten");
    }
}
