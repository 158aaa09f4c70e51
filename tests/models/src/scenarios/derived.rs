//! A table derived from a parent, whose entries change while it is filled and used.
//!
//! ```text
//!   CPU 1  the guest's guest: faults, is answered from the parent, stores      CPU 0  the parent loses R or C: an ageing, a
//!                                                                                       harvest, after which the page is copied
//!                                                                                     loses the page: its frame is another's
//!                                                                                     the guest changes its own table
//!                                                                                     the child ends
//! ```
//!
//! After a harvest the copy and the page agree, or the parent says that they do not (G4): a store that a child lets through
//! without that is lost to a migration. R and C of a child are a subset of its parent's (G5).

use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Unseen;

use backend_fake::{FakeMachine, Skewed};
use hv_core::addr::{Gfn, GfnRange, Gpa, Order, Pfn};
use hv_core::epoch::{Cpu, Domain};
use hv_core::isa::VmTag;
use hv_core::machine::Machine;
use hv_core::mmu::derived::{Derived, Taken, Wish};
use hv_core::mmu::flush::FlushBatch;
use hv_core::page::Frame;
use hv_core::radix::Radix;
use hv_core::radix::edit::Removed;
use hv_core::radix::format::{Leaf, Prot, Pte, Rc, TableRef};
use hv_core::sync::{AtomicU64, Mutex, Ordering};

use crate::scenario::{About, Model, Scenario, World, as_cpu};

/// Frames for two tables and the pages of the parent.
const FRAMES: usize = 24;
/// What the parent translates.
const PAGES: u64 = 2;
/// The page of the guest that its table shows at first, and the one that it shows later.
const FIRST: Gfn = Gfn(0);
const SECOND: Gfn = Gfn(1);
/// The address at which the guest's guest sees it.
const AT: Gpa = Gpa(0);
const PARENT: VmTag = VmTag(NonZeroU16::MIN);
const CHILD: VmTag = VmTag(match NonZeroU16::new(2) {
    Some(two) => two,
    None => NonZeroU16::MIN,
});

/// A parent and its child.
pub struct Nested {
    machine: FakeMachine,
    parent: Radix<Skewed>,
    derived: Derived<Skewed>,
    child: Arc<Radix<Skewed>>,
    /// The pages' frames.
    frames: [Frame; PAGES as usize],
    /// The guest's own table: the page that it shows at [`AT`].
    shown: AtomicU64,
    /// Held by who invalidates in the parent, as its mmu lock is.
    invalidating: Mutex<()>,
    /// What the copy of the first page holds. Book-keeping that no checker sees.
    copy: Unseen,
    /// The same: 1 if the child has ended.
    ended: Unseen,
    /// Free frames before there was anything.
    free: u64,
}

impl Nested {
    /// A parent whose first page was stored to, and what happens before the race.
    fn new(before: impl FnOnce(&Self, &Cpu)) -> Self {
        let machine = FakeMachine::new(FRAMES);
        let free = machine.frames().counts().free;
        let world = as_cpu(machine.epoch(), 1, |cpu| {
            let table = || Radix::new(cpu, &machine).expect("there is memory");
            let (parent, child) = (table(), Arc::new(table()));
            let frames = [(); PAGES as usize].map(|()| machine.frames().alloc(cpu, Order::PAGE).expect("a frame"));
            for (gfn, frame) in (0..).zip(&frames) {
                machine.zero(frame.pfn(), Order::PAGE);
                let leaf = Leaf { pfn: frame.pfn(), prot: Prot::all(), rc: Rc::all() };
                parent.map(&machine, &machine.epoch().enter(cpu), gfn, Order::PAGE, leaf).expect("nothing is there");
            }
            let derived = Derived::new(PAGES).expect("there is heap");
            derived.adopt(cpu, CHILD, Arc::clone(&child)).expect("there is heap");
            (parent, child, derived, frames)
        });
        let (parent, child, derived, frames) = world;
        let (shown, invalidating) = (AtomicU64::new(FIRST.0), Mutex::new(()));
        let (copy, ended) = (Unseen::new(0), Unseen::new(0));
        let world = Self { machine, parent, derived, child, frames, shown, invalidating, copy, ended, free };
        as_cpu(world.domain(), 1, |cpu| before(&world, cpu));
        world
    }

