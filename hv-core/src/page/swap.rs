//! Stores: where pages go that have no frame, and how an extent of an object goes there. Why it is safe to let the extent
//! be used in between: [`super::breaking`]. How a VM's own pages go and come back: `host/swap.rs`.
//!
//! ```text
//!   page, nobody else knows its frame --keep--> Token --its place--> a host table's entry, or an object's index
//!                  |                              ^                       |
//!                  +--all zeros: a hole           +--claimed, by CAS------+
//!                  +--NotKept: it stays           |
//!                                                 +--bring: what was kept, into a zeroed frame; as often as one likes
//!                                                 +--forget
//! ```
//!
//! A token is to a store what a [`super::Frame`] is to the allocator: it is owned, not copied, and given back once (R24).
//! Tables keep its place, a number, and who takes the number out of a table has the token again.

use super::Zeroed;
use super::breaking::Breaking;
use super::tmpfs::Tmpfs;
use crate::addr::{Hvn, Pfn};
use crate::epoch::Cpu;
use crate::host::{HUGE, shared};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::lock::Fresh;
use crate::radix::format::Place;

/// What a store keeps of one page, owned by whoever holds this value.
///
/// It goes back through [`Store::forget`], or becomes a number in a table; it is not to be dropped. The dev profile stops
/// there.
///
/// ```compile_fail,E0624
/// # use hv_core::{page::Token, radix::format::Place};
/// fn number(place: Place) -> Token { Token::owned(place) }
/// ```
#[derive(Debug)]
#[must_use = "a token is forgotten or stored, never dropped"]
pub struct Token {
    place: Place,
    owned: bool,
}

impl Drop for Token {
    fn drop(&mut self) {
        debug_assert!(!self.owned, "R24: a token was dropped instead of forgotten");
    }
}

impl Token {
    /// For stores: the token of what they have just put at `place`, which has no other.
    pub fn issue(place: Place) -> Self {
        Self::owned(place)
    }

    /// Only the owner of the table out of which the place was just taken.
    pub(crate) fn owned(place: Place) -> Self {
        Self { place, owned: true }
    }

    /// Where it is kept.
    #[must_use]
    pub fn place(&self) -> Place {
        self.place
    }

    /// Gives up the value for the number; whoever stores the number owns what is kept.
    #[must_use]
    pub fn into_place(mut self) -> Place {
        self.owned = false;
        self.place
    }
}

/// What became of a page's content.
#[derive(Debug)]
#[must_use = "the token in it is forgotten or stored, never dropped"]
pub enum Kept {
    /// It was zeros, of which nothing need be kept.
    Zeros,
    /// The store has it.
    As(Token),
}

/// Why a store did not take a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotKept {
    /// It has no room.
    Full,
    /// To keep this page, as it is, would free nothing.
    Unpackable,
}

/// What a store amounts to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Pages that it keeps.
    pub pages: u64,
    /// Of these, pages of one repeated word.
    pub same: u64,
    /// Bytes that the content of the others takes.
    pub bytes: u64,
    /// Frames that it holds.
    pub frames: u64,
    /// Pages that it did not take.
    pub refused: u64,
    /// Pages of which it could not give back what it took. Anything but 0 is a bug in Trivet.
    pub damaged: u64,
}

/// A store of pages. Any CPU may call any method at any time, with ranked locks held but outside of walk guards: an
/// implementation takes no ranked lock and touches no table of a guest.
pub trait Store<M: Machine>: Send + Sync {
    /// Keeps what is in `frame`, which nobody writes meanwhile. May take frames of the allocator.
    fn keep(&self, cpu: &Cpu, m: &M, frame: Pfn) -> Result<Kept, NotKept>;
    /// Writes what is kept under `token` to `page`: all of it but zeros.
    fn bring(&self, cpu: &Cpu, m: &M, token: &Token, page: &Zeroed);
    /// Keeps it no longer.
    fn forget(&self, cpu: &Cpu, m: &M, token: Token);
    /// What it amounts to just now.
    fn stats(&self) -> StoreStats;
}

/// Why nothing was swapped out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSwap {
    /// The object was made without a store.
    NoStore,
    /// The object has no such page.
    OutOfReach,
}

impl<I: Isa> Tmpfs<I> {
    /// Swaps out the extent of page `index`: all of it is unmapped, and what nobody has touched again by the time it is
    /// marked goes to the store, as far as that has room. Returns how many pages went.
    pub fn swap_out(&self, cpu: &Cpu, m: &I::Machine, index: u64) -> Result<u64, NoSwap> {
        self.swap_out_with(cpu, m, index, || {})
    }

    /// [`Tmpfs::swap_out`], with something done between its two steps, when the extent is unmapped and free for use but
    /// not marked: what another CPU may do there.
    pub fn swap_out_with(&self, cpu: &Cpu, m: &I::Machine, index: u64, between: impl FnOnce()) -> Result<u64, NoSwap> {
        self.take_out(cpu, m, index, between).map(|(taken, _)| taken)
    }

    /// The same. Returns how many pages went, and how many the store would not take.
    pub(super) fn take_out(
        &self,
        cpu: &Cpu,
        m: &I::Machine,
        index: u64,
        between: impl FnOnce(),
    ) -> Result<(u64, u64), NoSwap> {
        let store = self.store.as_deref().ok_or(NoSwap::NoStore)?;
        let extent = usize::try_from(index / HUGE.pages()).ok().and_then(|n| self.extents.get(n));
        let (extent, base) = (extent.ok_or(NoSwap::OutOfReach)?, HUGE.align_down(index));
        let step = Breaking::invalidate_first(cpu, extent, base, Fresh::PRIMARY_TESTED, |from, to| {
            self.unmap(cpu, m, base.saturating_add(from), base.saturating_add(to), |_| true);
        });
        between();
        let mut over = step.then_mark(cpu, m, |n| self.mapped(cpu, m, base.saturating_add(n)));
        let taken = over.keep(cpu, m, store);
        over.free(cpu, m);
        Ok(taken)
    }

    /// True if any VM has a leaf of page `index`. With the extent's lock held that stays as it is.
    fn mapped(&self, cpu: &Cpu, m: &I::Machine, index: u64) -> bool {
        let mappers = self.mappers.lock(cpu);
        let mut places = mappers.iter().filter_map(|mapper| {
            let page: Hvn = mapper.hvns_of(index, index.saturating_add(1))?.start();
            Some((mapper, page))
        });
        places.any(|(mapper, page)| shared::present(cpu, m, &mapper.space.host, page))
    }
}
