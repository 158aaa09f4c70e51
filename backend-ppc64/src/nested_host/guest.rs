//! One guest of a guest: its derived table and its name, and what both need of the machine.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hv_core::epoch::Cpu;
use hv_core::isa::VmTag;
use hv_core::machine::{CpuId, Machine};
use hv_core::radix::format::TableRef;
use hv_core::radix::{Radix, Stage2Format};

use super::walk::Partition;

/// vCPUs of one L2 whose CPUs are remembered.
const PLACES: usize = 64;

/// A machine whose partition table has entries for L2s.
pub trait Partitions: Machine {
    /// What the VM with this tag may have of L2s; `None` if none.
    fn nest(&self, tag: VmTag) -> Option<Limits>;
    /// Takes a name for an L2 that nobody has; `None` if there is none left.
    fn take_name(&self) -> Option<VmTag>;
    /// Gives one back, of which nothing is cached any more.
    fn give_name(&self, tag: VmTag);
    /// Sets its entry of the partition table: the root of its derived table, and doubleword 1; `None`: it has none any more. What
    /// was cached through the old one is dropped. False if no entry can point there.
    #[must_use]
    fn set_child(&self, tag: VmTag, entry: Option<(TableRef, u64)>) -> bool;
    /// A vCPU of it came to another CPU: what CPUs have cached of it is dropped, because a guest invalidates where it is only.
    fn child_moved(&self, tag: VmTag);
}

/// What an L1 is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its virtual CPUs.
    pub vcpus: u16,
    /// Its memory in pages, from 0.
    pub pages: u64,
}

/// One L2.
#[derive(Debug)]
pub(super) struct Guest<F> {
    /// L1's number.
    pub lpid: u32,
    /// Its name in translation caches.
    pub tag: VmTag,
    /// Its derived table.
    pub table: Arc<Radix<F>>,
    /// L1's entry as it was last read.
    pub partition: Partition,
    /// vCPUs of L1 that hold it.
    pub holders: u32,
    /// When it was last entered: the number of entries then.
    pub used: u64,
    /// Where its vCPUs ran last, by L1's tokens.
    pub places: Vec<(u32, CpuId)>,
}

/// Notes that the vCPU `token` of an L2 runs here, and forgets what may be cached where it ran before.
pub(super) fn place<F, M: Partitions>(m: &M, cpu: &Cpu, guest: &mut Guest<F>, token: u32) {
    let here = cpu.id();
    if let Some((_, last)) = guest.places.iter_mut().find(|(known, _)| *known == token) {
        if core::mem::replace(last, here) != here {
            m.child_moved(guest.tag);
        }
    } else if guest.places.len() < PLACES && guest.places.try_reserve(1).is_ok() {
        guest.places.push((token, here));
    } else {
        // Who is not remembered may have run anywhere.
        guest.places.clear();
        m.child_moved(guest.tag);
    }
}

/// Frees an L2 that is in no list any more.
pub(super) fn destroy<F: Stage2Format, M: Partitions>(cpu: &Cpu, m: &M, guest: Guest<F>) {
    let _none = m.set_child(guest.tag, None);
    match Arc::into_inner(guest.table) {
        Some(table) => table.destroy(cpu, m, |_, _, _| {}),
        None => debug_assert!(false, "G7: a table that is dismissed is still somebody's"),
    }
    m.give_name(guest.tag);
}
