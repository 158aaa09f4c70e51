//! The guest's half: what it may ask of the table, as a personality would carry it out.
//!
//! None of it looks at the host side, so none of it can fail for want of memory or wait for another VM: an entry is put
//! absent, and the first access finds that out.

use hv_core::addr::{Gfn, GfnRange, Gpa, Order};
use hv_core::epoch::Cpu;
use hv_core::machine::Machine;
use hv_core::mmu::flush::FlushBatch;
use hv_core::sync::Ordering;

use super::entry::{ABSENT, Claim, GROUP, Words, group_of};
use super::rmap::Record;
use super::table::{HashStage2, note};
use crate::machine::FakeMachine;
use crate::stage2::FakeStage2;
use crate::walk::View;

impl HashStage2 {
    /// Puts an entry for the block of `order` around `gfn`, if none covers `gfn`, making room if it must.
    pub fn enter(&self, cpu: &Cpu, m: &FakeMachine, gfn: Gfn, order: Order) -> Claim {
        let base = gfn.align_down(order);
        let group = group_of(base, order, Self::entries(self.table));
        loop {
            {
                let guard = m.epoch().enter(cpu);
                if let Some(claim) = self.find(m, &guard, gfn) {
                    return claim;
                }
                for index in group..group + GROUP {
                    let entry = self.entry(m, &guard, index);
                    match entry.try_lock() {
                        Some(words) if words.is_free() => {
                            entry.second.store(0, Ordering::Relaxed);
                            let first = Words::absent(base, order);
                            entry.unlock(first);
                            return Claim { index, words: Words::new(first, 0) };
                        }
                        Some(words) => entry.unlock(words.state(super::table::state_of(words))),
                        None => {}
                    }
                }
            }
            let victim = self.victim.fetch_add(1, Ordering::Relaxed) as usize % GROUP;
            self.remove(cpu, m, group + victim);
        }
    }

    /// Takes an entry away. On return no CPU uses what it said.
    pub fn remove(&self, cpu: &Cpu, m: &FakeMachine, index: usize) {
        let words = self.lock(cpu, m, index);
        if words.is_valid() {
            self.entry(m, &m.epoch().enter(cpu), index).set(words.state(ABSENT));
            let mut batch = FlushBatch::new(self.tag);
            note(&mut batch, Record { gfn: words.gfn(), order: words.order() });
            m.flush(batch).release(cpu, m);
            // Only now: until here an invalidator of this page has to find the record, and wait (R9).
            self.rmap.lock().unlink(index);
        }
        self.entry(m, &m.epoch().enter(cpu), index).unlock(0);
    }
}

impl FakeStage2 for HashStage2 {
    type Claim = Claim;

    fn view(&self) -> View {
        View::Hash(self.table)
    }

    /// The entry that the access found. If there is none, the fault is the guest's own affair: it puts one, of 4 KiB.
    fn claim(&self, cpu: &Cpu, m: &FakeMachine, at: Gpa) -> Claim {
        self.enter(cpu, m, at.page(), Order::PAGE)
    }

    /// A guest keeps to small entries where it has any: two that cover one address must not be valid at once. Elsewhere it
    /// gives up what it had put for what it wants now.
    fn claim_of(&self, cpu: &Cpu, m: &FakeMachine, at: Gpa, order: Order) -> Claim {
        let block = GfnRange::block(at.page(), order);
        let valid = block.map(|block| self.rmap.lock().within(&block)).unwrap_or_default();
        let order = valid.iter().map(|(_, record)| record.order).fold(order, Order::min);
        loop {
            let claim = self.enter(cpu, m, at.page(), order);
            if claim.words.order() == order {
                return claim;
            }
            self.remove(cpu, m, claim.index);
        }
    }

    fn faults_at_rest(&self, cpu: &Cpu, m: &FakeMachine) -> Vec<String> {
        Self::faults_at_rest(self, cpu, m)
    }
}