    /// The guest's guest stores, faulting as often as a race makes it. False if the race made it oftener.
    fn store(&self, cpu: &Cpu, value: u64) -> bool {
        let agent = self.machine.agent_on(&self.child, CHILD);
        for _ in 0..2 {
            if agent.store(cpu.id(), AT, value) {
                return true;
            }
            self.fault(cpu, Prot::WRITE);
        }
        agent.store(cpu.id(), AT, value)
    }

    /// A fault of the child is answered, if it can be.
    fn fault(&self, cpu: &Cpu, need: Prot) {
        let seq = self.derived.sample();
        // What the guest tells of a change makes it visible; what it has not told is any value.
        let from = Gfn(self.shown.load(Ordering::Acquire));
        let wish = Wish { child: CHILD, at: AT.page(), from, order: Order::PAGE, prot: Prot::all(), need };
        let _ = self.derived.answer(cpu, &self.machine, &self.parent, seq, wish);
    }

    /// The parent's first page loses something. True if it had it.
    fn weaken(&self, cpu: &Cpu, taken: Taken) -> bool {
        let page = GfnRange::new(FIRST, 1).expect("a page");
        let mut had = false;
        let _alone = self.invalidating.lock();
        self.derived.weaken(cpu, &self.machine, (&self.parent, PARENT), &page, taken, |_, _, _| had = true);
        had
    }

    fn first_frame(&self) -> Pfn {
        self.frames[0].pfn()
    }

    fn page(&self) -> u64 {
        let mut word = [0; 8];
        self.machine.read(self.first_frame(), 0, &mut word);
        u64::from_le_bytes(word)
    }

    /// The parent has the first page, and says that nobody stored to it since the last harvest.
    fn says_clean(&self, cpu: &Cpu) -> bool {
        let guard = self.machine.epoch().enter(cpu);
        let seen = self.parent.walk(&self.machine, &guard, FIRST.0).expect("it is in reach");
        matches!(seen.pte, Pte::Leaf(leaf) if !leaf.rc.contains(Rc::CHANGED))
    }
}

impl World for Nested {
    fn domain(&self) -> &Domain {
        self.machine.epoch()
    }

    fn end(self, cpu: &Cpu) {
        let Self { machine: m, parent, derived, child, .. } = &self;
        let shown = Gfn(self.shown.load(Ordering::Relaxed));
        if self.ended.load(Ordering::Relaxed) == 0 {
            m.check_child(cpu, derived, parent, (child, CHILD), |at| (at == AT.page()).then_some(shown));
            derived.dismiss(cpu, m, CHILD);
        }
        derived.records(cpu, |record| panic!("G7: {record:?} is of a child that has ended"));
        let (page, copy) = (self.page(), self.copy.load(Ordering::Relaxed));
        assert!(page == copy || !self.says_clean(cpu), "G4: {page:#x} was stored, {copy:#x} copied, and C is clear");
        m.flush(FlushBatch::whole(PARENT)).release(cpu, m);
        let Self { machine: m, parent, derived, child, frames, free, .. } = self;
        drop(derived);
        parent.destroy(cpu, &m, |_, _, _| {});
        Arc::into_inner(child).expect("nobody else has the child").destroy(cpu, &m, |_, _, _| {});
        frames.into_iter().for_each(|frame| m.frames().free(cpu, frame));
        if let Some(seen) = m.violations().first() {
            panic!("{seen}");
        }
        assert_eq!(m.frames().counts().free, free, "R24: frames were lost");
    }
}

/// The child has nothing yet.
fn empty() -> Nested {
    Nested::new(|_, _| {})
}

/// The child has the page for loads, and CPU 1 has that cached.
fn loaded() -> Nested {
    Nested::new(|w, cpu| {
        w.weaken(cpu, Taken::CHANGED);
        w.fault(cpu, Prot::READ);
        w.machine.agent_on(&w.child, CHILD).load(cpu.id(), AT);
    })
}

/// The child has the page for stores, and CPU 1 has that cached.
fn stored() -> Nested {
    Nested::new(|w, cpu| assert!(w.store(cpu, 1), "nobody is in the way"))
}

fn guest(w: &Nested, cpu: &Cpu) {
    w.store(cpu, 2);
}

/// What is dirty is copied, once the harvest is over.
fn harvest(w: &Nested, cpu: &Cpu) {
    if w.weaken(cpu, Taken::CHANGED) {
        w.copy.store(w.page(), Ordering::Relaxed);
    }
}

fn age(w: &Nested, cpu: &Cpu) {
    w.weaken(cpu, Taken::REFERENCED);
}

