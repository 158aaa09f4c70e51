//! Tables derived from another second stage, one step after the other.

use std::cell::Cell;
use std::num::NonZeroU16;
use std::sync::Arc;

use hv_core::addr::{Gfn, Order};
use hv_core::epoch::Cpu;
use hv_core::host::HUGE;
use hv_core::isa::VmTag;
use hv_core::machine::Machine;
use hv_core::mmu::derived::{Derived, Refused, Taken, Wish};
use hv_core::mmu::flush::FlushBatch;
use hv_core::page::Frame;
use hv_core::radix::Radix;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc};

use super::{ONE, broken, gfns, on_machine};
use crate::{FakeMachine, Skewed};

const BLOCK: u64 = HUGE.pages();
const PARENT: VmTag = VmTag(NonZeroU16::MIN);
const CHILDREN: [VmTag; 2] = [tag(2), tag(3)];

const fn tag(n: u16) -> VmTag {
    match NonZeroU16::new(n) {
        Some(n) => VmTag(n),
        None => PARENT,
    }
}

/// A parent with a block mapped by one leaf, then a block of pages; two children; a guest's table, the same for both: what
/// lies at an address lies `shift` further on in the parent.
struct Family<'a> {
    m: &'a FakeMachine,
    cpu: &'a Cpu,
    parent: Radix<Skewed>,
    derived: Derived<Skewed>,
    children: [Arc<Radix<Skewed>>; 2],
    shift: Cell<u64>,
}

fn with_family(with: impl FnOnce(&Family<'_>)) {
    on_machine(|m, cpu| {
        let before = m.frames().counts();
        let table = || Radix::<Skewed>::new(cpu, m).unwrap();
        let (parent, derived) = (table(), Derived::new(2 * BLOCK).unwrap());
        let children = CHILDREN.map(|tag| {
            let child = Arc::new(table());
            derived.adopt(cpu, tag, Arc::clone(&child)).unwrap();
            child
        });
        let block = |order| m.frames().alloc(cpu, order).unwrap();
        let huge = block(HUGE);
        let pages: Vec<Frame> = (0..BLOCK).map(|_| block(Order::PAGE)).collect();
        let map = |at: u64, frame: &Frame| {
            m.zero(frame.pfn(), frame.order());
            let leaf = Leaf { pfn: frame.pfn(), prot: Prot::all(), rc: Rc::empty() };
            parent.map(m, &m.epoch().enter(cpu), at, frame.order(), leaf).unwrap();
        };
        map(0, &huge);
        (BLOCK..).zip(&pages).for_each(|(at, frame)| map(at, frame));
        let family = Family { m, cpu, parent, derived, children, shift: Cell::new(0) };
        with(&family);
        for tag in CHILDREN {
            family.check(tag);
            family.derived.dismiss(cpu, m, tag);
        }
        let Family { parent, derived, children, .. } = family;
        assert_eq!(count(&derived, cpu), 0, "G7: records outlive their children");
        drop(derived);
        m.flush(FlushBatch::whole(PARENT)).release(cpu, m);
        children.into_iter().chain([Arc::new(parent)]).for_each(|table| {
            Arc::into_inner(table).unwrap().destroy(cpu, m, |_, _, _| {});
        });
        pages.into_iter().chain([huge]).for_each(|frame| m.frames().free(cpu, frame));
        assert_eq!(broken(m), Vec::<String>::new());
        assert_eq!(m.frames().counts(), before);
    });
}

fn count(derived: &Derived<Skewed>, cpu: &Cpu) -> usize {
    let mut count = 0;
    derived.records(cpu, |_| count += 1);
    count
}

impl Family<'_> {
    fn wish(&self, child: VmTag, at: u64, order: Order, need: Prot) -> Wish {
        Wish { child, at: Gfn(at), from: Gfn(at + self.shift.get()), order, prot: Prot::all(), need }
    }

    fn answer(&self, wish: Wish, between: impl FnOnce()) -> Result<Order, Refused> {
        let Self { m, cpu, parent, derived, .. } = self;
        let seq = derived.sample();
        let resolved = derived.resolve(*m, &m.epoch().enter(cpu), parent, seq, wish)?;
        between();
        derived.publish(cpu, *m, parent, resolved)
    }

    fn fault(&self, child: VmTag, at: u64, order: Order, need: Prot) -> Result<Order, Refused> {
        self.answer(self.wish(child, at, order, need), || {})
    }

    fn weaken(&self, at: u64, pages: u64, taken: Taken) -> Vec<(u64, Order)> {
        let mut found = Vec::new();
        let parent = (&self.parent, PARENT);
        self.derived
            .weaken(self.cpu, self.m, parent, &gfns(at, pages), taken, |gfn, order, _| found.push((gfn.0, order)));
        found
    }

    fn leaf(&self, child: usize, at: u64) -> Option<(Order, Leaf)> {
        let guard = self.m.epoch().enter(self.cpu);
        let seen = self.children[child].walk(self.m, &guard, at)?;
        if let Pte::Leaf(leaf) = seen.pte { Some((seen.order, leaf)) } else { None }
    }

    /// The guest's guest stores, on another CPU.
    fn stores(&self, child: usize, at: u64) -> bool {
        self.m.agent_on(&self.children[child], CHILDREN[child]).store(ONE, Gfn(at).addr().unwrap(), at)
    }

    fn check(&self, tag: VmTag) {
        let child = &self.children[usize::from(tag != CHILDREN[0])];
        let shown = |at: Gfn| Some(Gfn(at.0 + self.shift.get()));
        self.m.check_child(self.cpu, &self.derived, &self.parent, (child, tag), shown);
        assert_eq!(broken(self.m), Vec::<String>::new());
    }
}

