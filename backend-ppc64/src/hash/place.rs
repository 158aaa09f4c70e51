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
pub const VRMA: u64 = 1 << SEGMENT_SHIFT | 0x1ff_ffff << TERABYTE_VSID;

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

/// The group, in a table of `to` groups, of an entry that is in `group` in one of `from`, if its words are an entry's. What v
/// leaves out of the address is known by where it stands: no table has fewer groups than that needs.
pub fn moved(v: u64, view: u64, group: u64, from: u64, to: u64) -> Option<u64> {
    let base = words::PageSize::of(v, view)?.base;
    let whole = (v & AVPN) >> AVPN_SHIFT;
    let terabyte = match v >> SEGMENT_SHIFT {
        0 => false,
        1 => true,
        _ => return None,
    };
    let above = if terabyte { TERABYTE_OFFSET } else { OFFSET } - ABBREVIATED;
    let vsid = whole >> above;
    let scattered = if terabyte { vsid ^ vsid << 25 } else { vsid };
    let shift = PAGE_SHIFT + u32::from(base.get());
    let turned = if v & SECONDARY == 0 { 0 } else { u64::MAX };
    let low = (group ^ turned ^ scattered) & from.wrapping_sub(1);
    let offset = (whole & ((1 << above) - 1)) << ABBREVIATED;
    let page = offset >> shift | low & ((1 << ABBREVIATED.saturating_sub(shift)) - 1);
    Some((scattered ^ page ^ turned) & to.wrapping_sub(1))
}

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