/// The parent loses the page, and its frame is used for something else.
fn take(w: &Nested, cpu: &Cpu) {
    const MARK: [u8; 8] = *b"the heir";
    let page = GfnRange::new(FIRST, 1).expect("a page");
    {
        let _alone = w.invalidating.lock();
        let mut batch = FlushBatch::new(PARENT);
        w.parent.unmap(&w.machine, &w.machine.epoch().enter(cpu), 0, 1, &mut Noted(&mut batch));
        w.machine.flush(batch).release(cpu, &w.machine);
        w.derived.forget(cpu, &w.machine, &page);
    }
    w.machine.zero(w.first_frame(), Order::PAGE);
    w.machine.write(w.first_frame(), 0, &MARK);
    assert_eq!(w.page().to_le_bytes(), MARK, "G1: a store landed in a frame that was the heir's by then");
}

/// The guest shows its guest another page, and says so.
fn edit(w: &Nested, cpu: &Cpu) {
    w.shown.store(SECOND.0, Ordering::Release);
    w.derived.release(cpu, &w.machine, CHILD, &GfnRange::new(AT.page(), 1).expect("a page"));
}

/// The guest gives its guest up. Nobody runs on the child any more; a fault may still be on its way.
fn dismiss(w: &Nested, cpu: &Cpu) {
    w.derived.dismiss(cpu, &w.machine, CHILD);
    w.ended.store(1, Ordering::Relaxed);
}

fn late(w: &Nested, cpu: &Cpu) {
    w.fault(cpu, Prot::WRITE);
}

/// What is removed from the parent.
struct Noted<'f>(&'f mut FlushBatch);

impl Removed for Noted<'_> {
    fn room(&self) -> bool {
        true
    }
    fn leaf(&mut self, key: u64, order: Order, _leaf: Leaf) {
        self.0.note(GfnRange::block(Gfn(key), order).expect("a page"), order);
    }
    fn table(&mut self, _table: TableRef) {}
}

/// For the list of all.
pub static ALL: &[&dyn Model] = &[
    &HARVEST_EMPTY,
    &HARVEST_LOADED,
    &HARVEST_STORED,
    &AGE_EMPTY,
    &AGE_STORED,
    &TAKE_EMPTY,
    &TAKE_STORED,
    &EDIT,
    &DISMISS,
];

static HARVEST_EMPTY: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-first-store-harvest",
        rules: "R5,R6,R15",
        race: "the first store through a child against a harvest of its parent, whose page is dirty already",
        preemptions: 3,
    },
    world: empty,
    steps: &[harvest, guest],
};

static HARVEST_LOADED: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-set-c-harvest",
        rules: "R6,R15",
        race: "a child's entry becomes writable and dirty against a harvest of its parent",
        preemptions: 3,
    },
    world: loaded,
    steps: &[harvest, guest],
};

static HARVEST_STORED: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-store-harvest",
        rules: "R9,R14,R15",
        race: "a store through a cached entry of a child against a harvest of its parent",
        preemptions: 3,
    },
    world: stored,
    steps: &[harvest, guest],
};

static AGE_EMPTY: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-first-store-age",
        rules: "R6,R15",
        race: "the first access through a child against the ageing of its parent",
        preemptions: 3,
    },
    world: empty,
    steps: &[age, guest],
};

static AGE_STORED: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-store-age",
        rules: "R9,R15,R18",
        race: "an access through a cached entry of a child against the ageing of its parent",
        preemptions: 2,
    },
    world: stored,
    steps: &[age, guest],
};

static TAKE_EMPTY: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-first-store-unmap",
        rules: "R6,R8,R18",
        race: "the first store through a child against its parent losing the page",
        preemptions: 3,
    },
    world: empty,
    steps: &[take, guest],
};

static TAKE_STORED: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-store-unmap",
        rules: "R8,R9,R18",
        race: "a store through a cached entry of a child against its parent losing the page",
        preemptions: 2,
    },
    world: stored,
    steps: &[take, guest],
};

static EDIT: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-first-store-edit",
        rules: "R5,R6,R9",
        race: "a child's fault against the guest showing another page there",
        preemptions: 3,
    },
    world: empty,
    steps: &[edit, guest],
};

static DISMISS: Scenario<Nested> = Scenario {
    about: About {
        name: "derived-fault-dismiss",
        rules: "R18,R20",
        race: "a child's fault, still under way, against the child's end",
        preemptions: 3,
    },
    world: empty,
    steps: &[dismiss, late],
};
