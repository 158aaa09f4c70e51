//! What the two doublewords of an entry mean (Power ISA, Book III, hashed page table entry; LoPAPR 14.5.4.1).
//!
//! ```text
//!   v    63:62 segment size   61:7 virtual page number, abbreviated (AVPN)   6 LOCK   5 ABSENT   4:3 the guest's
//!        2 large   1 secondary hash   0 valid
//!   r    63 PP0   62 reserved   61:60 key, high   59:12 real page number, its low bits the size if large   11:9 key, low
//!        8 R   7 C   6 W   5 I   4 M   3 G   2 N   1:0 PP
//! ```
//!
//! This is the form of ISA 2.07, in which guests pass entries on every processor. LOCK and ABSENT lie in bits that
//! hardware leaves to software. From ISA 3.0 on memory has another form ([`Layout`]): the segment's size is moved to r,
//! and the AVPN has fewer bits. In either form entries are big-endian in memory.

use hv_core::addr::{Gfn, Order, PAGE_SHIFT, Pfn};
use hv_core::radix::format::{Leaf, Prot, Rc};
use hv_core::vcpu::exit::Access;

/// v: hardware may use the entry.
pub const VALID: u64 = 1 << 0;
/// v: the entry stands in the group of the secondary hash.
pub const SECONDARY: u64 = 1 << 1;
/// v: the page is larger than 4 KiB; the low bits of the real page number say how large.
pub const LARGE: u64 = 1 << 2;
/// v, software: the guest has put the entry, and the hypervisor does not translate by it now.
pub const ABSENT: u64 = 1 << 5;
/// v, software: somebody changes the entry.
pub const LOCK: u64 = 1 << 6;
/// v, the guest's: the entry stays where it is, whatever else goes (LoPAPR leaves the bit to software).
pub const BOLTED: u64 = 1 << 4;
/// v: size of the segment: 0 is 256 MiB, 1 is 1 TiB, others are reserved.
pub const SEGMENT: u64 = 3 << 62;
/// Bit number of [`SEGMENT`]'s low bit.
pub const SEGMENT_SHIFT: u32 = 62;
/// v: the abbreviated virtual page number.
pub const AVPN: u64 = 0x3fff_ffff_ffff_ff80;
/// v: what a guest means by "the entry for this page" in H_AVPN: all but the low seven bits.
pub const MATCH: u64 = !0x7f;

/// r: protection, high bit.
pub const PP0: u64 = 1 << 63;
/// r: bits that no guest sets.
const RESERVED: u64 = 1 << 62;
/// r: storage key, high bits.
pub const KEY_HI: u64 = 0x3000_0000_0000_0000;
/// r: real page number.
pub const RPN: u64 = 0x0fff_ffff_ffff_f000;
/// r: storage key, low bits.
pub const KEY_LO: u64 = 0x0e00;
/// r: hardware has used the entry.
pub const R: u64 = 0x100;
/// r: hardware has stored through the entry.
pub const C: u64 = 0x80;
/// r: write-through, caching inhibited, memory coherence required, guarded.
const WIMG: u64 = 0x78;
const W: u64 = 0x40;
const I: u64 = 0x20;
const M: u64 = 0x10;
/// r: guarded.
pub const G: u64 = 0x08;
/// r: no execution.
pub const N: u64 = 0x04;
/// r: protection, low bits.
pub const PP: u64 = 0x03;

/// A doubleword of memory, which is big-endian, from a number, and back. By way of memory where that costs less: POWER before
/// ISA 3.1 turns bytes round as it loads and stores, and the compiler does not have it do so for atomic cells (2 instructions in
/// place of 16).
#[inline(always)]
pub fn big_endian(word: u64) -> u64 {
    if cfg!(target_arch = "powerpc64") { core::hint::black_box(word).to_be() } else { word.to_be() }
}

/// The form that entries have in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// POWER8 and before: as guests pass them.
    Isa207,
    /// POWER9 and later.
    Isa300,
}

/// v in both layouts; the rest of it is there in ISA 2.07 only.
const COMMON: u64 = 0x000f_ffff_ffff_ffff;
/// The segment's size in r, ISA 3.0.
const SEGMENT_300_SHIFT: u32 = 58;
const SEGMENT_300: u64 = 3 << SEGMENT_300_SHIFT;

impl Layout {
    /// That of the processor with this version register.
    #[must_use]
    pub const fn of(pvr: u32) -> Self {
        match pvr >> 16 {
            // POWER8E, POWER8NVL, POWER8.
            0x004b..=0x004d => Self::Isa207,
            _ => Self::Isa300,
        }
    }

    /// The two words as they stand in memory, less their byte order.
    #[inline]
    pub fn split(self, v: u64, r: u64) -> (u64, u64) {
        match self {
            Self::Isa207 => (v, r),
            Self::Isa300 => (v & COMMON, r & !SEGMENT_300 | v >> SEGMENT_SHIFT << SEGMENT_300_SHIFT),
        }
    }

    /// What guests know by two words of memory. [`Layout::split`]'s inverse for what [`Layout::holds`].
    #[inline]
    pub fn join(self, first: u64, second: u64) -> (u64, u64) {
        match self {
            Self::Isa207 => (first, second),
            Self::Isa300 => {
                let segment = (second & SEGMENT_300) >> SEGMENT_300_SHIFT << SEGMENT_SHIFT;
                (first & COMMON | segment, second & !SEGMENT_300)
            }
        }
    }

