//! The table in memory: its entries, their lock bits, and the two words that the hypervisor keeps for each.
//!
//! ```text
//!   table   entry i at 16 i          v, r, which hardware reads; of them it changes R and C, in r, and nothing else
//!   notes   entry i at 16 i          view: r as the guest gave it; links: see rmap.rs
//!   heads   one word a guest frame   see rmap.rs
//! ```
//!
//! **An entry's lock** is a bit of v, since real mode reaches nothing else that is small enough. Its holder alone changes v,
//! r (but for hardware's R and C) and the view. It is held over nothing that waits for software: the invalidation of a
//! translation is hardware's work ([`Processor::flush_entries`]), heads' locks are held for a few stores. So whoever finds
//! it taken may wait for it, also in a walk; in real mode he waits a while and defers (R21).
//!
//! **States**: free (neither VALID nor ABSENT), absent, valid; valid entries are in the reverse map, and those that are
//! being invalidated still are. Order of stores: r before v, so that hardware never finds a valid v with another's r.

use hv_core::addr::{Gfn, Order, PAGE_SHIFT};
use hv_core::epoch::WalkGuard;
use hv_core::isa::VmTag;
use hv_core::machine::Machine;
use hv_core::radix::format::TableRef;
use hv_core::sync::{AtomicU64, Ordering, SMALL, spin_loop};

use super::words::{ABSENT, C, LOCK, Layout, PageSize, R, VALID, first_gfn, guest_view};

/// Entries of a group: an address may be in any of them.
pub const GROUP: u64 = if SMALL { 2 } else { 8 };
/// Tries for a lock where nothing may be waited for.
pub const TRIES: u32 = if SMALL { 2 } else { 200 };
/// The smallest table there is, 256 KiB, and the largest that is made, 4 GiB.
pub const SIZES: core::ops::RangeInclusive<u8> = if SMALL { 0..=0 } else { 6..=20 };
/// Words of a frame that the machine has; a model checker's have fewer.
const WORDS: u64 = if SMALL { 8 } else { 1 << (PAGE_SHIFT - 3) };

/// What a hashed table needs of its machine.
pub trait Processor: Machine {
    /// The form of entries in memory.
    fn layout(&self) -> Layout;
    /// What the VM with this tag was configured with; `None` if it is to have another kind of table.
    fn hashed(&self, tag: VmTag) -> Option<Config>;
    /// Makes every CPU drop the translations of these entries, which are no longer valid in memory, and waits for the
    /// accesses that used them: afterwards R and C are final (R14). Hardware's work alone: it waits for no software, and is
    /// called with entries locked, inside walks, and in real mode.
    fn flush_entries(&self, tag: VmTag, entries: &[Gone]);
}

/// An entry that is no longer valid in memory, and may be cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Its number.
    pub index: u64,
    /// Its words, as guests know them.
    pub v: u64,
    /// See `v`; with the real page number.
    pub r: u64,
    /// The first guest frame.
    pub gfn: Gfn,
    /// How much it translated.
    pub order: Order,
}

/// What a VM's table is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The table's size.
    pub size: Order,
    /// The largest page that the guest may ask for: its memory is there in naturally aligned runs of so many pages.
    pub granule: Order,
}

impl Config {
    /// The table for so many bytes of RAM: one entry for each 2 KiB, that is, two for each page, as PAPR recommends.
    #[must_use]
    pub fn for_ram(bytes: u64, granule: Order) -> Self {
        let size = Order::covering((bytes >> 7).div_ceil(1 << PAGE_SHIFT)).unwrap_or(Order::MAX);
        let size = Order::new(size.get().clamp(*SIZES.start(), *SIZES.end())).unwrap_or(Order::PAGE);
        Self { size, granule }
    }
}

/// Where the parts of a table are.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Entries.
    pub table: TableRef,
    /// The hypervisor's notes on them.
    pub notes: TableRef,
    /// The reverse map's heads.
    pub heads: TableRef,
    /// The entries' form.
    pub layout: Layout,
}

