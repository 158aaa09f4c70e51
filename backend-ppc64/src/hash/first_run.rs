//! The first run: before any vCPU executes, what the guest reaches with its translation off is made ready, as a whole.
//!
//! ```text
//!   slot of guest real address 0 -> its region -> as the processor wants it:
//!     virtual real mode area (VRMA)   bolted entries, by H_ENTER of virtual mode, one a page, each in a group of its own
//!     real mode offset (RMO)          frames in one run, of a size that LPCR[RMLS] can say; no entries
//!   -> what LPCR and RMOR need -> Ready
//! ```
//!
//! - **One builds, many run** ([`Readiness`]): of vCPUs that come at once one builds, the others come again. A [`Permit`] is
//!   held from a vCPU's first entry on a CPU until it is put, its faults and calls included; what the builder wrote is seen
//!   by its holder (R19).
//! - **It fails as a whole** (N5): entries that were put are removed, the state is Empty again, the next run tries anew.
//! - **Nothing is resolved**: entries of pages that are not there are absent, and their first access is a fault. So slots
//!   may be made long before there is anything behind them.
//! - **A table that becomes another** takes the area with it (`resize.rs`), since its entries are bolted.
//! - **A drain** keeps vCPUs out, for who takes the area away; the next run makes it ready anew, and leaves alone what is
//!   there.
//!
//! Pages beyond the area the guest reaches with its translation on. Sources: Power ISA v2.07B, Book III-S 5.7.3 (real
//! mode, VRMA, RMOR), LPCR; v3.0B, Book III 5.7.3 (no offset any more).

use alloc::sync::Arc;

use hv_core::addr::{Gfn, GfnRange, Order, PAGE_SHIFT, Pfn};
use hv_core::epoch::Cpu;
use hv_core::host::{Backing, Peek};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::GuestMemory;
use hv_core::mmu::ready::{NotNow, Permit, Readiness, State};
use hv_core::radix::format::Prot;
use hv_core::sync::{AtomicU64, Ordering};

use super::calls::{Called, Context, Counts, TableCall, call};
use super::claim::Hashed;
use super::place::{Segment, vrma};
use super::stage2::HashStage2;
use super::table::{GROUP, Processor};
use super::words::{BOLTED, VALID};
use crate::papr::status::Status;

/// r: coherent memory, anything allowed in any state.
pub const OPEN: u64 = 0x12;
/// H_ENTER: this entry, and no other of its group.
const EXACT: u64 = 1 << (63 - 24);
/// Bytes that addresses with translation off reach: the area is one segment.
const REACH: u64 = 1 << 40;

/// LPCR, until ISA 2.07: accesses with translation off go by the VRMA.
const VPM0: u64 = 1 << 63;
/// LPCR, until ISA 2.07: L and LP of the VRMA's segment.
const VRMASD_SHIFT: u32 = 47;
/// LPCR, until ISA 2.07: the offset's limit.
const RMLS_SHIFT: u32 = 26;

/// What a processor knows of guests with their translation off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offset {
    /// A VRMA always, of pages of 4 KiB, as the partition table says (ISA 3.0 on).
    Never,
    /// An RMO if the VM has one, else a VRMA: LPCR says which (POWER7, POWER8).
    Perhaps,
    /// An RMO, and nothing else (PPC970).
    Always,
}

/// Frames that a VM's memory begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rmo {
    /// The first.
    pub first: Pfn,
    /// How many.
    pub pages: u64,
}

/// What a first run makes ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    /// What the processor knows.
    pub offset: Offset,
    /// The VM's own frames.
    pub rmo: Option<Rmo>,
    /// The pages of a VRMA.
    pub page: Order,
}

/// Why a first run failed. Nothing of it is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// No slot shows guest real address 0.
    NoSlot,
    /// The slot there does not begin at 0, or does not let the guest do anything.
    SlotInvalid,
    /// Nothing in the host space is behind the slot's first page.
    NoRegion,
    /// What is behind it is a device's, or other memory that is not the VM's.
    Device,
    /// Memory is not there in runs of the size that the area's pages have.
    PageSize,
    /// Neither the size of the RMO nor its place can be said in `LPCR[RMLS]` and RMOR.
    NotEncodable,
    /// The processor can do with an RMO only, and the VM has none.
    NoRmo,
    /// The table has no room, or does not take an entry.
    Table,
}

impl Failed {
    /// What an operator is told.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::NoSlot => "first run: no memory at address 0",
            Self::SlotInvalid => "first run: the memory slot at address 0 is not one to run from",
            Self::NoRegion => "first run: nothing is behind the memory slot at address 0",
            Self::Device => "first run: a device is behind the memory slot at address 0",
            Self::PageSize => "first run: memory at address 0 has not the page size of the real-mode area",
            Self::NotEncodable => "first run: no LPCR[RMLS] for the real-mode area's size, or no RMOR for its place",
            Self::NoRmo => "first run: this processor needs a real-mode area in one piece, and the VM has none",
            Self::Table => "first run: its table has no room for the real-mode area",
        }
    }
}