    /// True if nothing of these words is lost in memory.
    #[inline]
    pub fn holds(self, v: u64, r: u64) -> bool {
        let (first, second) = self.split(v, r);
        self.join(first, second) == (v, r)
    }
}

/// The sizes of a page: that of its segment's pages, by which it is found, and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSize {
    /// The segment's base page size.
    pub base: Order,
    /// How much one entry translates.
    pub actual: Order,
}

const fn order(k: u8) -> Order {
    match Order::new(k) {
        Some(order) => order,
        None => Order::PAGE,
    }
}

/// 4 KiB.
pub const SMALL_PAGE: Order = Order::PAGE;
/// 64 KiB.
pub const MEDIUM_PAGE: Order = order(4);
/// 16 MiB.
pub const LARGE_PAGE: Order = order(12);
/// All of them, smallest first.
pub const ORDERS: [Order; 3] = [SMALL_PAGE, MEDIUM_PAGE, LARGE_PAGE];

impl PageSize {
    /// The sizes that an entry's words ask for; `None` for an encoding that no processor here has, or whose pages are
    /// never offered (16 GiB).
    #[inline]
    pub fn of(v: u64, r: u64) -> Option<Self> {
        let (base, actual) = match (v & LARGE, r >> PAGE_SHIFT & 0xf, r >> (PAGE_SHIFT + 4) & 0xf) {
            (0, ..) => (SMALL_PAGE, SMALL_PAGE),
            (_, 0, 0) => (LARGE_PAGE, LARGE_PAGE),
            (_, 1, _) => (MEDIUM_PAGE, MEDIUM_PAGE),
            (_, 7, _) => (SMALL_PAGE, MEDIUM_PAGE),
            (_, 8, 0) => (MEDIUM_PAGE, LARGE_PAGE),
            (_, 8, 3) => (SMALL_PAGE, LARGE_PAGE),
            _ => return None,
        };
        Some(Self { base, actual })
    }
}

/// The first guest frame that a guest's r names, for a page of this size.
#[inline]
pub fn first_gfn(r: u64, actual: Order) -> Gfn {
    Gfn((r & RPN) >> PAGE_SHIFT).align_down(actual)
}

/// True if r asks for memory that is cached and kept coherent, the only kind there is for guests. Strong access order
/// (W, I and M at once) is a form of it.
#[inline]
pub fn is_memory(r: u64) -> bool {
    matches!(r & WIMG, M) || r & WIMG == W | I | M
}

/// A guest's r without what it may not say.
#[inline]
pub fn guest_view(r: u64) -> u64 {
    r & !RESERVED
}

/// True if a store is possible for somebody.
#[inline]
fn is_writable(r: u64) -> bool {
    let pp = r & PP;
    if r & PP0 == 0 { pp != 3 } else { pp != 2 }
}

/// The protection that is left of r's without stores.
#[inline]
fn read_only(r: u64) -> u64 {
    if r & PP0 != 0 || r & PP == 0 { r & !PP | PP0 | 2 } else { r | 3 }
}

/// The r that hardware is given: what the guest asked for, of these frames, with no more rights than these.
#[inline(always)]
pub fn real(view: u64, leaf: &Leaf, actual: Order) -> u64 {
    let frame = RPN & !(actual.bytes() - 1);
    let mut r = view & !frame & !(R | C) | leaf.pfn.0 << PAGE_SHIFT & frame | rc_bits(leaf.rc);
    if !leaf.prot.contains(Prot::WRITE) && is_writable(r) {
        r = read_only(r);
    }
    if !leaf.prot.contains(Prot::EXEC) {
        r |= N;
    }
    r
}

/// The first frame that hardware's r names.
#[inline]
pub fn first_pfn(r: u64, actual: Order) -> Pfn {
    Pfn((r & RPN) >> PAGE_SHIFT).align_down(actual)
}

/// What hardware's r lets anybody do.
pub fn prot(r: u64) -> Prot {
    let mut prot = Prot::READ;
    prot.set(Prot::WRITE, is_writable(r));
    prot.set(Prot::EXEC, r & (N | G) == 0);
    prot
}

/// R and C of an r.
#[inline]
pub fn rc(r: u64) -> Rc {
    let mut rc = Rc::empty();
    rc.set(Rc::REFERENCED, r & R != 0);
    rc.set(Rc::CHANGED, r & C != 0);
    rc
}

/// An r's R and C.
#[inline]
pub fn rc_bits(rc: Rc) -> u64 {
    let bit = |which, bit| if rc.contains(which) { bit } else { 0 };
    bit(Rc::REFERENCED, R) | bit(Rc::CHANGED, C)
}

/// What an r lets somebody do, for whom the segment says `key` (Ks or Kp). Power ISA, storage protection, table of PP; by what is
/// not in the table nobody does anything, on hardware neither, or a fault would be answered for ever by what is there already.
pub fn allows(r: u64, key: bool, access: Access) -> bool {
    let (pp, low) = (r & (PP0 | PP), r & PP);
    match access {
        Access::Fetch if r & (N | G) != 0 => false,
        Access::Read | Access::Fetch if key => pp == low && low != 0,
        Access::Read | Access::Fetch => pp == low || low == 2,
        Access::Write if key => pp == 2,
        Access::Write => pp == low && low < 3,
    }
}