/// An entry as one look at it found it; in guests' form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// The first doubleword, without LOCK.
    pub v: u64,
    /// The second as hardware has it.
    pub r: u64,
    /// The second as the guest gave it.
    pub view: u64,
}

/// What a fault must still find when it is answered: the entry by which it was taken (R4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    index: u32,
    v: u64,
    view: u64,
}

impl Claim {
    /// The entry's number.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index.into()
    }

    /// The size that the guest chose.
    #[must_use]
    pub fn order(&self) -> Order {
        PageSize::of(self.v, self.view).map_or(Order::PAGE, |size| size.actual)
    }
}

/// A fault's claim that may be one of a hashed table. An instruction set that has other tables too says `Option<Claim>`.
pub trait Hashed: Copy {
    /// The claim.
    fn claim(&self) -> Option<Claim>;
    /// The claim for hv-core.
    fn of(claim: Claim) -> Self;
}

impl Hashed for Claim {
    fn claim(&self) -> Option<Claim> {
        Some(*self)
    }

    fn of(claim: Claim) -> Self {
        claim
    }
}

impl Hashed for Option<Claim> {
    fn claim(&self) -> Option<Claim> {
        *self
    }

    fn of(claim: Claim) -> Self {
        Some(claim)
    }
}

impl Words {
    /// True if nobody uses the entry.
    pub fn is_free(&self) -> bool {
        self.v & (VALID | ABSENT) == 0
    }

    /// True if hardware may use it.
    pub fn is_valid(&self) -> bool {
        self.v & VALID != 0
    }

    /// How much it translates. Only entries whose size decodes are ever put.
    pub fn order(&self) -> Order {
        PageSize::of(self.v, self.view).map_or(Order::PAGE, |size| size.actual)
    }

    /// The first guest frame.
    pub fn gfn(&self) -> Gfn {
        first_gfn(self.view, self.order())
    }

    /// v as a guest is told: that the hypervisor does not translate by an entry now is not its affair.
    pub fn shown(&self) -> u64 {
        if self.is_free() { self.v } else { self.v & !(ABSENT | LOCK) | VALID }
    }

    /// r as a guest is told: what it gave, and what hardware has noted since.
    pub fn told(&self) -> u64 {
        self.view | self.r & (R | C)
    }

    /// What a fault by this entry claims.
    pub fn claim(&self, index: u64) -> Claim {
        Claim { index: index as u32, v: self.v, view: self.view & !(R | C) }
    }
}

/// An entry's words in memory.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'g> {
    first: &'g AtomicU64,
    second: &'g AtomicU64,
    view: &'g AtomicU64,
    pub(super) links: &'g AtomicU64,
    layout: Layout,
    index: u64,
}

impl Parts {
    /// How many entries the table has, a power of two.
    pub fn entries(&self) -> u64 {
        self.table.order().pages() * WORDS / 2
    }

    /// How many groups.
    pub fn groups(&self) -> u64 {
        self.entries() / GROUP
    }

    /// How many heads, a power of two.
    pub fn heads(&self) -> u64 {
        self.heads.order().pages() * WORDS
    }

    /// Entry `index`; what is beyond the table is confined to it.
    pub fn entry<'g, M: Machine>(&self, m: &'g M, g: &'g WalkGuard<'_>, index: u64) -> Entry<'g> {
        let slot = 2 * (index & self.entries().wrapping_sub(1)) as usize;
        let cell = |table, slot| m.pte(g, table, slot);
        Entry {
            first: cell(self.table, slot),
            second: cell(self.table, slot + 1),
            view: cell(self.notes, slot),
            links: cell(self.notes, slot + 1),
            layout: self.layout,
            index,
        }
    }
}

impl<'g> Entry<'g> {
    /// What it says, without its lock: only for a look, whose finding is tested under the lock.
    pub fn look(&self) -> Words {
        let first = u64::from_be(self.first.load(Ordering::Acquire));
        let (v, r) = self.layout.join(first, u64::from_be(self.second.load(Ordering::Acquire)));
        Words { v: v & !LOCK, r, view: self.view.load(Ordering::Relaxed) }
    }

