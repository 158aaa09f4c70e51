//! The virtual real mode area: entries by which a guest reaches memory with its translation off, and which it never put. They
//! are bolted, so that no guest throws them out for want of room, and a table that becomes another takes them with it.
//!
//! ```text
//!   first run (first_run.rs)   all of the area, by H_ENTER of virtual mode, one a page, each in a group of its own
//!   a miss with no entry       one page, absent, wherever its groups have room; the next access claims it
//! ```
//!
//! Misses are of memory beyond the area, which has no more pages than the table has groups, and of what the guest has removed.
//! Source: Power ISA v2.07B, Book III-S 5.7.3 (VRMA, LPCR\[VPM0, VRMASD\]).

use hv_core::addr::{Gfn, GfnRange, Order, PAGE_SHIFT};
use hv_core::epoch::{Cpu, WalkGuard};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::GuestMemory;

use super::calls::{Called, Context, Counts, TableCall, call};
use super::claim::{Claim, Hashed};
use super::edit::Room;
use super::entry::Patience;
use super::first_run::Failed;
use super::place::{Segment, vrma};
use super::stage2::HashStage2;
use super::table::{GROUP, Processor};
use super::words::{BOLTED, VALID};
use crate::papr::status::Status;

/// r: coherent memory, anything allowed in any state.
const OPEN: u64 = 0x12;
/// H_ENTER: this entry, and no other of its group.
const EXACT: u64 = 1 << (63 - 24);
/// Bytes that addresses with translation off reach: the area is one segment.
const REACH: u64 = 1 << 40;
/// LPCR, until ISA 2.07: accesses with translation off go by the area.
const VPM0: u64 = 1 << 63;
/// LPCR, until ISA 2.07: L and LP of the area's segment.
const VRMASD_SHIFT: u32 = 47;

/// Bits of LPCR, until ISA 2.07, for an area of pages of this size.
pub(super) fn lpcr(page: Order) -> u64 {
    VPM0 | size_bits(page) << VRMASD_SHIFT
}

/// One VM's area, for its first run.
pub(super) struct Area<'a, I: Isa> {
    pub(super) cpu: &'a Cpu,
    pub(super) m: &'a I::Machine,
    pub(super) memory: &'a GuestMemory<I>,
    pub(super) table: &'a HashStage2,
}

impl<I: Isa> Area<'_, I>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    /// Puts the entries. Each page has the last place of a group of its own: as many as there are groups can be had, which
    /// is what a guest's real-mode area is limited to. On an error none is left.
    pub(super) fn put(&self, slot: &Slot, page: Order) -> Result<(), Failed> {
        let segment = Segment::new(vrma(size_bits(page))).ok_or(Failed::PageSize)?;
        let most = self.table.parts().groups().min(REACH >> PAGE_SHIFT >> page.get());
        let pages = (slot.gfns().pages() >> page.get()).min(most);
        let run = GfnRange::new(Gfn(0), pages << page.get()).ok_or(Failed::PageSize)?;
        let addresses = || (0..pages).map(|n| n << page.get() << PAGE_SHIFT);
        for at in addresses() {
            if let Err(why) = self.enter(&segment, at) {
                addresses().take_while(|put| *put < at).for_each(|put| self.remove(&segment, put));
                return Err(why);
            }
        }
        debug_assert!(slot.gfns().covers(&run), "an area beyond its slot");
        Ok(())
    }

    /// H_ENTER of one page, unless its entry is there.
    fn enter(&self, segment: &Segment, at: u64) -> Result<(), Failed> {
        if self.entry(segment, at).is_some() {
            return Ok(());
        }
        let place = segment.place(at, self.table.parts().groups());
        let index = place.group * GROUP + (GROUP - 1);
        let status = self.call(TableCall::Enter, [EXACT, index, place.v | BOLTED | VALID, second(segment, at)]);
        if status == Status::Success as i64 { Ok(()) } else { Err(Failed::Table) }
    }

    /// Takes one back.
    fn remove(&self, segment: &Segment, at: u64) {
        if let Some(index) = self.entry(segment, at) {
            let _ = self.call(TableCall::Remove, [0, index, 0, 0]);
        }
    }

    /// The number of a page's entry.
    fn entry(&self, segment: &Segment, at: u64) -> Option<u64> {
        let walk = self.m.epoch().enter(self.cpu);
        Some(self.table.entry_for(self.m, &walk, segment, at)?.index())
    }

    /// A call as the guest's virtual mode makes it.
    fn call(&self, number: TableCall, args: [u64; 4]) -> i64 {
        let mut gpr = [0; 32];
        gpr[3] = number as u64;
        gpr[4..8].copy_from_slice(&args);
        let (ctx, counts) = (Context::Virtual(self.cpu), &mut Counts::default());
        match call(ctx, self.m, self.memory, self.table, &mut gpr, counts) {
            Called::Done => gpr[3] as i64,
            Called::NotOurs | Called::Defer | Called::Need(..) => Status::Hardware as i64,
        }
    }
}

impl HashStage2 {
    /// Puts the entry by which the guest reaches a real address, absent, unless it is there: after a miss that found none, with
    /// the segment that hardware told of. Returns what its next miss will claim; `None` if neither of its groups has room.
    #[inline(never)]
    pub fn put_missed<M: Machine>(&self, m: &M, g: &WalkGuard<'_>, segment: &Segment, address: u64) -> Option<Claim> {
        // One at a time, so that no page gets two.
        let _one = self.first_run().putting();
        if let Some(there) = self.entry_for(m, g, segment, address) {
            return Some(there);
        }
        let groups = self.parts().groups();
        let first = segment.place(address, groups);
        [first, first.secondary(groups)].iter().find_map(|place| {
            let room = Room::InGroupOf(place.group * GROUP);
            self.put(m, g, Patience::Endless, room, (place.v | BOLTED, second(segment, address))).ok()
        })
    }
}

/// The second doubleword of a page's entry.
fn second(segment: &Segment, address: u64) -> u64 {
    let size = if segment.base.get() == 4 { 1 << PAGE_SHIFT } else { 0 };
    address & (REACH - 1) & !(segment.base.bytes() - 1) | size | OPEN
}

/// L and LP of a segment of pages of this size, as `LPCR[VRMASD]` has them.
const fn size_bits(page: Order) -> u64 {
    match page.get() {
        0 => 0,
        4 => 0x11,
        _ => 0x10,
    }
}