#[test]
fn g3_a_childs_leaf_is_no_larger_than_any_bound() {
    with_family(|f| {
        let [a, b] = CHILDREN;
        assert_eq!(f.fault(a, 5, HUGE, Prot::READ), Ok(HUGE));
        assert_eq!(f.fault(a, BLOCK + 5, HUGE, Prot::READ), Ok(Order::PAGE), "the parent's leaves are pages");
        assert_eq!(f.fault(b, 5, Order::PAGE, Prot::READ), Ok(Order::PAGE), "the guest's own table has pages");
        assert_eq!(f.fault(b, 6, HUGE, Prot::READ), Ok(Order::PAGE), "a table stands there");
        CHILDREN.into_iter().for_each(|tag| f.check(tag));
    });
    with_family(|f| {
        f.shift.set(1);
        assert_eq!(f.fault(CHILDREN[0], 5, HUGE, Prot::READ), Ok(Order::PAGE), "the addresses do not agree");
    });
}

#[test]
fn g5_hardware_finds_nothing_to_set_in_a_child() {
    with_family(|f| {
        let a = CHILDREN[0];
        assert_eq!(f.fault(a, 3, Order::PAGE, Prot::READ), Ok(Order::PAGE));
        assert!(!f.stores(0, 3), "nobody has set C");
        f.check(a);
        assert_eq!(f.fault(a, 3, Order::PAGE, Prot::WRITE), Ok(Order::PAGE));
        assert!(f.stores(0, 3));
        assert_eq!(count(&f.derived, f.cpu), 1, "G7: one leaf, one record");
        f.check(a);
    });
}

#[test]
fn r15_what_a_large_entry_loses_all_that_is_derived_of_it_loses() {
    with_family(|f| {
        let [a, b] = CHILDREN;
        for (child, at) in [(0, 3), (0, BLOCK - 1), (1, 4), (1, BLOCK)] {
            assert!(f.fault(CHILDREN[child], at, Order::PAGE, Prot::WRITE).is_ok());
            assert!(f.stores(child, at));
        }
        assert_eq!(f.weaken(100, 1, Taken::CHANGED), [(0, HUGE)]);
        CHILDREN.into_iter().for_each(|tag| f.check(tag));
        assert!(!f.stores(0, 3) && !f.stores(0, BLOCK - 1) && !f.stores(1, 4), "G4: a store that nothing tells of");
        assert!(f.stores(1, BLOCK), "that page has lost nothing");
        assert_eq!(f.weaken(0, 2 * BLOCK, Taken::CHANGED), [(BLOCK, Order::PAGE)]);
        assert!(f.leaf(0, 3).is_some());
        f.weaken(100, 1, Taken::REFERENCED);
        assert_eq!((f.leaf(0, 3), f.leaf(1, 4)), (None, None), "a leaf is a reference");
        assert!(f.leaf(1, BLOCK).is_some());
        assert_eq!(
            (f.fault(a, 3, HUGE, Prot::WRITE), f.fault(b, 3, HUGE, Prot::READ)),
            (Ok(Order::PAGE), Ok(Order::PAGE))
        );
    });
}

#[test]
fn r15_permission_goes_from_parent_and_children_alike() {
    with_family(|f| {
        assert_eq!(f.fault(CHILDREN[1], 3, HUGE, Prot::WRITE), Ok(HUGE));
        f.weaken(0, 1, Taken { prot: Prot::WRITE, rc: Rc::empty() });
        f.check(CHILDREN[1]);
        assert!(!f.stores(1, 3));
        assert_eq!(f.fault(CHILDREN[1], 3, HUGE, Prot::WRITE), Err(Refused::Parent), "the parent's fault comes first");
    });
}