    /// Locks it, if nobody has.
    pub fn try_lock(self) -> Option<Locked<'g>> {
        let first = self.first.load(Ordering::Relaxed);
        if u64::from_be(first) & LOCK != 0 {
            return None;
        }
        let locked = first | LOCK.to_be();
        self.first.compare_exchange(first, locked, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        Some(Locked { entry: self, words: self.look() })
    }

    /// Locks it, trying again while `patience` lasts.
    pub fn lock(self, patience: Patience) -> Option<Locked<'g>> {
        let mut tries = 0_u32;
        loop {
            if let Some(locked) = self.try_lock() {
                return Some(locked);
            }
            tries = tries.saturating_add(1);
            if patience == Patience::Some && tries >= TRIES {
                return None;
            }
            spin_loop();
        }
    }
}

/// How long a lock is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// [`TRIES`].
    Some,
    /// Until it is free.
    Endless,
}

/// An entry that the holder alone may change. Dropped, it is unlocked, in the state that it is in.
#[derive(Debug)]
pub struct Locked<'g> {
    entry: Entry<'g>,
    words: Words,
}

impl<'g> Locked<'g> {
    /// What it says; R and C as they were when it was locked or last written.
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// What is to be flushed when it is not valid any more.
    pub fn gone(&self) -> Gone {
        let Words { v, r, .. } = self.words;
        Gone { index: self.entry.index, v, r, gfn: self.words.gfn(), order: self.words.order() }
    }

    /// Its links, for rmap.rs.
    pub(super) fn links(&self) -> &'g AtomicU64 {
        self.entry.links
    }

    /// Where the fault's claim still holds, nothing but R and C has changed.
    pub fn is_as_claimed(&self, claim: &Claim) -> bool {
        self.words.claim(claim.index()) == *claim
    }

    /// Changes v, keeping the lock.
    fn set_v(&mut self, v: u64) {
        self.words.v = v & !LOCK;
        let (first, _) = self.entry.layout.split(v | LOCK, 0);
        self.entry.first.store(first.to_be(), Ordering::Release);
    }

    /// The guest's entry is put: absent, with nothing noted of it yet. The entry was free.
    pub fn put(&mut self, v: u64, view: u64) {
        self.set_view(guest_view(view));
        self.set_r(v, 0);
        self.set_v(v & !VALID | ABSENT);
    }

    /// Hardware may use it, by this r. Its r is not, while this is called, changed by hardware.
    pub fn make_valid(&mut self, r: u64) {
        self.set_r(self.words.v, r);
        self.set_v(self.words.v & !ABSENT | VALID);
    }

    /// Hardware may not use it from now on. What has cached it is to be flushed, and may until then set R and C.
    pub fn make_absent(&mut self) {
        self.set_v(self.words.v & !VALID | ABSENT);
    }

    /// The entry is free. Nothing has it cached.
    pub fn make_free(&mut self) {
        self.set_view(0);
        self.entry.links.store(0, Ordering::Relaxed);
        self.set_r(0, 0);
        self.set_v(0);
    }

    /// R and C as they are in memory now; final if no CPU has the entry cached.
    pub fn harvest(&mut self) -> u64 {
        self.words.r = self.entry.look().r;
        self.words.r & (R | C)
    }

    /// Clears marks of hardware's r, which may be in use; returns those that were set.
    pub fn clear(&mut self, marks: u64) -> u64 {
        let old = u64::from_be(self.entry.second.fetch_and(!marks.to_be(), Ordering::AcqRel));
        self.words.r = self.entry.look().r;
        old & marks
    }

    /// Changes what the guest is told of r.
    pub fn set_view(&mut self, view: u64) {
        self.words.view = view;
        self.entry.view.store(view, Ordering::Relaxed);
    }

    fn set_r(&mut self, v: u64, r: u64) {
        self.words.r = r;
        let (_, second) = self.entry.layout.split(v, r);
        self.entry.second.store(second.to_be(), Ordering::Release);
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (first, _) = self.entry.layout.split(self.words.v, 0);
        self.entry.first.store(first.to_be(), Ordering::Release);
    }
}
