//! The hashed table: what makes it different from a radix one.

use hv_core::addr::{Gfn, Gpa, Order};
use hv_core::host::HugePolicy;
use hv_core::isa::Stage2;
use hv_core::machine::{CpuId, Machine};
use hv_core::mmu::Outcome;
use hv_core::mmu::census::Census;
use hv_core::mmu::flush::{FlushBatch, Scope};
use hv_core::radix::format::{Pte, Rc};

use super::{ONE, PAGE, TAG, World, broken, gfns, with_memory};
use crate::hash::{GROUP, group_of};
use crate::{FakeHash, HashStage2};

fn with_pages(with: impl FnOnce(&World<'_, FakeHash>)) {
    with_memory(HugePolicy::Never, with);
}

fn at(gfn: u64) -> Gpa {
    Gpa(gfn << 12)
}

impl World<'_, FakeHash> {
    fn enter(&self, gfn: u64, order: Order) -> crate::Claim {
        self.memory.stage2().enter(self.cpu, self.m, Gfn(gfn), order)
    }

    fn mapped(&self, gfn: u64) -> bool {
        matches!(Stage2::<FakeHash>::lookup(self.memory.stage2(), self.cpu, self.m, Gfn(gfn)), Pte::Leaf(_))
    }

    fn at_rest(&self) {
        self.check();
        assert_eq!(broken(self.m), Vec::<String>::new(), "{:?}", self.m.violations());
    }
}

#[test]
fn an_entry_is_absent_until_a_fault_answers_it() {
    with_pages(|w| {
        let claim = w.enter(5, Order::PAGE);
        assert!(!w.agent.store(ONE, PAGE, 1) && !w.mapped(5));
        assert_eq!(w.enter(5, Order::PAGE), claim, "one entry for an address");
        assert_eq!(w.fault(PAGE, claim), Outcome::Mapped);
        assert!(w.agent.store(ONE, PAGE, 1) && w.mapped(5));
        w.at_rest();
        w.memory.discard(w.cpu, w.m, gfns(5, 1));
        assert!(!w.agent.store(ONE, PAGE, 1) && !w.mapped(5));
        assert_eq!(w.enter(5, Order::PAGE).index, claim.index, "the guest's entry stays");
        w.at_rest();
    });
}

#[test]
fn r4_what_the_guest_changed_since_the_fault_is_not_answered() {
    with_pages(|w| {
        let stale = w.enter(5, Order::PAGE);
        w.memory.stage2().remove(w.cpu, w.m, stale.index);
        assert_eq!(w.fault(PAGE, stale), Outcome::Retry, "an entry that is free again");
        w.at_rest();
        // The place goes to an address of the same group.
        let group = |gfn| group_of(Gfn(gfn), Order::PAGE, HashStage2::entries(w.memory.stage2().table()));
        let neighbour = (6..1 << 20).find(|gfn| group(*gfn) == group(5)).expect("more addresses than groups");
        assert_eq!(w.enter(neighbour, Order::PAGE).index, stale.index);
        assert_eq!(w.fault(PAGE, stale), Outcome::Retry, "an entry for another address");
        assert!(!w.mapped(5) && !w.mapped(neighbour));
        w.at_rest();
    });
}

#[test]
fn r4_an_answered_fault_is_not_answered_again() {
    with_pages(|w| {
        let claim = w.enter(5, Order::PAGE);
        assert_eq!(w.fault(PAGE, claim), Outcome::Mapped);
        assert_eq!(w.fault(PAGE, claim), Outcome::Retry, "it is valid by now, as the guest will find");
        w.map(PAGE);
        w.at_rest();
    });
}

