//! The guest's own page tables, walked for it (AMD APM vol. 2, chapter 5; Intel SDM vol. 3A, "Paging"): where the bytes
//! of an instruction are that hardware does not hand over, and where the other end of a string is.
//!
//! The tables are in guest memory, which other vCPUs write to: each entry is read once, and nothing is believed of it
//! but what it says. The walk sets no accessed or dirty bits: for a fetch hardware has set them already. Protection
//! keys and shadow stacks are not known: guests are not shown any. Entries of the upper level of PAE are read like
//! others, as nested paging of one vendor does; the other's processors keep four of them from the last write of CR3.

use hv_core::addr::Gpa;
use hv_core::vcpu::exit::Access;

/// The registers that say how a guest's addresses are translated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paging {
    /// CR0.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4.
    pub cr4: u64,
    /// EFER.
    pub efer: u64,
    /// Bits of the guest's physical addresses.
    pub address_bits: u8,
}

/// On whose behalf memory is accessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Code at privilege level 3.
    User,
    /// Code below that.
    Supervisor,
    /// The same with EFLAGS.AC set, which lifts the bar to user memory.
    SupervisorWithAc,
}

/// Why an address was not translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTranslated {
    /// A page fault with this error code.
    PageFault(u32),
    /// The address is not canonical: a general-protection exception.
    NotCanonical,
    /// No memory is where a table should be.
    NoMemory(Gpa),
}

const CR0_WP: u64 = 1 << 16;
const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// What entries of 8 bytes have for an address.
const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Page-fault error codes: the page was there.
const FAULT_PRESENT: u32 = 1 << 0;
/// A store.
const FAULT_WRITE: u32 = 1 << 1;
/// From level 3.
const FAULT_USER: u32 = 1 << 2;
/// A reserved bit was set.
const FAULT_RESERVED: u32 = 1 << 3;
/// A fetch, where there is anything to forbid it.
const FAULT_FETCH: u32 = 1 << 4;

/// What the tables are like.
#[derive(Clone, Copy)]
struct Geometry {
    /// Levels of the walk.
    levels: u32,
    /// Index bits of a level: entries are 4 bytes wide if they are 10.
    bits: u32,
    /// The first table.
    root: u64,
}

impl Paging {
    fn geometry(&self) -> Option<Geometry> {
        if self.cr0 & CR0_PG == 0 {
            return None;
        }
        Some(match (self.efer & EFER_LMA != 0, self.cr4 & CR4_PAE != 0) {
            (true, _) => {
                let levels = if self.cr4 & CR4_LA57 != 0 { 5 } else { 4 };
                Geometry { levels, bits: 9, root: self.cr3 & FRAME }
            }
            (false, true) => Geometry { levels: 3, bits: 9, root: self.cr3 & 0xffff_ffe0 },
            (false, false) => Geometry { levels: 2, bits: 10, root: self.cr3 & 0xffff_f000 },
        })
    }

    /// The guest physical address that `linear` stands for, to be accessed so. `read` reads an entry of 4 or 8 bytes;
    /// `None` where there is no memory.
    pub fn translate(
        &self,
        linear: u64,
        access: Access,
        privilege: Privilege,
        mut read: impl FnMut(Gpa, Entry) -> Option<u64>,
    ) -> Result<Gpa, NotTranslated> {
        let Some(geometry) = self.geometry() else { return Ok(Gpa(linear & 0xffff_ffff)) };
        let Geometry { levels, bits, root } = geometry;
        let (linear, entry) = match bits {
            10 => (linear & 0xffff_ffff, Entry::Four),
            _ if levels == 3 => (linear & 0xffff_ffff, Entry::Eight),
            _ => {
                let unused = 64 - (12 + 9 * levels);
                if ((linear << unused) as i64 >> unused) as u64 != linear {
                    return Err(NotTranslated::NotCanonical);
                }
                (linear, Entry::Eight)
            }
        };
        let mut table = root;
        let mut rights = WRITE | USER;
        let mut level = levels;
        loop {
            level -= 1;
            let shift = 12 + bits * level;
            let index = linear >> shift & ((1 << bits) - 1);
            let at = Gpa(table + index * entry.bytes());
            let found = read(at, entry).ok_or(NotTranslated::NoMemory(at))? & entry.mask();
            if found & PRESENT == 0 {
                return Err(self.fault(0, access, privilege));
            }
            if self.has_reserved(found, level, geometry) {
                return Err(self.fault(FAULT_PRESENT | FAULT_RESERVED, access, privilege));
            }
            // The upper level of PAE has no rights to give or to keep.
            if !(levels == 3 && level == 2) {
                rights = rights & (found | NO_EXECUTE) | found & NO_EXECUTE;
            }
            let leaf = level == 0 || self.is_large(found, level, geometry);
            if leaf {
                if !self.allows(rights, access, privilege) {
                    return Err(self.fault(FAULT_PRESENT, access, privilege));
                }
                let within = (1 << shift) - 1;
                return Ok(Gpa(frame(found, level, bits) & !within | linear & within));
            }
            table = if bits == 10 { found & 0xffff_f000 } else { found & FRAME };
        }
    }