#[test]
fn r6_each_defence_alone_refuses_what_was_read_before() {
    with_family(|f| {
        let wish = f.wish(CHILDREN[0], BLOCK + 1, Order::PAGE, Prot::WRITE);
        let harvested = || drop(f.weaken(BLOCK + 1, 1, Taken::CHANGED));
        assert_eq!(f.answer(wish, harvested), Err(Refused::Retry));
        let elsewhere = || drop(f.weaken(0, 1, Taken::CHANGED));
        assert_eq!(f.answer(wish, elsewhere), Err(Refused::Retry), "one sequence for all");
        // The sequence says nothing of what the parent does on its own account, without a weaken or a forget.
        let gone = || {
            let guard = f.m.epoch().enter(f.cpu);
            let seen = f.parent.walk(f.m, &guard, BLOCK + 1).unwrap();
            let Pte::Leaf(leaf) = seen.pte else { panic!("{seen:?}") };
            let askew = Leaf { pfn: leaf.pfn, prot: Prot::READ, rc: Rc::REFERENCED };
            f.parent.unmap(f.m, &guard, BLOCK + 1, BLOCK + 2, &mut Dropped);
            f.parent.map(f.m, &guard, BLOCK + 1, Order::PAGE, askew).unwrap();
        };
        assert_eq!(f.answer(wish, gone), Err(Refused::Retry));
        assert_eq!(f.answer(wish, || {}), Err(Refused::Parent));
        assert_eq!(f.leaf(0, BLOCK + 1), None);
    });
}

#[test]
fn r10_a_guest_that_shows_another_page_and_does_not_say_so_faults_once_more() {
    with_family(|f| {
        let a = CHILDREN[0];
        assert_eq!(f.fault(a, 3, HUGE, Prot::WRITE), Ok(HUGE));
        assert!(f.stores(0, 3));
        f.shift.set(BLOCK);
        assert_eq!(f.fault(a, 3, HUGE, Prot::WRITE), Err(Refused::Retry));
        assert_eq!((f.leaf(0, 3), count(&f.derived, f.cpu)), (None, 0), "what was in the way went, and its record");
        assert_eq!(f.fault(a, 3, HUGE, Prot::WRITE), Ok(Order::PAGE));
        assert!(f.stores(0, 3));
        f.check(a);
    });
}

#[test]
fn r18_a_range_of_either_end_takes_what_it_touches_and_no_more() {
    with_family(|f| {
        let [a, b] = CHILDREN;
        for tag in CHILDREN {
            assert_eq!(f.fault(tag, 3, HUGE, Prot::WRITE), Ok(HUGE));
            assert_eq!(f.fault(tag, BLOCK, HUGE, Prot::WRITE), Ok(Order::PAGE));
        }
        f.derived.release(f.cpu, f.m, a, &gfns(BLOCK - 1, 1));
        assert_eq!((f.leaf(0, 0), f.leaf(0, BLOCK).is_some(), f.leaf(1, 0).is_some()), (None, true, true));
        f.derived.forget(f.cpu, f.m, &gfns(0, 1));
        assert_eq!(f.leaf(1, 0), None, "R18: a large leaf is not found by its first page");
        f.derived.forget(f.cpu, f.m, &gfns(BLOCK - 1, 2));
        assert_eq!(count(&f.derived, f.cpu), 0);
        assert_eq!([f.leaf(0, BLOCK), f.leaf(1, 0), f.leaf(1, BLOCK)], [None; 3]);
        f.derived.dismiss(f.cpu, f.m, b);
        assert_eq!(f.fault(b, 0, HUGE, Prot::READ), Err(Refused::NoChild));
    });
}

#[test]
fn r26_addresses_of_a_guests_making_are_refused() {
    with_family(|f| {
        let wish = f.wish(CHILDREN[0], 3, HUGE, Prot::WRITE);
        assert_eq!(f.answer(Wish { at: Gfn(u64::MAX), ..wish }, || {}), Err(Refused::Unfit));
        assert_eq!(f.answer(Wish { from: Gfn(u64::MAX), ..wish }, || {}), Err(Refused::Parent));
        assert_eq!(f.answer(Wish { from: Gfn(2 * BLOCK), ..wish }, || {}), Err(Refused::Parent));
        assert_eq!(f.answer(Wish { prot: Prot::READ, ..wish }, || {}), Err(Refused::Unfit));
        assert_eq!(count(&f.derived, f.cpu), 0);
    });
}

/// Takes what is unmapped behind everybody's back.
struct Dropped;

impl hv_core::radix::edit::Removed for Dropped {
    fn room(&self) -> bool {
        true
    }
    fn leaf(&mut self, _key: u64, _order: Order, _leaf: Leaf) {}
    fn table(&mut self, _table: hv_core::radix::format::TableRef) {}
}