/// Why a vCPU may not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// Another CPU makes the area ready, or the table is being replaced: come again.
    Wait,
    /// It cannot be made ready.
    Failed(Failed),
}

impl From<Failed> for NotYet {
    fn from(why: Failed) -> Self {
        Self::Failed(why)
    }
}

/// A VM's readiness, and what its vCPUs run with. In the table, with which it ends.
#[derive(Debug)]
pub struct FirstRun {
    ready: Arc<Readiness>,
    /// Written by the builder, read by holders of permits.
    lpcr: AtomicU64,
    rmor: AtomicU64,
}

/// Registers that differ from VM to VM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Bits of LPCR.
    pub lpcr: u64,
    /// RMOR: first byte of the RMO.
    pub rmor: u64,
}

impl FirstRun {
    /// None has been.
    #[must_use]
    pub fn new(ready: Arc<Readiness>) -> Self {
        Self { ready, lpcr: AtomicU64::new(0), rmor: AtomicU64::new(0) }
    }

    /// How far it is.
    #[must_use]
    pub fn ready(&self) -> &Arc<Readiness> {
        &self.ready
    }

    /// What a vCPU runs with.
    #[must_use]
    pub fn registers(&self, _: &Permit) -> Registers {
        Registers { lpcr: self.lpcr.load(Ordering::Relaxed), rmor: self.rmor.load(Ordering::Relaxed) }
    }

    /// The VM has gone, and with it every permit: the next life begins with nothing.
    pub fn end(&self) {
        drop(self.ready.drain());
        debug_assert!(self.ready.state() == State::Empty, "R20: a table has gone with a vCPU on it");
    }
}

impl HashStage2 {
    /// The right to run a vCPU, whose first run this may be. The caller holds no guard and no lock but its vCPU's.
    pub fn begin<I: Isa>(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        memory: &GuestMemory<I>,
        wants: &Wants,
    ) -> Result<Permit, NotYet>
    where
        I::Machine: Processor,
        I::Claim: Hashed,
    {
        let first = self.first_run();
        match first.ready.run() {
            Ok(permit) => return Ok(permit),
            Err(NotNow(State::Empty)) => {}
            Err(NotNow(_)) => return Err(NotYet::Wait),
        }
        let building = first.ready.build().map_err(|_| NotYet::Wait)?;
        let Registers { lpcr, rmor } = Builder { cpu, m, memory, table: self }.build(wants)?;
        first.lpcr.store(lpcr, Ordering::Relaxed);
        first.rmor.store(rmor, Ordering::Relaxed);
        // Refused if it was drained meanwhile: who asked for that gets it empty.
        building.ready().map_err(|_| NotYet::Wait)
    }
}

/// One first run.
struct Builder<'a, I: Isa> {
    cpu: &'a Cpu,
    m: &'a I::Machine,
    memory: &'a GuestMemory<I>,
    table: &'a HashStage2,
}

