//! Swapping: where pages go, and how an extent goes there. Why it is safe to let the extent be used in between:
//! [`super::breaking`].

use super::Zeroed;
use super::breaking::Breaking;
use super::tmpfs::Tmpfs;
use crate::addr::{Hvn, Pfn};
use crate::epoch::Cpu;
use crate::host::{HUGE, shared};
use crate::isa::Isa;
use crate::machine::Machine;
use crate::mmu::lock::Fresh;

/// The store has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A store of pages of one object, by their index in it.
///
/// Called with the lock of the page's extent held: an implementation takes no ranked lock and touches no object.
pub trait Swap<M: Machine>: Send + Sync {
    /// Keeps what is in `frame`, which nobody writes meanwhile.
    fn keep(&self, cpu: &Cpu, m: &M, index: u64, frame: Pfn) -> Result<(), Full>;
    /// Writes what it keeps of page `index` to `page`, all of it but zeros, and forgets it.
    fn bring(&self, cpu: &Cpu, m: &M, index: u64, page: &Zeroed);
    /// Forgets page `index`.
    fn forget(&self, index: u64);
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
        let swap = self.swap.as_deref().ok_or(NoSwap::NoStore)?;
        let extent = usize::try_from(index / HUGE.pages()).ok().and_then(|n| self.extents.get(n));
        let (extent, base) = (extent.ok_or(NoSwap::OutOfReach)?, HUGE.align_down(index));
        let step = Breaking::invalidate_first(cpu, extent, base, Fresh::PRIMARY_TESTED, |from, to| {
            self.unmap(cpu, m, base.saturating_add(from), base.saturating_add(to), |_| true);
        });
        between();
        let mut over = step.then_mark(cpu, m, |n| self.mapped(cpu, m, base.saturating_add(n)));
        let taken = over.keep(cpu, m, base, swap);
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