#[test]
fn r11_the_guests_size_is_met_or_refused() {
    with_memory::<FakeHash>(HugePolicy::Always, |w| {
        let claim = w.enter(512 + 5, Order::MIB2);
        assert_eq!(w.fault(at(512 + 5), claim), Outcome::Mapped);
        assert!(w.agent.store(ONE, at(512), 1) && w.agent.store(ONE, at(1023), 2));
        assert!(!w.agent.store(ONE, at(511), 1));
        let mut census = Census::new();
        Stage2::<FakeHash>::census(w.memory.stage2(), w.cpu, w.m, gfns(700, 1), &mut census);
        assert_eq!((census.leaves(Order::MIB2), census.pages()), (1, 512));
        w.at_rest();
        w.memory.discard(w.cpu, w.m, gfns(600, 1));
        assert!(!w.agent.store(ONE, at(512), 1), "the entry goes as a whole");
        // The host has pages there now, and the guest still wants a block.
        assert_eq!(w.fault(at(512), w.claim(at(512))), Outcome::NoSlot);
        w.at_rest();
    });
}

#[test]
fn r9_a_full_group_makes_room_and_what_made_room_is_flushed() {
    with_pages(|w| {
        let group = |gfn| group_of(Gfn(gfn), Order::PAGE, HashStage2::entries(w.memory.stage2().table()));
        // Memory of 4 MiB has fewer addresses than entries: the table's other entries are taken by hand.
        let alike: Vec<u64> = (0..1 << 20).filter(|gfn| group(*gfn) == group(5)).take(GROUP + 1).collect();
        assert_eq!(alike[0], 5);
        w.map(PAGE);
        assert!(w.agent.store(ONE, PAGE, 1));
        for gfn in &alike[1..] {
            w.enter(*gfn, Order::PAGE);
        }
        assert!(!w.mapped(5), "the first entry made room");
        assert!(!w.agent.store(ONE, PAGE, 1), "what a CPU had cached of it is gone");
        w.map(PAGE);
        assert_eq!(w.agent.load(ONE, PAGE), Some(1));
        w.at_rest();
    });
}

#[test]
fn r14_c_that_is_set_late_survives_the_zap() {
    with_pages(|w| {
        w.map(PAGE);
        assert_eq!(w.agent.load(ONE, PAGE), Some(0));
        assert_eq!(w.leaf().rc, Rc::REFERENCED);
        let mut batch = FlushBatch::new(TAG);
        let _ = Stage2::<FakeHash>::unmap(w.memory.stage2(), w.cpu, w.m, gfns(5, 1), &mut batch, None);
        assert!(w.agent.store(ONE, PAGE, 7), "cached as clean: C is set in the entry that is absent by now");
        w.m.flush(batch).release(w.cpu, w.m);
        w.map(PAGE);
        assert_eq!(w.leaf().rc, Rc::all(), "R14: the guest does not find its page changed");
        w.at_rest();
    });
}

#[test]
fn g1_unmapping_without_a_flush_is_seen() {
    with_pages(|w| {
        w.map(PAGE);
        let pfn = w.leaf().pfn;
        assert!(w.agent.fill(CpuId(2), PAGE));
        w.unmap_without_flush(gfns(5, 1));
        w.check();
        w.m.zero(pfn, Order::PAGE);
        assert_eq!(broken(w.m), ["R9", "G1"]);
    });
}

#[test]
fn weakening_names_what_to_flush_once() {
    with_pages(|w| {
        w.map(PAGE);
        assert!(w.agent.store(ONE, PAGE, 7));
        let stage2 = w.memory.stage2();
        for (round, named) in [(0, true), (1, false)] {
            let (mut weaker, mut older) = (FlushBatch::new(TAG), FlushBatch::new(TAG));
            Stage2::<FakeHash>::protect(stage2, w.cpu, w.m, gfns(0, 512), &mut weaker);
            let mut used = false;
            Stage2::<FakeHash>::age(stage2, w.cpu, w.m, gfns(0, 512), &mut older, &mut |_, _| used = true);
            let scopes = [weaker.scope() != Scope::Nothing, older.scope() != Scope::Nothing, used];
            assert_eq!(scopes, [named; 3], "round {round}");
            w.m.flush(weaker).release(w.cpu, w.m);
            w.m.flush(older).release(w.cpu, w.m);
        }
        assert!(!w.agent.store(ONE, PAGE, 8));
        assert_eq!(w.agent.load(ONE, PAGE), Some(7));
        w.map(PAGE);
        assert!(w.agent.store(ONE, PAGE, 8), "a fault brings the permission back");
        w.at_rest();
    });
}