impl<I: Isa> Builder<'_, I>
where
    I::Machine: Processor,
    I::Claim: Hashed,
{
    fn build(&self, wants: &Wants) -> Result<Registers, Failed> {
        let slot = self.slot()?;
        let behind = self.behind(&slot)?;
        match (wants.offset, wants.rmo) {
            (Offset::Perhaps | Offset::Always, Some(rmo)) => {
                if !matches!(behind, Behind::Fixed(first) if first == rmo.first) || slot.gfns().pages() < rmo.pages {
                    return Err(Failed::Device);
                }
                offset(&rmo)
            }
            (Offset::Always, None) => Err(Failed::NoRmo),
            (Offset::Never | Offset::Perhaps, _) if behind != Behind::Memory => Err(Failed::Device),
            (how, _) => {
                self.page_size(&slot, wants.page)?;
                self.put(&slot, wants.page)?;
                let by_lpcr = VPM0 | size_bits(wants.page) << VRMASD_SHIFT;
                Ok(Registers { lpcr: if how == Offset::Never { 0 } else { by_lpcr }, rmor: 0 })
            }
        }
    }

    /// The slot at 0.
    fn slot(&self) -> Result<Slot, Failed> {
        let walk = self.m.epoch().enter(self.cpu);
        let slot = self.memory.space().slots.find(&walk, Gfn(0)).ok_or(Failed::NoSlot)?;
        let valid = slot.gfns().start() == Gfn(0) && slot.prot().contains(Prot::all());
        if valid { Ok(slot) } else { Err(Failed::SlotInvalid) }
    }

    /// What is behind its first page.
    fn behind(&self, slot: &Slot) -> Result<Behind, Failed> {
        let page = slot.hvn(Gfn(0)).ok_or(Failed::SlotInvalid)?;
        let region = self.memory.space().host.regions().find(page).ok_or(Failed::NoRegion)?;
        Ok(match region.backing() {
            Backing::Anon | Backing::Shared { .. } => Behind::Memory,
            Backing::Fixed { first } => {
                let at = page.since(region.hvns().start()).and_then(|n| first.checked_add(n));
                Behind::Fixed(at.ok_or(Failed::NoRegion)?)
            }
        })
    }

    /// Is memory there, or will it be, in runs that pages of this size want?
    fn page_size(&self, slot: &Slot, page: Order) -> Result<(), Failed> {
        let walk = self.m.epoch().enter(self.cpu);
        let first = slot.hvn(Gfn(0)).ok_or(Failed::SlotInvalid)?;
        let aligned = |n: u64| n & (page.pages() - 1) == 0;
        let runs = match self.memory.space().host.peek(self.m, &walk, first) {
            Peek::Page(found) => found.order >= page && aligned(found.pfn.0),
            Peek::Absent | Peek::Swapped | Peek::Retry => page <= self.table.granule(),
            Peek::OutOfReach => return Err(Failed::NoRegion),
        };
        if runs && aligned(first.0) && aligned(slot.gfns().pages()) { Ok(()) } else { Err(Failed::PageSize) }
    }

    /// Puts the entries. Each page has the last place of a group of its own: as many as there are groups can be had, which
    /// is what a guest's real-mode area is limited to.
    fn put(&self, slot: &Slot, page: Order) -> Result<(), Failed> {
        let segment = Segment::new(vrma(size_bits(page))).ok_or(Failed::PageSize)?;
        let most = self.table.parts().groups().min(REACH >> PAGE_SHIFT >> page.get());
        let pages = (slot.gfns().pages() >> page.get()).min(most);
        let run = GfnRange::new(Gfn(0), pages << page.get()).ok_or(Failed::PageSize)?;
        let addresses = || (0..pages).map(|n| n << page.get() << PAGE_SHIFT);
        for at in addresses() {
            if let Err(why) = self.enter(&segment, at, page) {
                addresses().take_while(|put| *put < at).for_each(|put| self.remove(&segment, put));
                return Err(why);
            }
        }
        debug_assert!(slot.gfns().covers(&run), "an area beyond its slot");
        Ok(())
    }

    /// H_ENTER of one page, unless its entry is there.
    fn enter(&self, segment: &Segment, at: u64, page: Order) -> Result<(), Failed> {
        if self.entry(segment, at).is_some() {
            return Ok(());
        }
        let place = segment.place(at, self.table.parts().groups());
        let index = place.group * GROUP + (GROUP - 1);
        let status = self.call(TableCall::Enter, [EXACT, index, place.v | BOLTED | VALID, at | size_of(page) | OPEN]);
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

/// What is behind a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// Memory that comes and goes.
    Memory,
    /// Frames that do not, from this one.
    Fixed(Pfn),
}

/// LPCR and RMOR for an RMO.
fn offset(rmo: &Rmo) -> Result<Registers, Failed> {
    let code = rmls(rmo.pages << PAGE_SHIFT).ok_or(Failed::NotEncodable)?;
    let base = rmo.first.0 << PAGE_SHIFT;
    // The offset is put into the address, not added to it.
    if rmo.first.0 & (rmo.pages - 1) != 0 {
        return Err(Failed::NotEncodable);
    }
    Ok(Registers { lpcr: code << RMLS_SHIFT, rmor: base })
}

/// `LPCR[RMLS]` for so many bytes (POWER7, POWER8).
#[must_use]
pub const fn rmls(bytes: u64) -> Option<u64> {
    Some(match bytes >> 20 {
        _ if bytes & 0xf_ffff != 0 => return None,
        0x20 => 8,
        0x40 => 3,
        0x80 => 7,
        0x100 => 4,
        0x400 => 2,
        0x4000 => 1,
        0x4_0000 => 0,
        _ => return None,
    })
}

/// L and LP of a segment of pages of this size, as `LPCR[VRMASD]` has them.
const fn size_bits(page: Order) -> u64 {
    match page.get() {
        0 => 0,
        4 => 0x11,
        _ => 0x10,
    }
}

/// The size in r, for a page as large as its segment's.
const fn size_of(page: Order) -> u64 {
    if page.get() == 4 { 1 << PAGE_SHIFT } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::{Failed, Rmo, offset, rmls};
    use hv_core::addr::Pfn;

    /// POWER8's encodings, as in the processor's manual.
    #[test]
    fn only_some_sizes_have_an_encoding() {
        let codes = [(32, 8), (64, 3), (128, 7), (256, 4), (1024, 2), (16 << 10, 1), (256 << 10, 0)];
        assert!(codes.iter().all(|(mib, code)| rmls(mib << 20) == Some(*code)));
        for bytes in [0, 1, 16 << 20, 96 << 20, 512 << 20, (64 << 20) + 4096, u64::MAX] {
            assert_eq!(rmls(bytes), None, "{bytes:#x}");
        }
    }

    #[test]
    fn an_offset_is_a_multiple_of_its_size() {
        let run = |first, pages| offset(&Rmo { first: Pfn(first), pages });
        assert_eq!(run(0x8000, 0x4000).map(|r| (r.lpcr, r.rmor)), Ok((3 << 26, 0x800_0000)));
        assert_eq!(run(0x6000, 0x4000), Err(Failed::NotEncodable), "half a size off");
        assert_eq!(run(0x8000, 0x4001), Err(Failed::NotEncodable));
    }
}
