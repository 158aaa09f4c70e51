//! H_ENTER: the guest puts an entry.
//!
//! ```text
//!   arguments -> slot and host page -> a free entry, locked -> put, absent -> unlocked
//!     -> the fast path of a fault by it: sample (R5), section, revalidate (R6), primary (R11), map
//! ```
//!
//! An entry is put absent and then answered like a fault, by the same function, which publishes in a commit section or
//! not at all. (A page that is there is put and published at once, by `at_once.rs`, which comes first.) So whatever keeps it
//! from being valid now (the page is not there, its invalidation is pending, the host side allows no access) is H_SUCCESS
//! and an absent entry: the first access finds it and takes the long way. No call
//! loops. A page that the store has is brought back first, if it can be: real mode defers.

use hv_core::addr::{GfnRange, Gpa, Order, PAGE_SIZE};
use hv_core::epoch::WalkGuard;
use hv_core::host::Peek;
use hv_core::isa::Isa;
use hv_core::mmu::fast::fast;
use hv_core::vcpu::exit::{Access, Fault};
use hv_core::vcpu::services::MemError;

use super::{Stop, Vm};
use crate::hash::edit::{NoRoom, Room};
use crate::hash::table::Parts;
use crate::hash::words::{ABSENT, LOCK, PageSize, SEGMENT_SHIFT, VALID, first_gfn, guest_view, is_memory};
use crate::hash::{Claim, HashStage2, Hashed, Processor};
use crate::papr::status::Status;

/// This entry, and no other of its group.
const EXACT: u64 = 1 << (63 - 24);
/// The page is filled with zeros first.
const ZERO_PAGE: u64 = 1 << (63 - 48);
/// Bytes written at once.
const PIECE: usize = 256;

/// What is to be put, and where.
pub(super) struct Asked {
    pub flags: u64,
    pub room: Room,
    pub words: (u64, u64),
    /// The guest frames.
    pub block: GfnRange,
    /// Where they begin.
    pub at: Gpa,
    pub size: Order,
}

impl Asked {
    /// True if the page is to be filled with zeros first.
    pub fn zeroes(&self) -> bool {
        self.flags & ZERO_PAGE != 0
    }

    /// What H_ENTER's registers ask for.
    #[inline(always)]
    pub fn of(table: &HashStage2, parts: &Parts, gpr: &[u64; 32]) -> Result<Self, Status> {
        let (flags, index, r) = (gpr[4], gpr[5], guest_view(gpr[7]));
        let v = gpr[6] & !(VALID | ABSENT | LOCK);
        let size = PageSize::of(v, r).ok_or(Status::Parameter)?.actual;
        let reserved = v >> SEGMENT_SHIFT > 1 || !parts.layout.holds(v, r);
        if index >= parts.entries() || reserved || !is_memory(r) || size > table.granule() {
            return Err(Status::Parameter);
        }
        let block = GfnRange::block(first_gfn(r, size), size).ok_or(Status::Parameter)?;
        let at = block.start().addr().ok_or(Status::Parameter)?;
        let room = if flags & EXACT != 0 { Room::Exactly(index) } else { Room::InGroupOf(index) };
        Ok(Self { flags, room, words: (v, r), block, at, size })
    }
}

/// What is behind an entry that is to be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// The store has it.
    Stored,
    /// It is there, or has never been, or is on its way.
    Other,
}

