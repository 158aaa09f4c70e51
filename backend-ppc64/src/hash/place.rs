//! Where the entry for a virtual address may stand, and how it is known there (Power ISA v3.0B, Book III 5.7.9).
//!
//! ```text
//!   256 MiB segment   hash = VSID ^ page                    page = offset in the segment >> base page shift
//!   1 TiB segment     hash = VSID ^ VSID << 25 ^ page
//!   group = hash & (groups - 1); the secondary group is its complement, and entries there say SECONDARY
//! ```

use hv_core::addr::{Order, PAGE_SHIFT};

use super::words::{self, AVPN, LARGE, LARGE_PAGE, MEDIUM_PAGE, SECONDARY, SEGMENT, SEGMENT_SHIFT, SMALL_PAGE};

/// A segment descriptor's second word (SLB, ASDR): key for the supervisor, for the problem state, no execution, large
/// pages and their size.
pub const KS: u64 = 0x800;
/// See [`KS`].
pub const KP: u64 = 0x400;
/// See [`KS`].
pub const NO_EXECUTION: u64 = 0x200;
const L: u64 = 0x100;
const LP: u64 = 0x30;

/// The segment that real-mode accesses of a guest go through: the virtual real mode area. 1 TiB, 4 KiB pages.
pub const VRMA: u64 = vrma(0);

/// The same with pages of another size, whose L and LP are as LPCR\[VRMASD\] has them.
#[must_use]
pub const fn vrma(size: u64) -> u64 {
    1 << SEGMENT_SHIFT | 0x1ff_ffff << TERABYTE_VSID | size << 4 & (L | LP)
}

/// Where the VSID stands in a descriptor.
const VSID: u32 = 12;
const TERABYTE_VSID: u32 = 24;
/// Bits of an offset.
const OFFSET: u32 = 28;
const TERABYTE_OFFSET: u32 = 40;
/// Bits of a virtual address that v leaves out.
const ABBREVIATED: u32 = 23;
const AVPN_SHIFT: u32 = 7;

/// One segment of a guest, as its descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    vsid: u64,
    offset_bits: u32,
    /// Base page size.
    pub base: Order,
}

/// The places of one virtual address: the group of each hash, and the entry's v there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The primary group's number.
    pub group: u64,
    /// v there, without what is not compared.
    pub v: u64,
    /// What of v is compared.
    pub mask: u64,
    /// The base page size; compared as well.
    pub base: Order,
}

impl Segment {
    /// The segment with this descriptor; `None` for sizes that no processor here has.
    pub fn new(descriptor: u64) -> Option<Self> {
        let base = match (descriptor & L, descriptor & LP) {
            (0, _) => SMALL_PAGE,
            (_, 0) => LARGE_PAGE,
            (_, 0x10) => MEDIUM_PAGE,
            _ => return None,
        };
        let (shift, offset_bits) = match (descriptor & SEGMENT) >> SEGMENT_SHIFT {
            0 => (VSID, OFFSET),
            1 => (TERABYTE_VSID, TERABYTE_OFFSET),
            _ => return None,
        };
        Some(Self { vsid: (descriptor & !SEGMENT) >> shift, offset_bits, base })
    }

    /// Where the entry for an effective address in this segment may stand, in a table of `groups` groups, a power of
    /// two.
    pub fn place(&self, address: u64, groups: u64) -> Place {
        let offset = address & ((1 << self.offset_bits) - 1);
        let page = offset >> (PAGE_SHIFT + u32::from(self.base.get()));
        let terabyte = self.offset_bits == TERABYTE_OFFSET;
        let scattered = if terabyte { self.vsid ^ self.vsid << 25 } else { self.vsid };
        let whole = self.vsid << (self.offset_bits - ABBREVIATED) | offset >> ABBREVIATED;
        let below = (PAGE_SHIFT + u32::from(self.base.get())).saturating_sub(ABBREVIATED);
        let large = if self.base == SMALL_PAGE { 0 } else { LARGE };
        Place {
            group: (scattered ^ page) & groups.wrapping_sub(1),
            v: u64::from(terabyte) << SEGMENT_SHIFT | (whole >> below << below) << AVPN_SHIFT & AVPN | large,
            mask: SEGMENT | AVPN | SECONDARY | large,
            base: self.base,
        }
    }
}