    fn is_large(&self, entry: u64, level: u32, geometry: Geometry) -> bool {
        let may = match (geometry.bits, geometry.levels) {
            (10, _) => self.cr4 & CR4_PSE != 0 && level == 1,
            (_, 3) => level == 1,
            _ => level == 1 || level == 2,
        };
        may && entry & LARGE != 0
    }

    /// Bits that make a fault of a walk: of the address those that there are not, of a large page those that are no
    /// address, and what has no meaning without NXE.
    fn has_reserved(&self, entry: u64, level: u32, geometry: Geometry) -> bool {
        if geometry.bits == 10 {
            // Bits 20:13 of a page of 4 MiB are bits 39:32 of its address; 21 is none.
            let large = self.is_large(entry, level, geometry);
            return large && (entry & 1 << 21 != 0 || frame(entry, level, 10) >> self.address_bits.min(52) != 0);
        }
        let mut reserved = FRAME & (u64::MAX << self.address_bits.min(52));
        if self.efer & EFER_NXE == 0 {
            reserved |= NO_EXECUTE;
        }
        if geometry.levels == 3 {
            reserved |= 0x7ff0_0000_0000_0000;
            if level == 2 {
                reserved |= NO_EXECUTE | 0x1e6;
            }
        }
        if self.is_large(entry, level, geometry) {
            // Bit 12 is a memory type.
            reserved |= FRAME & !(1 << 12) & ((1 << (12 + 9 * level)) - 1);
        } else if level > 2 {
            reserved |= LARGE;
        }
        entry & reserved != 0
    }

    fn allows(&self, rights: u64, access: Access, privilege: Privilege) -> bool {
        let user_page = rights & USER != 0;
        let user = privilege == Privilege::User;
        if user && !user_page {
            return false;
        }
        match access {
            Access::Fetch => {
                let barred = !user && user_page && self.cr4 & CR4_SMEP != 0;
                !barred && (rights & NO_EXECUTE == 0 || self.efer & EFER_NXE == 0)
            }
            Access::Read | Access::Write => {
                let barred = privilege == Privilege::Supervisor && user_page && self.cr4 & CR4_SMAP != 0;
                let writable = rights & WRITE != 0 || !user && self.cr0 & CR0_WP == 0;
                !barred && (access == Access::Read || writable)
            }
        }
    }

    fn fault(&self, what: u32, access: Access, privilege: Privilege) -> NotTranslated {
        let told = self.efer & EFER_NXE != 0 && (self.cr4 & CR4_PAE != 0) || self.cr4 & CR4_SMEP != 0;
        let how = match access {
            Access::Write => FAULT_WRITE,
            Access::Fetch if told => FAULT_FETCH,
            Access::Fetch | Access::Read => 0,
        };
        let whose = if privilege == Privilege::User { FAULT_USER } else { 0 };
        NotTranslated::PageFault(what | how | whose)
    }
}

/// How wide an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
}

impl Entry {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.bytes())
    }
}

/// The address in a leaf. That of a page of 4 MiB is in two parts.
const fn frame(entry: u64, level: u32, bits: u32) -> u64 {
    match (bits, level) {
        (10, 0) => entry & 0xffff_f000,
        (10, _) => entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32,
        _ => entry & FRAME,
    }
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