impl<I: Isa> Vm<'_, I>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    /// H_ENTER(flags, index, v, r) -> index. Other flags are hints: instruction caches are coherent on every processor
    /// that has hashed tables here, and pages are not shared by content.
    pub(super) fn enter(&self, gpr: &mut [u64; 32]) -> Result<(), Stop> {
        let asked = Asked::of(self.table, &self.table.parts(), gpr)?;
        let Asked { room, words, block, at, size, .. } = asked;
        let claim = {
            let mut walk = self.walk();
            if self.fits(&walk, &block)? == Page::Stored {
                drop(walk);
                self.bring(at)?;
                walk = self.walk();
                self.fits(&walk, &block)?;
            }
            if !asked.zeroes() {
                self.put(&walk, room, words)?
            } else {
                drop(walk);
                self.zero(at, size.bytes())?;
                self.put(&self.walk(), room, words)?
            }
        };
        let fault = Fault { gpa: at, access: Access::Read, claim: I::Claim::of(claim) };
        // If it defers the entry stays absent.
        let _ = fast(self.ctx.atomic(), self.m, self.memory.space(), &fault);
        gpr[4] = claim.index();
        Ok(())
    }

    /// May the guest ask for a page of this size there? If a smaller one is behind it, now or when it comes, it may not.
    fn fits(&self, walk: &WalkGuard<'_>, block: &GfnRange) -> Result<Page, Status> {
        let (space, gfn, size) = (self.memory.space(), block.start(), block.pages());
        let slot = space.slots.find(walk, gfn).filter(|slot| slot.gfns().covers(block)).ok_or(Status::Parameter)?;
        let hvn = slot.hvn(gfn).ok_or(Status::Parameter)?;
        let askew = |other: u64| (gfn.0 ^ other) & (size - 1) != 0;
        let comes = space.host.granule().pages() >= size;
        let found = match space.host.peek(self.m, walk, hvn) {
            Peek::Page(page) if page.order.pages() >= size && !askew(page.pfn.0) => Page::Other,
            Peek::Absent | Peek::Retry if comes => Page::Other,
            Peek::Swapped if comes => Page::Stored,
            Peek::Page(_) | Peek::Absent | Peek::Retry | Peek::Swapped | Peek::OutOfReach => {
                return Err(Status::Parameter);
            }
        };
        if askew(hvn.0) { Err(Status::Parameter) } else { Ok(found) }
    }

    /// Has a page brought back from the store, for a guest that puts an entry is about to go by it. Not in real mode. Once: what
    /// cannot be brought, or goes again, is for the fault of the access.
    fn bring(&self, at: Gpa) -> Result<(), Stop> {
        let cpu = self.ctx.cpu().map_err(|_| Stop::Stored)?;
        let _ = self.memory.read(cpu, self.m, at, &mut [0]);
        Ok(())
    }

    /// Puts the entry where there is room.
    fn put(&self, walk: &WalkGuard<'_>, room: Room, words: (u64, u64)) -> Result<Claim, Stop> {
        match self.table.put(self.m, walk, self.ctx.patience(), room, words) {
            Ok(claim) => Ok(claim),
            Err(NoRoom::Full) => Err(Status::PtegFull.into()),
            Err(NoRoom::Busy) => Err(Stop::Defer),
        }
    }

    /// Fills guest memory with zeros.
    pub(super) fn zero(&self, at: Gpa, bytes: u64) -> Result<(), Stop> {
        (0..bytes).step_by(PIECE).try_for_each(|done| self.write(Gpa(at.0 + done), &[0; PIECE]))
    }

    /// Copies a page of guest memory.
    pub(super) fn copy(&self, to: Gpa, from: Gpa) -> Result<(), Stop> {
        let cpu = self.ctx.cpu()?;
        let mut piece = [0; PIECE];
        for done in (0..PAGE_SIZE as u64).step_by(PIECE) {
            let at = Gpa(from.0 + done);
            self.memory.read(cpu, self.m, at, &mut piece).map_err(|error| lacks(error, at, Access::Read))?;
            self.write(Gpa(to.0 + done), &piece)?;
        }
        Ok(())
    }

    fn write(&self, at: Gpa, bytes: &[u8]) -> Result<(), Stop> {
        let done = self.memory.write(self.ctx.cpu()?, self.m, at, bytes);
        done.map_err(|error| lacks(error, at, Access::Write))
    }
}

fn lacks(error: MemError, at: Gpa, access: Access) -> Stop {
    match error {
        MemError::BadAddress => Status::Parameter.into(),
        MemError::NoMemory => Stop::Need(at, access),
    }
}
