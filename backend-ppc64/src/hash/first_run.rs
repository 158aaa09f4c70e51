//! The first run: before any vCPU executes, what the guest reaches with its translation off is made ready, as a whole.
//!
//! ```text
//!   slot of guest real address 0 -> its region -> as the processor wants it:
//!     virtual real mode area (VRMA)   bolted entries, by H_ENTER of virtual mode, one a page (vrma.rs)
//!     real mode offset (RMO)          frames in one run, of a size that LPCR[RMLS] can say; no entries (rmo.rs)
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
//! Sources: Power ISA v2.07B, Book III-S 5.7.3 (real mode, VRMA, RMOR), LPCR; v3.0B, Book III 5.7.3 (no offset any more).

use alloc::sync::Arc;

use hv_core::addr::{Gfn, Order, Pfn};
use hv_core::epoch::Cpu;
use hv_core::host::{Backing, Peek};
use hv_core::isa::Isa;
use hv_core::machine::Machine;
use hv_core::memslot::Slot;
use hv_core::mmu::GuestMemory;
use hv_core::mmu::ready::{NotNow, Permit, Readiness, State};
use hv_core::radix::format::Prot;
use hv_core::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

use super::claim::Hashed;
use super::rmo::{Rmo, offset};
use super::stage2::HashStage2;
use super::table::Processor;
use super::vrma::{self, Area};

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
    /// Held by who puts an entry of the area after a miss.
    putting: Mutex<()>,
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
        Self { ready, lpcr: AtomicU64::new(0), rmor: AtomicU64::new(0), putting: Mutex::new(()) }
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

    /// The right to put an entry of the area after a miss.
    pub(super) fn putting(&self) -> MutexGuard<'_, ()> {
        self.putting.lock()
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
                let Self { cpu, m, memory, table } = *self;
                Area { cpu, m, memory, table }.put(&slot, wants.page)?;
                Ok(Registers { lpcr: if how == Offset::Never { 0 } else { vrma::lpcr(wants.page) }, rmor: 0 })
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
}

/// What is behind a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behind {
    /// Memory that comes and goes.
    Memory,
    /// Frames that do not, from this one.
    Fixed(Pfn),
}