/// The virtual page of an entry, told from its words and where it stands: v leaves out the lowest bits of the address, which
/// the group's number has (Power ISA v3.0B, Book III 5.7.9.2). No table has fewer groups than that needs.
struct Virtual {
    /// log2 of bytes of the base page.
    shift: u32,
    /// What its segment adds to the hash.
    scattered: u64,
    /// Its number in the segment.
    page: u64,
    /// Its address, less what is above 64 bits.
    address: u64,
}

impl Virtual {
    #[inline(always)]
    fn of(v: u64, r: u64, group: u64) -> Option<Self> {
        let base = words::PageSize::of(v, r)?.base;
        let whole = (v & AVPN) >> AVPN_SHIFT;
        let above = match v >> SEGMENT_SHIFT {
            0 => OFFSET - ABBREVIATED,
            1 => TERABYTE_OFFSET - ABBREVIATED,
            _ => return None,
        };
        let vsid = whole >> above;
        let scattered = if v >> SEGMENT_SHIFT == 0 { vsid } else { vsid ^ vsid << 25 };
        let shift = PAGE_SHIFT + u32::from(base.get());
        let low = (turned(v, group) ^ scattered) & ((1 << ABBREVIATED.saturating_sub(shift)) - 1);
        let offset = (whole & ((1 << above) - 1)) << ABBREVIATED;
        Some(Self { shift, scattered, page: offset >> shift | low, address: whole << ABBREVIATED | low << shift })
    }
}

/// The number of an entry's group, as the primary hash has it.
#[inline]
fn turned(v: u64, group: u64) -> u64 {
    if v & SECONDARY == 0 { group } else { !group }
}

/// The group, in a table of so many, of an entry that is in `group` of a smaller or larger one; `None` if its words are not an
/// entry's.
pub fn moved(v: u64, r: u64, group: u64, groups: u64) -> Option<u64> {
    let Virtual { scattered, page, .. } = Virtual::of(v, r, group)?;
    Some(turned(v, scattered ^ page) & groups.wrapping_sub(1))
}

/// What `tlbie` is given in RB to have the translation of an entry dropped (Power ISA v3.0B, Book III 5.9.3.3, RIC = 0, R = 0,
/// IS = 0). A segment of 4 KiB pages: the address, and AP for the actual size. Others: the address of the actual page, LP as
/// in the entry, the bits between the two sizes in AVAL, and L.
#[inline(always)]
pub fn tlbie_operand(v: u64, r: u64, group: u64) -> Option<u64> {
    let size = words::PageSize::of(v, r)?;
    let Virtual { shift, address, .. } = Virtual::of(v, r, group)?;
    let segment = v >> SEGMENT_SHIFT << TLBIE_B;
    let below = size.actual.bytes() - 1;
    if shift == PAGE_SHIFT {
        let actual = match size.actual {
            MEDIUM_PAGE => 5,
            LARGE_PAGE => 4,
            _ => 0,
        };
        return Some(address | segment | actual << TLBIE_AP);
    }
    Some(address & !below | r & TLBIE_LP & below | segment | address >> PAGE_SHIFT & TLBIE_AVAL | 1)
}

/// RB of `tlbie`: segment size; actual size in a segment of small pages; encoding of the size, address bits, of others.
const TLBIE_B: u32 = 8;
const TLBIE_AP: u32 = 5;
const TLBIE_LP: u64 = 0xff000;
const TLBIE_AVAL: u64 = 0xfe;

impl Place {
    /// The same address's other place.
    #[must_use]
    pub fn secondary(&self, groups: u64) -> Self {
        Self { group: !self.group & groups.wrapping_sub(1), v: self.v | SECONDARY, ..*self }
    }

    /// True if these words are its entry's, whatever state it is in.
    pub fn is(&self, v: u64, r: u64) -> bool {
        v & self.mask == self.v && words::PageSize::of(v, r).is_some_and(|size| size.base == self.base)
    }
}
